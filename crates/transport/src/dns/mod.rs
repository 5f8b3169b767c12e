//! Where to send a request: RFC 3263, from a URI's host to a list of addresses.
//!
//! The decisions ([`plan`], [`order_services`], [`order_servers`]) are pure; only
//! [`Resolver`] asks name servers.
//!
//! *Invariants:* a `sips` target never yields a hop without TLS. At most
//! [`HOPS_MAX`] hops come out and at most as many SRV targets are looked up; the
//! whole takes at most [`RESOLVE_TIMEOUT`]. Randomness comes from the caller.

mod order;
mod resolver;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use order::{Plan, Server, Service, order_servers, order_services, plan};
pub use resolver::Resolver;

/// Hops in one answer, and SRV targets followed for it.
pub const HOPS_MAX: usize = 16;

/// The longest that one resolution takes.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a hop is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Protocol {
    /// RFC 3261 §19.1.2, RFC 7118 §5.3 (through HTTP's defaults).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// Whether what is sent is encrypted.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

/// What a request is to be sent to, as its next-hop URI says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address (IPv6 with or without brackets); `maddr` if the URI has one.
    pub host: String,
    /// The port, if the URI has one.
    pub port: Option<u16>,
    /// The `transport` parameter, if the URI has one.
    pub transport: Option<Protocol>,
    /// The scheme is `sips`.
    pub sips: bool,
}

/// One address to try. They are tried in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// How.
    pub transport: Protocol,
    /// Where.
    pub address: SocketAddr,
}

/// Address families and transports that we can send by.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    /// We have an IPv4 address.
    pub ipv4: bool,
    /// We have an IPv6 address.
    pub ipv6: bool,
    /// UDP may be used.
    pub udp: bool,
    /// TCP may be used.
    pub tcp: bool,
    /// TLS may be used.
    pub tls: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self {
            ipv4: true,
            ipv6: true,
            udp: true,
            tcp: true,
            tls: true,
        }
    }
}

impl Abilities {
    fn speak(&self, transport: Protocol) -> bool {
        match transport {
            Protocol::Udp => self.udp,
            Protocol::Tcp => self.tcp,
            Protocol::Tls => self.tls,
            Protocol::Ws | Protocol::Wss => false,
        }
    }

    fn reach(&self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The host is neither a name nor an address.
    #[error("`{0}` is not a host")]
    NotAHost(String),
    /// `sips` with a transport that cannot be secured, or one that we do not speak.
    #[error("the target asks for a transport that cannot be used")]
    Transport,
    /// Name servers answered, and there is no such host or service.
    #[error("no address is known for `{0}`")]
    NotFound(String),
    /// Name servers did not answer in time.
    #[error("name servers did not answer in time")]
    Timeout,
    /// Name servers failed.
    #[error("name servers failed: {0}")]
    Failed(String),
}
