//! The directory: accounts, their aliases and devices.
//!
//! *Invariant*: every change carries a number from one counter, taken in the transaction that
//! makes it; whoever follows `directory_since` misses none, whichever process wrote.

use crate::rows::{self, to_sql};
use crate::{Store, StoreError, stays, sweep};
use sidetone_model::{Account, AccountId, AddressOfRecord, Device, DeviceId, Role};
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{Row, Transaction};

/// An account to add.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its address; no account and no alias may have it yet.
    pub address: AddressOfRecord,
    /// The name to show.
    pub name: String,
    /// The name of its profile.
    pub profile: String,
    /// Its role.
    pub role: Role,
    /// The web password's hash (PHC string), if one was given.
    pub password: Option<String>,
    /// Extensions and other names.
    pub aliases: Vec<AddressOfRecord>,
}

/// A device to add.
#[derive(Clone)]
pub struct NewDevice {
    /// Whose it is.
    pub account: AccountId,
    /// What the owner calls it.
    pub label: String,
    /// The name it authenticates with, unique in the realm.
    pub sip_user: String,
    /// The realm of the hashes: the account's domain.
    pub realm: String,
    /// HA1 by SHA-256.
    pub ha1_sha256: [u8; 32],
    /// HA1 by MD5.
    pub ha1_md5: Option<[u8; 16]>,
    /// Now.
    pub created_ms: u64,
}

/// An account with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// The account.
    pub account: Account,
    /// Its further addresses, sorted.
    pub aliases: Vec<AddressOfRecord>,
    /// Its devices, oldest first.
    pub devices: Vec<Device>,
    /// The web password's hash, if one is set.
    pub password: Option<String>,
}

/// One change of the directory; a reader that starts at 0 gets the whole of it as changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryChange {
    /// The account is new or has changed.
    Account(Account),
    /// The account is gone.
    AccountRemoved(AccountId),
    /// The address now leads to the account.
    Alias {
        address: AddressOfRecord,
        account: AccountId,
    },
    /// The address leads nowhere any more.
    AliasRemoved(AddressOfRecord),
    /// The device is new.
    Device(Device),
    /// The device is gone.
    DeviceRemoved {
        device: DeviceId,
        account: AccountId,
    },
}

impl Store {
    /// The number of the latest change: a cheap way to see whether there is news.
    pub async fn directory_version(&self) -> Result<i64, StoreError> {
        let (value,) = sqlx::query_as("SELECT value FROM counter WHERE name = 'directory'")
            .fetch_one(self.pool())
            .await?;
        Ok(value)
    }

    /// All changes after number `since`, in order, and the number of the last one.
    pub async fn directory_since(
        &self,
        since: i64,
    ) -> Result<(Vec<DirectoryChange>, i64), StoreError> {
        // One transaction: the five reads see one state.
        let mut tx = self.pool().begin().await?;
        let (latest,): (i64,) =
            sqlx::query_as("SELECT value FROM counter WHERE name = 'directory'")
                .fetch_one(&mut *tx)
                .await?;
        let mut changes: Vec<(i64, u8, DirectoryChange)> = Vec::new();
        if latest > since {
            for (kind, sql) in CHANGE_QUERIES {
                for row in sqlx::query(*sql).bind(since).fetch_all(&mut *tx).await? {
                    changes.push((row.try_get("changed")?, *kind, change(*kind, &row)?));
                }
            }
        }
        tx.commit().await?;
        changes.sort_by_key(|(number, kind, _)| (*number, *kind));
        Ok((changes.into_iter().map(|(_, _, c)| c).collect(), latest))
    }

    /// Adds an account with its aliases.
    pub async fn add_account(&self, new: &NewAccount) -> Result<AccountId, StoreError> {
        let mut tx = self.write().await?;
        let changed = next_change(&mut tx).await?;
        let id = insert_account(&mut tx, new, changed).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Every account, sorted by address.
    pub async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        let rows = sqlx::query("SELECT * FROM account ORDER BY address")
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(rows::account).collect()
    }

