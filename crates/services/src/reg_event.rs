//! Registration events (RFC 3680): who watches which address, and what they are told.
//!
//! *Invariant: what a subscriber has been told is what it can compute the registration from*:
//! versions count up by one, a change that could not be told yet is kept or replaced by the
//! full state. At most one NOTIFY per subscription is under way.
//!
//! Who may watch is the caller's decision; what is kept is bounded by [`RegEventLimits`].

mod contacts;
mod reginfo;
mod subscriber;
mod watch_list;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use sidetone_model::{AddressOfRecord, Binding, DeviceId};
use sidetone_sip::{DialogRequest, Flow, Message, Notifier, Refused, Subscription, Termination};

use contacts::Contacts;
pub use contacts::Removal;
use subscriber::Subscriber;
pub use subscriber::Watcher;
pub use watch_list::WatchList;

/// The package's name in Event and Allow-Events.
pub const EVENT: &str = "reg";

const NOTIFIER: Notifier = Notifier {
    event: EVENT,
    content_type: "application/reginfo+xml",
    min_expires_s: 60,
    max_expires_s: 86_400,
    // RFC 3680 §4.4.
    default_expires_s: 3_761,
};

/// Whether a request names this package.
pub fn is_served(request: &Message) -> bool {
    NOTIFIER.is_named_by(request)
}

/// How much is kept, and how often a subscriber is told.
#[derive(Debug, Clone, Copy)]
pub struct RegEventLimits {
    /// Subscriptions in all.
    pub subscriptions: usize,
    /// Subscriptions to one address.
    pub per_address: usize,
    /// The least time between two NOTIFYs of a subscription (RFC 3680 §4.10).
    pub interval_ms: u64,
}

impl Default for RegEventLimits {
    fn default() -> Self {
        Self {
            subscriptions: 10_000,
            per_address: 16,
            interval_ms: 5_000,
        }
    }
}

/// What to answer to a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeAnswer {
    /// The code; a 200 copies Record-Route and has the tag that was given.
    pub status: u16,
    /// Why it is refused; empty for a 200.
    pub reason: &'static str,
    /// Header fields beside the usual ones.
    pub headers: Vec<(&'static str, String)>,
}

impl From<Refused> for SubscribeAnswer {
    fn from(refused: Refused) -> Self {
        Self {
            status: refused.status,
            reason: refused.reason,
            headers: refused.headers,
        }
    }
}

/// A NOTIFY to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Names it when it ends: [`RegEvents::answered`] or [`RegEvents::failed`].
    pub ticket: u64,
    /// The flow by which the last SUBSCRIBE came.
    pub flow: Flow,
    /// The request, with the URI of its next hop; it lacks its Via.
    pub request: DialogRequest,
}

#[derive(Debug)]
struct Watched {
    contacts: Contacts,
    subscribers: Vec<u64>,
    /// When the first contact ends: its place in `expiries`.
    expiry_ms: Option<u64>,
}

/// All subscriptions to registrations of one shard.
#[derive(Debug, Default)]
pub struct RegEvents {
    limits: RegEventLimits,
    list: Arc<WatchList>,
    /// Each is on the list.
    watched: HashMap<AddressOfRecord, Watched>,
    /// When contacts end, with the id of their registration.
    expiries: BTreeMap<(u64, u64), AddressOfRecord>,
    subscribers: HashMap<u64, Subscriber>,
    /// Subscriptions by the NOTIFYs that are under way.
    under_way: HashMap<u64, u64>,
    /// Subscriptions by Call-ID.
    dialogs: HashMap<Box<[u8]>, Vec<u64>>,
    timers: BTreeSet<(u64, u64)>,
    line: VecDeque<u64>,
    numbers: u64,
}

