//! The store against real files.

mod backup;
mod directory;
mod kill;
mod spool;
mod support;
