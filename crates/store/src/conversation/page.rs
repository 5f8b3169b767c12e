//! Parts of logs: of one conversation, and of all that a person is in.
//!
//! *Invariant*: a part is bounded in octets as well as in events, and holds one event at least where there is one; a
//! part costs by what it holds and by how many conversations the person is in, and not by what others say elsewhere.

use serde_json::json;
use sidetone_model::{AddressOfRecord, ConversationId, Event, EventId};
use sqlx::AssertSqlSafe;

use super::{EVENT_COLUMNS, Page, VISIBLE, event};
use crate::rows::{from_sql, to_sql};
use crate::{Store, StoreError};

/// Octets of one part: of texts as they are stored.
const PART_OCTETS: i64 = 2 * 1024 * 1024;

/// The conversations of ?1, and the last event of each that is not after ?2: found from the end of the log, which has no
/// gaps, and so by what was missed. An index by number for it would cost each message one more page to write.
const OWN: &str = "\
WITH own AS MATERIALIZED (SELECT place.id, coalesce((SELECT m.seq FROM message m \
WHERE m.conversation = place.id AND m.id <= ?2 ORDER BY m.seq DESC LIMIT 1), 0) AS seen \
FROM (SELECT DISTINCT conversation AS id FROM member WHERE address = ?1) place)";

/// A part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// In order.
    pub events: Vec<Event>,
    /// It ends where it does for its size: there is more.
    pub cut: bool,
}

/// What was done to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amended {
    /// The number of the message.
    pub target: u64,
    /// The number of what was done.
    pub seq: u64,
    /// It was taken back; otherwise it got another wording.
    pub retracted: bool,
}

/// The numbers of the rows that fit into one part: the first one in any case.
pub(crate) fn within(sizes: &[(i64, i64)]) -> &[(i64, i64)] {
    let mut room = PART_OCTETS;
    let fits = |(_, octets): &&(i64, i64)| {
        room -= octets;
        room >= 0
    };
    let count = sizes.iter().take_while(fits).count();
    &sizes[..count.max(1).min(sizes.len())]
}

impl Store {
    /// A part of a conversation's log.
    pub async fn events(
        &self,
        conversation: ConversationId,
        page: Page,
        limit: u32,
    ) -> Result<Part, StoreError> {
        let (condition, order, seq) = match page {
            Page::After(seq) => (">", "ASC", seq),
            Page::Before(seq) => ("<", "DESC", seq),
        };
        let sql = format!(
            "SELECT m.id, length(m.body) + coalesce(length(m.detail), 0) FROM message m \
             WHERE m.conversation = ? AND m.seq {condition} ? ORDER BY m.seq {order} LIMIT ?"
        );
        let sizes: Vec<(i64, i64)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(conversation.0)
            .bind(to_sql(seq))
            .bind(limit)
            .fetch_all(self.pool())
            .await?;
        let kept = within(&sizes);
        Ok(Part {
            cut: kept.len() < sizes.len(),
            events: self.events_by_id(kept).await?,
        })
    }

    /// Events by their numbers among all, in order.
    pub(crate) async fn events_by_id(&self, ids: &[(i64, i64)]) -> Result<Vec<Event>, StoreError> {
        let ids: Vec<i64> = ids.iter().map(|(id, _)| *id).collect();
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM message m \
             WHERE m.id IN (SELECT value FROM json_each(?)) ORDER BY m.id"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(json!(ids).to_string())
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(event).collect()
    }

    /// What came after an event in all conversations that an address is or was a member of, and may see. Empty only
    /// where there is no more.
    pub async fn feed(
        &self,
        member: &AddressOfRecord,
        after: EventId,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let mut after = after.0;
        loop {
            let until = self.feed_until(member, after, limit).await?;
            let sizes = self.feed_sizes(member, (after, until), limit).await?;
            if !sizes.is_empty() {
                return self.events_by_id(within(&sizes)).await;
            }
            if until == i64::MAX {
                return Ok(Vec::new());
            }
            // All of these were before or after the person's time there.
            after = until;
        }
    }

    /// The number up to which no conversation has more than `limit` events.
    async fn feed_until(
        &self,
        member: &AddressOfRecord,
        after: i64,
        limit: u32,
    ) -> Result<i64, StoreError> {
        let (until,): (Option<i64>,) = sqlx::query_as(AssertSqlSafe(format!(
            "{OWN} SELECT min((SELECT m.id FROM message m \
                 WHERE m.conversation = own.id AND m.seq = own.seen + ?3 + 1)) FROM own"
        )))
        .bind(member.as_str())
        .bind(after)
        .bind(limit)
        .fetch_one(self.pool())
        .await?;
        Ok(until.unwrap_or(i64::MAX))
    }

    async fn feed_sizes(
        &self,
        member: &AddressOfRecord,
        (after, until): (i64, i64),
        limit: u32,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        let sql = format!(
            "{OWN} SELECT m.id, length(m.body) + coalesce(length(m.detail), 0) FROM own \
             CROSS JOIN message m ON m.conversation = own.id AND m.seq > own.seen AND m.id <= ?3 \
             WHERE EXISTS (SELECT 1 FROM member WHERE member.conversation = m.conversation \
             AND address = ?1 AND {VISIBLE}) ORDER BY m.id LIMIT ?4"
        );
        Ok(sqlx::query_as(AssertSqlSafe(sql))
            .bind(member.as_str())
            .bind(after)
            .bind(until)
            .bind(limit)
            .fetch_all(self.pool())
            .await?)
    }

    /// What was done to these messages of a conversation, in order.
    pub async fn done_to(
        &self,
        conversation: ConversationId,
        targets: &[u64],
    ) -> Result<Vec<Amended>, StoreError> {
        let rows: Vec<(i64, i64, bool)> = sqlx::query_as(
            "SELECT target.value, m.seq, m.kind = 'retraction' FROM json_each(?) target \
             CROSS JOIN message m INDEXED BY message_target ON m.conversation = ? \
             AND m.kind IN ('edit', 'retraction') AND m.detail ->> 'target' = target.value",
        )
        .bind(json!(targets).to_string())
        .bind(conversation.0)
        .fetch_all(self.pool())
        .await?;
        let done = |(target, seq, retracted): (i64, i64, bool)| Amended {
            target: from_sql(target),
            seq: from_sql(seq),
            retracted,
        };
        let mut all: Vec<Amended> = rows.into_iter().map(done).collect();
        all.sort_unstable_by_key(|one| one.seq);
        Ok(all)
    }
}
