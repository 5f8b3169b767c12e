//! Each rule of a conversation, one test a rule.

use crate::command::{Authority, Command, Content, Input, Output, Target, TargetKind};
use crate::{Action, Conversation, Delivery, LogFault, Refusal, bounds};
use sidetone_model::{
    AddressOfRecord, ConversationId, EventBody, EventId, FileId, FileRef, History, Kind,
    ParticipantRole as Role, Receipt, ReceiptKind, SeqRange, TextFormat,
};

const NOW_MS: u64 = 1_700_000_000_000;

fn who(name: &str) -> AddressOfRecord {
    AddressOfRecord::new(name, "example.net").unwrap()
}

fn text(text: &str) -> Command {
    Command::Post(Content::Text {
        text: text.into(),
        format: TextFormat::Plain,
        reply_to: None,
    })
}

fn add(name: &str, role: Role, history: History) -> Command {
    Command::AddMember {
        member: who(name),
        role,
        history,
    }
}

fn remove(name: &str) -> Command {
    Command::RemoveMember { member: who(name) }
}

fn set_role(name: &str, role: Role) -> Command {
    Command::SetRole {
        member: who(name),
        role,
    }
}

fn target(seq: u64, author: &str) -> Target {
    Target {
        seq,
        author: who(author),
        kind: TargetKind::Text,
        retracted: false,
    }
}

fn drain(conversation: &mut Conversation) -> Vec<Output> {
    std::iter::from_fn(|| conversation.poll_output()).collect()
}

fn act(
    conversation: &mut Conversation,
    author: &str,
    authority: Authority,
    command: Command,
) -> Vec<Output> {
    conversation.handle_input(
        NOW_MS,
        Input::Command {
            author: who(author),
            authority,
            command,
        },
    );
    drain(conversation)
}

fn run(conversation: &mut Conversation, author: &str, command: Command) -> Vec<Output> {
    act(conversation, author, Authority::Participant, command)
}

fn administer(conversation: &mut Conversation, command: Command) -> Vec<Output> {
    act(conversation, "admin", Authority::Administrator, command)
}

fn report(
    conversation: &mut Conversation,
    member: &str,
    from_seq: u64,
    seq: u64,
    kind: ReceiptKind,
) -> Vec<Output> {
    conversation.handle_input(
        NOW_MS,
        Input::Receipt {
            member: who(member),
            from_seq,
            seq,
            kind,
        },
    );
    drain(conversation)
}

fn bodies(outputs: &[Output]) -> Vec<EventBody> {
    let appended = outputs.iter().filter_map(|output| match output {
        Output::Append(event) => Some(event.body.clone()),
        _ => None,
    });
    appended.collect()
}

fn delivered_to(outputs: &[Output]) -> Vec<(u64, String)> {
    let delivered = outputs.iter().filter_map(|output| match output {
        Output::Deliver { seq, to } => Some((*seq, to.user().to_owned())),
        _ => None,
    });
    delivered.collect()
}

/// Says that the input was refused with this, and that nothing else came of it.
#[track_caller]
fn refused(conversation: &mut Conversation, author: &str, command: Command, why: Refusal) {
    let before = conversation.snapshot();
    let outputs = run(conversation, author, command);
    assert_eq!(outputs, [Output::Refused(why)]);
    assert_eq!(conversation.snapshot(), before);
}

#[track_caller]
fn accepted(conversation: &mut Conversation, author: &str, command: Command) -> Vec<Output> {
    let outputs = run(conversation, author, command);
    let refusal = outputs.iter().find(|o| matches!(o, Output::Refused(_)));
    assert_eq!(refusal, None);
    outputs
}

fn pair() -> Conversation {
    let id = ConversationId(1);
    let opened = Conversation::open_pair(NOW_MS, id, who("c1"), &who("bob"), &who("alice"));
    let mut conversation = opened.unwrap();
    drain(&mut conversation);
    conversation
}

