//! Contacts: lists, requests, blocks, and what each lets others do and see.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sidetone_tests::server::secret;
use sidetone_tests::sip::phone::word;
use sidetone_tests::{Api, Options, Phone, Server};

const NOTHING: Value = Value::Null;

/// Two domains: ann, bob and carl in the first, eve in the second.
fn server() -> Server {
    let domains = vec!["example.test".into(), "other.test".into()];
    let server = Options::new()
        .set("domains", toml::Value::Array(domains))
        .users(&["ann", "bob", "carl"])
        .start();
    server.cli(&["user", "add", "eve@other.test", "--name", "Eve"], "");
    server
}

fn standing(api: &Api, address: &str) -> (String, String) {
    let list = api.ask("GET", "/api/v1/contacts", &NOTHING);
    let mut all = list.as_array().expect("a list").iter();
    let one = all
        .find(|one| one["address"] == address)
        .expect("on the list");
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    (word(&one["state"]), word(&one["presence"]["availability"]))
}

fn refused(answer: (u16, Value)) -> String {
    assert_eq!(answer.0, 403, "{}", answer.1);
    answer.1["type"].as_str().expect("a type").to_owned()
}

#[test]
fn colleagues_see_each_other_without_asking() {
    let server = server();
    let (ann, bob) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "bob"));
    let mut news = ann.events(None);
    let ask = json!({ "address": "bob" });
    ann.ask("POST", "/api/v1/contacts", &ask);
    let told = news.expect("contact");
    assert_eq!(told["address"], "bob@example.test");
    assert_eq!(told["change"], "added");
    let seen = standing(&ann, "bob@example.test");
    assert_eq!(seen, ("visible".to_owned(), "offline".to_owned()));
    let _session = bob.events(None);
    let seen = standing(&ann, "bob@example.test");
    assert_eq!(seen, ("visible".to_owned(), "available".to_owned()));
    ann.ask("DELETE", "/api/v1/contacts/bob", &NOTHING);
    assert_eq!(news.expect("contact")["change"], "removed");
    let list = ann.ask("GET", "/api/v1/contacts", &NOTHING);
    assert_eq!(list, json!([]));
    assert_eq!(ann.call("DELETE", "/api/v1/contacts/bob", &NOTHING).0, 404);
    assert_eq!(
        ann.call("POST", "/api/v1/contacts", &json!({ "address": "ann" }))
            .0,
        422,
        "oneself"
    );
    assert_eq!(
        ann.call("POST", "/api/v1/contacts", &json!({ "address": "nobody" }))
            .0,
        422
    );
}

#[test]
fn people_of_another_domain_ask_and_are_answered() {
    let mut server = server();
    let (ann, eve) = (
        Api::sign_in(&server, "ann"),
        Api::sign_in(&server, "eve@other.test"),
    );
    let (mut to_ann, mut to_eve) = (ann.events(None), eve.events(None));
    eve.ask(
        "POST",
        "/api/v1/contacts",
        &json!({ "address": "ann@example.test" }),
    );
    let asked = to_ann.expect("contact");
    assert_eq!(asked["change"], "asked");
    assert_eq!(asked["address"], "eve@other.test");
    let requests = ann.ask("GET", "/api/v1/contacts/requests", &NOTHING);
    assert_eq!(
        requests,
        json!({ "incoming": [{ "address": "eve@other.test", "name": "Eve" }], "outgoing": [] })
    );
    let requests = eve.ask("GET", "/api/v1/contacts/requests", &NOTHING);
    assert_eq!(requests["outgoing"][0]["address"], "ann@example.test");
    let before = standing(&eve, "ann@example.test");
    assert_eq!(before, ("pending".to_owned(), "offline".to_owned()));
    assert_eq!(to_eve.expect("contact")["change"], "added");
    ann.ask("PUT", "/api/v1/contacts/requests/eve@other.test", &NOTHING);
    assert_eq!(to_ann.expect("contact")["change"], "answered");
    assert_eq!(to_eve.expect("contact")["change"], "accepted");
    let seen = ("visible".to_owned(), "available".to_owned());
    assert_eq!(standing(&eve, "ann@example.test"), seen);
    // Who asked agreed to be seen.
    ann.ask(
        "POST",
        "/api/v1/contacts",
        &json!({ "address": "eve@other.test" }),
    );
    assert_eq!(standing(&ann, "eve@other.test"), seen);
    let none = json!({ "incoming": [], "outgoing": [] });
    assert_eq!(ann.ask("GET", "/api/v1/contacts/requests", &NOTHING), none);
    let (status, _) = ann.call("PUT", "/api/v1/contacts/requests/eve@other.test", &NOTHING);
    assert_eq!(status, 404, "answered once");
    // It is on disk.
    drop((to_ann, to_eve));
    server.kill();
    server.up();
    assert_eq!(standing(&eve, "ann@example.test").0, "visible");
    // And taken back.
    ann.ask("DELETE", "/api/v1/contacts/eve@other.test", &NOTHING);
    assert_eq!(standing(&eve, "ann@example.test").0, "hidden");
}

