//! Subscriptions to events (RFC 6665): who watches whose state, and what they are told.
//!
//! One keeper for all packages. Registrations (RFC 3680) are told as changes; of everything else each document has
//! the whole state, is written once a change and view, and shared by all who watch.
//!
//! *Invariant: what a subscriber has been told is what it can compute the state from*: versions count up, a change
//! that could not be told yet is kept or replaced by the full state. At most one NOTIFY per subscription is under way.
//!
//! Who may watch is the caller's decision; what is kept is bounded by [`EventLimits`].
//!
//! Lists (RFC 4662) would be a [`Source`] whose address is a list, watcher information (RFC 3857) a package whose
//! source is this table, partial presence (RFC 5263) a package with changes as registrations are.

mod contacts;
mod outbox;
mod package;
mod reginfo;
mod source;
mod subscriber;
mod watch_list;
mod watched;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use sidetone_model::{AddressOfRecord, DeviceId, SavedSubscription};
use sidetone_sip::{DialogRequest, Flow, Message, Refused, Subscription, Termination};

pub use contacts::Removal;
pub use outbox::{Outbox, SavedChanges};
pub use package::{ALLOW_EVENTS, Package};
pub use source::{Change, Document, Source, View};
use subscriber::Subscriber;
pub use subscriber::Watcher;
pub use watch_list::WatchList;
use watched::{Watched, WatchedTable};

/// Between two first NOTIFYs after a restart, lest all are sent at once.
const RESTART_PACE_MS: u64 = 2;

/// How long the first NOTIFY of waiting messages waits for them to be counted.
const COUNT_MS: u64 = 100;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct EventLimits {
    /// Subscriptions in all.
    pub subscriptions: usize,
    /// Subscriptions to what only its owner watches, of one address and package.
    pub own: usize,
    /// Subscriptions to what colleagues watch, of one address and package.
    pub others: usize,
    /// Subscriptions of one device.
    pub per_device: usize,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            subscriptions: 50_000,
            own: 16,
            others: 2_000,
            per_device: 500,
        }
    }
}

/// What to answer to a SUBSCRIBE or PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventAnswer {
    /// The code; a 200 to SUBSCRIBE copies Record-Route and has the tag that was given.
    pub status: u16,
    /// Why it is refused; empty for a 200.
    pub reason: &'static str,
    /// Header fields beside the usual ones.
    pub headers: Vec<(&'static str, String)>,
}

