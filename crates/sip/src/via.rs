//! Via values.
//!
//! *Invariant*: what the peer wrote is read as it stands; whether it is believed is decided where the source is known.

use std::net::IpAddr;

use crate::Malformed;
use crate::grammar::{cut, is_lws, is_token, trim, utf8};
use crate::params::Params;
use crate::uri::{host_ip, host_port};

/// The prefix of a branch by RFC 3261 §8.1.1.7.
pub const BRANCH_COOKIE: &str = "z9hG4bK";

/// One Via value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// `SIP/2.0` as on the wire, which may hold white space around its slash.
    pub protocol: &'a str,
    /// `UDP`, `TCP`, `TLS`, `WS`, … as on the wire.
    pub transport: &'a str,
    /// Host of sent-by, an IPv6 address with its brackets.
    pub host: &'a str,
    /// Port of sent-by where given.
    pub port: Option<u16>,
    /// Parameters.
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// Parses one value (a list has to be split before).
    ///
    /// # Errors
    /// Where the value is not by the grammar of RFC 3261 §25.1 `via-parm`.
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let text = utf8(trim(value))?;
        let (name, rest) = cut(text, b'/').ok_or(Malformed("Via protocol"))?;
        let (version, rest) = cut(rest, b'/').ok_or(Malformed("Via protocol version"))?;
        let protocol = text[..name.len() + 1 + version.len()].trim_ascii();
        let rest = rest.trim_ascii_start();
        let end = rest
            .bytes()
            .position(is_lws)
            .ok_or(Malformed("Via without sent-by"))?;
        let (transport, rest) = rest.split_at(end);
        for part in [name, version, transport] {
            if !is_token(part.trim_ascii().as_bytes()) {
                return Err(Malformed("Via protocol"));
            }
        }
        let (sent_by, params) =
            rest.split_at(memchr::memchr(b';', rest.as_bytes()).unwrap_or(rest.len()));
        let (host, port) = sent_by_parts(sent_by.trim_ascii())?;
        let params = Params::new(params);
        params.check()?;
        Ok(Self {
            protocol,
            transport,
            host,
            port,
            params,
        })
    }

    /// The branch; empty counts as none.
    #[must_use]
    pub fn branch(&self) -> Option<&'a str> {
        self.params
            .value("branch")
            .filter(|branch| !branch.is_empty())
    }

    /// Whether the branch identifies a transaction by RFC 3261 §17.2.3: the cookie and something after it.
    #[must_use]
    pub fn has_magic_branch(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.len() > BRANCH_COOKIE.len()
                && branch.as_bytes().starts_with(BRANCH_COOKIE.as_bytes())
        })
    }

    /// The `received` address; brackets are tolerated (RFC 5118 §4.5).
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        host_ip(self.params.value("received")?)
    }

    /// `None`: not asked for. `Some(None)`: asked for, not filled in (RFC 3581).
    #[must_use]
    pub fn rport(&self) -> Option<Option<u16>> {
        let value = self.params.get("rport")?;
        Some(value.and_then(|text| crate::grammar::port(text.as_bytes()).ok()))
    }

    /// The `maddr` parameter.
    #[must_use]
    pub fn maddr(&self) -> Option<&'a str> {
        self.params.value("maddr")
    }
}

/// `host [ COLON port ]`, where the colon may have white space around it.
fn sent_by_parts(text: &str) -> Result<(&str, Option<u16>), Malformed> {
    if !text.bytes().any(is_lws) {
        return host_port(text);
    }
    let (host, digits) = text.rsplit_once(':').ok_or(Malformed("Via sent-by"))?;
    let (host, none) = host_port(host.trim_ascii_end())?;
    match none {
        None => Ok((
            host,
            Some(crate::grammar::port(digits.trim_ascii_start().as_bytes())?),
        )),
        Some(_) => Err(Malformed("Via sent-by")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_anywhere() {
        let via = Via::parse(
            b"SIP  /   2.0\r\n /UDP\r\n    192.0.2.2 : 5062 ; branch =\r\n z9hG4bKx;rport",
        )
        .unwrap();
        assert_eq!(
            (via.transport, via.host, via.port),
            ("UDP", "192.0.2.2", Some(5062))
        );
        assert_eq!((via.branch(), via.rport()), (Some("z9hG4bKx"), Some(None)));
        assert!(via.has_magic_branch());
    }

    #[test]
    fn addresses_and_parameters() {
        let via = Via::parse(
            b"SIP/2.0/TLS [2001:db8::9:1]:5061;received=[2001:db8::9:255];rport=99;branch=z9hG4bK",
        )
        .unwrap();
        assert_eq!((via.host, via.port), ("[2001:db8::9:1]", Some(5061)));
        assert_eq!(via.received(), Some("2001:db8::9:255".parse().unwrap()));
        assert_eq!(via.rport(), Some(Some(99)));
        assert!(!via.has_magic_branch());
        assert_eq!(
            Via::parse(b"SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9")
                .unwrap()
                .port,
            None
        );
        assert_eq!(
            Via::parse(b"SIP/2.0/UDP h;maddr=224.2.0.1;ttl=16")
                .unwrap()
                .maddr(),
            Some("224.2.0.1")
        );
    }

    #[test]
    fn refuses_broken_values() {
        for bad in [
            "",
            "SIP/2.0",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ;branch=x",
            "SIP/2.0/UDP h;;x",
            "SIP/2.0/UDP a b",
            "/2.0/UDP h",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP h:5060:1",
            "SIP/2.0/U DP h",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP h : 1 : 2",
        ] {
            assert!(Via::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
