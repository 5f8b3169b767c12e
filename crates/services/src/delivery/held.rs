//! How much is held in memory.
//!
//! *Invariant*: what was added is removed with the same size: a stored message never changes.

use sidetone_model::StoredMessage;

#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) messages: usize,
    pub(super) octets: usize,
}

impl Held {
    pub(super) fn add(&mut self, message: &StoredMessage) {
        self.messages += 1;
        self.octets += octets(message);
    }

    pub(super) fn remove(&mut self, message: &StoredMessage) {
        self.messages -= 1;
        self.octets -= octets(message);
    }
}

fn octets(message: &StoredMessage) -> usize {
    let texts = message.from.len() + message.content_type.len() + message.headers.len();
    size_of::<StoredMessage>() + texts + message.body.len()
}
