//! Subscriptions on their way to the disk.
//!
//! *Invariant*: of each subscription the latest state only waits, so there is never more than there were subscriptions.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sidetone_model::SavedSubscription;

/// What changed since it was taken last, by our tag; `None`: the subscription is over.
pub type SavedChanges = Vec<(String, Option<SavedSubscription>)>;

/// What waits to be written; all shards share it.
#[derive(Debug, Default)]
pub struct Outbox(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: Waiting,
    /// Taken, and perhaps not written yet.
    taken: usize,
}

type Waiting = HashMap<String, Option<SavedSubscription>>;

impl Outbox {
    pub(super) fn put(&self, saved: SavedSubscription) {
        self.lock()
            .waiting
            .insert(saved.local_tag.clone(), Some(saved));
    }

    pub(super) fn forget(&self, local_tag: &str) {
        self.lock().waiting.insert(local_tag.to_owned(), None);
    }

    /// Takes so many changes at most; those that were taken before are written.
    pub fn take(&self, at_most: usize) -> SavedChanges {
        let mut inner = self.lock();
        let waiting = &mut inner.waiting;
        let tags: Vec<String> = waiting.keys().take(at_most).cloned().collect();
        let taken = tags.into_iter();
        let taken: SavedChanges = taken.filter_map(|tag| waiting.remove_entry(&tag)).collect();
        inner.taken = taken.len();
        taken
    }

    /// How many changes are not on the disk yet.
    pub fn len(&self) -> usize {
        let inner = self.lock();
        inner.waiting.len() + inner.taken
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives back what could not be written; what is newer stays.
    pub fn give_back(&self, changes: SavedChanges) {
        let mut inner = self.lock();
        inner.taken = 0;
        for (tag, change) in changes {
            inner.waiting.entry(tag).or_insert(change);
        }
    }

    /// A poisoned lock: a bug ended an earlier change of one entry; the others are whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
