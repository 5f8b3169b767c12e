//! STUN binding requests as keep-alives on a SIP port (RFC 5626 §4.4.2, RFC 8489).
//!
//! *Invariant: an answer costs no state and is at most 1.6 times its request; what is
//! not a well-formed binding request is not answered.*

use std::net::{IpAddr, SocketAddr};

const HEADER_BYTES: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
/// Attributes that a client may send and we may ignore: USERNAME, MESSAGE-INTEGRITY,
/// REALM, NONCE, and CHANGE-REQUEST of RFC 5780, whose flags we cannot follow, do not
/// matter to a keep-alive (RFC 5626 §8: no authentication).
const UNDERSTOOD: [u16; 6] = [0x0003, 0x0006, 0x0008, 0x0014, 0x0015, 0x001c];

/// Whether a datagram on a SIP port is STUN: two zero bits and the magic cookie
/// (RFC 8489 §5). No SIP message starts with a byte below 64.
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_BYTES && datagram[0] < 0x40 && datagram[4..8] == MAGIC_COOKIE
}

/// The answer to a binding request that came from `from`; `None` if it is malformed or
/// anything else, which is dropped.
pub fn binding_response(request: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    if !is_stun(request) || number(request, 0)? != BINDING_REQUEST {
        return None;
    }
    let body = &request[HEADER_BYTES..];
    if usize::from(number(request, 2)?) != body.len() || !body.len().is_multiple_of(4) {
        return None;
    }
    let unknown = unknown_attributes(body)?;
    let transaction = &request[8..HEADER_BYTES];
    if unknown.is_empty() {
        let value = xor_mapped_address(from, transaction);
        return Some(message(
            BINDING_SUCCESS,
            transaction,
            &[(XOR_MAPPED_ADDRESS, value)],
        ));
    }
    // RFC 8489 §6.3.1: 420 with the list.
    let error = (ERROR_CODE, vec![0, 0, 4, 20]);
    Some(message(
        BINDING_ERROR,
        transaction,
        &[error, (UNKNOWN_ATTRIBUTES, unknown)],
    ))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// Types below 0x8000 that we do not know, as they stand on the wire; `None` if an
/// attribute reaches over the end.
fn unknown_attributes(body: &[u8]) -> Option<Vec<u8>> {
    let mut unknown = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let kind = number(rest, 0)?;
        let length = usize::from(number(rest, 2)?).next_multiple_of(4);
        if kind < 0x8000 && !UNDERSTOOD.contains(&kind) {
            unknown.extend_from_slice(&kind.to_be_bytes());
        }
        rest = rest.get(4 + length..)?;
    }
    Some(unknown)
}

/// RFC 8489 §14.2.
fn xor_mapped_address(from: SocketAddr, transaction: &[u8]) -> Vec<u8> {
    let mask = || MAGIC_COOKIE.iter().chain(transaction);
    let xored = |bytes: &[u8]| {
        bytes
            .iter()
            .zip(mask())
            .map(|(byte, mask)| byte ^ mask)
            .collect::<Vec<_>>()
    };
    // A dual-stack socket reports IPv4 peers as mapped addresses; the client means its own.
    let (family, address) = match from.ip().to_canonical() {
        IpAddr::V4(address) => (1, xored(&address.octets())),
        IpAddr::V6(address) => (2, xored(&address.octets())),
    };
    let mut value = vec![0, family];
    value.extend(xored(&from.port().to_be_bytes()));
    value.extend(address);
    value
}

fn message(kind: u16, transaction: &[u8], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    for (kind, value) in attributes {
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&length_field(value.len()));
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length_field(body.len()));
    out.extend_from_slice(&MAGIC_COOKIE);
    out.extend_from_slice(transaction);
    out.extend_from_slice(&body);
    out
}

/// Lengths here are smaller than that of a datagram.
fn length_field(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transaction of RFC 5769 §2.1.
    const TRANSACTION: [u8; 12] = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    fn request(attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend_from_slice(&length_field(attributes.len()));
        bytes.extend_from_slice(&MAGIC_COOKIE);
        bytes.extend_from_slice(&TRANSACTION);
        bytes.extend_from_slice(attributes);
        bytes
    }

    /// The request of RFC 5769 §2.1 with SOFTWARE, PRIORITY and ICE-CONTROLLED left as
    /// one optional attribute.
    #[test]
    fn mapped_ipv4_address_of_rfc_5769() {
        let from = "192.0.2.1:32853".parse().expect("an address");
        let response = binding_response(&request(&[]), from).expect("an answer");
        let mut expected = vec![1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
        expected.extend_from_slice(&TRANSACTION);
        expected.extend_from_slice(&[0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        assert_eq!(response, expected);
        let mapped = "[::ffff:192.0.2.1]:32853".parse().expect("an address");
        assert_eq!(binding_response(&request(&[]), mapped), Some(expected));
    }

    #[test]
    fn mapped_ipv6_address_of_rfc_5769() {
        let from = "[2001:db8:1234:5678:11:2233:4455:6677]:32853"
            .parse()
            .expect("an address");
        let response = binding_response(&request(&[]), from).expect("an answer");
        assert_eq!(
            response[HEADER_BYTES..],
            [
                0, 0x20, 0, 0x14, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79,
                0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9
            ]
        );
    }

    #[test]
    fn optional_attributes_are_skipped_with_padding() {
        let software = [0x80, 0x22, 0, 5, b'p', b'h', b'o', b'n', b'e', 0, 0, 0];
        let from = "192.0.2.1:1".parse().expect("an address");
        let response = binding_response(&request(&software), from).expect("an answer");
        assert_eq!(response[..2], [1, 1]);
    }

    #[test]
    fn unknown_required_attributes_get_420_without_amplification() {
        let from = "192.0.2.1:1".parse().expect("an address");
        let attribute = [0, 0x24, 0, 0];
        for count in 1..200 {
            let sent = request(&attribute.repeat(count));
            let response = binding_response(&sent, from).expect("an answer");
            assert_eq!(response[..2], [1, 0x11]);
            assert_eq!(
                response[HEADER_BYTES..HEADER_BYTES + 8],
                [0, 9, 0, 4, 0, 0, 4, 20]
            );
            assert!(response.len() * 2 <= sent.len() * 3, "{count}");
            assert_eq!(
                usize::from(number(&response, 2).expect("long")),
                response.len() - HEADER_BYTES
            );
        }
    }

    #[test]
    fn malformed_requests_are_dropped() {
        let from = "192.0.2.1:1".parse().expect("an address");
        let good = request(&[]);
        for end in 0..good.len() {
            assert_eq!(binding_response(&good[..end], from), None);
        }
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        for bad in [
            changed(0, 0x40),
            changed(0, 1),
            changed(1, 2),
            changed(3, 4),
            changed(4, 0),
        ] {
            assert_eq!(binding_response(&bad, from), None);
        }
        for attributes in [
            &[0x80, 0x22, 0, 1][..],
            &[0x80, 0x22, 0xff, 0xff],
            &[0x80, 0x22],
            &[0; 6],
        ] {
            assert_eq!(
                binding_response(&request(attributes), from),
                None,
                "{attributes:?}"
            );
        }
        assert!(!is_stun(b"OPTIONS sip:a SIP/2.0\r\n"));
        assert!(!is_stun(b"\r\n\r\n"));
    }
}
