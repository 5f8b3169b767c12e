//! What all shards share: who there is, where they are, who may do what.
//!
//! *Invariant*: everything is locked inside, for one lookup or one change; nothing here waits.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidetone_model::{AddressOfRecord, DeviceId, Origin, PersonPresence};
use sidetone_services::presence::{Reachable, ReachableList};
use sidetone_services::{
    AbilityTable, Authenticator, Board, Directory, Domains, Groups, Limiter, Location, Networks,
    Outbox, RegisterPolicy, WatchList,
};
use sidetone_sip::TokenKey;
use sidetone_sip::proxy::Locals;

/// Who may reach a local user without credentials of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// Nobody: every request is challenged.
    Challenge,
    /// Callers whose From is at a domain that is not ours.
    Accept,
}

/// The shared state of the signalling plane.
#[derive(Debug)]
pub struct Services {
    /// Accounts, devices, addresses.
    pub directory: Arc<Directory>,
    /// Bindings.
    pub location: Location,
    /// Challenges and their answers.
    pub authenticator: Authenticator,
    /// Rates and bans.
    pub limiter: Limiter,
    /// Our domains and the names that stand for them.
    pub domains: Domains,
    /// Signs what comes back to us in URIs.
    pub tokens: TokenKey,
    /// Our own addresses.
    pub locals: Arc<Locals>,
    /// What the registrar allows.
    pub register_policy: RegisterPolicy,
    /// Networks whose requests are not challenged.
    pub trusted: Networks,
    /// What happens to callers from elsewhere.
    pub strangers: Strangers,
    /// MESSAGEs that were stored just before this run began, whose answers may have been lost.
    pub stored_before: HashSet<Origin>,
    /// Devices for which messages are kept.
    pub waiting: Waiting,
    /// What devices understand beside plain texts.
    pub abilities: AbilityTable,
    /// Addresses of conversations.
    pub groups: Arc<Groups>,
    /// Addresses whose state somebody watches.
    pub watched: Arc<WatchList>,
    /// Subscriptions that are to be written.
    pub outbox: Arc<Outbox>,
    /// What is known of every person.
    pub board: Arc<Board>,
    /// What was counted.
    pub counters: Counters,
}

impl Services {
    /// The address of record of an account's bindings.
    #[must_use]
    pub fn address_of(&self, account: sidetone_model::AccountId) -> Option<AddressOfRecord> {
        self.directory.account(account).map(|found| found.address)
    }

    /// The devices of an address that a call would ring now.
    #[must_use]
    pub fn reachable(&self, address: &AddressOfRecord, now_ms: u64) -> ReachableList {
        let mut devices = ReachableList::new();
        for target in &self.location.lookup(address, now_ms) {
            let until_ms = target.expires_at_ms;
            match devices.iter_mut().find(|one| one.device == target.device) {
                Some(one) => one.until_ms = one.until_ms.max(until_ms),
                None => devices.extend(self.directory.device(target.device).map(|(_, label)| {
                    Reachable {
                        device: target.device,
                        label,
                        until_ms,
                    }
                })),
            }
        }
        // Not by q and time, which change while nothing does.
        devices.sort_unstable_by_key(|one| one.device);
        devices
    }

    /// The state of a person, as colleagues see it.
    #[must_use]
    pub fn presence(&self, address: &AddressOfRecord, now_ms: u64) -> PersonPresence {
        let devices = self.reachable(address, now_ms);
        self.board.person(now_ms, address, &devices)
    }
}

/// Devices for which messages are kept, so that a registration of any other costs no question to the store.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<HashSet<DeviceId>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashSet<DeviceId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages are kept for it, or may be; whether it is the first of which that is known.
    pub fn add(&self, device: DeviceId) -> bool {
        self.lock().insert(device)
    }

    /// All that was kept has been delivered.
    pub fn remove(&self, device: DeviceId) {
        self.lock().remove(&device);
    }

    /// Whether messages may be kept for it.
    #[must_use]
    pub fn contains(&self, device: DeviceId) -> bool {
        self.lock().contains(&device)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters since the start; each is one that an administrator asks for.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter),* }

        impl Counters {
            /// All of them by name.
            #[must_use]
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get())),*]
            }
        }
    };
}

counters! {
    /// Requests taken in, retransmissions not counted.
    requests,
    /// Messages that were no SIP.
    malformed,
    /// Challenges sent.
    challenges,
    /// Wrong passwords and unknown users.
    denied,
    /// Requests refused because their source sends too many.
    slowed,
    /// Requests refused because a table or queue was full.
    overloaded,
    /// Requests dropped because their source is banned.
    banned,
    /// REGISTERs done.
    registers,
    /// INVITEs forwarded.
    calls,
    /// MESSAGEs stored and acknowledged.
    messages_stored,
    /// MESSAGEs that a device took.
    messages_delivered,
    /// NOTIFYs sent.
    notifies,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
