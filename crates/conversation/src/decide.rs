//! What a command becomes: no events, one, or two that belong together; or a refusal.
//!
//! *Invariant*: nothing here changes the conversation.

use crate::command::{Authority, Command, Content, Target, TargetKind};
use crate::refusal::{Refusal, bounds};
use crate::{Action, Conversation};
use sidetone_model::{
    AddressOfRecord, EventBody, FileRef, History, Kind, ParticipantRole, TextFormat,
};

type Decision = Result<[Option<EventBody>; 2], Refusal>;

const NOTHING: [Option<EventBody>; 2] = [None, None];

fn one(body: EventBody) -> Decision {
    Ok([Some(body), None])
}

impl Conversation {
    pub(crate) fn decide(
        &self,
        author: &AddressOfRecord,
        authority: Authority,
        command: Command,
    ) -> Decision {
        let permit = |action| self.permit(author, authority, action);
        match command {
            Command::Post(content) => {
                permit(Action::Post)?;
                self.post(author, content)
            }
            Command::React {
                target,
                emoji,
                removed,
            } => {
                permit(Action::Post)?;
                self.react(author, &target, emoji, removed)
            }
            Command::Edit {
                target,
                text,
                format,
            } => {
                permit(Action::Post)?;
                self.edit(author, &target, text, format)
            }
            Command::Retract { target } => self.retract(author, authority, &target),
            Command::AddMember {
                member,
                role,
                history,
            } => {
                permit(Action::AddMember(role))?;
                self.add(author, authority, member, role, history)
            }
            Command::RemoveMember { member } => {
                permit(Action::RemoveMember(&member))?;
                self.remove(member)
            }
            Command::SetRole { member, role } => {
                permit(Action::SetRole(&member, role))?;
                self.set_role(member, role)
            }
            Command::SetSubject { subject } => {
                permit(Action::Describe)?;
                self.describe(subject)
            }
            Command::SetAvatar { avatar } => {
                permit(Action::Describe)?;
                let same = avatar == self.avatar();
                Ok([(!same).then_some(EventBody::AvatarChanged { avatar }), None])
            }
            Command::Announce { text } => {
                permit(Action::Announce)?;
                one(EventBody::System {
                    text: fitting(text)?,
                })
            }
        }
    }

    fn post(&self, author: &AddressOfRecord, content: Content) -> Decision {
        let answered = match &content {
            Content::Text { text, reply_to, .. } => {
                within(text.len(), bounds::TEXT_BYTES, Refusal::TooLarge)?;
                *reply_to
            }
            Content::Opaque {
                content_type,
                headers,
                body,
            } => {
                within(body.len(), bounds::TEXT_BYTES, Refusal::TooLarge)?;
                within(headers.len(), bounds::HEADER_BYTES, Refusal::HeadersTooLong)?;
                name(content_type)?;
                None
            }
            Content::File {
                file,
                caption,
                reply_to,
            } => {
                within(caption.len(), bounds::TEXT_BYTES, Refusal::TooLarge)?;
                file_names(file)?;
                *reply_to
            }
        };
        if let Some(seq) = answered {
            self.known(author, seq)?;
        }
        one(content.into())
    }

    fn known(&self, author: &AddressOfRecord, seq: u64) -> Result<(), Refusal> {
        let seen = self.visible(author, seq);
        seen.then_some(()).ok_or(Refusal::UnknownTarget)
    }

    /// A message that the author sees and that was not taken back.
    fn standing(&self, author: &AddressOfRecord, target: &Target) -> Result<(), Refusal> {
        self.known(author, target.seq)?;
        if target.kind == TargetKind::Other {
            return Err(Refusal::NotAMessage);
        }
        if target.retracted {
            return Err(Refusal::TakenBack);
        }
        Ok(())
    }

    fn react(
        &self,
        author: &AddressOfRecord,
        target: &Target,
        emoji: String,
        removed: bool,
    ) -> Decision {
        self.standing(author, target)?;
        let odd = |c: char| c.is_control() || c.is_whitespace();
        if emoji.is_empty() || emoji.len() > bounds::EMOJI_BYTES || emoji.contains(odd) {
            return Err(Refusal::BadEmoji);
        }
        one(EventBody::Reaction {
            target: target.seq,
            emoji,
            removed,
        })
    }

    fn edit(
        &self,
        author: &AddressOfRecord,
        target: &Target,
        text: String,
        format: TextFormat,
    ) -> Decision {
        self.standing(author, target)?;
        if target.author != *author {
            return Err(Refusal::NotYours);
        }
        if target.kind == TargetKind::Opaque {
            return Err(Refusal::NotEditable);
        }
        one(EventBody::Edit {
            target: target.seq,
            text: fitting(text)?,
            format,
        })
    }

    fn retract(&self, author: &AddressOfRecord, authority: Authority, target: &Target) -> Decision {
        self.permit(author, authority, Action::Post)?;
        self.standing(author, target)?;
        self.permit(author, authority, Action::Retract(&target.author))
            .map_err(|_| Refusal::NotYours)?;
        one(EventBody::Retraction { target: target.seq })
    }

