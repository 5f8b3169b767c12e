//! Comma lists.
//!
//! *Invariant*: a comma in a quoted string or between `<` and `>` separates nothing; the parts together with the
//! separators are the whole value.

use crate::grammar::{offset_in, quoted_end, trim};

/// Values of a list with their offsets; empty ones included, except that an empty list has none.
#[derive(Debug, Clone)]
pub(crate) struct Split<'a> {
    whole: &'a [u8],
    at: Option<usize>,
}

impl<'a> Split<'a> {
    pub(crate) fn new(whole: &'a [u8]) -> Self {
        Self {
            whole,
            at: (!whole.is_empty()).then_some(0),
        }
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at?;
        let end = match comma(&self.whole[start..]) {
            Some(length) => {
                self.at = Some(start + length + 1);
                start + length
            }
            None => {
                self.at = None;
                self.whole.len()
            }
        };
        let value = trim(&self.whole[start..end]);
        Some((offset_in(self.whole, value), value))
    }
}

fn comma(text: &[u8]) -> Option<usize> {
    memchr::memchr(b',', text)?;
    let mut at = 0;
    loop {
        match text.get(at)? {
            b',' => return Some(at),
            b'"' => at += quoted_end(&text[at..])?,
            b'<' => at += memchr::memchr(b'>', &text[at..])? + 1,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        Split::new(text.as_bytes())
            .map(|(_, value)| std::str::from_utf8(value).unwrap())
            .collect()
    }

    #[test]
    fn splits_outside_quotes_and_brackets_only() {
        assert_eq!(split("a, b\r\n ,c"), ["a", "b", "c"]);
        assert_eq!(
            split("\"x, \\\", y\" <sip:a,b@c>, <sip:d>"),
            ["\"x, \\\", y\" <sip:a,b@c>", "<sip:d>"]
        );
        assert_eq!(split("a,,b,"), ["a", "", "b", ""]);
        assert_eq!(split("\"open, b"), ["\"open, b"]);
        assert_eq!(split("<open, b"), ["<open, b"]);
        assert!(split("").is_empty());
    }
}
