//! A phone: one person, one wire, one thing after the other.
//!
//! A request that comes twice is noticed by its branch and answered again
//! with the same bytes, so a test sees each request once (RFC 3261 §17.2).

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::digest::{Algorithm, Answer, Challenge};
use super::message::{Message, address, parameter};
use super::wire::{Incoming, Wire};
use crate::server::{DOMAIN, Server, secret};

/// How long a phone waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// As real phones have it: a shorter REGISTER would be answered with a shorter challenge.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, INFO, UPDATE, NOTIFY, REFER";
/// RFC 3261 §17.1.1.1.
const T1: Duration = Duration::from_millis(500);

pub struct Phone {
    pub user: String,
    pub sip_user: String,
    pub password: String,
    pub algorithm: Algorithm,
    /// The URI that others reach this phone at.
    pub contact: String,
    /// Parameters of the Contact header: `;+sip.instance="…";reg-id=1`.
    pub contact_parameters: String,
    pub wire: Wire,
    tag: String,
    registration: (String, u32),
    inbox: VecDeque<Message>,
    answers: HashMap<String, Option<Vec<u8>>>,
    cached: HashMap<&'static str, (Challenge, u32)>,
}

/// A random word for tags, branches and Call-IDs.
pub fn word() -> String {
    format!("{:016x}", rand::random::<u64>())
}

impl Phone {
    /// The first phone of a person, by UDP.
    pub fn udp(server: &Server, user: &str) -> Phone {
        Phone::new(user, Wire::udp(server.ip, server.udp()))
    }

    /// A phone by UDP at an address of its own, so many after the server's.
    pub fn udp_elsewhere(server: &Server, user: &str, places: u8) -> Phone {
        let [a, b, c, d] = server.ip.octets();
        let address = [a, b, c, d.wrapping_add(places)].into();
        Phone::new(user, Wire::udp(address, server.udp()))
    }

    /// The first phone of a person, by TCP.
    pub fn tcp(server: &Server, user: &str) -> Phone {
        Phone::new(user, Wire::tcp(server.udp()))
    }

    /// The first phone of a person, by TLS.
    pub fn tls(server: &Server, user: &str) -> Phone {
        Phone::new(
            user,
            Wire::tls(server.tls(), &server.authority.file, DOMAIN),
        )
    }

    /// The first phone of a person, by WebSocket; nothing where the server is gone.
    pub fn wss(server: &Server, user: &str) -> Option<Phone> {
        let authority = &server.authority.file;
        Some(Phone::new(
            user,
            Wire::wss(server.https(), authority, DOMAIN)?,
        ))
    }

    pub fn new(user: &str, wire: Wire) -> Phone {
        let contact = contact(user, &wire);
        Phone {
            user: user.to_owned(),
            sip_user: user.to_owned(),
            password: secret(user),
            algorithm: Algorithm::Sha256,
            contact,
            contact_parameters: String::new(),
            wire,
            tag: word(),
            registration: (word(), 0),
            inbox: VecDeque::new(),
            answers: HashMap::new(),
            cached: HashMap::new(),
        }
    }

    /// This phone as a further device of its person.
    #[must_use]
    pub fn device(mut self, sip_user: &str) -> Phone {
        self.sip_user = sip_user.to_owned();
        self.password = secret(sip_user);
        self
    }

    #[must_use]
    pub fn with_md5(mut self) -> Phone {
        self.algorithm = Algorithm::Md5;
        self
    }

    /// Another connection or socket; what was registered stays as it was.
    pub fn move_to(&mut self, wire: Wire) {
        self.contact = contact(&self.user, &wire);
        self.wire = wire;
    }

    pub fn local(&self) -> SocketAddr {
        self.wire.local()
    }

    pub fn aor(&self) -> String {
        format!("sip:{}@{DOMAIN}", self.user)
    }

    // ---- requests ---------------------------------------------------------------------------

    /// A request outside of dialogs, with all that it must have.
    pub fn draft(&self, method: &str, uri: &str) -> Message {
        let mut draft = Message::request(method, uri)
            .with("Via", self.via())
            .with("Max-Forwards", "70")
            .with("From", format!("<{}>;tag={}", self.aor(), word()))
            .with("To", format!("<{uri}>"))
            .with("Call-ID", word())
            .with("CSeq", format!("1 {method}"))
            .with("User-Agent", "Test phone")
            .with("Allow", ALLOW);
        if ["INVITE", "REGISTER", "SUBSCRIBE"].contains(&method) {
            draft = draft.with(
                "Contact",
                format!("<{}>{}", self.contact, self.contact_parameters),
            );
        }
        draft
    }

    pub fn via(&self) -> String {
        let (token, local) = (self.wire.token(), self.wire.local());
        format!("SIP/2.0/{token} {local};branch=z9hG4bK{};rport", word())
    }

