//! What is known of uploaded files, and who may see them.
//!
//! *Invariant*: a row speaks of a content that lies on the disk, synced: the row is written after it, and goes before
//! it.

mod avatars;
mod folder;

pub use avatars::Face;
pub(crate) use folder::is_incoming;
pub use folder::{FILES_FOLDER, Folder, at_the_disk};

use crate::rows::{from_sql, to_sql};
use crate::{Store, StoreError};
use sidetone_model::{AccountId, AddressOfRecord, EventId, FileId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// What is known of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The SHA-256.
    pub digest: [u8; 32],
    /// Its size.
    pub octets: u64,
    /// What it was found to be.
    pub content_type: String,
    /// Of a picture or a video, in pixels.
    pub width: Option<u32>,
    /// Of a picture or a video, in pixels.
    pub height: Option<u32>,
    /// Of sound or video.
    pub duration_ms: Option<u64>,
    /// The type of its small picture, where there is one.
    pub thumbnail: Option<String>,
}

/// A file that somebody uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its number.
    pub id: FileId,
    /// Who uploaded it.
    pub account: AccountId,
    /// By which name; may be empty.
    pub name: String,
    /// What it is.
    pub content: Content,
}

const UPLOAD: &str = "\
SELECT u.id, u.account, u.name, c.* FROM upload u JOIN content c ON c.digest = u.digest WHERE u.id = ?";

/// An event that brings the file, that was not taken back, and that the address may see.
const SEEN: &str = "\
SELECT 1 FROM message m WHERE m.kind = 'file' AND m.detail -> 'file' ->> 'id' = ?1 \
AND EXISTS (SELECT 1 FROM member WHERE member.conversation = m.conversation AND address = ?2 \
AND horizon <= m.seq AND (until IS NULL OR until >= m.seq)) \
AND NOT EXISTS (SELECT 1 FROM message r WHERE r.kind = 'retraction' \
AND r.conversation = m.conversation AND r.detail ->> 'target' = m.seq) LIMIT 1";

/// The file of an event that was not taken back.
const BROUGHT: &str = "\
SELECT m.detail -> 'file' ->> 'id' FROM message m WHERE m.id = ? AND m.kind = 'file' \
AND NOT EXISTS (SELECT 1 FROM message r WHERE r.kind = 'retraction' \
AND r.conversation = m.conversation AND r.detail ->> 'target' = m.seq)";

/// Uploads that nothing refers to.
const UNUSED: &str = "\
DELETE FROM upload WHERE id IN (SELECT id FROM upload WHERE used_ms < ? \
AND NOT EXISTS (SELECT 1 FROM message m WHERE m.kind = 'file' AND m.detail -> 'file' ->> 'id' = upload.id) \
AND id NOT IN (SELECT file FROM avatar) \
AND id NOT IN (SELECT CAST(avatar AS INTEGER) FROM conversation WHERE avatar <> '') \
ORDER BY used_ms LIMIT ?)";

