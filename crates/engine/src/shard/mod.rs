//! One SIP shard: everything of the calls, registrations and messages whose Call-ID belongs to it.
//!
//! Sans-IO: octets, notes and time come in, transmits and wants go out; the thread around it (`runtime`) owns the
//! sockets, and `sim` runs the same shard in virtual time.
//!
//! *Invariant*: authentication comes before state; a MESSAGE is answered 2xx after it was committed and not before.

mod calls;
mod copy;
mod deliver;
mod events;
mod hints;
mod lookup;
mod message;
mod names;
mod own;
mod register;
mod request;
mod route;
mod waiting;
mod within;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sidetone_model::{
    AccountId, AddressOfRecord, ConversationId, DeviceId, MessageId, NewMessage, StoredMessage,
};
use sidetone_services::delivery::{Deliveries, DeliveryLimits};
use sidetone_services::{
    Abilities, Change, Composing, EventLimits, Events, PostError, Removal, Verdict,
};
use sidetone_sip::proxy::Proxy;
use sidetone_sip::{
    ClientId, Endpoint, Event, Flow, Framing, Imdn, Limits, Message, Received, Rejected,
    ResponseBuilder, Termination, Transmit, Transport, stun, validate,
};

use crate::shared::Services;
use lookup::Parked;
use message::Unstored;
use own::Own;

/// The moment: monotonic for timers, Unix time for what is stored or signed.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For timers.
    pub instant: Instant,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

/// What a host name has to be resolved for (RFC 3263).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveTarget {
    /// Host of the URI.
    pub host: String,
    /// Port of the URI.
    pub port: Option<u16>,
    /// Transport of the URI.
    pub transport: Option<Transport>,
    /// Only TLS will do.
    pub sips: bool,
}

/// Why something may be delivered to a device.
#[derive(Debug, Clone)]
pub enum News {
    /// It registered: also what it could not take before is tried again.
    Registered,
    /// It refreshed its registration: what waits for another try is tried now.
    Refreshed,
    /// A message was stored for it.
    Stored {
        /// The message.
        message: Arc<StoredMessage>,
        /// Nothing was kept for the device before it.
        first: bool,
    },
    /// Somebody writes to it, or stopped.
    Composing(Arc<Composing>),
}

/// What the shard wants of the world; answers come back as [`Note`]s.
#[derive(Debug)]
pub enum Want {
    /// Add a message to its conversation, then answer with [`Note::Appended`].
    Append {
        /// Who says it.
        author: AddressOfRecord,
        /// The message.
        message: Box<NewMessage>,
        /// Comes back.
        ticket: u64,
    },
    /// Note that a device has a message.
    Delivered {
        /// The device.
        device: DeviceId,
        /// The message.
        message: MessageId,
    },
    /// Tell the conversation that one of its events has reached a device.
    Arrived {
        /// The device.
        device: DeviceId,
        /// The conversation, and the event's number there.
        event: (ConversationId, u64),
    },
    /// Tell the conversation that a device will never take one of its events.
    Refused {
        /// The device.
        device: DeviceId,
        /// The message.
        message: MessageId,
        /// The conversation, and the event's number there.
        event: (ConversationId, u64),
    },
    /// Tell the conversation that somebody writes, or stopped, then answer with [`Note::Appended`].
    Composing {
        /// Who.
        author: AddressOfRecord,
        /// To whom.
        to: AddressOfRecord,
        /// For how long, unless it is said again; none when stopped.
        holds_s: Option<u32>,
        /// Comes back.
        ticket: u64,
    },
    /// Tell the conversation what a phone says of one of its events, then answer with [`Note::Appended`].
    Notified {
        /// Whose phone.
        author: AddressOfRecord,
        /// Which, where it is one of ours.
        device: Option<DeviceId>,
        /// What it says.
        notification: Box<Imdn>,
        /// Comes back.
        ticket: u64,
    },
    /// Note what a device understands from now on.
    Learned {
        /// The device.
        device: DeviceId,
        /// All that it understands.
        abilities: Abilities,
    },
    /// Read what a device has not got, oldest first, then answer with [`Note::Pending`].
    Pending {
        /// The device.
        device: DeviceId,
        /// Only later ones.
        after: MessageId,
    },
    /// Resolve a name, then answer with [`Note::Resolved`].
    Resolve {
        /// The name.
        target: ResolveTarget,
        /// Comes back.
        ticket: u64,
    },
    /// Close a connection.
    Close {
        /// Its number.
        connection: u64,
    },
    /// Tell the shard that delivers to this device.
    Wake {
        /// The device.
        device: DeviceId,
        /// Why.
        news: News,
    },
    /// Tell the other shards with [`Note::Changed`].
    TellChanged {
        /// The address, which somebody may watch.
        address: AddressOfRecord,
        /// What of it.
        change: Change,
    },
    /// Tell the other shards with [`Note::DeviceBack`].
    TellBack {
        /// The device.
        device: DeviceId,
        /// The flow by which it registered.
        flow: Flow,
    },
    /// Ask somebody, on behalf of an account whose phone watches, to be let see.
    Ask {
        /// Whose phone it is.
        account: AccountId,
        /// Who is watched.
        address: AddressOfRecord,
    },
    /// Count the messages that wait for the devices of an account, then answer with [`Note::Counted`].
    Count {
        /// The account.
        account: AccountId,
        /// Its address.
        address: AddressOfRecord,
    },
}

