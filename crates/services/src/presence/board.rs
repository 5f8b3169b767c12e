//! What is known of every person, for all shards and the API.
//!
//! *Invariant*: what is kept of a person is bounded, whoever sends it: see [`BoardLimits`]. A lock is held for one
//! look-up or one change.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sidetone_model::{
    AccountId, AddressOfRecord, Availability, DeviceId, PersonPresence, Publication, SetPresence,
};
use sidetone_sip::Message;
use tokio::sync::broadcast;

use super::calls::{Call, CallId, CallState, Calls};
use super::publish::{self, Kept, PublishAnswer, PublishLimits, Request};
use super::{Composed, Facts, Reachable, Statement, compose, dialog_info, message_summary, pidf};
use crate::events::{Document, EventAnswer, Package, View};

/// Persons that changed and were not heard of yet, for each listener of the feed; who is slower reads all anew.
const FEED: usize = 1_024;

/// How much is kept of a person.
#[derive(Debug, Clone, Copy)]
pub struct BoardLimits {
    /// Published documents.
    pub publish: PublishLimits,
    /// Characters of a note.
    pub note: usize,
    /// Addresses that one account blocks, and those that it lets see it.
    pub listed: usize,
}

impl Default for BoardLimits {
    fn default() -> Self {
        Self {
            publish: PublishLimits::default(),
            note: 256,
            listed: 1_000,
        }
    }
}

/// What changed of who may see whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyChange {
    /// Sees nothing any more.
    Block,
    /// Sees what others see.
    Unblock,
    /// Sees what others see, though from another domain.
    Approve,
    /// Does not any more.
    Revoke,
}

/// What is kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedPresence {
    /// What persons have set.
    pub set: Vec<(AddressOfRecord, SetPresence)>,
    /// What their devices have published.
    pub published: Vec<(AddressOfRecord, Publication)>,
    /// Who blocks whom.
    pub blocked: Vec<(AddressOfRecord, AddressOfRecord)>,
    /// Who lets whom see it.
    pub approved: Vec<(AddressOfRecord, AddressOfRecord)>,
}

#[derive(Debug, Default)]
struct Entry {
    set: Option<SetPresence>,
    sessions: u32,
    published: Vec<Kept>,
    calls: Calls,
    /// Messages that no device has taken, and that some device waits for.
    waiting: (u64, u64),
    blocked: HashSet<AddressOfRecord>,
    approved: HashSet<AddressOfRecord>,
    /// When something of it ends by itself, as it stands in the table of all ends.
    ends_ms: Option<u64>,
    /// As it was composed last, and since when.
    last: (Availability, u64),
}

impl Entry {
    /// Forgets what has ended; the names of the publications, or nothing where nothing had.
    fn end(&mut self, now_ms: u64) -> Option<Vec<String>> {
        let over = self.set.take_if(|set| set.is_over(now_ms)).is_some();
        let live = |kept: &Kept| kept.publication.expires_at_ms > now_ms;
        let ended: Vec<String> = self
            .published
            .extract_if(.., |kept| !live(kept))
            .map(|kept| kept.publication.etag)
            .collect();
        (over || !ended.is_empty()).then_some(ended)
    }

    fn next_end_ms(&self) -> Option<u64> {
        let published = self.published.iter();
        let published = published.map(|kept| kept.publication.expires_at_ms);
        let set = self.set.as_ref().and_then(|set| set.until_ms);
        published.chain(set).min()
    }

    fn compose(&mut self, now_ms: u64, devices: &[Reachable]) -> Composed {
        let published = self.published.iter().map(|kept| kept.statement.clone());
        let published: Vec<Statement> = published.collect();
        let facts = Facts {
            devices,
            sessions: self.sessions,
            on_call: self.calls.on_call(),
            set: self.set.as_ref(),
            published: &published,
        };
        let mut composed = compose(now_ms, &facts);
        if self.last.0 != composed.person.availability || self.last.1 == 0 {
            self.last = (composed.person.availability, now_ms);
        }
        composed.person.since_ms = self.last.1;
        composed
    }
}

