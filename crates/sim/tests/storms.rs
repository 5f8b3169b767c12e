//! A network that loses three datagrams in ten, doubles some and disorders all.
//!
//! Each run is a seed; the seed of one that fails stands in the assertion and, with its ladder, at the end.

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

#[test]
fn messages_come_in_order_and_once() {
    for seed in 100..120 {
        let (mut world, alice, bob) = world(seed);
        for number in 0..10 {
            world.at(alice).message("bob", &format!("{number}"));
            world.run_ms(40_000); // one after the other: what is sent at once may be overtaken
        }
        world.run_ms(600_000);
        let mut texts: Vec<String> = world
            .at(bob)
            .texts()
            .iter()
            .map(|text| (*text).to_owned())
            .collect();
        let sent = texts.clone();
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
    for seed in 300..350 {
        let (mut world, alice, bob) = world(seed);
        world.at(alice).invite("bob");
        world.run_ms(5_000);
        world.at(alice).cancel();
        world.run_ms(400_000);
        let seen = world.at(bob).seen.clone();
        if seen.contains(&Seen::Invite) {
            assert!(seen.contains(&Seen::Cancelled), "seed {seed}: {seen:?}");
        }
        let finals = world.at(alice).finals("INVITE");
        assert!(
            finals.iter().all(|status| *status >= 400),
            "seed {seed}: {finals:?}"
        );
        assert_eq!(world.contexts(), 0, "seed {seed}: a context stays");
    }
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
