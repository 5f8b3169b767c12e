//! One state a person, composed from what the server sees and what the person says (RFC 4479, RFC 4480).
//!
//! *Invariant*: nobody is shown as reachable who has neither a registered device nor an open session.

mod board;
mod calls;
mod dialog_info;
mod message_summary;
mod pidf;
mod publish;
mod published;

use sidetone_model::{Availability, DeviceId, PersonPresence, SetPresence};
use smallvec::SmallVec;

pub use board::{Board, BoardLimits, PolicyChange, SavedPresence};
pub use calls::{Call, CallId, CallState, Direction, Party};
pub use publish::{PublishAnswer, PublishLimits};
pub use published::{Published, Statement};

/// A device that a call would ring now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// The device.
    pub device: DeviceId,
    /// What its owner calls it.
    pub label: Box<str>,
    /// When its last binding ends.
    pub until_ms: u64,
}

/// The devices of one person.
pub type ReachableList = SmallVec<[Reachable; 2]>;

/// What a state is composed from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Registered devices.
    pub devices: &'a [Reachable],
    /// Open sessions of the API.
    pub sessions: u32,
    /// A call is confirmed.
    pub on_call: bool,
    /// What the person has set.
    pub set: Option<&'a SetPresence>,
    /// What devices have published, the oldest first.
    pub published: &'a [Statement],
}

/// A composed state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// The person; `since_ms` is not known here.
    pub person: PersonPresence,
    /// Devices that are registered and say that they take nothing.
    pub closed: SmallVec<[DeviceId; 2]>,
    /// When it changes by itself.
    pub until_ms: Option<u64>,
}

/// The state of a person. What the person sets counts for more than calls, calls for more than what devices say; that
/// nobody is there counts for most.
pub fn compose(now_ms: u64, facts: &Facts<'_>) -> Composed {
    let live = facts.devices.iter().filter(|one| one.until_ms > now_ms);
    let devices: SmallVec<[&Reachable; 2]> = live.collect();
    let said = facts.published.iter().filter(|one| one.until_ms > now_ms);
    let said: SmallVec<[&Statement; 2]> = said.collect();
    let set = facts.set.filter(|set| !set.is_over(now_ms));
    let is_closed = |device: DeviceId| {
        let latest = said.iter().rev().find(|one| one.device == device);
        latest.is_some_and(|one| !one.open)
    };
    let closed: SmallVec<[DeviceId; 2]> = devices
        .iter()
        .map(|one| one.device)
        .filter(|device| is_closed(*device))
        .collect();
    let reachable = !devices.is_empty() || facts.sessions > 0;
    let all_closed = facts.sessions == 0 && closed.len() == devices.len();
    let by_devices = || said.iter().rev().find_map(|one| one.availability);
    let availability = match () {
        () if !reachable => Availability::Offline,
        () => match set.and_then(|set| set.availability) {
            Some(availability) => availability,
            None if facts.on_call => Availability::Busy,
            None if all_closed => Availability::Away,
            None => by_devices().unwrap_or(Availability::Available),
        },
    };
    let own_note = set
        .map(|set| set.note.as_str())
        .filter(|note| !note.is_empty());
    let note = own_note.or_else(|| said.iter().rev().find_map(|one| one.note.as_deref()));
    let ends = devices.iter().map(|one| one.until_ms);
    let ends = ends.chain(said.iter().map(|one| one.until_ms));
    Composed {
        person: PersonPresence {
            availability,
            note: note.unwrap_or_default().to_owned(),
            until_ms: set.and_then(|set| set.until_ms),
            would_ring: devices.iter().map(|one| one.label.to_string()).collect(),
            on_call: facts.on_call,
            since_ms: 0,
        },
        closed,
        until_ms: ends.chain(set.and_then(|set| set.until_ms)).min(),
    }
}

#[cfg(test)]
#[path = "presence_tests.rs"]
mod tests;