type Entries = HashMap<AddressOfRecord, Entry>;
/// Publications by entity-tag that are to be written, or forgotten.
type Unwritten = HashMap<String, Option<Publication>>;
/// When something of a person ends by itself.
type Ends = BTreeSet<(u64, AddressOfRecord)>;

/// All persons.
#[derive(Debug)]
pub struct Board {
    limits: BoardLimits,
    entries: Mutex<Entries>,
    unwritten: Mutex<Unwritten>,
    ends: Mutex<Ends>,
    feed: broadcast::Sender<AddressOfRecord>,
}

impl Default for Board {
    fn default() -> Self {
        Self::new(BoardLimits::default())
    }
}

impl Board {
    /// Nobody is known.
    pub fn new(limits: BoardLimits) -> Self {
        Self {
            limits,
            entries: Mutex::default(),
            unwritten: Mutex::default(),
            ends: Mutex::default(),
            feed: broadcast::channel(FEED).0,
        }
    }

    /// The addresses whose presence may have changed, from now on.
    pub fn feed(&self) -> broadcast::Receiver<AddressOfRecord> {
        self.feed.subscribe()
    }

    /// Tells the feed.
    pub fn announce(&self, address: &AddressOfRecord) {
        if self.feed.receiver_count() > 0 {
            // They may all have gone since.
            let _ = self.feed.send(address.clone());
        }
    }

    /// The state of a person whose registered devices are these.
    pub fn person(
        &self,
        now_ms: u64,
        address: &AddressOfRecord,
        devices: &[Reachable],
    ) -> PersonPresence {
        self.change(address, |entry| entry.compose(now_ms, devices).person)
    }

    /// The document of a package that tells the whole state.
    pub fn document(
        &self,
        now_ms: u64,
        package: Package,
        address: &AddressOfRecord,
        view: View,
        devices: &[Reachable],
    ) -> Document {
        let plain = |text: String| Document {
            text: text.into(),
            ..Document::default()
        };
        self.change(address, |entry| match package {
            Package::Registration => Document::default(),
            Package::Presence if !view.shows() => plain(pidf::nobody(address)),
            Package::Presence => {
                let composed = entry.compose(now_ms, devices);
                let text = pidf::render(address, &composed, devices, entry.sessions);
                Document {
                    until_ms: composed.until_ms,
                    ..plain(text)
                }
            }
            Package::Dialog => dialog_info::render(address, view, entry.calls.shown()),
            Package::MessageSummary => {
                let (unread, read) = entry.waiting;
                plain(message_summary::render(address, unread, read))
            }
        })
    }

    /// How much of `address` somebody may see; no address: somebody in a trusted network. `None`: may not subscribe.
    ///
    /// Who is blocked is not refused: the refusal would tell (RFC 5025 §3.3.1).
    pub fn view(
        &self,
        package: Package,
        address: &AddressOfRecord,
        watcher: Option<&AddressOfRecord>,
    ) -> Option<View> {
        let Some(watcher) = watcher else {
            return Some(match package {
                Package::Registration | Package::MessageSummary => View::Own,
                Package::Presence | Package::Dialog => View::Others,
            });
        };
        if watcher == address {
            return Some(View::Own);
        }
        if matches!(package, Package::Registration | Package::MessageSummary) {
            return None;
        }
        let entries = self.entries();
        let entry = entries.get(address);
        let listed = |list: fn(&Entry) -> &HashSet<AddressOfRecord>| {
            entry.is_some_and(|entry| list(entry).contains(watcher))
        };
        let known = watcher.domain() == address.domain() || listed(|entry| &entry.approved);
        Some(match known {
            // Whoever has not been let in waits, and does not learn of a block either.
            false => View::Pending,
            true if listed(|entry| &entry.blocked) => View::Blocked,
            true => View::Others,
        })
    }

    /// Whether the first has blocked the second.
    pub fn blocks(&self, who: &AddressOfRecord, whom: &AddressOfRecord) -> bool {
        let entries = self.entries();
        let entry = entries.get(who);
        entry.is_some_and(|entry| entry.blocked.contains(whom))
    }

    /// Whether the first lets the second see it, though from another domain.
    pub fn approves(&self, who: &AddressOfRecord, whom: &AddressOfRecord) -> bool {
        let entries = self.entries();
        let entry = entries.get(who);
        entry.is_some_and(|entry| entry.approved.contains(whom))
    }

