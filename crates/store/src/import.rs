//! Import of many users at once.
//!
//! *Invariant*: a running server's writer gets its turn between any two groups of rows.

use crate::directory::{insert_account, insert_device, next_change};
use crate::{NewAccount, NewDevice, Store, StoreError, sweep};
use std::time::Duration;

const ROWS_PER_TRANSACTION: usize = 500;
/// SQLite's lock is not fair: without a pause a server beside us would starve.
const PAUSE: Duration = Duration::from_millis(2);

/// One user to import.
#[derive(Clone)]
pub struct ImportUser {
    /// The account.
    pub account: NewAccount,
    /// Its device, where it gets one; the account number in it is ignored.
    pub device: Option<NewDevice>,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Accounts added.
    pub accounts: u64,
    /// Devices added.
    pub devices: u64,
    /// Users left as they were, because their address exists already.
    pub existing: Vec<String>,
    /// Users left out, because something of theirs belongs to somebody else: their place in
    /// the list, counted from zero, their address, and why.
    pub refused: Vec<(usize, String, String)>,
}

impl Store {
    /// Adds every user that is not there yet.
    pub async fn import_users(
        &self,
        users: impl IntoIterator<Item = ImportUser>,
    ) -> Result<Imported, StoreError> {
        let mut imported = Imported::default();
        let mut users = users.into_iter().enumerate().peekable();
        while users.peek().is_some() {
            let group = users.by_ref().take(ROWS_PER_TRANSACTION);
            self.import_group(group, &mut imported).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(imported)
    }

    async fn import_group(
        &self,
        group: impl Iterator<Item = (usize, ImportUser)>,
        imported: &mut Imported,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let changed = next_change(&mut tx).await?;
        let mut result = Imported::default();
        for (place, user) in group {
            let address = user.account.address.to_string();
            sqlx::query("SAVEPOINT user").execute(&mut *tx).await?;
            match import_one(&mut tx, user, changed).await {
                Ok(devices) => {
                    sqlx::query("RELEASE user").execute(&mut *tx).await?;
                    result.accounts += 1;
                    result.devices += devices;
                }
                Err(error @ (StoreError::Exists(_) | StoreError::Similar(..))) => {
                    sqlx::query("ROLLBACK TO user").execute(&mut *tx).await?;
                    sqlx::query("RELEASE user").execute(&mut *tx).await?;
                    match error {
                        StoreError::Exists(what) if what == address => result.existing.push(what),
                        other => result.refused.push((place, address, other.to_string())),
                    }
                }
                Err(other) => return Err(other),
            }
        }
        sweep::hand_over(&mut tx).await?;
        tx.commit().await?;
        imported.accounts += result.accounts;
        imported.devices += result.devices;
        imported.existing.append(&mut result.existing);
        imported.refused.append(&mut result.refused);
        Ok(())
    }
}

async fn import_one(
    connection: &mut sqlx::sqlite::SqliteConnection,
    user: ImportUser,
    changed: i64,
) -> Result<u64, StoreError> {
    let account = insert_account(connection, &user.account, changed).await?;
    let Some(mut device) = user.device else {
        return Ok(0);
    };
    device.account = account;
    insert_device(connection, &device, changed).await?;
    Ok(1)
}
