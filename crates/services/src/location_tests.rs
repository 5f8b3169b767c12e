use super::*;

const NOW_MS: u64 = 1_800_000_000_000;

fn aor(user: impl std::fmt::Display) -> AddressOfRecord {
    AddressOfRecord::new(&user.to_string(), "example.com").expect("an address")
}

fn binding(contact: &str, flow: &str, reg_id: u32) -> Binding {
    Binding {
        contact: contact.into(),
        device: DeviceId(5),
        instance: (reg_id > 0).then(|| "<urn:uuid:1>".into()),
        reg_id,
        q: 1000,
        call_id: "call".into(),
        cseq: 1,
        expires_at_ms: NOW_MS + 3_600_000,
        path: "<sip:edge.example.com;lr>".into(),
        received: Some(flow.into()),
        user_agent: "Phone/1".into(),
    }
}

const UDP: &str = "0/1/0/192.0.2.1:5060";
const TLS: &str = "2/3/77/[2001:db8::1]:40000";

fn put(location: &Location, aor: &AddressOfRecord, bindings: Vec<Binding>) {
    let put: Result<Vec<Binding>, ()> = location.update(aor, NOW_MS, |all| {
        *all = bindings.clone();
        Ok(true)
    });
    assert_eq!(put, Ok(bindings));
}

fn contacts(location: &Location, aor: &AddressOfRecord, now_ms: u64) -> Vec<String> {
    location
        .lookup(aor, now_ms)
        .iter()
        .map(|target| target.contact().to_owned())
        .collect()
}

#[test]
fn what_is_put_comes_back() {
    let location = Location::new();
    let bindings = vec![
        binding("sip:a@192.0.2.1", UDP, 0),
        binding("sip:a@[2001:db8::1]", TLS, 1),
    ];
    put(&location, &aor("a"), bindings.clone());
    assert_eq!(location.bindings(&aor("a"), NOW_MS), bindings);
    assert_eq!(location.bindings(&aor("b"), NOW_MS), vec![]);
    assert_eq!((location.aor_count(), location.binding_count()), (1, 2));
    let targets = location.lookup(&aor("a"), NOW_MS);
    let tls = targets
        .iter()
        .find(|target| target.reg_id == 1)
        .expect("the second");
    assert_eq!(tls.flow, parse_flow_text(TLS));
    assert_eq!(
        (tls.path(), tls.call_id(), tls.user_agent()),
        ("<sip:edge.example.com;lr>", "call", "Phone/1")
    );
    assert_eq!(tls.instance(), Some("<urn:uuid:1>"));
}

#[test]
fn flow_texts_read_back() {
    for text in [UDP, TLS] {
        let flow = parse_flow_text(text).expect("a flow");
        assert_eq!(flow_text(&flow), text);
    }
    for bad in [
        "",
        "0/1/0",
        "0/1/0/x",
        "256/1/0/192.0.2.1:1",
        "0/1/-1/192.0.2.1:1",
        "0/1/0/192.0.2.1:1/",
    ] {
        assert_eq!(parse_flow_text(bad), None, "{bad}");
    }
}

#[test]
fn the_best_comes_first_and_the_expired_never() {
    let location = Location::new();
    let with = |contact: &str, q: u16, lives_s: u64| Binding {
        q,
        expires_at_ms: NOW_MS + lives_s * 1000,
        ..binding(contact, UDP, 0)
    };
    let bindings = vec![
        with("sip:1@x", 500, 60),
        with("sip:2@x", 1000, 60),
        with("sip:3@x", 1000, 90),
    ];
    put(&location, &aor("a"), bindings);
    assert_eq!(
        contacts(&location, &aor("a"), NOW_MS),
        ["sip:3@x", "sip:2@x", "sip:1@x"]
    );
    assert_eq!(contacts(&location, &aor("a"), NOW_MS + 60_000), ["sip:3@x"]);
    assert!(!location.is_registered(&aor("a"), NOW_MS + 90_000));
    let ended: Vec<_> = (0..SHARDS)
        .flat_map(|_| location.expire(NOW_MS + 60_000))
        .collect();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].1.len(), 2);
    assert_eq!((location.aor_count(), location.binding_count()), (1, 1));
    assert_eq!(
        (0..SHARDS)
            .map(|_| location.expire(NOW_MS + 90_000).len())
            .sum::<usize>(),
        1
    );
    assert_eq!((location.aor_count(), location.binding_count()), (0, 0));
}

#[test]
fn every_change_is_written_once_and_deletions_too() {
    let location = Location::new();
    put(&location, &aor("a"), vec![binding("sip:a@x", UDP, 0)]);
    put(&location, &aor("a"), vec![binding("sip:b@x", UDP, 0)]);
    let dirty = location.take_dirty(usize::MAX);
    assert_eq!(dirty, [(aor("a"), vec![binding("sip:b@x", UDP, 0)])]);
    assert!(location.take_dirty(usize::MAX).is_empty());
    location.mark_dirty([&aor("a")]);
    assert_eq!(
        location.take_dirty(usize::MAX),
        dirty,
        "a failed write comes again"
    );
    put(&location, &aor("a"), vec![]);
    assert_eq!(location.take_dirty(usize::MAX), [(aor("a"), vec![])]);
    location.mark_dirty([&aor("a")]);
    assert_eq!(
        location.take_dirty(usize::MAX),
        [(aor("a"), vec![])],
        "a failed deletion too"
    );
    assert!(location.take_dirty(usize::MAX).is_empty());
    assert!(
        location
            .shards
            .iter()
            .all(|shard| lock(shard).entries.is_empty())
    );
}

