//! Rate limits and the ban list for password guessing.
//!
//! *Invariant: tables of fixed size; a source that is unknown costs nothing to keep
//! unknown.* Sources are counted by address, IPv6 by /64, which one host can roam at will.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sidetone_model::AccountId;

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Serve it.
    Pass,
    /// 503 with Retry-After of so many seconds.
    Slow(u32),
    /// Drop it without an answer.
    Banned,
}

/// A steady rate with bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second in the long run; 0 is no limit.
    pub per_second: u32,
    /// Requests at once after a rest.
    pub burst: u32,
}

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitPolicy {
    /// Requests of one source.
    pub source: Rate,
    /// Requests of one account.
    pub account: Rate,
    /// Wrong passwords from one source in `failure_window_ms` that ban it; 0 bans nobody.
    pub failures: u32,
    /// The window in which they count.
    pub failure_window_ms: u64,
    /// The first ban; each further one is twice as long.
    pub ban_ms: u64,
    /// The longest ban.
    pub ban_max_ms: u64,
    /// Networks that are not counted at all.
    pub exempt: Networks,
}

impl Default for LimitPolicy {
    fn default() -> Self {
        Self {
            source: Rate {
                per_second: 200,
                burst: 1_000,
            },
            account: Rate {
                per_second: 50,
                burst: 500,
            },
            failures: 10,
            failure_window_ms: 60_000,
            ban_ms: 300_000,
            ban_max_ms: 86_400_000,
            exempt: Networks::default(),
        }
    }
}

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// As IPv6, IPv4 mapped.
    address: u128,
    bits: u8,
}

/// The text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: write 192.0.2.0/24, 2001:db8::/32 or an address")]
pub struct NotANetwork(pub String);

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        Self::read(text.trim()).ok_or_else(|| NotANetwork(text.to_owned()))
    }
}

impl Network {
    fn read(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (width, offset) = if address.is_ipv4() {
            (32, 96)
        } else {
            (128, 0)
        };
        let bits = bits.unwrap_or(width);
        (bits <= width).then(|| {
            let bits = bits + offset;
            Self {
                address: mapped(address) & mask(bits),
                bits,
            }
        })
    }

    /// Whether the address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        mapped(address) & mask(self.bits) == self.address
    }
}

/// A list of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Reads each text as a network.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, NotANetwork> {
        texts
            .iter()
            .map(|text| text.as_ref().parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

/// What a source is counted by: an IPv4 address, or an IPv6 /64.
fn source_key(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & mask(64),
    }
}

fn key_address(key: u128) -> IpAddr {
    Ipv6Addr::from_bits(key).to_canonical()
}

const SHARDS: usize = 16;
const WAYS: usize = 8;
/// Sets of eight in a shard: 65,536 keys in one table, 1 MiB once touched.
const SETS: usize = 512;

/// One key's bucket by the virtual scheduling algorithm (ITU-T I.371 GCRA): the time at
/// which it is full again says everything.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    tag: u64,
    full_at_us: u64,
}

/// Token buckets in a table of sets. A full set forgets the bucket that is nearest to
/// full, which is the one with the least to remember.
#[derive(Debug)]
struct Buckets {
    rate: Rate,
    hasher: RandomState,
    shards: Box<[Mutex<Vec<Bucket>>]>,
}

impl Buckets {
    fn new(rate: Rate) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Vec::new())).collect();
        Self {
            rate,
            hasher: RandomState::new(),
            shards,
        }
    }

    fn take(&self, key: impl Hash, now_ms: u64) -> Verdict {
        if self.rate.per_second == 0 {
            return Verdict::Pass;
        }
        let tag = self.hasher.hash_one(key).max(1);
        let mut table = locked(&self.shards[(tag >> 60) as usize % SHARDS]);
        if table.is_empty() {
            table.resize(SETS * WAYS, Bucket::default());
        }
        let [low, high, ..] = tag.to_le_bytes();
        let first = usize::from(u16::from_le_bytes([low, high])) % SETS * WAYS;
        // Whole sets fill the table, so the slice is there.
        let Some(set) = table.get_mut(first..first + WAYS) else {
            return Verdict::Pass;
        };
        find_or_evict(set, tag).map_or(Verdict::Pass, |bucket| bucket.take(self.rate, now_ms))
    }
}

