//! Values of configuration keys that are more than a number or a text.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// How requests between users are routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Routing {
    /// Calls become legs of a conversation.
    Anchor,
    /// RFC 3261 §16: signalling passes, media does not.
    Proxy,
}

/// What happens to requests for local users from other domains without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Strangers {
    Challenge,
    Accept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Where the certificate for TLS and HTTPS comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// Made at the first start and kept in the data directory.
    SelfSigned,
    /// Fetched from an ACME authority.
    Acme,
    /// PEM files of the administrator.
    Files { chain: PathBuf, key: PathBuf },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum CertificateText {
    Name(String),
    Files { chain: PathBuf, key: PathBuf },
}

impl Serialize for Certificate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = match self {
            Self::SelfSigned => CertificateText::Name("self-signed".to_owned()),
            Self::Acme => CertificateText::Name("acme".to_owned()),
            Self::Files { chain, key } => CertificateText::Files {
                chain: chain.clone(),
                key: key.clone(),
            },
        };
        text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Certificate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || {
            serde::de::Error::custom(
                "use \"self-signed\", \"acme\" or { chain = \"FILE\", key = \"FILE\" }",
            )
        };
        match CertificateText::deserialize(deserializer).map_err(|_| wrong())? {
            CertificateText::Files { chain, key } => Ok(Self::Files { chain, key }),
            CertificateText::Name(name) if name == "self-signed" => Ok(Self::SelfSigned),
            CertificateText::Name(name) if name == "acme" => Ok(Self::Acme),
            CertificateText::Name(_) => Err(wrong()),
        }
    }
}

/// A network, `192.0.2.0/24`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the network holds the address; an IPv4 address in IPv6 form counts as IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let shift = |bits: u8| u32::from(bits - self.prefix);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(a)) => {
                let diff = net.to_bits() ^ a.to_bits();
                diff.checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(a)) => {
                let diff = net.to_bits() ^ a.to_bits();
                diff.checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no network: write 192.0.2.0/24 or one address");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.trim().parse().map_err(|_| wrong())?,
            None => bits,
        };
        if prefix > bits {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let ports = text
            .split_once('-')
            .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)))
            .filter(|(first, last): &(u16, u16)| *first > 0 && first <= last);
        let (first, last) =
            ports.ok_or_else(|| format!("{text:?} is no range of ports: write 10000-19999"))?;
        Ok(Self { first, last })
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        format!("{}-{}", range.first, range.last)
    }
}
