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
pub struct Outbox(Mutex<HashMap<String, Option<SavedSubscription>>>);

impl Outbox {
    pub(super) fn put(&self, saved: SavedSubscription) {
        self.lock().insert(saved.local_tag.clone(), Some(saved));
    }

    pub(super) fn forget(&self, local_tag: &str) {
        self.lock().insert(local_tag.to_owned(), None);
    }

    /// Takes so many changes at most.
    pub fn take(&self, at_most: usize) -> SavedChanges {
        let mut waiting = self.lock();
        if waiting.len() <= at_most {
            return waiting.drain().collect();
        }
        let tags: Vec<String> = waiting.keys().take(at_most).cloned().collect();
        let taken = tags.into_iter();
        taken.filter_map(|tag| waiting.remove_entry(&tag)).collect()
    }

    /// Gives back what could not be written; what is newer stays.
    pub fn give_back(&self, changes: SavedChanges) {
        let mut waiting = self.lock();
        for (tag, change) in changes {
            waiting.entry(tag).or_insert(change);
        }
    }

    /// A poisoned lock: a bug ended an earlier change of one entry; the others are whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<SavedSubscription>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
