//! From a command to what is committed, and from there to phones and sessions.
//!
//! *Invariant*: a conversation's events are handed to the writer in their order, under its lock.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sidetone_conversation::{Authority, Command, Content, Input, Output};
use sidetone_model::{
    AccountId, AddressOfRecord, Event, EventBody, EventId, Kind, MessageId, NewEvent, NewMessage,
    Origin, Place as Row, Receipt, StoredMessage, TextFormat,
};
use sidetone_store::{Appended, Change, Recipients, StoreError, encode};

use super::composing::uri_of;
use super::lines;
use super::live::{self, Live};
use super::sessions::News;
use super::{Conversations, Outgoing, Place, PostError, Posted};
use crate::carried;

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The number of the last event, also where it had been stored before.
    pub id: EventId,
    /// What was appended now; nothing where it had been stored before.
    pub events: Vec<Event>,
}

/// Called once, after the commit.
pub type Done = Box<dyn FnOnce(Result<Outcome, PostError>) + Send>;

/// A MESSAGE whose conversation has to be read first.
pub struct Post {
    author: AddressOfRecord,
    message: NewMessage,
    done: Done,
}

impl Post {
    /// Reads the conversation, or begins it, and posts.
    pub async fn post(self, conversations: &Arc<Conversations>) {
        let place = conversations.place_of(&self.author, &self.message);
        let opened = match place {
            Some(place) => conversations.open(&place, self.message.received_ms).await,
            None => Err(PostError::Unknown),
        };
        match opened {
            Ok(live) => conversations.post_to(&live, self),
            Err(error) => (self.done)(Err(error)),
        }
    }
}

/// What comes with a command besides what the conversation's machine needs.
pub(super) struct Envelope {
    /// Display name and URI of the author.
    pub(super) sender: String,
    pub(super) origin: Origin,
    /// The origin is a key that the author chose.
    pub(super) keyed: bool,
    pub(super) received_ms: u64,
    /// The body as it came, which goes on to phones as it came.
    pub(super) body: Option<Body>,
}

pub(super) struct Body {
    content_type: String,
    headers: String,
    octets: Bytes,
}

/// An event with those it is for.
struct Item {
    event: NewEvent,
    to: Vec<AddressOfRecord>,
}

/// Collects the events of one command until all are committed.
struct Gathering {
    events: Vec<Event>,
    left: usize,
    done: Option<Done>,
}

impl Conversations {
    /// Posts a MESSAGE; gives it back where its conversation is not in memory.
    pub fn try_post(
        self: &Arc<Self>,
        author: AddressOfRecord,
        message: NewMessage,
        done: Done,
    ) -> Option<Post> {
        let post = Post {
            author,
            message,
            done,
        };
        if post.message.account != AccountId(0)
            && let Err(error) = self.may_say(&post.author, &post.message.to)
        {
            (post.done)(Err(error));
            return None;
        }
        let place = self.place_of(&post.author, &post.message);
        match place.and_then(|place| self.cached(&place)) {
            Some(live) => {
                self.post_to(&live, post);
                None
            }
            None => Some(post),
        }
    }

    fn place_of(&self, author: &AddressOfRecord, message: &NewMessage) -> Option<Place> {
        if message.account == AccountId(0) {
            return self.groups.id_of(message.to.as_str()).map(Place::Of);
        }
        Some(Place::Pair(author.clone(), message.to.clone()))
    }

    fn post_to(self: &Arc<Self>, live: &Arc<Mutex<Live>>, post: Post) {
        let message = post.message;
        if message.account != AccountId(0)
            && let Some(why) = overheard(&live::lock(live), &post.author, &message.to)
        {
            return (post.done)(Err(PostError::Refused(why)));
        }
        let input = Input::Command {
            author: post.author,
            authority: Authority::Participant,
            command: Command::Post(content(&message)),
        };
        let envelope = Envelope {
            sender: message.from,
            origin: message.origin,
            keyed: message.keyed,
            received_ms: message.received_ms,
            body: Some(Body {
                content_type: message.content_type,
                headers: message.headers,
                octets: message.body,
            }),
        };
        self.perform(live, input, envelope, post.done);
    }

