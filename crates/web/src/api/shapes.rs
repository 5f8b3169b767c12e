//! The API's own shapes: what goes over the wire, made from what the product knows.
//!
//! *Invariant*: a field once given keeps its name and meaning.

use serde::{Deserialize, Serialize};
use sidetone_model::{Event, EventBody, FileRef, History, ParticipantRole, SeqRange, TextFormat};
use sidetone_services::conversations::reading::View;
use sidetone_services::conversations::{Shown, Withdrawn};
use sidetone_store::{Failure, MemberRow, Watermark, hex};
use utoipa::ToSchema;

/// A conversation as the caller sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Conversation {
    /// Its number.
    id: i64,
    /// Its address for life: phones send MESSAGEs here.
    uri: String,
    /// `pair`, `group`, or `managed` when an administrator made it.
    kind: String,
    /// May be empty.
    subject: String,
    /// Grows when members come and go.
    epoch: u32,
    /// Unix time in milliseconds.
    created_ms: u64,
    /// The first event that the caller may see.
    first_seq: u64,
    /// The last one.
    last_seq: u64,
    /// Events that the caller has not seen.
    unread: u64,
    /// Whether the caller is in it now.
    present: bool,
    /// Who is in it now.
    members: Vec<Member>,
}

/// A member of a conversation.
#[derive(Serialize, ToSchema)]
pub(crate) struct Member {
    /// `user@domain`.
    address: String,
    /// What the member may do.
    #[schema(example = "member")]
    role: String,
    /// All events up to this one have reached a device of the member.
    delivered: u64,
    /// All events up to this one were seen.
    displayed: u64,
    /// But for these messages, which will not arrive.
    failed: Vec<Span>,
}

/// Numbers from the first to the last.
#[derive(Serialize, ToSchema)]
pub(crate) struct Span {
    first: u64,
    last: u64,
}

impl From<SeqRange> for Span {
    fn from(range: SeqRange) -> Self {
        Self {
            first: range.first,
            last: range.last,
        }
    }
}

impl Conversation {
    pub(crate) fn of(view: View, own: &str) -> Self {
        let View {
            conversation,
            receipts,
            failures,
            ..
        } = &view;
        let mark = |address: &str| {
            receipts
                .iter()
                .find(|mark| mark.address.as_str() == address)
        };
        let seen = mark(own).map_or(0, |mark| mark.displayed);
        Self {
            id: conversation.id.0,
            uri: format!("sip:{}", conversation.address),
            kind: conversation.kind.clone(),
            subject: conversation.subject.clone(),
            epoch: conversation.epoch,
            created_ms: conversation.created_ms,
            first_seq: view.first_seq,
            last_seq: view.last_seq,
            unread: view
                .last_seq
                .saturating_sub(seen.max(view.first_seq.saturating_sub(1))),
            present: view.present,
            members: conversation
                .members
                .iter()
                .map(|row| Member::of(row, mark(row.address.as_str()), failures))
                .collect(),
        }
    }
}

impl Member {
    fn of(row: &MemberRow, mark: Option<&Watermark>, failures: &[Failure]) -> Self {
        let own = failures.iter().filter(|one| one.address == row.address);
        Self {
            address: row.address.to_string(),
            role: row.role.clone(),
            delivered: mark.map_or(0, |mark| mark.delivered),
            displayed: mark.map_or(0, |mark| mark.displayed),
            failed: own.map(|one| one.range.into()).collect(),
        }
    }
}

/// Something that happened in a conversation.
#[derive(Serialize, ToSchema)]
pub(crate) struct Happened {
    /// Its number among all events; `/events` resumes after it.
    id: i64,
    /// The conversation.
    conversation: i64,
    /// Its number there.
    seq: u64,
    /// The epoch of the conversation's membership.
    epoch: u32,
    /// Who did it: `user@domain`.
    author: String,
    /// Unix time in milliseconds.
    at_ms: u64,
    /// `retracted` or `superseded` where the wording is no more; it is blank then for all but its author and, in a
    /// group, owners and moderators.
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn: Option<&'static str>,
    #[serde(flatten)]
    what: What,
}

/// What happened.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum What {
    Opened {
        kind: String,
        subject: String,
        members: Vec<String>,
    },
    Text {
        text: String,
        format: Format,
        reply_to: Option<u64>,
    },
    /// A body that is no text.
    Opaque {
        content_type: String,
        octets: usize,
    },
    File {
        file: File,
        caption: String,
        reply_to: Option<u64>,
    },
    Reaction {
        target: u64,
        emoji: String,
        removed: bool,
    },
    Edit {
        target: u64,
        text: String,
        format: Format,
    },
    Retraction {
        target: u64,
    },
    MemberAdded {
        member: String,
        role: String,
        horizon: u64,
    },
    MemberRemoved {
        member: String,
    },
    RoleChanged {
        member: String,
        role: String,
    },
    SubjectChanged {
        subject: String,
    },
    AvatarChanged {
        file: Option<i64>,
    },
    System {
        text: String,
    },
}

