use super::*;

fn uri(text: &str) -> Uri<'_> {
    Uri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn takes_a_uri_apart() {
    let full = uri("sip:alice:secret@[2001:db8::1]:5070;transport=tcp;lr?subject=x&a=b");
    assert_eq!(full.scheme, Scheme::Sip);
    assert_eq!((full.user, full.password), (Some("alice"), Some("secret")));
    assert_eq!((full.host, full.port), ("[2001:db8::1]", Some(5070)));
    assert_eq!(full.transport(), Some("tcp"));
    assert!(full.is_loose_router());
    assert_eq!(full.headers, Some("subject=x&a=b"));
    assert_eq!(full.host_ip(), Some("2001:db8::1".parse().unwrap()));

    let semicolon = uri("sip:user;par=u%40example.net?/@example.com");
    assert_eq!(semicolon.user, Some("user;par=u%40example.net?/"));
    assert_eq!(semicolon.host, "example.com");
    assert!(semicolon.params.is_empty());

    let tel = uri("tel:+1-201-555-0123;phone-context=example.com");
    assert_eq!(
        (tel.scheme, tel.user, tel.host),
        (Scheme::Tel, Some("+1-201-555-0123"), "")
    );
    assert_eq!(uri("urn:service:sos").scheme, Scheme::Other);
}

#[test]
fn address_and_port_are_told_apart() {
    assert_eq!(uri("sip:[2001:db8::10:5070]").port, None);
    assert_eq!(uri("sip:[2001:db8::10]:5070").port, Some(5070));
    assert_eq!(
        host_ip("[2001:db8:::192.0.2.1]"),
        Some("2001:db8::192.0.2.1".parse().unwrap())
    );
    assert!(Uri::parse("sip:2001:db8::10").is_err());
}

#[test]
fn refuses_what_is_no_uri() {
    for bad in [
        "",
        "sip",
        "sip:",
        "sip:@host",
        "sip:a@",
        "sip:a@b:",
        "sip:a@b:99999",
        "sip:a@[::1",
        "sip:a b@c",
        "<sip:a@b>",
        "1sip:a@b",
        "sip:a@b\r\n",
        "sip:a@b;;lr",
        "sip:a@b@c",
        "tel:",
        "tel:hello",
        "sip:a@[1]",
        "sip:a@b:5060x",
    ] {
        assert!(Uri::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn escapes() {
    assert_eq!(unescape("%75se%72"), "user");
    assert_eq!(unescape("a%00b"), "a\0b");
    assert_eq!(unescape("100%"), "100%");
    assert_eq!(unescape("%zz%4"), "%zz%4");
    assert_eq!(unescape("%ff"), "%ff", "not UTF-8: left alone");
    assert_eq!(escape_user("a b@c%"), "a%20b%40c%25");
    assert_eq!(unescape(&escape_user("größe \0")), "größe \0");
}

#[test]
fn equality_examples_of_rfc3261_19_1_4() {
    let equal = [
        (
            "sip:%61lice@atlanta.com;transport=TCP",
            "sip:alice@AtLanTa.CoM;Transport=tcp",
        ),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        (
            "sip:carol@chicago.com;newparam=5",
            "sip:carol@chicago.com;security=on",
        ),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:[2001:DB8::1]", "sip:[2001:db8:0:0:0:0:0:1]"),
        ("tel:+1-201-555-0123", "TEL:+12015550123"),
        ("urn:service:sos", "URN:service:sos"),
    ];
    for (a, b) in equal {
        assert!(
            uri(a).eq_3261(&uri(b)) && uri(b).eq_3261(&uri(a)),
            "{a} = {b}"
        );
    }
    let unequal = [
        (
            "SIP:ALICE@AtLanTa.CoM;Transport=udp",
            "sip:alice@AtLanTa.CoM;Transport=UDP",
        ),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        (
            "sip:bob@biloxi.com",
            "sip:bob@biloxi.com:6000;transport=tcp",
        ),
        (
            "sip:carol@chicago.com",
            "sip:carol@chicago.com?Subject=next%20meeting",
        ),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;security=off",
        ),
        ("sip:a@b", "sips:a@b"),
        (
            "sip:null-%00-null@example.com",
            "sip:null-%00%00-null@example.com",
        ),
        ("sip:null-%00@example.com", "sip:null-@example.com"),
        ("tel:911;phone-context=a.example", "tel:911"),
    ];
    for (a, b) in unequal {
        assert!(
            !uri(a).eq_3261(&uri(b)) && !uri(b).eq_3261(&uri(a)),
            "{a} ≠ {b}"
        );
    }
}
