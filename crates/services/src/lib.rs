//! Use-cases: register, authenticate, route, deliver. They return values; they never send.
//!
//! *Invariant: time, octets and randomness are arguments.* What is shared between shards
//! is locked inside, for no longer than one lookup or change takes.

#![warn(missing_docs)]

mod abilities;
pub mod auth;
pub mod carried;
mod contacts;
pub mod conversations;
pub mod delivery;
pub mod directory;
pub mod domains;
pub mod events;
pub mod files;
pub mod limits;
pub mod location;
pub mod offer;
pub mod presence;
pub mod registrar;
mod xml;

pub use abilities::{Abilities, AbilityTable};
pub use auth::{AuthOutcome, Authenticator, Challenges, CredentialsHeader, identity_allowed};
pub use contacts::{ContactAction, ContactOutcome};
pub use conversations::{
    Composing, Conversations, Groups, Outcome, Outgoing, Post, PostError, Posted,
};
pub use delivery::{Deliveries, DeliveryLimits, Step};
pub use directory::{AccountRef, DeviceCredentials, Directory, DirectoryCounts};
pub use domains::{Domains, any_address};
pub use events::{
    Change, EventAnswer, EventLimits, Events, Notify, Outbox, Package, Removal, Source, View,
    WatchList, Watcher,
};
pub use files::{FileError, FileLimits, Files};
pub use limits::{Ban, LimitPolicy, Limiter, Network, Networks, NotANetwork, Rate, Verdict};
pub use location::{Location, Target, Targets, flow_text, parse_flow_text};
pub use offer::Offer;
pub use presence::Board;
pub use registrar::{RegisterContext, RegisterError, RegisterPolicy, Registered, register};
pub use sidetone_conversation::{Command, Content, Target as MessageTarget};
