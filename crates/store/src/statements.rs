//! The writer's SQL: a group is one text, from BEGIN to COMMIT, and so one trip to the connection's
//! thread.
//!
//! Texts come in few sizes (rows rounded up to a power of two; rows in excess are NULL and
//! filtered out), so that each stays prepared. Lists travel as JSON.
//!
//! *Invariant*: nothing but numbers of placeholders is put together here; values are bound. Whoever
//! runs a group's text and gets an error rolls back.

use std::fmt::Write;
use std::sync::Arc;

/// The most messages in one transaction.
pub(crate) const APPENDS_MAX: usize = 256;
/// The most addresses in one transaction of bindings.
pub(crate) const BINDINGS_MAX: usize = 256;

/// Notes deliveries as done where no message is there to ride along with.
pub(crate) const MARKS: &str = "DELETE FROM delivery WHERE (device, message) IN \
     (SELECT value ->> 0, value ->> 1 FROM json_each(?))";

/// Forgets addresses.
pub(crate) const FORGET: &str = "DELETE FROM binding WHERE aor IN (SELECT value FROM json_each(?))";

/// Values a message.
pub(crate) const MESSAGE_COLUMNS: usize = 15;

/// Messages that came with one of these keys before.
pub(crate) const KEYED: &str = "SELECT origin, message FROM key WHERE origin IN \
     (SELECT unhex(value) FROM json_each(?))";

/// Forgets keys from before a time.
pub(crate) const FORGET_KEYS: &str = "DELETE FROM key WHERE received_ms < ?";

const SIZES: usize = 9;

/// Conversations that changed.
const CONVERSATIONS: &str = "\
INSERT INTO conversation \
(id, address, kind, subject, avatar, epoch, created_ms, pair_a, pair_b, grown) \
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
value ->> 7, value ->> 8, value ->> 9 FROM json_each(?) WHERE true ON CONFLICT (id) DO UPDATE SET \
subject = excluded.subject, avatar = excluded.avatar, epoch = excluded.epoch, \
pair_a = excluded.pair_a, pair_b = excluded.pair_b, grown = excluded.grown";

const MEMBERS: &str = "\
INSERT INTO member (conversation, address, joined, horizon, until, role) \
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 \
FROM json_each(?) WHERE true ON CONFLICT (conversation, address, joined) DO UPDATE SET \
until = excluded.until, role = excluded.role";

const KEYS: &str = "INSERT INTO key (origin, message, received_ms) \
SELECT unhex(value ->> 0), value ->> 1, value ->> 2 FROM json_each(?) WHERE true ON CONFLICT DO NOTHING";

const DELIVERIES: &str = "INSERT INTO delivery (device, message) \
SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true ON CONFLICT DO NOTHING";

/// Accounts of which the server knew no device: those that came a moment ago get it …
const HANDED: &str = "INSERT INTO delivery (device, message) \
SELECT device.id, value ->> 1 FROM json_each(?) CROSS JOIN device ON device.account = value ->> 0 \
WHERE true ON CONFLICT DO NOTHING";

/// … or the account waits for its first.
const WAITING: &str = "INSERT INTO waiting (account, message) \
SELECT value ->> 0, value ->> 1 FROM json_each(?) \
WHERE NOT EXISTS (SELECT 1 FROM device WHERE account = value ->> 0) ON CONFLICT DO NOTHING";

/// Texts by size: 1, 2, 4 … 256 rows.
pub(crate) struct Statements {
    spool: [Arc<str>; SIZES],
    bindings: [Arc<str>; SIZES],
}

impl Statements {
    pub(crate) fn new() -> Self {
        Self {
            spool: std::array::from_fn(|size| spool(1 << size)),
            bindings: std::array::from_fn(|size| bindings(1 << size)),
        }
    }

    /// Arguments: conversations and members as JSON, [`MESSAGE_COLUMNS`] values a message; then as
    /// JSON keys, deliveries to devices, accounts that had no device (twice), and marks.
    pub(crate) fn spool(&self, messages: usize) -> Arc<str> {
        pick(&self.spool, messages)
    }

    /// Arguments: two values an address.
    pub(crate) fn bindings(&self, addresses: usize) -> Arc<str> {
        pick(&self.bindings, addresses)
    }

    /// How many texts there are: what the connection's statement cache must hold.
    pub(crate) const COUNT: usize = 2 * SIZES + 4;
}

fn pick(texts: &[Arc<str>; SIZES], rows: usize) -> Arc<str> {
    let size = (0..SIZES).find(|size| 1 << size >= rows);
    Arc::clone(&texts[size.unwrap_or(SIZES - 1)])
}

fn spool(rows: usize) -> Arc<str> {
    let mut messages = String::from(
        "INSERT INTO message (id, sender, recipient, account, received_ms, content_type, headers, \
         body, origin, conversation, seq, epoch, author, kind, detail) SELECT * FROM (",
    );
    values(&mut messages, rows, MESSAGE_COLUMNS);
    messages.push_str(") WHERE column1 IS NOT NULL");
    let parts = [
        "BEGIN IMMEDIATE",
        CONVERSATIONS,
        MEMBERS,
        &messages,
        KEYS,
        DELIVERIES,
        HANDED,
        WAITING,
        MARKS,
        "COMMIT",
    ];
    parts.join("; ").into()
}

fn bindings(rows: usize) -> Arc<str> {
    let mut sql = String::from("INSERT INTO binding (aor, bindings) SELECT * FROM (");
    values(&mut sql, rows, 2);
    sql.push_str(
        ") WHERE column1 IS NOT NULL \
         ON CONFLICT (aor) DO UPDATE SET bindings = excluded.bindings",
    );
    sql.into()
}

fn values(sql: &mut String, rows: usize, columns: usize) {
    let row = vec!["?"; columns].join(",");
    sql.push_str("VALUES ");
    for i in 0..rows {
        let comma = if i == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(sql, "{comma}({row})");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_room_for_the_rows_asked_for() {
        let statements = Statements::new();
        for rows in [1, 2, 3, 4, 5, 8, 9, 200, 256] {
            let marks = statements.spool(rows).matches('?').count() - 7;
            assert!(marks >= rows * MESSAGE_COLUMNS, "{rows}");
            assert!(marks < rows * 2 * MESSAGE_COLUMNS, "{rows}");
        }
        assert_eq!(statements.bindings(3).matches('?').count(), 4 * 2);
    }
}
