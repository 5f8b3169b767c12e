//! Digest (RFC 7616, RFC 8760), identity, and what gets in without it: nothing.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use sidetone_tests::sip::digest::{Algorithm, Challenge};
use sidetone_tests::sip::phone::{again, word};
use sidetone_tests::{Message, Options, Phone, Server, Wire};

fn challenges(answer: &Message) -> Vec<Challenge> {
    let asks = |n: &str| n == "WWW-Authenticate" || n == "Proxy-Authenticate";
    let values = answer.headers.iter().filter(|(n, _)| asks(n));
    values.filter_map(|(_, v)| Challenge::parse(v)).collect()
}

fn refused(status: Option<u16>) -> bool {
    matches!(status, Some(400..=403 | 407 | 481))
}

#[test]
fn sha_256_is_offered_first_and_md5_second() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann");
    let register = ann.registration(600);
    let answer = ann.transact(&register);
    assert_eq!(answer.status(), Some(401));
    let offered = challenges(&answer);
    let algorithms: Vec<Algorithm> = offered.iter().map(|c| c.algorithm).collect();
    assert_eq!(algorithms, [Algorithm::Sha256, Algorithm::Md5]);
    assert!(
        offered.iter().all(|c| c.realm == "example.test"),
        "{answer:?}"
    );
    assert!(
        offered.iter().all(|c| c.qop.as_deref() == Some("auth")),
        "{answer:?}"
    );
    let invite = ann.draft("INVITE", &server.uri("ann"));
    assert_eq!(ann.transact(&invite).status(), Some(407));
}

#[test]
fn both_algorithms_work() {
    let server = Server::with(&["ann", "bob"]);
    for phone in [
        Phone::udp(&server, "ann"),
        Phone::udp(&server, "ann").with_md5(),
    ] {
        let mut phone = phone.registered();
        assert!(matches!(
            phone.message("bob", "to somebody else").status(),
            Some(200 | 202)
        ));
    }
}

/// A response without what differs from request to request anyway.
fn shape(answer: &Message) -> (String, BTreeMap<String, Vec<String>>) {
    let mut shape: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &answer.headers {
        let value = match name.as_str() {
            "Via" | "From" | "To" | "Call-ID" | "CSeq" => String::new(),
            "WWW-Authenticate" | "Proxy-Authenticate" => match Challenge::parse(value) {
                Some(c) => value.replace(&c.nonce, "N"),
                None => value.clone(),
            },
            _ => value.clone(),
        };
        shape.entry(name.clone()).or_default().push(value);
    }
    (answer.start.clone(), shape)
}

#[test]
fn a_wrong_password_and_an_unknown_user_look_alike() {
    let server = Options::new()
        .users(&["ann"])
        .set("limits.failures_before_ban", 1000)
        .start();
    for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
        let mut wrong = Phone::udp(&server, "ann");
        wrong.password = "wrong".to_owned();
        wrong.algorithm = algorithm;
        let mut unknown = Phone::udp(&server, "nobody");
        unknown.algorithm = algorithm;
        let (one, two) = (wrong.register(600), unknown.register(600));
        assert_ne!(one.status(), Some(200));
        assert_eq!(shape(&one), shape(&two));
        let (one, two) = (wrong.message("ann", "x"), unknown.message("ann", "x"));
        assert!(refused(one.status()), "{one:?}");
        assert_eq!(shape(&one), shape(&two));
    }
}

#[test]
fn nobody_writes_in_anothers_name() {
    let server = Server::with(&["ann", "bob", "eve"]);
    let mut bob = Phone::udp(&server, "bob").registered();
    let mut eve = Phone::udp(&server, "eve");
    for method in ["MESSAGE", "INVITE"] {
        let from = format!("<sip:ann@example.test>;tag={}", word());
        let draft = eve.draft(method, &server.uri("bob")).but("From", from);
        let answer = eve.ask(draft.with_body("text/plain", "I am ann"));
        assert_eq!(answer.status(), Some(403), "{answer:?}");
        bob.expect_silence(method, Duration::from_millis(300));
    }
}

#[test]
fn identity_that_is_asserted_outside_is_removed() {
    let server = Server::with(&["ann", "bob", "eve"]);
    let mut bob = Phone::udp(&server, "bob").registered();
    let mut eve = Phone::udp(&server, "eve");
    for method in ["MESSAGE", "INVITE"] {
        let draft = eve
            .draft(method, &server.uri("bob"))
            .with("P-Asserted-Identity", "<sip:ann@example.test>")
            .with_body("text/plain", "hello");
        let sent = eve.start(draft);
        let got = bob.expect(method);
        let asserted = got.values("P-Asserted-Identity").join(" ");
        assert!(!asserted.contains("ann@"), "{got:?}");
        bob.answer(&got, if method == "INVITE" { 486 } else { 200 });
        assert!(eve.final_answer(&sent, Duration::from_secs(5)).is_some());
    }
}

