//! `message/cpim` (RFC 3862): a message with its sender, recipients, date and subject, around any content.
//!
//! ```text
//! From: "Ann" <sip:ann@example.net>      headers of the message, UTF-8, no folding
//! NS: imdn <urn:ietf:params:imdn>        a prefix for names that are not CPIM's own
//! imdn.Message-ID: 7f3a
//!
//! Content-Type: text/plain               MIME headers of the content
//!
//! hello                                  the content, whatever its octets are
//! ```
//!
//! *Invariant*: what is kept of a head is bounded; a header knows its namespace, not its prefix; nothing that is put into
//! a message can add a line to it.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::{Malformed, timestamp};

/// The content type of such a message.
pub const CONTENT_TYPE: &str = "message/cpim";
/// The namespace of the headers that RFC 3862 §4 defines.
pub const NAMESPACE: &str = "urn:ietf:params:cpim-headers:";

/// Octets of both heads together.
const HEAD_BYTES_MAX: usize = 32_768;
/// Headers of one head.
const HEADERS_MAX: usize = 64;
/// Parameters of one header.
const PARAMETERS_MAX: usize = 8;

/// A message with its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cpim {
    headers: Vec<Header>,
    content_headers: Vec<(String, String)>,
    content: Bytes,
}

/// A header of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The URI of the namespace that the name belongs to.
    pub namespace: String,
    /// The name, which differs in case (RFC 3862 §3.1).
    pub name: String,
    /// The parameters, such as `lang`.
    pub parameters: Vec<(String, String)>,
    value: String,
}

/// Who a message is from or to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// The name to show; may be empty.
    pub name: String,
    /// The URI.
    pub uri: String,
}

impl Header {
    /// The value as it stands, with its escapes.
    pub fn raw(&self) -> &str {
        &self.value
    }

    /// The value as text; may hold line breaks that were escaped.
    pub fn text(&self) -> String {
        unescape(&self.value)
    }
}

/// Reading.
impl Cpim {
    /// Reads a message.
    pub fn parse(octets: Bytes) -> Result<Self, Malformed> {
        let mut rest: &[u8] = octets.get(..HEAD_BYTES_MAX).unwrap_or(&octets);
        let headers = read_headers(&mut rest)?;
        let content_headers = read_content_headers(&mut rest)?;
        let head_bytes = octets.len().min(HEAD_BYTES_MAX) - rest.len();
        Ok(Self {
            headers,
            content_headers,
            content: octets.slice(head_bytes..),
        })
    }

    /// The headers of the message; `NS` is not among them.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The first header of a name.
    pub fn header(&self, namespace: &str, name: &str) -> Option<&Header> {
        self.all(namespace, name).next()
    }

    fn all(&self, namespace: &str, name: &str) -> impl Iterator<Item = &Header> {
        let fits = move |header: &&Header| header.namespace == namespace && header.name == name;
        self.headers.iter().filter(fits)
    }

    /// Who it is from (RFC 3862 §4.1).
    pub fn from(&self) -> Option<Mailbox> {
        Mailbox::parse(self.header(NAMESPACE, "From")?.raw())
    }

    /// Who it is to (RFC 3862 §4.2).
    pub fn to(&self) -> impl Iterator<Item = Mailbox> {
        self.all(NAMESPACE, "To")
            .filter_map(|header| Mailbox::parse(header.raw()))
    }

    /// Who gets it for information (RFC 3862 §4.3).
    pub fn cc(&self) -> impl Iterator<Item = Mailbox> {
        self.all(NAMESPACE, "cc")
            .filter_map(|header| Mailbox::parse(header.raw()))
    }

    /// When it was sent, Unix time (RFC 3862 §4.4).
    pub fn sent_ms(&self) -> Option<u64> {
        timestamp::parse(self.header(NAMESPACE, "DateTime")?.raw())
    }

    /// Its subject, in whatever language comes first (RFC 3862 §4.5).
    pub fn subject(&self) -> Option<String> {
        self.header(NAMESPACE, "Subject").map(Header::text)
    }

    /// What must be understood to make sense of it: namespaces and names. RFC 3862 §4.7: a message that requires what
    /// is not understood is not processed.
    pub fn required(&self) -> Vec<(String, String)> {
        let required = self.headers.iter().filter(|header| is_require(header));
        required
            .flat_map(|header| header.parameters.clone())
            .collect()
    }

    /// The content type, as it stands.
    pub fn content_type(&self) -> Option<&str> {
        self.content_header("Content-Type")
    }

