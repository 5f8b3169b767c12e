//! What phones say beside texts: that somebody writes (RFC 3994), what became of messages (RFC 5438), CPIM (RFC 3862),
//! and the lines of a group.

use sidetone_services::Abilities;
use sidetone_services::carried::{Asked, Named};

use sidetone_sim::{PhoneId, World, assert_snapshot};
use sidetone_sip::imdn::{Delivery, Display, Disposition, Wanted};
use sidetone_sip::{Cpim, Imdn, IsComposing, Mailbox, cpim, imdn, iscomposing};

const CPIM: &str = cpim::CONTENT_TYPE;
const COMPOSING: &str = iscomposing::CONTENT_TYPE;

fn world() -> (World, PhoneId, PhoneId) {
    let mut world = World::new(5);
    let alice = world.phone("alice", "alice");
    let bob = world.phone("bob", "bob");
    world.at(alice).register();
    world.at(bob).register();
    world.run_ms(1_000);
    world.ladder.clear();
    (world, alice, bob)
}

fn composing(active: bool) -> String {
    let indication = IsComposing {
        active,
        refresh_seconds: Some(60),
        ..IsComposing::default()
    };
    indication.write()
}

fn mailbox(user: &str) -> Mailbox {
    Mailbox {
        name: String::new(),
        uri: format!("sip:{user}@example.test"),
    }
}

/// A text in CPIM whose sender wants to be told everything.
fn wrapped(from: &str, to: &str, text: &str) -> String {
    let message = Cpim::new("text/plain", text.to_owned().into())
        .and_then(|message| message.with_from(&mailbox(from)))
        .and_then(|message| message.with_to(&mailbox(to)))
        .and_then(|message| message.with_sent_ms(1_800_000_000_000))
        .expect("a message");
    let wanted = Wanted {
        positive_delivery: true,
        negative_delivery: true,
        display: true,
        processing: false,
    };
    let message = imdn::request(message, "a1", wanted).expect("a name");
    String::from_utf8(message.write().to_vec()).expect("text")
}

fn read(body: &str) -> Cpim {
    Cpim::parse(body.to_owned().into()).expect("CPIM")
}

fn notification(message_id: &str, disposition: Disposition) -> String {
    let notification = Imdn {
        message_id: message_id.to_owned(),
        date_time: String::new(),
        recipient_uri: None,
        original_recipient_uri: None,
        subject: None,
        disposition,
    };
    let message = Cpim::new(imdn::CONTENT_TYPE, notification.write().into())
        .and_then(|message| message.with_from(&mailbox("bob")))
        .and_then(|message| message.with_to(&mailbox("alice")))
        .expect("a message");
    String::from_utf8(message.write().to_vec()).expect("text")
}

#[test]
fn who_writes_is_told_to_phones_that_have_shown_that_they_know_it() {
    let (mut world, alice, bob) = world();
    world.at(alice).send("bob", COMPOSING, &composing(true));
    world.run_ms(1_000);
    assert!(
        world.at(bob).bodies(COMPOSING).is_empty(),
        "it has not shown it"
    );
    assert_eq!(world.at(alice).finals("MESSAGE"), [200]);
    world.remark("bob's phone shows that it knows");
    world.at(bob).send("alice", COMPOSING, &composing(true));
    world.run_ms(1_000);
    world.at(bob).send("alice", COMPOSING, &composing(false));
    world.run_ms(1_000);
    world.at(alice).send("bob", COMPOSING, &composing(true));
    world.run_ms(1_000);
    let seen = world.at(alice).bodies(COMPOSING).join("");
    assert!(seen.contains("active") && seen.contains("idle"), "{seen}");
    let seen = world.at(bob).bodies(COMPOSING).join("");
    let read = IsComposing::parse(seen.as_bytes()).expect("an indication");
    assert_eq!((read.active, read.refresh_seconds), (true, Some(60)));
    assert_eq!(world.services.counters.messages_stored.get(), 0);
    assert_snapshot("composing", &world.ladder.text());
}

#[test]
fn a_phone_that_refuses_it_is_not_told_again() {
    let (mut world, alice, bob) = world();
    world.at(bob).send("alice", COMPOSING, &composing(true));
    world.run_ms(1_000);
    world.at(bob).message_status = 415;
    for _ in 0..3 {
        world.at(alice).send("bob", COMPOSING, &composing(true));
        world.run_ms(1_000);
    }
    assert_eq!(world.at(bob).bodies(COMPOSING).len(), 1);
    let device = world.device(bob);
    assert!(
        !world
            .services
            .abilities
            .of(device)
            .has(Abilities::COMPOSING)
    );
}

#[test]
fn a_wrapped_text_is_plain_to_who_knows_no_better_and_wrapped_to_who_does() {
    let (mut world, alice, bob) = world();
    world
        .at(alice)
        .send("bob", CPIM, &wrapped("alice", "bob", "hei"));
    world.run_ms(1_000);
    assert_eq!(world.at(alice).finals("MESSAGE"), [200]);
    assert_eq!(world.at(bob).bodies("text/plain"), ["hei"]);
    world.at(bob).message("alice", "and back");
    world.run_ms(1_000);
    let answer = read(world.at(alice).bodies(CPIM)[0]);
    assert_eq!(answer.content(), "and back");
    assert_eq!(answer.from(), Some(mailbox("bob")));
    assert_eq!(answer.to().collect::<Vec<_>>(), [mailbox("alice")]);
    assert!(answer.sent_ms().is_some() && imdn::message_id(&answer).is_some());
    assert_snapshot("cpim", &world.ladder.text());
}

