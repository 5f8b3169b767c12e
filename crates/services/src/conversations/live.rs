//! One conversation in memory: its machine, and what the store holds of it.
//!
//! *Invariant*: what is written of a conversation and read back makes the same machine, but for
//! receipts, whose watermarks are kept beside it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sidetone_conversation::Conversation;
use sidetone_model::{
    AddressOfRecord, ConversationId, ConversationSnapshot, FileId, Kind, ParticipantSnapshot, Stay,
};
use sidetone_store::{Change, Found, MemberRow, Recent, StoreError, kind_of, role_of};

use super::unsettled::{self, Asking};
use super::{NewGroup, PairKey, PostError};
use crate::carried::Asked;

/// Messages whose authors are told what becomes of them; of more, the oldest are told nothing.
const ASKING_MAX: usize = 256;
/// Late failures that are remembered, so that each is told once.
pub(super) const NEGATIVE_MAX: usize = 256;

/// A conversation in use.
pub(super) struct Live {
    pub(super) machine: Conversation,
    created_ms: u64,
    /// It is, or was, more than a pair.
    pub(super) grown: bool,
    /// The store does not know of it yet.
    pub(super) unsaved: bool,
    /// When it was last used.
    pub(super) used: u64,
    /// Who wrote the last messages.
    recent: VecDeque<(u64, AddressOfRecord)>,
    /// Messages whose authors' phones want to be told what becomes of them, by their numbers.
    pub(super) asking: BTreeMap<u64, Asking>,
    /// Failures that were told of messages that count as delivered.
    pub(super) negative: BTreeSet<(u64, AddressOfRecord)>,
}

/// Messages whose authors are remembered.
const RECENT: usize = 256;
/// In a conversation with more members, only authors are told how far somebody has got.
const ALL_TOLD: usize = 50;

