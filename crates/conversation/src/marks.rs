//! Which events are messages: one bit an event.
//!
//! A pending range reaches over events that are no messages, so that a participant who is away for a month is owed a few
//! ranges and not thousands; when a part of it is settled, these bits tell whether anything is left in the rest.
//!
//! *Invariant*: bits for every event from `base` to the newest message.

const BITS: u64 = u64::BITS as u64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// A multiple of [`BITS`].
    base: u64,
    words: Vec<u64>,
}

impl Marks {
    pub(crate) fn restore(base: u64, words: Vec<u64>) -> Self {
        let base = base - base % BITS;
        Self { base, words }
    }

    pub(crate) fn set(&mut self, seq: u64) {
        let Some((word, bit)) = self.place(seq) else {
            return;
        };
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= bit;
        }
    }

    fn place(&self, seq: u64) -> Option<(usize, u64)> {
        let offset = seq.checked_sub(self.base)?;
        Some((usize::try_from(offset / BITS).ok()?, 1 << (offset % BITS)))
    }

    /// The first message from `first` to `last`.
    pub(crate) fn first_in(&self, first: u64, last: u64) -> Option<u64> {
        let mut at = first.max(self.base);
        while at <= last {
            let offset = at - self.base;
            let word = self.words.get(usize::try_from(offset / BITS).ok()?)?;
            let rest = word >> (offset % BITS);
            if rest != 0 {
                let found = at + u64::from(rest.trailing_zeros());
                return (found <= last).then_some(found);
            }
            at += BITS - offset % BITS;
        }
        None
    }

    /// The last message from `first` to `last`.
    pub(crate) fn last_in(&self, first: u64, last: u64) -> Option<u64> {
        let first = first.max(self.base);
        let end = self.base + BITS * u64::try_from(self.words.len()).ok()?;
        let mut at = last.min(end.checked_sub(1)?);
        while at >= first {
            let offset = at - self.base;
            let word = self.words.get(usize::try_from(offset / BITS).ok()?)?;
            let rest = word << (BITS - 1 - offset % BITS);
            if rest != 0 {
                let found = at - u64::from(rest.leading_zeros());
                return (found >= first).then_some(found);
            }
            at = at.checked_sub(offset % BITS + 1)?;
        }
        None
    }

    pub(crate) fn any(&self, first: u64, last: u64) -> bool {
        self.first_in(first, last).is_some()
    }

    /// The base and the words from the word of `seq` on.
    pub(crate) fn since(&self, seq: u64) -> (u64, Vec<u64>) {
        let base = (seq - seq % BITS).max(self.base);
        let skip = usize::try_from((base - self.base) / BITS).unwrap_or(usize::MAX);
        let words = self.words.get(skip..).unwrap_or_default();
        (base, words.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searching_agrees_with_looking_at_every_bit() {
        let messages = [1_u64, 2, 63, 64, 65, 127, 128, 300, 301];
        let mut marks = Marks::default();
        for seq in messages {
            marks.set(seq);
        }
        for first in 0..330 {
            for last in first..330 {
                let within = |seq: &&u64| (first..=last).contains(*seq);
                let expected = messages.iter().find(within).copied();
                assert_eq!(marks.first_in(first, last), expected, "{first} {last}");
                let expected = messages.iter().rfind(within).copied();
                assert_eq!(marks.last_in(first, last), expected, "{first} {last}");
            }
        }
        assert!(!marks.any(9, 8) && !marks.any(400, u64::MAX));
        assert_eq!(Marks::default().last_in(0, 9), None);
    }

    #[test]
    fn what_is_left_out_is_only_what_is_older() {
        let mut marks = Marks::default();
        for seq in 1..400 {
            marks.set(seq);
        }
        let (base, words) = marks.since(200);
        assert_eq!((base, words.len()), (192, 4));
        let mut restored = Marks::restore(base, words);
        assert_eq!(restored.first_in(1, 500), Some(192));
        restored.set(450);
        restored.set(3);
        assert_eq!(restored.last_in(1, 500), Some(450));
        assert_eq!(restored.first_in(1, 191), None);
        assert_eq!(marks.since(10_000), (9_984, Vec::new()));
    }
}
