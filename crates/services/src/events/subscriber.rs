//! One subscription, and what it has yet to be told.
//!
//! *Invariant*: of each contact the last change only is kept, of [`CHANGES_MAX`] at most.

use sidetone_model::{AddressOfRecord, DeviceId, SavedSubscription};
use sidetone_sip::{DialogParts, Flow, Subscription, SubscriptionParts, Termination};

use super::contacts::Change;
use super::{Package, View};
use crate::location::{flow_text, parse_flow_text};

/// Changes kept for a subscriber that cannot be told yet; more make the full state.
const CHANGES_MAX: usize = 32;
/// NOTIFYs until a subscription is written again. After a restart CSeq goes on behind those that were set aside:
/// a gap is no error (RFC 3261 §12.2.2), a number used twice is.
const SET_ASIDE: u32 = 512;

/// Who sent a SUBSCRIBE, and how it came.
#[derive(Debug, Clone)]
pub struct Watcher {
    /// The flow that the NOTIFYs take.
    pub flow: Flow,
    /// The device that authenticated; `None` for somebody in a trusted network.
    pub device: Option<DeviceId>,
    /// The address of the device's account.
    pub address: Option<AddressOfRecord>,
}

#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) package: Package,
    pub(super) address: AddressOfRecord,
    /// Whose credentials it was made or last refreshed with.
    pub(super) watcher: Watcher,
    pub(super) view: View,
    pub(super) subscription: Subscription,
    pub(super) version: u32,
    /// Its connection is gone: it is told once there is another one.
    pub(super) stranded: bool,
    /// The NOTIFY that is under way.
    pub(super) awaited: Option<u64>,
    /// In the line of those to be told now.
    pub(super) in_line: bool,
    /// No NOTIFY before.
    pub(super) next_ms: u64,
    pub(super) deferred_ms: Option<u64>,
    pub(super) full: bool,
    /// The last NOTIFY was not taken: the next one tells everything.
    pub(super) missed: bool,
    pub(super) changes: Vec<Change>,
    pub(super) ends: Option<Termination>,
    /// The greatest CSeq that is set aside on disk; `None`: nothing is written.
    pub(super) set_aside: Option<u32>,
}

impl Subscriber {
    /// It is yet to be told everything.
    pub(super) fn new(
        now_ms: u64,
        package: Package,
        address: AddressOfRecord,
        watcher: Watcher,
        view: View,
        subscription: Subscription,
    ) -> Self {
        Self {
            package,
            address,
            watcher,
            view,
            subscription,
            version: 0,
            stranded: false,
            awaited: None,
            in_line: false,
            next_ms: now_ms,
            deferred_ms: None,
            full: true,
            missed: false,
            changes: Vec::new(),
            ends: None,
            set_aside: None,
        }
    }

    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.ends.is_some() || self.subscription.is_over(now_ms)
    }

    pub(super) fn has_news(&self) -> bool {
        self.full || !self.changes.is_empty()
    }

    pub(super) fn add(&mut self, changes: &[Change]) {
        for change in changes {
            self.changes.retain(|earlier| earlier.id() != change.id());
            self.changes.push(change.clone());
        }
        if self.changes.len() > CHANGES_MAX {
            self.changes.clear();
            self.full = true;
        }
    }

    /// Whether the numbers that were set aside are used up.
    pub(super) fn needs_saving(&self) -> bool {
        let used = self.subscription.dialog().local_cseq();
        self.set_aside.is_some_and(|aside| used >= aside)
    }

    /// As it is kept, with numbers set aside for what is sent until it is written again.
    pub(super) fn save(&mut self) -> SavedSubscription {
        let parts = self.subscription.parts();
        let local_cseq = parts.dialog.local_cseq.saturating_add(SET_ASIDE);
        self.set_aside = Some(local_cseq);
        SavedSubscription {
            local_tag: parts.dialog.local_tag,
            package: self.package.name().to_owned(),
            address: self.address.clone(),
            watcher: self.watcher.address.clone(),
            device: self.watcher.device,
            flow: flow_text(&self.watcher.flow.as_token()),
            event: parts.event,
            contact: parts.contact,
            expires_at_ms: parts.expires_at_ms,
            call_id: parts.dialog.call_id,
            remote_tag: parts.dialog.remote_tag,
            local: parts.dialog.local,
            remote: parts.dialog.remote,
            target: parts.dialog.target,
            routes: parts.dialog.routes,
            local_cseq,
            remote_cseq: parts.dialog.remote_cseq,
            version: self.version.saturating_add(SET_ASIDE),
        }
    }

    /// The inverse of [`Subscriber::save`]; `None` where it was written by something else.
    pub(super) fn restored(saved: SavedSubscription, view: View, next_ms: u64) -> Option<Self> {
        let package = Package::named(&saved.package)?;
        let flow = Flow::from_token(&parse_flow_text(&saved.flow)?)?;
        let watcher = Watcher {
            flow,
            device: saved.device,
            address: saved.watcher,
        };
        let subscription = Subscription::from_parts(SubscriptionParts {
            dialog: DialogParts {
                call_id: saved.call_id,
                local_tag: saved.local_tag,
                remote_tag: saved.remote_tag,
                local: saved.local,
                remote: saved.remote,
                target: saved.target,
                routes: saved.routes,
                local_cseq: saved.local_cseq,
                remote_cseq: saved.remote_cseq,
            },
            event: saved.event,
            contact: saved.contact,
            expires_at_ms: saved.expires_at_ms,
        });
        let subscriber = Self::new(next_ms, package, saved.address, watcher, view, subscription);
        Some(Self {
            version: saved.version,
            stranded: flow.is_connection(),
            set_aside: Some(saved.local_cseq),
            ..subscriber
        })
    }
}
