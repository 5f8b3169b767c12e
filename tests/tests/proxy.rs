//! Calls through the proxy (RFC 3261 §16): signalling passes, media is direct.

use std::time::Duration;

use sidetone_tests::sip::Dialog;
use sidetone_tests::sip::message::parameter;
use sidetone_tests::sip::phone::{again, word};
use sidetone_tests::{Message, Phone, Server};

const SOON: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(400);

/// INVITE, 180, 200, ACK; gives both ends.
fn establish(server: &Server, ann: &mut Phone, bob: &mut Phone) -> (Dialog, Dialog) {
    let invite = ann.invite(&server.uri("bob"));
    let offered = bob.expect("INVITE");
    bob.answer(&offered, 180);
    ann.expect_answer(&invite, 180);
    let callee = bob.accept(&offered);
    let answer = ann.expect_answer(&invite, 200);
    assert_eq!(
        answer.text(),
        sidetone_tests::media::sdp(ip(bob), 40_002),
        "media is direct"
    );
    let caller = Dialog::caller(&invite, &answer);
    let ack = caller.ack(ann);
    ann.send(&ack);
    bob.expect("ACK");
    (caller, callee)
}

fn ip(phone: &Phone) -> std::net::Ipv4Addr {
    sidetone_tests::sip::phone::ipv4(phone.local())
}

#[test]
fn a_call_over_every_pair_of_transports() {
    let kinds = [Phone::udp, Phone::tcp, Phone::tls];
    for a in kinds {
        for b in kinds {
            let server = Server::with(&["ann", "bob"]);
            let mut ann = a(&server, "ann").registered();
            let mut bob = b(&server, "bob").registered();
            let pair = format!("{} to {}", ann.wire.token(), bob.wire.token());
            let (mut caller, mut callee) = establish(&server, &mut ann, &mut bob);
            // RFC 5658: twice where the transport changes; a stream's flow may need its own, too.
            let hops = match (ann.wire.token(), bob.wire.token()) {
                ("UDP", "UDP") => 1..=1,
                (one, other) if one == other => 1..=2,
                _ => 2..=2,
            };
            let routes = &caller.routes;
            assert!(hops.contains(&routes.len()), "{pair}: {routes:?}");
            // A request in each direction, then the end.
            let info = callee.request(&bob, "INFO");
            bob.send(&info);
            let got = ann.expect("INFO");
            ann.answer(&got, 200);
            bob.expect_answer(&info, 200);
            let bye = caller.request(&ann, "BYE");
            ann.send(&bye);
            let got = bob.expect("BYE");
            assert_eq!(got.header("Route"), None, "{pair}: {got:?}");
            bob.answer(&got, 200);
            ann.expect_answer(&bye, 200);
        }
    }
}

#[test]
fn the_proxy_leaves_its_marks_and_nothing_else() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let invite = ann.draft("INVITE", &server.uri("bob"));
    let invite = ann.start(invite.with("X-Kept", "a;b=\"c, d\"").with("Subject", "é"));
    let got = bob.expect("INVITE");
    assert_eq!(got.uri(), bob.contact, "the request goes to the binding");
    assert_eq!(got.header("Max-Forwards"), Some("69"));
    assert_eq!(got.values("Via").len(), 2);
    assert_eq!(got.header("X-Kept"), Some("a;b=\"c, d\""));
    assert_eq!(got.header("Subject"), Some("é"));
    assert_eq!(got.header("From"), invite.header("From"));
    assert_eq!(got.header("To"), invite.header("To"));
    assert_eq!(got.call_id(), invite.call_id());
    assert_eq!(
        got.header("Proxy-Authorization"),
        None,
        "credentials stay with us"
    );
    let received = got.values("Via").pop().expect("Via");
    let port = ann.local().port().to_string();
    assert_eq!(
        parameter(&received, "rport").as_deref(),
        Some(port.as_str()),
        "RFC 3581"
    );
    bob.answer(&got, 486);
    let answer = ann.expect_answer(&invite, 486);
    assert_eq!(answer.values("Via").len(), 1);
    ann.ack_failure(&invite, &answer);
    bob.expect("ACK");
}

#[test]
fn unknown_404_away_480() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    for (who, status) in [("nobody", 404), ("bob", 480)] {
        let draft = ann.draft("INVITE", &server.uri(who));
        let answer = ann.ask(draft);
        assert_eq!(answer.status(), Some(status), "{answer:?}");
        let says = answer.header("Warning").or(answer.header("Reason"));
        assert!(says.is_some(), "it tells the administrator why: {answer:?}");
    }
}