    pub fn send(&mut self, message: &Message) {
        assert!(self.wire.send(&message.bytes()), "the connection is closed");
    }

    /// Sends a request and gives its final answer, whatever it is.
    pub fn transact(&mut self, request: &Message) -> Message {
        let answer = self.try_transact(request, PATIENCE);
        answer.unwrap_or_else(|| panic!("{}: no final answer to {request:?}", self.user))
    }

    /// [`Phone::transact`], where silence is an answer, too.
    pub fn try_transact(&mut self, request: &Message, limit: Duration) -> Option<Message> {
        self.send(request);
        self.final_answer(request, limit)
    }

    /// Waits for the final answer to a request that was sent, and sends it again by UDP.
    pub fn final_answer(&mut self, request: &Message, limit: Duration) -> Option<Message> {
        let (branch, method) = (request.branch(), request.method().to_owned());
        let end = Instant::now() + limit;
        let (mut next, mut gap) = (Instant::now() + T1, T1);
        loop {
            let is_final = |m: &Message| {
                m.status().is_some_and(|s| s >= 200) && m.branch() == branch && m.method() == method
            };
            let until = if self.wire.is_datagram() {
                next.min(end)
            } else {
                end
            };
            if let Some(answer) = self.take_until(until, is_final) {
                if method == "INVITE" && answer.status() >= Some(300) {
                    self.ack_failure(request, &answer);
                }
                return Some(answer);
            }
            if Instant::now() >= end {
                return None;
            }
            if self.wire.is_datagram() {
                let _ = self.wire.send(&request.bytes());
            }
            gap = (gap * 2).min(T1 * 8);
            next = Instant::now() + gap;
        }
    }

    /// Sends a request, answers a challenge, gives the final answer.
    pub fn ask(&mut self, request: Message) -> Message {
        let mut request = request;
        self.authorize_again(&mut request);
        let answer = self.transact(&request);
        match self.retry(&request, &answer) {
            Some(retry) => self.transact(&retry),
            None => answer,
        }
    }

    /// The request again with an answer to the challenge in a 401 or 407.
    pub fn retry(&mut self, request: &Message, answer: &Message) -> Option<Message> {
        let (challenge, header) = self.challenge(answer)?;
        let mut retry = again(self, request);
        retry.set(header, self.credentials(request, &challenge, 1));
        self.cached.insert(header, (challenge, 1));
        Some(retry)
    }

