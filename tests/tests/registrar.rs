//! The registrar (RFC 3261 §10.3), asked by a phone of our own.

use std::time::Duration;

use sidetone_tests::sip::message::{address, parameter};
use sidetone_tests::{Message, Options, Phone, Server, Wire};

fn contacts(answer: &Message) -> Vec<String> {
    let mut uris: Vec<String> = answer
        .values("Contact")
        .iter()
        .map(|c| address(c).to_owned())
        .collect();
    uris.sort();
    uris
}

/// What the registrar knows of the phone's person.
fn bindings(phone: &mut Phone) -> Vec<String> {
    let query = phone
        .draft("REGISTER", "sip:example.test")
        .but("To", format!("<{}>", phone.aor()));
    let answer = phone.ask(query.without("Contact"));
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    contacts(&answer)
}

fn register_with(phone: &mut Phone, contact: &str, expires: Option<&str>) -> Message {
    let mut request = phone
        .registration(600)
        .but("Contact", contact)
        .without("Expires");
    if let Some(expires) = expires {
        request = request.with("Expires", expires);
    }
    phone.ask(request)
}

#[test]
fn a_binding_is_added_listed_and_removed() {
    for connect in [Phone::udp, Phone::tcp, Phone::tls] {
        let server = Server::with(&["ann"]);
        let mut ann = connect(&server, "ann");
        assert!(bindings(&mut ann).is_empty());
        let answer = ann.register(600);
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        let listed = answer.values("Contact");
        assert_eq!(listed.len(), 1, "{answer:?}");
        let expires: u32 = parameter(&listed[0], "expires")
            .expect("expires")
            .parse()
            .expect("n");
        assert!((590..=600).contains(&expires), "{answer:?}");
        assert_eq!(bindings(&mut ann), [ann.contact.clone()]);
        assert_eq!(ann.register(0).status(), Some(200));
        assert!(bindings(&mut ann).is_empty());
    }
}

#[test]
fn the_server_names_itself_without_a_version() {
    let server = Server::with(&["ann"]);
    let answer = Phone::udp(&server, "ann").register(600);
    assert_eq!(answer.header("Server"), Some("Sidetone"));
}

#[test]
fn too_short_is_423_and_too_long_is_cut() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann");
    let answer = ann.register(10);
    assert_eq!(answer.status(), Some(423), "{answer:?}");
    assert_eq!(answer.header("Min-Expires"), Some("60"));
    assert!(bindings(&mut ann).is_empty());
    let answer = ann.register(1_000_000);
    assert_eq!(answer.status(), Some(200));
    let contact = answer.values("Contact").remove(0);
    assert_eq!(
        parameter(&contact, "expires").as_deref(),
        Some("3600"),
        "{answer:?}"
    );
}

#[test]
fn star_removes_everything_and_only_so() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    assert_eq!(
        register_with(&mut ann, "<sip:ann@127.9.9.9:5999>", Some("600")).status(),
        Some(200)
    );
    assert_eq!(bindings(&mut ann).len(), 2);
    assert_eq!(
        register_with(&mut ann, "*", Some("600")).status(),
        Some(400)
    );
    assert_eq!(register_with(&mut ann, "*", None).status(), Some(400));
    let both = format!("*, <{}>", ann.contact);
    assert_eq!(
        register_with(&mut ann, &both, Some("0")).status(),
        Some(400)
    );
    assert_eq!(
        bindings(&mut ann).len(),
        2,
        "nothing was removed by mistakes"
    );
    assert_eq!(register_with(&mut ann, "*", Some("0")).status(), Some(200));
    assert!(bindings(&mut ann).is_empty());
}

#[test]
fn contacts_are_limited() {
    let server = Options::new()
        .users(&["ann"])
        .set("sip.max_contacts", 2)
        .start();
    let mut ann = Phone::udp(&server, "ann");
    for port in [5991, 5992] {
        let contact = format!("<sip:ann@127.9.9.9:{port}>");
        assert_eq!(
            register_with(&mut ann, &contact, Some("600")).status(),
            Some(200)
        );
    }
    let third = register_with(&mut ann, "<sip:ann@127.9.9.9:5993>", Some("600"));
    let status = third.status().expect("a status");
    assert!((400..600).contains(&status), "{third:?}");
    assert_eq!(
        bindings(&mut ann),
        ["sip:ann@127.9.9.9:5991", "sip:ann@127.9.9.9:5992"]
    );
    let again = register_with(&mut ann, "<sip:ann@127.9.9.9:5991>", Some("600"));
    assert_eq!(again.status(), Some(200), "a refresh is no further contact");
}

