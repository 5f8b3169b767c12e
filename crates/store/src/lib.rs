//! SQL truth: accounts, devices, bindings, message spool.
//!
//! One SQLite file in WAL mode with `synchronous=FULL`. The directory is written by whoever
//! has to (a running server, the command line beside it); spool and bindings are written by
//! the one [`Writer`] of the one running server, in groups.
//!
//! *Invariant*: what a call reported as stored survives `kill -9` and loss of power.

mod backup;
mod bindings;
mod contacts;
mod conversation;
mod directory;
mod error;
mod files;
mod import;
mod inspect;
mod lock;
mod presence;
mod receipts;
mod rows;
mod search;
mod secrets;
mod spool;
mod statements;
mod stays;
mod sweep;
mod wire;
mod writer;

pub use backup::restore;
pub use contacts::Named;
pub use conversation::{
    Amended, Change, Encoded, Found, MemberRow, Page, Part, Watermark, encode, kind_of, role_of,
};
pub use directory::{AccountRecord, DirectoryChange, NewAccount, NewDevice};
pub use error::StoreError;
pub use files::{Content, FILES_FOLDER, Face, Folder, Upload, at_the_disk, hex};
pub use import::{ImportUser, Imported};
pub use inspect::{database_file, inspect};
pub use lock::DataLock;
pub use presence::{ContactState, Pairs, PublicationChanges, SubscriptionChanges};
pub use search::Search;
pub use wire::{Failure, Recent};
pub use writer::{Appended, Done, QueueFull, Recipients, Writer, WriterMetrics, WriterOptions};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The name of the database file in the data directory.
pub const DATABASE_FILE: &str = "sidetone.db";

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS_MAX: u32 = 3;

/// The open store; a clone shares it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pool: SqlitePool,
    data: PathBuf,
    database: PathBuf,
    receipts: receipts::Receipts,
}

impl Store {
    /// Opens the store, makes it where there is none, and brings its schema up to date.
    ///
    /// `url` is `sqlite` for the file `sidetone.db` in `data`, or `sqlite:PATH` for another.
    pub async fn open(url: &str, data: &Path) -> Result<Self, StoreError> {
        let database = database_path(url, data)?;
        create_data_dir(data)?;
        let pool = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .min_connections(0)
            .idle_timeout(Duration::from_secs(60))
            .connect_with(options(&database, 2))
            .await?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        restrict(&database)?;
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                data: data.to_owned(),
                database,
                receipts: receipts::Receipts::default(),
            }),
        })
    }

    /// The data directory that the store was opened in.
    pub fn data(&self) -> &Path {
        &self.inner.data
    }

    /// Closes every connection; the last one folds the write-ahead log into the database.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    pub(crate) fn receipts(&self) -> &receipts::Receipts {
        &self.inner.receipts
    }

    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.inner.pool
    }

    pub(crate) async fn connect_writer(
        &self,
        cache_mib: u32,
        checkpoint_pages: u32,
        pages_max: Option<u32>,
    ) -> Result<SqliteConnection, StoreError> {
        let mut options = options(&self.inner.database, cache_mib)
            .pragma("wal_autocheckpoint", checkpoint_pages.to_string())
            .statement_cache_capacity(statements::Statements::COUNT + 16)
            .thread_name(|_| "store-writer".to_owned());
        if let Some(pages) = pages_max {
            options = options.pragma("max_page_count", pages.to_string());
        }
        Ok(SqliteConnection::connect_with(&options).await?)
    }
}

fn database_path(url: &str, data: &Path) -> Result<PathBuf, StoreError> {
    match url.split_once(':') {
        None if url == "sqlite" => Ok(data.join(DATABASE_FILE)),
        Some(("sqlite", path)) if !path.is_empty() => {
            Ok(PathBuf::from(path.trim_start_matches("//")))
        }
        _ => Err(StoreError::Url(url.to_owned())),
    }
}

pub(crate) fn options(database: &Path, cache_mib: u32) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", format!("-{}", cache_mib * 1024))
        .pragma("temp_store", "memory")
        .disable_statement_logging()
}

fn create_data_dir(data: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|e| StoreError::io(data, e))
}

/// Password hashes and keys lie in the file: nobody else on the machine reads it.
fn restrict(file: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| StoreError::io(file, e))
}
