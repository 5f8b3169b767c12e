//! Server nonces without server state (RFC 7616 §3.3), and the one state that replay
//! protection needs: the counts of nonces that were used well.
//!
//! *Invariant: a nonce is a time, a random number and our signature; an unauthenticated
//! client makes us remember nothing.* [`NonceCounts::accept`] is called only after the
//! response was verified.

use std::sync::Mutex;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::base64url;

const TIME_BYTES: usize = 6;
const RANDOM_BYTES: usize = 5;
const SIGNED_BYTES: usize = TIME_BYTES + RANDOM_BYTES;
/// Short, so that two challenges fit into an answer that is no lever for floods. Who guesses has to ask us about each
/// of 2⁵⁶ guesses, and has won one challenge without having been challenged.
const MAC_BYTES: usize = 7;
const NONCE_BYTES: usize = SIGNED_BYTES + MAC_BYTES;
/// A nonce from a clock ahead of ours (another node, a step back) is accepted this far.
const CLOCK_SKEW_MS: u64 = 5_000;

/// What a nonce is worth now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceState {
    /// Ours and in its lifetime; `id` names it to [`NonceCounts`].
    Fresh {
        /// When it was issued, Unix time.
        issued_ms: u64,
        /// Its time and random part, the random bits where tables look.
        id: u64,
    },
    /// Ours, but its time is over: challenge again with `stale=true`.
    Stale,
    /// Not made with this key.
    Forged,
}

/// The key that signs nonces, with its schedule computed once.
#[derive(Clone)]
pub struct NonceKey(Hmac<Sha256>);

impl NonceKey {
    /// A key from 32 secret random bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(keyed(&secret, b"sidetone nonce"))
    }

    /// A new nonce: 24 characters of the URL-safe base64 alphabet.
    pub fn issue(&self, now_ms: u64, random: u64) -> String {
        self.issue_for(b"", now_ms, random)
    }

    /// A new nonce that is good for one client only (its address, say): what somebody
    /// else got cannot be spent in its name.
    pub fn issue_for(&self, client: &[u8], now_ms: u64, random: u64) -> String {
        let mut nonce = [0u8; NONCE_BYTES];
        nonce[..TIME_BYTES].copy_from_slice(&now_ms.to_be_bytes()[8 - TIME_BYTES..]);
        nonce[TIME_BYTES..SIGNED_BYTES].copy_from_slice(&random.to_be_bytes()[8 - RANDOM_BYTES..]);
        let mac = self.mac(client, &nonce[..SIGNED_BYTES]);
        nonce[SIGNED_BYTES..].copy_from_slice(&mac);
        base64url::encode(&nonce)
    }

    /// Judges a nonce that a client sent.
    pub fn check(&self, nonce: &str, now_ms: u64, lifetime_ms: u64) -> NonceState {
        self.check_for(b"", nonce, now_ms, lifetime_ms)
    }

    /// Judges a nonce of [`NonceKey::issue_for`].
    pub fn check_for(
        &self,
        client: &[u8],
        nonce: &str,
        now_ms: u64,
        lifetime_ms: u64,
    ) -> NonceState {
        self.open(client, nonce)
            .map_or(NonceState::Forged, |(issued_ms, id)| {
                let fresh = now_ms.saturating_sub(issued_ms) <= lifetime_ms
                    && issued_ms <= now_ms.saturating_add(CLOCK_SKEW_MS);
                if fresh {
                    NonceState::Fresh { issued_ms, id }
                } else {
                    NonceState::Stale
                }
            })
    }

    fn open(&self, client: &[u8], nonce: &str) -> Option<(u64, u64)> {
        let mut buffer = [0u8; NONCE_BYTES];
        let bytes = base64url::decode(nonce.as_bytes(), &mut buffer)?;
        let (signed, mac) = bytes.split_at_checked(SIGNED_BYTES)?;
        let genuine = bool::from(self.mac(client, signed).ct_eq(mac));
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        genuine.then(|| {
            let (time_ms, random) = signed.split_at(TIME_BYTES);
            (number(time_ms), id_of(number(time_ms), number(random)))
        })
    }

    /// `signed` has a fixed length, so what follows it needs no separator.
    fn mac(&self, client: &[u8], signed: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac = self.0.clone();
        mac.update(signed);
        mac.update(client);
        truncated(mac)
    }
}

/// 40 random bits, 12 of them at the top and 28 at the bottom, about 24 bits of time.
fn id_of(time_ms: u64, random: u64) -> u64 {
    (random << 24 | time_ms & 0xff_ffff).rotate_left(28)
}

