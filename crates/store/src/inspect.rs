//! A look at a data directory that changes nothing in it.
//!
//! *Invariant*: nothing is made, migrated or recovered here.

use crate::{StoreError, database_path, options};
use sqlx::{Connection, SqliteConnection};
use std::path::{Path, PathBuf};

/// The database of `url` and `data`, where there is one.
///
/// # Errors
///
/// A `url` that is none of ours.
pub fn database_file(url: &str, data: &Path) -> Result<Option<PathBuf>, StoreError> {
    let database = database_path(url, data)?;
    Ok(database.is_file().then_some(database))
}

/// Whether the database, where there is one, can be read. `running` says that a server has it
/// open.
///
/// # Errors
///
/// Why it cannot be read.
pub async fn inspect(url: &str, data: &Path, running: bool) -> Result<(), StoreError> {
    let Some(database) = database_file(url, data)? else {
        return Ok(());
    };
    // Without a server there may be no files of the write-ahead log, and reading would make them.
    let options = options(&database, 2)
        .create_if_missing(false)
        .read_only(true)
        .immutable(!running);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    sqlx::query("SELECT value FROM counter WHERE name = 'directory'")
        .fetch_one(&mut connection)
        .await?;
    Ok(connection.close().await?)
}