impl RegEvents {
    /// Nobody watches yet.
    pub fn new(limits: RegEventLimits, list: Arc<WatchList>) -> Self {
        Self {
            limits,
            list,
            ..Self::default()
        }
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Whether anybody watches the address here.
    pub fn is_watched(&self, address: &AddressOfRecord) -> bool {
        self.watched.contains_key(address)
    }

    /// The address that an existing subscription watches, by a request in its dialog.
    pub fn address_of(&self, request: &Message) -> Option<&AddressOfRecord> {
        Some(&self.subscribers.get(&self.find(request)?)?.address)
    }

    /// A SUBSCRIBE outside any dialog from someone who may watch `address`, whose bindings
    /// are then read. `contact_uri` leads back to this table, `tag` is new. The NOTIFY
    /// follows from [`RegEvents::poll`] after the answer.
    #[allow(clippy::too_many_arguments)] // Each is another fact about one request.
    pub fn subscribe(
        &mut self,
        now_ms: u64,
        from: Watcher,
        request: &Message,
        address: &AddressOfRecord,
        bindings: impl FnOnce() -> Vec<Binding>,
        contact_uri: &str,
        tag: &str,
    ) -> SubscribeAnswer {
        let made = NOTIFIER.subscribe(now_ms, request, contact_uri, tag);
        let (subscription, headers) = match made {
            Ok(made) => made,
            Err(refused) => return refused.into(),
        };
        if self.is_full(address) {
            return SubscribeAnswer {
                status: 503,
                reason: "too many subscriptions",
                headers: vec![("Retry-After", "60".into())],
            };
        }
        self.watch(now_ms, address, bindings);
        let number = self.enter(now_ms, from, address, subscription);
        self.schedule(now_ms, number);
        accepted(headers)
    }

    fn is_full(&self, address: &AddressOfRecord) -> bool {
        let watchers = self.watched.get(address);
        self.subscribers.len() >= self.limits.subscriptions
            || watchers.is_some_and(|all| all.subscribers.len() >= self.limits.per_address)
    }

    /// Puts the address on the list before its bindings are read, so that none is missed.
    fn watch(
        &mut self,
        now_ms: u64,
        address: &AddressOfRecord,
        bindings: impl FnOnce() -> Vec<Binding>,
    ) {
        if self.watched.contains_key(address) {
            return self.changed(now_ms, address, &bindings(), Removal::Unregistered);
        }
        self.list.add(address);
        let contacts = Contacts::new(self.number(), &bindings());
        let watched = Watched {
            contacts,
            subscribers: Vec::new(),
            expiry_ms: None,
        };
        self.watched.insert(address.clone(), watched);
        self.await_expiry(now_ms, address);
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn enter(
        &mut self,
        now_ms: u64,
        from: Watcher,
        address: &AddressOfRecord,
        subscription: Subscription,
    ) -> u64 {
        let number = self.number();
        if let Some(watched) = self.watched.get_mut(address) {
            watched.subscribers.push(number);
        }
        let call_id = subscription.dialog().call_id();
        self.dialogs.entry(call_id.into()).or_default().push(number);
        self.timers.insert((subscription.expires_at_ms(), number));
        let subscriber = Subscriber::new(now_ms, from, address.clone(), subscription);
        self.subscribers.insert(number, subscriber);
        self.list.subscribed();
        number
    }

    /// A SUBSCRIBE within a dialog, from someone who may watch [`RegEvents::address_of`] it.
    pub fn refresh(&mut self, now_ms: u64, from: Watcher, request: &Message) -> SubscribeAnswer {
        let found = self.find(request);
        let found = found.and_then(|number| Some((number, self.subscribers.get_mut(&number)?)));
        let Some((number, subscriber)) = found else {
            return SubscribeAnswer {
                status: 481,
                reason: "there is no such subscription",
                headers: Vec::new(),
            };
        };
        let before_ms = subscriber.subscription.expires_at_ms();
        let headers = match NOTIFIER.refresh(now_ms, request, &mut subscriber.subscription) {
            Ok(headers) => headers,
            Err(refused) => return refused.into(),
        };
        self.timers.remove(&(before_ms, number));
        self.timers
            .insert((subscriber.subscription.expires_at_ms(), number));
        (subscriber.flow, subscriber.device) = (from.flow, from.device);
        // RFC 6665 §4.2.1.2: a NOTIFY at once, whatever became of the last one.
        subscriber.full = true;
        subscriber.next_ms = now_ms;
        if let Some(ticket) = subscriber.awaited.take() {
            self.under_way.remove(&ticket);
        }
        self.schedule(now_ms, number);
        accepted(headers)
    }

    /// The bindings of an address are now these. Costs one look-up where nobody watches.
    pub fn changed(
        &mut self,
        now_ms: u64,
        address: &AddressOfRecord,
        bindings: &[Binding],
        removal: Removal,
    ) {
        let Some(watched) = self.watched.get_mut(address) else {
            return;
        };
        let changes = watched.contacts.update(now_ms, bindings, removal);
        if changes.is_empty() {
            return;
        }
        for number in watched.subscribers.clone() {
            if let Some(subscriber) = self.subscribers.get_mut(&number) {
                subscriber.add(&changes);
                subscriber.full |= std::mem::take(&mut subscriber.missed);
            }
            self.schedule(now_ms, number);
        }
        self.await_expiry(now_ms, address);
    }

    /// Notes when the first contact of an address ends, lest it is told only when the table is swept.
    fn await_expiry(&mut self, now_ms: u64, address: &AddressOfRecord) {
        let Some(watched) = self.watched.get_mut(address) else {
            return;
        };
        let id = watched.contacts.id;
        if let Some(before_ms) = watched.expiry_ms.take() {
            self.expiries.remove(&(before_ms, id));
        }
        if let Some(at_ms) = watched.contacts.next_expiry_ms() {
            // Later than now, lest one that stays in spite of its time keeps us here.
            let at_ms = at_ms.max(now_ms + 1);
            watched.expiry_ms = Some(at_ms);
            self.expiries.insert((at_ms, id), address.clone());
        }
    }

    /// Nobody may watch the address any more: it is gone, or was disabled.
    pub fn address_gone(&mut self, now_ms: u64, address: &AddressOfRecord, why: Termination) {
        self.changed(now_ms, address, &[], Removal::Rejected);
        let watched = self.watched.get(address);
        let numbers = watched.map_or_else(Vec::new, |watched| watched.subscribers.clone());
        numbers
            .into_iter()
            .for_each(|number| self.end(now_ms, number, why));
    }

    /// The device was removed: what it watches it may not watch any more.
    pub fn device_gone(&mut self, now_ms: u64, device: DeviceId) {
        let of_it = self.subscribers.iter().filter_map(|(number, subscriber)| {
            (subscriber.device == Some(device)).then_some(*number)
        });
        let numbers: Vec<u64> = of_it.collect();
        numbers
            .into_iter()
            .for_each(|number| self.end(now_ms, number, Termination::Rejected));
    }

    fn end(&mut self, now_ms: u64, number: u64, why: Termination) {
        if let Some(subscriber) = self.subscribers.get_mut(&number) {
            subscriber.ends = Some(why);
        }
        self.schedule(now_ms, number);
    }

    /// The next NOTIFY.
    pub fn poll(&mut self, now_ms: u64) -> Option<Notify> {
        loop {
            let number = self.line.pop_front()?;
            if let Some(notify) = self.notify(now_ms, number) {
                return Some(notify);
            }
        }
    }

    fn notify(&mut self, now_ms: u64, number: u64) -> Option<Notify> {
        let subscriber = self.subscribers.get_mut(&number)?;
        let contacts = &self.watched.get(&subscriber.address)?.contacts;
        let over = subscriber.is_over(now_ms);
        let changes = std::mem::take(&mut subscriber.changes);
        let full = std::mem::take(&mut subscriber.full) || changes.is_empty();
        let document = reginfo::Document {
            version: subscriber.version,
            full,
            address: &subscriber.address,
            contacts,
            changes: &changes,
        };
        let body = document.render(now_ms).into_bytes();
        let subscription = &mut subscriber.subscription;
        self.numbers += 1;
        let ticket = self.numbers;
        let notify = Notify {
            ticket,
            flow: subscriber.flow,
            request: NOTIFIER.notify(now_ms, subscription, subscriber.ends, body),
        };
        subscriber.version = subscriber.version.wrapping_add(1);
        subscriber.awaited = Some(ticket);
        subscriber.in_line = false;
        subscriber.next_ms = now_ms + self.limits.interval_ms;
        self.under_way.insert(ticket, number);
        if over {
            self.remove(number);
        }
        Some(notify)
    }

    /// A NOTIFY was answered.
    pub fn answered(&mut self, now_ms: u64, ticket: u64, status: u16) {
        if status < 200 {
            return;
        }
        let Some(number) = self.under_way.remove(&ticket) else {
            return;
        };
        if Subscription::ends_by(status) {
            return self.remove(number);
        }
        if let Some(subscriber) = self.subscribers.get_mut(&number) {
            subscriber.awaited = None;
            subscriber.missed |= status >= 300;
        }
        self.schedule(now_ms, number);
    }

    /// A NOTIFY came to nothing: RFC 6665 §4.2.2 ends the subscription.
    pub fn failed(&mut self, ticket: u64) {
        if let Some(number) = self.under_way.remove(&ticket) {
            self.remove(number);
        }
    }

    /// When [`RegEvents::handle_timeout`] has something to do.
    pub fn next_timeout_ms(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at_ms, _)| *at_ms);
        let expiry = self.expiries.keys().next().map(|(at_ms, _)| *at_ms);
        timer.into_iter().chain(expiry).min()
    }

