//! Presence, busy lamps and message lamps (RFC 3856, RFC 3903, RFC 4235, RFC 3842), by phones of our own and baresip.

use sidetone_tests::baresip::Baresip;
use sidetone_tests::sip::phone::{Dialog, PATIENCE};
use sidetone_tests::{Message, Options, Phone, Server, Wire, until};

const PIDF: &str = "application/pidf+xml";
const BUSY: &str = "<?xml version='1.0'?><presence xmlns='urn:ietf:params:xml:ns:pidf' \
    xmlns:dm='urn:ietf:params:xml:ns:pidf:data-model' xmlns:rpid='urn:ietf:params:xml:ns:pidf:rpid' \
    entity='sip:bob@example.test'><tuple id='t'><status><basic>open</basic></status></tuple>\
    <dm:person id='p'><rpid:activities><rpid:busy/></rpid:activities><dm:note>in a meeting</dm:note>\
    </dm:person></presence>";

fn server() -> Server {
    Options::new()
        .users(&["ann", "bob", "carl"])
        .set("sip.shards", 3)
        .start()
}

fn kind_of(package: &str) -> &'static str {
    match package {
        "presence" => PIDF,
        "dialog" => "application/dialog-info+xml",
        _ => "application/simple-message-summary",
    }
}

fn subscription(request: Message, phone: &Phone, package: &str, expires_s: u32) -> Message {
    request
        .without("Contact")
        .with("Contact", format!("<{}>", phone.contact))
        .with("Event", package)
        .with("Accept", kind_of(package))
        .with("Expires", expires_s.to_string())
}

/// Watches; it must work, and the first NOTIFY must have all of this.
fn watching(phone: &mut Phone, uri: &str, package: &str, parts: &[&str]) -> (Dialog, Message) {
    let request = subscription(phone.draft("SUBSCRIBE", uri), phone, package, 600);
    let answer = phone.ask(request);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    let dialog = Dialog::caller(&answer, &answer);
    let notify = notified(phone, package, parts);
    assert_eq!(notify.call_id(), answer.call_id());
    (dialog, notify)
}

/// A SUBSCRIBE within the dialog.
fn within(phone: &mut Phone, dialog: &mut Dialog, package: &str, expires_s: u32) -> Message {
    let request = dialog.request(phone, "SUBSCRIBE");
    let answer = phone.ask(subscription(request, phone, package, expires_s));
    dialog.cseq = answer.cseq();
    answer
}

