//! Threads of shards: how they start, what they are given, how they end.
//!
//! *Invariant*: all sockets are bound before the first datagram is answered, so that a wrong
//! address is an error at start. A task that fails by a bug of ours is logged and begun again;
//! the other peers do not notice.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use rustls::ServerConfig;
use sidetone_model::{
    AccountId, AddressOfRecord, DeviceId, MessageId, SavedSubscription, SetPresence, StoredMessage,
};
use sidetone_services::conversations::Sessions;
use sidetone_services::presence::PolicyChange;
use sidetone_services::{Abilities, Change, Conversations, Outgoing, Posted, Removal};
use sidetone_sip::flow::Transport;
use sidetone_sip::{Limits, Termination};
use sidetone_store::{Store, StoreError, Writer};
use sidetone_transport::dns::Resolver;
use sidetone_transport::stream::{Listener, ListenerOptions};
use sidetone_transport::tls::ClientTls;
use sidetone_transport::udp::{UdpOptions, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{LocalSet, spawn_local};

use crate::admission::Admission;
use crate::connections::{Numbers, Patience};
use crate::driver::{Driver, Shared, UdpPort};
use crate::inbox::{Inbox, Mail, Outlet};
use crate::listeners;
use crate::owners::Owners;
use crate::reach::Reach;
use crate::shard::{News, Note, Now, Shard, ShardSettings};
use crate::shared::Services;
use crate::websocket::WebSocketDoor;

/// Readers of spool pages at once; the others wait their turn.
const SPOOL_READERS: usize = 8;
/// Tries to read a page before its device has to wait for its next registration.
const SPOOL_TRIES: u32 = 3;
/// A pause before a task that failed begins again.
const RESTART: Duration = Duration::from_millis(50);

/// One listener; its number is its place in [`Plan::listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// How it is spoken to. WebSocket listeners are numbered here and bound elsewhere.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

/// What is to be bound.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Threads, at least one.
    pub shards: u16,
    /// Listeners in the order of their numbers.
    pub listeners: Vec<Listen>,
}

/// An address that cannot be had, or a thread.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}")]
pub struct StartError {
    /// Which.
    pub what: String,
    /// Why.
    pub error: io::Error,
}

/// What all shards are given.
pub struct Supplies {
    /// Accounts, bindings, limits.
    pub services: Arc<Services>,
    /// The way to the disk.
    pub writer: Writer,
    /// What is said, and by whom.
    pub conversations: Arc<Conversations>,
    /// Names to addresses; `None` where the system names no servers.
    pub resolver: Option<Resolver>,
    /// What we present on TLS listeners; `None` where there are none.
    pub server_tls: Option<Arc<ServerConfig>>,
    /// What we trust on connections that we open.
    pub client_tls: ClientTls,
    /// Runs what may wait.
    pub control: Handle,
    /// Limits of messages on streams.
    pub limits: Limits,
    /// Counts connections.
    pub admission: Arc<Admission>,
    /// What connections are closed for.
    pub patience: Patience,
    /// What the shell counts.
    pub counts: Counts,
    /// Subscriptions of an earlier run, until their shards take them over.
    pub subscriptions: Mutex<Vec<SavedSubscription>>,
}

/// What the shell counts.
#[derive(Debug)]
pub struct Counts {
    pub(crate) dropped: AtomicU64,
    pub(crate) put_off: AtomicU64,
    pub(crate) overflowed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// All shards together.
    pub(crate) ringing: AtomicU64,
    spool_readers: Semaphore,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            dropped: AtomicU64::new(0),
            put_off: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            ringing: AtomicU64::new(0),
            spool_readers: Semaphore::new(SPOOL_READERS),
        }
    }
}

/// Numbers for the administrator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Open connections: TCP, TLS, WebSocket.
    pub connections: u64,
    /// INVITEs that have had no final answer yet.
    pub calls_ringing: u64,
    /// Datagrams dropped because their socket took too little.
    pub datagrams_dropped: u64,
    /// New registrations dropped because their socket was behind; they come again.
    pub registrations_put_off: u64,
    /// Messages dropped because the inbox of their shard was full.
    pub inbox_overflows: u64,
    /// Connections refused because there were too many.
    pub connections_refused: u64,
    /// Tasks that failed by a bug and were begun again.
    pub task_failures: u64,
}

