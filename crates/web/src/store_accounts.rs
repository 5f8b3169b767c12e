//! [`Accounts`] on the store.
//!
//! *Invariant*: a set-up token is spent after the administrator exists, under
//! one lock, so that a crash between the two leaves a link that still works.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sidetone_model::{AddressOfRecord, Role};
use sidetone_store::{AccountRecord, NewAccount, Store, StoreError};
use subtle::ConstantTimeEq;

use crate::accounts::{Accounts, Administrator, Answer, Login, Session, SetUp, Unavailable};
use crate::setup::new_setup_token;
use crate::state::now_ms;

const SETUP: &str = "web.setup-token-sha256";
const TOKEN_KEY: &str = "web.token-key";
/// Refresh tokens that can be good at once; the oldest give way.
const SESSIONS: usize = 100_000;

/// The directory in the store, with the sessions of this run.
pub struct StoreAccounts {
    store: Store,
    domains: Vec<String>,
    sessions: Mutex<HashMap<[u8; 32], Session>>,
    setting_up: tokio::sync::Mutex<()>,
}

impl StoreAccounts {
    /// Accounts of the domains served.
    pub fn new(store: Store, domains: Vec<String>) -> Self {
        StoreAccounts {
            store,
            domains,
            sessions: Mutex::new(HashMap::new()),
            setting_up: tokio::sync::Mutex::new(()),
        }
    }

    async fn make_administrator(&self, new: Administrator) -> Result<SetUp, StoreError> {
        let Ok(address) = new.address.parse::<AddressOfRecord>() else {
            return Ok(SetUp::UnknownDomain);
        };
        if !self
            .domains
            .iter()
            .any(|d| d.eq_ignore_ascii_case(address.domain()))
        {
            return Ok(SetUp::UnknownDomain);
        }
        match self.store.account(&address).await? {
            None => self.add_administrator(address, new.password_hash).await,
            Some(record) if awaits_password(&record, &address) => {
                self.store
                    .set_password(record.account.id, &new.password_hash)
                    .await?;
                Ok(SetUp::Done)
            }
            Some(_) => Ok(SetUp::AddressTaken),
        }
    }

    async fn add_administrator(
        &self,
        address: AddressOfRecord,
        password: String,
    ) -> Result<SetUp, StoreError> {
        let new = NewAccount {
            name: String::new(),
            profile: "default".to_owned(),
            role: Role::Admin,
            password: Some(password),
            aliases: Vec::new(),
            address,
        };
        match self.store.add_account(&new).await {
            Ok(_) => Ok(SetUp::Done),
            Err(StoreError::Similar(..)) => Ok(SetUp::AddressTaken),
            Err(error) => Err(error),
        }
    }

    async fn setup_open(&self, token_hash: &[u8; 32]) -> Result<bool, StoreError> {
        let kept = self.store.setting(SETUP).await?.unwrap_or_default();
        Ok(bool::from(kept.as_slice().ct_eq(token_hash)))
    }
}

/// An administrator that the command line made, and who has no password yet.
fn awaits_password(record: &AccountRecord, address: &AddressOfRecord) -> bool {
    record.account.role == Role::Admin
        && record.password.is_none()
        && !record.account.disabled
        && record.account.address == *address
}

/// A token for a set-up link while the server has no administrator; the last one made counts.
pub async fn setup_token(store: &Store) -> Result<Option<String>, StoreError> {
    let accounts = store.accounts().await?;
    if accounts.iter().any(|account| account.role == Role::Admin) {
        store.put_setting(SETUP, b"").await?;
        return Ok(None);
    }
    let (token, hash) = new_setup_token();
    store.put_setting(SETUP, &hash).await?;
    Ok(Some(token))
}

/// The seed of the key that signs access tokens, made once.
pub async fn token_seed(store: &Store) -> Result<[u8; 32], StoreError> {
    let kept = store
        .setting_or_insert(TOKEN_KEY, &rand::random::<[u8; 32]>())
        .await?;
    kept.try_into()
        .map_err(|_| StoreError::Corrupt("token key"))
}

fn unavailable(error: StoreError) -> Unavailable {
    Unavailable(error.to_string())
}

fn login(record: AccountRecord) -> Login {
    Login {
        id: record.account.id.0,
        address: record.account.address.to_string(),
        name: record.account.name,
        role: record.account.role.as_str().to_owned(),
        disabled: record.account.disabled,
        password_hash: record.password,
    }
}

impl Accounts for StoreAccounts {
    fn by_address<'a>(&'a self, address: &'a str) -> Answer<'a, Option<Login>> {
        Box::pin(async move {
            let Ok(address) = address.parse::<AddressOfRecord>() else {
                return Ok(None);
            };
            let found = self.store.account(&address).await.map_err(unavailable)?;
            Ok(found.map(login))
        })
    }

    fn keep_session(&self, session: Session) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            if sessions.len() >= SESSIONS {
                make_room(&mut sessions);
            }
            sessions.insert(session.token_hash, session);
            Ok(())
        })
    }

    fn take_session(&self, token_hash: [u8; 32]) -> Answer<'_, Option<Session>> {
        Box::pin(async move {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(sessions.remove(&token_hash))
        })
    }

    fn setup_token_valid(&self, token_hash: [u8; 32]) -> Answer<'_, bool> {
        Box::pin(async move { self.setup_open(&token_hash).await.map_err(unavailable) })
    }

    fn set_up(&self, token_hash: [u8; 32], administrator: Administrator) -> Answer<'_, SetUp> {
        Box::pin(async move {
            let _one = self.setting_up.lock().await;
            if !self.setup_open(&token_hash).await.map_err(unavailable)? {
                return Ok(SetUp::TokenInvalid);
            }
            let done = self
                .make_administrator(administrator)
                .await
                .map_err(unavailable)?;
            if done == SetUp::Done {
                self.store
                    .put_setting(SETUP, b"")
                    .await
                    .map_err(unavailable)?;
            }
            Ok(done)
        })
    }

    fn reset(&self, token_hash: [u8; 32], password_hash: String) -> Answer<'_, bool> {
        Box::pin(async move {
            let account = self.store.take_reset_token(&token_hash, now_ms()).await;
            let Some(account) = account.map_err(unavailable)? else {
                return Ok(false);
            };
            self.store
                .set_password(account, &password_hash)
                .await
                .map_err(unavailable)?;
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.retain(|_, session| session.account != account.0);
            Ok(true)
        })
    }
}

/// Forgets what has run out, and the older half where that is not enough.
fn make_room(sessions: &mut HashMap<[u8; 32], Session>) {
    let now = now_ms();
    sessions.retain(|_, session| session.expires_at_ms > now);
    if sessions.len() < SESSIONS {
        return;
    }
    let mut ends: Vec<u64> = sessions.values().map(|s| s.expires_at_ms).collect();
    let (_, middle, _) = ends.select_nth_unstable(SESSIONS / 2);
    let middle = *middle;
    sessions.retain(|_, session| session.expires_at_ms > middle);
}