/// olga owns, mo moderates, mia and max are members, gus is a guest.
fn group() -> Conversation {
    let others = [
        ("mo", Role::Moderator),
        ("mia", Role::Member),
        ("max", Role::Member),
        ("gus", Role::Guest),
    ];
    let others = others.map(|(name, role)| (who(name), role));
    let id = ConversationId(2);
    let opened =
        Conversation::open_group(NOW_MS, id, who("c2"), &who("olga"), others, "Tea".into());
    let mut conversation = opened.unwrap();
    drain(&mut conversation);
    conversation
}

fn managed() -> Conversation {
    let members = [("olga", Role::Owner), ("mia", Role::Member)];
    let members = members.map(|(name, role)| (who(name), role));
    let id = ConversationId(3);
    let opened =
        Conversation::open_managed(NOW_MS, id, who("c3"), &who("admin"), members, "All".into());
    let mut conversation = opened.unwrap();
    drain(&mut conversation);
    conversation
}

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
fn a_message_is_appended_before_it_is_delivered_to_everybody_else() {
    let mut conversation = group();
    let outputs = run(&mut conversation, "mia", text("hello"));
    let Some(Output::Append(event)) = outputs.first() else {
        panic!("{outputs:?}");
    };
    assert_eq!((event.seq, event.epoch, event.at_ms), (2, 1, NOW_MS));
    assert_eq!(event.author, who("mia"));
    let names: Vec<String> = delivered_to(&outputs).into_iter().map(|(_, n)| n).collect();
    assert_eq!(names, ["gus", "max", "mo", "olga"]);
    assert_eq!(outputs.len(), 5);
}

#[test]
fn strangers_do_nothing() {
    let mut conversation = group();
    for command in [
        text("hello"),
        add("eve", Role::Member, History::All),
        remove("mia"),
        remove("eve"),
        set_role("eve", Role::Owner),
        Command::Retract {
            target: target(1, "eve"),
        },
    ] {
        refused(&mut conversation, "eve", command, Refusal::NotAMember);
    }
    let outputs = report(&mut conversation, "eve", 1, 1, ReceiptKind::Displayed);
    assert_eq!(outputs, [Output::Refused(Refusal::NotAMember)]);
}

#[test]
fn everything_that_is_said_is_bounded() {
    let mut conversation = group();
    let most = "x".repeat(bounds::TEXT_BYTES);
    accepted(&mut conversation, "gus", text(&most));
    refused(
        &mut conversation,
        "gus",
        text(&(most.clone() + "x")),
        Refusal::TooLarge,
    );
    let opaque = |content_type: &str, headers: usize| {
        Command::Post(Content::Opaque {
            content_type: content_type.into(),
            headers: "h".repeat(headers),
            body: bytes::Bytes::from_static(b"\0\xff"),
        })
    };
    accepted(&mut conversation, "gus", opaque("image/png", 10));
    for (content_type, headers) in [("a/b", bounds::HEADER_BYTES + 1), ("a/b\r\nX: y", 1)] {
        let command = opaque(content_type, headers);
        refused(&mut conversation, "gus", command, Refusal::HeadersTooLong);
    }
    let mut file = FileRef {
        id: FileId(7),
        name: "tea.png".into(),
        content_type: Some("image/png".into()),
        octets: Some(5),
        width: None,
        height: None,
        duration_ms: None,
    };
    let post = |file: &FileRef| {
        Command::Post(Content::File {
            file: file.clone(),
            caption: "look".into(),
            reply_to: Some(2),
        })
    };
    accepted(&mut conversation, "gus", post(&file));
    file.name = "a\0b".into();
    refused(
        &mut conversation,
        "gus",
        post(&file),
        Refusal::HeadersTooLong,
    );
}

