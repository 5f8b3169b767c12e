//! What holds whatever people do: random membership, messages, receipts and nonsense, from a seed.
//!
//! A model as simple as can be stands beside the machine: it writes down every event, who was there and from where each
//! sees, and what each recipient has reported first.

use crate::command::{Authority, Command, Content, Input, Output, Target, TargetKind};
use crate::{Conversation, Delivery};
use sidetone_model::{
    AddressOfRecord, ConversationId, Event, EventBody, EventId, History, NewEvent,
    ParticipantRole as Role, ReceiptKind, TextFormat,
};
use std::collections::{BTreeMap, BTreeSet};

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What was written down of one person.
#[derive(Default)]
struct Person {
    role: Option<Role>,
    /// Every event that may be seen.
    seen: BTreeSet<u64>,
    /// Messages of others while there, and what was reported first.
    owed: BTreeMap<u64, Option<ReceiptKind>>,
}

struct World {
    chance: Chance,
    machine: Conversation,
    log: Vec<Event>,
    people: BTreeMap<AddressOfRecord, Person>,
    retracted: BTreeSet<u64>,
    /// What came out, to be played again.
    played: Vec<Output>,
}

fn person(n: usize) -> AddressOfRecord {
    AddressOfRecord::new(&format!("p{n}"), "example.net").unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let (id, address) = (ConversationId(5), person(99));
        let roles = [Role::Member, Role::Guest, Role::Moderator];
        let machine = match chance.below(3) {
            0 => Conversation::open_pair(0, id, address, &person(0), &person(1)),
            1 => {
                let others = (0..4).map(|n| (person(n), roles[n % 3]));
                Conversation::open_group(0, id, address, &person(0), others, String::new())
            }
            _ => {
                let members = (0..4).map(|n| (person(n), [Role::Owner, Role::Member][n % 2]));
                Conversation::open_managed(0, id, address, &person(9), members, String::new())
            }
        };
        let mut world = Self {
            chance,
            machine: machine.unwrap(),
            log: Vec::new(),
            people: BTreeMap::new(),
            retracted: BTreeSet::new(),
            played: Vec::new(),
        };
        world.write_down();
        world
    }

    fn someone(&mut self) -> AddressOfRecord {
        person(self.chance.below(8))
    }

    /// An event, mostly one that is there, as the store would tell it.
    fn target(&mut self) -> Target {
        let seq = self.chance.below(self.log.len() + 2) as u64;
        match self.log.iter().find(|event| event.seq == seq) {
            Some(event) => Target::of(event, self.retracted.contains(&seq)),
            None => Target {
                seq,
                author: self.someone(),
                kind: TargetKind::Text,
                retracted: false,
            },
        }
    }

    fn command(&mut self) -> Command {
        let roles = [Role::Guest, Role::Member, Role::Moderator, Role::Owner];
        let histories = [
            History::FromNow,
            History::All,
            History::Last(0),
            History::Last(3),
            History::Last(u32::MAX),
        ];
        match self.chance.below(20) {
            0..=7 => Command::Post(Content::Text {
                text: "x".into(),
                format: TextFormat::Plain,
                reply_to: (self.chance.below(4) == 0).then(|| self.target().seq),
            }),
            8 => Command::React {
                target: self.target(),
                emoji: "👍".into(),
                removed: self.chance.below(2) == 0,
            },
            9 => Command::Edit {
                target: self.target(),
                text: "y".into(),
                format: TextFormat::Plain,
            },
            10 => Command::Retract {
                target: self.target(),
            },
            11..=13 => Command::AddMember {
                member: self.someone(),
                role: self.chance.pick(&roles),
                history: self.chance.pick(&histories),
            },
            14..=16 => Command::RemoveMember {
                member: self.someone(),
            },
            17 => Command::SetRole {
                member: self.someone(),
                role: self.chance.pick(&roles),
            },
            18 => Command::SetSubject {
                subject: self.chance.pick(&["", "a", "b"]).into(),
            },
            _ => Command::Announce { text: "z".into() },
        }
    }

    fn input(&mut self) -> Input {
        if self.chance.below(3) > 0 {
            let authority = match self.chance.below(8) {
                0 => Authority::Administrator,
                _ => Authority::Participant,
            };
            return Input::Command {
                author: self.someone(),
                authority,
                command: self.command(),
            };
        }
        let kinds = [
            ReceiptKind::Delivered,
            ReceiptKind::Displayed,
            ReceiptKind::Failed,
        ];
        let seq = self.chance.below(self.log.len() + 2) as u64;
        let back = self.chance.pick(&[0, 0, 0, 1, 4, 1_000]);
        Input::Receipt {
            member: self.someone(),
            from_seq: seq.saturating_sub(back),
            seq,
            kind: self.chance.pick(&kinds),
        }
    }

    fn step(&mut self) {
        let input = self.input();
        let before = self.machine.snapshot();
        self.machine.handle_input(self.log.len() as u64, input);
        let refused = self.write_down();
        if refused {
            assert_eq!(self.machine.snapshot(), before, "refused, and yet changed");
        }
        assert!(self.machine.epoch() >= before.epoch);
    }

    /// Performs what came out; says whether it was a refusal.
    fn write_down(&mut self) -> bool {
        let outputs: Vec<Output> = std::iter::from_fn(|| self.machine.poll_output()).collect();
        let refused = matches!(outputs[..], [Output::Refused(_)]);
        let appended = self.log.len();
        for output in &outputs {
            match output {
                Output::Append(event) => self.append(event),
                Output::Deliver { seq, to } => {
                    let event = &self.log[usize::try_from(*seq).unwrap() - 1];
                    assert!(
                        self.people[to].seen.contains(seq),
                        "{to} must not see {seq}"
                    );
                    assert_ne!(&event.author, to);
                }
                Output::Receipt(receipt) => {
                    let owed = &mut self.people.get_mut(&receipt.member).unwrap().owed;
                    for first in owed.range_mut(receipt.from_seq..=receipt.seq) {
                        first.1.get_or_insert(receipt.kind);
                    }
                }
                Output::Refused(_) => assert!(refused, "a refusal comes alone"),
            }
        }
        self.check_deliveries(&outputs, appended);
        self.played.extend(outputs);
        refused
    }

    fn append(&mut self, event: &NewEvent) {
        assert_eq!(event.seq, self.log.len() as u64 + 1);
        assert!(self.log.last().is_none_or(|last| last.epoch <= event.epoch));
        let last_epoch = self.log.last().map_or(1, |last| last.epoch);
        assert_eq!(
            event.epoch - last_epoch,
            u32::from(event.body.changes_members())
        );
        let seq = event.seq;
        match &event.body {
            EventBody::Opened { members, .. } => {
                for (member, role) in members {
                    self.people.entry(member.clone()).or_default().role = Some(*role);
                }
            }
            EventBody::MemberAdded {
                member,
                role,
                horizon,
                ..
            } => {
                let shown: BTreeSet<u64> = (*horizon..seq).collect();
                let managing = self.machine.founded_as() == sidetone_model::Kind::Managed;
                let adder = self.people.get(&event.author);
                let adder = adder.filter(|p| p.role.is_some());
                let may_show = adder.is_some_and(|p| shown.is_subset(&p.seen));
                assert!(may_show || shown.is_empty() || managing);
                let person = self.people.entry(member.clone()).or_default();
                assert_eq!(person.role, None);
                person.role = Some(*role);
                person.seen.extend(shown);
            }
            EventBody::MemberRemoved { member } => {
                let person = self.people.get_mut(member).unwrap();
                person.seen.insert(seq);
                assert!(person.role.take().is_some());
            }
            EventBody::RoleChanged { member, role } => {
                let person = self.people.get_mut(member).unwrap();
                assert!(person.role.replace(*role).is_some());
            }
            EventBody::Retraction { target } => assert!(self.retracted.insert(*target)),
            _ => {}
        }
        for (address, person) in &mut self.people {
            if person.role.is_some() {
                person.seen.insert(seq);
                if event.body.is_message() && *address != event.author {
                    person.owed.insert(seq, None);
                }
            }
        }
        self.log.push(event.clone().with_id(EventId(1)));
    }

    /// Everybody who sees a new event, but its author, is brought it once; a new wording only who sees the old one.
    fn check_deliveries(&self, outputs: &[Output], appended: usize) {
        let mut expected = Vec::new();
        for event in &self.log[appended..] {
            let about = match event.body {
                EventBody::Edit { target, .. } => target,
                _ => event.seq,
            };
            let seeing = self.people.iter().filter(|(address, p)| {
                p.seen.contains(&event.seq) && p.seen.contains(&about) && **address != event.author
            });
            expected.extend(seeing.map(|(address, _)| (event.seq, address)));
        }
        let delivered = outputs.iter().filter_map(|output| match output {
            Output::Deliver { seq, to } => Some((*seq, to)),
            _ => None,
        });
        // Somebody who is added with history has it from the store: only the adding itself is brought.
        assert_eq!(delivered.collect::<Vec<_>>(), expected);
    }

    fn check_visibility(&self) {
        for (address, person) in &self.people {
            let ranges = self.machine.visible_ranges(address);
            for seq in 0..self.log.len() as u64 + 2 {
                let seen = person.seen.contains(&seq);
                assert_eq!(self.machine.visible(address, seq), seen, "{address} {seq}");
                let ranged = ranges.iter().any(|range| range.contains(seq));
                assert_eq!(ranged, seen, "{address} {seq} {ranges:?}");
            }
            assert_eq!(self.machine.role(address), person.role);
        }
    }

    fn check_deliveries_exact(&self) {
        for (address, person) in &self.people {
            for (seq, first) in &person.owed {
                let now = self.machine.delivery(address, *seq).unwrap();
                let fits = match first {
                    None => now == Delivery::Pending,
                    Some(ReceiptKind::Failed) => now == Delivery::Failed,
                    Some(ReceiptKind::Displayed) => now == Delivery::Displayed,
                    Some(ReceiptKind::Delivered) => {
                        matches!(now, Delivery::Delivered | Delivery::Displayed)
                    }
                };
                assert!(fits, "{address} {seq}: {first:?} and {now:?}");
            }
        }
    }

    /// The log and the receipts, in the order in which they came out, give the same state.
    fn check_replay(&self) {
        let mut copy = Conversation::replay(&self.log[..1]).unwrap();
        let mut events = self.log[1..].iter();
        for output in &self.played[1..] {
            match output {
                Output::Append(_) => copy.apply(events.next().unwrap()).unwrap(),
                Output::Receipt(receipt) => copy.apply_receipt(receipt),
                _ => {}
            }
        }
        assert_eq!(copy.snapshot(), self.machine.snapshot());
    }

    fn check_restore(&self) {
        let snapshot = self.machine.snapshot();
        let restored = Conversation::restore(snapshot.clone());
        assert_eq!(restored.snapshot(), snapshot);
        assert_eq!(restored.kind(), self.machine.kind());
        assert_eq!(restored.member_count(), self.machine.member_count());
    }

    /// Every recipient reports everything that is open.
    fn everybody_reports(&mut self) {
        let kinds = [
            ReceiptKind::Delivered,
            ReceiptKind::Displayed,
            ReceiptKind::Failed,
        ];
        let owed: Vec<(AddressOfRecord, u64)> = self
            .people
            .iter()
            .flat_map(|(address, person)| {
                let open = person.owed.iter().filter(|(_, first)| first.is_none());
                open.map(|(seq, _)| (address.clone(), *seq))
            })
            .collect();
        for (member, seq) in owed {
            let kind = self.chance.pick(&kinds);
            self.machine.handle_input(
                0,
                Input::Receipt {
                    member,
                    from_seq: seq,
                    seq,
                    kind,
                },
            );
            assert!(!self.write_down(), "a receipt for what is owed");
        }
    }
}