#[test]
fn a_nonce_count_is_good_once() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann");
    let first = ann.registration(600);
    let challenge = ann.transact(&first);
    let (challenge, header) = ann.challenge(&challenge).expect("a challenge");
    let request = again(&ann, &first);
    let good = request
        .clone()
        .with(header, ann.credentials(&request, &challenge, 1));
    assert_eq!(ann.transact(&good).status(), Some(200));
    // An eavesdropper sends the same credentials in a request of his own.
    let replay = again(&ann, &good);
    assert_eq!(ann.transact(&replay).status(), Some(401));
    let next = again(&ann, &request).but("CSeq", "9 REGISTER");
    let next = next
        .clone()
        .with(header, ann.credentials(&next, &challenge, 2));
    assert_eq!(
        ann.transact(&next).status(),
        Some(200),
        "the next count is good"
    );
}

#[test]
fn a_nonce_must_be_ours() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann");
    let first = ann.registration(600);
    let answer = ann.transact(&first);
    let (challenge, header) = ann.challenge(&answer).expect("a challenge");
    let last = challenge.nonce.chars().next_back().expect("a character");
    let mut changed = challenge.clone();
    changed.nonce.pop();
    changed.nonce.push(if last == 'A' { 'B' } else { 'A' });
    for nonce in [
        changed.nonce,
        "x".to_owned(),
        String::new(),
        "A".repeat(500),
    ] {
        let forged = Challenge {
            nonce,
            ..challenge.clone()
        };
        let request = again(&ann, &first);
        let request = request
            .clone()
            .with(header, ann.credentials(&request, &forged, 1));
        assert_eq!(ann.transact(&request).status(), Some(401));
    }
}

#[test]
fn an_old_nonce_is_stale() {
    let server = Options::new()
        .users(&["ann"])
        .set("sip.nonce_lifetime_s", 1)
        .start();
    let mut ann = Phone::udp(&server, "ann");
    let first = ann.registration(600);
    let answer = ann.transact(&first);
    let (challenge, header) = ann.challenge(&answer).expect("a challenge");
    std::thread::sleep(Duration::from_millis(2100));
    let request = again(&ann, &first);
    let late = request
        .clone()
        .with(header, ann.credentials(&request, &challenge, 1));
    let answer = ann.transact(&late);
    assert_eq!(answer.status(), Some(401));
    assert!(challenges(&answer).iter().all(|c| c.stale), "{answer:?}");
    // Whoever answered a challenge, late or not, is no phone that gives up at SHA-256.
    let request = ann.registration(600);
    let answer = ann.transact(&request);
    let offered = challenges(&answer);
    assert!(
        offered.iter().any(|c| c.algorithm == Algorithm::Sha256),
        "{answer:?}"
    );
    assert_eq!(ann.register(600).status(), Some(200));
}

#[test]
fn credentials_are_bound_to_the_request_uri_and_the_method() {
    let server = Server::with(&["ann", "bob"]);
    let mut bob = Phone::udp(&server, "bob").registered();
    let mut ann = Phone::udp(&server, "ann");
    let draft = ann
        .draft("MESSAGE", &server.uri("ann"))
        .with_body("text/plain", "x");
    let answer = ann.transact(&draft);
    let (challenge, header) = ann.challenge(&answer).expect("a challenge");
    let to_ann = again(&ann, &draft);
    let credentials = ann.credentials(&to_ann, &challenge, 1);
    // Made for a MESSAGE to ann, used for one to bob.
    let to_bob = ann
        .draft("MESSAGE", &server.uri("bob"))
        .with_body("text/plain", "x");
    let answer = ann.transact(&to_bob.with(header, credentials));
    assert!(refused(answer.status()), "{answer:?}");
    bob.expect_silence("MESSAGE", Duration::from_millis(300));
}

