use super::*;
use bytes::Bytes;
use sidetone_model::DeviceId;
use sidetone_sip::{Framing, Limits, Transport};

fn bob() -> AddressOfRecord {
    "bob@example.com".parse().unwrap()
}

const PHONE: DeviceId = DeviceId(7);

fn from() -> Watcher {
    Watcher {
        flow: Flow {
            transport: Transport::Udp,
            listener: 0,
            connection: 0,
            remote: "192.0.2.1:5060".parse().unwrap(),
        },
        device: Some(PHONE),
    }
}

fn request(cseq: u32, call_id: &str, to_tag: &str, expires: u32) -> Message {
    let text = format!(
        "SUBSCRIBE sip:bob@example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
         From: <sip:bob@example.com>;tag=f\r\n\
         To: <sip:bob@example.com>{to_tag}\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: {cseq} SUBSCRIBE\r\n\
         Contact: <sip:bob@192.0.2.1>\r\n\
         Event: reg\r\n\
         Expires: {expires}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    Message::parse(Bytes::from(text), Framing::Stream, &Limits::default()).unwrap()
}

fn binding(contact: &str, cseq: u32, expires_at_ms: u64) -> Binding {
    Binding {
        contact: contact.into(),
        device: DeviceId(1),
        instance: None,
        reg_id: 0,
        q: 500,
        call_id: "r@b".into(),
        cseq,
        expires_at_ms,
        path: "".into(),
        received: None,
        user_agent: "".into(),
    }
}

fn subscribe(events: &mut RegEvents, call_id: &str, expires: u32, bindings: &[Binding]) -> u16 {
    let request = request(1, call_id, "", expires);
    let address = bob();
    let read = || bindings.to_vec();
    let answer = events.subscribe(0, from(), &request, &address, read, "sip:us", "t");
    answer.status
}

/// Ticket, Subscription-State and body of the only NOTIFY to send.
fn told(events: &mut RegEvents, now_ms: u64) -> (u64, String, String) {
    let notify = events.poll(now_ms).expect("a NOTIFY");
    assert_eq!(events.poll(now_ms), None);
    let octets = notify.request.build("SIP/2.0/UDP us;branch=z9hG4bK2");
    let message = Message::parse(octets, Framing::Stream, &Limits::default()).unwrap();
    let state = message.header_by_name("Subscription-State").unwrap();
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    (notify.ticket, text(state), text(message.body_bytes()))
}

fn has(body: &str, parts: &[&str]) {
    for part in parts {
        assert!(body.contains(part), "{part} is not in\n{body}");
    }
}

/// A subscription for 600 s whose first NOTIFY was taken.
fn watching(bindings: &[Binding]) -> RegEvents {
    let mut events = RegEvents::default();
    assert_eq!(subscribe(&mut events, "1@b", 600, bindings), 200);
    let (ticket, ..) = told(&mut events, 0);
    events.answered(0, ticket, 200);
    events
}

fn handle_timeout(events: &mut RegEvents, now_ms: u64, bindings: &[Binding]) {
    events.handle_timeout(now_ms, |address| {
        assert_eq!(*address, bob());
        let live = bindings.iter().filter(|one| !one.is_expired(now_ms));
        live.cloned().collect()
    });
}

#[test]
fn the_first_notify_tells_everything() {
    let mut events = RegEvents::default();
    let mut phone = binding("sip:bob@192.0.2.1;x=\"<&", 7, 90_000);
    phone.instance = Some("urn:uuid:1".into());
    phone.reg_id = 2;
    assert_eq!(subscribe(&mut events, "1@b", 600, &[phone]), 200);
    let (_, state, body) = told(&mut events, 0);
    assert_eq!(state, "active;expires=600");
    has(
        &body,
        &[
            "version=\"0\" state=\"full\">",
            "<registration aor=\"sip:bob@example.com\" id=\"r1\" state=\"active\">",
            "<contact id=\"c1\" state=\"active\" event=\"registered\" expires=\"90\" q=\"0.500\" callid=\"r@b\" cseq=\"7\">",
            "<uri>sip:bob@192.0.2.1;x=&quot;&lt;&amp;</uri>",
            "<unknown-param name=\"+sip.instance\">&quot;&lt;urn:uuid:1&gt;&quot;</unknown-param>",
            "<unknown-param name=\"reg-id\">2</unknown-param>",
        ],
    );
    let mut nobody = RegEvents::default();
    assert_eq!(subscribe(&mut nobody, "1@b", 600, &[]), 200);
    has(
        &told(&mut nobody, 0).2,
        &["state=\"init\">\r\n </registration>"],
    );
}

#[test]
fn the_life_of_a_contact() {
    let mut events = watching(&[]);
    let mut now_ms = 10_000;
    let steps: [(&[Binding], Removal, &[&str]); 5] = [
        (
            &[binding("sip:b@1", 1, 100_000)],
            Removal::Unregistered,
            &[
                "id=\"c1\" state=\"active\" event=\"registered\" duration-registered=\"0\" expires=\"90\"",
            ],
        ),
        (
            &[
                binding("sip:b@1", 2, 200_000),
                binding("sip:b@2", 1, 100_000),
            ],
            Removal::Unregistered,
            &[
                "id=\"c1\" state=\"active\" event=\"refreshed\" duration-registered=\"10\"",
                "id=\"c2\" state=\"active\" event=\"registered\"",
            ],
        ),
        (
            &[
                binding("sip:b@1", 3, 150_000),
                binding("sip:b@2", 1, 100_000),
            ],
            Removal::Unregistered,
            &["id=\"c1\" state=\"active\" event=\"shortened\""],
        ),
        (
            &[binding("sip:b@2", 1, 100_000)],
            Removal::Deactivated,
            &[
                "state=\"active\">\r\n  <contact id=\"c1\" state=\"terminated\" event=\"deactivated\"",
            ],
        ),
        (
            &[],
            Removal::Unregistered,
            &[
                "state=\"terminated\">\r\n  <contact id=\"c2\" state=\"terminated\" event=\"unregistered\"",
            ],
        ),
    ];
    for (version, (bindings, removal, parts)) in steps.into_iter().enumerate() {
        events.changed(now_ms, &bob(), bindings, removal);
        let (ticket, _, body) = told(&mut events, now_ms);
        let head = format!("version=\"{}\" state=\"partial\">", version + 1);
        has(&body, &[&head]);
        has(&body, parts);
        events.answered(now_ms, ticket, 200);
        now_ms += 10_000;
    }
    events.changed(now_ms, &bob(), &[], Removal::Unregistered);
    assert_eq!(events.poll(now_ms), None, "nothing changed");
}

#[test]
fn a_contact_whose_time_is_over_has_expired() {
    let mut events = watching(&[binding("sip:b@1", 1, 90_000)]);
    assert_eq!(events.next_timeout_ms(), Some(90_000));
    handle_timeout(&mut events, 89_999, &[binding("sip:b@1", 1, 90_000)]);
    assert_eq!(events.poll(89_999), None);
    handle_timeout(&mut events, 90_000, &[binding("sip:b@1", 1, 90_000)]);
    has(&told(&mut events, 90_000).2, &["event=\"expired\""]);
    // What refreshed it in time may not have been told yet.
    let mut events = watching(&[binding("sip:b@1", 1, 90_000)]);
    handle_timeout(&mut events, 90_000, &[binding("sip:b@1", 2, 190_000)]);
    has(&told(&mut events, 90_000).2, &["event=\"refreshed\""]);
    assert_eq!(events.next_timeout_ms(), Some(190_000));
    // A table that keeps what has ended does not keep us.
    let mut events = watching(&[binding("sip:b@1", 1, 90_000)]);
    events.handle_timeout(90_000, |_| vec![binding("sip:b@1", 1, 90_000)]);
    assert_eq!(events.next_timeout_ms(), Some(90_001));
}

#[test]
fn a_connection_that_closed_is_no_news_where_the_contact_stays() {
    let mut phone = binding("sip:b@1", 1, 900_000);
    phone.received = Some("1/0/7/192.0.2.1:5060".into());
    let mut events = watching(&[phone.clone()]);
    phone.received = None;
    events.changed(10_000, &bob(), &[phone], Removal::Deactivated);
    assert_eq!(events.poll(10_000), None);
}

#[test]
fn changes_that_come_fast_are_told_together() {
    let mut events = watching(&[binding("sip:b@0", 1, 900_000)]);
    let all = |contacts: &[&str]| -> Vec<Binding> {
        contacts
            .iter()
            .map(|contact| binding(contact, 1, 900_000))
            .collect()
    };
    events.changed(
        6_000,
        &bob(),
        &all(&["sip:b@0", "sip:b@1"]),
        Removal::Unregistered,
    );
    let (ticket, ..) = told(&mut events, 6_000);
    events.changed(
        6_001,
        &bob(),
        &all(&["sip:b@1", "sip:b@2"]),
        Removal::Unregistered,
    );
    assert_eq!(events.poll(6_001), None, "one is under way");
    events.answered(7_000, ticket, 200);
    assert_eq!(events.poll(7_000), None, "not within five seconds");
    events.changed(7_001, &bob(), &all(&["sip:b@1"]), Removal::Unregistered);
    assert_eq!(events.next_timeout_ms(), Some(11_000));
    handle_timeout(&mut events, 11_000, &[]);
    let (_, _, body) = told(&mut events, 11_000);
    has(
        &body,
        &[
            "version=\"2\" state=\"partial\">",
            "id=\"c1\" state=\"terminated\"",
            "id=\"c3\" state=\"terminated\"",
        ],
    );
    assert_eq!(body.matches("<contact ").count(), 2);
}

#[test]
fn a_subscription_ends_in_time_and_leaves_nothing() {
    let mut events = watching(&[]);
    handle_timeout(&mut events, 599_999, &[]);
    assert_eq!(events.poll(599_999), None);
    handle_timeout(&mut events, 600_000, &[]);
    assert_eq!(told(&mut events, 600_000).1, "terminated;reason=timeout");
    is_clear(&events);
}

fn is_clear(events: &RegEvents) {
    assert!(events.is_empty());
    assert!(events.watched.is_empty());
    assert!(events.dialogs.is_empty());
    assert!(events.under_way.is_empty());
    assert!(events.expiries.is_empty());
    assert!(!events.list.contains(&bob()));
    assert_eq!(events.list.subscriptions(), 0);
    assert_eq!(events.next_timeout_ms(), None);
}

#[test]
fn a_refresh_prolongs_and_an_unsubscribe_ends() {
    let mut events = watching(&[]);
    let refresh = request(2, "1@b", ";tag=t", 600);
    assert_eq!(events.address_of(&refresh), Some(&bob()));
    assert_eq!(events.refresh(500_000, from(), &refresh).status, 200);
    let (_, state, body) = told(&mut events, 500_000);
    assert_eq!(state, "active;expires=600");
    has(&body, &["version=\"1\" state=\"full\">"]);
    assert_eq!(events.next_timeout_ms(), Some(1_100_000));
    let end = request(3, "1@b", ";tag=t", 0);
    assert_eq!(events.refresh(500_001, from(), &end).status, 200);
    assert_eq!(told(&mut events, 500_001).1, "terminated;reason=timeout");
    is_clear(&events);
    assert_eq!(events.refresh(500_002, from(), &end).status, 481);
}

#[test]
fn a_fetch_and_a_dead_subscriber_leave_nothing() {
    let mut events = RegEvents::default();
    assert_eq!(subscribe(&mut events, "1@b", 0, &[]), 200);
    assert_eq!(told(&mut events, 0).1, "terminated;reason=timeout");
    is_clear(&events);
    for status in [481, 408, 404] {
        let mut events = RegEvents::default();
        assert_eq!(subscribe(&mut events, "1@b", 600, &[]), 200);
        let (ticket, ..) = told(&mut events, 0);
        events.answered(1, ticket, 180);
        assert_eq!(events.len(), 1);
        events.answered(1, ticket, status);
        is_clear(&events);
    }
    let mut events = RegEvents::default();
    assert_eq!(subscribe(&mut events, "1@b", 600, &[]), 200);
    let (ticket, ..) = told(&mut events, 0);
    events.failed(ticket);
    is_clear(&events);
}

#[test]
fn what_became_of_an_earlier_notify_does_not_touch_a_refreshed_subscription() {
    let mut events = RegEvents::default();
    assert_eq!(subscribe(&mut events, "1@b", 600, &[]), 200);
    let (lost, ..) = told(&mut events, 0);
    let refresh = request(2, "1@b", ";tag=t", 600);
    assert_eq!(events.refresh(20_000, from(), &refresh).status, 200);
    let (ticket, ..) = told(&mut events, 20_000);
    events.failed(lost);
    events.answered(32_000, lost, 408);
    assert_eq!(events.len(), 1);
    events.failed(ticket);
    is_clear(&events);
}

#[test]
fn subscriptions_end_with_the_address_and_with_the_device() {
    let mut events = watching(&[binding("sip:b@1", 1, 900_000)]);
    events.address_gone(1, &bob(), Termination::NoResource);
    let (_, state, body) = told(&mut events, 1);
    assert_eq!(state, "terminated;reason=noresource");
    has(&body, &["event=\"rejected\""]);
    is_clear(&events);
    let mut events = watching(&[]);
    events.device_gone(1, DeviceId(8));
    assert_eq!(events.poll(1), None);
    events.device_gone(1, PHONE);
    assert_eq!(told(&mut events, 1).1, "terminated;reason=rejected");
    is_clear(&events);
}

#[test]
fn who_changes_registrations_finds_what_is_watched() {
    let list = Arc::new(WatchList::default());
    let mut events = RegEvents::new(RegEventLimits::default(), Arc::clone(&list));
    let request = request(1, "1@b", "", 600);
    let read = || {
        assert!(list.contains(&bob()), "a change from now on is told");
        Vec::new()
    };
    let answer = events.subscribe(0, from(), &request, &bob(), read, "sip:us", "t");
    assert_eq!((answer.status, list.subscriptions()), (200, 1));
    assert_eq!(subscribe(&mut events, "2@b", 600, &[]), 200);
    while let Some(notify) = events.poll(0) {
        assert!(list.contains(&bob()));
        events.failed(notify.ticket);
    }
    is_clear(&events);
}

#[test]
fn a_notify_that_was_not_taken_is_followed_by_the_full_state() {
    let mut events = watching(&[binding("sip:b@1", 1, 900_000)]);
    let both = [
        binding("sip:b@1", 1, 900_000),
        binding("sip:b@2", 1, 900_000),
    ];
    events.changed(10_000, &bob(), &both, Removal::Unregistered);
    let (ticket, ..) = told(&mut events, 10_000);
    events.answered(10_001, ticket, 500);
    assert_eq!(events.poll(20_000), None);
    events.changed(20_000, &bob(), &both[1..], Removal::Unregistered);
    let (_, _, body) = told(&mut events, 20_000);
    has(
        &body,
        &[
            "state=\"full\">",
            "id=\"c2\" state=\"active\"",
            "id=\"c1\" state=\"terminated\"",
        ],
    );
}

#[test]
fn subscriptions_are_bounded() {
    let limits = RegEventLimits {
        subscriptions: 3,
        per_address: 2,
        ..RegEventLimits::default()
    };
    let mut events = RegEvents::new(limits, Arc::default());
    assert_eq!(subscribe(&mut events, "1@b", 600, &[]), 200);
    assert_eq!(subscribe(&mut events, "2@b", 600, &[]), 200);
    assert_eq!(subscribe(&mut events, "3@b", 600, &[]), 503);
    let carol = "carol@example.com".parse().unwrap();
    let mut other = |call_id| {
        let request = request(1, call_id, "", 600);
        let answer = events.subscribe(0, from(), &request, &carol, Vec::new, "sip:us", "t");
        answer.status
    };
    assert_eq!((other("4@b"), other("5@b")), (200, 503));
    assert_eq!(events.len(), 3);
}
