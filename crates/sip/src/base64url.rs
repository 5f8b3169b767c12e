//! Base64 with the URL alphabet and no padding (RFC 4648 §5): every character is
//! `unreserved` in RFC 3261 §25, so tokens need no escape in a URI, a parameter or
//! a quoted string.
//!
//! *Invariant: one text stands for one byte string: a text whose unused bits are
//! not zero does not decode.*

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Appends the text of `bytes` to `out`.
pub(crate) fn encode_into(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().enumerate().fold(0u32, |group, (at, byte)| {
            group | u32::from(*byte) << (16 - 8 * at)
        });
        for digit in 0..=chunk.len() {
            out.push(char::from(
                ALPHABET[(group >> (18 - 6 * digit) & 63) as usize],
            ));
        }
    }
}

/// The text of `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    encode_into(&mut out, bytes);
    out
}

/// Decodes into the front of `out`; `None` for a foreign character, an impossible
/// length, set unused bits, or a text that does not fit.
pub(crate) fn decode<'a>(text: &[u8], out: &'a mut [u8]) -> Option<&'a [u8]> {
    if text.len() % 4 == 1 {
        return None;
    }
    let length = text.len() * 3 / 4;
    let target = out.get_mut(..length)?;
    for (chunk, bytes) in text.chunks(4).zip(target.chunks_mut(3)) {
        let mut group = 0u32;
        for (at, character) in chunk.iter().enumerate() {
            group |= digit(*character)? << (18 - 6 * at);
        }
        let [_, first, second, third] = group.to_be_bytes();
        let decoded = [first, second, third];
        if decoded[bytes.len()..].iter().any(|rest| *rest != 0) {
            return None;
        }
        bytes.copy_from_slice(&decoded[..bytes.len()]);
    }
    Some(target)
}

fn digit(character: u8) -> Option<u32> {
    let value = match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_rfc_4648() {
        let table: [(&[u8], &str); 7] = [
            (b"", ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (b"fooba", "Zm9vYmE"),
            (&[0xfb, 0xff, 0xfe], "-__-"),
        ];
        for (bytes, text) in table {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text.as_bytes(), &mut [0; 8]), Some(bytes));
        }
    }

    #[test]
    fn foreign_texts_do_not_decode() {
        for text in ["Z", "Zh", "Zm9", "Zg==", "Zm+v", "Zm v", "\u{e9}a"] {
            assert_eq!(decode(text.as_bytes(), &mut [0; 8]), None, "{text}");
        }
        assert_eq!(decode(b"Zm9vYg", &mut [0; 3]), None, "does not fit");
    }
}
