use bytes::Bytes;
use sidetone_sip::gruu::instance_of_gr;
use sidetone_sip::{Framing, Limits, NameAddr};

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const INSTANCE: &str = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

struct World {
    location: Location,
    aor: AddressOfRecord,
    policy: RegisterPolicy,
    tokens: TokenKey,
    now_ms: u64,
}

fn world() -> World {
    World {
        location: Location::new(),
        aor: "alice@example.com".parse().expect("an address"),
        policy: RegisterPolicy::default(),
        tokens: TokenKey::new([5; 32]),
        now_ms: NOW_MS,
    }
}

fn message(call_id: &str, cseq: u32, lines: &[&str]) -> Message {
    let mut text = String::from("REGISTER sip:example.com SIP/2.0\r\n");
    if !lines.iter().any(|line| line.starts_with("Via")) {
        text.push_str("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n");
    }
    text.push_str("From: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\n");
    text.push_str(&format!("Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n"));
    lines.iter().for_each(|line| text.extend([line, "\r\n"]));
    text.push_str("Content-Length: 0\r\n\r\n");
    Message::parse(Bytes::from(text), Framing::Datagram, &Limits::default()).expect("well-formed")
}

impl World {
    fn context(&self) -> RegisterContext<'_> {
        RegisterContext {
            aor: &self.aor,
            device: DeviceId(7),
            flow: FlowToken {
                transport: 0,
                listener: 1,
                connection: 0,
                remote: "192.0.2.1:5060".parse().expect("an address"),
            },
            policy: &self.policy,
            tokens: &self.tokens,
            unique: 1,
            now_ms: self.now_ms,
        }
    }

    fn register(
        &self,
        call_id: &str,
        cseq: u32,
        lines: &[&str],
    ) -> Result<Registered, RegisterError> {
        register(
            &self.location,
            &message(call_id, cseq, lines),
            &self.context(),
        )
    }

    fn done(&self, cseq: u32, lines: &[&str]) -> Registered {
        self.register("c", cseq, lines)
            .unwrap_or_else(|error| panic!("{lines:?}: {error}"))
    }

    fn refused(&self, cseq: u32, lines: &[&str]) -> RegisterError {
        let before = self.location.bindings(&self.aor, self.now_ms);
        let error = self.register("c", cseq, lines).expect_err("refused");
        assert_eq!(
            self.location.bindings(&self.aor, self.now_ms),
            before,
            "all or nothing"
        );
        error
    }

    fn contacts(&self) -> Vec<String> {
        let bindings = self.location.bindings(&self.aor, self.now_ms);
        bindings
            .iter()
            .map(|binding| binding.contact.to_string())
            .collect()
    }
}

fn values<'r>(registered: &'r Registered, name: &str) -> Vec<&'r str> {
    let named = registered
        .headers
        .iter()
        .filter(|(known, _)| *known == name);
    named.map(|(_, value)| value.as_str()).collect()
}

fn header<'e>(error: &'e RegisterError, name: &str) -> Option<&'e str> {
    error
        .headers
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn a_registration_lives_as_long_as_asked_and_allowed() {
    let world = world();
    for (cseq, (lines, expected)) in (1..).zip([
        (&["Contact: <sip:a@192.0.2.1>"][..], 3600),
        (&["Contact: <sip:a@192.0.2.1>", "Expires: 120"], 120),
        (
            &["Contact: <sip:a@192.0.2.1>;expires=60", "Expires: 120"],
            60,
        ),
        (&["Contact: <sip:a@192.0.2.1>;expires=7200"], 3600),
        (&["Contact: <sip:a@192.0.2.1>;expires=soon"], 3600),
        (
            &["Contact: <sip:a@192.0.2.1>", "Expires: 99999999999999"],
            3600,
        ),
    ]) {
        let registered = world.done(cseq, lines);
        assert_eq!(
            values(&registered, "Contact"),
            [format!("<sip:a@192.0.2.1>;expires={expected}")]
        );
        assert_eq!(
            registered.bindings[0].expires_at_ms,
            NOW_MS + expected * 1000
        );
        assert_eq!(registered.came_online, cseq == 1);
    }
    let error = world.refused(
        9,
        &[
            "Contact: <sip:b@192.0.2.1>",
            "Contact: <sip:a@192.0.2.1>;expires=59",
        ],
    );
    assert_eq!(
        (error.status, header(&error, "Min-Expires")),
        (423, Some("60"))
    );
}

