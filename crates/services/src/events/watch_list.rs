//! Which addresses anybody watches, for all who change registrations.
//!
//! *Invariant*: an address that is watched is always found. One that is not is found too
//! where its hash is that of a watched one; then somebody is told and finds nothing to do.
//!
//! An address is put on the list before its bindings are read, and looked for after they were
//! changed. Both happen around the lock of the location table, which orders them: a change is
//! either read or told.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use sidetone_model::AddressOfRecord;

/// Counts by hash; with as many addresses watched, every second other one seems to be.
const PLACES: usize = 1 << 16;

/// The list, which all shards share. A look costs one hash and one read.
#[derive(Debug)]
pub struct WatchList {
    places: Box<[AtomicU32]>,
    hasher: RandomState,
    subscriptions: AtomicUsize,
    stranded: AtomicUsize,
}

impl Default for WatchList {
    fn default() -> Self {
        Self {
            places: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
            hasher: RandomState::new(),
            subscriptions: AtomicUsize::new(0),
            stranded: AtomicUsize::new(0),
        }
    }
}

impl WatchList {
    /// Whether somebody may watch this address.
    pub fn contains(&self, address: &AddressOfRecord) -> bool {
        self.place(address).load(Relaxed) > 0
    }

    /// Subscriptions of all shards.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.load(Relaxed)
    }

    /// Whether any subscription has lost its connection, and waits for its device to come back.
    pub fn has_stranded(&self) -> bool {
        self.stranded.load(Relaxed) > 0
    }

    /// So many subscriptions are about to be restored, and count as such that have lost their connections: a device
    /// may come back before its shard has them.
    pub fn restoring(&self, subscriptions: usize) {
        self.stranded.fetch_add(subscriptions, Relaxed);
    }

    /// Their shard has them.
    pub fn restored(&self, subscriptions: usize) {
        self.stranded.fetch_sub(subscriptions, Relaxed);
    }

    pub(super) fn strand(&self, stranded: bool) {
        match stranded {
            true => self.stranded.fetch_add(1, Relaxed),
            false => self.stranded.fetch_sub(1, Relaxed),
        };
    }

    pub(super) fn add(&self, address: &AddressOfRecord) {
        self.place(address).fetch_add(1, Relaxed);
    }

    pub(super) fn remove(&self, address: &AddressOfRecord) {
        self.place(address).fetch_sub(1, Relaxed);
    }

    pub(super) fn subscribed(&self) {
        self.subscriptions.fetch_add(1, Relaxed);
    }

    pub(super) fn unsubscribed(&self) {
        self.subscriptions.fetch_sub(1, Relaxed);
    }

    fn place(&self, address: &AddressOfRecord) -> &AtomicU32 {
        let [low, high, ..] = self.hasher.hash_one(address.as_str()).to_le_bytes();
        &self.places[usize::from(u16::from_le_bytes([low, high])) % PLACES]
    }
}
