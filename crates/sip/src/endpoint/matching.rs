//! How messages are matched to transactions, and the two messages that a transaction writes itself.
//!
//! *Invariant*: keys are keyed hashes over the whole of what RFC 3261 §17 compares; nobody outside can make two alike.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::entropy::Entropy;
use crate::slab::Id;
use crate::{BRANCH_COOKIE, Flow, HeaderName, Message, Method, RequestBuilder};

/// Keys are hashes already.
#[derive(Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for chunk in octets.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_ne_bytes(word);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = u64::try_from(key & u128::from(u64::MAX)).unwrap_or_default();
    }
}

/// The keys of a request (RFC 3261 §17.2.3).
pub(super) struct ServerKeys {
    /// Of its own transaction.
    pub(super) own: u128,
    /// Of the INVITE that it acknowledges or cancels.
    pub(super) invite: u128,
}

impl ServerKeys {
    /// The source counts too: a branch is no secret to those whom a request has passed, and whoever knew it would get
    /// the answers, or could cancel.
    pub(super) fn of(entropy: &Entropy, flow: Flow, request: &Message) -> Self {
        let source = source_octets(flow.remote.ip());
        let method = request.method_text().as_bytes();
        let key = |method: &[u8]| match request.top_via() {
            Ok(via) if via.has_magic_branch() => {
                let port = via.port.unwrap_or_default().to_be_bytes();
                let branch = via.branch().unwrap_or_default();
                let host = via.host.as_bytes();
                entropy.digest(&[branch.as_bytes(), host, &port, method, &source])
            }
            _ => old_key(entropy, request, method, &source),
        };
        let invite = || key(b"INVITE");
        match request.method() {
            Some(Method::Ack) => Self {
                own: 0,
                invite: invite(),
            },
            Some(Method::Cancel) => Self {
                own: key(method),
                invite: invite(),
            },
            _ => Self {
                own: key(method),
                invite: 0,
            },
        }
    }
}

/// What two copies of one request have in common that came by different ways (RFC 3261 §8.2.2.2); 0 for those that
/// are within a dialog, and for methods that a repetition does no harm: REGISTER goes by its CSeq, MESSAGE by its
/// origin. The Request-URI counts too: an upstream proxy may rightly send one request to two of our addresses.
pub(super) fn merge_key(entropy: &Entropy, request: &Message) -> u128 {
    let harmless = matches!(
        request.method(),
        Some(Method::Register | Method::Message | Method::Cancel | Method::Ack) | None
    );
    if harmless || request.to().is_ok_and(|to| to.tag().is_some()) {
        return 0;
    }
    let tag = request.from().ok().and_then(|from| from.tag());
    let cseq = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
    entropy.digest(&[
        tag.unwrap_or_default().as_bytes(),
        request.call_id(),
        &cseq,
        request.method_text().as_bytes(),
        request.request_uri().as_bytes(),
    ])
}

/// Of a client of RFC 2543, which has no unique branch.
fn old_key(entropy: &Entropy, request: &Message, method: &[u8], source: &[u8]) -> u128 {
    let cseq = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
    let tag = request
        .from()
        .ok()
        .and_then(|from| from.tag())
        .unwrap_or_default();
    let via = request.header(HeaderName::Via).unwrap_or_default();
    let uri = request.request_uri().as_bytes();
    let call_id = request.call_id();
    entropy.digest(&[uri, tag.as_bytes(), call_id, &cseq, via, method, source])
}

/// The same for IPv4 in both notations.
fn source_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// What our branches say: cookie, place of the transaction, and a secret of its own.
pub(super) struct ClientBranch {
    pub(super) id: Id,
    pub(super) secret: u32,
}

const ID_DIGITS: usize = 16;
const SECRET_DIGITS: usize = 8;

impl fmt::Display for ClientBranch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{BRANCH_COOKIE}{:016x}{:08x}",
            self.id.to_bits(),
            self.secret
        )
    }
}

impl ClientBranch {
    pub(super) fn read(branch: &str) -> Option<Self> {
        let digits = branch.strip_prefix(BRANCH_COOKIE)?;
        let (id, rest) = digits.split_at_checked(ID_DIGITS)?;
        let (secret, _) = rest.split_at_checked(SECRET_DIGITS)?;
        let id = Id::from_bits(u64::from_str_radix(id, 16).ok()?);
        Some(Self {
            id,
            secret: u32::from_str_radix(secret, 16).ok()?,
        })
    }
}

/// Where a response goes (RFC 3261 §18.2.2, RFC 3581 §4): over the connection; by UDP to the address that the request
/// came from, and to its port where the client asked for that, else to the port of sent-by.
///
/// `maddr` is not obeyed: it would let anyone point our answers at a third party.
pub(super) fn response_flow(flow: Flow, request: &Message) -> Flow {
    if flow.transport.is_reliable() {
        return flow;
    }
    let Ok(via) = request.top_via() else {
        return flow;
    };
    if via.rport().is_some() {
        return flow;
    }
    let port = via.port.unwrap_or_else(|| flow.transport.default_port());
    Flow {
        remote: SocketAddr::new(flow.remote.ip(), port),
        ..flow
    }
}

fn copy(
    builder: RequestBuilder<'static>,
    from: &Message,
    name: HeaderName,
) -> RequestBuilder<'static> {
    let fields = from.fields().filter(|field| field.name == name);
    fields.fold(builder, |builder, field| {
        builder.header(name.as_str(), field.value)
    })
}

/// Of an INVITE: Request-URI, the topmost Via alone, Route, From, Call-ID, the number of CSeq.
fn within(invite: &Message, method: &str, to: &Message, reason: &[u8]) -> Option<Bytes> {
    let via = invite.values(HeaderName::Via).next()?;
    let builder = RequestBuilder::new(method, invite.request_uri())
        .header("Via", via)
        .header("Max-Forwards", "70");
    let builder = copy(builder, invite, HeaderName::Route);
    let builder = copy(builder, invite, HeaderName::From);
    let builder = copy(builder, to, HeaderName::To);
    let builder = copy(builder, invite, HeaderName::CallId);
    let number = invite.cseq().ok()?.number;
    let mut builder = builder.header("CSeq", format!("{number} {method}"));
    if !reason.is_empty() {
        builder = builder.header("Reason", reason);
    }
    Some(builder.finish())
}

/// The ACK for a final response that is not a 2xx (RFC 3261 §17.1.1.3).
pub(super) fn ack_for(invite: &Message, response: &Message) -> Option<Bytes> {
    within(invite, "ACK", response, b"")
}

/// The CANCEL of an INVITE (RFC 3261 §9.1).
pub(super) fn cancel_for(invite: &Message, reason: &[u8]) -> Option<Bytes> {
    within(invite, "CANCEL", invite, reason)
}
