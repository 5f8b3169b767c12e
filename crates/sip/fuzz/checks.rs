//! What must hold for any octets, one function for each parser: shared by the libFuzzer targets, by
//! `examples/fuzz.rs` and by `tests/mutation.rs`.
//!
//! *Invariant*: a function returns or panics; a panic is a finding.

use std::net::SocketAddr;

use bytes::Bytes;
use sidetone_sip::{
    Contact, Cpim, Credentials, Dialog, Edit, Frame, Framer, Framing, HeaderName, Imdn,
    IsComposing, Limits, Message, NameAddr, NonceKey, NonceState, Params, ResponseBuilder,
    TokenKey, Uri, Via, cpim as message_cpim, digest, escape_user, gruu, imdn, stun, timestamp,
    unescape, validate,
};

/// What takes any octets and returns.
type Check = fn(&[u8]);

/// The parsers by name.
pub(crate) const TARGETS: [(&str, Check); 13] = [
    ("message", message),
    ("edit", edit),
    ("framer", framer),
    ("uri", uri),
    ("name_addr", name_addr),
    ("via", via),
    ("params", params),
    ("credentials", credentials),
    ("stun", stun_request),
    ("token", token),
    ("cpim", cpim),
    ("imdn", imdn_notification),
    ("iscomposing", is_composing),
];

fn source() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 5_099))
}

/// What we add may exceed the limits that the original kept.
fn stream(octets: Vec<u8>) -> Message {
    let limits = Limits {
        headers: 256,
        message_bytes: 1 << 20,
        ..Limits::default()
    };
    Message::parse(Bytes::from(octets), Framing::Stream, &limits).expect("what we write, we read")
}

/// Parses, reads everything, forwards, answers.
pub(crate) fn message(octets: &[u8]) {
    let result = Message::parse(
        Bytes::copy_from_slice(octets),
        Framing::Datagram,
        &Limits::default(),
    );
    match result {
        Ok(message) => {
            read_all(&message);
            let verdict = validate::request(&message);
            if verdict.is_ok() && message.is_request() {
                assert!(
                    message.from().is_ok() && message.to().is_ok() && message.top_via().is_ok()
                );
                assert!(
                    message
                        .cseq()
                        .is_ok_and(|cseq| cseq.method_text == message.method_text())
                );
                assert!(
                    message
                        .routes()
                        .all(|route| route.is_ok_and(|route| route.parse_uri().is_ok()))
                );
                within_its_dialog(&message);
            }
            forwarded_unchanged(&message);
        }
        Err(rejected) => {
            assert!((400..700).contains(&rejected.status));
            if let Some(partial) = rejected.partial {
                assert!(partial.is_request() && partial.method_text() != "ACK");
                read_all(&partial);
                answer(&partial, rejected.status, rejected.reason);
            }
        }
    }
}

fn forwarded_unchanged(message: &Message) {
    let mut out = Vec::new();
    Edit::new(message).write(&mut out);
    let again = stream(out);
    assert_eq!(again.body_bytes(), message.body_bytes());
    assert_eq!(again.request_uri(), message.request_uri());
    let added = usize::from(!message.has(HeaderName::ContentLength));
    assert_eq!(again.fields().len(), message.fields().len() + added);
    if message.is_request() {
        answer(message, 200, "");
    }
}

/// What we ask within the dialog that a request makes is a request that we would take.
fn within_its_dialog(request: &Message) {
    let Ok(mut dialog) = Dialog::accept(request, "t") else {
        return;
    };
    let notify = dialog
        .request("NOTIFY")
        .build("SIP/2.0/UDP h;branch=z9hG4bK1");
    let notify = stream(notify.to_vec());
    assert!(
        validate::request(&notify).is_ok(),
        "{:?}",
        validate::request(&notify)
    );
    // A folded one comes out unfolded.
    if !request.call_id().contains(&b'\n') {
        assert_eq!(notify.call_id(), request.call_id());
    }
    assert_eq!(
        notify.from().ok().and_then(|from| from.tag()),
        Some("t"),
        "our tag"
    );
}

