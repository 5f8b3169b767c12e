//! The pictures that people show of themselves.
//!
//! *Invariant*: a picture that somebody shows is an upload that is kept for as long as it is shown.

use super::fixed;
use crate::{Store, StoreError};
use sidetone_model::{AccountId, AddressOfRecord, FileId};
use sqlx::Row;

/// What is drawn of somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Face {
    /// The name to show; may be empty.
    pub name: String,
    /// The content that is shown, where there is a small picture of it.
    pub picture: Option<[u8; 32]>,
}

const FACE: &str = "\
SELECT account.name, content.digest FROM account LEFT JOIN avatar ON avatar.account = account.id \
LEFT JOIN upload ON upload.id = avatar.file \
LEFT JOIN content ON content.digest = upload.digest AND content.thumbnail IS NOT NULL \
WHERE account.address = ?";

impl Store {
    /// What an account shows from now on; nothing for its initials.
    pub async fn set_avatar(
        &self,
        account: AccountId,
        file: Option<FileId>,
    ) -> Result<(), StoreError> {
        let statement = match file {
            Some(file) => sqlx::query(
                "INSERT INTO avatar (account, file) VALUES (?1, ?2) \
                 ON CONFLICT (account) DO UPDATE SET file = excluded.file",
            )
            .bind(account.0)
            .bind(file.0),
            None => sqlx::query("DELETE FROM avatar WHERE account = ?").bind(account.0),
        };
        statement.execute(self.pool()).await?;
        Ok(())
    }

    /// What the account of an address shows.
    pub async fn face(&self, address: &AddressOfRecord) -> Result<Option<Face>, StoreError> {
        let row = sqlx::query(FACE)
            .bind(address.as_str())
            .fetch_optional(self.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let digest: Option<Vec<u8>> = row.try_get("digest")?;
        Ok(Some(Face {
            name: row.try_get("name")?,
            picture: digest.map(|digest| fixed(&digest)).transpose()?,
        }))
    }
}
