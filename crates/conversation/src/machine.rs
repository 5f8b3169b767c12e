//! The conversation machine.
//!
//! *Invariant*: state changes only in `advance`, by one event, and in `report`, by one receipt; commands are decided
//! first and change nothing when they are refused. Epochs and sequence numbers never go down.

use crate::command::{Authority, Command, Input, Output};
use crate::marks::Marks;
use crate::participant::Participant;
use crate::refusal::{Refusal, bounds};
use crate::{Delivery, decide};
use sidetone_model::{
    AddressOfRecord, ConversationId, ConversationSnapshot, EventBody, FileId, Kind, NewEvent,
    ParticipantRole, Receipt, ReceiptKind, SeqRange, Stay,
};
use std::collections::{BTreeMap, VecDeque};

/// One conversation, without its events.
#[derive(Clone, Debug)]
pub struct Conversation {
    id: ConversationId,
    address: AddressOfRecord,
    founded_as: Kind,
    pair: Option<(AddressOfRecord, AddressOfRecord)>,
    subject: String,
    avatar: Option<FileId>,
    epoch: u32,
    next_seq: u64,
    participants: BTreeMap<AddressOfRecord, Participant>,
    present: usize,
    messages: Marks,
    outputs: VecDeque<Output>,
}

/// A message of a participant that is given up, because too many were left open.
type GivenUp = (AddressOfRecord, SeqRange);

impl Conversation {
    /// Opens the conversation of two people; both are owners.
    pub fn open_pair(
        now_ms: u64,
        id: ConversationId,
        address: AddressOfRecord,
        author: &AddressOfRecord,
        other: &AddressOfRecord,
    ) -> Result<Self, Refusal> {
        if author == other {
            return Err(Refusal::ToOneself);
        }
        let members = [author, other].map(|who| (who.clone(), ParticipantRole::Owner));
        let body = EventBody::Opened {
            kind: Kind::Pair,
            address,
            members: members.to_vec(),
            subject: String::new(),
        };
        Self::open(now_ms, id, author, body)
    }

    /// Opens a group that somebody makes by hand; he is its owner.
    pub fn open_group(
        now_ms: u64,
        id: ConversationId,
        address: AddressOfRecord,
        author: &AddressOfRecord,
        others: impl IntoIterator<Item = (AddressOfRecord, ParticipantRole)>,
        subject: String,
    ) -> Result<Self, Refusal> {
        let founder = (author.clone(), ParticipantRole::Owner);
        let members = once_each(std::iter::once(founder).chain(others))?;
        let body = EventBody::Opened {
            kind: Kind::Group,
            address,
            members,
            subject: decide::subject(subject)?,
        };
        Self::open(now_ms, id, author, body)
    }

    /// Opens a group that an administrator makes, who is in it only when listed.
    pub fn open_managed(
        now_ms: u64,
        id: ConversationId,
        address: AddressOfRecord,
        administrator: &AddressOfRecord,
        members: impl IntoIterator<Item = (AddressOfRecord, ParticipantRole)>,
        subject: String,
    ) -> Result<Self, Refusal> {
        let body = EventBody::Opened {
            kind: Kind::Managed,
            address,
            members: once_each(members)?,
            subject: decide::subject(subject)?,
        };
        Self::open(now_ms, id, administrator, body)
    }

    fn open(
        now_ms: u64,
        id: ConversationId,
        author: &AddressOfRecord,
        body: EventBody,
    ) -> Result<Self, Refusal> {
        let EventBody::Opened { kind, address, .. } = &body else {
            return Err(Refusal::NotAllowed);
        };
        let mut conversation = Self::blank(id, address.clone(), *kind);
        conversation.append(now_ms, author, [Some(body), None]);
        Ok(conversation)
    }

