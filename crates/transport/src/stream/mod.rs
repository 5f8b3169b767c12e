//! TCP and TLS connections of one shard.
//!
//! A [`Connection`] is shared by `Rc` between the task that waits for its bytes
//! ([`Connection::receive`]) and everything that writes to it
//! ([`Connection::try_write`], at once in the caller's context). The receiving task
//! also moves along what a slow peer has not taken yet.
//!
//! *Invariants:* an idle connection owns no read buffer and no write buffer: bytes
//! are read, decrypted and encrypted in buffers of the thread. The outbox has a
//! bound; a write over it fails and the caller closes the peer. A TLS record that
//! is incomplete is the only thing kept between two reads, and it has a bound. No
//! interior borrow is held while the caller's code runs.

mod connection;
mod listener;
mod outbound;
mod outbox;
mod scratch;
mod session;

use std::net::IpAddr;
use std::time::Duration;

pub use connection::{Connection, WriteError};
pub use listener::{Incoming, Listener, ListenerOptions};
pub use outbound::{connect, connect_tls};

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// What may wait for a slow peer before writes fail.
    pub outbox_bytes: usize,
    /// From the accepted or connected socket to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first SYN to an established connection.
    pub connect_timeout: Duration,
    /// Our address on connections that we open; `None`: the system chooses.
    pub source: Option<IpAddr>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            outbox_bytes: 256 << 10,
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            source: None,
        }
    }
}
