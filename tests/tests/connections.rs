//! Connections that the server opens, and what follows when one closes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use sidetone_tests::certificate::Authority;
use sidetone_tests::sip::wire::Incoming;
use sidetone_tests::{Message, Options, Phone, Server, Wire, loopback, until};

const SOON: Duration = Duration::from_secs(5);

/// Another server, which ours connects to.
struct Peer {
    listener: TcpListener,
    address: SocketAddr,
}

impl Peer {
    fn new() -> Peer {
        let ip = loopback::address();
        let listener = TcpListener::bind((ip, 0)).expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("address");
        Peer { listener, address }
    }

    fn ip(&self) -> Ipv4Addr {
        sidetone_tests::sip::phone::ipv4(self.address)
    }

    fn uri(&self, transport: &str) -> String {
        format!("sip:somebody@{};transport={transport}", self.address)
    }

    /// The next connection within the time.
    fn accept(&self, limit: Duration) -> Option<std::net::TcpStream> {
        let (stream, _) = until(limit, || self.listener.accept().ok())?;
        stream.set_nonblocking(false).expect("blocking");
        Some(stream)
    }

    fn phone(&self, wire: Wire) -> Phone {
        Phone::new("somebody", wire)
    }
}

fn sharded(shards: i64) -> Server {
    let users = ["ann", "bob"];
    Options::new()
        .users(&users)
        .set("sip.shards", shards)
        .start()
}

#[test]
fn a_ringing_phone_whose_connection_closes_is_answered_for_at_once() {
    for shards in [1, 3] {
        let server = sharded(shards);
        let mut ann = Phone::udp(&server, "ann");
        // With several shards, connection and call are mostly not on the same one.
        for connect in [Phone::tcp, Phone::tls, Phone::tcp, Phone::tls] {
            let mut bob = connect(&server, "bob").registered();
            let invite = ann.invite(&server.uri("bob"));
            let ringing = bob.expect("INVITE");
            bob.answer(&ringing, 180);
            ann.expect_answer(&invite, 180);
            drop(bob);
            let answer = ann.final_answer(&invite, SOON).expect("an answer at once");
            assert_eq!(answer.status(), Some(480), "{answer:?}");
            ann.ack_failure(&invite, &answer);
        }
    }
}

#[test]
fn the_others_ring_on_when_one_connection_closes() {
    let server = sharded(1);
    server.add_device("bob", "bob-2");
    let mut ann = Phone::udp(&server, "ann");
    let mut desk = Phone::udp(&server, "bob").registered();
    let mut soft = Phone::tcp(&server, "bob").device("bob-2").registered();
    let invite = ann.invite(&server.uri("bob"));
    let (one, two) = (desk.expect("INVITE"), soft.expect("INVITE"));
    desk.answer(&one, 180);
    soft.answer(&two, 180);
    drop(soft);
    desk.accept(&one);
    let answer = ann.final_answer(&invite, SOON).expect("an answer");
    assert_eq!(answer.status(), Some(200), "{answer:?}");
}

#[test]
fn a_cancelled_call_ends_with_the_connection_that_never_answered() {
    let server = sharded(1);
    let mut ann = Phone::udp(&server, "ann");
    let mut bob = Phone::tcp(&server, "bob").registered();
    let invite = ann.invite(&server.uri("bob"));
    let ringing = bob.expect("INVITE");
    bob.answer(&ringing, 180);
    ann.expect_answer(&invite, 180);
    let cancel = ann.cancel(&invite);
    ann.send(&cancel);
    bob.expect("CANCEL");
    drop(bob);
    let answer = ann.final_answer(&invite, SOON).expect("an answer at once");
    assert_eq!(answer.status(), Some(487), "{answer:?}");
}

fn open_connections(server: &Server) -> u32 {
    let metrics = sidetone_tests::server::get(server.http(), "/metrics").expect("metrics");
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix("sidetone_connections "));
    value.expect("the metric").parse().expect("a number")
}

