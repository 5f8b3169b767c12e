//! `name-addr` and `addr-spec` with header parameters: From, To, Contact, Route and their kin.
//!
//! *Invariant*: the parameters after the URI belong to the header, those inside `<>` to the URI (RFC 3261 §20.10).

use crate::Malformed;
use crate::grammar::{breaks_uri, quoted_end, seconds, trim, trim_start, utf8};
use crate::params::{Params, unquote};
use crate::uri::{Uri, split_scheme};

/// An address with its display name and header parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// Display name without its quotes, escapes kept; `None` where there is none.
    pub display: Option<&'a [u8]>,
    /// The URI as on the wire.
    pub uri: &'a str,
    /// Header parameters.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Parses one value (a list has to be split before).
    ///
    /// # Errors
    /// Where quotes or brackets do not match, the URI has no scheme or holds white space, or parameters are malformed.
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let value = trim(value);
        if value.first() == Some(&b'"') {
            let end = quoted_end(value).ok_or(Malformed("unterminated quoted string"))?;
            return Self::bracketed(Some(&value[1..end - 1]), trim_start(&value[end..]));
        }
        match bracket(value) {
            // COMPAT(several phones): a display name of more than tokens, "Bell, Alexander <…>" (RFC 4475 §3.1.2.15).
            Some(at) => {
                let display = Some(trim(&value[..at])).filter(|display| !display.is_empty());
                Self::bracketed(display, &value[at..])
            }
            None => Self::bare(value),
        }
    }

    fn bracketed(display: Option<&'a [u8]>, text: &'a [u8]) -> Result<Self, Malformed> {
        let inner = text
            .strip_prefix(b"<")
            .ok_or(Malformed("no '<' after the display name"))?;
        let end = memchr::memchr(b'>', inner).ok_or(Malformed("no '>'"))?;
        Self::new(display, &inner[..end], trim(&inner[end + 1..]))
    }

    /// RFC 3261 §20.10: without brackets, what follows `;` are header parameters and there may be no `?`.
    fn bare(value: &'a [u8]) -> Result<Self, Malformed> {
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        let uri = trim(&value[..end]);
        if uri.contains(&b'?') {
            return Err(Malformed("'?' in a URI without brackets"));
        }
        Self::new(None, uri, &value[end..])
    }

    fn new(display: Option<&'a [u8]>, uri: &'a [u8], params: &'a [u8]) -> Result<Self, Malformed> {
        if breaks_uri(uri) {
            return Err(Malformed("character in URI"));
        }
        let uri = utf8(uri)?;
        split_scheme(uri)?;
        let params = Params::new(utf8(params)?);
        params.check()?;
        Ok(Self {
            display,
            uri,
            params,
        })
    }

    /// The URI in its parts.
    ///
    /// # Errors
    /// Where the URI is not by its scheme's grammar.
    pub fn parse_uri(&self) -> Result<Uri<'a>, Malformed> {
        Uri::parse(self.uri)
    }

    /// The `tag` parameter; one without a value counts as none, and does not hide the one that we add to it.
    #[must_use]
    pub fn tag(&self) -> Option<&'a str> {
        let mut tags = self
            .params
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("tag"));
        tags.find_map(|(_, value)| value.map(unquote).filter(|tag| !tag.is_empty()))
    }

    /// The `q` parameter in thousandths; a malformed one counts as none.
    #[must_use]
    pub fn q(&self) -> Option<u16> {
        thousandths(self.params.value("q")?)
    }

    /// The `expires` parameter; RFC 3261 §10.2.1.1: a malformed one is taken as 3600.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        let value = self.params.get("expires")?;
        Some(
            value
                .and_then(|text| seconds(text.as_bytes()))
                .unwrap_or(3_600),
        )
    }
}

/// The first `<` that is not in a quoted string.
fn bracket(value: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'<', b'"', &value[at..]) {
        at += found;
        if value[at] == b'<' {
            return Some(at);
        }
        at += quoted_end(&value[at..])?;
    }
    None
}

/// `qvalue`: 0 to 1 with at most three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty()
        || decimals.len() > 3
        || !decimals.bytes().all(|octet| octet.is_ascii_digit())
    {
        return None;
    }
    let fraction = decimals
        .bytes()
        .chain(*b"000")
        .take(3)
        .fold(0, |sum, octet| sum * 10 + u16::from(octet - b'0'));
    match whole.parse::<u16>().ok()? {
        0 => Some(fraction),
        1 if fraction == 0 => Some(1_000),
        _ => None,
    }
}

