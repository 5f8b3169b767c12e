//! Who is there, who may do what, and who sees what: one test a rule.

use crate::command::{Command, Output};
use crate::staging::*;
use crate::{Action, Conversation, Refusal, bounds};
use sidetone_model::{ConversationId, EventBody, History, Kind, ParticipantRole as Role, SeqRange};

#[test]
fn a_pair_is_two_owners_found_by_the_two() {
    let conversation = pair();
    assert_eq!(conversation.kind(), Kind::Pair);
    assert_eq!(conversation.pair(), Some((&who("alice"), &who("bob"))));
    assert!(conversation.members().all(|(_, role)| role == Role::Owner));
    assert_eq!((conversation.epoch(), conversation.next_seq()), (1, 2));
}

#[test]
fn a_conversation_with_oneself_is_refused() {
    let opened = Conversation::open_pair(NOW_MS, ConversationId(1), who("c"), &who("a"), &who("a"));
    assert_eq!(opened.map(|_| ()), Err(Refusal::ToOneself));
}

#[test]
fn each_change_of_members_begins_an_epoch_and_its_event_bears_it() {
    let mut conversation = group();
    let outputs = run(
        &mut conversation,
        "mia",
        add("eva", Role::Member, History::FromNow),
    );
    assert!(matches!(&outputs[0], Output::Append(event) if event.epoch == 2));
    accepted(&mut conversation, "olga", set_role("eva", Role::Guest));
    assert_eq!(conversation.epoch(), 2);
    let outputs = run(&mut conversation, "eva", remove("eva"));
    assert!(matches!(&outputs[0], Output::Append(event) if event.epoch == 3));
}

#[test]
fn the_horizon_is_what_the_adder_chose() {
    for (history, horizon) in [
        (History::FromNow, 6),
        (History::All, 1),
        (History::Last(0), 6),
        (History::Last(2), 4),
        (History::Last(1_000), 1),
    ] {
        let mut conversation = group();
        for line in ["one", "two", "three", "four"] {
            accepted(&mut conversation, "mia", text(line));
        }
        let outputs = accepted(&mut conversation, "mia", add("eva", Role::Guest, history));
        let [EventBody::MemberAdded { horizon: found, .. }] = bodies(&outputs)[..] else {
            panic!("{outputs:?}");
        };
        assert_eq!(found, horizon, "{history:?}");
        let seen: Vec<u64> = (0..9)
            .filter(|seq| conversation.visible(&who("eva"), *seq))
            .collect();
        assert_eq!(seen, (horizon..=6).collect::<Vec<_>>(), "{history:?}");
        assert!(delivered_to(&outputs).contains(&(6, "eva".into())));
    }
}

#[test]
fn nobody_shows_what_he_does_not_see_himself() {
    let mut conversation = group();
    accepted(&mut conversation, "olga", text("before mia was back"));
    accepted(&mut conversation, "mia", remove("mia"));
    accepted(&mut conversation, "olga", text("while she was away"));
    accepted(
        &mut conversation,
        "olga",
        add("mia", Role::Member, History::FromNow),
    );
    // mia sees 1 to 3 and again from 5 on: what she can show begins at 5.
    accepted(
        &mut conversation,
        "mia",
        add("eva", Role::Member, History::All),
    );
    let range = |first, last| SeqRange { first, last };
    assert_eq!(
        conversation.visible_ranges(&who("mia")),
        [range(1, 3), range(5, 6)]
    );
    assert_eq!(conversation.visible_ranges(&who("eva")), [range(5, 6)]);
    assert!(!conversation.visible(&who("eva"), 4));
}

#[test]
fn who_was_removed_sees_the_removal_and_nothing_after_it() {
    let mut conversation = group();
    let outputs = accepted(&mut conversation, "mo", remove("max"));
    assert!(delivered_to(&outputs).contains(&(2, "max".into())));
    let outputs = accepted(&mut conversation, "mo", text("he is gone"));
    assert!(!delivered_to(&outputs).iter().any(|(_, name)| name == "max"));
    assert!(conversation.visible(&who("max"), 2));
    assert!(!conversation.visible(&who("max"), 3));
    refused(&mut conversation, "max", text("hey"), Refusal::NotAMember);
    accepted(
        &mut conversation,
        "mo",
        add("max", Role::Guest, History::Last(1)),
    );
    assert_eq!(conversation.stays(&who("max")).len(), 2);
    assert_eq!(conversation.role(&who("max")), Some(Role::Guest));
    assert_eq!(
        conversation.visible_ranges(&who("max")),
        [SeqRange { first: 1, last: 4 }]
    );
    assert_eq!(conversation.delivery(&who("max"), 3), None);
}

