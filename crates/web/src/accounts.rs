//! What the web asks of the directory of accounts.
//!
//! *Invariant*: secrets cross this line only as hashes. A password comes in as
//! an argon2id string, a refresh or set-up token as its SHA-256.

use std::future::Future;
use std::pin::Pin;

/// The future that every question to [`Accounts`] gives.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send + 'a>>;

/// The directory could not be asked just now.
#[derive(Debug, thiserror::Error)]
#[error("the directory is not available: {0}")]
pub struct Unavailable(pub String);

/// An account as login and `/me` need it.
#[derive(Clone, Debug)]
pub struct Login {
    /// The account's number.
    pub id: i64,
    /// `user@domain`.
    pub address: String,
    /// The name that people see.
    pub name: String,
    /// `user`, `admin` or `auditor`.
    pub role: String,
    /// A disabled account can do nothing.
    pub disabled: bool,
    /// The argon2id string, where a web password was ever set.
    pub password_hash: Option<String>,
}

/// A session that a refresh token continues.
#[derive(Clone, Debug)]
pub struct Session {
    /// SHA-256 of the refresh token.
    pub token_hash: [u8; 32],
    /// Whose session this is: the number and the address, which must still belong together.
    pub account: i64,
    /// The account's address.
    pub address: String,
    /// Unix time in milliseconds after which the token is worth nothing.
    pub expires_at_ms: u64,
}

/// What the set-up form asks for.
#[derive(Clone, Debug)]
pub struct Administrator {
    /// `user@domain`.
    pub address: String,
    /// The argon2id string of the chosen password.
    pub password_hash: String,
}

/// How a set-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUp {
    /// The administrator exists now and the token is spent.
    Done,
    /// The token is unknown, spent or too old.
    TokenInvalid,
    /// The address belongs to an account that must not be taken over.
    AddressTaken,
    /// The domain of the address is not one that is served here.
    UnknownDomain,
}

/// The directory of accounts, and the few secrets that belong to the web.
pub trait Accounts: Send + Sync + 'static {
    /// The account of an address (`user@domain`), if there is one.
    fn by_address<'a>(&'a self, address: &'a str) -> Answer<'a, Option<Login>>;
    /// Keeps a session until it is taken or runs out.
    fn keep_session(&self, session: Session) -> Answer<'_, ()>;
    /// Gives a session and forgets it: a refresh token is good once.
    fn take_session(&self, token_hash: [u8; 32]) -> Answer<'_, Option<Session>>;
    /// Whether a set-up token is waiting to be used.
    fn setup_token_valid(&self, token_hash: [u8; 32]) -> Answer<'_, bool>;
    /// Makes the administrator and spends the token, both or neither.
    fn set_up(&self, token_hash: [u8; 32], administrator: Administrator) -> Answer<'_, SetUp>;
    /// Spends a reset token and sets the password of its account; no where it is worth nothing.
    fn reset(&self, token_hash: [u8; 32], password_hash: String) -> Answer<'_, bool>;
}
