//! One participant: when he took part, what he may see, what is owed to him.
//!
//! *Invariant*: stays are in order, and only the last may be without an end. What a stay shows begins at its horizon and
//! ends with the event that ended it.

use crate::delivery::Deliveries;
use crate::ranges::Ranges;
use sidetone_model::{AddressOfRecord, ParticipantRole, ParticipantSnapshot, SeqRange, Stay};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Participant {
    pub(crate) role: ParticipantRole,
    pub(crate) stays: Vec<Stay>,
    pub(crate) deliveries: Deliveries,
}

impl Participant {
    pub(crate) fn new(role: ParticipantRole) -> Self {
        Self {
            role,
            stays: Vec::new(),
            deliveries: Deliveries::default(),
        }
    }

    pub(crate) fn restore(snapshot: &ParticipantSnapshot) -> Self {
        Self {
            role: snapshot.role,
            stays: snapshot.stays.clone(),
            deliveries: Deliveries {
                pending: Ranges::from_vec(&snapshot.pending),
                failed: Ranges::from_vec(&snapshot.failed),
                displayed_to: snapshot.displayed_to,
                last_due: snapshot.last_due,
            },
        }
    }

    pub(crate) fn snapshot(&self, address: &AddressOfRecord) -> ParticipantSnapshot {
        ParticipantSnapshot {
            address: address.clone(),
            role: self.role,
            stays: self.stays.clone(),
            pending: self.deliveries.pending.as_slice().to_vec(),
            failed: self.deliveries.failed.as_slice().to_vec(),
            displayed_to: self.deliveries.displayed_to,
            last_due: self.deliveries.last_due,
        }
    }

    /// The stay that has not ended.
    pub(crate) fn stay(&self) -> Option<Stay> {
        self.stays
            .last()
            .copied()
            .filter(|stay| stay.left.is_none())
    }

    pub(crate) fn is_present(&self) -> bool {
        self.stay().is_some()
    }

    pub(crate) fn join(&mut self, role: ParticipantRole, horizon: u64, joined: u64) {
        self.role = role;
        self.stays.push(Stay {
            horizon,
            joined,
            left: None,
        });
    }

    pub(crate) fn leave(&mut self, seq: u64) {
        if let Some(stay) = self.stays.last_mut() {
            stay.left = Some(seq);
        }
    }

    /// Whether event `seq`, which was appended, may be seen.
    pub(crate) fn sees(&self, seq: u64) -> bool {
        self.stays.iter().rev().any(|stay| shows(stay, seq))
    }

    /// Whether messages of that place were owed: history that was shown later was not.
    pub(crate) fn attended(&self, seq: u64) -> bool {
        let within = |stay: &Stay| stay.joined <= seq && stay.left.is_none_or(|left| seq <= left);
        self.stays.iter().rev().any(within)
    }

    /// What may be seen of events up to `newest`, in order and without overlaps.
    pub(crate) fn visible(&self, newest: u64) -> Ranges {
        let mut ranges = Ranges::default();
        for stay in &self.stays {
            ranges.insert(SeqRange {
                first: stay.horizon,
                last: stay.left.unwrap_or(newest),
            });
        }
        ranges
    }
}

fn shows(stay: &Stay, seq: u64) -> bool {
    stay.horizon <= seq && stay.left.is_none_or(|left| seq <= left)
}