#[test]
fn an_answer_is_to_something_that_the_author_sees() {
    let mut conversation = pair();
    accepted(&mut conversation, "alice", text("secret"));
    accepted(
        &mut conversation,
        "alice",
        add("carol", Role::Member, History::FromNow),
    );
    let reply = |seq| {
        Command::Post(Content::Text {
            text: "?".into(),
            format: TextFormat::Plain,
            reply_to: Some(seq),
        })
    };
    for unseen in [0, 1, 2, 4, u64::MAX] {
        refused(
            &mut conversation,
            "carol",
            reply(unseen),
            Refusal::UnknownTarget,
        );
    }
    accepted(&mut conversation, "carol", reply(3));
    accepted(&mut conversation, "bob", reply(2));
}

#[test]
fn a_reaction_is_one_symbol_to_a_message_that_is_seen_and_stands() {
    let mut conversation = group();
    accepted(&mut conversation, "mia", text("hello"));
    let react = |target: Target, emoji: &str| Command::React {
        target,
        emoji: emoji.into(),
        removed: false,
    };
    accepted(&mut conversation, "gus", react(target(2, "mia"), "👍🏽"));
    for bad in ["", "a b", "\n", &"x".repeat(33)] {
        refused(
            &mut conversation,
            "gus",
            react(target(2, "mia"), bad),
            Refusal::BadEmoji,
        );
    }
    refused(
        &mut conversation,
        "gus",
        react(target(9, "mia"), "👍"),
        Refusal::UnknownTarget,
    );
    let mut gone = target(2, "mia");
    gone.retracted = true;
    refused(
        &mut conversation,
        "gus",
        react(gone, "👍"),
        Refusal::TakenBack,
    );
    let mut opening = target(1, "olga");
    opening.kind = TargetKind::Other;
    refused(
        &mut conversation,
        "gus",
        react(opening, "👍"),
        Refusal::NotAMessage,
    );
}

#[test]
fn only_the_author_edits_and_only_what_has_a_wording() {
    let mut conversation = group();
    accepted(&mut conversation, "mia", text("helo"));
    let edit = |target| Command::Edit {
        target,
        text: "hello".into(),
        format: TextFormat::Markdown,
    };
    let outputs = accepted(&mut conversation, "mia", edit(target(2, "mia")));
    assert!(matches!(
        bodies(&outputs)[..],
        [EventBody::Edit { target: 2, .. }]
    ));
    for other in ["olga", "mo", "max"] {
        refused(
            &mut conversation,
            other,
            edit(target(2, "mia")),
            Refusal::NotYours,
        );
    }
    let mut opaque = target(2, "mia");
    opaque.kind = TargetKind::Opaque;
    refused(&mut conversation, "mia", edit(opaque), Refusal::NotEditable);
}

#[test]
fn one_takes_back_what_is_ones_own_and_moderators_what_is_others() {
    let mut conversation = group();
    accepted(&mut conversation, "mia", text("one"));
    let retract = || Command::Retract {
        target: target(2, "mia"),
    };
    for other in ["max", "gus"] {
        refused(&mut conversation, other, retract(), Refusal::NotYours);
    }
    for able in ["mia", "mo", "olga"] {
        accepted(&mut conversation, able, retract());
    }
}

