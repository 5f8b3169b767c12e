//! Sans-IO SIP: zero-copy messages, transactions, dialogs, proxy response contexts, digest.
//!
//! *Invariant*: time, octets and randomness come in as arguments; nothing here blocks, panics on input or grows
//! without a bound.

#![warn(missing_docs)]

mod base64url;
pub mod build;
pub mod cpim;
pub mod dialog;
pub mod digest;
pub mod edit;
pub mod endpoint;
pub mod entropy;
pub mod flow;
mod grammar;
pub mod gruu;
pub mod header;
pub mod imdn;
pub mod iscomposing;
pub mod limits;
pub mod message;
pub mod method;
pub mod name_addr;
pub mod nonce;
pub mod params;
pub mod proxy;
pub mod reason;
mod received;
pub mod slab;
pub mod stream;
pub mod strict;
pub mod stun;
pub mod timer;
pub mod timestamp;
pub mod token;
mod transaction;
pub mod uri;
pub mod usage;
pub mod validate;
pub mod via;
mod xml;

pub use build::{RequestBuilder, ResponseBuilder};
pub use cpim::{Cpim, Mailbox};
pub use dialog::{Dialog, DialogParts, DialogRequest};
pub use digest::{Algorithm, Credentials, Ha1, MalformedCredentials, Qop};
pub use edit::Edit;
pub use endpoint::{
    ClientId, ClientState, Endpoint, Event, NotAccepted, Received, ServerId, Transmit,
};
pub use flow::{Flow, Transport};
pub use gruu::TempGruu;
pub use header::HeaderName;
pub use imdn::Imdn;
pub use iscomposing::IsComposing;
pub use limits::Limits;
pub use message::{CSeq, Field, Framing, Message, Rejected};
pub use method::Method;
pub use name_addr::{Contact, NameAddr};
pub use nonce::{CountCheck, NonceCounts, NonceKey, NonceState};
pub use params::{ParamIter, Params, unquote};
pub use reason::reason_phrase;
pub use stream::{Frame, FrameError, Framer};
pub use token::{FlowToken, TokenKey};
pub use uri::{Scheme, Uri, escape_user, host_ip, host_port, unescape};
pub use usage::subscription::{Notifier, Refused, Subscription, SubscriptionParts, Termination};
pub use via::{BRANCH_COOKIE, Via};

/// A part of a message that is not by the grammar, named by what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

/// The moment from which tests count.
#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Tests need some instant to begin at; it is read once and never compared with the clock.
pub(crate) fn tests_now() -> std::time::Instant {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    *START.get_or_init(std::time::Instant::now)
}