/// How a text is to be read.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    #[default]
    Plain,
    Markdown,
}

/// An uploaded file.
#[derive(Serialize, ToSchema)]
struct File {
    id: i64,
    name: String,
    /// `file`, `picture`, `sound`, `voice_note` or `video`.
    kind: &'static str,
    /// What the content was found to be.
    content_type: Option<String>,
    octets: Option<u64>,
    /// SHA-256, in hexadecimal.
    digest: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    duration_ms: Option<u64>,
}

impl From<Event> for Happened {
    fn from(event: Event) -> Self {
        Self {
            id: event.id.0,
            conversation: event.conversation.0,
            seq: event.seq,
            epoch: event.epoch,
            author: event.author.to_string(),
            at_ms: event.at_ms,
            withdrawn: None,
            what: event.body.into(),
        }
    }
}

impl From<Shown> for Happened {
    fn from(shown: Shown) -> Self {
        Self {
            withdrawn: shown.withdrawn.map(|how| match how {
                Withdrawn::Retracted => "retracted",
                Withdrawn::Superseded => "superseded",
            }),
            ..shown.event.into()
        }
    }
}

impl From<EventBody> for What {
    fn from(body: EventBody) -> Self {
        match body {
            EventBody::Opened {
                kind,
                members,
                subject,
                ..
            } => Self::Opened {
                kind: kind.as_str().to_owned(),
                subject,
                members: members
                    .into_iter()
                    .map(|(who, _)| who.to_string())
                    .collect(),
            },
            EventBody::Text {
                text,
                format,
                reply_to,
            } => Self::Text {
                text,
                format: format.into(),
                reply_to,
            },
            EventBody::Opaque {
                content_type, body, ..
            } => Self::Opaque {
                content_type,
                octets: body.len(),
            },
            EventBody::File {
                file,
                caption,
                reply_to,
            } => Self::File {
                file: file.into(),
                caption,
                reply_to,
            },
            EventBody::Reaction {
                target,
                emoji,
                removed,
            } => Self::Reaction {
                target,
                emoji,
                removed,
            },
            EventBody::Edit {
                target,
                text,
                format,
            } => Self::Edit {
                target,
                text,
                format: format.into(),
            },
            EventBody::Retraction { target } => Self::Retraction { target },
            membership => Self::of_members(membership),
        }
    }
}

impl What {
    /// What changes who is in it, or what it is called.
    fn of_members(body: EventBody) -> Self {
        match body {
            EventBody::MemberAdded {
                member,
                role,
                horizon,
                ..
            } => Self::MemberAdded {
                member: member.to_string(),
                role: role.as_str().to_owned(),
                horizon,
            },
            EventBody::MemberRemoved { member } => Self::MemberRemoved {
                member: member.to_string(),
            },
            EventBody::RoleChanged { member, role } => Self::RoleChanged {
                member: member.to_string(),
                role: role.as_str().to_owned(),
            },
            EventBody::SubjectChanged { subject } => Self::SubjectChanged { subject },
            EventBody::AvatarChanged { avatar } => Self::AvatarChanged {
                file: avatar.map(|file| file.0),
            },
            EventBody::System { text } => Self::System { text },
            // All others are said by people.
            _ => Self::System {
                text: String::new(),
            },
        }
    }
}

impl From<FileRef> for File {
    fn from(file: FileRef) -> Self {
        Self {
            id: file.id.0,
            name: file.name,
            kind: file.kind.as_str(),
            digest: file.digest.map(|digest| hex(&digest)),
            content_type: file.content_type,
            octets: file.octets,
            width: file.width,
            height: file.height,
            duration_ms: file.duration_ms,
        }
    }
}

impl From<TextFormat> for Format {
    fn from(format: TextFormat) -> Self {
        match format {
            TextFormat::Plain => Self::Plain,
            TextFormat::Markdown => Self::Markdown,
        }
    }
}

impl From<Format> for TextFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Plain => Self::Plain,
            Format::Markdown => Self::Markdown,
        }
    }
}

/// What somebody who is added may see of the past.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Past {
    #[default]
    FromNow,
    All,
    /// So many events before.
    Last(u32),
}

impl From<Past> for History {
    fn from(past: Past) -> Self {
        match past {
            Past::FromNow => Self::FromNow,
            Past::All => Self::All,
            Past::Last(count) => Self::Last(count),
        }
    }
}

/// What a member may do.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Guest,
    #[default]
    Member,
    Moderator,
    Owner,
}

impl From<Role> for ParticipantRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Guest => Self::Guest,
            Role::Member => Self::Member,
            Role::Moderator => Self::Moderator,
            Role::Owner => Self::Owner,
        }
    }
}
