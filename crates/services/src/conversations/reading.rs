//! What a person may read: the list of conversations, a part of a log, who got how far.
//!
//! *Invariant*: nothing leaves here that is outside of what the person may see.

use sidetone_conversation::Target;
use sidetone_model::{AddressOfRecord, ConversationId, Event, EventBody, EventId, SeqRange};
use sidetone_store::{Change, Failure, Found, MemberRow, Page, Part, Search, Watermark};

use super::live;
use super::{Conversations, PostError, Shown};

/// The most events of one page.
pub const PAGE_MAX: u32 = 500;
/// The most conversations of one list.
pub const LIST_MAX: u32 = 1_000;

/// A conversation as one of its people sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The conversation with those who are in it now.
    pub conversation: Change,
    /// How far those who are in it have got.
    pub receipts: Vec<Watermark>,
    /// What will not reach them.
    pub failures: Vec<Failure>,
    /// The first event that this person may see.
    pub first_seq: u64,
    /// The last one.
    pub last_seq: u64,
    /// Whether this person is in it now.
    pub present: bool,
}

impl View {
    /// As an administrator sees it: who is in it, and nothing of what is said.
    pub(super) fn whole(found: Found) -> Self {
        let Found {
            mut conversation, ..
        } = found;
        conversation.members.retain(|row| row.until.is_none());
        Self {
            conversation,
            receipts: Vec::new(),
            failures: Vec::new(),
            first_seq: 0,
            last_seq: 0,
            present: false,
        }
    }
}

