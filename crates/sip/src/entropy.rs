//! Unguessable numbers from a secret given once: SipHash of a counter.
//!
//! *Invariant*: the same seed gives the same numbers, so a run in virtual time can be repeated.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher13};

/// Numbers for branches and tags, and keyed hashes for tables.
#[derive(Debug, Clone)]
pub struct Entropy {
    keys: (u64, u64),
    count: u64,
}

impl Entropy {
    /// From 128 secret bits.
    #[must_use]
    pub fn new(seed: u128) -> Self {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        Self {
            keys: (half(seed), half(seed >> 64)),
            count: 0,
        }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.count += 1;
        let mut hasher = SipHasher24::new_with_keys(self.keys.0, self.keys.1);
        hasher.write_u64(self.count);
        hasher.finish()
    }

    /// A keyed hash of parts, wide enough to stand for them.
    #[must_use]
    pub fn digest(&self, parts: &[&[u8]]) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.1, self.keys.0);
        for part in parts {
            hasher.write(part);
            hasher.write_u8(0xff);
        }
        hasher.finish128().as_u128()
    }
}
