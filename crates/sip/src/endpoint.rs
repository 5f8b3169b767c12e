//! The transaction layer of one shard: matches messages to transactions, runs their machines and timers.
//!
//! A request that belongs to no transaction makes no state: the caller looks at it first and then accepts it or
//! answers statelessly.
//!
//! *Invariant*: what is sent goes through `transmits` in order; a transaction that is gone is never found again.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::entropy::Entropy;
use crate::slab::{Id, Slab};
use crate::timer::{Timer, Timers};
use crate::transaction::client::Client;
use crate::transaction::invite_client::{InviteClient, State as InviteClientState};
use crate::transaction::invite_server::InviteServer;
use crate::transaction::server::Server;
use crate::transaction::{Action, Actions, ClientInput, ServerInput};
use crate::{BRANCH_COOKIE, Flow, Framing, Limits, Message, Method};

mod answered;
mod matching;

use answered::Answered;
use matching::{
    ClientBranch, KeyHasher, ServerKeys, ack_for, cancel_for, merge_key, response_flow,
};

/// A server transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId(pub(crate) Id);

/// A client transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(pub(crate) Id);

/// One message to send.
#[derive(Debug, Clone)]
pub struct Transmit {
    /// Where to.
    pub flow: Flow,
    /// The octets.
    pub bytes: Bytes,
    /// Whom to tell when it cannot be sent.
    pub client: Option<ClientId>,
}

/// What a received message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Dealt with.
    Absorbed,
    /// A new request; nothing is stored yet.
    Request,
    /// An ACK for a 2xx, or for nothing that we know.
    Ack,
    /// A new CANCEL, with the INVITE that it cancels.
    Cancel(Option<ServerId>),
    /// A response for this transaction's user.
    Response(ClientId),
    /// A response to nothing that we asked.
    Stray,
}

/// Why a request got no server transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAccepted {
    /// There are too many.
    Full,
    /// The same request came another way and is being worked on (RFC 3261 §8.2.2.2): 482.
    Merged,
}

/// What time, or the network, did to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// No final response will come.
    ClientFailed {
        /// The transaction.
        client: ClientId,
        /// Its user.
        user: u64,
        /// Timer B or F; else the transport.
        timeout: bool,
    },
    /// Timer H: the final response of an INVITE was never acknowledged.
    AckMissing {
        /// The transaction's user.
        user: u64,
    },
    /// The server transaction is over.
    ServerEnded {
        /// Its user.
        user: u64,
    },
}

/// How far a client transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// Nothing heard.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// A final response came, or it is over.
    Done,
}

#[derive(Debug)]
enum ServerMachine {
    Invite(InviteServer),
    Other(Server),
}

#[derive(Debug)]
struct ServerEntry {
    machine: ServerMachine,
    key: u128,
    /// What a copy that came another way has in common with it; 0: nothing is looked for.
    merge_key: u128,
    flow: Flow,
    /// The last response; until there is one, of an INVITE the 100 that it would get.
    response: Bytes,
    user: u64,
}

#[derive(Debug)]
enum ClientMachine {
    Invite(InviteClient),
    Other(Client),
}

#[derive(Debug)]
struct ClientEntry {
    machine: ClientMachine,
    secret: u32,
    flow: Flow,
    request: Bytes,
    user: u64,
    /// The CANCEL of this INVITE, which has the same branch (RFC 3261 §9.1).
    cancel: Option<ClientId>,
    /// The connection that the request went by, as far as it is known; else 0.
    carrier: u64,
}

#[derive(Debug, Clone, Copy)]
enum Owner {
    Server(Id, Timer),
    Client(Id, Timer),
}

/// The transaction layer.
#[derive(Debug)]
pub struct Endpoint {
    servers: Slab<ServerEntry>,
    clients: Slab<ClientEntry>,
    by_key: HashMap<u128, Id, BuildHasherDefault<KeyHasher>>,
    /// Merge keys of the server transactions that have one.
    merging: HashSet<u128, BuildHasherDefault<KeyHasher>>,
    /// Client transactions by their connection: many of them close at once when a network goes away.
    by_carrier: BTreeSet<(u64, u64)>,
    timers: Timers<Owner>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    entropy: Entropy,
    max_transactions: usize,
    max_octets: usize,
    answered: Answered,
    /// Of the messages that transactions hold.
    octets: usize,
    /// User of transactions that nobody asks after: our CANCELs.
    limits: Limits,
}