impl Supplies {
    fn saved_by_shard(&self, owners: &Owners) -> Vec<Vec<SavedSubscription>> {
        let mut shards: Vec<Vec<SavedSubscription>> = Vec::new();
        shards.resize_with(usize::from(owners.shards()), Vec::new);
        let mut all = self
            .subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.services.watched.restoring(all.len());
        for saved in all.drain(..) {
            shards[usize::from(owners.of_call_id(&saved.call_id))].push(saved);
        }
        shards
    }

    /// A page of what a device has not got; `None` after several failures.
    pub(crate) async fn pending(
        &self,
        device: DeviceId,
        after: MessageId,
        limit: u32,
    ) -> Option<Vec<StoredMessage>> {
        // Never closed; and without a place the store's own pool still is a bound.
        let _place = self.counts.spool_readers.acquire().await;
        for attempt in 1..=SPOOL_TRIES {
            match self.writer.pending(device, after, limit).await {
                Ok(messages) => {
                    let now_ms = Now::read().unix_ms;
                    let shown = |message| self.conversations.for_phone(now_ms, message);
                    return Some(messages.into_iter().map(shown).collect());
                }
                Err(error) => {
                    tracing::warn!(%device, %error, attempt, "the spool could not be read")
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        None
    }
}

/// Where a shard runs.
struct Thread {
    start: oneshot::Sender<Start>,
    handle: JoinHandle<()>,
}

struct Start {
    supplies: Arc<Supplies>,
    settings: ShardSettings,
    seed: u128,
    saved: Vec<SavedSubscription>,
    owners: Owners,
    numbers: Arc<[Numbers]>,
    inboxes: Arc<[Inbox]>,
    reach: Arc<Reach>,
    outlet: Outlet,
}

/// Sockets that are bound; nothing is read from them yet.
pub struct Bound {
    addresses: Vec<SocketAddr>,
    threads: Vec<Thread>,
}

/// The running shards.
pub struct Engine {
    inboxes: Arc<[Inbox]>,
    owners: Owners,
    door: WebSocketDoor,
    supplies: Arc<Supplies>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Bound {
    /// Starts the threads and binds every listener in each.
    ///
    /// # Errors
    /// Names the first address that cannot be bound.
    pub fn bind(plan: &Plan) -> Result<Self, StartError> {
        let shards = plan.shards.max(1);
        let mut plan = Plan {
            shards,
            ..plan.clone()
        };
        let mut threads = Vec::new();
        for index in 0..shards {
            let (thread, addresses) = start_thread(index, plan.clone())?;
            threads.push(thread);
            // Port 0 means one port, chosen by the first: the others share it.
            for (listen, address) in plan.listeners.iter_mut().zip(addresses) {
                listen.address = address;
            }
        }
        let addresses = plan.listeners.iter().map(|listen| listen.address).collect();
        Ok(Self { addresses, threads })
    }

    /// The bound addresses, by listener number.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Begins to serve.
    pub fn run(self, supplies: Supplies, settings: &ShardSettings, seed: u128) -> Engine {
        let count = u16::try_from(self.threads.len()).unwrap_or(u16::MAX);
        let owners = Owners::new(count);
        let unix_s = Now::read().unix_ms / 1000;
        let numbers: Arc<[Numbers]> = (0..count)
            .map(|shard| Numbers::new(shard, unix_s))
            .collect();
        let (inboxes, outlets): (Vec<_>, Vec<_>) = (0..count).map(|_| Inbox::new()).unzip();
        let inboxes: Arc<[Inbox]> = inboxes.into();
        let mut saved = supplies.saved_by_shard(&owners).into_iter();
        let supplies = Arc::new(supplies);
        let reach = Arc::<Reach>::default();
        let mut threads = Vec::new();
        for (thread, outlet) in self.threads.into_iter().zip(outlets) {
            let start = Start {
                supplies: Arc::clone(&supplies),
                settings: settings.clone(),
                seed,
                saved: saved.next().unwrap_or_default(),
                owners: owners.clone(),
                numbers: Arc::clone(&numbers),
                inboxes: Arc::clone(&inboxes),
                reach: Arc::clone(&reach),
                outlet,
            };
            // A thread that is gone is seen by `is_running`.
            let _ = thread.start.send(start);
            threads.push(thread.handle);
        }
        let door = WebSocketDoor::new(
            Arc::clone(&inboxes),
            numbers,
            Arc::clone(&supplies.admission),
        );
        Engine {
            inboxes,
            owners,
            door,
            supplies,
            threads: Mutex::new(threads),
        }
    }
}

impl Engine {
    /// Where WebSocket connections enter.
    pub fn websocket_door(&self) -> WebSocketDoor {
        self.door.clone()
    }

    /// Something may be delivered to the device.
    pub fn wake(&self, device: DeviceId) {
        self.tell_owner(device, News::Registered);
    }

    /// Brings something to devices, now where they are registered.
    pub fn bring(&self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Posted(posted) => self.deliver(&posted),
            Outgoing::Composing(composing) => {
                let composing = Arc::new(composing);
                let abilities = &self.supplies.services.abilities;
                let any = |device: &&DeviceId| abilities.of(**device) != Abilities::default();
                for device in composing.devices.iter().filter(any) {
                    self.tell_owner(*device, News::Composing(Arc::clone(&composing)));
                }
            }
        }
    }

    fn deliver(&self, posted: &Posted) {
        let services = &self.supplies.services;
        for device in &posted.devices {
            let first = services.waiting.add(*device);
            self.stored_for(*device, &posted.message, first);
        }
        // They may have got their first device meanwhile, which the store has given the message.
        for account in &posted.accounts {
            for device in services.directory.devices(*account) {
                services.waiting.add(device);
                self.stored_for(device, &posted.message, false);
            }
        }
    }

    fn stored_for(&self, device: DeviceId, message: &Arc<StoredMessage>, first: bool) {
        let message = Arc::clone(message);
        self.tell_owner(device, News::Stored { message, first });
    }

    fn tell_owner(&self, device: DeviceId, news: News) {
        let owner = usize::from(self.owners.of_device(device));
        if let Some(inbox) = self.inboxes.get(owner) {
            inbox.tell(Mail::Note(Note::Wake { device, news }));
        }
    }

    pub(crate) fn services(&self) -> &Services {
        &self.supplies.services
    }

    pub(crate) fn store(&self) -> &Store {
        self.supplies.writer.store()
    }

    pub(crate) fn told(&self) -> &Sessions {
        self.supplies.conversations.sessions()
    }

    /// The device was removed.
    pub fn device_gone(&self, device: DeviceId) {
        self.tell_all(|| Note::DeviceGone { device });
    }

    /// Something of an address was changed outside of the shards: whoever watches is told.
    pub fn changed(&self, address: &AddressOfRecord, change: Change) {
        let services = &self.supplies.services;
        services.board.announce(address);
        if services.watched.contains(address) {
            self.tell_all(|| Note::Changed {
                address: address.clone(),
                change,
            });
        }
    }

    /// What a person says of itself from now on. It is on disk before anybody is told; an empty one takes it back.
    ///
    /// # Errors
    /// Where the store could not take it: nothing has changed then. An account that is not known is no error, and
    /// nothing happens.
    pub async fn set_presence(
        &self,
        account: AccountId,
        set: SetPresence,
    ) -> Result<(), StoreError> {
        let services = &self.supplies.services;
        let Some(address) = services.address_of(account) else {
            return Ok(());
        };
        let store = self.supplies.writer.store();
        store.set_presence(account, &set).await?;
        services.board.set(&address, set);
        self.changed(&address, Change::Presence);
        Ok(())
    }

    /// How many sessions of the API a person has open.
    pub fn sessions(&self, address: &AddressOfRecord, open: u32) {
        if self.supplies.services.board.sessions(address, open) {
            self.changed(address, Change::Presence);
        }
    }

    /// Changes who may see the state of an account; `false`: there is no room for another one, or no such account.
    ///
    /// # Errors
    /// Where the store could not take it: nothing has changed then.
    pub async fn permit(
        &self,
        account: AccountId,
        watcher: &AddressOfRecord,
        change: PolicyChange,
    ) -> Result<bool, StoreError> {
        let services = &self.supplies.services;
        let Some(address) = services.address_of(account) else {
            return Ok(false);
        };
        if !services.board.has_room(&address, watcher, change) {
            return Ok(false);
        }
        let store = self.supplies.writer.store();
        match change {
            PolicyChange::Block => store.block(account, watcher).await?,
            PolicyChange::Unblock => store.unblock(account, watcher).await?,
            PolicyChange::Approve => store.approve_contact(account, watcher).await?,
            PolicyChange::Revoke => store.revoke_contact(account, watcher).await?,
        }
        let done = services.board.permit(&address, watcher, change);
        self.changed(&address, Change::Policy);
        Ok(done)
    }

    /// Bindings of the address were ended by us.
    pub fn registration_rejected(&self, address: &AddressOfRecord) {
        self.changed(address, Change::Bindings(Removal::Rejected));
    }

    /// The address was removed, or may not be used any more.
    pub fn address_gone(&self, address: &AddressOfRecord, why: Termination) {
        if self.supplies.services.watched.contains(address) {
            self.tell_all(|| Note::AddressGone {
                address: address.clone(),
                why,
            });
        }
    }

    fn tell_all(&self, note: impl Fn() -> Note) {
        let inboxes = self.inboxes.iter();
        inboxes.for_each(|inbox| inbox.tell(Mail::Note(note())));
    }

    /// A poisoned lock: the list is whole all the same.
    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every shard has its thread.
    pub fn is_running(&self) -> bool {
        !self.threads().iter().any(JoinHandle::is_finished)
    }

    /// What the shell counted.
    pub fn figures(&self) -> Figures {
        let counts = &self.supplies.counts;
        Figures {
            connections: self.supplies.admission.open() as u64,
            calls_ringing: counts.ringing.load(Relaxed),
            datagrams_dropped: counts.dropped.load(Relaxed),
            registrations_put_off: counts.put_off.load(Relaxed),
            inbox_overflows: counts.overflowed.load(Relaxed),
            connections_refused: counts.refused.load(Relaxed),
            task_failures: counts.failed.load(Relaxed),
        }
    }

    /// Ends the threads and waits for them; blocks.
    pub fn stop(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.tell(Mail::Stop));
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a shard's thread failed");
            }
        }
    }
}

