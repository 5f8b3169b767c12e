//! What became of messages at one participant.
//!
//! A message owed to somebody is pending, then delivered, displayed or failed. What is remembered is the exception, not
//! the rule: the ranges that are pending and those that failed, and how far was displayed. Everything else that was owed
//! has been delivered.
//!
//! *Invariant*: a message leaves `pending` once and never comes back; one that failed stays failed; `displayed_to` only
//! grows. No list has more than [`RANGES_MAX`] ranges.

use crate::marks::Marks;
use crate::ranges::Ranges;
use sidetone_model::{ReceiptKind, SeqRange};

/// Ranges of one list. Whoever leaves that many gaps has the oldest pending range count as failed; of failed ranges the
/// oldest is told apart no longer.
const RANGES_MAX: usize = 256;

/// What became of one message at one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Not known yet.
    Pending,
    /// A device has it.
    Delivered,
    /// It was shown.
    Displayed,
    /// It will not arrive.
    Failed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deliveries {
    pub(crate) pending: Ranges,
    pub(crate) failed: Ranges,
    pub(crate) displayed_to: u64,
    pub(crate) last_due: u64,
}

/// What a report has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reported {
    /// The last event that it was about; none when nothing has changed.
    pub(crate) changed_to: Option<u64>,
    /// What failed because too many gaps were left.
    pub(crate) given_up: Option<SeqRange>,
}

impl Deliveries {
    pub(crate) fn of(&self, seq: u64) -> Delivery {
        if self.pending.contains(seq) {
            Delivery::Pending
        } else if self.failed.contains(seq) {
            Delivery::Failed
        } else if seq <= self.displayed_to {
            Delivery::Displayed
        } else {
            Delivery::Delivered
        }
    }

    /// Message `seq` is owed from now on; gives the range that failed because too many gaps were left.
    pub(crate) fn owe(&mut self, seq: u64, messages: &Marks) -> Option<SeqRange> {
        let before = seq.saturating_sub(1);
        if self.failed.last().is_some_and(|r| r.last == self.last_due) {
            // Nothing between was owed, so that a dead address has one range and not thousands.
            self.failed.stretch_last(before);
        }
        let follows = self.pending.last().is_some_and(|r| r.last == self.last_due);
        let own_between = messages.any(self.last_due.saturating_add(1), before);
        let full = self.pending.len() >= RANGES_MAX;
        self.last_due = seq;
        if follows && (full || !own_between) {
            self.pending.stretch_last(seq);
            return None;
        }
        self.pending.insert(SeqRange {
            first: seq,
            last: seq,
        });
        self.give_up_oldest()
    }

    fn give_up_oldest(&mut self) -> Option<SeqRange> {
        if self.pending.len() <= RANGES_MAX {
            return None;
        }
        let oldest = self.pending.pop_first()?;
        self.fail(oldest);
        Some(oldest)
    }

    fn fail(&mut self, range: SeqRange) {
        self.failed.insert(range);
        if self.failed.len() > RANGES_MAX {
            self.failed.pop_first();
        }
    }

    /// Takes a report about `from` to `to`.
    pub(crate) fn report(
        &mut self,
        from: u64,
        to: u64,
        kind: ReceiptKind,
        messages: &Marks,
    ) -> Reported {
        let to = to.min(self.last_due);
        if from > to {
            return Reported::default();
        }
        let failing = kind == ReceiptKind::Failed;
        let settled = self.settle(from, to, failing, messages);
        let displayed = kind == ReceiptKind::Displayed && self.display(from, to);
        Reported {
            changed_to: (settled || displayed).then_some(to),
            given_up: self.give_up_oldest(),
        }
    }

    fn settle(&mut self, from: u64, to: u64, failing: bool, messages: &Marks) -> bool {
        let mut settled = false;
        // From the end, so that what is replaced does not move what is still to be looked at.
        for at in self.pending.touching(from, to).rev() {
            let Some(range) = self.pending.get(at) else {
                continue;
            };
            let (first, last) = (from.max(range.first), to.min(range.last));
            if !messages.any(first, last) {
                continue;
            }
            let left = trimmed(range.first, first.saturating_sub(1), messages);
            let right = trimmed(last.saturating_add(1), range.last, messages);
            self.pending.replace(at, [left, right]);
            settled = true;
            if failing {
                self.fail(SeqRange {
                    first: left.map_or(range.first, |r| r.last.saturating_add(1)),
                    last: right.map_or(range.last, |r| r.first.saturating_sub(1)),
                });
            }
        }
        settled
    }

    fn display(&mut self, from: u64, to: u64) -> bool {
        let failed = from == to && self.failed.contains(to);
        if failed || to <= self.displayed_to {
            return false;
        }
        self.displayed_to = to;
        true
    }
}

