//! A file on its way in.
//!
//! *Invariant*: no more of it is in memory than a part; one that is dropped before its end leaves nothing on the disk.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use sidetone_store::{Content, Folder, StoreError, Upload, at_the_disk};

use super::picture::{self, Bomb, Small};
use super::{FileError, Files, Place, kind, sound};

/// So much is gathered before it is written.
const PART: usize = 256 * 1024;
/// The longest name that is kept.
const NAME_CHARS: usize = 200;

/// A file that is being uploaded.
pub struct Incoming {
    // Dropped in this order: what is written goes before another may begin.
    written: Written,
    place: Place,
    part: Vec<u8>,
    octets: u64,
}

/// What has reached the disk.
struct Written {
    /// Lent to the thread that writes.
    open: Option<Open>,
    path: PathBuf,
}

struct Open {
    file: File,
    hash: Sha256,
    /// The first octets, which say what it is.
    head: Vec<u8>,
}

impl Drop for Written {
    fn drop(&mut self) {
        // Where it was kept, it has gone from here.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Incoming {
    pub(super) fn new(place: Place, (file, path): (File, PathBuf)) -> Self {
        let open = Open {
            file,
            hash: Sha256::new(),
            head: Vec::new(),
        };
        Self {
            written: Written {
                open: Some(open),
                path,
            },
            place,
            part: Vec::new(),
            octets: 0,
        }
    }

    /// Takes what comes next.
    ///
    /// # Errors
    /// [`FileError::TooLarge`] as soon as there is too much.
    pub async fn write(&mut self, octets: &[u8]) -> Result<(), FileError> {
        let more = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        self.octets = self.octets.saturating_add(more);
        if self.octets > self.place.files.limits.octets {
            return Err(FileError::TooLarge);
        }
        self.part.extend_from_slice(octets);
        match self.part.len() < PART {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    async fn flush(&mut self) -> Result<(), FileError> {
        let part = std::mem::take(&mut self.part);
        let mut open = self.written.open.take().ok_or(FileError::Failed)?;
        let path = self.written.path.clone();
        let (open, done) = at_the_disk(move || {
            let done = open.write(&part).map_err(|e| StoreError::io(&path, e));
            (open, done)
        })
        .await?;
        self.written.open = Some(open);
        Ok(done?)
    }

    /// All of it has come. `name` is what whoever uploads it calls it, `declared` what that one says that it is; may be empty.
    ///
    /// # Errors
    /// Why it was not kept.
    pub async fn finish(
        mut self,
        name: &str,
        declared: &str,
        now_ms: u64,
    ) -> Result<Upload, FileError> {
        self.flush().await?;
        let Open { file, hash, head } = self.written.open.take().ok_or(FileError::Failed)?;
        let is = kind::of(&head);
        if kind::lies(declared, is) {
            return Err(FileError::Lies(is));
        }
        let path = self.written.path.clone();
        at_the_disk(move || file.sync_all().map_err(|e| StoreError::io(&path, e))).await??;
        let files = &self.place.files;
        let digest: [u8; 32] = hash.finalize().into();
        let (content, small) = match files.store.content(&digest).await? {
            Some(known) => (known, None),
            None => {
                files
                    .look(&self.written.path, &head, digest, self.octets)
                    .await?
            }
        };
        let name = plain(name);
        let account = self.place.account;
        let _alone = files.shelves.lock().await;
        let used = files.store.uploaded_octets(account).await?;
        if used.saturating_add(self.octets) > files.limits.account_octets {
            return Err(FileError::NoRoom);
        }
        let (folder, path) = (files.folder.clone(), self.written.path.clone());
        at_the_disk(move || keep(&folder, &path, &digest, small)).await??;
        let id = files
            .store
            .add_upload(account, &name, &content, now_ms)
            .await?;
        Ok(Upload {
            id,
            account,
            name,
            content,
        })
    }
}

impl Open {
    fn write(&mut self, part: &[u8]) -> std::io::Result<()> {
        let room = kind::HEAD.saturating_sub(self.head.len());
        self.head.extend(part.iter().take(room));
        self.hash.update(part);
        self.file.write_all(part)
    }
}

impl Files {
    /// What a content is.
    async fn look(
        &self,
        path: &Path,
        head: &[u8],
        digest: [u8; 32],
        octets: u64,
    ) -> Result<(Content, Option<Small>), FileError> {
        // Never closed.
        let _turn = self.looks.acquire().await.map_err(|_| FileError::Failed)?;
        let (path, begins) = (path.to_owned(), kind::of(head));
        at_the_disk(move || look(&path, begins, digest, octets))
            .await?
            .map_err(|Bomb| FileError::Bomb)
    }
}

fn look(
    path: &Path,
    begins: &str,
    digest: [u8; 32],
    octets: u64,
) -> Result<(Content, Option<Small>), Bomb> {
    let mut content = Content {
        digest,
        octets,
        content_type: begins.to_owned(),
        width: None,
        height: None,
        duration_ms: None,
        thumbnail: None,
    };
    let mut small = None;
    let size = match begins.split_once('/') {
        Some(("image", _)) => {
            let looked = picture::look(path, begins, octets)?;
            small = looked.small;
            looked.size
        }
        Some((class @ ("audio" | "video"), format)) => {
            let looked = sound::look(path, octets);
            content.duration_ms = looked.duration_ms;
            if class == "video" && looked.sound_only {
                // The container of videos, with nothing to see in it: what browsers record from a microphone.
                content.content_type = format!("audio/{format}");
            }
            looked.size
        }
        _ => None,
    };
    (content.width, content.height) = size.unzip();
    content.thumbnail = small.as_ref().map(|small| small.content_type.to_owned());
    Ok((content, small))
}

/// Puts the content on its shelf, the small picture first: who sees the one finds the other.
fn keep(
    folder: &Folder,
    path: &Path,
    digest: &[u8; 32],
    small: Option<Small>,
) -> Result<(), StoreError> {
    if let Some(small) = small {
        let beside = path.with_extension("small");
        let wrong = |e| StoreError::io(&beside, e);
        let mut file = File::create(&beside).map_err(wrong)?;
        file.write_all(&small.octets).map_err(wrong)?;
        file.sync_all().map_err(wrong)?;
        folder.keep_thumbnail(&beside, digest)?;
    }
    folder.keep(path, digest)
}

/// The last part of a path, without signs that draw nothing or turn the order of others round.
fn plain(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown = |sign: &char| {
        !sign.is_control()
            && !matches!(sign, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let name: String = last.chars().filter(shown).take(NAME_CHARS).collect();
    match name.trim() {
        "." | ".." => String::new(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_name_is_a_name_and_no_path() {
        for (given, kept) in [
            ("båt 价格.png", "båt 价格.png"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\ann\\x.txt", "x.txt"),
            ("..", ""),
            ("a\r\nb\0", "ab"),
            ("invoice\u{202e}gpj.exe", "invoicegpj.exe"),
            (" . ", ""),
            ("", ""),
        ] {
            assert_eq!(plain(given), kept);
        }
        assert_eq!(plain(&"å".repeat(5_000)).chars().count(), 200);
    }
}