#[test]
fn an_answer_whose_connection_is_gone_comes_by_a_new_one() {
    for shards in [1, 3] {
        let trusted = vec!["127.0.0.0/8".to_owned()];
        let server = Options::new()
            .users(&["ann", "bob"])
            .set("sip.shards", shards)
            .set("sip.trusted", trusted)
            .start();
        let mut bob = Phone::udp(&server, "bob").registered();
        for _ in 0..4 {
            let mut ann = Phone::tcp(&server, "ann");
            // RFC 3261 §18.2.2: the port of sent-by, at the address that the request came from.
            let listener = TcpListener::bind((ann.local().ip(), 0)).expect("a port");
            listener.set_nonblocking(true).expect("non-blocking");
            let port = listener.local_addr().expect("address").port();
            let draft = ann.draft("INVITE", &server.uri("bob"));
            let via = format!(
                "SIP/2.0/TCP elsewhere.invalid:{port};branch={}",
                draft.branch()
            );
            let invite = draft.but("Via", via);
            ann.send(&invite);
            let ringing = bob.expect("INVITE");
            drop(ann);
            let closed = || (open_connections(&server) == 0).then_some(());
            assert!(until(SOON, closed).is_some(), "the server has noticed");
            bob.answer(&ringing, 486);
            let accepted = until(SOON, || listener.accept().ok());
            let (stream, from) = accepted.expect("a new connection");
            assert_eq!(from.ip(), std::net::IpAddr::from(server.ip));
            stream.set_nonblocking(false).expect("blocking");
            let mut wire = Wire::accepted(stream);
            let answer = loop {
                match wire.receive(Instant::now() + SOON) {
                    Some(Incoming::Message(answer)) if answer.status() == Some(486) => {
                        break answer;
                    }
                    Some(_) => {}
                    None => panic!("no answer"),
                }
            };
            assert_eq!(answer.branch(), invite.branch());
        }
    }
}

#[test]
fn one_connection_serves_for_all_calls_to_a_peer() {
    let server = sharded(3);
    let mut ann = Phone::udp(&server, "ann");
    let peer = Peer::new();
    let first = ann.invite(&peer.uri("tcp"));
    let stream = peer.accept(SOON).expect("a connection");
    let mut there = peer.phone(Wire::accepted(stream));
    let mut invites = vec![first];
    invites.extend((0..11).map(|_| ann.invite(&peer.uri("tcp"))));
    for _ in &invites {
        let invite = there.expect("INVITE");
        assert_eq!(invite.uri(), peer.uri("tcp"));
        there.answer(&invite, 486);
    }
    for invite in &invites {
        let answer = ann.final_answer(invite, SOON).expect("an answer");
        assert_eq!(answer.status(), Some(486), "{answer:?}");
    }
    for _ in &invites {
        there.expect("ACK");
    }
    let second = peer.accept(Duration::from_millis(100));
    assert!(second.is_none(), "a second connection");
    // It closes with a call ringing: the caller knows at once, and the next call opens another.
    let invite = ann.invite(&peer.uri("tcp"));
    let ringing = there.expect("INVITE");
    there.answer(&ringing, 180);
    ann.expect_answer(&invite, 180);
    drop(there);
    let answer = ann.final_answer(&invite, SOON).expect("an answer at once");
    assert_eq!(answer.status(), Some(500), "{answer:?}");
    let invite = ann.invite(&peer.uri("tcp"));
    let mut there = peer.phone(Wire::accepted(peer.accept(SOON).expect("another")));
    let again = there.expect("INVITE");
    there.answer(&again, 404);
    let answer = ann.final_answer(&invite, SOON).expect("an answer");
    assert_eq!(answer.status(), Some(404), "{answer:?}");
}

#[test]
fn a_peer_that_does_not_listen_is_500_at_once() {
    let server = sharded(1);
    let mut ann = Phone::udp(&server, "ann");
    let peer = Peer::new();
    let uri = peer.uri("tcp");
    drop(peer);
    let mark = server.process().mark();
    let answer = ann.invite(&uri);
    let answer = ann.final_answer(&answer, SOON).expect("an answer");
    assert_eq!(answer.status(), Some(500), "{answer:?}");
    server.process().expect_line(mark, SOON, "cannot connect");
}

fn warning(answer: &Message) -> &str {
    answer.header("Warning").unwrap_or_default()
}

