//! The location table: which contacts an address of record has now (RFC 3261 §10.3).
//!
//! *Invariant: the table is authoritative; the store follows it.* Every change marks its
//! address dirty, and an address leaves the table only when nothing of it is left to write.
//! A refresh alone is written when what is stored would end too early by more than a
//! [`UNWRITTEN_PART`] of the binding's time: phones that refresh every few seconds to keep a
//! hole in their router open cost no writing, and after a crash each is still found for as
//! long as it waits before it registers again.
//!
//! A binding is one text and a handful of numbers: with its key and its share of the
//! table about 400 bytes. Expired bindings are never seen; they are swept shard by shard.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidetone_model::{AddressOfRecord, Binding, DeviceId};
use sidetone_sip::FlowToken;
use smallvec::SmallVec;

const SHARDS: usize = 64;
/// A stored binding may end before the real one by its remaining time divided by this.
/// Phones refresh long before the last thirtieth.
const UNWRITTEN_PART: u64 = 32;

/// The flow of a binding as text in [`Binding::received`]: transport, listener,
/// connection and remote address between slashes.
pub fn flow_text(flow: &FlowToken) -> String {
    format!(
        "{}/{}/{}/{}",
        flow.transport, flow.listener, flow.connection, flow.remote
    )
}

/// Reads [`flow_text`] back.
pub fn parse_flow_text(text: &str) -> Option<FlowToken> {
    let mut parts = text.splitn(4, '/');
    Some(FlowToken {
        transport: parts.next()?.parse().ok()?,
        listener: parts.next()?.parse().ok()?,
        connection: parts.next()?.parse().ok()?,
        remote: parts.next()?.parse().ok()?,
    })
}

/// Where a request for an address of record may go: a binding as routing sees it.
/// Cloning shares the text.
#[derive(Debug, Clone)]
pub struct Target {
    text: Arc<str>,
    ends: [u16; PARTS - 1],
    /// The flow that the registration came by; `None` when its connection is gone.
    pub flow: Option<FlowToken>,
    /// The device that registered.
    pub device: DeviceId,
    /// Preference in thousandths.
    pub q: u16,
    /// `reg-id` (RFC 5626), 0 where there was none.
    pub reg_id: u32,
    /// When the binding ends, Unix time.
    pub expires_at_ms: u64,
}

impl Target {
    /// The contact's URI.
    pub fn contact(&self) -> &str {
        part(&self.text, &self.ends, CONTACT)
    }

    /// Path values as on the wire (RFC 3327); may be empty.
    pub fn path(&self) -> &str {
        part(&self.text, &self.ends, PATH)
    }

    /// `+sip.instance` without quotes.
    pub fn instance(&self) -> Option<&str> {
        Some(part(&self.text, &self.ends, INSTANCE)).filter(|instance| !instance.is_empty())
    }

    /// Call-ID of the registration, which a temporary GRUU is bound to (RFC 5627 §5.1).
    pub fn call_id(&self) -> &str {
        part(&self.text, &self.ends, CALL_ID)
    }

    /// The device's User-Agent.
    pub fn user_agent(&self) -> &str {
        part(&self.text, &self.ends, USER_AGENT)
    }
}

/// Targets of one address, best first.
pub type Targets = SmallVec<[Target; 2]>;

/// The texts of a binding, in the order in which they are joined.
const CONTACT: usize = 0;
const PATH: usize = 1;
const INSTANCE: usize = 2;
const CALL_ID: usize = 3;
const USER_AGENT: usize = 4;
const PARTS: usize = 5;

fn part<'a>(text: &'a str, ends: &[u16; PARTS - 1], at: usize) -> &'a str {
    let start = at
        .checked_sub(1)
        .map_or(0, |before| usize::from(ends[before]));
    let end = ends.get(at).map_or(text.len(), |end| usize::from(*end));
    text.get(start..end).unwrap_or_default()
}

/// A binding in the table.
#[derive(Debug)]
struct Packed {
    text: Arc<str>,
    device: DeviceId,
    expires_at_ms: u64,
    /// The end that the store knows, 0 before the binding was first written.
    stored_until_ms: u64,
    connection: u64,
    address: [u8; 16],
    cseq: u32,
    reg_id: u32,
    ends: [u16; PARTS - 1],
    port: u16,
    listener: u16,
    q: u16,
    transport: u8,
    /// The flow fields hold something.
    flow: bool,
}

