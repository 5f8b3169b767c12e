//! What phones show of what happens in a group beside messages: a line of text that nobody has written.
//!
//! *Invariant*: only those are told who see the event itself; the line says no more than the event does.

use sidetone_model::{AddressOfRecord, EventBody, NewEvent};

/// The longest subject that is shown whole.
const SUBJECT_CHARS: usize = 200;

/// The line of an event; none where it is none for a line.
pub(super) fn of(event: &NewEvent) -> Option<String> {
    let author = name(&event.author);
    Some(match &event.body {
        EventBody::MemberAdded { member, .. } => format!("{} was added by {author}", name(member)),
        EventBody::MemberRemoved { member } if *member == event.author => {
            format!("{author} left")
        }
        EventBody::MemberRemoved { member } => {
            format!("{} was removed by {author}", name(member))
        }
        EventBody::SubjectChanged { subject } if subject.is_empty() => {
            format!("{author} took the subject away")
        }
        EventBody::SubjectChanged { subject } => {
            let subject: String = subject.chars().take(SUBJECT_CHARS).collect();
            format!("{author} changed the subject: {subject}")
        }
        EventBody::System { text } => text.clone(),
        _ => return None,
    })
}

/// Whether phones are told.
pub(super) fn is_for_phones(body: &EventBody) -> bool {
    body.is_message()
        || matches!(
            body,
            EventBody::Edit { .. }
                | EventBody::MemberAdded { .. }
                | EventBody::MemberRemoved { .. }
                | EventBody::SubjectChanged { .. }
                | EventBody::System { .. }
        )
}

/// What a person is called in a line: what others write to.
fn name(address: &AddressOfRecord) -> &str {
    address.user()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidetone_model::{ConversationId, History, ParticipantRole};

    fn who(name: &str) -> AddressOfRecord {
        format!("{name}@example.com").parse().expect("an address")
    }

    fn line(author: &str, body: EventBody) -> Option<String> {
        of(&NewEvent {
            conversation: ConversationId(1),
            seq: 2,
            epoch: 1,
            author: who(author),
            at_ms: 0,
            body,
        })
    }

    #[test]
    fn lines_say_who_came_and_went_and_what_it_is_about() {
        let added = EventBody::MemberAdded {
            member: who("chen"),
            role: ParticipantRole::Member,
            horizon: 2,
            history: History::FromNow,
        };
        let removed = || EventBody::MemberRemoved {
            member: who("chen"),
        };
        let subject = |subject: &str| EventBody::SubjectChanged {
            subject: subject.to_owned(),
        };
        for (author, body, expected) in [
            ("ann", added, "chen was added by ann"),
            ("ann", removed(), "chen was removed by ann"),
            ("chen", removed(), "chen left"),
            ("ann", subject("Lunch"), "ann changed the subject: Lunch"),
            ("ann", subject(""), "ann took the subject away"),
        ] {
            assert!(is_for_phones(&body));
            assert_eq!(line(author, body).as_deref(), Some(expected));
        }
        let text = EventBody::Retraction { target: 1 };
        assert!(!is_for_phones(&text));
        assert_eq!(line("ann", text), None);
    }
}
