//! The ubiquitous language as plain data: addresses, accounts, devices, bindings, messages, conversations.
//!
//! *Invariant*: nothing here reads a clock, a socket or entropy, and nothing here serialises
//! itself: the store and the web own their representations.
#![warn(missing_docs)]

mod account;
mod address;
mod binding;
mod conversation;
mod message;
mod presence;

pub use account::{Account, Device, Role, UnknownRole};
pub use address::{AddressError, AddressOfRecord};
pub use binding::Binding;
pub use conversation::{
    ConversationSnapshot, Event, EventBody, FileKind, FileRef, History, Kind, NewEvent,
    ParticipantRole, ParticipantSnapshot, Receipt, ReceiptKind, SeqRange, Stay, TextFormat,
};
pub use message::{NewMessage, Origin, Place, StoredMessage};
pub use presence::{
    Availability, PersonPresence, Publication, SavedSubscription, SetPresence, UnknownAvailability,
};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Names one account for ever; never used again after a removal.
    AccountId
}
id! {
    /// Names one device for ever; never used again after a removal.
    DeviceId
}
id! {
    /// Names one stored message; a later message has a greater number.
    MessageId
}
id! {
    /// Names one conversation for ever.
    ConversationId
}
id! {
    /// Names one event among those of all conversations; a later event has a greater number.
    EventId
}
id! {
    /// Names one uploaded file for ever.
    FileId
}