#[test]
fn in_a_pair_nobody_takes_back_what_the_other_said() {
    let mut conversation = pair();
    accepted(&mut conversation, "alice", text("one"));
    accepted(
        &mut conversation,
        "alice",
        add("carol", Role::Owner, History::All),
    );
    for other in ["bob", "carol"] {
        let command = Command::Retract {
            target: target(2, "alice"),
        };
        refused(&mut conversation, other, command, Refusal::NotYours);
    }
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

#[test]
fn only_an_administrator_speaks_for_the_system() {
    let mut conversation = group();
    let announce = || Command::Announce {
        text: "maintenance".into(),
    };
    refused(&mut conversation, "olga", announce(), Refusal::NotAllowed);
    let outputs = administer(&mut conversation, announce());
    assert!(matches!(bodies(&outputs)[..], [EventBody::System { .. }]));
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
fn a_subject_is_bounded_and_the_same_one_is_no_event() {
    let mut conversation = group();
    let subject = |subject: &str| Command::SetSubject {
        subject: subject.into(),
    };
    accepted(&mut conversation, "mo", subject(&"ø".repeat(200)));
    for bad in [&"ø".repeat(201), "a\nb"] {
        refused(&mut conversation, "mo", subject(bad), Refusal::BadSubject);
    }
    accepted(&mut conversation, "mo", subject("Tea"));
    assert_eq!(run(&mut conversation, "mo", subject("Tea")), []);
    assert_eq!(conversation.subject(), "Tea");
    let avatar = Some(FileId(4));
    accepted(&mut conversation, "mo", Command::SetAvatar { avatar });
    assert_eq!(conversation.avatar(), avatar);
    accepted(&mut conversation, "mo", Command::SetAvatar { avatar: None });
    assert_eq!(conversation.avatar(), None);
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

#[test]
fn a_message_is_pending_then_delivered_then_displayed_and_never_goes_back() {
    let mut conversation = pair();
    accepted(&mut conversation, "alice", text("hello"));
    let fate = |c: &Conversation| c.delivery(&who("bob"), 2);
    assert_eq!(fate(&conversation), Some(Delivery::Pending));
    let expected = |kind| {
        [Output::Receipt(Receipt {
            conversation: ConversationId(1),
            from_seq: 2,
            seq: 2,
            member: who("bob"),
            kind,
            at_ms: NOW_MS,
        })]
    };
    let delivered = ReceiptKind::Delivered;
    let outputs = report(&mut conversation, "bob", 2, 2, delivered);
    assert_eq!(outputs, expected(delivered));
    assert_eq!(fate(&conversation), Some(Delivery::Delivered));
    let displayed = ReceiptKind::Displayed;
    let outputs = report(&mut conversation, "bob", 2, 2, displayed);
    assert_eq!(outputs, expected(displayed));
    for late in [delivered, displayed, ReceiptKind::Failed] {
        assert_eq!(report(&mut conversation, "bob", 2, 2, late), []);
        assert_eq!(fate(&conversation), Some(Delivery::Displayed));
    }
}

#[test]
fn a_displayed_message_was_delivered_and_a_failed_one_stays_so() {
    let mut conversation = pair();
    accepted(&mut conversation, "alice", text("one"));
    accepted(&mut conversation, "alice", text("two"));
    report(&mut conversation, "bob", 2, 2, ReceiptKind::Failed);
    let displayed = ReceiptKind::Displayed;
    assert_eq!(report(&mut conversation, "bob", 2, 2, displayed), []);
    report(&mut conversation, "bob", 3, 3, displayed);
    let fates = [2, 3].map(|seq| conversation.delivery(&who("bob"), seq));
    assert_eq!(fates, [Some(Delivery::Failed), Some(Delivery::Displayed)]);
    assert_eq!(conversation.displayed_to(&who("bob")), 3);
}

#[test]
fn ones_own_receipts_and_those_for_what_is_no_message_are_nothing() {
    let mut conversation = pair();
    accepted(&mut conversation, "alice", text("hello"));
    let before = conversation.snapshot();
    for kind in [
        ReceiptKind::Delivered,
        ReceiptKind::Displayed,
        ReceiptKind::Failed,
    ] {
        assert_eq!(report(&mut conversation, "alice", 2, 2, kind), []);
    }
    for kind in [ReceiptKind::Delivered, ReceiptKind::Failed] {
        assert_eq!(report(&mut conversation, "bob", 1, 1, kind), []);
    }
    assert_eq!(conversation.snapshot(), before);
}

#[test]
fn one_receipt_may_speak_of_everything_up_to_here() {
    let mut conversation = pair();
    for line in ["one", "two", "three"] {
        accepted(&mut conversation, "alice", text(line));
    }
    report(&mut conversation, "bob", 1, 3, ReceiptKind::Delivered);
    let fates = [2, 3, 4].map(|seq| conversation.delivery(&who("bob"), seq).unwrap());
    use Delivery::{Delivered, Pending};
    assert_eq!(fates, [Delivered, Delivered, Pending]);
    let pending = conversation.pending(&who("bob"));
    assert_eq!(pending, [SeqRange { first: 4, last: 4 }]);
}

#[test]
fn receipts_come_only_from_who_sees_the_event() {
    let mut conversation = pair();
    accepted(&mut conversation, "alice", text("before"));
    accepted(
        &mut conversation,
        "alice",
        add("carol", Role::Member, History::FromNow),
    );
    accepted(&mut conversation, "alice", text("after"));
    for unseen in [0, 2, 5, u64::MAX] {
        let outputs = report(
            &mut conversation,
            "carol",
            unseen,
            unseen,
            ReceiptKind::Displayed,
        );
        assert_eq!(outputs, [Output::Refused(Refusal::ReceiptForUnseen)]);
    }
    let outputs = report(&mut conversation, "carol", 4, 3, ReceiptKind::Displayed);
    assert_eq!(outputs, [Output::Refused(Refusal::ReceiptForUnseen)]);
    assert_eq!(
        report(&mut conversation, "carol", 4, 4, ReceiptKind::Displayed).len(),
        1
    );
    // Who has left still tells what became of what he was sent.
    accepted(&mut conversation, "alice", text("last words"));
    accepted(&mut conversation, "carol", remove("carol"));
    assert_eq!(
        report(&mut conversation, "carol", 5, 5, ReceiptKind::Delivered).len(),
        1
    );
}

#[test]
fn a_log_that_is_not_this_one_is_told() {
    let conversation = pair();
    assert_eq!(
        Conversation::replay([]).map(|_| ()),
        Err(LogFault::NoOpening)
    );
    let event = |id: i64, seq, epoch, body| {
        sidetone_model::NewEvent {
            conversation: ConversationId(id),
            seq,
            epoch,
            author: who("alice"),
            at_ms: NOW_MS,
            body,
        }
        .with_id(EventId(1))
    };
    let line = || EventBody::System { text: "x".into() };
    let gone = EventBody::MemberRemoved { member: who("eve") };
    for (event, fault) in [
        (event(7, 2, 1, line()), LogFault::AnotherConversation(2)),
        (event(1, 3, 1, line()), LogFault::OutOfOrder(3)),
        (event(1, 2, 2, line()), LogFault::Contradiction(2)),
        (event(1, 2, 2, gone), LogFault::Contradiction(2)),
    ] {
        let mut copy = conversation.clone();
        assert_eq!(copy.apply(&event), Err(fault));
        assert_eq!(copy.snapshot(), conversation.snapshot());
        let only = Conversation::replay([&event]);
        assert_eq!(only.map(|_| ()), Err(LogFault::NoOpening));
    }
}

#[test]
fn many_events_leave_a_small_snapshot() {
    let mut conversation = group();
    for n in 0..20_000_u32 {
        let author = ["mia", "max"][n as usize % 2];
        run(&mut conversation, author, text("x"));
        let seq = conversation.next_seq() - 1;
        for name in ["olga", "mo", "mia", "max"] {
            report(&mut conversation, name, seq, seq, ReceiptKind::Delivered);
        }
    }
    // gus was away all the time, the others have everything.
    let snapshot = conversation.snapshot();
    let ranges: usize = snapshot.participants.iter().map(|p| p.pending.len()).sum();
    assert_eq!(ranges, 1);
    assert!(snapshot.messages.len() <= 20_000 / 64 + 2);
    report(&mut conversation, "gus", 1, 20_001, ReceiptKind::Delivered);
    assert!(conversation.snapshot().messages.len() <= 1);
}
