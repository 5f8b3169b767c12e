//! What a copy of a request looks like (RFC 3261 §16.6), octet by octet.

use super::*;

const INVITE: &str = "INVITE sip:bob@example.test SIP/2.0\r\n\
    v: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKcaller;rport\r\n\
    Route: <sip:192.0.2.1;lr>, <sip:next.example;lr>\r\n\
    Record-Route: <sip:before.example;lr>\r\n\
    Max-Forwards: 10\r\n\
    From: \"A\" <sip:alice@example.test>;tag=a\r\n\
    To: <sip:bob@example.test>\r\n\
    i: one\r\n\
    CSeq: 1 INVITE\r\n\
    P-Preferred-Identity: <sip:boss@example.test>\r\n\
    P-Asserted-Identity: <sip:boss@example.test>\r\n\
    Proxy-Authorization: Digest username=\"alice\"\r\n\
    X-Odd:   kept  as it is \r\n\
    Content-Length: 4\r\n\r\nbody";

fn message(text: &str) -> Message {
    parse(&Bytes::copy_from_slice(text.as_bytes()))
}

/// Forwards and returns the copy and its text with `BRANCH` for the branch.
fn copy(request: &str, change: impl FnOnce(&mut Forward)) -> (Message, String) {
    let (now, request) = (crate::tests_now(), message(request));
    let mut endpoint = Endpoint::new(10, 1);
    let server = endpoint
        .accept(now, flow(CALLER), &request, 0)
        .expect("room");
    let mut forward = Forward {
        server,
        request,
        incoming: Flow {
            remote: "198.51.100.9:6000".parse().expect("an address"),
            ..flow(CALLER)
        },
        pop_routes: 0,
        targets: vec![target("b1", 1000)],
        record_route: None,
        asserted: None,
        strip_credentials: false,
    };
    change(&mut forward);
    Proxy::new(locals(), tokens()).forward(now, &mut endpoint, forward);
    let sent = parse(&endpoint.poll_transmit().expect("a copy").bytes);
    let branch = sent
        .top_via()
        .expect("Via")
        .branch()
        .unwrap_or_default()
        .to_owned();
    let text = String::from_utf8_lossy(sent.bytes()).replace(&branch, "BRANCH");
    (sent, text)
}

#[test]
fn everything_that_a_proxy_changes_and_nothing_else() {
    let (copy, text) = copy(INVITE, |forward| {
        forward.pop_routes = 1;
        forward.targets[0].routes = vec!["<sip:edge.example;lr>".to_owned()];
        forward.record_route = Some(RecordRoute {
            token: "T".to_owned(),
            incoming_flow: Some("FLOW".to_owned()),
        });
        forward.asserted = Some("\"Alice\" <sip:alice@example.test>".to_owned());
        forward.strip_credentials = true;
    });
    assert_eq!(
        text,
        "INVITE sip:b1@callee.test SIP/2.0\r\n\
         Via: SIP/2.0/TCP 192.0.2.1:5070;branch=BRANCH\r\n\
         v: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKcaller;rport=6000;received=198.51.100.9\r\n\
         Route: <sip:edge.example;lr>\r\n\
         Route: <sip:next.example;lr>\r\n\
         Record-Route: <sip:192.0.2.1:5070;transport=tcp;lr;d=T>\r\n\
         Record-Route: <sip:192.0.2.1:5060;transport=udp;lr;d=T;f=FLOW>\r\n\
         Record-Route: <sip:before.example;lr>\r\n\
         Max-Forwards: 9\r\n\
         From: \"A\" <sip:alice@example.test>;tag=a\r\n\
         To: <sip:bob@example.test>\r\n\
         i: one\r\n\
         CSeq: 1 INVITE\r\n\
         X-Odd:   kept  as it is \r\n\
         Content-Length: 4\r\n\
         P-Asserted-Identity: \"Alice\" <sip:alice@example.test>\r\n\r\nbody"
    );
    let branch = copy.top_via().expect("Via").branch().expect("branch");
    assert!(
        branch.len() == 7 + 24 + 1 + 8 && branch.as_bytes()[31] == b'.',
        "{branch}"
    );
}

#[test]
fn one_record_route_where_both_sides_see_us_alike() {
    let record = |record: bool, name: &'static str, incoming: Option<&str>| {
        let (copy, _) = copy(INVITE, |forward| {
            forward.targets[0].flow = flow(name);
            forward.targets[0].record = record;
            let incoming_flow = incoming.map(str::to_owned);
            forward.record_route = Some(RecordRoute {
                token: "T".to_owned(),
                incoming_flow,
            });
        });
        let values = copy
            .values(HeaderName::RecordRoute)
            .map(|value| String::from_utf8_lossy(value).into_owned());
        values
            .filter(|value| !value.contains("before"))
            .collect::<Vec<_>>()
    };
    let udp = "<sip:192.0.2.1:5060;transport=udp;lr;d=T";
    assert_eq!(record(false, "u1", None), [format!("{udp}>")]);
    assert_eq!(
        record(false, "u1", Some("F")),
        [format!("{udp}>"), format!("{udp};f=F>")]
    );
    assert_eq!(
        record(false, "b1", None),
        [
            "<sip:192.0.2.1:5070;transport=tcp;lr;d=T>".to_owned(),
            format!("{udp}>")
        ]
    );
    let token = tokens().flow_token(b"one", &flow("u1").as_token());
    assert_eq!(
        record(true, "u1", None),
        [format!("{udp};f={token}>"), format!("{udp}>")]
    );
}

