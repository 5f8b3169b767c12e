//! A phone's requests: sent until they are answered, with credentials once they are asked for.
//!
//! *Invariant*: each final answer is seen once; an INVITE's is acknowledged each time that it comes.

use std::net::SocketAddr;

use bytes::Bytes;
use sidetone_sip::{Algorithm, Credentials, HeaderName, Message, RequestBuilder, digest};

use super::dialog::Dialog;
use super::{Again, LIFE_US, Phone, Seen};

/// A request before it is written.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) uri: String,
    /// Value of To.
    pub(super) to: String,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    pub(super) from_tag: String,
    pub(super) routes: Vec<String>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<(&'static str, String)>,
    /// Where it is sent.
    pub(super) hop: SocketAddr,
    /// It carries credentials.
    pub(super) authorized: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    Done,
}

/// A client transaction.
#[derive(Debug)]
pub(super) struct Client {
    branch: String,
    request: Request,
    bytes: Bytes,
    state: State,
    again: Option<Again>,
    ends_us: u64,
    /// For an answer that is no 2xx, sent again each time that it comes again.
    ack: Option<Bytes>,
    cancel: bool,
}

impl Client {
    pub(super) fn next_timeout(&self) -> u64 {
        let again = self.again.map_or(u64::MAX, |again| again.at_us);
        again.min(self.ends_us)
    }

    fn is_invite(&self) -> bool {
        self.request.method == "INVITE"
    }
}

impl Phone {
    pub(super) fn start(&mut self, request: Request) {
        let branch = format!("z9hG4bK{}", self.token());
        self.start_as(branch, request);
    }

    /// With a branch that is given, as a CANCEL has it (RFC 3261 §9.1).
    fn start_as(&mut self, branch: String, request: Request) {
        let bytes = self.write(&request, &branch);
        self.outgoing.push((request.hop, bytes.clone()));
        self.clients.push(Client {
            branch,
            request,
            bytes,
            state: State::Trying,
            again: Some(Again::from(self.now_us)),
            ends_us: self.now_us + LIFE_US,
            ack: None,
            cancel: false,
        });
    }

    fn write(&self, request: &Request, branch: &str) -> Bytes {
        let identity = &self.identity;
        let via = format!("SIP/2.0/UDP {};branch={branch};rport", identity.address);
        let from = format!(
            "<sip:{}@{}>;tag={}",
            identity.user, identity.domain, request.from_tag
        );
        let mut builder = RequestBuilder::new(request.method, &request.uri)
            .header("Via", via)
            .header("Max-Forwards", "70")
            .header("From", from)
            .header("To", &request.to)
            .header("Call-ID", &request.call_id)
            .header("CSeq", format!("{} {}", request.cseq, request.method));
        for route in &request.routes {
            builder = builder.header("Route", route);
        }
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some((kind, text)) = &request.body {
            builder = builder.body(kind, text.as_bytes());
        }
        builder.finish()
    }

    /// Gives up the latest call that was not answered yet; before a provisional answer it waits for one
    /// (RFC 3261 §9.1).
    pub fn cancel(&mut self) {
        let found = self
            .clients
            .iter()
            .rposition(|client| client.is_invite() && client.state != State::Done);
        let Some(at) = found else { return };
        self.clients[at].cancel = true;
        if self.clients[at].state == State::Proceeding {
            self.send_cancel(at);
        }
    }

    fn send_cancel(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.cancel = false;
        let (branch, invite) = (client.branch.clone(), client.request.clone());
        let request = Request {
            method: "CANCEL",
            headers: Vec::new(),
            body: None,
            authorized: true,
            ..invite
        };
        self.start_as(branch, request);
    }

    pub(super) fn client_timeouts(&mut self) {
        let now_us = self.now_us;
        for client in &mut self.clients {
            let capped = !client.is_invite();
            if let Some(again) = client.again.as_mut().filter(|again| again.at_us <= now_us) {
                again.turn(now_us, capped);
                self.outgoing
                    .push((client.request.hop, client.bytes.clone()));
            }
        }
        let (over, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.clients)
            .into_iter()
            .partition(|client| client.ends_us <= now_us);
        self.clients = rest;
        for client in over.iter().filter(|client| client.state != State::Done) {
            let method = client.request.method.to_owned();
            self.seen.push(Seen::Timeout { method });
        }
    }

    pub(super) fn answer_came(&mut self, message: &Message) {
        let branch = message.top_via().ok().and_then(|via| via.branch());
        let method = message.cseq().map_or("", |cseq| cseq.method_text);
        let found = self.clients.iter().position(|client| {
            Some(client.branch.as_str()) == branch && client.request.method == method
        });
        let (Some(at), Some(status)) = (found, message.status()) else {
            return;
        };
        match status {
            ..200 => self.provisional(at, status),
            200..300 if self.clients[at].is_invite() => self.taken(at, message),
            _ => self.final_answer(at, status, message),
        }
    }

    fn provisional(&mut self, at: usize, status: u16) {
        let client = &mut self.clients[at];
        if client.state == State::Done {
            return;
        }
        client.state = State::Proceeding;
        if client.is_invite() {
            client.again = None;
            client.ends_us = u64::MAX;
        }
        let wants_cancel = client.cancel;
        self.saw_answer(at, status);
        if wants_cancel {
            self.send_cancel(at);
        }
    }

