use super::*;
use crate::{Contact, Uri};

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP a.example;branch=z9hG4bK1, SIP/2.0/TCP b.example;branch=z9hG4bK0\r\n\
    v: SIP/2.0/UDP c.example;branch=z9hG4bKc\r\n\
    Max-Forwards: 70\r\n\
    f: \"Alice, A.\" <sip:alice@example.com>;tag=a1\r\n\
    TO: <sip:bob@example.com>\r\n\
    Call-ID: 1@a\r\n\
    CSeq: 7\r\n  INVITE\r\n\
    Contact: \"x, y\" <sip:a,b@c>;q=0.5, <sip:d@e>\r\n\
    k: path ,, gruu\r\n\
    X-Odd:\r\n\
    Content-Length: 4\r\n\r\nbody";

fn datagram(text: impl AsRef<[u8]>) -> Result<Message, Rejected> {
    Message::parse(
        Bytes::copy_from_slice(text.as_ref()),
        Framing::Datagram,
        &Limits::default(),
    )
}

fn stream(text: impl AsRef<[u8]>) -> Result<Message, Rejected> {
    Message::parse(
        Bytes::copy_from_slice(text.as_ref()),
        Framing::Stream,
        &Limits::default(),
    )
}

fn status(result: Result<Message, Rejected>) -> u16 {
    result.err().map_or(0, |rejected| rejected.status)
}

#[test]
fn stays_small() {
    assert!(size_of::<Message>() < 640, "{}", size_of::<Message>());
    assert!(size_of::<Rejected>() <= 40);
}

#[test]
fn reads_a_request() {
    let message = datagram(INVITE).unwrap();
    assert!(message.is_request());
    assert_eq!(message.method(), Some(Method::Invite));
    assert_eq!(
        (message.method_text(), message.request_uri()),
        ("INVITE", "sip:bob@example.com")
    );
    assert_eq!(
        (message.status(), message.reason_phrase()),
        (None, &b""[..])
    );
    assert_eq!(message.body(), "body");
    assert_eq!(message.call_id(), b"1@a");
    assert_eq!(message.max_forwards(), Ok(Some(70)));
    assert_eq!(message.expires(), Ok(None));
    let cseq = message.cseq().unwrap();
    assert_eq!(
        (cseq.number, cseq.method, cseq.method_text),
        (7, Method::Invite, "INVITE")
    );
    assert_eq!(message.from().unwrap().display, Some(&b"Alice, A."[..]));
    assert_eq!(message.to().unwrap().tag(), None);
    let hosts: Vec<_> = message.vias().map(|via| via.unwrap().host).collect();
    assert_eq!(hosts, ["a.example", "b.example", "c.example"]);
    assert_eq!(message.top_via().unwrap().branch(), Some("z9hG4bK1"));
    let contacts: Vec<_> = message.contacts().map(Result::unwrap).collect();
    assert!(
        matches!(contacts[..], [Contact::Addr(a), Contact::Addr(b)] if a.uri == "sip:a,b@c" && b.uri == "sip:d@e")
    );
    assert_eq!(
        message
            .option_tags(HeaderName::Supported)
            .collect::<Vec<_>>(),
        ["path", "gruu"]
    );
    assert_eq!(message.header_by_name("x-odd"), Some(&b""[..]));
    assert_eq!(
        message.header_by_name("from"),
        message.header(HeaderName::From)
    );
    assert_eq!(message.header_by_name("nowhere"), None);
    assert_eq!(message.fields().len(), 11);
    let rebuilt: Vec<u8> = message
        .fields()
        .flat_map(|field| field.line.to_vec())
        .collect();
    let head = INVITE
        .split_once("\r\n")
        .unwrap()
        .1
        .strip_suffix("\r\nbody")
        .unwrap();
    assert_eq!(rebuilt, head.as_bytes());
}

