//! MESSAGE (RFC 3428): kept before it is acknowledged, delivered once to each device.

use std::time::Duration;

use sidetone_tests::{Phone, Server};

const QUIET: Duration = Duration::from_millis(700);

fn taken(status: Option<u16>) -> bool {
    matches!(status, Some(200 | 202))
}

#[test]
fn two_people_write_to_each_other() {
    for (a, b) in [
        (
            Phone::udp as fn(&Server, &str) -> Phone,
            Phone::udp as fn(&Server, &str) -> Phone,
        ),
        (Phone::udp, Phone::tcp),
        (Phone::tls, Phone::udp),
    ] {
        let server = Server::with(&["ann", "bob"]);
        let (mut ann, mut bob) = (
            a(&server, "ann").registered(),
            b(&server, "bob").registered(),
        );
        let answer = ann.message("bob", "Grüße 🙂");
        assert!(taken(answer.status()), "{answer:?}");
        let message = bob.expect("MESSAGE");
        bob.answer(&message, 200);
        assert_eq!(message.text(), "Grüße 🙂");
        assert_eq!(message.header("Content-Type"), Some("text/plain"));
        assert!(
            message
                .header("From")
                .unwrap_or_default()
                .contains("sip:ann@example.test")
        );
        assert!(taken(bob.message("ann", "back").status()));
        assert_eq!(ann.texts(1), ["back"]);
        bob.expect_silence("MESSAGE", QUIET);
    }
}

#[test]
fn who_is_away_gets_everything_in_order_and_once() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let sent: Vec<String> = (0..30).map(|n| format!("number {n}")).collect();
    for text in &sent {
        let answer = ann.message("bob", text);
        assert!(taken(answer.status()), "{answer:?}");
    }
    let mut bob = Phone::udp(&server, "bob").registered();
    assert_eq!(bob.texts(30), sent);
    assert_eq!(bob.register(600).status(), Some(200));
    bob.expect_silence("MESSAGE", QUIET);
}

#[test]
fn a_restart_in_between_loses_nothing() {
    let mut server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann");
    for n in 0..5 {
        assert!(taken(ann.message("bob", &format!("before {n}")).status()));
    }
    server.kill();
    server.up();
    ann.forget_nonces();
    assert!(taken(ann.message("bob", "after").status()));
    let mut bob = Phone::tcp(&server, "bob").registered();
    let expected = [
        "before 0", "before 1", "before 2", "before 3", "before 4", "after",
    ];
    assert_eq!(bob.texts(6), expected);
}

#[test]
fn every_device_gets_it_once() {
    let server = Server::with(&["ann", "bob"]);
    server.add_device("bob", "bob-2");
    let mut ann = Phone::udp(&server, "ann");
    let mut desk = Phone::udp(&server, "bob").registered();
    assert!(taken(ann.message("bob", "one").status()));
    assert_eq!(desk.texts(1), ["one"]);
    assert!(taken(ann.message("bob", "two").status()));
    assert_eq!(desk.texts(1), ["two"]);
    let mut soft = Phone::tcp(&server, "bob").device("bob-2").registered();
    assert_eq!(soft.texts(2), ["one", "two"], "the second device was away");
    assert!(taken(ann.message("bob", "three").status()));
    assert_eq!(desk.texts(1), ["three"]);
    assert_eq!(soft.texts(1), ["three"]);
    assert_eq!(desk.register(600).status(), Some(200));
    assert_eq!(soft.register(600).status(), Some(200));
    desk.expect_silence("MESSAGE", QUIET);
    soft.expect_silence("MESSAGE", QUIET);
}

#[test]
fn a_person_without_a_phone_gets_it_with_the_first() {
    let server = Server::with(&["ann"]);
    server.add_user("carol");
    let mut ann = Phone::udp(&server, "ann");
    let answer = ann.message("carol", "welcome");
    assert!(taken(answer.status()), "{answer:?}");
    server.add_device("carol", "carol");
    let mut carol = Phone::udp(&server, "carol").registered();
    assert_eq!(carol.texts(1), ["welcome"]);
}

#[test]
fn after_a_restart_a_phone_gets_what_was_kept_without_registering() {
    let mut server = Server::with(&["ann", "bob"]);
    server.add_user("carol");
    let mut ann = Phone::udp(&server, "ann");
    // One message waits for carol's first phone, one for bob's, which does not answer.
    assert!(taken(ann.message("carol", "kept").status()));
    server.add_device("carol", "carol");
    let mut phones = [
        Phone::udp(&server, "carol").registered(),
        Phone::udp(&server, "bob").registered(),
    ];
    assert!(taken(ann.message("bob", "kept").status()));
    let before = phones.each_mut().map(|phone| phone.expect("MESSAGE"));
    server.down();
    server.up();
    for (phone, before) in phones.iter_mut().zip(before) {
        let limit = Duration::from_secs(10);
        let message = phone.take(limit, |m| {
            m.method() == "MESSAGE" && m.branch() != before.branch()
        });
        let message = message.expect("the message, from the new process");
        phone.answer(&message, 200);
        assert_eq!(message.text(), "kept");
        assert_eq!(message.call_id(), before.call_id(), "recognisable");
    }
}

