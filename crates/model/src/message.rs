//! Messages in the spool: what a MESSAGE (RFC 3428) becomes once it is accepted.

use crate::{AccountId, AddressOfRecord, ConversationId, FileRef, MessageId};
use bytes::Bytes;

/// Tells a retransmitted or merged request from a new one: a keyed hash of Call-ID, CSeq and
/// From tag, computed by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(pub [u8; 16]);

/// Where a message stands in its conversation's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its number there, from 1.
    pub seq: u64,
    /// The epoch of the conversation's membership.
    pub epoch: u32,
    /// Who said it.
    pub author: AddressOfRecord,
    /// What kind of event it is, as the store names it.
    pub kind: Box<str>,
    /// What the event has beside a body, as the store writes it.
    pub detail: Box<str>,
}

/// A message that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// The sender's URI as it is to be shown to the recipient.
    pub from: String,
    /// The address that it was sent to.
    pub to: AddressOfRecord,
    /// The account behind that address.
    /// 0 for a group's.
    pub account: AccountId,
    /// When it was received, Unix time.
    pub received_ms: u64,
    /// Content-Type as on the wire; may be empty.
    pub content_type: String,
    /// Further header lines to keep, each ended by CRLF; may be empty.
    pub headers: String,
    /// The body, whatever its bytes are.
    pub body: Bytes,
    /// What it is recognised by when it comes again.
    pub origin: Origin,
    /// The origin is a key that the sender chose: it is recognised for a day, and not only as long
    /// as a request is repeated.
    pub keyed: bool,
    /// Where it stands in its conversation.
    pub place: Option<Place>,
}

/// A message as it lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its number; the order of delivery.
    pub id: MessageId,
    /// The sender's URI.
    pub from: String,
    /// The address that it was sent to.
    pub to: AddressOfRecord,
    /// When it was received, Unix time.
    pub received_ms: u64,
    /// Content-Type as on the wire; may be empty.
    pub content_type: String,
    /// Further header lines, each ended by CRLF; may be empty.
    pub headers: String,
    /// The body.
    pub body: Bytes,
    /// It was sent to a group, whose address is `to`.
    pub in_group: bool,
    /// Where it stands: the conversation, and its number there.
    pub event: Option<(ConversationId, u64)>,
    /// The file that it brings; the body is what was said with it.
    pub file: Option<Box<FileRef>>,
}
