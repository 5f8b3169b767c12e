//! Whose picture is shown: that of a person, of a group, or a mosaic of a group's members.
//!
//! *Invariant*: only what was drawn small is shown, so an avatar is bounded whatever it was made from; what is drawn is
//! known by what it is drawn from, so that a change of a face changes the tag.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sidetone_model::{AddressOfRecord, FileId};
use sidetone_store::{Face, at_the_disk, hex};

use super::drawing::{self, FACES, Tile};
use super::{FileError, Files, Person};

/// Octets of drawn avatars that are kept.
const KEPT: usize = 16 * 1024 * 1024;

/// A PNG of 256 by 256 pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avatar {
    /// Changes when the picture does.
    pub tag: String,
    /// The PNG.
    pub octets: Bytes,
}

/// Drawn before, the oldest first.
#[derive(Default)]
pub(super) struct Drawn {
    by_tag: HashMap<String, Bytes>,
    order: VecDeque<String>,
    octets: usize,
}

/// What identifies a face, and what is drawn of it.
struct Seen {
    address: AddressOfRecord,
    face: Face,
}

impl Files {
    /// Somebody of ours.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn avatar_of(&self, person: &AddressOfRecord) -> Result<Avatar, FileError> {
        let seen = self.seen(person).await?;
        self.drawn(vec![seen]).await
    }

    /// A group: the picture that it was given, or its members.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn avatar_of_group(
        &self,
        group: &AddressOfRecord,
        subject: &str,
        given: Option<FileId>,
        members: &[AddressOfRecord],
    ) -> Result<Avatar, FileError> {
        let upload = match given {
            Some(file) => self.store.upload(file).await?,
            None => None,
        };
        let shown = upload.filter(|upload| upload.content.thumbnail.is_some());
        let own = |picture| Seen {
            address: group.clone(),
            face: Face {
                name: subject.to_owned(),
                picture,
            },
        };
        if let Some(upload) = shown {
            return self.drawn(vec![own(Some(upload.content.digest))]).await;
        }
        let mut sorted: Vec<&AddressOfRecord> = members.iter().collect();
        sorted.sort();
        let mut seen = Vec::new();
        for member in sorted.into_iter().take(FACES) {
            seen.push(self.seen(member).await?);
        }
        if seen.is_empty() {
            seen.push(own(None));
        }
        self.drawn(seen).await
    }

    /// What somebody shows of himself from now on; nothing for the initials.
    ///
    /// # Errors
    /// [`FileError::Unknown`] for a file that is not theirs to see, [`FileError::NoPicture`] for one that is none.
    pub async fn show(
        &self,
        person: Person<'_>,
        file: Option<FileId>,
        now_ms: u64,
    ) -> Result<(), FileError> {
        if let Some(file) = file {
            self.showable(person, file, now_ms).await?;
        }
        Ok(self.store.set_avatar(person.account, file).await?)
    }

    /// A file that may become somebody's or a group's picture.
    ///
    /// # Errors
    /// As for [`Files::show`].
    pub async fn showable(
        &self,
        person: Person<'_>,
        file: FileId,
        now_ms: u64,
    ) -> Result<(), FileError> {
        if self.find(person, file).await?.content.thumbnail.is_none() {
            return Err(FileError::NoPicture);
        }
        match self.store.touch_upload(file, now_ms).await? {
            true => Ok(()),
            false => Err(FileError::Unknown),
        }
    }

    async fn seen(&self, person: &AddressOfRecord) -> Result<Seen, FileError> {
        let face = self.store.face(person).await?.unwrap_or_default();
        Ok(Seen {
            address: person.clone(),
            face,
        })
    }

    async fn drawn(&self, seen: Vec<Seen>) -> Result<Avatar, FileError> {
        let tag = tag(&seen);
        if let Some(octets) = self.drawn_before(&tag) {
            return Ok(Avatar { tag, octets });
        }
        let folder = self.folder.clone();
        let octets = at_the_disk(move || {
            let tiles: Vec<Tile> = seen
                .iter()
                .map(|seen| Tile {
                    seed: seed(&seen.address),
                    initials: drawing::initials(named(seen)),
                    picture: seen
                        .face
                        .picture
                        .and_then(|digest| std::fs::read(folder.thumbnail_path(&digest)).ok()),
                })
                .collect();
            drawing::draw(&tiles)
        });
        let octets = octets.await?.map(Bytes::from).ok_or(FileError::Failed)?;
        self.keep_drawn(&tag, &octets);
        Ok(Avatar { tag, octets })
    }

    fn drawn_before(&self, tag: &str) -> Option<Bytes> {
        let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.by_tag.get(tag).cloned()
    }

    fn keep_drawn(&self, tag: &str, octets: &Bytes) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn
            .by_tag
            .insert(tag.to_owned(), octets.clone())
            .is_some()
        {
            return;
        }
        drawn.order.push_back(tag.to_owned());
        drawn.octets += octets.len();
        while drawn.octets > KEPT {
            let Some(oldest) = drawn.order.pop_front() else {
                break;
            };
            let gone = drawn
                .by_tag
                .remove(&oldest)
                .map_or(0, |octets| octets.len());
            drawn.octets = drawn.octets.saturating_sub(gone);
        }
    }
}

/// What initials are made of.
fn named(seen: &Seen) -> &str {
    match seen.face.name.as_str() {
        "" => seen.address.user(),
        name => name,
    }
}

fn tag(seen: &[Seen]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"avatar 1\0");
    for seen in seen {
        for text in [seen.address.as_str(), &seen.face.name] {
            hash.update(text);
            hash.update([0]);
        }
        hash.update([u8::from(seen.face.picture.is_some())]);
        hash.update(seen.face.picture.unwrap_or_default());
    }
    let digest: [u8; 32] = hash.finalize().into();
    hex(digest.first_chunk::<16>().map_or(&[][..], |half| half))
}

fn seed(address: &AddressOfRecord) -> u64 {
    let digest: [u8; 32] = Sha256::digest(address.as_str()).into();
    digest
        .first_chunk()
        .map_or(0, |eight| u64::from_be_bytes(*eight))
}
