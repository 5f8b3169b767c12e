//! Reading a conversation back from its log.
//!
//! *Invariant*: what `apply` makes of an event is what the machine made of it when it appended it.

use crate::Conversation;
use sidetone_model::{Event, EventBody, Receipt};

/// Why a log is not the log of this conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// The first event is not there, or does not open a conversation.
    #[error("the log does not begin with the opening of a conversation")]
    NoOpening,
    /// The event belongs to another conversation.
    #[error("event {0} belongs to another conversation")]
    AnotherConversation(u64),
    /// The event does not follow the one before.
    #[error("event {0} does not follow the one before")]
    OutOfOrder(u64),
    /// The event says what cannot be after those before.
    #[error("event {0} contradicts those before")]
    Contradiction(u64),
}

impl Conversation {
    /// Makes a conversation from all its events, the first one first.
    pub fn replay<'e>(events: impl IntoIterator<Item = &'e Event>) -> Result<Self, LogFault> {
        let mut events = events.into_iter();
        let opening = events.next().ok_or(LogFault::NoOpening)?;
        let EventBody::Opened { kind, address, .. } = &opening.body else {
            return Err(LogFault::NoOpening);
        };
        let mut conversation = Self::blank(opening.conversation, address.clone(), *kind);
        if opening.seq != 1 {
            return Err(LogFault::OutOfOrder(opening.seq));
        }
        conversation.advance(opening.seq, opening.epoch, &opening.author, &opening.body);
        for event in events {
            conversation.apply(event)?;
        }
        Ok(conversation)
    }

    /// Takes the next event of the log, without asking anything to be done.
    pub fn apply(&mut self, event: &Event) -> Result<(), LogFault> {
        if event.conversation != self.id() {
            return Err(LogFault::AnotherConversation(event.seq));
        }
        if event.seq != self.next_seq() {
            return Err(LogFault::OutOfOrder(event.seq));
        }
        let epoch = self.epoch_of(&event.body);
        if epoch != Some(event.epoch) || !self.could_follow(&event.body) {
            return Err(LogFault::Contradiction(event.seq));
        }
        self.advance(event.seq, event.epoch, &event.author, &event.body);
        Ok(())
    }

    /// Takes a receipt that was given out before; those of one member in the order in which they were given out.
    pub fn apply_receipt(&mut self, receipt: &Receipt) {
        self.report(&receipt.member, receipt.from_seq, receipt.seq, receipt.kind);
    }

    fn could_follow(&self, body: &EventBody) -> bool {
        match body {
            EventBody::Opened { .. } => false,
            EventBody::MemberAdded { member, .. } => !self.is_member(member),
            EventBody::MemberRemoved { member } | EventBody::RoleChanged { member, .. } => {
                self.is_member(member)
            }
            _ => true,
        }
    }
}
