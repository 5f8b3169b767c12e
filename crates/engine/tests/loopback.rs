//! The engine on real sockets: what every peer meets first.

// A test that cannot be set up has to fail loudly.
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use sidetone_engine::shared::{Counters, Strangers, Waiting};
use sidetone_engine::{
    Admission, Bound, Counts, Engine, Listen, Patience, Plan, Services, ShardSettings, Supplies,
};
use sidetone_services::{
    Authenticator, Conversations, Directory, Domains, LimitPolicy, Limiter, Location, Networks,
    RegisterPolicy,
};
use sidetone_sip::proxy::{Local, Locals};
use sidetone_sip::{Limits, TokenKey, Transport};
use sidetone_store::{Store, WriterOptions};
use sidetone_transport::tls::{ClientTls, ServerTls};

const PATIENCE: Duration = Duration::from_secs(5);
/// The server's, in its certificate.
const NAME: &str = "sip.example.test";

struct World {
    engine: Engine,
    udp: SocketAddr,
    tcp: SocketAddr,
    tls: SocketAddr,
    _runtime: tokio::runtime::Runtime,
    data: tempfile::TempDir,
}

impl World {
    fn new(shards: u16, per_source: usize) -> Self {
        Self::with(shards, per_source, Patience::default())
    }

    fn with(shards: u16, per_source: usize, patience: Patience) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let data = tempfile::tempdir().unwrap();
        let listen = |transport| Listen {
            transport,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let listeners = [Transport::Udp, Transport::Tcp, Transport::Tls].map(listen);
        let listeners = listeners.to_vec();
        let bound = Bound::bind(&Plan { shards, listeners }).unwrap();
        let [udp, tcp, tls] = [0, 1, 2].map(|number| bound.addresses()[number]);
        let certificate = ServerTls::self_signed(&[NAME.to_owned()], data.path()).unwrap();
        let store = runtime
            .block_on(Store::open("sqlite", data.path()))
            .unwrap();
        let writer = runtime
            .block_on(store.start_writer(WriterOptions::default()))
            .unwrap();
        let services = Arc::new(services(udp, tcp));
        let conversations = Conversations::start(
            store.clone(),
            writer.clone(),
            Arc::clone(&services.directory),
            Arc::clone(&services.groups),
            Arc::clone(&services.board),
            7,
        );
        let conversations = Arc::new(runtime.block_on(conversations).unwrap());
        let supplies = Supplies {
            services,
            writer,
            conversations,
            resolver: None,
            server_tls: Some(certificate.sip()),
            client_tls: ClientTls::new(None).unwrap(),
            control: runtime.handle().clone(),
            limits: Limits::default(),
            admission: Arc::new(Admission::new(100, per_source)),
            patience,
            counts: Counts::default(),
            subscriptions: Mutex::default(),
        };
        Self {
            engine: bound.run(supplies, &ShardSettings::default(), 42),
            udp,
            tcp,
            tls,
            _runtime: runtime,
            data,
        }
    }

    fn connect_tls(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let chain = self.data.path().join("self-signed.crt");
        let trust = ClientTls::new(Some(&chain)).unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let session = ClientConnection::new(trust.config(), name).unwrap();
        let stream = TcpStream::connect(self.tls).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(session, stream)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.engine.stop();
        assert_eq!(self.engine.figures().task_failures, 0);
    }
}

fn services(udp: SocketAddr, tcp: SocketAddr) -> Services {
    let mut domains = Domains::new("example.test");
    domains.add("127.0.0.1", "example.test");
    let local = |transport, address: SocketAddr, parameter: &str| Local {
        transport,
        sent_by: address.to_string(),
        uri: format!("sip:{address}{parameter}"),
    };
    let locals = vec![
        local(Transport::Udp, udp, ""),
        local(Transport::Tcp, tcp, ";transport=tcp"),
    ];
    Services {
        directory: Arc::new(Directory::new()),
        location: Location::new(),
        authenticator: Authenticator::new([1; 32], 300_000, 1024),
        limiter: Limiter::new(LimitPolicy::default()),
        domains,
        tokens: TokenKey::new([2; 32]),
        locals: Arc::new(Locals::new(locals)),
        register_policy: RegisterPolicy::default(),
        trusted: Networks::default(),
        strangers: Strangers::Challenge,
        stored_before: Default::default(),
        waiting: Waiting::default(),
        abilities: sidetone_services::AbilityTable::default(),
        groups: Arc::default(),
        watched: Arc::default(),
        outbox: Arc::default(),
        board: Arc::default(),
        counters: Counters::default(),
    }
}