/// What the world answers, or tells.
#[derive(Debug)]
pub enum Note {
    /// A message was committed, or not; or what is not kept was told, or not. Devices are told by [`Note::Wake`].
    Appended {
        /// Of the want.
        ticket: u64,
        /// Its number, 0 for what is not kept; or why not.
        result: Result<MessageId, PostError>,
    },
    /// What a device has not got.
    Pending {
        /// The device.
        device: DeviceId,
        /// Oldest first; `None`: they could not be read now.
        messages: Option<Vec<StoredMessage>>,
    },
    /// Where a name leads, best first.
    Resolved {
        /// Of the want.
        ticket: u64,
        /// Hops, or why there are none.
        hops: Result<Vec<(Transport, SocketAddr)>, String>,
    },
    /// A device registered, or a message was stored for it.
    Wake {
        /// The device.
        device: DeviceId,
        /// Which of the two.
        news: News,
    },
    /// A device was removed.
    DeviceGone {
        /// The device.
        device: DeviceId,
    },
    /// The state of an address was changed elsewhere.
    Changed {
        /// The address.
        address: AddressOfRecord,
        /// What of it.
        change: Change,
    },
    /// A device registered elsewhere, and some subscriptions have lost their connections.
    DeviceBack {
        /// The device.
        device: DeviceId,
        /// The flow by which it registered.
        flow: Flow,
    },
    /// The messages that wait for the devices of an account.
    Counted {
        /// The account.
        account: AccountId,
        /// Its address.
        address: AddressOfRecord,
        /// Those that no device has taken, and those that some device waits for; `None`: they could not be counted.
        counts: Option<(u64, u64)>,
    },
    /// An address may not be watched any more.
    AddressGone {
        /// The address.
        address: AddressOfRecord,
        /// What its watchers are told.
        why: Termination,
    },
    /// A message that another shard received and that belongs here.
    Forwarded {
        /// How it came.
        flow: Flow,
        /// The message.
        bytes: Bytes,
    },
}

/// Bounds of one shard.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// Server transactions at a time.
    pub max_transactions: usize,
    /// Octets of messages that transactions hold; it takes some two and a half times as much memory.
    pub max_transaction_octets: usize,
    /// MESSAGEs that wait for the store.
    pub max_unstored: usize,
    /// Limits of messages.
    pub limits: Limits,
    /// Limits of subscriptions.
    pub subscriptions: EventLimits,
}

impl Default for ShardSettings {
    fn default() -> Self {
        Self {
            max_transactions: 500_000,
            max_transaction_octets: 256 << 20,
            max_unstored: 20_000,
            // A body of 64 KiB and its headers.
            limits: Limits {
                message_bytes: 80 * 1024,
                ..Limits::default()
            },
            subscriptions: EventLimits::default(),
        }
    }
}

