//! How far members have got, until it is written.
//!
//! Every message that a phone takes moves a watermark. They do not go through the writer's queue:
//! that would wake it for each. It writes the latest of each member once a second, and whoever
//! reads a conversation before that finds them here.
//!
//! *Invariant*: bounded; a watermark is here until a commit that holds it, or a later one, returned.

use crate::QueueFull;
use crate::conversation::Watermark;
use sidetone_model::{AddressOfRecord, ConversationId};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Members of conversations that may wait to be written.
const WAITING_MAX: usize = 65_536;
/// Watermarks of one transaction.
const BATCH: usize = 4_096;

type Key = (ConversationId, AddressOfRecord);

#[derive(Default)]
pub(crate) struct Receipts {
    waiting: Mutex<HashMap<Key, Watermark>>,
}

impl Receipts {
    pub(crate) fn note(&self, receipts: Vec<Watermark>) -> Result<(), QueueFull> {
        let mut waiting = self.waiting();
        for receipt in receipts {
            let key = (receipt.conversation, receipt.address.clone());
            if let Some(mark) = waiting.get_mut(&key) {
                raise(mark, &receipt);
            } else if waiting.len() < WAITING_MAX {
                waiting.insert(key, receipt);
            } else {
                return Err(QueueFull);
            }
        }
        Ok(())
    }

    /// Some of those that wait; they stay until [`Receipts::written`].
    pub(crate) fn batch(&self) -> Vec<Watermark> {
        self.waiting().values().take(BATCH).cloned().collect()
    }

    /// These are committed; what has moved on since waits for the next time.
    pub(crate) fn written(&self, receipts: Vec<Watermark>) {
        let mut waiting = self.waiting();
        for receipt in receipts {
            let key = (receipt.conversation, receipt.address.clone());
            if waiting.get(&key) == Some(&receipt) {
                waiting.remove(&key);
            }
        }
    }

    /// What was read from the database, as it is now.
    pub(crate) fn bring_up_to_date(
        &self,
        id: ConversationId,
        members: &[AddressOfRecord],
        read: &mut Vec<Watermark>,
    ) {
        let waiting = self.waiting();
        for member in members {
            let Some(newer) = waiting.get(&(id, member.clone())) else {
                continue;
            };
            match read.iter_mut().find(|mark| mark.address == *member) {
                Some(mark) => raise(mark, newer),
                None => read.push(newer.clone()),
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Key, Watermark>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn raise(mark: &mut Watermark, to: &Watermark) {
    mark.delivered = mark.delivered.max(to.delivered);
    mark.displayed = mark.displayed.max(to.displayed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(conversation: i64, delivered: u64, displayed: u64) -> Watermark {
        Watermark {
            conversation: ConversationId(conversation),
            address: AddressOfRecord::new("ann", "x.org").unwrap(),
            delivered,
            displayed,
        }
    }

    #[test]
    fn the_latest_waits_until_it_is_written() {
        let receipts = Receipts::default();
        receipts.note(vec![mark(1, 3, 0), mark(1, 2, 1)]).unwrap();
        let batch = receipts.batch();
        assert_eq!(batch, [mark(1, 3, 1)]);
        receipts.note(vec![mark(1, 5, 1)]).unwrap();
        receipts.written(batch);
        assert_eq!(receipts.batch(), [mark(1, 5, 1)], "it has moved on");
        let ann = mark(1, 0, 0).address;
        let mut read = vec![mark(1, 4, 4)];
        receipts.bring_up_to_date(ConversationId(1), &[ann], &mut read);
        assert_eq!(read, [mark(1, 5, 4)]);
        receipts.written(receipts.batch());
        assert!(receipts.batch().is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let receipts = Receipts::default();
        for conversation in 0..i64::try_from(WAITING_MAX).unwrap() {
            receipts.note(vec![mark(conversation, 1, 0)]).unwrap();
        }
        assert_eq!(receipts.note(vec![mark(-1, 1, 0)]), Err(QueueFull));
        assert_eq!(
            receipts.note(vec![mark(7, 2, 0)]),
            Ok(()),
            "known ones move on"
        );
    }
}
