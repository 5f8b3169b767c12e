//! Registration events (RFC 3680, RFC 6665), watched by phones of our own.

use sidetone_tests::sip::message::parameter;
use sidetone_tests::sip::phone::Dialog;
use sidetone_tests::{Message, Options, Phone, Server, Wire};

const DOCUMENT: &str = "application/reginfo+xml";

/// Several shards: what one of them changes the others have to hear of.
fn server() -> Server {
    let server = Options::new()
        .users(&["ann", "eve"])
        .set("sip.shards", 4)
        .set("sip.min_expires_s", 1)
        .start();
    server.add_device("ann", "ann-2");
    server
}

fn subscription(request: Message, phone: &Phone, expires_s: u32) -> Message {
    request
        .without("Contact")
        .with("Contact", format!("<{}>", phone.contact))
        .with("Event", "reg")
        .with("Accept", DOCUMENT)
        .with("Expires", expires_s.to_string())
}

/// Asks to watch an address.
fn subscribe(phone: &mut Phone, uri: &str, expires_s: u32) -> Message {
    let request = subscription(phone.draft("SUBSCRIBE", uri), phone, expires_s);
    phone.ask(request)
}

/// Watches its own account; it must work, and the first NOTIFY must come.
fn watching(phone: &mut Phone) -> (Dialog, Message) {
    let aor = phone.aor();
    let answer = subscribe(phone, &aor, 600);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    assert_eq!(answer.header("Expires"), Some("600"), "{answer:?}");
    let served = answer.header("Allow-Events").unwrap_or_default();
    assert!(served.contains("reg"), "{answer:?}");
    let to = answer.header("To").unwrap_or_default();
    assert!(parameter(to, "tag").is_some(), "{answer:?}");
    let dialog = Dialog::caller(&answer, &answer);
    assert!(dialog.target.starts_with("sip:"), "{answer:?}");
    let notify = notified(phone, &[]);
    assert_eq!(notify.call_id(), answer.call_id());
    (dialog, notify)
}

/// A SUBSCRIBE within the dialog.
fn within(phone: &mut Phone, dialog: &mut Dialog, expires_s: u32) -> Message {
    let request = dialog.request(phone, "SUBSCRIBE");
    let answer = phone.ask(subscription(request, phone, expires_s));
    dialog.cseq = answer.cseq();
    answer
}

