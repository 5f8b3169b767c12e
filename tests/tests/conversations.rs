//! Conversations: a desk phone, a softphone and the API in one of them.

use std::time::Duration;

use serde_json::{Value, json};
use sidetone_tests::{Api, Phone, Server};

fn taken(status: Option<u16>) -> bool {
    matches!(status, Some(200 | 202))
}

fn texts(events: &Value) -> Vec<&str> {
    let all = events.as_array().expect("a list");
    all.iter()
        .filter_map(|event| event["text"].as_str())
        .collect()
}

#[test]
fn a_phone_and_the_api_are_in_one_conversation() {
    let server = Server::with(&["ann", "bob"]);
    let bob = Api::sign_in(&server, "bob");
    let mut news = bob.events(None);
    let mut ann = Phone::udp(&server, "ann").registered();
    assert!(taken(ann.message("bob", "hei, 你好").status()));
    let event = news.event("text");
    assert_eq!(event["text"], "hei, 你好");
    assert_eq!(event["author"], "ann@example.test");
    assert_eq!(event["seq"], 2, "the first is the beginning");
    let path = format!("/api/v1/conversations/{}", event["conversation"]);
    bob.ask(
        "POST",
        &format!("{path}/messages"),
        &json!({ "text": "from the web" }),
    );
    let message = ann.expect("MESSAGE");
    ann.answer(&message, 200);
    assert_eq!(message.text(), "from the web");
    let receipt = news.expect("receipt");
    assert_eq!(receipt["member"], "ann@example.test");
    assert_eq!(receipt["delivered"], 3);
    assert!(
        message
            .header("From")
            .unwrap_or_default()
            .contains("sip:bob@example.test")
    );
    let log = bob.ask("GET", &format!("{path}/events"), &Value::Null);
    assert_eq!(texts(&log), ["hei, 你好", "from the web"]);
    let list = bob.ask("GET", "/api/v1/conversations", &Value::Null);
    assert_eq!(list[0]["kind"], "pair");
    assert_eq!(list[0]["last_seq"], 3);
}

#[test]
fn a_third_person_sees_from_where_the_adder_chose() {
    let server = Server::with(&["ann", "bob", "chen"]);
    let (ann, chen) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "chen"));
    let mut bob = Phone::udp(&server, "bob").registered();
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    let path = format!("/api/v1/conversations/{}", begun["id"]);
    for text in ["one", "two"] {
        ann.ask(
            "POST",
            &format!("{path}/messages"),
            &json!({ "text": text }),
        );
    }
    assert_eq!(bob.texts(2), ["one", "two"]);
    let (status, _) = chen.call("GET", &format!("{path}/events"), &Value::Null);
    assert_eq!(status, 404, "not hers");
    let add = json!({ "address": "chen", "history": { "last": 1 } });
    ann.ask("POST", &format!("{path}/members"), &add);
    ann.ask(
        "POST",
        &format!("{path}/messages"),
        &json!({ "text": "three" }),
    );
    let seen = chen.ask("GET", &format!("{path}/events?after=0"), &Value::Null);
    assert_eq!(texts(&seen), ["two", "three"]);
    // The phone is written to by the group now, and answers to it.
    assert_eq!(bob.texts(1), ["chen was added by ann"]);
    let message = bob.expect("MESSAGE");
    bob.answer(&message, 200);
    assert_eq!(message.text(), "ann: three");
    let group = begun["uri"].as_str().expect("an address");
    assert!(message.header("From").unwrap_or_default().contains(group));
    let user = group
        .trim_start_matches("sip:")
        .split('@')
        .next()
        .expect("a user");
    let mut news = chen.events(None);
    let to_ann_alone = bob.message("ann", "not for chen").status();
    assert_eq!(to_ann_alone, Some(403), "a third would read it");
    assert!(taken(bob.message(user, "four").status()));
    assert_eq!(news.event("text")["text"], "four");
    // Who has left sees no more.
    ann.ask("DELETE", &format!("{path}/members/chen"), &Value::Null);
    ann.ask(
        "POST",
        &format!("{path}/messages"),
        &json!({ "text": "five" }),
    );
    let seen = chen.ask("GET", &format!("{path}/events?after=0"), &Value::Null);
    assert_eq!(texts(&seen), ["two", "three", "four"]);
    let (status, _) = chen.call("POST", &format!("{path}/messages"), &json!({ "text": "x" }));
    assert_eq!(status, 404);
}

