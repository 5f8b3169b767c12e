//! A SIP message as offsets over the octets it came in.
//!
//! *Invariant*: every offset lies within `bytes` and was found by one pass over the head; the octets never change.
//! `bytes` begins at the start line and ends with the body: leading CRLFs and trailing surplus are cut off.

mod lines;
mod parse;
mod seen;
mod split;
mod typed;

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{HeaderName, Limits, Method};
use seen::{SeenAddress, SeenVia};

pub(crate) use lines::{Length, head_end};
pub(crate) use split::Split;
pub use typed::CSeq;

/// Header fields held without allocation; more are held with one.
const INLINE_FIELDS: usize = 24;

/// How the end of a message is known (RFC 3261 §18.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A datagram or a WebSocket frame holds the message: Content-Length may be absent.
    Datagram,
    /// Content-Length alone tells.
    Stream,
}

/// Why a message was refused, and what is needed to say so to its sender.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status} {reason}")]
pub struct Rejected {
    /// The answer code that fits.
    pub status: u16,
    /// What is wrong, fit for a reason phrase.
    pub reason: &'static str,
    /// The request as far as it could be read, enough for a stateless answer; `None` where none may be sent
    /// (a response, an ACK, no readable Via).
    pub partial: Option<Box<Message>>,
}

/// Offsets of one header field. The field's lines end where the next field begins.
#[derive(Debug, Clone, Copy)]
struct Slot {
    start: u32,
    value: u32,
    value_end: u32,
    name_len: u16,
    name: HeaderName,
}

/// Offsets of the start line: a request's method ends at `first_end`, its URI is `second`; of a response `second` is
/// the reason phrase.
#[derive(Debug, Clone, Copy)]
struct StartLine {
    request: bool,
    method: Method,
    status: u16,
    first_end: u32,
    second: (u32, u32),
}

/// A request or a response.
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    slots: SmallVec<[Slot; INLINE_FIELDS]>,
    present: u128,
    start: StartLine,
    /// Where the empty line begins.
    head_end: u32,
    body: u32,
    bare_lf: bool,
    seen: Seen,
}

/// What was asked for before.
#[derive(Debug, Clone, Default)]
struct Seen {
    via: Cell<Option<SeenVia>>,
    from: Cell<Option<SeenAddress>>,
    to: Cell<Option<SeenAddress>>,
}

/// One header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, `Other` if unknown.
    pub name: HeaderName,
    /// The name as on the wire.
    pub name_text: &'a [u8],
    /// The value, trimmed, otherwise raw: it may hold folding.
    pub value: &'a [u8],
    /// The whole field with its line end.
    pub line: &'a [u8],
}

pub(crate) const fn at(offset: u32) -> usize {
    offset as usize
}

impl Message {
    /// Parses one message. `buf` has to hold it whole.
    ///
    /// # Errors
    /// With the answer code that fits: 400, 414, 505, 513.
    pub fn parse(buf: Bytes, framing: Framing, limits: &Limits) -> Result<Self, Rejected> {
        parse::message(buf, framing, limits)
    }