impl std::fmt::Debug for NonceKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("NonceKey(secret)")
    }
}

/// HMAC-SHA256 under a key of its own for each purpose.
pub(crate) fn keyed(secret: &[u8; 32], purpose: &[u8]) -> Hmac<Sha256> {
    let mut derive = from_key(secret);
    derive.update(purpose);
    from_key(&derive.finalize().into_bytes().into())
}

fn from_key(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0u8; 64];
    block[..32].copy_from_slice(key);
    // RFC 2104 §2 pads a short key with zeros to the block, so this is the same key.
    Hmac::new(&block.into())
}

/// The first `N` bytes of the tag (RFC 2104 §5); `N` is at most 32.
pub(crate) fn truncated<const N: usize>(mac: Hmac<Sha256>) -> [u8; N] {
    let tag = mac.finalize().into_bytes();
    std::array::from_fn(|at| tag[at])
}

/// The answer of [`NonceCounts::accept`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountCheck {
    /// First use of this count with this nonce.
    Accepted,
    /// Used before, or too old to tell: a replay.
    Replayed,
    /// No room to remember it: challenge again with `stale=true`.
    Full,
}

const SHARDS: usize = 16;
/// A lookup never looks further, whatever nonces a client collects to collide.
const PROBES: usize = 128;
/// Counts this far below the highest are told apart, so that requests overtaken on the
/// way are accepted once; older ones are replays.
const WINDOW: u32 = 32;
const FIRST_SLOTS: usize = 64;

/// Which counts of which nonces were used: 16 bytes a nonce in open-addressed tables
/// that are at most three quarters full, in two generations.
///
/// A generation lasts a nonce's lifetime and the skew that [`NonceKey::check`] allows, so an entry lives at least until its nonce
/// is stale, and forgetting is dropping a table.
#[derive(Debug)]
pub struct NonceCounts {
    shards: Box<[Mutex<Shard>]>,
    lifetime_ms: u64,
    slots_a_table: usize,
}

#[derive(Debug, Default)]
struct Shard {
    current: Table,
    previous: Table,
    rotate_at_ms: u64,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    used: usize,
}

/// `highest` is 0 in an empty slot: a count of 0 is never accepted.
#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    id: u64,
    highest: u32,
    /// Bit `i`: `highest - 1 - i` was used.
    seen: u32,
}

impl NonceCounts {
    /// Room for about `capacity` nonces in each generation of `lifetime_ms`.
    pub fn new(capacity: usize, lifetime_ms: u64) -> Self {
        let slots = (capacity / SHARDS * 4 / 3)
            .max(FIRST_SLOTS)
            .next_power_of_two();
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            lifetime_ms: lifetime_ms.max(1),
            slots_a_table: slots,
        }
    }

    /// Uses count `nc` of nonce `id`, whose response was verified (RFC 7616 §3.4, `nc`).
    pub fn accept(&self, id: u64, nc: u32, now_ms: u64) -> CountCheck {
        // The shard from the top bits, the slot from the bottom ones.
        let shard = &self.shards[(id >> 60) as usize % SHARDS];
        // A poisoned lock holds a table that is still whole: every change is one store.
        let mut shard = shard
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        shard.rotate(now_ms, self.lifetime_ms);
        shard.accept(id, nc, self.slots_a_table)
    }

    /// Nonces remembered.
    pub fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            shard.current.used + shard.previous.used
        };
        self.shards.iter().map(count).sum()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    fn rotate(&mut self, now_ms: u64, lifetime_ms: u64) {
        if now_ms < self.rotate_at_ms {
            return;
        }
        let generation_ms = lifetime_ms + CLOCK_SKEW_MS;
        let idle = now_ms - self.rotate_at_ms >= generation_ms;
        let old = std::mem::take(&mut self.current);
        self.previous = if idle { Table::default() } else { old };
        self.rotate_at_ms = now_ms + generation_ms;
    }

    fn accept(&mut self, id: u64, nc: u32, limit: usize) -> CountCheck {
        if nc == 0 {
            return CountCheck::Replayed;
        }
        if let Some(slot) = self.previous.find(id) {
            return slot.accept(nc);
        }
        if let Some(slot) = self.current.find(id) {
            return slot.accept(nc);
        }
        let first = Slot {
            id,
            highest: nc,
            seen: 0,
        };
        if self.current.insert(first, limit) {
            CountCheck::Accepted
        } else {
            CountCheck::Full
        }
    }
}