    /// The challenge of our algorithm, and the header that answers it.
    pub fn challenge(&self, answer: &Message) -> Option<(Challenge, &'static str)> {
        let (asks, answers) = match answer.status()? {
            401 => ("WWW-Authenticate", "Authorization"),
            407 => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => return None,
        };
        let offers = answer
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(asks));
        let mut offers = offers.filter_map(|(_, value)| Challenge::parse(value));
        Some((offers.find(|c| c.algorithm == self.algorithm)?, answers))
    }

    /// Credentials for a request, made by hand.
    pub fn credentials(&self, request: &Message, challenge: &Challenge, nc: u32) -> String {
        challenge.answer(&Answer {
            user: &self.sip_user,
            password: &self.password,
            method: request.method(),
            uri: request.uri(),
            nc,
            cnonce: &word(),
        })
    }

    /// Forgets the nonces, so that the next request is challenged.
    pub fn forget_nonces(&mut self) {
        self.cached.clear();
    }

    /// Uses a nonce again, with the next count (RFC 7616 §3.4).
    fn authorize_again(&mut self, request: &mut Message) {
        let header = match request.method() {
            "REGISTER" => "Authorization",
            _ => "Proxy-Authorization",
        };
        let mut cached = self.cached.remove(header);
        if let Some((challenge, nc)) = &mut cached {
            *nc += 1;
            request.set(header, self.credentials(request, challenge, *nc));
        }
        if let Some(cached) = cached {
            self.cached.insert(header, cached);
        }
    }

    /// Registers the contact; gives the final answer.
    pub fn register(&mut self, expires_s: u32) -> Message {
        let request = self.registration(expires_s);
        let answer = self.ask(request);
        self.registration.1 = answer.cseq();
        answer
    }

    /// A REGISTER that continues the registration of this phone.
    pub fn registration(&mut self, expires_s: u32) -> Message {
        self.registration.1 += 1;
        let (call_id, cseq) = self.registration.clone();
        self.draft("REGISTER", &format!("sip:{DOMAIN}"))
            .but("To", format!("<{}>", self.aor()))
            .but("Call-ID", call_id)
            .but("CSeq", format!("{cseq} REGISTER"))
            .with("Expires", expires_s.to_string())
    }

    /// Registers for ten minutes; it must work.
    #[must_use]
    pub fn registered(mut self) -> Phone {
        let answer = self.register(600);
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        self
    }

    /// Sends a text; gives the final answer.
    pub fn message(&mut self, to: &str, text: &str) -> Message {
        let draft = self.draft("MESSAGE", &format!("sip:{to}@{DOMAIN}"));
        self.ask(draft.with_body("text/plain", text))
    }

    /// Sends an INVITE with credentials and does not wait; gives what was sent.
    pub fn invite(&mut self, uri: &str) -> Message {
        let sdp = crate::media::sdp(ipv4(self.local()), 40_000);
        let draft = self.draft("INVITE", uri).with_body("application/sdp", sdp);
        self.start(draft)
    }

    /// Sends a request that will be challenged, then the one with credentials, and does not wait.
    pub fn start(&mut self, draft: Message) -> Message {
        let mut request = draft;
        self.authorize_again(&mut request);
        self.send(&request);
        let branch = request.branch();
        let first = |m: &Message| m.status().is_some_and(|s| s != 100) && m.branch() == branch;
        if self.cached.contains_key("Proxy-Authorization") {
            return request;
        }
        let answer = self.take(PATIENCE, first).expect("a challenge");
        if answer.status() >= Some(300) && request.method() == "INVITE" {
            self.ack_failure(&request, &answer);
        }
        let retry = self.retry(&request, &answer);
        let retry = retry.unwrap_or_else(|| panic!("no challenge but {answer:?}"));
        self.send(&retry);
        retry
    }

    /// RFC 3261 §17.1.1.3.
    pub fn ack_failure(&mut self, invite: &Message, answer: &Message) {
        let mut ack = Message::request("ACK", invite.uri());
        for (name, value) in &invite.headers {
            if ["Via", "Max-Forwards", "From", "Call-ID", "Route"].contains(&name.as_str()) {
                ack = ack.with(name, value.clone());
            }
        }
        let to = answer.header("To").unwrap_or_default();
        let ack = ack
            .with("To", to)
            .with("CSeq", format!("{} ACK", invite.cseq()));
        self.send(&ack);
    }

    /// RFC 3261 §9.1: the CANCEL of an INVITE.
    pub fn cancel(&self, invite: &Message) -> Message {
        let mut cancel = Message::request("CANCEL", invite.uri());
        for (name, value) in &invite.headers {
            if ["Via", "Max-Forwards", "From", "To", "Call-ID", "Route"].contains(&name.as_str()) {
                cancel = cancel.with(name, value.clone());
            }
        }
        cancel.with("CSeq", format!("{} CANCEL", invite.cseq()))
    }

    // ---- what comes in ----------------------------------------------------------------------

    /// The first message that fits, now or within the time; others are kept.
    pub fn take(&mut self, limit: Duration, fits: impl Fn(&Message) -> bool) -> Option<Message> {
        self.take_until(Instant::now() + limit, fits)
    }

    fn take_until(&mut self, end: Instant, fits: impl Fn(&Message) -> bool) -> Option<Message> {
        loop {
            if let Some(at) = self.inbox.iter().position(&fits) {
                return self.inbox.remove(at);
            }
            match self.wire.receive(end)? {
                Incoming::Message(message) => self.arrived(message),
                Incoming::Other(_) => {}
            }
        }
    }

    /// A request of a method that must come.
    pub fn expect(&mut self, method: &str) -> Message {
        let found = self.take(PATIENCE, |m| m.status().is_none() && m.method() == method);
        found.unwrap_or_else(|| panic!("{}: no {method}; came: {:?}", self.user, self.inbox))
    }

    /// A response to a request, of a status that must come.
    pub fn expect_answer(&mut self, request: &Message, status: u16) -> Message {
        let (branch, method) = (request.branch(), request.method().to_owned());
        let found = self.take(PATIENCE, |m| {
            m.status() == Some(status) && m.branch() == branch && m.method() == method
        });
        found.unwrap_or_else(|| panic!("{}: no {status}; came: {:?}", self.user, self.inbox))
    }

    /// Nothing of a method comes for a while.
    pub fn expect_silence(&mut self, method: &str, time: Duration) {
        let found = self.take(time, |m| m.status().is_none() && m.method() == method);
        assert!(found.is_none(), "{}: nobody expected {found:?}", self.user);
    }

    fn arrived(&mut self, message: Message) {
        if message.status().is_some() || message.method() == "ACK" {
            self.inbox.push_back(message);
            return;
        }
        let key = format!("{} {}", message.method(), message.branch());
        match self.answers.get(&key) {
            None => {
                self.answers.insert(key, None);
                self.inbox.push_back(message);
            }
            Some(Some(answer)) => {
                let answer = answer.clone();
                let _ = self.wire.send(&answer);
            }
            Some(None) => {}
        }
    }

    /// Answers a request.
    pub fn answer(&mut self, request: &Message, status: u16) -> Message {
        self.answer_with(request, status, |answer| answer)
    }

    /// Answers a request with more than it must have.
    pub fn answer_with(
        &mut self,
        request: &Message,
        status: u16,
        more: impl Fn(Message) -> Message,
    ) -> Message {
        let mut answer = Message {
            start: format!("SIP/2.0 {status} Test"),
            ..Message::request("", "")
        };
        for (name, value) in &request.headers {
            let copied = ["Via", "From", "Call-ID", "CSeq", "Record-Route"];
            if copied.iter().any(|c| c.eq_ignore_ascii_case(name)) {
                answer = answer.with(name, value.clone());
            }
        }
        let to = request.header("To").unwrap_or_default();
        let to = match parameter(to, "tag") {
            Some(_) => to.to_owned(),
            None if status == 100 => to.to_owned(),
            None => format!("{to};tag={}", self.tag),
        };
        let mut answer = answer.with("To", to);
        if request.method() == "INVITE" && status < 300 {
            answer = answer.with("Contact", format!("<{}>", self.contact));
        }
        let answer = more(answer);
        self.send(&answer);
        let key = format!("{} {}", request.method(), request.branch());
        self.answers.insert(key, Some(answer.bytes()));
        answer
    }

    /// Answers an INVITE with 200 and a session.
    pub fn accept(&mut self, invite: &Message) -> Dialog {
        let sdp = crate::media::sdp(ipv4(self.local()), 40_002);
        let answer = self.answer_with(invite, 200, |a| a.with_body("application/sdp", sdp.clone()));
        Dialog::callee(invite, &answer)
    }

    /// Takes messages and answers 200 until it has so many; gives their texts in order.
    pub fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let message = self.expect("MESSAGE");
            self.answer(&message, 200);
            texts.push(message.text());
        }
        texts
    }
}