fn answer(request: &Message, status: u16, reason: &str) {
    let built = ResponseBuilder::new(request, status, reason)
        .received(source())
        .to_tag("t")
        .finish();
    let response = stream(built.to_vec());
    assert_eq!(response.status(), Some(status));
    assert_eq!(response.vias().count(), request.vias().count());
    if let (Ok(theirs), Ok(ours)) = (request.top_via(), response.top_via()) {
        assert_eq!(
            (ours.host, ours.port, ours.branch()),
            (theirs.host, theirs.port, theirs.branch())
        );
        // A doubled parameter keeps its first value in our view; both were overwritten.
        if ours.params.has("received") {
            assert_eq!(ours.received(), Some(source().ip()));
        }
        if theirs.rport().is_some() {
            assert_eq!(ours.rport(), Some(Some(source().port())));
        }
    }
}

fn read_all(message: &Message) {
    for field in message.fields() {
        assert!(field.line.starts_with(field.name_text));
        assert!(
            message
                .header_by_name(&String::from_utf8_lossy(field.name_text))
                .is_some()
        );
        assert_eq!(field.name, HeaderName::parse(field.name_text));
    }
    for result in message.contacts() {
        if let Ok(Contact::Addr(address)) = result {
            let _ = (
                address.q(),
                address.expires(),
                address.tag(),
                address.parse_uri(),
            );
        }
    }
    let _ = (
        message.max_forwards(),
        message.expires(),
        message.content_type(),
        message.call_id(),
    );
    let _ = (message.record_routes().count(), message.paths().count());
    let _ = (
        message.option_tags(HeaderName::Require).count(),
        message.reason_phrase(),
        message.status(),
    );
    let _ = (
        message.from(),
        message.to(),
        message.cseq(),
        validate::response(message),
    );
    assert!(message.body().len() <= message.bytes().len());
}

/// Changes a message as the octets say; what comes out is a message with what was put in.
pub(crate) fn edit(octets: &[u8]) {
    let (choices, octets) = octets.split_at(octets.len().min(8));
    let Ok(message) = Message::parse(
        Bytes::copy_from_slice(octets),
        Framing::Datagram,
        &Limits::default(),
    ) else {
        return;
    };
    let mut edit = Edit::new(&message);
    let mut marked = false;
    for choice in choices {
        marked |= change(&mut edit, *choice);
    }
    let mut out = Vec::new();
    edit.write(&mut out);
    let again = stream(out);
    assert_eq!(
        again.header_by_name("X-Mark").is_some(),
        marked || message.header_by_name("X-Mark").is_some()
    );
}

/// One change; whether it left the mark.
fn change(edit: &mut Edit<'_>, choice: u8) -> bool {
    const NAMES: [HeaderName; 8] = [
        HeaderName::Via,
        HeaderName::Route,
        HeaderName::RecordRoute,
        HeaderName::Contact,
        HeaderName::MaxForwards,
        HeaderName::Subject,
        HeaderName::To,
        HeaderName::Supported,
    ];
    let name = NAMES[usize::from(choice % 8)];
    let line = format!("{}: <sip:x@y>;z\r\n", name.as_str());
    match choice / 8 % 12 {
        0 => _ = edit.remove_first_value(name),
        1 => _ = edit.remove_all(name),
        2 => _ = edit.replace_first(name, b"<sip:x@y>"),
        3 => _ = edit.replace_first_value(name, b"<sip:x@y>"),
        4 => _ = edit.insert_before(name, line.as_bytes()),
        5 => _ = edit.insert_top(line.as_bytes()),
        6 => _ = edit.append(line.as_bytes()),
        7 => _ = edit.set_number(name, u32::from(choice)),
        8 => _ = edit.set_received(source()),
        9 => _ = edit.set_body("text/plain", b"a new body"),
        10 => _ = edit.set_request_uri("sip:other@example.net"),
        _ => {
            edit.append_field("X-Mark", "here\r\nX-Evil: there");
            return true;
        }
    }
    false
}

