//! Which algorithms a challenge offers to which client (RFC 8760 §2.4).
//!
//! *Invariant: what is offered depends on what the client says and did, never on whether
//! the user exists.*

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sidetone_sip::{Algorithm, HeaderName, Message};

/// The challenges of one answer, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// SHA-256, then MD5: a client takes the first that it knows (RFC 8760 §2.4).
    Both,
    /// MD5, then SHA-256, for clients that look at the first only.
    Md5First,
    /// MD5 alone, for clients that give up when they see another.
    Md5Only,
}

impl Offer {
    /// The algorithms in the order in which they are offered.
    pub fn algorithms(self) -> &'static [Algorithm] {
        match self {
            Self::Both => &[Algorithm::Sha256, Algorithm::Md5],
            Self::Md5First => &[Algorithm::Md5, Algorithm::Sha256],
            Self::Md5Only => &[Algorithm::Md5],
        }
    }
}

/// What a client's own words call for.
pub fn offer(message: &Message) -> Offer {
    let agent = message.header(HeaderName::UserAgent).unwrap_or(b"");
    let contains = |name: &[u8]| agent.windows(name.len()).any(|window| window == name);
    // COMPAT(baresip 1.x and older, libre): any challenge that is not MD5 makes it give up.
    if agent.starts_with(b"baresip v1.") || agent.starts_with(b"baresip v0.") {
        return Offer::Md5Only;
    }
    // COMPAT(SIP.js, JsSIP): they know MD5 only, and of two challenges one looks at the last
    // and the other at the first.
    if contains(b"SIP.js") || contains(b"JsSIP") {
        return Offer::Md5Only;
    }
    // COMPAT(sipp 3.6): it looks at the first challenge and knows MD5 only.
    if agent.starts_with(b"SIPp") || has_sipp_branch(message) {
        return Offer::Md5First;
    }
    Offer::Both
}

/// sipp's branches: `z9hG4bK-<pid>-<call>-<message>`.
fn has_sipp_branch(message: &Message) -> bool {
    let via = message.top_via().ok();
    let Some(rest) = via.and_then(|via| via.branch()?.strip_prefix("z9hG4bK-")) else {
        return false;
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    rest.split('-').count() == 3 && rest.split('-').all(is_number)
}

const WAYS: usize = 4;
const SETS: usize = 1024;
/// A request this soon after the offer was under way before it, and says nothing.
const ANSWER_MIN_MS: u64 = 1_000;
/// A request this late is a new beginning.
const ANSWER_MAX_MS: u64 = 120_000;
/// After so long a client may have been updated, and is asked again.
const MEMORY_MS: u64 = 86_400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Experience {
    /// Got both and has not answered yet.
    #[default]
    Offered,
    /// Has answered a challenge.
    Answers,
    /// Came again without credentials: it did not like what it saw.
    GaveUp,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Keyed hash of source and From; 0 is empty.
    tag: u64,
    at_ms: u64,
    request: u32,
    experience: Experience,
}

/// What was seen of the 4,096 clients challenged last, before anything is known of them:
/// 128 KiB, never more. COMPAT(older phones): one that falls silent over a challenge with
/// two algorithms and then begins anew gets MD5 alone.
#[derive(Debug)]
pub struct OfferMemory {
    hasher: RandomState,
    slots: Mutex<Vec<Slot>>,
}

impl Default for OfferMemory {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            slots: Mutex::new(vec![Slot::default(); WAYS * SETS]),
        }
    }
}

impl OfferMemory {
    /// What to offer for a request that came without credentials.
    pub fn challenge(&self, message: &Message, source: IpAddr, now_ms: u64) -> Offer {
        let stated = offer(message);
        if stated != Offer::Both {
            return stated;
        }
        let request = self.request_of(message);
        let tag = self.tag(message, source);
        let mut slots = self.lock();
        let slot = slot_for(&mut slots, tag);
        if slot.tag != tag || now_ms.saturating_sub(slot.at_ms) > MEMORY_MS {
            *slot = Slot {
                tag,
                at_ms: now_ms,
                request,
                experience: Experience::Offered,
            };
        }
        slot.challenge(request, now_ms)
    }