    /// The octets of the message, start line to end of body.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The body; shares the octets.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(at(self.body)..)
    }

    /// The body, borrowed.
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        &self.bytes[at(self.body)..]
    }

    /// Whether this is a request.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.start.request
    }

    /// The method of a request.
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        self.start.request.then_some(self.start.method)
    }

    /// The method of a request as on the wire; empty for responses.
    #[must_use]
    pub fn method_text(&self) -> &str {
        let end = if self.start.request {
            self.start.first_end
        } else {
            0
        };
        self.text(0..at(end))
    }

    /// The Request-URI as on the wire; empty for responses.
    #[must_use]
    pub fn request_uri(&self) -> &str {
        self.text(self.request_uri_range())
    }

    pub(crate) fn request_uri_range(&self) -> Range<usize> {
        if self.start.request {
            at(self.start.second.0)..at(self.start.second.1)
        } else {
            0..0
        }
    }

    fn text(&self, range: Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes[range]).unwrap_or("")
    }

    /// The status code of a response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        (!self.start.request).then_some(self.start.status)
    }

    /// The reason phrase of a response; empty for requests.
    #[must_use]
    pub fn reason_phrase(&self) -> &[u8] {
        if self.start.request {
            b""
        } else {
            &self.bytes[at(self.start.second.0)..at(self.start.second.1)]
        }
    }

    /// Whether a header field of this name is there.
    #[must_use]
    pub fn has(&self, name: HeaderName) -> bool {
        self.present & name.bit() != 0
    }

    /// The value of the first field of this name: trimmed, raw (it may hold folding).
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<&[u8]> {
        self.value_ranges(name)
            .next()
            .map(|range| &self.bytes[range])
    }

    /// As [`Message::header`], by a name in any case; of a known name all its forms are found.
    #[must_use]
    pub fn header_by_name(&self, name: &str) -> Option<&[u8]> {
        match HeaderName::parse(name.as_bytes()) {
            HeaderName::Other => self
                .fields()
                .find(|field| field.name_text.eq_ignore_ascii_case(name.as_bytes()))
                .map(|field| field.value),
            known => self.header(known),
        }
    }

    /// All fields in order.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Field<'_>> {
        (0..self.slots.len()).map(|index| self.field(index))
    }

    /// The names of all fields in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = HeaderName> {
        self.slots.iter().map(|slot| slot.name)
    }

    fn field(&self, index: usize) -> Field<'_> {
        let slot = self.slots[index];
        let start = at(slot.start);
        Field {
            name: slot.name,
            name_text: &self.bytes[start..start + usize::from(slot.name_len)],
            value: &self.bytes[at(slot.value)..at(slot.value_end)],
            line: &self.bytes[self.line_range(index)],
        }
    }

    /// The values of a list header, across its fields, in order: lists are split at commas outside quotes and
    /// brackets. Not for headers that are no lists (Date, Authorization, Subject …).
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        self.value_ranges(name)
            .flat_map(|range| Split::new(&self.bytes[range]).map(|(_, value)| value))
    }

    /// Whole values of the fields of this name.
    pub(crate) fn value_ranges(&self, name: HeaderName) -> impl Iterator<Item = Range<usize>> {
        let slots = if self.has(name) { &self.slots[..] } else { &[] };
        slots
            .iter()
            .filter(move |slot| slot.name == name)
            .map(|slot| at(slot.value)..at(slot.value_end))
    }

    /// The first field of this name that has a value: the same one that `values` begins with.
    pub(crate) fn first_filled(&self, name: HeaderName) -> Option<Range<usize>> {
        self.value_ranges(name).find(|range| !range.is_empty())
    }

    /// Indices of the fields of this name.
    pub(crate) fn indices(&self, name: HeaderName) -> impl Iterator<Item = usize> {
        let slots = if self.has(name) { &self.slots[..] } else { &[] };
        slots
            .iter()
            .enumerate()
            .filter(move |(_, slot)| slot.name == name)
            .map(|(index, _)| index)
    }

    pub(crate) fn value_range(&self, index: usize) -> Range<usize> {
        at(self.slots[index].value)..at(self.slots[index].value_end)
    }

    pub(crate) fn line_range(&self, index: usize) -> Range<usize> {
        let end = self
            .slots
            .get(index + 1)
            .map_or(self.head_end, |next| next.start);
        at(self.slots[index].start)..at(end)
    }

    /// Where the first field that is no Via begins: after the Vias at the top.
    pub(crate) fn after_vias(&self) -> usize {
        let first = self.slots.iter().find(|slot| slot.name != HeaderName::Via);
        at(first.map_or(self.head_end, |slot| slot.start))
    }

    pub(crate) fn first_field(&self) -> usize {
        at(self.slots.first().map_or(self.head_end, |slot| slot.start))
    }

    /// Where the empty line after the head begins.
    pub(crate) fn head_len(&self) -> usize {
        at(self.head_end)
    }

    pub(crate) fn body_start(&self) -> usize {
        at(self.body)
    }

    /// Whether a line of the head ends without CR.
    pub(crate) fn has_bare_lf(&self) -> bool {
        self.bare_lf
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Message").field(&self.bytes).finish()
    }
}

#[cfg(test)]
mod tests;