fn find_or_evict(set: &mut [Bucket], tag: u64) -> Option<&mut Bucket> {
    let at = set
        .iter()
        .position(|bucket| bucket.tag == tag)
        .or_else(|| {
            let (at, _) = set
                .iter()
                .enumerate()
                .min_by_key(|(_, bucket)| bucket.full_at_us)?;
            set[at] = Bucket { tag, full_at_us: 0 };
            Some(at)
        })?;
    set.get_mut(at)
}

impl Bucket {
    fn take(&mut self, rate: Rate, now_ms: u64) -> Verdict {
        let now_us = now_ms.saturating_mul(1000);
        let token_us = 1_000_000 / u64::from(rate.per_second).min(1_000_000);
        let spare_us = token_us * u64::from(rate.burst.max(1) - 1);
        let empty_for_us = self.full_at_us.saturating_sub(now_us + spare_us);
        if empty_for_us > 0 {
            let seconds = u32::try_from(empty_for_us.div_ceil(1_000_000)).unwrap_or(u32::MAX);
            return Verdict::Slow(seconds);
        }
        self.full_at_us = self.full_at_us.max(now_us) + token_us;
        Verdict::Pass
    }
}

/// A ban for the administrator's eyes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// The address; for IPv6 the /64's first.
    pub source: IpAddr,
    /// When it ends, Unix time.
    pub until_ms: u64,
    /// How often the source has been banned.
    pub times: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Guesses {
    failures: u32,
    times: u32,
    since_ms: u64,
    until_ms: u64,
}

impl Guesses {
    /// When nothing is lost by forgetting it.
    fn forget_at_ms(&self, policy: &LimitPolicy) -> u64 {
        let memory_ms = if self.times > 0 {
            policy.ban_max_ms
        } else {
            policy.failure_window_ms
        };
        self.until_ms.max(self.since_ms).saturating_add(memory_ms)
    }
}

const GUESSERS_MAX: usize = 16_384;

/// All limits; shared by all shards.
#[derive(Debug)]
pub struct Limiter {
    policy: LimitPolicy,
    sources: Buckets,
    /// Of those whose address is no forgery.
    proven: Buckets,
    accounts: Buckets,
    guesses: Mutex<HashMap<u128, Guesses>>,
    /// Sources ever banned in the table: none, and the way to a verdict is shorter.
    banned: AtomicUsize,
}

impl Limiter {
    /// Limits by this policy.
    pub fn new(policy: LimitPolicy) -> Self {
        Self {
            sources: Buckets::new(policy.source),
            proven: Buckets::new(policy.source),
            accounts: Buckets::new(policy.account),
            guesses: Mutex::default(),
            banned: AtomicUsize::new(0),
            policy,
        }
    }

    /// Before anything else is done for a request.
    pub fn source(&self, address: IpAddr, now_ms: u64) -> Verdict {
        if self.policy.exempt.contains(address) {
            return Verdict::Pass;
        }
        if self.is_banned(address, now_ms) {
            return Verdict::Banned;
        }
        self.sources.take(source_key(address), now_ms)
    }

    /// For a request whose source address is no forgery, where [`Limiter::source`] has said `Slow`: anyone can use up
    /// what an address may send by datagrams, and nobody else what it may send so.
    pub fn proven(&self, address: IpAddr, now_ms: u64) -> Verdict {
        self.proven.take(source_key(address), now_ms)
    }

    /// After a request was authenticated; `source` may be exempt.
    pub fn account(&self, account: AccountId, source: IpAddr, now_ms: u64) -> Verdict {
        if self.policy.exempt.contains(source) {
            return Verdict::Pass;
        }
        self.accounts.take(account, now_ms)
    }

    /// Whether the source is banned now, for streams at accept.
    pub fn is_banned(&self, address: IpAddr, now_ms: u64) -> bool {
        if self.banned.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let guesses = locked(&self.guesses);
        guesses
            .get(&source_key(address))
            .is_some_and(|found| found.until_ms > now_ms)
    }

