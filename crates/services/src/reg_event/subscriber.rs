//! One subscription to a registration, and what it has yet to be told.
//!
//! *Invariant*: of each contact the last change only is kept, of [`CHANGES_MAX`] at most.

use sidetone_model::{AddressOfRecord, DeviceId};
use sidetone_sip::{Flow, Subscription, Termination};

use super::contacts::Change;

/// Changes kept for a subscriber that cannot be told yet; more make the full state.
const CHANGES_MAX: usize = 32;

/// Who sent a SUBSCRIBE, and how it came.
#[derive(Debug, Clone, Copy)]
pub struct Watcher {
    /// The flow that the NOTIFYs take.
    pub flow: Flow,
    /// The device that authenticated; `None` for somebody in a trusted network.
    pub device: Option<DeviceId>,
}

#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) address: AddressOfRecord,
    /// Whose credentials it was made or last refreshed with; `None` for trusted networks.
    pub(super) device: Option<DeviceId>,
    pub(super) subscription: Subscription,
    pub(super) flow: Flow,
    pub(super) version: u32,
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
}

impl Subscriber {
    /// It is yet to be told everything.
    pub(super) fn new(
        now_ms: u64,
        from: Watcher,
        address: AddressOfRecord,
        subscription: Subscription,
    ) -> Self {
        Self {
            address,
            device: from.device,
            subscription,
            flow: from.flow,
            version: 0,
            awaited: None,
            in_line: false,
            next_ms: now_ms,
            deferred_ms: None,
            full: true,
            missed: false,
            changes: Vec::new(),
            ends: None,
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
}
