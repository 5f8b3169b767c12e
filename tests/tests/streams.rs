//! Streams and datagrams: framing, keep-alives, connections.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sidetone_tests::sip::wire::Incoming;
use sidetone_tests::{Message, Phone, Server, Wire};

const SOON: Duration = Duration::from_secs(5);

fn options(phone: &Phone, server: &Server) -> Message {
    phone.draft("OPTIONS", &format!("sip:{}", server.udp()))
}

#[test]
fn single_octets_are_put_together() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::tcp(&server, "ann");
    let request = ann.registration(600).with_body("text/plain", "body");
    for byte in request.bytes() {
        assert!(ann.wire.send(&[byte]));
    }
    let answer = ann.final_answer(&request, SOON).expect("an answer");
    assert_eq!(answer.status(), Some(401));
}

#[test]
fn many_requests_in_one_write_are_all_answered() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::tcp(&server, "ann");
    let requests: Vec<Message> = (0..50).map(|_| options(&ann, &server)).collect();
    let all: Vec<u8> = requests.iter().flat_map(Message::bytes).collect();
    assert!(ann.wire.send(&all));
    for request in &requests {
        let answer = ann.final_answer(request, SOON).expect("an answer");
        assert_eq!(answer.status(), Some(200), "{answer:?}");
    }
}

#[test]
fn a_length_that_lies_ends_the_connection() {
    let server = Server::with(&["ann"]);
    // Shorter than the body: what follows is no SIP.
    let mut ann = Phone::tcp(&server, "ann");
    let body = "this is no start of a SIP message\r\n\r\nnor is this\r\n\r\n";
    let request = options(&ann, &server)
        .with("Content-Length", "2")
        .with_body("text/plain", body);
    assert!(ann.wire.send(&request.bytes()));
    assert!(ann.wire.closes(SOON), "too short");
    // Not a number, negative, two different ones, too large to be true.
    for value in ["x", "-1", "99999999999999999999", "1000000000"] {
        let mut ann = Phone::tcp(&server, "ann");
        let request = options(&ann, &server).with("Content-Length", value);
        assert!(ann.wire.send(&request.bytes()));
        assert!(ann.wire.closes(SOON), "{value}");
    }
    let mut ann = Phone::tcp(&server, "ann");
    let text = String::from_utf8(options(&ann, &server).bytes()).expect("text");
    let two = text.replace(
        "Content-Length: 0",
        "Content-Length: 0\r\nContent-Length: 7",
    );
    assert!(ann.wire.send(two.as_bytes()));
    assert!(ann.wire.closes(SOON), "two lengths");
    // The server is well, and so are others.
    assert_eq!(Phone::tcp(&server, "ann").register(600).status(), Some(200));
}

#[test]
fn a_head_without_end_is_bounded() {
    let server = Server::with(&["ann"]);
    let mut stream = TcpStream::connect(server.udp()).expect("connect");
    stream.set_write_timeout(Some(SOON)).expect("timeout");
    stream.set_read_timeout(Some(SOON)).expect("timeout");
    let start = b"OPTIONS sip:example.test SIP/2.0\r\nX: ";
    assert!(stream.write_all(start).is_ok());
    // The system's buffers take some megabytes, however soon the server has had enough.
    let began = Instant::now();
    while stream.write_all(&[b'x'; 10_000]).is_ok() {
        assert!(
            began.elapsed() < SOON,
            "the server takes a head without end"
        );
    }
}

#[test]
fn too_large_a_datagram_or_too_many_headers_are_refused() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann");
    let mut request = options(&ann, &server);
    for n in 0..200 {
        request = request.with(&format!("X-{n}"), "x");
    }
    let answer = ann.transact(&request);
    assert!(
        matches!(answer.status(), Some(400 | 413 | 513)),
        "{answer:?}"
    );
    let mut request = options(&ann, &server);
    for _ in 0..80 {
        request = request.with("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx");
    }
    let answer = ann.transact(&request);
    assert!(
        matches!(answer.status(), Some(400 | 413 | 482 | 483 | 513)),
        "{answer:?}"
    );
}

#[test]
fn crlf_and_stun_keep_flows_alive() {
    let server = Server::with(&["ann"]);
    for mut wire in [Wire::tcp(server.udp()), Phone::tls(&server, "ann").wire] {
        assert!(wire.send(b"\r\n\r\n"));
        let pong = wire.receive(Instant::now() + SOON);
        assert_eq!(
            pong,
            Some(Incoming::Other(b"\r\n".to_vec())),
            "RFC 5626 §3.5.1"
        );
    }
    let mut wire = Wire::udp(server.ip, server.udp());
    let mut binding = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    binding.extend_from_slice(b"twelve-octet");
    assert!(wire.send(&binding));
    let Some(Incoming::Other(answer)) = wire.receive(Instant::now() + SOON) else {
        panic!("no STUN answer (RFC 5626 §3.5.2)");
    };
    assert_eq!(&answer[..2], [1, 1], "a binding success");
    assert_eq!(&answer[4..20], &binding[4..20]);
    let port = wire.local().port() ^ 0x2112;
    let at = answer
        .windows(2)
        .position(|w| w == [0, 0x20])
        .expect("XOR-MAPPED-ADDRESS");
    assert_eq!(&answer[at + 6..at + 8], port.to_be_bytes());
    // Blank datagrams are keep-alives, too; nobody answers.
    assert!(wire.send(b"\r\n\r\n"));
    assert!(wire.send(&[0]));
    assert_eq!(
        wire.receive(Instant::now() + Duration::from_millis(300)),
        None
    );
}

#[test]
fn a_phone_behind_nat_is_reached_on_its_connection() {
    let server = Server::with(&["ann", "bob"]);
    for connect in [Phone::tcp, Phone::tls] {
        let mut bob = connect(&server, "bob");
        // A private address that nobody could connect to.
        bob.contact = format!(
            "sip:bob@10.1.2.3:5060;transport={}",
            bob.wire.token().to_lowercase()
        );
        let mut bob = bob.registered();
        let mut ann = Phone::udp(&server, "ann");
        assert!(matches!(
            ann.message("bob", "through NAT").status(),
            Some(200 | 202)
        ));
        assert_eq!(bob.texts(1), ["through NAT"]);
        assert_eq!(bob.register(0).status(), Some(200));
    }
}

#[test]
fn a_closed_connection_is_noticed_and_the_message_kept() {
    let server = Server::with(&["ann", "bob"]);
    let bob = Phone::tcp(&server, "bob").registered();
    drop(bob);
    let mut ann = Phone::udp(&server, "ann");
    assert!(matches!(
        ann.message("bob", "kept").status(),
        Some(200 | 202)
    ));
    let mut bob = Phone::tcp(&server, "bob").registered();
    assert_eq!(bob.texts(1), ["kept"]);
}

#[test]
fn half_a_request_holds_nothing_up() {
    let server = Server::with(&["ann"]);
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(server.udp()).expect("connect");
        stream
            .write_all(b"REGISTER sip:example.test SIP/2.0\r\nVia: ")
            .expect("send");
        idle.push(stream);
    }
    for connect in [Phone::udp, Phone::tcp, Phone::tls] {
        let began = Instant::now();
        assert_eq!(connect(&server, "ann").register(600).status(), Some(200));
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