#[test]
fn an_error_or_no_change_leaves_all_as_it_was() {
    let location = Location::new();
    put(&location, &aor("a"), vec![binding("sip:a@x", TLS, 1)]);
    location.take_dirty(usize::MAX);
    let failed = location.update(&aor("a"), NOW_MS, |all| {
        all.clear();
        Err("no")
    });
    assert_eq!(failed, Err("no"));
    let queried: Result<Vec<Binding>, ()> = location.update(&aor("a"), NOW_MS, |_| Ok(false));
    assert_eq!(queried.map(|all| all.len()), Ok(1));
    assert!(location.take_dirty(usize::MAX).is_empty());
    assert_eq!(contacts(&location, &aor("a"), NOW_MS), ["sip:a@x"]);
}

#[test]
fn a_closed_connection_ends_its_flows_only() {
    let location = Location::new();
    let other = "2/3/78/192.0.2.9:40000";
    put(
        &location,
        &aor("a"),
        vec![binding("sip:1@x", TLS, 1), binding("sip:2@x", other, 2)],
    );
    put(
        &location,
        &aor("b"),
        vec![binding("sip:3@x", TLS, 0), binding("sip:4@x", UDP, 0)],
    );
    location.take_dirty(usize::MAX);
    let mut affected = location.remove_flow(77);
    affected.sort();
    assert_eq!(affected, [aor("a"), aor("b")]);
    assert_eq!(
        contacts(&location, &aor("a"), NOW_MS),
        ["sip:2@x"],
        "reg-id 1 was its flow"
    );
    let targets = location.lookup(&aor("b"), NOW_MS);
    assert_eq!(
        targets.len(),
        2,
        "a contact without reg-id can be tried afresh"
    );
    let flows = targets
        .iter()
        .filter(|target| target.flow.is_some())
        .count();
    assert_eq!(flows, 1);
    assert_eq!((location.aor_count(), location.binding_count()), (2, 3));
    assert_eq!(location.take_dirty(usize::MAX).len(), 2);
    assert!(location.remove_flow(77).is_empty());
    assert!(location.remove_flow(0).is_empty());
    assert_eq!(location.remove_flow(78), [aor("a")]);
    assert_eq!((location.aor_count(), location.binding_count()), (1, 2));
}

#[test]
fn a_browser_is_gone_with_its_connection() {
    let location = Location::new();
    let socket = "4/3/77/192.0.2.9:40000";
    put(
        &location,
        &aor("a"),
        vec![binding("sip:x@y.invalid;transport=ws", socket, 0)],
    );
    location.restore([(aor("b"), location.bindings(&aor("a"), NOW_MS))]);
    assert!(
        contacts(&location, &aor("b"), NOW_MS).is_empty(),
        "after a restart too"
    );
    assert_eq!(location.remove_flow(77), [aor("a")]);
    assert!(!location.is_registered(&aor("a"), NOW_MS));
}

#[test]
fn a_binding_that_moved_is_not_ended_with_its_old_connection() {
    let location = Location::new();
    put(&location, &aor("a"), vec![binding("sip:a@x", TLS, 1)]);
    put(
        &location,
        &aor("a"),
        vec![binding("sip:a@x", "2/3/78/192.0.2.9:40000", 1)],
    );
    assert!(location.remove_flow(77).is_empty());
    assert_eq!(contacts(&location, &aor("a"), NOW_MS), ["sip:a@x"]);
}

#[test]
fn after_a_restart_connections_are_gone_and_udp_is_not() {
    let location = Location::new();
    let bindings = vec![
        binding("sip:1@x", UDP, 0),
        binding("sip:2@x", TLS, 1),
        binding("sip:3@x", TLS, 0),
    ];
    location.restore([(aor("a"), bindings)]);
    let targets = location.lookup(&aor("a"), NOW_MS);
    assert_eq!(targets.len(), 2, "the outbound flow is gone");
    for target in &targets {
        assert_eq!(target.flow.is_some(), target.contact() == "sip:1@x");
    }
    assert!(
        location.take_dirty(usize::MAX).is_empty(),
        "the store has them"
    );
    assert!(location.remove_flow(77).is_empty());
    assert_eq!(location.binding_count(), 3);
}

#[test]
fn a_binding_is_small() {
    assert!(size_of::<Packed>() <= 88, "{}", size_of::<Packed>());
    assert!(
        size_of::<(AddressOfRecord, Entry)>() <= 144,
        "{}",
        size_of::<(AddressOfRecord, Entry)>()
    );
}

#[test]
fn a_refresh_is_written_when_the_stored_end_is_too_early_for_it() {
    let location = Location::new();
    let until = |seconds: u64, cseq: u32| Binding {
        expires_at_ms: NOW_MS + seconds * 1_000,
        cseq,
        ..binding("sip:a@x", UDP, 0)
    };
    let written = |binding: &Binding| {
        put(&location, &aor("a"), vec![binding.clone()]);
        location.take_dirty(usize::MAX).len()
    };
    assert_eq!(written(&until(3_600, 1)), 1, "new");
    assert_eq!(written(&until(3_630, 2)), 0, "half a minute of an hour");
    assert_eq!(written(&until(3_660, 3)), 0, "a minute in all");
    assert_eq!(
        location.bindings(&aor("a"), NOW_MS),
        vec![until(3_660, 3)],
        "the table has it all the same"
    );
    assert_eq!(written(&until(3_730, 4)), 1, "over two minutes in all");
    assert_eq!(written(&until(60, 5)), 1, "much shorter");
    let moved = Binding {
        received: Some("0/1/0/192.0.2.1:5062".into()),
        ..until(60, 6)
    };
    assert_eq!(written(&moved), 1, "from another port");
}