impl Slot {
    fn accept(&mut self, nc: u32) -> CountCheck {
        if nc > self.highest {
            let step = nc - self.highest;
            let shifted = self.seen.checked_shl(step).unwrap_or(0);
            self.seen = shifted | 1u32.checked_shl(step - 1).unwrap_or(0);
            self.highest = nc;
            return CountCheck::Accepted;
        }
        let behind = self.highest - nc;
        if behind == 0 || behind > WINDOW {
            return CountCheck::Replayed;
        }
        let bit = 1u32 << (behind - 1);
        if self.seen & bit != 0 {
            return CountCheck::Replayed;
        }
        self.seen |= bit;
        CountCheck::Accepted
    }
}

impl Table {
    /// Indexes of the slots where `id` may be. The random part is its own hash.
    fn probe(&self, id: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len().wrapping_sub(1);
        let start = usize::try_from(id & 0xffff_ffff).unwrap_or(0);
        (0..PROBES.min(self.slots.len())).map(move |step| (start + step) & mask)
    }

    fn find(&mut self, id: u64) -> Option<&mut Slot> {
        let at = self
            .probe(id)
            .take_while(|at| self.slots[*at].highest != 0)
            .find(|at| self.slots[*at].id == id)?;
        self.slots.get_mut(at)
    }

    fn insert(&mut self, slot: Slot, limit: usize) -> bool {
        if self.used * 4 >= self.slots.len() * 3 && !self.grow(limit) {
            return false;
        }
        self.place(slot)
    }

    fn place(&mut self, slot: Slot) -> bool {
        let Some(free) = self.probe(slot.id).find(|at| self.slots[*at].highest == 0) else {
            return false;
        };
        self.slots[free] = slot;
        self.used += 1;
        true
    }

