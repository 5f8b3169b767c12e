//! What phones say beside texts, and what they are told: typing (RFC 3994), what became of messages (RFC 5438), CPIM
//! (RFC 3862), the lines of a group, and messages that no phone takes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sidetone_tests::{Api, Message, Phone, Server};

const CPIM: &str = "message/cpim";
const COMPOSING: &str = "application/im-iscomposing+xml";

fn send(phone: &mut Phone, to: &str, kind: &str, body: &str) -> Option<u16> {
    let draft = phone.draft("MESSAGE", &format!("sip:{to}@example.test"));
    phone.ask(draft.with_body(kind, body)).status()
}

fn composing(state: &str, refresh_s: u32) -> String {
    format!(
        "<?xml version=\"1.0\"?><isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\">\
         <state>{state}</state><refresh>{refresh_s}</refresh></isComposing>"
    )
}

/// A text in CPIM, with what its sender wants to be told.
fn wrapped(from: &str, to: &str, name: &str, wanted: &str, text: &str) -> String {
    format!(
        "From: <sip:{from}@example.test>\r\nTo: <sip:{to}@example.test>\r\n\
         DateTime: 2026-11-22T11:20:13Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: {name}\r\nimdn.Disposition-Notification: {wanted}\r\n\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n{text}"
    )
}

fn imdn(from: &str, name: &str, what: &str) -> String {
    format!(
        "From: <sip:{from}@example.test>\r\nTo: <sip:x@example.test>\r\n\r\n\
         Content-Type: message/imdn+xml\r\nContent-Disposition: notification\r\n\r\n\
         <imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"><message-id>{name}</message-id>\
         <datetime>2026-11-22T11:20:13Z</datetime>{what}</imdn>"
    )
}

const DELIVERED: &str =
    "<delivery-notification><status><delivered/></status></delivery-notification>";
const DISPLAYED: &str =
    "<display-notification><status><displayed/></status></display-notification>";
const FAILED: &str = "<delivery-notification><status><error/></status></delivery-notification>";

/// Takes the next MESSAGE.
fn next(phone: &mut Phone) -> Message {
    let message = phone.expect("MESSAGE");
    phone.answer(&message, 200);
    message
}

/// A header of a message in CPIM.
fn within(message: &Message, name: &str) -> String {
    let text = message.text();
    let mut lines = text.lines();
    let value = lines.find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(": ")
            .map(str::to_owned)
    });
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn begin(api: &Api, members: &[&str]) -> (Value, String) {
    let begun = api.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": members }),
    );
    let path = format!("/api/v1/conversations/{}", begun["id"]);
    (begun["id"].clone(), path)
}

fn say(api: &Api, path: &str, text: &str) -> u64 {
    let said = api.ask(
        "POST",
        &format!("{path}/messages"),
        &json!({ "text": text }),
    );
    said["seq"].as_u64().expect("a number")
}

#[test]
fn who_writes_is_seen_by_phone_and_api_and_ends_by_itself() {
    let server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let (id, path) = begin(&ann, &["bob"]);
    let mut bob = Phone::udp(&server, "bob").registered();
    let mut news = ann.events(None);
    assert_eq!(
        send(&mut bob, "ann", COMPOSING, &composing("active", 60)),
        Some(200)
    );
    let told = news.expect("typing");
    assert_eq!(
        (&told["conversation"], &told["active"]),
        (&id, &json!(true))
    );
    assert_eq!(told["member"], "bob@example.test");
    assert_eq!(
        send(&mut bob, "ann", COMPOSING, &composing("idle", 60)),
        Some(200)
    );
    assert_eq!(news.expect("typing")["active"], false);
    // Nobody says that it has ended, and so does what is written.
    assert_eq!(
        send(&mut bob, "ann", COMPOSING, &composing("active", 1)),
        Some(200)
    );
    assert_eq!(news.expect("typing")["active"], true);
    assert_eq!(news.expect("typing")["active"], false, "after a second");
    send(&mut bob, "ann", COMPOSING, &composing("active", 60));
    assert_eq!(news.expect("typing")["active"], true);
    assert_eq!(bob.message("ann", "hi").status(), Some(202));
    assert_eq!(news.expect("typing")["active"], false);
    // The other way round, for the phone has shown that it knows it.
    let ask = json!({ "active": true });
    ann.ask("POST", &format!("{path}/typing"), &ask);
    let told = next(&mut bob);
    assert_eq!(told.header("Content-Type"), Some(COMPOSING));
    assert!(
        told.text().contains("<state>active</state>"),
        "{}",
        told.text()
    );
    assert!(told.header("From").unwrap_or_default().contains("sip:ann@"));
    ann.ask(
        "POST",
        &format!("{path}/typing"),
        &json!({ "active": false }),
    );
    assert!(next(&mut bob).text().contains("<state>idle</state>"));
    let log = ann.ask("GET", &format!("{path}/events"), &Value::Null);
    assert_eq!(
        log.as_array().map(Vec::len),
        Some(2),
        "nothing is kept: {log}"
    );
}