    /// The account with this address or alias.
    pub async fn account(
        &self,
        address: &AddressOfRecord,
    ) -> Result<Option<AccountRecord>, StoreError> {
        let mut tx = self.pool().begin().await?;
        let row = sqlx::query(
            "SELECT * FROM account WHERE address = ?1 \
             OR id = (SELECT account FROM alias WHERE address = ?1)",
        )
        .bind(address.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let account = rows::account(&row)?;
        let record = AccountRecord {
            aliases: aliases(&mut tx, account.id).await?,
            devices: devices(&mut tx, account.id).await?,
            password: row.try_get("password")?,
            account,
        };
        Ok(Some(record))
    }

    /// Disables or enables an account.
    pub async fn set_disabled(&self, id: AccountId, disabled: bool) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let changed = next_change(&mut tx).await?;
        let done = sqlx::query("UPDATE account SET disabled = ?, changed = ? WHERE id = ?")
            .bind(disabled)
            .bind(changed)
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
        found(done.rows_affected(), || format!("account {id}"))?;
        Ok(tx.commit().await?)
    }

    /// Changes what is given of an account, and leaves the rest as it is.
    pub async fn set_account(
        &self,
        id: AccountId,
        name: Option<&str>,
        profile: Option<&str>,
        role: Option<Role>,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let changed = next_change(&mut tx).await?;
        let done = sqlx::query(
            "UPDATE account SET name = coalesce(?, name), profile = coalesce(?, profile), \
             role = coalesce(?, role), changed = ? WHERE id = ?",
        )
        .bind(name)
        .bind(profile)
        .bind(role.map(|role| role.as_str()))
        .bind(changed)
        .bind(id.0)
        .execute(&mut *tx)
        .await?;
        found(done.rows_affected(), || format!("account {id}"))?;
        Ok(tx.commit().await?)
    }

