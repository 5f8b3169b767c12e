//! Names by which peers were found, for the certificates that have to prove them (RFC 5922 §4).
//!
//! *Invariant*: a number stands for one name; the oldest are forgotten, and what goes to a forgotten one fails.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Names remembered; more than requests to them can be under way for long.
const NAMES_MAX: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<u64, Arc<str>>,
    order: VecDeque<u64>,
}

impl Names {
    /// Remembers what a number, which is a keyed hash of the name, stands for.
    pub(super) fn remember(&mut self, number: u64, name: &str) {
        if self.known.contains_key(&number) {
            return;
        }
        if self.order.len() >= NAMES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(number, name.into());
        self.order.push_back(number);
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<str>> {
        self.known.get(&number).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_too_many_names_is_forgotten() {
        let mut names = Names::default();
        for number in 0..=NAMES_MAX as u64 {
            names.remember(number, &format!("{number}.example"));
            names.remember(number, "another name");
        }
        assert_eq!(names.get(0), None);
        assert_eq!(names.get(1).as_deref(), Some("1.example"));
        assert_eq!(names.known.len(), NAMES_MAX);
    }
}
