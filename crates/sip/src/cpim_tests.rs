//! CPIM by its grammar, as phones write it, and as an attacker would.

use super::*;

fn parse(text: &str) -> Result<Cpim, Malformed> {
    Cpim::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn mailbox(name: &str, uri: &str) -> Mailbox {
    Mailbox {
        name: name.into(),
        uri: uri.into(),
    }
}

const PHONE: &str = "From: \"Åse \\\"A\\\" Ek\" <sip:ase@example.net>\r\n\
    To: <sip:tea@example.net>\r\n\
    To: Bo Ek <sip:bo@example.net>\r\n\
    cc: <sip:copy@example.net>\r\n\
    DateTime: 2026-11-22T12:20:13+01:00\r\n\
    Subject:;lang=no Te\\u0020nå\\n\r\n\
    Subject:;lang=\"en\" Tea now\r\n\
    NS: imdn <urn:ietf:params:imdn>\r\n\
    imdn.Message-ID: 7f3a.b\r\n\
    NS: <urn:example:weather>\r\n\
    Wind: north; strong\r\n\
    \r\n\
    Content-Type: text/plain;\r\n\
    \x20charset=utf-8\r\n\
    Content-ID: <1@example.net>\r\n\
    \r\n\
    From: not a header\r\n\r\n\x01";

#[test]
fn a_message_is_read_to_its_last_octet() {
    let message = parse(PHONE).unwrap();
    let from = mailbox("Åse \"A\" Ek", "sip:ase@example.net");
    assert_eq!(message.from(), Some(from));
    let to: Vec<Mailbox> = message.to().collect();
    let expected = [
        mailbox("", "sip:tea@example.net"),
        mailbox("Bo Ek", "sip:bo@example.net"),
    ];
    assert_eq!(to, expected);
    assert_eq!(message.cc().count(), 1);
    assert_eq!(message.sent_ms(), Some(1_795_346_413_000));
    assert_eq!(message.subject().unwrap(), "Te nå\n");
    assert_eq!(crate::imdn::message_id(&message), Some("7f3a.b"));
    let wind = message.header("urn:example:weather", "Wind").unwrap();
    assert_eq!(wind.raw(), "north; strong");
    assert_eq!(message.header(NAMESPACE, "Wind"), None);
    assert_eq!(message.content_type(), Some("text/plain; charset=utf-8"));
    assert_eq!(
        message.content_header("content-id"),
        Some("<1@example.net>")
    );
    assert_eq!(&message.content()[..], b"From: not a header\r\n\r\n\x01");
}

#[test]
fn what_is_read_is_written_and_read_again() {
    let message = parse(PHONE).unwrap();
    assert_eq!(Cpim::parse(message.write()), Ok(message));
}

#[test]
fn names_differ_in_case() {
    let message = parse("from: <sip:a@b>\r\nTo: <sip:c@d>\r\n\r\n\r\n").unwrap();
    assert_eq!(message.from(), None);
    assert_eq!(message.to().count(), 1);
}

#[test]
fn a_prefix_means_what_was_declared_last() {
    let message = parse(
        "NS: a <urn:one>\r\na.X: 1\r\nNS: a <urn:two>\r\na.X: 2\r\nb.X: 3\r\nimdn.Message-ID: 4\r\n\r\n\r\n",
    )
    .unwrap();
    for (namespace, value) in [("urn:one", "1"), ("urn:two", "2"), ("b", "3")] {
        let header = message.header(namespace, "X");
        assert_eq!(header.map(Header::raw), Some(value), "{namespace}");
    }
    // COMPAT(several): imdn without its declaration.
    assert_eq!(crate::imdn::message_id(&message), Some("4"));
}

#[test]
fn namespaces_are_declared_whatever_the_default_is() {
    let message = parse("NS: <urn:one>\r\nX: 1\r\nNS: a <urn:two>\r\na.X: 2\r\n\r\n\r\n").unwrap();
    for (namespace, value) in [("urn:one", "1"), ("urn:two", "2")] {
        let header = message.header(namespace, "X");
        assert_eq!(header.map(Header::raw), Some(value), "{namespace}");
    }
    assert_eq!(message.headers().len(), 2);
}

#[test]
fn what_is_required_is_known_by_its_namespace() {
    let message = parse("NS: a <urn:one>\r\na.X: 1\r\nRequire: a.X, Subject\r\n\r\n\r\nx").unwrap();
    let required = [
        ("urn:one".to_owned(), "X".to_owned()),
        (NAMESPACE.to_owned(), "Subject".to_owned()),
    ];
    assert_eq!(message.required(), required);
    let again = Cpim::parse(message.write()).unwrap();
    assert_eq!(again.required(), required);
}

#[test]
fn lines_may_end_in_lf_alone_and_the_content_need_not_have_headers() {
    let message = parse("From: <sip:a@b>\nTo: sip:c@d\n\n\nhello\n").unwrap();
    let to: Vec<Mailbox> = message.to().collect();
    assert_eq!(to, [mailbox("", "sip:c@d")]);
    assert_eq!(message.content_type(), None);
    assert_eq!(&message.content()[..], b"hello\n");
}

#[test]
fn a_content_of_any_octets_is_kept() {
    let mut octets = b"From: <sip:a@b>\r\n\r\nContent-Type: image/png\r\n\r\n".to_vec();
    let image: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    octets.extend(&image);
    let message = Cpim::parse(octets.into()).unwrap();
    assert_eq!(&message.content()[..], image);
}

#[test]
fn escapes_go_both_ways() {
    for text in [
        "",
        "plain",
        "a\\b\"c'd",
        "line\r\nbreak\ttab\u{8}\u{0}\u{7f}\u{85}",
        "ø 中文 👍",
    ] {
        assert_eq!(unescape(&escape(text)), text);
        assert!(!escape(text).contains(char::is_control));
    }
    for (escaped, text) in [
        ("\\ud83d\\uDC4D", "👍"),
        ("\\ud83d x", "\u{fffd} x"),
        ("\\udc4d\\ud83d", "\u{fffd}\u{fffd}"),
        ("\\u12 \\q \\", "\\u12 \\q \\"),
        ("\\u+123", "\\u+123"),
        ("\\b\\t\\n\\r\\\"\\'\\\\", "\u{8}\t\n\r\"'\\"),
        ("\\uå123", "\\uå123"),
    ] {
        assert_eq!(unescape(escaped), text, "{escaped}");
    }
}

#[test]
fn nobody_writes_a_line_into_somebody_elses_message() {
    let evil = "x\r\nFrom: <sip:evil@example.net>\r\n\r\n";
    let message = || Cpim::new("text/plain", Bytes::from_static(b"hello")).unwrap();
    let from = mailbox(evil, "sip:ann@example.net");
    let written = message()
        .with_from(&from)
        .and_then(|m| m.with_to(&mailbox("", "sip:bo@example.net")))
        .and_then(|m| m.with_sent_ms(1_795_346_413_000))
        .and_then(|m| m.with_header(NAMESPACE, "Subject", evil))
        .and_then(|m| m.with_header("urn:example:x", "Mood", evil))
        .unwrap();
    let read = Cpim::parse(written.write()).unwrap();
    assert_eq!(read.from(), Some(from));
    assert_eq!(read.headers().len(), 5);
    assert_eq!(read.subject().unwrap(), evil);
    assert_eq!(&read.content()[..], b"hello");
    for uri in ["", "sip:a@b>\r\nTo: <sip:c@d", "sip:a@b c"] {
        assert!(message().with_to(&mailbox("", uri)).is_err(), "{uri:?}");
    }
    for name in ["", "A B", "a.B", "A:", "NS", "Require", "A\r\nB"] {
        assert!(message().with_header(NAMESPACE, name, "x").is_err());
    }
    assert!(message().with_header("urn:x>\r\n", "A", "x").is_err());
    assert!(message().with_content_header("A", evil).is_err());
    assert!(Cpim::new(evil, Bytes::new()).is_err());
}

#[test]
fn what_is_no_cpim_is_refused() {
    for text in [
        "",
        "\r\n",
        "\r\n\r\nhello",
        "hello",
        "hello\r\n\r\n",
        "From: <sip:a@b>",
        "From: <sip:a@b>\r\n",
        "From: <sip:a@b>\r\n folded\r\n\r\n\r\n",
        "From: <sip:a@b>\r\n\r\nno header\r\n\r\n",
        "From: <sip:a@b>\r\n\r\n folded\r\n\r\n",
        "From: <sip:a@b>\r\n\r\nContent-Type: text/plain",
        "Fr om: <sip:a@b>\r\n\r\n\r\n",
        "a.b.c: x\r\n\r\n\r\n",
        ".c: x\r\n\r\n\r\n",
        "NS: a urn:x\r\n\r\n\r\n",
        "NS: a b <urn:x>\r\n\r\n\r\n",
        "NS: <>\r\n\r\n\r\n",
        "Subject:;lang tea\r\n\r\n\r\n",
        "Subject:;lang=\"no tea\r\n\r\n\r\n",
        "Subject:;=no tea\r\n\r\n\r\n",
        "Subject: a\u{0}b\r\n\r\n\r\n",
        "Subject: a\u{85}b\r\n\r\n\r\n",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
    assert!(Cpim::parse(Bytes::from_static(b"Subject: \xff\r\n\r\n\r\n")).is_err());
}

#[test]
fn a_head_is_bounded() {
    let many = "A: b\r\n".repeat(65);
    assert!(parse(&format!("{many}\r\n\r\n")).is_err());
    assert!(parse(&format!("A: b\r\n\r\n{many}\r\n")).is_err());
    let fits = "A: b\r\n".repeat(64);
    assert!(parse(&format!("{fits}\r\n{fits}\r\n")).is_ok());
    let long = "x".repeat(HEAD_BYTES_MAX);
    assert!(parse(&format!("A: {long}\r\n\r\n\r\n")).is_err());
    let parameters = ";a=b".repeat(9);
    assert!(parse(&format!("A:{parameters} c\r\n\r\n\r\n")).is_err());
}

#[test]
fn a_mailbox_is_read_or_not() {
    for (text, expected) in [
        ("<sip:a@b>", Some(("", "sip:a@b"))),
        ("Ann  <sip:a@b> ", Some(("Ann", "sip:a@b"))),
        ("\"a <b>\" <im:a@b>", Some(("a <b>", "im:a@b"))),
        ("\"\\\\\" <im:a@b>", Some(("\\", "im:a@b"))),
        ("sip:a@b", Some(("", "sip:a@b"))),
        ("\"a\" sip:a@b", Some(("a", "sip:a@b"))),
        ("\"a <sip:a@b>", None),
        ("<sip:a@b", None),
        ("<sip:a@b> x", None),
        ("<>", None),
        ("", None),
        ("a b", None),
    ] {
        let expected = expected.map(|(name, uri)| mailbox(name, uri));
        assert_eq!(Mailbox::parse(text), expected, "{text}");
    }
}
