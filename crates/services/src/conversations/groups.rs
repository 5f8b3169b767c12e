//! The addresses of conversations that phones know, for all who route.
//!
//! *Invariant*: an address is here before anybody is told it.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use sidetone_model::{AddressOfRecord, ConversationId};

/// Addresses of groups.
#[derive(Debug, Default)]
pub struct Groups(RwLock<HashMap<AddressOfRecord, ConversationId>>);

impl Groups {
    /// The conversation with this address, `user@domain`.
    pub fn id_of(&self, address: &str) -> Option<ConversationId> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(address).copied()
    }

    /// From now on messages to the address are for the conversation.
    pub fn add(&self, address: AddressOfRecord, id: ConversationId) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(address, id);
    }
}