impl Packed {
    fn new(binding: &Binding) -> Self {
        let (text, ends) = join([
            &binding.contact,
            &binding.path,
            binding.instance.as_deref().unwrap_or(""),
            &binding.call_id,
            &binding.user_agent,
        ]);
        let flow = binding.received.as_deref().and_then(parse_flow_text);
        let remote = flow.map(|flow| flow.remote);
        Self {
            text,
            device: binding.device,
            expires_at_ms: binding.expires_at_ms,
            stored_until_ms: 0,
            connection: flow.map_or(0, |flow| flow.connection),
            address: remote.map_or([0; 16], |remote| v6(remote.ip()).octets()),
            cseq: binding.cseq,
            reg_id: binding.reg_id,
            ends,
            port: remote.map_or(0, |remote| remote.port()),
            listener: flow.map_or(0, |flow| flow.listener),
            q: binding.q,
            transport: flow.map_or(0, |flow| flow.transport),
            flow: flow.is_some(),
        }
    }

    fn flow(&self) -> Option<FlowToken> {
        let address = Ipv6Addr::from(self.address).to_canonical();
        self.flow.then(|| FlowToken {
            transport: self.transport,
            listener: self.listener,
            connection: self.connection,
            remote: SocketAddr::new(address, self.port),
        })
    }

    fn binding(&self) -> Binding {
        let text = |at| self.text(at);
        Binding {
            contact: text(CONTACT).into(),
            device: self.device,
            instance: Some(text(INSTANCE))
                .filter(|text| !text.is_empty())
                .map(Into::into),
            reg_id: self.reg_id,
            q: self.q,
            call_id: text(CALL_ID).into(),
            cseq: self.cseq,
            expires_at_ms: self.expires_at_ms,
            path: text(PATH).into(),
            received: self.flow().map(|flow| flow_text(&flow).into()),
            user_agent: text(USER_AGENT).into(),
        }
    }

    fn target(&self) -> Target {
        Target {
            text: Arc::clone(&self.text),
            ends: self.ends,
            flow: self.flow(),
            device: self.device,
            q: self.q,
            reg_id: self.reg_id,
            expires_at_ms: self.expires_at_ms,
        }
    }

    /// RFC 5626 §5.3: a binding made with `reg-id` is its flow, and so is one of a browser,
    /// whose contact names nothing that could be reached (RFC 7118 §5.2.4). The contact of
    /// any other can be tried afresh.
    fn dies_with_flow(&self) -> bool {
        const WEBSOCKET: [u8; 2] = [3, 4];
        self.reg_id > 0 || WEBSOCKET.contains(&self.transport)
    }

    /// Whether this is `stored` with another end and another REGISTER's numbers, and what the
    /// store holds of it will do.
    fn only_refreshes(&self, stored: &Self, now_ms: u64) -> bool {
        let same = self.device == stored.device
            && self.reg_id == stored.reg_id
            && self.q == stored.q
            && self.flow() == stored.flow()
            && [CONTACT, PATH, INSTANCE, USER_AGENT]
                .into_iter()
                .all(|at| self.text(at) == stored.text(at));
        let left_ms = self.expires_at_ms.saturating_sub(now_ms);
        let difference_ms = self.expires_at_ms.abs_diff(stored.stored_until_ms);
        same && difference_ms <= left_ms / UNWRITTEN_PART
    }

    fn text(&self, at: usize) -> &str {
        part(&self.text, &self.ends, at)
    }