    /// Ends what is over and tells what was put off; `bindings` are those of an address now.
    pub fn handle_timeout(
        &mut self,
        now_ms: u64,
        bindings: impl Fn(&AddressOfRecord) -> Vec<Binding>,
    ) {
        while let Some(first) = self.expiries.first_entry()
            && first.key().0 <= now_ms
        {
            let address = first.get().clone();
            self.changed(now_ms, &address, &bindings(&address), Removal::Expired);
            self.await_expiry(now_ms, &address);
        }
        while let Some(&(at_ms, number)) = self.timers.first() {
            if at_ms > now_ms {
                return;
            }
            self.timers.pop_first();
            if let Some(subscriber) = self.subscribers.get_mut(&number)
                && subscriber.deferred_ms == Some(at_ms)
            {
                subscriber.deferred_ms = None;
            }
            self.schedule(now_ms, number);
        }
    }

    /// Puts a subscriber in line, or off to when it may be told.
    fn schedule(&mut self, now_ms: u64, number: u64) {
        let Some(subscriber) = self.subscribers.get_mut(&number) else {
            return;
        };
        if subscriber.in_line {
            return;
        }
        let over = subscriber.is_over(now_ms);
        if !over && (subscriber.awaited.is_some() || !subscriber.has_news()) {
            return;
        }
        if over || subscriber.next_ms <= now_ms {
            subscriber.in_line = true;
            self.line.push_back(number);
        } else if subscriber.deferred_ms.is_none() {
            subscriber.deferred_ms = Some(subscriber.next_ms);
            self.timers.insert((subscriber.next_ms, number));
        }
    }