    /// Whether [`Board::permit`] has room for it.
    pub fn has_room(
        &self,
        address: &AddressOfRecord,
        watcher: &AddressOfRecord,
        change: PolicyChange,
    ) -> bool {
        let entries = self.entries();
        let list = entries.get(address).map(|entry| match change {
            PolicyChange::Block | PolicyChange::Unblock => &entry.blocked,
            PolicyChange::Approve | PolicyChange::Revoke => &entry.approved,
        });
        let adds = matches!(change, PolicyChange::Block | PolicyChange::Approve);
        list.is_none_or(|list| !adds || list.len() < self.limits.listed || list.contains(watcher))
    }

    /// Changes who may see whom; `false`: the list is full.
    pub fn permit(
        &self,
        address: &AddressOfRecord,
        watcher: &AddressOfRecord,
        change: PolicyChange,
    ) -> bool {
        let most = self.limits.listed;
        self.change(address, |entry| {
            let list = match change {
                PolicyChange::Block | PolicyChange::Unblock => &mut entry.blocked,
                PolicyChange::Approve | PolicyChange::Revoke => &mut entry.approved,
            };
            if matches!(change, PolicyChange::Unblock | PolicyChange::Revoke) {
                list.remove(watcher);
                return true;
            }
            let room = list.len() < most || list.contains(watcher);
            if room {
                list.insert(watcher.clone());
            }
            room
        })
    }

    /// What a person says of itself from now on; an empty one takes it back.
    pub fn set(&self, address: &AddressOfRecord, mut set: SetPresence) {
        if let Some((end, _)) = set.note.char_indices().nth(self.limits.note) {
            set.note.truncate(end);
        }
        let set = (!set.is_empty()).then_some(set);
        self.change_ends(address, |entry| entry.set = set);
    }

    /// How many sessions of the API a person has open; whether that is news.
    pub fn sessions(&self, address: &AddressOfRecord, open: u32) -> bool {
        self.change(address, |entry| {
            std::mem::replace(&mut entry.sessions, open) != open
        })
    }

    /// A PUBLISH of a device of the address's account; `etag` is new.
    pub fn publish(
        &self,
        now_ms: u64,
        message: &Message,
        address: &AddressOfRecord,
        who: (AccountId, DeviceId),
        etag: String,
    ) -> PublishAnswer {
        let limits = &self.limits.publish;
        let request = match Request::read(message, limits) {
            Ok(request) => request,
            Err(answer) => return answer.into(),
        };
        let new = etag.clone();
        let applied = self.change_ends(address, |entry| {
            let kept = &mut entry.published;
            let applied = publish::apply(kept, &request, who, etag, now_ms, limits)?;
            let written = kept.iter().find(|one| one.publication.etag == new);
            let written = written.map(|one| one.publication.clone());
            Ok::<_, EventAnswer>((applied, written))
        });
        match applied {
            Err(answer) => PublishAnswer::from(answer),
            Ok(((answer, gone), written)) => {
                let mut unwritten = self.unwritten();
                unwritten.extend(gone.map(|etag| (etag, None)));
                unwritten.extend(written.map(|one| (one.etag.clone(), Some(one))));
                PublishAnswer {
                    answer,
                    changed: true,
                }
            }
        }
    }

    /// A call of the user begins; whether that is shown.
    pub fn call_begins(&self, address: &AddressOfRecord, call: Call) -> bool {
        self.change(address, |entry| entry.calls.begin(call))
    }

    /// A call has come so far; whether that is news.
    pub fn call_goes_on(&self, address: &AddressOfRecord, id: &CallId, state: CallState) -> bool {
        let mut entries = self.entries();
        let entry = entries.get_mut(address);
        entry.is_some_and(|entry| entry.calls.go_on(id, state))
    }

    /// All calls of the user are over; whether there were any.
    pub fn calls_end(&self, address: &AddressOfRecord) -> bool {
        let mut entries = self.entries();
        let entry = entries.get_mut(address);
        entry.is_some_and(|entry| entry.calls.end_all())
    }