#[test]
fn a_request_of_few_words_gets_what_it_lacks() {
    let bare = "INFO sip:b1@callee.test SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:6000;branch=z9hG4bKx\r\n\
        Route: <sip:192.0.2.1;lr>\r\nFrom: <sip:a@x>;tag=a\r\nTo: <sip:b@x>;tag=b\r\nCall-ID: 1\r\nCSeq: 2 INFO\r\n\r\n";
    let (_, text) = copy(bare, |forward| {
        forward.pop_routes = 1;
        forward.targets[0].flow = flow("u1");
    });
    assert_eq!(
        text,
        "INFO sip:b1@callee.test SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1:5060;branch=BRANCH;rport\r\n\
         Via: SIP/2.0/UDP 198.51.100.9:6000;branch=z9hG4bKx\r\n\
         From: <sip:a@x>;tag=a\r\nTo: <sip:b@x>;tag=b\r\nCall-ID: 1\r\nCSeq: 2 INFO\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn no_hops_left_is_483() {
    let (answer, _) = copy(
        &INVITE.replace("Max-Forwards: 10", "Max-Forwards: 0"),
        |_| {},
    );
    assert_eq!(answer.status(), Some(483));
    assert_eq!(
        answer.header(HeaderName::Warning),
        Some(&b"399 sidetone \"no hops left\""[..])
    );
    assert!(answer.to().expect("To").tag().is_some());
}

#[test]
fn what_comes_back_unchanged_is_a_loop_and_what_comes_back_changed_a_spiral() {
    let proxy = Proxy::new(locals(), tokens());
    let (copy, text) = copy(INVITE, |_| {});
    assert!(!proxy.is_loop(&message(INVITE)));
    assert!(!proxy.is_loop(&copy), "another Request-URI: a spiral");
    let via = copy.values(HeaderName::Via).next().expect("Via");
    let via = String::from_utf8_lossy(via).into_owned();
    let looped = INVITE.replace(
        "v: ",
        &format!("Via: SIP/2.0/UDP other.example;branch=z9hG4bKo\r\nVia: {via}\r\nv: "),
    );
    assert!(proxy.is_loop(&message(&looped)), "{text}");
    // Hops that change what every proxy changes make no difference, those that change where it goes do.
    assert!(proxy.is_loop(&message(
        &looped.replace("Max-Forwards: 10", "Max-Forwards: 3")
    )));
    for (from, to) in [
        ("192.0.2.1:5070;branch", "192.0.2.9:5070;branch"),
        ("CSeq: 1", "CSeq: 2"),
        ("tag=a", "tag=b"),
        ("i: one", "i: two"),
        ("next.example", "else.example"),
        ("\r\nTo:", "\r\nProxy-Require: x\r\nTo:"),
    ] {
        let changed = looped.replace(from, to);
        assert_ne!(changed, looped);
        assert!(!proxy.is_loop(&message(&changed)), "{to}");
    }
}

#[test]
fn an_ack_for_a_2xx_is_forwarded_alike_each_time() {
    let text = INVITE.replace("INVITE", "ACK");
    let (mut endpoint, mut proxy) = (Endpoint::new(10, 1), Proxy::new(locals(), tokens()));
    let mut forward = |text: &str| {
        let ack = message(text);
        let to = Target {
            uri: ack.request_uri().to_owned(),
            ..target("b1", 1)
        };
        proxy.forward_ack(&mut endpoint, &ack, flow(CALLER), 1, &to);
        endpoint
            .poll_transmit()
            .map(|transmit| parse(&transmit.bytes))
    };
    let first = forward(&text).expect("an ACK");
    assert_eq!(first.request_uri(), "sip:bob@example.test");
    assert_eq!(first.max_forwards(), Ok(Some(9)));
    assert_eq!(
        first
            .routes()
            .next()
            .expect("Route")
            .expect("an address")
            .uri,
        "sip:next.example;lr"
    );
    assert_eq!(first.bytes(), forward(&text).expect("an ACK").bytes());
    assert!(forward(&text.replace("Max-Forwards: 10", "Max-Forwards: 0")).is_none());
}

#[test]
fn the_breadth_is_shared_among_the_copies() {
    let breadths = |field: &str, targets: usize| {
        let names: Vec<String> = (0..targets).map(|number| format!("b{number}")).collect();
        let text = INVITE.replace("CSeq:", &format!("{field}CSeq:"));
        let ladder = Ladder::invite_text(&text, names.iter().map(|name| target(name, 1)).collect());
        let sent = ladder
            .sent
            .iter()
            .map(|(_, message)| match message.status() {
                Some(status) => status.to_string(),
                None => message
                    .header_by_name("Max-Breadth")
                    .map_or(String::new(), |value| {
                        String::from_utf8_lossy(value).into_owned()
                    }),
            });
        sent.collect::<Vec<_>>()
    };
    assert_eq!(breadths("", 1), [""]);
    assert_eq!(breadths("", 2), ["30", "30"]);
    assert_eq!(breadths("Max-Breadth: 7\r\n", 1), ["7"]);
    assert_eq!(breadths("Max-Breadth: 7\r\n", 3), ["2", "2", "2"]);
    assert_eq!(breadths("max-breadth: 2\r\n", 3), ["1", "1"]);
    assert_eq!(breadths("Max-Breadth: 0\r\n", 3), ["440"]);
}