#[test]
fn a_certificate_that_is_not_trusted_is_refused_and_the_log_says_why() {
    let server = Options::new().users(&["ann"]).trusting().start();
    let mut ann = Phone::udp(&server, "ann");
    let stranger = Authority::new(server.folder());
    for (authority, named, why) in [
        // A stranger's signature; then ours, for somebody else.
        (&stranger, true, "invalid peer certificate"),
        (&server.authority, false, "not valid for name"),
    ] {
        let peer = Peer::new();
        let ip = if named { peer.ip() } else { server.ip };
        let files = authority.issue(server.folder(), "peer", "peer.test", ip);
        let mark = server.process().mark();
        let invite = ann.invite(&peer.uri("tls"));
        let stream = peer.accept(SOON).expect("a connection");
        let shaken = Wire::accepted_tls(stream, &files);
        if let Ok(mut wire) = shaken {
            assert!(wire.closes(SOON), "nothing is sent");
        }
        let answer = ann.final_answer(&invite, SOON).expect("an answer");
        assert_eq!(answer.status(), Some(500), "{answer:?}");
        assert!(warning(&answer).contains("unreachable"), "{answer:?}");
        let line = server.process().expect_line(mark, SOON, "cannot connect");
        assert!(line.contains(why), "{line}");
    }
}

/// RFC 5922 §4, RFC 3263: the name before any look-up, and not what it led to.
#[test]
fn the_name_that_was_called_is_what_a_certificate_has_to_prove() {
    let server = Options::new().users(&["ann"]).trusting().start();
    let mut ann = Phone::udp(&server, "ann");
    // Found at 127.0.0.1 by its name; the certificate is for the name and another address.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("address");
    let peer = Peer { listener, address };
    let files = server
        .authority
        .issue(server.folder(), "peer", "peer.test", server.ip);
    for (host, status) in [("127.0.0.1", 500), ("localhost", 603), ("127.0.0.1", 500)] {
        let uri = format!("sip:somebody@{host}:{};transport=tls", address.port());
        let invite = ann.invite(&uri);
        let stream = peer.accept(SOON).expect("a connection");
        let shaken = Wire::accepted_tls(stream, &files);
        if status == 603 {
            let mut there = peer.phone(shaken.expect("a handshake"));
            let received = there.expect("INVITE");
            there.answer(&received, 603);
            // Else it would come by a connection of its own, which the next turn took for its own.
            there.expect("ACK");
        }
        let answer = ann.final_answer(&invite, SOON).expect("an answer");
        assert_eq!(answer.status(), Some(status), "{host}: {answer:?}");
    }
}

#[test]
fn a_certificate_of_a_trusted_authority_is_accepted() {
    for shards in [1, 3] {
        let options = Options::new().users(&["ann"]).set("sip.shards", shards);
        let server = options.trusting().start();
        let mut ann = Phone::tls(&server, "ann");
        let peer = Peer::new();
        let files = server
            .authority
            .issue(server.folder(), "peer", "peer.test", peer.ip());
        let invite = ann.invite(&peer.uri("tls"));
        let stream = peer.accept(SOON).expect("a connection");
        let wire = Wire::accepted_tls(stream, &files).expect("a handshake");
        let mut there = peer.phone(wire);
        let received = there.expect("INVITE");
        let via = received.header("Via").unwrap_or_default();
        assert!(via.starts_with("SIP/2.0/TLS "), "{via}");
        there.answer(&received, 603);
        let answer = ann.final_answer(&invite, SOON).expect("an answer");
        assert_eq!(answer.status(), Some(603), "{answer:?}");
    }
}

#[test]
fn status_tells_calls_that_ring_from_those_that_were() {
    let server = sharded(2);
    let calls = || {
        let status = server.cli(&["status", "--json"], "");
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let number = |name: &str| status["calls"][name].as_u64().expect("a number");
        (number("ringing"), number("total"))
    };
    let mut ann = Phone::udp(&server, "ann");
    let mut bob = Phone::udp(&server, "bob").registered();
    assert_eq!(calls(), (0, 0));
    let invites = [
        ann.invite(&server.uri("bob")),
        ann.invite(&server.uri("bob")),
    ];
    let (one, two) = (bob.expect("INVITE"), bob.expect("INVITE"));
    bob.answer(&one, 180);
    bob.answer(&two, 180);
    assert!(until(SOON, || (calls() == (2, 2)).then_some(())).is_some());
    bob.answer(&one, 486);
    assert!(until(SOON, || (calls() == (1, 2)).then_some(())).is_some());
    bob.accept(&two);
    assert!(until(SOON, || (calls() == (0, 2)).then_some(())).is_some());
    drop(invites);
}