#[test]
fn a_phone_that_has_not_shown_that_it_knows_it_is_not_told_who_writes() {
    let server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let (_, path) = begin(&ann, &["bob"]);
    let mut bob = Phone::udp(&server, "bob").registered();
    ann.ask(
        "POST",
        &format!("{path}/typing"),
        &json!({ "active": true }),
    );
    say(&ann, &path, "plain");
    let first = next(&mut bob);
    assert_eq!(
        first.text(),
        "plain",
        "what came before it would have come first"
    );
    assert_eq!(first.header("Content-Type"), Some("text/plain"));
}

#[test]
fn what_a_phone_says_of_a_message_is_a_receipt() {
    let server = Server::with(&["ann", "bob", "eve"]);
    let ann = Api::sign_in(&server, "ann");
    let (_, path) = begin(&ann, &["bob"]);
    let mut bob = Phone::tcp(&server, "bob").registered();
    let mut eve = Phone::udp(&server, "eve").registered();
    let speaks = wrapped("bob", "ann", "b1", "", "I speak CPIM");
    assert_eq!(
        send(&mut bob, "ann", CPIM, &speaks),
        Some(202),
        "ann has no phone there"
    );
    let mut news = ann.events(None);
    let seq = say(&ann, &path, "hei");
    let got = next(&mut bob);
    assert_eq!(got.header("Content-Type"), Some(CPIM));
    assert_eq!(within(&got, "From"), "\"ann\" <sip:ann@example.test>");
    assert_eq!(within(&got, "To"), "<sip:bob@example.test>");
    assert!(within(&got, "imdn.Disposition-Notification").contains("display"));
    let name = within(&got, "imdn.Message-ID");
    let receipt = news.expect("receipt");
    assert_eq!(
        (&receipt["delivered"], &receipt["displayed"]),
        (&json!(seq), &json!(0))
    );
    // What is none of its business, is forged, or is said of one's own, changes nothing.
    for (user, forged) in [
        ("eve", name.as_str()),
        ("bob", "c1-999"),
        ("bob", "c999-1"),
        ("bob", "forged"),
        ("bob", "c1-2"),
    ] {
        let phone = if user == "eve" { &mut eve } else { &mut bob };
        let body = imdn(user, forged, DISPLAYED);
        assert_eq!(send(phone, "ann", CPIM, &body), Some(200));
    }
    assert_eq!(
        send(&mut eve, "ann", CPIM, &imdn("bob", &name, DISPLAYED)),
        Some(403)
    );
    assert_eq!(
        send(&mut bob, "ann", CPIM, &imdn("bob", &name, DISPLAYED)),
        Some(200)
    );
    let receipt = news.expect("receipt");
    assert_eq!(receipt["member"], "bob@example.test");
    assert_eq!(receipt["displayed"], seq, "the first that came of all this");
    let log = ann.ask("GET", &format!("{path}/events"), &Value::Null);
    assert_eq!(
        log.as_array().map(Vec::len),
        Some(3),
        "the receipts are no events"
    );
}

