//! The directory in memory: who has which address, and which device may act for whom.
//!
//! *Invariant: it holds what the store said, no more; every index entry points at a
//! living slot.* Slots are found by 4-byte numbers in tables that hold nothing else, so
//! an account with its device takes about 300 bytes.

use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use hashbrown::HashTable;
use sidetone_model::{Account, AccountId, AddressOfRecord, Device, DeviceId};
use sidetone_sip::Ha1;
use sidetone_store::DirectoryChange;
use smallvec::SmallVec;

use crate::domains::Domains;

/// An account as routing and authentication see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRef {
    /// Its number.
    pub account: AccountId,
    /// Its address of record, whichever of its addresses was asked for.
    pub address: AddressOfRecord,
    /// Neither registers nor sends; what is sent to it is kept.
    pub disabled: bool,
}

/// What a device authenticates with.
#[derive(Debug, Clone)]
pub struct DeviceCredentials {
    /// The device.
    pub device: DeviceId,
    /// Whose it is.
    pub account: AccountId,
    /// Its hashes for the realm that was asked for.
    pub ha1: Ha1,
    /// Its account is disabled.
    pub disabled: bool,
}

/// The directory; shared by all shards, read mostly.
#[derive(Debug, Default)]
pub struct Directory(RwLock<Inner>);