/// The user of a transaction whose outcome nobody waits for.
pub const NOBODY: u64 = u64::MAX;

impl Endpoint {
    /// An endpoint of at most so many server transactions.
    #[must_use]
    pub fn new(max_transactions: usize, seed: u128) -> Self {
        Self {
            servers: Slab::default(),
            clients: Slab::default(),
            by_key: HashMap::default(),
            merging: HashSet::default(),
            by_carrier: BTreeSet::new(),
            timers: Timers::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            entropy: Entropy::new(seed),
            max_transactions,
            max_octets: usize::MAX,
            answered: Answered::default(),
            octets: 0,
            limits: Limits::default(),
        }
    }

    /// With a bound of the octets that the transactions hold, beside that of their number.
    #[must_use]
    pub fn with_max_octets(self, max_octets: usize) -> Self {
        Self { max_octets, ..self }
    }

    /// Takes a valid message in.
    pub fn receive(&mut self, now: Instant, flow: Flow, message: &Message) -> Received {
        match message.method() {
            None => self.receive_response(now, message),
            Some(Method::Ack) => self.receive_ack(now, flow, message),
            Some(method) => self.receive_request(now, flow, method, message),
        }
    }

    fn receive_request(
        &mut self,
        now: Instant,
        flow: Flow,
        method: Method,
        message: &Message,
    ) -> Received {
        let keys = ServerKeys::of(&self.entropy, flow, message);
        if let Some(id) = self.by_key.get(&keys.own).copied() {
            // RFC 3261 §17.2.1: the response goes where the retransmission came from.
            if let Some(entry) = self.servers.get_mut(id) {
                entry.flow = response_flow(flow, message);
            }
            self.drive_server(now, id, ServerInput::Retransmission);
            return Received::Absorbed;
        }
        if let Some(answer) = self.answered.find(now, keys.own) {
            self.reply(flow, message, answer);
            return Received::Absorbed;
        }
        match method {
            Method::Cancel => {
                Received::Cancel(self.by_key.get(&keys.invite).copied().map(ServerId))
            }
            _ => Received::Request,
        }
    }

    fn receive_ack(&mut self, now: Instant, flow: Flow, message: &Message) -> Received {
        let keys = ServerKeys::of(&self.entropy, flow, message);
        let Some(id) = self.by_key.get(&keys.invite).copied() else {
            return Received::Ack;
        };
        if self.drive_server(now, id, ServerInput::Ack) {
            Received::Ack
        } else {
            Received::Absorbed
        }
    }

    fn receive_response(&mut self, now: Instant, message: &Message) -> Received {
        let Some(id) = self.client_of(message) else {
            return Received::Stray;
        };
        let status = message.status().unwrap_or_default();
        let passed = self.drive_client(now, id, ClientInput::Response(status), Some(message));
        if passed {
            Received::Response(ClientId(id))
        } else {
            Received::Absorbed
        }
    }

    /// RFC 3261 §17.1.3: by the branch, and the method of CSeq.
    fn client_of(&self, message: &Message) -> Option<Id> {
        let via = message.top_via().ok()?;
        let branch = ClientBranch::read(via.branch()?)?;
        let entry = self
            .clients
            .get(branch.id)
            .filter(|entry| entry.secret == branch.secret)?;
        let of_cancel = message.cseq().ok()?.method == Method::Cancel;
        if of_cancel {
            entry.cancel.map(|client| client.0)
        } else {
            Some(branch.id)
        }
    }

    /// Makes the server transaction of a new request, unless there is a reason against it.
    ///
    /// # Errors
    /// [`NotAccepted`] says which; no state was made.
    pub fn accept(
        &mut self,
        now: Instant,
        flow: Flow,
        request: &Message,
        user: u64,
    ) -> Result<ServerId, NotAccepted> {
        if self.servers.len() >= self.max_transactions || self.octets >= self.max_octets {
            return Err(NotAccepted::Full);
        }
        let merge_key = merge_key(&self.entropy, request);
        if merge_key != 0 && !self.merging.insert(merge_key) {
            return Err(NotAccepted::Merged);
        }
        let reliable = flow.transport.is_reliable();
        let (machine, actions, response) = if request.method() == Some(Method::Invite) {
            let (machine, actions) = InviteServer::new(reliable);
            let trying = crate::ResponseBuilder::new(request, 100, "")
                .received(flow.remote)
                .finish();
            (ServerMachine::Invite(machine), actions, trying)
        } else {
            (
                ServerMachine::Other(Server::new(reliable)),
                Actions::new(),
                Bytes::new(),
            )
        };
        let key = ServerKeys::of(&self.entropy, flow, request).own;
        self.octets += response.len();
        let id = self.servers.insert(ServerEntry {
            machine,
            key,
            merge_key,
            flow: response_flow(flow, request),
            response,
            user,
        });
        self.by_key.insert(key, id);
        self.perform_server(now, id, &actions);
        Ok(ServerId(id))
    }