/// The next NOTIFY, which must have all of this in its body or its state; it is taken.
fn notified(phone: &mut Phone, parts: &[&str]) -> Message {
    let notify = phone.expect("NOTIFY");
    assert_eq!(notify.header("Event"), Some("reg"), "{notify:?}");
    assert_eq!(notify.header("Content-Type"), Some(DOCUMENT), "{notify:?}");
    let state = notify.header("Subscription-State").unwrap_or_default();
    let all = format!("{state}\n{}", notify.text());
    for part in parts {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    phone.answer(&notify, 200);
    notify
}

/// Takes NOTIFYs until one has all of this: changes that come fast may be told apart or together.
fn notified_in_the_end(phone: &mut Phone, parts: &[&str]) {
    let has_all = |notify: &Message| parts.iter().all(|part| notify.text().contains(part));
    while !has_all(&notified(phone, &[])) {}
}

type Connect = fn(&Server, &str) -> Phone;

#[test]
fn a_phone_watches_its_account() {
    let ways: [Connect; 3] = [Phone::udp, Phone::tcp, Phone::tls];
    std::thread::scope(|scope| {
        for connect in ways {
            scope.spawn(move || watches_its_account(connect));
        }
    });
}

fn watches_its_account(connect: Connect) {
    let server = server();
    let mut ann = connect(&server, "ann").registered();
    let (mut dialog, first) = watching(&mut ann);
    let contact = format!("<uri>{}</uri>", ann.contact);
    assert!(first.text().contains(&contact), "{}", first.text());
    assert!(first.text().contains("version=\"0\" state=\"full\""));

    let mut second = Phone::udp(&server, "ann").device("ann-2").registered();
    let uri = format!("<uri>{}</uri>", second.contact);
    let parts = [
        "active;expires=",
        "version=\"1\" state=\"partial\"",
        "state=\"active\" event=\"registered\"",
        &uri,
    ];
    notified(&mut ann, &parts);
    assert_eq!(second.register(0).status(), Some(200));
    let parts = ["state=\"terminated\" event=\"unregistered\"", &uri];
    notified(&mut ann, &parts);

    let answer = within(&mut ann, &mut dialog, 300);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    assert_eq!(answer.header("Expires"), Some("300"), "{answer:?}");
    notified(&mut ann, &["active;expires=", "state=\"full\"", &contact]);
    assert_eq!(within(&mut ann, &mut dialog, 0).status(), Some(200));
    notified(&mut ann, &["terminated;reason=timeout", "state=\"full\""]);
    let answer = within(&mut ann, &mut dialog, 300);
    assert_eq!(answer.status(), Some(481), "it has ended: {answer:?}");
}

#[test]
fn somebody_else_neither_watches_nor_ends_a_subscription() {
    let server = server();
    for connect in [Phone::udp, Phone::tcp] {
        let mut ann = connect(&server, "ann").registered();
        let (mut dialog, _) = watching(&mut ann);
        let mut eve = connect(&server, "eve").registered();
        let answer = subscribe(&mut eve, &ann.aor(), 600);
        assert_eq!(answer.status(), Some(403), "{answer:?}");
        let warning = answer.header("Warning").unwrap_or_default();
        assert!(warning.contains("owner"), "{answer:?}");

        // Everything as Ann would write it but the credentials and who they are of.
        let mut stolen = dialog.clone();
        stolen.local = stolen.local.replace("ann@", "eve@");
        let answer = within(&mut eve, &mut stolen, 0);
        assert_eq!(answer.status(), Some(403), "{answer:?}");
        let mut claimed = dialog.clone();
        let answer = within(&mut eve, &mut claimed, 0);
        assert_eq!(answer.status(), Some(403), "From is Ann's: {answer:?}");
        let mut forged = dialog.clone();
        forged.remote.push('x');
        let answer = within(&mut ann, &mut forged, 0);
        assert_eq!(answer.status(), Some(481), "{answer:?}");

        // None of it has touched the subscription.
        dialog.cseq += 10;
        assert_eq!(within(&mut ann, &mut dialog, 600).status(), Some(200));
        notified(&mut ann, &["active;expires="]);
        assert_eq!(within(&mut ann, &mut dialog, 0).status(), Some(200));
        notified(&mut ann, &["terminated"]);
    }
}

#[test]
fn what_is_refused_says_why() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let answer = subscribe(&mut ann, &server.uri("ann"), 10);
    assert_eq!(answer.status(), Some(423), "{answer:?}");
    assert_eq!(answer.header("Min-Expires"), Some("60"), "{answer:?}");
    let request = subscription(ann.draft("SUBSCRIBE", &ann.aor()), &ann, 600);
    let answer = ann.ask(request.but("Accept", "application/sdp"));
    assert_eq!(answer.status(), Some(406), "{answer:?}");
    let request = subscription(ann.draft("SUBSCRIBE", &ann.aor()), &ann, 600);
    let answer = ann.ask(request.with("Require", "eventlist"));
    assert_eq!(answer.status(), Some(420), "{answer:?}");
    assert_eq!(answer.header("Unsupported"), Some("eventlist"));
    let nobody = subscribe(&mut ann, &server.uri("nobody"), 600);
    assert_eq!(nobody.status(), Some(404), "{nobody:?}");
    let request = ann.draft("SUBSCRIBE", &ann.aor()).with("Event", "reg");
    let answer = ann.transact(&request);
    assert_eq!(answer.status(), Some(407), "no credentials: {answer:?}");
}

#[test]
fn a_package_that_is_not_served_is_refused() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let uri = server.uri("bob");
    let request = subscription(ann.draft("SUBSCRIBE", &uri), &ann, 600);
    let answer = ann.ask(request.but("Event", "conference"));
    assert_eq!(answer.status(), Some(489), "{answer:?}");
    let served = answer.header("Allow-Events").unwrap_or_default();
    for package in ["reg", "presence", "dialog", "message-summary"] {
        assert!(served.contains(package), "{answer:?}");
    }
}

