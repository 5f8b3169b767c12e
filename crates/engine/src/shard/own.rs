//! Requests of the shard's own: whose they are, and what comes back.
//!
//! *Invariant*: no number of ours is one of the proxy's, whose numbers have 63 bits.

use sidetone_sip::{Flow, Transport};

use super::{Now, Shard};

/// Not of the proxy.
const OWN: u64 = 1 << 63;
/// Of what is our own: a NOTIFY.
const NOTIFY: u64 = 1 << 62;
/// Of what is our own and no NOTIFY: a hint.
const HINT: u64 = 1 << 61;

/// Whose request a client transaction is, where it is not the proxy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// A stored message: one copy of this attempt.
    Delivery(u64),
    /// The NOTIFY of this ticket.
    Notify(u64),
    /// Word for this device that somebody writes, which is not repeated.
    Hint(u64),
}

impl Own {
    /// As the user of a client transaction.
    pub(super) fn user(self) -> u64 {
        match self {
            Self::Delivery(attempt) => OWN | attempt,
            Self::Notify(ticket) => OWN | NOTIFY | ticket,
            Self::Hint(device) => OWN | HINT | device,
        }
    }

    /// The inverse of [`Own::user`]; `None`: the proxy's.
    pub(super) fn of(user: u64) -> Option<Self> {
        let number = user & !(OWN | NOTIFY);
        match (user & OWN != 0, user & NOTIFY != 0) {
            (false, _) => None,
            (true, false) if number & HINT != 0 => Some(Self::Hint(number & !HINT)),
            (true, false) => Some(Self::Delivery(number)),
            (true, true) => Some(Self::Notify(number)),
        }
    }
}

impl Shard {
    /// A request of ours was answered.
    pub(super) fn own_response(&mut self, now: Now, own: Own, status: u16) {
        match own {
            Own::Delivery(attempt) => self.delivery_answered(now, attempt, status),
            Own::Notify(ticket) => self.events.answered(now.unix_ms, ticket, status),
            Own::Hint(device) => self.hint_answered(device, status),
        }
    }

    /// A request of ours was not answered in time, or could not be sent.
    pub(super) fn own_failed(&mut self, now: Now, own: Own, timeout: bool) {
        match own {
            Own::Delivery(attempt) => self.deliveries.failed(now.unix_ms, attempt),
            Own::Notify(ticket) => self.events.failed(ticket, timeout),
            // The next one, or none: a hint is of its moment.
            Own::Hint(_) => {}
        }
    }
}

/// The Via of a request that begins here.
pub(super) fn via(flow: &Flow, sent_by: &str, branch: &str) -> String {
    let rport = match flow.transport {
        Transport::Udp => ";rport",
        _ => "",
    };
    let transport = flow.transport.via_token();
    format!("SIP/2.0/{transport} {sent_by};branch={branch}{rport}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_told_apart() {
        for own in [
            Own::Delivery(0),
            Own::Delivery(1 << 48),
            Own::Notify(0),
            Own::Notify(u64::MAX >> 2),
            Own::Hint(0),
            Own::Hint(1 << 60),
        ] {
            assert_eq!(Own::of(own.user()), Some(own));
        }
        assert_eq!(Own::of(u64::MAX >> 1), None);
    }
}