    pub(crate) fn blank(id: ConversationId, address: AddressOfRecord, founded_as: Kind) -> Self {
        Self {
            id,
            address,
            founded_as,
            pair: None,
            subject: String::new(),
            avatar: None,
            epoch: 1,
            next_seq: 1,
            participants: BTreeMap::new(),
            present: 0,
            messages: Marks::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Goes on from a snapshot; the events since are then applied.
    pub fn restore(snapshot: ConversationSnapshot) -> Self {
        let participants: BTreeMap<_, _> = snapshot
            .participants
            .iter()
            .map(|each| (each.address.clone(), Participant::restore(each)))
            .collect();
        Self {
            id: snapshot.id,
            address: snapshot.address,
            founded_as: snapshot.founded_as,
            pair: snapshot.pair,
            subject: snapshot.subject,
            avatar: snapshot.avatar,
            epoch: snapshot.epoch,
            next_seq: snapshot.next_seq,
            present: participants.values().filter(|p| p.is_present()).count(),
            participants,
            messages: Marks::restore(snapshot.messages_base, snapshot.messages),
            outputs: VecDeque::new(),
        }
    }

    /// Everything that is needed to go on. What is queued to be done is not part of it: perform that first.
    pub fn snapshot(&self) -> ConversationSnapshot {
        let pending = |p: &Participant| p.deliveries.pending.first().map(|range| range.first);
        let oldest = self.participants.values().filter_map(pending).min();
        let (messages_base, messages) = self.messages.since(oldest.unwrap_or(self.next_seq));
        ConversationSnapshot {
            id: self.id,
            address: self.address.clone(),
            founded_as: self.founded_as,
            pair: self.pair.clone(),
            subject: self.subject.clone(),
            avatar: self.avatar,
            epoch: self.epoch,
            next_seq: self.next_seq,
            participants: self
                .participants
                .iter()
                .map(|(address, participant)| participant.snapshot(address))
                .collect(),
            messages_base,
            messages,
        }
    }

    /// Takes a command or a receipt; `now_ms` is Unix time.
    pub fn handle_input(&mut self, now_ms: u64, input: Input) {
        let result = match input {
            Input::Command {
                author,
                authority,
                command,
            } => self.run(now_ms, &author, authority, command),
            Input::Receipt {
                member,
                from_seq,
                seq,
                kind,
            } => self.take_receipt(now_ms, member, from_seq, seq, kind),
        };
        if let Err(refusal) = result {
            self.outputs.push_back(Output::Refused(refusal));
        }
    }

    /// What is to be done next. A command that changes nothing, such as a subject that is the same, leaves nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn run(
        &mut self,
        now_ms: u64,
        author: &AddressOfRecord,
        authority: Authority,
        command: Command,
    ) -> Result<(), Refusal> {
        let bodies = self.decide(author, authority, command)?;
        self.append(now_ms, author, bodies);
        Ok(())
    }

    fn append(&mut self, now_ms: u64, author: &AddressOfRecord, bodies: [Option<EventBody>; 2]) {
        let first = self.next_seq;
        let mut about = Vec::new();
        let mut given_up = Vec::new();
        for body in bodies.into_iter().flatten() {
            let event = NewEvent {
                conversation: self.id,
                seq: self.next_seq,
                epoch: self.epoch_of(&body).unwrap_or(self.epoch),
                author: author.clone(),
                at_ms: now_ms,
                body,
            };
            given_up.extend(self.advance(event.seq, event.epoch, author, &event.body));
            about.push(shows_again(&event.body));
            self.outputs.push_back(Output::Append(event));
        }
        for (seq, about) in (first..self.next_seq).zip(about) {
            self.deliver(seq, about, first, author);
        }
        for (member, range) in given_up {
            self.give_up(now_ms, member, range);
        }
    }

    /// Asks for the delivery to all but the author who are there, or were until this change, and see what it is about.
    fn deliver(&mut self, seq: u64, about: Option<u64>, since: u64, author: &AddressOfRecord) {
        let leaving = |p: &Participant| p.stays.last().and_then(|stay| stay.left) >= Some(since);
        for (address, participant) in &self.participants {
            let concerned = participant.is_present() || leaving(participant);
            let sees = participant.sees(seq) && about.is_none_or(|target| participant.sees(target));
            if concerned && address != author && sees {
                let to = address.clone();
                self.outputs.push_back(Output::Deliver { seq, to });
            }
        }
    }

    /// The epoch that an event with this body would bear; none when there are no more.
    pub(crate) fn epoch_of(&self, body: &EventBody) -> Option<u32> {
        self.epoch.checked_add(u32::from(body.changes_members()))
    }

    /// What one event does to the state; all that ever changes it, but for receipts.
    pub(crate) fn advance(
        &mut self,
        seq: u64,
        epoch: u32,
        author: &AddressOfRecord,
        body: &EventBody,
    ) -> Vec<GivenUp> {
        self.next_seq = seq.saturating_add(1);
        self.epoch = epoch;
        match body {
            EventBody::Opened {
                kind,
                members,
                subject,
                ..
            } => self.found(seq, *kind, members, subject),
            EventBody::MemberAdded {
                member,
                role,
                horizon,
                ..
            } => self.join(member, *role, *horizon, seq),
            EventBody::MemberRemoved { member } => self.leave(member, seq),
            EventBody::RoleChanged { member, role } => {
                if let Some(participant) = self.participants.get_mut(member) {
                    participant.role = *role;
                }
            }
            EventBody::SubjectChanged { subject } => self.subject.clone_from(subject),
            EventBody::AvatarChanged { avatar } => self.avatar = *avatar,
            EventBody::Text { .. } | EventBody::Opaque { .. } | EventBody::File { .. } => {
                return self.owe(seq, author);
            }
            EventBody::Reaction { .. }
            | EventBody::Edit { .. }
            | EventBody::Retraction { .. }
            | EventBody::System { .. } => {}
        }
        Vec::new()
    }

    fn found(
        &mut self,
        seq: u64,
        kind: Kind,
        members: &[(AddressOfRecord, ParticipantRole)],
        subject: &str,
    ) {
        subject.clone_into(&mut self.subject);
        for (member, role) in members {
            self.join(member, *role, seq, seq);
        }
        if let (Kind::Pair, [(a, _), (b, _)]) = (kind, members) {
            self.pair = Some(pair_key(a, b));
        }
    }

    fn join(&mut self, member: &AddressOfRecord, role: ParticipantRole, horizon: u64, seq: u64) {
        self.participants
            .entry(member.clone())
            .or_insert_with(|| Participant::new(role))
            .join(role, horizon, seq);
        self.present += 1;
    }

    fn leave(&mut self, member: &AddressOfRecord, seq: u64) {
        if let Some(participant) = self.participants.get_mut(member) {
            participant.leave(seq);
            self.present = self.present.saturating_sub(1);
        }
        if self.is_of_pair(member) {
            // The two can be a pair again only elsewhere: those who stay here keep what is theirs.
            self.pair = None;
        }
    }

    fn owe(&mut self, seq: u64, author: &AddressOfRecord) -> Vec<GivenUp> {
        self.messages.set(seq);
        let mut given_up = Vec::new();
        for (address, participant) in &mut self.participants {
            if address == author || !participant.is_present() {
                continue;
            }
            if let Some(range) = participant.deliveries.owe(seq, &self.messages) {
                given_up.push((address.clone(), range));
            }
        }
        given_up
    }

    fn take_receipt(
        &mut self,
        now_ms: u64,
        member: AddressOfRecord,
        from_seq: u64,
        seq: u64,
        kind: ReceiptKind,
    ) -> Result<(), Refusal> {
        if !self.participants.contains_key(&member) {
            return Err(Refusal::NotAMember);
        }
        if !self.visible(&member, seq) || from_seq > seq {
            return Err(Refusal::ReceiptForUnseen);
        }
        let reported = self.report(&member, from_seq, seq, kind);
        if let Some(to) = reported.changed_to {
            self.outputs.push_back(Output::Receipt(Receipt {
                conversation: self.id,
                from_seq: from_seq.min(to),
                seq: to,
                member: member.clone(),
                kind,
                at_ms: now_ms,
            }));
        }
        if let Some(range) = reported.given_up {
            self.give_up(now_ms, member, range);
        }
        Ok(())
    }

    pub(crate) fn report(
        &mut self,
        member: &AddressOfRecord,
        from: u64,
        to: u64,
        kind: ReceiptKind,
    ) -> crate::delivery::Reported {
        let Some(participant) = self.participants.get_mut(member) else {
            return crate::delivery::Reported::default();
        };
        participant
            .deliveries
            .report(from, to, kind, &self.messages)
    }

    fn give_up(&mut self, now_ms: u64, member: AddressOfRecord, range: SeqRange) {
        self.outputs.push_back(Output::Receipt(Receipt {
            conversation: self.id,
            from_seq: range.first,
            seq: range.last,
            member,
            kind: ReceiptKind::Failed,
            at_ms: now_ms,
        }));
    }
}

/// What can be asked.
impl Conversation {
    /// Its number.
    pub fn id(&self) -> ConversationId {
        self.id
    }

