//! Micro-benchmark: a whole call through transactions and proxy, without sockets: INVITE, 180, 200, ACK, BYE, 200.
//!
//! `cargo bench -p sidetone-sip --bench call` prints microseconds and allocations for each call and fails where a call
//! leaves something behind. Everything that the SIP core does for a call is in it: parsing, matching, forking, timers.
// A benchmark prints and has to fail loudly.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

use std::alloc::System;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sidetone_sip::proxy::{Forward, Local, Locals, Proxy, RecordRoute, Target};
use sidetone_sip::{
    Endpoint, Flow, Framing, Limits, Message, Received, ResponseBuilder, TokenKey, Transport,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const INVITE: &str = include_str!("invite.sip");
const ROUNDS: usize = 200;
const CALLS: u32 = 500;
/// Virtual time between two calls: 1,000 calls a second.
const PACE: Duration = Duration::from_millis(1);

struct Bench {
    now: Instant,
    endpoint: Endpoint,
    proxy: Proxy,
    tokens: TokenKey,
    limits: Limits,
    caller: Flow,
    callee: Flow,
    calls: u32,
    /// What the callee does, which is not measured.
    others: Duration,
}

impl Bench {
    fn new() -> Self {
        let local = Local {
            transport: Transport::Udp,
            sent_by: "203.0.113.5:5060".to_owned(),
            uri: "sip:203.0.113.5:5060".to_owned(),
        };
        let tokens = TokenKey::new([1; 32]);
        let flow = |address: &str| Flow::to(Transport::Udp, 0, address.parse().unwrap());
        Self {
            now: Instant::now(),
            endpoint: Endpoint::new(1_000_000, 1),
            proxy: Proxy::new(Arc::new(Locals::new(vec![local])), tokens.clone()),
            tokens,
            limits: Limits::default(),
            caller: flow("192.0.2.10:5060"),
            callee: flow("192.0.2.77:5060"),
            calls: 0,
            others: Duration::ZERO,
        }
    }

    fn parse(&self, bytes: Bytes) -> Message {
        Message::parse(bytes, Framing::Datagram, &self.limits).unwrap()
    }

    /// A request of the caller, forwarded; what the callee gets.
    fn ask(&mut self, text: Bytes, dialog: bool) -> Message {
        let request = self.parse(text);
        assert_eq!(
            self.endpoint.receive(self.now, self.caller, &request),
            Received::Request
        );
        assert!(!self.proxy.is_loop(&request));
        let server = self
            .endpoint
            .accept(self.now, self.caller, &request, u64::MAX)
            .unwrap();
        let record_route = dialog.then(|| RecordRoute {
            token: self
                .tokens
                .dialog_token(request.call_id(), "caller", self.caller.remote.ip()),
            incoming_flow: None,
        });
        let target = Target {
            uri: "sip:desk@192.0.2.77:5060;line=3".to_owned(),
            routes: Vec::new(),
            flow: self.callee,
            q: 1000,
            record: false,
            group: None,
        };
        let forward = Forward {
            server,
            request,
            incoming: self.caller,
            pop_routes: 0,
            targets: vec![target],
            record_route,
            asserted: Some("<sip:alice@example.com>".to_owned()),
            strip_credentials: true,
        };
        self.proxy.forward(self.now, &mut self.endpoint, forward);
        let sent = self.endpoint.poll_transmit().unwrap();
        let start = Instant::now();
        let message = self.parse(sent.bytes);
        self.others += start.elapsed();
        message
    }

    /// The callee answers; the caller gets it.
    fn answer(&mut self, request: &Message, status: u16) {
        let start = Instant::now();
        let answer = ResponseBuilder::new(request, status, "")
            .to_tag("b")
            .record_route();
        let bytes = answer
            .header("Contact", "<sip:desk@192.0.2.77:5060>")
            .finish();
        self.others += start.elapsed();
        let message = self.parse(bytes);
        let Received::Response(client) = self.endpoint.receive(self.now, self.callee, &message)
        else {
            unreachable!("the proxy waits for this answer");
        };
        self.proxy
            .response(self.now, &mut self.endpoint, client, &message);
        assert_eq!(
            self.endpoint.poll_transmit().unwrap().flow.remote,
            self.caller.remote
        );
    }

    fn call(&mut self) {
        let start = Instant::now();
        self.calls += 1;
        let number = format!("z9hG4bK{}", self.calls);
        let invite = INVITE.replacen("z9hG4bK", &number, 1);
        let of = |method: &str| Bytes::from(invite.replace("INVITE", method));
        let (invite, ack, bye) = (of("INVITE"), of("ACK"), of("BYE").to_vec());
        let bye =
            Bytes::from(String::from_utf8_lossy(&bye).replacen(&number, &format!("{number}b"), 1));
        self.others += start.elapsed();

        let invite = self.ask(invite, true);
        self.answer(&invite, 180);
        self.answer(&invite, 200);
        let ack = self.parse(ack);
        self.endpoint.receive(self.now, self.caller, &ack);
        let to = Target {
            uri: ack.request_uri().to_owned(),
            routes: Vec::new(),
            flow: self.callee,
            q: 1000,
            record: false,
            group: None,
        };
        self.proxy
            .forward_ack(&mut self.endpoint, &ack, self.caller, 0, &to);
        self.endpoint.poll_transmit().unwrap();
        let bye = self.ask(bye, false);
        self.answer(&bye, 200);
        self.pass(PACE);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.endpoint.handle_timeout(self.now);
        self.proxy.handle_timeout(self.now, &mut self.endpoint);
        while let Some(event) = self.endpoint.poll_event() {
            self.proxy.event(self.now, &mut self.endpoint, &event);
        }
        while self.endpoint.poll_transmit().is_some() {}
    }
}

fn main() {
    let mut bench = Bench::new();
    // Until as many transactions end as begin.
    for _ in 0..40_000 {
        bench.call();
    }
    println!(
        "open: {:?} transactions, {} contexts",
        bench.endpoint.len(),
        bench.proxy.len()
    );
    let region = Region::new(ALLOCATOR);
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        bench.others = Duration::ZERO;
        let start = Instant::now();
        for _ in 0..CALLS {
            bench.call();
        }
        rounds.push((start.elapsed() - bench.others).as_secs_f64() * 1e6 / f64::from(CALLS));
    }
    rounds.sort_by(f64::total_cmp);
    let change = region.change();
    let calls = ROUNDS * CALLS as usize;
    println!(
        "call: fastest {:.2} µs, median {:.2} µs",
        rounds[0],
        rounds[ROUNDS / 2]
    );
    println!(
        "allocations for each call, the peers' included: {}",
        change.allocations / calls
    );
    bench.pass(Duration::from_secs(300));
    bench.pass(Duration::from_secs(300));
    assert_eq!(
        (bench.endpoint.len(), bench.proxy.len()),
        ((0, 0), 0),
        "a call left something behind"
    );
}
