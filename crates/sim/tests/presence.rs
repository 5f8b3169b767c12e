//! Presence, busy lamps and waiting messages in virtual time (RFC 3856, RFC 3903, RFC 4235, RFC 3842).

use sidetone_model::{AddressOfRecord, Availability, SetPresence};
use sidetone_services::Change;
use sidetone_services::presence::PolicyChange;
use sidetone_sim::{PhoneId, Plan, World, assert_snapshot};

/// Ann watches; Bob's desk phone is registered; Carl calls.
struct Scene {
    world: World,
    ann: PhoneId,
    bob: PhoneId,
    carl: PhoneId,
}

fn address(user: &str) -> AddressOfRecord {
    format!("{user}@example.test").parse().expect("an address")
}

const BUSY: &str = "<?xml version='1.0'?><presence xmlns='urn:ietf:params:xml:ns:pidf' \
    xmlns:dm='urn:ietf:params:xml:ns:pidf:data-model' xmlns:rpid='urn:ietf:params:xml:ns:pidf:rpid' \
    entity='sip:bob@example.test'><tuple id='t'><status><basic>open</basic></status></tuple>\
    <dm:person id='p'><rpid:activities><rpid:busy/></rpid:activities><dm:note>in a meeting</dm:note>\
    </dm:person></presence>";

impl Scene {
    fn new() -> Self {
        let mut world = World::new(7);
        let ann = world.phone("ann", "ann-desk");
        let bob = world.phone("bob", "bob-desk");
        let carl = world.phone("carl", "carl-desk");
        for phone in [ann, bob, carl] {
            world.at(phone).register();
        }
        world.run_ms(1_000);
        world.ladder.clear();
        Self {
            world,
            ann,
            bob,
            carl,
        }
    }

    /// Ann watches this of Bob.
    fn watching(event: &'static str) -> Self {
        let mut scene = Self::new();
        scene.watch(event);
        scene
    }

    fn watch(&mut self, event: &'static str) {
        self.world.at(self.ann).watch(event, "bob", 3_600);
        self.world.run_ms(10_000);
        assert_eq!(self.world.at(self.ann).finals("SUBSCRIBE"), [200]);
        assert_eq!(self.told(), 1);
    }

    /// How many NOTIFYs Ann has got.
    fn told(&mut self) -> usize {
        self.world.at(self.ann).notified_of().len()
    }

    fn latest(&mut self) -> String {
        let phone = self.world.at(self.ann);
        let (state, body) = *phone.notified_of().last().expect("a NOTIFY");
        format!("{state}\n{body}")
    }

    /// Ann's latest NOTIFY has all of this, and nothing of that.
    fn latest_has(&mut self, parts: &[&str], not: &[&str]) {
        let all = self.latest();
        for part in parts {
            assert!(all.contains(part), "{part} is not in\n{all}");
        }
        for part in not {
            assert!(!all.contains(part), "{part} is in\n{all}");
        }
    }
}

#[test]
fn what_a_phone_publishes_its_watchers_are_told() {
    let mut scene = Scene::watching("presence");
    scene.latest_has(
        &[
            "active;expires=3600",
            "<basic>open</basic>",
            "<note>bob-desk</note>",
        ],
        &["rpid:busy/", "192.0.2.11"],
    );
    scene.world.remark("bob is busy");
    scene.world.at(scene.bob).publish(Some(BUSY), 600);
    scene.world.run_ms(10_000);
    scene.latest_has(&["<rpid:busy/>", "<dm:note>in a meeting</dm:note>"], &[]);

    scene
        .world
        .remark("a refresh is no news; a name that is no more is refused");
    let stale = scene.world.at(scene.bob).etag.clone();
    scene.world.at(scene.bob).publish(None, 600);
    scene.world.run_ms(10_000);
    assert_eq!(scene.told(), 2);
    scene.world.at(scene.bob).etag = stale;
    scene.world.at(scene.bob).publish(None, 600);
    scene.world.run_ms(10_000);
    assert_eq!(scene.world.at(scene.bob).finals("PUBLISH"), [200, 200, 412]);
    assert_snapshot("presence", &scene.world.ladder.text());

    // Nobody refreshes it: soft state.
    scene.world.run_ms(600_000);
    assert_eq!(scene.told(), 3);
    scene.latest_has(&["<basic>open</basic>"], &["busy", "meeting"]);
}