    /// The first MIME header of a name, in any case.
    pub fn content_header(&self, name: &str) -> Option<&str> {
        self.content_headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All MIME headers.
    pub fn content_headers(&self) -> &[(String, String)] {
        &self.content_headers
    }

    /// The content.
    pub fn content(&self) -> &Bytes {
        &self.content
    }
}

/// Writing.
impl Cpim {
    /// A message around this content; it has no other headers yet.
    pub fn new(content_type: &str, content: Bytes) -> Result<Self, Malformed> {
        Self {
            content,
            ..Self::default()
        }
        .with_content_header("Content-Type", content_type)
    }

    /// Adds who it is from.
    pub fn with_from(self, from: &Mailbox) -> Result<Self, Malformed> {
        self.with_raw(NAMESPACE, "From", from.write()?)
    }

    /// Adds somebody who it is to.
    pub fn with_to(self, to: &Mailbox) -> Result<Self, Malformed> {
        self.with_raw(NAMESPACE, "To", to.write()?)
    }

    /// Adds when it was sent.
    pub fn with_sent_ms(self, sent_ms: u64) -> Result<Self, Malformed> {
        self.with_raw(NAMESPACE, "DateTime", timestamp::write(sent_ms))
    }

    /// Adds a header with any text as its value.
    pub fn with_header(self, namespace: &str, name: &str, text: &str) -> Result<Self, Malformed> {
        self.with_raw(namespace, name, escape(text))
    }

    /// Adds a MIME header of the content.
    pub fn with_content_header(mut self, name: &str, value: &str) -> Result<Self, Malformed> {
        let named = !name.is_empty() && name.bytes().all(|c| c.is_ascii_graphic() && c != b':');
        if !named || value.contains(char::is_control) {
            return Err(Malformed("MIME header"));
        }
        self.content_headers
            .push((name.to_owned(), value.trim().to_owned()));
        Ok(self)
    }

    fn with_raw(mut self, namespace: &str, name: &str, value: String) -> Result<Self, Malformed> {
        if !is_name(name) || !is_uri(namespace) || name == "NS" || name == "Require" {
            return Err(Malformed("name of a CPIM header"));
        }
        self.headers.push(Header {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            parameters: Vec::new(),
            value: value.trim().to_owned(),
        });
        Ok(self)
    }

    /// Writes the message.
    pub fn write(&self) -> Bytes {
        let mut head = String::with_capacity(512);
        let mut prefixes = Vec::new();
        for header in &self.headers {
            let prefix = prefix_of(&header.namespace, &mut prefixes, &mut head);
            if is_require(header) {
                write_require(header, &mut prefixes, &mut head);
                continue;
            }
            let _ = write!(head, "{prefix}{}:", header.name);
            for (name, value) in &header.parameters {
                let _ = write!(head, ";{name}=\"{}\"", escape(value));
            }
            let _ = write!(head, " {}\r\n", header.value);
        }
        head.push_str("\r\n");
        for (name, value) in &self.content_headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.content].concat().into()
    }
}

/// Namespaces that have a prefix; CPIM's own needs none.
type Prefixes<'n> = Vec<(&'n str, String)>;

/// The prefix of a namespace with its dot; declared before it is first used.
fn prefix_of<'n>(namespace: &'n str, prefixes: &mut Prefixes<'n>, head: &mut String) -> String {
    if namespace == NAMESPACE {
        return String::new();
    }
    if let Some((_, prefix)) = prefixes.iter().find(|(known, _)| *known == namespace) {
        return prefix.clone() + ".";
    }
    let prefix = match namespace {
        // The name that everybody gives it, for phones that do not read NS.
        crate::imdn::NAMESPACE => "imdn".to_owned(),
        _ => format!("x{}", prefixes.len() + 1),
    };
    let _ = write!(head, "NS: {prefix} <{namespace}>\r\n");
    prefixes.push((namespace, prefix.clone()));
    prefix + "."
}

fn write_require<'n>(header: &'n Header, prefixes: &mut Prefixes<'n>, head: &mut String) {
    let names: Vec<String> = header
        .parameters
        .iter()
        .map(|(namespace, name)| prefix_of(namespace, prefixes, head) + name)
        .collect();
    let _ = write!(head, "Require: {}\r\n", names.join(","));
}

/// `Require` is kept resolved, as parameters, for its prefixes mean something only where it stood.
fn is_require(header: &Header) -> bool {
    header.namespace == NAMESPACE && header.name == "Require"
}