/// Server transactions that the shard answers itself.
const UAS: u64 = sidetone_sip::endpoint::NOBODY;

/// The shard.
pub struct Shard {
    services: Arc<Services>,
    settings: ShardSettings,
    endpoint: Endpoint,
    proxy: Proxy,
    deliveries: Deliveries,
    events: Events,
    calls: calls::Calls,
    /// Addresses whose waiting messages are being counted, and whether once more.
    counting: HashMap<AddressOfRecord, bool>,
    unstored: HashMap<u64, Unstored>,
    parked: HashMap<u64, Parked>,
    names: names::Names,
    wants: VecDeque<Want>,
    tickets: u64,
    /// When a wrong password was last written into the log.
    denied_logged_ms: u64,
}

impl Shard {
    /// A shard with its own secret.
    #[must_use]
    pub fn new(settings: ShardSettings, services: Arc<Services>, index: u16, seed: u128) -> Self {
        let endpoint = Endpoint::new(settings.max_transactions, seed ^ u128::from(index) << 64)
            .with_max_octets(settings.max_transaction_octets);
        let proxy = Proxy::new(Arc::clone(&services.locals), services.tokens.clone());
        let (watched, outbox) = (Arc::clone(&services.watched), Arc::clone(&services.outbox));
        let events = Events::new(settings.subscriptions, watched, outbox);
        Self {
            services,
            settings,
            endpoint,
            proxy,
            deliveries: Deliveries::new(DeliveryLimits::default()),
            events,
            calls: calls::Calls::default(),
            counting: HashMap::new(),
            unstored: HashMap::new(),
            parked: HashMap::new(),
            names: names::Names::default(),
            wants: VecDeque::new(),
            tickets: 0,
            denied_logged_ms: 0,
        }
    }

    /// A datagram came in.
    pub fn handle_datagram(&mut self, now: Now, listener: u16, remote: SocketAddr, octets: &[u8]) {
        let flow = Flow {
            transport: Transport::Udp,
            listener,
            connection: 0,
            remote,
        };
        match octets {
            // RFC 5626 §3.5.1 and what phones send to keep a NAT open: nothing, or line ends only.
            _ if octets
                .iter()
                .all(|octet| matches!(octet, b'\r' | b'\n' | 0)) => {}
            _ if stun::is_stun(octets) => {
                // Half as long again as the question, and a little more: so asked after like a request.
                if self.services.limiter.source(remote.ip(), now.unix_ms) != Verdict::Pass {
                    return;
                }
                let answer = stun::binding_response(octets, remote);
                answer
                    .into_iter()
                    .for_each(|answer| self.endpoint.send(flow, answer.into()));
            }
            _ => self.handle_octets(now, flow, Bytes::copy_from_slice(octets), Framing::Datagram),
        }
    }

    /// A whole message came in over a stream or WebSocket.
    pub fn handle_frame(&mut self, now: Now, flow: Flow, message: Bytes) {
        self.handle_octets(now, flow, message, Framing::Stream);
    }

    fn handle_octets(&mut self, now: Now, flow: Flow, octets: Bytes, framing: Framing) {
        match Message::parse(octets, framing, &self.settings.limits) {
            Ok(message) => self.handle_message(now, flow, &message),
            Err(rejected) => self.handle_broken_frame(now, flow, rejected),
        }
        self.settle(now);
    }

    /// A message that could not be read came in.
    pub fn handle_broken_frame(&mut self, now: Now, flow: Flow, rejected: Rejected) {
        self.services.counters.malformed.add();
        let Some(partial) = rejected.partial else {
            return;
        };
        if self.services.limiter.source(flow.remote.ip(), now.unix_ms) == Verdict::Pass {
            self.reply(flow, &partial, rejected.status, rejected.reason, &[]);
        }
    }

