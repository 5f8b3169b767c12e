//! Forwarding by edit lists: what does not change is copied, not serialised anew.
//!
//! *Invariant*: the message itself never changes; patches are ranges of its octets with their replacements, and a
//! patch within a removed range is void.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use smallvec::SmallVec;

use crate::message::{Message, Split};
use crate::{HeaderName, received};

/// Patches and their texts held without allocation.
const INLINE_PATCHES: usize = 16;
const INLINE_TEXT: usize = 768;

#[derive(Debug, Clone, Copy)]
struct Patch {
    start: usize,
    end: usize,
    /// Range of `text`.
    text: (usize, usize),
}

impl Patch {
    fn is_removal(&self) -> bool {
        self.end > self.start && self.text.0 == self.text.1
    }
}

/// A list of changes to a message, written out in one go. Insertions at one place appear in the order of the calls.
pub struct Edit<'m> {
    message: &'m Message,
    patches: SmallVec<[Patch; INLINE_PATCHES]>,
    text: SmallVec<[u8; INLINE_TEXT]>,
    body: Option<&'m [u8]>,
}

impl<'m> Edit<'m> {
    /// No changes yet.
    #[must_use]
    pub fn new(message: &'m Message) -> Self {
        Self {
            message,
            patches: SmallVec::new(),
            text: SmallVec::new(),
            body: None,
        }
    }

    /// Replaces the Request-URI.
    pub fn set_request_uri(&mut self, uri: &str) -> &mut Self {
        if self.message.is_request() {
            self.patch(self.message.request_uri_range(), uri.as_bytes());
        }
        self
    }

    /// Inserts a whole line (`Name: value\r\n`) before the first field of this name, or where there is none after the
    /// topmost Vias.
    pub fn insert_before(&mut self, name: HeaderName, line: &[u8]) -> &mut Self {
        let first = self.message.indices(name).next();
        let place = first.map_or_else(
            || self.message.after_vias(),
            |index| self.message.line_range(index).start,
        );
        self.insert(place, line)
    }

    /// Inserts a whole line (`Name: value\r\n`) before all fields.
    pub fn insert_top(&mut self, line: &[u8]) -> &mut Self {
        self.insert(self.message.first_field(), line)
    }

    /// Inserts a whole line (`Name: value\r\n`) after all fields.
    pub fn append(&mut self, line: &[u8]) -> &mut Self {
        self.insert(self.message.head_len(), line)
    }

