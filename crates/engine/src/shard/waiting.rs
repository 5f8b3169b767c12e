//! How many messages wait for the devices of an account, for those who watch that (RFC 3842).
//!
//! *Invariant*: of each address one count is under way at most; what changes meanwhile is counted once more.

use sidetone_model::{AccountId, AddressOfRecord, DeviceId};
use sidetone_services::Change;

use super::{Now, Shard, Want};

impl Shard {
    /// A message was stored for an address, or somebody begins to watch.
    pub(super) fn count_messages(&mut self, account: AccountId, address: &AddressOfRecord) {
        if !self.services.watched.contains(address) {
            return;
        }
        if let Some(again) = self.counting.get_mut(address) {
            *again = true;
            return;
        }
        self.counting.insert(address.clone(), false);
        let address = address.clone();
        self.want(Want::Count { account, address });
    }

    /// A message was stored for a device, or it has taken one.
    pub(super) fn messages_changed(&mut self, device: DeviceId) {
        if self.services.watched.subscriptions() == 0 {
            return;
        }
        let owner = self.services.directory.device(device);
        if let Some((account, _)) = owner
            && let Some(address) = self.services.address_of(account)
        {
            self.count_messages(account, &address);
        }
    }

    /// The store has counted; `None`: it could not.
    pub(super) fn counted(
        &mut self,
        now: Now,
        account: AccountId,
        address: &AddressOfRecord,
        counts: Option<(u64, u64)>,
    ) {
        let again = self.counting.remove(address).unwrap_or_default();
        if let Some((unread, read)) = counts
            && self.services.board.messages(address, unread, read)
        {
            self.changed(now, address, Change::Messages);
        }
        if again {
            self.count_messages(account, address);
        }
    }
}