/// OPTIONS to the server itself: answered without credentials.
fn options(transport: &str, from: SocketAddr, call: &str) -> String {
    format!(
        "OPTIONS sip:example.test SIP/2.0\r\nVia: SIP/2.0/{transport} {from};branch=z9hG4bK{call};rport\r\n\
         From: <sip:probe@example.test>;tag=1\r\nTo: <sip:example.test>\r\nCall-ID: {call}\r\n\
         CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The head of one answer; its body is empty.
fn answer(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        head.push(octet[0]);
    }
    String::from_utf8(head).unwrap()
}

fn udp_client(world: &World) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(world.udp).unwrap();
    client
}

#[test]
fn options_is_answered_over_udp_and_tcp() {
    for shards in [1, 3] {
        let world = World::new(shards, 10);
        let client = udp_client(&world);
        let mut stream = world.connect();
        for n in 0..30 {
            let call = format!("call-{shards}-{n}");
            let request = options("UDP", client.local_addr().unwrap(), &call);
            client.send(request.as_bytes()).unwrap();
            let mut buffer = [0; 4096];
            let length = client.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]);
            assert!(
                text.starts_with("SIP/2.0 200 ") && text.contains(&call),
                "{text}"
            );

            let call = format!("stream-{shards}-{n}");
            let request = options("TCP", stream.local_addr().unwrap(), &call);
            stream.write_all(request.as_bytes()).unwrap();
            let text = answer(&mut stream);
            assert!(
                text.starts_with("SIP/2.0 200 ") && text.contains(&call),
                "{text}"
            );
        }
    }
}

#[test]
fn a_ping_on_a_stream_is_answered_in_the_middle_of_things() {
    let world = World::new(1, 10);
    let mut stream = world.connect();
    let request = options("TCP", stream.local_addr().unwrap(), "cut");
    let (first, second) = request.split_at(100);
    stream.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");
    stream.write_all(first.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    stream.write_all(second.as_bytes()).unwrap();
    assert!(answer(&mut stream).starts_with("SIP/2.0 200 "));
}

#[test]
fn a_stream_of_nonsense_is_closed_and_the_next_one_served() {
    let world = World::new(1, 10);
    let mut stream = world.connect();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
    let mut rest = Vec::new();
    // An end or a reset: either way it is over.
    let _ = stream.read_to_end(&mut rest);
    let mut stream = world.connect();
    let request = options("TCP", stream.local_addr().unwrap(), "after");
    stream.write_all(request.as_bytes()).unwrap();
    assert!(answer(&mut stream).starts_with("SIP/2.0 200 "));
}

#[test]
fn one_source_has_so_many_connections_and_no_more() {
    let world = World::new(1, 2);
    let mut streams = [world.connect(), world.connect()];
    for stream in &mut streams {
        let request = options("TCP", stream.local_addr().unwrap(), "place");
        stream.write_all(request.as_bytes()).unwrap();
        assert!(answer(stream).starts_with("SIP/2.0 200 "));
    }
    let mut third = world.connect();
    let closed = third.read(&mut [0; 1]);
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert_eq!(world.engine.figures().connections_refused, 1);
    drop(streams);
    let again = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        world.engine.figures().connections == 0
    });
    assert!(again, "places come back");
}