#[test]
fn reads_a_response() {
    let message =
        datagram("SIP/2.0 200 Tr\u{e8}s bien\r\nVia: SIP/2.0/UDP a\r\nl: 0\r\n\r\n").unwrap();
    assert_eq!((message.status(), message.method()), (Some(200), None));
    assert_eq!(message.reason_phrase(), "Tr\u{e8}s bien".as_bytes());
    assert_eq!((message.method_text(), message.request_uri()), ("", ""));
    for (line, expected) in [
        ("SIP/2.0 100 ", Some(100)),
        ("SIP/2.0 100", Some(100)),
        ("SIP/2.0 4294967301 x", None),
    ] {
        let message = datagram(format!("{line}\r\nVia: SIP/2.0/UDP a\r\n\r\n"));
        assert_eq!(
            message.ok().and_then(|message| message.status()),
            expected,
            "{line}"
        );
    }
    for broken in [
        "SIP/2.0 99 x",
        "SIP/2.0 700 x",
        "SIP/2.0  x",
        "SIP/3.0 200 OK",
    ] {
        let rejected = datagram(format!("{broken}\r\nVia: SIP/2.0/UDP a\r\n\r\n")).unwrap_err();
        assert!(
            rejected.partial.is_none(),
            "a broken response is dropped: {broken}"
        );
    }
}

#[test]
fn line_ends_are_tolerated() {
    let message = datagram(format!("\r\n\n\r\n{}", INVITE.replace("\r\n", "\n"))).unwrap();
    assert_eq!(message.body(), "body");
    assert_eq!(message.cseq().unwrap().number, 7);
    assert!(message.bytes().starts_with(b"INVITE"));
    assert_eq!(
        status(datagram(INVITE.replace("Call-ID: ", "Call-ID: a\rb"))),
        400
    );
    assert_eq!(
        status(datagram("INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n")),
        400
    );
    assert_eq!(status(datagram("")), 400);
    assert_eq!(status(datagram("\r\n\r\n")), 400);
}

#[test]
fn content_length_by_transport() {
    let with = |length: &str| INVITE.replace("Content-Length: 4\r\n", length);
    assert_eq!(datagram(with("l: 2\r\n")).unwrap().body(), "bo");
    assert_eq!(
        datagram(with("l: 2\r\n")).unwrap().bytes().len(),
        with("l: 2\r\n").len() - 2
    );
    assert_eq!(datagram(with("")).unwrap().body(), "body");
    assert_eq!(
        datagram(with("l: 4\r\nContent-Length:\r\n 04\r\n"))
            .unwrap()
            .body(),
        "body"
    );
    assert_eq!(status(stream(with(""))), 400);
    for bad in [
        "l: 5\r\n",
        "l: -1\r\n",
        "l: x\r\n",
        "l:\r\n",
        "l: 4\r\nl: 3\r\n",
        "l: 18446744073709551620\r\n",
        "l: 4, 4\r\n",
    ] {
        assert_eq!(
            (status(datagram(with(bad))), status(stream(with(bad)))),
            (400, 400),
            "{bad}"
        );
    }
}

#[test]
fn limits_have_their_codes() {
    let limits = Limits {
        message_bytes: 600,
        headers: 12,
        via: 2,
        uri_bytes: 20,
    };
    let parse = |text: String| Message::parse(Bytes::from(text), Framing::Datagram, &limits);
    assert!(parse(INVITE.to_owned()).is_ok());
    assert_eq!(status(parse(INVITE.replace("bob@", "bobbb@"))), 414);
    assert_eq!(
        status(parse(INVITE.replace("X-Odd:", "A:\r\nB:\r\nC:"))),
        400
    );
    let large = parse(format!("{INVITE}{}", "x".repeat(600))).unwrap_err();
    assert_eq!(large.status, 513);
    assert_eq!(large.partial.unwrap().call_id(), b"1@a");
    let message = parse(INVITE.to_owned()).unwrap();
    assert_eq!(
        crate::validate::request_within(&message, &limits)
            .unwrap_err()
            .status,
        400
    );
    assert!(crate::validate::request(&message).is_ok());
}