/// A stranger who knows no password, tries all doors, and whom nobody hears.
#[test]
fn a_to_tag_and_a_route_are_no_way_round_authentication() {
    let server = Server::with(&["bob"]);
    let mut bob = Phone::udp(&server, "bob").registered();
    let us = format!("<sip:{};lr>", server.udp());
    let own = format!("<sip:{};transport=udp;lr;token=guess>", server.udp());
    for method in [
        "INVITE", "MESSAGE", "BYE", "INFO", "UPDATE", "NOTIFY", "OPTIONS", "REFER",
    ] {
        for target in [server.uri("bob"), bob.contact.clone()] {
            for route in [
                vec![],
                vec![us.clone()],
                vec![own.clone()],
                vec![us.clone(), us.clone()],
            ] {
                let mut stranger = Phone::udp(&server, "stranger");
                let mut draft = stranger
                    .draft(method, &target)
                    .but("From", "<sip:x@elsewhere.test>;tag=1")
                    .but("To", format!("<{target}>;tag=guessed"));
                for hop in route {
                    draft = draft.with("Route", hop);
                }
                let answer = stranger.try_transact(&draft, Duration::from_secs(2));
                let status = answer.as_ref().and_then(Message::status);
                assert!(
                    status.is_none_or(|s| s >= 400),
                    "{method} {target}: {answer:?}"
                );
                bob.expect_silence(method, Duration::from_millis(20));
            }
        }
    }
}

#[test]
fn what_was_seen_of_a_call_is_worth_nothing_to_others() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let invite = ann.invite(&server.uri("bob"));
    let offered = bob.expect("INVITE");
    bob.answer(&offered, 180);
    let routes = offered.values("Record-Route");
    assert!(!routes.is_empty(), "{offered:?}");
    let mut mallory = Phone::udp_elsewhere(&server, "mallory", 100);
    let call_id = offered.call_id().to_owned();
    for method in [
        "INVITE", "MESSAGE", "BYE", "INFO", "REFER", "OPTIONS", "NOTIFY",
    ] {
        for (to, target) in [
            (format!("<{}>", server.uri("bob")), bob.contact.clone()),
            (
                format!("<{}>;tag=made-up", server.uri("bob")),
                bob.contact.clone(),
            ),
            (
                format!("<{}>;tag=made-up", server.uri("bob")),
                server.uri("bob"),
            ),
            (
                "<sip:x@127.0.0.9:7>;tag=made-up".to_owned(),
                "sip:x@127.0.0.9:7".to_owned(),
            ),
        ] {
            let mut forged = mallory
                .draft(method, &target)
                .but("From", offered.header("From").unwrap_or_default())
                .but("To", to)
                .but("Call-ID", call_id.clone());
            for route in &routes {
                forged = forged.with("Route", route.clone());
            }
            let answer = mallory.try_transact(&forged, Duration::from_secs(2));
            let status = answer.as_ref().and_then(Message::status);
            assert!(matches!(status, Some(403 | 407)), "{method}: {answer:?}");
            bob.expect_silence(method, Duration::from_millis(20));
        }
    }
    let quiet = Duration::from_millis(200);
    // Nor does a Via that a callee has seen bring its answers, or end the call.
    let via = offered.values("Via").pop().unwrap_or_default();
    let stolen = mallory.draft("INVITE", &server.uri("bob"));
    let stolen = Message {
        headers: invite.headers.clone(),
        ..stolen
    }
    .but("Via", via.clone());
    let cancel = Message {
        start: invite.start.replace("INVITE", "CANCEL"),
        ..invite.clone()
    }
    .but("CSeq", format!("{} CANCEL", invite.cseq()))
    .but("Via", via);
    mallory.send(&stolen);
    mallory.send(&cancel);
    bob.expect_silence("CANCEL", quiet);
    bob.answer(&offered, 200);
    let answer = ann.final_answer(&invite, Duration::from_secs(5));
    assert_eq!(answer.and_then(|a| a.status()), Some(200));
    let stray = mallory.take(quiet, |m| m.status() == Some(200) && m.method() == "INVITE");
    assert!(stray.is_none(), "{stray:?}");
}

#[test]
fn an_ack_out_of_nowhere_reaches_nobody() {
    let server = Server::with(&["bob"]);
    let mut bob = Phone::udp(&server, "bob").registered();
    let mut stranger = Phone::udp(&server, "stranger");
    let target = bob.contact.clone();
    let ack = stranger
        .draft("ACK", &target)
        .but("To", format!("<{target}>;tag=guessed"))
        .with("Route", format!("<sip:{};lr>", server.udp()));
    stranger.send(&ack);
    bob.expect_silence("ACK", Duration::from_millis(300));
}

