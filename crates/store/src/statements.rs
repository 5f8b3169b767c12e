//! The writer's SQL: one statement is one transaction and one trip to the connection's thread (each
//! further statement would wake us once more); the view `spool` of the schema spreads a group over
//! the tables.
//!
//! Texts come in few sizes (rows rounded up to a power of two; rows in excess are NULL and
//! filtered out), so that each stays prepared. Lists travel as JSON.
//!
//! *Invariant*: nothing but numbers of placeholders is put together here; values are bound.

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

/// Values a message: the fifteen of the table, and the six lists of a group.
pub(crate) const MESSAGE_COLUMNS: usize = 15 + LISTS;
/// Conversations, members, keys, deliveries, accounts that had no device, marks: in the first row.
pub(crate) const LISTS: usize = 6;

/// Messages that came with one of these keys before.
pub(crate) const KEYED: &str = "SELECT origin, message FROM key WHERE origin IN \
     (SELECT unhex(value) FROM json_each(?))";

/// Forgets keys from before a time.
pub(crate) const FORGET_KEYS: &str = "DELETE FROM key WHERE received_ms < ?";

const SIZES: usize = 9;

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

    /// Arguments: [`MESSAGE_COLUMNS`] values a message.
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
    let mut sql = String::from(
        "INSERT INTO spool (id, sender, recipient, account, received_ms, content_type, headers, \
         body, origin, conversation, seq, epoch, author, kind, detail, \
         conversations, members, keys, deliveries, accounts, marks) SELECT * FROM (",
    );
    values(&mut sql, rows, MESSAGE_COLUMNS);
    sql.push_str(") WHERE column1 IS NOT NULL");
    sql.into()
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
            let marks = statements.spool(rows).matches('?').count();
            assert!(marks >= rows * MESSAGE_COLUMNS, "{rows}");
            assert!(marks < rows * 2 * MESSAGE_COLUMNS, "{rows}");
        }
        assert_eq!(statements.bindings(3).matches('?').count(), 4 * 2);
    }
}
