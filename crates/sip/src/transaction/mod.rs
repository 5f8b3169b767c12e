//! The four transaction machines of RFC 3261 §17 with the changes of RFC 6026, each a table of its own.
//!
//! A machine knows states and timers only: what it wants done comes back as [`Action`]s, which the endpoint carries out.
//!
//! *Invariant*: every pair of state and input has an answer; what has lost its meaning is ignored.

pub(crate) mod client;
pub(crate) mod invite_client;
pub(crate) mod invite_server;
pub(crate) mod server;

use std::time::Duration;

use smallvec::SmallVec;

use crate::timer::{T1, T2, Timer};

/// What a machine wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send the request (client) or the last response (server) again.
    Send,
    /// Acknowledge the final response (RFC 3261 §17.1.1.3).
    Ack,
    /// Pass the response, or the ACK, to the transaction user.
    Pass,
    /// Answer 100 Trying.
    Trying,
    /// Start a timer.
    Start(Timer, Duration),
    /// Tell the transaction user that it failed.
    Fail,
    /// The transaction is over.
    Terminate,
}

pub(crate) type Actions = SmallVec<[Action; 4]>;

/// What happens to a client transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientInput {
    Response(u16),
    Fired(Timer),
    TransportFailed,
    /// The connection that the request went by is gone.
    ConnectionLost,
}

/// What happens to a server transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerInput {
    Retransmission,
    Ack,
    Respond(u16),
    Fired(Timer),
}

/// The interval of a retransmission timer: doubled, at most T2.
pub(crate) fn doubled(interval: Duration) -> Duration {
    (interval * 2).min(T2)
}

/// Timers that only wait for retransmissions are zero on reliable transports (RFC 3261 table 4).
pub(crate) fn linger(reliable: bool, timer: Timer, after: Duration) -> Actions {
    if reliable {
        SmallVec::from_slice(&[Action::Terminate])
    } else {
        SmallVec::from_slice(&[Action::Start(timer, after)])
    }
}

pub(crate) const FIRST_INTERVAL: Duration = T1;

#[cfg(test)]
mod tests;