    fn handle_message(&mut self, now: Now, flow: Flow, message: &Message) {
        let limiter = &self.services.limiter;
        if limiter.is_banned(flow.remote.ip(), now.unix_ms) {
            return self.services.counters.banned.add();
        }
        if !message.is_request() {
            if validate::response(message).is_ok() {
                self.handle_response(now, flow, message);
            }
            return;
        }
        if let Err(mut rejected) = validate::request_within(message, &self.settings.limits) {
            // Even an unreadable Via is echoed: the answer goes to the source (RFC 3261 §18.2.2).
            if message.method() != Some(sidetone_sip::Method::Ack) {
                rejected
                    .partial
                    .get_or_insert_with(|| Box::new(message.clone()));
            }
            return self.handle_broken_frame(now, flow, rejected);
        }
        match self.endpoint.receive(now.instant, flow, message) {
            Received::Request => self.handle_request(now, flow, message),
            Received::Ack => self.handle_ack(now, flow, message),
            Received::Cancel(invite) => self.handle_cancel(now, flow, message, invite),
            Received::Absorbed | Received::Response(_) | Received::Stray => {}
        }
    }

    fn handle_response(&mut self, now: Now, flow: Flow, message: &Message) {
        let Received::Response(client) = self.endpoint.receive(now.instant, flow, message) else {
            return;
        };
        let Some(user) = self.endpoint.client_user(client) else {
            return;
        };
        match Own::of(user) {
            Some(own) => self.own_response(now, own, message.status().unwrap_or_default()),
            None => {
                self.call_answered(now, message);
                self.proxy
                    .response(now.instant, &mut self.endpoint, client, message);
            }
        }
    }

    /// A connection is gone.
    pub fn connection_closed(&mut self, now: Now, flow: Flow) {
        for address in self.services.location.remove_flow(flow.connection) {
            self.registration_changed(now, &address, Removal::Deactivated);
        }
        self.events.connection_closed(flow.connection);
        self.endpoint
            .connection_closed(now.instant, flow.connection);
        self.settle(now);
    }

    /// The name that the peer of this flow has to prove, where it was found by one.
    #[must_use]
    pub fn peer_name(&self, flow: &Flow) -> Option<Arc<str>> {
        self.names.get(flow.peer_name()?)
    }

    /// A request went by this connection, which was found or opened for it.
    pub fn carried(&mut self, client: ClientId, connection: u64) {
        self.endpoint.carried(client, connection);
    }

    /// A message of a client transaction could not be sent.
    pub fn transport_failed(&mut self, now: Now, client: ClientId) {
        self.endpoint.transport_failed(now.instant, client);
        self.settle(now);
    }

