//! What somebody meets who asks too much, and what is whose: names, groups, wordings.

use serde_json::{Value, json};
use sidetone_tests::{Api, Options, Server};

const NOTHING: Value = Value::Null;

fn path_of(begun: &Value) -> String {
    format!("/api/v1/conversations/{}", begun["id"])
}

fn kind(answer: &Value) -> &str {
    answer["type"].as_str().unwrap_or_default()
}

#[test]
fn who_calls_too_often_waits() {
    let server = Options::new()
        .users(&["ann", "bob"])
        .set("limits.account_requests_per_second", 2)
        .limited()
        .start();
    let (ann, bob) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "bob"));
    let refused = (0..200).find_map(|_| {
        let (status, answer) = ann.call("GET", "/api/v1/conversations", &NOTHING);
        (status != 200).then_some((status, answer))
    });
    let (status, answer) = refused.expect("a bound");
    assert_eq!(status, 429, "{answer}");
    let other = bob.call("GET", "/api/v1/conversations", &NOTHING);
    assert_eq!(other.0, 200, "another account has its own");
}

#[test]
fn an_account_has_so_many_sessions() {
    let server = Options::new()
        .users(&["ann"])
        .set("limits.sessions_per_account", 2)
        .start();
    let ann = Api::sign_in(&server, "ann");
    let (_one, two) = (ann.events(None), ann.events(None));
    assert_eq!(ann.upgrade_status(), 429);
    drop(two);
    let again = sidetone_tests::until(std::time::Duration::from_secs(5), || {
        (ann.upgrade_status() == 101).then_some(())
    });
    assert!(again.is_some(), "there is room again");
}

#[test]
fn a_page_is_bounded_in_octets() {
    let server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    let path = path_of(&begun);
    let large = "å".repeat(25_000);
    for _ in 0..60 {
        ann.ask(
            "POST",
            &format!("{path}/messages"),
            &json!({ "text": large }),
        );
    }
    let page = |query: &str| {
        let page = ann.ask("GET", &format!("{path}/events?limit=500{query}"), &NOTHING);
        let events = page.as_array().expect("a list");
        let seqs = events
            .iter()
            .map(|event| event["seq"].as_u64().expect("a number"));
        seqs.collect::<Vec<_>>()
    };
    // 61 events of 50,000 octets do not fit, and none is left out between pages.
    let mut forwards = Vec::new();
    loop {
        let part = page(&format!("&after={}", forwards.last().copied().unwrap_or(0)));
        assert!(part.len() < 61);
        if part.is_empty() {
            break;
        }
        forwards.extend(part);
    }
    assert_eq!(forwards, (1..=61).collect::<Vec<u64>>());
    let mut backwards = page("");
    while backwards.first() != Some(&1) {
        let part = page(&format!("&before={}", backwards[0]));
        assert!(!part.is_empty() && part.len() < 61);
        backwards.splice(0..0, part);
    }
    assert_eq!(backwards, forwards);
    // A session that comes back gets all of it, too.
    let mut news = ann.events(Some(0));
    for seq in 2..=61 {
        assert_eq!(news.event("text")["seq"], seq);
    }
}

#[test]
fn the_list_of_conversations_has_pages() {
    let server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let mut begun: Vec<Value> = (0..5)
        .map(|_| {
            let ask = json!({ "members": ["bob"], "subject": "s" });
            ann.ask("POST", "/api/v1/conversations", &ask)["id"].clone()
        })
        .collect();
    begun.reverse();
    let mut listed: Vec<Value> = Vec::new();
    loop {
        let after = listed.last().map(|id| format!("&after={id}"));
        let query = format!("?limit=2{}", after.unwrap_or_default());
        let page = ann.ask("GET", &format!("/api/v1/conversations{query}"), &NOTHING);
        let page = page.as_array().expect("a list");
        if page.is_empty() {
            break;
        }
        assert!(
            page.iter()
                .all(|one| one["members"].as_array().map(Vec::len) == Some(2))
        );
        listed.extend(page.iter().map(|one| one["id"].clone()));
    }
    assert_eq!(listed, begun, "the last used first");
}