type Addresses = Vec<SocketAddr>;

fn start_thread(index: u16, plan: Plan) -> Result<(Thread, Addresses), StartError> {
    let name = format!("sip-{index}");
    let failed = |error| StartError {
        what: format!("thread sip-{index}"),
        error,
    };
    let (bound, binding) = std_mpsc::channel();
    let (start, started) = oneshot::channel();
    let handle = std::thread::Builder::new()
        .name(name)
        .spawn(move || thread(index, &plan, &bound, started))
        .map_err(failed)?;
    let ended = |_| failed(io::Error::other("it ended at once"));
    let addresses = binding.recv().map_err(ended)??;
    Ok((Thread { start, handle }, addresses))
}

fn thread(
    index: u16,
    plan: &Plan,
    bound: &std_mpsc::Sender<Result<Addresses, StartError>>,
    started: oneshot::Receiver<Start>,
) {
    if plan.shards > 1 {
        pin(index);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let what = format!("thread sip-{index}");
            // Whoever starts us waits for exactly this answer, here and below.
            let _ = bound.send(Err(StartError { what, error }));
            return;
        }
    };
    LocalSet::new().block_on(&runtime, async {
        let sockets = match Sockets::bind(plan) {
            Ok(sockets) => sockets,
            Err(error) => {
                let _ = bound.send(Err(error));
                return;
            }
        };
        let _ = bound.send(Ok(sockets.addresses.clone()));
        // Dropped without a start: another shard could not bind.
        if let Ok(start) = started.await {
            run(index, sockets, start).await;
        }
    });
}

