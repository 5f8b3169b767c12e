//! Keeps deliveries in step with the devices that exist.
//!
//! *Invariant*: a message that is not delivered lies either in `delivery` for a device that
//! exists, or in `waiting` for an account that has none. A removal in another process can
//! overtake an append by a moment; the writer's sweep mends that within a second.

use crate::StoreError;
use sqlx::sqlite::SqliteConnection;

/// Gives what waits for accounts that have devices by now to those devices.
const HAND_OVER: &str = "\
INSERT INTO delivery (device, message) \
SELECT device.id, waiting.message FROM waiting JOIN device ON device.account = waiting.account \
WHERE true ON CONFLICT DO NOTHING;\
DELETE FROM waiting WHERE account IN (SELECT account FROM device);";

const REMOVED: &[&str] = &[
    // The account's last device went: its messages wait again.
    "INSERT INTO waiting (account, message) \
     SELECT r.account, d.message FROM removed r JOIN delivery d ON d.device = r.id \
     WHERE r.changed > ? AND r.kind = 'device' \
     AND NOT EXISTS (SELECT 1 FROM device WHERE account = r.account) \
     AND EXISTS (SELECT 1 FROM account WHERE id = r.account) ON CONFLICT DO NOTHING",
    "DELETE FROM delivery WHERE device IN \
     (SELECT id FROM removed WHERE changed > ? AND kind = 'device')",
    "DELETE FROM waiting WHERE account IN \
     (SELECT id FROM removed WHERE changed > ? AND kind = 'account')",
];

pub(crate) async fn hand_over(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(HAND_OVER).execute(connection).await?;
    Ok(())
}

/// Clears up behind every removal with a number above `since`.
pub(crate) async fn removed_since(
    connection: &mut SqliteConnection,
    since: i64,
) -> Result<(), StoreError> {
    for statement in REMOVED {
        sqlx::query(*statement)
            .bind(since)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
