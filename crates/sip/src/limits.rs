//! Bounds on what a peer may send, each configurable.
//!
//! *Invariant*: nothing in this crate keeps or scans more of a message than these numbers allow.

/// Upper bounds for one message; exceeding one is answered with the code in its description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a whole message, head and body (513).
    pub message_bytes: usize,
    /// Header fields of a message (400).
    pub headers: usize,
    /// Via values of a message (400). RFC 3261 §8.1.1.6: a request starts with 70 hops to spend.
    pub via: usize,
    /// Octets of a Request-URI (414).
    pub uri_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 65_536,
            headers: 128,
            via: 70,
            uri_bytes: 4_096,
        }
    }
}
