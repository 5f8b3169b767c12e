//! Micro-benchmark: one INVITE of 844 octets parsed, edited as a proxy edits it, and written.
//!
//! `cargo bench -p sidetone-sip --bench forward` prints nanoseconds and allocations for each message and fails where
//! there is any allocation. The target is 1 µs; the time is reported only, for it is the machine's as much as ours.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark reads the clock, prints, and ends at the first surprise"
)]

use std::alloc::System;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use rsip::headers::{ToTypedHeader, UntypedHeader};
use rsip::message::HeadersExt;
use sidetone_sip::{Edit, Framing, HeaderName, Limits, Message};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const INVITE: &[u8] = include_bytes!("invite.sip");
/// Short rounds, many of them: on a machine with other work the fastest tells what the code costs.
const ROUNDS: usize = 1_001;
const MESSAGES: u32 = 1_000;

const VIA: &[u8] = b"Via: SIP/2.0/UDP 203.0.113.5:5060;branch=z9hG4bKf00dcafe.1;rport\r\n";
const RECORD_ROUTE: &[u8] = b"Record-Route: <sip:k7tq2m@203.0.113.5:5060;lr>\r\n";

/// Parse only.
fn parse(octets: &Bytes, limits: &Limits) -> Message {
    Message::parse(octets.clone(), Framing::Datagram, limits).unwrap()
}

/// What a stateless hop does and no more.
fn forward(message: &Message, out: &mut Vec<u8>) {
    let hops = message.max_forwards().unwrap().unwrap_or(70);
    let mut edit = Edit::new(message);
    edit.set_request_uri("sip:desk@192.0.2.77:5060;line=3");
    edit.set_number(HeaderName::MaxForwards, u32::from(hops - 1));
    edit.insert_top(VIA);
    edit.insert_before(HeaderName::RecordRoute, RECORD_ROUTE);
    edit.remove_first_value(HeaderName::Route);
    out.clear();
    edit.write(out);
}

/// The typed headers that a stateful proxy reads.
fn read(message: &Message) -> usize {
    let via = message.top_via().unwrap();
    let tags = message.from().unwrap().tag().is_some() as usize
        + message.to().unwrap().tag().is_some() as usize;
    tags + via.branch().unwrap().len()
        + message.cseq().unwrap().number as usize
        + message.call_id().len()
}

/// The same by `rsip`, for comparison: parse, and the typed headers that `read` reads.
fn rsip(octets: &[u8]) -> usize {
    let request = rsip::Request::try_from(octets).unwrap();
    let from = request.from_header().unwrap().typed().unwrap();
    let to = request.to_header().unwrap().typed().unwrap();
    let cseq = request.cseq_header().unwrap().typed().unwrap();
    let via = request.via_header().unwrap().typed().unwrap();
    let tags = usize::from(from.tag().is_some()) + usize::from(to.tag().is_some());
    tags + via.branch().unwrap().value().len()
        + cseq.seq as usize
        + request.call_id_header().unwrap().value().len()
}

struct Measure {
    fastest_ns: f64,
    median_ns: f64,
    allocations: usize,
}

fn measure(mut work: impl FnMut()) -> Measure {
    for _ in 0..MESSAGES {
        work();
    }
    let region = Region::new(ALLOCATOR);
    let mut rounds = [0.0f64; ROUNDS];
    for round in &mut rounds {
        let start = Instant::now();
        for _ in 0..MESSAGES {
            work();
        }
        *round = start.elapsed().as_secs_f64() * 1e9 / f64::from(MESSAGES);
    }
    let allocations = region.change().allocations + region.change().reallocations;
    rounds.sort_by(f64::total_cmp);
    Measure {
        fastest_ns: rounds[0],
        median_ns: rounds[ROUNDS / 2],
        allocations,
    }
}

fn main() -> ExitCode {
    assert_eq!(INVITE.len(), 844);
    let limits = Limits::default();
    let octets = Bytes::copy_from_slice(INVITE);
    let shared = octets.clone(); // from here on, clones count references only
    let mut out = Vec::with_capacity(2_048);
    let message = parse(&shared, &limits);
    let results = [
        (
            "parse",
            measure(|| drop(black_box(parse(black_box(&octets), &limits)))),
        ),
        (
            "read typed headers",
            measure(|| _ = black_box(read(black_box(&message)))),
        ),
        (
            "validate",
            measure(|| sidetone_sip::validate::request(black_box(&message)).unwrap()),
        ),
        (
            "edit and write",
            measure(|| forward(black_box(&message), &mut out)),
        ),
        (
            "parse, edit, write",
            measure(|| forward(&parse(black_box(&octets), &limits), &mut out)),
        ),
    ];
    println!(
        "{:20} {:>8} {:>8}   allocations in {}",
        "ns per message",
        "fastest",
        "median",
        MESSAGES as usize * ROUNDS
    );
    for (
        name,
        Measure {
            fastest_ns,
            median_ns,
            allocations,
        },
    ) in &results
    {
        println!("{name:20} {fastest_ns:8.0} {median_ns:8.0}   {allocations}");
    }
    let theirs = measure(|| _ = black_box(rsip(black_box(INVITE))));
    let each = theirs.allocations / (MESSAGES as usize * ROUNDS);
    println!(
        "{:20} {:8.0} {:8.0}   {each} for each message",
        "rsip: parse, read", theirs.fastest_ns, theirs.median_ns
    );
    let none = results.iter().all(|(_, measure)| measure.allocations == 0);
    if none {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
