//! Where the parts are of the headers that everybody asks for: found once, remembered as offsets.
//!
//! *Invariant*: only a value that was well-formed is remembered, and the octets that the offsets point into never
//! change.

use super::{Message, at};
use crate::grammar::{offset_in, utf8};
use crate::params::Params;
use crate::{Malformed, NameAddr, Via};

/// A range of the message's octets.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(message: &Message, part: &[u8]) -> Self {
        let start = offset_in(&message.bytes, part);
        // Offsets are below 2³¹: the parser has cut the octets to that.
        let offset = |index| u32::try_from(index).unwrap_or(u32::MAX);
        Self {
            start: offset(start),
            end: offset(start + part.len()),
        }
    }

    fn octets(self, message: &Message) -> &[u8] {
        &message.bytes[at(self.start)..at(self.end)]
    }
}

/// Texts of one value, which is looked through once for all of them. An empty one may be anywhere.
fn texts<const N: usize>(message: &Message, spans: [Span; N]) -> Result<[&str; N], Malformed> {
    let full = || spans.iter().filter(|span| span.start < span.end);
    let start = full().map(|span| span.start).min().unwrap_or(0);
    let end = full().map(|span| span.end).max().unwrap_or(start);
    let whole = utf8(Span { start, end }.octets(message))?;
    let mut found = [""; N];
    for (text, span) in found.iter_mut().zip(&spans) {
        if span.start < span.end {
            let range = at(span.start - start)..at(span.end - start);
            *text = whole.get(range).ok_or(Malformed("text"))?;
        }
    }
    Ok(found)
}

/// The parts of a Via.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenVia {
    protocol: Span,
    transport: Span,
    host: Span,
    port: Option<u16>,
    params: Span,
}

impl SeenVia {
    pub(super) fn of(message: &Message, via: &Via<'_>) -> Self {
        let span = |text: &str| Span::of(message, text.as_bytes());
        Self {
            protocol: span(via.protocol),
            transport: span(via.transport),
            host: span(via.host),
            port: via.port,
            params: span(via.params.as_str()),
        }
    }

    pub(super) fn view(self, message: &Message) -> Result<Via<'_>, Malformed> {
        let spans = [self.protocol, self.transport, self.host, self.params];
        let [protocol, transport, host, params] = texts(message, spans)?;
        Ok(Via {
            protocol,
            transport,
            host,
            port: self.port,
            params: Params::new(params),
        })
    }
}

/// The parts of a From or To.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenAddress {
    display: Option<Span>,
    uri: Span,
    params: Span,
}

impl SeenAddress {
    pub(super) fn of(message: &Message, address: &NameAddr<'_>) -> Self {
        Self {
            display: address.display.map(|display| Span::of(message, display)),
            uri: Span::of(message, address.uri.as_bytes()),
            params: Span::of(message, address.params.as_str().as_bytes()),
        }
    }

    pub(super) fn view(self, message: &Message) -> Result<NameAddr<'_>, Malformed> {
        let [uri, params] = texts(message, [self.uri, self.params])?;
        Ok(NameAddr {
            display: self.display.map(|display| display.octets(message)),
            uri,
            params: Params::new(params),
        })
    }
}
