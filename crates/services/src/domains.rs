//! Which domains are ours, and the addresses of record that URIs name in them.
//!
//! *Invariant: two spellings of one address come out as one text: the domain canonical,
//! the user part unescaped.*

use sidetone_model::AddressOfRecord;
use sidetone_sip::{Scheme, Uri};

/// Our domains, and the host names and addresses that mean one of them.
#[derive(Debug, Clone, Default)]
pub struct Domains {
    default: Box<str>,
    /// Name in lower case (an IPv6 address without brackets) and the domain it means.
    names: Vec<(Box<str>, Box<str>)>,
}

impl Domains {
    /// One domain of our own, which also stands in for `tel:` numbers.
    pub fn new(default: &str) -> Self {
        let mut domains = Self {
            default: default.to_ascii_lowercase().into(),
            names: Vec::new(),
        };
        domains.add(default, default);
        domains
    }

    /// Lets `name` (a domain, a host name or an address of ours) mean `domain`.
    pub fn add(&mut self, name: &str, domain: &str) {
        let (name, domain) = (lower(name), domain.to_ascii_lowercase().into());
        self.names.retain(|(known, _)| *known != name);
        self.names.push((name, domain));
    }

    /// The domain for `tel:` numbers and phones that name none.
    pub fn default_domain(&self) -> &str {
        &self.default
    }

    /// The domain of ours that a host names; `None`: not ours.
    pub fn canonical(&self, host: &str) -> Option<&str> {
        let bare = bare(host);
        let (_, domain) = self
            .names
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(bare))?;
        Some(domain)
    }

    /// `user@domain` of a SIP, SIPS or tel URI at one of our domains.
    pub fn address(&self, uri: &str) -> Option<String> {
        let uri = Uri::parse(uri).ok()?;
        let user = uri.user_unescaped()?;
        match uri.scheme {
            Scheme::Sip | Scheme::Sips => Some(joined(&user, self.canonical(uri.host)?)),
            Scheme::Tel => {
                // RFC 3966 §5: visual separators do not count.
                let number: String = user.chars().filter(|c| !"-.()".contains(*c)).collect();
                Some(joined(&number, &self.default))
            }
            Scheme::Other => None,
        }
    }
}

/// The address that a SIP URI names at whatever domain.
pub fn any_address(uri: &str) -> Option<AddressOfRecord> {
    let uri = Uri::parse(uri).ok()?;
    let user = uri.user_unescaped()?;
    AddressOfRecord::new(&user, uri.host).ok()
}

fn joined(user: &str, domain: &str) -> String {
    let mut out = String::with_capacity(user.len() + 1 + domain.len());
    out.extend([user, "@", domain]);
    out
}

fn bare(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(host)
}

fn lower(name: &str) -> Box<str> {
    bare(name).to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_one() {
        let mut domains = Domains::new("Example.com");
        domains.add("192.0.2.1", "example.com");
        domains.add("[2001:DB8::1]", "example.com");
        domains.add("other.example", "other.example");
        for (uri, expected) in [
            ("sip:alice@EXAMPLE.com", Some("alice@example.com")),
            (
                "sips:%61lice@example.com:5061;transport=tls",
                Some("alice@example.com"),
            ),
            ("sip:alice@192.0.2.1", Some("alice@example.com")),
            ("sip:alice@[2001:db8::1]:5060", Some("alice@example.com")),
            ("sip:alice@other.example", Some("alice@other.example")),
            ("tel:+1-201-555.0123", Some("+12015550123@example.com")),
            ("sip:alice@elsewhere.example", None),
            ("sip:example.com", None),
            ("mailto:alice@example.com", None),
            ("", None),
        ] {
            assert_eq!(domains.address(uri).as_deref(), expected, "{uri}");
        }
        assert_eq!(domains.canonical("example.org"), None);
        assert_eq!(domains.default_domain(), "example.com");
    }
}
