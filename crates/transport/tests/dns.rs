//! Resolution against a name server of this test's own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sidetone_transport::dns::{Abilities, HOPS_MAX, Hop, Protocol, ResolveError, Resolver, Target};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const NAPTR: u16 = 35;
const NAME_ERROR: u8 = 3;

/// Record data by name and type; a name that is absent does not exist.
#[derive(Clone, Default)]
struct Zone(HashMap<(String, u16), Vec<Vec<u8>>>);

impl Zone {
    fn add(mut self, name: &str, kind: u16, data: Vec<u8>) -> Self {
        self.0
            .entry((name.to_owned(), kind))
            .or_default()
            .push(data);
        self
    }

    fn a(self, name: &str, last: u8) -> Self {
        self.add(name, A, vec![192, 0, 2, last])
    }

    fn aaaa(self, name: &str, last: u8) -> Self {
        let mut address = vec![0x20, 0x01, 0x0d, 0xb8];
        address.resize(15, 0);
        address.push(last);
        self.add(name, AAAA, address)
    }

    fn srv(self, name: &str, numbers: [u16; 3], host: &str) -> Self {
        let mut data: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        data.extend(labels(host));
        self.add(name, SRV, data)
    }

    fn naptr(self, name: &str, numbers: [u16; 2], service: &str, replacement: &str) -> Self {
        let mut data: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        for text in ["S", service, ""] {
            data.push(u8::try_from(text.len()).unwrap());
            data.extend(text.as_bytes());
        }
        data.extend(labels(replacement));
        self.add(name, NAPTR, data)
    }

