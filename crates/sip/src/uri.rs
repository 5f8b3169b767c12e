//! SIP, SIPS and tel URIs.
//!
//! *Invariant*: a `Uri` borrows the text it was parsed from; escapes are kept until someone compares or asks.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::Malformed;
use crate::grammar::{breaks_uri, cut, port};
use crate::params::Params;

#[path = "uri_compare.rs"]
mod compare;

/// The scheme of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// Any other: well formed, but not ours to route (416).
    Other,
}

/// A URI in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The whole text.
    pub text: &'a str,
    /// The scheme.
    pub scheme: Scheme,
    /// User part as on the wire, or the number of a `tel:` URI.
    pub user: Option<&'a str>,
    /// Password, deprecated but legal.
    pub password: Option<&'a str>,
    /// Host as on the wire, an IPv6 address with its brackets; empty for `tel:` and others.
    pub host: &'a str,
    /// Port where given.
    pub port: Option<u16>,
    /// URI parameters.
    pub params: Params<'a>,
    /// What follows `?`.
    pub headers: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Parses an absolute URI without brackets around it.
    ///
    /// # Errors
    /// Where there is no scheme, or the rest of a SIP, SIPS or tel URI is not by the grammar.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let (scheme, rest) = split_scheme(text)?;
        if breaks_uri(text.as_bytes()) {
            return Err(Malformed("character in URI"));
        }
        let uri = Self {
            text,
            scheme,
            user: None,
            password: None,
            host: "",
            port: None,
            params: Params::default(),
            headers: None,
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => uri.sip(rest),
            Scheme::Tel => uri.tel(rest),
            Scheme::Other => Ok(uri),
        }
    }

    /// `[ userinfo ] hostport *( ";" param ) [ "?" headers ]`
    ///
    /// The user part may hold `;`, `?` and `/` (RFC 4475 §3.1.1.9), so it is cut off first, at the first `@`:
    /// the grammar has no other place for one.
    fn sip(mut self, rest: &'a str) -> Result<Self, Malformed> {
        let rest = match cut(rest, b'@') {
            Some((userinfo, rest)) => {
                self.set_userinfo(userinfo)?;
                rest
            }
            None => rest,
        };
        let end = memchr::memchr2(b';', b'?', rest.as_bytes()).unwrap_or(rest.len());
        (self.host, self.port) = host_port(&rest[..end])?;
        let (params, headers) = match cut(&rest[end..], b'?') {
            Some((params, headers)) => (params, Some(headers)),
            None => (&rest[end..], None),
        };
        self.params = Params::new(params);
        self.headers = headers;
        self.params.check_in_uri()?;
        Ok(self)
    }

    fn set_userinfo(&mut self, userinfo: &'a str) -> Result<(), Malformed> {
        let (user, password) = match cut(userinfo, b':') {
            Some((user, password)) => (user, Some(password)),
            None => (userinfo, None),
        };
        if user.is_empty() {
            return Err(Malformed("empty user"));
        }
        self.user = Some(user);
        self.password = password;
        Ok(())
    }

    fn tel(mut self, rest: &'a str) -> Result<Self, Malformed> {
        let end = memchr::memchr(b';', rest.as_bytes()).unwrap_or(rest.len());
        let number = &rest[..end];
        let phone = |octet: u8| {
            octet.is_ascii_hexdigit()
                || matches!(octet, b'+' | b'*' | b'#' | b'-' | b'.' | b'(' | b')')
        };
        if number.is_empty() || !number.bytes().all(phone) {
            return Err(Malformed("telephone number"));
        }
        self.user = Some(number);
        self.params = Params::new(&rest[end..]);
        self.params.check_in_uri()?;
        Ok(self)
    }

    /// Whether the URI is SIP or SIPS.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The user part without its escapes; `None` where there is no user.
    #[must_use]
    pub fn user_unescaped(&self) -> Option<Cow<'a, str>> {
        self.user.map(unescape)
    }

    /// The host as an address, where it is one.
    #[must_use]
    pub fn host_ip(&self) -> Option<IpAddr> {
        host_ip(self.host)
    }

    /// The value of the `transport` parameter.
    #[must_use]
    pub fn transport(&self) -> Option<&'a str> {
        self.params.value("transport")
    }

    /// Whether the `lr` parameter marks a loose router (RFC 3261 §16.4).
    #[must_use]
    pub fn is_loose_router(&self) -> bool {
        self.params.has("lr")
    }

    /// Equality by RFC 3261 §19.1.4, with RFC 5954 for IPv6 hosts and RFC 3966 §5 for `tel:`.
    #[must_use]
    pub fn eq_3261(&self, other: &Uri<'_>) -> bool {
        compare::equal(self, other)
    }
}

