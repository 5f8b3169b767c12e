//! Files that hold secrets.
//!
//! *Invariants:* a file has its mode from its first byte; it appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const PRIVATE: u32 = 0o600;

/// Writes a file that only its owner can read, in the place of an older one.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    write_whole(path, text, PRIVATE)
}

pub(super) fn write_whole(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    Fresh::write(path, text, mode)?.keep()
}

/// A file that is written and synced, and not yet in the place of the old one.
pub(super) struct Fresh<'a> {
    pub(super) path: PathBuf,
    place: &'a Path,
}

impl<'a> Fresh<'a> {
    pub(super) fn private(place: &'a Path, text: &str) -> io::Result<Self> {
        Self::write(place, text, PRIVATE)
    }

    fn write(place: &'a Path, text: &str, mode: u32) -> io::Result<Self> {
        let path = place.with_extension("new");
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(Self { path, place })
    }

    pub(super) fn keep(self) -> io::Result<()> {
        fs::rename(&self.path, self.place)
    }
}

impl Drop for Fresh<'_> {
    /// One that was not kept leaves nothing; of one that was, this name is gone already.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
