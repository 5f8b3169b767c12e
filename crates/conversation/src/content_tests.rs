//! What may be said, answered, edited and taken back: one test a rule.

use crate::command::{Command, Content, Output, Target, TargetKind};
use crate::staging::*;
use crate::{Refusal, bounds};
use sidetone_model::ReceiptKind;
use sidetone_model::{
    EventBody, FileId, FileKind, FileRef, History, ParticipantRole as Role, TextFormat,
};

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
        kind: FileKind::Picture,
        digest: None,
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
fn only_an_administrator_speaks_for_the_system() {
    let mut conversation = group();
    let announce = || Command::Announce {
        text: "maintenance".into(),
    };
    refused(&mut conversation, "olga", announce(), Refusal::NotAllowed);
    let outputs = administer(&mut conversation, announce());
    assert!(matches!(bodies(&outputs)[..], [EventBody::System { .. }]));
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
