//! A database that refuses: how long to leave it alone, and how often to say so.
//!
//! *Invariant*: the pause doubles with every failure and ends with the first success; a line
//! in the log is at least a minute after the last one.

use std::time::Duration;
use tokio::time::Instant;

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const LINE_PERIOD: Duration = Duration::from_secs(60);

/// Failures in a row, and what was said of them.
#[derive(Default)]
pub(super) struct Trouble {
    in_a_row: u32,
    again: Option<Instant>,
    said: Option<Instant>,
    unsaid: u64,
}

impl Trouble {
    /// Notes a failure; gives the failures since the last line when there is to be a line.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        let doublings = self.in_a_row.min(16);
        let pause = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.again = Some(now + pause);
        self.unsaid += 1;
        let quiet = self.said.is_some_and(|said| now < said + LINE_PERIOD);
        if quiet {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// Notes a success; gives whether it ends a row of failures.
    pub(super) fn succeeded(&mut self) -> bool {
        self.again = None;
        std::mem::take(&mut self.in_a_row) > 0
    }

    /// When to try again, while it fails.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_lines_are_rare() {
        let start = Instant::now();
        let mut now = start;
        let mut trouble = Trouble::default();
        let (mut tries, mut lines) = (0, Vec::new());
        while now < start + Duration::from_secs(120) {
            lines.extend(trouble.failed(now));
            tries += 1;
            now = trouble.again().unwrap();
        }
        assert!((20..40).contains(&tries), "{tries}");
        assert_eq!((lines.len(), lines[0]), (2, 1), "{lines:?}");
        assert!(lines[1] > 10, "{lines:?}");
        assert!(trouble.succeeded() && !trouble.succeeded());
        assert_eq!(trouble.again(), None);
        trouble.failed(now);
        assert_eq!(trouble.again(), Some(now + PAUSE_FIRST));
    }
}