#[test]
fn a_pair_adds_a_third_and_goes_on_as_the_pair_when_the_third_has_left() {
    let mut conversation = pair();
    let address = conversation.address().clone();
    accepted(
        &mut conversation,
        "bob",
        add("carol", Role::Member, History::FromNow),
    );
    assert_eq!(conversation.kind(), Kind::Group);
    assert!(conversation.pair().is_some());
    accepted(&mut conversation, "carol", remove("carol"));
    assert_eq!(conversation.kind(), Kind::Pair);
    assert_eq!(conversation.pair(), Some((&who("alice"), &who("bob"))));
    assert_eq!(conversation.address(), &address);
    assert_eq!(conversation.founded_as(), Kind::Pair);
}

#[test]
fn the_two_of_a_pair_stay_equal_and_together() {
    let mut conversation = pair();
    for person in ["alice", "bob"] {
        refused(
            &mut conversation,
            "alice",
            remove(person),
            Refusal::PairOfTwo,
        );
    }
    accepted(
        &mut conversation,
        "alice",
        add("carol", Role::Owner, History::FromNow),
    );
    for actor in ["carol", "bob"] {
        refused(
            &mut conversation,
            actor,
            remove("alice"),
            Refusal::PairIsEqual,
        );
        refused(
            &mut conversation,
            actor,
            set_role("alice", Role::Guest),
            Refusal::PairIsEqual,
        );
    }
}

#[test]
fn the_key_of_a_pair_is_given_up_when_one_of_the_two_leaves() {
    let mut conversation = pair();
    accepted(
        &mut conversation,
        "alice",
        add("carol", Role::Member, History::FromNow),
    );
    accepted(&mut conversation, "alice", remove("alice"));
    assert_eq!(conversation.pair(), None);
    assert_eq!(conversation.kind(), Kind::Group);
    accepted(
        &mut conversation,
        "bob",
        add("alice", Role::Member, History::FromNow),
    );
    assert_eq!(conversation.kind(), Kind::Group);
}

#[test]
fn an_administrator_has_no_hand_in_a_pair() {
    let mut conversation = pair();
    for command in [
        add("admin", Role::Owner, History::All),
        Command::SetSubject {
            subject: "x".into(),
        },
        text("hello"),
    ] {
        let outputs = administer(&mut conversation, command);
        assert_eq!(outputs, [Output::Refused(Refusal::NotAllowed)]);
    }
    let outputs = administer(&mut conversation, remove("bob"));
    assert_eq!(outputs, [Output::Refused(Refusal::PairOfTwo)]);
}

#[test]
fn an_administrator_shows_history_only_of_what_administrators_made() {
    let mut by_hand = group();
    accepted(&mut by_hand, "mia", text("private"));
    administer(&mut by_hand, add("admin", Role::Member, History::All));
    assert!(!by_hand.visible(&who("admin"), 2));
    let mut made = managed();
    accepted(&mut made, "mia", text("for all"));
    administer(&mut made, add("eva", Role::Member, History::All));
    assert!(made.visible(&who("eva"), 1) && made.visible(&who("eva"), 2));
}

#[test]
fn in_a_managed_group_members_do_not_add_and_the_last_owner_may_go() {
    let mut conversation = managed();
    assert_eq!(conversation.kind(), Kind::Managed);
    refused(
        &mut conversation,
        "mia",
        add("eva", Role::Member, History::FromNow),
        Refusal::NotAllowed,
    );
    let outputs = accepted(&mut conversation, "olga", remove("olga"));
    assert_eq!(
        bodies(&outputs),
        [EventBody::MemberRemoved {
            member: who("olga")
        }]
    );
    assert_eq!(conversation.role(&who("mia")), Some(Role::Member));
}

/// Who may do what in a group made by hand: owner, moderator, member, guest.
#[test]
fn the_table_of_rights() {
    let conversation = group();
    let (max, mo, olga) = (who("max"), who("mo"), who("olga"));
    let table = [
        (Action::Post, [true, true, true, true]),
        (Action::Retract(&max), [true, true, false, false]),
        (Action::AddMember(Role::Guest), [true, true, true, false]),
        (Action::AddMember(Role::Member), [true, true, true, false]),
        (
            Action::AddMember(Role::Moderator),
            [true, true, false, false],
        ),
        (Action::AddMember(Role::Owner), [true, false, false, false]),
        (Action::RemoveMember(&max), [true, true, false, false]),
        (Action::RemoveMember(&olga), [true, false, false, false]),
        (
            Action::SetRole(&max, Role::Guest),
            [true, true, false, false],
        ),
        (
            Action::SetRole(&max, Role::Moderator),
            [true, false, false, false],
        ),
        (
            Action::SetRole(&mo, Role::Guest),
            [true, false, false, false],
        ),
        (Action::Describe, [true, true, false, false]),
        (Action::Announce, [false, false, false, false]),
    ];
    for (action, expected) in table {
        let found = ["olga", "mo", "mia", "gus"].map(|name| conversation.may(&who(name), action));
        assert_eq!(found, expected, "{action:?}");
        assert!(!conversation.may(&who("eve"), action));
    }
    assert!(conversation.may(&max, Action::RemoveMember(&max)));
}

