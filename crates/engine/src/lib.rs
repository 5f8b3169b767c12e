//! Who runs where: SIP shards, delivery, supervision, drain.
//!
//! [`shard`] decides and does no I/O; everything else here is the shell around it: threads,
//! sockets, connections, timers and the way to the store ([`Engine`]).
//!
//! *Invariant*: a shard belongs to one thread. What crosses threads goes through a shard's
//! inbox, and nothing in an inbox is without a bound.
#![warn(missing_docs)]

mod admission;
mod backlog;
mod connections;
mod contacts;
mod driver;
mod inbox;
mod late;
mod listeners;
mod outward;
mod owners;
mod reach;
mod runtime;
pub mod shard;
pub mod shared;
mod websocket;

pub use admission::Admission;
pub use connections::Patience;
pub use owners::Owners;
pub use runtime::{Bound, Counts, Engine, Figures, Listen, Plan, StartError, Supplies};
pub use shard::{Shard, ShardSettings};
pub use shared::Services;
pub use websocket::{WebSocketClosed, WebSocketDoor, WebSocketInbound};