impl Mailbox {
    /// Reads `"Name" <uri>`, `Name <uri>` or `<uri>`. COMPAT(several): a URI without its brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (name, rest) = match text.strip_prefix('"') {
            Some(quoted) => {
                let end = closing_quote(quoted)?;
                (quoted.get(..end)?, quoted.get(end + 1..)?)
            }
            None => text.split_at(text.find('<').unwrap_or(0)),
        };
        let rest = rest.trim();
        let uri = match rest.strip_prefix('<') {
            Some(uri) => uri.strip_suffix('>')?,
            None => rest,
        };
        is_uri(uri).then(|| Self {
            name: unescape(name.trim()),
            uri: uri.to_owned(),
        })
    }

    fn write(&self) -> Result<String, Malformed> {
        if !is_uri(&self.uri) {
            return Err(Malformed("URI"));
        }
        Ok(match self.name.as_str() {
            "" => format!("<{}>", self.uri),
            name => format!("\"{}\" <{}>", escape(name), self.uri),
        })
    }
}

fn is_uri(text: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | '"');
    !text.is_empty() && !text.contains(odd)
}

/// RFC 3862 §3.6, `NAMECHAR`.
fn is_name(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-^_`|~".contains(&c);
    !text.is_empty() && text.bytes().all(fits)
}

/// Takes a line and its end, CRLF or LF alone; nothing after the last one.
fn line<'o>(rest: &mut &'o [u8]) -> Result<Option<&'o str>, Malformed> {
    let Some(end) = memchr::memchr(b'\n', rest) else {
        return if rest.is_empty() {
            Ok(None)
        } else {
            Err(Malformed("end of a line of CPIM"))
        };
    };
    let (line, after) = rest.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = std::str::from_utf8(line).map_err(|_| Malformed("CPIM headers in UTF-8"))?;
    if line.contains(|c: char| c.is_control() && c != '\t') {
        return Err(Malformed("CPIM header without control characters"));
    }
    Ok(Some(line))
}

fn read_headers(rest: &mut &[u8]) -> Result<Vec<Header>, Malformed> {
    let mut scope = Scope::default();
    let mut headers = Vec::new();
    for _ in 0..=HEADERS_MAX {
        match line(rest)? {
            None => return Err(Malformed("end of the CPIM headers")),
            Some("") if headers.is_empty() => return Err(Malformed("CPIM headers")),
            Some("") => return Ok(headers),
            Some(line) => headers.extend(scope.read(line)?),
        }
    }
    Err(Malformed("bounded number of CPIM headers"))
}

/// The meaning of prefixes at one place of a head (RFC 3862 §3.4).
struct Scope {
    default: String,
    prefixes: Vec<(String, String)>,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            default: NAMESPACE.to_owned(),
            prefixes: Vec::new(),
        }
    }
}

impl Scope {
    /// Reads a header; a declaration of a namespace is none.
    fn read(&mut self, line: &str) -> Result<Option<Header>, Malformed> {
        let (name, rest) = line.split_once(':').ok_or(Malformed("CPIM header"))?;
        let (namespace, name) = self.resolve(name)?;
        let (parameters, value) = parameters(rest)?;
        let mut header = Header {
            namespace,
            name,
            parameters,
            value: value.trim().to_owned(),
        };
        let basic = header.namespace == NAMESPACE;
        match header.name.as_str() {
            "NS" if basic => {
                self.declare(&header.value)?;
                return Ok(None);
            }
            "Require" if basic => {
                let names = header.value.split(',');
                header.parameters = names
                    .map(|name| self.resolve(name.trim()))
                    .collect::<Result<_, _>>()?;
                header.value.clear();
            }
            _ => {}
        }
        Ok(Some(header))
    }

    fn resolve(&self, name: &str) -> Result<(String, String), Malformed> {
        let (prefix, local) = match name.split_once('.') {
            Some((prefix, local)) => (Some(prefix), local),
            None => (None, name),
        };
        if !is_name(local) || !prefix.is_none_or(is_name) {
            return Err(Malformed("name of a CPIM header"));
        }
        let namespace = match prefix {
            // RFC 3862 §3.4: whatever the default is, NS declares namespaces.
            None if local == "NS" => NAMESPACE.to_owned(),
            None => self.default.clone(),
            Some(prefix) => self.uri_of(prefix),
        };
        Ok((namespace, local.to_owned()))
    }

    /// COMPAT(several): a prefix that was not declared. `imdn` is taken for what everybody means by it; another one is
    /// kept as it is, so that it means nothing and nothing is lost.
    fn uri_of(&self, prefix: &str) -> String {
        let declared = self.prefixes.iter().find(|(known, _)| known == prefix);
        match declared {
            Some((_, uri)) => uri.clone(),
            None if prefix == "imdn" => crate::imdn::NAMESPACE.to_owned(),
            None => prefix.to_owned(),
        }
    }

    /// `[prefix] <uri>` (RFC 3862 §4.6); a later declaration of a prefix takes the place of an earlier one.
    fn declare(&mut self, value: &str) -> Result<(), Malformed> {
        let fault = Malformed("NS header");
        let (prefix, uri) = value.split_once('<').ok_or(fault)?;
        let uri = uri
            .strip_suffix('>')
            .filter(|uri| is_uri(uri))
            .ok_or(fault)?;
        let prefix = prefix.trim();
        if prefix.is_empty() {
            uri.clone_into(&mut self.default);
            return Ok(());
        }
        if !is_name(prefix) {
            return Err(fault);
        }
        self.prefixes.retain(|(known, _)| known != prefix);
        self.prefixes.push((prefix.to_owned(), uri.to_owned()));
        Ok(())
    }
}

type Parameters = Vec<(String, String)>;

/// Splits `;name=value;name="value" rest` behind the colon of a header.
fn parameters(mut rest: &str) -> Result<(Parameters, &str), Malformed> {
    let fault = Malformed("parameter of a CPIM header");
    let mut parameters = Vec::new();
    while let Some(parameter) = rest.strip_prefix(';') {
        let (name, after) = parameter.split_once('=').ok_or(fault)?;
        if !is_name(name) || parameters.len() >= PARAMETERS_MAX {
            return Err(fault);
        }
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = closing_quote(quoted).ok_or(fault)?;
                let (value, after) = quoted.split_at(end);
                (value, after.get(1..).unwrap_or_default())
            }
            None => after.split_at(after.find([';', ' ']).unwrap_or(after.len())),
        };
        parameters.push((name.to_owned(), unescape(value)));
    }
    Ok((parameters, rest))
}

/// Where the quote stands that is not escaped.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|c| {
        let closing = c == b'"' && !escaped;
        escaped = c == b'\\' && !escaped;
        closing
    })
}

fn read_content_headers(rest: &mut &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for _ in 0..=HEADERS_MAX {
        match line(rest)? {
            None | Some("") => return Ok(headers),
            // RFC 2045 §3: MIME headers are those of mail, which may be folded.
            Some(more) if more.starts_with([' ', '\t']) => {
                let (_, value) = headers.last_mut().ok_or(Malformed("MIME header"))?;
                for word in more.split_whitespace() {
                    let space = if value.is_empty() { "" } else { " " };
                    value.extend([space, word]);
                }
            }
            Some(line) => {
                let (name, value) = line.split_once(':').ok_or(Malformed("MIME header"))?;
                let (name, value) = (name.trim_end().to_owned(), value.trim().to_owned());
                if name.is_empty() || !name.bytes().all(|c| c.is_ascii_graphic()) {
                    return Err(Malformed("MIME header"));
                }
                headers.push((name, value.replace('\t', " ")));
            }
        }
    }
    Err(Malformed("bounded number of MIME headers"))
}

/// RFC 3862 §2.3.1: control characters and backslashes are escaped everywhere, quotes within strings.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(escaped, "\\u{:04X}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// RFC 3862 §2.3; what is no escape stays as it is.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut chars = escape.chars();
        let (c, after) = match chars.next() {
            Some('b') => ('\u{8}', chars.as_str()),
            Some('t') => ('\t', chars.as_str()),
            Some('n') => ('\n', chars.as_str()),
            Some('r') => ('\r', chars.as_str()),
            Some(c @ ('"' | '\'' | '\\')) => (c, chars.as_str()),
            Some('u') => code_point(chars.as_str()).unwrap_or(('\\', escape)),
            _ => ('\\', escape),
        };
        plain.push(c);
        rest = after;
    }
    plain + rest
}

/// Reads the digits behind `\u`. Characters beyond the first plane come as two surrogates.
fn code_point(text: &str) -> Option<(char, &str)> {
    let (high, rest) = four_digits(text)?;
    if let Some(c) = char::from_u32(high) {
        return Some((c, rest));
    }
    let low = rest.strip_prefix("\\u").and_then(four_digits);
    match low {
        Some((low, rest)) if high < 0xDC00 && (0xDC00..0xE000).contains(&low) => {
            let code = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            Some((char::from_u32(code)?, rest))
        }
        _ => Some((char::REPLACEMENT_CHARACTER, rest)),
    }
}

fn four_digits(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    let hexadecimal = digits.bytes().all(|c| c.is_ascii_hexdigit());
    let code = u32::from_str_radix(digits, 16).ok()?;
    hexadecimal.then_some((code, rest))
}

#[cfg(test)]
#[path = "cpim_tests.rs"]
mod tests;
