//! Messages of our own making.
//!
//! *Invariant*: whatever goes into a value, no line end comes out of it, so no field can be smuggled in; the
//! Content-Length is that of the body.

use std::io::Write;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::{HeaderName, Message, reason_phrase, received};

/// Name of this software in Server and User-Agent.
const PRODUCT: &str = "Sidetone";

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
    if memchr::memchr2(b'\r', b'\n', value).is_some() {
        for octet in &mut out[start..] {
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
    out: Vec<u8>,
    /// Where the value of the topmost Via begins in `out`.
    via: usize,
    /// Where the value of To ends in `out`; 0 without To.
    to: usize,
    terse: bool,
    body: Option<(&'m str, &'m [u8])>,
}

impl<'m> ResponseBuilder<'m> {
    /// Begins with the status line and the Via fields, From, To, Call-ID and CSeq of the request, as far as it has
    /// them. An empty reason stands for the usual one.
    #[must_use]
    pub fn new(request: &'m Message, status: u16, reason: &str) -> Self {
        let mut out = Vec::with_capacity(640);
        let reason = if reason.is_empty() {
            reason_phrase(status)
        } else {
            reason
        };
        // Writing into memory cannot fail.
        let _ = write!(out, "SIP/2.0 {status} ");
        put_value(&mut out, reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        let via = out.len() + b"Via: ".len();
        let mut builder = Self {
            request,
            status,
            out,
            via,
            to: 0,
            terse: false,
            body: None,
        };
        builder.copy(HeaderName::Via);
        builder.copy(HeaderName::From);
        if builder.copy(HeaderName::To) {
            builder.to = builder.out.len() - 2;
        }
        builder.copy(HeaderName::CallId);
        builder.copy(HeaderName::CSeq);
        builder
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
        self.copy(HeaderName::RecordRoute);
        self
    }

    /// Adds a tag to To where it has none; not to 100 (RFC 3261 §8.2.6.2).
    #[must_use]
    pub fn to_tag(mut self, tag: &str) -> Self {
        let wanted = self.status != 100
            && self.to > 0
            && !self.request.to().is_ok_and(|to| to.tag().is_some());
        if wanted {
            let text = [b";tag=", tag.as_bytes()].concat();
            self.out.splice(self.to..self.to, text);
            self.to = 0;
        }
        self
    }

    /// Marks the topmost Via with where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
    #[must_use]
    pub fn received(mut self, source: SocketAddr) -> Self {
        let Some(value) = self.request.first_filled(HeaderName::Via) else {
            return self;
        };
        let mut place = self.via;
        let mut from = value.start;
        let before = self.out.len();
        received::patches(self.request, source, |range, text| {
            place += range.start - from;
            let text = text.to_string();
            self.out.splice(place..place + range.len(), text.bytes());
            place += text.len();
            from = range.end;
        });
        if self.to > 0 {
            self.to = self.to + self.out.len() - before;
        }
        self
    }

    /// Adds a field; line ends in the value become spaces.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        put_field(&mut self.out, name, value.as_ref());
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