#[test]
fn a_call_that_rings_is_cancelled() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let invite = ann.invite(&server.uri("bob"));
    let offered = bob.expect("INVITE");
    bob.answer(&offered, 180);
    ann.expect_answer(&invite, 180);
    let cancel = ann.cancel(&invite);
    assert_eq!(ann.transact(&cancel).status(), Some(200));
    let cancelled = bob.expect("CANCEL");
    assert_eq!(cancelled.branch(), offered.branch(), "RFC 3261 §9.1");
    bob.answer(&cancelled, 200);
    bob.answer(&offered, 487);
    let answer = ann.final_answer(&invite, SOON).expect("an end");
    assert_eq!(answer.status(), Some(487));
    bob.expect("ACK");
}

#[test]
fn a_cancel_before_any_ringing_waits_for_it() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let invite = ann.invite(&server.uri("bob"));
    let offered = bob.expect("INVITE");
    let cancel = ann.cancel(&invite);
    assert_eq!(ann.transact(&cancel).status(), Some(200));
    bob.expect_silence("CANCEL", QUIET);
    bob.answer(&offered, 180);
    let cancelled = bob.expect("CANCEL");
    bob.answer(&cancelled, 200);
    bob.answer(&offered, 487);
    let answer = ann.final_answer(&invite, SOON).expect("an end");
    assert_eq!(answer.status(), Some(487));
}

#[test]
fn a_cancel_that_crosses_the_answer_loses() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let invite = ann.invite(&server.uri("bob"));
    let offered = bob.expect("INVITE");
    bob.answer(&offered, 180);
    bob.accept(&offered);
    let cancel = ann.cancel(&invite);
    ann.send(&cancel);
    let answer = ann.expect_answer(&invite, 200);
    let mut dialog = Dialog::caller(&invite, &answer);
    let ack = dialog.ack(&ann);
    ann.send(&ack);
    bob.expect("ACK");
    let bye = dialog.request(&ann, "BYE");
    ann.send(&bye);
    let got = bob.expect("BYE");
    bob.answer(&got, 200);
    ann.expect_answer(&bye, 200);
}

#[test]
fn a_cancel_of_nothing_is_481() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let invite = ann.draft("INVITE", &server.uri("bob"));
    let cancel = ann.cancel(&invite);
    assert_eq!(ann.transact(&cancel).status(), Some(481));
}

/// Two phones of bob and a caller.
fn forked(server: &Server) -> (Phone, Phone, Phone) {
    server.add_device("bob", "bob-2");
    let ann = Phone::udp(server, "ann").registered();
    let one = Phone::udp(server, "bob").registered();
    let two = Phone::tcp(server, "bob").device("bob-2").registered();
    (ann, one, two)
}

#[test]
fn the_first_phone_that_answers_has_the_call() {
    let server = Server::with(&["ann", "bob"]);
    let (mut ann, mut one, mut two) = forked(&server);
    let invite = ann.invite(&server.uri("bob"));
    let (first, second) = (one.expect("INVITE"), two.expect("INVITE"));
    assert_ne!(first.branch(), second.branch());
    one.answer(&first, 180);
    two.answer(&second, 180);
    two.accept(&second);
    let answer = ann.expect_answer(&invite, 200);
    let dialog = Dialog::caller(&invite, &answer);
    let ack = dialog.ack(&ann);
    ann.send(&ack);
    two.expect("ACK");
    let cancelled = one.expect("CANCEL");
    assert_eq!(cancelled.branch(), first.branch());
    one.answer(&cancelled, 200);
    one.answer(&first, 487);
    one.expect("ACK");
    let late = ann.take(QUIET, |m| {
        m.status() >= Some(300) && m.branch() == invite.branch()
    });
    assert_eq!(
        late, None,
        "the 487 of the other branch stays with the proxy"
    );
}

#[test]
fn the_best_refusal_is_passed_on() {
    let server = Server::with(&["ann", "bob"]);
    let (mut ann, mut one, mut two) = forked(&server);
    let invite = ann.invite(&server.uri("bob"));
    let (first, second) = (one.expect("INVITE"), two.expect("INVITE"));
    one.answer(&first, 503);
    let early = ann.take(QUIET, |m| {
        m.status() >= Some(300) && m.branch() == invite.branch()
    });
    assert_eq!(early, None, "one phone still rings");
    two.answer(&second, 486);
    let answer = ann.final_answer(&invite, SOON).expect("an end");
    assert_eq!(answer.status(), Some(486), "RFC 3261 §16.7, step 6");
}

