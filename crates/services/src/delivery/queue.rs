//! What one device has yet to get, as far as it is held in memory.
//!
//! *Invariant: what is in the store for the device and neither held nor refused has a number
//! above `cursor`*, and `more` is set while there may be such.

use std::collections::VecDeque;
use std::sync::Arc;

use sidetone_model::{MessageId, StoredMessage};

use super::PAGE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is under way.
    Ready,
    /// Wants to read and waits for room.
    InLine,
    /// Reads; `missed` is the least message that came meanwhile.
    Loading { missed: Option<MessageId> },
    /// The first message is under way.
    Flight { attempt: u64 },
    /// Until the next try.
    Waiting { until_ms: u64 },
    /// The device cannot do MESSAGE: until it registers anew.
    Unable,
    /// The device has no binding: until it registers.
    Away,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) state: State,
    /// Ascending numbers, [`PAGE`] at most.
    pub(super) messages: VecDeque<Arc<StoredMessage>>,
    pub(super) cursor: MessageId,
    more: bool,
    /// The greatest number that may ever have been under way.
    taken: MessageId,
    /// The least message that the device refused.
    refused: Option<MessageId>,
    /// The device registered while something was under way.
    pub(super) renewed: bool,
    pub(super) tries: u8,
}

impl Queue {
    /// Of a device of which nothing is remembered: any message up to `taken` may have been delivered to it.
    pub(super) fn after(taken: MessageId) -> Self {
        Self {
            state: State::Ready,
            messages: VecDeque::new(),
            cursor: MessageId(0),
            more: true,
            taken,
            refused: None,
            renewed: false,
            tries: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        match self.state {
            State::Away => true,
            _ => self.is_empty(),
        }
    }

    pub(super) fn revive(&mut self, anew: bool) {
        match self.state {
            State::Flight { .. } | State::Loading { .. } => {
                self.renewed |= anew;
                return;
            }
            State::Waiting { .. } | State::Away => self.state = State::Ready,
            State::Unable if anew => self.state = State::Ready,
            _ => {}
        }
        self.tries = 0;
        if anew {
            self.offer_refused();
        }
    }

    fn offer_refused(&mut self) {
        if let Some(message) = self.refused.take() {
            self.rewind(message);
        }
    }

    fn rewind(&mut self, message: MessageId) {
        self.cursor = self.cursor.min(MessageId(message.0.saturating_sub(1)));
        self.more = true;
    }

    /// Takes a message that was just committed; false when it stays in the store only.
    pub(super) fn append(&mut self, message: &Arc<StoredMessage>, room: bool) -> bool {
        let id = message.id;
        if self.messages.iter().rev().any(|held| held.id == id) {
            return false;
        }
        let loaded = matches!(self.state, State::Ready | State::Flight { .. }) && !self.more;
        // Two shards may report in another order than the store has committed. What is not
        // greater than one that was under way may have been delivered long ago: the store knows.
        if !loaded || !room || id <= self.taken || self.messages.len() >= PAGE {
            self.reread(id);
            return false;
        }
        let place = self.messages.partition_point(|held| held.id < id);
        self.messages.insert(place, Arc::clone(message));
        self.cursor = self.cursor.max(id);
        true
    }

    /// Remembers that the store holds this one.
    pub(super) fn reread(&mut self, id: MessageId) {
        if let State::Loading { missed } = &mut self.state {
            *missed = Some(missed.map_or(id, |least| least.min(id)));
        } else {
            self.rewind(id);
        }
    }

    pub(super) fn wants_load(&mut self) -> bool {
        if std::mem::take(&mut self.renewed) {
            self.offer_refused();
        }
        self.more
    }

    /// Takes what was read.
    pub(super) fn load(&mut self, messages: Vec<StoredMessage>) {
        let missed = match self.state {
            State::Loading { missed } => missed,
            _ => None,
        };
        self.more = messages.len() >= PAGE;
        self.state = State::Ready;
        for message in messages.into_iter().take(PAGE) {
            if message.id > self.cursor {
                self.cursor = message.id;
                self.messages.push_back(Arc::new(message));
            }
        }
        if let Some(id) = missed {
            self.more = true;
            if !self.messages.iter().any(|held| held.id == id) {
                self.rewind(id);
            }
        }
    }

    /// Nothing is left to read before this message, nor is anything held: it is the first since the last of the device's
    /// messages was delivered.
    pub(super) fn begin(&mut self, first: MessageId) {
        self.cursor = MessageId(first.0.saturating_sub(1));
        self.more = false;
    }

    /// Whether the store has nothing for the device, as far as is known here.
    pub(super) fn is_empty(&self) -> bool {
        self.state == State::Ready
            && self.messages.is_empty()
            && !self.more
            && self.refused.is_none()
    }

    pub(super) fn start(&mut self, attempt: u64, message: MessageId) {
        self.state = State::Flight { attempt };
        self.taken = self.taken.max(message);
    }

    /// The first message is no longer under way nor held.
    pub(super) fn land(&mut self) -> Option<Arc<StoredMessage>> {
        self.state = State::Ready;
        self.tries = 0;
        self.messages.pop_front()
    }

    pub(super) fn refuse(&mut self, message: MessageId) {
        self.refused = Some(self.refused.map_or(message, |least| least.min(message)));
    }

    /// Leaves everything to the store.
    pub(super) fn release(&mut self, state: State) {
        if let Some(first) = self.messages.front().map(|message| message.id) {
            self.rewind(first);
        }
        self.messages = VecDeque::new();
        self.more = true;
        self.renewed = false;
        self.state = state;
    }
}
