//! Registration events (RFC 3680) in virtual time: who may watch, and what watchers are told.

use sidetone_model::{AddressOfRecord, Binding};
use sidetone_sim::{PhoneId, Seen, World, assert_snapshot};

/// Bob's desk phone is registered and watches; his hall phone is there but silent; Eve is somebody else.
struct Scene {
    world: World,
    desk: PhoneId,
    hall: PhoneId,
    eve: PhoneId,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new(5);
        let desk = world.phone("bob", "desk");
        let hall = world.phone("bob", "hall");
        let eve = world.phone("eve", "eve");
        world.at(desk).register();
        world.run_ms(1_000);
        Self {
            world,
            desk,
            hall,
            eve,
        }
    }

    fn watching() -> Self {
        let mut scene = Self::new();
        scene.world.at(scene.desk).subscribe("bob", 3_600);
        scene.world.run_ms(10_000);
        assert_eq!(scene.told(), 1);
        scene
    }

    /// How many NOTIFYs the desk phone has got.
    fn told(&mut self) -> usize {
        self.world.at(self.desk).notified_of().len()
    }

    /// The latest NOTIFY has all of this; the state comes first.
    fn latest_has(&mut self, parts: &[&str]) {
        let phone = self.world.at(self.desk);
        let (state, body) = *phone.notified_of().last().expect("a NOTIFY");
        let all = format!("{state}\n{body}");
        for part in parts {
            assert!(all.contains(part), "{part} is not in\n{all}");
        }
    }
}

#[test]
fn a_subscriber_is_told_at_once_and_of_every_change() {
    let mut scene = Scene::new();
    scene.world.ladder.clear();
    scene.world.at(scene.desk).subscribe("bob", 3_600);
    scene.world.run_ms(9_000);
    assert_eq!(scene.world.at(scene.desk).finals("SUBSCRIBE"), [200]);
    assert_eq!(scene.told(), 1);
    scene.latest_has(&[
        "active;expires=3600",
        "version=\"0\" state=\"full\">",
        "aor=\"sip:bob@example.test\" id=\"r1\" state=\"active\">",
        "id=\"c1\" state=\"active\" event=\"registered\"",
        "<uri>sip:bob@192.0.2.10:5060</uri>",
    ]);

    scene.world.at(scene.hall).register_for(60);
    scene.world.run_ms(10_000);
    assert_eq!(scene.told(), 2);
    scene.latest_has(&[
        "version=\"1\" state=\"partial\">",
        "id=\"c2\" state=\"active\" event=\"registered\" duration-registered=\"0\" expires=\"60\"",
        "<uri>sip:bob@192.0.2.11:5060</uri>",
    ]);

    scene.world.remark("the hall phone is not heard of again");
    scene.world.run_ms(60_000);
    assert_eq!(scene.told(), 3);
    scene.latest_has(&[
        "version=\"2\" state=\"partial\">",
        "id=\"c2\" state=\"terminated\" event=\"expired\"",
    ]);

    assert!(scene.world.at(scene.desk).resubscribe(0));
    scene.world.run_ms(1_000);
    assert_eq!(scene.told(), 4);
    scene.latest_has(&["terminated;reason=timeout", "state=\"full\">"]);
    scene.world.at(scene.hall).register();
    scene.world.run_ms(20_000);
    assert_eq!(scene.told(), 4, "nobody watches any more");
    assert_eq!(scene.world.services.watched.subscriptions(), 0);
    assert_snapshot("reg-event", &scene.world.ladder.text());
}

#[test]
fn a_phone_that_leaves_is_unregistered_and_one_that_stays_is_refreshed() {
    let mut scene = Scene::watching();
    scene.world.at(scene.desk).register_for(0);
    scene.world.run_ms(10_000);
    scene.latest_has(&[
        "state=\"terminated\">",
        "id=\"c1\" state=\"terminated\" event=\"unregistered\"",
    ]);
    for (seconds, event) in [(600, "registered"), (900, "refreshed"), (300, "shortened")] {
        scene.world.at(scene.desk).register_for(seconds);
        scene.world.run_ms(10_000);
        scene.latest_has(&[&format!("id=\"c2\" state=\"active\" event=\"{event}\"")]);
    }
}

#[test]
fn a_subscription_is_prolonged_and_ends_in_its_time() {
    let mut scene = Scene::watching();
    assert!(scene.world.at(scene.desk).resubscribe(120));
    scene.world.run_ms(1_000);
    assert_eq!(scene.told(), 2);
    scene.latest_has(&["active;expires=120", "version=\"1\" state=\"full\">"]);
    scene.world.run_ms(118_000);
    assert_eq!(scene.told(), 2);
    scene.world.run_ms(2_000);
    assert_eq!(scene.told(), 3);
    scene.latest_has(&["terminated;reason=timeout"]);
    assert!(scene.world.at(scene.desk).resubscribe(120));
    scene.world.run_ms(1_000);
    let desk = scene.world.at(scene.desk);
    assert_eq!(desk.finals("SUBSCRIBE"), [200, 200, 481]);
}