    /// Whom the events of this transaction concern.
    pub fn set_user(&mut self, server: ServerId, user: u64) {
        if let Some(entry) = self.servers.get_mut(server.0) {
            entry.user = user;
        }
    }

    /// The user of a server transaction.
    #[must_use]
    pub fn server_user(&self, server: ServerId) -> Option<u64> {
        self.servers.get(server.0).map(|entry| entry.user)
    }

    /// The user of a client transaction.
    #[must_use]
    pub fn client_user(&self, client: ClientId) -> Option<u64> {
        self.clients.get(client.0).map(|entry| entry.user)
    }

    /// Answers through the transaction. What RFC 3261 §17.2 forbids (a second final answer) is not sent.
    pub fn respond(&mut self, now: Instant, server: ServerId, status: u16, bytes: Bytes) {
        let Some(entry) = self.servers.get_mut(server.0) else {
            return;
        };
        let previous = std::mem::replace(&mut entry.response, bytes);
        let actions = entry.handle(ServerInput::Respond(status));
        if actions.is_empty() {
            entry.response = previous;
            return;
        }
        let now_held = entry.response.len();
        self.octets = (self.octets + now_held).saturating_sub(previous.len());
        self.perform_server(now, server.0, &actions);
    }

    /// Answers without a transaction, and again when a datagram repeats the request within some seconds.
    pub fn reply_again(&mut self, now: Instant, flow: Flow, request: &Message, bytes: Bytes) {
        if !flow.transport.is_reliable() {
            let key = ServerKeys::of(&self.entropy, flow, request).own;
            self.answered.keep(now, key, bytes.clone());
        }
        self.reply(flow, request, bytes);
    }

    /// Answers without a transaction, where RFC 3261 §18.2.2 says.
    pub fn reply(&mut self, flow: Flow, request: &Message, bytes: Bytes) {
        self.send(response_flow(flow, request), bytes);
    }

    /// Sends a request in a new client transaction. `build` is given the branch; it may append to it after a dot.
    pub fn request(
        &mut self,
        now: Instant,
        flow: Flow,
        method: Method,
        user: u64,
        build: impl FnOnce(&str) -> Bytes,
    ) -> ClientId {
        let reliable = flow.transport.is_reliable();
        let (machine, actions) = if method == Method::Invite {
            let (machine, actions) = InviteClient::new(reliable);
            (ClientMachine::Invite(machine), actions)
        } else {
            let (machine, actions) = Client::new(reliable);
            (ClientMachine::Other(machine), actions)
        };
        let secret = u32::try_from(self.entropy.next_u64() >> 32).unwrap_or_default();
        let entry = ClientEntry {
            machine,
            secret,
            flow,
            request: Bytes::new(),
            user,
            cancel: None,
            carrier: 0,
        };
        let id = self.clients.insert(entry);
        if flow.is_connection() {
            self.carried(ClientId(id), flow.connection);
        }
        let request = build(&ClientBranch { id, secret }.to_string());
        self.octets += request.len();
        if let Some(entry) = self.clients.get_mut(id) {
            entry.request = request;
        }
        self.perform_client(now, id, &actions, None);
        ClientId(id)
    }

    /// Cancels an INVITE that has had a provisional response (RFC 3261 §9.1), with a Reason (RFC 3326) unless it is
    /// empty. `false`: not possible now.
    pub fn cancel(&mut self, now: Instant, client: ClientId, reason: &[u8]) -> bool {
        if self.client_state(client) != ClientState::Proceeding {
            return false;
        }
        let Some(entry) = self
            .clients
            .get(client.0)
            .filter(|entry| entry.cancel.is_none())
        else {
            return true;
        };
        let Some(bytes) = self
            .parse(&entry.request)
            .and_then(|invite| cancel_for(&invite, reason))
        else {
            return false;
        };
        let flow = entry.flow;
        let cancel = self.request(now, flow, Method::Cancel, NOBODY, |_| bytes);
        if let Some(entry) = self.clients.get_mut(client.0) {
            entry.cancel = Some(cancel);
        }
        true
    }