    /// Lets the machine decide, and hands what it says to the writer.
    pub(super) fn perform(
        self: &Arc<Self>,
        live: &Arc<Mutex<Live>>,
        input: Input,
        envelope: Envelope,
        done: Done,
    ) {
        let slot = live;
        let mut live = live::lock(slot);
        if !self.is_current(slot, live.id()) {
            // Put away while we waited: what the store has may be another state.
            return done(Err(PostError::Busy));
        }
        live.machine.handle_input(envelope.received_ms, input);
        let items = match drain(&mut live) {
            Ok((items, given_up)) => {
                let tell = |receipt| self.told_failed(&live, receipt);
                given_up.iter().for_each(tell);
                items
            }
            Err(error) => {
                if live.unsaved {
                    // Its beginning has gone with what was refused: it begins anew with the next.
                    self.put_away(live.id());
                }
                return done(Err(error));
            }
        };
        if items.is_empty() {
            // Nothing changes: what was asked for is so already.
            let outcome = Outcome {
                id: EventId(0),
                events: Vec::new(),
            };
            return done(Ok(outcome));
        }
        self.commit(slot, &mut live, items, envelope, done);
    }

    /// Commits the event that begins a conversation, where nothing has been said in it yet.
    pub(super) async fn save(
        self: &Arc<Self>,
        live: &Arc<Mutex<Live>>,
        envelope: Envelope,
    ) -> Result<(), PostError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let begun_by_another = {
            let slot = live;
            let mut live = live::lock(slot);
            let (items, _) = drain(&mut live)?;
            let begins = !items.is_empty();
            let unsaved = live.unsaved;
            if begins {
                let done = Box::new(move |result: Result<Outcome, PostError>| {
                    // Who began it may have gone.
                    let _ = answer.send(result.map(drop));
                });
                self.commit(slot, &mut live, items, envelope, done);
            }
            (!begins).then_some(unsaved)
        };
        match begun_by_another {
            None => answered.await.map_err(|_| PostError::Busy)?,
            // A first message that came at the same time has begun it, and is on its way to the disk.
            Some(true) => Ok(self.writer.flush().await?),
            Some(false) => Ok(()),
        }
    }

    fn commit(
        self: &Arc<Self>,
        slot: &Arc<Mutex<Live>>,
        live: &mut Live,
        items: Vec<Item>,
        mut envelope: Envelope,
        done: Done,
    ) {
        live.grown |= live.machine.kind() != Kind::Pair;
        let changes = live.unsaved || items.iter().any(|item| changes_state(&item.event.body));
        let mut change = changes.then(|| Box::new(live.change()));
        if changes && live.machine.pair().is_none() {
            self.unpair(live.id());
        }
        if live.grown {
            self.groups.add(live.address().clone(), live.id());
        }
        let gathering = Arc::new(Mutex::new(Gathering {
            events: Vec::with_capacity(items.len()),
            left: items.len(),
            done: Some(done),
        }));
        let count = items.len();
        for (at, item) in items.into_iter().enumerate() {
            // The origin stands for the last one, which is what was asked for.
            let last = at + 1 == count;
            let body = envelope.body.take_if(|_| item.event.body.is_message());
            let origin = match last {
                true => envelope.origin,
                false => origin_before(envelope.origin, at),
            };
            let message = new_message(live, &item, &envelope, origin, body);
            if item.event.body.is_message() {
                live.note_author(item.event.seq, &item.event.author);
            }
            live.ask(item.event.seq, &item.event.author, &message.headers);
            let mut witnesses = item.to.clone();
            witnesses.push(item.event.author.clone());
            if !self.append(slot, message, item, witnesses, change.take(), &gathering) {
                // What comes after what is not there is not there either.
                return;
            }
        }
    }

    fn append(
        self: &Arc<Self>,
        slot: &Arc<Mutex<Live>>,
        message: NewMessage,
        item: Item,
        witnesses: Vec<AddressOfRecord>,
        change: Option<Box<Change>>,
        gathering: &Arc<Mutex<Gathering>>,
    ) -> bool {
        let recipients = self.recipients(&item);
        let (conversations, slot) = (Arc::clone(self), Arc::clone(slot));
        let gathered = Arc::clone(gathering);
        let saves = change.is_some();
        let stored = message.clone();
        let (to, event) = (recipients.clone(), item.event);
        let id = event.conversation;
        let done = Box::new(move |result: Result<Appended, StoreError>| {
            match &result {
                // The machine has counted what the store has where it was the first time, or has not.
                Ok(Appended { known: true, .. }) | Err(_) => conversations.forget(&slot, id),
                Ok(_) if saves => live::lock(&slot).unsaved = false,
                Ok(_) => {}
            }
            let result = result
                .map(|appended| conversations.committed(appended, event, stored, to, &witnesses));
            gather(&gathered, result.map_err(PostError::from));
        });
        let taken = self.writer.try_append(message, recipients, change, done);
        if taken.is_err() {
            self.put_away(id);
            gather(gathering, Err(PostError::Busy));
        }
        taken.is_ok()
    }

    /// Tells whoever has to know.
    fn committed(
        &self,
        appended: Appended,
        event: NewEvent,
        message: NewMessage,
        to: Recipients,
        witnesses: &[AddressOfRecord],
    ) -> (EventId, Option<Event>) {
        let id = EventId(appended.id.0);
        if appended.known {
            return (id, None);
        }
        let event = Arc::new(event.with_id(id));
        self.sessions
            .tell(witnesses, &News::Event(Arc::clone(&event)));
        if event.body.is_message() {
            self.composed(event.conversation, &event.author, witnesses);
        }
        let mut message = stored(appended.id, message);
        if let EventBody::File { file, .. } = &event.body {
            message.file = Some(Box::new(file.clone()));
        }
        let posted = Posted {
            message: Arc::new(self.for_phone(event.at_ms, message)),
            devices: to.devices,
            accounts: to.accounts,
        };
        let anybody = !posted.devices.is_empty() || !posted.accounts.is_empty();
        if anybody {
            self.tell_phones(Outgoing::Posted(posted));
        }
        (id, Some(Arc::unwrap_or_clone(event)))
    }

    /// The devices of those it is for; of accounts without one, the accounts.
    fn recipients(&self, item: &Item) -> Recipients {
        let mut recipients = Recipients::default();
        if !lines::is_for_phones(&item.event.body) {
            return recipients;
        }
        let accounts = item
            .to
            .iter()
            .filter_map(|to| self.directory.find(to.as_str()));
        for account in accounts {
            let devices = self.directory.devices(account.account);
            if devices.is_empty() {
                recipients.accounts.push(account.account);
            }
            recipients.devices.extend(devices);
        }
        recipients
    }
}