    fn saw_answer(&mut self, at: usize, status: u16) {
        let method = self.clients[at].request.method.to_owned();
        self.seen.push(Seen::Answer { method, status });
    }

    fn done(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.state = State::Done;
        client.again = None;
        client.ends_us = self.now_us + LIFE_US;
    }

    /// A 2xx to an INVITE: each of its retransmissions is acknowledged again; a second phone that took the same call
    /// is hung up (RFC 3261 §13.2.2.4).
    fn taken(&mut self, at: usize, message: &Message) {
        let remote = message.to().ok().and_then(|to| to.tag());
        let known = self.dialogs.iter().find(|dialog| {
            dialog.call_id.as_bytes() == message.call_id()
                && Some(dialog.remote_tag.as_str()) == remote
        });
        if let Some(known) = known {
            self.outgoing.extend(known.ack.clone());
            return;
        }
        let first = self.clients[at].state != State::Done;
        self.done(at);
        self.saw_answer(at, message.status().unwrap_or_default());
        let (tag, cseq) = {
            let request = &self.clients[at].request;
            (request.from_tag.clone(), request.cseq)
        };
        let Some(mut dialog) = Dialog::new(message, &tag) else {
            return;
        };
        let Some(ack) = dialog.request("ACK", cseq) else {
            return;
        };
        let branch = format!("z9hG4bK{}", self.token());
        let sent = (ack.hop, self.write(&ack, &branch));
        dialog.ack = Some(sent.clone());
        self.outgoing.push(sent);
        self.dialogs.push(dialog);
        if !first {
            self.hang_up(self.dialogs.len() - 1);
        }
    }

    fn final_answer(&mut self, at: usize, status: u16, message: &Message) {
        if let Some(ack) = self.acknowledgement(at, message) {
            self.outgoing.push((self.clients[at].request.hop, ack));
        }
        if self.clients[at].state == State::Done {
            return;
        }
        self.done(at);
        let request = &self.clients[at].request;
        let asked = matches!(status, 401 | 407) && !request.authorized;
        match asked.then(|| self.authorized(request.clone(), status, message)) {
            Some(Some(mut request)) => {
                self.cseq += 1;
                request.cseq = self.cseq;
                let cancel = self.clients[at].cancel;
                self.start(request);
                if let Some(client) = self.clients.last_mut() {
                    client.cancel = cancel;
                }
            }
            _ => {
                let request = &self.clients[at].request;
                if request.method == "SUBSCRIBE" && status < 300 {
                    let from_tag = request.from_tag.clone();
                    self.subscribed(message, &from_tag);
                } else if request.method == "PUBLISH" && status < 300 {
                    self.published(message);
                }
                self.saw_answer(at, status);
            }
        }
    }

    /// RFC 3261 §17.1.1.3: with the INVITE's branch and the answer's To.
    fn acknowledgement(&mut self, at: usize, message: &Message) -> Option<Bytes> {
        if !self.clients[at].is_invite() {
            return None;
        }
        if let Some(ack) = &self.clients[at].ack {
            return Some(ack.clone());
        }
        let client = &self.clients[at];
        let to = message.header(HeaderName::To).unwrap_or_default();
        let request = Request {
            method: "ACK",
            to: String::from_utf8_lossy(to).into_owned(),
            headers: Vec::new(),
            body: None,
            ..client.request.clone()
        };
        let ack = self.write(&request, &client.branch);
        self.clients[at].ack = Some(ack.clone());
        Some(ack)
    }

    /// The request with an answer to the first challenge that the phone knows.
    fn authorized(&self, mut request: Request, status: u16, answer: &Message) -> Option<Request> {
        let (asks, says) = match status {
            401 => (HeaderName::WwwAuthenticate, "Authorization"),
            _ => (HeaderName::ProxyAuthenticate, "Proxy-Authorization"),
        };
        let challenge = answer.header(asks)?;
        let challenge = String::from_utf8_lossy(challenge).into_owned();
        let value = self.credentials(&request, &challenge)?;
        request.headers.push((says, value));
        request.authorized = true;
        Some(request)
    }

    fn credentials(&self, request: &Request, challenge: &str) -> Option<String> {
        let (realm, nonce) = (quoted(challenge, "realm")?, quoted(challenge, "nonce")?);
        let (user, password) = (&self.identity.sip_user, &self.identity.password);
        let sha = challenge.contains("algorithm=SHA-256");
        let (algorithm, ha1) = match sha {
            true => (
                Algorithm::Sha256,
                digest::ha1_sha256(user, realm, password).to_vec(),
            ),
            false => (
                Algorithm::Md5,
                digest::ha1_md5(user, realm, password).to_vec(),
            ),
        };
        let value = |response: &str| {
            format!(
                "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{}\", \
                 algorithm={}, qop=auth, nc=00000001, cnonce=\"{}\", response=\"{response}\"",
                request.uri,
                algorithm.token(),
                request.from_tag
            )
        };
        let blank = value(&"0".repeat(ha1.len() * 2));
        let credentials = Credentials::parse(blank.as_bytes()).ok()??;
        let body = request.body.as_ref().map_or("", |(_, text)| text);
        let text = digest::response_text(
            algorithm,
            &ha1,
            request.method,
            &credentials,
            body.as_bytes(),
        );
        Some(value(&text))
    }
}

fn quoted<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}
