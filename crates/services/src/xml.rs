//! Text for XML documents.
//!
//! *Invariant*: whatever the text holds, the document around it stays well-formed.

use std::fmt::{Display, Formatter, Result, Write};

/// Text for an element or an attribute; characters that XML 1.0 has not are replaced.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\0'..=' ' => f.write_char(' ')?,
                '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// The SIP URI of an address.
pub(crate) fn uri_of(address: &sidetone_model::AddressOfRecord) -> String {
    let user = sidetone_sip::escape_user(address.user());
    format!("sip:{user}@{}", address.domain())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_the_document() {
        let text = "\"/><x a='&\u{0}\u{ffff}é]]>";
        assert_eq!(
            Escaped(text).to_string(),
            "&quot;/&gt;&lt;x a='&amp; \u{fffd}é]]&gt;"
        );
    }
}
