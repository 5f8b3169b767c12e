//! Addresses that people type.
//!
//! *Invariant*: what becomes an account can stand in a SIP URI as RFC 3261 §25.1 writes it.

use sidetone_model::AddressOfRecord;

/// Reads `user@domain`, or `user` of the default domain, for somebody who is to have it.
pub(super) fn read(text: &str, default_domain: &str) -> Result<AddressOfRecord, String> {
    let typed = AddressOfRecord::parse_in(text, default_domain).map_err(|e| e.to_string())?;
    let user = plain(typed.user())?;
    AddressOfRecord::new(&user, typed.domain()).map_err(|e| e.to_string())
}

/// The user part without its escapes.
fn plain(user: &str) -> Result<String, String> {
    let mut octets = Vec::with_capacity(user.len());
    let mut rest = user.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => octets.push(escaped(&mut rest)?),
            '@' => return Err("there is a second @".to_owned()),
            c if c.is_whitespace() => return Err("there is white space in it".to_owned()),
            c if is_user(c) => octets.extend(u8::try_from(c)),
            c => {
                return Err(format!(
                    "{c:?} cannot stand there; letters, digits and -_.!~*'()&=+$,;?/ can"
                ));
            }
        }
    }
    let text = String::from_utf8(octets).map_err(|_| "its escapes are no text".to_owned())?;
    match text.contains(|c: char| c == '@' || c.is_whitespace()) {
        true => Err("there is an escaped @ or white space in it".to_owned()),
        false => Ok(text),
    }
}

fn escaped(rest: &mut std::str::Chars<'_>) -> Result<u8, String> {
    let mut digit = || rest.next().and_then(|c| c.to_digit(16));
    match (digit(), digit()) {
        (Some(high), Some(low)) => u8::try_from(high << 4 | low).map_err(|e| e.to_string()),
        _ => Err("after % stand two hexadecimal digits".to_owned()),
    }
}

/// RFC 3261 §25.1: unreserved or user-unreserved.
fn is_user(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.!~*'()&=+$,;?/".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_stand_in_a_uri_is_an_address() {
        for (typed, address) in [
            ("ann", "ann@x.test"),
            ("Ann.B-c_d+e@Y.test", "Ann.B-c_d+e@y.test"),
            ("sip:*99@y.test", "*99@y.test"),
            ("j%C3%BCrgen", "jürgen@x.test"),
            ("a%2Bb", "a+b@x.test"),
        ] {
            let read = read(typed, "x.test").map(|a| a.to_string());
            assert_eq!(read.as_deref(), Ok(address));
        }
    }

    #[test]
    fn what_cannot_is_refused() {
        for typed in [
            "a@b@y.test",
            "a b",
            "a\u{a0}b",
            "jürgen",
            "a<b>",
            "a\"b",
            "a:b",
            "a#b",
            "a%4",
            "a%zz",
            "a%40b",
            "a%20b",
            "a%00b",
            "a%ff",
            "",
            "@y.test",
        ] {
            assert!(read(typed, "x.test").is_err(), "{typed:?}");
        }
    }
}