#[test]
fn an_older_cseq_changes_nothing() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann");
    let newest = ann.registration(600).but("CSeq", "50 REGISTER");
    assert_eq!(ann.ask(newest.clone()).status(), Some(200));
    let older = newest
        .but("CSeq", "20 REGISTER")
        .but("Expires", "0")
        .but("Via", ann.via());
    let answer = ann.ask(older);
    assert_ne!(answer.status(), Some(200), "{answer:?}");
    assert_eq!(bindings(&mut ann), [ann.contact.clone()]);
}

#[test]
fn a_binding_ends_by_itself() {
    let server = Options::new()
        .users(&["ann"])
        .set("sip.min_expires_s", 1)
        .start();
    let mut ann = Phone::udp(&server, "ann");
    assert_eq!(ann.register(1).status(), Some(200));
    let gone = sidetone_tests::until(Duration::from_secs(5), || {
        bindings(&mut ann).is_empty().then_some(())
    });
    assert!(gone.is_some());
}

#[test]
fn nobody_registers_for_somebody_else() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann");
    let request = ann.registration(600).but("To", "<sip:bob@example.test>");
    let answer = ann.ask(request);
    assert_eq!(answer.status(), Some(403), "{answer:?}");
    let mut bob = Phone::udp(&server, "bob");
    assert!(bindings(&mut bob).is_empty());
}

#[test]
fn devices_of_one_person_register_side_by_side() {
    let server = Server::with(&["ann"]);
    server.add_device("ann", "ann-2");
    let mut desk = Phone::udp(&server, "ann").registered();
    let soft = Phone::tcp(&server, "ann").device("ann-2").registered();
    let mut expected = vec![desk.contact.clone(), soft.contact.clone()];
    expected.sort();
    assert_eq!(bindings(&mut desk), expected);
}

#[test]
fn outbound_replaces_the_flow_of_an_instance() {
    let server = Server::with(&["ann"]);
    let instance = ";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\";reg-id=1";
    let register = || {
        let mut phone = Phone::tcp(&server, "ann");
        phone.contact_parameters = instance.to_owned();
        let request = phone
            .registration(600)
            .with("Supported", "path, outbound, gruu");
        let answer = phone.ask(request);
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        (phone, answer)
    };
    let (_first, answer) = register();
    let requires = answer.header("Require").unwrap_or_default();
    assert!(requires.contains("outbound"), "RFC 5626 §6: {answer:?}");
    let contact = answer.values("Contact").remove(0);
    assert!(
        parameter(&contact, "pub-gruu").is_some(),
        "RFC 5627 §5.1: {answer:?}"
    );
    let (second, answer) = register();
    assert_eq!(
        contacts(&answer),
        std::slice::from_ref(&second.contact),
        "the new flow replaces the old"
    );
}

#[test]
fn a_restart_keeps_the_bindings() {
    let mut server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    let mut bob = Phone::udp(&server, "bob").registered();
    server.down();
    server.up();
    assert_eq!(bindings(&mut ann), [ann.contact.clone()]);
    bob.forget_nonces();
    assert_eq!(bob.message("ann", "after the restart").status(), Some(200));
    assert_eq!(ann.texts(1), ["after the restart"]);
}

#[test]
fn who_is_stopped_while_starting_stops_in_order() {
    let mut server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann").registered();
    server.down();
    // As soon as anything of it can be seen from outside: earlier than it is ready.
    for address in [server.http(), server.udp(), server.tls()] {
        let process = server.launch();
        let listens = || std::net::TcpStream::connect(address).ok();
        let seen = sidetone_tests::until(Duration::from_secs(20), listens);
        assert!(seen.is_some(), "{address} listens: {:?}", process.ended());
        server.down();
    }
    server.up();
    assert_eq!(bindings(&mut ann), [ann.contact.clone()]);
}

#[test]
fn ipv6_works_too() {
    let port = sidetone_tests::loopback::port(std::net::Ipv4Addr::LOCALHOST);
    let listen = format!("[::1]:{port}");
    let list = |text: &str| toml::Value::Array(vec![toml::Value::String(text.to_owned())]);
    let server = Options::new()
        .users(&["ann"])
        .set("sip.udp", list(&listen))
        .set("sip.tcp", list(&listen))
        .start();
    let there: std::net::SocketAddr = listen.parse().expect("an address");
    let socket = std::net::UdpSocket::bind("[::1]:0").expect("a socket");
    for wire in [Wire::from_socket(socket, there), Wire::tcp(there)] {
        let mut ann = Phone::new("ann", wire);
        let answer = ann.register(600);
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        assert!(contacts(&answer).contains(&ann.contact), "{answer:?}");
    }
    drop(server);
}