#[test]
fn a_retransmission_is_not_a_second_message() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann");
    let mut bob = Phone::udp(&server, "bob").registered();
    assert!(taken(ann.message("bob", "first").status()));
    let draft = ann
        .draft("MESSAGE", &server.uri("bob"))
        .with_body("text/plain", "once");
    let sent = ann.start(draft);
    for _ in 0..3 {
        ann.send(&sent);
    }
    let answer = ann
        .final_answer(&sent, Duration::from_secs(5))
        .expect("an answer");
    assert!(taken(answer.status()), "{answer:?}");
    ann.send(&sent);
    let again = ann
        .final_answer(&sent, Duration::from_secs(5))
        .expect("the same answer again");
    assert_eq!(again, answer);
    assert_eq!(bob.texts(2), ["first", "once"]);
    bob.expect_silence("MESSAGE", QUIET);
}

#[test]
fn a_retransmission_after_a_crash_is_not_a_second_message() {
    let mut server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann");
    let draft = ann
        .draft("MESSAGE", &server.uri("bob"))
        .with_body("text/plain", "once");
    let sent = ann.start(draft);
    let answer = ann
        .final_answer(&sent, Duration::from_secs(5))
        .expect("an answer");
    assert!(taken(answer.status()), "{answer:?}");
    server.kill();
    server.up();
    // As if the answer had been lost: the phone sends the very same bytes again.
    ann.send(&sent);
    let again = ann
        .final_answer(&sent, Duration::from_secs(5))
        .expect("an answer");
    assert!(taken(again.status()), "{again:?}");
    let mut bob = Phone::udp(&server, "bob").registered();
    assert_eq!(bob.texts(1), ["once"]);
    bob.expect_silence("MESSAGE", QUIET);
}

#[test]
fn who_does_not_answer_gets_it_again() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann");
    let mut bob = Phone::udp(&server, "bob").registered();
    // Bob's phone is there, and dumb: it gets the message and does not answer.
    assert!(taken(ann.message("bob", "are you there?").status()));
    bob.expect("MESSAGE");
    drop(bob);
    // Another phone of the same device gets it at once, and not when the first is given up.
    let mut bob = Phone::udp(&server, "bob").registered();
    assert_eq!(bob.texts(1), ["are you there?"]);
    bob.expect_silence("MESSAGE", QUIET);
}

#[test]
fn a_refused_message_does_not_block_the_next() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann");
    let mut bob = Phone::udp(&server, "bob").registered();
    assert!(taken(ann.message("bob", "strange").status()));
    let message = bob.expect("MESSAGE");
    bob.answer(&message, 415);
    assert!(taken(ann.message("bob", "plain").status()));
    assert_eq!(bob.texts(1), ["plain"]);
}

#[test]
fn sixty_four_kibibytes_of_binary_pass_unchanged() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::tcp(&server, "ann");
    let mut bob = Phone::tcp(&server, "bob").registered();
    let body: Vec<u8> = (0..65_536u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2])
        .collect();
    let draft = ann.draft("MESSAGE", &server.uri("bob"));
    let answer = ann.ask(draft.with_body("application/octet-stream", body.clone()));
    assert!(taken(answer.status()), "{answer:?}");
    let message = bob.expect("MESSAGE");
    bob.answer(&message, 200);
    assert_eq!(
        message.header("Content-Type"),
        Some("application/octet-stream")
    );
    assert!(message.body == body, "{} bytes came", message.body.len());
}

#[test]
fn unknown_people_are_404() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann");
    let answer = ann.message("nobody", "hello?");
    assert_eq!(answer.status(), Some(404), "{answer:?}");
}

#[test]
fn a_disabled_person_neither_sends_nor_loses() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann");
    let mut bob = Phone::udp(&server, "bob").registered();
    server.cli(&["user", "disable", "ann@example.test"], "");
    let refused = sidetone_tests::until(Duration::from_secs(5), || {
        ann.forget_nonces();
        let status = ann.message("bob", "am I allowed?").status();
        bob.take(Duration::from_millis(50), |m| m.method() == "MESSAGE")
            .map(|m| bob.answer(&m, 200));
        (!taken(status)).then_some(status)
    });
    assert!(refused.is_some(), "a running server sees the change");
}