#[test]
fn wordings_that_are_no_more_are_blank_for_others() {
    let server = Server::with(&["ann", "bob", "carl"]);
    let (ann, bob, carl) = (
        Api::sign_in(&server, "ann"),
        Api::sign_in(&server, "bob"),
        Api::sign_in(&server, "carl"),
    );
    let ask = json!({ "members": ["bob", "carl"], "subject": "s" });
    let path = path_of(&ann.ask("POST", "/api/v1/conversations", &ask));
    let messages = format!("{path}/messages");
    let say = |text: &str| bob.ask("POST", &messages, &json!({ "text": text }))["seq"].clone();
    let (worded, gone) = (say("teh"), say("secret"));
    bob.ask(
        "PATCH",
        &format!("{messages}/{worded}"),
        &json!({ "text": "the" }),
    );
    bob.ask(
        "PATCH",
        &format!("{messages}/{gone}"),
        &json!({ "text": "still secret" }),
    );
    bob.ask("DELETE", &format!("{messages}/{gone}"), &NOTHING);
    let log = |who: &Api| {
        let log = who.ask("GET", &format!("{path}/events?after=1"), &NOTHING);
        let texts = log.as_array().expect("a list").iter().filter_map(|event| {
            let withdrawn = event["withdrawn"].as_str().unwrap_or("-");
            Some(format!("{} {withdrawn}", event["text"].as_str()?))
        });
        texts.collect::<Vec<_>>()
    };
    let whole = [
        "teh superseded",
        "secret retracted",
        "the -",
        "still secret retracted",
    ];
    let blank = [" superseded", " retracted", "the -", " retracted"];
    assert_eq!(log(&bob), whole, "his own");
    assert_eq!(log(&ann), whole, "the group is hers");
    assert_eq!(log(&carl), blank);
    let mut missed = carl.events(Some(0));
    assert_eq!(missed.event("text")["text"], "");
    assert_eq!(missed.event("text")["withdrawn"], "retracted");
    // Of two, both are owners: neither reads what the other took back.
    let pair = path_of(&ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    ));
    let said = bob.ask(
        "POST",
        &format!("{pair}/messages"),
        &json!({ "text": "oops" }),
    );
    bob.ask(
        "DELETE",
        &format!("{pair}/messages/{}", said["seq"]),
        &NOTHING,
    );
    let seen = ann.ask("GET", &format!("{pair}/events?after=1"), &NOTHING);
    assert_eq!(seen[0]["text"], "");
}

#[test]
fn a_name_is_one_persons_or_one_groups() {
    let server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let group = |name: &str| {
        let ask = json!({ "members": ["bob"], "name": name });
        ann.call("POST", "/api/v1/conversations", &ask)
    };
    assert_eq!(group("crew").0, 201);
    assert_eq!(group("Crew").0, 403);
    assert_eq!(group("BOB").0, 403);
    for name in ["crew@example.test", "CREW@example.test"] {
        let added = server.try_cli(&["user", "add", name], "");
        assert!(!added.status.success(), "{name}");
    }
}