/// Who writes to one person by that person's address is not to be read by a third who was added to
/// the conversation of the two meanwhile.
pub(super) fn overheard(
    live: &Live,
    author: &AddressOfRecord,
    to: &AddressOfRecord,
) -> Option<String> {
    let machine = &live.machine;
    let both = machine.is_member(author) && machine.is_member(to);
    let alone = both && machine.member_count() == 2 && machine.kind() == Kind::Pair;
    (!alone).then(|| {
        let address = live.address();
        format!("others have been added to this conversation: write to all of them at {address}")
    })
}

/// What was said, and what it ended: who leaves too many gaps is given up on.
fn drain(live: &mut Live) -> Result<(Vec<Item>, Vec<Receipt>), PostError> {
    let mut items: Vec<Item> = Vec::new();
    let mut given_up = Vec::new();
    while let Some(output) = live.machine.poll_output() {
        match output {
            Output::Append(event) => items.push(Item {
                event,
                to: Vec::new(),
            }),
            Output::Deliver { seq, to } => {
                let item = items.iter_mut().find(|item| item.event.seq == seq);
                item.into_iter().for_each(|item| item.to.push(to.clone()));
            }
            Output::Refused(refusal) => return Err(refusal.into()),
            Output::Receipt(receipt) => given_up.push(receipt),
        }
    }
    Ok((items, given_up))
}

