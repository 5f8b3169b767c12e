//! The world: one shard, its spool, the network and the phones, all by one clock that only this file moves.
//!
//! *Invariant*: what happens at one moment happens in the order in which it was caused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sidetone_engine::shard::{Note, Now, Want};
use sidetone_engine::shared::{Counters, Strangers, Waiting};
use sidetone_engine::{Services, Shard, ShardSettings};
use sidetone_model::{
    Account, AccountId, AddressOfRecord, Device, DeviceId, Role, SavedSubscription,
};
use sidetone_services::{
    Authenticator, Change, Directory, Domains, LimitPolicy, Limiter, Location, Networks,
    RegisterPolicy, Removal,
};
use sidetone_sip::proxy::{Local, Locals};
use sidetone_sip::{TokenKey, Transport, digest};
use sidetone_store::DirectoryChange;

use crate::chance::Chance;
use crate::ladder::Ladder;
use crate::network::Weather;
use crate::phone::{Identity, Phone};
use crate::spool::Spool;

/// The domain that the world's accounts are in.
pub const DOMAIN: &str = "example.test";
/// Unix time when the world begins.
const BEGIN_MS: u64 = 1_800_000_000_000;
/// How long the spool takes to commit or to read.
pub(crate) const SPOOL_US: u64 = 2_000;
/// Turns at one moment: more is a machine that turns in a circle.
const TURNS_MAX: u32 = 10_000;

/// A phone of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhoneId(usize);

pub(crate) enum Happening {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        octets: Bytes,
    },
    Note(Note),
}

/// The world.
pub struct World {
    seed: u64,
    begin: Instant,
    now_us: u64,
    chance: Chance,
    shard: Shard,
    server: SocketAddr,
    phones: Vec<Phone>,
    coming: BTreeMap<(u64, u64), Happening>,
    count: u64,
    /// The services, as the shard has them.
    pub services: Arc<Services>,
    /// Subscriptions as they were written.
    disk: BTreeMap<String, SavedSubscription>,
    /// The spool.
    pub spool: Spool,
    /// Who is in which group.
    pub(crate) groups: BTreeMap<AddressOfRecord, Vec<AddressOfRecord>>,
    /// What was written by nobody.
    pub(crate) lines: u64,
    /// What the name servers know.
    pub names: BTreeMap<String, SocketAddr>,
    /// How the network treats datagrams from now on.
    pub weather: Weather,
    /// What was sent.
    pub ladder: Ladder,
}