    /// Counts a wrong password or an unknown user. `Some(ban)` when this one was one too many.
    pub fn failure(&self, address: IpAddr, now_ms: u64) -> Option<Ban> {
        if self.policy.failures == 0 || self.policy.exempt.contains(address) {
            return None;
        }
        let key = source_key(address);
        let mut guesses = locked(&self.guesses);
        if guesses.len() >= GUESSERS_MAX && !guesses.contains_key(&key) {
            self.make_room(&mut guesses, now_ms);
        }
        let found = guesses.entry(key).or_default();
        if now_ms.saturating_sub(found.since_ms) > self.policy.failure_window_ms {
            *found = Guesses {
                failures: 0,
                since_ms: now_ms,
                ..*found
            };
        }
        found.failures += 1;
        if found.failures < self.policy.failures || found.until_ms > now_ms {
            return None;
        }
        if found.times == 0 {
            self.banned.fetch_add(1, Ordering::Relaxed);
        }
        let until_ms = now_ms.saturating_add(self.ban_ms(found.times));
        *found = Guesses {
            failures: 0,
            times: found.times.saturating_add(1),
            since_ms: now_ms,
            until_ms,
        };
        Some(Ban {
            source: key_address(key),
            until_ms,
            times: found.times,
        })
    }

    fn ban_ms(&self, times: u32) -> u64 {
        let factor = 1u64.checked_shl(times).unwrap_or(u64::MAX);
        self.policy
            .ban_ms
            .saturating_mul(factor)
            .min(self.policy.ban_max_ms)
    }

    /// Forgets what is over; if nothing is, the quarter that is over soonest.
    fn make_room(&self, guesses: &mut HashMap<u128, Guesses>, now_ms: u64) {
        guesses.retain(|_, found| found.forget_at_ms(&self.policy) > now_ms);
        if guesses.len() >= GUESSERS_MAX {
            let mut ends: Vec<u64> = guesses
                .values()
                .map(|found| found.forget_at_ms(&self.policy))
                .collect();
            let (_, quarter, _) = ends.select_nth_unstable(GUESSERS_MAX / 4);
            let quarter = *quarter;
            let mut over = GUESSERS_MAX / 4;
            guesses.retain(|_, found| {
                let goes = over > 0 && found.forget_at_ms(&self.policy) <= quarter;
                over -= usize::from(goes);
                !goes
            });
        }
        self.count_banned(guesses);
    }

    fn count_banned(&self, guesses: &HashMap<u128, Guesses>) {
        let count = guesses.values().filter(|found| found.times > 0).count();
        self.banned.store(count, Ordering::Relaxed);
    }

    /// The bans in force, longest first.
    pub fn bans(&self, now_ms: u64) -> Vec<Ban> {
        let guesses = locked(&self.guesses);
        let in_force = guesses.iter().filter(|(_, found)| found.until_ms > now_ms);
        let mut bans: Vec<Ban> = in_force
            .map(|(key, found)| Ban {
                source: key_address(*key),
                until_ms: found.until_ms,
                times: found.times,
            })
            .collect();
        bans.sort_by_key(|ban| (std::cmp::Reverse(ban.until_ms), ban.source));
        bans
    }

    /// Ends a ban by hand and forgets its history; `false` if there was none.
    pub fn unban(&self, address: IpAddr, now_ms: u64) -> bool {
        let mut guesses = locked(&self.guesses);
        let found = guesses.remove(&source_key(address));
        self.count_banned(&guesses);
        found.is_some_and(|found| found.until_ms > now_ms)
    }

    /// Forgets what is over; called now and then.
    pub fn expire(&self, now_ms: u64) {
        let mut guesses = locked(&self.guesses);
        guesses.retain(|_, found| found.forget_at_ms(&self.policy) > now_ms);
        self.count_banned(&guesses);
    }
}

