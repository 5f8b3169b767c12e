//! REGISTER against the shard in virtual time.

use sidetone_sim::{Seen, World, assert_snapshot};

#[test]
fn a_phone_registers_and_leaves() {
    let mut world = World::new(1);
    let alice = world.phone("alice", "desk");
    world.at(alice).register();
    world.run_ms(1_000);
    assert_eq!(world.at(alice).finals("REGISTER"), [200]);
    assert_eq!(world.services.location.binding_count(), 1);
    world.at(alice).register_for(0);
    world.run_ms(1_000);
    assert_eq!(world.at(alice).finals("REGISTER"), [200, 200]);
    assert_eq!(world.services.location.binding_count(), 0);
    assert_snapshot("register", &world.ladder.text());
}

#[test]
fn a_wrong_password_registers_nothing() {
    let mut world = World::new(1);
    let alice = world.phone("alice", "desk");
    world.at(alice).set_password("guess");
    world.at(alice).register();
    world.run_ms(1_000);
    assert_eq!(
        world.at(alice).seen,
        [Seen::Answer {
            method: "REGISTER".to_owned(),
            status: 403
        }]
    );
    assert_eq!(world.services.location.binding_count(), 0);
    assert_eq!(world.services.counters.denied.get(), 1);
    assert_snapshot("wrong-password", &world.ladder.text());
}

#[test]
fn a_guesser_is_banned() {
    let mut world = World::new(1);
    let alice = world.phone("alice", "desk");
    world.at(alice).set_password("guess");
    for _ in 0..12 {
        world.at(alice).register();
        world.run_ms(1_000);
    }
    assert_eq!(world.at(alice).finals("REGISTER"), [403; 10]);
    world.at(alice).set_password("desk!");
    world.run_ms(300_000);
    world.at(alice).register();
    world.run_ms(1_000);
    assert_eq!(world.at(alice).finals("REGISTER").last(), Some(&200));
}

#[test]
fn a_registration_ends_by_itself() {
    let mut world = World::new(1);
    let alice = world.phone("alice", "desk");
    let bob = world.phone("bob", "hall");
    world.at(bob).register_for(60);
    world.run_ms(1_000);
    assert_eq!(world.at(bob).finals("REGISTER"), [200]);
    world.run_ms(60_000);
    world.at(alice).invite("bob");
    world.run_ms(1_000);
    assert_eq!(world.at(alice).finals("INVITE"), [480]);
}
