//! Conversations as they are stored and shown: events, members, receipts, snapshots.
//!
//! *Invariant*: an event is never changed after it was appended. What people see changes by later events (an edit, a
//! retraction, a reaction), so the log alone says what was there and when.

use crate::{AddressOfRecord, ConversationId, EventId, FileId};
use bytes::Bytes;

/// What a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Of two people, found by the two.
    Pair,
    /// Made by hand.
    Group,
    /// Made by an administrator.
    Managed,
}

/// A participant's role in a conversation, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParticipantRole {
    /// Posts, and nothing more.
    Guest,
    /// Posts, and adds others in a group made by hand.
    Member,
    /// Adds and removes members and guests, changes the subject, takes others' messages back.
    Moderator,
    /// Does everything.
    Owner,
}

/// How much of what was said before is shown to somebody who is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum History {
    /// Nothing: the adding is the first thing seen.
    FromNow,
    /// Everything that the adder sees himself.
    All,
    /// So many events before the adding, and never more than the adder sees himself.
    Last(u32),
}

/// How a text is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TextFormat {
    /// As it stands.
    #[default]
    Plain,
    /// The safe subset of Markdown.
    Markdown,
}

/// What a file is to those who see it in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum FileKind {
    /// Something to keep or to open elsewhere.
    #[default]
    File,
    /// Something to look at.
    Picture,
    /// Something to listen to.
    Sound,
    /// What somebody said into a microphone instead of writing it.
    VoiceNote,
    /// Something to watch.
    Video,
}

/// An uploaded file, as an event refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Its number in the store.
    pub id: FileId,
    /// The name it was uploaded with; may be empty.
    pub name: String,
    /// What it is to those who see it.
    pub kind: FileKind,
    /// The SHA-256 of its content, where that is known.
    pub digest: Option<[u8; 32]>,
    /// What its content was found to be, where that is known.
    pub content_type: Option<String>,
    /// Its size.
    pub octets: Option<u64>,
    /// Of a picture or a video, in pixels.
    pub width: Option<u32>,
    /// Of a picture or a video, in pixels.
    pub height: Option<u32>,
    /// Of sound or video.
    pub duration_ms: Option<u64>,
}

/// What happened in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventBody {
    /// The conversation began: always the first event, and never a later one.
    Opened {
        /// What it began as.
        kind: Kind,
        /// Its address for life.
        address: AddressOfRecord,
        /// Who was in it from the first event on.
        members: Vec<(AddressOfRecord, ParticipantRole)>,
        /// Its subject; may be empty.
        subject: String,
    },
    /// Somebody said something.
    Text {
        /// What was said.
        text: String,
        /// How to read it.
        format: TextFormat,
        /// The sequence number of what it answers.
        reply_to: Option<u64>,
    },
    /// The body of a MESSAGE that is no text, kept as it came.
    Opaque {
        /// Content-Type as on the wire; may be empty.
        content_type: String,
        /// Further header lines, each ended by CRLF; may be empty.
        headers: String,
        /// The body, whatever its bytes are.
        body: Bytes,
    },
    /// A file, a picture, a voice note or a video clip.
    File {
        /// Which.
        file: FileRef,
        /// What was said with it; may be empty.
        caption: String,
        /// The sequence number of what it answers.
        reply_to: Option<u64>,
    },
    /// Somebody reacted to an event, or took that back.
    Reaction {
        /// To which event.
        target: u64,
        /// With what.
        emoji: String,
        /// Whether the reaction was taken back.
        removed: bool,
    },
    /// The author gave a text, or a file's caption, another wording.
    Edit {
        /// Of which event.
        target: u64,
        /// The new wording.
        text: String,
        /// How to read it.
        format: TextFormat,
    },
    /// An event was taken back.
    Retraction {
        /// Which.
        target: u64,
    },
    /// Somebody was added.
    MemberAdded {
        /// Who.
        member: AddressOfRecord,
        /// As what.
        role: ParticipantRole,
        /// The first event that the member sees.
        horizon: u64,
        /// What the adder chose.
        history: History,
    },
    /// Somebody was removed, or left when he is the author.
    MemberRemoved {
        /// Who.
        member: AddressOfRecord,
    },
    /// Somebody has another role.
    RoleChanged {
        /// Who.
        member: AddressOfRecord,
        /// The new role.
        role: ParticipantRole,
    },
    /// The subject was changed.
    SubjectChanged {
        /// The new one; empty where there is none any more.
        subject: String,
    },
    /// The avatar was changed.
    AvatarChanged {
        /// The new one; without one, a mosaic of the members' avatars is shown.
        avatar: Option<FileId>,
    },
    /// A line of the system's own.
    System {
        /// What it says.
        text: String,
    },
}

