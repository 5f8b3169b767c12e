//! The people and the moves that the tests of the rules share.
//!
//! *Invariant*: `refused` also says that nothing has changed.

use crate::command::{Authority, Command, Content, Input, Output, Target, TargetKind};
use crate::{Conversation, Refusal};
use sidetone_model::{
    AddressOfRecord, ConversationId, EventBody, History, ParticipantRole as Role, ReceiptKind,
    TextFormat,
};

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

pub(crate) fn who(name: &str) -> AddressOfRecord {
    AddressOfRecord::new(name, "example.net").unwrap()
}

pub(crate) fn text(text: &str) -> Command {
    Command::Post(Content::Text {
        text: text.into(),
        format: TextFormat::Plain,
        reply_to: None,
    })
}

pub(crate) fn add(name: &str, role: Role, history: History) -> Command {
    Command::AddMember {
        member: who(name),
        role,
        history,
    }
}

pub(crate) fn remove(name: &str) -> Command {
    Command::RemoveMember { member: who(name) }
}

pub(crate) fn set_role(name: &str, role: Role) -> Command {
    Command::SetRole {
        member: who(name),
        role,
    }
}

pub(crate) fn target(seq: u64, author: &str) -> Target {
    Target {
        seq,
        author: who(author),
        kind: TargetKind::Text,
        retracted: false,
    }
}

pub(crate) fn drain(conversation: &mut Conversation) -> Vec<Output> {
    std::iter::from_fn(|| conversation.poll_output()).collect()
}

pub(crate) fn act(
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

pub(crate) fn run(conversation: &mut Conversation, author: &str, command: Command) -> Vec<Output> {
    act(conversation, author, Authority::Participant, command)
}

pub(crate) fn administer(conversation: &mut Conversation, command: Command) -> Vec<Output> {
    act(conversation, "admin", Authority::Administrator, command)
}

pub(crate) fn report(
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

pub(crate) fn bodies(outputs: &[Output]) -> Vec<EventBody> {
    let appended = outputs.iter().filter_map(|output| match output {
        Output::Append(event) => Some(event.body.clone()),
        _ => None,
    });
    appended.collect()
}

pub(crate) fn delivered_to(outputs: &[Output]) -> Vec<(u64, String)> {
    let delivered = outputs.iter().filter_map(|output| match output {
        Output::Deliver { seq, to } => Some((*seq, to.user().to_owned())),
        _ => None,
    });
    delivered.collect()
}

/// Says that the input was refused with this, and that nothing else came of it.
#[track_caller]
pub(crate) fn refused(
    conversation: &mut Conversation,
    author: &str,
    command: Command,
    why: Refusal,
) {
    let before = conversation.snapshot();
    let outputs = run(conversation, author, command);
    assert_eq!(outputs, [Output::Refused(why)]);
    assert_eq!(conversation.snapshot(), before);
}

#[track_caller]
pub(crate) fn accepted(
    conversation: &mut Conversation,
    author: &str,
    command: Command,
) -> Vec<Output> {
    let outputs = run(conversation, author, command);
    let refusal = outputs.iter().find(|o| matches!(o, Output::Refused(_)));
    assert_eq!(refusal, None);
    outputs
}

pub(crate) fn pair() -> Conversation {
    let id = ConversationId(1);
    let opened = Conversation::open_pair(NOW_MS, id, who("c1"), &who("bob"), &who("alice"));
    let mut conversation = opened.unwrap();
    drain(&mut conversation);
    conversation
}

/// olga owns, mo moderates, mia and max are members, gus is a guest.
pub(crate) fn group() -> Conversation {
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

pub(crate) fn managed() -> Conversation {
    let members = [("olga", Role::Owner), ("mia", Role::Member)];
    let members = members.map(|(name, role)| (who(name), role));
    let id = ConversationId(3);
    let opened =
        Conversation::open_managed(NOW_MS, id, who("c3"), &who("admin"), members, "All".into());
    let mut conversation = opened.unwrap();
    drain(&mut conversation);
    conversation
}
