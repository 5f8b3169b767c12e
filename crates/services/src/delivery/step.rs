//! What there is to do for a delivery, and what its end means.
//!
//! *Invariant*: no status but a 2xx takes a message off the list of a device.

use std::sync::Arc;

use sidetone_model::{ConversationId, DeviceId, MessageId, StoredMessage};

/// How much is held in memory.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Messages, over all devices.
    pub messages: usize,
    /// Octets of these messages.
    pub octets: usize,
    /// Devices that have nothing to get and are remembered all the same, so that their next
    /// message need not be read back.
    pub idle_devices: usize,
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        Self {
            messages: 8_192,
            octets: 32 << 20,
            idle_devices: 65_536,
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read up to [`super::PAGE`] messages for the device, oldest first, greater than `after`;
    /// answer with [`super::Deliveries::loaded`] or [`super::Deliveries::load_failed`].
    Load {
        /// Whose messages.
        device: DeviceId,
        /// The first one is greater.
        after: MessageId,
    },
    /// Send one copy to each of the device's bindings that has none of this attempt yet:
    /// [`super::Deliveries::sending`] says which; then tell the end of each.
    Send {
        /// Names this attempt; less than 2^48.
        attempt: u64,
        /// To whom.
        device: DeviceId,
        /// What.
        message: Arc<StoredMessage>,
    },
    /// Take the message off the device's list in the store.
    Delivered {
        /// Who has it.
        device: DeviceId,
        /// What it has.
        message: MessageId,
    },
    /// An event of a conversation has reached its first device, or another one.
    Arrived {
        /// Which device.
        device: DeviceId,
        /// Where the event stands.
        event: (ConversationId, u64),
    },
    /// The device will not take the message, now or later.
    Refused {
        /// Which device.
        device: DeviceId,
        /// What.
        message: Arc<StoredMessage>,
    },
    /// The device has everything that was kept for it.
    Emptied {
        /// Which device.
        device: DeviceId,
    },
}

/// What a failed copy means for the message; of several copies the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// The device does not do MESSAGE.
    Unable,
    /// The device will not take this one.
    Refused,
    /// It may go better later.
    Temporary,
}

impl Failure {
    pub(super) fn of(status: u16) -> Self {
        match status {
            405 | 501 => Self::Unable,
            // RFC 3261 §21: said of this body, not of the moment.
            413 | 415 | 488 | 493 | 513 | 603 | 606 => Self::Refused,
            _ => Self::Temporary,
        }
    }
}