impl Directory {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over changes, in any order that the store gives them.
    pub fn apply(&self, changes: impl IntoIterator<Item = DirectoryChange>) {
        // A poisoned lock: a bug ended an earlier change; going on serves everybody else.
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            inner.apply(change);
        }
    }

    /// The device that authenticates as `user` in `realm`.
    pub fn credentials(&self, realm: &str, user: &str) -> Option<DeviceCredentials> {
        let inner = self.read();
        let realm = inner.realm(realm)?;
        let slot = inner.devices.get(inner.device_by_user(realm, user)?)?;
        let account = inner.accounts.get(slot.account)?;
        Some(DeviceCredentials {
            device: slot.id,
            account: account.id,
            ha1: Ha1 {
                sha256: slot.ha1_sha256,
                md5: slot.ha1_md5,
            },
            disabled: account.disabled,
        })
    }

    /// The account behind `user@domain`, its own address or an alias.
    pub fn find(&self, address: &str) -> Option<AccountRef> {
        let inner = self.read();
        let slot = inner.addresses.get(inner.address_at(address)?)?;
        inner.account_ref(slot.account)
    }

    /// The account that a Request-URI, To or From names.
    pub fn resolve(&self, domains: &Domains, uri: &str) -> Option<AccountRef> {
        self.find(&domains.address(uri)?)
    }

    /// An account by number.
    pub fn account(&self, id: AccountId) -> Option<AccountRef> {
        let inner = self.read();
        inner.account_ref(inner.account_at(id)?)
    }

    /// The devices of an account, oldest first.
    pub fn devices(&self, id: AccountId) -> SmallVec<[DeviceId; 4]> {
        let inner = self.read();
        let account = inner.account_at(id).and_then(|at| inner.accounts.get(at));
        let first = account.map_or(NONE, |account| account.first_device);
        let mut devices: SmallVec<_> = inner.devices_from(first).map(|(_, slot)| slot.id).collect();
        devices.sort_unstable();
        devices
    }

    /// Whose device it is.
    pub fn account_of(&self, device: DeviceId) -> Option<AccountRef> {
        let inner = self.read();
        let slot = inner.devices.get(inner.device_at(device)?)?;
        inner.account_ref(slot.account)
    }

    /// Whose a device is, and what its owner calls it.
    pub fn device(&self, id: DeviceId) -> Option<(AccountId, Box<str>)> {
        let inner = self.read();
        let slot = inner.devices.get(inner.device_at(id)?)?;
        let account = inner.accounts.get(slot.account)?;
        Some((account.id, slot.label.clone()))
    }

    /// Accounts, devices and addresses held.
    pub fn counts(&self) -> DirectoryCounts {
        let inner = self.read();
        DirectoryCounts {
            accounts: inner.by_id.len(),
            devices: inner.by_device.len(),
            addresses: inner.by_address.len(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much the directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryCounts {
    /// Accounts.
    pub accounts: usize,
    /// Devices of all accounts.
    pub devices: usize,
    /// Addresses of record and aliases.
    pub addresses: usize,
}

/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct AccountSlot {
    id: AccountId,
    /// Its address of record; `NONE` while only its devices or aliases are known.
    primary: u32,
    first_alias: u32,
    first_device: u32,
    disabled: bool,
}

#[derive(Debug)]
struct AddressSlot {
    address: AddressOfRecord,
    account: u32,
    /// Next alias of the account.
    next: u32,
}

#[derive(Debug)]
struct DeviceSlot {
    id: DeviceId,
    user: Box<str>,
    label: Box<str>,
    account: u32,
    /// Next device of the account.
    next: u32,
    realm: u16,
    ha1_sha256: [u8; 32],
    ha1_md5: Option<[u8; 16]>,
}

#[derive(Debug)]
struct Slots<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    fn get(&self, at: u32) -> Option<&T> {
        self.slots.get(at as usize)?.as_ref()
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.slots.get_mut(at as usize)?.as_mut()
    }

    /// `NONE` when four thousand million are there, which no index then finds.
    fn insert(&mut self, value: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self.slots[at as usize] = Some(value);
            return at;
        }
        let at = u32::try_from(self.slots.len()).unwrap_or(NONE);
        if at != NONE {
            self.slots.push(Some(value));
        }
        at
    }

    fn remove(&mut self, at: u32) -> Option<T> {
        let value = self.slots.get_mut(at as usize)?.take()?;
        self.free.push(at);
        Some(value)
    }
}

#[derive(Debug, Default)]
struct Inner {
    hasher: RandomState,
    /// The realms of devices, few; devices name them by place.
    realms: Vec<Box<str>>,
    accounts: Slots<AccountSlot>,
    addresses: Slots<AddressSlot>,
    devices: Slots<DeviceSlot>,
    by_id: HashTable<u32>,
    by_address: HashTable<u32>,
    by_device: HashTable<u32>,
    by_user: HashTable<u32>,
}

/// Lookups.
impl Inner {
    fn realm(&self, realm: &str) -> Option<u16> {
        let at = self
            .realms
            .iter()
            .position(|known| known.eq_ignore_ascii_case(realm))?;
        u16::try_from(at).ok()
    }

    fn account_at(&self, id: AccountId) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        let is = |at: &u32| self.accounts.get(*at).is_some_and(|slot| slot.id == id);
        self.by_id.find(hash, is).copied()
    }

    fn address_at(&self, address: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(address);
        let is = |at: &u32| {
            let slot = self.addresses.get(*at);
            slot.is_some_and(|slot| slot.address.as_str() == address)
        };
        self.by_address.find(hash, is).copied()
    }

    fn device_at(&self, id: DeviceId) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        let is = |at: &u32| self.devices.get(*at).is_some_and(|slot| slot.id == id);
        self.by_device.find(hash, is).copied()
    }

    fn device_by_user(&self, realm: u16, user: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((realm, user));
        let is = |at: &u32| {
            let slot = self.devices.get(*at);
            slot.is_some_and(|slot| slot.realm == realm && *slot.user == *user)
        };
        self.by_user.find(hash, is).copied()
    }

    fn account_ref(&self, at: u32) -> Option<AccountRef> {
        let account = self.accounts.get(at)?;
        Some(AccountRef {
            account: account.id,
            address: self.addresses.get(account.primary)?.address.clone(),
            disabled: account.disabled,
        })
    }

    fn devices_from(&self, first: u32) -> impl Iterator<Item = (u32, &DeviceSlot)> {
        let step = |at: u32| self.devices.get(at).map(|slot| (at, slot));
        std::iter::successors(step(first), move |(_, slot)| step(slot.next))
    }

    fn aliases_from(&self, first: u32) -> impl Iterator<Item = (u32, &AddressSlot)> {
        let step = |at: u32| self.addresses.get(at).map(|slot| (at, slot));
        std::iter::successors(step(first), move |(_, slot)| step(slot.next))
    }
}

