//! A scripted phone over UDP: it does what the test says, and answers by plan.
//!
//! It has its own transactions, small ones, and shares none with the product: what one of them gets wrong the other
//! is to notice.
//!
//! *Invariant*: what the phone saw ([`Seen`]) is what its application would have been told: retransmissions are
//! absorbed below.

mod client;
mod dialog;
mod server;
mod subscription;

use std::net::SocketAddr;

use bytes::Bytes;
use sidetone_sip::{Framing, Limits, Message};

use crate::chance::Chance;
use client::{Client, Request};
use dialog::Dialog;
use server::Server;
pub use subscription::Overheard;

/// RFC 3261 §17.1.1.1.
const T1_US: u64 = 500_000;
const T2_US: u64 = 4_000_000;
/// Timers B, F, H, J: how long anything is tried or remembered.
const LIFE_US: u64 = 64 * T1_US;

/// What the person at the phone gets to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// An answer to a request of this phone; challenges that it could meet are not shown.
    Answer {
        /// The request's.
        method: String,
        /// Provisional or final.
        status: u16,
    },
    /// Nobody answered.
    Timeout {
        /// The request's.
        method: String,
    },
    /// A text.
    Message {
        /// Tells one text from another.
        call_id: String,
        /// Its type.
        kind: String,
        /// The text.
        body: String,
    },
    /// News of a subscription.
    Notify {
        /// The value of Subscription-State.
        state: String,
        /// The document.
        body: String,
    },
    /// It rings.
    Invite,
    /// It stopped ringing.
    Cancelled,
    /// The caller took the answer.
    Ack,
    /// The other end hung up.
    Bye,
}

/// What a phone does when it is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan(Vec<(u64, u16)>);

impl Plan {
    /// Rings at once, is answered after a while.
    #[must_use]
    pub fn answer_after(ms: u64) -> Self {
        Self(vec![(0, 180), (ms, 200)])
    }

    /// Rings for ever.
    #[must_use]
    pub fn ring() -> Self {
        Self(vec![(0, 180)])
    }

    /// Says no.
    #[must_use]
    pub fn refuse(status: u16) -> Self {
        Self(vec![(0, status)])
    }
}

/// Who the phone is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Its account's address: the user.
    pub(crate) user: String,
    /// What it authenticates as.
    pub(crate) sip_user: String,
    pub(crate) password: String,
    pub(crate) domain: String,
    pub(crate) address: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// The phone.
#[derive(Debug)]
pub struct Phone {
    identity: Identity,
    chance: Chance,
    now_us: u64,
    cseq: u32,
    clients: Vec<Client>,
    servers: Vec<Server>,
    dialogs: Vec<Dialog>,
    /// Subscriptions.
    watches: Vec<Dialog>,
    /// What it watched last.
    event: &'static str,
    /// Names what it has published.
    pub etag: Option<String>,
    outgoing: Vec<(SocketAddr, Bytes)>,
    /// What it was told, in order.
    pub seen: Vec<Seen>,
    /// What it does when it is called.
    pub plan: Plan,
    /// The host of its Contact when it answers a call, where that is a name.
    pub host_name: Option<String>,
    /// What it answers to a text.
    pub message_status: u16,
    /// What it answers to a NOTIFY; nothing where it is `None`.
    pub notify_status: Option<u16>,
}