    /// Its address for life.
    pub fn address(&self) -> &AddressOfRecord {
        &self.address
    }

    /// What it is now: a pair that added a third is a group until that third has left.
    pub fn kind(&self) -> Kind {
        match (&self.pair, self.founded_as) {
            (Some(_), _) if self.present == 2 => Kind::Pair,
            (None, Kind::Managed) => Kind::Managed,
            _ => Kind::Group,
        }
    }

    /// What it began as.
    pub fn founded_as(&self) -> Kind {
        self.founded_as
    }

    /// The two that it is found by, in order. Others may be there as well: see [`Conversation::kind`]. It is given up
    /// when one of the two leaves, so that the two may have another conversation of their own.
    pub fn pair(&self) -> Option<(&AddressOfRecord, &AddressOfRecord)> {
        self.pair.as_ref().map(|(a, b)| (a, b))
    }

    /// Its subject; may be empty.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Its avatar, unless it is the mosaic.
    pub fn avatar(&self) -> Option<FileId> {
        self.avatar
    }

    /// The membership epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The sequence number of the next event.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Who is there, with the roles, in the order of the addresses.
    pub fn members(&self) -> impl Iterator<Item = (&AddressOfRecord, ParticipantRole)> {
        self.participants
            .iter()
            .filter(|(_, participant)| participant.is_present())
            .map(|(address, participant)| (address, participant.role))
    }