#[test]
fn an_address_that_is_given_again_inherits_nothing() {
    let server = Server::with(&["ann", "bob", "carl"]);
    let (ann, bob) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "bob"));
    let pair = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    ann.ask(
        "POST",
        &format!("{}/messages", path_of(&pair)),
        &json!({ "text": "to the old bob" }),
    );
    let ask = json!({ "members": ["bob", "carl"], "subject": "s" });
    let group = path_of(&ann.ask("POST", "/api/v1/conversations", &ask));
    ann.ask("PUT", "/api/v1/blocks/bob", &NOTHING);
    let mut news = ann.events(None);
    drop(bob);
    server.cli(&["user", "remove", "bob@example.test"], "");
    let left = news.event("member_removed");
    assert_eq!(left["member"], "bob@example.test");
    // What is settled after that is settled before the next look at the directory.
    let gone = sidetone_tests::until(std::time::Duration::from_secs(5), || {
        let blocks = ann.ask("GET", "/api/v1/blocks", &NOTHING);
        (blocks == json!([])).then_some(())
    });
    assert!(gone.is_some(), "the block was of somebody else");
    server.cli(&["user", "add", "bob@example.test"], "");
    let bob = Api::sign_in(&server, "bob");
    let listed = bob.ask("GET", "/api/v1/conversations", &NOTHING);
    assert_eq!(listed, json!([]));
    assert_eq!(bob.call("GET", &group, &NOTHING).0, 404);
    assert_eq!(bob.call("GET", &path_of(&pair), &NOTHING).0, 404);
    let mine = ann.ask("GET", &group, &NOTHING);
    assert_eq!(mine["members"].as_array().map(Vec::len), Some(2));
    let anew = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"] }),
    );
    assert_ne!(anew["id"], pair["id"]);
    ann.ask(
        "POST",
        &format!("{}/messages", path_of(&anew)),
        &json!({ "text": "hello" }),
    );
    let log = bob.ask(
        "GET",
        &format!("{}/events?after=0", path_of(&anew)),
        &NOTHING,
    );
    assert_eq!(log[1]["text"], "hello");
    let old = ann.ask(
        "GET",
        &format!("{}/events?after=1", path_of(&pair)),
        &NOTHING,
    );
    assert_eq!(old[0]["text"], "to the old bob", "hers to keep");
}

#[test]
fn administrators_make_groups_and_read_nothing() {
    let server = Server::with(&["ann", "bob"]);
    server.cli(&["user", "add", "root@example.test", "--role", "admin"], "");
    let (root, ann, bob) = (
        Api::sign_in(&server, "root"),
        Api::sign_in(&server, "ann"),
        Api::sign_in(&server, "bob"),
    );
    let ask = json!({
        "name": "all", "subject": "everybody",
        "members": [{ "address": "ann", "role": "moderator" }, { "address": "bob" }]
    });
    let (status, refused) = ann.call("POST", "/api/v1/admin/groups", &ask);
    assert_eq!(status, 403);
    assert_eq!(kind(&refused), "urn:sidetone:problem:administrators-only");
    let group = root.ask("POST", "/api/v1/admin/groups", &ask);
    assert_eq!(group["uri"], "sip:all@example.test");
    let admin = format!("/api/v1/admin/groups/{}", group["id"]);
    let path = path_of(&group);
    assert_eq!(bob.ask("GET", &path, &NOTHING)["kind"], "managed");
    bob.ask(
        "POST",
        &format!("{path}/messages"),
        &json!({ "text": "hi" }),
    );
    assert_eq!(root.call("GET", &format!("{path}/events"), &NOTHING).0, 404);
    let add = json!({ "address": "root" });
    assert_eq!(bob.call("POST", &format!("{path}/members"), &add).0, 403);
    assert_eq!(
        root.call("POST", &format!("{path}/messages"), &json!({ "text": "x" }))
            .0,
        404
    );
    root.ask("PATCH", &admin, &json!({ "subject": "all of us" }));
    root.ask(
        "PATCH",
        &format!("{admin}/members/bob"),
        &json!({ "role": "guest" }),
    );
    root.ask("DELETE", &format!("{admin}/members/ann"), &NOTHING);
    let seen = root.ask("GET", &admin, &NOTHING);
    assert_eq!(seen["subject"], "all of us");
    assert_eq!(
        seen["members"],
        json!([{ "address": "bob@example.test", "role": "guest" }])
    );
    root.ask(
        "POST",
        &format!("{admin}/members"),
        &json!({ "address": "ann", "history": "all" }),
    );
    let listed = root.ask("GET", "/api/v1/admin/groups", &NOTHING);
    assert_eq!(listed[0]["members"].as_array().map(Vec::len), Some(2));
    root.ask("DELETE", &admin, &NOTHING);
    assert_eq!(
        bob.call("POST", &format!("{path}/messages"), &json!({ "text": "x" }))
            .0,
        404
    );
    let log = bob.ask("GET", &format!("{path}/events?after=0"), &NOTHING);
    assert_eq!(log[1]["text"], "hi", "what was said stays");
}