    fn is_reachable(&self) -> bool {
        self.flow || !self.dies_with_flow()
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Joins the texts; what is over 65,535 bytes in all is cut from the last ones, which no
/// message within its limits can reach.
fn join(texts: [&str; PARTS]) -> (Arc<str>, [u16; PARTS - 1]) {
    let mut joined = String::with_capacity(texts.iter().map(|text| text.len()).sum());
    let mut ends = [0u16; PARTS - 1];
    for (at, text) in texts.into_iter().enumerate() {
        if joined.len() + text.len() <= usize::from(u16::MAX) {
            joined.push_str(text);
        }
        if let Some(end) = ends.get_mut(at) {
            *end = u16::try_from(joined.len()).unwrap_or(u16::MAX);
        }
    }
    (joined.into(), ends)
}

#[derive(Debug, Default)]
struct Entry {
    bindings: SmallVec<[Packed; 1]>,
    dirty: bool,
}

impl Entry {
    fn note_stored(&mut self) {
        for packed in &mut self.bindings {
            packed.stored_until_ms = packed.expires_at_ms;
        }
    }
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<AddressOfRecord, Entry>,
    dirty: Vec<AddressOfRecord>,
    /// Addresses with bindings by connections of TCP, TLS and WebSocket.
    flows: HashMap<u64, SmallVec<[AddressOfRecord; 1]>>,
}

/// The table.
#[derive(Debug)]
pub struct Location {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    aors: AtomicUsize,
    bindings: AtomicUsize,
    /// The shard that is swept next.
    sweep: AtomicUsize,
}

impl Default for Location {
    fn default() -> Self {
        Self::new()
    }
}

impl Location {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            aors: AtomicUsize::new(0),
            bindings: AtomicUsize::new(0),
            sweep: AtomicUsize::new(0),
        }
    }

    /// Reachable targets, by descending q and then the longest-lived (RFC 3261 §16.6).
    pub fn lookup(&self, aor: &AddressOfRecord, now_ms: u64) -> Targets {
        let shard = self.shard(aor);
        let mut targets: Targets = shard.entries.get(aor).map_or_else(Targets::new, |entry| {
            let live = entry
                .bindings
                .iter()
                .filter(|packed| packed.expires_at_ms > now_ms);
            live.filter(|packed| packed.is_reachable())
                .map(Packed::target)
                .collect()
        });
        drop(shard);
        targets.sort_by_key(|target| std::cmp::Reverse((target.q, target.expires_at_ms)));
        targets
    }

    /// The bindings as they are, reachable or not.
    pub fn bindings(&self, aor: &AddressOfRecord, now_ms: u64) -> Vec<Binding> {
        self.shard(aor)
            .entries
            .get(aor)
            .map_or_else(Vec::new, |entry| unpack(entry, now_ms))
    }

    /// Whether an address has any binding.
    pub fn is_registered(&self, aor: &AddressOfRecord, now_ms: u64) -> bool {
        let shard = self.shard(aor);
        let entry = shard.entries.get(aor);
        entry.is_some_and(|entry| {
            entry
                .bindings
                .iter()
                .any(|packed| packed.expires_at_ms > now_ms)
        })
    }

    /// Changes the bindings of one address in one step: `change` sees those that have not
    /// ended, makes them what they shall be and says whether that is to be kept. Returns
    /// what it made of them.
    ///
    /// # Errors
    /// Those of `change`; the bindings are then as they were.
    pub fn update<E>(
        &self,
        aor: &AddressOfRecord,
        now_ms: u64,
        change: impl FnOnce(&mut Vec<Binding>) -> Result<bool, E>,
    ) -> Result<Vec<Binding>, E> {
        let mut shard = self.shard(aor);
        let mut bindings = shard
            .entries
            .get(aor)
            .map_or_else(Vec::new, |entry| unpack(entry, now_ms));
        if change(&mut bindings)? {
            let mut packed: SmallVec<[Packed; 1]> = bindings.iter().map(Packed::new).collect();
            let dirty = !refresh(&mut packed, shard.entries.get(aor), now_ms);
            self.replace(&mut shard, aor, packed, dirty);
        }
        Ok(bindings)
    }

    /// Takes over bindings at start. Their connections are gone: only flows of UDP live on.
    pub fn restore(&self, bindings: impl IntoIterator<Item = (AddressOfRecord, Vec<Binding>)>) {
        for (aor, bindings) in bindings {
            let mut packed: SmallVec<[Packed; 1]> = bindings.iter().map(Packed::new).collect();
            packed
                .iter_mut()
                .for_each(|packed| packed.flow &= packed.connection == 0);
            let mut shard = self.shard(&aor);
            self.replace(&mut shard, &aor, packed, false);
        }
    }