    /// What to offer to a client that came with credentials whose nonce is no longer good:
    /// it answers challenges, so its next request without credentials is no giving up.
    pub fn renew(&self, message: &Message, source: IpAddr) -> Offer {
        let tag = self.tag(message, source);
        let mut slots = self.lock();
        let slot = slot_for(&mut slots, tag);
        if slot.tag != tag {
            return offer(message);
        }
        match slot.experience {
            Experience::GaveUp => Offer::Md5Only,
            Experience::Offered | Experience::Answers => {
                slot.experience = Experience::Answers;
                offer(message)
            }
        }
    }

    /// The client answered a challenge, whether rightly or not. An answer that was wrong
    /// where MD5 was all it was offered makes it be offered both again.
    pub fn answered(&self, message: &Message, source: IpAddr, right: bool) {
        let tag = self.tag(message, source);
        let mut slots = self.lock();
        let slot = slot_for(&mut slots, tag);
        if slot.tag == tag && (!right || slot.experience == Experience::Offered) {
            slot.experience = Experience::Answers;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tag(&self, message: &Message, source: IpAddr) -> u64 {
        let from = message.from().map_or("", |from| from.uri);
        self.hasher.hash_one((source, from)).max(1)
    }

    fn request_of(&self, message: &Message) -> u32 {
        let branch = message.top_via().ok().and_then(|via| via.branch());
        let cseq = message.cseq().map_or(0, |cseq| cseq.number);
        let hash = self
            .hasher
            .hash_one(Request(message.call_id(), cseq, branch));
        u32::try_from(hash >> 32).unwrap_or(0)
    }
}

#[derive(Hash)]
struct Request<'a>(&'a [u8], u32, Option<&'a str>);

/// The slot of a tag, or the one of its set that was challenged longest ago.
fn slot_for(slots: &mut [Slot], tag: u64) -> &mut Slot {
    let [low, high, ..] = tag.to_le_bytes();
    let first = usize::from(u16::from_le_bytes([low, high])) % SETS * WAYS;
    let set = &slots[first..first + WAYS];
    let known = set.iter().position(|slot| slot.tag == tag);
    let oldest = || {
        set.iter()
            .enumerate()
            .min_by_key(|(_, slot)| slot.at_ms)
            .map_or(0, |(at, _)| at)
    };
    let at = first + known.unwrap_or_else(oldest);
    &mut slots[at]
}

impl Slot {
    fn challenge(&mut self, request: u32, now_ms: u64) -> Offer {
        let waited_ms = now_ms.saturating_sub(self.at_ms);
        if self.experience == Experience::Offered && request != self.request {
            if (ANSWER_MIN_MS..=ANSWER_MAX_MS).contains(&waited_ms) {
                self.experience = Experience::GaveUp;
            } else if waited_ms > ANSWER_MAX_MS {
                self.request = request;
            }
        }
        let first_offer_stands =
            self.experience == Experience::Offered && waited_ms <= ANSWER_MAX_MS;
        if !first_offer_stands {
            self.at_ms = now_ms;
        }
        if self.experience == Experience::GaveUp {
            Offer::Md5Only
        } else {
            Offer::Both
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sidetone_sip::{Framing, Limits};

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn request(user: &str, cseq: u32, agent: &str, branch: &str) -> Message {
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch={branch}\r\n\
             From: <sip:{user}@example.com>;tag=1\r\nTo: <sip:{user}@example.com>\r\nCall-ID: c\r\n\
             CSeq: {cseq} REGISTER\r\nUser-Agent: {agent}\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text), Framing::Datagram, &Limits::default())
            .expect("well-formed")
    }

    fn plain(user: &str, cseq: u32) -> Message {
        request(user, cseq, "Phone/1", "z9hG4bKx")
    }

    fn source() -> IpAddr {
        "192.0.2.1".parse().expect("an address")
    }

    #[test]
    fn known_clients_get_what_they_understand() {
        for (agent, branch, expected) in [
            ("Linphone/5.1", "z9hG4bK.abc", Offer::Both),
            (
                "baresip v1.0.0 (x86_64/linux)",
                "z9hG4bKabc",
                Offer::Md5Only,
            ),
            ("baresip v0.6.5", "z9hG4bKabc", Offer::Md5Only),
            ("baresip v3.1.0", "z9hG4bKabc", Offer::Both),
            ("Phone SIP.js/0.21.2", "z9hG4bKabc", Offer::Md5Only),
            ("JsSIP 3.10.1", "z9hG4bKabc", Offer::Md5Only),
            ("SIPp/Linux", "z9hG4bKabc", Offer::Md5First),
            ("Phone", "z9hG4bK-1234-1-0", Offer::Md5First),
            ("Phone", "z9hG4bK-1234-1", Offer::Both),
            ("Phone", "z9hG4bK-1234-1-0-5", Offer::Both),
            ("Phone", "z9hG4bK-1234-a-0", Offer::Both),
            ("Phone", "z9hG4bK---", Offer::Both),
        ] {
            assert_eq!(
                offer(&request("a", 1, agent, branch)),
                expected,
                "{agent} {branch}"
            );
        }
    }

    #[test]
    fn a_phone_that_gives_up_gets_md5_alone() {
        let memory = OfferMemory::default();
        let at = |cseq, later_ms| memory.challenge(&plain("a", cseq), source(), NOW_MS + later_ms);
        assert_eq!(at(1, 0), Offer::Both);
        assert_eq!(at(1, 4_000), Offer::Both, "a retransmission");
        assert_eq!(at(2, 30_000), Offer::Md5Only);
        assert_eq!(at(2, 31_000), Offer::Md5Only);
        assert_eq!(memory.renew(&plain("a", 3), source()), Offer::Md5Only);
        memory.answered(&plain("a", 3), source(), true);
        assert_eq!(at(4, 3_600_000), Offer::Md5Only, "it is remembered");
        assert_eq!(at(5, 3_600_000 + MEMORY_MS + 1), Offer::Both, "for a day");
        assert_eq!(
            memory.challenge(&plain("b", 2), source(), NOW_MS + 30_000),
            Offer::Both
        );
    }

    #[test]
    fn a_phone_that_answers_is_never_taken_down() {
        let memory = OfferMemory::default();
        let at = |cseq, later_ms| memory.challenge(&plain("a", cseq), source(), NOW_MS + later_ms);
        assert_eq!(at(1, 0), Offer::Both);
        assert_eq!(at(2, 20), Offer::Both, "sent before the first answer");
        memory.answered(&plain("a", 3), source(), true);
        for step in 1..50 {
            assert_eq!(at(3 + step, u64::from(step) * 10_000), Offer::Both);
        }
    }

    #[test]
    fn a_late_beginning_is_no_giving_up_and_a_wrong_answer_starts_over() {
        let memory = OfferMemory::default();
        let at = |cseq, later_ms| memory.challenge(&plain("a", cseq), source(), NOW_MS + later_ms);
        assert_eq!(at(1, 0), Offer::Both);
        assert_eq!(at(2, ANSWER_MAX_MS + 1), Offer::Both);
        assert_eq!(
            at(2, ANSWER_MAX_MS + 5_000),
            Offer::Both,
            "a retransmission of the second"
        );
        assert_eq!(at(3, ANSWER_MAX_MS + 20_000), Offer::Md5Only);
        memory.answered(&plain("a", 4), source(), false);
        assert_eq!(at(5, ANSWER_MAX_MS + 40_000), Offer::Both);
    }

    #[test]
    fn the_memory_is_bounded() {
        let memory = OfferMemory::default();
        for number in 0..20_000 {
            memory.challenge(&plain(&format!("u{number}"), 1), source(), NOW_MS + number);
        }
        assert_eq!(memory.lock().len(), WAYS * SETS);
        assert!(size_of::<Slot>() <= 32);
    }
}
