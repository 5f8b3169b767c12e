//! Who may do what: one table.
//!
//! *Invariant*: what a person may do follows from the role and the kind of conversation alone; nothing is remembered
//! from one question to the next.

use crate::{Authority, Conversation, Refusal};
use sidetone_model::{AddressOfRecord, Kind, ParticipantRole};

/// Something that somebody may or may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Say something, react, edit and take back what is one's own.
    Post,
    /// Take back what this person said.
    Retract(&'a AddressOfRecord),
    /// Add somebody in this role.
    AddMember(ParticipantRole),
    /// Remove this person, or leave when it is oneself.
    RemoveMember(&'a AddressOfRecord),
    /// Give this person this role.
    SetRole(&'a AddressOfRecord, ParticipantRole),
    /// Change the subject or the avatar.
    Describe,
    /// Write a line of the system's own.
    Announce,
}

impl Conversation {
    /// Whether a participant may do something now.
    pub fn may(&self, member: &AddressOfRecord, action: Action<'_>) -> bool {
        self.permit(member, Authority::Participant, action).is_ok()
    }

    pub(crate) fn permit(
        &self,
        actor: &AddressOfRecord,
        authority: Authority,
        action: Action<'_>,
    ) -> Result<(), Refusal> {
        let role = self.role(actor);
        if role.is_none() && authority == Authority::Participant {
            return Err(Refusal::NotAMember);
        }
        self.protect_pair(actor, action)?;
        let administers = authority == Authority::Administrator && self.administrator_may(action);
        let participates = role.is_some_and(|role| self.role_may(actor, role, action));
        (administers || participates)
            .then_some(())
            .ok_or(Refusal::NotAllowed)
    }

    /// Whoever joins a pair, in whatever role, does not get between the two.
    fn protect_pair(&self, actor: &AddressOfRecord, action: Action<'_>) -> Result<(), Refusal> {
        match action {
            Action::SetRole(member, _) if self.is_of_pair(member) => Err(Refusal::PairIsEqual),
            Action::RemoveMember(member) if self.is_of_pair(member) => match self.kind() {
                Kind::Pair => Err(Refusal::PairOfTwo),
                _ if member == actor => Ok(()),
                _ => Err(Refusal::PairIsEqual),
            },
            Action::Retract(author) if self.is_of_pair(author) && author != actor => {
                Err(Refusal::NotYours)
            }
            _ => Ok(()),
        }
    }

    fn administrator_may(&self, action: Action<'_>) -> bool {
        match action {
            Action::Announce => true,
            Action::Post | Action::Retract(_) => false,
            Action::AddMember(_)
            | Action::RemoveMember(_)
            | Action::SetRole(..)
            | Action::Describe => self.founded_as() != Kind::Pair,
        }
    }

    fn role_may(&self, actor: &AddressOfRecord, role: ParticipantRole, action: Action<'_>) -> bool {
        use ParticipantRole::{Guest, Member, Moderator, Owner};
        let below = |member| self.role(member).is_none_or(|other| other < Moderator);
        match (role, action) {
            (_, Action::Announce) => false,
            (_, Action::Post) | (Owner, _) => true,
            (_, Action::Retract(author)) if author == actor => true,
            (_, Action::RemoveMember(member)) if member == actor => true,
            (Moderator, Action::Retract(_) | Action::Describe) => true,
            (Moderator, Action::AddMember(new)) => new <= Moderator,
            (Moderator, Action::RemoveMember(member)) => below(member),
            (Moderator, Action::SetRole(member, new)) => below(member) && new < Moderator,
            (Member, Action::AddMember(new)) => new <= Member && self.kind() != Kind::Managed,
            (Member | Guest, _) => false,
        }
    }
}
