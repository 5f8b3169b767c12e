//! Response contexts in virtual time: each test plays the peers and reads the ladder of messages that came of it.

mod cancel;
mod copies;
mod fork;
mod seeds;

use std::time::Duration;

use super::*;
use crate::endpoint::Received;
use crate::{Framing, Limits, RequestBuilder, Transport};

/// The caller; every other name is a callee.
const CALLER: &str = "alice";

fn parse(bytes: &Bytes) -> Message {
    Message::parse(bytes.clone(), Framing::Datagram, &Limits::default()).expect("a message")
}

fn locals() -> Arc<Locals> {
    let local = |transport: Transport, address: &str| Local {
        transport,
        sent_by: address.to_owned(),
        uri: format!("sip:{address};transport={}", transport.uri_parameter()),
    };
    Arc::new(Locals::new(vec![
        local(Transport::Udp, "192.0.2.1:5060"),
        local(Transport::Tcp, "192.0.2.1:5070"),
    ]))
}

fn tokens() -> TokenKey {
    TokenKey::new([7; 32])
}

/// The flow of a name. Callees are on TCP, so that nothing is sent twice; those that begin with `u` are on UDP.
fn flow(name: &str) -> Flow {
    let letter = u16::from(name.as_bytes()[0] - b'a');
    let digits = name.trim_start_matches(|character: char| character.is_ascii_alphabetic());
    let number = 100 * letter + digits.parse::<u16>().unwrap_or(99);
    let udp = name == CALLER || name.starts_with('u');
    Flow {
        transport: if udp { Transport::Udp } else { Transport::Tcp },
        listener: u16::from(!udp),
        connection: if udp || name.starts_with("far") {
            0
        } else {
            u64::from(number)
        },
        remote: format!("127.0.0.1:{}", 6000 + number)
            .parse()
            .expect("an address"),
    }
}

fn target(name: &str, q: u16) -> Target {
    Target {
        uri: format!("sip:{name}@callee.test"),
        routes: Vec::new(),
        flow: flow(name),
        q,
        record: false,
        group: None,
    }
}

fn grouped(name: &str, group: &str) -> Target {
    Target {
        group: Some(group.into()),
        ..target(name, 1000)
    }
}

fn request(method: &str) -> Message {
    let bytes = RequestBuilder::new(method, "sip:bob@example.test")
        .header(
            "Via",
            "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKcaller;rport",
        )
        .header("Max-Forwards", "70")
        .header("From", "<sip:alice@example.test>;tag=a")
        .header("To", "<sip:bob@example.test>")
        .header("Call-ID", "one")
        .header("CSeq", format!("1 {method}"))
        .finish();
    parse(&bytes)
}

/// One request through the proxy.
struct Ladder {
    start: Instant,
    now: Instant,
    endpoint: Endpoint,
    proxy: Proxy,
    request: Message,
    server: ServerId,
    log: Vec<String>,
    /// What each callee was sent, and what the caller was sent (as responses).
    sent: Vec<(String, Message)>,
    names: Vec<String>,
}

impl Ladder {
    fn new(request: Message, targets: Vec<Target>) -> Self {
        let names = targets.iter().map(|target| {
            target.uri[4..]
                .split('@')
                .next()
                .unwrap_or_default()
                .to_owned()
        });
        let now = crate::tests_now();
        let mut endpoint = Endpoint::new(100, 1);
        assert_eq!(
            endpoint.receive(now, flow(CALLER), &request),
            Received::Request
        );
        let server = endpoint
            .accept(now, flow(CALLER), &request, u64::MAX)
            .expect("room");
        let mut ladder = Self {
            start: now,
            now,
            names: names.chain([CALLER.to_owned()]).collect(),
            proxy: Proxy::new(locals(), tokens()),
            endpoint,
            request: request.clone(),
            server,
            log: Vec::new(),
            sent: Vec::new(),
        };
        let forward = Forward {
            server,
            request,
            incoming: flow(CALLER),
            pop_routes: 0,
            targets,
            record_route: None,
            asserted: None,
            strip_credentials: false,
        };
        ladder.proxy.forward(now, &mut ladder.endpoint, forward);
        ladder.settle();
        ladder
    }

    fn invite(targets: Vec<Target>) -> Self {
        Self::new(request("INVITE"), targets)
    }

    fn invite_text(text: &str, targets: Vec<Target>) -> Self {
        Self::new(parse(&Bytes::copy_from_slice(text.as_bytes())), targets)
    }

    /// Whether this callee got the request.
    fn is_asked(&self, name: &str) -> bool {
        name != CALLER && self.sent.iter().any(|(to, _)| to == name)
    }

    /// Whether the caller's transaction is gone.
    fn is_over(&self) -> bool {
        self.endpoint.server_user(self.server).is_none()
    }

    fn name(&self, flow: Flow) -> String {
        let same = |name: &&String| self::flow(name).remote == flow.remote;
        self.names
            .iter()
            .find(same)
            .cloned()
            .unwrap_or_else(|| "nobody".to_owned())
    }