/// What the table of conversations or members holds.
fn changes_state(body: &EventBody) -> bool {
    !body.is_message()
        && !matches!(
            body,
            EventBody::Reaction { .. }
                | EventBody::Edit { .. }
                | EventBody::Retraction { .. }
                | EventBody::System { .. }
        )
}

fn new_message(
    live: &Live,
    item: &Item,
    envelope: &Envelope,
    origin: Origin,
    body: Option<Body>,
) -> NewMessage {
    let event = &item.event;
    let encoded = encode(&event.body);
    let (to, account) = match item.to.as_slice() {
        [only] if !live.grown => (only.clone(), AccountId(-1)),
        _ => (live.address().clone(), AccountId(0)),
    };
    let line = lines::of(event);
    let from = match line {
        // Nobody has said it.
        Some(_) => format!("<{}>", uri_of(&to)),
        None => envelope.sender.clone(),
    };
    let body = body.unwrap_or(Body {
        content_type: encoded.content_type,
        headers: encoded.headers,
        octets: line.map_or(encoded.body, Bytes::from),
    });
    NewMessage {
        from,
        to,
        account,
        received_ms: event.at_ms,
        content_type: body.content_type,
        headers: body.headers,
        body: body.octets,
        origin,
        keyed: envelope.keyed,
        place: Some(Row {
            conversation: event.conversation,
            seq: event.seq,
            epoch: event.epoch,
            author: event.author.clone(),
            kind: encoded.kind.into(),
            detail: encoded.detail.into(),
        }),
    }
}

pub(super) fn stored(id: MessageId, message: NewMessage) -> StoredMessage {
    StoredMessage {
        file: None,
        id,
        in_group: message.account == AccountId(0),
        event: message.place.map(|place| (place.conversation, place.seq)),
        from: message.from,
        to: message.to,
        received_ms: message.received_ms,
        content_type: message.content_type,
        headers: message.headers,
        body: message.body,
    }
}

/// An origin of its own for an event that comes with another one.
fn origin_before(origin: Origin, at: usize) -> Origin {
    let mut octets = origin.0;
    let [first, second, ..] = &mut octets;
    *first ^= 0x80;
    *second ^= u8::try_from(at).unwrap_or(u8::MAX);
    Origin(octets)
}

fn gather(gathering: &Mutex<Gathering>, result: Result<(EventId, Option<Event>), PostError>) {
    let mut gathering = gathering.lock().unwrap_or_else(PoisonError::into_inner);
    gathering.left = gathering.left.saturating_sub(1);
    let finished = match result {
        Ok((id, event)) => {
            gathering.events.extend(event);
            (gathering.left == 0).then(|| {
                Ok(Outcome {
                    id,
                    events: std::mem::take(&mut gathering.events),
                })
            })
        }
        Err(error) => Some(Err(error)),
    };
    let done = finished.and_then(|finished| Some((gathering.done.take()?, finished)));
    drop(gathering);
    if let Some((done, finished)) = done {
        done(finished);
    }
}

/// A MESSAGE as something said.
fn content(message: &NewMessage) -> Content {
    let name = message.content_type.split(';').next().unwrap_or_default();
    let plain = name.trim().eq_ignore_ascii_case("text/plain");
    match std::str::from_utf8(&message.body) {
        Ok(text) if plain => Content::Text {
            text: text.to_owned(),
            format: TextFormat::Plain,
            reply_to: None,
        },
        _ => Content::Opaque {
            content_type: message.content_type.clone(),
            headers: carried::told(&message.headers)
                .map(|line| format!("{line}\r\n"))
                .collect(),
            body: message.body.clone(),
        },
    }
}
