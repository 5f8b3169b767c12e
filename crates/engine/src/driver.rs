//! Runs one shard on its thread: hands it what arrives, and does what it wants.
//!
//! *Invariant*: the shard is borrowed for one call at a time and never across an await; after
//! every turn [`Driver::pump`] has emptied what the shard had to say.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sidetone_model::{AccountId, AddressOfRecord, ConversationId, DeviceId, MessageId, NewMessage};
use sidetone_services::{Abilities, Conversations, Outcome, PostError};
use sidetone_sip::endpoint::{ClientId, Transmit};
use sidetone_sip::flow::{Flow, Transport};
use sidetone_transport::dns;
use sidetone_transport::stream::WriteError;
use sidetone_transport::udp::{SendBatch, UdpSocket};
use tokio::sync::Notify;

use crate::connections::{Connections, Link, Numbers, shard_of};
use crate::inbox::{Inbox, Mail};
use crate::late::{Late, Marked};
use crate::outward::Outward;
use crate::owners::Owners;
use crate::reach::Reach;
use crate::runtime::Supplies;
use crate::shard::{News, Note, Now, ResolveTarget, Shard, Want};

/// Timers fire together when they are due this close to each other.
const TIMER_GRAIN: Duration = Duration::from_millis(4);
/// Look-ups at once.
const LOOKUPS_MAX: usize = 4_096;
/// Messages in one page of a device's spool.
const PAGE: u32 = 32;

/// A UDP socket with what waits to leave by it.
pub(crate) struct UdpPort {
    pub(crate) socket: UdpSocket,
    pub(crate) batch: RefCell<SendBatch>,
    /// Whose requests are in the batch.
    clients: RefCell<Vec<(SocketAddr, ClientId)>>,
    /// The socket would block: the port's flushing task takes over.
    pub(crate) blocked: Notify,
    touched: Cell<bool>,
}

impl UdpPort {
    pub(crate) fn new(socket: UdpSocket) -> Self {
        Self {
            socket,
            batch: RefCell::default(),
            clients: RefCell::default(),
            blocked: Notify::new(),
            touched: Cell::new(false),
        }
    }
}

/// What the shards share.
pub(crate) struct Shared {
    /// Where we listen, by listener number.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) owners: Owners,
    pub(crate) numbers: Arc<[Numbers]>,
    pub(crate) inboxes: Arc<[Inbox]>,
    pub(crate) reach: Arc<Reach>,
    pub(crate) supplies: Arc<Supplies>,
}

/// One shard and everything around it.
pub(crate) struct Driver {
    pub(crate) index: u16,
    shard: RefCell<Shard>,
    /// By listener number; `None` for those that are no UDP.
    pub(crate) ports: Vec<Option<UdpPort>>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) connections: Connections,
    pub(crate) outward: Outward,
    pub(crate) numbers: Arc<[Numbers]>,
    pub(crate) inboxes: Arc<[Inbox]>,
    pub(crate) owners: Owners,
    pub(crate) reach: Arc<Reach>,
    pub(crate) supplies: Arc<Supplies>,
    late: RefCell<Late>,
    lookups: Arc<AtomicUsize>,
    /// What this shard has added to the count of calls that ring.
    ringing: Cell<u64>,
    deadline: Cell<Option<Instant>>,
    earlier: Notify,
    this: Weak<Self>,
    stopping: Cell<bool>,
}