    fn answer(&self, query: &[u8]) -> (String, u16, Vec<u8>) {
        let (name, end) = question(query);
        let kind = u16::from_be_bytes([query[end], query[end + 1]]);
        let none = Vec::new();
        let records = self.0.get(&(name.clone(), kind)).unwrap_or(&none);
        let exists = self.0.keys().any(|(known, _)| known.ends_with(&name));
        let code = if exists { 0 } else { NAME_ERROR };
        let count = u8::try_from(records.len()).unwrap();
        let mut reply = query[..2].to_vec();
        reply.extend([0x84, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
        reply.extend(&query[12..end + 4]);
        for data in records {
            reply.extend([0xc0, 12]);
            reply.extend(kind.to_be_bytes());
            reply.extend([0, 1, 0, 0, 0, 60]);
            reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            reply.extend(data);
        }
        (name, kind, reply)
    }
}

fn labels(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// The name asked for, in lower case, and where it ends.
fn question(query: &[u8]) -> (String, usize) {
    let (mut name, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        name.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    (name.join("."), at + 1)
}

type Asked = Arc<Mutex<Vec<(String, u16)>>>;

async fn serve(zone: Zone) -> (SocketAddr, Asked) {
    let socket = UdpSocket::bind("127.0.0.53:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut query = [0; 1500];
        while let Ok((count, from)) = socket.recv_from(&mut query).await {
            let (name, kind, reply) = zone.answer(&query[..count]);
            log.lock().unwrap().push((name, kind));
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    (address, asked)
}

async fn resolver(zone: Zone, abilities: Abilities) -> (Resolver, Asked) {
    let (address, asked) = serve(zone).await;
    (
        Resolver::with_servers(&[address], Handle::current(), abilities).unwrap(),
        asked,
    )
}

fn target(host: &str) -> Target {
    Target {
        host: host.to_owned(),
        port: None,
        transport: None,
        sips: false,
    }
}

fn hops(list: &[(Protocol, &str)]) -> Vec<Hop> {
    list.iter()
        .map(|(transport, address)| Hop {
            transport: *transport,
            address: address.parse().unwrap(),
        })
        .collect()
}

fn full_zone() -> Zone {
    Zone::default()
        .naptr(
            "example.com",
            [50, 50],
            "SIPS+D2T",
            "_sips._tcp.example.com",
        )
        .naptr("example.com", [90, 50], "SIP+D2T", "_sip._tcp.example.com")
        .naptr("example.com", [100, 50], "SIP+D2U", "_sip._udp.example.com")
        .srv("_sips._tcp.example.com", [0, 1, 5061], "one.example.com")
        .srv("_sips._tcp.example.com", [1, 1, 5081], "two.example.com")
        .srv("_sip._tcp.example.com", [0, 1, 5060], "one.example.com")
        .srv("_sip._udp.example.com", [0, 1, 5070], "two.example.com")
        .a("one.example.com", 1)
        .aaaa("one.example.com", 1)
        .a("two.example.com", 2)
}

#[tokio::test]
async fn naptr_leads_to_srv_and_to_addresses_in_order() {
    use Protocol::{Tcp, Tls, Udp};
    let (resolver, _) = resolver(full_zone(), Abilities::default()).await;
    let found = resolver.resolve(target("example.com"), 1).await.unwrap();
    let secure = [
        (Tls, "192.0.2.1:5061"),
        (Tls, "[2001:db8::1]:5061"),
        (Tls, "192.0.2.2:5081"),
    ];
    let plain = [
        (Tcp, "192.0.2.1:5060"),
        (Tcp, "[2001:db8::1]:5060"),
        (Udp, "192.0.2.2:5070"),
    ];
    assert_eq!(found, hops(&[secure, plain].concat()));
    let sips = Target {
        sips: true,
        ..target("example.com")
    };
    assert_eq!(resolver.resolve(sips, 1).await.unwrap(), hops(&secure));
}

#[tokio::test]
async fn a_given_transport_or_port_shortens_the_way() {
    let (resolver, asked) = resolver(full_zone(), Abilities::default()).await;
    let udp = Target {
        transport: Some(Protocol::Udp),
        ..target("Example.COM")
    };
    assert_eq!(
        resolver.resolve(udp, 1).await.unwrap(),
        hops(&[(Protocol::Udp, "192.0.2.2:5070")])
    );
    let port = Target {
        port: Some(7),
        ..target("two.example.com")
    };
    assert_eq!(
        resolver.resolve(port, 1).await.unwrap(),
        hops(&[(Protocol::Udp, "192.0.2.2:7")])
    );
    let address = target("[2001:db8::9]");
    assert_eq!(
        resolver.resolve(address, 1).await.unwrap(),
        hops(&[(Protocol::Udp, "[2001:db8::9]:5060")])
    );
    assert!(asked.lock().unwrap().iter().all(|(_, kind)| *kind != NAPTR));
}

#[tokio::test]
async fn srv_is_found_without_naptr_and_addresses_without_either() {
    let zone = Zone::default()
        .srv("_sip._tcp.srv.example", [0, 0, 5090], "host.example")
        .a("host.example", 3)
        .a("bare.example", 4);
    let (resolver, _) = resolver(zone, Abilities::default()).await;
    let found = resolver.resolve(target("srv.example"), 1).await.unwrap();
    assert_eq!(found, hops(&[(Protocol::Tcp, "192.0.2.3:5090")]));
    let found = resolver.resolve(target("bare.example"), 1).await.unwrap();
    assert_eq!(found, hops(&[(Protocol::Udp, "192.0.2.4:5060")]));
    let sips = Target {
        sips: true,
        ..target("bare.example")
    };
    assert_eq!(
        resolver.resolve(sips, 1).await.unwrap(),
        hops(&[(Protocol::Tls, "192.0.2.4:5061")])
    );
}

#[tokio::test]
async fn families_that_we_lack_are_not_offered() {
    let v6 = Abilities {
        ipv4: false,
        ..Abilities::default()
    };
    let (resolver, asked) = resolver(full_zone(), v6).await;
    let port = Target {
        port: Some(5060),
        ..target("one.example.com")
    };
    let found = resolver.resolve(port, 1).await.unwrap();
    assert_eq!(found, hops(&[(Protocol::Udp, "[2001:db8::1]:5060")]));
    assert!(asked.lock().unwrap().iter().all(|(_, kind)| *kind != A));
    let only_v4 = resolver.resolve(target("192.0.2.1"), 1).await;
    assert!(matches!(only_v4, Err(ResolveError::NotFound(_))));
}

#[tokio::test]
async fn a_dot_for_a_target_means_no_service() {
    let zone = Zone::default()
        .srv("_sip._udp.off.example", [0, 0, 0], ".")
        .a("off.example", 5);
    let (resolver, _) = resolver(zone, Abilities::default()).await;
    let found = resolver.resolve(target("off.example"), 1).await;
    assert_eq!(found, Err(ResolveError::NotFound("off.example".to_owned())));
}

#[tokio::test]
async fn answers_are_remembered_also_negative_ones() {
    let (resolver, asked) = resolver(full_zone(), Abilities::default()).await;
    for host in ["example.com", "none.example"] {
        let first = resolver.resolve(target(host), 1).await;
        let count = asked.lock().unwrap().len();
        assert!(count > 0);
        assert_eq!(resolver.resolve(target(host), 1).await, first);
        assert_eq!(asked.lock().unwrap().len(), count, "asked again for {host}");
        asked.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn hostile_zones_give_a_bounded_answer() {
    let mut zone = Zone::default();
    for i in 0..28u16 {
        let host = format!("h{i}.example");
        zone = zone.srv("_sip._udp.big.example", [i, 0, 5060], &host);
        for last in 0..5 {
            zone = zone.a(&host, last);
        }
    }
    let (resolver, asked) = resolver(zone, Abilities::default()).await;
    let udp = Target {
        transport: Some(Protocol::Udp),
        ..target("big.example")
    };
    let found = resolver.resolve(udp, 1).await.unwrap();
    assert_eq!(found.len(), HOPS_MAX);
    assert!(asked.lock().unwrap().len() <= 1 + 2 * HOPS_MAX);
    for host in ["", "a b", &"x.".repeat(200), "-..-", "\u{e9}.example"] {
        assert!(resolver.resolve(target(host), 1).await.is_err());
    }
}

#[tokio::test]
async fn a_silent_name_server_costs_a_bounded_time() {
    let silent = UdpSocket::bind("127.0.0.53:0").await.unwrap();
    let servers = [silent.local_addr().unwrap()];
    let resolver =
        Resolver::with_servers(&servers, Handle::current(), Abilities::default()).unwrap();
    let start = Instant::now();
    let found = resolver.resolve(target("example.com"), 1).await;
    assert!(found.is_err(), "{found:?}");
    assert!(start.elapsed() < Duration::from_millis(5500));
}

#[test]
fn another_thread_may_ask() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (resolver, _) = runtime.block_on(resolver(full_zone(), Abilities::default()));
    let shard = std::thread::spawn(move || {
        let own = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        own.block_on(resolver.resolve(target("example.com"), 1))
            .unwrap()
            .len()
    });
    assert_eq!(shard.join().unwrap(), 6);
}