/// Frames do not depend on the segments, nothing is kept after an error, and what is framed is read with that length.
pub(crate) fn framer(octets: &[u8]) {
    let limits = Limits {
        message_bytes: 4_096,
        ..Limits::default()
    };
    let whole = frames(octets, octets.len().max(1), &limits);
    let size = 1 + octets.first().map_or(0, |first| usize::from(*first) % 40);
    let cut = frames(octets, size, &limits);
    assert_eq!(cut, whole);
    for frame in whole.iter().flatten() {
        if let Frame::Message(octets) = frame {
            match Message::parse(octets.clone(), Framing::Stream, &limits) {
                Ok(message) => assert!(message.bytes().len() <= octets.len()),
                Err(rejected) => assert!(
                    !rejected.reason.contains("Content-Length"),
                    "{}",
                    rejected.reason
                ),
            }
        }
    }
}

fn frames(octets: &[u8], size: usize, limits: &Limits) -> Vec<Result<Frame, u16>> {
    let mut framer = Framer::new();
    let mut found = Vec::new();
    for segment in octets.chunks(size) {
        framer.push(segment);
        loop {
            match framer.next(limits) {
                Ok(Some(frame)) => found.push(Ok(frame)),
                Ok(None) => break,
                Err(rejected) => found.push(Err(rejected.status)),
            }
        }
        assert!(framer.buffered() <= limits.message_bytes + size);
    }
    found
}

/// Equality is reflexive and symmetric, escapes come back, parts lie within the text.
pub(crate) fn uri(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    let half = (0..=text.len() / 2)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    let _ = unescape(text);
    assert_eq!(unescape(&escape_user(text)), text);
    let Ok(uri) = Uri::parse(text) else { return };
    if uri.is_sip() {
        assert!(!uri.host.is_empty() && text.contains(uri.host));
        let _ = (
            uri.host_ip(),
            uri.transport(),
            uri.is_loose_router(),
            uri.user_unescaped(),
        );
    }
    // A repeated parameter or header with two values equals itself as text only; RFC 3261 leaves that open.
    let _ = uri.eq_3261(&uri);
    if let Ok(other) = Uri::parse(&text[half..]) {
        assert_eq!(uri.eq_3261(&other), other.eq_3261(&uri));
    }
}

/// An address written out again is the same address.
pub(crate) fn name_addr(octets: &[u8]) {
    let _ = Contact::parse(octets);
    let Ok(address) = NameAddr::parse(octets) else {
        return;
    };
    let _ = (address.q(), address.expires(), address.parse_uri());
    let again = format!("<{}>{}", address.uri, address.params.as_str());
    let again = NameAddr::parse(again.as_bytes()).expect("brackets make it unambiguous");
    assert_eq!((again.uri, again.tag()), (address.uri, address.tag()));
}

/// A Via written out again is the same Via.
pub(crate) fn via(octets: &[u8]) {
    let Ok(via) = Via::parse(octets) else { return };
    let _ = (via.received(), via.maddr(), via.has_magic_branch());
    let port = via.port.map_or(String::new(), |port| format!(":{port}"));
    let again = format!(
        "SIP/2.0/{} {}{port}{}",
        via.transport,
        via.host,
        via.params.as_str()
    );
    let again = Via::parse(again.as_bytes()).expect("the parts are by the grammar");
    assert_eq!(
        (again.host, again.port, again.branch(), again.rport()),
        (via.host, via.port, via.branch(), via.rport())
    );
}

/// Scanning ends, and finds what it names.
pub(crate) fn params(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    let params = Params::new(text);
    for (name, _) in params.iter() {
        assert!(params.has(name), "{name:?}");
    }
}

