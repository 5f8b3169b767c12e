//! The contacts of a watched address, and how they changed (RFC 3680 §4.7.1).
//!
//! *Invariant*: a contact keeps its id for as long as it is bound, and no other gets that id.

use std::sync::Arc;

use sidetone_model::Binding;
use sidetone_sip::Uri;

/// Why bindings that are missing went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The device removed them.
    Unregistered,
    /// Their time was over.
    Expired,
    /// Their connection closed: the device may register again at once.
    Deactivated,
    /// The account or device was removed or disabled: it need not try again.
    Rejected,
}

/// What happened to a contact last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Registered,
    Refreshed,
    Shortened,
    Removed(Removal),
}

impl Event {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Refreshed => "refreshed",
            Self::Shortened => "shortened",
            Self::Removed(Removal::Unregistered) => "unregistered",
            Self::Removed(Removal::Expired) => "expired",
            Self::Removed(Removal::Deactivated) => "deactivated",
            Self::Removed(Removal::Rejected) => "rejected",
        }
    }

    pub(super) fn is_removal(self) -> bool {
        matches!(self, Self::Removed(_))
    }
}

/// One contact with its last event. Cloning shares the binding.
#[derive(Debug, Clone)]
pub(super) struct Change {
    id: u64,
    pub(super) event: Event,
    pub(super) binding: Arc<Binding>,
    /// When it was bound, if that was seen.
    pub(super) since_ms: Option<u64>,
}

impl Change {
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

#[derive(Debug)]
pub(super) struct Contacts {
    /// Of the registration.
    pub(super) id: u64,
    rows: Vec<Change>,
    ids: u64,
}

impl Contacts {
    pub(super) fn new(id: u64, bindings: &[Binding]) -> Self {
        let mut contacts = Self {
            id,
            rows: Vec::with_capacity(bindings.len()),
            ids: 0,
        };
        for binding in bindings {
            contacts.add(None, binding);
        }
        contacts
    }

    pub(super) fn rows(&self) -> &[Change] {
        &self.rows
    }

    /// When the first of them ends.
    pub(super) fn next_expiry_ms(&self) -> Option<u64> {
        self.rows.iter().map(|row| row.binding.expires_at_ms).min()
    }

    fn add(&mut self, since_ms: Option<u64>, binding: &Binding) -> Change {
        self.ids += 1;
        let row = Change {
            id: self.ids,
            event: Event::Registered,
            binding: Arc::new(binding.clone()),
            since_ms,
        };
        self.rows.push(row.clone());
        row
    }

    /// Takes over the bindings as they are now; returns what changed.
    pub(super) fn update(
        &mut self,
        now_ms: u64,
        bindings: &[Binding],
        removal: Removal,
    ) -> Vec<Change> {
        let mut changes = self.remove_missing(now_ms, bindings, removal);
        for binding in bindings {
            let row = self
                .rows
                .iter_mut()
                .find(|row| is_same(&row.binding, binding));
            match row {
                None => changes.push(self.add(Some(now_ms), binding)),
                Some(row) if is_unchanged(&row.binding, binding) => {}
                Some(row) => {
                    let shorter = binding.expires_at_ms < row.binding.expires_at_ms;
                    row.event = if shorter {
                        Event::Shortened
                    } else {
                        Event::Refreshed
                    };
                    row.binding = Arc::new(binding.clone());
                    changes.push(row.clone());
                }
            }
        }
        changes
    }

    fn remove_missing(
        &mut self,
        now_ms: u64,
        bindings: &[Binding],
        removal: Removal,
    ) -> Vec<Change> {
        let mut gone = Vec::new();
        self.rows.retain(|row| {
            let stays = bindings
                .iter()
                .any(|binding| is_same(&row.binding, binding));
            if !stays {
                let expired = row.binding.is_expired(now_ms);
                let removal = if expired { Removal::Expired } else { removal };
                gone.push(Change {
                    event: Event::Removed(removal),
                    ..row.clone()
                });
            }
            stays
        });
        gone
    }
}

/// What a subscriber is told of is the same. A binding that lost its flow is not news.
fn is_unchanged(one: &Binding, other: &Binding) -> bool {
    one.cseq == other.cseq
        && one.expires_at_ms == other.expires_at_ms
        && one.q == other.q
        && one.call_id == other.call_id
        && one.contact == other.contact
        && one.instance == other.instance
}

/// As the registrar tells bindings apart: RFC 5626 §6 with `reg-id`, RFC 3261 §10.3 without.
fn is_same(one: &Binding, other: &Binding) -> bool {
    if one.reg_id != other.reg_id {
        return false;
    }
    if one.reg_id > 0 {
        let instances = one.instance.as_deref().zip(other.instance.as_deref());
        return instances.is_some_and(|(one, other)| one.eq_ignore_ascii_case(other));
    }
    one.contact == other.contact
        || Uri::parse(&one.contact)
            .ok()
            .zip(Uri::parse(&other.contact).ok())
            .is_some_and(|(one, other)| one.eq_3261(&other))
}