#[test]
fn the_last_owner_who_leaves_is_followed_by_the_oldest_moderator() {
    let mut conversation = group();
    accepted(
        &mut conversation,
        "olga",
        add("amy", Role::Moderator, History::All),
    );
    // amy comes before mo in the alphabet, but mo was there first.
    let outputs = accepted(&mut conversation, "olga", remove("olga"));
    assert_eq!(
        bodies(&outputs),
        [
            EventBody::RoleChanged {
                member: who("mo"),
                role: Role::Owner
            },
            EventBody::MemberRemoved {
                member: who("olga")
            },
        ]
    );
    assert_eq!(conversation.role(&who("mo")), Some(Role::Owner));
    let appends_first = outputs
        .iter()
        .take(2)
        .all(|o| matches!(o, Output::Append(_)));
    assert!(appends_first, "one change is committed at once");
}

#[test]
fn without_a_moderator_the_oldest_member_follows_and_never_a_guest() {
    let mut conversation = group();
    accepted(&mut conversation, "olga", remove("mo"));
    accepted(&mut conversation, "olga", remove("max"));
    accepted(
        &mut conversation,
        "olga",
        add("amy", Role::Member, History::All),
    );
    accepted(&mut conversation, "olga", remove("olga"));
    assert_eq!(conversation.role(&who("mia")), Some(Role::Owner));
    accepted(&mut conversation, "mia", remove("amy"));
    refused(
        &mut conversation,
        "mia",
        remove("mia"),
        Refusal::NoSuccessor,
    );
    accepted(&mut conversation, "mia", remove("gus"));
    accepted(&mut conversation, "mia", remove("mia"));
    assert_eq!(conversation.member_count(), 0);
}

#[test]
fn the_last_owner_does_not_step_down() {
    let mut conversation = group();
    refused(
        &mut conversation,
        "olga",
        set_role("olga", Role::Member),
        Refusal::LastOwner,
    );
    accepted(&mut conversation, "olga", set_role("mia", Role::Owner));
    accepted(&mut conversation, "olga", set_role("olga", Role::Member));
}

#[test]
fn members_are_there_once() {
    let mut conversation = group();
    refused(
        &mut conversation,
        "olga",
        add("mia", Role::Owner, History::All),
        Refusal::AlreadyAMember,
    );
    refused(
        &mut conversation,
        "olga",
        remove("eva"),
        Refusal::NoSuchMember,
    );
    refused(
        &mut conversation,
        "olga",
        set_role("eva", Role::Guest),
        Refusal::NoSuchMember,
    );
}

#[test]
fn members_are_bounded() {
    let others = (0..bounds::MEMBERS - 1).map(|n| (who(&format!("m{n}")), Role::Member));
    let id = ConversationId(9);
    let opened = Conversation::open_group(NOW_MS, id, who("c"), &who("olga"), others, "".into());
    let mut conversation = opened.unwrap();
    drain(&mut conversation);
    refused(
        &mut conversation,
        "olga",
        add("one-more", Role::Member, History::All),
        Refusal::TooManyMembers,
    );
    let others = (0..bounds::MEMBERS).map(|n| (who(&format!("m{n}")), Role::Member));
    let opened = Conversation::open_group(NOW_MS, id, who("c"), &who("olga"), others, "".into());
    assert_eq!(opened.map(|_| ()), Err(Refusal::TooManyMembers));
}

#[test]
fn a_person_is_not_added_for_ever() {
    let mut conversation = group();
    for _ in 1..bounds::STAYS {
        accepted(&mut conversation, "olga", remove("mia"));
        accepted(
            &mut conversation,
            "olga",
            add("mia", Role::Member, History::FromNow),
        );
    }
    accepted(&mut conversation, "olga", remove("mia"));
    refused(
        &mut conversation,
        "olga",
        add("mia", Role::Member, History::FromNow),
        Refusal::AddedTooOften,
    );
}