impl EventAnswer {
    pub(crate) fn new(status: u16, reason: &'static str) -> Self {
        let headers = Vec::new();
        Self {
            status,
            reason,
            headers,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

impl From<Refused> for EventAnswer {
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
    /// Names it when it ends: [`Events::answered`] or [`Events::failed`].
    pub ticket: u64,
    /// The flow by which the last SUBSCRIBE came.
    pub flow: Flow,
    /// The request, with the URI of its next hop; it lacks its Via.
    pub request: DialogRequest,
}

/// All subscriptions of one shard.
#[derive(Debug, Default)]
pub struct Events {
    limits: EventLimits,
    list: Arc<WatchList>,
    outbox: Arc<Outbox>,
    /// Each is on the list.
    watched: WatchedTable,
    /// When the state of an address changes by itself, with the id that it has here.
    expiries: BTreeMap<(u64, u64), (Package, AddressOfRecord)>,
    subscribers: HashMap<u64, Subscriber>,
    /// Subscriptions by the NOTIFYs that are under way.
    under_way: HashMap<u64, u64>,
    /// Subscriptions by Call-ID.
    dialogs: HashMap<Box<[u8]>, Vec<u64>>,
    /// Subscriptions by the device that made them.
    devices: HashMap<DeviceId, Vec<u64>>,
    /// Subscriptions by connection.
    connections: HashMap<u64, Vec<u64>>,
    timers: BTreeSet<(u64, u64)>,
    line: VecDeque<u64>,
    numbers: u64,
}

impl Events {
    /// Nobody watches yet.
    pub fn new(limits: EventLimits, list: Arc<WatchList>, outbox: Arc<Outbox>) -> Self {
        Self {
            limits,
            list,
            outbox,
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

    /// Whether anybody watches anything of the address here.
    pub fn is_watched(&self, address: &AddressOfRecord) -> bool {
        self.watched.contains(address)
    }

    /// What an existing subscription watches, by a request in its dialog.
    pub fn resource_of(&self, request: &Message) -> Option<(Package, &AddressOfRecord)> {
        let subscriber = self.subscribers.get(&self.find(request)?)?;
        Some((subscriber.package, &subscriber.address))
    }

    /// A SUBSCRIBE outside any dialog from someone who may see this view of `address`. `contact_uri` leads back to
    /// this table, `tag` is new. The NOTIFY follows from [`Events::poll`] after the answer.
    #[allow(clippy::too_many_arguments)] // Each is another fact about one request.
    pub fn subscribe(
        &mut self,
        now_ms: u64,
        from: Watcher,
        view: View,
        request: &Message,
        package: Package,
        address: &AddressOfRecord,
        source: &impl Source,
        contact_uri: &str,
        tag: &str,
    ) -> EventAnswer {
        let notifier = package.notifier();
        let made = notifier.subscribe(now_ms, request, contact_uri, tag);
        let (subscription, headers) = match made {
            Ok(made) => made,
            Err(refused) => return refused.into(),
        };
        if self.is_full(package, address, from.device) && !self.make_room(package, address, &from) {
            let answer = EventAnswer::new(503, "too many subscriptions");
            return answer.with("Retry-After", 60);
        }
        self.watch(now_ms, package, address, source);
        let address = address.clone();
        let mut subscriber = Subscriber::new(now_ms, package, address, from, view, subscription);
        if package == Package::MessageSummary {
            subscriber.next_ms = now_ms + COUNT_MS;
        }
        let number = self.enter(subscriber);
        if !self.is_over(now_ms, number) {
            self.save(number);
        }
        self.schedule(now_ms, number);
        accepted(headers)
    }

    fn is_full(
        &self,
        package: Package,
        address: &AddressOfRecord,
        device: Option<DeviceId>,
    ) -> bool {
        let most = match package {
            Package::Registration | Package::MessageSummary => self.limits.own,
            Package::Presence | Package::Dialog => self.limits.others,
        };
        let watched = self.watched.get(package, address);
        let of_device = device.and_then(|device| self.devices.get(&device));
        self.subscribers.len() >= self.limits.subscriptions
            || watched.is_some_and(|watched| watched.subscribers.len() >= most)
            || of_device.is_some_and(|all| all.len() >= self.limits.per_device)
    }

    /// Gives up the oldest subscription of the device that has lost its connection: the device has forgotten it, where
    /// it comes with a new one each time. Whether there is room now.
    fn make_room(&mut self, package: Package, address: &AddressOfRecord, from: &Watcher) -> bool {
        let of_device = from.device.and_then(|device| self.devices.get(&device));
        let is_stranded = |number: &&u64| {
            let subscriber = self.subscribers.get(*number);
            subscriber.is_some_and(|subscriber| subscriber.stranded)
        };
        let oldest = of_device.and_then(|numbers| numbers.iter().find(is_stranded).copied());
        oldest.into_iter().for_each(|number| self.remove(number));
        !self.is_full(package, address, from.device)
    }

    fn is_over(&self, now_ms: u64, number: u64) -> bool {
        let subscriber = self.subscribers.get(&number);
        subscriber.is_none_or(|subscriber| subscriber.is_over(now_ms))
    }

    /// Puts the address on the list before its state is read, so that no change is missed.
    fn watch(
        &mut self,
        now_ms: u64,
        package: Package,
        address: &AddressOfRecord,
        source: &impl Source,
    ) {
        if self.watched.get(package, address).is_some() {
            if package == Package::Registration {
                let change = Change::Bindings(Removal::Unregistered);
                self.changed(now_ms, address, change, source);
            }
            return;
        }
        self.list.add(address);
        let id = self.number();
        let watched = Watched::new(id, package, || source.bindings(address));
        self.watched.insert(package, address.clone(), watched);
        self.await_expiry(now_ms, package, address);
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn enter(&mut self, subscriber: Subscriber) -> u64 {
        let number = self.number();
        if let Some(watched) = self
            .watched
            .get_mut(subscriber.package, &subscriber.address)
        {
            watched.subscribers.push(number);
        }
        let call_id = subscriber.subscription.dialog().call_id();
        self.dialogs.entry(call_id.into()).or_default().push(number);
        let expires_at_ms = subscriber.subscription.expires_at_ms();
        self.timers.insert((expires_at_ms, number));
        let watcher = subscriber.watcher.clone();
        if subscriber.stranded {
            self.list.strand(true);
        }
        self.subscribers.insert(number, subscriber);
        self.note_watcher(number, &watcher);
        self.list.subscribed();
        number
    }

    fn note_watcher(&mut self, number: u64, watcher: &Watcher) {
        if let Some(device) = watcher.device {
            self.devices.entry(device).or_default().push(number);
        }
        if watcher.flow.is_connection() {
            let of_it = self.connections.entry(watcher.flow.connection);
            of_it.or_default().push(number);
        }
    }

    fn forget_watcher(&mut self, number: u64, watcher: &Watcher) {
        if let Some(device) = watcher.device {
            drop_from(&mut self.devices, &device, number);
        }
        drop_from(&mut self.connections, &watcher.flow.connection, number);
    }

    /// A SUBSCRIBE within a dialog, from someone who may see this view of [`Events::resource_of`] it.
    pub fn refresh(
        &mut self,
        now_ms: u64,
        from: Watcher,
        view: View,
        request: &Message,
    ) -> EventAnswer {
        let found = self.find(request);
        let found = found.and_then(|number| Some((number, self.subscribers.get_mut(&number)?)));
        let Some((number, subscriber)) = found else {
            return EventAnswer::new(481, "there is no such subscription");
        };
        let before_ms = subscriber.subscription.expires_at_ms();
        let notifier = subscriber.package.notifier();
        let headers = match notifier.refresh(now_ms, request, &mut subscriber.subscription) {
            Ok(headers) => headers,
            Err(refused) => return refused.into(),
        };
        let expires_at_ms = subscriber.subscription.expires_at_ms();
        subscriber.view = view;
        // RFC 6665 §4.2.1.2: a NOTIFY at once, whatever became of the last one.
        subscriber.full = true;
        subscriber.next_ms = now_ms;
        if let Some(ticket) = subscriber.awaited.take() {
            self.under_way.remove(&ticket);
        }
        self.timers.remove(&(before_ms, number));
        self.timers.insert((expires_at_ms, number));
        self.move_to(number, from);
        self.save(number);
        self.schedule(now_ms, number);
        accepted(headers)
    }

    /// From now on its NOTIFYs take another flow.
    fn move_to(&mut self, number: u64, watcher: Watcher) {
        let Some(subscriber) = self.subscribers.get_mut(&number) else {
            return;
        };
        let before = std::mem::replace(&mut subscriber.watcher, watcher.clone());
        if std::mem::take(&mut subscriber.stranded) {
            self.list.strand(false);
        }
        self.forget_watcher(number, &before);
        self.note_watcher(number, &watcher);
    }

    /// A connection is gone. Its subscriptions are told nothing until they are refreshed, or their device is back.
    pub fn connection_closed(&mut self, connection: u64) {
        let numbers = self.connections.remove(&connection).unwrap_or_default();
        numbers.into_iter().for_each(|number| self.strand(number));
    }

    fn strand(&mut self, number: u64) {
        let Some(subscriber) = self.subscribers.get_mut(&number) else {
            return;
        };
        subscriber.full = true;
        if let Some(ticket) = subscriber.awaited.take() {
            self.under_way.remove(&ticket);
        }
        if !std::mem::replace(&mut subscriber.stranded, true) {
            self.list.strand(true);
        }
    }

    /// A device registered by this flow: what it watches it is told there, where its connection was lost.
    pub fn device_back(&mut self, now_ms: u64, device: DeviceId, flow: Flow) {
        for number in self.devices.get(&device).cloned().unwrap_or_default() {
            let Some(subscriber) = self.subscribers.get(&number) else {
                continue;
            };
            if !subscriber.stranded {
                continue;
            }
            let mut watcher = subscriber.watcher.clone();
            watcher.flow = flow;
            self.move_to(number, watcher);
            self.save(number);
            self.schedule(now_ms, number);
        }
    }

    /// Something of an address has changed. Costs a look-up a package where nobody watches.
    pub fn changed(
        &mut self,
        now_ms: u64,
        address: &AddressOfRecord,
        change: Change,
        source: &impl Source,
    ) {
        for package in Package::ALL.into_iter().filter(|one| change.touches(*one)) {
            if self.watched.get(package, address).is_none() {
                continue;
            }
            if change == Change::Policy {
                self.look_again(now_ms, package, address, source);
            }
            self.read(now_ms, package, address, change, source);
        }
    }

    /// Reads the state of an address anew, and tells those for whom it is another one.
    fn read(
        &mut self,
        now_ms: u64,
        package: Package,
        address: &AddressOfRecord,
        change: Change,
        source: &impl Source,
    ) {
        let Some(watched) = self.watched.get_mut(package, address) else {
            return;
        };
        let removal = match change {
            Change::Bindings(removal) => removal,
            _ => Removal::Unregistered,
        };
        let news = watched.read(now_ms, removal, package, address, source);
        for number in watched.subscribers.clone() {
            let Some(subscriber) = self.subscribers.get_mut(&number) else {
                continue;
            };
            if news.is_for(subscriber.view) {
                subscriber.add(news.changes());
                if subscriber.version == 0 && news.is_full() {
                    subscriber.next_ms = now_ms;
                }
                subscriber.full |= news.is_full() || std::mem::take(&mut subscriber.missed);
                self.schedule(now_ms, number);
            }
        }
        self.await_expiry(now_ms, package, address);
    }

    /// Who may see what has changed.
    fn look_again(
        &mut self,
        now_ms: u64,
        package: Package,
        address: &AddressOfRecord,
        source: &impl Source,
    ) {
        let watched = self.watched.get(package, address);
        let numbers = watched.map_or_else(Vec::new, |watched| watched.subscribers.clone());
        for number in numbers {
            let Some(subscriber) = self.subscribers.get_mut(&number) else {
                continue;
            };
            match source.view(package, address, &subscriber.watcher) {
                Some(view) if view == subscriber.view => {}
                Some(view) => {
                    subscriber.view = view;
                    subscriber.full = true;
                    self.schedule(now_ms, number);
                }
                None => self.end(now_ms, number, Termination::Rejected),
            }
        }
    }

    /// Notes when the state of an address changes by itself.
    fn await_expiry(&mut self, now_ms: u64, package: Package, address: &AddressOfRecord) {
        let Some(watched) = self.watched.get_mut(package, address) else {
            return;
        };
        let id = watched.id;
        if let Some(before_ms) = watched.expiry_ms.take() {
            self.expiries.remove(&(before_ms, id));
        }
        if let Some(at_ms) = watched.next_change_ms() {
            // Later than now, lest one that stays in spite of its time keeps us here.
            let at_ms = at_ms.max(now_ms + 1);
            watched.expiry_ms = Some(at_ms);
            self.expiries
                .insert((at_ms, id), (package, address.clone()));
        }
    }

    /// Nobody may watch the address any more: it is gone, or was disabled.
    pub fn address_gone(
        &mut self,
        now_ms: u64,
        address: &AddressOfRecord,
        why: Termination,
        source: &impl Source,
    ) {
        self.changed(now_ms, address, Change::Bindings(Removal::Rejected), source);
        let numbers = self.watched.subscribers(address);
        numbers
            .into_iter()
            .for_each(|number| self.end(now_ms, number, why));
    }

    /// The device was removed: what it watches it may not watch any more.
    pub fn device_gone(&mut self, now_ms: u64, device: DeviceId) {
        let numbers = self.devices.get(&device).cloned().unwrap_or_default();
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
    pub fn poll(&mut self, now_ms: u64, source: &impl Source) -> Option<Notify> {
        loop {
            let number = self.line.pop_front()?;
            if let Some(notify) = self.notify(now_ms, number, source) {
                return Some(notify);
            }
        }
    }

    fn notify(&mut self, now_ms: u64, number: u64, source: &impl Source) -> Option<Notify> {
        let subscriber = self.subscribers.get_mut(&number)?;
        let package = subscriber.package;
        if subscriber.stranded {
            subscriber.in_line = false;
            return None;
        }
        let watched = self.watched.get_mut(package, &subscriber.address)?;
        let over = subscriber.is_over(now_ms);
        let (body, fresh) = watched.body_for(now_ms, subscriber, source);
        let ends = subscriber.ends;
        let pending = subscriber.view == View::Pending;
        let notifier = package.notifier();
        self.numbers += 1;
        let ticket = self.numbers;
        let notify = Notify {
            ticket,
            flow: subscriber.watcher.flow,
            request: notifier.notify(now_ms, &mut subscriber.subscription, ends, pending, body),
        };
        subscriber.version = subscriber.version.wrapping_add(1);
        subscriber.awaited = Some(ticket);
        subscriber.in_line = false;
        subscriber.next_ms = now_ms + package.interval_ms();
        let unsaved = subscriber.needs_saving();
        let address = fresh.then(|| subscriber.address.clone());
        self.under_way.insert(ticket, number);
        if over {
            self.remove(number);
        } else if unsaved {
            self.save(number);
        }
        if let Some(address) = address {
            self.await_expiry(now_ms, package, &address);
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

    /// A NOTIFY came to nothing: RFC 6665 §4.2.2 ends the subscription. One whose connection is lost is kept for its
    /// time: the subscriber has not refused, and comes back by another one.
    pub fn failed(&mut self, ticket: u64, timeout: bool) {
        let Some(number) = self.under_way.remove(&ticket) else {
            return;
        };
        let subscriber = self.subscribers.get(&number);
        let lost = subscriber.is_some_and(|one| one.watcher.flow.is_connection()) && !timeout;
        match lost {
            true => self.strand(number),
            false => self.remove(number),
        }
    }

    /// When [`Events::handle_timeout`] has something to do.
    pub fn next_timeout_ms(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at_ms, _)| *at_ms);
        let expiry = self.expiries.keys().next().map(|(at_ms, _)| *at_ms);
        timer.into_iter().chain(expiry).min()
    }

    /// Ends what is over and tells what was put off.
    pub fn handle_timeout(&mut self, now_ms: u64, source: &impl Source) {
        while let Some(first) = self.expiries.first_entry()
            && first.key().0 <= now_ms
        {
            let (package, address) = first.remove();
            let change = Change::Bindings(Removal::Expired);
            self.read(now_ms, package, &address, change, source);
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
        if subscriber.stranded {
            if over {
                self.remove(number);
            }
            return;
        }
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

    fn save(&mut self, number: u64) {
        if let Some(subscriber) = self.subscribers.get_mut(&number) {
            self.outbox.put(subscriber.save());
        }
    }

    /// Takes over subscriptions of an earlier run. Each is told the whole state, one after the other; those by
    /// connections, which are gone, once their device is back.
    pub fn restore(
        &mut self,
        now_ms: u64,
        saved: impl IntoIterator<Item = SavedSubscription>,
        source: &impl Source,
    ) {
        let mut next_ms = now_ms;
        for saved in saved {
            next_ms += RESTART_PACE_MS;
            let tag = saved.local_tag.clone();
            match self.restored(saved, next_ms, source) {
                Some(subscriber) => {
                    let (package, address) = (subscriber.package, subscriber.address.clone());
                    self.watch(now_ms, package, &address, source);
                    let number = self.enter(subscriber);
                    self.schedule(now_ms, number);
                }
                None => self.outbox.forget(&tag),
            }
        }
    }

    fn restored(
        &self,
        saved: SavedSubscription,
        next_ms: u64,
        source: &impl Source,
    ) -> Option<Subscriber> {
        let mut subscriber = Subscriber::restored(saved, View::Blocked, next_ms)?;
        let (package, address) = (subscriber.package, &subscriber.address);
        subscriber.view = source.view(package, address, &subscriber.watcher)?;
        let room = !self.is_full(package, address, subscriber.watcher.device);
        room.then_some(subscriber)
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
        if subscriber.stranded {
            self.list.strand(false);
        }
        self.list.unsubscribed();
        let dialog = subscriber.subscription.dialog();
        if subscriber.set_aside.is_some() {
            self.outbox.forget(dialog.local_tag());
        }
        drop_from(&mut self.dialogs, dialog.call_id(), number);
        self.forget_watcher(number, &subscriber.watcher);
        self.leave(subscriber.package, &subscriber.address, number);
    }

    /// One watches the address no more; where it was the last, the address is not watched.
    fn leave(&mut self, package: Package, address: &AddressOfRecord, number: u64) {
        let Some(watched) = self.watched.get_mut(package, address) else {
            return;
        };
        watched.subscribers.retain(|other| *other != number);
        if !watched.subscribers.is_empty() {
            return;
        }
        if let Some(expiry_ms) = watched.expiry_ms {
            self.expiries.remove(&(expiry_ms, watched.id));
        }
        self.watched.remove(package, address);
        self.list.remove(address);
    }
}

fn drop_from<K, Q>(index: &mut HashMap<K, Vec<u64>>, key: &Q, number: u64)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    let Some(numbers) = index.get_mut(key) else {
        return;
    };
    numbers.retain(|other| *other != number);
    if numbers.is_empty() {
        index.remove(key);
    }
}

fn accepted(headers: Vec<(&'static str, String)>) -> EventAnswer {
    EventAnswer {
        headers,
        ..EventAnswer::new(200, "")
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