#[test]
fn what_is_bound_carries_what_was_sent() {
    let world = world();
    world.done(
        3,
        &[
            "Contact: \"A\" <sip:a@192.0.2.1;transport=tcp>;q=0.25",
            "User-Agent: Phone/1",
        ],
    );
    let binding = world.location.bindings(&world.aor, NOW_MS).remove(0);
    assert_eq!(
        (&*binding.contact, binding.q),
        ("sip:a@192.0.2.1;transport=tcp", 250)
    );
    assert_eq!(
        (binding.device, binding.cseq, &*binding.call_id),
        (DeviceId(7), 3, "c")
    );
    assert_eq!(
        (&*binding.user_agent, binding.received.as_deref()),
        ("Phone/1", Some("0/1/0/192.0.2.1:5060"))
    );
    let registered = world.done(4, &[]);
    assert!(!registered.changed);
    assert_eq!(
        values(&registered, "Contact"),
        ["<sip:a@192.0.2.1;transport=tcp>;expires=3600;q=0.250"]
    );
    assert_eq!(
        world
            .refused(5, &["Contact: <sip:b@192.0.2.1>;q=1.5"])
            .status,
        400
    );
}

#[test]
fn a_contact_is_the_same_by_rfc_3261_19_1_4() {
    let world = world();
    world.done(1, &["Contact: <sip:alice@HOST.example.com;a=1>"]);
    world.done(2, &["Contact: <sip:%61lice@host.EXAMPLE.com>"]);
    assert_eq!(world.contacts(), ["sip:%61lice@host.EXAMPLE.com"]);
    world.done(3, &["Contact: <sip:alice@host.example.com:5060>"]);
    world.done(4, &["Contact: <sip:alice@host.example.com;transport=udp>"]);
    assert_eq!(world.contacts().len(), 3);
    world.done(5, &["Contact: <sip:alice@host.example.com>;expires=0"]);
    assert_eq!(world.contacts().len(), 2);
    let registered = world.done(6, &["Contact: <sip:unknown@host.example.com>;expires=0"]);
    assert_eq!(registered.bindings.len(), 2);
}

#[test]
fn a_star_removes_all_and_stands_alone() {
    let world = world();
    world.done(1, &["Contact: <sip:a@x>, <sip:b@x>"]);
    for lines in [
        &["Contact: *"][..],
        &["Contact: *", "Expires: 60"],
        &["Contact: *, <sip:a@x>", "Expires: 0"],
        &["Contact: *", "Contact: *", "Expires: 0"],
    ] {
        assert_eq!(world.refused(2, lines).status, 400, "{lines:?}");
    }
    assert_eq!(world.refused(1, &["Contact: *", "Expires: 0"]).status, 500);
    let registered = world.done(2, &["Contact: *", "Expires: 0"]);
    assert!(registered.changed && registered.bindings.is_empty());
    assert!(values(&registered, "Contact").is_empty());
    assert_eq!(
        world.location.take_dirty(usize::MAX),
        [(world.aor.clone(), vec![])]
    );
}

#[test]
fn requests_count_in_the_order_they_were_sent() {
    let world = world();
    world.done(5, &["Contact: <sip:a@x>;expires=100"]);
    let again = world.done(5, &["Contact: <sip:a@x>;expires=100"]);
    assert_eq!(
        values(&again, "Contact"),
        ["<sip:a@x>;expires=100"],
        "a retransmission"
    );
    let error = world.refused(4, &["Contact: <sip:b@x>, <sip:a@x>;expires=0"]);
    assert_eq!((error.status, error.reason), (500, "CSeq Out Of Order"));
    assert_eq!(
        world.contacts(),
        ["sip:a@x"],
        "the first of the two is not added either"
    );
    let other = world
        .register("another", 1, &["Contact: <sip:a@x>;expires=200"])
        .expect("a new Call-ID counts");
    assert_eq!(values(&other, "Contact"), ["<sip:a@x>;expires=200"]);
}

