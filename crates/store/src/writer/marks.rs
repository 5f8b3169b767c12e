//! Deliveries that are done, until they ride along with a commit.
//!
//! Like receipts they do not go through the queue, which would wake the writer for each.
//!
//! *Invariant*: bounded; whoever finds it empty wakes the writer, so that none waits for long.

use crate::QueueFull;
use sidetone_model::{DeviceId, MessageId};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A failed disk must not fill the memory.
const WAITING_MAX: usize = 262_144;

#[derive(Default)]
pub(super) struct Marks {
    waiting: Mutex<Vec<(DeviceId, MessageId)>>,
}

impl Marks {
    /// Whether it is the first.
    pub(super) fn note(&self, device: DeviceId, message: MessageId) -> Result<bool, QueueFull> {
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            return Err(QueueFull);
        }
        waiting.push((device, message));
        Ok(waiting.len() == 1)
    }

    /// Moves as many as there is room for.
    pub(super) fn move_to(&self, marks: &mut Vec<(DeviceId, MessageId)>) {
        let mut waiting = self.waiting();
        let room = WAITING_MAX.saturating_sub(marks.len()).min(waiting.len());
        marks.extend(waiting.drain(..room));
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(DeviceId, MessageId)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
