//! Who is told at once: sessions of the API, by whose they are.
//!
//! *Invariant*: a session gets events in the order of their numbers, or learns that it has missed
//! some and reads them; nobody waits for one that is slow.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidetone_model::{AddressOfRecord, Event};
use tokio::sync::mpsc;

/// What waits for a session that is slow; more makes it read from the store.
const QUEUE: usize = 64;

/// What a session is told.
#[derive(Clone, Debug)]
pub enum News {
    /// Something happened in a conversation of this person.
    Event(Arc<Event>),
    /// Somebody has got so far.
    Receipt(Arc<sidetone_store::Watermark>),
    /// Some messages will not reach somebody.
    Failed(Arc<sidetone_store::Failure>),
    /// Somebody writes, or stopped.
    Typing(Arc<Typing>),
    /// Something of contacts, requests or blocks.
    Contact(Arc<ContactNews>),
}

/// Something of a person's contacts, requests or blocks has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactNews {
    /// The other one.
    pub address: AddressOfRecord,
    /// What.
    pub change: ContactChange,
}

/// What has changed of contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactChange {
    /// The other one is on the list now.
    Added,
    /// And is not any more.
    Removed,
    /// The other one asks to see this person.
    Asked,
    /// And does not any more.
    Withdrawn,
    /// This person has answered the other one's request.
    Answered,
    /// The other one lets this person see what it does.
    Accepted,
    /// The other one does not.
    Refused,
    /// The other one is blocked.
    Blocked,
    /// And is not any more.
    Unblocked,
}

impl ContactChange {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Asked => "asked",
            Self::Withdrawn => "withdrawn",
            Self::Answered => "answered",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
            Self::Unblocked => "unblocked",
        }
    }
}

/// Somebody writes in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typing {
    /// Where.
    pub conversation: sidetone_model::ConversationId,
    /// Who.
    pub member: AddressOfRecord,
    /// Or stopped.
    pub active: bool,
}

#[derive(Debug)]
struct Listener {
    number: usize,
    queue: mpsc::Sender<News>,
    missed: Arc<AtomicBool>,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    by_address: Mutex<HashMap<AddressOfRecord, Vec<Listener>>>,
    numbers: AtomicUsize,
}

/// One session's ear; dropping it ends it.
pub struct Session {
    sessions: Arc<super::Conversations>,
    address: AddressOfRecord,
    number: usize,
    queue: mpsc::Receiver<News>,
    missed: Arc<AtomicBool>,
}

impl Sessions {
    /// Tells all sessions of these people.
    pub(super) fn tell<'a>(
        &self,
        people: impl IntoIterator<Item = &'a AddressOfRecord>,
        news: &News,
    ) {
        let all = self.lock();
        let event = matches!(news, News::Event(_));
        for listener in people.into_iter().filter_map(|who| all.get(who)).flatten() {
            // After one that was missed none is told: it would be taken for the last that was seen.
            if event && listener.missed.load(Ordering::Acquire) {
                continue;
            }
            // What is not kept is not missed: there will be a next receipt.
            if listener.queue.try_send(news.clone()).is_err() && event {
                listener.missed.store(true, Ordering::Release);
            }
        }
    }

    /// Tells a person's sessions of contacts.
    pub fn tell_contact(
        &self,
        person: &AddressOfRecord,
        address: &AddressOfRecord,
        change: ContactChange,
    ) {
        let address = address.clone();
        let news = ContactNews { address, change };
        self.tell([person], &News::Contact(news.into()));
    }

    /// How many sessions a person has.
    pub fn count(&self, address: &AddressOfRecord) -> usize {
        self.lock().get(address).map_or(0, Vec::len)
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AddressOfRecord, Vec<Listener>>> {
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, address: &AddressOfRecord, number: usize) {
        let mut all = self.lock();
        let Some(listeners) = all.get_mut(address) else {
            return;
        };
        listeners.retain(|listener| listener.number != number);
        if listeners.is_empty() {
            all.remove(address);
        }
    }
}

impl super::Conversations {
    /// Begins to listen for a person. What happens from now on is told; what happened before is
    /// read from the store after this call.
    pub fn listen(self: &Arc<Self>, address: AddressOfRecord) -> Session {
        let (sender, queue) = mpsc::channel(QUEUE);
        let missed = Arc::new(AtomicBool::new(false));
        let number = self.sessions.numbers.fetch_add(1, Ordering::Relaxed);
        let listener = Listener {
            number,
            queue: sender,
            missed: Arc::clone(&missed),
        };
        self.sessions
            .lock()
            .entry(address.clone())
            .or_default()
            .push(listener);
        Session {
            sessions: Arc::clone(self),
            address,
            number,
            queue,
            missed,
        }
    }
}

impl Session {
    /// Whether [`Session::next`] has something at once.
    pub fn has_news(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next news; `None`: some were missed, read them from the store. Cancel safe.
    pub async fn next(&mut self) -> Option<News> {
        let news = self.queue.recv().await;
        // What is missed came after what is in the queue.
        let told_all = self.queue.is_empty();
        if told_all && self.missed.swap(false, Ordering::AcqRel) {
            return None;
        }
        news
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.sessions.end(&self.address, self.number);
    }
}