    fn grow(&mut self, limit: usize) -> bool {
        let wanted = (self.slots.len() * 2).max(FIRST_SLOTS);
        if wanted > limit {
            return false;
        }
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); wanted]);
        self.used = 0;
        // A table twice as large has no longer runs, so each one finds its place.
        old.into_iter()
            .filter(|slot| slot.highest != 0)
            .for_each(|slot| {
                self.place(slot);
            });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME_MS: u64 = 300_000;
    const NOW_MS: u64 = 1_800_000_000_000;

    fn key() -> NonceKey {
        NonceKey::new([7; 32])
    }

    /// Spreads consecutive numbers as random ones are.
    fn spread(number: u64) -> u64 {
        let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ mixed >> 32
    }

    #[test]
    fn a_nonce_lives_as_long_as_the_caller_says() {
        let nonce = key().issue(NOW_MS, 0xdead_beef);
        assert_eq!(nonce.len(), 24);
        let fresh = NonceState::Fresh {
            issued_ms: NOW_MS,
            id: id_of(NOW_MS, 0xdead_beef),
        };
        assert_eq!(key().check(&nonce, NOW_MS, LIFETIME_MS), fresh);
        assert_eq!(
            key().check(&nonce, NOW_MS + LIFETIME_MS, LIFETIME_MS),
            fresh
        );
        assert_eq!(
            key().check(&nonce, NOW_MS + LIFETIME_MS + 1, LIFETIME_MS),
            NonceState::Stale
        );
        assert_eq!(
            key().check(&nonce, NOW_MS - CLOCK_SKEW_MS, LIFETIME_MS),
            fresh
        );
        assert_eq!(
            key().check(&nonce, NOW_MS - CLOCK_SKEW_MS - 1, LIFETIME_MS),
            NonceState::Stale
        );
    }

    #[test]
    fn a_changed_nonce_is_forged() {
        let nonce = key().issue(NOW_MS, 1);
        for at in 0..nonce.len() {
            let mut bytes = nonce.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(
                key().check(&changed, NOW_MS, LIFETIME_MS),
                NonceState::Forged
            );
        }
        for text in ["", "x", &nonce[..23], &nonce[..20], &format!("{nonce}AAAA")] {
            assert_eq!(key().check(text, NOW_MS, LIFETIME_MS), NonceState::Forged);
        }
        let bound = key().issue_for(b"192.0.2.1", NOW_MS, 1);
        let fresh = NonceState::Fresh {
            issued_ms: NOW_MS,
            id: id_of(NOW_MS, 1),
        };
        assert_eq!(
            key().check_for(b"192.0.2.1", &bound, NOW_MS, LIFETIME_MS),
            fresh
        );
        assert_eq!(
            key().check_for(b"192.0.2.2", &bound, NOW_MS, LIFETIME_MS),
            NonceState::Forged
        );
        assert_eq!(key().check(&bound, NOW_MS, LIFETIME_MS), NonceState::Forged);
        assert_eq!(
            NonceKey::new([8; 32]).check(&nonce, NOW_MS, LIFETIME_MS),
            NonceState::Forged
        );
    }

    #[test]
    fn each_count_is_accepted_once_in_any_near_order() {
        let counts = NonceCounts::new(1000, LIFETIME_MS);
        for nc in [1, 3, 2, 10, 9, 5, 41] {
            assert_eq!(counts.accept(5, nc, NOW_MS), CountCheck::Accepted, "{nc}");
            assert_eq!(counts.accept(5, nc, NOW_MS), CountCheck::Replayed, "{nc}");
        }
        for nc in [0, 1, 2, 3, 8, 9, 10, 41] {
            assert_eq!(counts.accept(5, nc, NOW_MS), CountCheck::Replayed, "{nc}");
        }
        assert_eq!(counts.accept(5, 11, NOW_MS), CountCheck::Accepted);
        assert_eq!(counts.accept(5, u32::MAX, NOW_MS), CountCheck::Accepted);
        assert_eq!(counts.accept(5, 40, NOW_MS), CountCheck::Replayed);
        assert_eq!(counts.len(), 1);
    }

    #[test]
    fn the_window_agrees_with_a_set() {
        let mut used = std::collections::BTreeSet::new();
        let mut slot = Slot {
            id: 1,
            highest: 1,
            seen: 0,
        };
        used.insert(1u32);
        for step in 0..20_000u64 {
            let near = slot.highest.saturating_sub(36).max(1)
                + u32::try_from(spread(step) % 40).expect("small");
            let fresh = !used.contains(&near) && near + WINDOW >= slot.highest;
            let expected = if fresh {
                CountCheck::Accepted
            } else {
                CountCheck::Replayed
            };
            assert_eq!(slot.accept(near), expected, "step {step}");
            used.insert(near);
        }
    }

    #[test]
    fn a_used_nonce_is_remembered_while_it_is_fresh() {
        let counts = NonceCounts::new(1000, LIFETIME_MS);
        assert_eq!(counts.accept(1, 1, NOW_MS), CountCheck::Accepted);
        for later_ms in (0..=LIFETIME_MS).step_by(10_000) {
            assert_eq!(counts.accept(1, 1, NOW_MS + later_ms), CountCheck::Replayed);
        }
        // Used just before a rotation, replayed until it would be stale.
        let issued_ms = NOW_MS + LIFETIME_MS;
        assert_eq!(counts.accept(2, 1, issued_ms), CountCheck::Accepted);
        for later_ms in (0..=LIFETIME_MS).step_by(10_000) {
            assert_eq!(
                counts.accept(2, 1, issued_ms + later_ms),
                CountCheck::Replayed
            );
        }
        assert_eq!(
            counts.accept(16, 1, NOW_MS + 10 * LIFETIME_MS),
            CountCheck::Accepted
        );
        assert_eq!(counts.len(), 1, "the old ones are forgotten");
    }

    #[test]
    fn memory_is_bounded_and_full_is_said() {
        let counts = NonceCounts::new(10_000, LIFETIME_MS);
        let full = (0..100_000)
            .filter(|number| counts.accept(spread(*number), 1, NOW_MS) == CountCheck::Full);
        let full = full.count();
        assert!((75_000..92_000).contains(&full), "{full}");
        assert_eq!(counts.len(), 100_000 - full);
        let slots: usize = counts
            .shards
            .iter()
            .map(|shard| shard.lock().expect("whole").current.slots.len())
            .sum();
        assert!(
            slots * size_of::<Slot>() <= counts.len() * 24,
            "{slots} slots for {}",
            counts.len()
        );
        assert_eq!(
            counts.accept(spread(1), 2, NOW_MS),
            CountCheck::Accepted,
            "a known one goes on"
        );
    }

    #[test]
    fn collected_collisions_cost_a_bounded_search() {
        let counts = NonceCounts::new(100_000, LIFETIME_MS);
        let accepted = (1..1000u64)
            .filter(|high| counts.accept(high << 33, 1, NOW_MS) == CountCheck::Accepted);
        assert_eq!(accepted.count(), PROBES);
    }
}
