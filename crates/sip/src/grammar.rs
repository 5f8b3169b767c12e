//! The few character classes and scanners that every parser here shares.
//!
//! *Invariant*: every function is total: any octets in, no panic, work linear in their number.

use crate::Malformed;

/// Linear white space, folding included (RFC 3261 §25.1 LWS).
pub(crate) const fn is_lws(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 128 {
        #[allow(clippy::cast_possible_truncation)] // below 128
        let letter = octet as u8;
        table[octet] = letter.is_ascii_alphanumeric()
            || matches!(
                letter,
                b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
            );
        octet += 1;
    }
    table
};

const NOT_IN_URI: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet <= b' ' as usize {
        table[octet] = true;
        octet += 1;
    }
    table[0x7f] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'"' as usize] = true;
    table
};

/// Whether an octet is in the text that no URI holds: controls, white space, `<`, `>`, `"`.
pub(crate) fn breaks_uri(text: &[u8]) -> bool {
    text.iter().any(|&octet| NOT_IN_URI[usize::from(octet)])
}

/// The text before and after the first of this ASCII character.
pub(crate) fn cut(text: &str, octet: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(octet, text.as_bytes())?;
    Some((&text[..at], &text[at + 1..]))
}

/// `token` of RFC 3261 §25.1: at least one octet.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&octet| TOKEN[usize::from(octet)])
}

pub(crate) fn trim(text: &[u8]) -> &[u8] {
    trim_end(trim_start(text))
}

pub(crate) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_lws(*first)
    {
        text = rest;
    }
    text
}

pub(crate) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text
        && is_lws(*last)
    {
        text = rest;
    }
    text
}

pub(crate) fn trim_text(text: &str) -> &str {
    trim_text_end(trim_text_start(text))
}

pub(crate) fn trim_text_start(text: &str) -> &str {
    &text[text.len() - trim_start(text.as_bytes()).len()..]
}

pub(crate) fn trim_text_end(text: &str) -> &str {
    &text[..trim_end(text.as_bytes()).len()]
}

/// `1*DIGIT`, saturating: an overlarge number is large, never a small one (RFC 4475 §3.1.2.4).
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, octet| {
        let digit = octet.is_ascii_digit().then(|| u64::from(octet - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

/// `1*DIGIT` as delta-seconds; RFC 3261 §20.19 ends at 2³²−1, more is taken as that.
pub(crate) fn seconds(text: &[u8]) -> Option<u32> {
    number(text).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
}

/// A port: 1*DIGIT up to 65535.
pub(crate) fn port(text: &[u8]) -> Result<u16, Malformed> {
    number(text)
        .and_then(|value| u16::try_from(value).ok())
        .ok_or(Malformed("port"))
}

/// Where the quoted string ends whose opening quote is the first octet: the index after its closing quote.
pub(crate) fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2; // quoted-pair
    }
}

pub(crate) fn utf8(text: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(text).map_err(|_| Malformed("not UTF-8"))
}

/// Where `inner`, a part of `outer`, begins in it.
pub(crate) fn offset_in(outer: &[u8], inner: &[u8]) -> usize {
    inner
        .as_ptr()
        .addr()
        .saturating_sub(outer.as_ptr().addr())
        .min(outer.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_saturate_and_never_wrap() {
        assert_eq!(number(b"36893488147419103232"), Some(u64::MAX));
        assert_eq!(number(b"007"), Some(7));
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b""), None);
        assert_eq!(seconds(b"4294967297"), Some(u32::MAX));
        assert!(port(b"65536").is_err());
    }

    #[test]
    fn quoted_strings_end_at_the_first_unescaped_quote() {
        assert_eq!(quoted_end(br#""a\"b" x"#), Some(6));
        assert_eq!(quoted_end(br#""a\""#), None);
        assert_eq!(quoted_end(br#""a\"#), None);
        assert_eq!(quoted_end(b"\""), None);
    }
}
