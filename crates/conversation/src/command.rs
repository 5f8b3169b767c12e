//! What goes into a conversation and what comes out of it.
//!
//! *Invariant*: plain data; whatever a command refers to was looked up by the caller, for the machine keeps no events.

use crate::Refusal;
use bytes::Bytes;
use sidetone_model::{
    AddressOfRecord, Event, EventBody, FileId, FileRef, History, NewEvent, ParticipantRole,
    Receipt, ReceiptKind, TextFormat,
};

/// What a conversation takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody wants something done.
    Command {
        /// Who; already authenticated.
        author: AddressOfRecord,
        /// By what right.
        authority: Authority,
        /// What.
        command: Command,
    },
    /// A device, or what delivers to it, says what became of messages.
    Receipt {
        /// Whose device.
        member: AddressOfRecord,
        /// The first event it speaks of: the same as `seq` for one message, 1 for "everything up to `seq`".
        from_seq: u64,
        /// The last event it speaks of.
        seq: u64,
        /// What became of them. `Displayed` also moves the member's reading mark to `seq`: what was delivered before
        /// counts as displayed.
        kind: ReceiptKind,
    },
}

/// By what right somebody acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// As a participant, by the role there.
    Participant,
    /// As an administrator of the domain: changes members and subjects of groups without being in them, and never of
    /// the conversation of a pair.
    Administrator,
}

/// What somebody wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Say something.
    Post(Content),
    /// React to a message, or take the reaction back.
    React {
        /// To what.
        target: Target,
        /// With what.
        emoji: String,
        /// Whether to take it back.
        removed: bool,
    },
    /// Give one's own message another wording.
    Edit {
        /// Which.
        target: Target,
        /// The new wording.
        text: String,
        /// How to read it.
        format: TextFormat,
    },
    /// Take a message back.
    Retract {
        /// Which.
        target: Target,
    },
    /// Add somebody.
    AddMember {
        /// Who.
        member: AddressOfRecord,
        /// As what.
        role: ParticipantRole,
        /// How much of the past to show.
        history: History,
    },
    /// Remove somebody, or leave.
    RemoveMember {
        /// Who.
        member: AddressOfRecord,
    },
    /// Give somebody another role.
    SetRole {
        /// Who.
        member: AddressOfRecord,
        /// Which.
        role: ParticipantRole,
    },
    /// Change the subject; an empty one takes it away.
    SetSubject {
        /// The new one.
        subject: String,
    },
    /// Change the avatar; none brings the mosaic back.
    SetAvatar {
        /// The new one.
        avatar: Option<FileId>,
    },
    /// Write a line of the system's own; administrators only.
    Announce {
        /// What it says.
        text: String,
    },
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A text.
    Text {
        /// What is said.
        text: String,
        /// How to read it.
        format: TextFormat,
        /// What it answers.
        reply_to: Option<u64>,
    },
    /// The body of a MESSAGE that is no text.
    Opaque {
        /// Content-Type as on the wire.
        content_type: String,
        /// Further header lines, each ended by CRLF.
        headers: String,
        /// The body.
        body: Bytes,
    },
    /// A file.
    File {
        /// Which.
        file: FileRef,
        /// What is said with it.
        caption: String,
        /// What it answers.
        reply_to: Option<u64>,
    },
}

/// An event that a command is about, as the caller found it in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its place.
    pub seq: u64,
    /// Who wrote it.
    pub author: AddressOfRecord,
    /// What it is.
    pub kind: TargetKind,
    /// Whether it was taken back since.
    pub retracted: bool,
}

/// What the target of a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// A text.
    Text,
    /// A file with a caption.
    File,
    /// A body that is no text.
    Opaque,
    /// No message.
    Other,
}

/// What a conversation wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Commit this event. Appends that follow each other without anything between are one change: commit them together.
    Append(NewEvent),
    /// Bring an event to a participant who may see it; by which device and protocol is decided elsewhere.
    Deliver {
        /// Which event.
        seq: u64,
        /// To whom.
        to: AddressOfRecord,
    },
    /// What became of messages at one recipient has changed.
    Receipt(Receipt),
    /// The input was refused, and nothing has changed.
    Refused(Refusal),
}

impl Target {
    /// The target that an event is.
    pub fn of(event: &Event, retracted: bool) -> Self {
        Self {
            seq: event.seq,
            author: event.author.clone(),
            kind: TargetKind::of(&event.body),
            retracted,
        }
    }
}

impl TargetKind {
    /// What an event is as a target.
    pub fn of(body: &EventBody) -> Self {
        match body {
            EventBody::Text { .. } => Self::Text,
            EventBody::File { .. } => Self::File,
            EventBody::Opaque { .. } => Self::Opaque,
            _ => Self::Other,
        }
    }
}

impl From<Content> for EventBody {
    fn from(content: Content) -> Self {
        match content {
            Content::Text {
                text,
                format,
                reply_to,
            } => Self::Text {
                text,
                format,
                reply_to,
            },
            Content::Opaque {
                content_type,
                headers,
                body,
            } => Self::Opaque {
                content_type,
                headers,
                body,
            },
            Content::File {
                file,
                caption,
                reply_to,
            } => Self::File {
                file,
                caption,
                reply_to,
            },
        }
    }
}