    fn parse(&self, bytes: &Bytes) -> Option<Message> {
        Message::parse(bytes.clone(), Framing::Datagram, &self.limits).ok()
    }

    /// How far a client transaction is.
    #[must_use]
    pub fn client_state(&self, client: ClientId) -> ClientState {
        use crate::transaction::client::State;
        match self.clients.get(client.0).map(|entry| &entry.machine) {
            Some(ClientMachine::Invite(machine)) => match machine.state {
                InviteClientState::Calling => ClientState::Calling,
                InviteClientState::Proceeding => ClientState::Proceeding,
                _ => ClientState::Done,
            },
            Some(ClientMachine::Other(machine)) => match machine.state {
                State::Trying => ClientState::Calling,
                State::Proceeding => ClientState::Proceeding,
                _ => ClientState::Done,
            },
            None => ClientState::Done,
        }
    }

    /// Sends without a transaction.
    pub fn send(&mut self, flow: Flow, bytes: Bytes) {
        self.transmits.push_back(Transmit {
            flow,
            bytes,
            client: None,
        });
    }

    /// The transport could not send for this transaction (RFC 3261 §17.1.4).
    pub fn transport_failed(&mut self, now: Instant, client: ClientId) {
        self.drive_client(now, client.0, ClientInput::TransportFailed, None);
    }

    /// The request went by this connection, which was found or opened for it.
    pub fn carried(&mut self, client: ClientId, connection: u64) {
        let Some(entry) = self.clients.get_mut(client.0) else {
            return;
        };
        let before = std::mem::replace(&mut entry.carrier, connection);
        self.by_carrier.remove(&(before, client.0.to_bits()));
        self.by_carrier.insert((connection, client.0.to_bits()));
    }

    /// A connection is gone: what was asked over it is not answered any more (RFC 3261 §16.9, §18.4).
    pub fn connection_closed(&mut self, now: Instant, connection: u64) {
        let over = self
            .by_carrier
            .range((connection, 0)..=(connection, u64::MAX));
        let over: Vec<Id> = over.map(|(_, client)| Id::from_bits(*client)).collect();
        for id in over {
            self.drive_client(now, id, ClientInput::ConnectionLost, None);
        }
    }

    /// Ends a client transaction for which nobody waits any more: cancelled, and never answered (RFC 3261 §9.1).
    pub fn abandon_client(&mut self, client: ClientId) {
        self.remove_client(client.0);
    }

    fn remove_client(&mut self, id: Id) {
        let Some(entry) = self.clients.remove(id) else {
            return;
        };
        self.octets = self.octets.saturating_sub(entry.request.len());
        if entry.carrier != 0 {
            self.by_carrier.remove(&(entry.carrier, id.to_bits()));
        }
    }

