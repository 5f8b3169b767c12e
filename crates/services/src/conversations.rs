//! Conversations at work: finds or begins them, lets their machines decide, commits, and tells who has to know.
//!
//! Each conversation in use has its machine in memory, behind a lock of its own that is held for
//! no wait. Its events go into the writer's queue in their order under that lock, so they are
//! committed and told in that order.
//!
//! *Invariant*: nobody is told what is not committed. What could not be committed makes its
//! conversation be read anew from the store, so that memory and disk never differ for long.

mod blocks;
mod composing;
mod groups;
mod lines;
mod live;
mod managed;
mod post;
pub mod reading;
mod receipts;
mod sessions;
mod shown;
mod unsettled;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sidetone_conversation::{Authority, Command, Input, Refusal};
use sidetone_model::{
    AccountId, AddressOfRecord, ConversationId, DeviceId, Origin, ParticipantRole, StoredMessage,
};
use sidetone_sip::entropy::Entropy;
use sidetone_sip::escape_user;
use sidetone_store::{Found, Store, StoreError, Writer};

use crate::files::{self, Links};
use crate::{Board, Directory};
pub use composing::Composing;
pub use groups::Groups;
use live::Live;
use post::Envelope;
pub use post::{Done, Outcome, Post};
pub use sessions::{ContactChange, ContactNews, News, Session, Sessions, Typing};
pub use shown::{Shown, Withdrawn};

/// Conversations kept in memory; those that were used longest ago make room.
const LIVE_MAX: usize = 32_768;
/// Conversations read or begun at once.
const OPENING: usize = 64;

/// Why nothing was posted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The store takes nothing now; again later.
    #[error("the message could not be stored now")]
    Busy,
    /// The store cannot take it.
    #[error("the message could not be stored")]
    Failed,
    /// It is not allowed, and why.
    #[error("{0}")]
    Refused(String),
    /// One has blocked the other; which one.
    #[error("{0}")]
    Blocked(&'static str),
    /// There is no such conversation, for this person at least.
    #[error("there is no such conversation")]
    Unknown,
}

impl From<Refusal> for PostError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // Nobody learns of a conversation that is not theirs.
            Refusal::NotAMember => Self::Unknown,
            refusal => Self::Refused(refusal.to_string()),
        }
    }
}

impl From<StoreError> for PostError {
    fn from(error: StoreError) -> Self {
        match error.is_temporary() {
            true => Self::Busy,
            false => Self::Failed,
        }
    }
}

/// A message that devices are to get now.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The message.
    pub message: Arc<StoredMessage>,
    /// The devices.
    pub devices: Vec<DeviceId>,
    /// Accounts that had no device when it was sent.
    pub accounts: Vec<AccountId>,
}

/// What phones are to get.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// A message that was committed.
    Posted(Posted),
    /// Word that somebody writes.
    Composing(Composing),
}

/// Brings something to phones; called from the writer's thread, too, so it must not block.
pub type Tell = Box<dyn Fn(Outgoing) + Send + Sync>;

/// All conversations of this node.
pub struct Conversations {
    store: Store,
    writer: Writer,
    directory: Arc<Directory>,
    groups: Arc<Groups>,
    board: Arc<Board>,
    sessions: Sessions,
    composers: composing::Composers,
    refusals: receipts::Refusals,
    live: Mutex<Table>,
    /// A place is read or begun by one at a time, so that none is twice.
    opening: Box<[tokio::sync::Mutex<()>]>,
    hasher: RandomState,
    /// Names of groups are given one after the other.
    naming: tokio::sync::Mutex<()>,
    /// How often something was put away of which the writer may still have had events.
    put_away: AtomicU64,
    /// All of which, up to this number, it has none any more.
    settled: AtomicU64,
    next_id: AtomicI64,
    names: Entropy,
    tell: OnceLock<Tell>,
    links: OnceLock<Links>,
}

#[derive(Default)]
struct Table {
    by_id: HashMap<ConversationId, Arc<Mutex<Live>>>,
    pairs: HashMap<PairKey, ConversationId>,
    uses: u64,
}