/// Parsing ends; a challenge made from any realm parses.
pub(crate) fn credentials(octets: &[u8]) {
    let _ = Credentials::parse(octets);
    if let Ok(text) = std::str::from_utf8(octets) {
        let _ = digest::challenge(text, "nonce", sidetone_sip::Algorithm::Sha256, false);
        let _ = gruu::instance_of_gr(text);
    }
}

/// An answer is never much larger than what asked for it.
pub(crate) fn stun_request(octets: &[u8]) {
    let _ = stun::is_stun(octets);
    if let Some(response) = stun::binding_response(octets, source()) {
        assert!(response.len() <= octets.len() + 64);
    }
}

/// A nonce's random part is not told back, so that it cannot be made again; but it has one spelling.
fn is_in_canon(nonce: &str) -> bool {
    nonce.len() == 24
        && nonce
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
}

/// Nonces and tokens: a text opens only if it is the very text that we made.
pub(crate) fn token(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    let tokens = TokenKey::new([1; 32]);
    if let Some(flow) = tokens.open_flow_token(b"call", text) {
        assert_eq!(tokens.flow_token(b"call", &flow), text);
    }
    if let Some(caller) = tokens.open_dialog_token(b"call", "tag", text) {
        assert_eq!(tokens.dialog_token(b"call", "tag", caller), text);
    }
    if let Some(gruu) = tokens.open_temp_gruu(text) {
        assert!(text.starts_with(gruu::TEMP_PREFIX) && gruu.user.len() < text.len());
    }
    let nonces = NonceKey::new([1; 32]);
    if nonces.check(text, 1_000_000, 0) != NonceState::Forged {
        assert!(is_in_canon(text), "{text}");
    }
}

/// What is read is written and read again as it was, and its content is the end of the input.
pub(crate) fn cpim(octets: &[u8]) {
    let Ok(message) = Cpim::parse(Bytes::copy_from_slice(octets)) else {
        return;
    };
    assert!(octets.ends_with(message.content()));
    let _ = (message.from(), message.sent_ms(), message.subject());
    let _ = (message.to().count(), message.cc().count());
    let asks = imdn::Wanted::of(&message);
    assert_eq!(imdn::Wanted::parse(&asks.write()), asks);
    let required = message.required();
    // Each namespace takes a line when it is written: the head may then be too long to be read again.
    if message.headers().len() + required.len() > 30 {
        return;
    }
    let again = Cpim::parse(message.write());
    assert_eq!(again.as_ref(), Ok(&message));
    for header in message.headers() {
        let quoted = Cpim::new("text/plain", Bytes::new())
            .and_then(|new| new.with_header(message_cpim::NAMESPACE, "Subject", &header.text()))
            .and_then(|new| Cpim::parse(new.write()))
            .expect("any text is a subject");
        assert_eq!(quoted.headers().len(), 1);
        assert_eq!(quoted.content_headers().len(), 1);
    }
}

/// What is read is written and read again as it was.
pub(crate) fn imdn_notification(octets: &[u8]) {
    if let Ok(notification) = Imdn::parse(octets) {
        let again = Imdn::parse(notification.write().as_bytes());
        assert_eq!(again, Ok(notification));
    }
    if let Ok(text) = std::str::from_utf8(octets) {
        let wanted = imdn::Wanted::parse(text);
        assert_eq!(imdn::Wanted::parse(&wanted.write()), wanted);
    }
}

/// What is read is written and read again as it was, and nobody writes for ever.
pub(crate) fn is_composing(octets: &[u8]) {
    if let Ok(indication) = IsComposing::parse(octets) {
        let again = IsComposing::parse(indication.write().as_bytes());
        let holds = indication.holds_for_seconds();
        assert!(holds.is_none_or(|seconds| (1..=3_600).contains(&seconds)));
        assert_eq!(again, Ok(indication));
    }
    if let Some(at_ms) = std::str::from_utf8(octets).ok().and_then(timestamp::parse) {
        assert_eq!(timestamp::parse(&timestamp::write(at_ms)), Some(at_ms));
    }
}
