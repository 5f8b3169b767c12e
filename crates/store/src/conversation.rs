//! Conversations: who is in them, how far each has got, and their log.
//!
//! *Invariant*: what an event changes of its conversation is committed with the event, in one
//! transaction.

mod body;
mod list;
mod page;

pub(crate) use body::file_in;
pub use body::{Encoded, encode, kind_of, role_of};
pub(crate) use page::within;
pub use page::{Amended, Part};

use crate::rows::{self, from_sql, to_sql};
use crate::{Failure, Store, StoreError};
use bytes::Bytes;
use serde_json::json;
use sidetone_model::{AddressOfRecord, ConversationId, Event, EventId};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

/// One membership: what of the conversation its holder may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The member's address.
    pub address: AddressOfRecord,
    /// The event that began it.
    pub joined: u64,
    /// The first event that it may see.
    pub horizon: u64,
    /// The last one, when it has left.
    pub until: Option<u64>,
    /// The name of its role.
    pub role: String,
}

/// A conversation as it is to be from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub id: ConversationId,
    /// Its address for life.
    pub address: AddressOfRecord,
    /// The name of its kind.
    pub kind: String,
    /// May be empty.
    pub subject: String,
    /// The digest of the picture; may be empty.
    pub avatar: String,
    /// The epoch of the membership.
    pub epoch: u32,
    /// When it began, Unix time.
    pub created_ms: u64,
    /// The two that it was begun by, the lesser first.
    pub pair: Option<(AddressOfRecord, AddressOfRecord)>,
    /// It is, or was, more than a pair: its address is one that phones know.
    pub grown: bool,
    /// All memberships, or those that changed.
    pub members: Vec<MemberRow>,
}

/// How far a member has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub address: AddressOfRecord,
    /// All up to this one has arrived.
    pub delivered: u64,
    /// All up to this one was seen.
    pub displayed: u64,
}

/// A conversation as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// With all memberships.
    pub conversation: Change,
    /// How far its members have got.
    pub receipts: Vec<Watermark>,
    /// What will not reach them.
    pub failures: Vec<Failure>,
    /// The number of its last event; 0 before the first.
    pub last_seq: u64,
}

/// A part of a log, by sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The first ones after.
    After(u64),
    /// The last ones before.
    Before(u64),
}

pub(crate) const RECEIPTS: &str = "\
INSERT INTO receipt (conversation, address, delivered, displayed) \
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) WHERE true \
ON CONFLICT (conversation, address) DO UPDATE SET \
delivered = max(delivered, excluded.delivered), displayed = max(displayed, excluded.displayed)";

/// The kinds of events that are messages.
pub(crate) const EVENT_KINDS_SAID: [&str; 3] = ["text", "opaque", "file"];

/// What a stay shows: of an edit, only where it shows what was edited.
pub(crate) const VISIBLE: &str = "horizon <= m.seq AND (until IS NULL OR until >= m.seq) \
AND (m.kind <> 'edit' OR horizon <= m.detail ->> 'target')";

pub(crate) const EVENT_COLUMNS: &str = "m.id, m.conversation, m.seq, m.epoch, m.author, m.kind, m.detail, \
m.received_ms, m.content_type, m.headers, m.body";

pub(crate) fn receipts_json<'a>(receipts: impl Iterator<Item = &'a Watermark>) -> String {
    let rows = receipts.map(|receipt| {
        json!([
            receipt.conversation.0,
            receipt.address.as_str(),
            receipt.delivered,
            receipt.displayed
        ])
    });
    serde_json::Value::from_iter(rows).to_string()
}

/// What changes, as the writer's statements take it: conversations, and members.
pub(crate) fn changes_json<'a>(changes: impl Iterator<Item = &'a Change> + Clone) -> [String; 2] {
    let conversations = changes.clone().map(conversation_json).collect();
    let members = changes.flat_map(members_json).collect();
    [conversations, members].map(|rows| serde_json::Value::Array(rows).to_string())
}

fn conversation_json(change: &Change) -> serde_json::Value {
    let pair = change.pair.as_ref();
    json!([
        change.id.0,
        change.address.as_str(),
        change.kind,
        change.subject,
        change.avatar,
        change.epoch,
        to_sql(change.created_ms),
        pair.map(|(a, _)| a.as_str()),
        pair.map(|(_, b)| b.as_str()),
        change.grown,
    ])
}

fn members_json(change: &Change) -> impl Iterator<Item = serde_json::Value> {
    change.members.iter().map(|member| {
        json!([
            change.id.0,
            member.address.as_str(),
            to_sql(member.joined),
            to_sql(member.horizon),
            member.until.map(to_sql),
            member.role,
        ])
    })
}

impl Store {
    /// One conversation.
    pub async fn conversation(&self, id: ConversationId) -> Result<Option<Found>, StoreError> {
        let row = sqlx::query("SELECT * FROM conversation WHERE id = ?")
            .bind(id.0)
            .fetch_optional(self.pool())
            .await?;
        let found = match row {
            Some(row) => vec![self::conversation(&row)?],
            None => return Ok(None),
        };
        Ok(self.with_members(found, None).await?.pop())
    }

    /// The number of the conversation of two, the lesser address first.
    pub async fn conversation_of_pair(
        &self,
        (a, b): (&AddressOfRecord, &AddressOfRecord),
    ) -> Result<Option<ConversationId>, StoreError> {
        let row: Option<(i64,)> =
            sqlx::query_as("SELECT id FROM conversation WHERE pair_a = ? AND pair_b = ?")
                .bind(a.as_str())
                .bind(b.as_str())
                .fetch_optional(self.pool())
                .await?;
        Ok(row.map(|(id,)| ConversationId(id)))
    }