#[test]
fn a_phone_is_told_what_became_of_its_message_also_after_a_kill() {
    let mut server = Server::with(&["ann", "bob"]);
    let bob = Api::sign_in(&server, "bob");
    let mut ann = Phone::udp(&server, "ann").registered();
    let wanted = "positive-delivery, display";
    for name in ["first", "second"] {
        let body = wrapped("ann", "bob", name, wanted, name);
        assert_eq!(send(&mut ann, "bob", CPIM, &body), Some(202));
    }
    let list = bob.ask("GET", "/api/v1/conversations", &Value::Null);
    let path = format!("/api/v1/conversations/{}", list[0]["id"]);
    let log = bob.ask("GET", &format!("{path}/events"), &Value::Null);
    assert_eq!(
        log[1]["text"], "first",
        "as it was written, not as it was wrapped"
    );
    let receipts = format!("{path}/receipts");
    bob.ask("POST", &receipts, &json!({ "seq": 2 }));
    let first = next(&mut ann);
    assert_eq!(report(&first), ("first".to_owned(), "delivered"));
    is_report_of_bob(&first);
    // Said again, it is not told again; what comes next is told, even where the phone is off meanwhile.
    bob.ask("POST", &receipts, &json!({ "seq": 2 }));
    assert_eq!(ann.register(0).status(), Some(200));
    bob.ask("POST", &receipts, &json!({ "seq": 3, "displayed": true }));
    server.kill();
    server.up();
    bob.ask("POST", &receipts, &json!({ "seq": 3, "displayed": true }));
    assert_eq!(ann.register(600).status(), Some(200));
    // What the phone had may come again after a kill, by the same Call-ID.
    let mut told_of = BTreeMap::from([(first.call_id().to_owned(), report(&first))]);
    while told_of.len() < 4 {
        let message = next(&mut ann);
        told_of.insert(message.call_id().to_owned(), report(&message));
    }
    let mut told_of: Vec<(String, &str)> = told_of.into_values().collect();
    told_of.sort();
    let expected = [
        ("first", "delivered"),
        ("first", "displayed"),
        ("second", "delivered"),
        ("second", "displayed"),
    ];
    assert_eq!(
        told_of,
        expected.map(|(name, what)| (name.to_owned(), what))
    );
    assert_eq!(bob_is_told_nothing(&bob), 2);
    ann.expect_silence("MESSAGE", Duration::from_millis(500));
}

/// A report as RFC 5438 has it, which asks for none itself.
fn is_report_of_bob(message: &Message) {
    let text = message.text();
    assert_eq!(message.header("Content-Type"), Some(CPIM));
    assert!(
        text.contains("<datetime>2026-11-22T11:20:13Z</datetime>"),
        "{text}"
    );
    assert!(!text.contains("Disposition-Notification:"), "{text}");
    let from = message.header("From").unwrap_or_default();
    assert!(from.contains("sip:bob@"), "{from}");
}

/// Of which message, and what.
fn report(message: &Message) -> (String, &'static str) {
    let text = message.text();
    let name = text.split("<message-id>").nth(1).expect("a name");
    let name = name.split('<').next().expect("a name").to_owned();
    match text.contains("<displayed/>") {
        true => (name, "displayed"),
        false => (name, "delivered"),
    }
}

/// Reports are no events: the unread count of their author's other side stays.
fn bob_is_told_nothing(bob: &Api) -> u64 {
    let list = bob.ask("GET", "/api/v1/conversations", &Value::Null);
    list[0]["last_seq"].as_u64().map_or(0, |last| last - 1)
}

#[test]
fn between_two_phones_reports_go_both_ways_and_end_there() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let wanted = "positive-delivery, negative-delivery, display";
    let body = wrapped("bob", "ann", "b1", wanted, "one");
    assert_eq!(send(&mut bob, "ann", CPIM, &body), Some(200));
    assert_eq!(
        next(&mut ann).text(),
        "one",
        "she has not shown that she speaks it"
    );
    assert!(next(&mut bob).text().contains("<delivered/>"));
    let body = wrapped("ann", "bob", "a1", wanted, "two");
    assert_eq!(send(&mut ann, "bob", CPIM, &body), Some(200));
    let name = within(&next(&mut bob), "imdn.Message-ID");
    assert!(next(&mut ann).text().contains("<delivered/>"));
    for what in [DELIVERED, DISPLAYED, DISPLAYED, FAILED, FAILED] {
        assert_eq!(
            send(&mut bob, "ann", CPIM, &imdn("bob", &name, what)),
            Some(200)
        );
    }
    let told = next(&mut ann).text();
    assert!(told.contains("<message-id>a1</message-id>") && told.contains("<displayed/>"));
    // A forged sender, a name that is none: nothing comes back but the answer.
    assert_eq!(
        send(&mut bob, "ann", CPIM, &wrapped("ann", "ann", "x", "", "y")),
        Some(403)
    );
    assert_eq!(send(&mut bob, "ann", CPIM, "no CPIM"), Some(400));
    ann.expect_silence("MESSAGE", Duration::from_millis(500));
    bob.expect_silence("MESSAGE", Duration::from_millis(200));
}