#[test]
fn a_request_can_be_refused_or_withdrawn() {
    let server = server();
    let (ann, eve) = (
        Api::sign_in(&server, "ann"),
        Api::sign_in(&server, "eve@other.test"),
    );
    let (mut to_ann, mut to_eve) = (ann.events(None), eve.events(None));
    let ask = json!({ "address": "ann@example.test" });
    eve.ask("POST", "/api/v1/contacts", &ask);
    assert_eq!(to_ann.expect("contact")["change"], "asked");
    assert_eq!(to_eve.expect("contact")["change"], "added");
    ann.ask(
        "DELETE",
        "/api/v1/contacts/requests/eve@other.test",
        &NOTHING,
    );
    assert_eq!(to_eve.expect("contact")["change"], "refused");
    assert_eq!(to_ann.expect("contact")["change"], "answered");
    assert_eq!(standing(&eve, "ann@example.test").0, "hidden");
    eve.ask("POST", "/api/v1/contacts", &ask);
    assert_eq!(to_ann.expect("contact")["change"], "asked");
    eve.ask("DELETE", "/api/v1/contacts/ann@example.test", &NOTHING);
    assert_eq!(to_ann.expect("contact")["change"], "withdrawn");
    let requests = ann.ask("GET", "/api/v1/contacts/requests", &NOTHING);
    assert_eq!(requests["incoming"], json!([]));
}

#[test]
fn a_block_wins() {
    let server = server();
    let (ann, bob, carl) = (
        Api::sign_in(&server, "ann"),
        Api::sign_in(&server, "bob"),
        Api::sign_in(&server, "carl"),
    );
    let mut phone = Phone::udp(&server, "bob").registered();
    let pair = bob.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["ann"] }),
    );
    let messages = format!("/api/v1/conversations/{}/messages", pair["id"]);
    bob.ask("POST", &messages, &json!({ "text": "before" }));
    let mut news = ann.events(None);
    ann.ask("PUT", "/api/v1/blocks/bob", &NOTHING);
    let told = news.expect("contact");
    assert_eq!(
        (&told["change"], &told["address"]),
        (&json!("blocked"), &json!("bob@example.test"))
    );
    let blocked = ann.ask("GET", "/api/v1/blocks", &NOTHING);
    assert_eq!(blocked[0]["address"], "bob@example.test");
    // Nothing is said, by whichever way; neither does who blocks write into the void.
    let say = json!({ "text": "after" });
    let kind = "urn:sidetone:problem:blocked";
    assert_eq!(refused(bob.call("POST", &messages, &say)), kind);
    assert_eq!(refused(ann.call("POST", &messages, &say)), kind);
    let react = json!({ "emoji": "👍" });
    assert_eq!(
        refused(bob.call("POST", &format!("{messages}/2/reactions"), &react)),
        kind
    );
    assert_eq!(
        refused(bob.call("PATCH", &format!("{messages}/2"), &say)),
        kind
    );
    assert_eq!(phone.message("ann", "by phone").status(), Some(403));
    // Nobody is seen.
    let state = bob.ask("GET", "/api/v1/presence?of=ann", &NOTHING);
    assert_eq!(state[0]["availability"], "offline");
    let state = carl.ask("GET", "/api/v1/presence?of=ann", &NOTHING);
    assert_eq!(state[0]["availability"], "available");
    // Nobody is added, nor written to anew.
    let group = json!({ "members": ["carl"], "subject": "three" });
    let group = bob.ask("POST", "/api/v1/conversations", &group);
    let members = format!("/api/v1/conversations/{}/members", group["id"]);
    let add = json!({ "address": "ann" });
    assert_eq!(refused(bob.call("POST", &members, &add)), kind);
    let group = json!({ "members": ["ann", "carl"], "subject": "three" });
    assert_eq!(
        refused(bob.call("POST", "/api/v1/conversations", &group)),
        kind
    );
    let pair = json!({ "members": ["ann"] });
    assert_eq!(
        refused(bob.call("POST", "/api/v1/conversations", &pair)),
        kind
    );
    // A third may add her: the group is not bob's.
    carl.ask("POST", &members, &add);
    ann.ask("DELETE", "/api/v1/blocks/bob", &NOTHING);
    assert_eq!(ann.call("DELETE", "/api/v1/blocks/bob", &NOTHING).0, 404);
    bob.ask("POST", &messages, &say);
    assert_eq!(news.event("text")["text"], "after");
    let state = bob.ask("GET", "/api/v1/presence?of=ann", &NOTHING);
    assert_eq!(state[0]["availability"], "available");
}

