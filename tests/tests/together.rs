//! One conversation on everything at once: baresip by UDP, linphonec by TLS, sip.js by WebSocket, a second phone, and
//! the API; two people, then three.

use serde_json::{Value, json};
use sidetone_tests::baresip::Baresip;
use sidetone_tests::browser::Browser;
use sidetone_tests::linphone::Linphone;
use sidetone_tests::{Api, Phone, Server};

fn texts(api: &Api, path: &str) -> Vec<String> {
    let log = api.ask("GET", &format!("{path}/events?after=0"), &Value::Null);
    let events = log.as_array().into_iter().flatten();
    let text = |event: &Value| event["text"].as_str().map(str::to_owned);
    events.filter_map(text).collect()
}

fn say(api: &Api, path: &str, text: &str) {
    let body = json!({ "text": text });
    api.ask("POST", &format!("{path}/messages"), &body);
}

fn two_talk((ann, bob): (&Api, &Api), (desk, soft): (&mut Baresip, &mut Linphone), path: &str) {
    let mut news = bob.events(None);
    let mark = soft.mark();
    desk.message("one");
    soft.says(mark, &["one"]);
    assert_eq!(news.event("text")["text"], "one");
    soft.message("sip:ann@example.test", "two");
    desk.received("two");
    assert_eq!(news.event("text")["text"], "two");
    say(bob, path, "three");
    desk.received("three");
    let mark = soft.mark();
    say(ann, path, "four");
    soft.says(mark, &["four"]);
}

#[test]
fn two_and_then_three_talk_on_every_kind_of_device() {
    let server = Server::with(&["ann", "bob", "carol"]);
    server.add_device("bob", "bob2");
    let [ann, bob, carol] = ["ann", "bob", "carol"].map(|name| Api::sign_in(&server, name));
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    let path = format!("/api/v1/conversations/{}", begun["id"]);
    let group = begun["uri"].as_str().expect("an address").to_owned();
    let user = group.trim_start_matches("sip:").split('@').next();
    let user = user.expect("a user");
    let mut desk = Baresip::start(&server, "ann", "bob");
    let mut soft = Linphone::start(&server, "bob", "tls");
    let mut second = Phone::udp(&server, "bob").device("bob2").registered();
    let mut browser = Browser::start(&server);
    desk.registered();
    soft.registered();
    browser.register(&server, "carol");

    two_talk((&ann, &bob), (&mut desk, &mut soft), &path);
    desk.quit();

    let mark = soft.mark();
    let add = json!({ "address": "carol", "history": { "last": 2 } });
    ann.ask("POST", &format!("{path}/members"), &add);
    soft.says(mark, &["carol was added by ann"]);
    assert_eq!(browser.received("carol was added by ann"), group);

    let mut desk = Baresip::start(&server, "ann", user);
    desk.registered();
    let mark = soft.mark();
    browser.message(&group, "five");
    desk.received("carol: five");
    soft.says(mark, &["carol: five"]);
    soft.message(&group, "six");
    assert_eq!(browser.received("bob: six"), group);
    desk.received("bob: six");
    let mark = soft.mark();
    desk.message("seven");
    assert_eq!(browser.received("ann: seven"), group);
    soft.says(mark, &["ann: seven"]);
    let mark = soft.mark();
    say(&carol, &path, "eight");
    desk.received("carol: eight");
    soft.says(mark, &["carol: eight"]);

    let all = [
        "one", "two", "three", "four", "five", "six", "seven", "eight",
    ];
    assert_eq!(texts(&ann, &path), all);
    assert_eq!(texts(&bob, &path), all);
    assert_eq!(texts(&carol, &path), all[2..], "from where the adder chose");
    // The second phone has what the first one has, in the same order.
    let brought = [
        "one",
        "four",
        "carol was added by ann",
        "carol: five",
        "ann: seven",
        "carol: eight",
    ];
    assert_eq!(second.texts(brought.len()), brought);
    desk.quit();
    soft.quit();
    browser.quit();
}

#[test]
fn a_device_that_was_off_gets_what_it_missed_in_order_and_once() {
    let server = Server::with(&["ann", "bob"]);
    server.add_device("bob", "bob2");
    let mut ann = Phone::tcp(&server, "ann").registered();
    let mut on = Phone::udp(&server, "bob").registered();
    let off = Phone::udp(&server, "bob").device("bob2");
    let all: Vec<String> = (0..70).map(|n| n.to_string()).collect();
    for text in &all {
        assert_eq!(ann.message("bob", text).status(), Some(200));
        assert_eq!(on.texts(1), [text.as_str()]);
    }
    let mut off = off.registered();
    assert_eq!(off.texts(all.len()), all);
    assert_eq!(ann.message("bob", "last").status(), Some(200));
    assert_eq!(
        (on.texts(1), off.texts(1)),
        (vec!["last".to_owned()], vec!["last".to_owned()])
    );
    assert_eq!(off.register(600).status(), Some(200));
    off.expect_silence("MESSAGE", std::time::Duration::from_millis(300));
}

#[test]
fn what_linphone_says_of_a_message_is_taken() {
    let server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    let mut soft = Linphone::start(&server, "bob", "udp");
    soft.registered();
    let path = format!("/api/v1/conversations/{}/messages", begun["id"]);
    let mut news = ann.events(None);
    let said = ann.ask("POST", &path, &json!({ "text": "hei" }));
    assert_eq!(news.expect("receipt")["delivered"], said["seq"]);
    // It says so by a notification of its own, too: bare, deflated, and named by our Call-ID.
    let answered = sidetone_tests::until(std::time::Duration::from_secs(15), || {
        let log = soft.log();
        let at = log.find("Content-Type: message/imdn+xml")?;
        let call_id = log[..at].rsplit("Call-ID: ").next()?.lines().next()?;
        let mut answers = log[at..].split("SIP/2.0 ").skip(1);
        let is_final = |answer: &&str| answer.contains(call_id) && !answer.starts_with("407");
        answers.find(is_final).map(|answer| answer[..3].to_owned())
    });
    assert_eq!(answered.as_deref(), Some("200"), "{}", soft.log());
    soft.quit();
}
