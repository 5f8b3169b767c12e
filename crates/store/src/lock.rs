//! The lock of the data directory: one server at a time.
//!
//! *Invariant*: the lock ends with the process that holds it, however that ends.

use crate::StoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

const LOCK_FILE: &str = "sidetone.lock";

/// Held while a server runs on a data directory.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the lock, or says that somebody else has it.
    pub fn acquire(data: &Path) -> Result<Self, StoreError> {
        crate::create_data_dir(data)?;
        let path = data.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| StoreError::io(&path, e))?;
        lock(&file, &path, data)?;
        Ok(Self { _file: file })
    }

    /// Says whether somebody else has the lock, and makes nothing.
    ///
    /// # Errors
    ///
    /// A server that runs on the directory, or a file that cannot be read.
    pub fn probe(data: &Path) -> Result<(), StoreError> {
        let path = data.join(LOCK_FILE);
        match File::open(&path) {
            Ok(file) => lock(&file, &path, data),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io(&path, error)),
        }
    }
}

fn lock(file: &File, path: &Path, data: &Path) -> Result<(), StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(data.display().to_string())),
        Err(TryLockError::Error(e)) => Err(StoreError::io(path, e)),
    }
}
