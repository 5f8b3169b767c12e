//! What waits for room in the store's queue: marks of delivery, and the reads behind them.
//!
//! *Invariant*: in order. A read for a device comes after the marks of what it has taken, so
//! that nothing is sent to it twice; and a newer mark does not overtake an older one.

use std::collections::VecDeque;

use sidetone_model::{DeviceId, MessageId};

/// Marks that wait. One that is lost costs a second delivery after a restart.
const MARKS_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Mark(DeviceId, MessageId),
    Read(DeviceId, MessageId),
}

/// A read whose turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) device: DeviceId,
    pub(crate) after: MessageId,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Late {
    steps: VecDeque<Step>,
    marks: usize,
}

impl Late {
    /// The device has taken the message.
    pub(crate) fn mark(&mut self, device: DeviceId, message: MessageId) {
        if self.marks >= MARKS_MAX
            && let Some(oldest) = self
                .steps
                .iter()
                .position(|step| matches!(step, Step::Mark(..)))
        {
            // Near the front: reads are few.
            self.steps.remove(oldest);
            self.marks -= 1;
        }
        self.marks += 1;
        self.steps.push_back(Step::Mark(device, message));
    }

    /// What the device has yet to get is to be read.
    pub(crate) fn read(&mut self, device: DeviceId, after: MessageId) {
        self.steps.push_back(Step::Read(device, after));
    }

    /// Hands marks over until one is not taken; gives the next read before that.
    pub(crate) fn next(
        &mut self,
        mut hand_over: impl FnMut(DeviceId, MessageId) -> bool,
    ) -> Option<Marked> {
        loop {
            match *self.steps.front()? {
                Step::Mark(device, message) => {
                    if !hand_over(device, message) {
                        return None;
                    }
                    self.marks -= 1;
                    self.steps.pop_front();
                }
                Step::Read(device, after) => {
                    self.steps.pop_front();
                    return Some(Marked { device, after });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_for_the_marks_before_it_and_newer_marks_for_older() {
        let mut late = Late::default();
        late.mark(DeviceId(1), MessageId(1));
        late.read(DeviceId(1), MessageId(1));
        late.mark(DeviceId(2), MessageId(2));
        assert_eq!(late.next(|_, _| false), None, "the store is full");
        let mut taken = Vec::new();
        let mut take = |device: DeviceId, message: MessageId| {
            taken.push((device.0, message.0));
            true
        };
        let read = Marked {
            device: DeviceId(1),
            after: MessageId(1),
        };
        assert_eq!(late.next(&mut take), Some(read));
        assert_eq!(late.next(&mut take), None);
        assert_eq!(taken, [(1, 1), (2, 2)]);
    }

    #[test]
    fn too_many_marks_cost_the_oldest_and_never_a_read() {
        let mut late = Late::default();
        late.read(DeviceId(1), MessageId(0));
        for message in 0..=MARKS_MAX as i64 {
            late.mark(DeviceId(2), MessageId(message));
        }
        assert!(late.next(|_, _| false).is_some(), "the read");
        let mut first = None;
        late.next(|_, message| {
            first.get_or_insert(message);
            true
        });
        assert_eq!(first, Some(MessageId(1)));
    }
}
