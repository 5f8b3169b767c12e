//! What became of messages, as a conversation's machine knows it: made anew from what the store has.
//!
//! The store has watermarks, failures and the log. What lies above a member's watermark and was said by somebody else
//! is not settled.
//!
//! *Invariant*: nothing that was settled is open again but for what was not yet written when the process ended; and
//! only so many events are looked at, however long the log is.

use sidetone_model::{AddressOfRecord, ParticipantSnapshot, SeqRange};
use sidetone_store::{Failure, Recent, Watermark};

use crate::carried::Asked;

/// Events that are looked at. Of older ones it is no longer told what becomes of them.
pub(super) const WINDOW: u64 = 512;
/// Ranges that are told apart; older ones are one.
const RANGES_MAX: usize = 128;

/// A message whose author's phone wants to be told what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asking {
    pub(super) author: AddressOfRecord,
    pub(super) asked: Asked,
}

/// Gives a participant what is owed to it, what failed, and how far it has read.
pub(super) fn restore(
    participant: &mut ParticipantSnapshot,
    last_seq: u64,
    receipts: &[Watermark],
    failures: &[Failure],
    recent: &[Recent],
) {
    let mark = receipts
        .iter()
        .find(|mark| mark.address == participant.address);
    let (delivered, displayed) = mark.map_or((0, 0), |mark| (mark.delivered, mark.displayed));
    let own = failures
        .iter()
        .filter(|one| one.address == participant.address);
    participant.failed = own.map(|one| one.range).collect();
    participant.displayed_to = displayed;
    participant.last_due = last_seq;
    let stay = participant.stays.last();
    let Some(stay) = stay.filter(|stay| stay.left.is_none()) else {
        return;
    };
    let after = delivered.max(displayed).max(stay.joined);
    let failed = |seq: u64| participant.failed.iter().any(|range| range.contains(seq));
    let mut pending: Vec<SeqRange> = Vec::new();
    let mut follows = false;
    for event in recent
        .iter()
        .filter(|event| event.seq > after && event.is_message)
    {
        let owed = event.author != participant.address && !failed(event.seq);
        match pending.last_mut() {
            Some(range) if owed && follows => range.last = event.seq,
            _ if owed => pending.push(SeqRange {
                first: event.seq,
                last: event.seq,
            }),
            _ => {}
        }
        follows = owed;
    }
    participant.pending = at_most(pending);
}

/// The older ones as one: what lies between them is the member's own, and nobody reports on it.
fn at_most(mut ranges: Vec<SeqRange>) -> Vec<SeqRange> {
    let Some(over) = ranges.len().checked_sub(RANGES_MAX) else {
        return ranges;
    };
    let newer = ranges.split_off(over);
    let older = ranges.first().zip(ranges.last());
    let older = older.map(|(first, last)| SeqRange {
        first: first.first,
        last: last.last,
    });
    older.into_iter().chain(newer).collect()
}

/// Which of the last events are messages: the first event that is told of, and a bit for each.
pub(super) fn marks(recent: &[Recent], last_seq: u64) -> (u64, Vec<u64>) {
    let first = recent.first().map_or(last_seq + 1, |event| event.seq);
    // The machine counts its words from multiples of 64.
    let base = first - first % 64;
    let mut words = Vec::new();
    for event in recent.iter().filter(|event| event.is_message) {
        let offset = event.seq.saturating_sub(base);
        let Ok(word) = usize::try_from(offset / 64) else {
            continue;
        };
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        words[word] |= 1 << (offset % 64);
    }
    (base, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidetone_conversation::{Conversation, Delivery};
    use sidetone_model::{ConversationId, ConversationSnapshot, Kind, ParticipantRole, Stay};

    const LAST: u64 = 200;

    fn who(name: &str) -> AddressOfRecord {
        format!("{name}@example.com").parse().expect("an address")
    }

    /// Even ones are ann's, odd ones bob's, and every tenth is no message.
    fn recent() -> Vec<Recent> {
        (50..=LAST)
            .map(|seq| Recent {
                seq,
                author: who(if seq % 2 == 0 { "ann" } else { "bob" }),
                is_message: seq % 10 != 0,
                headers: String::new(),
            })
            .collect()
    }

    fn restored(delivered: u64, displayed: u64, failed: &[u64]) -> Conversation {
        let conversation = ConversationId(1);
        let receipts = [Watermark {
            conversation,
            address: who("bob"),
            delivered,
            displayed,
        }];
        let failures: Vec<Failure> = failed
            .iter()
            .map(|seq| Failure {
                conversation,
                address: who("bob"),
                range: SeqRange {
                    first: *seq,
                    last: *seq,
                },
            })
            .collect();
        let mut participants: Vec<ParticipantSnapshot> = ["ann", "bob"]
            .iter()
            .map(|name| ParticipantSnapshot {
                address: who(name),
                role: ParticipantRole::Owner,
                stays: vec![Stay {
                    horizon: 1,
                    joined: 1,
                    left: None,
                }],
                pending: Vec::new(),
                failed: Vec::new(),
                displayed_to: 0,
                last_due: 0,
            })
            .collect();
        for participant in &mut participants {
            restore(participant, LAST, &receipts, &failures, &recent());
        }
        let (messages_base, messages) = marks(&recent(), LAST);
        Conversation::restore(ConversationSnapshot {
            id: conversation,
            address: who("c1"),
            founded_as: Kind::Pair,
            pair: Some((who("ann"), who("bob"))),
            subject: String::new(),
            avatar: None,
            epoch: 1,
            next_seq: LAST + 1,
            participants,
            messages_base,
            messages,
        })
    }

    #[test]
    fn what_lies_above_the_watermark_is_open() {
        let machine = restored(102, 80, &[98, 104]);
        let of = |seq| machine.delivery(&who("bob"), seq);
        assert_eq!(of(78), Some(Delivery::Displayed));
        assert_eq!(of(82), Some(Delivery::Delivered));
        assert_eq!(of(98), Some(Delivery::Failed));
        assert_eq!(of(102), Some(Delivery::Delivered));
        assert_eq!(of(104), Some(Delivery::Failed));
        for seq in (106..=LAST).filter(|seq| seq % 2 == 0 && seq % 10 != 0) {
            assert_eq!(of(seq), Some(Delivery::Pending), "{seq}");
        }
        assert!(machine.pending(&who("bob")).len() <= RANGES_MAX);
    }

    #[test]
    fn what_arrives_after_a_restart_is_told_once() {
        use sidetone_conversation::{Input, Output};
        use sidetone_model::ReceiptKind;
        let mut machine = restored(102, 0, &[]);
        let mut told = Vec::new();
        for seq in [104, 104, 106, 198, 198] {
            let input = Input::Receipt {
                member: who("bob"),
                from_seq: seq,
                seq,
                kind: ReceiptKind::Delivered,
            };
            machine.handle_input(1, input);
            while let Some(output) = machine.poll_output() {
                let Output::Receipt(receipt) = output else {
                    panic!("{output:?}")
                };
                told.push(receipt.seq);
            }
        }
        assert_eq!(told, [104, 106, 198]);
    }

    #[test]
    fn many_ranges_become_fewer() {
        let ranges = (0..1_000).map(|n| SeqRange {
            first: 2 * n,
            last: 2 * n,
        });
        let fewer = at_most(ranges.collect());
        assert_eq!(fewer.len(), RANGES_MAX + 1);
        assert_eq!((fewer[0].first, fewer[RANGES_MAX].last), (0, 1_998));
    }
}
