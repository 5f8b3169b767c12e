//! The ubiquitous language as plain data: addresses, accounts, devices, bindings, messages.
//!
//! *Invariant*: nothing here reads a clock, a socket or entropy, and nothing here serialises
//! itself: the store and the web own their representations.
#![warn(missing_docs)]

mod account;
mod address;
mod binding;
mod message;
mod presence;

pub use account::{Account, Device, Role, UnknownRole};
pub use address::{AddressError, AddressOfRecord};
pub use binding::Binding;
pub use message::{NewMessage, Origin, StoredMessage};
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