/// Changes.
impl Inner {
    fn apply(&mut self, change: DirectoryChange) {
        match change {
            DirectoryChange::Account(account) => self.put_account(&account),
            DirectoryChange::AccountRemoved(id) => self.remove_account(id),
            DirectoryChange::Alias { address, account } => self.put_alias(address, account),
            DirectoryChange::AliasRemoved(address) => self.remove_alias(&address),
            DirectoryChange::Device(device) => self.put_device(device),
            DirectoryChange::DeviceRemoved { device, .. } => self.remove_device(device),
        }
    }

    /// The slot of an account, made where there is none: the store may name a device
    /// before its account, when the account changed later.
    fn account_slot(&mut self, id: AccountId) -> u32 {
        if let Some(at) = self.account_at(id) {
            return at;
        }
        let empty = AccountSlot {
            id,
            primary: NONE,
            first_alias: NONE,
            first_device: NONE,
            disabled: false,
        };
        let at = self.accounts.insert(empty);
        let hash = self.hasher.hash_one(id);
        let Self {
            by_id,
            accounts,
            hasher,
            ..
        } = self;
        by_id.insert_unique(hash, at, |at| {
            hasher.hash_one(accounts.get(*at).map(|slot| slot.id).unwrap_or(id))
        });
        at
    }

    fn put_account(&mut self, account: &Account) {
        let at = self.account_slot(account.id);
        let primary = self.accounts.get(at).map_or(NONE, |slot| slot.primary);
        let known = self.addresses.get(primary).map(|slot| &slot.address);
        let primary = if known == Some(&account.address) {
            primary
        } else {
            self.drop_address(primary);
            self.put_address(account.address.clone(), at)
        };
        if let Some(slot) = self.accounts.get_mut(at) {
            slot.primary = primary;
            slot.disabled = account.disabled;
        }
    }

    fn put_alias(&mut self, address: AddressOfRecord, account: AccountId) {
        let account = self.account_slot(account);
        let at = self.put_address(address, account);
        let Some(owner) = self.accounts.get_mut(account) else {
            return;
        };
        let next = std::mem::replace(&mut owner.first_alias, at);
        if let Some(slot) = self.addresses.get_mut(at) {
            slot.next = next;
        }
    }

    /// An address leads to one account: what it led to before is forgotten.
    fn put_address(&mut self, address: AddressOfRecord, account: u32) -> u32 {
        if let Some(before) = self.address_at(address.as_str()) {
            self.detach(before);
            self.drop_address(before);
        }
        let hash = self.hasher.hash_one(address.as_str());
        let at = self.addresses.insert(AddressSlot {
            address,
            account,
            next: NONE,
        });
        let Self {
            by_address,
            addresses,
            hasher,
            ..
        } = self;
        let text = |at: &u32| addresses.get(*at).map_or("", |slot| slot.address.as_str());
        by_address.insert_unique(hash, at, |at| hasher.hash_one(text(at)));
        at
    }

    fn remove_alias(&mut self, address: &AddressOfRecord) {
        let Some(at) = self.address_at(address.as_str()) else {
            return;
        };
        let owner = self.addresses.get(at).map_or(NONE, |slot| slot.account);
        // An address that has become an account's own since is not an alias to remove.
        if self
            .accounts
            .get(owner)
            .is_some_and(|account| account.primary == at)
        {
            return;
        }
        self.detach(at);
        self.drop_address(at);
    }

    /// Takes an address away from its account.
    fn detach(&mut self, at: u32) {
        let Some(slot) = self.addresses.get(at) else {
            return;
        };
        let (owner, next) = (slot.account, slot.next);
        let first = self
            .accounts
            .get(owner)
            .map_or(NONE, |account| account.first_alias);
        let before = self
            .aliases_from(first)
            .find(|(_, slot)| slot.next == at)
            .map(|(at, _)| at);
        let Some(account) = self.accounts.get_mut(owner) else {
            return;
        };
        if account.primary == at {
            account.primary = NONE;
        } else if first == at {
            account.first_alias = next;
        } else if let Some(slot) = before.and_then(|before| self.addresses.get_mut(before)) {
            slot.next = next;
        }
    }