    /// Appends a field; line ends within the value become spaces.
    pub fn append_field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let start = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b": ");
        self.text.extend(value.as_ref().iter().map(|octet| {
            if matches!(octet, b'\r' | b'\n') {
                b' '
            } else {
                *octet
            }
        }));
        self.text.extend_from_slice(b"\r\n");
        let place = self.message.head_len();
        self.push(place..place, start);
        self
    }

    fn insert(&mut self, place: usize, line: &[u8]) -> &mut Self {
        self.patch(place..place, line)
    }

    /// Removes the first value that is still there: of a comma list that value alone, else the field.
    /// Repeated, it pops one value after the other.
    pub fn remove_first_value(&mut self, name: HeaderName) -> &mut Self {
        if let Some((index, range, last)) = self.first_left(name) {
            let range = if last {
                self.message.line_range(index)
            } else {
                range
            };
            self.patch(range, b"");
        }
        self
    }

    /// The first value not removed yet: its field, its range up to the next value, whether the field ends with it.
    fn first_left(&self, name: HeaderName) -> Option<(usize, Range<usize>, bool)> {
        for index in self.message.indices(name) {
            let field = self.message.value_range(index);
            let mut values = Split::new(&self.message.bytes()[field.clone()])
                .map(|(at, _)| field.start + at)
                .peekable();
            while let Some(start) = values.next() {
                let next = values.peek().copied();
                if !self.is_removed(start) {
                    return Some((index, start..next.unwrap_or(field.end), next.is_none()));
                }
            }
        }
        None
    }

    fn is_removed(&self, place: usize) -> bool {
        self.patches
            .iter()
            .any(|patch| patch.is_removal() && (patch.start..patch.end).contains(&place))
    }

    /// Removes every field of this name.
    pub fn remove_all(&mut self, name: HeaderName) -> &mut Self {
        let message = self.message;
        for index in message.indices(name) {
            self.patch(message.line_range(index), b"");
        }
        self
    }

    /// Removes the fields for which `gone` holds, for names that are not in the table among others.
    pub fn remove_where(&mut self, mut gone: impl FnMut(&crate::Field<'_>) -> bool) -> &mut Self {
        let message = self.message;
        for (index, field) in message.fields().enumerate() {
            if gone(&field) {
                self.patch(message.line_range(index), b"");
            }
        }
        self
    }

    /// Replaces the value of the first field of this name; where there is none, the field is appended.
    pub fn replace_first(&mut self, name: HeaderName, value: &[u8]) -> &mut Self {
        match self.message.indices(name).next() {
            Some(index) => self.replace_value(self.message.value_range(index), value),
            None => self.append_field(name.as_str(), value),
        }
    }

    /// As [`Edit::replace_first`] with a number.
    pub fn set_number(&mut self, name: HeaderName, number: u32) -> &mut Self {
        let mut digits = [0u8; 10];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b"0123456789"[rest as usize % 10];
            rest /= 10;
            if rest == 0 {
                return self.replace_first(name, &digits[at..]);
            }
        }
    }

    /// Replaces the first value of a comma list, leaving the others; where there is none, the field is appended.
    pub fn replace_first_value(&mut self, name: HeaderName, value: &[u8]) -> &mut Self {
        let Some(index) = self.message.indices(name).next() else {
            return self.append_field(name.as_str(), value);
        };
        let field = self.message.value_range(index);
        let first = Split::new(&self.message.bytes()[field.clone()])
            .next()
            .map_or(0..0, |(at, text)| at..at + text.len());
        self.replace_value(field.start + first.start..field.start + first.end, value)
    }

    /// An empty value stands where its line ends, perhaps right after the colon.
    fn replace_value(&mut self, range: Range<usize>, value: &[u8]) -> &mut Self {
        let start = self.text.len();
        if range.is_empty() {
            self.text.push(b' ');
        }
        self.text.extend_from_slice(value);
        self.push(range, start);
        self
    }

    /// Marks the topmost Via with where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn set_received(&mut self, source: SocketAddr) -> &mut Self {
        received::patches(self.message, source, |range, text| {
            let start = self.text.len();
            // Writing into memory cannot fail.
            let _ = fmt::Write::write_fmt(&mut Text(&mut self.text), text);
            self.push(range, start);
        });
        self
    }

    /// Replaces the body with its Content-Type and Content-Length.
    pub fn set_body(&mut self, content_type: &str, body: &'m [u8]) -> &mut Self {
        self.body = Some(body);
        self.remove_all(HeaderName::ContentType);
        self.remove_all(HeaderName::ContentEncoding);
        self.remove_all(HeaderName::ContentLength);
        if !content_type.is_empty() {
            self.append_field(HeaderName::ContentType.as_str(), content_type);
        }
        self.append_length(body.len());
        self
    }

    fn append_length(&mut self, length: usize) {
        let start = self.text.len();
        // Writing into memory cannot fail.
        let _ = fmt::Write::write_fmt(
            &mut Text(&mut self.text),
            format_args!("Content-Length: {length}\r\n"),
        );
        let place = self.message.head_len();
        self.push(place..place, start);
    }

    fn patch(&mut self, range: Range<usize>, text: &[u8]) -> &mut Self {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.push(range, start);
        self
    }

    fn push(&mut self, range: Range<usize>, text_start: usize) {
        self.patches.push(Patch {
            start: range.start,
            end: range.end,
            text: (text_start, self.text.len()),
        });
    }

    /// Appends the changed message to `out`. A Content-Length is added where there is none, so that what came in a
    /// datagram can leave by a stream.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        if self.body.is_none() && !self.message.has(HeaderName::ContentLength) {
            self.append_length(self.message.body_bytes().len());
        }
        // Stable: insertions at a place come in the order of their calls, before a removal that begins there; of two
        // removals the longer covers the other.
        self.sort();
        out.reserve(
            self.message.bytes().len() + self.text.len() + self.body.map_or(0, <[u8]>::len),
        );
        let mut cursor = 0;
        for patch in &self.patches {
            if patch.start < cursor {
                continue;
            }
            self.copy(cursor..patch.start, out);
            out.extend_from_slice(&self.text[patch.text.0..patch.text.1]);
            cursor = patch.end;
        }
        self.copy(cursor..self.message.body_start(), out);
        out.extend_from_slice(self.body.unwrap_or_else(|| self.message.body_bytes()));
    }

    /// Insertion sort: few patches, mostly in order already, and no allocation.
    fn sort(&mut self) {
        let key = |patch: &Patch| {
            (
                patch.start,
                patch.end > patch.start,
                std::cmp::Reverse(patch.end),
            )
        };
        for next in 1..self.patches.len() {
            let mut at = next;
            while at > 0 && key(&self.patches[at - 1]) > key(&self.patches[at]) {
                self.patches.swap(at - 1, at);
                at -= 1;
            }
        }
    }

    /// Copies a part of the head; lines that end with LF alone get their CR.
    fn copy(&self, range: Range<usize>, out: &mut Vec<u8>) {
        let octets = self.message.bytes();
        if !self.message.has_bare_lf() {
            out.extend_from_slice(&octets[range]);
            return;
        }
        for at in range {
            if octets[at] == b'\n' && (at == 0 || octets[at - 1] != b'\r') {
                out.push(b'\r');
            }
            out.push(octets[at]);
        }
    }
}

struct Text<'t>(&'t mut SmallVec<[u8; INLINE_TEXT]>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
