//! What changes in a request that is passed on (RFC 3261 §16.6), and in a response (§16.7 steps 3 and 9).
//!
//! *Invariant*: only the fields named here change; every other octet leaves as it came.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Locals, RecordRoute};
use crate::{Edit, Flow, HeaderName, Message, TokenKey};

/// RFC 3261 §8.1.1.6.
const MAX_FORWARDS: u32 = 70;

/// What is the same for all copies of a request.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) incoming: Flow,
    pub(super) pop_routes: usize,
    pub(super) record_route: Option<RecordRoute>,
    pub(super) asserted: Option<String>,
    pub(super) strip_credentials: bool,
    /// RFC 5393 §4.2: goes into the branch.
    pub(super) loop_hash: u32,
}

/// What is particular to one copy.
pub(super) struct Hop<'a> {
    pub(super) uri: &'a str,
    pub(super) routes: &'a [String],
    pub(super) flow: Flow,
    /// Whether the flow's token goes into Record-Route.
    pub(super) record: bool,
    pub(super) branch: &'a str,
    /// RFC 5393 §5.3: the share of Max-Breadth.
    pub(super) breadth: Option<u32>,
}

/// Lines before they are copied into the edit list.
type Line = SmallVec<[u8; 512]>;

fn line(parts: &[&str]) -> Line {
    let mut out = Line::new();
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out
}

/// A copy of the request for one hop.
pub(super) fn request(
    message: &Message,
    changes: &Changes,
    hop: &Hop<'_>,
    locals: &Locals,
    tokens: &TokenKey,
) -> Bytes {
    let mut edit = Edit::new(message);
    if message.request_uri() != hop.uri {
        edit.set_request_uri(hop.uri);
    }
    edit.insert_top(&via(hop, changes.loop_hash, locals));
    edit.set_received(changes.incoming.remote);
    spend_hop(&mut edit, message);
    routes(&mut edit, changes.pop_routes, hop.routes);
    if let Some(record) = &changes.record_route {
        let incoming = (message.call_id(), changes.incoming);
        record_route(&mut edit, record, incoming, hop, locals, tokens);
    }
    identity(&mut edit, changes);
    if let Some(breadth) = hop.breadth {
        edit.remove_where(super::breadth::is_field);
        edit.append_field(super::breadth::NAME, breadth.to_string());
    }
    let mut out = Vec::new();
    edit.write(&mut out);
    Bytes::from(out)
}

/// Step 8.
fn via(hop: &Hop<'_>, loop_hash: u32, locals: &Locals) -> Line {
    let (transport, sent_by) = (hop.flow.transport.via_token(), locals.sent_by(&hop.flow));
    let hash = loop_hash
        .to_be_bytes()
        .map(|octet| [octet >> 4, octet & 15].map(|digit| HEX[usize::from(digit)]));
    let hash = std::str::from_utf8(hash.as_flattened()).unwrap_or_default();
    let rport = if hop.flow.transport.is_reliable() {
        ""
    } else {
        ";rport"
    };
    line(&[
        "Via: SIP/2.0/",
        transport,
        " ",
        sent_by,
        ";branch=",
        hop.branch,
        ".",
        hash,
        rport,
        "\r\n",
    ])
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Step 3. A request with none left does not come here.
fn spend_hop(edit: &mut Edit<'_>, message: &Message) {
    let left = match message.max_forwards() {
        Ok(Some(left)) => u32::from(left).saturating_sub(1),
        _ => MAX_FORWARDS,
    };
    edit.set_number(HeaderName::MaxForwards, left);
}

/// Step 6, and what §16.4 takes off.
fn routes(edit: &mut Edit<'_>, pop: usize, push: &[String]) {
    for _ in 0..pop {
        edit.remove_first_value(HeaderName::Route);
    }
    for route in push {
        edit.insert_before(HeaderName::Route, &line(&["Route: ", route, "\r\n"]));
    }
}

/// Step 4. Where both sides see us by the same address one value does, else there are two (RFC 5658): the upper one is
/// for the side to which the request goes.
fn record_route(
    edit: &mut Edit<'_>,
    record: &RecordRoute,
    (call_id, incoming): (&[u8], Flow),
    hop: &Hop<'_>,
    locals: &Locals,
    tokens: &TokenKey,
) {
    let put = |flow: &Flow, token: Option<&str>| {
        let (name, token) = token.map_or(("", ""), |token| (";f=", token));
        line(&[
            "Record-Route: <",
            locals.uri(flow),
            ";lr;d=",
            &record.token,
            name,
            token,
            ">\r\n",
        ])
    };
    let outgoing = hop
        .record
        .then(|| tokens.flow_token(call_id, &hop.flow.as_token()));
    let side = |flow: &Flow| (flow.transport, flow.listener);
    let one =
        side(&incoming) == side(&hop.flow) && outgoing.is_none() && record.incoming_flow.is_none();
    edit.insert_before(
        HeaderName::RecordRoute,
        &put(&hop.flow, outgoing.as_deref()),
    );
    if !one {
        edit.insert_before(
            HeaderName::RecordRoute,
            &put(&incoming, record.incoming_flow.as_deref()),
        );
    }
}

/// RFC 3325 §5: we are the edge of our trust domain, so only what we vouch for passes.
fn identity(edit: &mut Edit<'_>, changes: &Changes) {
    edit.remove_all(HeaderName::PAssertedIdentity);
    edit.remove_all(HeaderName::PPreferredIdentity);
    // What came before RFC 3325; many phones show it rather than that.
    edit.remove_all(HeaderName::RemotePartyId);
    if let Some(asserted) = &changes.asserted {
        edit.append_field(HeaderName::PAssertedIdentity.as_str(), asserted);
    }
    if changes.strip_credentials {
        edit.remove_all(HeaderName::Authorization);
        edit.remove_all(HeaderName::ProxyAuthorization);
    }
}

/// A response without our Via, with the challenges of others (RFC 3261 §16.7 step 7); `None` if nobody is left to
/// send it to.
pub(super) fn response<'m>(
    message: &Message,
    others: impl Iterator<Item = &'m Message>,
) -> Option<Bytes> {
    message.values(HeaderName::Via).nth(1)?;
    let mut edit = Edit::new(message);
    edit.remove_first_value(HeaderName::Via);
    // RFC 3325 §5: nobody vouches for what a callee says that it is.
    edit.remove_all(HeaderName::PAssertedIdentity);
    edit.remove_all(HeaderName::PPreferredIdentity);
    edit.remove_all(HeaderName::RemotePartyId);
    for other in others {
        for field in other.fields().filter(|field| is_challenge(field.name)) {
            edit.append_field(field.name.as_str(), field.value);
        }
    }
    let mut out = Vec::new();
    edit.write(&mut out);
    Some(Bytes::from(out))
}

fn is_challenge(name: HeaderName) -> bool {
    matches!(
        name,
        HeaderName::WwwAuthenticate | HeaderName::ProxyAuthenticate
    )
}