    /// Ends the flow of a connection that closed (RFC 5626 §5.3). Returns the addresses
    /// that had bindings by it. Bindings that were nothing but that flow go; others stay,
    /// without one.
    pub fn remove_flow(&self, connection: u64) -> Vec<AddressOfRecord> {
        let mut affected = Vec::new();
        if connection == 0 {
            return affected;
        }
        for shard in &self.shards {
            let mut shard = lock(shard);
            let Some(aors) = shard.flows.remove(&connection) else {
                continue;
            };
            for aor in aors {
                self.end_flow(&mut shard, &aor, connection);
                affected.push(aor);
            }
        }
        affected
    }

    fn end_flow(&self, shard: &mut Shard, aor: &AddressOfRecord, connection: u64) {
        let Some(entry) = shard.entries.get_mut(aor) else {
            return;
        };
        let mut bindings = std::mem::take(&mut entry.bindings);
        let before = bindings.len();
        bindings.retain(|packed| packed.connection != connection || !packed.dies_with_flow());
        for packed in bindings
            .iter_mut()
            .filter(|packed| packed.connection == connection)
        {
            packed.flow = false;
            packed.connection = 0;
        }
        self.bindings
            .fetch_sub(before - bindings.len(), Ordering::Relaxed);
        let emptied = before > 0 && bindings.is_empty();
        self.aors.fetch_sub(usize::from(emptied), Ordering::Relaxed);
        entry.bindings = bindings;
        mark_dirty(entry, &mut shard.dirty, aor);
    }

    /// Sweeps one shard of 64 and returns what ended there. Called every quarter of a
    /// second, it meets each binding every 16 seconds; no request waits for more than one
    /// shard, and none sees an expired binding before.
    pub fn expire(&self, now_ms: u64) -> Vec<(AddressOfRecord, Vec<Binding>)> {
        let at = self.sweep.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut guard = lock(&self.shards[at]);
        let shard = &mut *guard;
        let mut ended = Vec::new();
        for (aor, entry) in &mut shard.entries {
            if entry
                .bindings
                .iter()
                .any(|packed| packed.expires_at_ms <= now_ms)
            {
                let gone = drain_expired(entry, now_ms);
                self.aors
                    .fetch_sub(usize::from(entry.bindings.is_empty()), Ordering::Relaxed);
                mark_dirty(entry, &mut shard.dirty, aor);
                ended.push((aor.clone(), gone));
            }
        }
        for (aor, gone) in &ended {
            self.bindings.fetch_sub(gone.len(), Ordering::Relaxed);
            forget_flows(shard, aor, gone.iter().filter_map(connection_of));
        }
        ended
            .iter()
            .map(|(aor, gone)| (aor.clone(), gone.iter().map(Packed::binding).collect()))
            .collect()
    }