#[test]
fn a_session_that_comes_back_gets_what_it_missed_once() {
    let mut server = Server::with(&["ann", "bob"]);
    let (ann, bob) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "bob"));
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    let path = format!("/api/v1/conversations/{}/messages", begun["id"]);
    let mut news = bob.events(None);
    ann.ask("POST", &path, &json!({ "text": "0" }));
    let last = news.event("text")["id"].as_i64().expect("a number");
    drop(news);
    for n in 1..10 {
        ann.ask("POST", &path, &json!({ "text": n.to_string() }));
    }
    server.kill();
    server.up();
    let mut news = bob.events(Some(last));
    for n in 1..10 {
        assert_eq!(news.event("text")["text"], n.to_string());
    }
    ann.ask("POST", &path, &json!({ "text": "10" }));
    assert_eq!(news.event("text")["text"], "10");
}

#[test]
fn what_is_said_twice_with_one_key_is_said_once() {
    let server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    let path = format!("/api/v1/conversations/{}", begun["id"]);
    let say = || {
        let body = json!({ "text": "once" });
        let key = "Idempotency-Key: k1\r\n";
        ann.call_with("POST", &format!("{path}/messages"), &body, key)
    };
    let (first, second) = (say(), say());
    assert_eq!(first, second);
    ann.ask(
        "POST",
        &format!("{path}/messages"),
        &json!({ "text": "next" }),
    );
    let log = ann.ask("GET", &format!("{path}/events"), &Value::Null);
    assert_eq!(texts(&log), ["once", "next"]);
    // The key is one of this conversation.
    let other = json!({ "members": ["bob"], "subject": "other" });
    let other = ann.ask("POST", "/api/v1/conversations", &other);
    let elsewhere = format!("/api/v1/conversations/{}/messages", other["id"]);
    let key = "Idempotency-Key: k1\r\n";
    let said = ann.call_with("POST", &elsewhere, &json!({ "text": "once" }), key);
    assert_ne!(said.1["id"], first.1["id"]);
    let mut socket = ann.events(None);
    for _ in 0..2 {
        socket.say(&json!({ "type": "say", "conversation": begun["id"], "text": "by the socket", "key": "k2" }));
        assert_eq!(socket.expect("said")["key"], "k2");
    }
    let log = ann.ask("GET", &format!("{path}/events"), &Value::Null);
    assert_eq!(texts(&log), ["once", "next", "by the socket"]);
}

/// Says numbers until the server is gone; those that were acknowledged, and the first that was not.
fn say_until_gone(api: &Api, path: &str, first: usize) -> usize {
    (first..)
        .find(|n| {
            let body = json!({ "text": n.to_string() });
            let key = format!("Idempotency-Key: number {n}\r\n");
            let answer = api.try_call("POST", path, &body, &key);
            answer.is_none_or(|(status, _)| status != 201)
        })
        .unwrap_or(first)
}

#[test]
fn what_the_api_acknowledged_survives_a_kill_once_and_in_order() {
    const ROUNDS: u64 = 5;
    let mut server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    let path = format!("/api/v1/conversations/{}", begun["id"]);
    let messages = format!("{path}/messages");
    let mut next = 0;
    for round in 0..ROUNDS {
        next = std::thread::scope(|scope| {
            let talking = scope.spawn(|| say_until_gone(&ann, &messages, next));
            std::thread::sleep(Duration::from_millis(40 + 37 * round));
            server.kill();
            talking.join().expect("a number")
        });
        server.up();
    }
    // What had no answer is said again with its key, once.
    let body = json!({ "text": next.to_string() });
    let key = format!("Idempotency-Key: number {next}\r\n");
    assert_eq!(ann.call_with("POST", &messages, &body, &key).0, 201);
    let mut told = Vec::new();
    let mut after = 0;
    loop {
        let page = ann.ask(
            "GET",
            &format!("{path}/events?after={after}&limit=500"),
            &Value::Null,
        );
        let Some(last) = page.as_array().and_then(|page| page.last()) else {
            break;
        };
        after = last["seq"].as_u64().expect("a number");
        told.extend(texts(&page).into_iter().map(str::to_owned));
    }
    let all: Vec<String> = (0..=next).map(|n| n.to_string()).collect();
    assert_eq!(told, all);
    let mut bob = Phone::udp(&server, "bob").registered();
    assert_eq!(bob.texts(all.len()), all, "the phone gets each once");
}