#[test]
fn a_defect_leaves_enough_to_answer() {
    let rejected = datagram(INVITE.replace("SIP/2.0\r\n", "SIP/7.0\r\n")).unwrap_err();
    let partial = rejected.partial.unwrap();
    assert_eq!((rejected.status, partial.call_id()), (505, &b"1@a"[..]));
    assert!(partial.cseq().is_ok() && partial.from().is_ok() && partial.to().is_ok());

    let later = datagram(INVITE.replace("X-Odd:", "no colon")).unwrap_err();
    assert!(
        later
            .partial
            .unwrap()
            .header(HeaderName::ContentLength)
            .is_some(),
        "reading went on"
    );

    let ack = datagram(
        INVITE
            .replace("INVITE", "ACK")
            .replace("X-Odd:", "no colon"),
    )
    .unwrap_err();
    assert!(ack.partial.is_none(), "an ACK is never answered");
    assert!(
        datagram("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap_err()
            .partial
            .is_none()
    );
}

#[test]
fn request_lines() {
    let line = |line: &str| {
        status(datagram(
            INVITE.replace("INVITE sip:bob@example.com SIP/2.0", line),
        ))
    };
    for good in [
        "INVITE  sip:a@b  SIP/2.0",
        "INVITE sip:a@b SIP/2.0  ",
        "INVITE sip:a@b sip/2.0",
        "!%*~ x:y SIP/2.0",
    ] {
        assert_eq!(line(good), 0, "{good}");
    }
    for bad in [
        "INVITE <sip:a@b> SIP/2.0",
        "INVITE sip:a@b; lr SIP/2.0",
        "INVITE sip:a@b",
        "INVITE SIP/2.0",
        "INVITE",
        " INVITE sip:a@b SIP/2.0",
        "IN(VITE sip:a@b SIP/2.0",
        "INVITE sip:a@b HTTP/1.1",
        "INVITE sip:a\u{7f}@b SIP/2.0",
    ] {
        assert_eq!(line(bad), 400, "{bad}");
    }
    assert_eq!(line("INVITE sip:a@b SIP/3.0"), 505);
}

#[test]
fn many_headers_spill_and_stay_right() {
    let extra: String = (0..60)
        .map(|index| format!("X-{index}: {index}\r\n"))
        .collect();
    let message = datagram(INVITE.replace("X-Odd:\r\n", &extra)).unwrap();
    assert_eq!(message.header_by_name("X-59"), Some(&b"59"[..]));
    assert_eq!(message.body(), "body");
}

#[test]
fn scalars_do_not_wrap() {
    let with = |from: &str, to: &str| datagram(INVITE.replace(from, to)).unwrap();
    assert!(with("CSeq: 7", "CSeq: 2147483648").cseq().is_err());
    assert_eq!(
        with("CSeq: 7", "CSeq: 2147483647").cseq().unwrap().number,
        2_147_483_647
    );
    assert!(
        with("CSeq: 7", "CSeq: 36893488147419103239")
            .cseq()
            .is_err()
    );
    assert!(
        with("Max-Forwards: 70", "Max-Forwards: 256")
            .max_forwards()
            .is_err()
    );
    assert_eq!(
        with("X-Odd:", "Expires: 99999999999").expires(),
        Ok(Some(u32::MAX))
    );
}

#[test]
fn values_may_hold_any_octets() {
    let octets = INVITE
        .replace("X-Odd:", "X-Odd: NUL")
        .replace("NUL", "\0\u{e9}\u{1}")
        .into_bytes();
    let message = datagram(&octets).unwrap();
    assert_eq!(
        message.header_by_name("X-Odd"),
        Some("\0\u{e9}\u{1}".as_bytes())
    );
    let binary = [
        INVITE
            .replace("Content-Length: 4\r\n\r\nbody", "l: 5\r\n\r\n")
            .as_bytes(),
        b"\0\xff\r\n\0",
    ]
    .concat();
    assert_eq!(&datagram(binary).unwrap().body()[..], b"\0\xff\r\n\0");
    assert!(Uri::parse(message.request_uri()).is_ok());
}