impl World {
    /// An empty world of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let server = SocketAddr::from(([192, 0, 2, 1], 5060));
        let services = Arc::new(services(server));
        Self {
            seed,
            begin: begin(),
            now_us: 0,
            chance: Chance::new(seed),
            shard: shard(&services, seed),
            disk: BTreeMap::new(),
            server,
            phones: Vec::new(),
            coming: BTreeMap::new(),
            count: 0,
            services,
            spool: Spool::default(),
            groups: BTreeMap::new(),
            lines: 0,
            names: BTreeMap::new(),
            weather: Weather::FAIR,
            ladder: Ladder::default(),
        }
    }

    /// Adds a phone, and the account if there is none of that name. The phone's label is its SIP user name; the
    /// label with `!` is its password.
    ///
    /// # Panics
    /// When `user` is no user part of an address.
    pub fn phone(&mut self, user: &str, label: &str) -> PhoneId {
        let number = self.phones.len();
        let account = self.account(user);
        let password = format!("{label}!");
        let device = i64::try_from(number).unwrap_or_default() + 1;
        let device = Device {
            id: DeviceId(device),
            account,
            label: label.to_owned(),
            sip_user: label.to_owned(),
            realm: DOMAIN.to_owned(),
            ha1_sha256: digest::ha1_sha256(label, DOMAIN, &password),
            ha1_md5: Some(digest::ha1_md5(label, DOMAIN, &password)),
            created_ms: BEGIN_MS,
        };
        self.services
            .directory
            .apply([DirectoryChange::Device(device)]);
        let last = u8::try_from(number + 10).unwrap_or(u8::MAX);
        let address = SocketAddr::from(([192, 0, 2, last], 5060));
        self.ladder.column(label, address);
        if number == 0 {
            self.ladder.column("proxy", self.server); // beside the first, as RFC 3665 draws it
        }
        let identity = Identity {
            user: user.to_owned(),
            sip_user: label.to_owned(),
            password,
            domain: DOMAIN.to_owned(),
            address,
            server: self.server,
        };
        let chance = Chance::new(self.seed ^ (u64::from(last) << 32));
        self.phones.push(Phone::new(identity, chance));
        PhoneId(number)
    }

    fn account(&self, user: &str) -> AccountId {
        let directory = &self.services.directory;
        if let Some(known) = directory.find(&format!("{user}@{DOMAIN}")) {
            return known.account;
        }
        let address = AddressOfRecord::new(user, DOMAIN);
        assert!(address.is_ok(), "{user} is no user");
        let id = AccountId(i64::try_from(directory.counts().accounts).unwrap_or_default() + 1);
        directory.apply(address.ok().map(|address| {
            DirectoryChange::Account(Account {
                id,
                address,
                name: user.to_owned(),
                profile: String::new(),
                role: Role::User,
                disabled: false,
            })
        }));
        id
    }

    /// A phone, to let it do something; it does so with the next [`World::run_ms`].
    pub fn at(&mut self, phone: PhoneId) -> &mut Phone {
        let now_us = self.now_us;
        let phone = &mut self.phones[phone.0];
        phone.set_now(now_us);
        phone
    }

    /// The device number of a phone.
    #[must_use]
    pub fn device(&self, phone: PhoneId) -> DeviceId {
        DeviceId(i64::try_from(phone.0).unwrap_or_default() + 1)
    }

    /// The proxy's address.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// The contacts of an address, as the registrar has them now.
    #[must_use]
    pub fn contacts(&self, address: &AddressOfRecord) -> Vec<String> {
        let bindings = self.services.location.bindings(address, self.now().unix_ms);
        bindings.iter().map(|one| one.contact.to_string()).collect()
    }

    /// Tells the shard what another one would tell it: a connection closed, and with it bindings of the address.
    pub fn changed_elsewhere(&mut self, address: &AddressOfRecord) {
        let (address, change) = (address.clone(), Change::Bindings(Removal::Deactivated));
        let note = Note::Changed { address, change };
        self.shard.handle_note(self.now(), note);
    }

    /// Ends the shard and begins it again, with what the disk has of its subscriptions.
    pub fn restart(&mut self) {
        for (tag, change) in self.services.outbox.take(usize::MAX) {
            match change {
                Some(saved) => drop(self.disk.insert(tag, saved)),
                None => drop(self.disk.remove(&tag)),
            }
        }
        self.shard = shard(&self.services, self.seed + 1);
        let saved = self.disk.values().cloned().collect();
        self.shard.restore(self.now(), saved);
    }

    /// Tells the shard that something of an address was changed outside of it.
    pub fn changed(&mut self, address: &AddressOfRecord, change: Change) {
        let address = address.clone();
        self.shard
            .handle_note(self.now(), Note::Changed { address, change });
    }

    /// Calls and other requests that the proxy has under way.
    #[must_use]
    pub fn contexts(&self) -> usize {
        self.shard.contexts()
    }

    /// Writes a remark into the ladder.
    pub fn remark(&mut self, text: &str) {
        self.ladder.remark(self.now_us, text);
    }

    /// Lets time pass.
    pub fn run_ms(&mut self, ms: u64) {
        let until_us = self.now_us + ms * 1_000;
        let mut turns = 0;
        loop {
            self.pump();
            let next_us = self.next_us().max(self.now_us);
            if next_us > until_us {
                break;
            }
            turns = if next_us > self.now_us { 0 } else { turns + 1 };
            assert!(turns < TURNS_MAX, "the world turns in a circle");
            self.now_us = next_us;
            self.happen();
        }
        self.now_us = until_us;
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            instant: self.begin + Duration::from_micros(self.now_us),
            unix_ms: BEGIN_MS + self.now_us / 1_000,
        }
    }

    fn next_us(&self) -> u64 {
        let coming = self.coming.keys().next().map(|(at_us, _)| *at_us);
        let shard = self.shard.poll_timeout(self.now()).map(|at| {
            let after = at.saturating_duration_since(self.begin);
            // Up, so that the shard is never called before its time.
            u64::try_from(after.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX)
        });
        let phones = self.phones.iter().filter_map(Phone::next_timeout).min();
        [coming, shard, phones]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX)
    }

    /// What is due now.
    fn happen(&mut self) {
        let due = (self.now_us, u64::MAX);
        if let Some(first) = self
            .coming
            .first_entry()
            .filter(|first| *first.key() <= due)
        {
            let happening = first.remove();
            return self.happens(happening);
        }
        let now = self.now();
        if self
            .shard
            .poll_timeout(now)
            .is_some_and(|at| at <= now.instant)
        {
            self.shard.handle_timeout(now);
        }
        for phone in &mut self.phones {
            phone.set_now(self.now_us);
            phone.handle_timeout();
        }
    }

    fn happens(&mut self, happening: Happening) {
        let now = self.now();
        match happening {
            Happening::Note(note) => self.shard.handle_note(now, note),
            Happening::Datagram { from, to, octets } if to == self.server => {
                self.shard.handle_datagram(now, 0, from, &octets);
            }
            Happening::Datagram { from, to, octets } => {
                let phone = self.phones.iter_mut().find(|phone| phone.address() == to);
                if let Some(phone) = phone {
                    phone.set_now(self.now_us);
                    phone.handle_datagram(from, &octets);
                }
            }
        }
    }

    /// Takes what everybody has to say.
    fn pump(&mut self) {
        loop {
            while let Some(transmit) = self.shard.poll_transmit() {
                self.send(self.server, transmit.flow.remote, transmit.bytes);
            }
            let Some(want) = self.shard.poll_want() else {
                break;
            };
            self.fulfil(want);
        }
        for at in 0..self.phones.len() {
            let from = self.phones[at].address();
            for (to, octets) in self.phones[at].take_outgoing() {
                self.send(from, to, octets);
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, octets: Bytes) {
        let fate = self.weather.fate(&mut self.chance);
        let lost = fate.first_us.is_none();
        self.ladder.arrow(self.now_us, (from, to), &octets, lost);
        for delay_us in [fate.first_us, fate.second_us].into_iter().flatten() {
            let octets = octets.clone();
            self.later(delay_us, Happening::Datagram { from, to, octets });
        }
    }

    pub(crate) fn later(&mut self, delay_us: u64, happening: Happening) {
        self.count += 1;
        let at = (self.now_us + delay_us, self.count);
        self.coming.insert(at, happening);
    }

    fn fulfil(&mut self, want: Want) {
        match want {
            Want::Append {
                author,
                message,
                ticket,
            } => {
                let devices = self.devices_of(&message.to, &author);
                self.append(*message, &devices, ticket);
            }
            Want::Composing {
                author,
                to,
                holds_s,
                ticket,
            } => self.composes(&author, &to, holds_s, ticket),
            Want::Notified {
                author,
                notification,
                ticket,
                ..
            } => self.notifies(&author, &notification, ticket),
            Want::Delivered { device, message } => self.spool.delivered(device, message),
            Want::Pending { device, after } => {
                let note = self.spool.page(device, after);
                self.later(SPOOL_US, Happening::Note(note));
            }
            Want::Wake { device, news } => {
                let now = self.now();
                self.shard.handle_note(now, Note::Wake { device, news });
            }
            Want::Resolve { target, ticket } => {
                let known = self.names.get(&target.host);
                let hops = known.map(|address| vec![(Transport::Udp, *address)]);
                let hops = hops.ok_or_else(|| "there is no such name in this world".to_owned());
                self.later(SPOOL_US, Happening::Note(Note::Resolved { ticket, hops }));
            }
            // Who said it is told by the API, which is not in this world.
            Want::Arrived { .. } | Want::Refused { .. } => {}
            // There is no disk to learn it from again.
            Want::Learned { .. } => {}
            Want::Close { .. } => {} // Datagrams only: nothing is open.
            Want::TellChanged { .. } | Want::TellBack { .. } => {} // There is no other shard.
            // Nobody keeps contacts here.
            Want::Ask { .. } => {}
            Want::Count { account, address } => {
                let devices = self.services.directory.devices(account);
                let note = Note::Counted {
                    account,
                    address,
                    counts: Some(self.spool.counts(&devices)),
                };
                self.later(SPOOL_US, Happening::Note(note));
            }
        }
    }
}

fn shard(services: &Arc<Services>, seed: u64) -> Shard {
    let settings = ShardSettings::default();
    Shard::new(settings, Arc::clone(services), 0, u128::from(seed))
}

/// A failed test says by which seed it can be seen again.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}\n{}", self.seed, self.ladder.text());
        }
    }
}

#[allow(clippy::disallowed_methods)] // Some instant has to be the first; only what was added to it is ever seen.
fn begin() -> Instant {
    Instant::now()
}

fn services(server: SocketAddr) -> Services {
    let mut domains = Domains::new(DOMAIN);
    domains.add(&server.ip().to_string(), DOMAIN);
    Services {
        directory: Arc::new(Directory::new()),
        location: Location::new(),
        authenticator: Authenticator::new([1; 32], 300_000, 10_000),
        limiter: Limiter::new(LimitPolicy::default()),
        domains,
        tokens: TokenKey::new([2; 32]),
        locals: Arc::new(Locals::new(vec![local(server)])),
        register_policy: RegisterPolicy::default(),
        trusted: Networks::default(),
        strangers: Strangers::Challenge,
        stored_before: Default::default(),
        waiting: Waiting::default(),
        abilities: sidetone_services::AbilityTable::default(),
        groups: Arc::default(),
        watched: Arc::default(),
        outbox: Arc::default(),
        board: Arc::default(),
        counters: Counters::default(),
    }
}

fn local(server: SocketAddr) -> Local {
    Local {
        transport: Transport::Udp,
        sent_by: server.to_string(),
        uri: format!("sip:{server}"),
    }
}