#[test]
fn what_is_no_publication_is_refused() {
    let mut scene = Scene::new();
    let long = format!(
        "<presence xmlns='urn:ietf:params:xml:ns:pidf'>{}</presence>",
        "x".repeat(17_000)
    );
    let tries: [(Option<&str>, u32, u16); 6] = [
        (None, 600, 400),
        (Some("no document"), 600, 400),
        (Some(&long), 600, 413),
        (Some(BUSY), 59, 423),
        (Some(BUSY), 0, 400),
        (Some(BUSY), 60, 200),
    ];
    for (document, seconds, status) in tries {
        scene.world.at(scene.bob).publish(document, seconds);
        scene.world.run_ms(1_000);
        assert_eq!(
            scene.world.at(scene.bob).finals("PUBLISH").last(),
            Some(&status)
        );
    }
    // Taken back.
    scene.world.at(scene.bob).publish(None, 0);
    scene.world.run_ms(1_000);
    assert_eq!(
        scene.world.at(scene.bob).finals("PUBLISH").last(),
        Some(&200)
    );
    assert_eq!(scene.world.services.presence(&address("bob"), 0).note, "");
}

#[test]
fn a_phone_that_leaves_is_not_shown_as_there() {
    let mut scene = Scene::watching("presence");
    scene.world.at(scene.bob).publish(Some(BUSY), 3_600);
    scene.world.run_ms(10_000);
    scene.world.at(scene.bob).register_for(0);
    scene.world.run_ms(10_000);
    scene.latest_has(&["<basic>closed</basic>"], &["open", "busy"]);
    // Back for a minute, and not heard of again.
    scene.world.at(scene.bob).register_for(60);
    scene.world.run_ms(10_000);
    scene.latest_has(&["<basic>open</basic>", "<rpid:busy/>"], &[]);
    scene.world.run_ms(60_000);
    scene.latest_has(&["<basic>closed</basic>"], &["open"]);
}

#[test]
fn what_a_person_sets_counts_and_ends_in_its_time() {
    let mut scene = Scene::watching("presence");
    let now_ms = 1_800_000_000_000 + 11_000;
    let set = SetPresence {
        availability: Some(Availability::DoNotDisturb),
        note: "until noon".to_owned(),
        until_ms: Some(now_ms + 60_000),
    };
    scene.world.services.board.set(&address("bob"), set);
    scene.world.changed(&address("bob"), Change::Presence);
    scene.world.run_ms(1_000);
    scene.latest_has(&["do not disturb", "<dm:note>until noon</dm:note>"], &[]);
    let person = scene.world.services.presence(&address("bob"), now_ms);
    assert_eq!(person.availability, Availability::DoNotDisturb);
    assert_eq!(person.would_ring, ["bob-desk"]);
    scene.world.run_ms(60_000);
    scene.latest_has(&["<basic>open</basic>"], &["do not disturb", "noon"]);
}

#[test]
fn a_busy_lamp_follows_a_call() {
    let mut scene = Scene::watching("dialog");
    scene.latest_has(&["version=\"0\" state=\"full\""], &["<dialog "]);
    scene.world.ladder.clear();
    scene.world.at(scene.bob).plan = Plan::answer_after(3_000);
    scene.world.at(scene.carl).invite("bob");
    scene.world.run_ms(2_500);
    let hidden = ["carl", "call-id", "192.0.2"];
    let early = ["direction=\"recipient\"", "<state>early</state>"];
    scene.latest_has(&early, &hidden);
    scene.world.run_ms(5_000);
    scene.latest_has(&["<state>confirmed</state>"], &hidden);
    assert!(scene.world.services.presence(&address("bob"), 0).on_call);
    assert!(scene.world.services.presence(&address("carl"), 0).on_call);
    assert!(scene.world.at(scene.carl).bye());
    scene.world.run_ms(5_000);
    scene.latest_has(&["<state>terminated</state>"], &hidden);
    assert!(!scene.world.services.presence(&address("bob"), 0).on_call);
    assert_snapshot("busy-lamp", &scene.world.ladder.text());
}

#[test]
fn a_call_that_nobody_takes_is_over_too() {
    for (plan, cancel) in [(Plan::ring(), true), (Plan::refuse(486), false)] {
        let mut scene = Scene::watching("dialog");
        scene.world.at(scene.bob).plan = plan;
        scene.world.at(scene.carl).invite("bob");
        scene.world.run_ms(2_000);
        if cancel {
            scene.latest_has(&["<state>early</state>"], &[]);
            scene.world.at(scene.carl).cancel();
        }
        scene.world.run_ms(10_000);
        scene.latest_has(&["<state>terminated</state>"], &["early", "trying"]);
        assert!(!scene.world.services.presence(&address("bob"), 0).on_call);
    }
}

#[test]
fn a_call_of_a_phone_that_is_gone_ends_and_one_that_is_forgotten_does() {
    for leaves in [true, false] {
        let mut scene = Scene::watching("presence");
        scene.world.at(scene.bob).plan = Plan::answer_after(100);
        scene.world.at(scene.carl).invite("bob");
        scene.world.run_ms(10_000);
        scene.latest_has(&["<rpid:on-the-phone/>"], &[]);
        if leaves {
            scene.world.at(scene.bob).register_for(0);
            scene.world.run_ms(10_000);
            assert!(!scene.world.services.presence(&address("bob"), 0).on_call);
        } else {
            scene.world.run_ms(4 * 3_600_000 + 10_000);
            assert!(!scene.world.services.presence(&address("bob"), 0).on_call);
        }
    }
}

