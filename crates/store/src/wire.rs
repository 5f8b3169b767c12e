//! What phones cause beside messages: what became of their copies, and what devices understand.
//!
//! *Invariant*: nothing here is needed to deliver a message; what is lost is learned again.

use crate::conversation::EVENT_KINDS_SAID;
use crate::rows::{self, from_sql, to_sql};
use crate::{Store, StoreError};
use serde_json::json;
use sidetone_model::{AccountId, AddressOfRecord, ConversationId, DeviceId, MessageId, SeqRange};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// An event as far as its delivery is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// Its number in the conversation.
    pub seq: u64,
    /// Who said it.
    pub author: AddressOfRecord,
    /// Whether it is owed to everybody else.
    pub is_message: bool,
    /// What its author asks to be told; empty where nothing.
    pub headers: String,
}

/// A range of messages that will not reach somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub conversation: ConversationId,
    /// Whom.
    pub address: AddressOfRecord,
    /// Which.
    pub range: SeqRange,
}

pub(crate) const FAILURES: &str = "\
INSERT INTO failure (conversation, address, first, last) \
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) WHERE true \
ON CONFLICT (conversation, address, first) DO UPDATE SET last = max(last, excluded.last)";

pub(crate) fn failures_json(failures: &[Failure]) -> String {
    let rows = failures.iter().map(|failure| {
        json!([
            failure.conversation.0,
            failure.address.as_str(),
            failure.range.first,
            failure.range.last
        ])
    });
    serde_json::Value::from_iter(rows).to_string()
}

impl Store {
    /// The events of a conversation after one, in order.
    pub async fn recent(
        &self,
        conversation: ConversationId,
        after: u64,
    ) -> Result<Vec<Recent>, StoreError> {
        let rows = sqlx::query(
            "SELECT seq, author, kind, CASE WHEN headers LIKE '%imdn.%' THEN headers ELSE '' END \
             AS asked FROM message WHERE conversation = ? AND seq > ? ORDER BY seq",
        )
        .bind(conversation.0)
        .bind(to_sql(after))
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(recent).collect()
    }

    /// The messages of a conversation that did not arrive.
    pub async fn failures(&self, conversation: ConversationId) -> Result<Vec<Failure>, StoreError> {
        self.failures_of(&format!("[{conversation}]")).await
    }

    /// The same of several, a JSON list of numbers.
    pub(crate) async fn failures_of(
        &self,
        conversations: &str,
    ) -> Result<Vec<Failure>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM failure WHERE conversation IN (SELECT value FROM json_each(?)) \
             ORDER BY first",
        )
        .bind(conversations)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(failure).collect()
    }

    /// The devices of an account that have yet to get a message.
    pub async fn owed(
        &self,
        account: AccountId,
        message: MessageId,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let rows: Vec<(i64,)> = sqlx::query_as(
            "SELECT device FROM delivery WHERE message = ? \
             AND device IN (SELECT id FROM device WHERE account = ?)",
        )
        .bind(message.0)
        .bind(account.0)
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|(device,)| DeviceId(device)).collect())
    }

    /// Forgets words of what became of messages that have reached their devices. Never the last row of all: its
    /// number is the one that the next message's follows.
    pub async fn clear_passed(&self) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM message WHERE conversation IS NULL AND content_type = 'message/imdn+xml' \
             AND id < (SELECT max(id) FROM message) \
             AND id NOT IN (SELECT message FROM delivery)",
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }

    /// Notes what a device understands.
    pub async fn set_abilities(&self, device: DeviceId, bits: u8) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO ability (device, bits) VALUES (?, ?) \
             ON CONFLICT DO UPDATE SET bits = excluded.bits",
        )
        .bind(device.0)
        .bind(i64::from(bits))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// What devices that there are understand.
    pub async fn abilities(&self) -> Result<Vec<(DeviceId, u8)>, StoreError> {
        sqlx::query("DELETE FROM ability WHERE device NOT IN (SELECT id FROM device)")
            .execute(self.pool())
            .await?;
        let rows: Vec<(i64, i64)> = sqlx::query_as("SELECT device, bits FROM ability")
            .fetch_all(self.pool())
            .await?;
        let bits = |bits: i64| u8::try_from(bits).unwrap_or_default();
        Ok(rows
            .into_iter()
            .map(|(device, sum)| (DeviceId(device), bits(sum)))
            .collect())
    }
}

fn recent(row: &SqliteRow) -> Result<Recent, StoreError> {
    let kind: &str = row.try_get("kind")?;
    Ok(Recent {
        seq: from_sql(row.try_get("seq")?),
        author: rows::address(row.try_get("author")?)?,
        is_message: EVENT_KINDS_SAID.contains(&kind),
        headers: row.try_get("asked")?,
    })
}

fn failure(row: &SqliteRow) -> Result<Failure, StoreError> {
    Ok(Failure {
        conversation: ConversationId(row.try_get("conversation")?),
        address: rows::address(row.try_get("address")?)?,
        range: SeqRange {
            first: from_sql(row.try_get("first")?),
            last: from_sql(row.try_get("last")?),
        },
    })
}
