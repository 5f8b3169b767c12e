//! The open connections of one shard: TCP, TLS and WebSocket.
//!
//! *Invariant*: a number names one connection for ever, also after a restart, so that a token
//! or a binding that outlived its connection never leads to another peer. A connection that
//! takes nothing, never says a whole thing or falls silent is closed by [`sweep`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sidetone_sip::Framer;
use sidetone_sip::flow::{Flow, Transport};
use sidetone_transport::stream::{Connection, WriteError};
use tokio::sync::mpsc;

use crate::admission::Admitted;
use crate::reach::{Peer, Reach};

/// What a TCP or TLS connection is closed for; WebSockets have their own pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the connection to its first whole message.
    pub first_message: Duration,
    /// From the first octet of a message to its last.
    pub message: Duration,
    /// For a peer that takes nothing of what waits for it.
    pub stall: Duration,
    /// Without an octet; phones keep their flows alive far more often (RFC 5626 §4.4.1).
    pub silence: Duration,
    /// How often connections are looked through.
    pub sweep: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_message: Duration::from_secs(30),
            message: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            silence: Duration::from_secs(2 * 3600),
            sweep: Duration::from_secs(1),
        }
    }
}

/// A lone CRLF, or half a ping, may stay unfinished for as long as it likes.
const KEEP_ALIVE_BYTES: usize = 4;

/// Gives numbers to connections of one shard: the shard in the top 16 bits.
#[derive(Debug)]
pub(crate) struct Numbers {
    next: AtomicU64,
}

impl Numbers {
    /// `unix_s`: below 65,536 new connections a second in the long run, no number of an
    /// earlier process is given again.
    pub(crate) fn new(shard: u16, unix_s: u64) -> Self {
        let start = ((unix_s & 0xffff_ffff) << 16) | 1;
        Self {
            next: AtomicU64::new((u64::from(shard) << 48) | start),
        }
    }

    pub(crate) fn next(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }
}

/// The shard that has a connection.
pub(crate) fn shard_of(connection: u64) -> u16 {
    u16::try_from(connection >> 48).unwrap_or(0)
}

/// What carries the octets.
// Nearly all carriers are streams: a box would cost each of them an allocation.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Carrier {
    Stream {
        connection: Connection,
        framer: RefCell<Framer>,
    },
    /// `None` once it is to be closed.
    Web(RefCell<Option<mpsc::Sender<Bytes>>>),
}

/// One open connection.
pub(crate) struct Link {
    pub(crate) flow: Flow,
    pub(crate) carrier: Carrier,
    /// The name that the peer's certificate was checked for, where we connected by TLS.
    name: Option<Arc<str>>,
    opened_at: Instant,
    /// A whole message has come, or the peer is one that we chose.
    heard: Cell<bool>,
    partial_since: Cell<Option<Instant>>,
    _place: Admitted,
}

impl Link {
    /// A stream that a peer opened.
    pub(crate) fn accepted(flow: Flow, connection: Connection, place: Admitted) -> Self {
        Self::new(flow, stream(connection, Framer::new()), place)
    }

    /// A stream that we opened.
    pub(crate) fn opened(
        flow: Flow,
        connection: Connection,
        name: Option<Arc<str>>,
        place: Admitted,
    ) -> Self {
        let link = Self::new(flow, stream(connection, Framer::connecting()), place);
        link.heard.set(true);
        Self { name, ..link }
    }

    /// A WebSocket; its own pings tell a live peer from a dead one.
    pub(crate) fn web(flow: Flow, outgoing: mpsc::Sender<Bytes>, place: Admitted) -> Self {
        Self::new(flow, Carrier::Web(RefCell::new(Some(outgoing))), place)
    }

    fn new(flow: Flow, carrier: Carrier, place: Admitted) -> Self {
        Self {
            flow,
            carrier,
            name: None,
            opened_at: Instant::now(),
            heard: Cell::new(false),
            partial_since: Cell::new(None),
            _place: place,
        }
    }