#[test]
fn whatever_people_do() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for step in 0..150 {
            world.step();
            if step % 10 == 0 {
                world.check_visibility();
                world.check_deliveries_exact();
                world.check_restore();
            }
        }
        world.check_replay();
        world.everybody_reports();
        world.check_deliveries_exact();
        world.check_visibility();
        let open = world.people.values().flat_map(|p| p.owed.values());
        assert!(open.flatten().count() > 0, "seed {seed}: nothing was said");
        for address in world.people.keys() {
            assert_eq!(world.machine.pending(address), [], "seed {seed}");
        }
        world.check_replay();
        world.check_restore();
    }
}

#[test]
fn a_restored_conversation_goes_on_like_the_one_that_was_not() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        for _ in 0..80 {
            world.step();
        }
        let mut twin = Conversation::restore(world.machine.snapshot());
        for _ in 0..80 {
            let input = world.input();
            let now_ms = world.log.len() as u64;
            twin.handle_input(now_ms, input.clone());
            world.machine.handle_input(now_ms, input);
            let outputs: Vec<Output> = std::iter::from_fn(|| twin.poll_output()).collect();
            let played = world.played.len();
            world.write_down();
            assert_eq!(outputs, world.played[played..], "seed {seed}");
            assert_eq!(twin.snapshot(), world.machine.snapshot(), "seed {seed}");
        }
    }
}
