//! HTTP: health, metrics, login, set-up, and SIP over WebSocket.
//!
//! *Invariant*: nothing here knows SIP. A WebSocket connection is handed over
//! as bytes in and bytes out ([`SipOverWebSocket`]), and accounts are asked
//! through [`Accounts`]; this crate owns its own data shapes on the wire.

#![warn(missing_docs)]

mod accounts;
mod api;
mod attempts;
mod auth;
mod health;
mod jwt_ring;
mod openapi;
mod page;
mod password;
mod presences;
mod problem;
mod ranges;
mod reset;
mod security_headers;
mod serve;
mod setup;
mod state;
mod store_accounts;
mod tokens;
mod unread;
mod websocket;

pub use accounts::{Accounts, Administrator, Answer, Login, Session, SetUp, Unavailable};
pub use health::{Metrics, Readiness};
pub use password::{hash_password, verify_password, weakness};
pub use presences::Presences;
pub use serve::{Bounds, Listeners, serve};
pub use setup::{new_setup_token, token_hash};
pub use state::{Rates, Settings, State, Web, router};
pub use store_accounts::{StoreAccounts, setup_token, token_seed};
pub use tokens::{Claims, Tokens};
pub use websocket::{Closed, Inbound, Patience, Peer, SipOverWebSocket};
