use super::*;
use bytes::Bytes;
use sidetone_model::{Binding, DeviceId};
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
        address: Some(bob()),
    }
}

/// Bindings as they are, and a document that says what it is told.
#[derive(Default)]
struct World {
    bindings: Vec<Binding>,
    text: std::cell::RefCell<String>,
    until_ms: Option<u64>,
    rendered: std::cell::Cell<u32>,
    view: Option<View>,
    list: Option<Arc<WatchList>>,
}

fn with(bindings: &[Binding]) -> World {
    World {
        bindings: bindings.to_vec(),
        ..World::default()
    }
}

impl Source for World {
    fn bindings(&self, address: &AddressOfRecord) -> Vec<Binding> {
        let listed = self.list.as_ref().is_none_or(|list| list.contains(address));
        assert!(listed, "a change from now on is told");
        self.bindings.clone()
    }

    fn document(&self, package: Package, _: &AddressOfRecord, view: View) -> Document {
        self.rendered.set(self.rendered.get() + 1);
        let head = format!("{} {view:?} ", package.name());
        let version_at = (package == Package::Dialog).then_some(head.len());
        Document {
            text: format!("{head}{}", self.text.borrow()).into(),
            version_at,
            until_ms: self.until_ms,
        }
    }

    fn view(&self, _: Package, _: &AddressOfRecord, _: &Watcher) -> Option<View> {
        self.view
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

fn subscribe(events: &mut Events, call_id: &str, expires: u32, bindings: &[Binding]) -> u16 {
    let request = request(1, call_id, "", expires);
    subscribe_to(events, &request, Package::Registration, &with(bindings))
}

fn subscribe_to(events: &mut Events, request: &Message, package: Package, world: &World) -> u16 {
    let answer = events.subscribe(
        0,
        from(),
        View::Own,
        request,
        package,
        &bob(),
        world,
        "sip:us",
        "t",
    );
    answer.status
}

fn changed(events: &mut Events, now_ms: u64, bindings: &[Binding], removal: Removal) {
    events.changed(now_ms, &bob(), Change::Bindings(removal), &with(bindings));
}

/// Ticket, Subscription-State and body of the only NOTIFY to send.
fn told(events: &mut Events, now_ms: u64) -> (u64, String, String) {
    told_from(events, now_ms, &World::default())
}

fn told_from(events: &mut Events, now_ms: u64, world: &World) -> (u64, String, String) {
    let notify = events.poll(now_ms, world).expect("a NOTIFY");
    assert_eq!(events.poll(now_ms, world), None);
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
fn watching(bindings: &[Binding]) -> Events {
    let mut events = Events::default();
    assert_eq!(subscribe(&mut events, "1@b", 600, bindings), 200);
    let (ticket, ..) = told(&mut events, 0);
    events.answered(0, ticket, 200);
    events
}

fn handle_timeout(events: &mut Events, now_ms: u64, bindings: &[Binding]) {
    let live = bindings.iter().filter(|one| !one.is_expired(now_ms));
    let live: Vec<Binding> = live.cloned().collect();
    events.handle_timeout(now_ms, &with(&live));
}

#[test]
fn the_first_notify_tells_everything() {
    let mut events = Events::default();
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
    let mut nobody = Events::default();
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
        changed(&mut events, now_ms, bindings, removal);
        let (ticket, _, body) = told(&mut events, now_ms);
        let head = format!("version=\"{}\" state=\"partial\">", version + 1);
        has(&body, &[&head]);
        has(&body, parts);
        events.answered(now_ms, ticket, 200);
        now_ms += 10_000;
    }
    changed(&mut events, now_ms, &[], Removal::Unregistered);
    assert_eq!(
        events.poll(now_ms, &World::default()),
        None,
        "nothing changed"
    );
}

#[test]
fn a_contact_whose_time_is_over_has_expired() {
    let mut events = watching(&[binding("sip:b@1", 1, 90_000)]);
    assert_eq!(events.next_timeout_ms(), Some(90_000));
    handle_timeout(&mut events, 89_999, &[binding("sip:b@1", 1, 90_000)]);
    assert_eq!(events.poll(89_999, &World::default()), None);
    handle_timeout(&mut events, 90_000, &[binding("sip:b@1", 1, 90_000)]);
    has(&told(&mut events, 90_000).2, &["event=\"expired\""]);
    // What refreshed it in time may not have been told yet.
    let mut events = watching(&[binding("sip:b@1", 1, 90_000)]);
    handle_timeout(&mut events, 90_000, &[binding("sip:b@1", 2, 190_000)]);
    has(&told(&mut events, 90_000).2, &["event=\"refreshed\""]);
    assert_eq!(events.next_timeout_ms(), Some(190_000));
    // A table that keeps what has ended does not keep us.
    let mut events = watching(&[binding("sip:b@1", 1, 90_000)]);
    events.handle_timeout(90_000, &with(&[binding("sip:b@1", 1, 90_000)]));
    assert_eq!(events.next_timeout_ms(), Some(90_001));
}

#[test]
fn a_connection_that_closed_is_no_news_where_the_contact_stays() {
    let mut phone = binding("sip:b@1", 1, 900_000);
    phone.received = Some("1/0/7/192.0.2.1:5060".into());
    let mut events = watching(&[phone.clone()]);
    phone.received = None;
    changed(&mut events, 10_000, &[phone], Removal::Deactivated);
    assert_eq!(events.poll(10_000, &World::default()), None);
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
    changed(
        &mut events,
        6_000,
        &all(&["sip:b@0", "sip:b@1"]),
        Removal::Unregistered,
    );
    let (ticket, ..) = told(&mut events, 6_000);
    changed(
        &mut events,
        6_001,
        &all(&["sip:b@1", "sip:b@2"]),
        Removal::Unregistered,
    );
    assert_eq!(
        events.poll(6_001, &World::default()),
        None,
        "one is under way"
    );
    events.answered(7_000, ticket, 200);
    assert_eq!(
        events.poll(7_000, &World::default()),
        None,
        "not within five seconds"
    );
    changed(
        &mut events,
        7_001,
        &all(&["sip:b@1"]),
        Removal::Unregistered,
    );
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
    assert_eq!(events.poll(599_999, &World::default()), None);
    handle_timeout(&mut events, 600_000, &[]);
    assert_eq!(told(&mut events, 600_000).1, "terminated;reason=timeout");
    is_clear(&events);
}

fn is_clear(events: &Events) {
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
    assert_eq!(
        events.resource_of(&refresh),
        Some((Package::Registration, &bob()))
    );
    assert_eq!(
        events.refresh(500_000, from(), View::Own, &refresh).status,
        200
    );
    let (_, state, body) = told(&mut events, 500_000);
    assert_eq!(state, "active;expires=600");
    has(&body, &["version=\"1\" state=\"full\">"]);
    assert_eq!(events.next_timeout_ms(), Some(1_100_000));
    let end = request(3, "1@b", ";tag=t", 0);
    assert_eq!(events.refresh(500_001, from(), View::Own, &end).status, 200);
    assert_eq!(told(&mut events, 500_001).1, "terminated;reason=timeout");
    is_clear(&events);
    assert_eq!(events.refresh(500_002, from(), View::Own, &end).status, 481);
}

#[test]
fn a_fetch_and_a_dead_subscriber_leave_nothing() {
    let mut events = Events::default();
    assert_eq!(subscribe(&mut events, "1@b", 0, &[]), 200);
    assert_eq!(told(&mut events, 0).1, "terminated;reason=timeout");
    is_clear(&events);
    for status in [481, 408, 404] {
        let mut events = Events::default();
        assert_eq!(subscribe(&mut events, "1@b", 600, &[]), 200);
        let (ticket, ..) = told(&mut events, 0);
        events.answered(1, ticket, 180);
        assert_eq!(events.len(), 1);
        events.answered(1, ticket, status);
        is_clear(&events);
    }
    let mut events = Events::default();
    assert_eq!(subscribe(&mut events, "1@b", 600, &[]), 200);
    let (ticket, ..) = told(&mut events, 0);
    events.failed(ticket, true);
    is_clear(&events);
}

#[test]
fn what_became_of_an_earlier_notify_does_not_touch_a_refreshed_subscription() {
    let mut events = Events::default();
    assert_eq!(subscribe(&mut events, "1@b", 600, &[]), 200);
    let (lost, ..) = told(&mut events, 0);
    let refresh = request(2, "1@b", ";tag=t", 600);
    assert_eq!(
        events.refresh(20_000, from(), View::Own, &refresh).status,
        200
    );
    let (ticket, ..) = told(&mut events, 20_000);
    events.failed(lost, true);
    events.answered(32_000, lost, 408);
    assert_eq!(events.len(), 1);
    events.failed(ticket, true);
    is_clear(&events);
}

#[test]
fn subscriptions_end_with_the_address_and_with_the_device() {
    let mut events = watching(&[binding("sip:b@1", 1, 900_000)]);
    events.address_gone(1, &bob(), Termination::NoResource, &World::default());
    let (_, state, body) = told(&mut events, 1);
    assert_eq!(state, "terminated;reason=noresource");
    has(&body, &["event=\"rejected\""]);
    is_clear(&events);
    let mut events = watching(&[]);
    events.device_gone(1, DeviceId(8));
    assert_eq!(events.poll(1, &World::default()), None);
    events.device_gone(1, PHONE);
    assert_eq!(told(&mut events, 1).1, "terminated;reason=rejected");
    is_clear(&events);
}

#[test]
fn who_changes_registrations_finds_what_is_watched() {
    let list = Arc::new(WatchList::default());
    let mut events = Events::new(EventLimits::default(), Arc::clone(&list), Arc::default());
    let request = request(1, "1@b", "", 600);
    let world = World {
        list: Some(Arc::clone(&list)),
        ..World::default()
    };
    let status = subscribe_to(&mut events, &request, Package::Registration, &world);
    assert_eq!((status, list.subscriptions()), (200, 1));
    assert_eq!(subscribe(&mut events, "2@b", 600, &[]), 200);
    while let Some(notify) = events.poll(0, &World::default()) {
        assert!(list.contains(&bob()));
        events.failed(notify.ticket, true);
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
    changed(&mut events, 10_000, &both, Removal::Unregistered);
    let (ticket, ..) = told(&mut events, 10_000);
    events.answered(10_001, ticket, 500);
    assert_eq!(events.poll(20_000, &World::default()), None);
    changed(&mut events, 20_000, &both[1..], Removal::Unregistered);
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
    let limits = EventLimits {
        subscriptions: 3,
        own: 2,
        ..EventLimits::default()
    };
    let mut events = Events::new(limits, Arc::default(), Arc::default());
    assert_eq!(subscribe(&mut events, "1@b", 600, &[]), 200);
    assert_eq!(subscribe(&mut events, "2@b", 600, &[]), 200);
    assert_eq!(subscribe(&mut events, "3@b", 600, &[]), 503);
    let carol = "carol@example.com".parse().unwrap();
    let mut other = |call_id| {
        let request = request(1, call_id, "", 600);
        let (world, package) = (World::default(), Package::Registration);
        let answer = events.subscribe(
            0,
            from(),
            View::Own,
            &request,
            package,
            &carol,
            &world,
            "sip:us",
            "t",
        );
        answer.status
    };
    assert_eq!((other("4@b"), other("5@b")), (200, 503));
    assert_eq!(events.len(), 3);
}

fn presence(cseq: u32, call_id: &str, to_tag: &str) -> Message {
    let text = request(cseq, call_id, to_tag, 600);
    let text = String::from_utf8(text.bytes().to_vec()).unwrap();
    let text = text.replace("Event: reg", "Event: presence");
    Message::parse(Bytes::from(text), Framing::Stream, &Limits::default()).unwrap()
}

#[test]
fn one_document_serves_all_who_watch() {
    let mut events = Events::default();
    let world = World::default();
    for number in 0..100 {
        let request = presence(1, &format!("{number}@b"), "");
        let status = subscribe_to(&mut events, &request, Package::Presence, &world);
        assert_eq!(status, 200);
    }
    let tell = |events: &mut Events, now_ms| {
        let mut told = 0;
        while let Some(notify) = events.poll(now_ms, &world) {
            events.answered(now_ms, notify.ticket, 200);
            told += 1;
        }
        told
    };
    assert_eq!((tell(&mut events, 0), world.rendered.get()), (100, 1));
    world.text.replace("busy".to_owned());
    events.changed(10_000, &bob(), Change::Presence, &world);
    assert_eq!((tell(&mut events, 10_000), world.rendered.get()), (100, 2));
    // What looks the same is no news.
    events.changed(20_000, &bob(), Change::Presence, &world);
    assert_eq!((tell(&mut events, 20_000), world.rendered.get()), (0, 3));
}

#[test]
fn a_document_changes_when_its_time_is_over() {
    let mut events = Events::default();
    let mut world = World {
        until_ms: Some(50_000),
        ..World::default()
    };
    let request = presence(1, "1@b", "");
    assert_eq!(
        subscribe_to(&mut events, &request, Package::Presence, &world),
        200
    );
    let (ticket, ..) = told_from(&mut events, 0, &world);
    events.answered(0, ticket, 200);
    assert_eq!(events.next_timeout_ms(), Some(50_000));
    world.until_ms = None;
    world.text.replace("later".to_owned());
    events.handle_timeout(50_000, &world);
    has(&told_from(&mut events, 50_000, &world).2, &["later"]);
}

fn by_connection() -> Watcher {
    let mut watcher = from();
    watcher.flow.transport = Transport::Tls;
    watcher.flow.connection = 77;
    watcher
}

#[test]
fn a_subscription_whose_connection_closed_waits_for_its_device() {
    let list = Arc::new(WatchList::default());
    let mut events = Events::new(EventLimits::default(), Arc::clone(&list), Arc::default());
    let world = World::default();
    let request = presence(1, "1@b", "");
    let answer = events.subscribe(
        0,
        by_connection(),
        View::Own,
        &request,
        Package::Presence,
        &bob(),
        &world,
        "sip:us",
        "t",
    );
    assert_eq!(answer.status, 200);
    let (ticket, ..) = told_from(&mut events, 0, &world);
    events.failed(ticket, false);
    events.connection_closed(77);
    assert!(list.has_stranded());
    world.text.replace("busy".to_owned());
    events.changed(10_000, &bob(), Change::Presence, &world);
    assert_eq!(events.poll(10_000, &world), None, "there is no way to it");
    let mut back = by_connection().flow;
    back.connection = 78;
    events.device_back(20_000, PHONE, back);
    assert!(!list.has_stranded());
    let notify = events.poll(20_000, &world).expect("what it has missed");
    assert_eq!(notify.flow, back);
    // One that does not answer is gone, whatever it came by.
    events.failed(notify.ticket, true);
    is_clear(&events);
    assert!(events.connections.is_empty() && events.devices.is_empty());
}

#[test]
fn a_restart_uses_no_number_twice() {
    let outbox = Arc::new(Outbox::default());
    let world = World {
        view: Some(View::Own),
        ..World::default()
    };
    let make = || Events::new(EventLimits::default(), Arc::default(), Arc::clone(&outbox));
    let mut events = make();
    let request = presence(1, "1@b", "");
    assert_eq!(
        subscribe_to(&mut events, &request, Package::Presence, &world),
        200
    );
    let mut disk = std::collections::HashMap::new();
    let mut cseqs = Vec::new();
    let mut now_ms = 0;
    for round in 0..3 {
        for turn in 0..700 {
            now_ms += 5_000;
            world.text.replace(format!("{round}/{turn}"));
            events.changed(now_ms, &bob(), Change::Presence, &world);
            events.handle_timeout(now_ms, &world);
            let refresh = presence(2 + round * 1_000 + turn, "1@b", ";tag=t");
            // Short of its end, lest it expires.
            if turn % 100 == 99 {
                assert_eq!(
                    events.refresh(now_ms, from(), View::Own, &refresh).status,
                    200
                );
            }
            while let Some(notify) = events.poll(now_ms, &world) {
                let fields = &notify.request.fields;
                let cseq = fields.iter().find(|(name, _)| *name == "CSeq").unwrap();
                let cseq = String::from_utf8(cseq.1.clone()).unwrap();
                cseqs.push(cseq.split(' ').next().unwrap().parse::<u32>().unwrap());
                events.answered(now_ms, notify.ticket, 200);
            }
            disk.extend(outbox.take(usize::MAX));
        }
        let saved: Vec<_> = disk.values().flatten().cloned().collect();
        assert_eq!(saved.len(), 1);
        events = make();
        events.restore(now_ms, saved, &world);
        assert_eq!(events.len(), 1);
    }
    assert!(cseqs.len() > 2_000, "{}", cseqs.len());
    assert!(cseqs.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn what_nobody_may_see_any_more_is_not_restored() {
    let outbox = Arc::new(Outbox::default());
    let mut events = Events::new(EventLimits::default(), Arc::default(), Arc::clone(&outbox));
    let request = presence(1, "1@b", "");
    let world = World::default();
    assert_eq!(
        subscribe_to(&mut events, &request, Package::Presence, &world),
        200
    );
    let saved: Vec<_> = outbox
        .take(9)
        .into_iter()
        .filter_map(|(_, saved)| saved)
        .collect();
    let mut events = Events::new(EventLimits::default(), Arc::default(), Arc::clone(&outbox));
    events.restore(0, saved, &world);
    is_clear(&events);
    assert_eq!(outbox.take(9), [("t".to_owned(), None)]);
}