impl Conversations {
    /// The conversations of a person, the last used first; `after`: those that come after this one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(
        &self,
        person: &AddressOfRecord,
        after: Option<ConversationId>,
        limit: u32,
    ) -> Result<Vec<View>, PostError> {
        let limit = limit.min(LIST_MAX);
        let found = self.store.conversations_of(person, after, limit).await?;
        Ok(found
            .into_iter()
            .filter_map(|found| view(found, person))
            .collect())
    }

    /// One conversation.
    ///
    /// # Errors
    /// [`PostError::Unknown`] for one that this person was never in, as for one that is not.
    pub async fn view(
        &self,
        id: ConversationId,
        person: &AddressOfRecord,
    ) -> Result<View, PostError> {
        let found = self.store.conversation(id).await?;
        let view = found.and_then(|found| view(found, person));
        view.ok_or(PostError::Unknown)
    }

    /// A part of the log, in order.
    ///
    /// # Errors
    /// [`PostError::Unknown`] for somebody who was never in it.
    pub async fn history(
        &self,
        id: ConversationId,
        person: &AddressOfRecord,
        page: Page,
        limit: u32,
    ) -> Result<Vec<Shown>, PostError> {
        let ranges = self.visible(id, person).await?;
        let limit = limit.min(PAGE_MAX);
        let events = match page {
            Page::After(seq) => self.forwards(id, &ranges, seq, limit).await?,
            Page::Before(seq) => self.backwards(id, &ranges, seq, limit).await?,
        };
        self.shown(person, events).await
    }

    async fn forwards(
        &self,
        id: ConversationId,
        ranges: &[SeqRange],
        seq: u64,
        limit: u32,
    ) -> Result<Vec<Event>, PostError> {
        let mut events = Vec::new();
        for range in ranges.iter().filter(|range| range.last > seq) {
            let room = room(limit, &events);
            if room == 0 {
                break;
            }
            let after = Page::After(seq.max(range.first.saturating_sub(1)));
            let Part { events: part, cut } = self.store.events(id, after, room).await?;
            let shown = |event: &Event| range.contains(event.seq) && shows(ranges, event);
            events.extend(part.into_iter().filter(shown));
            if cut {
                break;
            }
        }
        Ok(events)
    }

    async fn backwards(
        &self,
        id: ConversationId,
        ranges: &[SeqRange],
        seq: u64,
        limit: u32,
    ) -> Result<Vec<Event>, PostError> {
        let mut parts = Vec::new();
        let mut count = 0;
        for range in ranges.iter().rev().filter(|range| range.first < seq) {
            if count >= limit {
                break;
            }
            let before = Page::Before(seq.min(range.last.saturating_add(1)));
            let Part {
                events: mut part,
                cut,
            } = self.store.events(id, before, limit - count).await?;
            part.retain(|event| range.contains(event.seq) && shows(ranges, event));
            count += u32::try_from(part.len()).unwrap_or(u32::MAX);
            parts.push(part);
            if cut {
                break;
            }
        }
        parts.reverse();
        Ok(parts.concat())
    }

    /// What a person missed, in all conversations, in the order in which it happened.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn missed(
        &self,
        person: &AddressOfRecord,
        after: EventId,
    ) -> Result<Vec<Shown>, PostError> {
        let events = self.store.feed(person, after, PAGE_MAX).await?;
        self.shown(person, events).await
    }

    /// What was said with these words, as far as this person may see it, the newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn search(&self, search: &Search<'_>) -> Result<Vec<Event>, PostError> {
        self.writer.index().await?;
        let limit = search.limit.min(PAGE_MAX);
        let search = Search {
            limit,
            ..search.clone()
        };
        Ok(self.store.search(&search).await?)
    }

    /// The number that an event has in its conversation.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn seq_of(&self, id: EventId) -> Result<Option<u64>, PostError> {
        Ok(self.store.event(id).await?.map(|event| event.seq))
    }

    /// A message that somebody wants to do something with.
    ///
    /// # Errors
    /// [`PostError::Unknown`] where this person may not see it.
    pub async fn target(
        &self,
        id: ConversationId,
        person: &AddressOfRecord,
        seq: u64,
    ) -> Result<Target, PostError> {
        let ranges = self.visible(id, person).await?;
        if !ranges.iter().any(|range| range.contains(seq)) {
            return Err(PostError::Unknown);
        }
        let page = Page::After(seq.saturating_sub(1));
        let part = self.store.events(id, page, 1).await?;
        let event = part.events.into_iter().next();
        let event = event.filter(|event| event.seq == seq);
        let event = event.ok_or(PostError::Unknown)?;
        let retracted = self.store.is_retracted(id, seq).await?;
        Ok(Target::of(&event, retracted))
    }

    pub(super) async fn visible(
        &self,
        id: ConversationId,
        person: &AddressOfRecord,
    ) -> Result<Vec<SeqRange>, PostError> {
        let live = self.open_for(id, person).await?;
        let ranges = live::lock(&live).machine.visible_ranges(person);
        match ranges.is_empty() {
            true => Err(PostError::Unknown),
            false => Ok(ranges),
        }
    }
}

/// Of an edit, only who sees what was edited sees the new wording.
fn shows(ranges: &[SeqRange], event: &Event) -> bool {
    match event.body {
        EventBody::Edit { target, .. } => ranges.iter().any(|range| range.contains(target)),
        _ => true,
    }
}

fn room(limit: u32, events: &[Event]) -> u32 {
    limit.saturating_sub(u32::try_from(events.len()).unwrap_or(u32::MAX))
}

/// `None` for somebody who was never in it.
fn view(found: Found, person: &AddressOfRecord) -> Option<View> {
    let Found {
        mut conversation,
        mut receipts,
        mut failures,
        last_seq,
    } = found;
    let own = |row: &&MemberRow| row.address == *person;
    let first_seq = conversation.members.iter().find(own)?.horizon;
    let last = conversation.members.iter().rfind(own)?.clone();
    // Who has left learns nothing of those who came after.
    let present = last.until.is_none();
    conversation
        .members
        .retain(|row| present && row.until.is_none());
    let is_member = |address: &AddressOfRecord| {
        conversation
            .members
            .iter()
            .any(|row| row.address == *address)
    };
    receipts.retain(|receipt| is_member(&receipt.address));
    failures.retain(|failure| is_member(&failure.address) && failure.range.last >= first_seq);
    Some(View {
        first_seq,
        last_seq: last.until.map_or(last_seq, |until| until.min(last_seq)),
        present,
        conversation,
        receipts,
        failures,
    })
}
