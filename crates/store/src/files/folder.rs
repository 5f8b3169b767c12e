//! The folder of contents: each under its SHA-256, beside the database.
//!
//! *Invariant*: what lies under a digest is whole and on the disk: it is written elsewhere, synced, renamed, and the
//! folder synced after it.

use super::hex;
use crate::{StoreError, create_data_dir, restrict};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The name of the folder in the data directory.
pub const FILES_FOLDER: &str = "files";
/// What is on its way; worth nothing after a restart.
const INCOMING: &str = "incoming";
const THUMBNAIL: &str = "thumbnail";

/// Octets of the disk that files leave to the database.
const RESERVE: u64 = 256 * 1024 * 1024;

/// Where contents lie. Every call may wait for the disk.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Makes the folder where there is none, and throws away what an earlier run left unfinished.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        let folder = Self {
            root: data.join(FILES_FOLDER),
        };
        let incoming = folder.root.join(INCOMING);
        match std::fs::remove_dir_all(&incoming) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(StoreError::io(&incoming, e)),
            _ => {}
        }
        create_data_dir(&incoming)?;
        sync_folder(&folder.root)?;
        sync_folder(data)?;
        Ok(folder)
    }

    /// A new file that nobody else knows; `name` is random. None while the disk has little room: messages need it more.
    pub fn begin(&self, name: u128) -> Result<(File, PathBuf), StoreError> {
        if room(&self.root)? < RESERVE {
            return Err(StoreError::DiskFull);
        }
        let path = self.root.join(INCOMING).join(format!("{name:032x}"));
        let file = File::create_new(&path).map_err(|e| StoreError::io(&path, e))?;
        restrict(&path)?;
        Ok((file, path))
    }

    /// Where the content with this digest lies, if it does.
    pub fn path(&self, digest: &[u8; 32]) -> PathBuf {
        let name = hex(digest);
        let (shelf, rest) = name.split_at(2);
        self.root.join(shelf).join(rest)
    }

    /// Where its small picture lies, if there is one.
    pub fn thumbnail_path(&self, digest: &[u8; 32]) -> PathBuf {
        self.path(digest).with_extension(THUMBNAIL)
    }

    /// Puts what was written and synced where its content belongs; it may be there already.
    pub fn keep(&self, written: &Path, digest: &[u8; 32]) -> Result<(), StoreError> {
        self.place(written, &self.path(digest))
    }

    /// Puts a small picture beside the content.
    pub fn keep_thumbnail(&self, written: &Path, digest: &[u8; 32]) -> Result<(), StoreError> {
        self.place(written, &self.thumbnail_path(digest))
    }

    fn place(&self, written: &Path, path: &Path) -> Result<(), StoreError> {
        let shelf = path.parent().unwrap_or(&self.root);
        if !shelf.is_dir() {
            create_data_dir(shelf)?;
            sync_folder(&self.root)?;
        }
        // The same bytes have the same name: what is there is replaced by itself.
        std::fs::rename(written, path).map_err(|e| StoreError::io(path, e))?;
        sync_folder(shelf)
    }

    /// Takes a content away.
    pub fn remove(&self, digest: &[u8; 32]) -> Result<(), StoreError> {
        remove(&self.thumbnail_path(digest))?;
        remove(&self.path(digest))
    }

    /// The digests of what lies here.
    pub fn digests(&self) -> Result<Vec<[u8; 32]>, StoreError> {
        let mut digests = Vec::new();
        for shelf in entries(&self.root)? {
            let Some(first) = name_of(&shelf).filter(|name| name.len() == 2) else {
                continue;
            };
            for path in entries(&shelf)? {
                let rest = name_of(&path).unwrap_or_default();
                digests.extend(super::unhex(&format!("{first}{rest}")));
            }
        }
        Ok(digests)
    }
}

/// Whether a path below the data directory is of something that is not finished.
pub(crate) fn is_incoming(name: &Path) -> bool {
    name.starts_with(Path::new(FILES_FOLDER).join(INCOMING))
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let wrong = |e| StoreError::io(folder, e);
    let entries = std::fs::read_dir(folder).map_err(wrong)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(wrong));
    paths.collect()
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(StoreError::io(path, e)),
        _ => Ok(()),
    }
}

/// Octets that the disk has left for us.
fn room(folder: &Path) -> Result<u64, StoreError> {
    let disk = nix::sys::statvfs::statvfs(folder).map_err(|e| StoreError::io(folder, e.into()))?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// A name in a folder survives a loss of power once the folder itself is synced.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let opened = File::open(folder).map_err(|e| StoreError::io(folder, e))?;
    opened.sync_all().map_err(|e| StoreError::io(folder, e))
}

/// Does what may wait for the disk on a thread that may wait.
pub async fn at_the_disk<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| StoreError::Closed)
}