/// Runs a peer over TCP, then over TLS, and waits for the server to close.
fn closed_by(patience: Patience, peer: impl Fn(&mut dyn ReadWrite, &str)) {
    for shards in [1, 2] {
        let world = World::with(shards, 10, patience);
        let mut tls = world.connect_tls();
        for (transport, stream) in [
            ("TCP", &mut world.connect() as &mut dyn ReadWrite),
            ("TLS", &mut tls),
        ] {
            peer(stream, transport);
            let mut rest = Vec::new();
            let end = stream.read_to_end(&mut rest);
            let late = |error: &std::io::Error| {
                matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
            };
            assert!(!end.is_err_and(|error| late(&error)), "{transport}: open");
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn ask(stream: &mut dyn ReadWrite, transport: &str) {
    let request = options(transport, SocketAddr::from(([127, 0, 0, 1], 9)), "alive");
    stream.write_all(request.as_bytes()).unwrap();
    let mut stream = stream;
    assert!(answer(&mut stream).starts_with("SIP/2.0 200 "));
}

/// So long that a test would fail by its own patience.
fn endless() -> Patience {
    Patience {
        first_message: PATIENCE * 10,
        message: PATIENCE * 10,
        silence: PATIENCE * 10,
        sweep: Duration::from_millis(5),
        ..Patience::default()
    }
}

#[test]
fn who_never_says_a_whole_message_is_closed() {
    let patience = Patience {
        first_message: Duration::from_millis(30),
        ..endless()
    };
    closed_by(patience, |stream, _| {
        // Keep-alives are no message.
        stream.write_all(b"\r\n\r\n").unwrap();
    });
}

#[test]
fn half_a_message_is_not_waited_for() {
    let patience = Patience {
        message: Duration::from_millis(30),
        ..endless()
    };
    closed_by(patience, |stream, transport| {
        ask(stream, transport);
        stream.write_all(b"OPTIONS sip:example.test SI").unwrap();
    });
}

#[test]
fn a_silent_connection_is_closed() {
    let patience = Patience {
        silence: Duration::from_millis(100),
        ..endless()
    };
    closed_by(patience, ask);
}

#[test]
fn websockets_ask_and_are_answered_on_every_shard() {
    let world = World::new(2, 3);
    let door = world.engine.websocket_door();
    let remote = SocketAddr::from(([192, 0, 2, 1], 4711));
    let mut lines = Vec::new();
    for n in 0..3 {
        let (outgoing, mut answers) = tokio::sync::mpsc::channel(4);
        let mut line = door.connect(3, true, remote, outgoing);
        // RFC 7118 §6 with RFC 5626 §4.4.1: a ping of its own, and its pong.
        line.receive("\r\n\r\n".into()).unwrap();
        assert_eq!(answers.blocking_recv().unwrap(), "\r\n");
        let request = options("WSS", remote, &format!("web-{n}"));
        line.receive(request.into()).unwrap();
        let answer = answers.blocking_recv().unwrap();
        assert!(answer.starts_with(b"SIP/2.0 200 "), "{answer:?}");
        lines.push((line, answers));
    }
    assert_eq!(world.engine.figures().connections, 3);
    let (outgoing, mut answers) = tokio::sync::mpsc::channel(4);
    let mut fourth = door.connect(3, true, remote, outgoing);
    assert!(fourth.receive("\r\n\r\n".into()).is_err(), "one too many");
    assert_eq!(answers.blocking_recv(), None, "and it is to be closed");
    drop(lines);
    let gone = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        world.engine.figures().connections == 0
    });
    assert!(gone, "places come back");
}

#[test]
fn a_websocket_whose_peer_takes_nothing_is_cut_off() {
    let world = World::new(1, 10);
    let door = world.engine.websocket_door();
    let remote = SocketAddr::from(([192, 0, 2, 1], 4711));
    let (outgoing, mut answers) = tokio::sync::mpsc::channel(1);
    let mut line = door.connect(3, true, remote, outgoing);
    for n in 0..3 {
        let request = options("WSS", remote, &format!("stuck-{n}"));
        line.receive(request.into()).unwrap();
    }
    // The shard reads its inbox in order: with this answer, those three are behind it.
    let (other, mut others) = tokio::sync::mpsc::channel(1);
    let mut next = door.connect(3, true, remote, other);
    next.receive(options("WSS", remote, "next").into()).unwrap();
    assert!(others.blocking_recv().is_some());
    assert!(answers.blocking_recv().is_some(), "there was room for one");
    assert_eq!(answers.blocking_recv(), None, "and then it is to be closed");
}

#[test]
fn an_address_in_use_is_named() {
    let world = World::new(1, 10);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = Listen {
        transport: Transport::Tcp,
        address: taken.local_addr().unwrap(),
    };
    let plan = Plan {
        shards: 1,
        listeners: vec![listen],
    };
    let error = Bound::bind(&plan).err().unwrap().to_string();
    assert!(
        error.starts_with(&format!("TCP {}: ", listen.address)),
        "{error}"
    );
    drop(world);
}
