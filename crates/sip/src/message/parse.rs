//! The parser: one pass over the head.
//!
//! *Invariant*: the first defect found decides the code; parsing goes on after it, so that a request that can be
//! identified can also be answered.

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::lines::{Length, Line, Lines, split_name};
use super::{Framing, Message, Rejected, Slot, StartLine};
use crate::grammar::{breaks_uri, is_token, number, offset_in, trim, utf8};
use crate::{HeaderName, Limits, Method};

type Defect = (u16, &'static str);

/// Offsets are 32 bits: what does not fit is too large, whatever the limit says.
const OFFSET_MAX: usize = u32::MAX as usize / 2;

/// Lossless below `OFFSET_MAX`, which every buffer is cut to.
fn offset(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

struct Parser<'a> {
    buf: &'a [u8],
    limits: &'a Limits,
    lines: Lines<'a>,
    slots: SmallVec<[Slot; super::INLINE_FIELDS]>,
    present: u128,
    length: Length,
    head_end: usize,
    defect: Option<Defect>,
}

pub(super) fn message(
    mut buf: Bytes,
    framing: Framing,
    limits: &Limits,
) -> Result<Message, Rejected> {
    skip_line_ends(&mut buf);
    let oversize = buf.len() > limits.message_bytes.min(OFFSET_MAX);
    buf.truncate(OFFSET_MAX);
    let mut parser = Parser::new(&buf, limits);
    if oversize {
        parser.fail(513, "Message Too Large");
    }
    let start = parser.start_line();
    parser.headers();
    let body = parser.lines.at;
    let end = parser.body_end(body, framing);
    let Parser {
        slots,
        present,
        head_end,
        defect,
        lines,
        ..
    } = parser;
    let bare_lf = lines.bare_lf;
    buf.truncate(end);
    let head_end = offset(head_end);
    let message = Message {
        bytes: buf,
        slots,
        present,
        start,
        head_end,
        body: offset(body),
        bare_lf,
        seen: super::Seen::default(),
    };
    match defect {
        None => Ok(message),
        Some((status, reason)) => Err(Rejected::new(status, reason, message)),
    }
}

/// RFC 3261 §7.5: CRLFs before the start line are ignored.
fn skip_line_ends(buf: &mut Bytes) {
    let leading = buf
        .iter()
        .take_while(|octet| matches!(octet, b'\r' | b'\n'))
        .count();
    if leading > 0 {
        buf.advance(leading);
    }
}

impl Rejected {
    /// Keeps as much of the message as an answer may be made from.
    pub(crate) fn new(status: u16, reason: &'static str, message: Message) -> Self {
        let answerable = message.is_request()
            && message.method() != Some(Method::Ack)
            && message.top_via().is_ok();
        Self {
            status,
            reason,
            partial: answerable.then(|| Box::new(message)),
        }
    }
}

impl<'a> Parser<'a> {
    fn new(buf: &'a [u8], limits: &'a Limits) -> Self {
        Self {
            buf,
            limits,
            lines: Lines::new(buf),
            slots: SmallVec::new(),
            present: 0,
            length: Length::Absent,
            head_end: buf.len(),
            defect: None,
        }
    }

    fn fail(&mut self, status: u16, reason: &'static str) {
        self.defect.get_or_insert((status, reason));
    }

    fn start_line(&mut self) -> StartLine {
        let Some(line) = self.lines.physical() else {
            self.fail(400, "Bad Start Line");
            return StartLine::request(Method::Other, 0, (0, 0));
        };
        let text = &self.buf[..line.end];
        if text
            .get(..4)
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"SIP/"))
        {
            self.status_line(text)
        } else {
            self.request_line(text)
        }
    }

    /// `Method SP Request-URI SP SIP-Version`; more than one SP, and SP at the end, are recovered from
    /// (RFC 4475 §3.1.2.9, §3.1.2.10).
    fn request_line(&mut self, line: &'a [u8]) -> StartLine {
        let line = trim(line);
        let method_end = memchr::memchr(b' ', line).unwrap_or(line.len());
        let (method, rest) = line.split_at(method_end);
        if !is_token(method) || offset_in(self.buf, line) > 0 {
            self.fail(400, "Bad Method");
            return StartLine::request(Method::Other, 0, (0, 0));
        }
        let rest = trim(rest);
        let uri_end = memchr::memrchr(b' ', rest).unwrap_or(0);
        let (uri, version) = (trim(&rest[..uri_end]), trim(&rest[uri_end..]));
        self.check_version(version);
        self.check_uri(uri);
        let uri_start = offset_in(self.buf, uri);
        let range = (offset(uri_start), offset(uri_start + uri.len()));
        StartLine::request(Method::parse(method), offset(method_end), range)
    }

    fn check_version(&mut self, version: &[u8]) {
        if version.eq_ignore_ascii_case(b"SIP/2.0") {
            return;
        }
        match version.get(..4) {
            Some(prefix) if prefix.eq_ignore_ascii_case(b"SIP/") => {
                self.fail(505, "Version Not Supported")
            }
            _ => self.fail(400, "Bad Request Line"),
        }
    }

    fn check_uri(&mut self, uri: &[u8]) {
        if uri.len() > self.limits.uri_bytes {
            self.fail(414, "Request-URI Too Long");
        } else if uri.is_empty() || breaks_uri(uri) || utf8(uri).is_err() {
            self.fail(400, "Bad Request-URI");
        }
    }

    /// `SIP-Version SP Status-Code SP Reason-Phrase`
    fn status_line(&mut self, line: &'a [u8]) -> StartLine {
        let version_end = memchr::memchr(b' ', line).unwrap_or(line.len());
        self.check_version(&line[..version_end]);
        let rest = trim(&line[version_end..]);
        let code_end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
        let status = number(&rest[..code_end])
            .filter(|code| code_end == 3 && (100..700).contains(code))
            .and_then(|code| u16::try_from(code).ok());
        if status.is_none() {
            self.fail(400, "Bad Status Code");
        }
        let reason = trim(&rest[code_end..]);
        let reason_start = offset_in(self.buf, reason);
        StartLine {
            request: false,
            method: Method::Other,
            status: status.unwrap_or(0),
            first_end: offset(version_end),
            second: (offset(reason_start), offset(reason_start + reason.len())),
        }
    }

    fn headers(&mut self) {
        while let Some(line) = self.lines.logical() {
            if line.start == line.end {
                self.head_end = line.start;
                if self.lines.bare_cr {
                    self.fail(400, "Bare CR in Header");
                }
                return;
            }
            if self.slots.len() >= self.limits.headers {
                self.fail(400, "Too Many Headers");
                self.head_end = line.start;
                self.lines.at = self.buf.len();
                return;
            }
            self.header(line);
        }
        self.fail(400, "Header Not Terminated");
        self.lines.at = self.buf.len();
    }

    fn header(&mut self, line: Line) {
        let text = &self.buf[line.start..line.end];
        let Some((name_len, colon)) = split_name(text) else {
            return self.fail(400, "Header Without Colon");
        };
        let name = HeaderName::parse(&text[..name_len]);
        let narrow = u16::try_from(name_len);
        if name == HeaderName::Other && !is_token(&text[..name_len]) || narrow.is_err() {
            return self.fail(400, "Bad Header Name");
        }
        let raw = &text[colon + 1..];
        let value = trim(raw);
        if name == HeaderName::ContentLength {
            self.length.merge(value);
        }
        // An empty value begins where the line ends.
        let value_start = if value.is_empty() {
            line.end
        } else {
            line.start + offset_in(text, value)
        };
        self.present |= name.bit();
        self.slots.push(Slot {
            start: offset(line.start),
            value: offset(value_start),
            value_end: offset(value_start + value.len()),
            name_len: narrow.unwrap_or(0),
            name,
        });
    }

    /// RFC 3261 §18.3: in a datagram the surplus is ignored and a shortfall is an error; in a stream the length must
    /// be there.
    fn body_end(&mut self, body: usize, framing: Framing) -> usize {
        let available = (self.buf.len() - body) as u64;
        match (self.length, framing) {
            (Length::Is(length), _) if length <= available => {
                body + usize::try_from(length).unwrap_or(self.buf.len() - body)
            }
            (Length::Is(_), _) => {
                self.fail(400, "Content-Length Larger Than Body");
                self.buf.len()
            }
            (Length::Bad, _) => {
                self.fail(400, "Bad Content-Length");
                self.buf.len()
            }
            (Length::Absent, Framing::Stream) => {
                self.fail(400, "Missing Content-Length");
                self.buf.len()
            }
            (Length::Absent, Framing::Datagram) => self.buf.len(),
        }
    }
}

impl StartLine {
    fn request(method: Method, first_end: u32, second: (u32, u32)) -> Self {
        Self {
            request: true,
            method,
            status: 0,
            first_end,
            second,
        }
    }
}
