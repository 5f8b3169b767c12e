//! Full text of what was said.
//!
//! The writer indexes what was committed a moment later, and at once when somebody searches. Words
//! are folded by case and accents; scripts without spaces are indexed sign by sign, and a word of
//! them is searched for as a phrase.
//!
//! *Invariant*: what was taken back is not found; of what was edited, the last wording is.

use crate::conversation::{VISIBLE, within};
use crate::rows::to_sql;
use crate::{Store, StoreError};
use sidetone_model::{AddressOfRecord, ConversationId, Event, EventId};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Row};

/// Events indexed in one transaction.
const BATCH: i64 = 256;
/// The most words of a query; more are left out.
const WORDS_MAX: usize = 16;

/// Events of every kind: the mark moves over those that are no text, too.
const NEW: &str = "\
SELECT id, conversation, coalesce(kind, '') AS kind, detail ->> 'target' AS target, \
CASE WHEN kind IN ('text', 'file', 'edit') THEN body ELSE x'' END AS body, \
CASE kind WHEN 'file' THEN detail -> 'file' ->> 'name' \
WHEN 'edit' THEN (SELECT f.detail -> 'file' ->> 'name' FROM message f \
WHERE f.conversation = message.conversation AND f.seq = message.detail ->> 'target' AND f.kind = 'file') \
END AS name FROM message \
WHERE id > (SELECT value FROM counter WHERE name = 'search') ORDER BY id LIMIT ?";

/// Conversations that a query is restricted to; who is in more is let through what all have said.
const PLACES_MAX: usize = 4_000;

/// The wordings of one message.
const FORGET: &str = "\
DELETE FROM search WHERE rowid IN \
(SELECT id FROM message WHERE conversation = ?1 AND seq = ?2 \
UNION ALL SELECT id FROM message INDEXED BY message_target \
WHERE conversation = ?1 AND kind IN ('edit', 'retraction') AND detail ->> 'target' = ?2)";

/// What somebody searches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search<'a> {
    /// Who; only what this address may see is found.
    pub person: &'a AddressOfRecord,
    /// The words.
    pub words: &'a str,
    /// In this conversation only.
    pub conversation: Option<ConversationId>,
    /// Only older ones.
    pub before: Option<EventId>,
    /// At most so many.
    pub limit: u32,
}

/// Indexes what was committed since; whether there may be more.
pub(crate) async fn index(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let rows = sqlx::query(NEW)
        .bind(BATCH)
        .fetch_all(&mut *connection)
        .await?;
    let Some(last) = rows.last() else {
        return Ok(false);
    };
    let last: i64 = last.try_get("id")?;
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    for row in &rows {
        let (id, kind): (i64, &str) = (row.try_get("id")?, row.try_get("kind")?);
        let Some(conversation) = row.try_get::<Option<i64>, _>("conversation")? else {
            continue;
        };
        if matches!(kind, "edit" | "retraction") {
            let target: i64 = row.try_get("target")?;
            sqlx::query(FORGET)
                .bind(conversation)
                .bind(target)
                .execute(&mut *tx)
                .await?;
        }
        let body: Vec<u8> = row.try_get("body")?;
        let mut text = String::from_utf8_lossy(&body).into_owned();
        if let Some(name) = row.try_get::<Option<&str>, _>("name")? {
            // A file is found by its name, whatever its caption becomes.
            text.push('\n');
            text.push_str(name);
        }
        if !text.trim().is_empty() {
            sqlx::query("INSERT INTO search (rowid, text, place) VALUES (?, ?, ?)")
                .bind(id)
                .bind(apart(&text))
                .bind(place(conversation))
                .execute(&mut *tx)
                .await?;
        }
    }
    sqlx::query("UPDATE counter SET value = ? WHERE name = 'search'")
        .bind(last)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(i64::try_from(rows.len()).is_ok_and(|count| count == BATCH))
}