/// A value of a Contact header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact<'a> {
    /// `*`: all bindings (RFC 3261 §10.2.2).
    Star,
    /// An address.
    Addr(NameAddr<'a>),
}

impl<'a> Contact<'a> {
    /// Parses one value.
    ///
    /// # Errors
    /// As [`NameAddr::parse`].
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        match trim(value) {
            b"*" => Ok(Self::Star),
            value => NameAddr::parse(value).map(Self::Addr),
        }
    }
}

/// A value to which a parameter can be added: without the one `;` at its end that is let through.
pub(crate) fn open_ended(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii_end();
    value.strip_suffix(b";").unwrap_or(value).trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NameAddr<'_> {
        NameAddr::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_parameter_is_added_behind_the_last_one() {
        for (value, open) in [
            ("<sip:a@b>", "<sip:a@b>"),
            ("<sip:a@b>;", "<sip:a@b>"),
            ("<sip:a@b>;x=1 ; \r\n", "<sip:a@b>;x=1"),
        ] {
            assert_eq!(open_ended(value.as_bytes()), open.as_bytes(), "{value}");
        }
    }

    #[test]
    fn a_tag_without_a_value_hides_no_other() {
        for (text, tag) in [
            ("<sip:a@b>;tag", None),
            ("<sip:a@b>;tag=", None),
            ("<sip:a@b>;tag;tag=t", Some("t")),
            ("<sip:a@b>;tag=;Tag=t", Some("t")),
            ("<sip:a@b>;tag=1;tag=2", Some("1")),
        ] {
            assert_eq!(parse(text).tag(), tag, "{text}");
        }
    }

    #[test]
    fn every_form_of_an_address() {
        let quoted = parse("\"J \\\"R\\\" <x>\"\r\n <sip:j@a.example;lr> ; tag = 1 ;q=0.33");
        assert_eq!(quoted.display, Some(&b"J \\\"R\\\" <x>"[..]));
        assert_eq!(
            (quoted.uri, quoted.tag(), quoted.q()),
            ("sip:j@a.example;lr", Some("1"), Some(330))
        );

        let tokens = parse("caller<sip:c@e.example>;tag=3");
        assert_eq!(
            (tokens.display, tokens.uri),
            (Some(&b"caller"[..]), "sip:c@e.example")
        );

        let bare = parse("sip:v@e.example ;   tag    = 19n");
        assert_eq!(
            (bare.display, bare.uri, bare.tag()),
            (None, "sip:v@e.example", Some("19n"))
        );

        assert_eq!(parse("<tel:+1234>").uri, "tel:+1234");
        assert_eq!(parse("<http://www.example.com>;tag=x").tag(), Some("x"));
        assert_eq!(parse("Bell, Alexander <sip:a@b>;tag=43").tag(), Some("43"));
    }

    #[test]
    fn refuses_broken_addresses() {
        for bad in [
            "",
            "\"Mr. J. <sip:j@e.example>",
            "<sip:a@b",
            "\"x\" sip:a@b",
            "< sip:a@b >",
            "sip:a@b?Route=x",
            "a@b",
            "<sip:a@b>x",
            "<sip:a@b>;;;;",
            "sip:a b@c",
            "<sip:a@b>;tag=\"x",
            "<<sip:a@b>>",
            "\"",
        ] {
            assert!(NameAddr::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(NameAddr::parse(b"<sip:\xff@b>").is_err());
        assert!(
            NameAddr::parse(b"\"\xff\" <sip:a@b>").is_ok(),
            "8-bit display names pass"
        );
    }

    #[test]
    fn numbers_of_contacts() {
        assert_eq!(
            parse("<sip:a@b>;expires=280297596632815").expires(),
            Some(u32::MAX)
        );
        assert_eq!(parse("<sip:a@b>;expires=never").expires(), Some(3_600));
        assert_eq!(parse("<sip:a@b>").expires(), None);
        for (text, expected) in [
            ("1", Some(1_000)),
            ("1.000", Some(1_000)),
            ("0.5", Some(500)),
            ("0", Some(0)),
        ] {
            assert_eq!(thousandths(text), expected);
        }
        for bad in ["1.1", "2", "0.1234", "-1", "", ".5", "0.x"] {
            assert_eq!(thousandths(bad), None, "{bad}");
        }
        assert_eq!(Contact::parse(b" * "), Ok(Contact::Star));
    }
}