/// A poisoned lock: the tables are whole after every single store.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn limiter(change: impl FnOnce(&mut LimitPolicy)) -> Limiter {
        let mut policy = LimitPolicy {
            source: Rate {
                per_second: 10,
                burst: 20,
            },
            account: Rate {
                per_second: 1,
                burst: 2,
            },
            failures: 3,
            ..LimitPolicy::default()
        };
        change(&mut policy);
        Limiter::new(policy)
    }

    fn passes(limiter: &Limiter, source: &str, now_ms: u64, tries: usize) -> usize {
        (0..tries)
            .filter(|_| limiter.source(ip(source), now_ms) == Verdict::Pass)
            .count()
    }

    #[test]
    fn networks_of_both_families() {
        let networks = Networks::parse(&["192.0.2.0/24", "10.1.2.3", "2001:db8::/32", "::1"])
            .expect("networks");
        for inside in [
            "192.0.2.255",
            "10.1.2.3",
            "::ffff:192.0.2.7",
            "2001:db8:ffff::1",
            "::1",
        ] {
            assert!(networks.contains(ip(inside)), "{inside}");
        }
        for outside in ["192.0.3.0", "10.1.2.4", "2001:db9::1", "::2", "127.0.0.1"] {
            assert!(!networks.contains(ip(outside)), "{outside}");
        }
        assert!(
            Networks::parse(&["0.0.0.0/0"])
                .expect("all")
                .contains(ip("203.0.113.1"))
        );
        assert!(
            !Networks::parse(&["0.0.0.0/0"])
                .expect("all of IPv4")
                .contains(ip("2001:db8::1"))
        );
        assert!(
            Networks::parse(&["::/0"])
                .expect("all")
                .contains(ip("203.0.113.1"))
        );
        for bad in [
            "",
            "x",
            "1.2.3.4/33",
            "::/129",
            "1.2.3/8",
            "1.2.3.4/",
            "1.2.3.4/-1",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(NotANetwork(bad.to_owned())));
        }
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate() {
        let limiter = limiter(|_| ());
        assert_eq!(passes(&limiter, "192.0.2.1", NOW_MS, 100), 20);
        assert_eq!(limiter.source(ip("192.0.2.1"), NOW_MS), Verdict::Slow(1));
        assert_eq!(
            passes(&limiter, "192.0.2.2", NOW_MS, 100),
            20,
            "another source"
        );
        assert_eq!(passes(&limiter, "192.0.2.1", NOW_MS + 1_000, 100), 10);
        assert_eq!(passes(&limiter, "192.0.2.1", NOW_MS + 60_000, 100), 20);
        let steady = (0..1000)
            .filter(|step| limiter.source(ip("192.0.2.3"), NOW_MS + step * 10) == Verdict::Pass);
        assert_eq!(steady.count(), 20 + 99);
    }

    #[test]
    fn a_v6_host_has_one_bucket_for_its_64() {
        let limiter = limiter(|_| ());
        assert_eq!(passes(&limiter, "2001:db8::1", NOW_MS, 100), 20);
        assert_eq!(passes(&limiter, "2001:db8::ffff:2", NOW_MS, 100), 0);
        assert_eq!(passes(&limiter, "2001:db8:0:1::1", NOW_MS, 100), 20);
        assert_eq!(passes(&limiter, "192.0.2.1", NOW_MS, 100), 20);
        assert_eq!(
            passes(&limiter, "::ffff:192.0.2.1", NOW_MS, 100),
            0,
            "the same host"
        );
    }

    #[test]
    fn accounts_have_buckets_of_their_own_and_exempt_networks_none() {
        let limiter = limiter(|policy| {
            policy.exempt = Networks::parse(&["127.0.0.0/8"]).expect("a network");
            policy.failures = 1;
        });
        let (alice, here) = (AccountId(1), ip("192.0.2.1"));
        let verdicts: Vec<_> = (0..4)
            .map(|_| limiter.account(alice, here, NOW_MS))
            .collect();
        assert_eq!(
            verdicts,
            [
                Verdict::Pass,
                Verdict::Pass,
                Verdict::Slow(1),
                Verdict::Slow(1)
            ]
        );
        assert_eq!(limiter.account(AccountId(2), here, NOW_MS), Verdict::Pass);
        assert_eq!(
            limiter.account(alice, ip("127.0.0.1"), NOW_MS),
            Verdict::Pass
        );
        assert_eq!(passes(&limiter, "127.0.0.1", NOW_MS, 1000), 1000);
        assert_eq!(limiter.failure(ip("127.0.0.1"), NOW_MS), None);
    }

    #[test]
    fn no_limit_is_no_limit() {
        let limiter = limiter(|policy| policy.source.per_second = 0);
        assert_eq!(passes(&limiter, "192.0.2.1", NOW_MS, 5000), 5000);
    }

    #[test]
    fn a_flood_of_sources_keeps_the_table_and_the_busy() {
        let limiter = limiter(|_| ());
        assert_eq!(passes(&limiter, "192.0.2.1", NOW_MS, 100), 20);
        for number in 0..300_000u32 {
            limiter.source(IpAddr::from(number.to_be_bytes()), NOW_MS);
        }
        let sizes = limiter
            .sources
            .shards
            .iter()
            .map(|shard| locked(shard).len());
        assert_eq!(sizes.sum::<usize>(), SHARDS * SETS * WAYS);
        assert_eq!(
            passes(&limiter, "192.0.2.1", NOW_MS, 100),
            0,
            "the emptiest bucket is kept"
        );
    }

    #[test]
    fn guessing_bans_for_longer_each_time() {
        let limiter = limiter(|_| ());
        let guesser = ip("192.0.2.1");
        let mut now_ms = NOW_MS;
        for (times, minutes) in [(1, 5), (2, 10), (3, 20), (4, 40)] {
            assert_eq!(limiter.failure(guesser, now_ms), None);
            assert_eq!(limiter.failure(guesser, now_ms), None);
            let ban = limiter.failure(guesser, now_ms).expect("one too many");
            assert_eq!(
                ban,
                Ban {
                    source: guesser,
                    until_ms: now_ms + minutes * 60_000,
                    times
                }
            );
            assert_eq!(limiter.source(guesser, now_ms), Verdict::Banned);
            assert_eq!(limiter.source(ip("192.0.2.2"), now_ms), Verdict::Pass);
            assert_eq!(limiter.bans(now_ms), std::slice::from_ref(&ban));
            now_ms = ban.until_ms;
            assert_eq!(
                limiter.source(guesser, now_ms),
                Verdict::Pass,
                "time ends it"
            );
            assert!(limiter.bans(now_ms).is_empty());
        }
        assert_eq!(limiter.ban_ms(u32::MAX), 86_400_000);
    }

    #[test]
    fn slow_mistakes_ban_nobody() {
        let limiter = limiter(|_| ());
        for step in 0..100 {
            assert_eq!(
                limiter.failure(ip("192.0.2.1"), NOW_MS + step * 31_000),
                None,
                "{step}"
            );
        }
    }

    #[test]
    fn a_ban_ends_by_hand() {
        let limiter = limiter(|policy| policy.failures = 1);
        let guesser = ip("2001:db8::5");
        let ban = limiter.failure(guesser, NOW_MS).expect("banned at once");
        assert_eq!(ban.source, ip("2001:db8::"));
        assert!(!limiter.unban(ip("192.0.2.1"), NOW_MS));
        assert!(limiter.unban(guesser, NOW_MS));
        assert_eq!(limiter.source(guesser, NOW_MS), Verdict::Pass);
        assert_eq!(limiter.banned.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_ban_list_is_bounded_and_forgets() {
        let limiter = limiter(|policy| policy.failures = 2);
        let banned = ip("198.51.100.1");
        limiter.failure(banned, NOW_MS);
        assert!(limiter.failure(banned, NOW_MS).is_some());
        for number in 0..100_000u32 {
            limiter.failure(IpAddr::from(number.to_be_bytes()), NOW_MS);
        }
        assert!(locked(&limiter.guesses).len() <= GUESSERS_MAX);
        assert_eq!(
            limiter.source(banned, NOW_MS),
            Verdict::Banned,
            "bans outlive single failures"
        );
        limiter.expire(NOW_MS + 2 * 86_400_000);
        assert!(locked(&limiter.guesses).is_empty());
        assert_eq!(limiter.banned.load(Ordering::Relaxed), 0);
    }
}
