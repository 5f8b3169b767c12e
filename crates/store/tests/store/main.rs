//! The store against real files.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test ends at the first surprise"
)]

mod backup;
mod directory;
mod kill;
mod presence;
mod spool;
mod support;
mod wire;