/// The two of a pair, the lesser first.
type PairKey = (AddressOfRecord, AddressOfRecord);

fn pair_key(a: &AddressOfRecord, b: &AddressOfRecord) -> PairKey {
    match a <= b {
        true => (a.clone(), b.clone()),
        false => (b.clone(), a.clone()),
    }
}

/// Which conversation something is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// That of two.
    Pair(AddressOfRecord, AddressOfRecord),
    /// One that there is.
    Of(ConversationId),
}

impl Conversations {
    /// Reads what has to be known from the start. `names`: secret bits for the addresses of pairs.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn start(
        store: Store,
        writer: Writer,
        directory: Arc<Directory>,
        groups: Arc<Groups>,
        board: Arc<Board>,
        names: u128,
    ) -> Result<Self, StoreError> {
        for (address, id) in store.group_addresses().await? {
            groups.add(address, id);
        }
        let last = store.last_conversation().await?.0;
        Ok(Self {
            next_id: AtomicI64::new(last + 1),
            names: Entropy::new(names),
            sessions: Sessions::default(),
            composers: composing::Composers::default(),
            refusals: receipts::Refusals::default(),
            live: Mutex::default(),
            opening: (0..OPENING)
                .map(|_| tokio::sync::Mutex::default())
                .collect(),
            hasher: RandomState::new(),
            naming: tokio::sync::Mutex::default(),
            put_away: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            tell: OnceLock::new(),
            links: OnceLock::new(),
            store,
            writer,
            directory,
            groups,
            board,
        })
    }

    /// Sets who brings messages to devices; once, before anything is posted.
    pub fn deliver_by(&self, tell: Tell) {
        // A second one would be a mistake of ours that the first test finds.
        let _ = self.tell.set(tell);
    }

    /// Sets how phones, which cannot sign in, are led to files; once, before anything is posted.
    pub fn link_by(&self, links: Links) {
        // As above.
        let _ = self.links.set(links);
    }

    /// A message as a phone is to get it: with a link in the place of a file.
    pub fn for_phone(&self, now_ms: u64, mut message: StoredMessage) -> StoredMessage {
        if let Some(links) = self.links.get() {
            files::for_phone(&mut message, links, now_ms);
        }
        message
    }

    /// What is told at once to whoever asks.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The store, for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The conversation, if it is in memory.
    fn cached(&self, place: &Place) -> Option<Arc<Mutex<Live>>> {
        let mut table = self.table();
        table.uses += 1;
        let uses = table.uses;
        let id = match place {
            Place::Of(id) => *id,
            Place::Pair(a, b) => *table.pairs.get(&pair_key(a, b))?,
        };
        let live = Arc::clone(table.by_id.get(&id)?);
        drop(table);
        live::lock(&live).used = uses;
        Some(live)
    }

    /// The conversation, read or, for a pair, begun.
    async fn open(&self, place: &Place, now_ms: u64) -> Result<Arc<Mutex<Live>>, PostError> {
        if let Some(live) = self.cached(place) {
            return Ok(live);
        }
        let _only = self.opening_of(place).lock().await;
        if let Some(live) = self.cached(place) {
            return Ok(live);
        }
        self.settle().await?;
        let id = match place {
            Place::Of(id) => Some(*id),
            Place::Pair(a, b) => {
                let (a, b) = pair_key(a, b);
                self.store.conversation_of_pair((&a, &b)).await?
            }
        };
        let found = match id {
            Some(id) => self.store.conversation(id).await?,
            None => None,
        };
        let live = match (found, place) {
            (Some(found), _) => self.restored(found).await?,
            (None, Place::Pair(a, b)) => self.begin_pair(a, b, now_ms)?,
            (None, Place::Of(_)) => return Err(PostError::Unknown),
        };
        Ok(self.keep(live))
    }

    async fn restored(&self, found: Found) -> Result<Live, PostError> {
        let after = found.last_seq.saturating_sub(unsettled::WINDOW);
        let recent = self.store.recent(found.conversation.id, after).await?;
        Ok(Live::stored(found, &recent)?)
    }

    fn opening_of(&self, place: &Place) -> &tokio::sync::Mutex<()> {
        let hash = match place {
            Place::Of(id) => self.hasher.hash_one(id),
            Place::Pair(a, b) => self.hasher.hash_one(pair_key(a, b)),
        };
        let [low, ..] = hash.to_le_bytes();
        &self.opening[usize::from(low) % OPENING]
    }

    /// What is under way for a conversation that was put away has to be seen. One that was put away
    /// to make room has nothing under way: that would hold it.
    async fn settle(&self) -> Result<(), PostError> {
        let number = self.put_away.load(Ordering::Acquire);
        if self.settled.load(Ordering::Acquire) < number {
            self.writer.flush().await?;
            self.settled.fetch_max(number, Ordering::AcqRel);
        }
        Ok(())
    }

    /// A conversation that somebody names; who was never in it costs one look.
    async fn open_for(
        &self,
        id: ConversationId,
        person: &AddressOfRecord,
    ) -> Result<Arc<Mutex<Live>>, PostError> {
        let place = Place::Of(id);
        if let Some(live) = self.cached(&place) {
            return Ok(live);
        }
        if !self.store.is_known_in(id, person).await? {
            return Err(PostError::Unknown);
        }
        self.open(&place, 0).await
    }

    fn begin_pair(
        &self,
        a: &AddressOfRecord,
        b: &AddressOfRecord,
        now_ms: u64,
    ) -> Result<Live, PostError> {
        let id = self.new_id();
        let ours = self.directory.find(b.as_str()).map_or(a, |_| b);
        let address = self.new_address(id, ours.domain())?;
        Live::pair(id, address, a, b, now_ms)
    }

    fn new_id(&self) -> ConversationId {
        ConversationId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Nobody guesses it, and it is no name that anybody would give.
    fn new_address(&self, id: ConversationId, domain: &str) -> Result<AddressOfRecord, PostError> {
        let digest = self.names.digest(&[&id.0.to_be_bytes()]);
        let user = format!("c{}-{:08x}", id.0, digest >> 96);
        AddressOfRecord::new(&user, domain).map_err(|_| PostError::Failed)
    }

    fn keep(&self, live: Live) -> Arc<Mutex<Live>> {
        let id = live.id();
        let pair = live.pair_key();
        let live = Arc::new(Mutex::new(live));
        let mut table = self.table();
        let known = table.by_id.get(&id);
        if let Some(known) = known {
            // It was read by its number and by its pair at once.
            return Arc::clone(known);
        }
        make_room(&mut table);
        if let Some(pair) = pair {
            table.pairs.insert(pair, id);
        }
        table.by_id.insert(id, Arc::clone(&live));
        live
    }

    /// Whether this is the conversation that all use.
    fn is_current(&self, live: &Arc<Mutex<Live>>, id: ConversationId) -> bool {
        let table = self.table();
        table
            .by_id
            .get(&id)
            .is_some_and(|known| Arc::ptr_eq(known, live))
    }

    /// Something could not be committed: the store knows what is. Under the conversation's lock, so
    /// that whoever appends to it has done so before it is read anew, or learns that it is not current.
    fn forget(&self, live: &Mutex<Live>, id: ConversationId) {
        let _held = live::lock(live);
        self.put_away(id);
    }

    /// The two have parted: another message between them begins another conversation.
    fn unpair(&self, id: ConversationId) {
        let mut table = self.table();
        table.pairs.retain(|_, known| *known != id);
    }

    /// The same, for who holds the lock.
    fn put_away(&self, id: ConversationId) {
        let mut table = self.table();
        self.put_away.fetch_add(1, Ordering::AcqRel);
        table.by_id.remove(&id);
        table.pairs.retain(|_, known| *known != id);
    }

    /// The conversation of two, begun where there was none.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn pair(
        self: &Arc<Self>,
        now_ms: u64,
        caller: &Caller,
        other: &AddressOfRecord,
    ) -> Result<ConversationId, PostError> {
        self.may_reach(&caller.address, other)?;
        let place = Place::Pair(caller.address.clone(), other.clone());
        // A second time where a first message that came at the same moment has begun it and was not taken.
        for _ in 0..2 {
            let live = self.open(&place, now_ms).await?;
            let id = live::lock(&live).id();
            self.save(&live, self.opening(now_ms, caller, id)).await?;
            if !live::lock(&live).unsaved {
                return Ok(id);
            }
        }
        Err(PostError::Busy)
    }

    fn opening(&self, now_ms: u64, caller: &Caller, id: ConversationId) -> Envelope {
        let digest = self.names.digest(&[b"opening", &id.0.to_be_bytes()]);
        Envelope {
            sender: caller.sender(),
            origin: Origin(digest.to_be_bytes()),
            keyed: false,
            received_ms: now_ms,
            body: None,
        }
    }

    /// Does what somebody wants done in a conversation.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn command(
        self: &Arc<Self>,
        now_ms: u64,
        caller: &Caller,
        order: Order,
    ) -> Result<Outcome, PostError> {
        let live = self.open_for(order.conversation, &caller.address).await?;
        self.may_do(&live, &caller.address, &order.command)?;
        let authority = Authority::Participant;
        self.carry_out(now_ms, &live, caller, authority, order)
            .await
    }

    async fn carry_out(
        self: &Arc<Self>,
        now_ms: u64,
        live: &Arc<Mutex<Live>>,
        caller: &Caller,
        authority: Authority,
        order: Order,
    ) -> Result<Outcome, PostError> {
        let input = Input::Command {
            author: caller.address.clone(),
            authority,
            command: order.command,
        };
        let envelope = Envelope {
            sender: caller.sender(),
            origin: order.origin,
            keyed: order.keyed,
            received_ms: now_ms,
            body: None,
        };
        let (answer, answered) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop::<Result<_, _>>(answer.send(result)));
        self.perform(live, input, envelope, done);
        answered.await.map_err(|_| PostError::Busy)?
    }
}

