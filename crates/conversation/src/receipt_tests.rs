//! What became of messages, and reading a log back: one test a rule.

use crate::command::Output;
use crate::staging::*;
use crate::{Conversation, Delivery, LogFault, Refusal};
use sidetone_model::{
    ConversationId, EventBody, EventId, History, ParticipantRole as Role, Receipt, ReceiptKind,
    SeqRange,
};

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