    /// Removes an account with its aliases and devices; what it was sent stays in the archive.
    pub async fn remove_account(&self, id: AccountId) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let changed = next_change(&mut tx).await?;
        for statement in REMOVE_ACCOUNT {
            sqlx::query(*statement)
                .bind(id.0)
                .bind(changed)
                .execute(&mut *tx)
                .await?;
        }
        let done = sqlx::query("DELETE FROM account WHERE id = ?")
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
        found(done.rows_affected(), || format!("account {id}"))?;
        sweep::removed_since(&mut tx, changed - 1).await?;
        Ok(tx.commit().await?)
    }

    /// Sets the web password's hash and voids every reset link of the account.
    pub async fn set_password(&self, id: AccountId, hash: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query("UPDATE account SET password = ? WHERE id = ?")
            .bind(hash)
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
        found(done.rows_affected(), || format!("account {id}"))?;
        sqlx::query("DELETE FROM reset_token WHERE account = ?")
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Keeps the hash of a one-time token that lets its bearer set the password.
    pub async fn put_reset_token(
        &self,
        id: AccountId,
        token_hash: &[u8; 32],
        expires_ms: u64,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO reset_token (hash, account, expires_ms) VALUES (?, ?, ?)")
            .bind(token_hash.as_slice())
            .bind(id.0)
            .bind(to_sql(expires_ms))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Uses a reset token up; `None` if it is unknown, used or too old.
    pub async fn take_reset_token(
        &self,
        token_hash: &[u8; 32],
        now_ms: u64,
    ) -> Result<Option<AccountId>, StoreError> {
        let row: Option<(i64, i64)> =
            sqlx::query_as("DELETE FROM reset_token WHERE hash = ? RETURNING account, expires_ms")
                .bind(token_hash.as_slice())
                .fetch_optional(self.pool())
                .await?;
        Ok(row
            .filter(|(_, expires_ms)| *expires_ms > to_sql(now_ms))
            .map(|(account, _)| AccountId(account)))
    }

    /// Gives an account a further address.
    pub async fn add_alias(
        &self,
        id: AccountId,
        address: &AddressOfRecord,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let changed = next_change(&mut tx).await?;
        insert_alias(&mut tx, id, address, changed).await?;
        Ok(tx.commit().await?)
    }

    /// Takes a further address away.
    pub async fn remove_alias(&self, address: &AddressOfRecord) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let changed = next_change(&mut tx).await?;
        sqlx::query(
            "INSERT INTO removed (changed, kind, id, account, address) \
             SELECT ?2, 'alias', 0, account, address FROM alias WHERE address = ?1",
        )
        .bind(address.as_str())
        .bind(changed)
        .execute(&mut *tx)
        .await?;
        let done = sqlx::query("DELETE FROM alias WHERE address = ?")
            .bind(address.as_str())
            .execute(&mut *tx)
            .await?;
        found(done.rows_affected(), || format!("alias {address}"))?;
        Ok(tx.commit().await?)
    }

    /// Adds a device; messages that waited for the account become its deliveries.
    pub async fn add_device(&self, new: &NewDevice) -> Result<DeviceId, StoreError> {
        let mut tx = self.write().await?;
        let changed = next_change(&mut tx).await?;
        let id = insert_device(&mut tx, new, changed).await?;
        sweep::hand_over(&mut tx).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// The device of that number.
    pub async fn device(&self, id: DeviceId) -> Result<Option<Device>, StoreError> {
        let row = sqlx::query("SELECT * FROM device WHERE id = ?")
            .bind(id.0)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(rows::device).transpose()
    }

    /// Whether a device authenticates by that name in that realm.
    pub async fn has_sip_user(&self, sip_user: &str, realm: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM device WHERE sip_user = ? AND realm = ?")
            .bind(sip_user)
            .bind(realm)
            .fetch_optional(self.pool())
            .await?;
        Ok(row.is_some())
    }

    /// Removes a device with its deliveries; after the last one, messages wait for the account.
    pub async fn remove_device(&self, id: DeviceId) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let changed = next_change(&mut tx).await?;
        sqlx::query(
            "INSERT INTO removed (changed, kind, id, account, address) \
             SELECT ?2, 'device', id, account, '' FROM device WHERE id = ?1",
        )
        .bind(id.0)
        .bind(changed)
        .execute(&mut *tx)
        .await?;
        let done = sqlx::query("DELETE FROM device WHERE id = ?")
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
        found(done.rows_affected(), || format!("device {id}"))?;
        sweep::removed_since(&mut tx, changed - 1).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        // IMMEDIATE: a transaction that begins by reading could not wait for another writer.
        Ok(self.pool().begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// In the order in which changes of one number apply.
const CHANGE_QUERIES: &[(u8, &str)] = &[
    (
        0,
        "SELECT * FROM removed WHERE changed > ? AND kind = 'alias'",
    ),
    (
        1,
        "SELECT * FROM removed WHERE changed > ? AND kind = 'device'",
    ),
    (
        2,
        "SELECT * FROM removed WHERE changed > ? AND kind = 'account'",
    ),
    (3, "SELECT * FROM account WHERE changed > ?"),
    (4, "SELECT * FROM alias WHERE changed > ?"),
    (5, "SELECT * FROM device WHERE changed > ?"),
];

const REMOVE_ACCOUNT: &[&str] = &[
    "INSERT INTO removed (changed, kind, id, account, address) \
     SELECT ?2, 'alias', 0, account, address FROM alias WHERE account = ?1",
    "INSERT INTO removed (changed, kind, id, account, address) \
     SELECT ?2, 'device', id, account, '' FROM device WHERE account = ?1",
    "INSERT INTO removed (changed, kind, id, account, address) \
     SELECT ?2, 'account', id, id, address FROM account WHERE id = ?1",
];

fn change(kind: u8, row: &SqliteRow) -> Result<DirectoryChange, StoreError> {
    let account = |column| -> Result<AccountId, StoreError> {
        Ok(AccountId(row.try_get::<i64, &str>(column)?))
    };
    Ok(match kind {
        0 => DirectoryChange::AliasRemoved(rows::address(row.try_get("address")?)?),
        1 => DirectoryChange::DeviceRemoved {
            device: DeviceId(row.try_get("id")?),
            account: account("account")?,
        },
        2 => DirectoryChange::AccountRemoved(account("account")?),
        3 => DirectoryChange::Account(rows::account(row)?),
        4 => DirectoryChange::Alias {
            address: rows::address(row.try_get("address")?)?,
            account: account("account")?,
        },
        _ => DirectoryChange::Device(rows::device(row)?),
    })
}

pub(crate) async fn next_change(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let (value,) = sqlx::query_as(
        "UPDATE counter SET value = value + 1 WHERE name = 'directory' RETURNING value",
    )
    .fetch_one(connection)
    .await?;
    Ok(value)
}

pub(crate) async fn insert_account(
    connection: &mut SqliteConnection,
    new: &NewAccount,
    changed: i64,
) -> Result<AccountId, StoreError> {
    if is_alias(connection, &new.address).await? {
        return Err(StoreError::Exists(new.address.to_string()));
    }
    distinct(connection, &new.address).await?;
    // Whoever had the address before: nothing of that is this account's.
    stays::end(connection, &new.address).await?;
    let done = sqlx::query(
        "INSERT INTO account (address, name, profile, role, disabled, password, changed) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(new.address.as_str())
    .bind(new.name.as_str())
    .bind(new.profile.as_str())
    .bind(new.role.as_str())
    .bind(false)
    .bind(new.password.as_deref())
    .bind(changed)
    .execute(&mut *connection)
    .await
    .map_err(|e| unique(e, new.address.as_str()))?;
    let id = AccountId(done.last_insert_rowid());
    for alias in &new.aliases {
        insert_alias(connection, id, alias, changed).await?;
    }
    Ok(id)
}

async fn insert_alias(
    connection: &mut SqliteConnection,
    id: AccountId,
    address: &AddressOfRecord,
    changed: i64,
) -> Result<(), StoreError> {
    let taken = sqlx::query("SELECT 1 FROM account WHERE address = ?")
        .bind(address.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    if taken.is_some() {
        return Err(StoreError::Exists(address.to_string()));
    }
    distinct(connection, address).await?;
    sqlx::query("INSERT INTO alias (address, account, changed) VALUES (?, ?, ?)")
        .bind(address.as_str())
        .bind(id.0)
        .bind(changed)
        .execute(connection)
        .await
        .map_err(|e| unique(e, address.as_str()))?;
    Ok(())
}

pub(crate) async fn insert_device(
    connection: &mut SqliteConnection,
    new: &NewDevice,
    changed: i64,
) -> Result<DeviceId, StoreError> {
    let done = sqlx::query(
        "INSERT INTO device \
         (account, label, sip_user, realm, ha1_sha256, ha1_md5, created_ms, changed) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(new.account.0)
    .bind(new.label.as_str())
    .bind(new.sip_user.as_str())
    .bind(new.realm.as_str())
    .bind(new.ha1_sha256.as_slice())
    .bind(new.ha1_md5.as_ref().map(<[u8; 16]>::as_slice))
    .bind(to_sql(new.created_ms))
    .bind(changed)
    .execute(connection)
    .await
    .map_err(|e| unique(e, &format!("SIP user {}", new.sip_user)))?;
    Ok(DeviceId(done.last_insert_rowid()))
}

/// RFC 3261 §19.1.4 tells capitals of the user part apart; people, and many phones, do not. A conversation keeps its
/// address for life.
async fn distinct(
    connection: &mut SqliteConnection,
    address: &AddressOfRecord,
) -> Result<(), StoreError> {
    let similar: Option<(String,)> = sqlx::query_as(
        "SELECT address FROM account WHERE address = ?1 COLLATE NOCASE AND address <> ?1 \
         UNION ALL \
         SELECT address FROM alias WHERE address = ?1 COLLATE NOCASE AND address <> ?1 \
         UNION ALL \
         SELECT address FROM conversation WHERE address = ?1 COLLATE NOCASE LIMIT 1",
    )
    .bind(address.as_str())
    .fetch_optional(connection)
    .await?;
    match similar {
        Some((other,)) if other == address.as_str() => Err(StoreError::Exists(other)),
        Some((other,)) => Err(StoreError::Similar(address.to_string(), other)),
        None => Ok(()),
    }
}

async fn is_alias(
    connection: &mut SqliteConnection,
    address: &AddressOfRecord,
) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM alias WHERE address = ?")
        .bind(address.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

async fn aliases(
    connection: &mut SqliteConnection,
    id: AccountId,
) -> Result<Vec<AddressOfRecord>, StoreError> {
    let rows: Vec<(String,)> =
        sqlx::query_as("SELECT address FROM alias WHERE account = ? ORDER BY address")
            .bind(id.0)
            .fetch_all(connection)
            .await?;
    rows.iter().map(|(text,)| rows::address(text)).collect()
}

async fn devices(
    connection: &mut SqliteConnection,
    id: AccountId,
) -> Result<Vec<Device>, StoreError> {
    let rows = sqlx::query("SELECT * FROM device WHERE account = ? ORDER BY id")
        .bind(id.0)
        .fetch_all(connection)
        .await?;
    rows.iter().map(rows::device).collect()
}

fn unique(error: sqlx::Error, what: &str) -> StoreError {
    match error.as_database_error() {
        Some(e) if e.is_unique_violation() => StoreError::Exists(what.to_owned()),
        Some(e) if e.is_foreign_key_violation() => StoreError::NotFound(format!("owner of {what}")),
        _ => error.into(),
    }
}

fn found(rows: u64, what: impl FnOnce() -> String) -> Result<(), StoreError> {
    if rows == 0 {
        return Err(StoreError::NotFound(what()));
    }
    Ok(())
}