#[test]
fn what_may_not_be_is_refused_and_changes_nothing() {
    let server = Server::with(&["ann", "bob", "chen"]);
    let (ann, chen) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "chen"));
    let begin = |members: Value| {
        ann.call(
            "POST",
            "/api/v1/conversations",
            &json!({ "members": members }),
        )
    };
    assert_eq!(begin(json!(["ann"])).0, 403, "with oneself");
    assert_eq!(begin(json!(["nobody"])).0, 422);
    let mut phone = Phone::udp(&server, "ann").registered();
    assert_eq!(phone.message("ann", "to myself").status(), Some(403));
    let group = json!({ "members": ["bob"], "subject": "Team", "name": "team" });
    let begun = ann.ask("POST", "/api/v1/conversations", &group);
    assert_eq!(begun["uri"], "sip:team@example.test");
    let (status, problem) = ann.call("POST", "/api/v1/conversations", &group);
    assert_eq!((status, &problem["title"]), (403, &json!("Refused")));
    assert_eq!(problem["type"], "urn:sidetone:problem:refused");
    let mut stranger = Phone::udp(&server, "chen").registered();
    assert_eq!(stranger.message("team", "let me in").status(), Some(403));
    let path = format!("/api/v1/conversations/{}", begun["id"]);
    for (method, path, body) in [
        ("GET", path.clone(), Value::Null),
        ("GET", format!("{path}/events"), Value::Null),
        ("POST", format!("{path}/messages"), json!({ "text": "x" })),
        (
            "POST",
            format!("{path}/members"),
            json!({ "address": "chen" }),
        ),
        ("POST", format!("{path}/receipts"), json!({ "seq": 1 })),
        ("POST", format!("{path}/typing"), json!({ "active": true })),
        (
            "GET",
            "/api/v1/conversations/999999".to_owned(),
            Value::Null,
        ),
    ] {
        assert_eq!(chen.call(method, &path, &body).0, 404, "{method} {path}");
    }
    let log = ann.ask("GET", &format!("{path}/events"), &Value::Null);
    assert_eq!(
        log.as_array().map(Vec::len),
        Some(1),
        "the beginning: {log}"
    );
}

#[test]
fn edits_reactions_and_retractions_follow_what_they_are_about() {
    let server = Server::with(&["ann", "bob"]);
    let (ann, bob) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "bob"));
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    let path = format!("/api/v1/conversations/{}/messages", begun["id"]);
    let said = ann.ask("POST", &path, &json!({ "text": "teh" }));
    let one = format!("{path}/{}", said["seq"]);
    let mut news = bob.events(None);
    ann.ask("PATCH", &one, &json!({ "text": "the" }));
    assert_eq!(news.event("edit")["text"], "the");
    assert_eq!(bob.call("PATCH", &one, &json!({ "text": "mine" })).0, 403);
    bob.ask(
        "POST",
        &format!("{one}/reactions"),
        &json!({ "emoji": "👍" }),
    );
    assert_eq!(news.event("reaction")["emoji"], "👍");
    ann.ask("DELETE", &one, &Value::Null);
    assert_eq!(news.event("retraction")["target"], said["seq"]);
    assert_eq!(
        bob.call(
            "POST",
            &format!("{one}/reactions"),
            &json!({ "emoji": "👍" })
        )
        .0,
        403
    );
}

#[test]
fn receipts_and_typing_are_seen_by_the_other() {
    let server = Server::with(&["ann", "bob"]);
    let (ann, bob) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "bob"));
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    let path = format!("/api/v1/conversations/{}", begun["id"]);
    let said = ann.ask(
        "POST",
        &format!("{path}/messages"),
        &json!({ "text": "hi" }),
    );
    let mut news = ann.events(None);
    bob.ask(
        "POST",
        &format!("{path}/typing"),
        &json!({ "active": true }),
    );
    assert_eq!(news.expect("typing")["member"], "bob@example.test");
    let seen = json!({ "seq": said["seq"], "displayed": true });
    bob.ask("POST", &format!("{path}/receipts"), &seen);
    let receipt = news.expect("receipt");
    assert_eq!(receipt["displayed"], said["seq"]);
    let unseen = json!({ "seq": 99, "displayed": true });
    assert_eq!(
        bob.call("POST", &format!("{path}/receipts"), &unseen).0,
        404
    );
}