/// The scheme and what follows its colon.
pub(crate) fn split_scheme(text: &str) -> Result<(Scheme, &str), Malformed> {
    let (scheme, rest) = cut(text, b':').ok_or(Malformed("URI without scheme"))?;
    let octets = scheme.as_bytes();
    let legal = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.');
    if !octets.first().is_some_and(u8::is_ascii_alphabetic) || !octets.iter().all(legal) {
        return Err(Malformed("URI scheme"));
    }
    let known = if scheme.eq_ignore_ascii_case("sip") {
        Scheme::Sip
    } else if scheme.eq_ignore_ascii_case("sips") {
        Scheme::Sips
    } else if scheme.eq_ignore_ascii_case("tel") {
        Scheme::Tel
    } else {
        Scheme::Other
    };
    Ok((known, rest))
}

/// `host [ ":" port ]`; the host keeps the brackets of an IPv6 reference.
///
/// # Errors
/// Where the host or the port is not by the grammar.
pub fn host_port(text: &str) -> Result<(&str, Option<u16>), Malformed> {
    let end = match text.as_bytes() {
        [b'[', ..] => memchr::memchr(b']', text.as_bytes()).ok_or(Malformed("IPv6 reference"))? + 1,
        _ => memchr::memchr(b':', text.as_bytes()).unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    check_host(host)?;
    match rest.as_bytes() {
        [] => Ok((host, None)),
        [b':', digits @ ..] => Ok((host, Some(port(digits)?))),
        _ => Err(Malformed("host")),
    }
}

fn check_host(host: &str) -> Result<(), Malformed> {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let legal = match inner {
        // RFC 5118 §4.10: three colons, a slip of the RFC 3261 grammar, are let through.
        Some(inner) => {
            inner.contains(':')
                && inner
                    .bytes()
                    .all(|octet| octet.is_ascii_hexdigit() || matches!(octet, b':' | b'.'))
        }
        // COMPAT(home networks): '_' in host names is not legal and is common.
        None => {
            !host.is_empty()
                && host.bytes().all(|octet| {
                    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_')
                })
        }
    };
    if legal {
        Ok(())
    } else {
        Err(Malformed("host"))
    }
}

/// The address that a host text is, with or without brackets; `None` for names.
#[must_use]
pub fn host_ip(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse().ok().or_else(|| {
        let (left, right) = bare.split_once(":::")?; // RFC 5118 §4.10
        format!("{left}::{right}").parse().ok()
    })
}

/// Without percent escapes. Where the result would not be UTF-8 the text is returned as it is.
#[must_use]
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.as_bytes().contains(&b'%') {
        return Cow::Borrowed(text);
    }
    match String::from_utf8(unescaped(text.as_bytes()).collect()) {
        Ok(plain) => Cow::Owned(plain),
        Err(_) => Cow::Borrowed(text),
    }
}

/// Octets with escapes resolved; a `%` that begins no escape stands for itself.
fn unescaped(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || match rest {
        [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            rest = tail;
            Some(hex(*high) << 4 | hex(*low))
        }
        [octet, tail @ ..] => {
            rest = tail;
            Some(*octet)
        }
        [] => None,
    })
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

/// A text as the user part of a URI: what RFC 3261 §25.1 does not let stand is escaped.
#[must_use]
pub fn escape_user(text: &str) -> Cow<'_, str> {
    let plain = |octet: u8| {
        octet.is_ascii_alphanumeric()
            || matches!(
                octet,
                b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')'
            )
            || matches!(octet, b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/')
    };
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for octet in text.bytes() {
        if plain(octet) {
            out.push(char::from(octet));
        } else {
            out.push('%');
            for nibble in [octet >> 4, octet & 15] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