#[test]
fn what_no_phone_takes_has_failed_and_stays_so() {
    let mut server = Server::with(&["ann", "bob"]);
    server.add_device("bob", "bob2");
    let ann = Api::sign_in(&server, "ann");
    let (_, path) = begin(&ann, &["bob"]);
    let mut first = Phone::udp(&server, "bob").registered();
    let mut second = Phone::udp(&server, "bob").device("bob2").registered();
    let mut phone = Phone::udp(&server, "ann").registered();
    let mut news = ann.events(None);
    let body = wrapped("ann", "bob", "a1", "negative-delivery", "refused");
    assert_eq!(send(&mut phone, "bob", CPIM, &body), Some(200));
    let seq = news.event("text")["seq"].clone();
    let message = first.expect("MESSAGE");
    first.answer(&message, 415);
    phone.expect_silence("MESSAGE", Duration::from_millis(300));
    let message = second.expect("MESSAGE");
    second.answer(&message, 606);
    let receipt = news.expect("receipt");
    assert_eq!(receipt["failed"], json!({ "first": seq, "last": seq }));
    assert_eq!(receipt["member"], "bob@example.test");
    let told = next(&mut phone).text();
    assert!(
        told.contains("<failed/>") && told.contains("<message-id>a1</message-id>"),
        "{told}"
    );
    // The next one goes its way.
    let next_seq = say(&ann, &path, "taken");
    assert_eq!(next(&mut second).text(), "taken");
    assert_eq!(news.expect("receipt")["delivered"], next_seq);
    server.down();
    server.up();
    let shown = ann.ask("GET", &path, &Value::Null);
    let members = shown["members"].as_array().expect("members");
    let bob = members
        .iter()
        .find(|one| one["address"] == "bob@example.test");
    assert_eq!(
        bob.expect("bob")["failed"],
        json!([{ "first": seq, "last": seq }])
    );
}

#[test]
fn phones_in_a_group_are_told_who_comes_and_goes() {
    let server = Server::with(&["ann", "bob", "chen"]);
    let ann = Api::sign_in(&server, "ann");
    let chen = Api::sign_in(&server, "chen");
    let mut bob = Phone::udp(&server, "bob").registered();
    let group = json!({ "members": ["bob"], "subject": "Team", "name": "team" });
    let begun = ann.ask("POST", "/api/v1/conversations", &group);
    let path = format!("/api/v1/conversations/{}", begun["id"]);
    let mut news = ann.events(None);
    ann.ask(
        "POST",
        &format!("{path}/members"),
        &json!({ "address": "chen" }),
    );
    let line = next(&mut bob);
    assert_eq!(line.text(), "chen was added by ann");
    assert!(
        line.header("From")
            .unwrap_or_default()
            .starts_with("<sip:team@example.test>")
    );
    ann.ask("PATCH", &path, &json!({ "subject": "Lunch" }));
    assert_eq!(next(&mut bob).text(), "ann changed the subject: Lunch");
    chen.ask("DELETE", &format!("{path}/members/chen"), &Value::Null);
    assert_eq!(next(&mut bob).text(), "chen left");
    // The API has each once, as what it is.
    for kind in ["member_added", "subject_changed", "member_removed"] {
        news.event(kind);
    }
    let log = ann.ask("GET", &format!("{path}/events"), &Value::Null);
    assert_eq!(log.as_array().map(Vec::len), Some(4), "{log}");
    // Who is not in it says nothing to it.
    let mut eve = Phone::udp(&server, "chen").registered();
    assert_eq!(
        send(&mut eve, "team", COMPOSING, &composing("active", 60)),
        Some(403)
    );
    assert_eq!(eve.message("team", "let me in").status(), Some(403));
    assert_eq!(
        send(&mut eve, "chen", COMPOSING, &composing("active", 60)),
        Some(403)
    );
    let again = ann.ask("GET", &format!("{path}/events"), &Value::Null);
    assert_eq!(again, log);
}

#[test]
fn what_a_phone_understands_is_known_after_a_restart() {
    let mut server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let (_, path) = begin(&ann, &["bob"]);
    let mut bob = Phone::udp(&server, "bob").registered();
    let speaks = wrapped("bob", "ann", "b1", "", "I speak CPIM");
    assert_eq!(send(&mut bob, "ann", CPIM, &speaks), Some(202));
    server.down();
    server.up();
    say(&ann, &path, "still?");
    let got = next(&mut bob);
    assert_eq!(got.header("Content-Type"), Some(CPIM));
    assert!(got.text().ends_with("\r\n\r\nstill?"), "{}", got.text());
}
