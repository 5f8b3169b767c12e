//! Sockets and nothing else: UDP batches, TCP, TLS, DNS (RFC 3263).
//!
//! This crate moves bytes. It knows no SIP message, no account and no
//! configuration file; framing, parsing and policy belong to its callers. Types
//! here are made for one thread with a `current_thread` runtime: a socket is owned
//! by the shard that opened it.
//!
//! *Invariant:* everything that a peer can make grow has a bound (batch, outbox,
//! handshake time, partial record, resolved hops), and what is over the bound is
//! reported to the caller or counted, never queued.
#![warn(missing_docs)]

pub mod dns;
pub mod limits;
pub mod netinfo;
pub mod stream;
pub mod tls;
pub mod udp;