pub(super) fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    fn new(machine: Conversation, now_ms: u64) -> Self {
        Self {
            grown: machine.kind() != Kind::Pair,
            machine,
            created_ms: now_ms,
            unsaved: true,
            used: 0,
            recent: VecDeque::new(),
            asking: BTreeMap::new(),
            negative: BTreeSet::new(),
        }
    }

    /// A pair that begins.
    pub(super) fn pair(
        id: ConversationId,
        address: AddressOfRecord,
        a: &AddressOfRecord,
        b: &AddressOfRecord,
        now_ms: u64,
    ) -> Result<Self, PostError> {
        let machine = Conversation::open_pair(now_ms, id, address, a, b);
        Ok(Self::new(machine?, now_ms))
    }

    /// A group that begins.
    pub(super) fn group(
        id: ConversationId,
        address: AddressOfRecord,
        group: NewGroup,
        now_ms: u64,
    ) -> Result<Self, PostError> {
        let NewGroup {
            creator,
            members,
            subject,
            managed,
            ..
        } = group;
        let machine = match managed {
            true => Conversation::open_managed(now_ms, id, address, &creator, members, subject),
            false => Conversation::open_group(now_ms, id, address, &creator, members, subject),
        };
        Ok(Self::new(machine?, now_ms))
    }

    /// One that the store has, with its last events.
    pub(super) fn stored(found: Found, recent: &[Recent]) -> Result<Self, StoreError> {
        let grown = found.conversation.grown;
        let created_ms = found.conversation.created_ms;
        let mut live = Self {
            machine: Conversation::restore(snapshot(found, recent)?),
            created_ms,
            grown,
            unsaved: false,
            used: 0,
            recent: VecDeque::new(),
            asking: BTreeMap::new(),
            negative: BTreeSet::new(),
        };
        for event in recent {
            live.ask(event.seq, &event.author, &event.headers);
        }
        Ok(live)
    }

    /// Remembers what the author of a message wants to be told of it.
    pub(super) fn ask(&mut self, seq: u64, author: &AddressOfRecord, headers: &str) {
        let Some(asked) = Asked::of(headers).filter(Asked::is_answerable) else {
            return;
        };
        let author = author.clone();
        self.asking.insert(seq, Asking { author, asked });
        if self.asking.len() > ASKING_MAX {
            self.asking.pop_first();
        }
    }

    pub(super) fn id(&self) -> ConversationId {
        self.machine.id()
    }

    pub(super) fn address(&self) -> &AddressOfRecord {
        self.machine.address()
    }

    pub(super) fn pair_key(&self) -> Option<PairKey> {
        let (a, b) = self.machine.pair()?;
        Some(super::pair_key(a, b))
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.machine.next_seq().saturating_sub(1)
    }

    pub(super) fn members(&self) -> Vec<AddressOfRecord> {
        let members = self.machine.members();
        members.map(|(member, _)| member.clone()).collect()
    }

    /// A message was said.
    pub(super) fn note_author(&mut self, seq: u64, author: &AddressOfRecord) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((seq, author.clone()));
    }

    /// Who is to learn that somebody has got from one event to another: all, and in a large group the authors of what
    /// is between, as far as it was said lately, with the person's own sessions.
    pub(super) fn told_of(
        &self,
        person: &AddressOfRecord,
        (after, seq): (u64, u64),
    ) -> Vec<AddressOfRecord> {
        if self.machine.member_count() <= ALL_TOLD {
            return self.members();
        }
        let between = self
            .recent
            .iter()
            .filter(|(at, _)| after < *at && *at <= seq);
        let mut told: BTreeSet<&AddressOfRecord> = between.map(|(_, author)| author).collect();
        told.retain(|author| self.machine.is_member(author));
        told.insert(person);
        told.into_iter().cloned().collect()
    }

    /// What the store is to hold from now on.
    pub(super) fn change(&self) -> Change {
        let snapshot = self.machine.snapshot();
        let rows = |each: ParticipantSnapshot| {
            let row = move |stay: Stay| MemberRow {
                address: each.address.clone(),
                joined: stay.joined,
                horizon: stay.horizon,
                until: stay.left,
                role: each.role.as_str().to_owned(),
            };
            each.stays.into_iter().map(row).collect::<Vec<_>>()
        };
        Change {
            id: snapshot.id,
            address: snapshot.address,
            kind: snapshot.founded_as.as_str().to_owned(),
            subject: snapshot.subject,
            avatar: snapshot
                .avatar
                .map(|file| file.0.to_string())
                .unwrap_or_default(),
            epoch: snapshot.epoch,
            created_ms: self.created_ms,
            pair: snapshot.pair.map(|(a, b)| super::pair_key(&a, &b)),
            grown: self.grown,
            members: snapshot.participants.into_iter().flat_map(rows).collect(),
        }
    }
}

fn snapshot(found: Found, recent: &[Recent]) -> Result<ConversationSnapshot, StoreError> {
    let Found {
        conversation,
        last_seq,
        receipts,
        failures,
    } = found;
    let mut participants: BTreeMap<AddressOfRecord, ParticipantSnapshot> = BTreeMap::new();
    for row in conversation.members {
        let role = role_of(&row.role)?;
        let participant = participants.entry(row.address.clone());
        let participant = participant.or_insert_with(|| ParticipantSnapshot {
            address: row.address,
            role,
            stays: Vec::new(),
            pending: Vec::new(),
            failed: Vec::new(),
            displayed_to: 0,
            last_due: 0,
        });
        participant.role = role;
        participant.stays.push(Stay {
            horizon: row.horizon,
            joined: row.joined,
            left: row.until,
        });
    }
    for participant in participants.values_mut() {
        unsettled::restore(participant, last_seq, &receipts, &failures, recent);
    }
    let (messages_base, messages) = unsettled::marks(recent, last_seq);
    Ok(ConversationSnapshot {
        id: conversation.id,
        address: conversation.address,
        founded_as: kind_of(&conversation.kind)?,
        pair: conversation.pair,
        subject: conversation.subject,
        avatar: conversation.avatar.parse().ok().map(FileId),
        epoch: conversation.epoch,
        next_seq: last_seq + 1,
        participants: participants.into_values().collect(),
        messages_base,
        messages,
    })
}
