//! Contact lists as their owners read them: who is on them, who asks, who is blocked.
//!
//! *Invariant*: nothing of a list is given to anybody but its owner, and a request of somebody who is blocked is not
//! shown. Who may see whom is changed in [`crate::presence`].

use sidetone_model::{AccountId, AddressOfRecord};

use crate::rows::address;
use crate::{Store, StoreError};

/// The most rows of one list.
const LIST_MAX: i64 = 1_000;

/// Somebody with the name of the account, empty where there is none.
pub type Named = (AddressOfRecord, String);

impl Store {
    /// Puts somebody on the list.
    pub async fn list_contact(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO contact (account, address, state) VALUES (?, ?, 'listed') \
             ON CONFLICT DO NOTHING",
        )
        .bind(account.0)
        .bind(other.as_str())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Takes somebody off the list; whether it was there.
    pub async fn unlist_contact(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
    ) -> Result<bool, StoreError> {
        self.drop_contact(account, other, "listed").await
    }

    /// Takes a request back; whether there was one.
    pub async fn withdraw_request(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
    ) -> Result<bool, StoreError> {
        self.drop_contact(account, other, "requested").await
    }

    async fn drop_contact(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
        state: &str,
    ) -> Result<bool, StoreError> {
        let done =
            sqlx::query("DELETE FROM contact WHERE account = ? AND address = ? AND state = ?")
                .bind(account.0)
                .bind(other.as_str())
                .bind(state)
                .execute(self.pool())
                .await?;
        Ok(done.rows_affected() > 0)
    }

    /// How many are on the list.
    pub async fn contact_count(&self, account: AccountId) -> Result<u64, StoreError> {
        let (count,): (i64,) =
            sqlx::query_as("SELECT count(*) FROM contact WHERE account = ? AND state = 'listed'")
                .bind(account.0)
                .fetch_one(self.pool())
                .await?;
        Ok(count.unsigned_abs())
    }

    /// Whether the account asks to see somebody.
    pub async fn has_asked(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
    ) -> Result<bool, StoreError> {
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT 1 FROM contact WHERE account = ? AND address = ? AND state = 'requested'",
        )
        .bind(account.0)
        .bind(other.as_str())
        .fetch_optional(self.pool())
        .await?;
        Ok(row.is_some())
    }

    /// Who is on the list.
    pub async fn contact_list(&self, account: AccountId) -> Result<Vec<Named>, StoreError> {
        self.named(
            "SELECT c.address, coalesce(a.name, '') FROM contact c \
             LEFT JOIN account a ON a.address = c.address \
             WHERE c.account = ? AND c.state = 'listed' ORDER BY 1 LIMIT ?",
            account,
        )
        .await
    }

    /// Whom the account asks to see.
    pub async fn requests_of(&self, account: AccountId) -> Result<Vec<Named>, StoreError> {
        // The name of somebody who has not agreed yet is not told.
        self.named(
            "SELECT address, '' FROM contact WHERE account = ? AND state = 'requested' \
             ORDER BY 1 LIMIT ?",
            account,
        )
        .await
    }

    /// Who asks to see the account, but for those whom it blocks.
    pub async fn requests_to(&self, account: AccountId) -> Result<Vec<Named>, StoreError> {
        self.named(
            "SELECT asker.address, asker.name FROM account own \
             JOIN contact c ON c.address = own.address AND c.state = 'requested' \
             JOIN account asker ON asker.id = c.account \
             WHERE own.id = ? AND NOT EXISTS (SELECT 1 FROM block b \
                 WHERE b.account = own.id AND b.address = asker.address) ORDER BY 1 LIMIT ?",
            account,
        )
        .await
    }

    /// Whom the account blocks.
    pub async fn blocked_by(&self, account: AccountId) -> Result<Vec<Named>, StoreError> {
        self.named(
            "SELECT b.address, coalesce(a.name, '') FROM block b \
             LEFT JOIN account a ON a.address = b.address \
             WHERE b.account = ? ORDER BY 1 LIMIT ?",
            account,
        )
        .await
    }

    async fn named(&self, sql: &'static str, account: AccountId) -> Result<Vec<Named>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as(sql)
            .bind(account.0)
            .bind(LIST_MAX)
            .fetch_all(self.pool())
            .await?;
        rows.into_iter()
            .map(|(text, name)| Ok((address(&text)?, name)))
            .collect()
    }
}
