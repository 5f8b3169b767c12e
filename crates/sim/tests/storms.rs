//! A network that loses three datagrams in ten, doubles some and disorders all.
//!
//! Each run is a seed; the seed of one that fails stands in the assertion and, with its ladder, at the end.

use std::collections::BTreeMap;

use sidetone_sim::{PhoneId, Plan, Seen, Weather, World};

fn world(seed: u64) -> (World, PhoneId, PhoneId) {
    let mut world = World::new(seed);
    let alice = world.phone("alice", "alice");
    let bob = world.phone("bob", "bob");
    world.at(bob).register();
    world.run_ms(1_000);
    world.weather = Weather::STORM;
    (world, alice, bob)
}

/// Whether Alice was told that the message is kept.
fn accepted(world: &mut World, alice: PhoneId) -> bool {
    world.at(alice).finals("MESSAGE").contains(&200)
}

#[test]
fn a_message_is_delivered_once() {
    let mut accepted_runs = 0;
    for seed in 0..50 {
        let (mut world, alice, bob) = world(seed);
        world.at(alice).message("bob", "once");
        world.run_ms(600_000);
        let device = world.device(bob);
        if accepted(&mut world, alice) {
            accepted_runs += 1;
            assert_eq!(world.at(bob).texts(), ["once"], "seed {seed}");
        }
        assert!(world.at(bob).texts().len() <= 1, "seed {seed}");
        assert_eq!(world.spool.waiting(device), 0, "seed {seed}");
    }
    // Eleven transmissions each way: nearly all go through.
    assert!(accepted_runs >= 48, "{accepted_runs}");
}

/// The texts, without those that have the Call-ID of an earlier one. When every answer to a delivery is lost for all
/// of timer F, the proxy has to deliver again: the phone can tell by the Call-ID.
fn told_apart(seen: &[Seen]) -> Vec<String> {
    let mut known = Vec::new();
    let mut texts = Vec::new();
    for one in seen {
        if let Seen::Message { call_id, body, .. } = one
            && !known.contains(call_id)
        {
            known.push(call_id.clone());
            texts.push(body.clone());
        }
    }
    texts
}

#[test]
fn messages_come_in_order_and_once() {
    for seed in 100..120 {
        let (mut world, alice, bob) = world(seed);
        for number in 0..10 {
            world.at(alice).message("bob", &format!("{number}"));
            world.run_ms(40_000); // one after the other: what is sent at once may be overtaken
        }
        world.run_ms(600_000);
        let sent = told_apart(&world.at(bob).seen);
        let mut texts = sent.clone();
        texts.sort();
        texts.dedup();
        assert_eq!(sent, texts, "seed {seed}");
        let kept = world.at(alice).finals("MESSAGE").len();
        assert!(sent.len() >= kept, "seed {seed}: {sent:?}");
    }
}

#[test]
fn calls_end_in_agreement() {
    let (mut answered_runs, mut acknowledged) = (0, 0);
    for seed in 200..250 {
        let (mut world, alice, bob) = world(seed);
        world.at(bob).plan = Plan::answer_after(2_000);
        world.at(alice).invite("bob");
        world.run_ms(40_000);
        let rings = world.at(bob).seen.iter();
        let rings = rings.filter(|seen| **seen == Seen::Invite).count();
        assert!(rings <= 1, "seed {seed}: it rang {rings} times");
        if world.at(alice).calls() == 1 {
            answered_runs += 1;
            assert_eq!(world.at(bob).calls(), 1, "seed {seed}");
            // Each ACK needs two hops: of those for ten 2xx all may be lost, once in many runs.
            acknowledged += usize::from(world.at(bob).seen.contains(&Seen::Ack));
            world.at(alice).bye();
        }
        world.run_ms(400_000);
        assert_eq!(world.contexts(), 0, "seed {seed}: a context stays");
    }
    assert!(answered_runs >= 45, "{answered_runs}");
    assert!(acknowledged >= 45, "{acknowledged}");
}

#[test]
fn cancelled_calls_stop_ringing() {
    let mut rings_on = 0;
    for seed in 300..350 {
        let (mut world, alice, bob) = world(seed);
        world.at(alice).invite("bob");
        world.run_ms(5_000);
        world.at(alice).cancel();
        world.run_ms(400_000);
        let seen = world.at(bob).seen.clone();
        if seen.contains(&Seen::Invite) && !seen.contains(&Seen::Cancelled) {
            // RFC 3261 §9.1: no CANCEL before a provisional answer, and all of them may be lost.
            rings_on += 1;
        }
        let finals = world.at(alice).finals("INVITE");
        assert!(
            finals.iter().all(|status| *status >= 400),
            "seed {seed}: {finals:?}"
        );
        assert_eq!(world.contexts(), 0, "seed {seed}: a context stays");
    }
    assert!(rings_on <= 1, "{rings_on}");
}

#[test]
fn a_seed_repeats_a_run() {
    let run = |seed| {
        let (mut world, alice, bob) = world(seed);
        world.at(bob).plan = Plan::answer_after(700);
        world.at(alice).invite("bob");
        world.at(alice).message("bob", "meanwhile");
        world.run_ms(120_000);
        world.ladder.text()
    };
    assert_eq!(run(42), run(42));
    assert_ne!(run(42), run(43));
}

/// The contacts that a watcher knows of after these documents (RFC 3680 §5.2): in the order of their versions.
fn known_contacts(notified: &[(&str, &str)], seed: u64) -> Vec<String> {
    let between = |text: &str, before: &str, after: &str| {
        let (_, rest) = text.split_once(before).expect(before);
        rest.split_once(after).expect(after).0.to_owned()
    };
    let mut contacts = BTreeMap::new();
    for (expected, (_, body)) in notified.iter().enumerate() {
        let version: usize = between(body, "reginfo\" version=\"", "\"")
            .parse()
            .expect("a version");
        assert_eq!(version, expected, "seed {seed}: none is missing");
        if body.contains("state=\"full\"") {
            contacts.clear();
        }
        for contact in body.split("<contact ").skip(1) {
            let id = between(contact, "id=\"", "\"");
            let uri = between(contact, "<uri>", "</uri>");
            match between(contact, "state=\"", "\"").as_str() {
                "active" => contacts.insert(id, uri),
                _ => contacts.remove(&id),
            };
        }
    }
    let mut contacts: Vec<String> = contacts.into_values().collect();
    contacts.sort();
    contacts
}

#[test]
fn a_watcher_knows_in_the_end_who_is_registered() {
    let mut watched_runs = 0;
    for seed in 300..330 {
        let mut world = World::new(seed);
        let desk = world.phone("bob", "desk");
        let others = [world.phone("bob", "hall"), world.phone("bob", "cellar")];
        world.at(desk).subscribe("bob", 3_600);
        world.run_ms(1_000);
        world.weather = Weather::STORM;
        for step in 0..20 {
            let seconds = [60, 3_600, 0][step % 3];
            world.at(others[step % 2]).register_for(seconds);
            world.run_ms(15_000);
        }
        world.weather = Weather::FAIR;
        world.run_ms(120_000);
        if world.services.watched.subscriptions() == 0 {
            continue; // A NOTIFY was not answered for all of timer F.
        }
        watched_runs += 1;
        let bob = "bob@example.test".parse().expect("an address");
        let mut contacts = world.contacts(&bob);
        contacts.sort();
        let notified = world.at(desk).notified_of();
        assert!(notified.len() > 5, "seed {seed}");
        assert_eq!(known_contacts(&notified, seed), contacts, "seed {seed}");
    }
    assert!(watched_runs >= 25, "{watched_runs}");
}