impl Phone {
    pub(crate) fn new(identity: Identity, chance: Chance) -> Self {
        Self {
            identity,
            chance,
            now_us: 0,
            cseq: 0,
            clients: Vec::new(),
            servers: Vec::new(),
            dialogs: Vec::new(),
            watches: Vec::new(),
            event: "reg",
            etag: None,
            outgoing: Vec::new(),
            seen: Vec::new(),
            plan: Plan::ring(),
            host_name: None,
            message_status: 200,
            notify_status: Some(200),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.identity.address
    }

    /// Lets it have another password.
    pub fn set_password(&mut self, password: &str) {
        self.identity.password = password.to_owned();
    }

    /// Registers for an hour.
    pub fn register(&mut self) {
        self.register_for(3_600);
    }

    /// Registers for so many seconds; 0 says goodbye.
    pub fn register_for(&mut self, seconds: u32) {
        let mut request = self.request("REGISTER", format!("sip:{}", self.identity.domain));
        request.to = format!("<sip:{}@{}>", self.identity.user, self.identity.domain);
        request.headers = vec![
            ("Contact", self.contact()),
            ("Expires", seconds.to_string()),
        ];
        self.start(request);
    }

    /// Calls somebody.
    pub fn invite(&mut self, user: &str) {
        let mut request = self.request("INVITE", format!("sip:{user}@{}", self.identity.domain));
        request.headers = vec![("Contact", self.contact())];
        request.body = Some(("application/sdp", "v=0\r\n".to_owned()));
        self.start(request);
    }

    /// Sends a text.
    pub fn message(&mut self, user: &str, text: &str) {
        self.send(user, "text/plain", text);
    }

    /// Sends a body of any type.
    pub fn send(&mut self, user: &str, kind: &'static str, body: &str) {
        let mut request = self.request("MESSAGE", format!("sip:{user}@{}", self.identity.domain));
        request.body = Some((kind, body.to_owned()));
        self.start(request);
    }

    /// The bodies of a type that it was sent.
    #[must_use]
    pub fn bodies(&self, wanted: &str) -> Vec<&str> {
        let mut bodies = Vec::new();
        for seen in &self.seen {
            if let Seen::Message { kind, body, .. } = seen
                && kind == wanted
            {
                bodies.push(body.as_str());
            }
        }
        bodies
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.identity.user, self.identity.address)
    }

    /// A request outside of a dialog, to the person that the URI names.
    fn request(&mut self, method: &'static str, uri: String) -> Request {
        self.cseq += 1;
        Request {
            method,
            to: format!("<{uri}>"),
            uri,
            call_id: self.token(),
            cseq: self.cseq,
            from_tag: self.token(),
            routes: Vec::new(),
            headers: Vec::new(),
            body: None,
            hop: self.identity.server,
            authorized: false,
        }
    }

    fn token(&mut self) -> String {
        format!("{:016x}", self.chance.next_u64())
    }

    /// How many texts it was told of.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        let text = |seen: &'_ Seen| matches!(seen, Seen::Message { .. });
        let texts = self.seen.iter().filter(|seen| text(seen));
        texts
            .map(|seen| match seen {
                Seen::Message { body, .. } => body.as_str(),
                _ => "",
            })
            .collect()
    }

    /// The final answers to requests of a method.
    #[must_use]
    pub fn finals(&self, wanted: &str) -> Vec<u16> {
        let status = |seen: &Seen| match seen {
            Seen::Answer { method, status } if method == wanted && *status >= 200 => Some(*status),
            _ => None,
        };
        self.seen.iter().filter_map(status).collect()
    }

    pub(crate) fn set_now(&mut self, now_us: u64) {
        self.now_us = now_us;
    }

    pub(crate) fn take_outgoing(&mut self) -> Vec<(SocketAddr, Bytes)> {
        std::mem::take(&mut self.outgoing)
    }

    pub(crate) fn next_timeout(&self) -> Option<u64> {
        let clients = self.clients.iter().map(Client::next_timeout);
        let servers = self.servers.iter().map(Server::next_timeout);
        clients.chain(servers).min()
    }

    pub(crate) fn handle_timeout(&mut self) {
        self.client_timeouts();
        self.server_timeouts();
    }

    pub(crate) fn handle_datagram(&mut self, source: SocketAddr, octets: &Bytes) {
        // What is broken a phone does not hear; tests that wait for it fail.
        let Ok(message) = Message::parse(octets.clone(), Framing::Datagram, &Limits::default())
        else {
            return;
        };
        if message.is_request() {
            self.incoming(source, &message);
        } else {
            self.answer_came(&message);
        }
    }
}

/// When something is sent again: T1, doubling up to T2.
#[derive(Debug, Clone, Copy)]
struct Again {
    at_us: u64,
    interval_us: u64,
}

impl Again {
    fn from(now_us: u64) -> Self {
        Self {
            at_us: now_us + T1_US,
            interval_us: T1_US,
        }
    }

    /// `capped`: only INVITE goes on doubling (RFC 3261 §17.1.1.2).
    fn turn(&mut self, now_us: u64, capped: bool) {
        self.interval_us *= 2;
        if capped {
            self.interval_us = self.interval_us.min(T2_US);
        }
        self.at_us = now_us + self.interval_us;
    }
}
