//! How often somebody may try a password.
//!
//! *Invariant*: memory is bounded whatever addresses and names an attacker
//! uses: two generations of at most [`KEYS`] buckets each.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Buckets in one generation.
const KEYS: usize = 32_768;

/// A token bucket for each key; all times are given, none is taken.
pub(crate) struct Attempts<K> {
    burst: u32,
    refill: Duration,
    young: HashMap<K, Bucket>,
    old: HashMap<K, Bucket>,
}

#[derive(Clone, Copy)]
struct Bucket {
    /// When the bucket would be full again: the one number a bucket needs (GCRA).
    full_at_ms: u64,
}

impl<K: Hash + Eq + Clone> Attempts<K> {
    /// `burst` attempts at once, then one in every `refill`.
    pub(crate) fn new(burst: u32, refill: Duration) -> Self {
        Attempts {
            burst,
            refill,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// Takes one attempt, or says how many seconds to wait.
    pub(crate) fn take(&mut self, key: K, now_ms: u64) -> Result<(), u64> {
        let step = self.refill_ms();
        let full_at = self.find(&key).map_or(now_ms, |b| b.full_at_ms.max(now_ms));
        let capacity = step.saturating_mul(u64::from(self.burst));
        let behind = full_at - now_ms;
        if behind + step > capacity {
            return Err((behind + step - capacity).div_ceil(1000).max(1));
        }
        self.put(
            key,
            Bucket {
                full_at_ms: full_at + step,
            },
        );
        Ok(())
    }

    /// Gives one attempt back: who knew the password was not guessing.
    pub(crate) fn give_back(&mut self, key: &K) {
        let step = self.refill_ms();
        if let Some(bucket) = self.young.get_mut(key) {
            bucket.full_at_ms = bucket.full_at_ms.saturating_sub(step);
        }
    }

    fn refill_ms(&self) -> u64 {
        u64::try_from(self.refill.as_millis()).unwrap_or(u64::MAX)
    }

    fn find(&self, key: &K) -> Option<Bucket> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn put(&mut self, key: K, bucket: Bucket) {
        if self.young.len() >= KEYS && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, bucket);
    }
}

/// One source: an IPv4 address, or the /64 that an IPv6 host can roam in.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let s = v6.segments();
            IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_in_each_interval() {
        let mut attempts = Attempts::new(3, Duration::from_secs(10));
        for _ in 0..3 {
            assert_eq!(attempts.take("a", 1_000), Ok(()));
        }
        assert_eq!(attempts.take("a", 1_000), Err(10));
        assert_eq!(
            attempts.take("b", 1_000),
            Ok(()),
            "another key is not touched"
        );
        assert_eq!(attempts.take("a", 10_999), Err(1));
        assert_eq!(attempts.take("a", 11_000), Ok(()));
        assert_eq!(attempts.take("a", 11_000), Err(10));
    }

    #[test]
    fn what_is_given_back_can_be_used_again() {
        let mut attempts = Attempts::new(1, Duration::from_secs(10));
        for _ in 0..5 {
            assert_eq!(attempts.take("a", 0), Ok(()));
            attempts.give_back(&"a");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut attempts = Attempts::new(1, Duration::from_secs(10));
        for key in 0..(3 * KEYS) {
            let _ = attempts.take(key, 0);
        }
        assert!(attempts.young.len() <= KEYS && attempts.old.len() <= KEYS);
        assert_eq!(
            attempts.take(3 * KEYS - 1, 0),
            Err(10),
            "the latest is remembered"
        );
    }

    #[test]
    fn an_ipv6_source_is_its_64() {
        let a = source("2001:db8:1:2:3:4:5:6".parse().expect("address"));
        let b = source("2001:db8:1:2:ffff::1".parse().expect("address"));
        assert_eq!(a, b);
        assert_eq!(
            source("::ffff:192.0.2.1".parse().expect("address")).to_string(),
            "192.0.2.1"
        );
    }
}