#[test]
fn at_most_ten_contacts() {
    let mut world = world();
    let ten: Vec<String> = (0..10).map(|number| format!("<sip:{number}@x>")).collect();
    world.done(1, &[&format!("Contact: {}", ten.join(", "))]);
    let error = world.refused(2, &["Contact: <sip:10@x>"]);
    assert_eq!(error.status, 403);
    assert_eq!(
        header(&error, "Warning"),
        Some("399 sidetone \"Too Many Contacts\"")
    );
    world.done(3, &["Contact: <sip:10@x>, <sip:9@x>;expires=0"]);
    assert_eq!(world.contacts().len(), 10);
    let many = vec!["<sip:a@x>;expires=0"; 200].join(", ");
    assert_eq!(world.refused(4, &[&format!("Contact: {many}")]).status, 403);
    world.now_ms += 3_600_000;
    world.done(5, &["Contact: <sip:11@x>"]);
    assert_eq!(
        world.contacts(),
        ["sip:11@x"],
        "what has ended does not count"
    );
}

#[test]
fn bad_contacts_are_refused() {
    let world = world();
    for line in [
        "Contact: <mailto:a@x>",
        "Contact: sip:a@x?Route=y",
        "Contact: <sip:>",
        "Contact: <sip:a@x",
    ] {
        assert_eq!(world.refused(1, &[line]).status, 400, "{line}");
    }
    let long = format!("Contact: <sip:{}@x>", "a".repeat(3000));
    assert_eq!(world.refused(1, &[&long]).status, 400);
}

fn outbound(contact: &str, reg_id: u32) -> String {
    format!("Contact: <{contact}>;reg-id={reg_id};+sip.instance=\"<{INSTANCE}>\"")
}

#[test]
fn outbound_replaces_by_instance_and_reg_id() {
    let world = world();
    let supported = "Supported: path, outbound";
    let registered = world.done(1, &[&outbound("sip:a@192.0.2.1:1000", 1), supported]);
    assert_eq!(values(&registered, "Require"), ["outbound"]);
    assert_eq!(values(&registered, "Flow-Timer"), ["120"]);
    world.done(2, &[&outbound("sip:a@192.0.2.1:2000", 2), supported]);
    world.done(
        3,
        &[
            &outbound("sip:a@192.0.2.1:3000", 1)
                .to_uppercase()
                .replace("CONTACT: <SIP:A", "Contact: <sip:a"),
            supported,
        ],
    );
    assert_eq!(
        world.contacts(),
        ["sip:a@192.0.2.1:3000", "sip:a@192.0.2.1:2000"]
    );
    let registered = world.done(
        4,
        &[
            &format!("{};expires=0", outbound("sip:a@192.0.2.1:3000", 1)),
            supported,
        ],
    );
    assert_eq!(registered.bindings.len(), 1);
    let contact = values(&registered, "Contact")[0];
    assert!(
        contact.ends_with(&format!(";+sip.instance=\"<{INSTANCE}>\";reg-id=2")),
        "{contact}"
    );
    world.done(5, &["Contact: <sip:a@192.0.2.1:2000>;expires=0"]);
    assert!(world.contacts().is_empty(), "removed by its contact");
}

#[test]
fn reg_id_counts_only_with_instance_and_support() {
    let world = world();
    for lines in [
        &["Contact: <sip:a@x>;reg-id=1", "Supported: outbound"][..],
        &[&outbound("sip:a@x", 1)],
        &[&outbound("sip:a@x", 0), "Supported: outbound"],
        &[&outbound("sip:a@x", u32::MAX), "Supported: outbound"],
    ] {
        let world = self::world();
        let registered = world.done(1, lines);
        assert_eq!(registered.bindings[0].reg_id, 0, "{lines:?}");
        assert!(values(&registered, "Require").is_empty());
    }
    let two = [
        &*outbound("sip:a@x", 1),
        "Contact: <sip:b@x>",
        "Supported: outbound",
    ];
    assert_eq!(world.refused(1, &two).status, 400);
    let one = [
        &*outbound("sip:a@x", 1),
        "Contact: <sip:b@x>;expires=0",
        "Supported: outbound",
    ];
    assert_eq!(world.done(1, &one).bindings.len(), 1);
}

#[test]
fn outbound_needs_the_first_hop_too() {
    let world = world();
    let contact = outbound("sip:a@x", 1);
    let (supported, vias) = (
        "Supported: outbound, path",
        "Via: SIP/2.0/UDP e;branch=z9hG4bKe, SIP/2.0/UDP c;branch=z9hG4bKc",
    );
    let behind_proxy = [vias, &*contact, supported];
    assert_eq!(world.refused(1, &behind_proxy).status, 439);
    let old_edge = [vias, &*contact, supported, "Path: <sip:edge;lr>"];
    assert_eq!(world.refused(1, &old_edge).status, 439);
    let good_edge = [
        vias,
        &*contact,
        supported,
        "Path: <sip:core;lr>, <sip:tok@edge;lr;ob>",
    ];
    let registered = world.done(1, &good_edge);
    assert_eq!(registered.bindings[0].reg_id, 1);
    assert_eq!(
        values(&registered, "Path"),
        ["<sip:core;lr>, <sip:tok@edge;lr;ob>"]
    );
}

