//! What can go wrong in the store.
//!
//! *Invariant*: an error is cheap to clone, because one failed commit fails every message in it.

use std::path::Path;
use std::sync::Arc;

/// Why the store could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Something of that name exists already.
    #[error("{0} exists already")]
    Exists(String),
    /// Two addresses that people would take for one.
    #[error("{0} differs from {1} only in capitals: choose another name")]
    Similar(String, String),
    /// There is nothing of that name.
    #[error("there is no {0}")]
    NotFound(String),
    /// The disk (or the quota) is full: nothing was stored.
    #[error("the disk that holds the database is full: make room")]
    DiskFull,
    /// Another process held the database for too long: nothing was stored.
    #[error("the database is busy: another process holds it; try again")]
    Busy,
    /// What comes before it in its conversation was not stored: nothing was stored.
    #[error("what comes before it in its conversation was not stored; try again")]
    Gap,
    /// The store is shutting down: nothing was stored.
    #[error("the store is closing")]
    Closed,
    /// Another server runs on the same data directory.
    #[error("another server runs on {0}: stop it first")]
    InUse(String),
    /// `store.url` is none that we know.
    #[error("store.url {0:?} is not known: use \"sqlite\" or \"sqlite:PATH\"")]
    Url(String),
    /// A backup that every later one would hold again.
    #[error(
        "{0} lies in the data directory: write the backup somewhere else, best on another disk"
    )]
    InsideData(String),
    /// The file is no backup of ours, or it is damaged.
    #[error("{0} is no usable backup: {1}")]
    BadBackup(String, String),
    /// A row holds what we never write.
    #[error("the database holds an unreadable {0}")]
    Corrupt(&'static str),
    /// A file could not be read or written.
    #[error("{0}: {1}")]
    Io(String, Arc<std::io::Error>),
    /// The database said no.
    #[error("database: {0}")]
    Database(Arc<sqlx::Error>),
}

impl StoreError {
    /// What the disk said of a path.
    pub fn io(path: &Path, error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(path.display().to_string(), Arc::new(error)),
        }
    }

    /// Whether the fault may be with one message of those stored together.
    pub(crate) fn is_of_one(&self) -> bool {
        !matches!(self, Self::DiskFull | Self::Busy | Self::Closed)
    }

    /// Whether the same call may succeed a little later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::DiskFull | Self::Busy | Self::Gap | Self::Closed)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error
            .as_database_error()
            .and_then(|e| e.code())
            .and_then(|code| code.parse::<i32>().ok());
        // The low byte is the primary result code: 5 busy, 6 locked, 13 full; 778 is
        // SQLITE_IOERR_WRITE, which some file systems answer when they are full.
        match code.map(|c| c & 0xff) {
            Some(13) => Self::DiskFull,
            Some(5 | 6) => Self::Busy,
            // SQLITE_CONSTRAINT_TRIGGER: the only one of ours that raises.
            _ if code == Some(1811) => Self::Gap,
            _ if code == Some(778) => Self::DiskFull,
            _ => Self::Database(Arc::new(error)),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::from(sqlx::Error::Migrate(Box::new(error)))
    }
}