    fn find(&self, request: &Message) -> Option<u64> {
        let numbers = self.dialogs.get(request.call_id())?;
        let of = |number: &&u64| {
            let subscriber = self.subscribers.get(number);
            subscriber.is_some_and(|subscriber| subscriber.subscription.is_of(request))
        };
        numbers.iter().find(of).copied()
    }

    fn remove(&mut self, number: u64) {
        let Some(subscriber) = self.subscribers.remove(&number) else {
            return;
        };
        self.timers
            .remove(&(subscriber.subscription.expires_at_ms(), number));
        if let Some(deferred_ms) = subscriber.deferred_ms {
            self.timers.remove(&(deferred_ms, number));
        }
        if let Some(ticket) = subscriber.awaited {
            self.under_way.remove(&ticket);
        }
        self.list.unsubscribed();
        let call_id = subscriber.subscription.dialog().call_id();
        if let Some(numbers) = self.dialogs.get_mut(call_id) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.dialogs.remove(call_id);
            }
        }
        self.leave(&subscriber.address, number);
    }

    /// One watches the address no more; where it was the last, the address is not watched.
    fn leave(&mut self, address: &AddressOfRecord, number: u64) {
        let Some(watched) = self.watched.get_mut(address) else {
            return;
        };
        watched.subscribers.retain(|other| *other != number);
        if !watched.subscribers.is_empty() {
            return;
        }
        if let Some(expiry_ms) = watched.expiry_ms {
            self.expiries.remove(&(expiry_ms, watched.contacts.id));
        }
        self.watched.remove(address);
        self.list.remove(address);
    }
}

fn accepted(headers: Vec<(&'static str, String)>) -> SubscribeAnswer {
    SubscribeAnswer {
        status: 200,
        reason: "",
        headers,
    }
}

#[cfg(test)]
#[path = "reg_event_tests.rs"]
mod tests;
