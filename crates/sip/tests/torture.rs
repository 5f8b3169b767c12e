//! Torture messages: our own corpus, and where the shared vectors are at hand all of RFC 4475 and RFC 5118.
//!
//! *Invariant*: a verdict is that of `Message::parse` and `validate` together; what the product accepts here it reads
//! right, and what it refuses it refuses with the code that the RFCs name.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what it skips and ends at the first surprise"
)]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;
use sidetone_sip::{
    Contact, Edit, Frame, Framer, Framing, Limits, Message, Rejected, ResponseBuilder, Uri,
    validate,
};

fn datagram(octets: Vec<u8>) -> Result<Message, Rejected> {
    Message::parse(Bytes::from(octets), Framing::Datagram, &Limits::default())
}

/// 0 for a request that is accepted, else the code of the refusal.
fn verdict(octets: Vec<u8>) -> u16 {
    let result = datagram(octets).and_then(|message| validate::request(&message).map(|()| message));
    match result {
        Ok(message) => {
            assert!(message.is_request());
            survives_forwarding(&message);
            0
        }
        Err(rejected) => {
            answer(&rejected);
            rejected.status
        }
    }
}

/// What an Edit without changes writes is read as the same message.
fn survives_forwarding(message: &Message) {
    let mut out = Vec::new();
    Edit::new(message).write(&mut out);
    let again = Message::parse(Bytes::from(out), Framing::Stream, &Limits::default()).unwrap();
    validate::request(&again).unwrap();
    assert_eq!(again.body(), message.body());
    assert_eq!(
        (again.request_uri(), again.call_id()),
        (message.request_uri(), message.call_id())
    );
}

/// A refusal that can be answered gives an answer that parses and goes back where the request came from.
fn answer(rejected: &Rejected) {
    let Some(partial) = &rejected.partial else {
        return;
    };
    let octets = ResponseBuilder::new(partial, rejected.status, rejected.reason)
        .to_tag("t")
        .finish();
    let response = Message::parse(octets, Framing::Stream, &Limits::default()).unwrap();
    assert_eq!(response.status(), Some(rejected.status));
    assert_eq!(
        response.top_via().unwrap().branch(),
        partial.top_via().unwrap().branch()
    );
}

fn usable_response(octets: Vec<u8>) -> bool {
    match datagram(octets) {
        Ok(message) => {
            assert!(!message.is_request());
            validate::response(&message).is_ok()
        }
        Err(rejected) => {
            assert!(rejected.partial.is_none(), "nothing answers a response");
            false
        }
    }
}