/// One core for each shard, of those that we may use; without that right, wherever.
fn pin(index: u16) {
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else {
        return;
    };
    let cores: Vec<usize> = (0..CpuSet::count())
        .filter(|core| allowed.is_set(*core).unwrap_or(false))
        .collect();
    let mut one = CpuSet::new();
    let core = cores.get(usize::from(index) % cores.len().max(1));
    let set = core.is_some_and(|core| one.set(*core).is_ok());
    if !set || sched_setaffinity(this, &one).is_err() {
        tracing::debug!(index, "not pinned to a core");
    }
}

enum Socket {
    Udp(UdpSocket),
    Stream(Listener),
    /// Bound by somebody else.
    Elsewhere,
}

struct Sockets {
    sockets: Vec<(Transport, Socket)>,
    addresses: Addresses,
}

impl Sockets {
    fn bind(plan: &Plan) -> Result<Self, StartError> {
        let mut bound = Self {
            sockets: Vec::new(),
            addresses: Vec::new(),
        };
        for Listen { transport, address } in plan.listeners.iter().copied() {
            let socket = bind(transport, address).map_err(|error| StartError {
                what: format!("{} {address}", transport.via_token()),
                error,
            })?;
            bound.addresses.push(match &socket {
                Socket::Udp(socket) => socket.local_addr(),
                Socket::Stream(listener) => listener.local_addr(),
                Socket::Elsewhere => address,
            });
            bound.sockets.push((transport, socket));
        }
        Ok(bound)
    }
}