#[test]
fn an_administrator_has_no_hand_in_what_is_not_his() {
    let server = Server::with(&["ann", "bob"]);
    server.cli(&["user", "add", "root@example.test", "--role", "admin"], "");
    let (root, ann) = (Api::sign_in(&server, "root"), Api::sign_in(&server, "ann"));
    // People's own groups are theirs.
    let own = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": ["bob"], "subject": "own" }),
    );
    let theirs = format!("/api/v1/admin/groups/{}", own["id"]);
    for (method, body) in [
        ("GET", NOTHING),
        ("DELETE", NOTHING),
        ("PATCH", json!({ "subject": "x" })),
    ] {
        assert_eq!(root.call(method, &theirs, &body).0, 404, "{method}");
    }
    // Who is no administrator any more is none at once.
    server.cli(&["user", "set", "root@example.test", "--role", "user"], "");
    assert_eq!(root.call("GET", "/api/v1/admin/groups", &NOTHING).0, 403);
}

#[test]
fn what_was_said_in_ones_absence_is_passed_over() {
    let server = Server::with(&["ann", "bob", "carl"]);
    let (ann, carl) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "carl"));
    let ask = json!({ "members": ["bob", "carl"], "subject": "s" });
    let path = path_of(&ann.ask("POST", "/api/v1/conversations", &ask));
    let members = format!("{path}/members");
    ann.ask("DELETE", &format!("{members}/carl"), &NOTHING);
    let mut session = ann.events(None);
    let id = path.rsplit('/').next().expect("a number");
    let conversation: i64 = id.parse().expect("a number");
    // More than one page of what a session has missed.
    for text in 0..700 {
        let text = text.to_string();
        session.say(&json!({ "type": "say", "conversation": conversation, "text": text }));
    }
    for _ in 0..700 {
        session.expect("said");
    }
    ann.ask("POST", &members, &json!({ "address": "carl" }));
    ann.ask(
        "POST",
        &format!("{path}/messages"),
        &json!({ "text": "welcome back" }),
    );
    let mut news = carl.events(Some(0));
    assert_eq!(
        news.event("text")["text"],
        "welcome back",
        "and nothing else"
    );
}

#[test]
fn in_a_large_group_only_authors_are_told_who_has_read() {
    let names: Vec<String> = (0..60).map(|number| format!("u{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = Server::with(&names);
    let (author, reader, other) = (
        Api::sign_in(&server, "u0"),
        Api::sign_in(&server, "u1"),
        Api::sign_in(&server, "u2"),
    );
    let ask = json!({ "members": &names[1..], "subject": "large" });
    let path = path_of(&author.ask("POST", "/api/v1/conversations", &ask));
    let messages = format!("{path}/messages");
    let said = author.ask("POST", &messages, &json!({ "text": "read this" }));
    let (mut to_author, mut to_other) = (author.events(None), other.events(None));
    let mut to_reader = reader.events(None);
    let seen = json!({ "seq": said["seq"], "displayed": true });
    reader.ask("POST", &format!("{path}/receipts"), &seen);
    assert_eq!(to_author.expect("receipt")["member"], "u1@example.test");
    let own = to_reader.expect("receipt");
    assert_eq!(
        own["member"], "u1@example.test",
        "for the reader's other devices"
    );
    author.ask("POST", &messages, &json!({ "text": "the end" }));
    let next = to_other.heard();
    assert_eq!(next["type"], "event", "no receipt came before: {next}");
}
