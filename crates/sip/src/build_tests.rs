use super::*;
use crate::{Framing, Limits};

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    v: SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK1,\r\n SIP/2.0/UDP b\r\n\
    Via: SIP/2.0/UDP c\r\n\
    Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>\r\n\
    f: <sip:alice@example.com>;tag=a\r\n\
    t: <sip:bob@example.com>\r\n\
    i: 1@a\r\n\
    CSeq: 7 INVITE\r\n\
    Content-Length: 0\r\n\r\n";

fn parse(octets: Bytes) -> Message {
    Message::parse(octets, Framing::Stream, &Limits::default()).unwrap()
}

#[test]
fn a_response_has_what_the_request_had() {
    let request = parse(Bytes::from_static(INVITE.as_bytes()));
    let source = "192.0.2.9:5099".parse().unwrap();
    let octets = ResponseBuilder::new(&request, 200, "")
        .to_tag("t1")
        .received(source)
        .record_route()
        .header("Contact", "<sip:us>")
        .body("text/plain", b"hello")
        .finish();
    let expected = "SIP/2.0 200 OK\r\n\
        Via: SIP/2.0/UDP 192.0.2.1;rport=5099;branch=z9hG4bK1;received=192.0.2.9,   SIP/2.0/UDP b\r\n\
        Via: SIP/2.0/UDP c\r\n\
        From: <sip:alice@example.com>;tag=a\r\n\
        To: <sip:bob@example.com>;tag=t1\r\n\
        Call-ID: 1@a\r\n\
        CSeq: 7 INVITE\r\n\
        Record-Route: <sip:p1;lr>\r\n\
        Record-Route: <sip:p2;lr>\r\n\
        Contact: <sip:us>\r\n\
        Server: Sidetone\r\n\
        Content-Type: text/plain\r\n\
        Content-Length: 5\r\n\r\nhello";
    assert_eq!(std::str::from_utf8(&octets).unwrap(), expected);
    let other_order = ResponseBuilder::new(&request, 200, "OK")
        .received(source)
        .to_tag("t1")
        .finish();
    let response = parse(other_order);
    assert_eq!(response.to().unwrap().tag(), Some("t1"));
    assert_eq!(response.top_via().unwrap().rport(), Some(Some(5_099)));
}

#[test]
fn the_tag_is_added_once_and_not_to_100() {
    let request = parse(Bytes::from_static(INVITE.as_bytes()));
    let tag = |octets| parse(octets).to().unwrap().tag().map(str::to_owned);
    assert_eq!(
        tag(ResponseBuilder::new(&request, 100, "").to_tag("x").finish()),
        None
    );
    assert_eq!(
        tag(ResponseBuilder::new(&request, 180, "")
            .to_tag("x")
            .to_tag("y")
            .finish()),
        Some("x".into())
    );
    let tagged = parse(Bytes::from(
        INVITE.replace("t: <sip:bob@example.com>", "t: <sip:bob@example.com>;tag=b"),
    ));
    assert_eq!(
        tag(ResponseBuilder::new(&tagged, 200, "").to_tag("x").finish()),
        Some("b".into())
    );
}

#[test]
fn nothing_can_be_smuggled_in() {
    let request = parse(Bytes::from_static(INVITE.as_bytes()));
    let octets = ResponseBuilder::new(&request, 400, "Bad\r\nEvil: 1")
        .header("Warning", "399 x \"a\r\nEvil: 2\r\n\r\n\"")
        .terse()
        .finish();
    let response = Message::parse(octets, Framing::Datagram, &Limits::default()).unwrap();
    assert_eq!(response.header_by_name("Evil"), None);
    assert!(!response.has(HeaderName::Server) && !response.has(HeaderName::ContentLength));
    let request = RequestBuilder::new("OPTIONS", "sip:a SIP/2.0\r\nEvil: 1\r\nX:")
        .header("A", "b\nEvil: 3")
        .finish();
    assert!(!request.windows(6).any(|window| window == b"\nEvil:"));
}

#[test]
fn an_answer_from_a_part_of_a_request() {
    let broken = INVITE
        .replace("t: <sip:bob@example.com>\r\n", "")
        .replace("SIP/2.0\r\nv", "SIP/9.0\r\nv");
    let rejected =
        Message::parse(Bytes::from(broken), Framing::Datagram, &Limits::default()).unwrap_err();
    let partial = rejected.partial.unwrap();
    let response = parse(
        ResponseBuilder::new(&partial, rejected.status, rejected.reason)
            .to_tag("x")
            .finish(),
    );
    assert_eq!(
        (response.status(), response.call_id()),
        (Some(505), &b"1@a"[..])
    );
    assert_eq!(response.vias().count(), 3);
    assert!(!response.has(HeaderName::To));
}

#[test]
fn a_request_of_our_own() {
    let octets = RequestBuilder::new("MESSAGE", "sip:a@b")
        .header("Via", "SIP/2.0/UDP x;branch=z9hG4bKy")
        .header("Call-ID", "c")
        .body("text/plain", "gr\u{fc}n".as_bytes())
        .finish();
    let request = parse(octets);
    assert_eq!(
        (request.method_text(), request.request_uri()),
        ("MESSAGE", "sip:a@b")
    );
    assert_eq!(request.body(), "gr\u{fc}n");
}