    fn drop_address(&mut self, at: u32) {
        let Some(slot) = self.addresses.remove(at) else {
            return;
        };
        let hash = self.hasher.hash_one(slot.address.as_str());
        if let Ok(entry) = self
            .by_address
            .find_entry(hash, |candidate| *candidate == at)
        {
            entry.remove();
        }
    }

    fn put_device(&mut self, device: Device) {
        self.remove_device(device.id);
        let account = self.account_slot(device.account);
        let realm = self.realm_slot(&device.realm);
        if let Some(before) = self.device_by_user(realm, &device.sip_user) {
            self.drop_device(before);
        }
        let next = self
            .accounts
            .get(account)
            .map_or(NONE, |slot| slot.first_device);
        let (id, hash) = (device.id, self.hasher.hash_one(device.id));
        let user_hash = self.hasher.hash_one((realm, device.sip_user.as_str()));
        let at = self.devices.insert(DeviceSlot {
            id,
            user: device.sip_user.into(),
            label: device.label.into(),
            account,
            next,
            realm,
            ha1_sha256: device.ha1_sha256,
            ha1_md5: device.ha1_md5,
        });
        if let Some(slot) = self.accounts.get_mut(account) {
            slot.first_device = at;
        }
        let Self {
            by_device,
            by_user,
            devices,
            hasher,
            ..
        } = self;
        by_device.insert_unique(hash, at, |at| {
            hasher.hash_one(devices.get(*at).map_or(id, |slot| slot.id))
        });
        by_user.insert_unique(user_hash, at, |at| {
            let key = devices
                .get(*at)
                .map_or((0, ""), |slot| (slot.realm, &slot.user));
            hasher.hash_one(key)
        });
    }

    /// More realms than 65,535 share the last place, and their devices are not found.
    fn realm_slot(&mut self, realm: &str) -> u16 {
        if let Some(at) = self.realm(realm) {
            return at;
        }
        let at = u16::try_from(self.realms.len()).unwrap_or(u16::MAX);
        self.realms.push(realm.into());
        at
    }

    fn remove_device(&mut self, id: DeviceId) {
        if let Some(at) = self.device_at(id) {
            self.drop_device(at);
        }
    }

    fn drop_device(&mut self, at: u32) {
        let Some(slot) = self.devices.get(at) else {
            return;
        };
        let (owner, next) = (slot.account, slot.next);
        let first = self
            .accounts
            .get(owner)
            .map_or(NONE, |account| account.first_device);
        let before = self
            .devices_from(first)
            .find(|(_, slot)| slot.next == at)
            .map(|(at, _)| at);
        if first == at {
            if let Some(account) = self.accounts.get_mut(owner) {
                account.first_device = next;
            }
        } else if let Some(slot) = before.and_then(|before| self.devices.get_mut(before)) {
            slot.next = next;
        }
        self.unindex_device(at);
    }

    fn unindex_device(&mut self, at: u32) {
        let Some(slot) = self.devices.remove(at) else {
            return;
        };
        let hash = self.hasher.hash_one(slot.id);
        if let Ok(entry) = self
            .by_device
            .find_entry(hash, |candidate| *candidate == at)
        {
            entry.remove();
        }
        let hash = self.hasher.hash_one((slot.realm, &*slot.user));
        if let Ok(entry) = self.by_user.find_entry(hash, |candidate| *candidate == at) {
            entry.remove();
        }
    }

    fn remove_account(&mut self, id: AccountId) {
        let Some(at) = self.account_at(id) else {
            return;
        };
        let Some(slot) = self.accounts.get(at) else {
            return;
        };
        let aliases: Vec<u32> = self
            .aliases_from(slot.first_alias)
            .map(|(at, _)| at)
            .collect();
        let devices: Vec<u32> = self
            .devices_from(slot.first_device)
            .map(|(at, _)| at)
            .collect();
        let primary = slot.primary;
        self.drop_address(primary);
        aliases
            .into_iter()
            .for_each(|alias| self.drop_address(alias));
        devices
            .into_iter()
            .for_each(|device| self.unindex_device(device));
        self.accounts.remove(at);
        let hash = self.hasher.hash_one(id);
        if let Ok(entry) = self.by_id.find_entry(hash, |candidate| *candidate == at) {
            entry.remove();
        }
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
