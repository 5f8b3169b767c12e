//! Files: taken in, kept by what they hold, and given to whoever may see them.
//!
//! *Invariant*: a file that was acknowledged is on the disk, synced, with its row; one that was refused leaves nothing.
//! Nobody is given a file who neither uploaded it nor sees an event that brings it.

mod avatars;
mod drawing;
mod incoming;
pub mod kind;
mod links;
mod phones;
mod picture;
mod sound;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sidetone_model::{AccountId, AddressOfRecord, FileId, FileKind, FileRef};
use sidetone_store::{Content, Folder, Store, StoreError, Upload, at_the_disk};
use tokio::sync::Semaphore;

pub use avatars::Avatar;
pub use incoming::Incoming;
pub use links::Links;
pub use phones::for_phone;
pub use picture::THUMBNAIL_PIXELS;

/// Files looked into at once: a picture takes much memory while it is made small.
const LOOKS: usize = 2;

/// How much is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// The largest file.
    pub octets: u64,
    /// All that one account has uploaded.
    pub account_octets: u64,
    /// Uploads of one account under way at once.
    pub unfinished: usize,
}

/// Why a file was not taken, or is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is larger than files may be.
    #[error("the file is too large")]
    TooLarge,
    /// The account has uploaded as much as it may.
    #[error("there is no room left for this account")]
    NoRoom,
    /// The account uploads too many at once.
    #[error("too many uploads at once")]
    TooMany,
    /// A picture that claims to be larger than any picture is.
    #[error("the picture claims an impossible size")]
    Bomb,
    /// It was declared to be a picture, a sound or a video, and is this.
    #[error("the file is not what it says, but {0}")]
    Lies(&'static str),
    /// It is none that can be shown small.
    #[error("the file is no picture")]
    NoPicture,
    /// There is no such file, for this person at least.
    #[error("there is no such file")]
    Unknown,
    /// Not now.
    #[error("the file could not be stored now")]
    Busy,
    /// The disk or the store failed.
    #[error("the file could not be stored")]
    Failed,
}

impl From<StoreError> for FileError {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "files");
        match error.is_temporary() {
            true => Self::Busy,
            false => Self::Failed,
        }
    }
}

/// Somebody who wants something with files.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// The account.
    pub account: AccountId,
    /// Its address.
    pub address: &'a AddressOfRecord,
}

/// A file that may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it is.
    pub upload: Upload,
    /// Where its content lies.
    pub path: PathBuf,
}

/// All files of this server.
pub struct Files {
    store: Store,
    folder: Folder,
    limits: FileLimits,
    links: Links,
    unfinished: Mutex<HashMap<AccountId, usize>>,
    looks: Semaphore,
    drawn: Mutex<avatars::Drawn>,
    /// Held while a content comes or goes, so that none goes that has just come again.
    shelves: tokio::sync::Mutex<()>,
}

