use super::*;
use crate::events::{Package, View};
use sidetone_model::AddressOfRecord;

fn device(number: i64, label: &str, until_ms: u64) -> Reachable {
    Reachable {
        device: DeviceId(number),
        label: label.into(),
        until_ms,
    }
}

fn statement(device: i64, open: bool, availability: Option<Availability>) -> Statement {
    Statement {
        device: DeviceId(device),
        open,
        availability,
        note: None,
        until_ms: 1_000,
    }
}

fn set(availability: Option<Availability>, note: &str, until_ms: Option<u64>) -> SetPresence {
    SetPresence {
        availability,
        note: note.to_owned(),
        until_ms,
    }
}

fn availability(facts: &Facts<'_>) -> Availability {
    compose(0, facts).person.availability
}

#[test]
fn nobody_is_shown_as_there_who_is_not() {
    let busy = [statement(1, true, Some(Availability::Busy))];
    let available = set(Some(Availability::Available), "here!", None);
    let gone = [device(1, "desk", 0)];
    for devices in [&[][..], &gone] {
        for published in [&[][..], &busy] {
            for set in [None, Some(&available)] {
                let facts = Facts {
                    devices,
                    set,
                    published,
                    ..Facts::default()
                };
                let composed = compose(0, &facts);
                assert_eq!(composed.person.availability, Availability::Offline);
                assert!(composed.person.would_ring.is_empty());
            }
        }
    }
    let session = Facts {
        sessions: 1,
        ..Facts::default()
    };
    assert_eq!(availability(&session), Availability::Available);
    assert!(compose(0, &session).person.would_ring.is_empty());
}

#[test]
fn what_is_set_counts_more_than_calls_and_calls_more_than_what_devices_say() {
    let devices = [device(1, "desk", 500), device(2, "browser", 900)];
    let away = [statement(2, true, Some(Availability::Away))];
    let mut facts = Facts {
        devices: &devices,
        ..Facts::default()
    };
    assert_eq!(availability(&facts), Availability::Available);
    assert_eq!(compose(0, &facts).person.would_ring, ["desk", "browser"]);
    facts.published = &away;
    assert_eq!(availability(&facts), Availability::Away);
    facts.on_call = true;
    assert_eq!(availability(&facts), Availability::Busy);
    let dnd = set(Some(Availability::DoNotDisturb), "no", Some(400));
    facts.set = Some(&dnd);
    let composed = compose(0, &facts);
    assert_eq!(composed.person.availability, Availability::DoNotDisturb);
    assert!(composed.person.on_call);
    assert_eq!(composed.until_ms, Some(400), "then it changes by itself");
    let composed = compose(400, &facts);
    assert_eq!(composed.person.availability, Availability::Busy);
    assert_eq!(
        (composed.person.note.as_str(), composed.person.until_ms),
        ("", None)
    );
    assert_eq!(composed.until_ms, Some(500));
    let composed = compose(600, &facts);
    assert_eq!(composed.person.would_ring, ["browser"]);
}

#[test]
fn who_has_closed_every_device_is_away() {
    let devices = [device(1, "desk", 500), device(2, "browser", 900)];
    let one = [statement(1, false, None)];
    let both = [statement(1, false, None), statement(2, false, None)];
    let again = [statement(1, false, None), statement(1, true, None)];
    for (published, closed, expected) in [
        (&one[..], 1, Availability::Available),
        (&both, 2, Availability::Away),
        (&again, 0, Availability::Available),
    ] {
        let facts = Facts {
            devices: &devices,
            published,
            ..Facts::default()
        };
        let composed = compose(0, &facts);
        assert_eq!(composed.person.availability, expected);
        assert_eq!(composed.closed.len(), closed);
    }
}

fn address(text: &str) -> AddressOfRecord {
    text.parse().unwrap()
}

#[test]
fn colleagues_see_each_other_and_others_do_not() {
    let board = Board::default();
    let (bob, ann, eve) = (
        address("bob@a.com"),
        address("ann@a.com"),
        address("eve@b.com"),
    );
    let view = |package, watcher| board.view(package, &bob, Some(watcher));
    assert_eq!(view(Package::Presence, &bob), Some(View::Own));
    assert_eq!(view(Package::Presence, &ann), Some(View::Others));
    assert_eq!(view(Package::Presence, &eve), Some(View::Pending));
    for package in [Package::Registration, Package::MessageSummary] {
        assert_eq!(view(package, &bob), Some(View::Own));
        assert_eq!(view(package, &ann), None);
    }
    assert!(board.permit(&bob, &eve, PolicyChange::Approve));
    assert!(board.permit(&bob, &ann, PolicyChange::Block));
    assert_eq!(view(Package::Dialog, &eve), Some(View::Others));
    assert_eq!(view(Package::Dialog, &ann), Some(View::Blocked));
    assert!(board.permit(&bob, &eve, PolicyChange::Revoke));
    assert!(board.permit(&bob, &ann, PolicyChange::Unblock));
    assert_eq!(view(Package::Dialog, &eve), Some(View::Pending));
    assert_eq!(view(Package::Dialog, &ann), Some(View::Others));
}

