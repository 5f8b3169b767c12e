//! The writer's SQL: one text is one transaction, so that one group is one trip to the
//! connection's thread.
//!
//! Texts come in few sizes (rows rounded up to a power of two; rows in excess are NULL and
//! filtered out), so that each stays prepared. Lists of numbers travel as JSON; on PostgreSQL
//! these two places become `unnest`.
//!
//! *Invariant*: nothing but numbers of placeholders is put together here; values are bound.

use crate::sweep::HAND_OVER;
use std::fmt::Write;
use std::sync::Arc;

/// The most messages in one transaction.
pub(crate) const APPENDS_MAX: usize = 256;
/// The most addresses in one transaction of bindings.
pub(crate) const BINDINGS_MAX: usize = 256;

const MESSAGE_COLUMNS: usize = 9;
const SIZES: usize = 10;

/// Prepared texts by size: 0, 1, 2, 4 … 256 rows.
pub(crate) struct Statements {
    spool: [Arc<str>; SIZES],
    spool_waiting: [Arc<str>; SIZES],
    bindings: [Arc<str>; SIZES],
}

impl Statements {
    pub(crate) fn new() -> Self {
        Self {
            spool: std::array::from_fn(|size| spool(rows_of(size), false)),
            spool_waiting: std::array::from_fn(|size| spool(rows_of(size), true)),
            bindings: std::array::from_fn(|size| bindings(rows_of(size))),
        }
    }

    /// Arguments in order: marks as JSON, deliveries as JSON, if `waiting` those too, then nine
    /// values a message.
    pub(crate) fn spool(&self, messages: usize, waiting: bool) -> Arc<str> {
        let texts = if waiting {
            &self.spool_waiting
        } else {
            &self.spool
        };
        pick(texts, messages)
    }

    /// Arguments in order: addresses to forget as JSON, then two values an address.
    pub(crate) fn bindings(&self, addresses: usize) -> Arc<str> {
        pick(&self.bindings, addresses)
    }

    /// How many texts there are: what the connection's statement cache must hold.
    pub(crate) const COUNT: usize = 3 * SIZES;
}

fn rows_of(size: usize) -> usize {
    match size {
        0 => 0,
        _ => 1 << (size - 1),
    }
}

fn pick(texts: &[Arc<str>; SIZES], rows: usize) -> Arc<str> {
    let size = (0..SIZES)
        .find(|size| rows_of(*size) >= rows)
        .unwrap_or(SIZES - 1);
    Arc::clone(&texts[size])
}

fn spool(rows: usize, waiting: bool) -> Arc<str> {
    let mut sql = String::from(
        "BEGIN IMMEDIATE;\
         DELETE FROM delivery WHERE (device, message) IN \
         (SELECT value ->> 0, value ->> 1 FROM json_each(?));\
         INSERT INTO delivery (device, message) \
         SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true ON CONFLICT DO NOTHING;",
    );
    if waiting {
        sql.push_str(
            "INSERT INTO waiting (account, message) \
             SELECT value ->> 0, value ->> 1 FROM json_each(?);",
        );
        sql.push_str(HAND_OVER);
    }
    if rows > 0 {
        sql.push_str(
            "INSERT INTO message (id, sender, recipient, account, received_ms, content_type, \
             headers, body, origin) SELECT * FROM (",
        );
        values(&mut sql, rows, MESSAGE_COLUMNS);
        sql.push_str(") WHERE column1 IS NOT NULL;");
    }
    sql.push_str("COMMIT");
    sql.into()
}

fn bindings(rows: usize) -> Arc<str> {
    let mut sql = String::from(
        "BEGIN IMMEDIATE;\
         DELETE FROM binding WHERE aor IN (SELECT value FROM json_each(?));",
    );
    if rows > 0 {
        sql.push_str("INSERT INTO binding (aor, bindings) SELECT * FROM (");
        values(&mut sql, rows, 2);
        sql.push_str(
            ") WHERE column1 IS NOT NULL \
             ON CONFLICT (aor) DO UPDATE SET bindings = excluded.bindings;",
        );
    }
    sql.push_str("COMMIT");
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
        for rows in [0, 1, 2, 3, 4, 5, 8, 9, 200, 256] {
            let marks = statements.spool(rows, false).matches('?').count();
            assert!(marks >= 2 + rows * MESSAGE_COLUMNS, "{rows}");
            assert!(marks <= 2 + rows * 2 * MESSAGE_COLUMNS, "{rows}");
        }
        assert_eq!(statements.bindings(3).matches('?').count(), 1 + 4 * 2);
    }
}