    /// The addresses of all groups with their numbers.
    pub async fn group_addresses(
        &self,
    ) -> Result<Vec<(AddressOfRecord, ConversationId)>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT address, id FROM conversation WHERE grown")
                .fetch_all(self.pool())
                .await?;
        rows.iter()
            .map(|(address, id)| Ok((rows::address(address)?, ConversationId(*id))))
            .collect()
    }

    /// How far a member has got.
    pub async fn watermark(
        &self,
        conversation: ConversationId,
        address: &AddressOfRecord,
    ) -> Result<Watermark, StoreError> {
        let row = sqlx::query("SELECT * FROM receipt WHERE conversation = ? AND address = ?")
            .bind(conversation.0)
            .bind(address.as_str())
            .fetch_optional(self.pool())
            .await?;
        let mut found = Vec::new();
        if let Some(row) = row {
            found.push(watermark(&row)?);
        }
        let member = std::slice::from_ref(address);
        self.receipts()
            .bring_up_to_date(conversation, member, &mut found);
        Ok(found.pop().unwrap_or(Watermark {
            conversation,
            address: address.clone(),
            delivered: 0,
            displayed: 0,
        }))
    }

    /// The greatest number of a conversation given so far.
    pub async fn last_conversation(&self) -> Result<ConversationId, StoreError> {
        let (id,): (i64,) = sqlx::query_as(
            "SELECT max(coalesce((SELECT max(id) FROM conversation), 0), \
             coalesce((SELECT max(conversation) FROM message), 0))",
        )
        .fetch_one(self.pool())
        .await?;
        Ok(ConversationId(id))
    }

    /// Whether an address is or was in a conversation.
    pub async fn is_known_in(
        &self,
        conversation: ConversationId,
        address: &AddressOfRecord,
    ) -> Result<bool, StoreError> {
        let row: Option<(i64,)> =
            sqlx::query_as("SELECT 1 FROM member WHERE conversation = ? AND address = ? LIMIT 1")
                .bind(conversation.0)
                .bind(address.as_str())
                .fetch_optional(self.pool())
                .await?;
        Ok(row.is_some())
    }

    /// Whether a message was taken back.
    pub async fn is_retracted(
        &self,
        conversation: ConversationId,
        seq: u64,
    ) -> Result<bool, StoreError> {
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT 1 FROM message INDEXED BY message_target \
             WHERE conversation = ? AND kind IN ('edit', 'retraction') \
             AND detail ->> 'target' = ? AND kind = 'retraction' LIMIT 1",
        )
        .bind(conversation.0)
        .bind(to_sql(seq))
        .fetch_optional(self.pool())
        .await?;
        Ok(row.is_some())
    }

    /// The event with this number among all.
    pub async fn event(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM message m WHERE m.id = ? AND m.conversation IS NOT NULL"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(id.0)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(event).transpose()
    }

    /// The greatest number of an event so far.
    pub async fn last_event(&self) -> Result<EventId, StoreError> {
        Ok(EventId(self.last_message().await?.0))
    }
}

fn conversation(row: &SqliteRow) -> Result<Change, StoreError> {
    let pair: (Option<&str>, Option<&str>) = (row.try_get("pair_a")?, row.try_get("pair_b")?);
    let pair = match pair {
        (Some(a), Some(b)) => Some((rows::address(a)?, rows::address(b)?)),
        _ => None,
    };
    let epoch: i64 = row.try_get("epoch")?;
    Ok(Change {
        id: ConversationId(row.try_get("id")?),
        address: rows::address(row.try_get("address")?)?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        avatar: row.try_get("avatar")?,
        epoch: u32::try_from(epoch).map_err(|_| StoreError::Corrupt("epoch"))?,
        created_ms: from_sql(row.try_get("created_ms")?),
        pair,
        grown: row.try_get("grown")?,
        members: Vec::new(),
    })
}

fn member(row: &SqliteRow) -> Result<MemberRow, StoreError> {
    let until: Option<i64> = row.try_get("until")?;
    Ok(MemberRow {
        address: rows::address(row.try_get("address")?)?,
        joined: from_sql(row.try_get("joined")?),
        horizon: from_sql(row.try_get("horizon")?),
        until: until.map(from_sql),
        role: row.try_get("role")?,
    })
}

fn watermark(row: &SqliteRow) -> Result<Watermark, StoreError> {
    Ok(Watermark {
        conversation: ConversationId(row.try_get("conversation")?),
        address: rows::address(row.try_get("address")?)?,
        delivered: from_sql(row.try_get("delivered")?),
        displayed: from_sql(row.try_get("displayed")?),
    })
}

pub(crate) fn event(row: &SqliteRow) -> Result<Event, StoreError> {
    let octets: Vec<u8> = row.try_get("body")?;
    let epoch: i64 = row.try_get("epoch")?;
    Ok(Event {
        id: EventId(row.try_get("id")?),
        conversation: ConversationId(row.try_get("conversation")?),
        seq: from_sql(row.try_get("seq")?),
        epoch: u32::try_from(epoch).map_err(|_| StoreError::Corrupt("epoch"))?,
        author: rows::address(row.try_get("author")?)?,
        at_ms: from_sql(row.try_get("received_ms")?),
        body: body::decode(
            row.try_get("kind")?,
            row.try_get("detail")?,
            row.try_get("content_type")?,
            row.try_get("headers")?,
            Bytes::from(octets),
        )?,
    })
}
