//! What has to be done now and then: follow the directory, write bindings, sweep.
//!
//! *Invariant*: a binding that could not be handed to the writer stays marked and is handed
//! over later; a change of the directory is applied once and in order.

use sidetone_engine::{Engine, Services};
use sidetone_model::{AccountId, AddressOfRecord, DeviceId};
use sidetone_services::{Change, Conversations, Files};
use sidetone_sip::Termination;
use sidetone_store::{DirectoryChange, Store, StoreError, Writer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

/// How often a part of the bindings is swept.
const SWEEP: Duration = Duration::from_millis(250);
/// Sweeps between two writes of bindings.
const SWEEPS_A_WRITE: u32 = 3;
/// For how long the writer then collects them: both together are less than the second after
/// which a binding survives a crash.
pub(super) const COLLECT: Duration = Duration::from_millis(50);
/// Sweeps between two looks at the directory.
const SWEEPS_A_LOOK: u32 = 4;
/// Sweeps between two looks at rate limits.
const SWEEPS_A_LIMIT: u32 = 40;
/// Sweeps between two clearings of what has been told.
const SWEEPS_A_CLEARING: u32 = 1_200;
/// How often subscriptions and publications are written.
const EVENTS: Duration = Duration::from_millis(500);
/// How often files that nobody uses are looked for.
const FILES: Duration = Duration::from_secs(600);
/// Subscriptions in one transaction.
const EVENTS_AT_ONCE: usize = 512;
/// Addresses in one piece of the writer's work.
const BINDINGS_AT_ONCE: usize = 256;

/// Follows the directory in the store.
pub(super) struct Follower {
    store: Store,
    services: Arc<Services>,
    engine: Option<Arc<Engine>>,
    conversations: Option<Arc<Conversations>>,
    at: Mutex<i64>,
}

/// What the shards are told once the directory has changed.
enum Ended {
    Address(AddressOfRecord, Termination),
    Device(DeviceId, Option<AddressOfRecord>),
}

impl Ended {
    /// Who is no more.
    fn person(&self) -> Option<&AddressOfRecord> {
        match self {
            Self::Address(address, Termination::NoResource) => Some(address),
            _ => None,
        }
    }
}

impl Follower {
    /// Reads the whole directory.
    pub(super) async fn start(store: Store, services: Arc<Services>) -> Result<Self, StoreError> {
        let follower = Self {
            store,
            services,
            engine: None,
            conversations: None,
            at: Mutex::new(0),
        };
        follower.step().await?;
        Ok(follower)
    }

    /// From now on shards are told of devices that go, and conversations of people who do.
    pub(super) fn with_engine(
        self,
        engine: Arc<Engine>,
        conversations: Arc<Conversations>,
    ) -> Self {
        Self {
            engine: Some(engine),
            conversations: Some(conversations),
            ..self
        }
    }

    /// Ends the stays of those who were removed while the server was down.
    pub(super) async fn end_left_behind(&self) -> Result<(), StoreError> {
        for address in self.store.left_behind().await? {
            self.person_gone(&address).await;
        }
        Ok(())
    }

    async fn person_gone(&self, address: &AddressOfRecord) {
        let Some(conversations) = &self.conversations else {
            return;
        };
        let gone = conversations.person_gone(crate::cli::now_ms(), address);
        if let Err(error) = gone.await {
            tracing::warn!(%address, %error, "what a removed account leaves behind was not ended; the next start tries again");
        }
    }

    /// Applies what is new.
    pub(super) async fn step(&self) -> Result<(), StoreError> {
        let mut at = self.at.lock().await;
        if self.store.directory_version().await? == *at {
            return Ok(());
        }
        let (changes, latest) = self.store.directory_since(*at).await?;
        let running = *at > 0;
        let ended: Vec<Ended> = changes
            .iter()
            .filter(|_| running)
            .filter_map(|change| self.forget(change))
            .collect();
        let added: Vec<(DeviceId, AccountId)> = changes.iter().filter_map(added_device).collect();
        if running {
            // A first device is given what was kept for its account. Noted before anybody can send to it: a message
            // that were the first for it would be delivered ahead of them.
            for (device, _) in &added {
                self.services.waiting.add(*device);
            }
        }
        self.services.directory.apply(changes);
        for ended in ended {
            let gone = ended.person().cloned();
            self.tell(ended);
            if let Some(address) = gone {
                self.person_gone(&address).await;
            }
        }
        if let Some(engine) = &self.engine {
            let registered = added.iter().filter(|added| self.is_registered(**added));
            registered.for_each(|(device, _)| engine.wake(*device));
        }
        *at = latest;
        Ok(())
    }

    fn is_registered(&self, (device, account): (DeviceId, AccountId)) -> bool {
        let Some(address) = self.services.address_of(account) else {
            return false;
        };
        let now_ms = crate::cli::now_ms();
        let bindings = self.services.location.lookup(&address, now_ms);
        bindings.iter().any(|binding| binding.device == device)
    }

    /// Ends the registrations of what is gone or disabled.
    fn forget(&self, change: &DirectoryChange) -> Option<Ended> {
        match change {
            DirectoryChange::Account(account) if account.disabled => {
                let address = self.unbind(account.id, None)?;
                Some(Ended::Address(address, Termination::Rejected))
            }
            DirectoryChange::AccountRemoved(account) => {
                let address = self.unbind(*account, None)?;
                self.services.board.forget(&address);
                Some(Ended::Address(address, Termination::NoResource))
            }
            DirectoryChange::DeviceRemoved { device, account } => {
                let address = self.unbind(*account, Some(*device));
                Some(Ended::Device(*device, address))
            }
            _ => None,
        }
    }

    fn tell(&self, ended: Ended) {
        let Some(engine) = &self.engine else {
            return;
        };
        match ended {
            Ended::Address(address, why) => engine.address_gone(&address, why),
            Ended::Device(device, address) => {
                // Its own subscriptions end with the news that it has lost its registration.
                address
                    .iter()
                    .for_each(|address| engine.registration_rejected(address));
                engine.device_gone(device);
            }
        }
    }

    fn unbind(&self, account: AccountId, device: Option<DeviceId>) -> Option<AddressOfRecord> {
        let address = self.services.address_of(account)?;
        let mut ended = 0;
        let change = |bindings: &mut Vec<sidetone_model::Binding>| {
            let before = bindings.len();
            bindings.retain(|binding| device.is_some_and(|device| binding.device != device));
            ended = before.saturating_sub(bindings.len());
            Ok::<bool, Infallible>(ended > 0)
        };
        let now_ms = crate::cli::now_ms();
        let Ok(left) = self.services.location.update(&address, now_ms, change);
        if ended > 0 {
            tracing::info!(%address, ended, left = left.len(), "registrations ended by a change of the directory");
        }
        Some(address)
    }
}

fn added_device(change: &DirectoryChange) -> Option<(DeviceId, AccountId)> {
    match change {
        DirectoryChange::Device(device) => Some((device.id, device.account)),
        _ => None,
    }
}

/// Hands changed bindings to the writer; `false` if it has no room now.
pub(super) fn write_bindings(services: &Services, writer: &Writer) -> bool {
    loop {
        let changes = services.location.take_dirty(BINDINGS_AT_ONCE);
        if changes.is_empty() {
            return true;
        }
        let addresses: Vec<AddressOfRecord> =
            changes.iter().map(|(address, _)| address.clone()).collect();
        if writer.try_bindings(changes).is_err() {
            services.location.mark_dirty(&addresses);
            return false;
        }
    }
}

/// Writes what changed of subscriptions and publications. What could not be written is tried again later.
pub(super) async fn write_events(services: &Services, store: &Store) {
    loop {
        let subscriptions = services.outbox.take(EVENTS_AT_ONCE);
        let publications = services.board.take_unwritten();
        if subscriptions.is_empty() && publications.is_empty() {
            return;
        }
        let now_ms = crate::cli::now_ms();
        let written = store.write_events(now_ms, &subscriptions, &publications);
        if let Err(error) = written.await {
            tracing::warn!(%error, "subscriptions could not be written");
            services.outbox.give_back(subscriptions);
            services.board.give_back(publications);
            return;
        }
    }
}

/// Sweeps a part of the bindings, and tells who has gone.
fn sweep(running: &super::running::Running) {
    let (services, now_ms) = (&running.services, crate::cli::now_ms());
    for address in services.board.expire(now_ms) {
        running.engine.changed(&address, Change::Presence);
    }
    for (address, _) in services.location.expire(now_ms) {
        if !services.location.is_registered(&address, now_ms) && services.board.calls_end(&address)
        {
            running.engine.changed(&address, Change::Calls);
        }
        services.board.announce(&address);
    }
}

/// Writes behind, in a task of its own: the disk may take its time.
pub(super) async fn keep_events(running: Arc<super::running::Running>) {
    let mut tick = interval(EVENTS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        write_events(&running.services, &running.store).await;
    }
}

/// Files that nobody uses go.
pub(super) async fn sweep_files(files: Arc<Files>) {
    if let Err(error) = files.sweep_strays().await {
        tracing::warn!(%error, "files without a row could not be swept");
    }
    let mut tick = interval(FILES);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match files.sweep(crate::cli::now_ms()).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(gone, "files that nobody used"),
            Err(error) => tracing::warn!(%error, "files could not be swept"),
        }
    }
}

/// Does all of it until the task is dropped.
pub(super) async fn run(running: Arc<super::running::Running>) {
    let mut tick = interval(SWEEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let services = &running.services;
    for turn in 0_u32.. {
        tick.tick().await;
        sweep(&running);
        if turn % SWEEPS_A_WRITE == 0 {
            write_bindings(services, &running.writer);
        }
        if turn % SWEEPS_A_LOOK == 0
            && let Err(error) = running.follower.step().await
        {
            tracing::warn!(%error, "the directory could not be read");
        }
        if turn % SWEEPS_A_LOOK == 0 {
            let now_ms = crate::cli::now_ms();
            running.conversations.compose_timeout(now_ms);
        }
        if turn % SWEEPS_A_LIMIT == 0 {
            services.limiter.expire(crate::cli::now_ms());
        }
        if turn % SWEEPS_A_CLEARING == 0
            && let Err(error) = running.store.clear_passed().await
        {
            tracing::debug!(%error, "what has been told was not cleared away");
        }
    }
}