#[test]
fn a_global_refusal_ends_the_other_branches() {
    let server = Server::with(&["ann", "bob"]);
    let (mut ann, mut one, mut two) = forked(&server);
    let invite = ann.invite(&server.uri("bob"));
    let (first, second) = (one.expect("INVITE"), two.expect("INVITE"));
    one.answer(&first, 180);
    two.answer(&second, 603);
    let cancelled = one.expect("CANCEL");
    one.answer(&cancelled, 200);
    one.answer(&first, 487);
    let answer = ann.final_answer(&invite, SOON).expect("an end");
    assert_eq!(answer.status(), Some(603), "RFC 3261 §16.7, step 5");
}

#[test]
fn phones_are_tried_in_the_order_of_q() {
    let server = Server::with(&["ann", "bob"]);
    server.add_device("bob", "bob-2");
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut last = Phone::udp(&server, "bob");
    last.contact_parameters = ";q=0.2".to_owned();
    let mut last = last.registered();
    let mut first = Phone::udp(&server, "bob").device("bob-2");
    first.contact_parameters = ";q=0.9".to_owned();
    let mut first = first.registered();
    let invite = ann.invite(&server.uri("bob"));
    let offered = first.expect("INVITE");
    last.expect_silence("INVITE", QUIET);
    first.answer(&offered, 486);
    let offered = last.expect("INVITE");
    last.accept(&offered);
    ann.expect_answer(&invite, 200);
}

#[test]
fn max_forwards_proxy_require_and_merged_requests() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let bob_uri = server.uri("bob");
    let draft = ann.draft("INVITE", &bob_uri).but("Max-Forwards", "0");
    assert_eq!(ann.ask(draft).status(), Some(483));
    let draft = ann
        .draft("INVITE", &bob_uri)
        .with("Proxy-Require", "nothing-known, also-not");
    let answer = ann.ask(draft);
    assert_eq!(answer.status(), Some(420));
    let unsupported = answer.values("Unsupported").join(",");
    assert!(unsupported.contains("nothing-known") && unsupported.contains("also-not"));
    bob.expect_silence("INVITE", QUIET);

    // The same request by another path: same From tag, Call-ID and CSeq, another branch.
    let invite = ann.invite(&bob_uri);
    let offered = bob.expect("INVITE");
    bob.answer(&offered, 180);
    let merged = invite
        .clone()
        .but("Via", ann.via())
        .without("Proxy-Authorization");
    let challenged = ann.transact(&merged);
    let answer = match ann.challenge(&challenged) {
        None => challenged,
        Some((challenge, header)) => {
            let merged = merged.but("Via", ann.via());
            let merged = merged
                .clone()
                .with(header, ann.credentials(&merged, &challenge, 1));
            ann.transact(&merged)
        }
    };
    assert_eq!(answer.status(), Some(482), "RFC 3261 §8.2.2.2: {answer:?}");
    bob.expect_silence("INVITE", QUIET);
}

#[test]
fn a_loop_ends() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    // Bob's contact is bob's own address at the server: whoever follows it comes back.
    let mut bob = Phone::udp(&server, "bob");
    bob.contact = format!("sip:bob@{}", server.udp());
    let mut bob = bob.registered();
    let draft = ann.draft("INVITE", &server.uri("bob"));
    let answer = ann.ask(draft);
    assert!(
        matches!(answer.status(), Some(404 | 480 | 482 | 483 | 403)),
        "{answer:?}"
    );
    assert_eq!(bob.register(0).status(), Some(200), "the server is well");
}

#[test]
fn options_are_answered_by_the_server_and_passed_to_people() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let own = ann.draft("OPTIONS", &format!("sip:{}", server.udp()));
    let answer = ann.ask(own);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    let passed = ann.draft("OPTIONS", &server.uri("bob"));
    let passed = ann.start(passed);
    let got = bob.expect("OPTIONS");
    bob.answer(&got, 200);
    ann.expect_answer(&passed, 200);
}

#[test]
fn unknown_methods_and_headers_pass() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let body: Vec<u8> = (0..=255).collect();
    let draft = ann
        .draft("GREET", &server.uri("bob"))
        .with("X-Any", "thing");
    let sent = ann.start(draft.with_body("application/x", body.clone()));
    let got = bob.expect("GREET");
    assert_eq!((got.header("X-Any"), &got.body), (Some("thing"), &body));
    bob.answer(&got, 200);
    ann.expect_answer(&sent, 200);
}

