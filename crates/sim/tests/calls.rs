//! Calls through the proxy in virtual time: RFC 3261 §16, RFC 3665.

use sidetone_sim::{PhoneId, Plan, Seen, World, assert_snapshot};

/// Alice calls; these are the other phones, registered.
fn world(phones: &[(&str, &str)]) -> (World, PhoneId, Vec<PhoneId>) {
    let mut world = World::new(3);
    let alice = world.phone("alice", "alice");
    let others: Vec<PhoneId> = phones
        .iter()
        .map(|(user, label)| world.phone(user, label))
        .collect();
    for phone in &others {
        world.at(*phone).register();
    }
    world.run_ms(1_000);
    world.ladder.clear();
    (world, alice, others)
}

fn count(seen: &[Seen], wanted: &Seen) -> usize {
    seen.iter().filter(|one| *one == wanted).count()
}

#[test]
fn a_call_is_made_and_ended_by_the_caller() {
    let (mut world, alice, others) = world(&[("bob", "bob")]);
    world.at(others[0]).plan = Plan::answer_after(2_000);
    world.at(alice).invite("bob");
    world.run_ms(5_000);
    assert_eq!(world.at(alice).finals("INVITE"), [200]);
    assert_eq!(
        (world.at(alice).calls(), world.at(others[0]).calls()),
        (1, 1)
    );
    assert!(world.at(alice).bye());
    world.run_ms(1_000);
    assert_eq!(world.at(alice).finals("BYE"), [200]);
    assert_eq!(
        world.at(others[0]).seen[1..],
        [Seen::Invite, Seen::Ack, Seen::Bye]
    );
    world.run_ms(200_000);
    assert_eq!(
        world.contexts(),
        0,
        "nothing is kept of a call that is over"
    );
    assert_snapshot("call", &world.ladder.text());
}

#[test]
fn a_contact_that_is_a_host_name_is_looked_up_for_the_ack_too() {
    let (mut world, alice, others) = world(&[("bob", "bob")]);
    let bob = world.at(others[0]);
    bob.plan = Plan::answer_after(100);
    bob.host_name = Some("bob.example.net".to_owned());
    let address = bob.address();
    world.names.insert("bob.example.net".to_owned(), address);
    world.at(alice).invite("bob");
    world.run_ms(1_000);
    assert!(world.at(alice).bye());
    world.run_ms(1_000);
    assert_eq!(world.at(alice).finals("BYE"), [200]);
    assert_eq!(
        world.at(others[0]).seen[1..],
        [Seen::Invite, Seen::Ack, Seen::Bye]
    );
}

#[test]
fn the_callee_may_hang_up_too() {
    let (mut world, alice, others) = world(&[("bob", "bob")]);
    world.at(others[0]).plan = Plan::answer_after(100);
    world.at(alice).invite("bob");
    world.run_ms(1_000);
    assert!(world.at(others[0]).bye());
    world.run_ms(1_000);
    assert_eq!(world.at(others[0]).finals("BYE"), [200]);
    assert_eq!(world.at(alice).seen.last(), Some(&Seen::Bye));
    assert_snapshot("call-callee-hangs-up", &world.ladder.text());
}

#[test]
fn of_two_phones_the_one_that_is_not_taken_stops_ringing() {
    let (mut world, alice, others) = world(&[("bob", "hall"), ("bob", "cellar")]);
    world.at(others[0]).plan = Plan::answer_after(3_000);
    world.at(others[1]).plan = Plan::ring();
    world.at(alice).invite("bob");
    world.run_ms(10_000);
    assert_eq!(world.at(alice).finals("INVITE"), [200]);
    assert_eq!(world.at(others[0]).seen[1..], [Seen::Invite, Seen::Ack]);
    let cellar = world.at(others[1]).seen[1..].to_vec();
    assert_eq!(cellar, [Seen::Invite, Seen::Cancelled, Seen::Ack]);
    assert_snapshot("fork-one-answers", &world.ladder.text());
}