impl Files {
    /// Files in the data directory of the store.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn open(store: Store, limits: FileLimits, links: Links) -> Result<Self, StoreError> {
        Ok(Self {
            folder: Folder::open(store.data())?,
            store,
            limits,
            links,
            unfinished: Mutex::default(),
            looks: Semaphore::new(LOOKS),
            drawn: Mutex::default(),
            shelves: tokio::sync::Mutex::default(),
        })
    }

    /// The largest file.
    pub fn octets_max(&self) -> u64 {
        self.limits.octets
    }

    /// Links for phones.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Begins to take a file; `name` is random.
    ///
    /// # Errors
    /// Where the account may not upload now.
    pub async fn begin(
        self: &Arc<Self>,
        account: AccountId,
        name: u128,
    ) -> Result<Incoming, FileError> {
        let place = Place::take(self, account)?;
        if self.store.uploaded_octets(account).await? >= self.limits.account_octets {
            return Err(FileError::NoRoom);
        }
        let folder = self.folder.clone();
        let begun = at_the_disk(move || folder.begin(name)).await??;
        Ok(Incoming::new(place, begun))
    }

    /// A file that this person uploaded, or sees in a conversation.
    ///
    /// # Errors
    /// [`FileError::Unknown`] for one that is not theirs to see, as for one that is not.
    pub async fn find(&self, person: Person<'_>, id: FileId) -> Result<Upload, FileError> {
        let upload = self.store.upload(id).await?.ok_or(FileError::Unknown)?;
        let own = upload.account == person.account;
        match own || self.store.sees_file(id, person.address).await? {
            true => Ok(upload),
            false => Err(FileError::Unknown),
        }
    }

    /// The same, with where it lies.
    ///
    /// # Errors
    /// As for [`Files::find`].
    pub async fn open_for(&self, person: Person<'_>, id: FileId) -> Result<Opened, FileError> {
        Ok(self.opened(self.find(person, id).await?))
    }

    /// The small picture of a file.
    ///
    /// # Errors
    /// As for [`Files::find`], also where there is none.
    pub async fn thumbnail_for(
        &self,
        person: Person<'_>,
        id: FileId,
    ) -> Result<(String, PathBuf), FileError> {
        let content = self.find(person, id).await?.content;
        let path = self.folder.thumbnail_path(&content.digest);
        let content_type = content.thumbnail.ok_or(FileError::Unknown)?;
        Ok((content_type, path))
    }

    /// The file that a link leads to, while the event that it was made for is not taken back.
    ///
    /// # Errors
    /// [`FileError::Unknown`] where it leads nowhere.
    pub async fn open_link(&self, token: &str, now_ms: u64) -> Result<Opened, FileError> {
        let event = self.links.read(token, now_ms).ok_or(FileError::Unknown)?;
        let file = self.store.file_of_event(event).await?;
        let upload = self.store.upload(file.ok_or(FileError::Unknown)?).await?;
        Ok(self.opened(upload.ok_or(FileError::Unknown)?))
    }

    fn opened(&self, upload: Upload) -> Opened {
        let path = self.folder.path(&upload.content.digest);
        Opened { upload, path }
    }

    /// A file as an event is to bring it. `voice_note`: it was spoken to be heard in place of a text.
    ///
    /// # Errors
    /// As for [`Files::find`].
    pub async fn attach(
        &self,
        person: Person<'_>,
        id: FileId,
        voice_note: bool,
        now_ms: u64,
    ) -> Result<FileRef, FileError> {
        let upload = self.find(person, id).await?;
        // What is being used is not forgotten before the event is there.
        if !self.store.touch_upload(id, now_ms).await? {
            return Err(FileError::Unknown);
        }
        let mut file = reference(upload);
        if voice_note && file.kind == FileKind::Sound {
            file.kind = FileKind::VoiceNote;
        }
        Ok(file)
    }
}

fn reference(upload: Upload) -> FileRef {
    let Content {
        digest,
        octets,
        content_type,
        width,
        height,
        duration_ms,
        ..
    } = upload.content;
    FileRef {
        id: upload.id,
        name: upload.name,
        kind: kind::kind(&content_type),
        digest: Some(digest),
        content_type: Some(content_type),
        octets: Some(octets),
        width,
        height,
        duration_ms,
    }
}

/// One of the uploads that an account may have under way.
struct Place {
    files: Arc<Files>,
    account: AccountId,
}

impl Place {
    fn take(files: &Arc<Files>, account: AccountId) -> Result<Self, FileError> {
        let mut unfinished = files
            .unfinished
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = unfinished.entry(account).or_default();
        if *count >= files.limits.unfinished {
            return Err(FileError::TooMany);
        }
        *count += 1;
        Ok(Self {
            files: Arc::clone(files),
            account,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut unfinished = self
            .files
            .unfinished
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = unfinished.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                unfinished.remove(&self.account);
            }
        }
    }
}
