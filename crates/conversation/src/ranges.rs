//! Sets of sequence numbers as ranges, in order.
//!
//! *Invariant*: ranges are ordered and do not touch or overlap.

use sidetone_model::SeqRange;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<SeqRange>);

impl Ranges {
    /// Takes any ranges; what is out of order or overlaps is put right.
    pub(crate) fn from_vec(ranges: &[SeqRange]) -> Self {
        let mut set = Self(Vec::with_capacity(ranges.len()));
        for range in ranges {
            set.insert(*range);
        }
        set
    }

    pub(crate) fn as_slice(&self) -> &[SeqRange] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn first(&self) -> Option<SeqRange> {
        self.0.first().copied()
    }

    pub(crate) fn last(&self) -> Option<SeqRange> {
        self.0.last().copied()
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        let at = self.0.partition_point(|range| range.last < seq);
        self.0.get(at).is_some_and(|range| range.first <= seq)
    }

    pub(crate) fn insert(&mut self, new: SeqRange) {
        if new.first > new.last {
            return;
        }
        let from = self
            .0
            .partition_point(|range| range.last.saturating_add(1) < new.first);
        let to = self
            .0
            .partition_point(|range| range.first <= new.last.saturating_add(1));
        let merged = self.0.get(from..to).unwrap_or_default();
        let first = merged.first().map_or(new.first, |r| r.first.min(new.first));
        let last = merged.last().map_or(new.last, |r| r.last.max(new.last));
        self.0.splice(from..to, [SeqRange { first, last }]);
    }

    /// Makes the last range end at `last`, which is beyond it.
    pub(crate) fn stretch_last(&mut self, last: u64) {
        if let Some(range) = self.0.last_mut() {
            range.last = range.last.max(last);
        }
    }

    pub(crate) fn pop_first(&mut self) -> Option<SeqRange> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Where ranges that reach into `[first, last]` stand.
    pub(crate) fn touching(&self, first: u64, last: u64) -> std::ops::Range<usize> {
        let from = self.0.partition_point(|range| range.last < first);
        let to = self.0.partition_point(|range| range.first <= last);
        from..to.max(from)
    }

    pub(crate) fn get(&self, at: usize) -> Option<SeqRange> {
        self.0.get(at).copied()
    }

    /// Puts at most two ranges, which lie within it, in the place of one.
    pub(crate) fn replace(&mut self, at: usize, pieces: [Option<SeqRange>; 2]) {
        if at < self.0.len() {
            self.0.splice(at..=at, pieces.into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn range(first: u64, last: u64) -> SeqRange {
        SeqRange { first, last }
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut set = Ranges::default();
        for (first, last) in [(4, 5), (8, 9), (6, 7), (20, 30), (12, 11), (1, 2)] {
            set.insert(range(first, last));
        }
        assert_eq!(set.as_slice(), [range(1, 2), range(4, 9), range(20, 30)]);
        set.insert(range(2, 40));
        assert_eq!(set.as_slice(), [range(1, 40)]);
    }

    #[test]
    fn every_insertion_agrees_with_a_plain_set() {
        let mut seed = 7_u64;
        let mut next = |bound: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        for _ in 0..200 {
            let (mut set, mut plain) = (Ranges::default(), BTreeSet::new());
            for _ in 0..20 {
                let first = next(60) + 1;
                let last = first + next(6);
                set.insert(range(first, last));
                plain.extend(first..=last);
            }
            for seq in 0..80 {
                assert_eq!(set.contains(seq), plain.contains(&seq), "{seq} in {set:?}");
            }
            let apart = |pair: &[SeqRange]| pair[0].last + 1 < pair[1].first;
            assert!(set.as_slice().windows(2).all(apart), "{set:?}");
        }
    }
}