    fn add(
        &self,
        author: &AddressOfRecord,
        authority: Authority,
        member: AddressOfRecord,
        role: ParticipantRole,
        history: History,
    ) -> Decision {
        if self.is_member(&member) {
            return Err(Refusal::AlreadyAMember);
        }
        if self.member_count() >= bounds::MEMBERS {
            return Err(Refusal::TooManyMembers);
        }
        match self.participant(&member) {
            None if self.participants_ever() >= bounds::PARTICIPANTS_EVER => {
                return Err(Refusal::TooManyEver);
            }
            Some(past) if past.stays.len() >= bounds::STAYS => return Err(Refusal::AddedTooOften),
            _ => {}
        }
        self.epochs_left()?;
        let horizon = self.horizon(author, authority, history);
        one(EventBody::MemberAdded {
            member,
            role,
            horizon,
            history,
        })
    }

    fn epochs_left(&self) -> Result<(), Refusal> {
        (self.epoch() < u32::MAX).then_some(()).ok_or(Refusal::Full)
    }

    /// The first event that somebody added now would see: what was chosen, and nothing that the adder does not see.
    fn horizon(&self, adder: &AddressOfRecord, authority: Authority, history: History) -> u64 {
        let adding = self.next_seq();
        let wanted = match history {
            History::FromNow => adding,
            History::All => 1,
            History::Last(count) => adding.saturating_sub(u64::from(count)).max(1),
        };
        let managing = authority == Authority::Administrator && self.kind() == Kind::Managed;
        wanted.max(if managing { 1 } else { self.sees_from(adder) })
    }

    /// The first event from which on somebody sees everything; the next one for who is not there.
    fn sees_from(&self, who: &AddressOfRecord) -> u64 {
        let next = self.next_seq();
        let current = self
            .participant(who)
            .filter(|participant| participant.is_present())
            .and_then(|participant| participant.visible(next).last());
        current.map_or(next, |range| range.first)
    }

    fn remove(&self, member: AddressOfRecord) -> Decision {
        if !self.is_member(&member) {
            return Err(Refusal::NoSuchMember);
        }
        self.epochs_left()?;
        let succession = self.successor(&member)?.map(|heir| EventBody::RoleChanged {
            member: heir.clone(),
            role: ParticipantRole::Owner,
        });
        let removal = EventBody::MemberRemoved { member };
        Ok(match succession {
            Some(first) => [Some(first), Some(removal)],
            None => [Some(removal), None],
        })
    }

    /// Who becomes owner when somebody leaves: the moderator who is there longest, or else the member.
    fn successor(&self, leaver: &AddressOfRecord) -> Result<Option<&AddressOfRecord>, Refusal> {
        if !self.is_last_owner(leaver) || self.member_count() < 2 {
            return Ok(None);
        }
        let joined = |stay: Option<sidetone_model::Stay>| stay.map(|stay| stay.joined);
        self.present()
            .filter(|(who, p)| *who != leaver && p.role > ParticipantRole::Guest)
            .min_by_key(|(_, p)| (std::cmp::Reverse(p.role), joined(p.stay())))
            .map(|(who, _)| Some(who))
            .ok_or(Refusal::NoSuccessor)
    }

    /// Whether without this owner a group would have none. What an administrator made may be without.
    fn is_last_owner(&self, who: &AddressOfRecord) -> bool {
        let owner = |role| role == ParticipantRole::Owner;
        self.kind() != Kind::Managed
            && self.role(who).is_some_and(owner)
            && !self
                .present()
                .any(|(other, p)| other != who && owner(p.role))
    }

    fn describe(&self, text: String) -> Decision {
        let subject = subject(text)?;
        let same = subject == self.subject();
        Ok([
            (!same).then_some(EventBody::SubjectChanged { subject }),
            None,
        ])
    }

    fn set_role(&self, member: AddressOfRecord, role: ParticipantRole) -> Decision {
        match self.role(&member) {
            None => Err(Refusal::NoSuchMember),
            Some(now) if now == role => Ok(NOTHING),
            Some(_) if self.is_last_owner(&member) => Err(Refusal::LastOwner),
            Some(_) => one(EventBody::RoleChanged { member, role }),
        }
    }
}

fn within(size: usize, most: usize, refusal: Refusal) -> Result<(), Refusal> {
    (size <= most).then_some(()).ok_or(refusal)
}

fn fitting(text: String) -> Result<String, Refusal> {
    within(text.len(), bounds::TEXT_BYTES, Refusal::TooLarge)?;
    Ok(text)
}

fn name(text: &str) -> Result<(), Refusal> {
    let fits = text.len() <= bounds::NAME_BYTES && !text.contains(char::is_control);
    fits.then_some(()).ok_or(Refusal::HeadersTooLong)
}

fn file_names(file: &FileRef) -> Result<(), Refusal> {
    name(&file.name)?;
    name(file.content_type.as_deref().unwrap_or_default())
}

pub(crate) fn subject(text: String) -> Result<String, Refusal> {
    let fits = text.chars().nth(bounds::SUBJECT_CHARS).is_none();
    let plain = !text.contains(char::is_control);
    (fits && plain).then_some(text).ok_or(Refusal::BadSubject)
}
