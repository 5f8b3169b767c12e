use bytes::Bytes;

use super::*;
use crate::{Framing, Limits};

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5062;rport;branch=z9hG4bK1, SIP/2.0/TCP b;branch=z9hG4bK0\r\n\
    Route: <sip:p1;lr>, <sip:p2;lr>\r\n\
    Route: <sip:p3;lr>\r\n\
    Max-Forwards: 70\r\n\
    Subject:\r\n\
    CSeq: 7 INVITE\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 4\r\n\r\nbody";

fn parse(text: &str) -> Message {
    Message::parse(
        Bytes::copy_from_slice(text.as_bytes()),
        Framing::Datagram,
        &Limits::default(),
    )
    .unwrap()
}

fn edited(text: &str, change: impl FnOnce(&mut Edit<'_>)) -> String {
    let message = parse(text);
    let mut edit = Edit::new(&message);
    change(&mut edit);
    let mut out = Vec::new();
    edit.write(&mut out);
    let text = String::from_utf8(out).unwrap();
    parse(&text);
    text
}

#[test]
fn no_change_is_the_same_octets() {
    assert_eq!(edited(INVITE, |_| ()), INVITE);
}

#[test]
fn forwards_a_request() {
    let out = edited(INVITE, |edit| {
        edit.set_number(HeaderName::MaxForwards, 69);
        edit.remove_first_value(HeaderName::Route);
        edit.insert_before(HeaderName::RecordRoute, b"Record-Route: <sip:us;lr>\r\n");
        edit.insert_top(b"Via: SIP/2.0/UDP us;branch=z9hG4bK2\r\n");
        edit.set_request_uri("sip:bob@192.0.2.9");
        edit.append(b"X-End: 1\r\n");
    });
    let expected = INVITE
        .replace("sip:bob@example.com", "sip:bob@192.0.2.9")
        .replacen("Via:", "Via: SIP/2.0/UDP us;branch=z9hG4bK2\r\nVia:", 1)
        .replacen("Route:", "Record-Route: <sip:us;lr>\r\nRoute:", 1)
        .replace("<sip:p1;lr>, ", "")
        .replace("70", "69")
        .replace("\r\n\r\n", "\r\nX-End: 1\r\n\r\n");
    assert_eq!(out, expected);
}

#[test]
fn insertions_at_one_place_keep_the_order_of_the_calls() {
    let out = edited(INVITE, |edit| {
        edit.insert_before(HeaderName::Route, b"Record-Route: <sip:1>\r\n");
        edit.insert_before(HeaderName::Route, b"Record-Route: <sip:2>\r\n");
        edit.remove_first_value(HeaderName::Route);
    });
    assert!(
        out.contains("Record-Route: <sip:1>\r\nRecord-Route: <sip:2>\r\nRoute: <sip:p2;lr>\r\n")
    );
}

#[test]
fn pops_values_one_after_the_other() {
    for (count, left) in [
        (1, "<sip:p2;lr>|<sip:p3;lr>"),
        (2, "<sip:p3;lr>"),
        (3, ""),
        (4, ""),
    ] {
        let out = edited(INVITE, |edit| {
            for _ in 0..count {
                edit.remove_first_value(HeaderName::Route);
            }
        });
        let routes: Vec<_> = parse(&out)
            .routes()
            .map(|route| format!("<{}>", route.unwrap().uri))
            .collect();
        assert_eq!(routes.join("|"), left);
    }
}

#[test]
fn replaces_and_removes() {
    let out = edited(INVITE, |edit| {
        edit.replace_first_value(HeaderName::Route, b"<sip:new>");
        edit.remove_all(HeaderName::ContentType);
        edit.replace_first(HeaderName::Subject, b"hello");
        edit.replace_first(HeaderName::Expires, b"60");
        edit.append_field("X-Note", "a\r\nEvil: b");
        edit.remove_where(|field| field.name_text == b"CSeq");
    });
    let message = parse(&out);
    assert_eq!(
        message.header(HeaderName::Route),
        Some(&b"<sip:new>, <sip:p2;lr>"[..])
    );
    assert!(!message.has(HeaderName::ContentType) && !message.has(HeaderName::CSeq));
    assert_eq!(message.header(HeaderName::Subject), Some(&b"hello"[..]));
    assert_eq!(message.expires(), Ok(Some(60)));
    assert_eq!(message.header_by_name("Evil"), None);
    assert!(
        !edited(INVITE, |edit| {
            edit.replace_first_value(HeaderName::Route, b"<sip:new>")
                .remove_all(HeaderName::Route);
        })
        .contains("new")
    );
}

#[test]
fn a_new_body_brings_its_headers() {
    let message = parse(&edited(INVITE, |edit| {
        edit.set_body("application/json", b"{\"a\":1}");
    }));
    assert_eq!(message.body(), "{\"a\":1}");
    assert_eq!(message.content_type(), Some(&b"application/json"[..]));
    assert_eq!(message.header(HeaderName::ContentLength), Some(&b"7"[..]));
}

#[test]
fn content_length_is_added_and_surplus_dropped() {
    let without = INVITE.replace("Content-Length: 4\r\n", "");
    assert!(edited(&without, |_| ()).ends_with("Content-Length: 4\r\n\r\nbody"));
    assert_eq!(edited(&format!("{INVITE}surplus"), |_| ()), INVITE);
}

#[test]
fn line_feeds_get_their_carriage_returns() {
    let (head, body) = INVITE.split_once("\r\n\r\n").unwrap();
    let bare = format!("{}\n\n{body}", head.replace("\r\n", "\n"));
    assert_eq!(edited(&bare, |_| ()), INVITE);
    let raw = bare.replace("body", "a\nbc");
    assert!(
        edited(&raw, |_| ()).ends_with("\r\n\r\na\nbc"),
        "the body stays"
    );
}

#[test]
fn the_source_is_marked_in_the_topmost_via() {
    let source = "192.0.2.7:999".parse().unwrap();
    let via = |via: &str| {
        let text = INVITE.replace("SIP/2.0/UDP 192.0.2.1:5062;rport;branch=z9hG4bK1", via);
        let message = parse(&edited(&text, |edit| {
            edit.set_received(source);
        }));
        let value = message.values(HeaderName::Via).next().unwrap();
        String::from_utf8(value.to_vec()).unwrap()
    };
    let cases = [
        (
            "SIP/2.0/UDP h;rport;branch=x",
            "SIP/2.0/UDP h;rport=999;branch=x;received=192.0.2.7",
        ),
        (
            "SIP/2.0/UDP 192.0.2.7;rport",
            "SIP/2.0/UDP 192.0.2.7;rport=999;received=192.0.2.7",
        ),
        (
            "SIP/2.0/UDP 192.0.2.7;branch=x",
            "SIP/2.0/UDP 192.0.2.7;branch=x",
        ),
        (
            "SIP/2.0/UDP 10.0.0.1;branch=x",
            "SIP/2.0/UDP 10.0.0.1;branch=x;received=192.0.2.7",
        ),
        (
            "SIP/2.0/UDP h;received=1.2.3.4;rport=7",
            "SIP/2.0/UDP h;received=192.0.2.7;rport=999",
        ),
        (
            "SIP/2.0/UDP h;received;rport=",
            "SIP/2.0/UDP h;received=192.0.2.7;rport=999",
        ),
        (
            "SIP/2.0/UDP h;branch=x;",
            "SIP/2.0/UDP h;branch=x;received=192.0.2.7",
        ),
    ];
    for (before, after) in cases {
        assert_eq!(via(before), after);
    }
}

#[test]
fn a_response_loses_its_topmost_via() {
    let response = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP us\r\nv: SIP/2.0/UDP them\r\nl: 0\r\n\r\n";
    let out = edited(response, |edit| {
        edit.remove_first_value(HeaderName::Via);
        edit.set_request_uri("ignored");
    });
    assert_eq!(out, response.replace("Via: SIP/2.0/UDP us\r\n", ""));
}