/// The next NOTIFY, which must have all of this; it is taken.
fn notified(phone: &mut Phone, package: &str, parts: &[&str]) -> Message {
    let notify = phone.expect("NOTIFY");
    assert_eq!(notify.header("Event"), Some(package), "{notify:?}");
    assert_eq!(
        notify.header("Content-Type"),
        Some(kind_of(package)),
        "{notify:?}"
    );
    let state = notify.header("Subscription-State").unwrap_or_default();
    let all = format!("{state}\n{}", notify.text());
    for part in parts {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    phone.answer(&notify, 200);
    notify
}

fn publish(phone: &mut Phone, body: Option<&str>, etag: Option<&str>, expires_s: u32) -> Message {
    let mut request = phone
        .draft("PUBLISH", &phone.aor())
        .with("Event", "presence")
        .with("Expires", expires_s.to_string());
    if let Some(etag) = etag {
        request = request.with("SIP-If-Match", etag);
    }
    if let Some(body) = body {
        request = request.with_body(PIDF, body);
    }
    phone.ask(request)
}

/// Everything has been written.
fn settled(server: &Server) {
    let written = until(PATIENCE, || {
        let status = server.cli(&["status", "--json"], "");
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        (status["queues"]["subscriptions"] == 0).then_some(())
    });
    assert!(written.is_some(), "subscriptions are not written");
}

type Connect = fn(&Server, &str) -> Phone;
const WAYS: [Connect; 3] = [Phone::udp, Phone::tcp, Phone::tls];

#[test]
fn colleagues_see_who_is_there() {
    std::thread::scope(|scope| {
        for connect in WAYS {
            scope.spawn(move || sees_who_is_there(connect));
        }
    });
}

fn sees_who_is_there(connect: Connect) {
    let server = server();
    let mut ann = connect(&server, "ann").registered();
    let (mut dialog, _) = watching(
        &mut ann,
        &server.uri("bob"),
        "presence",
        &[
            "active;expires=",
            "entity=\"sip:bob@example.test\"",
            "<basic>closed</basic>",
        ],
    );
    let mut bob = Phone::udp(&server, "bob").registered();
    notified(&mut ann, "presence", &["<basic>open</basic>"]);

    let answer = publish(&mut bob, Some(BUSY), None, 600);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    let etag = answer.header("SIP-ETag").expect("a name").to_owned();
    notified(
        &mut ann,
        "presence",
        &["<rpid:busy/>", "<dm:note>in a meeting</dm:note>"],
    );
    let answer = publish(&mut bob, None, Some(&etag), 0);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    let notify = notified(&mut ann, "presence", &["<basic>open</basic>"]);
    assert!(!notify.text().contains("busy"), "{}", notify.text());
    assert_eq!(
        publish(&mut bob, None, Some(&etag), 600).status(),
        Some(412)
    );

    assert_eq!(bob.register(0).status(), Some(200));
    notified(&mut ann, "presence", &["<basic>closed</basic>"]);
    assert_eq!(
        within(&mut ann, &mut dialog, "presence", 0).status(),
        Some(200)
    );
    notified(&mut ann, "presence", &["terminated;reason=timeout"]);
    assert_eq!(
        within(&mut ann, &mut dialog, "presence", 600).status(),
        Some(481)
    );
}

#[test]
fn what_is_refused_says_why() {
    let server = server();
    let mut bob = Phone::udp(&server, "bob").registered();
    let refused = |answer: Message, status: u16, name: &str, value: &str| {
        assert_eq!(answer.status(), Some(status), "{answer:?}");
        assert_eq!(answer.header(name).unwrap_or_default(), value, "{answer:?}");
    };
    let answer = publish(&mut bob, Some(BUSY), None, 10);
    refused(answer, 423, "Min-Expires", "60");
    let draft = bob.draft("PUBLISH", &bob.aor()).with("Event", "presence");
    let answer = bob.ask(draft.with_body("text/plain", "at lunch"));
    refused(answer, 415, "Accept", PIDF);
    let draft = bob.draft("PUBLISH", &bob.aor()).with("Event", "weather");
    let answer = bob.ask(draft.with_body(PIDF, BUSY));
    refused(answer, 489, "Allow-Events", "presence");
    let long = BUSY.replace("in a meeting", &"long ".repeat(4_000));
    assert_eq!(
        publish(&mut bob, Some(&long), None, 600).status(),
        Some(413)
    );
    let draft = bob
        .draft("PUBLISH", &server.uri("ann"))
        .with("Event", "presence");
    let answer = bob.ask(draft.with_body(PIDF, BUSY));
    assert_eq!(answer.status(), Some(403), "somebody else's: {answer:?}");
    let draft = bob.draft("PUBLISH", &bob.aor()).with("Event", "presence");
    let answer = bob.transact(&draft.with_body(PIDF, BUSY));
    assert_eq!(answer.status(), Some(407), "no credentials: {answer:?}");
    for expected in [200; 16] {
        assert_eq!(
            publish(&mut bob, Some(BUSY), None, 600).status(),
            Some(expected)
        );
    }
    assert_eq!(publish(&mut bob, Some(BUSY), None, 600).status(), Some(503));
    // Others' mailboxes are nobody's business.
    let ann = server.uri("ann");
    let request = subscription(bob.draft("SUBSCRIBE", &ann), &bob, "message-summary", 600);
    assert_eq!(bob.ask(request).status(), Some(403));
}

#[test]
fn a_busy_lamp_follows_a_call() {
    let server = server();
    let mut ann = Phone::tcp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let mut carl = Phone::udp(&server, "carl").registered();
    let (_, first) = watching(&mut ann, &server.uri("bob"), "dialog", &["version=\"0\""]);
    assert!(!first.text().contains("<dialog "), "{}", first.text());

    let invite = carl.invite(&server.uri("bob"));
    let came = bob.expect("INVITE");
    bob.answer(&came, 180);
    let ringing = [
        "version=\"1\"",
        "direction=\"recipient\"",
        "<state>early</state>",
    ];
    let notify = notified(&mut ann, "dialog", &ringing);
    assert!(!notify.text().contains("carl"), "{}", notify.text());
    let mut callee = bob.accept(&came);
    let answer = carl.expect_answer(&invite, 200);
    let caller = Dialog::caller(&invite, &answer);
    let ack = caller.ack(&carl);
    carl.send(&ack);
    bob.expect("ACK");
    notified(
        &mut ann,
        "dialog",
        &["version=\"2\"", "<state>confirmed</state>"],
    );

    // Whoever asks now sees it, too, and in the presence.
    let mut other = Phone::udp(&server, "ann").registered();
    watching(
        &mut other,
        &server.uri("bob"),
        "presence",
        &["<rpid:on-the-phone/>"],
    );
    let bye = callee.request(&bob, "BYE");
    bob.send(&bye);
    let came = carl.expect("BYE");
    carl.answer(&came, 200);
    notified(&mut ann, "dialog", &["<state>terminated</state>"]);
    let notify = notified(&mut other, "presence", &["<basic>open</basic>"]);
    assert!(!notify.text().contains("on-the-phone"), "{}", notify.text());
}

#[test]
fn a_message_lamp_follows_what_waits() {
    let server = server();
    let mut carl = Phone::udp(&server, "carl").registered();
    // It is not registered: whatever comes waits.
    let mut bob = Phone::udp(&server, "bob");
    let uri = server.uri("bob");
    let nothing = ["Messages-Waiting: no", "Text-Message: 0/0"];
    watching(&mut bob, &uri, "message-summary", &nothing);
    assert_eq!(carl.message("bob", "hello").status(), Some(202));
    let one = [
        "Messages-Waiting: yes",
        "Message-Account: sip:bob@example.test",
        "Text-Message: 1/0",
    ];
    notified(&mut bob, "message-summary", &one);
    assert_eq!(bob.register(600).status(), Some(200));
    assert_eq!(bob.texts(1), ["hello"]);
    notified(&mut bob, "message-summary", &nothing);
}

#[test]
fn subscriptions_and_publications_survive_a_restart() {
    std::thread::scope(|scope| {
        for (way, connect) in WAYS.into_iter().enumerate() {
            scope.spawn(move || {
                survives_a_restart(connect, way, "presence");
                survives_a_restart(connect, way, "dialog");
            });
        }
    });
}

fn survives_a_restart(connect: Connect, way: usize, package: &str) {
    let mut server = server();
    let mut ann = connect(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    let answer = publish(&mut bob, Some(BUSY), None, 600);
    let etag = answer.header("SIP-ETag").expect("a name").to_owned();
    let (mut dialog, first) = watching(&mut ann, &server.uri("bob"), package, &[]);
    settled(&server);
    server.kill();
    server.up();
    match way {
        0 => {}
        1 => ann.move_to(Wire::tcp(server.udp())),
        _ => ann.move_to(Wire::tls(
            server.tls(),
            &server.authority.file,
            "example.test",
        )),
    }
    if way > 0 {
        ann.forget_nonces();
        assert_eq!(ann.register(600).status(), Some(200));
    }
    // Nobody has asked for it: it comes by itself, in the same dialog.
    let notify = notified(&mut ann, package, &["active;expires="]);
    for name in ["Call-ID", "From", "To"] {
        assert_eq!(notify.header(name), first.header(name), "{notify:?}");
    }
    assert!(notify.cseq() > first.cseq(), "{notify:?}");
    if package == "presence" {
        // The watched phone's registration may have been younger than what is on disk.
        assert_eq!(bob.register(600).status(), Some(200));
        let mut text = notify.text();
        while !text.contains("<rpid:busy/>") {
            text = notified(&mut ann, package, &[]).text();
        }
        assert_eq!(
            publish(&mut bob, None, Some(&etag), 600).status(),
            Some(200)
        );
    }
    let answer = within(&mut ann, &mut dialog, package, 600);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    notified(&mut ann, package, &["active;expires="]);
}

#[test]
fn baresip_shows_who_is_there() {
    let server = server();
    let mut ann = Baresip::with_presence(&server, "ann", "bob");
    ann.registered();
    let shows = |ann: &mut Baresip, word: &str| {
        let shown = until(PATIENCE, || {
            let contacts = ann.command("contacts", "").to_string();
            contacts.contains(word).then_some(())
        });
        assert!(
            shown.is_some(),
            "baresip does not show {word}: {}",
            ann.command("contacts", "")
        );
    };
    shows(&mut ann, "Offline");
    let mut bob = Phone::udp(&server, "bob").registered();
    // And it publishes that it is online itself.
    watching(
        &mut bob,
        &server.uri("ann"),
        "presence",
        &["<basic>open</basic>"],
    );
    shows(&mut ann, "Online");
    assert_eq!(bob.register(0).status(), Some(200));
    shows(&mut ann, "Offline");
    ann.quit();
}

#[test]
fn baresip_shows_that_messages_wait() {
    let server = server();
    server.add_device("ann", "ann-2");
    let mut carl = Phone::udp(&server, "carl").registered();
    let mut ann = Baresip::with_lamp(&server, "ann", "bob");
    ann.registered();
    ann.received("Messages-Waiting: no");
    assert_eq!(carl.message("ann", "hello").status(), Some(200));
    ann.received("hello");
    // It has the message; the other device has not.
    ann.event("MWI_NOTIFY", "Text-Message: 0/1");
    ann.quit();
}
