//! The spool in memory: what the store promises the shard, without the disk.
//!
//! *Invariant*: like the store's, a message that comes again has the number that it got the first time.

use std::collections::{BTreeMap, HashMap};

use std::sync::Arc;

use sidetone_engine::shard::{News, Note};
use sidetone_model::{
    AccountId, ConversationId, DeviceId, MessageId, NewMessage, Origin, StoredMessage,
};
use sidetone_services::PostError;

/// The number of the one conversation.
const CONVERSATION: ConversationId = ConversationId(1);
/// Messages of one page, as the product reads them.
const PAGE: usize = 32;

/// The spool.
#[derive(Debug, Default)]
pub struct Spool {
    /// What each device has not got, by number.
    pending: BTreeMap<(DeviceId, MessageId), StoredMessage>,
    origins: HashMap<Origin, MessageId>,
    last: i64,
    /// What was stored, by number.
    stored: BTreeMap<i64, StoredMessage>,
    /// Every append fails; `Some(true)`: for a time.
    pub failing: Option<bool>,
}

impl Spool {
    /// Stores for each device; what the shard is then told. `is_first`: nothing was kept for the
    /// device before.
    pub fn append(
        &mut self,
        message: NewMessage,
        devices: &[DeviceId],
        ticket: u64,
        is_first: impl Fn(DeviceId) -> bool,
    ) -> Vec<Note> {
        let failure = self.failing.map(|temporary| match temporary {
            true => PostError::Busy,
            false => PostError::Failed,
        });
        if let Some(failure) = failure {
            let result = Err(failure);
            return vec![Note::Appended { ticket, result }];
        }
        let (id, stored) = self.store(message, devices);
        let mut notes = vec![Note::Appended {
            ticket,
            result: Ok(id),
        }];
        if let Some(message) = stored.map(Arc::new) {
            notes.extend(devices.iter().map(|device| Note::Wake {
                device: *device,
                news: News::Stored {
                    message: Arc::clone(&message),
                    first: is_first(*device),
                },
            }));
        }
        notes
    }

    fn store(
        &mut self,
        message: NewMessage,
        devices: &[DeviceId],
    ) -> (MessageId, Option<StoredMessage>) {
        if let Some(known) = self.origins.get(&message.origin) {
            return (*known, None);
        }
        self.last += 1;
        let id = MessageId(self.last);
        self.origins.insert(message.origin, id);
        let stored = StoredMessage {
            id,
            from: message.from,
            to: message.to,
            received_ms: message.received_ms,
            content_type: message.content_type,
            headers: message.headers,
            body: message.body,
            in_group: message.account == AccountId(0),
            // One conversation is all that there is in this world.
            event: Some((CONVERSATION, id.0.unsigned_abs())),
            file: None,
        };
        self.stored.insert(id.0, stored.clone());
        for device in devices {
            self.pending.insert((*device, id), stored.clone());
        }
        (id, Some(stored))
    }

    /// The device has it.
    pub fn delivered(&mut self, device: DeviceId, message: MessageId) {
        self.pending.remove(&(device, message));
    }

    /// A page of what the device has not got.
    #[must_use]
    pub fn page(&self, device: DeviceId, after: MessageId) -> Note {
        let later = MessageId(after.0.saturating_add(1));
        let range = (device, later)..=(device, MessageId(i64::MAX));
        let messages = self.pending.range(range).take(PAGE);
        let messages = Some(messages.map(|(_, message)| message.clone()).collect());
        Note::Pending { device, messages }
    }

    /// Messages that none of these devices has got, and those that some of them has.
    #[must_use]
    pub fn counts(&self, devices: &[DeviceId]) -> (u64, u64) {
        let mut open: BTreeMap<MessageId, usize> = BTreeMap::new();
        let of_them = self
            .pending
            .keys()
            .filter(|(device, _)| devices.contains(device));
        for (_, message) in of_them {
            *open.entry(*message).or_default() += 1;
        }
        let unread = open
            .values()
            .filter(|count| **count == devices.len())
            .count() as u64;
        (unread, open.len() as u64 - unread)
    }

    /// What was stored with a number.
    #[must_use]
    pub fn stored(&self, number: u64) -> Option<&StoredMessage> {
        self.stored.get(&i64::try_from(number).ok()?)
    }

    /// How much a device has not got.
    #[must_use]
    pub fn waiting(&self, device: DeviceId) -> usize {
        self.pending.keys().filter(|(of, _)| *of == device).count()
    }
}