/// Makes room for one more: the tenth that was used longest ago goes.
fn make_room(table: &mut Table) {
    if table.by_id.len() < LIVE_MAX {
        return;
    }
    let mut uses: Vec<(u64, ConversationId)> = table
        .by_id
        .iter()
        .filter(|(_, live)| Arc::strong_count(live) == 1)
        .map(|(id, live)| (live::lock(live).used, *id))
        .collect();
    uses.sort_unstable();
    let gone: HashSet<ConversationId> = uses
        .into_iter()
        .take(LIVE_MAX / 10)
        .map(|(_, id)| id)
        .collect();
    table.by_id.retain(|id, _| !gone.contains(id));
    table.pairs.retain(|_, id| !gone.contains(id));
}

/// Somebody who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address of the account.
    pub address: AddressOfRecord,
    /// The name to show; may be empty.
    pub name: String,
}

impl Caller {
    /// Display name and URI.
    fn sender(&self) -> String {
        let address = &self.address;
        let uri = format!("sip:{}@{}", escape_user(address.user()), address.domain());
        let name: String = self
            .name
            .chars()
            .filter(|c| !c.is_control() && !matches!(c, '"' | '\\'))
            .collect();
        match name.is_empty() {
            true => format!("<{uri}>"),
            false => format!("\"{name}\" <{uri}>"),
        }
    }
}

/// A group that is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGroup {
    /// Who begins it, and owns it unless it is managed.
    pub creator: AddressOfRecord,
    /// The user part of its address; none for one that is made up.
    pub name: Option<String>,
    /// The others.
    pub members: Vec<(AddressOfRecord, ParticipantRole)>,
    /// May be empty.
    pub subject: String,
    /// An administrator makes it, who is in it only when listed.
    pub managed: bool,
}

/// What somebody wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where.
    pub conversation: ConversationId,
    /// What.
    pub command: Command,
    /// What it is recognised by when it comes again.
    pub origin: Origin,
    /// The origin is a key that the caller chose.
    pub keyed: bool,
}
