//! Tokens that we hand out in URIs and take back: signed, so that what comes back is
//! what we gave (RFC 5626 §5.2, RFC 3261 §16.6 step 4).
//!
//! *Invariant: a token opens only under the key and for the purpose that made it, and
//! is of `unreserved` characters only.*

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::base64url;
use crate::nonce::{keyed, truncated};

const FLOW_MAC_BYTES: usize = 8;
const DIALOG_MAC_BYTES: usize = 12;
/// The caller's address and the signature.
const DIALOG_MAX_BYTES: usize = 16 + DIALOG_MAC_BYTES;
/// Tag and family, listener, connection (at most 10), IPv6 address, port.
const FLOW_MAX_BYTES: usize = 1 + 2 + 10 + 16 + 2 + FLOW_MAC_BYTES;
const IPV6_BIT: u8 = 0x80;

/// The keys of all tokens, derived from one secret.
#[derive(Clone)]
pub struct TokenKey {
    flow: Hmac<Sha256>,
    dialog: Hmac<Sha256>,
    pub(crate) gruu_tag: Hmac<Sha256>,
    pub(crate) gruu_stream: Hmac<Sha256>,
}

/// What a flow token names: where a request for that flow leaves (RFC 5626 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowToken {
    /// Number of the transport, below 128.
    pub transport: u8,
    /// The listener on which the flow came in.
    pub listener: u16,
    /// The connection; 0 for UDP.
    pub connection: u64,
    /// The other end.
    pub remote: SocketAddr,
}

impl TokenKey {
    /// Keys from 32 secret random bytes. The same secret after a restart keeps the
    /// tokens in phones' routes valid.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            flow: keyed(&secret, b"sidetone flow token"),
            dialog: keyed(&secret, b"sidetone dialog token"),
            gruu_tag: keyed(&secret, b"sidetone temporary gruu tag"),
            gruu_stream: keyed(&secret, b"sidetone temporary gruu stream"),
        }
    }

    /// A flow token for the requests of one dialog: 23 to 50 characters, under 30 for a usual IPv4 connection. Somebody
    /// else's way cannot be taken from one dialog into another.
    pub fn flow_token(&self, call_id: &[u8], flow: &FlowToken) -> String {
        let mut bytes = smallvec::SmallVec::<[u8; FLOW_MAX_BYTES]>::new();
        let family = if flow.remote.is_ipv6() { IPV6_BIT } else { 0 };
        bytes.push(flow.transport & !IPV6_BIT | family);
        bytes.extend_from_slice(&flow.listener.to_be_bytes());
        bytes.extend_from_slice(&flow.remote.port().to_be_bytes());
        match flow.remote.ip() {
            IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
        }
        let leading = flow.connection.leading_zeros() as usize / 8;
        bytes.extend_from_slice(&flow.connection.to_be_bytes()[leading..]);
        let mac: [u8; FLOW_MAC_BYTES] = signature(&self.flow, &[call_id, &bytes]);
        bytes.extend_from_slice(&mac);
        base64url::encode(&bytes)
    }

    /// What a flow token names; `None` if it is not one of ours for this Call-ID, unchanged.
    pub fn open_flow_token(&self, call_id: &[u8], token: &str) -> Option<FlowToken> {
        let mut buffer = [0u8; FLOW_MAX_BYTES];
        let bytes = base64url::decode(token.as_bytes(), &mut buffer)?;
        let (signed, mac) = bytes.split_at_checked(bytes.len().checked_sub(FLOW_MAC_BYTES)?)?;
        let expected: [u8; FLOW_MAC_BYTES] = signature(&self.flow, &[call_id, signed]);
        if bool::from(expected.ct_eq(mac)) {
            read_flow(signed)
        } else {
            None
        }
    }

    /// The token of a dialog for Record-Route: which Call-ID, which caller's tag, and the address that the caller has.
    /// 22 characters, with an IPv6 address 38.
    pub fn dialog_token(&self, call_id: &[u8], tag: &str, caller: IpAddr) -> String {
        let mut bytes = smallvec::SmallVec::<[u8; DIALOG_MAX_BYTES]>::new();
        match caller.to_canonical() {
            IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
        }
        let mac: [u8; DIALOG_MAC_BYTES] =
            signature(&self.dialog, &[call_id, tag.as_bytes(), &bytes]);
        bytes.extend_from_slice(&mac);
        base64url::encode(&bytes)
    }

    /// The caller's address, if `token` is one that we gave for this Call-ID and caller's tag.
    pub fn open_dialog_token(&self, call_id: &[u8], tag: &str, token: &str) -> Option<IpAddr> {
        let mut buffer = [0u8; DIALOG_MAX_BYTES];
        let bytes = base64url::decode(token.as_bytes(), &mut buffer)?;
        let (address, mac) = bytes.split_at_checked(bytes.len().checked_sub(DIALOG_MAC_BYTES)?)?;
        let expected: [u8; DIALOG_MAC_BYTES] =
            signature(&self.dialog, &[call_id, tag.as_bytes(), address]);
        if !bool::from(expected.ct_eq(mac)) {
            return None;
        }
        match address.len() {
            4 => <[u8; 4]>::try_from(address).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(address).ok().map(IpAddr::from),
        }
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TokenKey(secret)")
    }
}

