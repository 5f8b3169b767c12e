//! Messages in the spool: what a MESSAGE (RFC 3428) becomes once it is accepted.

use crate::{AccountId, AddressOfRecord, MessageId};
use bytes::Bytes;

/// Tells a retransmitted or merged request from a new one: a keyed hash of Call-ID, CSeq and
/// From tag, computed by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(pub [u8; 16]);

/// A message that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// The sender's URI as it is to be shown to the recipient.
    pub from: String,
    /// The address that it was sent to.
    pub to: AddressOfRecord,
    /// The account behind that address.
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
}
