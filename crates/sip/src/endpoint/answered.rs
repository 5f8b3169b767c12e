//! Answers to requests that need no transaction, kept for as long as their clients are likely to ask again.
//!
//! A server transaction of REGISTER would be held for 32 s (Timer J, RFC 3261 §17.2.2), for a request that does no harm
//! when it is done again. Ten seconds cover the first four retransmissions, and a later one is a request like any other.
//!
//! *Invariant*: an answer is found for one generation at least and two at most, and both are bounded.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::matching::KeyHasher;

/// Half of how long an answer is kept at most.
const GENERATION: Duration = Duration::from_secs(5);
/// Answers of one generation; more are not kept.
const ANSWERS_MAX: usize = 131_072;
/// Octets of these answers.
const OCTETS_MAX: usize = 64 << 20;

type Table = HashMap<u128, Bytes, BuildHasherDefault<KeyHasher>>;

#[derive(Debug, Default)]
pub(super) struct Answered {
    young: Table,
    old: Table,
    octets: usize,
    turn_at: Option<Instant>,
}

impl Answered {
    /// The answer that the same request got, if it is known still.
    pub(super) fn find(&mut self, now: Instant, key: u128) -> Option<Bytes> {
        self.turn(now);
        self.young.get(&key).or_else(|| self.old.get(&key)).cloned()
    }

    pub(super) fn keep(&mut self, now: Instant, key: u128, answer: Bytes) {
        self.turn(now);
        if self.young.len() < ANSWERS_MAX && self.octets + answer.len() <= OCTETS_MAX {
            self.octets += answer.len();
            self.young.insert(key, answer);
        }
    }

    fn turn(&mut self, now: Instant) {
        let turn_at = *self.turn_at.get_or_insert(now + GENERATION);
        if now < turn_at {
            return;
        }
        let idle = now >= turn_at + GENERATION;
        // The emptied table keeps its room: the next generation is about as large.
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
        self.octets = 0;
        self.turn_at = Some(turn_at + GENERATION);
        if idle {
            (self.young, self.old) = (Table::default(), Table::default());
            self.turn_at = Some(now + GENERATION);
        }
    }
}