#[test]
fn the_server_is_no_open_relay() {
    let server = Server::with(&["ann"]);
    let elsewhere = UdpSocket::bind((sidetone_tests::loopback::address(), 0)).expect("a socket");
    let there = elsewhere.local_addr().expect("address");
    let mut victim = Wire::from_socket(elsewhere, server.udp());
    let mut stranger = Phone::udp(&server, "stranger");
    let anyone = format!("sip:anyone@{there}");
    for method in ["INVITE", "MESSAGE", "OPTIONS", "REGISTER"] {
        let drafts = [
            stranger.draft(method, &anyone),
            stranger
                .draft(method, &anyone)
                .with("Route", format!("<sip:{};lr>", server.udp())),
            stranger
                .draft(method, &server.uri("ann"))
                .with("Route", format!("<sip:{there};lr>")),
            stranger.draft(method, &format!("sip:{};maddr={}", server.ip, there.ip())),
        ];
        for draft in drafts {
            let draft = draft.but("Via", stranger.via());
            let answer = stranger.transact(&draft);
            assert!(
                answer.status() >= Some(400) || method == "OPTIONS",
                "{draft:?}{answer:?}"
            );
            let end = std::time::Instant::now() + Duration::from_millis(50);
            assert_eq!(victim.receive(end), None, "{draft:?}");
        }
    }
}

#[test]
fn guessing_is_banned_and_forgiven_by_hand() {
    let server = Options::new()
        .limited()
        .users(&["ann"])
        .set("limits.failures_before_ban", 3)
        .start();
    let guess = || {
        let mut eve = Phone::udp(&server, "ann");
        eve.password = word();
        let request = eve.registration(600);
        let first = eve.try_transact(&request, Duration::from_millis(700))?;
        let retry = eve.retry(&request, &first)?;
        eve.try_transact(&retry, Duration::from_millis(700))
    };
    let banned = (0..8).any(|_| guess().is_none());
    assert!(banned, "eight guesses, and still answers");
    let status = server.cli(&["status"], "");
    let address = server.ip.to_string();
    assert!(status.contains(&address), "the ban is visible: {status}");
    let other = Wire::udp(sidetone_tests::loopback::address(), server.udp());
    assert_eq!(
        Phone::new("ann", other).register(600).status(),
        Some(200),
        "others are not"
    );
    server.cli(&["unban", &address], "");
    assert_eq!(Phone::udp(&server, "ann").register(600).status(), Some(200));
}

#[test]
fn a_stranger_is_not_answered_with_more_than_was_sent() {
    let server = Server::with(&["ann"]);
    let mut stranger = Phone::udp(&server, "stranger");
    for method in [
        "REGISTER",
        "INVITE",
        "MESSAGE",
        "OPTIONS",
        "SUBSCRIBE",
        "PUBLISH",
        "NONSENSE",
    ] {
        for uri in [
            server.uri("ann"),
            server.uri("nobody"),
            "sip:x@elsewhere.test".to_owned(),
        ] {
            let long = stranger.draft(method, &uri);
            let short = long.clone().without("Allow").without("User-Agent");
            for draft in [long, short] {
                let draft = draft.but("Via", stranger.via());
                let (asked, answered) = answers(&mut stranger, &draft);
                let what = format!("{method} {uri}: {asked} asked, {answered} answered");
                assert!(2 * answered <= 3 * asked, "{what}");
            }
        }
    }
    // The smallest request that can be answered is the best lever.
    let tiny = format!(
        "OPTIONS sip:a SIP/2.0\r\nv:SIP/2.0/UDP {};rport;branch=z9hG4bK1\r\nf:<sip:a>;tag=1\r\n\
         t:<sip:a>\r\ni:1\r\nCSeq:1 OPTIONS\r\nl:0\r\n\r\n",
        stranger.local()
    );
    assert!(stranger.wire.send(tiny.as_bytes()));
    let answer = stranger.take(Duration::from_secs(1), |m| m.call_id() == "1");
    let answered = answer.map_or(0, |a| a.octets);
    assert!(
        2 * answered <= 3 * tiny.len(),
        "{} asked, {answered} answered",
        tiny.len()
    );
}

/// The octets of a request, and of all that comes back for it, retransmissions too.
fn answers(stranger: &mut Phone, draft: &Message) -> (usize, usize) {
    stranger.send(draft);
    let mut answered = 0;
    let ours = |m: &Message| m.branch() == draft.branch();
    while let Some(answer) = stranger.take(Duration::from_millis(200), ours) {
        answered += answer.octets;
        if draft.method() == "INVITE" && answer.status() >= Some(300) {
            stranger.ack_failure(draft, &answer);
        }
    }
    (draft.bytes().len(), answered)
}