impl Store {
    /// Notes a content and who uploaded it, once it lies on the disk. What is known of a content stays as it is.
    pub async fn add_upload(
        &self,
        account: AccountId,
        name: &str,
        content: &Content,
        now_ms: u64,
    ) -> Result<FileId, StoreError> {
        let mut tx = self.pool().begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO content (digest, octets, content_type, width, height, duration_ms, thumbnail) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
        )
        .bind(content.digest.as_slice())
        .bind(to_sql(content.octets))
        .bind(&content.content_type)
        .bind(content.width.map(i64::from))
        .bind(content.height.map(i64::from))
        .bind(content.duration_ms.map(to_sql))
        .bind(&content.thumbnail)
        .execute(&mut *tx)
        .await?;
        let (id,): (i64,) = sqlx::query_as(
            "INSERT INTO upload (account, digest, name, octets, created_ms, used_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?5) RETURNING id",
        )
        .bind(account.0)
        .bind(content.digest.as_slice())
        .bind(name)
        .bind(to_sql(content.octets))
        .bind(to_sql(now_ms))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(FileId(id))
    }

    /// What is known of a content.
    pub async fn content(&self, digest: &[u8; 32]) -> Result<Option<Content>, StoreError> {
        let row = sqlx::query("SELECT * FROM content WHERE digest = ?")
            .bind(digest.as_slice())
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(content).transpose()
    }

    /// A file.
    pub async fn upload(&self, id: FileId) -> Result<Option<Upload>, StoreError> {
        let row = sqlx::query(UPLOAD)
            .bind(id.0)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(upload).transpose()
    }

    /// Whether the address sees the file in some conversation.
    pub async fn sees_file(
        &self,
        id: FileId,
        address: &AddressOfRecord,
    ) -> Result<bool, StoreError> {
        let row: Option<(i64,)> = sqlx::query_as(SEEN)
            .bind(id.0)
            .bind(address.as_str())
            .fetch_optional(self.pool())
            .await?;
        Ok(row.is_some())
    }

    /// The file that an event brings, unless it was taken back.
    pub async fn file_of_event(&self, event: EventId) -> Result<Option<FileId>, StoreError> {
        let row: Option<(i64,)> = sqlx::query_as(BROUGHT)
            .bind(event.0)
            .fetch_optional(self.pool())
            .await?;
        Ok(row.map(|(id,)| FileId(id)))
    }

    /// Somebody is about to use a file: it is kept for another while. Whether it is there.
    pub async fn touch_upload(&self, id: FileId, now_ms: u64) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE upload SET used_ms = max(used_ms, ?) WHERE id = ?")
            .bind(to_sql(now_ms))
            .bind(id.0)
            .execute(self.pool())
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The size of all that an account has uploaded.
    pub async fn uploaded_octets(&self, account: AccountId) -> Result<u64, StoreError> {
        let (octets,): (i64,) =
            sqlx::query_as("SELECT coalesce(sum(octets), 0) FROM upload WHERE account = ?")
                .bind(account.0)
                .fetch_one(self.pool())
                .await?;
        Ok(from_sql(octets))
    }

    /// Forgets uploads that nobody has used since, at most `limit` of them. How many there were.
    pub async fn forget_unused(&self, since_ms: u64, limit: u32) -> Result<u64, StoreError> {
        let done = sqlx::query(UNUSED)
            .bind(to_sql(since_ms))
            .bind(limit)
            .execute(self.pool())
            .await?;
        Ok(done.rows_affected())
    }

    /// Forgets contents that no upload has any more, at most `limit`; the caller takes them from the disk.
    pub async fn forget_contents(&self, limit: u32) -> Result<Vec<[u8; 32]>, StoreError> {
        let rows: Vec<(Vec<u8>,)> = sqlx::query_as(
            "DELETE FROM content WHERE digest IN (SELECT digest FROM content WHERE NOT EXISTS \
             (SELECT 1 FROM upload WHERE upload.digest = content.digest) LIMIT ?) RETURNING digest",
        )
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(|(digest,)| fixed(&digest)).collect()
    }
}

fn upload(row: &SqliteRow) -> Result<Upload, StoreError> {
    Ok(Upload {
        id: FileId(row.try_get("id")?),
        account: AccountId(row.try_get("account")?),
        name: row.try_get("name")?,
        content: content(row)?,
    })
}

fn content(row: &SqliteRow) -> Result<Content, StoreError> {
    let small = |column: &str| -> Result<Option<u32>, StoreError> {
        let number: Option<i64> = row.try_get(column)?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    };
    let duration: Option<i64> = row.try_get("duration_ms")?;
    Ok(Content {
        digest: fixed(row.try_get("digest")?)?,
        octets: from_sql(row.try_get("octets")?),
        content_type: row.try_get("content_type")?,
        width: small("width")?,
        height: small("height")?,
        duration_ms: duration.map(from_sql),
        thumbnail: row.try_get("thumbnail")?,
    })
}

fn fixed(digest: &[u8]) -> Result<[u8; 32], StoreError> {
    digest.try_into().map_err(|_| StoreError::Corrupt("digest"))
}

/// Octets as text.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A digest that [`hex`] wrote.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut digest = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (octet, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *octet = digit(*high)? << 4 | digit(*low)?;
    }
    Some(digest)
}