    /// Ends a server transaction without an answer (RFC 4320 §4.2).
    pub fn abandon_server(&mut self, server: ServerId) {
        self.end_server(server.0);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(owner) = self.timers.pop(now) {
            match owner {
                Owner::Server(id, timer) => {
                    self.drive_server(now, id, ServerInput::Fired(timer));
                }
                Owner::Client(id, timer) => {
                    self.drive_client(now, id, ClientInput::Fired(timer), None);
                }
            }
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When to call [`Endpoint::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Server and client transactions.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.servers.len(), self.clients.len())
    }

    /// Whether there is no transaction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// An unguessable number.
    pub fn random(&mut self) -> u64 {
        self.entropy.next_u64()
    }

    /// A tag for From or To.
    pub fn new_tag(&mut self) -> String {
        format!("{:016x}", self.random())
    }

    /// A keyed hash.
    #[must_use]
    pub fn digest(&self, parts: &[&[u8]]) -> u128 {
        self.entropy.digest(parts)
    }

    /// A branch for a request forwarded without a transaction: the same for the same request (RFC 3261 §16.11).
    #[must_use]
    pub fn stateless_branch(&self, request: &Message) -> String {
        let via = request.header(crate::HeaderName::Via).unwrap_or_default();
        let hash = self.digest(&[via, request.call_id(), request.request_uri().as_bytes()]);
        format!("{BRANCH_COOKIE}s{hash:032x}")
    }

    /// Runs a server machine; whether it passed an ACK.
    fn drive_server(&mut self, now: Instant, id: Id, input: ServerInput) -> bool {
        let Some(entry) = self.servers.get_mut(id) else {
            return false;
        };
        let actions = entry.handle(input);
        self.perform_server(now, id, &actions);
        actions.contains(&Action::Pass)
    }

    fn perform_server(&mut self, now: Instant, id: Id, actions: &Actions) {
        for action in actions {
            match action {
                Action::Send | Action::Trying => self.send_response(id),
                Action::Start(timer, after) => self.start(now, *after, Owner::Server(id, *timer)),
                Action::Fail => self.server_event(id, |user| Event::AckMissing { user }),
                Action::Terminate => self.end_server(id),
                Action::Pass | Action::Ack => {}
            }
        }
    }

    fn send_response(&mut self, id: Id) {
        let Some(entry) = self
            .servers
            .get(id)
            .filter(|entry| !entry.response.is_empty())
        else {
            return;
        };
        self.transmits.push_back(Transmit {
            flow: entry.flow,
            bytes: entry.response.clone(),
            client: None,
        });
    }

    fn server_event(&mut self, id: Id, event: impl FnOnce(u64) -> Event) {
        let user = self
            .servers
            .get(id)
            .map(|entry| entry.user)
            .filter(|user| *user != NOBODY);
        self.events.extend(user.map(event));
    }

    fn end_server(&mut self, id: Id) {
        self.server_event(id, |user| Event::ServerEnded { user });
        if let Some(entry) = self.servers.remove(id) {
            self.octets = self.octets.saturating_sub(entry.response.len());
            self.by_key.remove(&entry.key);
            self.merging.remove(&entry.merge_key);
        }
    }

    /// Runs a client machine; whether it passed the response.
    fn drive_client(
        &mut self,
        now: Instant,
        id: Id,
        input: ClientInput,
        message: Option<&Message>,
    ) -> bool {
        let Some(entry) = self.clients.get_mut(id) else {
            return false;
        };
        let user = entry.user;
        let actions = match &mut entry.machine {
            ClientMachine::Invite(machine) => machine.handle(input),
            ClientMachine::Other(machine) => machine.handle(input),
        };
        if actions.contains(&Action::Fail) && user != NOBODY {
            let timeout = matches!(input, ClientInput::Fired(_));
            self.events.push_back(Event::ClientFailed {
                client: ClientId(id),
                user,
                timeout,
            });
        }
        // The user still finds the transaction while it looks at the response.
        self.perform_client(now, id, &actions, message);
        actions.contains(&Action::Pass) && user != NOBODY
    }

    fn perform_client(
        &mut self,
        now: Instant,
        id: Id,
        actions: &Actions,
        message: Option<&Message>,
    ) {
        for action in actions {
            match action {
                Action::Send => self.send_request(id),
                Action::Ack => self.send_ack(id, message),
                Action::Start(timer, after) => self.start(now, *after, Owner::Client(id, *timer)),
                Action::Terminate => self.end_client(now, id, message),
                Action::Pass | Action::Fail | Action::Trying => {}
            }
        }
    }

    /// A transaction that ends with the response that its user has yet to see ends at the next turn.
    fn end_client(&mut self, now: Instant, id: Id, message: Option<&Message>) {
        if message.is_some() {
            self.start(now, Duration::ZERO, Owner::Client(id, Timer::K));
            self.start(now, Duration::ZERO, Owner::Client(id, Timer::D));
        } else {
            self.remove_client(id);
        }
    }

    fn send_request(&mut self, id: Id) {
        let Some(entry) = self.clients.get(id) else {
            return;
        };
        let (flow, bytes) = (entry.flow, entry.request.clone());
        self.transmits.push_back(Transmit {
            flow,
            bytes,
            client: Some(ClientId(id)),
        });
    }

    fn send_ack(&mut self, id: Id, response: Option<&Message>) {
        let Some((entry, response)) = self.clients.get(id).zip(response) else {
            return;
        };
        let Some(bytes) = self
            .parse(&entry.request)
            .and_then(|invite| ack_for(&invite, response))
        else {
            return;
        };
        self.transmits.push_back(Transmit {
            flow: entry.flow,
            bytes,
            client: None,
        });
    }

    fn start(&mut self, now: Instant, after: Duration, owner: Owner) {
        self.timers.start(now, after, owner);
    }
}

impl ServerEntry {
    fn handle(&mut self, input: ServerInput) -> Actions {
        match &mut self.machine {
            ServerMachine::Invite(machine) => machine.handle(input),
            ServerMachine::Other(machine) => machine.handle(input),
        }
    }
}

#[cfg(test)]
mod tests;
