use super::*;
use sidetone_sip::imdn::{Delivery, Disposition};

fn is_ann(uri: &str) -> bool {
    uri == "sip:ann@example.com"
}

fn wrapped(text: &str) -> Result<(Carried, Abilities), Unfit> {
    read(("Message/CPIM", None), Bytes::from(text.to_owned()), is_ann)
}

fn said(text: &str) -> Said {
    match wrapped(text).expect("fit").0 {
        Carried::Said(said) => said,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bare_text_is_as_it_came() {
    let (carried, shown) = read(("text/plain", None), Bytes::from("hi"), is_ann).expect("fit");
    let expected = Said {
        content_type: "text/plain".to_owned(),
        headers: String::new(),
        body: Bytes::from("hi"),
        decoded: false,
        sent_ms: None,
        asked: None,
    };
    assert_eq!(carried, Carried::Said(expected));
    assert_eq!(shown, Abilities::default());
}

#[test]
fn a_wrapped_text_is_unwrapped_with_what_its_sender_asks() {
    let said = said(
        "From: <sip:ann@example.com>\r\nTo: <sip:bob@example.com>\r\n\
         DateTime: 2026-11-22T11:20:13Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: a1\r\nimdn.Disposition-Notification: display, negative-delivery\r\n\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Language: no\r\n\r\nhei",
    );
    assert_eq!(said.body, "hei");
    assert_eq!(said.content_type, "text/plain; charset=utf-8");
    assert_eq!(said.headers, "Content-Language: no\r\n");
    assert_eq!(said.sent_ms, Some(1_795_346_413_000));
    let mut asked = said.asked.expect("asked");
    assert!(!asked.is_answerable(), "nobody to tell");
    asked.device = Some(DeviceId(7));
    let lines = format!("Subject: x\r\n{}", asked.write());
    assert_eq!(Asked::of(&lines), Some(asked.clone()));
    assert!(asked.wanted.display && asked.wanted.negative_delivery);
    assert!(!asked.wanted.positive_delivery && asked.is_answerable());
    assert_eq!(told(&lines).collect::<Vec<_>>(), ["Subject: x"]);
    assert_eq!(Asked::of("Subject: x\r\n"), None);
}

#[test]
fn who_speaks_for_others_is_refused() {
    let from = |from: &str| wrapped(&format!("From: <{from}>\r\n\r\n\r\nhi"));
    assert_eq!(
        from("sip:bob@example.com").map_err(|unfit| unfit.status),
        Err(403)
    );
    assert!(from("sip:ann@example.com").is_ok());
    assert!(from("sip:anonymous@anonymous.invalid").is_ok());
}

#[test]
fn what_cannot_be_read_or_understood_is_refused() {
    for (text, status) in [
        ("", 400),
        ("hello", 400),
        ("To: <sip:x@y>\r\nRequire: Teleport\r\n\r\n\r\nhi", 200),
        (
            "NS: x <urn:x>\r\nRequire: x.Teleport\r\nTo: <sip:x@y>\r\n\r\n\r\nhi",
            415,
        ),
        (
            "To: <sip:x@y>\r\n\r\nContent-Type: message/cpim\r\n\r\nTo: <sip:x@y>\r\n\r\n\r\nhi",
            415,
        ),
        (
            "To: <sip:x@y>\r\n\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=",
            415,
        ),
        (
            "To: <sip:x@y>\r\n\r\nContent-Type: message/imdn+xml\r\n\r\n<imdn/>",
            400,
        ),
    ] {
        let read = wrapped(text).map_or_else(|unfit| unfit.status, |_| 200);
        assert_eq!(read, status, "{text}");
    }
    let read = read(
        ("application/im-iscomposing+xml", None),
        Bytes::from("<x"),
        is_ann,
    );
    assert_eq!(read.map_err(|unfit| unfit.status), Err(400));
}

#[test]
fn indications_and_notifications_are_told_from_texts_bare_and_wrapped() {
    let composing = IsComposing {
        active: true,
        ..IsComposing::default()
    };
    let xml = composing.write();
    let bare = read(
        ("application/im-iscomposing+xml;charset=UTF-8", None),
        Bytes::from(xml.clone()),
        is_ann,
    );
    let expected = Carried::Composing(composing);
    assert_eq!(bare, Ok((expected.clone(), Abilities::COMPOSING)));
    let text =
        format!("To: <sip:x@y>\r\n\r\nContent-Type: application/im-iscomposing+xml\r\n\r\n{xml}");
    assert_eq!(wrapped(&text), Ok((expected, Abilities::CPIM)));
    let notification = Imdn {
        message_id: "a1".to_owned(),
        date_time: String::new(),
        recipient_uri: None,
        original_recipient_uri: None,
        subject: None,
        disposition: Disposition::Delivery(Delivery::Failed),
    };
    let text = format!(
        "To: <sip:x@y>\r\n\r\nContent-Type: message/imdn+xml\r\n\r\n{}",
        notification.write()
    );
    let carried = wrapped(&text).expect("fit").0;
    assert_eq!(carried, Carried::Notification(notification));
}

#[test]
fn what_copies_are_called_is_read_back_and_nothing_else() {
    for named in [
        Named::Event(ConversationId(4), 17),
        Named::Copy(MessageId(9), DeviceId(3)),
    ] {
        assert_eq!(Named::parse(&named.write("example.com")), Some(named));
    }
    for other in [
        "",
        "c",
        "c1",
        "c1-",
        "c-1-2",
        "c1--2",
        "c1-2-3",
        "m1-d2",
        "m1-2@x",
        "x1-2",
        "c1-99999999999999999999",
    ] {
        assert_eq!(Named::parse(other), None, "{other}");
    }
}

#[test]
fn what_is_deflated_is_inflated_and_bombs_are_not() {
    let deflated = |octets: &[u8]| {
        let octets = miniz_oxide::deflate::compress_to_vec_zlib(octets, 6);
        let read = read(("text/plain", Some("Deflate")), octets.into(), is_ann);
        read.map(|(carried, _)| carried)
    };
    let Ok(Carried::Said(said)) = deflated(b"hei hei hei") else {
        panic!("no text");
    };
    assert_eq!(
        (said.body.as_ref(), said.decoded),
        (&b"hei hei hei"[..], true)
    );
    assert!(deflated(&[b'a'; 65_536]).is_ok());
    assert_eq!(deflated(&[b'a'; 65_537]), Err(BROKEN));
    let broken = read(("text/plain", Some("deflate")), Bytes::from("hi"), is_ann);
    assert_eq!(broken.map(drop), Err(BROKEN));
    let other = |kind| read((kind, Some("gzip")), Bytes::from("hi"), is_ann);
    assert_eq!(
        other(imdn::CONTENT_TYPE)
            .map(drop)
            .map_err(|unfit| unfit.status),
        Err(415)
    );
    let Ok((Carried::Said(said), _)) = other("text/plain") else {
        panic!("no text");
    };
    assert!(!said.decoded, "it goes on as it came");
}