#[test]
fn a_phone_that_refuses_cpim_gets_the_text_plain() {
    let (mut world, alice, bob) = world();
    world
        .at(bob)
        .send("alice", CPIM, &wrapped("bob", "alice", "I speak it"));
    world.run_ms(1_000);
    world.at(bob).message_status = 415;
    world.at(alice).message("bob", "hi");
    world.run_ms(1_000);
    world.at(bob).message_status = 200;
    world.run_ms(5_000);
    assert_eq!(world.at(bob).bodies(CPIM).len(), 1);
    assert_eq!(world.at(bob).bodies("text/plain"), ["hi"]);
}

#[test]
fn who_asked_is_told_what_became_of_it_and_nothing_is_told_of_that() {
    let (mut world, alice, bob) = world();
    world
        .at(bob)
        .send("alice", CPIM, &wrapped("bob", "alice", "I speak it"));
    world.run_ms(1_000);
    world.ladder.clear();
    world
        .at(alice)
        .send("bob", CPIM, &wrapped("alice", "bob", "hei"));
    world.run_ms(1_000);
    let got = read(world.at(bob).bodies(CPIM)[0]);
    let name = imdn::message_id(&got).expect("a name").to_owned();
    assert!(Wanted::of(&got).display && Wanted::of(&got).positive_delivery);
    let displayed = notification(&name, Disposition::Display(Display::Displayed));
    world.at(bob).send("alice", CPIM, &displayed);
    world.run_ms(1_000);
    assert_eq!(world.at(bob).finals("MESSAGE"), [200, 200]);
    let told = world.at(alice).bodies(CPIM).pop().map(read).expect("told");
    let said = Imdn::parse(told.content()).expect("a notification");
    assert_eq!(said.message_id, "a1", "as its sender calls it");
    assert_eq!(said.disposition, Disposition::Display(Display::Displayed));
    assert_eq!(told.from(), Some(mailbox("bob")));
    let disposition = told.content_header("Content-Disposition");
    assert_eq!(disposition, Some("notification"));
    assert_eq!(Wanted::of(&told), Wanted::default(), "it asks for nothing");
    let stored = world.services.counters.messages_stored.get();
    assert_eq!(stored, 2, "what is said of messages is none");
    assert_snapshot("imdn", &world.ladder.text());
}

#[test]
fn what_names_no_message_is_taken_and_nothing_comes_of_it() {
    let (mut world, alice, bob) = world();
    for name in ["c1-99", "c9-1", "m1-d9@example.test", "forged"] {
        let failed = notification(name, Disposition::Delivery(Delivery::Failed));
        world.at(bob).send("alice", CPIM, &failed);
        world.run_ms(500);
    }
    assert_eq!(world.at(bob).finals("MESSAGE"), [200; 4]);
    assert!(
        world
            .at(alice)
            .seen
            .iter()
            .all(|seen| !format!("{seen:?}").contains("imdn"))
    );
    assert_eq!(Named::parse("forged"), None);
    assert_eq!(Asked::of(""), None);
}

#[test]
fn a_group_is_told_who_came_and_who_writes() {
    let (mut world, alice, bob) = world();
    let carol = world.phone("carol", "carol");
    world.at(carol).register();
    world.group("team", &["alice", "bob", "carol"]);
    world
        .at(carol)
        .send("team", CPIM, &wrapped("carol", "team", "hello all"));
    world.run_ms(1_000);
    world.ladder.clear();
    world.line("team", "carol was added by alice");
    world.run_ms(1_000);
    world.at(bob).send("team", COMPOSING, &composing(true));
    world.run_ms(1_000);
    world.at(bob).message("team", "welcome");
    world.run_ms(1_000);
    let line = "carol was added by alice";
    assert_eq!(
        world.at(alice).texts(),
        ["carol: hello all", line, "bob: welcome"]
    );
    let seen: Vec<Cpim> = world.at(carol).bodies(CPIM).into_iter().map(read).collect();
    let from: Vec<Option<Mailbox>> = seen.iter().map(Cpim::from).collect();
    let of = |name| Some(mailbox(name));
    assert_eq!(from, [of("team"), of("bob"), of("bob")]);
    assert!(seen.iter().all(|one| one.to().eq([mailbox("team")])));
    assert_eq!(seen[0].content(), line);
    assert_eq!(imdn::message_id(&seen[0]), None, "nobody wrote it");
    assert_eq!(seen[1].content_type(), Some(COMPOSING));
    assert_eq!(seen[2].content(), "welcome");
    assert_snapshot("group-lines", &world.ladder.text());
}

#[test]
fn bad_bodies_are_refused_and_change_nothing() {
    let (mut world, alice, bob) = world();
    for (kind, body, status) in [
        (CPIM, "hello".to_owned(), 400),
        (CPIM, wrapped("bob", "bob", "in another's name"), 403),
        (COMPOSING, "<isComposing".to_owned(), 400),
        (imdn::CONTENT_TYPE, "<imdn/>".to_owned(), 400),
        (
            COMPOSING,
            "<!DOCTYPE a [<!ENTITY b \"bb\">]><a>&b;</a>".to_owned(),
            400,
        ),
    ] {
        world.at(alice).send("bob", kind, &body);
        world.run_ms(1_000);
        assert_eq!(
            world.at(alice).finals("MESSAGE").last(),
            Some(&status),
            "{body}"
        );
    }
    assert!(world.at(bob).texts().is_empty());
    let device = world.device(alice);
    assert_eq!(world.services.abilities.of(device), Abilities::default());
}
