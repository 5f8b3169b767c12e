//! A SIP message as a list of header lines, in the order that they have.

use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The octets that it was read from; 0 for one that was made here.
    pub octets: usize,
}

impl Message {
    pub fn request(method: &str, uri: &str) -> Message {
        Message {
            start: format!("{method} {uri} SIP/2.0"),
            headers: Vec::new(),
            body: Vec::new(),
            octets: 0,
        }
    }

    /// Reads one message; the body is all that follows, cut to Content-Length.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).replace("\r\n ", " ");
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let headers = lines
            .map(|line| {
                line.split_once(':')
                    .map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()))
            })
            .collect::<Option<Vec<_>>>()?;
        let mut message = Message {
            start,
            headers,
            body: bytes[end + 4..].to_vec(),
            octets: bytes.len(),
        };
        if let Some(length) = message.content_length() {
            message.body.truncate(length);
        }
        Some(message)
    }

    pub fn content_length(&self) -> Option<usize> {
        self.header("Content-Length")?.parse().ok()
    }

    /// The wire form; Content-Length is added where the message has none.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.header("Content-Length").is_none() {
            out.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend_from_slice(&self.body);
        out
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Message {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn with_body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Message {
        self.body = body.into();
        self.with("Content-Type", kind)
    }

    /// Sets the one value of a header.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        match self.headers.iter_mut().find(|(n, _)| same(n, name)) {
            Some((_, old)) => *old = value.into(),
            None => self.headers.push((name.to_owned(), value.into())),
        }
    }

    #[must_use]
    pub fn but(mut self, name: &str, value: impl Into<String>) -> Message {
        self.set(name, value);
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Message {
        self.headers.retain(|(n, _)| !same(n, name));
        self
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| same(n, name))
            .map(|(_, v)| v.as_str())
    }

    /// Every value of a header; lists of addresses are split at commas outside of `<>` and quotes.
    pub fn values(&self, name: &str) -> Vec<String> {
        let lines = self.headers.iter().filter(|(n, _)| same(n, name));
        lines.flat_map(|(_, value)| split(value)).collect()
    }

    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request, and of the request that a response answers.
    pub fn method(&self) -> &str {
        match self.status() {
            None => self.start.split(' ').next().unwrap_or_default(),
            Some(_) => self
                .header("CSeq")
                .and_then(|c| c.split(' ').nth(1))
                .unwrap_or_default(),
        }
    }

    pub fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub fn call_id(&self) -> &str {
        self.header("Call-ID").unwrap_or_default()
    }

    pub fn cseq(&self) -> u32 {
        let number = self.header("CSeq").and_then(|c| c.split(' ').next());
        number.and_then(|n| n.parse().ok()).unwrap_or_default()
    }

    pub fn branch(&self) -> String {
        let via = self.values("Via");
        let top = via.first().map_or("", String::as_str);
        parameter(top, "branch").unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        let shown = &bytes[..bytes.len().min(2000)];
        write!(f, "\n{}", String::from_utf8_lossy(shown))
    }
}

/// A parameter behind the address: `tag`, `branch`, `expires`.
pub fn parameter(value: &str, name: &str) -> Option<String> {
    let behind = value.rfind('>').map_or(value, |end| &value[end + 1..]);
    behind.split(';').skip(1).find_map(|part| {
        let (n, v) = part.split_once('=').unwrap_or((part, ""));
        n.trim()
            .eq_ignore_ascii_case(name)
            .then(|| v.trim().trim_matches('"').to_owned())
    })
}

/// The URI of a name-addr or addr-spec.
pub fn address(value: &str) -> &str {
    match (value.find('<'), value.find('>')) {
        (Some(start), Some(end)) if start < end => &value[start + 1..end],
        _ => value.split(';').next().unwrap_or(value).trim(),
    }
}

fn same(a: &str, b: &str) -> bool {
    long(a).eq_ignore_ascii_case(long(b))
}

/// RFC 3261 §7.3.3: compact forms.
fn long(name: &str) -> &str {
    match name {
        "v" => "Via",
        "f" => "From",
        "t" => "To",
        "i" => "Call-ID",
        "m" => "Contact",
        "l" => "Content-Length",
        "c" => "Content-Type",
        "k" => "Supported",
        other => other,
    }
}

fn split(value: &str) -> Vec<String> {
    let (mut quoted, mut angled) = (false, false);
    let mut parts = vec![String::new()];
    for c in value.chars() {
        match c {
            '"' => quoted = !quoted,
            '<' if !quoted => angled = true,
            '>' if !quoted => angled = false,
            ',' if !quoted && !angled => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}
