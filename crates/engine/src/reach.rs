//! Which connections serve for requests to a peer (RFC 3261 §18.1.1, RFC 5923), whichever shard
//! has them and whichever wants to send.
//!
//! *Invariant*: what is in the table is on the table of its shard, too: entered after, taken
//! out before. Over TLS a connection serves for the name that its peer has proved, and for no
//! other (RFC 5922 §4).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidetone_sip::flow::Transport;

/// Whom a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) transport: Transport,
    pub(crate) remote: SocketAddr,
    /// What its certificate has to prove; over TLS only.
    pub(crate) name: Option<Arc<str>>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Reach(Mutex<HashMap<Peer, u64>>);

impl Reach {
    /// A poisoned lock: each change is one call, so the table is whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest connection to a peer serves.
    pub(crate) fn enter(&self, peer: Peer, connection: u64) {
        self.lock().insert(peer, connection);
    }

    /// Takes a connection out, unless a newer one has its place.
    pub(crate) fn leave(&self, peer: &Peer, connection: u64) {
        let mut table = self.lock();
        if table.get(peer) == Some(&connection) {
            table.remove(peer);
        }
    }

    pub(crate) fn find(&self, peer: &Peer) -> Option<u64> {
        self.lock().get(peer).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_serves_for_the_name_that_was_proved() {
        let reach = Reach::default();
        let peer = |name: &str| Peer {
            transport: Transport::Tls,
            remote: SocketAddr::from(([192, 0, 2, 1], 5061)),
            name: Some(name.into()),
        };
        reach.enter(peer("one.example"), 7);
        assert_eq!(reach.find(&peer("one.example")), Some(7));
        assert_eq!(reach.find(&peer("two.example")), None);
        reach.enter(peer("one.example"), 8);
        reach.leave(&peer("one.example"), 7);
        assert_eq!(reach.find(&peer("one.example")), Some(8), "the newer stays");
        reach.leave(&peer("one.example"), 8);
        assert_eq!(reach.find(&peer("one.example")), None);
    }
}
