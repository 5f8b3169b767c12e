//! What an address leaves behind when its account goes: stays in conversations, and what others have said of it.
//!
//! *Invariant*: an address that is given again inherits nothing: no conversation, no approval, no block.

use sidetone_model::{AddressOfRecord, ConversationId};
use sqlx::sqlite::SqliteConnection;

use crate::rows::address;
use crate::{Store, StoreError};

/// The log keeps what the address has said.
const END: &[&str] = &[
    "DELETE FROM member WHERE address = ?",
    "DELETE FROM receipt WHERE address = ?",
    "DELETE FROM failure WHERE address = ?",
    "UPDATE conversation SET pair_a = NULL, pair_b = NULL WHERE pair_a = ?",
    "UPDATE conversation SET pair_a = NULL, pair_b = NULL WHERE pair_b = ?",
    "DELETE FROM contact WHERE address = ?",
    "DELETE FROM block WHERE address = ?",
];

pub(crate) async fn end(
    connection: &mut SqliteConnection,
    address: &AddressOfRecord,
) -> Result<(), StoreError> {
    for statement in END {
        sqlx::query(*statement)
            .bind(address.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

impl Store {
    /// Ends everything that an address has, unless it is an account's.
    pub async fn end_stays(&self, address: &AddressOfRecord) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let again = sqlx::query("SELECT 1 FROM account WHERE address = ?")
            .bind(address.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        if again.is_none() {
            end(&mut tx, address).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The conversations that an address has a stay in.
    pub async fn stays_of(
        &self,
        address: &AddressOfRecord,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let rows: Vec<(i64,)> =
            sqlx::query_as("SELECT DISTINCT conversation FROM member WHERE address = ?")
                .bind(address.as_str())
                .fetch_all(self.pool())
                .await?;
        Ok(rows.into_iter().map(|(id,)| ConversationId(id)).collect())
    }

    /// Addresses with stays whose accounts were removed, while nobody was there to end them.
    pub async fn left_behind(&self) -> Result<Vec<AddressOfRecord>, StoreError> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT DISTINCT r.address FROM removed r WHERE r.kind = 'account' \
             AND EXISTS (SELECT 1 FROM member m WHERE m.address = r.address) \
             AND NOT EXISTS (SELECT 1 FROM account a WHERE a.address = r.address)",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|(text,)| address(text)).collect()
    }

    /// Who has this name, whatever the capitals: an account, another name of one, or a conversation.
    pub async fn name_taken(&self, name: &AddressOfRecord) -> Result<bool, StoreError> {
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT 1 FROM account WHERE address = ?1 COLLATE NOCASE \
             UNION ALL SELECT 1 FROM alias WHERE address = ?1 COLLATE NOCASE \
             UNION ALL SELECT 1 FROM conversation WHERE address = ?1 COLLATE NOCASE LIMIT 1",
        )
        .bind(name.as_str())
        .fetch_optional(self.pool())
        .await?;
        Ok(row.is_some())
    }

    /// How many groups an address owns.
    pub async fn groups_owned(&self, owner: &AddressOfRecord) -> Result<u64, StoreError> {
        let (count,): (i64,) = sqlx::query_as(
            "SELECT count(*) FROM member JOIN conversation c ON c.id = member.conversation \
             WHERE member.address = ? AND until IS NULL AND role = 'owner' AND kind = 'group'",
        )
        .bind(owner.as_str())
        .fetch_one(self.pool())
        .await?;
        Ok(count.unsigned_abs())
    }
}
