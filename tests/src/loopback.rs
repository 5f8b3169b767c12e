//! Loopback addresses that no other test uses.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};

static NEXT: AtomicU8 = AtomicU8::new(1);

/// An address of 127.0.0.0/8 for this test alone: two octets from the process,
/// one from a counter, and nobody listens for SIP there yet.
pub fn address() -> Ipv4Addr {
    let pid = std::process::id();
    let [.., high, low] = (pid ^ (pid >> 16)).to_be_bytes();
    for _ in 0..250 {
        let host = NEXT.fetch_add(1, Ordering::Relaxed) % 250 + 1;
        let ip = Ipv4Addr::new(127, 16 + high % 200, low, host);
        if UdpSocket::bind(SocketAddr::from((ip, 5060))).is_ok() {
            return ip;
        }
    }
    panic!("no free loopback address");
}

/// A port of an address that is free for UDP and TCP now.
pub fn port(ip: Ipv4Addr) -> u16 {
    for _ in 0..100 {
        let udp = UdpSocket::bind((ip, 0)).expect("a UDP port");
        let port = udp.local_addr().expect("address").port();
        if std::net::TcpListener::bind((ip, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on {ip}");
}