#[test]
fn who_is_blocked_asks_in_vain() {
    let server = server();
    let (ann, eve) = (
        Api::sign_in(&server, "ann"),
        Api::sign_in(&server, "eve@other.test"),
    );
    ann.ask("PUT", "/api/v1/blocks/eve@other.test", &NOTHING);
    ann.ask("PUT", "/api/v1/blocks/spam@elsewhere.example", &NOTHING);
    eve.ask(
        "POST",
        "/api/v1/contacts",
        &json!({ "address": "ann@example.test" }),
    );
    assert_eq!(standing(&eve, "ann@example.test").0, "pending", "as ever");
    let requests = ann.ask("GET", "/api/v1/contacts/requests", &NOTHING);
    assert_eq!(requests["incoming"], json!([]));
    let own = json!({ "address": "eve@other.test" });
    assert_eq!(
        refused(ann.call("POST", "/api/v1/contacts", &own)),
        "urn:sidetone:problem:blocked"
    );
    ann.ask("DELETE", "/api/v1/blocks/eve@other.test", &NOTHING);
    let requests = ann.ask("GET", "/api/v1/contacts/requests", &NOTHING);
    assert_eq!(requests["incoming"][0]["address"], "eve@other.test");
}

/// A SUBSCRIBE to presence by somebody of the second domain.
fn watch(phone: &mut Phone, uri: &str) {
    let request = phone
        .draft("SUBSCRIBE", uri)
        .without("From")
        .with("From", format!("<sip:eve@other.test>;tag={}", word()))
        .with("Event", "presence")
        .with("Accept", "application/pidf+xml")
        .with("Expires", "600");
    let answer = phone.ask(request);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
}

fn notified(phone: &mut Phone, state: &str, basic: &str) {
    let notify = phone.expect("NOTIFY");
    phone.answer(&notify, 200);
    let told = notify.header("Subscription-State").unwrap_or_default();
    assert!(told.starts_with(state), "{notify:?}");
    assert!(notify.text().contains(basic), "{notify:?}");
}

#[test]
fn a_phone_of_another_domain_waits_for_an_answer() {
    let server = server();
    let device = ["device", "add", "eve@other.test", "--sip-user", "eve"];
    let device = [&device[..], &["--sip-password-stdin"]].concat();
    server.cli(&device, &secret("eve"));
    let ann = Api::sign_in(&server, "ann");
    let mut there = ann.events(None);
    let mut phone = Phone::udp(&server, "eve");
    watch(&mut phone, "sip:ann@example.test");
    notified(&mut phone, "pending", "<basic>closed</basic>");
    // To watch is to ask.
    let asked = there.expect("contact");
    assert_eq!(asked["change"], "asked");
    assert_eq!(asked["address"], "eve@other.test");
    ann.ask("PUT", "/api/v1/contacts/requests/eve@other.test", &NOTHING);
    notified(&mut phone, "active", "<basic>open</basic>");
    ann.ask("PUT", "/api/v1/blocks/eve@other.test", &NOTHING);
    notified(&mut phone, "active", "<basic>closed</basic>");
}

#[test]
fn a_presence_is_over_at_its_end() {
    let server = server();
    let (ann, bob) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "bob"));
    let _there = bob.events(None);
    let mut news = ann.events(None);
    news.say(&json!({ "type": "watch", "addresses": ["bob"] }));
    let mut phone = Phone::udp(&server, "ann").registered();
    let request = phone
        .draft("SUBSCRIBE", &server.uri("bob"))
        .with("Event", "presence")
        .with("Accept", "application/pidf+xml")
        .with("Expires", "600");
    assert_eq!(phone.ask(request).status(), Some(200));
    notified(&mut phone, "active", "<basic>open</basic>");
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let until = since.expect("a clock") + Duration::from_millis(1_500);
    let until_ms = u64::try_from(until.as_millis()).expect("a time");
    let away = json!({ "availability": "away", "note": "out", "until_ms": until_ms });
    bob.ask("PUT", "/api/v1/me/presence", &away);
    let mut until = |note: &str| loop {
        let told = news.expect("presence");
        if told["presence"]["note"] == note {
            break told["presence"]["availability"].clone();
        }
    };
    assert_eq!(until("out"), "away");
    // Nobody does anything now.
    assert_eq!(until(""), "available");
    let mut told = phone.expect("NOTIFY");
    phone.answer(&told, 200);
    if told.text().contains("<rpid:away/>") {
        told = phone.expect("NOTIFY");
        phone.answer(&told, 200);
    }
    assert!(!told.text().contains("<rpid:away/>"), "{told:?}");
}