#[test]
fn a_forged_route_into_a_dialog_is_refused() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let (caller, _) = establish(&server, &mut ann, &mut bob);
    // A stranger saw the route of this dialog and uses it for one of his own.
    let mut eve = Phone::udp(&server, "eve");
    let mut forged = caller.clone();
    forged.call_id = word();
    for method in ["INFO", "INVITE", "BYE"] {
        let mut request = forged.request(&eve, method);
        request.set("From", "<sip:eve@elsewhere.test>;tag=x");
        let answer = eve.transact(&request);
        assert!(answer.status() >= Some(400), "{answer:?}");
        bob.expect_silence(method, Duration::from_millis(100));
    }
}

#[test]
fn strict_routers_stand_on_either_side() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let mut router = Phone::udp(&server, "router");
    let (mut caller, _) = establish(&server, &mut ann, &mut bob);
    // A strict router before us has put our URI where the target stood (RFC 3261 §16.4).
    let mut turned = caller.request(&ann, "INFO");
    let target = turned.start.split(' ').nth(1).unwrap().to_owned();
    let own = turned.header("Route").unwrap().to_owned();
    let uri = own.trim_start_matches('<').split('>').next().unwrap();
    turned.start = format!("INFO {uri} SIP/2.0");
    turned.set("Route", format!("<{target}>"));
    ann.send(&turned);
    let got = bob.expect("INFO");
    assert_eq!(got.start, format!("INFO {target} SIP/2.0"));
    assert_eq!(got.header("Route"), None, "{got:?}");
    bob.answer(&got, 200);
    ann.expect_answer(&turned, 200);
    // One behind us finds itself there, and the target last (§16.6 step 6).
    let strict = format!("sip:router@{}", router.local());
    let mut info = caller.request(&ann, "INFO");
    info.set("Route", format!("{own}, <{strict}>"));
    ann.send(&info);
    let got = router.expect("INFO");
    assert_eq!(got.start, format!("INFO {strict} SIP/2.0"));
    assert_eq!(got.values("Route"), [format!("<{target}>")]);
    router.answer(&got, 200);
    ann.expect_answer(&info, 200);
}

#[test]
fn a_second_invite_in_the_dialog_passes() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::tcp(&server, "bob").registered();
    let (mut caller, mut callee) = establish(&server, &mut ann, &mut bob);
    let hold = caller
        .request(&ann, "INVITE")
        .with("Contact", format!("<{}>", ann.contact));
    ann.send(&hold);
    let got = bob.expect("INVITE");
    bob.answer(&got, 488);
    let answer = ann.expect_answer(&hold, 488);
    ann.ack_failure(&hold, &answer);
    let update = callee
        .request(&bob, "UPDATE")
        .with("Contact", format!("<{}>", bob.contact));
    bob.send(&update);
    let got = ann.expect("UPDATE");
    ann.answer(&got, 200);
    bob.expect_answer(&update, 200);
}

#[test]
fn a_reliable_provisional_answer_and_its_prack_pass() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::tcp(&server, "bob").registered();
    let invite = ann.invite(&server.uri("bob"));
    let offered = bob.expect("INVITE");
    bob.answer_with(&offered, 183, |answer| {
        answer.with("Require", "100rel").with("RSeq", "7")
    });
    let early = ann.expect_answer(&invite, 183);
    assert_eq!(early.header("RSeq"), Some("7"), "{early:?}");
    let mut dialog = Dialog::caller(&invite, &early);
    let prack = dialog
        .request(&ann, "PRACK")
        .with("RAck", format!("7 {} INVITE", invite.cseq()));
    ann.send(&prack);
    let got = bob.expect("PRACK");
    assert_eq!(got.header("RAck"), prack.header("RAck"));
    bob.answer(&got, 200);
    ann.expect_answer(&prack, 200);
    bob.accept(&offered);
    ann.expect_answer(&invite, 200);
}

#[test]
fn an_answer_is_repeated_for_a_repeated_invite() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let invite = ann.invite(&server.uri("bob"));
    let offered = bob.expect("INVITE");
    bob.answer(&offered, 180);
    ann.expect_answer(&invite, 180);
    ann.send(&invite);
    ann.expect_answer(&invite, 180);
    assert!(
        bob.take(QUIET, |m: &Message| m.method() == "INVITE")
            .is_none()
    );
    bob.answer(&offered, 486);
    let answer = ann.expect_answer(&invite, 486);
    // Without ACK it comes again (Timer G), with it it stops (RFC 3261 §17.2.1).
    ann.expect_answer(&invite, 486);
    ann.ack_failure(&invite, &answer);
    let _ = ann.take(Duration::from_millis(100), |m| m.status() == Some(486));
    let more = ann.take(Duration::from_secs(2), |m| m.status() == Some(486));
    assert_eq!(more, None);
    let _ = again;
}