/// A request again, as a new transaction.
pub fn again(phone: &Phone, request: &Message) -> Message {
    let mut next = request.clone();
    let method = request.method().to_owned();
    next.set("Via", phone.via());
    next.set("CSeq", format!("{} {method}", request.cseq() + 1));
    next
}

fn contact(user: &str, wire: &Wire) -> String {
    match wire.token() {
        "UDP" => format!("sip:{user}@{}", wire.local()),
        "WSS" => format!("sip:{user}@{};transport=ws", wire.local()),
        token => format!(
            "sip:{user}@{};transport={}",
            wire.local(),
            token.to_lowercase()
        ),
    }
}

pub fn ipv4(address: SocketAddr) -> std::net::Ipv4Addr {
    match address {
        SocketAddr::V4(v4) => *v4.ip(),
        SocketAddr::V6(_) => std::net::Ipv4Addr::LOCALHOST,
    }
}

/// One end of a dialog (RFC 3261 §12).
#[derive(Clone, Debug)]
pub struct Dialog {
    pub call_id: String,
    pub local: String,
    pub remote: String,
    pub target: String,
    pub routes: Vec<String>,
    pub cseq: u32,
}

impl Dialog {
    pub fn caller(invite: &Message, answer: &Message) -> Dialog {
        let mut routes = answer.values("Record-Route");
        routes.reverse();
        Dialog {
            call_id: answer.call_id().to_owned(),
            local: answer.header("From").unwrap_or_default().to_owned(),
            remote: answer.header("To").unwrap_or_default().to_owned(),
            target: address(answer.header("Contact").unwrap_or_default()).to_owned(),
            routes,
            cseq: invite.cseq(),
        }
    }

    pub fn callee(invite: &Message, answer: &Message) -> Dialog {
        Dialog {
            call_id: invite.call_id().to_owned(),
            local: answer.header("To").unwrap_or_default().to_owned(),
            remote: invite.header("From").unwrap_or_default().to_owned(),
            target: address(invite.header("Contact").unwrap_or_default()).to_owned(),
            routes: invite.values("Record-Route"),
            cseq: 100,
        }
    }

    /// The next request in the dialog.
    pub fn request(&mut self, phone: &Phone, method: &str) -> Message {
        self.cseq += 1;
        self.numbered(phone, method, self.cseq)
    }

    /// The ACK of a 2xx, with the INVITE's number.
    pub fn ack(&self, phone: &Phone) -> Message {
        self.numbered(phone, "ACK", self.cseq)
    }

    fn numbered(&self, phone: &Phone, method: &str, cseq: u32) -> Message {
        let mut request = Message::request(method, &self.target).with("Via", phone.via());
        for route in &self.routes {
            request = request.with("Route", route.clone());
        }
        request
            .with("Max-Forwards", "70")
            .with("From", self.local.clone())
            .with("To", self.remote.clone())
            .with("Call-ID", self.call_id.clone())
            .with("CSeq", format!("{cseq} {method}"))
    }
}
