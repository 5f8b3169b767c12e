//! Framing of messages on a stream (RFC 3261 §18.3) and its keep-alives (RFC 5626 §3.5.1).
//!
//! *Invariant*: the buffer holds at most one message by the limits and what one `push` brought; after an error nothing
//! more is read, for where the next message begins cannot be known.

use bytes::{Buf, Bytes, BytesMut};

use crate::message::{Framing, Length, head_end};
use crate::{Limits, Message, Rejected};

/// What a stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole message, as [`Message::parse`] takes it.
    Message(Bytes),
    /// Double CRLF: to be answered with a CRLF.
    Ping,
    /// The CRLF that answers our ping.
    Pong,
}

/// A stream that cannot be read on: answer what can be answered, then close.
pub type FrameError = Rejected;

/// Which end of the connection we are; RFC 5626 lets only the connecting side ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Accepting,
    Connecting,
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    /// No head ends before this.
    scanned: usize,
    /// Octets of the message at the front, once its head is there.
    whole: Option<usize>,
    side: Side,
    broken: bool,
}

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

impl Framer {
    /// For a connection that the peer opened: a double CRLF is a ping.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            whole: None,
            side: Side::Accepting,
            broken: false,
        }
    }

    /// For a connection that we opened: a CRLF answers our ping.
    #[must_use]
    pub fn connecting() -> Self {
        Self {
            side: Side::Connecting,
            ..Self::new()
        }
    }

    /// Takes in what was read. Call [`Framer::next`] until it gives `None` before the next push.
    pub fn push(&mut self, octets: &[u8]) {
        if !self.broken {
            self.buffer.extend_from_slice(octets);
        }
    }

    /// Octets held back: part of a message that is not whole yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether an error ended this stream.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The next frame; `None` where more octets are needed.
    ///
    /// # Errors
    /// Once, where the stream cannot be read on: an absent or bad Content-Length, no SIP at all, or a message over the
    /// limits. Later calls give `None`.
    pub fn next(&mut self, limits: &Limits) -> Result<Option<Frame>, FrameError> {
        if let Some(keep_alive) = self.line_ends() {
            return Ok(Some(keep_alive));
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new(); // an idle connection holds no memory
            return Ok(None);
        }
        if self.whole.is_none() {
            self.head(limits)?;
        }
        match self.whole {
            Some(length) if self.buffer.len() >= length => {
                (self.whole, self.scanned) = (None, 0);
                Ok(Some(Frame::Message(self.buffer.split_to(length).freeze())))
            }
            _ => Ok(None),
        }
    }

    /// Line ends between messages: keep-alives, or to be ignored (RFC 3261 §7.5).
    fn line_ends(&mut self) -> Option<Frame> {
        while self.whole.is_none() {
            let (length, frame) = match (&self.buffer[..], self.side) {
                ([b'\r', b'\n', b'\r', b'\n', ..], Side::Accepting) => (4, Some(Frame::Ping)),
                ([b'\r', b'\n', ..], Side::Connecting) => (2, Some(Frame::Pong)),
                // The first half of a ping, perhaps.
                ([b'\r', b'\n'] | [b'\r', b'\n', b'\r'] | [b'\r'], _) => return None,
                ([b'\r', b'\n', ..], Side::Accepting) => (2, None),
                ([b'\n', ..], _) => (1, None),
                _ => return None,
            };
            self.buffer.advance(length);
            self.scanned = 0;
            if frame.is_some() {
                return frame;
            }
        }
        None
    }

    /// Looks for the end of the head and takes the length of the message from it.
    fn head(&mut self, limits: &Limits) -> Result<(), FrameError> {
        if !could_begin(&self.buffer) {
            return Err(self.fail(400, "Not SIP", 0));
        }
        let end = match head_end(&self.buffer, self.scanned) {
            // The verdict must not depend on how the octets were cut.
            Ok(end) if end <= limits.message_bytes => end,
            Err(scanned) if self.buffer.len() <= limits.message_bytes => {
                self.scanned = scanned;
                return Ok(());
            }
            _ => return Err(self.fail(513, "Message Too Large", limits.message_bytes)),
        };
        let length = match Length::of(&self.buffer[..end]) {
            Length::Is(length) => usize::try_from(length)
                .unwrap_or(usize::MAX)
                .saturating_add(end),
            Length::Bad => return Err(self.fail(400, "Bad Content-Length", end)),
            Length::Absent => return Err(self.fail(400, "Missing Content-Length", end)),
        };
        if length > limits.message_bytes {
            return Err(self.fail(513, "Message Too Large", end));
        }
        self.whole = Some(length);
        Ok(())
    }

    /// The error, with what of the head can be answered.
    fn fail(&mut self, status: u16, reason: &'static str, head: usize) -> FrameError {
        self.broken = true;
        let octets = std::mem::take(&mut self.buffer).freeze();
        let head = octets.slice(..head.min(octets.len()));
        // Read as a datagram so that a bad length hides nothing else; the code is the stream's.
        match Message::parse(head, Framing::Datagram, &Limits::default()) {
            Ok(message) => Rejected::new(status, reason, message),
            Err(rejected) => Rejected {
                status,
                reason,
                partial: rejected.partial,
            },
        }
    }
}

/// A start line begins with a token; a TLS record or other noise is told at once.
fn could_begin(buffer: &[u8]) -> bool {
    matches!(buffer, [first, ..] if crate::grammar::is_token(&[*first]))
        || matches!(buffer, [b'\r', ..])
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
