//! MESSAGE: stored before it is acknowledged, delivered once (RFC 3428).

use sidetone_sim::{PhoneId, World, assert_snapshot};

fn world() -> (World, PhoneId, PhoneId) {
    let mut world = World::new(5);
    let alice = world.phone("alice", "alice");
    let bob = world.phone("bob", "bob");
    (world, alice, bob)
}

#[test]
fn a_text_reaches_a_phone_that_is_there() {
    let (mut world, alice, bob) = world();
    world.at(bob).register();
    world.run_ms(1_000);
    world.ladder.clear();
    world.at(alice).message("bob", "Watson, come here.");
    world.run_ms(2_000);
    assert_eq!(world.at(alice).finals("MESSAGE"), [200]);
    assert_eq!(world.at(bob).texts(), ["Watson, come here."]);
    let device = world.device(bob);
    assert_eq!(world.spool.waiting(device), 0);
    assert_eq!(world.services.counters.messages_delivered.get(), 1);
    assert_snapshot("message-online", &world.ladder.text());
}

#[test]
fn texts_wait_for_a_phone_that_is_away_and_come_in_order() {
    let (mut world, alice, bob) = world();
    for number in 0..40 {
        world.at(alice).message("bob", &format!("text {number}"));
        world.run_ms(500);
    }
    assert_eq!(world.at(alice).finals("MESSAGE"), [202; 40]);
    let device = world.device(bob);
    assert_eq!(world.spool.waiting(device), 40);
    world.run_ms(86_400_000);
    world.at(bob).register();
    world.run_ms(10_000);
    let expected: Vec<String> = (0..40).map(|number| format!("text {number}")).collect();
    assert_eq!(world.at(bob).texts(), expected);
    assert_eq!(world.spool.waiting(device), 0);
}

#[test]
fn one_text_waits() {
    let (mut world, alice, bob) = world();
    world.at(alice).message("bob", "later");
    world.run_ms(60_000);
    world.remark("bob comes home");
    world.at(bob).register();
    world.run_ms(2_000);
    assert_eq!(world.at(bob).texts(), ["later"]);
    world.remark("and registers again: nothing comes twice");
    world.at(bob).register();
    world.run_ms(60_000);
    assert_eq!(world.at(bob).texts(), ["later"]);
    assert_snapshot("message-offline", &world.ladder.text());
}

#[test]
fn each_device_gets_it() {
    let (mut world, alice, bob) = world();
    let cellar = world.phone("bob", "cellar");
    world.at(bob).register();
    world.run_ms(1_000);
    world.at(alice).message("bob", "to both");
    world.run_ms(5_000);
    assert_eq!(world.at(bob).texts(), ["to both"]);
    world.at(cellar).register();
    world.run_ms(5_000);
    assert_eq!(world.at(cellar).texts(), ["to both"]);
    assert_eq!(world.at(bob).texts(), ["to both"]);
}

#[test]
fn what_is_not_stored_is_not_acknowledged() {
    let (mut world, alice, bob) = world();
    world.at(bob).register();
    world.run_ms(1_000);
    for (failing, status) in [(Some(true), 503), (Some(false), 500), (None, 200)] {
        world.spool.failing = failing;
        world.at(alice).message("bob", "text");
        world.run_ms(5_000);
        assert_eq!(world.at(alice).finals("MESSAGE").last(), Some(&status));
    }
    assert_eq!(world.at(bob).texts(), ["text"]);
}

#[test]
fn a_phone_that_is_busy_gets_it_later() {
    let (mut world, alice, bob) = world();
    world.at(bob).register();
    world.run_ms(1_000);
    world.at(bob).message_status = 480;
    world.at(alice).message("bob", "text");
    world.run_ms(5_000);
    let device = world.device(bob);
    assert_eq!(world.spool.waiting(device), 1);
    world.at(bob).message_status = 200;
    world.run_ms(3_600_000);
    assert_eq!(world.spool.waiting(device), 0, "{:?}", world.at(bob).seen);
}

#[test]
fn a_stranger_sends_nothing() {
    let (mut world, alice, bob) = world();
    world.at(bob).register();
    world.at(alice).set_password("guess");
    world.at(alice).message("bob", "text");
    world.run_ms(5_000);
    assert_eq!(world.at(alice).finals("MESSAGE"), [403]);
    assert!(world.at(bob).texts().is_empty());
    assert_eq!(world.services.counters.messages_stored.get(), 0);
}
