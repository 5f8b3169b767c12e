//! The origins of messages stored lately.
//!
//! *Invariant*: bounded in time and number; an origin is known for at least the time kept,
//! unless more than `GENERATION_MAX` messages came within a third of it.

use sidetone_model::{MessageId, Origin};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

const GENERATIONS: usize = 3;
const GENERATION_MAX: usize = 262_144;

pub(super) struct Origins {
    generations: VecDeque<HashMap<Origin, MessageId>>,
    period: Duration,
    turned: Instant,
}

impl Origins {
    /// Two full generations cover the time kept, a third one fills.
    pub(super) fn new(kept: Duration, now: Instant) -> Self {
        Self {
            generations: VecDeque::from([HashMap::new()]),
            period: kept / 2,
            turned: now,
        }
    }

    pub(super) fn get(&self, origin: &Origin) -> Option<MessageId> {
        self.generations
            .iter()
            .find_map(|generation| generation.get(origin).copied())
    }

    pub(super) fn insert(&mut self, origin: Origin, id: MessageId, now: Instant) {
        self.turn(now);
        if let Some(newest) = self.generations.front_mut() {
            newest.insert(origin, id);
        }
    }

    pub(super) fn turn(&mut self, now: Instant) {
        let full = self
            .generations
            .front()
            .is_some_and(|newest| newest.len() >= GENERATION_MAX);
        if !full && now.duration_since(self.turned) < self.period {
            return;
        }
        self.turned = now;
        self.generations.push_front(HashMap::new());
        self.generations.truncate(GENERATIONS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_known_for_the_time_kept_and_then_forgotten() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut origins = Origins::new(Duration::from_secs(64), start);
        origins.insert(Origin([1; 16]), MessageId(7), at(31));
        for second in 32..96 {
            origins.turn(at(second));
            if second <= 31 + 64 {
                assert_eq!(
                    origins.get(&Origin([1; 16])),
                    Some(MessageId(7)),
                    "{second}"
                );
            }
        }
        origins.turn(at(128));
        origins.turn(at(160));
        assert_eq!(origins.get(&Origin([1; 16])), None);
    }
}
