//! The log as one person may read it: wordings that were taken back or replaced are blank for others.
//!
//! *Invariant*: the log keeps what was there; who wrote it may read it, and in a group owners and moderators may. In
//! the conversation of a pair, where both are owners, only who wrote it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use sidetone_model::{
    AddressOfRecord, ConversationId, Event, EventBody, Kind, ParticipantRole, SeqRange,
};
use sidetone_store::Amended;

use super::{Conversations, Place, PostError, live};

/// An event for one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The event, blank where the wording is not for this person any more.
    pub event: Event,
    /// What became of the wording since.
    pub withdrawn: Option<Withdrawn>,
}

/// What became of a wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// The message was taken back.
    Retracted,
    /// There is a newer wording.
    Superseded,
}

impl From<Event> for Shown {
    fn from(event: Event) -> Self {
        let withdrawn = None;
        Self { event, withdrawn }
    }
}

/// What was done to the messages of one conversation, as far as a person sees it.
#[derive(Default)]
struct Deeds {
    /// What was taken back.
    retracted: HashMap<u64, ()>,
    /// The number of the last wording.
    worded: HashMap<u64, u64>,
    /// Reads everything.
    privileged: bool,
}

impl Conversations {
    /// Blanks what is not for this person any more.
    pub(super) async fn shown(
        &self,
        person: &AddressOfRecord,
        events: Vec<Event>,
    ) -> Result<Vec<Shown>, PostError> {
        let mut targets: BTreeMap<ConversationId, Vec<u64>> = BTreeMap::new();
        for event in &events {
            if let Some(target) = worded(event) {
                targets.entry(event.conversation).or_default().push(target);
            }
        }
        let mut deeds = HashMap::new();
        for (id, targets) in targets {
            let done = self.store.done_to(id, &targets).await?;
            if !done.is_empty() {
                deeds.insert(id, self.deeds(id, person, &done).await?);
            }
        }
        let show = |event: Event| match deeds.get(&event.conversation) {
            Some(deeds) => deeds.show(event, person),
            None => event.into(),
        };
        Ok(events.into_iter().map(show).collect())
    }

    async fn deeds(
        &self,
        id: ConversationId,
        person: &AddressOfRecord,
        done: &[Amended],
    ) -> Result<Deeds, PostError> {
        let live = self.open(&Place::Of(id), 0).await?;
        let (ranges, privileged) = {
            let machine = &live::lock(&live).machine;
            let ranges = machine.visible_ranges(person);
            let role = machine.role(person);
            let moderates = role >= Some(ParticipantRole::Moderator);
            (ranges, moderates && machine.founded_as() != Kind::Pair)
        };
        let mut deeds = Deeds {
            privileged,
            ..Deeds::default()
        };
        let sees = |seq: u64| ranges.iter().any(|range: &SeqRange| range.contains(seq));
        for one in done.iter().filter(|one| sees(one.seq)) {
            match one.retracted {
                true => drop(deeds.retracted.insert(one.target, ())),
                false => drop(deeds.worded.insert(one.target, one.seq)),
            }
        }
        Ok(deeds)
    }
}

impl Deeds {
    fn show(&self, mut event: Event, person: &AddressOfRecord) -> Shown {
        let withdrawn = worded(&event).and_then(|target| {
            let newer = self.worded.get(&target);
            match self.retracted.contains_key(&target) {
                true => Some(Withdrawn::Retracted),
                false => newer
                    .is_some_and(|newer| *newer > event.seq)
                    .then_some(Withdrawn::Superseded),
            }
        });
        if withdrawn.is_some() && !self.privileged && event.author != *person {
            blank(&mut event.body);
        }
        Shown { event, withdrawn }
    }
}

/// The message whose wording an event is.
fn worded(event: &Event) -> Option<u64> {
    match event.body {
        EventBody::Edit { target, .. } => Some(target),
        ref body if body.is_message() => Some(event.seq),
        _ => None,
    }
}

fn blank(body: &mut EventBody) {
    match body {
        EventBody::Text { text, .. } | EventBody::Edit { text, .. } => text.clear(),
        EventBody::Opaque { headers, body, .. } => {
            headers.clear();
            *body = Bytes::new();
        }
        EventBody::File { file, caption, .. } => {
            caption.clear();
            *file = sidetone_model::FileRef {
                name: String::new(),
                content_type: None,
                octets: None,
                width: None,
                height: None,
                duration_ms: None,
                ..file.clone()
            };
        }
        _ => {}
    }
}