    /// Something that was wanted is there, or another plane has something to say.
    pub fn handle_note(&mut self, now: Now, note: Note) {
        match note {
            Note::Appended { ticket, result } => self.appended(now, ticket, result),
            Note::Pending { device, messages } => self.pending(now, device, messages),
            Note::Resolved { ticket, hops } => self.resolved(now, ticket, hops),
            Note::Wake { device, news } => self.wake(now, device, news),
            Note::DeviceGone { device } => {
                self.deliveries.device_gone(device);
                self.services.abilities.forget(device);
                self.events.device_gone(now.unix_ms, device);
            }
            Note::Changed { address, change } => self.read_state(now, &address, change),
            Note::DeviceBack { device, flow } => self.events.device_back(now.unix_ms, device, flow),
            Note::Counted {
                account,
                address,
                counts,
            } => self.counted(now, account, &address, counts),
            Note::AddressGone { address, why } => {
                let services = self.services.clone();
                let known = events::known(&services, now);
                self.events.address_gone(now.unix_ms, &address, why, &known);
            }
            Note::Forwarded { flow, bytes } if flow.transport == Transport::Udp => {
                self.handle_octets(now, flow, bytes, Framing::Datagram);
            }
            Note::Forwarded { flow, bytes } => self.handle_frame(now, flow, bytes),
        }
        self.settle(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now) {
        self.endpoint.handle_timeout(now.instant);
        self.proxy.handle_timeout(now.instant, &mut self.endpoint);
        self.deliveries.handle_timeout(now.unix_ms);
        self.calls_timeout(now);
        self.events_timeout(now);
        self.settle(now);
    }

    /// Hands round what the transaction layer and the deliveries have to say.
    fn settle(&mut self, now: Now) {
        loop {
            while let Some(event) = self.endpoint.poll_event() {
                self.handle_event(now, event);
            }
            self.calls_settle(now);
            if !self.deliver_step(now) && !self.notify_step(now) {
                return;
            }
        }
    }

    fn handle_event(&mut self, now: Now, event: Event) {
        let own = match event {
            Event::ClientFailed { user, timeout, .. } => Own::of(user).map(|own| (own, timeout)),
            _ => None,
        };
        match own {
            Some((own, timeout)) => self.own_failed(now, own, timeout),
            None => self.proxy.event(now.instant, &mut self.endpoint, &event),
        }
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.endpoint.poll_transmit()
    }

    /// The next want.
    pub fn poll_want(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// When to call [`Shard::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> Option<Instant> {
        let at = |at_ms: u64| {
            now.instant + std::time::Duration::from_millis(at_ms.saturating_sub(now.unix_ms))
        };
        [
            self.endpoint.poll_timeout(),
            self.proxy.poll_timeout(),
            self.deliveries.next_timeout_ms().map(at),
            self.events.next_timeout_ms().map(at),
            self.calls.next_timeout_ms().map(at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Response contexts: calls and other requests under way.
    #[must_use]
    pub fn contexts(&self) -> usize {
        self.proxy.len()
    }

    /// Calls that have had no final answer yet.
    #[must_use]
    pub fn calls_ringing(&self) -> usize {
        self.proxy.ringing()
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn want(&mut self, want: Want) {
        self.wants.push_back(want);
    }

    /// Answers without a transaction; the reason stands in a Warning too, where the administrator looks. By UDP an
    /// answer that would be a lever for a flood under a false source address says less, or nothing.
    fn reply(
        &mut self,
        flow: Flow,
        request: &Message,
        status: u16,
        why: &str,
        headers: &[(&str, &str)],
    ) {
        let mut bytes = self.answer(flow, request, status, why, headers);
        if is_lever(flow, request, &bytes) {
            bytes = self.terse_answer(flow, request, status, headers);
        }
        if !is_lever(flow, request, &bytes) {
            self.endpoint.reply(flow, request, bytes);
        }
    }

    fn answer(
        &mut self,
        flow: Flow,
        request: &Message,
        status: u16,
        why: &str,
        headers: &[(&str, &str)],
    ) -> Bytes {
        let tag = self.stateless_tag(request);
        let mut builder = ResponseBuilder::new(request, status, "")
            .received(flow.remote)
            .to_tag(&tag);
        if !why.is_empty() {
            builder = builder.header("Warning", format!("399 sidetone \"{why}\""));
        }
        with_headers(builder, headers).finish()
    }

    /// Nothing but what the client needs.
    fn terse_answer(
        &mut self,
        flow: Flow,
        request: &Message,
        status: u16,
        headers: &[(&str, &str)],
    ) -> Bytes {
        let tag = self.stateless_tag(request);
        let builder = ResponseBuilder::new(request, status, "")
            .received(flow.remote)
            .to_tag(&tag);
        with_headers(builder, headers).terse().finish()
    }

    /// The tag of our own answers: the same for the same request (RFC 3261 §8.2.7), so that the ACK is recognised.
    fn stateless_tag(&self, request: &Message) -> String {
        let from = request
            .from()
            .ok()
            .and_then(|from| from.tag())
            .unwrap_or_default();
        let hash = self
            .endpoint
            .digest(&[request.call_id(), from.as_bytes(), b"tag"]);
        format!("{:08x}", u32::try_from(hash >> 96).unwrap_or_default())
    }
}

fn with_headers<'m>(builder: ResponseBuilder<'m>, headers: &[(&str, &str)]) -> ResponseBuilder<'m> {
    headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(name, value)
    })
}

/// Whether an answer by UDP has more than one and a half times the octets of its request, which anyone may have sent in
/// anyone's name.
fn is_lever(flow: Flow, request: &Message, answer: &Bytes) -> bool {
    !flow.transport.is_reliable() && 2 * answer.len() > 3 * request.bytes().len()
}
