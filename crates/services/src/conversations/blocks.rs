//! What a block forbids in conversations.
//!
//! *Invariant*: between two of whom one has blocked the other nothing new is said in the conversation of the two, and
//! nobody is brought into a group by somebody whom that person has blocked. A group is not one person's: there both
//! read what is said.

use std::sync::Mutex;

use sidetone_conversation::Command;
use sidetone_model::{AddressOfRecord, Kind};

use super::live::{self, Live};
use super::{Conversations, PostError};

const BY_THEM: &str = "this person takes nothing from you";
const BY_YOU: &str = "you have blocked this person: unblock first";
const NOT_BY_YOU: &str = "this person cannot be added by you";

impl Conversations {
    /// Whether one may begin to talk to another.
    pub(super) fn may_reach(
        &self,
        from: &AddressOfRecord,
        to: &AddressOfRecord,
    ) -> Result<(), PostError> {
        match self.board.blocks(to, from) {
            true => Err(PostError::Blocked(BY_THEM)),
            false => Ok(()),
        }
    }

    /// Whether one may say something to another: not to somebody who cannot answer either.
    pub(super) fn may_say(
        &self,
        from: &AddressOfRecord,
        to: &AddressOfRecord,
    ) -> Result<(), PostError> {
        self.may_reach(from, to)?;
        match self.board.blocks(from, to) {
            true => Err(PostError::Blocked(BY_YOU)),
            false => Ok(()),
        }
    }

    pub(super) fn may_add(
        &self,
        by: &AddressOfRecord,
        member: &AddressOfRecord,
    ) -> Result<(), PostError> {
        match self.board.blocks(member, by) {
            true => Err(PostError::Blocked(NOT_BY_YOU)),
            false => Ok(()),
        }
    }

    pub(super) fn may_do(
        &self,
        live: &Mutex<Live>,
        author: &AddressOfRecord,
        command: &Command,
    ) -> Result<(), PostError> {
        match command {
            Command::AddMember { member, .. } => self.may_add(author, member),
            Command::Post(_) | Command::Edit { .. } | Command::React { .. } => {
                match other_of_pair(&live::lock(live), author) {
                    Some(other) => self.may_say(author, &other),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Takes those out who are not to learn what this person does: of a pair, whoever is blocked or blocks.
    pub(super) fn without_blocked(
        &self,
        kind: Kind,
        person: &AddressOfRecord,
        members: &mut Vec<AddressOfRecord>,
    ) {
        if kind == Kind::Pair {
            members.retain(|member| member == person || self.may_say(person, member).is_ok());
        }
    }
}

fn other_of_pair(live: &Live, author: &AddressOfRecord) -> Option<AddressOfRecord> {
    let machine = &live.machine;
    let mut others = machine.members().filter(|(who, _)| *who != author);
    let (other, _) = others.next().filter(|_| machine.kind() == Kind::Pair)?;
    Some(other.clone())
}
