//! The messages of RFC 4475 and RFC 5118 over UDP and TCP.
//!
//! They are data of others, beside the repository: `SIDETONE_VECTORS` names the
//! folder. Where it is absent, this says so and skips; the corpus of our own is
//! tested in `crates/sip`.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use sidetone_tests::sip::wire::Incoming;
use sidetone_tests::{Options, Phone, Server, Wire};

const WAIT: Duration = Duration::from_millis(400);

struct Vector {
    name: String,
    rule: String,
    codes: Vec<u16>,
    bytes: Vec<u8>,
}

fn vectors() -> Option<Vec<Vector>> {
    let folder = std::env::var_os("SIDETONE_VECTORS").map_or_else(
        || sidetone_tests::server::repository().join("../shared/vectors"),
        PathBuf::from,
    );
    let folder = folder.join("sip");
    let Ok(manifest) = std::fs::read(folder.join("manifest.json")) else {
        eprintln!(
            "skipped: there are no vectors in {} (SIDETONE_VECTORS)",
            folder.display()
        );
        return None;
    };
    let manifest: Vec<Value> = serde_json::from_slice(&manifest).expect("the manifest");
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let codes = |entry: &Value| {
        let codes = entry["codes"].as_array().cloned().unwrap_or_default();
        codes
            .iter()
            .filter_map(|c| u16::try_from(c.as_u64()?).ok())
            .collect()
    };
    let read = |entry: &Value| Vector {
        name: text(entry, "name"),
        rule: text(entry, "rule"),
        codes: codes(entry),
        bytes: std::fs::read(folder.join(text(entry, "file"))).expect("a vector"),
    };
    Some(manifest.iter().map(read).collect())
}

fn server() -> Server {
    let domains = ["example.test", "example.com", "example.net", "example.org"];
    let domains = domains.map(|d| toml::Value::String(d.to_owned())).to_vec();
    Options::new()
        .users(&["ann"])
        .set("domains", toml::Value::Array(domains))
        .start()
}

/// What came back: the status codes, and whether the connection was closed.
#[derive(Debug)]
struct Reaction {
    statuses: Vec<u16>,
    closed: bool,
    stream: bool,
}

impl Vector {
    /// RFC 3261 §18.2.2: without rport the answer goes to the port of the top Via.
    fn via_port(&self) -> u16 {
        let text = String::from_utf8_lossy(&self.bytes)
            .replace("\r\n ", " ")
            .replace("\r\n\t", " ");
        let via = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let name = name.trim().to_ascii_lowercase();
            (name == "v" || name == "via")
                .then(|| value.split([';', ',']).next().unwrap_or(value).to_owned())
        });
        let via = via.unwrap_or_default();
        let sent_by = via.split_whitespace().last().unwrap_or_default();
        let port = sent_by
            .rsplit(']')
            .next()
            .unwrap_or(sent_by)
            .rsplit_once(':');
        port.and_then(|(_, port)| port.parse().ok()).unwrap_or(5060)
    }

    fn by_udp(&self, server: SocketAddr) -> Reaction {
        let ip = sidetone_tests::loopback::address();
        let socket = UdpSocket::bind((ip, self.via_port())).expect("the port of the top Via");
        self.react(Wire::from_socket(socket, server))
    }

    fn by_tcp(&self, server: SocketAddr) -> Reaction {
        self.react(Wire::tcp(server))
    }

    fn react(&self, mut wire: Wire) -> Reaction {
        wire.send(&self.bytes);
        let mut statuses = Vec::new();
        let end = Instant::now() + WAIT;
        while let Some(incoming) = wire.receive(end) {
            if let Incoming::Message(message) = incoming {
                statuses.extend(message.status().filter(|s| *s != 100));
            }
        }
        let stream = !wire.is_datagram();
        let closed = !wire.is_datagram() && wire.closes(Duration::from_millis(1));
        statuses.dedup();
        Reaction {
            statuses,
            closed,
            stream,
        }
    }

    /// What is wrong with a reaction.
    fn fault(&self, reaction: &Reaction) -> Option<String> {
        // Over a stream a length that cannot be right is the end of the connection.
        let lying = reaction.closed && ["ncl", "clerr", "mcl01"].contains(&self.name.as_str());
        // RFC 3261 §18.3: without Content-Length a stream cannot be divided.
        let endless = reaction.stream && self.name == "inv2543" && reaction.statuses == [400];
        let waiting = self.name == "clerr" && reaction.statuses.is_empty();
        // In a stream what follows the first message of dblreq is a second one.
        let statuses = match self.name.as_str() {
            "dblreq" if reaction.stream => reaction.statuses.get(..1).unwrap_or_default(),
            _ => &reaction.statuses,
        };
        let fine = match self.rule.as_str() {
            "resp" => statuses.is_empty(),
            "bad" => only(statuses, |s| self.codes.contains(&s)) || lying || waiting,
            "ok" if endless => true,
            "ok" => only(statuses, |s| s != 400 && s < 500 || self.codes.contains(&s)),
            _ => reaction
                .statuses
                .iter()
                .all(|s| *s < 500 || self.codes.contains(s)),
        };
        let expected = (&self.rule, &self.codes);
        (!fine).then(|| format!("{}: {reaction:?}, expected {expected:?}", self.name))
    }
}

fn only(statuses: &[u16], fits: impl Fn(u16) -> bool) -> bool {
    matches!(statuses, [status] if fits(*status))
}

fn run(over: fn(&Vector, SocketAddr) -> Reaction) {
    let Some(vectors) = vectors() else { return };
    let server = server();
    let mut faults = Vec::new();
    for vector in &vectors {
        let reaction = over(vector, server.udp());
        faults.extend(vector.fault(&reaction));
        let alive =
            Phone::new("ann", Wire::udp(Ipv4Addr::LOCALHOST, server.udp())).try_alive(&server);
        assert!(alive, "the server does not answer after {}", vector.name);
    }
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        vectors.len(),
        faults.join("\n")
    );
}

trait Alive {
    fn try_alive(self, server: &Server) -> bool;
}

impl Alive for Phone {
    fn try_alive(mut self, server: &Server) -> bool {
        let options = self.draft("OPTIONS", &format!("sip:{}", server.udp()));
        self.try_transact(&options, Duration::from_secs(3))
            .is_some()
    }
}

#[test]
fn torture_over_udp() {
    run(Vector::by_udp);
}

#[test]
fn torture_over_tcp() {
    run(Vector::by_tcp);
}
