//! Conversations with their members: one, or a list of a person's.
//!
//! *Invariant*: a list takes so many questions to the database as one conversation does.

use std::collections::HashMap;

use serde_json::json;
use sidetone_model::{AddressOfRecord, ConversationId};
use sqlx::Row;

use super::{Change, Found, conversation, member, watermark};
use crate::rows::from_sql;
use crate::{Store, StoreError};

/// Members of all conversations of one list; more make the list shorter.
const MEMBERS_MAX: i64 = 20_000;

impl Store {
    /// The conversations that an address is or was a member of, the last used first; `after`: those that come after
    /// this one. Of members who have left only the address itself is there. A list with very many members ends before
    /// `limit`, and is never empty where there is more.
    pub async fn conversations_of(
        &self,
        address: &AddressOfRecord,
        after: Option<ConversationId>,
        limit: u32,
    ) -> Result<Vec<Found>, StoreError> {
        let rows = sqlx::query(
            "SELECT c.*, (SELECT m.id FROM message m WHERE m.conversation = c.id \
                          ORDER BY m.seq DESC LIMIT 1) AS last, \
             (SELECT count(*) FROM member WHERE conversation = c.id AND until IS NULL) AS present \
             FROM conversation c WHERE c.id IN (SELECT conversation FROM member WHERE address = ?1) \
             AND (?2 IS NULL OR coalesce(last, 0) < coalesce((SELECT m.id FROM message m \
                 WHERE m.conversation = ?2 ORDER BY m.seq DESC LIMIT 1), 0)) \
             ORDER BY last DESC LIMIT ?3",
        )
        .bind(address.as_str())
        .bind(after.map(|id| id.0))
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        let mut found = Vec::with_capacity(rows.len());
        let mut members = 0;
        for row in &rows {
            members += row.try_get::<i64, _>("present")?;
            if members > MEMBERS_MAX && !found.is_empty() {
                break;
            }
            found.push(conversation(row)?);
        }
        self.with_members(found, Some(address)).await
    }

    /// Groups that administrators made, in the order of their numbers, with those who are in them.
    pub async fn managed_groups(
        &self,
        after: Option<ConversationId>,
        limit: u32,
    ) -> Result<Vec<Found>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM conversation WHERE kind = 'managed' AND id > ? ORDER BY id LIMIT ?",
        )
        .bind(after.map_or(0, |id| id.0))
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        let found = rows.iter().map(conversation).collect::<Result<_, _>>()?;
        self.with_members(found, None).await
    }

    /// Adds members, watermarks and the last number; `only`: of those who have left only this one.
    pub(super) async fn with_members(
        &self,
        conversations: Vec<Change>,
        only: Option<&AddressOfRecord>,
    ) -> Result<Vec<Found>, StoreError> {
        let ids = json!(conversations.iter().map(|one| one.id.0).collect::<Vec<_>>()).to_string();
        let members = sqlx::query(
            "SELECT * FROM member WHERE conversation IN (SELECT value FROM json_each(?1)) \
             AND (?2 IS NULL OR until IS NULL OR address = ?2) ORDER BY conversation, address, joined",
        )
        .bind(&ids)
        .bind(only.map(AddressOfRecord::as_str))
        .fetch_all(self.pool())
        .await?;
        let receipts = sqlx::query(
            "SELECT * FROM receipt WHERE conversation IN (SELECT value FROM json_each(?))",
        )
        .bind(&ids)
        .fetch_all(self.pool())
        .await?;
        let last = self.last_seqs(&ids).await?;
        let mut found: Vec<Found> = conversations
            .into_iter()
            .map(|conversation| Found {
                last_seq: from_sql(last.get(&conversation.id.0).copied().unwrap_or_default()),
                receipts: Vec::new(),
                failures: Vec::new(),
                conversation,
            })
            .collect();
        let places = found.iter().enumerate();
        let places: HashMap<ConversationId, usize> = places
            .map(|(place, found)| (found.conversation.id, place))
            .collect();
        for row in &members {
            let id = ConversationId(row.try_get("conversation")?);
            let found = places.get(&id).and_then(|place| found.get_mut(*place));
            if let Some(found) = found {
                found.conversation.members.push(member(row)?);
            }
        }
        for failure in self.failures_of(&ids).await? {
            let place = places.get(&failure.conversation);
            if let Some(found) = place.and_then(|place| found.get_mut(*place)) {
                found.failures.push(failure);
            }
        }
        for row in &receipts {
            let receipt = watermark(row)?;
            let place = places.get(&receipt.conversation);
            if let Some(found) = place.and_then(|place| found.get_mut(*place)) {
                found.receipts.push(receipt);
            }
        }
        for one in &mut found {
            let members = one.conversation.members.iter();
            let members: Vec<AddressOfRecord> =
                members.map(|member| member.address.clone()).collect();
            let receipts = &mut one.receipts;
            self.receipts()
                .bring_up_to_date(one.conversation.id, &members, receipts);
        }
        Ok(found)
    }

    async fn last_seqs(&self, ids: &str) -> Result<HashMap<i64, i64>, StoreError> {
        let last: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT value, coalesce((SELECT max(seq) FROM message WHERE conversation = value), 0) \
             FROM json_each(?)",
        )
        .bind(ids)
        .fetch_all(self.pool())
        .await?;
        Ok(last.into_iter().collect())
    }
}
