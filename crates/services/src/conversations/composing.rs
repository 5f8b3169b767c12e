//! Who writes just now (RFC 3994): told to sessions and phones of the others, and kept for as long as it holds.
//!
//! *Invariant*: nothing of it is stored, and nobody writes for longer than was said.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sidetone_model::{AddressOfRecord, ConversationId, DeviceId};
use sidetone_sip::escape_user;

use super::live::{self, Live};
use super::post::overheard;
use super::sessions::{News, Typing};
use super::{Conversations, Outgoing, Place, PostError};

/// Who writes, at once; of more than these it is not told.
const COMPOSERS_MAX: usize = 65_536;
/// RFC 3994 §3.3: without another word, it holds for two minutes.
const HOLDS_S: u32 = 120;
/// RFC 3994 §3.2: phones are told again no sooner than this.
const PHONES_AGAIN_MS: u64 = 60_000;

/// Somebody writes, or stopped: for phones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composing {
    /// Name and URI of who writes.
    pub sender: String,
    /// The group that it is to; none where it is to one.
    pub group: Option<AddressOfRecord>,
    /// For how long; none when stopped.
    pub holds_s: Option<u32>,
    /// Phones of the others.
    pub devices: Vec<DeviceId>,
}

#[derive(Clone, Copy, Debug)]
struct Composer {
    until_ms: u64,
    phones_told_ms: u64,
}

type Key = (ConversationId, AddressOfRecord);

/// All who write.
#[derive(Debug, Default)]
pub(super) struct Composers {
    all: Mutex<HashMap<Key, Composer>>,
    count: AtomicUsize,
}

/// Who is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Everybody,
    Sessions,
    Nobody,
}

impl Composers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Composer>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    fn begin(&self, now_ms: u64, key: Key, holds_s: u32) -> Told {
        let mut all = self.lock();
        let until_ms = now_ms + u64::from(holds_s) * 1_000;
        if let Some(composer) = all.get_mut(&key) {
            composer.until_ms = until_ms;
            if now_ms.saturating_sub(composer.phones_told_ms) < PHONES_AGAIN_MS {
                return Told::Sessions;
            }
            composer.phones_told_ms = now_ms;
            return Told::Everybody;
        }
        if all.len() >= COMPOSERS_MAX {
            return Told::Nobody;
        }
        let phones_told_ms = now_ms;
        let composer = Composer {
            until_ms,
            phones_told_ms,
        };
        all.insert(key, composer);
        self.count.store(all.len(), Ordering::Relaxed);
        Told::Everybody
    }

    fn end(&self, key: &Key) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut all = self.lock();
        let was = all.remove(key).is_some();
        self.count.store(all.len(), Ordering::Relaxed);
        was
    }

    fn expired(&self, now_ms: u64) -> Vec<Key> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut all = self.lock();
        let over = all.iter().filter(|(_, one)| one.until_ms <= now_ms);
        let over: Vec<Key> = over.map(|(key, _)| key.clone()).collect();
        all.retain(|_, one| one.until_ms > now_ms);
        self.count.store(all.len(), Ordering::Relaxed);
        over
    }
}

impl Conversations {
    /// Somebody writes, or stopped.
    ///
    /// # Errors
    /// [`PostError::Unknown`] where this person is not in the conversation.
    pub async fn typing(
        &self,
        now_ms: u64,
        id: ConversationId,
        person: &AddressOfRecord,
        active: bool,
    ) -> Result<(), PostError> {
        let live = self.open_for(id, person).await?;
        let live = live::lock(&live);
        self.compose(now_ms, &live, person, active.then_some(HOLDS_S))
    }

    /// The same, said by a phone to an address; `holds_s`: for how long.
    ///
    /// # Errors
    /// [`PostError::Unknown`] where this person is not in the group.
    pub async fn composing(
        &self,
        now_ms: u64,
        person: &AddressOfRecord,
        to: &AddressOfRecord,
        holds_s: Option<u32>,
    ) -> Result<(), PostError> {
        if person == to {
            return Err(PostError::Refused("nobody writes to himself".to_owned()));
        }
        let group = self.groups.id_of(to.as_str());
        let id = match group {
            Some(id) => Some(id),
            None => self.pair_of(person, to).await?,
        };
        // Nothing has been said yet: there is no conversation to be told of it.
        let Some(id) = id else { return Ok(()) };
        let live = self.open_for(id, person).await?;
        let live = live::lock(&live);
        if group.is_none() && overheard(&live, person, to).is_some() {
            return Ok(());
        }
        self.compose(now_ms, &live, person, holds_s)
    }