#[test]
fn too_short_is_refused_and_asking_once_is_not() {
    let mut scene = Scene::new();
    scene.world.at(scene.desk).subscribe("bob", 59);
    scene.world.run_ms(1_000);
    assert_eq!(scene.world.at(scene.desk).finals("SUBSCRIBE"), [423]);
    assert_eq!(scene.told(), 0);
    scene.world.at(scene.desk).subscribe("bob", 0);
    scene.world.run_ms(1_000);
    assert_eq!(scene.world.at(scene.desk).finals("SUBSCRIBE"), [423, 200]);
    assert_eq!(scene.told(), 1);
    scene.latest_has(&["terminated;reason=timeout", "state=\"full\">"]);
    assert_eq!(scene.world.services.watched.subscriptions(), 0);
}

#[test]
fn nobody_watches_somebody_else() {
    let mut scene = Scene::new();
    scene.world.ladder.clear();
    scene.world.at(scene.eve).subscribe("bob", 3_600);
    scene.world.run_ms(1_000);
    let refused = Seen::Answer {
        method: "SUBSCRIBE".to_owned(),
        status: 403,
    };
    assert_eq!(scene.world.at(scene.eve).seen, [refused]);
    assert_eq!(scene.world.services.watched.subscriptions(), 0);
    assert_snapshot("reg-event-refused", &scene.world.ladder.text());
}

#[test]
fn a_subscription_is_touched_by_its_owner_only() {
    let mut scene = Scene::watching();
    let desk = scene.desk;
    // Eve has overheard all of it, and has a password of her own.
    let bobs = scene.world.at(desk).overheard();
    scene.world.at(scene.eve).steal_subscription(bobs);
    scene.world.ladder.clear();
    assert!(scene.world.at(scene.eve).resubscribe(0));
    scene.world.run_ms(1_000);
    assert_eq!(scene.world.at(scene.eve).finals("SUBSCRIBE"), [403]);
    // Bob himself, with a tag that was never given.
    scene.world.at(desk).forge_subscription("forged");
    assert!(scene.world.at(desk).resubscribe(0));
    scene.world.run_ms(1_000);
    assert_eq!(scene.world.at(desk).finals("SUBSCRIBE"), [200, 481]);
    assert_eq!(scene.told(), 1);
    assert_eq!(scene.world.services.watched.subscriptions(), 1);
    assert_snapshot("reg-event-forged", &scene.world.ladder.text());
}

#[test]
fn a_subscriber_that_is_gone_is_forgotten() {
    for status in [Some(481), None] {
        let mut scene = Scene::watching();
        scene.world.at(scene.desk).notify_status = status;
        scene.world.at(scene.hall).register();
        scene.world.run_ms(1_000);
        let left = usize::from(status.is_none());
        assert_eq!(scene.world.services.watched.subscriptions(), left);
        scene.world.run_ms(33_000);
        assert_eq!(scene.world.services.watched.subscriptions(), 0);
    }
}

#[test]
fn one_account_holds_so_many_subscriptions_and_no_more() {
    let mut scene = Scene::new();
    for _ in 0..17 {
        scene.world.at(scene.desk).subscribe("bob", 3_600);
        scene.world.run_ms(1_000);
    }
    let answers = scene.world.at(scene.desk).finals("SUBSCRIBE");
    assert_eq!(answers[..16], [200; 16]);
    assert_eq!(answers[16..], [503]);
    assert_eq!(scene.world.services.counters.overloaded.get(), 1);
    scene.world.at(scene.eve).subscribe("eve", 3_600);
    scene.world.run_ms(1_000);
    assert_eq!(scene.world.at(scene.eve).finals("SUBSCRIBE"), [200]);
}

#[test]
fn what_another_shard_changed_is_told_too() {
    let mut scene = Scene::watching();
    let bob: AddressOfRecord = "bob@example.test".parse().expect("an address");
    let change = |bindings: &mut Vec<Binding>| {
        bindings.clear();
        Ok::<bool, ()>(true)
    };
    let left = scene.world.services.location.update(&bob, 0, change);
    assert_eq!(left, Ok(Vec::new()));
    scene.world.run_ms(1_000);
    assert_eq!(scene.told(), 1);
    scene.world.changed_elsewhere(&bob);
    scene.world.run_ms(1_000);
    assert_eq!(scene.told(), 2);
    scene.latest_has(&["event=\"deactivated\""]);
}
