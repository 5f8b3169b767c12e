//! The calls that pass through the proxy, as the users' lamps show them (RFC 4235).
//!
//! What is shown is read off the messages that pass: INVITE, its answers, BYE. A call of which nothing more is heard
//! ends by itself: at the end of its session timer (RFC 4028), after [`LASTS_MS`] where it has none, or when the
//! user's last device is gone.
//!
//! *Invariant*: the table holds [`CALLS_MAX`] calls at most; more calls pass, and are not shown.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sidetone_model::AddressOfRecord;
use sidetone_services::Change;
use sidetone_services::presence::{Call, CallId, CallState, Direction, Party};
use sidetone_sip::{Message, Method, ServerId};

use super::{Now, Shard};

/// Calls of one shard.
const CALLS_MAX: usize = 100_000;
/// A call without a session timer.
const LASTS_MS: u64 = 4 * 60 * 60 * 1_000;
/// A session timer that says less is not believed (RFC 4028 §5), and a BYE may be late.
const SESSION_MIN_S: u64 = 90;
const LATE_MS: u64 = 32_000;
/// Octets of a name or URI that are kept.
const TEXT_MAX: usize = 256;

#[derive(Debug)]
struct Record {
    id: CallId,
    /// Our users who take part.
    users: [Option<AddressOfRecord>; 2],
    ends_ms: u64,
    lasts_ms: u64,
}

/// The calls of one shard.
#[derive(Debug, Default)]
pub(super) struct Calls {
    by_call_id: HashMap<Arc<str>, Record>,
    /// INVITEs without a final answer.
    ringing: HashMap<ServerId, Arc<str>>,
    ends: BTreeSet<(u64, Arc<str>)>,
}

impl Calls {
    pub(super) fn next_timeout_ms(&self) -> Option<u64> {
        self.ends.first().map(|(at_ms, _)| *at_ms)
    }

    fn prolong(&mut self, now_ms: u64, call_id: &str, lasts_ms: Option<u64>) {
        if let Some(record) = self.by_call_id.get_mut(call_id) {
            record.lasts_ms = lasts_ms.unwrap_or(record.lasts_ms);
            let key = Arc::clone(&record.id.call_id);
            self.ends.remove(&(record.ends_ms, Arc::clone(&key)));
            record.ends_ms = now_ms + record.lasts_ms;
            self.ends.insert((record.ends_ms, key));
        }
    }

    fn remove(&mut self, call_id: &str) -> Option<Record> {
        let record = self.by_call_id.remove(call_id)?;
        self.ends
            .remove(&(record.ends_ms, Arc::clone(&record.id.call_id)));
        Some(record)
    }
}

impl Shard {
    /// An INVITE outside of a dialog goes to its targets.
    pub(super) fn call_begins(
        &mut self,
        now: Now,
        server: ServerId,
        request: &Message,
        caller: Option<AddressOfRecord>,
    ) {
        if request.method() != Some(Method::Invite)
            || request.to().is_ok_and(|to| to.tag().is_some())
            || self.calls.by_call_id.len() >= CALLS_MAX
        {
            return;
        }
        let services = &self.services;
        let callee = services
            .directory
            .resolve(&services.domains, request.request_uri())
            .map(|account| account.address);
        let Some(id) = id_of(request).filter(|_| caller.is_some() || callee.is_some()) else {
            return;
        };
        if self.calls.by_call_id.contains_key(&id.call_id) {
            return;
        }
        let key = Arc::clone(&id.call_id);
        let ends_ms = now.unix_ms + LASTS_MS;
        self.calls.ringing.insert(server, Arc::clone(&key));
        self.calls.ends.insert((ends_ms, Arc::clone(&key)));
        let record = Record {
            id: id.clone(),
            users: [caller.clone(), callee.clone()],
            ends_ms,
            lasts_ms: LASTS_MS,
        };
        self.calls.by_call_id.insert(key, record);
        let sides = [
            (caller, Direction::Initiator),
            (callee, Direction::Recipient),
        ];
        for (user, direction) in sides {
            let Some(user) = user else { continue };
            let call = Call {
                id: id.clone(),
                number: self.endpoint.random(),
                direction,
                state: CallState::Trying,
                remote: remote_of(request, direction),
            };
            // Nobody is told before it rings: the lamp would then blink a second late (RFC 4235 §3.10).
            self.services.board.call_begins(&user, call);
        }
    }