fn bind(transport: Transport, address: SocketAddr) -> io::Result<Socket> {
    match transport {
        Transport::Udp => UdpSocket::bind(address, &UdpOptions::default()).map(Socket::Udp),
        Transport::Tcp | Transport::Tls => {
            Listener::bind(address, &ListenerOptions::default()).map(Socket::Stream)
        }
        Transport::Ws | Transport::Wss => Ok(Socket::Elsewhere),
    }
}

async fn run(index: u16, sockets: Sockets, start: Start) {
    let mut ports = Vec::new();
    let mut streams = Vec::new();
    for (number, (transport, socket)) in (0..).zip(sockets.sockets) {
        let port = match socket {
            Socket::Udp(socket) => Some(UdpPort::new(socket)),
            Socket::Stream(listener) => {
                streams.push((number, transport, Rc::new(listener)));
                None
            }
            Socket::Elsewhere => None,
        };
        ports.push(port);
    }
    let mut shard = Shard::new(
        start.settings,
        Arc::clone(&start.supplies.services),
        index,
        start.seed,
    );
    let restored = start.saved.len();
    shard.restore(Now::read(), start.saved);
    start.supplies.services.watched.restored(restored);
    let outlet = Rc::new(RefCell::new(start.outlet));
    let shared = Shared {
        addresses: sockets.addresses,
        owners: start.owners,
        numbers: start.numbers,
        inboxes: start.inboxes,
        reach: start.reach,
        supplies: start.supplies,
    };
    let driver = Driver::new(index, shard, ports, shared);
    begin(&driver, streams);
    tracing::debug!(index, "shard runs");
    while let Err(error) =
        spawn_local(listeners::letters(Rc::clone(&driver), Rc::clone(&outlet))).await
    {
        driver.task_failed("inbox", &error);
        tokio::time::sleep(RESTART).await;
    }
    driver.stop();
    // What was written goes out: closing says goodbye on every connection.
    tokio::task::yield_now().await;
}

fn begin(driver: &Rc<Driver>, streams: Vec<(u16, Transport, Rc<Listener>)>) {
    for (number, _) in (0..).zip(&driver.ports).filter(|(_, port)| port.is_some()) {
        keep(driver, "udp", move |driver| {
            listeners::datagrams(driver, number)
        });
        keep(driver, "udp-flush", move |driver| {
            listeners::flush(driver, number)
        });
    }
    for (number, transport, listener) in streams {
        let tls = driver.supplies.server_tls.clone();
        let tls = tls.filter(|_| transport == Transport::Tls);
        if transport == Transport::Tls && tls.is_none() {
            tracing::error!(local = %listener.local_addr(), "TLS without a certificate: not served");
            continue;
        }
        keep(driver, "accept", move |driver| {
            listeners::accept(driver, number, Rc::clone(&listener), tls.clone())
        });
    }
    keep(driver, "timer", Driver::run_timer);
    keep(driver, "sweep", listeners::sweep);
}

/// Runs a task that has no end, and begins it again should it fail.
fn keep<F>(driver: &Rc<Driver>, name: &'static str, task: impl Fn(Rc<Driver>) -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let driver = Rc::clone(driver);
    spawn_local(async move {
        while let Err(error) = spawn_local(task(Rc::clone(&driver))).await {
            driver.task_failed(name, &error);
            tokio::time::sleep(RESTART).await;
        }
    });
}

impl Driver {
    fn task_failed(&self, name: &str, error: &tokio::task::JoinError) {
        self.supplies.counts.failed.fetch_add(1, Relaxed);
        tracing::error!(name, %error, "a task failed and begins again; this is a bug");
    }
}