fn codes(case: &Value) -> Vec<u64> {
    case["codes"]
        .as_array()
        .map(|codes| codes.iter().filter_map(Value::as_u64).collect())
        .unwrap_or_default()
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn cases(file: &Path) -> Vec<Value> {
    serde_json::from_slice::<Value>(&std::fs::read(file).unwrap())
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

fn name(case: &Value) -> &str {
    case["name"].as_str().unwrap()
}

#[test]
fn own_corpus() {
    let cases = cases(&corpus().join("expected.json"));
    assert!(cases.len() > 75);
    let mut wrong = Vec::new();
    for case in &cases {
        let octets = std::fs::read(corpus().join(format!("{}.sip", name(case)))).unwrap();
        let kind = case["kind"].as_str().unwrap();
        let right = match kind {
            "valid" => verdict(octets.clone()) == 0,
            "invalid" => u64::from(verdict(octets.clone())) == case["status"].as_u64().unwrap(),
            "tolerate" => {
                let code = u64::from(verdict(octets.clone()));
                code == 0 || codes(case).contains(&code)
            }
            "response-valid" => usable_response(octets.clone()),
            "response-invalid" => !usable_response(octets.clone()),
            other => panic!("unknown kind {other}"),
        };
        if !right {
            wrong.push(format!(
                "{} ({kind}): {:?}",
                name(case),
                datagram(octets.clone()).err()
            ));
        }
        if let Some(expected) = case.get("check") {
            check(name(case), &datagram(octets).unwrap(), expected);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the message is read as, for the expectations that a case names.
fn check(name: &str, message: &Message, expected: &Value) {
    for (what, value) in expected.as_object().unwrap() {
        let to = message.to().unwrap();
        let uri = || Uri::parse(message.request_uri()).unwrap();
        let equals = |other: &Value| {
            to.parse_uri()
                .unwrap()
                .eq_3261(&Uri::parse(other.as_str().unwrap()).unwrap())
        };
        let found: Value = match what.as_str() {
            "call_id" => String::from_utf8(message.call_id().to_vec())
                .unwrap()
                .into(),
            "cseq" => message.cseq().unwrap().number.into(),
            "from_tag" => message.from().unwrap().tag().unwrap().into(),
            "to_tag" => to.tag().unwrap().into(),
            "vias" => message.vias().map(Result::unwrap).count().into(),
            "routes" => message.routes().map(Result::unwrap).count().into(),
            "max_forwards" => message.max_forwards().unwrap().unwrap().into(),
            "octets" => message.body().len().into(),
            "user" => uri().user.unwrap().into(),
            "host" => uri().host.into(),
            "port" => uri().port.unwrap().into(),
            "contact" => match message.contacts().next().unwrap().unwrap() {
                Contact::Addr(address) => address.uri.into(),
                Contact::Star => "*".into(),
            },
            "to_equals" => {
                if equals(value) {
                    value.clone()
                } else {
                    Value::Null
                }
            }
            "to_differs" => {
                if equals(value) {
                    Value::Null
                } else {
                    value.clone()
                }
            }
            other => panic!("unknown check {other}"),
        };
        assert_eq!(&found, value, "{name}: {what}");
    }
}

fn vectors() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = std::env::var_os("SIDETONE_VECTORS")
        .map_or_else(|| root.join("../shared/vectors"), |given| root.join(given));
    folder
        .join("sip/manifest.json")
        .exists()
        .then(|| folder.join("sip"))
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "a test says what it skips and ends at the first surprise"
)]
fn rfc4475_and_rfc5118() {
    let Some(folder) = vectors() else {
        println!("skipped: no torture messages; set SIDETONE_VECTORS to their folder");
        return;
    };
    let cases = cases(&folder.join("manifest.json"));
    assert_eq!(cases.len(), 62);
    let mut wrong = Vec::new();
    for case in &cases {
        let octets = std::fs::read(folder.join(case["file"].as_str().unwrap())).unwrap();
        // 420 needs to know the extensions; the message itself is well formed.
        let elsewhere = codes(case) == [420];
        let right = match case["rule"].as_str().unwrap() {
            "ok" => verdict(octets) == 0,
            "bad" if elsewhere => verdict(octets) == 0,
            "bad" => codes(case).contains(&u64::from(verdict(octets))),
            "tolerate" => matches!(u64::from(verdict(octets)), 0 | 400),
            "resp" => usable_response(octets) == (case["cls"] != "invalid"),
            other => panic!("unknown rule {other}"),
        };
        if !right {
            wrong.push(name(case).to_owned());
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The same messages through the framer, in segments of every small size: the frames do not depend on them, and what
/// is framed parses.
#[test]
fn framing_is_independent_of_segments() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sip"));
    for path in files {
        let octets = std::fs::read(&path).unwrap();
        let whole = frames(&octets, octets.len());
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(frames(&octets, size), whole, "{} by {size}", path.display());
        }
    }
}

fn frames(octets: &[u8], size: usize) -> Vec<Result<Frame, u16>> {
    let mut framer = Framer::new();
    let mut found = Vec::new();
    for segment in octets.chunks(size) {
        framer.push(segment);
        loop {
            match framer.next(&Limits::default()) {
                Ok(Some(frame)) => found.push(Ok(frame)),
                Ok(None) => break,
                Err(rejected) => found.push(Err(rejected.status)),
            }
        }
    }
    for frame in found.iter().flatten() {
        if let Frame::Message(octets) = frame
            && let Err(rejected) =
                Message::parse(octets.clone(), Framing::Stream, &Limits::default())
        {
            assert!(
                !rejected.reason.contains("Content-Length"),
                "framer and parser disagree"
            );
        }
    }
    found
}
