//! Messages of our own making.
//!
//! *Invariant*: whatever goes into a value, no line end comes out of it, so no field can be smuggled in; the
//! Content-Length is that of the body.

use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::name_addr::open_ended;
use crate::{HeaderName, Message, reason_phrase, received};

/// Name of this software in Server and User-Agent.
const PRODUCT: &str = "Sidetone";
/// What the head of a usual response fits into.
const HEAD_BYTES: usize = 480;

fn put_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    put_value(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Folding, and line ends that someone tries to smuggle in, become spaces.
fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    let start = out.len();
    out.extend_from_slice(value);
    unfold(out, start);
}

fn unfold(out: &mut [u8], start: usize) {
    let value = &mut out[start..];
    if memchr::memchr2(b'\r', b'\n', value).is_some() {
        for octet in value {
            if matches!(octet, b'\r' | b'\n') {
                *octet = b' ';
            }
        }
    }
}

fn put_end(out: &mut Vec<u8>, body: Option<(&str, &[u8])>) {
    let (content_type, body) = body.unwrap_or(("", b""));
    if !content_type.is_empty() {
        put_field(out, "Content-Type", content_type.as_bytes());
    }
    // Writing into memory cannot fail.
    let _ = write!(out, "Content-Length: {}\r\n\r\n", body.len());
    out.extend_from_slice(body);
}

/// A response to a request (RFC 3261 §8.2.6).
pub struct ResponseBuilder<'m> {
    request: &'m Message,
    status: u16,
    reason: &'m str,
    source: Option<SocketAddr>,
    tag: SmallVec<[u8; 24]>,
    out: Vec<u8>,
    /// Fields beside those of the request.
    fields: Vec<u8>,
    record_route: bool,
    terse: bool,
    body: Option<(&'m str, &'m [u8])>,
}

impl<'m> ResponseBuilder<'m> {
    /// Begins with the status line and the Via fields, From, To, Call-ID and CSeq of the request, as far as it has
    /// them. An empty reason stands for the usual one.
    #[must_use]
    pub fn new(request: &'m Message, status: u16, reason: &'m str) -> Self {
        Self {
            request,
            status,
            reason: if reason.is_empty() {
                reason_phrase(status)
            } else {
                reason
            },
            source: None,
            tag: SmallVec::new(),
            out: Vec::new(),
            fields: Vec::new(),
            record_route: false,
            terse: false,
            body: None,
        }
    }

    /// Writes what comes from the request.
    fn begin(&mut self) {
        let body = self.body.map_or(0, |(_, body)| body.len());
        self.out.reserve(HEAD_BYTES + self.fields.len() + body);
        // Writing into memory cannot fail.
        let _ = write!(self.out, "SIP/2.0 {} ", self.status);
        put_value(&mut self.out, self.reason.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self.vias();
        self.copy(HeaderName::From);
        self.to();
        self.copy(HeaderName::CallId);
        self.copy(HeaderName::CSeq);
        if self.record_route {
            self.copy(HeaderName::RecordRoute);
        }
    }

    fn vias(&mut self) {
        let request = self.request;
        let filled = |range: &Range<usize>| !range.is_empty();
        let mut fields = request.value_ranges(HeaderName::Via).filter(filled);
        if let Some((source, value)) = self
            .source
            .and_then(|source| Some((source, fields.next()?)))
        {
            self.top_via(source, value);
        }
        for range in fields {
            put_field(&mut self.out, "Via", &request.bytes()[range]);
        }
    }

    fn top_via(&mut self, source: SocketAddr, value: Range<usize>) {
        let (out, octets) = (&mut self.out, self.request.bytes());
        out.extend_from_slice(b"Via: ");
        let start = out.len();
        let mut from = value.start;
        received::patches(self.request, source, |range, text| {
            out.extend_from_slice(&octets[from..range.start]);
            // Writing into memory cannot fail.
            let _ = out.write_fmt(text);
            from = range.end;
        });
        out.extend_from_slice(&octets[from..value.end]);
        unfold(out, start);
        out.extend_from_slice(b"\r\n");
    }

    fn to(&mut self) {
        if !self.copy(HeaderName::To) || self.tag.is_empty() || self.status == 100 {
            return;
        }
        if !self.request.to().is_ok_and(|to| to.tag().is_some()) {
            let length = open_ended(&self.out).len();
            self.out.truncate(length);
            self.out.extend_from_slice(b";tag=");
            self.out.extend_from_slice(&self.tag);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn copy(&mut self, name: HeaderName) -> bool {
        let before = self.out.len();
        let request = self.request;
        for range in request.value_ranges(name).filter(|range| !range.is_empty()) {
            put_field(&mut self.out, name.as_str(), &request.bytes()[range]);
        }
        self.out.len() > before
    }

    /// Copies all Record-Route fields, as a dialog-forming response must (RFC 3261 §12.1.1).
    #[must_use]
    pub fn record_route(mut self) -> Self {
        self.record_route = true;
        self
    }

    /// Adds a tag to To where it has none; not to 100 (RFC 3261 §8.2.6.2).
    #[must_use]
    pub fn to_tag(mut self, tag: &str) -> Self {
        if self.tag.is_empty() {
            self.tag = SmallVec::from_slice(tag.as_bytes());
        }
        self
    }

    /// Marks the topmost Via with where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
    #[must_use]
    pub fn received(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Adds a field; line ends in the value become spaces.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        put_field(&mut self.fields, name, value.as_ref());
        self
    }

    /// Leaves out `Server`, and the `Content-Length` that a datagram does without (RFC 3261 §18.3). For answers without
    /// a body, by UDP alone.
    #[must_use]
    pub fn terse(mut self) -> Self {
        self.terse = true;
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, content_type: &'m str, body: &'m [u8]) -> Self {
        self.body = Some((content_type, body));
        self
    }

    /// The response on the wire, with Content-Length.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        self.begin();
        self.out.extend_from_slice(&self.fields);
        if self.terse {
            self.out.extend_from_slice(b"\r\n");
        } else {
            put_field(&mut self.out, "Server", PRODUCT.as_bytes());
            put_end(&mut self.out, self.body);
        }
        Bytes::from(self.out)
    }
}

/// A request that begins here.
pub struct RequestBuilder<'m> {
    out: Vec<u8>,
    body: Option<(&'m str, &'m [u8])>,
}

impl<'m> RequestBuilder<'m> {
    /// Begins with the request line.
    #[must_use]
    pub fn new(method: &str, uri: &str) -> Self {
        let mut out = Vec::with_capacity(640);
        put_value(&mut out, method.as_bytes());
        out.push(b' ');
        put_value(&mut out, uri.as_bytes());
        out.extend_from_slice(b" SIP/2.0\r\n");
        Self { out, body: None }
    }

    /// Adds a field; line ends in the value become spaces.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        put_field(&mut self.out, name, value.as_ref());
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, content_type: &'m str, body: &'m [u8]) -> Self {
        self.body = Some((content_type, body));
        self
    }

    /// The request on the wire, with Content-Length.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        put_end(&mut self.out, self.body);
        Bytes::from(self.out)
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
