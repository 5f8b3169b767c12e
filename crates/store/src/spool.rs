//! Reading the spool.

use crate::rows::{self, from_sql, to_sql};
use crate::{Store, StoreError};
use bytes::Bytes;
use sidetone_model::{AccountId, ConversationId, DeviceId, MessageId, Origin, StoredMessage};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

const ORIGIN_PAGE: i64 = 10_000;

impl Store {
    /// Messages that the device has yet to get, oldest first, from those after `after`.
    ///
    /// Marks that the writer has not committed yet are not seen: [`crate::Writer::pending`]
    /// commits them first.
    pub async fn pending(
        &self,
        device: DeviceId,
        after: MessageId,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let rows = sqlx::query(
            "SELECT m.* FROM delivery d JOIN message m ON m.id = d.message \
             WHERE d.device = ? AND d.message > ? ORDER BY d.message LIMIT ?",
        )
        .bind(device.0)
        .bind(after.0)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(message).collect()
    }

    /// Every device that has something to get: for a start with phones still registered.
    pub async fn devices_with_pending(&self) -> Result<Vec<DeviceId>, StoreError> {
        let rows: Vec<(i64,)> = sqlx::query_as(
            "SELECT id FROM device WHERE EXISTS \
             (SELECT 1 FROM delivery WHERE delivery.device = device.id) ORDER BY id",
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|(id,)| DeviceId(id)).collect())
    }

    /// How many deliveries are open, and how many messages wait for a first device.
    pub async fn spool_counts(&self) -> Result<(u64, u64), StoreError> {
        let (deliveries, waiting): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM delivery), (SELECT count(*) FROM waiting)",
        )
        .fetch_one(self.pool())
        .await?;
        Ok((deliveries.unsigned_abs(), waiting.unsigned_abs()))
    }

    /// Messages that wait for the account's first device.
    pub async fn waiting(&self, account: AccountId) -> Result<Vec<MessageId>, StoreError> {
        let rows: Vec<(i64,)> =
            sqlx::query_as("SELECT message FROM waiting WHERE account = ? ORDER BY message")
                .bind(account.0)
                .fetch_all(self.pool())
                .await?;
        Ok(rows.into_iter().map(|(id,)| MessageId(id)).collect())
    }

    /// One stored message.
    pub async fn message(&self, id: MessageId) -> Result<Option<StoredMessage>, StoreError> {
        let row = sqlx::query("SELECT * FROM message WHERE id = ?")
            .bind(id.0)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(message).transpose()
    }

    /// The greatest message number given so far.
    pub(crate) async fn last_message(&self) -> Result<MessageId, StoreError> {
        let (id,): (i64,) = sqlx::query_as("SELECT coalesce(max(id), 0) FROM message")
            .fetch_one(self.pool())
            .await?;
        Ok(MessageId(id))
    }

    /// Origins of messages received since `since_ms`, newest first.
    pub async fn recent_origins(
        &self,
        since_ms: u64,
    ) -> Result<Vec<(Origin, MessageId)>, StoreError> {
        let mut origins = Vec::new();
        let mut before = i64::MAX;
        loop {
            let page: Vec<(i64, Vec<u8>, i64)> = sqlx::query_as(
                "SELECT id, origin, received_ms FROM message WHERE id < ? \
                 ORDER BY id DESC LIMIT ?",
            )
            .bind(before)
            .bind(ORIGIN_PAGE)
            .fetch_all(self.pool())
            .await?;
            let Some(oldest) = page.last() else {
                return Ok(origins);
            };
            before = oldest.0;
            let end = oldest.2 < to_sql(since_ms);
            for (id, origin, _) in page {
                let origin = origin
                    .try_into()
                    .map_err(|_| StoreError::Corrupt("origin"))?;
                origins.push((Origin(origin), MessageId(id)));
            }
            if end {
                return Ok(origins);
            }
        }
    }
}

/// Where an event stands; messages of before there were conversations stand nowhere.
fn place(row: &SqliteRow) -> Result<Option<(ConversationId, u64)>, StoreError> {
    let conversation: Option<i64> = row.try_get("conversation")?;
    let seq: Option<i64> = row.try_get("seq")?;
    let place = conversation.zip(seq);
    Ok(place.map(|(id, seq)| (ConversationId(id), from_sql(seq))))
}

fn message(row: &SqliteRow) -> Result<StoredMessage, StoreError> {
    let body: Vec<u8> = row.try_get("body")?;
    let file = match row.try_get("kind")? {
        Some("file") => Some(Box::new(crate::conversation::file_in(
            row.try_get("detail")?,
        )?)),
        _ => None,
    };
    Ok(StoredMessage {
        id: MessageId(row.try_get("id")?),
        from: row.try_get("sender")?,
        to: rows::address(row.try_get("recipient")?)?,
        received_ms: from_sql(row.try_get("received_ms")?),
        content_type: row.try_get("content_type")?,
        headers: row.try_get("headers")?,
        body: Bytes::from(body),
        in_group: row.try_get::<i64, _>("account")? == 0,
        event: place(row)?,
        file,
    })
}
