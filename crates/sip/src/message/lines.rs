//! Lines of a message head, shared by the parser and the stream framer.
//!
//! *Invariant*: both see the same fields and the same Content-Length, so no message can be framed one way and read
//! another.

use crate::HeaderName;
use crate::grammar::{number, trim, trim_end};

/// One logical line: a header field with its folded continuations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) start: usize,
    /// Without the line end.
    pub(crate) end: usize,
    /// The next line's start.
    pub(crate) next: usize,
}

/// Cursor over the lines of a head.
pub(crate) struct Lines<'a> {
    buf: &'a [u8],
    pub(crate) at: usize,
    /// A line ended with LF alone.
    pub(crate) bare_lf: bool,
    /// A CR stood where no line ended.
    pub(crate) bare_cr: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(buf: &'a [u8]) -> Self {
        Self {
            buf,
            at: 0,
            bare_lf: false,
            bare_cr: false,
        }
    }

    /// The next line as it stands; `None` where no further line ends.
    pub(crate) fn physical(&mut self) -> Option<Line> {
        let start = self.at;
        let mut from = start;
        loop {
            from += memchr::memchr2(b'\r', b'\n', &self.buf[from..])?;
            let (end, length) = match self.buf[from..] {
                [b'\r', b'\n', ..] => (from, 2),
                [b'\n', ..] => {
                    self.bare_lf = true;
                    (from, 1)
                }
                _ => {
                    self.bare_cr = true;
                    from += 1;
                    continue;
                }
            };
            self.at = end + length;
            return Some(Line {
                start,
                end,
                next: self.at,
            });
        }
    }

    /// The next field; an empty line is returned as such.
    pub(crate) fn logical(&mut self) -> Option<Line> {
        let mut line = self.physical()?;
        // RFC 3261 §7.3.1: a line that begins with white space continues the one before.
        while line.end > line.start && matches!(self.buf.get(self.at), Some(b' ' | b'\t')) {
            let more = self.physical()?;
            (line.end, line.next) = (more.end, more.next);
        }
        Some(line)
    }
}

/// The length of a field's name and where its colon is; `None` where the line is no field.
pub(crate) fn split_name(line: &[u8]) -> Option<(usize, usize)> {
    let colon = memchr::memchr(b':', line)?;
    Some((trim_end(&line[..colon]).len(), colon))
}

/// The length of the head with its empty line, where that has come; otherwise how far the search may resume.
pub(crate) fn head_end(buf: &[u8], from: usize) -> Result<usize, usize> {
    let mut at = from;
    while let Some(found) = memchr::memchr(b'\n', &buf[at..]) {
        let line_end = at + found;
        match buf[line_end + 1..] {
            [b'\n', ..] => return Ok(line_end + 2),
            [b'\r', b'\n', ..] => return Ok(line_end + 3),
            [] | [b'\r'] => return Err(line_end),
            _ => at = line_end + 1,
        }
    }
    Err(buf.len())
}

/// What the Content-Length fields of a message say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Absent,
    /// Negative, no number, or two that differ (RFC 4475 §3.1.2.3, §3.3.9).
    Bad,
    Is(u64),
}

impl Length {
    pub(crate) fn merge(&mut self, value: &[u8]) {
        *self = match (number(trim(value)), *self) {
            (Some(length), Self::Absent) => Self::Is(length),
            (Some(length), Self::Is(before)) if length == before => Self::Is(length),
            _ => Self::Bad,
        };
    }

    /// Of a head with its start line.
    pub(crate) fn of(head: &[u8]) -> Self {
        let mut length = Self::Absent;
        let mut lines = Lines::new(head);
        lines.physical();
        while let Some(line) = lines.logical() {
            let text = &head[line.start..line.end];
            // Compact or not, the name begins with one of two letters.
            if !matches!(text.first(), Some(b'C' | b'c' | b'L' | b'l')) {
                continue;
            }
            if let Some((name, colon)) = split_name(text)
                && HeaderName::parse(&text[..name]) == HeaderName::ContentLength
            {
                length.merge(&text[colon + 1..]);
            }
        }
        length
    }
}