/// An event that is to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Where it happened.
    pub conversation: ConversationId,
    /// Its place in the conversation, from 1 on, without gaps.
    pub seq: u64,
    /// The membership epoch that it happened in.
    pub epoch: u32,
    /// Who did it.
    pub author: AddressOfRecord,
    /// When, Unix time.
    pub at_ms: u64,
    /// What.
    pub body: EventBody,
}

/// An event as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number among the events of all conversations.
    pub id: EventId,
    /// Where it happened.
    pub conversation: ConversationId,
    /// Its place in the conversation, from 1 on, without gaps.
    pub seq: u64,
    /// The membership epoch that it happened in.
    pub epoch: u32,
    /// Who did it.
    pub author: AddressOfRecord,
    /// When, Unix time.
    pub at_ms: u64,
    /// What.
    pub body: EventBody,
}

/// What became of a message at one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReceiptKind {
    /// A device has it.
    Delivered,
    /// It was shown, and so delivered.
    Displayed,
    /// It will not arrive.
    Failed,
}

/// A change in what became of messages at one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where the messages are.
    pub conversation: ConversationId,
    /// The first event that it speaks of; the same as `seq` when it speaks of one.
    pub from_seq: u64,
    /// The last event that it speaks of.
    pub seq: u64,
    /// Whose.
    pub member: AddressOfRecord,
    /// What became of them.
    pub kind: ReceiptKind,
    /// When, Unix time.
    pub at_ms: u64,
}

/// Sequence numbers from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeqRange {
    /// The first.
    pub first: u64,
    /// The last, not before the first.
    pub last: u64,
}

/// One stay of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stay {
    /// The first event that this stay shows.
    pub horizon: u64,
    /// The event that began it.
    pub joined: u64,
    /// The event that ended it, which is the last that it shows.
    pub left: Option<u64>,
}

/// One participant of a snapshot, past or present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantSnapshot {
    /// Who.
    pub address: AddressOfRecord,
    /// The role, or the last one of somebody who has left.
    pub role: ParticipantRole,
    /// The stays, oldest first; only the last may be without an end.
    pub stays: Vec<Stay>,
    /// Messages whose fate is not known.
    pub pending: Vec<SeqRange>,
    /// Messages that did not arrive.
    pub failed: Vec<SeqRange>,
    /// The newest event that was displayed; 0 where none was.
    pub displayed_to: u64,
    /// The newest message that was due to this participant; 0 where none was.
    pub last_due: u64,
}

/// A conversation without its events: what is needed to go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationSnapshot {
    /// Its number.
    pub id: ConversationId,
    /// Its address for life.
    pub address: AddressOfRecord,
    /// What it began as.
    pub founded_as: Kind,
    /// The two that it is found by, in order, while it is the conversation of these two.
    pub pair: Option<(AddressOfRecord, AddressOfRecord)>,
    /// Its subject; may be empty.
    pub subject: String,
    /// Its avatar; without one, a mosaic of the members' avatars is shown.
    pub avatar: Option<FileId>,
    /// The membership epoch.
    pub epoch: u32,
    /// The sequence number of the next event.
    pub next_seq: u64,
    /// Everybody who is or was in it, in the order of their addresses.
    pub participants: Vec<ParticipantSnapshot>,
    /// The event that bit 0 of the first word of `messages` stands for.
    pub messages_base: u64,
    /// One bit for each event from the base on: whether it is a message. What is older than every pending message is
    /// left out.
    pub messages: Vec<u64>,
}

impl NewEvent {
    /// The event as it lies in the log.
    pub fn with_id(self, id: EventId) -> Event {
        Event {
            id,
            conversation: self.conversation,
            seq: self.seq,
            epoch: self.epoch,
            author: self.author,
            at_ms: self.at_ms,
            body: self.body,
        }
    }
}

impl EventBody {
    /// Whether it is a message: said by somebody, and owed to every other member with a receipt.
    pub fn is_message(&self) -> bool {
        matches!(
            self,
            Self::Text { .. } | Self::Opaque { .. } | Self::File { .. }
        )
    }

    /// Whether it changes who takes part, and so begins an epoch.
    pub fn changes_members(&self) -> bool {
        matches!(self, Self::MemberAdded { .. } | Self::MemberRemoved { .. })
    }
}

impl Kind {
    /// The name in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Group => "group",
            Self::Managed => "managed",
        }
    }
}

impl ParticipantRole {
    /// The name in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Owner => "owner",
        }
    }
}

impl FileKind {
    /// The name in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Picture => "picture",
            Self::Sound => "sound",
            Self::VoiceNote => "voice_note",
            Self::Video => "video",
        }
    }
}

impl ReceiptKind {
    /// The name in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Displayed => "displayed",
            Self::Failed => "failed",
        }
    }
}

impl SeqRange {
    /// Whether `seq` is one of them.
    pub fn contains(self, seq: u64) -> bool {
        (self.first..=self.last).contains(&seq)
    }
}
