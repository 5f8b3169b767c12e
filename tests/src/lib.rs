//! Black-box tests: the real process on loopback, with phones of our own and of others.
//!
//! *Invariant*: nothing here links the server. What a test knows, it knows from
//! the wire, the command line and the log.

pub mod acme;
pub mod api;
pub mod baresip;
pub mod browser;
pub mod certificate;
pub mod child;
pub mod folder;
pub mod linphone;
pub mod loopback;
pub mod media;
pub mod server;
pub mod sip;
pub mod upload;

pub use api::Api;
pub use server::{Options, Server};
pub use sip::{Message, Phone, Wire};

use std::time::{Duration, Instant};

/// Looks until something is there, or the time is over.
pub fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