#[test]
fn what_ends_by_itself_is_told() {
    let server = server();
    let mut ann = Phone::udp(&server, "ann").registered();
    watching(&mut ann);
    // A flow of its own (RFC 5626): the binding ends with the connection.
    let mut second = Phone::tcp(&server, "ann").device("ann-2");
    second.contact_parameters =
        ";+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-000000000001>\";reg-id=1".to_owned();
    let register = second.registration(600).with("Supported", "outbound");
    assert_eq!(second.ask(register).status(), Some(200));
    notified(&mut ann, &["event=\"registered\"", "reg-id"]);
    drop(second);
    notified(&mut ann, &["state=\"terminated\" event=\"deactivated\""]);

    let mut brief = Phone::udp(&server, "ann").device("ann-2");
    assert_eq!(brief.register(2).status(), Some(200));
    let parts = ["state=\"terminated\" event=\"expired\"", &brief.contact];
    notified_in_the_end(&mut ann, &parts);
}

#[test]
fn the_end_of_a_device_and_of_an_account_is_told() {
    let server = server();
    let mut ann = Phone::udp(&server, "ann").registered();
    watching(&mut ann);
    let mut second = Phone::tcp(&server, "ann").device("ann-2");
    watching(&mut second);
    assert_eq!(second.register(600).status(), Some(200));
    notified(&mut ann, &["event=\"registered\""]);
    notified(&mut second, &["event=\"registered\""]);

    let list = server.cli(&["device", "list", "ann@example.test"], "");
    let line = list.lines().find(|line| line.contains("ann-2"));
    let id = line.and_then(|line| line.split_whitespace().next());
    server.cli(&["device", "remove", id.expect("a number")], "");
    let parts = ["terminated;reason=rejected", "event=\"rejected\""];
    notified(&mut second, &parts);
    notified(&mut ann, &["active;expires=", "event=\"rejected\""]);

    server.cli(&["user", "disable", "ann@example.test"], "");
    let parts = ["terminated;reason=rejected", "event=\"rejected\""];
    notified(&mut ann, &parts);
    let answer = subscribe(&mut ann, &server.uri("ann"), 600);
    assert_eq!(answer.status(), Some(403), "{answer:?}");
    server.cli(&["user", "disable", "ann@example.test", "--undo"], "");
    watching(&mut ann);
    server.cli(&["user", "remove", "ann@example.test"], "");
    notified(&mut ann, &["terminated;reason="]);
    let answer = subscribe(&mut ann, &server.uri("ann"), 600);
    assert_eq!(answer.status(), Some(403), "{answer:?}");
}

#[test]
fn a_subscriber_that_comes_back_by_another_connection_is_told_there() {
    let server = server();
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut moved = Phone::tcp(&server, "ann").device("ann-2");
    let (mut dialog, _) = watching(&mut moved);
    assert_eq!(subscriptions(&server), 1);
    moved.move_to(Wire::tcp(server.udp()));
    // Nobody can be told of this now.
    assert_eq!(ann.register(500).status(), Some(200));
    let answer = within(&mut moved, &mut dialog, 600);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    notified(
        &mut moved,
        &["active;expires=", "state=\"full\"", &ann.contact],
    );
    assert_eq!(within(&mut moved, &mut dialog, 0).status(), Some(200));
    notified(&mut moved, &["terminated"]);
    assert_eq!(subscriptions(&server), 0);
}

fn subscriptions(server: &Server) -> u64 {
    let status = server.cli(&["status", "--json"], "");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status["subscriptions"].as_u64().expect("a number")
}

#[test]
fn a_trusted_network_watches_whom_it_likes() {
    let server = Options::new()
        .users(&["ann"])
        .set("sip.trusted", vec!["127.0.0.0/8".to_owned()])
        .start();
    let mut monitor = Phone::tcp(&server, "monitor");
    let answer = subscribe(&mut monitor, &server.uri("ann"), 600);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    let mut dialog = Dialog::caller(&answer, &answer);
    notified(&mut monitor, &["active;expires=", "state=\"init\""]);
    let ann = Phone::udp(&server, "ann").registered();
    notified(&mut monitor, &["event=\"registered\"", &ann.contact]);
    let answer = within(&mut monitor, &mut dialog, 0);
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    notified(&mut monitor, &["terminated;reason=timeout"]);
}