impl Store {
    /// What was said with all these words, the newest first. The last word may be the beginning of one.
    pub async fn search(&self, search: &Search<'_>) -> Result<Vec<Event>, StoreError> {
        let Some(query) = query(search.words) else {
            return Ok(Vec::new());
        };
        let Some(query) = self.within_own(query, search).await? else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "SELECT m.id, length(m.body) + coalesce(length(m.detail), 0) FROM search \
             JOIN message m ON m.id = search.rowid \
             WHERE search MATCH ? AND search.rowid < ? AND EXISTS \
             (SELECT 1 FROM member WHERE member.conversation = m.conversation AND address = ? \
             AND {VISIBLE}) \
             ORDER BY search.rowid DESC LIMIT ?"
        );
        let sizes: Vec<(i64, i64)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(query)
            .bind(search.before.map_or(to_sql(u64::MAX), |id| id.0))
            .bind(search.person.as_str())
            .bind(search.limit)
            .fetch_all(self.pool())
            .await?;
        let mut found = self.events_by_id(within(&sizes)).await?;
        found.reverse();
        Ok(found)
    }

    /// The query in the conversations that this person is or was in, or the one that was named. `None`: there is none.
    async fn within_own(
        &self,
        query: String,
        search: &Search<'_>,
    ) -> Result<Option<String>, StoreError> {
        let named = search.conversation.map(|id| id.0);
        let own: Vec<(i64,)> = sqlx::query_as(
            "SELECT DISTINCT conversation FROM member \
             WHERE address = ?1 AND (?2 IS NULL OR conversation = ?2) LIMIT ?3",
        )
        .bind(search.person.as_str())
        .bind(named)
        .bind(i64::try_from(PLACES_MAX + 1).unwrap_or(i64::MAX))
        .fetch_all(self.pool())
        .await?;
        Ok(match own.len() {
            0 => None,
            count if count > PLACES_MAX => Some(format!("text : ({query})")),
            _ => {
                let places: Vec<String> = own.iter().map(|(id,)| place(*id)).collect();
                let places = places.join(" OR ");
                Some(format!("place : ({places}) AND text : ({query})"))
            }
        })
    }
}

/// A conversation as a word.
fn place(conversation: i64) -> String {
    format!("c{conversation}")
}

/// Signs of scripts that put no spaces between words stand for themselves.
fn stands_alone(sign: char) -> bool {
    matches!(sign,
        '\u{0e00}'..='\u{0eff}'       // Thai, Lao
        | '\u{1000}'..='\u{109f}'     // Burmese
        | '\u{1780}'..='\u{17ff}'     // Khmer
        | '\u{2e80}'..='\u{9fff}'     // ideographs, kana
        | '\u{ac00}'..='\u{d7af}'     // Hangul
        | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}'
        | '\u{20000}'..='\u{3ffff}')
}

/// A text with such signs apart.
fn apart(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for sign in text.chars() {
        if stands_alone(sign) {
            out.extend([' ', sign, ' ']);
        } else {
            out.push(sign);
        }
    }
    out
}

/// A query in FTS5's language: each word quoted, so that nothing in it is more than a word. `None`: no word.
fn query(words: &str) -> Option<String> {
    let searchable = |word: &&str| word.chars().any(char::is_alphanumeric);
    let mut terms: Vec<String> = words
        .split_whitespace()
        .filter(searchable)
        .take(WORDS_MAX)
        .map(|word| format!("\"{}\"", apart(&word.replace(['"', '\0'], " "))))
        .collect();
    let last = terms.last_mut()?;
    if words.ends_with(char::is_alphanumeric) {
        last.push('*');
    }
    Some(terms.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_words_and_nothing_else() {
        for (words, expected) in [
            ("pris", Some("\"pris\"*")),
            ("Pris på båt ", Some("\"Pris\" \"på\" \"båt\"")),
            ("价格", Some("\" 价  格 \"*")),
            ("a\" OR b NEAR(c)", Some("\"a \" \"OR\" \"b\" \"NEAR(c)\"")),
            ("  ", None),
            ("?!", None),
            ("", None),
        ] {
            assert_eq!(query(words).as_deref(), expected, "{words}");
        }
    }

    #[test]
    fn signs_without_spaces_are_put_apart() {
        assert_eq!(apart("ab价格c"), "ab 价  格 c");
        assert_eq!(apart("bjørn"), "bjørn");
    }
}