/// The range without what is no message at its ends; nothing where there is no message in it.
fn trimmed(first: u64, last: u64, messages: &Marks) -> Option<SeqRange> {
    Some(SeqRange {
        first: messages.first_in(first, last)?,
        last: messages.last_in(first, last)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReceiptKind::{Delivered, Displayed, Failed};

    fn owed(seqs: &[u64]) -> (Deliveries, Marks) {
        let (mut deliveries, mut marks) = (Deliveries::default(), Marks::default());
        for seq in seqs {
            marks.set(*seq);
            assert_eq!(deliveries.owe(*seq, &marks), None);
        }
        (deliveries, marks)
    }

    fn range(first: u64, last: u64) -> SeqRange {
        SeqRange { first, last }
    }

    #[test]
    fn what_lies_between_messages_makes_no_gap_and_leaves_nothing_behind() {
        let (mut deliveries, marks) = owed(&[4, 6, 7, 10]);
        assert_eq!(deliveries.pending.as_slice(), [range(4, 10)]);
        for seq in [4, 6, 7] {
            assert_eq!(
                deliveries.report(seq, seq, Delivered, &marks).changed_to,
                Some(seq)
            );
            assert_eq!(deliveries.of(seq), Delivery::Delivered);
            assert_eq!(deliveries.pending.len(), 1);
        }
        assert_eq!(deliveries.pending.as_slice(), [range(10, 10)]);
        assert_eq!(
            deliveries.report(10, 10, Displayed, &marks).changed_to,
            Some(10)
        );
        assert_eq!(deliveries.pending.len(), 0);
        assert_eq!(deliveries.of(7), Delivery::Displayed);
    }

    #[test]
    fn a_report_about_no_message_is_nothing() {
        let (mut deliveries, marks) = owed(&[4, 7]);
        let before = deliveries.clone();
        for kind in [Delivered, Failed] {
            assert_eq!(deliveries.report(5, 6, kind, &marks).changed_to, None);
            assert_eq!(deliveries.report(8, 9, kind, &marks).changed_to, None);
        }
        assert_eq!(deliveries, before);
    }

    #[test]
    fn out_of_order_is_exact() {
        let (mut deliveries, marks) = owed(&[1, 2, 3, 4, 5]);
        deliveries.report(4, 4, Delivered, &marks);
        deliveries.report(2, 2, Failed, &marks);
        let fates: Vec<Delivery> = (1..=5).map(|seq| deliveries.of(seq)).collect();
        use Delivery as D;
        assert_eq!(
            fates,
            [D::Pending, D::Failed, D::Pending, D::Delivered, D::Pending]
        );
    }

    #[test]
    fn what_failed_stays_failed() {
        let (mut deliveries, marks) = owed(&[1, 2]);
        assert_eq!(deliveries.report(1, 1, Failed, &marks).changed_to, Some(1));
        assert_eq!(deliveries.report(1, 1, Delivered, &marks).changed_to, None);
        assert_eq!(deliveries.report(1, 1, Displayed, &marks).changed_to, None);
        deliveries.report(1, 2, Displayed, &marks);
        assert_eq!(deliveries.of(1), Delivery::Failed);
        assert_eq!(deliveries.of(2), Delivery::Displayed);
        assert_eq!(deliveries.report(2, 2, Failed, &marks).changed_to, None);
    }

    #[test]
    fn an_address_that_never_answers_costs_one_range() {
        let (mut deliveries, mut marks) = (Deliveries::default(), Marks::default());
        for seq in (1..9_000).filter(|seq| seq % 3 != 0) {
            marks.set(seq);
            deliveries.owe(seq, &marks);
            deliveries.report(seq, seq, Failed, &marks);
        }
        assert_eq!(deliveries.pending.len(), 0);
        assert_eq!(deliveries.failed.as_slice(), [range(1, 8_999)]);
    }

    #[test]
    fn gaps_are_bounded_and_the_oldest_counts_as_failed() {
        let (mut deliveries, mut marks) = (Deliveries::default(), Marks::default());
        let mut given_up = Vec::new();
        for seq in 1..2_000 {
            marks.set(seq);
            given_up.extend(deliveries.owe(seq, &marks));
            if seq % 2 == 0 {
                deliveries.report(seq, seq, Delivered, &marks);
            }
        }
        assert_eq!(deliveries.pending.len(), RANGES_MAX);
        assert!(deliveries.failed.len() <= RANGES_MAX);
        assert_eq!(given_up.first(), Some(&range(1, 1)));
        let newest = given_up.last().copied().unwrap_or(range(0, 0));
        assert_eq!(deliveries.of(newest.first), Delivery::Failed);
    }
}