    /// The number of the conversation of two, if there is one.
    async fn pair_of(
        &self,
        a: &AddressOfRecord,
        b: &AddressOfRecord,
    ) -> Result<Option<ConversationId>, PostError> {
        let place = Place::Pair(a.clone(), b.clone());
        if let Some(live) = self.cached(&place) {
            return Ok(Some(live::lock(&live).id()));
        }
        let (a, b) = super::pair_key(a, b);
        Ok(self.store.conversation_of_pair((&a, &b)).await?)
    }

    fn compose(
        &self,
        now_ms: u64,
        live: &Live,
        person: &AddressOfRecord,
        holds_s: Option<u32>,
    ) -> Result<(), PostError> {
        if !live.machine.is_member(person) {
            return Err(PostError::Unknown);
        }
        let key = (live.id(), person.clone());
        let told = match holds_s {
            Some(holds_s) => self.composers.begin(now_ms, key, holds_s),
            None if self.composers.end(&key) => Told::Everybody,
            // Sessions may have been told by an earlier run.
            None => Told::Sessions,
        };
        self.tell_composing(live, person, holds_s, told);
        Ok(())
    }

    fn tell_composing(
        &self,
        live: &Live,
        person: &AddressOfRecord,
        holds_s: Option<u32>,
        told: Told,
    ) {
        if told == Told::Nobody {
            return;
        }
        let mut others = live.members();
        others.retain(|member| member != person);
        self.without_blocked(live.machine.kind(), person, &mut others);
        let typing = Typing {
            conversation: live.id(),
            member: person.clone(),
            active: holds_s.is_some(),
        };
        self.sessions.tell(&others, &News::Typing(typing.into()));
        if told != Told::Everybody {
            return;
        }
        let devices = others
            .iter()
            .filter_map(|member| self.directory.find(member.as_str()))
            .flat_map(|account| self.directory.devices(account.account))
            .collect();
        let composing = Composing {
            sender: format!("<{}>", uri_of(person)),
            group: live.grown.then(|| live.address().clone()),
            holds_s,
            devices,
        };
        self.tell_phones(Outgoing::Composing(composing));
    }

    /// What was written is there: nobody writes it any more. Phones know by the message itself (RFC 3994 §3.3).
    pub(super) fn composed(
        &self,
        id: ConversationId,
        author: &AddressOfRecord,
        to: &[AddressOfRecord],
    ) {
        if self.composers.end(&(id, author.clone())) {
            let typing = Typing {
                conversation: id,
                member: author.clone(),
                active: false,
            };
            self.sessions.tell(to, &News::Typing(typing.into()));
        }
    }

    /// Ends what was said to hold until now, and was not said again.
    pub fn compose_timeout(&self, now_ms: u64) {
        for (id, person) in self.composers.expired(now_ms) {
            if let Some(live) = self.cached(&Place::Of(id)) {
                let live = live::lock(&live);
                self.tell_composing(&live, &person, None, Told::Everybody);
            }
        }
    }

    pub(super) fn tell_phones(&self, outgoing: Outgoing) {
        if let Some(tell) = self.tell.get() {
            tell(outgoing);
        }
    }
}

/// The SIP URI of an address.
pub(super) fn uri_of(address: &AddressOfRecord) -> String {
    format!("sip:{}@{}", escape_user(address.user()), address.domain())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: i64) -> Key {
        (
            ConversationId(n),
            "ann@example.com".parse().expect("an address"),
        )
    }

    #[test]
    fn phones_are_told_at_the_beginning_and_once_a_minute() {
        let composers = Composers::default();
        let at = |s: u64| composers.begin(s * 1_000, key(1), 120);
        assert_eq!(at(0), Told::Everybody);
        assert_eq!(at(5), Told::Sessions);
        assert_eq!(at(59), Told::Sessions);
        assert_eq!(at(60), Told::Everybody);
        assert_eq!(at(61), Told::Sessions);
        assert!(composers.end(&key(1)) && !composers.end(&key(1)));
        assert_eq!(at(62), Told::Everybody);
    }

    #[test]
    fn it_holds_for_as_long_as_was_said() {
        let composers = Composers::default();
        composers.begin(0, key(1), 60);
        composers.begin(0, key(2), 120);
        assert!(composers.expired(59_999).is_empty());
        composers.begin(59_999, key(1), 60);
        assert!(composers.expired(60_000).is_empty(), "said again");
        let mut over = composers.expired(120_000);
        over.sort();
        assert_eq!(over, [key(1), key(2)]);
        assert!(composers.is_empty());
    }

    #[test]
    fn there_is_a_bound() {
        let composers = Composers::default();
        let many = i64::try_from(COMPOSERS_MAX).expect("a number");
        for n in 0..many {
            assert_eq!(composers.begin(0, key(n), 60), Told::Everybody);
        }
        assert_eq!(composers.begin(0, key(many), 60), Told::Nobody);
    }
}