    /// What changed and was not taken yet, so many whole addresses at most: an empty list means that the
    /// address has no binding any more.
    pub fn take_dirty(&self, at_most: usize) -> Vec<(AddressOfRecord, Vec<Binding>)> {
        let mut changes = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            while changes.len() < at_most {
                let Some(aor) = shard.dirty.pop() else {
                    break;
                };
                let MapEntry::Occupied(mut entry) = shard.entries.entry(aor.clone()) else {
                    continue;
                };
                entry.get_mut().dirty = false;
                entry.get_mut().note_stored();
                changes.push((
                    aor,
                    entry.get().bindings.iter().map(Packed::binding).collect(),
                ));
                if entry.get().bindings.is_empty() {
                    entry.remove();
                }
            }
        }
        changes
    }

    /// Marks addresses whose write failed, so that the next [`Location::take_dirty`] has
    /// them again as they are then.
    pub fn mark_dirty<'a>(&self, aors: impl IntoIterator<Item = &'a AddressOfRecord>) {
        for aor in aors {
            let mut guard = self.shard(aor);
            let Shard { entries, dirty, .. } = &mut *guard;
            mark_dirty(entries.entry(aor.clone()).or_default(), dirty, aor);
        }
    }

    /// Addresses that have bindings, expired ones included until they are swept.
    pub fn aor_count(&self) -> usize {
        self.aors.load(Ordering::Relaxed)
    }

    /// Bindings, expired ones included until they are swept.
    pub fn binding_count(&self) -> usize {
        self.bindings.load(Ordering::Relaxed)
    }

    fn shard(&self, aor: &AddressOfRecord) -> MutexGuard<'_, Shard> {
        // The map in the shard hashes with keys of its own, so the low bits are free here.
        let [low, ..] = self.hasher.hash_one(aor.as_str()).to_le_bytes();
        lock(&self.shards[usize::from(low) % SHARDS])
    }

    fn replace(
        &self,
        shard: &mut Shard,
        aor: &AddressOfRecord,
        packed: SmallVec<[Packed; 1]>,
        dirty: bool,
    ) {
        let new: SmallVec<[u64; 1]> = packed.iter().filter_map(connection_of).collect();
        let (old_count, new_count) = (
            shard
                .entries
                .get(aor)
                .map_or(0, |entry| entry.bindings.len()),
            packed.len(),
        );
        if old_count == 0 && new_count == 0 {
            return;
        }
        let entry = shard.entries.entry(aor.clone()).or_default();
        let old = std::mem::replace(&mut entry.bindings, packed);
        if dirty {
            mark_dirty(entry, &mut shard.dirty, aor);
        }
        self.count(old_count, new_count);
        forget_flows(
            shard,
            aor,
            old.iter()
                .filter_map(connection_of)
                .filter(|gone| !new.contains(gone)),
        );
        for connection in new {
            let aors = shard.flows.entry(connection).or_default();
            if !aors.contains(aor) {
                aors.push(aor.clone());
            }
        }
    }

    fn count(&self, old: usize, new: usize) {
        self.bindings.fetch_add(new, Ordering::Relaxed);
        self.bindings.fetch_sub(old, Ordering::Relaxed);
        self.aors.fetch_add(usize::from(new > 0), Ordering::Relaxed);
        self.aors.fetch_sub(usize::from(old > 0), Ordering::Relaxed);
    }
}

/// A poisoned lock: a bug ended an earlier change of one address; the others are whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `new` needs no writing beside what is stored of the entry; it then keeps the ends that
/// the store knows.
fn refresh(new: &mut [Packed], entry: Option<&Entry>, now_ms: u64) -> bool {
    let Some(entry) = entry.filter(|entry| !entry.dirty && entry.bindings.len() == new.len())
    else {
        return false;
    };
    let mut pairs = new.iter_mut().zip(&entry.bindings);
    pairs.all(|(new, old)| {
        new.stored_until_ms = old.stored_until_ms;
        new.only_refreshes(old, now_ms)
    })
}

fn unpack(entry: &Entry, now_ms: u64) -> Vec<Binding> {
    let live = entry
        .bindings
        .iter()
        .filter(|packed| packed.expires_at_ms > now_ms);
    live.map(Packed::binding).collect()
}

fn mark_dirty(entry: &mut Entry, dirty: &mut Vec<AddressOfRecord>, aor: &AddressOfRecord) {
    if !std::mem::replace(&mut entry.dirty, true) {
        dirty.push(aor.clone());
    }
}

fn drain_expired(entry: &mut Entry, now_ms: u64) -> Vec<Packed> {
    let all = std::mem::take(&mut entry.bindings);
    let (live, gone): (Vec<Packed>, Vec<Packed>) = all
        .into_iter()
        .partition(|packed| packed.expires_at_ms > now_ms);
    entry.bindings = live.into_iter().collect();
    gone
}

fn connection_of(packed: &Packed) -> Option<u64> {
    (packed.flow && packed.connection != 0).then_some(packed.connection)
}

/// Takes an address off connections by which none of its bindings goes any more.
fn forget_flows(shard: &mut Shard, aor: &AddressOfRecord, connections: impl Iterator<Item = u64>) {
    for connection in connections {
        let still = shard.entries.get(aor).is_some_and(|entry| {
            entry
                .bindings
                .iter()
                .filter_map(connection_of)
                .any(|other| other == connection)
        });
        if still {
            continue;
        }
        if let MapEntry::Occupied(mut aors) = shard.flows.entry(connection) {
            aors.get_mut().retain(|other| other != aor);
            if aors.get().is_empty() {
                aors.remove();
            }
        }
    }
}

#[cfg(test)]
#[path = "location_tests.rs"]
mod tests;