#[test]
fn only_its_owner_sees_whom_a_call_is_with() {
    let mut scene = Scene::new();
    scene.world.at(scene.bob).watch("dialog", "bob", 3_600);
    scene.world.run_ms(5_000);
    scene.world.at(scene.carl).invite("bob");
    scene.world.run_ms(5_000);
    let bob = scene.world.at(scene.bob);
    let (_, body) = *bob.notified_of().last().expect("a NOTIFY");
    for part in ["sip:carl@example.test", "call-id=", "remote-tag="] {
        assert!(body.contains(part), "{part} is not in\n{body}");
    }
}

#[test]
fn a_message_lamp_follows_what_waits() {
    let mut scene = Scene::new();
    scene.world.at(scene.bob).message_status = 480;
    scene.world.at(scene.carl).message("bob", "hello");
    scene.world.run_ms(5_000);
    scene.world.ladder.clear();
    scene
        .world
        .at(scene.bob)
        .watch("message-summary", "bob", 3_600);
    scene.world.run_ms(1_000);
    let lamp = |scene: &mut Scene, part: &str, count: usize| {
        let bob = scene.world.at(scene.bob);
        let told = bob.notified_of();
        assert_eq!(told.len(), count, "{told:?}");
        let (_, body) = *told.last().expect("a NOTIFY");
        assert!(body.contains(part), "{part} is not in\n{body}");
    };
    lamp(
        &mut scene,
        "Messages-Waiting: yes\r\nMessage-Account: sip:bob@example.test\r\nText-Message: 1/0",
        1,
    );
    scene.world.at(scene.bob).message_status = 200;
    scene.world.at(scene.bob).register();
    scene.world.run_ms(60_000);
    lamp(&mut scene, "Messages-Waiting: no", 2);
    assert_snapshot("message-lamp", &scene.world.ladder.text());
    // Somebody else's mailbox is nobody's business.
    scene
        .world
        .at(scene.ann)
        .watch("message-summary", "bob", 3_600);
    scene.world.run_ms(1_000);
    assert_eq!(scene.world.at(scene.ann).finals("SUBSCRIBE"), [403]);
}

#[test]
fn who_is_blocked_sees_an_empty_room_and_is_not_told_why() {
    let mut scene = Scene::watching("presence");
    scene.latest_has(&["<basic>open</basic>"], &[]);
    let board = &scene.world.services.board;
    assert!(board.permit(&address("bob"), &address("ann"), PolicyChange::Block));
    scene.world.changed(&address("bob"), Change::Policy);
    scene.world.run_ms(1_000);
    scene.latest_has(&["active", "<basic>closed</basic>"], &["open", "bob-desk"]);
    let told = scene.told();
    scene.world.at(scene.bob).publish(Some(BUSY), 600);
    scene.world.run_ms(10_000);
    assert_eq!(scene.told(), told, "nothing has changed in that room");
    let board = &scene.world.services.board;
    assert!(board.permit(&address("bob"), &address("ann"), PolicyChange::Unblock));
    scene.world.changed(&address("bob"), Change::Policy);
    scene.world.run_ms(1_000);
    scene.latest_has(&["<basic>open</basic>", "<rpid:busy/>"], &[]);
}

#[test]
fn a_subscription_goes_on_after_a_restart() {
    for event in ["presence", "dialog", "message-summary", "reg"] {
        let mut scene = Scene::new();
        let watched = if event == "presence" || event == "dialog" {
            "bob"
        } else {
            "ann"
        };
        scene.world.at(scene.ann).watch(event, watched, 3_600);
        scene.world.run_ms(10_000);
        assert_eq!(scene.told(), 1, "{event}");
        scene.world.restart();
        scene.world.run_ms(1_000);
        // The phone checks Call-ID and tags, and takes no CSeq twice.
        assert_eq!(scene.told(), 2, "{event}");
        scene.latest_has(&["active;expires=35"], &[]);
        assert!(scene.world.at(scene.ann).resubscribe(600));
        scene.world.run_ms(1_000);
        assert_eq!(
            scene.world.at(scene.ann).finals("SUBSCRIBE"),
            [200, 200],
            "{event}"
        );
        assert_eq!(scene.told(), 3, "{event}");
        assert!(scene.world.at(scene.ann).resubscribe(0));
        scene.world.run_ms(1_000);
        scene.latest_has(&["terminated"], &[]);
        scene.world.restart();
        scene.world.run_ms(10_000);
        assert_eq!(scene.told(), 4, "{event}: what has ended stays so");
    }
}

#[test]
fn what_is_not_served_is_named() {
    let mut scene = Scene::new();
    scene.world.at(scene.ann).watch("conference", "bob", 3_600);
    scene.world.run_ms(1_000);
    assert_eq!(scene.world.at(scene.ann).finals("SUBSCRIBE"), [489]);
}