    /// So many messages no device has taken, and so many some device waits for; whether that is news.
    pub fn messages(&self, address: &AddressOfRecord, unread: u64, read: u64) -> bool {
        let waiting = (unread, read);
        self.change(address, |entry| {
            std::mem::replace(&mut entry.waiting, waiting) != waiting
        })
    }

    /// The account is gone.
    pub fn forget(&self, address: &AddressOfRecord) {
        let mut entries = self.entries();
        let entry = entries.remove(address);
        // Whoever gets the address is somebody else.
        for other in entries.values_mut() {
            other.blocked.remove(address);
            other.approved.remove(address);
        }
        drop(entries);
        if let Some(ends_ms) = entry.as_ref().and_then(|entry| entry.ends_ms) {
            self.ends().remove(&(ends_ms, address.clone()));
        }
        let published = entry.into_iter().flat_map(|entry| entry.published);
        let mut unwritten = self.unwritten();
        unwritten.extend(published.map(|kept| (kept.publication.etag, None)));
    }

    /// Takes over what an earlier run has kept.
    pub fn restore(&self, saved: SavedPresence) {
        for (address, set) in saved.set {
            self.set(&address, set);
        }
        for (address, publication) in saved.published {
            let kept = Kept::new(publication);
            self.change_ends(&address, |entry| entry.published.extend(kept));
        }
        for (address, watcher) in saved.blocked {
            self.permit(&address, &watcher, PolicyChange::Block);
        }
        for (address, watcher) in saved.approved {
            self.permit(&address, &watcher, PolicyChange::Approve);
        }
    }

    /// When [`Board::expire`] has something to do.
    pub fn next_end_ms(&self) -> Option<u64> {
        self.ends().first().map(|(at_ms, _)| *at_ms)
    }

    /// Forgets what has ended. Gives the persons whose state is another one by that: whoever watches is to be told.
    pub fn expire(&self, now_ms: u64) -> Vec<AddressOfRecord> {
        let mut changed = Vec::new();
        while let Some(address) = self.next_due(now_ms) {
            let mut entries = self.entries();
            let Some(entry) = entries.get_mut(&address) else {
                continue;
            };
            let gone = entry.end(now_ms);
            entry.ends_ms = None;
            self.note_end(&address, entry);
            drop(entries);
            if let Some(etags) = gone {
                self.unwritten()
                    .extend(etags.into_iter().map(|etag| (etag, None)));
                changed.push(address);
            }
        }
        changed
    }

    fn next_due(&self, now_ms: u64) -> Option<AddressOfRecord> {
        let mut ends = self.ends();
        let (at_ms, _) = ends.first()?;
        let due = *at_ms <= now_ms;
        let (_, address) = due.then(|| ends.pop_first()).flatten()?;
        Some(address)
    }

    /// Publications to be written, or forgotten, by entity-tag.
    pub fn take_unwritten(&self) -> Vec<(String, Option<Publication>)> {
        self.unwritten().drain().collect()
    }

    /// Gives back what could not be written; what is newer stays.
    pub fn give_back(&self, changes: Vec<(String, Option<Publication>)>) {
        let mut unwritten = self.unwritten();
        for (etag, change) in changes {
            unwritten.entry(etag).or_insert(change);
        }
    }

    fn change<T>(&self, address: &AddressOfRecord, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(address) {
            return change(entry);
        }
        change(entries.entry(address.clone()).or_default())
    }

    /// The same, for a change of what ends by itself.
    fn change_ends<T>(&self, address: &AddressOfRecord, change: impl FnOnce(&mut Entry) -> T) -> T {
        self.change(address, |entry| {
            let done = change(entry);
            self.note_end(address, entry);
            done
        })
    }

    fn note_end(&self, address: &AddressOfRecord, entry: &mut Entry) {
        let next_ms = entry.next_end_ms();
        let before_ms = std::mem::replace(&mut entry.ends_ms, next_ms);
        if before_ms == next_ms {
            return;
        }
        let mut ends = self.ends();
        before_ms.map(|at_ms| ends.remove(&(at_ms, address.clone())));
        ends.extend(next_ms.map(|at_ms| (at_ms, address.clone())));
    }

    /// A poisoned lock, here and below: a bug ended an earlier change of one entry; the others are whole.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