    /// How many are there.
    pub fn member_count(&self) -> usize {
        self.present
    }

    /// Whether somebody is there.
    pub fn is_member(&self, who: &AddressOfRecord) -> bool {
        self.role(who).is_some()
    }

    /// The role of somebody who is there.
    pub fn role(&self, who: &AddressOfRecord) -> Option<ParticipantRole> {
        let participant = self.participants.get(who)?;
        participant.is_present().then_some(participant.role)
    }

    /// Whether somebody, present or past, may see an event.
    pub fn visible(&self, who: &AddressOfRecord, seq: u64) -> bool {
        let appended = (1..self.next_seq).contains(&seq);
        appended && self.participants.get(who).is_some_and(|p| p.sees(seq))
    }

    /// The events that somebody, present or past, may see: in order, without overlaps, up to the newest event.
    pub fn visible_ranges(&self, who: &AddressOfRecord) -> Vec<SeqRange> {
        let newest = self.next_seq.saturating_sub(1);
        let participant = self.participants.get(who);
        participant.map_or_else(Vec::new, |p| p.visible(newest).as_slice().to_vec())
    }

    /// When somebody was there, oldest first.
    pub fn stays(&self, who: &AddressOfRecord) -> &[Stay] {
        self.participants.get(who).map_or(&[], |p| &p.stays)
    }

    /// What became of a message at somebody who did not write it; none for who was not there when it was said.
    pub fn delivery(&self, who: &AddressOfRecord, seq: u64) -> Option<Delivery> {
        let participant = self.participants.get(who)?;
        let owed = (1..self.next_seq).contains(&seq) && participant.attended(seq);
        owed.then(|| participant.deliveries.of(seq))
    }

    /// How far somebody has read; 0 before the first message.
    pub fn displayed_to(&self, who: &AddressOfRecord) -> u64 {
        let participant = self.participants.get(who);
        participant.map_or(0, |p| p.deliveries.displayed_to)
    }

    /// The messages whose fate at somebody is not known, as ranges; events that are no messages may lie within.
    pub fn pending(&self, who: &AddressOfRecord) -> &[SeqRange] {
        let participant = self.participants.get(who);
        participant.map_or(&[], |p| p.deliveries.pending.as_slice())
    }

    pub(crate) fn is_of_pair(&self, who: &AddressOfRecord) -> bool {
        self.pair
            .as_ref()
            .is_some_and(|(a, b)| a == who || b == who)
    }

    pub(crate) fn participant(&self, who: &AddressOfRecord) -> Option<&Participant> {
        self.participants.get(who)
    }

    pub(crate) fn present(&self) -> impl Iterator<Item = (&AddressOfRecord, &Participant)> {
        self.participants.iter().filter(|(_, p)| p.is_present())
    }

    pub(crate) fn participants_ever(&self) -> usize {
        self.participants.len()
    }
}

fn pair_key(a: &AddressOfRecord, b: &AddressOfRecord) -> (AddressOfRecord, AddressOfRecord) {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    (low.clone(), high.clone())
}

/// Everybody once, in the role named first.
fn once_each(
    members: impl IntoIterator<Item = (AddressOfRecord, ParticipantRole)>,
) -> Result<Vec<(AddressOfRecord, ParticipantRole)>, Refusal> {
    let mut seen = std::collections::BTreeSet::new();
    let mut once = Vec::new();
    for (member, role) in members {
        if seen.insert(member.clone()) {
            once.push((member, role));
        }
        if once.len() > bounds::MEMBERS {
            return Err(Refusal::TooManyMembers);
        }
    }
    Ok(once)
}

/// The earlier event whose wording an event tells anew.
fn shows_again(body: &EventBody) -> Option<u64> {
    match body {
        EventBody::Edit { target, .. } => Some(*target),
        _ => None,
    }
}
