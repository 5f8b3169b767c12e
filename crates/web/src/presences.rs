//! What the web needs to know and to say of who is there.

use sidetone_model::{AccountId, AddressOfRecord, PersonPresence, SetPresence};
use sidetone_services::{ContactAction, ContactOutcome};
use tokio::sync::broadcast;

use crate::accounts::Answer;

/// Who is there, as the server sees it and as people say.
pub trait Presences: Send + Sync + 'static {
    /// The state of a person as this watcher may see it.
    fn seen(&self, watcher: &AddressOfRecord, person: &AddressOfRecord) -> PersonPresence;
    /// Whether this watcher is let see the person. Who is blocked is not told so, and is.
    fn may_see(&self, watcher: &AddressOfRecord, person: &AddressOfRecord) -> bool;
    /// Changes contacts; on disk when it returns.
    fn contact<'a>(
        &'a self,
        account: AccountId,
        other: &'a AddressOfRecord,
        action: ContactAction,
    ) -> Answer<'a, ContactOutcome>;
    /// What a person says of itself from now on; on disk when it returns.
    fn say(&self, account: AccountId, set: SetPresence) -> Answer<'_, ()>;
    /// How many sessions a person has open now.
    fn sessions(&self, person: &AddressOfRecord, open: u32);
    /// The addresses whose state may have changed, from now on.
    fn feed(&self) -> broadcast::Receiver<AddressOfRecord>;
}
