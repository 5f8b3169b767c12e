//! Presence: one state a person (RFC 2778, RFC 4479), and what is kept of it over a restart.
//!
//! *Invariant*: what a person says of itself is kept apart from what the server sees.

use crate::{AccountId, AddressOfRecord, DeviceId};

/// How far a person may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Availability {
    /// No device is registered and no session is open.
    #[default]
    Offline,
    /// Can be reached.
    Available,
    /// Is there, and occupied.
    Busy,
    /// Is reachable, and elsewhere.
    Away,
    /// Wants to be left alone.
    DoNotDisturb,
}

/// A word that is no availability which a person may set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no availability: use available, busy, away or do-not-disturb")]
pub struct UnknownAvailability(pub String);

impl Availability {
    /// The word in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Available => "available",
            Self::Busy => "busy",
            Self::Away => "away",
            Self::DoNotDisturb => "do-not-disturb",
        }
    }
}

impl std::str::FromStr for Availability {
    type Err = UnknownAvailability;

    /// Whether somebody is offline is seen and not said: that word is none.
    fn from_str(text: &str) -> Result<Self, UnknownAvailability> {
        match text {
            "available" => Ok(Self::Available),
            "busy" => Ok(Self::Busy),
            "away" => Ok(Self::Away),
            "do-not-disturb" => Ok(Self::DoNotDisturb),
            _ => Err(UnknownAvailability(text.to_owned())),
        }
    }
}

/// What a person says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SetPresence {
    /// `None`: as the server sees it.
    pub availability: Option<Availability>,
    /// A few words for others; may be empty.
    pub note: String,
    /// When all of it ends, Unix time.
    pub until_ms: Option<u64>,
}

impl SetPresence {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.availability.is_none() && self.note.is_empty()
    }

    /// Whether it has ended at `now_ms`.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until_ms| until_ms <= now_ms)
    }
}

/// The state of one person, as others may see it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PersonPresence {
    /// How far the person may be reached.
    pub availability: Availability,
    /// A few words; may be empty.
    pub note: String,
    /// When what the person set ends, Unix time.
    pub until_ms: Option<u64>,
    /// Labels of the devices that would ring now.
    pub would_ring: Vec<String>,
    /// In a call.
    pub on_call: bool,
    /// Since when the availability has been this, Unix time; 0: not known.
    pub since_ms: u64,
}

/// A published document (RFC 3903) as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The name that its publisher knows it by.
    pub etag: String,
    /// Whose state it is.
    pub account: AccountId,
    /// The device that published it.
    pub device: DeviceId,
    /// The document.
    pub body: String,
    /// When it ends, Unix time.
    pub expires_at_ms: u64,
}

/// A subscription (RFC 6665) as it is kept. Its name is our tag, which is never given twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSubscription {
    /// Our tag.
    pub local_tag: String,
    /// The event package.
    pub package: String,
    /// What is watched.
    pub address: AddressOfRecord,
    /// Who watches, where it is a user of ours.
    pub watcher: Option<AddressOfRecord>,
    /// The device that subscribed.
    pub device: Option<DeviceId>,
    /// The way to the subscriber, as the engine describes a flow.
    pub flow: String,
    /// The value of Event.
    pub event: String,
    /// The URI of our Contact.
    pub contact: String,
    /// When it ends, Unix time.
    pub expires_at_ms: u64,
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// The subscriber's tag.
    pub remote_tag: String,
    /// From of our requests.
    pub local: Vec<u8>,
    /// To of our requests.
    pub remote: Vec<u8>,
    /// The subscriber's Contact.
    pub target: String,
    /// The route set.
    pub routes: Vec<String>,
    /// No request of ours has had a greater CSeq.
    pub local_cseq: u32,
    /// The CSeq of the subscriber's latest request.
    pub remote_cseq: u32,
    /// No document has had a greater version.
    pub version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_set_reads_back_and_offline_may_not() {
        let words = [
            Availability::Available,
            Availability::Busy,
            Availability::Away,
            Availability::DoNotDisturb,
        ];
        for word in words {
            assert_eq!(word.as_str().parse(), Ok(word));
        }
        assert!("offline".parse::<Availability>().is_err());
    }
}