#[test]
fn lists_are_bounded() {
    let board = Board::new(BoardLimits {
        listed: 2,
        ..BoardLimits::default()
    });
    let bob = address("bob@a.com");
    let blocked = |user: &str| board.permit(&bob, &address(user), PolicyChange::Block);
    assert!(blocked("1@a.com") && blocked("2@a.com") && blocked("1@a.com"));
    assert!(!blocked("3@a.com"));
    assert!(!board.has_room(&bob, &address("3@a.com"), PolicyChange::Block));
    assert!(board.has_room(&bob, &address("3@a.com"), PolicyChange::Unblock));
}

#[test]
fn a_blocked_watcher_cannot_tell_it_from_somebody_who_is_not_there() {
    let board = Board::default();
    let bob = address("bob@a.com");
    let gone = board.document(0, Package::Presence, &bob, View::Others, &[]);
    let desk = [device(1, "desk", 900)];
    let here = board.document(0, Package::Presence, &bob, View::Others, &desk);
    let blocked = board.document(0, Package::Presence, &bob, View::Blocked, &desk);
    assert_eq!(blocked.text, gone.text);
    assert_ne!(blocked.text, here.text);
    assert_eq!(here.until_ms, Some(900));
}

#[test]
fn what_we_write_we_read() {
    let board = Board::default();
    let bob = address("b&b@a.com");
    let desk = [device(1, "Bob's <desk> & \"chair\"", 900)];
    board.set(
        &bob,
        set(Some(Availability::DoNotDisturb), "a < b & c", None),
    );
    let document = board.document(0, Package::Presence, &bob, View::Others, &desk);
    let text = std::str::from_utf8(&document.text).unwrap();
    let read = Published::parse(text).expect("a PIDF");
    assert!(read.open);
    assert_eq!(read.availability, Some(Availability::DoNotDisturb));
    assert_eq!(read.note.as_deref(), Some("a < b & c"));
}

#[test]
fn a_state_is_known_since_it_began() {
    let board = Board::default();
    let bob = address("bob@a.com");
    let desk = [device(1, "desk", 900_000)];
    assert_eq!(board.person(1_000, &bob, &desk).since_ms, 1_000);
    assert_eq!(board.person(2_000, &bob, &desk).since_ms, 1_000);
    board.set(&bob, set(Some(Availability::Away), "", None));
    assert_eq!(board.person(3_000, &bob, &desk).since_ms, 3_000);
    assert_eq!(board.person(4_000, &bob, &desk).since_ms, 3_000);
}

fn call(number: u64) -> Call {
    Call {
        id: CallId {
            call_id: format!("{number}@x").into(),
            caller_tag: "f".into(),
        },
        number,
        direction: Direction::Recipient,
        state: CallState::Trying,
        remote: Party {
            name: "Eve".into(),
            uri: "sip:eve@b.com".into(),
        },
    }
}

#[test]
fn a_call_goes_forward_only() {
    let board = Board::default();
    let bob = address("bob@a.com");
    let one = call(1);
    assert!(board.call_begins(&bob, one.clone()));
    assert!(!board.call_begins(&bob, one.clone()), "it has begun");
    assert!(board.call_goes_on(&bob, &one.id, CallState::Confirmed));
    assert!(!board.call_goes_on(&bob, &one.id, CallState::Early));
    assert!(board.person(0, &bob, &[]).on_call);
    assert!(board.call_goes_on(&bob, &one.id, CallState::Terminated));
    assert!(!board.call_goes_on(&bob, &one.id, CallState::Confirmed));
    assert!(!board.person(0, &bob, &[]).on_call);
    assert!(!board.calls_end(&bob), "there is none any more");
    for number in 2..40 {
        assert_eq!(board.call_begins(&bob, call(number)), number < 34);
    }
    assert!(board.calls_end(&bob));
}

#[test]
fn whom_a_call_is_with_stands_in_the_owners_document_only() {
    let board = Board::default();
    let bob = address("bob@a.com");
    assert!(board.call_begins(&bob, call(1)));
    let text = |view| {
        let document = board.document(0, Package::Dialog, &bob, view, &[]);
        let text = String::from_utf8(document.text.to_vec()).unwrap();
        let (head, _) = text.split_at(document.version_at.unwrap());
        assert!(head.ends_with("version=\""), "{head}");
        text
    };
    let (own, others, blocked) = (text(View::Own), text(View::Others), text(View::Blocked));
    assert!(
        own.contains("sip:eve@b.com") && own.contains("call-id=\"1@x\""),
        "{own}"
    );
    assert!(others.contains("<state>trying</state>"), "{others}");
    assert!(
        !others.contains("eve") && !others.contains("1@x"),
        "{others}"
    );
    assert!(!blocked.contains("<dialog "), "{blocked}");
}

#[test]
fn what_has_an_end_is_told_at_its_end() {
    let board = Board::default();
    let (bob, ann) = (address("bob@a.com"), address("ann@a.com"));
    let until = |until_ms| SetPresence {
        note: "out".to_owned(),
        until_ms: Some(until_ms),
        ..SetPresence::default()
    };
    board.set(&bob, until(3_000));
    board.set(&bob, until(2_000));
    board.set(&ann, until(1_000));
    board.set(&ann, SetPresence::default());
    assert_eq!(board.next_end_ms(), Some(2_000));
    assert!(board.expire(1_999).is_empty());
    assert_eq!(board.expire(2_000), std::slice::from_ref(&bob));
    assert!(board.expire(9_000).is_empty());
    assert_eq!(board.next_end_ms(), None);
    board.set(&bob, until(5_000));
    board.forget(&bob);
    assert_eq!(board.next_end_ms(), None);
}
