//! A deterministic world: virtual time, a lossy network, scripted phones, ladders.
//!
//! The shard is the product's own, with the services that it has in the product; the spool, the network and the
//! phones are made here. A test is a script of what people do; what the machines said is drawn as a ladder.
//!
//! *Invariant*: a seed repeats a run octet for octet: nothing here reads a clock or the system's entropy.
#![warn(missing_docs)]

mod chance;
mod ladder;
mod network;
mod phone;
mod said;
mod snapshot;
mod spool;
mod world;

pub use chance::Chance;
pub use ladder::Ladder;
pub use network::{Fate, Weather};
pub use phone::{Overheard, Phone, Plan, Seen};
pub use snapshot::assert_snapshot;
pub use spool::Spool;
pub use world::{DOMAIN, PhoneId, World};
