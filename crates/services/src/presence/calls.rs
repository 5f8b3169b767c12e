//! The calls of one user, as busy lamps show them (RFC 4235 §3.7).
//!
//! *Invariant*: a call goes from trying over early to confirmed and never back; who is no party to it does not learn
//! who is.

use std::sync::Arc;

/// Names a call: its Call-ID and the caller's tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId {
    /// Call-ID.
    pub call_id: Arc<str>,
    /// The tag in From of the INVITE.
    pub caller_tag: Arc<str>,
}

/// How far a call is (RFC 4235 §3.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallState {
    /// The INVITE is on its way.
    Trying,
    /// It rings.
    Early,
    /// It was answered.
    Confirmed,
    /// It is over.
    Terminated,
}

impl CallState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Trying => "trying",
            Self::Early => "early",
            Self::Confirmed => "confirmed",
            Self::Terminated => "terminated",
        }
    }
}

/// Who began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The user did.
    Initiator,
    /// Somebody called the user.
    Recipient,
}

impl Direction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Initiator => "initiator",
            Self::Recipient => "recipient",
        }
    }
}

/// The other party.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Party {
    /// Its name, if it gave one.
    pub name: String,
    /// Its URI.
    pub uri: String,
}

/// One call, from the side of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub id: CallId,
    /// A number for it that tells nothing.
    pub number: u64,
    /// Who began it.
    pub direction: Direction,
    /// How far it is.
    pub state: CallState,
    /// With whom.
    pub remote: Party,
}

/// Calls of one user that are shown.
const CALLS_MAX: usize = 32;

/// The calls of one user.
#[derive(Debug, Default)]
pub(super) struct Calls {
    list: Vec<Call>,
    /// The one that ended last, until another begins: a full state without it would do, but lamps wait for it.
    ended: Option<Call>,
}

impl Calls {
    pub(super) fn on_call(&self) -> bool {
        let confirmed = |call: &Call| call.state == CallState::Confirmed;
        self.list.iter().any(confirmed)
    }

    /// All that are shown.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Call> {
        self.list.iter().chain(&self.ended)
    }

    /// Whether anything changed.
    pub(super) fn begin(&mut self, call: Call) -> bool {
        let known = self.list.iter().any(|one| one.id == call.id);
        if known || self.list.len() >= CALLS_MAX {
            return false;
        }
        self.ended = None;
        self.list.push(call);
        true
    }

    /// Whether anything changed.
    pub(super) fn go_on(&mut self, id: &CallId, state: CallState) -> bool {
        let Some(place) = self.list.iter().position(|call| call.id == *id) else {
            return false;
        };
        if state == CallState::Terminated {
            let call = self.list.remove(place);
            self.ended = Some(Call { state, ..call });
            return true;
        }
        let call = &mut self.list[place];
        let further = call.state < state;
        call.state = call.state.max(state);
        further
    }

    /// Ends all; whether there was any.
    pub(super) fn end_all(&mut self) -> bool {
        let last = self.list.drain(..).next_back();
        let ended = last.is_some();
        if let Some(call) = last {
            let state = CallState::Terminated;
            self.ended = Some(Call { state, ..call });
        }
        ended
    }
}