impl Driver {
    pub(crate) fn new(
        index: u16,
        shard: Shard,
        ports: Vec<Option<UdpPort>>,
        shared: Shared,
    ) -> Rc<Self> {
        let Shared {
            addresses,
            owners,
            numbers,
            inboxes,
            reach,
            supplies,
        } = shared;
        Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            stopping: Cell::new(false),
            index,
            shard: RefCell::new(shard),
            ports,
            addresses,
            connections: Connections::new(Arc::clone(&reach)),
            outward: Outward::default(),
            numbers,
            inboxes,
            owners,
            reach,
            supplies,
            late: RefCell::default(),
            lookups: Arc::default(),
            ringing: Cell::new(0),
            deadline: Cell::new(None),
            earlier: Notify::new(),
        })
    }

    /// For tasks that outlive the call.
    pub(crate) fn shared(&self) -> Option<Rc<Self>> {
        self.this.upgrade()
    }

    /// Closes everything. The bindings of connections that end with us stay as they are: a
    /// restart finds them in the store.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.connections.close_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// One datagram; [`Driver::pump`] follows once the batch is through.
    pub(crate) fn datagram(&self, now: Now, listener: u16, remote: SocketAddr, octets: &[u8]) {
        let owner = self.owners.of_message(octets, self.index);
        if owner == self.index {
            let mut shard = self.shard.borrow_mut();
            return shard.handle_datagram(now, listener, remote, octets);
        }
        let flow = Flow::to(Transport::Udp, listener, remote);
        let bytes = Bytes::copy_from_slice(octets);
        // Over the bound it is a datagram lost: the peer sends again.
        self.forward(owner, flow, bytes);
    }

    /// One message of a stream or WebSocket.
    pub(crate) fn message(&self, now: Now, flow: Flow, bytes: Bytes) {
        let owner = self.owners.of_message(&bytes, self.index);
        if owner == self.index {
            self.shard.borrow_mut().handle_frame(now, flow, bytes);
        } else if !self.forward(owner, flow, bytes) {
            // A stream promises that nothing is lost: rather no stream.
            self.close(flow.connection);
        }
    }

    fn forward(&self, owner: u16, flow: Flow, bytes: Bytes) -> bool {
        let note = Note::Forwarded { flow, bytes };
        self.offer(owner, Mail::Note(note))
    }

    /// Puts what a peer caused into another shard's inbox, and counts what has no room there.
    pub(crate) fn offer(&self, shard: u16, mail: Mail) -> bool {
        let sent = self.inbox(shard).offer(mail);
        if !sent {
            self.supplies.counts.overflowed.fetch_add(1, Relaxed);
        }
        sent
    }

    /// Calls the shard.
    pub(crate) fn with<T>(&self, call: impl FnOnce(&mut Shard) -> T) -> T {
        call(&mut self.shard.borrow_mut())
    }

    pub(crate) fn inbox(&self, shard: u16) -> &Inbox {
        &self.inboxes[usize::from(shard) % self.inboxes.len()]
    }

    /// Handles a mail; [`Driver::pump`] follows once the inbox is empty.
    pub(crate) fn mail(&self, now: Now, mail: Mail) {
        match mail {
            Mail::Note(note) => self.note(now, note),
            Mail::Transmit { transmit, from } => {
                if let Err(client) = self.transmit(&transmit, from) {
                    self.report(client, from);
                }
            }
            Mail::Outward {
                transmit,
                peer,
                from,
            } => {
                if let Err(client) = self.transmit_outward(&transmit, peer, from) {
                    self.report(client, from);
                }
            }
            Mail::Carried { client, connection } => {
                self.with(|shard| shard.carried(client, connection));
            }
            Mail::Failed(client) => self.with(|shard| shard.transport_failed(now, client)),
            Mail::Gone(flow) => self.with(|shard| shard.connection_closed(now, flow)),
            Mail::Close(connection) => self.close(connection),
            Mail::Opened {
                flow,
                outgoing,
                place,
            } => {
                self.connections
                    .insert(Rc::new(Link::web(flow, outgoing, place)));
            }
            Mail::Message { flow, bytes } => self.web_message(now, flow, bytes),
            Mail::Left(flow) => self.gone(now, flow),
            Mail::Stop => {}
        }
    }

    fn note(&self, now: Now, note: Note) {
        self.with(|shard| shard.handle_note(now, note));
    }

    /// RFC 7118 §6: keep-alives of RFC 5626 §4.4.1 are messages of line ends only.
    fn web_message(&self, now: Now, flow: Flow, bytes: Bytes) {
        let Some(link) = self.connections.get(flow.connection) else {
            return;
        };
        if bytes.iter().all(|octet| matches!(octet, b'\r' | b'\n')) {
            if bytes.len() >= 4 && link.write(&Bytes::from_static(b"\r\n")).is_err() {
                link.close();
            }
            return;
        }
        self.message(now, flow, bytes);
    }

    /// A connection is gone: nobody sends by it any more.
    pub(crate) fn gone(&self, now: Now, flow: Flow) {
        if !self.connections.remove(&flow) {
            return;
        }
        self.with(|shard| shard.connection_closed(now, flow));
        self.others()
            .for_each(|other| self.inbox(other).tell(Mail::Gone(flow)));
    }

    /// Does all that the shard wants, until it wants nothing.
    pub(crate) fn pump(&self) {
        self.retry_late();
        loop {
            let mut idle = true;
            while let Some(transmit) = self.with(Shard::poll_transmit) {
                idle = false;
                if let Err(client) = self.transmit(&transmit, self.index) {
                    self.report(client, self.index);
                }
            }
            self.flush_udp();
            while let Some(want) = self.with(Shard::poll_want) {
                idle = false;
                self.fulfil(want);
            }
            if idle {
                break;
            }
        }
        self.arm();
        self.count_calls();
    }

    /// Brings the count of all shards in step with this one.
    fn count_calls(&self) {
        let now = self.with(|shard| shard.calls_ringing() as u64);
        let before = self.ringing.replace(now);
        if now != before {
            // Differences wrap round, and so does the sum.
            let difference = now.wrapping_sub(before);
            self.supplies.counts.ringing.fetch_add(difference, Relaxed);
        }
    }

    /// Tells the shard that made the request. `None`: nobody asked to be told.
    pub(crate) fn report(&self, client: Option<ClientId>, from: u16) {
        match client {
            Some(client) if from == self.index => {
                self.with(|shard| shard.transport_failed(Now::read(), client));
            }
            Some(client) => self.inbox(from).tell(Mail::Failed(client)),
            None => {}
        }
    }

    /// Sends, for the shard `from`, or says whose transmit could not be sent.
    fn transmit(&self, transmit: &Transmit, from: u16) -> Result<(), Option<ClientId>> {
        let flow = &transmit.flow;
        if flow.transport == Transport::Udp {
            return self.push_datagram(transmit);
        }
        if !flow.is_connection() {
            let peer = self.peer_of(flow).ok_or(transmit.client)?;
            return self.transmit_outward(transmit, peer, from);
        }
        let holder = shard_of(flow.connection);
        // One of a time with more shards is gone.
        if holder != self.index && usize::from(holder) < self.inboxes.len() {
            return self.transmit_elsewhere(holder, transmit);
        }
        let link = self.connections.get(flow.connection);
        let written = link.map(|link| self.write(&link, &transmit.bytes));
        match written {
            Some(Ok(())) => Ok(()),
            Some(Err(WriteError::Full)) => Err(transmit.client),
            Some(Err(WriteError::Closed)) | None => self.answer_anew(transmit, from),
        }
    }

    pub(crate) fn write(&self, link: &Link, bytes: &Bytes) -> Result<(), WriteError> {
        link.write(bytes).inspect_err(|error| {
            tracing::debug!(remote = %link.flow.remote, %error, "not sent");
            link.close();
        })
    }

    fn transmit_elsewhere(&self, holder: u16, transmit: &Transmit) -> Result<(), Option<ClientId>> {
        let mail = Mail::Transmit {
            transmit: transmit.clone(),
            from: self.index,
        };
        match self.offer(holder, mail) {
            true => Ok(()),
            false => Err(transmit.client),
        }
    }

    fn push_datagram(&self, transmit: &Transmit) -> Result<(), Option<ClientId>> {
        let at = usize::from(transmit.flow.listener);
        let port = self.ports.get(at).and_then(Option::as_ref);
        let port = port.or_else(|| self.any_port(transmit.flow.remote));
        let port = port.ok_or(transmit.client)?;
        if let Some(client) = transmit.client {
            port.clients
                .borrow_mut()
                .push((transmit.flow.remote, client));
        }
        port.touched.set(true);
        let mut batch = port.batch.borrow_mut();
        if !batch.push(transmit.flow.remote, transmit.bytes.clone()) {
            // A datagram lost: who sent it sends it again.
            self.supplies.counts.dropped.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// A token or a binding may name a listener of an earlier configuration.
    fn any_port(&self, remote: SocketAddr) -> Option<&UdpPort> {
        let mut ports = self.ports.iter().flatten();
        ports.find(|port| port.socket.local_addr().is_ipv4() == remote.is_ipv4())
    }

    fn flush_udp(&self) {
        for port in self.ports.iter().flatten() {
            if port.touched.take() {
                self.flush_port(port);
            }
        }
    }

    /// Sends what the socket takes, and tells of what the system refused.
    pub(crate) fn flush_port(&self, port: &UdpPort) {
        let mut batch = port.batch.borrow_mut();
        batch.try_flush(&port.socket);
        if !batch.is_empty() {
            port.blocked.notify_one();
        }
        let failures = batch.take_failures();
        drop(batch);
        let mut clients = port.clients.borrow_mut();
        for failure in &failures {
            tracing::debug!(remote = %failure.remote, error = %failure.kind, "not sent");
            for (_, client) in clients.iter().filter(|(to, _)| *to == failure.remote) {
                self.report(Some(*client), self.index);
            }
        }
        clients.clear();
    }

    fn fulfil(&self, want: Want) {
        match want {
            Want::Append {
                author,
                message,
                ticket,
            } => self.append(author, *message, ticket),
            Want::Delivered { device, message } => self.delivered(device, message),
            Want::Arrived { device, event } => self.arrived(device, event),
            Want::Refused {
                device,
                message,
                event,
            } => self.refused(device, message, event),
            Want::Composing {
                author,
                to,
                holds_s,
                ticket,
            } => self.tell(ticket, move |conversations, now_ms| async move {
                conversations.composing(now_ms, &author, &to, holds_s).await
            }),
            Want::Notified {
                author,
                device,
                notification,
                ticket,
            } => self.tell(ticket, move |conversations, now_ms| async move {
                let phone = (&author, device);
                conversations.notified(now_ms, phone, &notification).await
            }),
            Want::Learned { device, abilities } => self.learned(device, abilities),
            Want::Pending { device, after } => self.pending(device, after),
            Want::Resolve { target, ticket } => self.resolve(target, ticket),
            Want::Close { connection } => self.close(connection),
            Want::Wake { device, news } => self.wake(device, news),
            Want::TellChanged { address, change } => {
                for other in self.others() {
                    let address = address.clone();
                    let note = Note::Changed { address, change };
                    self.inbox(other).tell(Mail::Note(note));
                }
            }
            Want::TellBack { device, flow } => {
                for other in self.others() {
                    let note = Note::DeviceBack { device, flow };
                    self.inbox(other).tell(Mail::Note(note));
                }
            }
            Want::Count { account, address } => self.count_messages(account, address),
            Want::Ask { account, address } => {
                let supplies = Arc::clone(&self.supplies);
                let asking = crate::contacts::ask_by_phone(supplies, account, address);
                self.supplies.control.spawn(asking);
            }
        }
    }

    fn others(&self) -> impl Iterator<Item = u16> {
        let index = self.index;
        (0..self.owners.shards()).filter(move |other| *other != index)
    }

    fn wake(&self, device: DeviceId, news: News) {
        let owner = self.owners.of_device(device);
        let note = Note::Wake { device, news };
        match owner == self.index {
            true => self.note(Now::read(), note),
            false => self.inbox(owner).tell(Mail::Note(note)),
        }
    }

    fn append(&self, author: AddressOfRecord, message: NewMessage, ticket: u64) {
        let inbox = self.inbox(self.index).clone();
        let done = Box::new(move |result: Result<Outcome, PostError>| {
            let result = result.map(|outcome| MessageId(outcome.id.0));
            inbox.tell(Mail::Note(Note::Appended { ticket, result }));
        });
        let supplies = &self.supplies;
        let Some(message) = supplies.conversations.try_post(author, message, done) else {
            return;
        };
        // Its conversation is not in memory.
        let conversations = Arc::clone(&supplies.conversations);
        supplies
            .control
            .spawn(async move { message.post(&conversations).await });
    }

    fn delivered(&self, device: DeviceId, message: MessageId) {
        self.late.borrow_mut().mark(device, message);
        self.retry_late();
    }

    fn arrived(&self, device: DeviceId, event: (ConversationId, u64)) {
        let owner = self.supplies.services.directory.account_of(device);
        let Some(owner) = owner else { return };
        let conversations = &self.supplies.conversations;
        let now_ms = Now::read().unix_ms;
        if conversations.try_arrived(now_ms, &owner.address, event) {
            return;
        }
        // Its conversation is not in memory.
        let conversations = Arc::clone(conversations);
        self.supplies.control.spawn(async move {
            conversations.arrived(now_ms, &owner.address, event).await;
        });
    }

    fn refused(&self, device: DeviceId, message: MessageId, event: (ConversationId, u64)) {
        let conversations = Arc::clone(&self.supplies.conversations);
        let now_ms = Now::read().unix_ms;
        self.supplies.control.spawn(async move {
            let noted = conversations.refused(now_ms, device, message, event).await;
            if let Err(error) = noted {
                tracing::warn!(%device, %error, "a message that was refused was not noted");
            }
        });
    }

    /// Tells the conversations something that is not kept, and the shard what came of it.
    fn tell<F>(&self, ticket: u64, tell: impl FnOnce(Arc<Conversations>, u64) -> F)
    where
        F: Future<Output = Result<(), PostError>> + Send + 'static,
    {
        let inbox = self.inbox(self.index).clone();
        let conversations = Arc::clone(&self.supplies.conversations);
        let now_ms = Now::read().unix_ms;
        let telling = tell(conversations, now_ms);
        self.supplies.control.spawn(async move {
            let told = telling.await;
            let result = told.map(|()| MessageId(0));
            inbox.tell(Mail::Note(Note::Appended { ticket, result }));
        });
    }

    /// What is not written is learned again.
    fn learned(&self, device: DeviceId, abilities: Abilities) {
        let store = self.supplies.writer.store().clone();
        self.supplies.control.spawn(async move {
            if let Err(error) = store.set_abilities(device, abilities.bits()).await {
                tracing::debug!(%device, %error, "what a device understands was not written");
            }
        });
    }

    fn pending(&self, device: DeviceId, after: MessageId) {
        self.late.borrow_mut().read(device, after);
        self.retry_late();
    }

    /// Hands the store what waits for room in its queue, in order: what a device has taken is
    /// marked before anything is read for it. The sweeper comes by every second, should
    /// nothing else happen.
    fn retry_late(&self) {
        loop {
            let writer = &self.supplies.writer;
            let hand_over = |device, message| writer.try_delivered(device, message).is_ok();
            let next = self.late.borrow_mut().next(hand_over);
            match next {
                Some(Marked { device, after }) => self.read_pending(device, after),
                None => return,
            }
        }
    }

    fn read_pending(&self, device: DeviceId, after: MessageId) {
        let inbox = self.inbox(self.index).clone();
        let supplies = Arc::clone(&self.supplies);
        self.supplies.control.spawn(async move {
            let messages = supplies.pending(device, after, PAGE).await;
            inbox.tell(Mail::Note(Note::Pending { device, messages }));
        });
    }

    fn count_messages(&self, account: AccountId, address: AddressOfRecord) {
        let inbox = self.inbox(self.index).clone();
        let supplies = Arc::clone(&self.supplies);
        self.supplies.control.spawn(async move {
            let counts = supplies.writer.waiting_counts(account).await;
            let counts = counts.inspect_err(
                |error| tracing::warn!(%address, %error, "waiting messages could not be counted"),
            );
            let note = Note::Counted {
                account,
                address,
                counts: counts.ok(),
            };
            inbox.tell(Mail::Note(note));
        });
    }

    fn resolve(&self, target: ResolveTarget, ticket: u64) {
        let inbox = self.inbox(self.index).clone();
        let resolver = self.supplies.resolver.clone();
        let Some(place) = Lookup::take(&self.lookups) else {
            let hops = Err("too many look-ups".to_owned());
            return inbox.tell(Mail::Note(Note::Resolved { ticket, hops }));
        };
        // SRV weights need no secret (RFC 2782): the ticket and the clock spread the load.
        let seed = ticket.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ Now::read().unix_ms;
        self.supplies.control.spawn(async move {
            let hops = match resolver {
                Some(resolver) => resolver
                    .resolve(asked(target), seed)
                    .await
                    .map_err(|e| e.to_string()),
                None => Err("the system names no name servers".to_owned()),
            };
            let hops: Hops = hops.map(|hops| hops.into_iter().map(hop).collect());
            inbox.tell(Mail::Note(Note::Resolved { ticket, hops }));
            drop(place);
        });
    }

    /// Closes a connection, wherever it is.
    pub(crate) fn close(&self, connection: u64) {
        let holder = shard_of(connection);
        if holder == self.index {
            self.connections
                .get(connection)
                .iter()
                .for_each(|link| link.close());
        } else if usize::from(holder) < self.inboxes.len() {
            self.inbox(holder).tell(Mail::Close(connection));
        }
    }

    /// Notes when the shard wants to be called; wakes the timer only where that is earlier.
    fn arm(&self) {
        let now = Now::read();
        let wanted = self.shard.borrow().poll_timeout(now);
        let armed = self.deadline.get();
        if wanted.is_some_and(|wanted| armed.is_none_or(|armed| wanted < armed)) {
            self.deadline.set(wanted);
            self.earlier.notify_one();
        }
    }

    /// Calls the shard when it is time.
    pub(crate) async fn run_timer(self: Rc<Self>) {
        let sleep = tokio::time::sleep(TIMER_GRAIN);
        tokio::pin!(sleep);
        loop {
            let Some(deadline) = self.deadline.get() else {
                self.earlier.notified().await;
                continue;
            };
            sleep.as_mut().reset(deadline.into());
            tokio::select! {
                () = sleep.as_mut() => {}
                () = self.earlier.notified() => continue,
            }
            let now = Now::read();
            self.deadline.set(None);
            self.with(|shard| shard.handle_timeout(now));
            self.pump();
            // What is due in a moment waits for that moment, and is done together.
            tokio::time::sleep(TIMER_GRAIN).await;
        }
    }
}

type Hops = Result<Vec<(Transport, SocketAddr)>, String>;

impl Now {
    /// The clocks, read.
    #[must_use]
    pub fn read() -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            instant: Instant::now(),
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A look-up's place among those that may be under way.
struct Lookup(Arc<AtomicUsize>);

impl Lookup {
    fn take(lookups: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(lookups));
        let before = lookups.fetch_add(1, Relaxed);
        (before < LOOKUPS_MAX).then_some(place)
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn asked(target: ResolveTarget) -> dns::Target {
    let protocol = |transport| match transport {
        Transport::Udp => dns::Protocol::Udp,
        Transport::Tcp => dns::Protocol::Tcp,
        Transport::Tls => dns::Protocol::Tls,
        Transport::Ws => dns::Protocol::Ws,
        Transport::Wss => dns::Protocol::Wss,
    };
    dns::Target {
        host: target.host,
        port: target.port,
        transport: target.transport.map(protocol),
        sips: target.sips,
    }
}

fn hop(hop: dns::Hop) -> (Transport, SocketAddr) {
    let transport = match hop.transport {
        dns::Protocol::Udp => Transport::Udp,
        dns::Protocol::Tcp => Transport::Tcp,
        dns::Protocol::Tls => Transport::Tls,
        dns::Protocol::Ws => Transport::Ws,
        dns::Protocol::Wss => Transport::Wss,
    };
    (transport, hop.address)
}