#[test]
fn two_phones_that_answer_at_once_leave_one_call() {
    let (mut world, alice, others) = world(&[("bob", "hall"), ("bob", "cellar")]);
    for phone in &others {
        world.at(*phone).plan = Plan::answer_after(1_000);
    }
    world.at(alice).invite("bob");
    world.run_ms(10_000);
    assert_eq!(world.at(alice).calls(), 1);
    let calls: usize = others.iter().map(|phone| world.at(*phone).calls()).sum();
    assert_eq!(calls, 1, "the second is acknowledged and hung up");
    for phone in &others {
        assert_eq!(count(&world.at(*phone).seen, &Seen::Ack), 1);
    }
    assert_snapshot("fork-both-answer", &world.ladder.text());
}

#[test]
fn the_best_refusal_of_a_fork_comes_back() {
    let (mut world, alice, others) = world(&[("bob", "hall"), ("bob", "cellar")]);
    world.at(others[0]).plan = Plan::refuse(486);
    world.at(others[1]).plan = Plan::refuse(503);
    world.at(alice).invite("bob");
    world.run_ms(5_000);
    assert_eq!(world.at(alice).finals("INVITE"), [486]);
    assert_snapshot("fork-refused", &world.ladder.text());
}

#[test]
fn a_caller_who_gives_up_stops_every_phone() {
    let (mut world, alice, others) = world(&[("bob", "hall"), ("bob", "cellar")]);
    world.at(alice).invite("bob");
    world.run_ms(4_000);
    world.at(alice).cancel();
    world.run_ms(4_000);
    assert_eq!(world.at(alice).finals("CANCEL"), [200]);
    assert_eq!(world.at(alice).finals("INVITE"), [487]);
    for phone in &others {
        let seen = world.at(*phone).seen[1..].to_vec();
        assert_eq!(seen, [Seen::Invite, Seen::Cancelled, Seen::Ack]);
    }
    assert_snapshot("cancel", &world.ladder.text());
}

#[test]
fn a_cancel_that_crosses_the_answer_leaves_a_call_that_both_have() {
    // The answer leaves the phone at 2.000 s; CANCEL comes 1 ms later to the proxy than the answer, and in other
    // runs before it, and at the phone. Whatever comes first, both ends agree.
    for cancel_ms in 1_980..2_040 {
        let (mut world, alice, others) = world(&[("bob", "bob")]);
        world.at(others[0]).plan = Plan::answer_after(1_985);
        world.at(alice).invite("bob");
        world.run_ms(cancel_ms);
        world.at(alice).cancel();
        world.run_ms(5_000);
        let answered = world.at(alice).calls();
        assert_eq!(world.at(others[0]).calls(), answered, "{cancel_ms}");
        let expected = if answered == 1 { 200 } else { 487 };
        assert_eq!(world.at(alice).finals("INVITE"), [expected], "{cancel_ms}");
        assert_eq!(
            count(&world.at(others[0]).seen, &Seen::Ack),
            1,
            "{cancel_ms}"
        );
        if cancel_ms == 2_002 {
            assert_snapshot("cancel-crosses-answer", &world.ladder.text());
        }
    }
}

#[test]
fn nobody_is_there() {
    let (mut world, alice, _) = world(&[]);
    world.phone("bob", "bob");
    for user in ["bob", "nobody"] {
        world.at(alice).invite(user);
        world.run_ms(1_000);
    }
    assert_eq!(world.at(alice).finals("INVITE"), [480, 404]);
}

#[test]
fn a_phone_that_is_gone_times_out() {
    let (mut world, alice, others) = world(&[("bob", "bob")]);
    world.at(others[0]).plan = Plan::default();
    world.at(alice).invite("bob");
    world.run_ms(40_000);
    assert_eq!(world.at(alice).finals("INVITE"), [408]);
    assert_snapshot("callee-silent", &world.ladder.text());
}
