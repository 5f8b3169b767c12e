//! Where a message came from and where it goes (RFC 5626 §3.2: a flow).
//!
//! *Invariant*: a flow is plain data; whether it is still open only the sockets' owner knows.

use std::net::SocketAddr;

/// A transport of RFC 3261 §18 or RFC 7118.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A plain stream.
    Tcp,
    /// A stream over TLS.
    Tls,
    /// WebSocket (RFC 7118) without TLS.
    Ws,
    /// WebSocket (RFC 7118) over TLS.
    Wss,
}

impl Transport {
    /// Whether the transport delivers or fails, so that nothing is sent twice.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        self != Self::Udp
    }

    /// Whether the hop is encrypted.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// The token in Via (RFC 3261 §20.42, RFC 7118 §5.1).
    #[must_use]
    pub fn via_token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// The value of the URI parameter `transport`. Both kinds of WebSocket are `ws` there (RFC 7118 §5.4).
    #[must_use]
    pub fn uri_parameter(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws | Self::Wss => "ws",
        }
    }

    /// The transport that a `transport` parameter names; `None` for an unknown one.
    #[must_use]
    pub fn from_uri_parameter(value: &str, sips: bool) -> Option<Self> {
        let is = |name: &str| value.eq_ignore_ascii_case(name);
        match () {
            () if is("udp") => Some(Self::Udp),
            () if is("tcp") => Some(if sips { Self::Tls } else { Self::Tcp }),
            () if is("tls") => Some(Self::Tls),
            () if is("ws") => Some(if sips { Self::Wss } else { Self::Ws }),
            () if is("wss") => Some(Self::Wss),
            () => None,
        }
    }

    /// The port where none is written (RFC 3261 §19.1.2).
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// A number for tokens; stable.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Udp => 0,
            Self::Tcp => 1,
            Self::Tls => 2,
            Self::Ws => 3,
            Self::Wss => 4,
        }
    }

    /// The inverse of [`Transport::number`].
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss]
            .get(usize::from(number))
            .copied()
    }
}

/// Marks numbers that are no connection's.
const TO_BE_OPENED: u64 = 1 << 63;

/// One way to one peer: of an open connection, or a datagram socket and an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The transport.
    pub transport: Transport,
    /// The number of our listener.
    pub listener: u16,
    /// The connection; 0 for UDP, and for a stream to which a connection is to be found or opened. Numbers with the
    /// highest bit are of those, too: they say by which name the peer was found ([`Flow::to_peer`]).
    pub connection: u64,
    /// The other end.
    pub remote: SocketAddr,
}

impl Flow {
    /// A hop to which no connection is known yet.
    #[must_use]
    pub fn to(transport: Transport, listener: u16, remote: SocketAddr) -> Self {
        Self {
            transport,
            listener,
            connection: 0,
            remote,
        }
    }

    /// A hop whose host has a name, which its certificate has to prove (RFC 5922 §4). What the number stands for only
    /// the sockets' owner knows.
    #[must_use]
    pub fn to_peer(transport: Transport, listener: u16, remote: SocketAddr, name: u64) -> Self {
        Self {
            connection: name | TO_BE_OPENED,
            ..Self::to(transport, listener, remote)
        }
    }

    /// The number of the peer's name, where it was given one.
    #[must_use]
    pub fn peer_name(&self) -> Option<u64> {
        (self.connection & TO_BE_OPENED != 0).then_some(self.connection & !TO_BE_OPENED)
    }

    /// Whether the flow is one particular connection; else one to its address is found, or opened.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        self.connection != 0 && self.peer_name().is_none()
    }

    /// As a token's content (RFC 5626 §5.2).
    #[must_use]
    pub fn as_token(&self) -> crate::FlowToken {
        crate::FlowToken {
            transport: self.transport.number(),
            listener: self.listener,
            connection: self.connection,
            remote: self.remote,
        }
    }

    /// From a token that opened.
    #[must_use]
    pub fn from_token(token: &crate::FlowToken) -> Option<Self> {
        let transport = Transport::from_number(token.transport)?;
        Some(Self {
            transport,
            listener: token.listener,
            connection: token.connection,
            remote: token.remote,
        })
    }
}
