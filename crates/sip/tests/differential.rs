//! `rsip` as a second opinion: where both accept a request, both read the same.
//!
//! *Invariant*: a difference is a finding in one of the two; those of `rsip` that are known are named here, none is
//! hidden by leaving a field out.
#![allow(
    clippy::unwrap_used,
    reason = "a test prints its tally and ends at the first surprise"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use rsip::headers::{ToTypedHeader, UntypedHeader};
use rsip::message::HeadersExt;
use sidetone_sip::{Framing, Limits, Message, Uri, validate};

#[path = "../fuzz/mutate.rs"]
mod mutate;
#[path = "../fuzz/seeds.rs"]
mod seeds;

/// What is compared; texts as on the wire, without white space that means nothing.
#[derive(Debug, PartialEq)]
struct Reading {
    method: String,
    uri: String,
    call_id: String,
    cseq: (u32, String),
    from: (String, Option<String>),
    to: (String, Option<String>),
    branch: Option<String>,
    max_forwards: Option<u32>,
}

fn ours(octets: &[u8]) -> Option<Reading> {
    let message = Message::parse(
        Bytes::copy_from_slice(octets),
        Framing::Datagram,
        &Limits::default(),
    )
    .ok()?;
    validate::request(&message).ok()?;
    let (from, to, cseq) = (
        message.from().ok()?,
        message.to().ok()?,
        message.cseq().ok()?,
    );
    Some(Reading {
        method: message.method_text().to_owned(),
        uri: normal(message.request_uri()),
        call_id: String::from_utf8_lossy(message.call_id()).into_owned(),
        cseq: (cseq.number, cseq.method_text.to_owned()),
        from: (normal(from.uri), from.tag().map(str::to_owned)),
        to: (normal(to.uri), to.tag().map(str::to_owned)),
        branch: message.top_via().ok()?.branch().map(str::to_owned),
        max_forwards: message.max_forwards().ok()?.map(u32::from),
    })
}

/// `rsip` may panic on hostile input; that counts as a refusal.
fn theirs(octets: &[u8]) -> Option<Reading> {
    catch_unwind(AssertUnwindSafe(|| read_theirs(octets)))
        .ok()
        .flatten()
}

fn read_theirs(octets: &[u8]) -> Option<Reading> {
    let request = rsip::Request::try_from(octets).ok()?;
    let from = request.from_header().ok()?.typed().ok()?;
    let to = request.to_header().ok()?.typed().ok()?;
    let cseq = request.cseq_header().ok()?.typed().ok()?;
    let via = request.via_header().ok()?.typed().ok()?;
    let hops = request.max_forwards_header().ok()?;
    Some(Reading {
        method: request.method.to_string(),
        uri: normal(&request.uri.to_string()),
        call_id: request
            .call_id_header()
            .ok()?
            .value()
            .trim_matches([' ', '\t'])
            .to_owned(),
        cseq: (cseq.seq, cseq.method.to_string()),
        from: (
            normal(&from.uri.to_string()),
            from.tag().map(|tag| tag.value().to_owned()),
        ),
        to: (
            normal(&to.uri.to_string()),
            to.tag().map(|tag| tag.value().to_owned()),
        ),
        branch: via.branch().map(|branch| branch.value().to_owned()),
        max_forwards: Some(hops.num().ok()?),
    })
}

/// `rsip` writes parts of a URI anew (case of transport and scheme): compared are its parts.
fn normal(text: &str) -> String {
    match Uri::parse(text) {
        Ok(uri) => format!(
            "{:?} {:?} {:?} {} {:?}",
            uri.scheme, uri.user, uri.password, uri.host, uri.port
        )
        .to_ascii_lowercase(),
        Err(_) => text.to_owned(),
    }
}

/// Whether the readings agree. Known of `rsip`: it ends a parameter value at the first octet outside its token set
/// and drops the rest of it, so `branch=a:b` is read as `a` and `branch= a` as nothing; a shortened value is told by
/// what it was cut at.
fn agree(ours: &Reading, theirs: &Reading) -> bool {
    let same = |ours: &Option<String>, theirs: &Option<String>| match (ours, theirs) {
        (Some(ours), Some(theirs)) => {
            theirs.is_empty() || ours.strip_prefix(theirs.as_str()).is_some_and(cut_by_rsip)
        }
        (ours, theirs) => ours == theirs,
    };
    (&ours.method, &ours.uri, &ours.call_id, &ours.cseq)
        == (&theirs.method, &theirs.uri, &theirs.call_id, &theirs.cseq)
        && ours.from.0 == theirs.from.0
        && ours.to.0 == theirs.to.0
        && same(&ours.from.1, &theirs.from.1)
        && same(&ours.to.1, &theirs.to.1)
        && same(&ours.branch, &theirs.branch)
        && ours.max_forwards == theirs.max_forwards
}

fn cut_by_rsip(rest: &str) -> bool {
    let token = |octet: u8| octet.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&octet);
    rest.bytes().next().is_none_or(|first| !token(first))
}

/// Known of `rsip`: compact names are unknown headers to it, so it takes the second Via for the first.
fn has_compact_names(octets: &[u8]) -> bool {
    let parsed = Message::parse(
        Bytes::copy_from_slice(octets),
        Framing::Datagram,
        &Limits::default(),
    );
    parsed.is_ok_and(|message| message.fields().any(|field| field.name_text.len() == 1))
}

#[derive(Default)]
struct Tally {
    same: usize,
    only_ours: usize,
    only_theirs: usize,
    different: Vec<String>,
}

impl Tally {
    fn add(&mut self, octets: &[u8]) {
        if has_compact_names(octets) {
            return;
        }
        match (ours(octets), theirs(octets)) {
            (Some(ours), Some(theirs)) if agree(&ours, &theirs) => self.same += 1,
            (Some(ours), Some(theirs)) => {
                self.different.push(format!(
                    "{}\n  ours   {ours:?}\n  theirs {theirs:?}",
                    octets.escape_ascii()
                ));
            }
            (Some(_), None) => self.only_ours += 1,
            (None, Some(_)) => self.only_theirs += 1,
            (None, None) => {}
        }
    }
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "a test prints its tally and ends at the first surprise"
)]
fn both_read_the_same() {
    let seeds = seeds::seeds(Path::new(env!("CARGO_MANIFEST_DIR")), "message");
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let mut tally = Tally::default();
    for octets in &seeds {
        tally.add(octets);
    }
    let seeds: Vec<Vec<u8>> = seeds
        .into_iter()
        .filter(|octets| ours(octets).is_some() && theirs(octets).is_some())
        .collect();
    assert!(seeds.len() > 10, "seeds that both accept: {}", seeds.len());
    let mut random = mutate::Random(11);
    for _ in 0..30_000 {
        tally.add(&mutate::mutant(
            &mut random,
            &seeds,
            mutate::pieces("message"),
        ));
    }
    std::panic::set_hook(quiet);
    let Tally {
        same,
        only_ours,
        only_theirs,
        different,
    } = tally;
    println!(
        "same {same}, ours alone {only_ours}, theirs alone {only_theirs}, different {}",
        different.len()
    );
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(same > 500, "the comparison compares something: {same}");
}