/// The first `N` bytes of the signature of parts, whose borders count.
fn signature<const N: usize>(key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; N] {
    let mut mac = key.clone();
    for part in parts {
        mac.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        mac.update(part);
    }
    truncated(mac)
}

/// The first `N` bytes of the signature of `bytes`.
pub(crate) fn tag<const N: usize>(key: &Hmac<Sha256>, bytes: &[u8]) -> [u8; N] {
    let mut mac = key.clone();
    mac.update(bytes);
    truncated(mac)
}

fn read_flow(bytes: &[u8]) -> Option<FlowToken> {
    let (first, rest) = bytes.split_first()?;
    let (listener, rest) = rest.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (address, rest) = if first & IPV6_BIT == 0 {
        let (octets, rest) = rest.split_first_chunk::<4>()?;
        (IpAddr::V4(Ipv4Addr::from(*octets)), rest)
    } else {
        let (octets, rest) = rest.split_first_chunk::<16>()?;
        (IpAddr::V6(Ipv6Addr::from(*octets)), rest)
    };
    let connection = rest
        .iter()
        .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    Some(FlowToken {
        transport: first & !IPV6_BIT,
        listener: u16::from_be_bytes(*listener),
        connection,
        remote: SocketAddr::new(address, u16::from_be_bytes(*port)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &[u8] = b"a84b4c76e66710@pc33.example.com";

    fn key() -> TokenKey {
        TokenKey::new([1; 32])
    }

    fn flows() -> Vec<FlowToken> {
        let mut flows = Vec::new();
        for remote in [
            "192.0.2.1:5060",
            "[2001:db8::1]:65535",
            "[::ffff:192.0.2.1]:0",
        ] {
            for connection in [0, 1, 255, 256, 1 << 40, u64::MAX] {
                let remote = remote.parse().expect("an address");
                flows.push(FlowToken {
                    transport: 4,
                    listener: 0xfffe,
                    connection,
                    remote,
                });
            }
        }
        flows
    }

    #[test]
    fn flow_tokens_come_back() {
        for flow in flows() {
            let token = key().flow_token(CALL, &flow);
            assert!(token.len() <= 50, "{}", token.len());
            assert!(
                token
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            );
            assert_eq!(key().open_flow_token(CALL, &token), Some(flow));
            assert_eq!(TokenKey::new([2; 32]).open_flow_token(CALL, &token), None);
            assert_eq!(key().open_flow_token(b"another", &token), None);
        }
        let udp = key().flow_token(
            CALL,
            &FlowToken {
                connection: 0,
                ..flows()[0]
            },
        );
        assert_eq!(udp.len(), 23);
    }

    #[test]
    fn a_changed_flow_token_does_not_open() {
        let token = key().flow_token(CALL, &flows()[2]);
        for at in 0..token.len() {
            for replacement in [b'A', b'B', b'_', b'.'] {
                let mut bytes = token.clone().into_bytes();
                if bytes[at] != replacement {
                    bytes[at] = replacement;
                    let changed = String::from_utf8(bytes).expect("ASCII");
                    assert_eq!(key().open_flow_token(CALL, &changed), None);
                }
            }
            assert_eq!(key().open_flow_token(CALL, &token[..at]), None);
        }
        assert_eq!(key().open_flow_token(CALL, &"A".repeat(10_000)), None);
    }

    #[test]
    fn a_dialog_token_is_for_one_call_and_one_caller() {
        let addresses = ["192.0.2.7", "2001:db8::7"].map(|text| text.parse().expect("an address"));
        for (caller, length) in addresses.into_iter().zip([22, 38]) {
            let token = key().dialog_token(CALL, "tag", caller);
            assert_eq!(token.len(), length);
            assert_eq!(key().open_dialog_token(CALL, "tag", &token), Some(caller));
            for (call_id, tag) in [
                (CALL, "Tag"),
                (CALL, ""),
                (b"another".as_slice(), "tag"),
                (b"", "tag"),
            ] {
                assert_eq!(key().open_dialog_token(call_id, tag, &token), None);
            }
            let other = TokenKey::new([2; 32]);
            assert_eq!(other.open_dialog_token(CALL, "tag", &token), None);
            for changed in [
                "",
                "AAAAAAAAAAAAAAAA",
                &token[..15],
                &token[1..],
                &format!("{token}AAAA"),
            ] {
                assert_eq!(key().open_dialog_token(CALL, "tag", changed), None);
            }
        }
        let split = key().dialog_token(b"ab", "c", addresses[0]);
        assert_eq!(key().open_dialog_token(b"a", "bc", &split), None);
    }

    #[test]
    fn purposes_have_keys_of_their_own() {
        let flow = key().flow_token(CALL, &flows()[0]);
        let mut buffer = [0u8; FLOW_MAX_BYTES];
        let bytes = base64url::decode(flow.as_bytes(), &mut buffer).expect("base64");
        let (signed, mac) = bytes.split_at(bytes.len() - FLOW_MAC_BYTES);
        let under_another = signature::<FLOW_MAC_BYTES>(&key().dialog, &[CALL, signed]);
        assert_ne!(&under_another, mac);
    }
}
