//! Addresses of record (RFC 3261 §10): the `user@domain` that people know each other by.
//!
//! *Invariant*: the domain is lower case and the user part unescaped, so equal addresses are
//! equal texts, and a map keyed by `AddressOfRecord` answers to `&str`.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

const USER_BYTES_MAX: usize = 255;
const DOMAIN_BYTES_MAX: usize = 253;

/// An address of record, `user@domain`; a clone shares the text.
#[derive(Clone)]
pub struct AddressOfRecord {
    text: Arc<str>,
    at: u32,
}

/// Why a text is no address of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no user part.
    #[error("the part before @ is missing")]
    NoUser,
    /// The user part is too long or holds control characters.
    #[error("the part before @ is longer than 255 bytes or holds control characters")]
    BadUser,
    /// There is no domain.
    #[error("the domain after @ is missing")]
    NoDomain,
    /// The domain is no host name and no address.
    #[error("the domain after @ is no host name")]
    BadDomain,
}

impl AddressOfRecord {
    /// Joins an unescaped user part and a domain of any case.
    pub fn new(user: &str, domain: &str) -> Result<Self, AddressError> {
        check_user(user)?;
        check_domain(domain)?;
        let mut text = String::with_capacity(user.len() + 1 + domain.len());
        text.push_str(user);
        text.push('@');
        text.extend(domain.chars().map(|c| c.to_ascii_lowercase()));
        let at = u32::try_from(user.len()).map_err(|_| AddressError::BadUser)?;
        Ok(Self {
            text: text.into(),
            at,
        })
    }

    /// Reads `user@domain`, `sip:user@domain`, or only `user`, which gets `default_domain`.
    pub fn parse_in(text: &str, default_domain: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let bare = text
            .strip_prefix("sip:")
            .or_else(|| text.strip_prefix("sips:"))
            .unwrap_or(text);
        match bare.rsplit_once('@') {
            Some((user, domain)) => Self::new(user, domain),
            None => Self::new(bare, default_domain),
        }
    }

    /// The part before the last `@`, unescaped.
    pub fn user(&self) -> &str {
        self.text.get(..self.at as usize).unwrap_or_default()
    }

    /// The part after the last `@`, in lower case.
    pub fn domain(&self) -> &str {
        self.text.get(self.at as usize + 1..).unwrap_or_default()
    }

    /// The whole text, `user@domain`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn check_user(user: &str) -> Result<(), AddressError> {
    if user.is_empty() {
        return Err(AddressError::NoUser);
    }
    if user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
        return Err(AddressError::BadUser);
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), AddressError> {
    if domain.is_empty() {
        return Err(AddressError::NoDomain);
    }
    let inner = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let fits = match inner {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => domain
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    };
    if fits && domain.len() <= DOMAIN_BYTES_MAX {
        Ok(())
    } else {
        Err(AddressError::BadDomain)
    }
}

impl FromStr for AddressOfRecord {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse_in(text, "")
    }
}

impl fmt::Display for AddressOfRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for AddressOfRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for AddressOfRecord {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for AddressOfRecord {}

impl PartialOrd for AddressOfRecord {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AddressOfRecord {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for AddressOfRecord {
    // The same hash as the text's, as `Borrow<str>` demands.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for AddressOfRecord {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for AddressOfRecord {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_domain_is_lower_case_and_the_user_is_kept() {
        let a = AddressOfRecord::new("Alice", "Example.COM").unwrap();
        assert_eq!(
            (a.user(), a.domain(), a.as_str()),
            ("Alice", "example.com", "Alice@example.com")
        );
        assert_ne!(a, AddressOfRecord::new("alice", "example.com").unwrap());
    }

    #[test]
    fn a_user_may_hold_an_at_sign() {
        let a: AddressOfRecord = "a@b@c.org".parse().unwrap();
        assert_eq!((a.user(), a.domain()), ("a@b", "c.org"));
    }

    #[test]
    fn a_bare_user_gets_the_default_domain() {
        for text in [
            "alice",
            " alice ",
            "sip:alice",
            "alice@localhost",
            "sip:alice@LOCALHOST",
        ] {
            let a = AddressOfRecord::parse_in(text, "localhost").unwrap();
            assert_eq!(a.as_str(), "alice@localhost", "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        assert_eq!("@x".parse::<AddressOfRecord>(), Err(AddressError::NoUser));
        assert_eq!("a".parse::<AddressOfRecord>(), Err(AddressError::NoDomain));
        assert_eq!("a@".parse::<AddressOfRecord>(), Err(AddressError::NoDomain));
        for text in ["a@b c", "a@b;c", "a@[::1", "a@[zz]", "a@b/c"] {
            assert_eq!(
                text.parse::<AddressOfRecord>(),
                Err(AddressError::BadDomain),
                "{text}"
            );
        }
        assert_eq!(
            "a\nb@c".parse::<AddressOfRecord>(),
            Err(AddressError::BadUser)
        );
        let long = format!("{}@x", "a".repeat(256));
        assert_eq!(long.parse::<AddressOfRecord>(), Err(AddressError::BadUser));
        assert!("a@[2001:db8::1]".parse::<AddressOfRecord>().is_ok());
    }

    #[test]
    fn a_map_answers_to_text() {
        let mut map = HashMap::new();
        map.insert(AddressOfRecord::new("a", "B").unwrap(), 1);
        assert_eq!(map.get("a@b"), Some(&1));
    }
}