    /// An answer to a forwarded request came in.
    pub(super) fn call_answered(&mut self, now: Now, answer: &Message) {
        let status = answer.status().unwrap_or_default();
        if self.calls.by_call_id.is_empty() || !(101..300).contains(&status) {
            return;
        }
        let method = answer.cseq().ok().map(|cseq| cseq.method);
        let Some(id) = id_of(answer) else { return };
        let (invite, update) = (
            method == Some(Method::Invite),
            method == Some(Method::Update),
        );
        if (invite || update) && status >= 200 {
            let lasts_ms = session_ms(answer);
            self.calls.prolong(now.unix_ms, &id.call_id, lasts_ms);
        }
        if invite {
            let state = if status < 200 {
                CallState::Early
            } else {
                CallState::Confirmed
            };
            self.call_is(now, &id, state);
        }
    }

    fn call_is(&mut self, now: Now, id: &CallId, state: CallState) {
        let record = self.calls.by_call_id.get(&id.call_id);
        let Some(record) = record.filter(|record| record.id == *id) else {
            return;
        };
        let users = record.users.clone();
        for user in users.iter().flatten() {
            if self.services.board.call_goes_on(user, id, state) {
                self.changed(now, user, Change::Calls);
            }
        }
    }

    /// INVITEs that got their final answer: those that nobody took are over.
    pub(super) fn calls_settle(&mut self, now: Now) {
        while let Some(done) = self.proxy.poll_done() {
            let call_id = self.calls.ringing.remove(&done.server);
            if let Some(call_id) = call_id.filter(|_| !done.succeeded) {
                self.call_over(now, &call_id);
            }
        }
    }

    /// A BYE goes on within its dialog.
    pub(super) fn call_ends(&mut self, now: Now, request: &Message) {
        if request.method() != Some(Method::Bye) {
            return;
        }
        let Ok(call_id) = std::str::from_utf8(request.call_id()) else {
            return;
        };
        let tag = |address: Result<sidetone_sip::NameAddr<'_>, _>| {
            address
                .ok()
                .and_then(|address| address.tag().map(str::to_owned))
        };
        let tags = [tag(request.from()), tag(request.to())];
        let record = self.calls.by_call_id.get(call_id);
        let of_it = record.is_some_and(|record| {
            let mut tags = tags.iter().flatten();
            tags.any(|tag| *tag == *record.id.caller_tag)
        });
        if of_it {
            self.call_over(now, &Arc::from(call_id));
        }
    }

    fn call_over(&mut self, now: Now, call_id: &Arc<str>) {
        let Some(record) = self.calls.remove(call_id) else {
            return;
        };
        for user in record.users.iter().flatten() {
            let board = &self.services.board;
            if board.call_goes_on(user, &record.id, CallState::Terminated) {
                self.changed(now, user, Change::Calls);
            }
        }
    }

    /// Ends calls of which nothing more was heard.
    pub(super) fn calls_timeout(&mut self, now: Now) {
        while let Some((at_ms, call_id)) = self.calls.ends.first().cloned()
            && at_ms <= now.unix_ms
        {
            self.calls.ends.pop_first();
            self.call_over(now, &call_id);
        }
    }
}

fn id_of(message: &Message) -> Option<CallId> {
    let call_id = std::str::from_utf8(message.call_id()).ok()?;
    let from = message.from().ok()?;
    Some(CallId {
        call_id: call_id.into(),
        caller_tag: from.tag()?.into(),
    })
}

/// RFC 4028 §4.
fn session_ms(answer: &Message) -> Option<u64> {
    let value = answer.header_by_name("Session-Expires")?;
    let value = std::str::from_utf8(value).ok()?;
    let seconds: u32 = value.split(';').next()?.trim().parse().ok()?;
    Some(u64::from(seconds).max(SESSION_MIN_S) * 1_000 + LATE_MS)
}

fn remote_of(request: &Message, direction: Direction) -> Party {
    let other = match direction {
        Direction::Initiator => request.to(),
        Direction::Recipient => request.from(),
    };
    let Ok(other) = other else {
        return Party::default();
    };
    let name = other
        .display
        .map(String::from_utf8_lossy)
        .unwrap_or_default();
    let cut = |text: &str| text.chars().take(TEXT_MAX).collect();
    Party {
        name: cut(name.trim().trim_matches('"')),
        uri: cut(other.uri),
    }
}