#[test]
fn path_is_kept_when_the_client_knows_it() {
    let world = world();
    let error = world.refused(1, &["Contact: <sip:a@x>", "Path: <sip:edge;lr>"]);
    assert_eq!(
        (error.status, header(&error, "Unsupported")),
        (420, Some("path"))
    );
    let lines = [
        "Contact: <sip:a@x>",
        "Supported: path",
        "Path: <sip:edge;lr>",
        "Path: <sip:core;lr>;x=\"a,b\"",
    ];
    let registered = world.done(1, &lines);
    assert_eq!(
        &*registered.bindings[0].path,
        "<sip:edge;lr>, <sip:core;lr>;x=\"a,b\""
    );
    assert_eq!(
        world
            .refused(
                2,
                &["Contact: <sip:a@x>", "Supported: path", "Path: <sip:edge"]
            )
            .status,
        400
    );
}

#[test]
fn gruus_for_who_knows_them() {
    let world = world();
    let contact = format!("Contact: <sip:a@x>;+sip.instance=\"<{INSTANCE}>\"");
    assert!(!values(&world.done(1, &[&contact]), "Contact")[0].contains("gruu"));
    let registered = world.done(2, &[&contact, "Supported: gruu"]);
    let value = values(&registered, "Contact")[0];
    let address = NameAddr::parse(value.as_bytes()).expect("well-formed");
    let public =
        Uri::parse(address.params.value("pub-gruu").expect("a public GRUU")).expect("a URI");
    assert_eq!((public.user, public.host), (Some("alice"), "example.com"));
    assert_eq!(
        instance_of_gr(public.params.value("gr").expect("gr")).as_deref(),
        Some(INSTANCE)
    );
    let temporary =
        Uri::parse(address.params.value("temp-gruu").expect("a temporary GRUU")).expect("a URI");
    assert!(temporary.params.has("gr"));
    let opened = world
        .tokens
        .open_temp_gruu(temporary.user.expect("a user part"))
        .expect("ours");
    assert!(opened.user == "alice" && opened.matches(INSTANCE, "c"));
    let query = world.done(3, &["Supported: gruu"]);
    assert!(values(&query, "Contact")[0].contains("pub-gruu"));
}

/// Against a plain model, under a long random history of one client's requests.
#[test]
fn apply_agrees_with_a_model() {
    let world = world();
    let mut model: Vec<(String, u32, u64)> = Vec::new();
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut bindings = Vec::new();
    let mut now_ms = NOW_MS;
    for _ in 0..5_000 {
        now_ms += random(40_000);
        let cseq = u32::try_from(random(30)).expect("small")
            + u32::try_from((now_ms - NOW_MS) / 20_000).expect("small");
        let (name, expires) = (
            format!("sip:{}@x", random(14)),
            [0, 60, 600][usize::try_from(random(3)).expect("small")],
        );
        let line = format!("Contact: <{name}>;expires={expires}");
        let message = message("c", cseq, &[&line]);
        let request = RegisterRequest::read(&message, &world.context()).expect("good");
        let result = apply(bindings.clone(), &request, &world.policy, now_ms);

        let before = model.clone();
        model.retain(|(_, _, end)| *end > now_ms);
        let known = model.iter().position(|(known, ..)| *known == name);
        let older = known.is_some_and(|at| model[at].1 > cseq);
        match known {
            Some(at) if model[at].1 == cseq || older => {}
            Some(at) if expires == 0 => {
                model.remove(at);
            }
            Some(at) => model[at] = (name, cseq, now_ms + expires * 1000),
            None if expires == 0 => {}
            None => model.push((name, cseq, now_ms + expires * 1000)),
        }
        let refused = older || model.len() > 10;
        assert_eq!(result.is_err(), refused);
        match result {
            Ok(after) => bindings = after,
            Err(_) => model = before,
        }
        let flat: Vec<_> = bindings
            .iter()
            .map(|one| (one.contact.to_string(), one.cseq, one.expires_at_ms))
            .collect();
        if !refused {
            assert_eq!(flat, model);
        }
    }
}