    /// Sends, or keeps for a peer that is slow within its bound.
    pub(crate) fn write(&self, bytes: &Bytes) -> Result<(), WriteError> {
        match &self.carrier {
            Carrier::Stream { connection, .. } => connection.try_write(bytes),
            Carrier::Web(outgoing) => {
                let outgoing = outgoing.borrow();
                let sender = outgoing.as_ref().ok_or(WriteError::Closed)?;
                sender.try_send(bytes.clone()).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => WriteError::Full,
                    mpsc::error::TrySendError::Closed(_) => WriteError::Closed,
                })
            }
        }
    }

    /// Ends it now; its task then takes it off the table.
    pub(crate) fn close(&self) {
        match &self.carrier {
            Carrier::Stream { connection, .. } => connection.close(),
            Carrier::Web(outgoing) => drop(outgoing.take()),
        }
    }

    /// Notes what a read brought: whether a message became whole, and how much is left over.
    pub(crate) fn progress(&self, now: Instant, whole: bool, left: usize) {
        if whole {
            self.heard.set(true);
        }
        let since = match left {
            0..=KEEP_ALIVE_BYTES => None,
            _ if whole => Some(now),
            _ => self.partial_since.get().or(Some(now)),
        };
        self.partial_since.set(since);
    }

    /// Whose requests it serves for. A TLS peer that connected to us has proved no name, and a
    /// WebSocket cannot be called back.
    fn peer(&self) -> Option<Peer> {
        let Flow {
            transport, remote, ..
        } = self.flow;
        let serves = match transport {
            Transport::Tcp => true,
            Transport::Tls => self.name.is_some(),
            Transport::Udp | Transport::Ws | Transport::Wss => false,
        };
        serves.then(|| Peer {
            transport,
            remote,
            name: self.name.clone(),
        })
    }

    /// Why it has to be closed, if it has.
    fn fault(&self, now: Instant, patience: &Patience) -> Option<&'static str> {
        let Carrier::Stream { connection, .. } = &self.carrier else {
            return None;
        };
        let over = |since: Option<Instant>, max| {
            since.is_some_and(|since| now.saturating_duration_since(since) > max)
        };
        match () {
            () if !self.heard.get() && over(Some(self.opened_at), patience.first_message) => {
                Some("no message came")
            }
            () if over(self.partial_since.get(), patience.message) => {
                Some("a message took too long")
            }
            () if over(connection.stalled_since(), patience.stall) => {
                Some("the peer takes nothing")
            }
            () if over(Some(connection.received_at()), patience.silence) => Some("silence"),
            () => None,
        }
    }
}

fn stream(connection: Connection, framer: Framer) -> Carrier {
    Carrier::Stream {
        connection,
        framer: RefCell::new(framer),
    }
}

/// The table of open connections.
pub(crate) struct Connections {
    by_number: RefCell<HashMap<u64, Rc<Link>>>,
    reach: Arc<Reach>,
}

impl Connections {
    pub(crate) fn new(reach: Arc<Reach>) -> Self {
        Self {
            by_number: RefCell::default(),
            reach,
        }
    }

    pub(crate) fn insert(&self, link: Rc<Link>) {
        let connection = link.flow.connection;
        let peer = link.peer();
        self.by_number.borrow_mut().insert(connection, link);
        if let Some(peer) = peer {
            self.reach.enter(peer, connection);
        }
    }

    pub(crate) fn get(&self, connection: u64) -> Option<Rc<Link>> {
        self.by_number.borrow().get(&connection).cloned()
    }

    /// Takes it off; `false` if that was done before.
    pub(crate) fn remove(&self, flow: &Flow) -> bool {
        let Some(link) = self.get(flow.connection) else {
            return false;
        };
        if let Some(peer) = link.peer() {
            self.reach.leave(&peer, flow.connection);
        }
        self.by_number.borrow_mut().remove(&flow.connection);
        true
    }

    /// Closes what has to be closed.
    pub(crate) fn sweep(&self, now: Instant, patience: &Patience) {
        let mut faulty = Vec::new();
        for link in self.by_number.borrow().values() {
            if let Some(why) = link.fault(now, patience) {
                faulty.push((Rc::clone(link), why));
            }
        }
        for (link, why) in faulty {
            tracing::debug!(remote = %link.flow.remote, why, "connection closed");
            link.close();
        }
    }

    /// Closes all.
    pub(crate) fn close_all(&self) {
        let all: Vec<Rc<Link>> = self.by_number.borrow().values().cloned().collect();
        all.iter().for_each(|link| link.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_their_shard_and_are_never_given_twice() {
        let (early, late) = (
            Numbers::new(7, 1_800_000_000),
            Numbers::new(7, 1_800_000_001),
        );
        let last = (0..65_536).map(|_| early.next()).last().unwrap();
        assert_eq!((shard_of(last), shard_of(late.next())), (7, 7));
        assert!(last <= late.next());
        assert_ne!(Numbers::new(0, 0).next(), 0, "0 is no connection");
    }
}