    /// Writes down what the proxy sends. Callees answer CANCEL and the caller acknowledges, both without a line.
    fn settle(&mut self) {
        let invite = self.request.method() == Some(Method::Invite);
        loop {
            while let Some(event) = self.endpoint.poll_event() {
                self.proxy.event(self.now, &mut self.endpoint, &event);
            }
            let Some(transmit) = self.endpoint.poll_transmit() else {
                return;
            };
            let (name, message) = (self.name(transmit.flow), parse(&transmit.bytes));
            let what = message
                .status()
                .map_or(message.method_text().to_owned(), |status| {
                    status.to_string()
                });
            if what != "ACK" {
                self.log.push(format!("> {name} {what}"));
            }
            if what == "CANCEL" {
                let ok = ResponseBuilder::new(&message, 200, "").to_tag("c").finish();
                self.deliver(&name, &ok);
            }
            if name == CALLER && invite && message.status().is_some_and(|status| status >= 300) {
                let ack = String::from_utf8_lossy(self.request.bytes()).replace("INVITE", "ACK");
                self.endpoint
                    .receive(self.now, flow(CALLER), &parse(&Bytes::from(ack)));
            }
            self.sent.push((name, message));
        }
    }

    fn deliver(&mut self, name: &str, bytes: &Bytes) {
        let message = parse(bytes);
        if let Received::Response(client) = self.endpoint.receive(self.now, flow(name), &message) {
            self.proxy
                .response(self.now, &mut self.endpoint, client, &message);
        }
    }

    /// The last request to this callee that is neither CANCEL nor ACK.
    fn last_request(&self, name: &str) -> Message {
        let forwarded = |message: &Message| {
            !matches!(message.method(), None | Some(Method::Cancel | Method::Ack))
        };
        let found = self
            .sent
            .iter()
            .rfind(|(to, message)| to == name && forwarded(message));
        found
            .unwrap_or_else(|| panic!("{name} was asked nothing"))
            .1
            .clone()
    }

    /// A callee answers, with a field more.
    fn answer_with(&mut self, name: &str, status: u16, field: &str, value: &str) {
        self.log.push(format!("< {name} {status}"));
        let request = self.last_request(name);
        let answer = ResponseBuilder::new(&request, status, "")
            .to_tag(name)
            .header(field, value);
        self.deliver(name, &answer.finish());
        self.settle();
    }

    fn answer(&mut self, name: &str, status: u16) {
        self.answer_with(name, status, "Server", name);
    }

    /// The caller sends a CANCEL, again perhaps: it makes no transaction here.
    fn cancel(&mut self) {
        self.log.push(format!("< {CALLER} CANCEL"));
        let text = String::from_utf8_lossy(self.request.bytes()).replace("INVITE", "CANCEL");
        let cancel = parse(&Bytes::from(text));
        let received = self.endpoint.receive(self.now, flow(CALLER), &cancel);
        assert_eq!(received, Received::Cancel(Some(self.server)));
        self.proxy
            .cancel(self.now, &mut self.endpoint, self.server, b"Q.850;cause=16");
        self.settle();
    }

    /// What the CANCEL to this callee gives as its reason.
    fn reason(&self, name: &str) -> Option<String> {
        let is_cancel = |(to, message): &&(String, Message)| {
            to == name && message.method() == Some(Method::Cancel)
        };
        let (_, cancel) = self.sent.iter().find(is_cancel)?;
        let value = cancel.header(HeaderName::Reason)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The transport cannot send what this callee was sent last.
    fn unreachable(&mut self, name: &str) {
        self.log.push(format!("! {name}"));
        let request = self.last_request(name);
        let branch = request
            .top_via()
            .expect("Via")
            .branch()
            .expect("branch")
            .to_owned();
        let id = u64::from_str_radix(&branch[7..23], 16).expect("digits");
        self.endpoint
            .transport_failed(self.now, ClientId(Id::from_bits(id)));
        self.settle();
    }

    /// Lets time pass, each timer at its moment.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = [self.endpoint.poll_timeout(), self.proxy.poll_timeout()]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.endpoint.handle_timeout(self.now);
            self.proxy.handle_timeout(self.now, &mut self.endpoint);
            self.settle();
        }
        self.now = end;
        self.log
            .push(format!("{} s", (self.now - self.start).as_secs()));
    }

    fn seconds(&mut self, seconds: u64) {
        self.wait(Duration::from_secs(seconds));
    }

    /// The last message to the caller.
    fn outcome(&self) -> &Message {
        &self
            .sent
            .iter()
            .rfind(|(name, _)| name == CALLER)
            .expect("an answer")
            .1
    }

    /// What happened since the last look.
    fn expect(&mut self, ladder: &[&str]) {
        assert_eq!(self.log, ladder);
        self.log.clear();
    }

    /// After a minute nothing is left of the request.
    fn ends(mut self) {
        self.log.clear();
        self.seconds(64);
        self.expect(&[&format!("{} s", (self.now - self.start).as_secs())]);
        assert_eq!((self.proxy.len(), self.endpoint.len()), (0, (0, 0)));
    }
}