#[test]
fn what_one_may_see_is_found_and_nothing_else() {
    let server = Server::with(&["ann", "bob", "chen"]);
    let (ann, chen) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "chen"));
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    let path = format!("/api/v1/conversations/{}", begun["id"]);
    let say = |text: &str| {
        let body = json!({ "text": text });
        ann.ask("POST", &format!("{path}/messages"), &body)["seq"].clone()
    };
    say("Prisen på båten er høy");
    say("我们明天讨论价格问题");
    let gone = say("a secret price");
    let edited = say("a wrong price");
    let one = |seq: &Value| format!("{path}/messages/{seq}");
    ann.ask("DELETE", &one(&gone), &Value::Null);
    ann.ask(
        "PATCH",
        &one(&edited),
        &json!({ "text": "the right price" }),
    );
    let find = |who: &Api, words: &str| {
        let words: String = words.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let found = who.ask("GET", &format!("/api/v1/search?q={words}"), &Value::Null);
        texts(&found)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for words in ["båten", "BATEN", "høy pris", "Prisen"] {
        assert_eq!(find(&ann, words), ["Prisen på båten er høy"], "{words}");
    }
    assert_eq!(find(&ann, "价格"), ["我们明天讨论价格问题"]);
    assert!(find(&ann, "格价").is_empty(), "not in this order");
    assert_eq!(find(&ann, "price"), ["the right price"]);
    assert!(find(&ann, "secret").is_empty() && find(&ann, "wrong").is_empty());
    assert!(find(&ann, "\" OR *").is_empty());
    let add = json!({ "address": "chen", "history": "from_now" });
    ann.ask("POST", &format!("{path}/members"), &add);
    assert!(find(&chen, "price").is_empty(), "before her horizon");
    say("a price for all");
    assert_eq!(find(&chen, "price"), ["a price for all"]);
    // Another wording of what she may not see is not for her either.
    ann.ask("PATCH", &one(&edited), &json!({ "text": "the last price" }));
    assert_eq!(find(&chen, "price"), ["a price for all"]);
    let seen = chen.ask("GET", &format!("{path}/events?after=0"), &Value::Null);
    assert_eq!(texts(&seen), ["a price for all"]);
    let missed = chen.events(Some(0)).event("text");
    assert_eq!(missed["text"], "a price for all");
}

#[test]
fn presence_says_what_would_ring_and_what_one_says() {
    let server = Server::with(&["ann", "bob"]);
    let (ann, bob) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "bob"));
    let mut news = ann.events(None);
    news.say(&json!({ "type": "watch", "addresses": ["bob"] }));
    let told = news.expect("presence");
    assert_eq!(told["presence"]["availability"], "offline");
    let mut until = |availability: &str, note: &str| loop {
        let told = news.expect("presence");
        let presence = &told["presence"];
        if presence["availability"] == availability && presence["note"] == note {
            break presence.clone();
        }
    };
    let mut phone = Phone::udp(&server, "bob").registered();
    let rings = until("available", "");
    assert_eq!(rings["would_ring"].as_array().map(Vec::len), Some(1));
    let away = json!({ "availability": "away", "note": "lunsj" });
    bob.ask("PUT", "/api/v1/me/presence", &away);
    until("away", "lunsj");
    let nonsense = json!({ "availability": "asleep" });
    assert_eq!(bob.call("PUT", "/api/v1/me/presence", &nonsense).0, 422);
    bob.ask("PUT", "/api/v1/me/presence", &json!({}));
    until("available", "");
    assert_eq!(phone.register(0).status(), Some(200));
    until("offline", "");
    let asked = ann.ask("GET", "/api/v1/presence?of=bob,ann", &Value::Null);
    assert_eq!(asked[0]["availability"], "offline");
    assert_eq!(asked[1]["availability"], "available", "by her session");
}
