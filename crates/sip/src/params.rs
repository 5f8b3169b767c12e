//! `;name=value` parameters of URIs and header fields, scanned when asked.
//!
//! *Invariant*: the text is empty or begins with `;`; scanning never fails, `check` says whether it is by the grammar.

use crate::Malformed;
use crate::grammar::{
    breaks_uri, cut, is_token, quoted_end, trim_text, trim_text_end, trim_text_start,
};

/// Parameters as they stand on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a>(&'a str);

impl<'a> Params<'a> {
    /// Parameters over a text that is empty or begins with `;`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The text on the wire, with its leading `;`.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `None`: absent. `Some(None)`: present without a value. A quoted value comes without its quotes.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Option<&'a str>> {
        self.iter()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.map(unquote))
    }

    /// The value of a parameter that has one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.get(name).flatten()
    }

    /// Whether the parameter is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Names and raw values in order; empty parameters are passed over.
    #[must_use]
    pub fn iter(&self) -> ParamIter<'a> {
        ParamIter(self.0)
    }

    /// Header parameters by the grammar: names are tokens, quoted strings end, nothing is empty.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        self.check_names(is_token)
    }

    /// URI parameters, whose names may hold more than tokens do (RFC 3261 §25.1 `paramchar`).
    pub(crate) fn check_in_uri(&self) -> Result<(), Malformed> {
        self.check_names(|name| !name.is_empty())
    }

    fn check_names(&self, legal: fn(&[u8]) -> bool) -> Result<(), Malformed> {
        let mut rest = self.0;
        while let Some((piece, after)) = next_piece(rest) {
            rest = after;
            // COMPAT(several phones): one ';' at the very end is harmless.
            if piece.is_empty() && !rest.is_empty() {
                return Err(Malformed("empty parameter"));
            }
            if !piece.is_empty() {
                check_piece(piece, legal)?;
            }
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed("parameters"))
        }
    }
}

/// Iterator over parameters.
#[derive(Debug, Clone)]
pub struct ParamIter<'a>(&'a str);

impl<'a> Iterator for ParamIter<'a> {
    type Item = (&'a str, Option<&'a str>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (piece, rest) = next_piece(self.0)?;
            self.0 = rest;
            if !piece.is_empty() {
                return Some(split_piece(piece));
            }
        }
    }
}

/// The next parameter, trimmed, and what follows it.
fn next_piece(text: &str) -> Option<(&str, &str)> {
    let text = trim_text_start(text).strip_prefix(';')?;
    let end = piece_end(text.as_bytes());
    Some((trim_text(&text[..end]), &text[end..]))
}

/// A `;` in a quoted string ends nothing; an unterminated string takes the rest.
fn piece_end(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b';', b'"', &text[at..]) {
        at += found;
        if text[at] == b';' {
            return at;
        }
        match quoted_end(&text[at..]) {
            Some(length) => at += length,
            None => return text.len(),
        }
    }
    text.len()
}

fn split_piece(piece: &str) -> (&str, Option<&str>) {
    match cut(piece, b'=') {
        Some((name, value)) => (trim_text_end(name), Some(trim_text_start(value))),
        None => (piece, None),
    }
}

fn check_piece(piece: &str, legal: fn(&[u8]) -> bool) -> Result<(), Malformed> {
    let (name, value) = split_piece(piece);
    if !legal(name.as_bytes()) {
        return Err(Malformed("parameter name"));
    }
    let Some(value) = value.map(str::as_bytes) else {
        return Ok(());
    };
    let fits = match value.first() {
        Some(b'"') => quoted_end(value) == Some(value.len()),
        _ => !breaks_uri(value),
    };
    if fits {
        Ok(())
    } else {
        Err(Malformed("parameter value"))
    }
}

/// Without surrounding quotes; quoted-pairs inside stay as they are.
#[must_use]
pub fn unquote(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values_whatever_the_white_space_case_and_quotes() {
        let params =
            Params::new(" ; Branch =\r\n z9hG4bK;lr;+sip.instance=\"<urn:uuid:1;2>\" ;q=0.5");
        assert_eq!(params.get("branch"), Some(Some("z9hG4bK")));
        assert_eq!(params.get("LR"), Some(None));
        assert_eq!(params.value("+sip.instance"), Some("<urn:uuid:1;2>"));
        assert_eq!(params.get("q"), Some(Some("0.5")));
        assert_eq!(params.get("absent"), None);
        assert_eq!(params.iter().count(), 4);
        assert!(params.check().is_ok());
    }

    #[test]
    fn tells_bad_parameters() {
        for bad in [
            ";;a",
            ";a=\"b",
            ";a b",
            ";a=b c",
            ";=x",
            "x",
            ";a;;",
            ";a=\"b\"c",
        ] {
            assert!(Params::new(bad).check().is_err(), "{bad}");
        }
        for good in [
            "",
            ";a",
            ";a=",
            ";a;",
            ";a=\"\\\"\"",
            ";received=2001:db8::9:1",
        ] {
            assert!(Params::new(good).check().is_ok(), "{good}");
        }
    }
}
