//! Whoever floods or squats does not keep others from their calls.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sidetone_tests::{Options, Phone, Server, Wire, loopback};
use socket2::{Domain, Socket, Type};

/// A TCP connection from an address of the test's choice.
fn connect_from(ip: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::from((ip, 0)).into())
        .expect("bind");
    socket
        .connect_timeout(&server.into(), Duration::from_secs(5))
        .expect("connect");
    socket.into()
}

/// A phone by UDP from an address of its own, which limits see as another source.
fn phone_from(ip: Ipv4Addr, server: &Server, user: &str) -> Phone {
    Phone::new(user, Wire::udp(ip, server.udp()))
}

fn served_in_time(server: &Server, what: &str) {
    let began = Instant::now();
    let ip = loopback::address();
    let answer = phone_from(ip, server, "ann").register(600);
    assert_eq!(answer.status(), Some(200), "{what}: UDP: {answer:?}");
    for address in [server.udp(), server.tls()] {
        let mut probe = connect_from(ip, address);
        drop(probe.set_nodelay(true));
        std::io::Write::flush(&mut probe).expect("flush");
    }
    assert_eq!(
        Phone::tcp(server, "ann").register(600).status(),
        Some(200),
        "{what}: TCP"
    );
    assert_eq!(
        Phone::tls(server, "ann").register(600).status(),
        Some(200),
        "{what}: TLS"
    );
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{what}: {:?}",
        began.elapsed()
    );
}

#[test]
fn ten_thousand_idle_connections_harm_nobody() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("more files");
    let count = usize::try_from(hard.min(10_500)).expect("a number") - 500;
    let server = Options::new().limited().users(&["ann"]).start();
    let before = resident_kib(&server);
    let mut idle = Vec::new();
    while idle.len() < count {
        let ip = loopback::address();
        idle.extend((0..900.min(count - idle.len())).map(|_| connect_from(ip, server.udp())));
    }
    served_in_time(&server, "idle connections");
    let each = (resident_kib(&server).saturating_sub(before)) / idle.len() as u64;
    eprintln!("{} idle connections, {each} KiB each", idle.len());
    assert!(each < 32, "{each} KiB a connection");
}

fn resident_kib(server: &Server) -> u64 {
    let status = format!("/proc/{}/status", server.process().id());
    let status = std::fs::read_to_string(status).expect("the process's status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

/// Makes the nth datagram.
type Datagram = Box<dyn Fn(u64) -> Vec<u8> + Send>;

/// Sends datagrams from one source until dropped, about 20,000 a second.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(server: &Server, datagram: Datagram) -> Flood {
        let socket = UdpSocket::bind((loopback::address(), 0)).expect("a socket");
        socket.connect(server.udp()).expect("connect");
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (ends, counts) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            while !ends.load(Ordering::Relaxed) {
                let n = counts.fetch_add(1, Ordering::Relaxed);
                let _ = socket.send(&datagram(n));
                let due = Duration::from_micros(50 * n);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        });
        Flood {
            stop,
            sent,
            thread: Some(thread),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a user meets during a flood: thirty registrations, all of which must work.
fn users_are_served(server: &Server, flood: Flood, name: &str) {
    let mut slowest = Duration::ZERO;
    for _ in 0..30 {
        let mut ann = phone_from(loopback::address(), server, "ann");
        // One contact wherever it comes from: contacts are limited, too.
        ann.contact = "sip:ann@192.0.2.7".to_owned();
        let began = Instant::now();
        let answer = ann.register(600);
        assert_eq!(answer.status(), Some(200), "{name}: {answer:?}");
        slowest = slowest.max(began.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    let sent = flood.sent.load(Ordering::Relaxed);
    drop(flood);
    eprintln!("{name}: {sent} datagrams, slowest registration {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{name}: {slowest:?}");
}

fn request(method: &str, n: u64, more: &str) -> Vec<u8> {
    format!(
        "{method} sip:ann@example.test SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKf{n};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:eve@example.test>;tag={n}\r\nTo: <sip:ann@example.test>\r\n\
         Call-ID: f{n}@192.0.2.1\r\nCSeq: 1 {method}\r\n{more}Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

#[test]
fn floods_from_one_source_leave_others_alone() {
    let server = Options::new().limited().users(&["ann"]).start();
    let forged = |n: u64| {
        let fields = "realm=\"example.test\", algorithm=SHA-256, uri=\"sip:example.test\"";
        format!(
            "Authorization: Digest username=\"ann\", {fields}, nonce=\"{n}\", response=\"{n:064x}\"\r\n"
        )
    };
    let kinds: [(&str, Datagram); 5] = [
        (
            "REGISTER without credentials",
            Box::new(|n| request("REGISTER", n, "")),
        ),
        (
            "REGISTER with forged ones",
            Box::new(move |n| request("REGISTER", n, &forged(n))),
        ),
        ("INVITE", Box::new(|n| request("INVITE", n, ""))),
        ("OPTIONS", Box::new(|n| request("OPTIONS", n, ""))),
        ("garbage", Box::new(|n| n.to_be_bytes().repeat(60))),
    ];
    for (name, datagram) in kinds {
        let flood = Flood::start(&server, datagram);
        users_are_served(&server, flood, name);
    }
    served_in_time(&server, "after the floods");
}
