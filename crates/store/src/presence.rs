//! Presence at rest: what persons set, what devices published, subscriptions, and who may see whom.
//!
//! *Invariant*: each call is one transaction; what has ended is not read back.

use sidetone_model::{
    AccountId, AddressOfRecord, Availability, DeviceId, Publication, SavedSubscription, SetPresence,
};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::rows::{address, from_sql, to_sql};
use crate::{Store, StoreError};

/// How an account stands to a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactState {
    /// The account has asked to see the contact, and waits.
    Requested,
    /// The contact may see the account.
    Approved,
}

impl ContactState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Approved => "approved",
        }
    }
}

/// Accounts by address, with somebody else's address each.
pub type Pairs = Vec<(AddressOfRecord, AddressOfRecord)>;

/// What changed of subscriptions: the latest state, or none where it is over.
pub type SubscriptionChanges = [(String, Option<SavedSubscription>)];

/// What changed of publications, by entity-tag.
pub type PublicationChanges = [(String, Option<Publication>)];

impl Store {
    /// Keeps what a person says of itself; an empty one is forgotten.
    pub async fn set_presence(
        &self,
        account: AccountId,
        set: &SetPresence,
    ) -> Result<(), StoreError> {
        if set.is_empty() {
            return self
                .execute_pair("DELETE FROM presence WHERE account = ?", account, None)
                .await;
        }
        sqlx::query(
            "INSERT INTO presence (account, availability, note, until_ms) VALUES (?, ?, ?, ?) \
             ON CONFLICT (account) DO UPDATE SET availability = excluded.availability, \
             note = excluded.note, until_ms = excluded.until_ms",
        )
        .bind(account.0)
        .bind(set.availability.map(Availability::as_str))
        .bind(set.note.as_str())
        .bind(set.until_ms.map(to_sql))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// What persons have set and what has not ended.
    pub async fn presence_set(
        &self,
        now_ms: u64,
    ) -> Result<Vec<(AddressOfRecord, SetPresence)>, StoreError> {
        let rows = sqlx::query(
            "SELECT a.address, p.availability, p.note, p.until_ms FROM presence p \
             JOIN account a ON a.id = p.account WHERE p.until_ms IS NULL OR p.until_ms > ?",
        )
        .bind(to_sql(now_ms))
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(set_presence).collect()
    }

    /// Publications that have not ended.
    pub async fn publications(
        &self,
        now_ms: u64,
    ) -> Result<Vec<(AddressOfRecord, Publication)>, StoreError> {
        let rows = sqlx::query(
            "SELECT a.address, p.* FROM publication p JOIN account a ON a.id = p.account \
             WHERE p.expires_ms > ? ORDER BY p.expires_ms",
        )
        .bind(to_sql(now_ms))
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(publication).collect()
    }

    /// Subscriptions that have not ended.
    pub async fn subscriptions(&self, now_ms: u64) -> Result<Vec<SavedSubscription>, StoreError> {
        let rows = sqlx::query("SELECT * FROM subscription WHERE expires_ms > ?")
            .bind(to_sql(now_ms))
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(subscription).collect()
    }

    /// Writes what changed of subscriptions and publications, and forgets what has ended.
    pub async fn write_events(
        &self,
        now_ms: u64,
        subscriptions: &SubscriptionChanges,
        publications: &PublicationChanges,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool().begin_with("BEGIN IMMEDIATE").await?;
        for (tag, change) in subscriptions {
            match change {
                Some(saved) => put_subscription(&mut tx, saved).await?,
                None => {
                    forget(&mut tx, "DELETE FROM subscription WHERE local_tag = ?", tag).await?
                }
            }
        }
        for (etag, change) in publications {
            match change {
                Some(publication) => put_publication(&mut tx, publication).await?,
                None => forget(&mut tx, "DELETE FROM publication WHERE etag = ?", etag).await?,
            }
        }
        for table in [
            "DELETE FROM subscription WHERE expires_ms <= ?",
            "DELETE FROM publication WHERE expires_ms <= ?",
        ] {
            let ended = sqlx::query(table).bind(to_sql(now_ms));
            ended.execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Messages that no device of the account has taken, and those that some device still waits for.
    pub async fn waiting_counts(&self, account: AccountId) -> Result<(u64, u64), StoreError> {
        let (unread, read): (i64, i64) = sqlx::query_as(
            "WITH own AS (SELECT id FROM device WHERE account = ?1), \
             open AS (SELECT count(*) AS devices FROM delivery \
                      WHERE device IN (SELECT id FROM own) AND message NOT IN \
                      (SELECT id FROM message WHERE conversation IS NULL \
                       AND content_type = 'message/imdn+xml') GROUP BY message) \
             SELECT (SELECT count(*) FROM open WHERE devices = (SELECT count(*) FROM own)) \
                    + (SELECT count(*) FROM waiting WHERE account = ?1), \
                    (SELECT count(*) FROM open WHERE devices < (SELECT count(*) FROM own))",
        )
        .bind(account.0)
        .fetch_one(self.pool())
        .await?;
        Ok((unread.unsigned_abs(), read.unsigned_abs()))
    }

    /// From now on the address sees nothing of the account.
    pub async fn block(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO block (account, address) VALUES (?, ?) ON CONFLICT DO NOTHING";
        self.execute_pair(sql, account, Some(other)).await
    }

    /// Takes [`Store::block`] back.
    pub async fn unblock(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
    ) -> Result<(), StoreError> {
        let sql = "DELETE FROM block WHERE account = ? AND address = ?";
        self.execute_pair(sql, account, Some(other)).await
    }

    /// The account asks to see somebody; an approval of its own is not touched.
    pub async fn request_contact(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO contact (account, address, state) VALUES (?, ?, 'requested') \
                   ON CONFLICT DO NOTHING";
        self.execute_pair(sql, account, Some(other)).await
    }

    /// The account lets somebody see it, whether asked or not; what was asked is answered.
    pub async fn approve_contact(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO contact (account, address, state) VALUES (?, ?, 'approved') \
                   ON CONFLICT DO NOTHING";
        self.execute_pair(sql, account, Some(other)).await?;
        self.answer_request(account, other).await
    }

    /// The account lets somebody see it no more, or declines.
    pub async fn revoke_contact(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
    ) -> Result<(), StoreError> {
        let sql = "DELETE FROM contact WHERE account = ? AND address = ? AND state = 'approved'";
        self.execute_pair(sql, account, Some(other)).await?;
        self.answer_request(account, other).await
    }

    async fn answer_request(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
    ) -> Result<(), StoreError> {
        let sql = "DELETE FROM contact WHERE state = 'requested' \
                   AND address = (SELECT address FROM account WHERE id = ?) \
                   AND account = (SELECT id FROM account WHERE address = ?)";
        self.execute_pair(sql, account, Some(other)).await
    }

    /// Those who ask to see this address.
    pub async fn contact_requests(
        &self,
        of: &AddressOfRecord,
    ) -> Result<Vec<AddressOfRecord>, StoreError> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT a.address FROM contact c JOIN account a ON a.id = c.account \
             WHERE c.address = ? AND c.state = 'requested' ORDER BY a.address",
        )
        .bind(of.as_str())
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|(text,)| address(text)).collect()
    }

    /// Every account with its contacts of this state.
    pub async fn contacts(&self, state: ContactState) -> Result<Pairs, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT a.address, c.address FROM contact c JOIN account a ON a.id = c.account \
             WHERE c.state = ? ORDER BY 1, 2",
        )
        .bind(state.as_str())
        .fetch_all(self.pool())
        .await?;
        pairs(&rows)
    }

    /// Every account with those that it blocks.
    pub async fn blocks(&self) -> Result<Pairs, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT a.address, b.address FROM block b JOIN account a ON a.id = b.account ORDER BY 1, 2",
        )
        .fetch_all(self.pool())
        .await?;
        pairs(&rows)
    }

    async fn execute_pair(
        &self,
        sql: &'static str,
        account: AccountId,
        other: Option<&AddressOfRecord>,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(sql).bind(account.0);
        let query = match other {
            Some(other) => query.bind(other.as_str()),
            None => query,
        };
        query.execute(self.pool()).await?;
        Ok(())
    }
}

fn pairs(rows: &[(String, String)]) -> Result<Pairs, StoreError> {
    rows.iter()
        .map(|(one, other)| Ok((address(one)?, address(other)?)))
        .collect()
}

fn set_presence(row: &SqliteRow) -> Result<(AddressOfRecord, SetPresence), StoreError> {
    let availability: Option<&str> = row.try_get("availability")?;
    let until_ms: Option<i64> = row.try_get("until_ms")?;
    let set = SetPresence {
        availability: availability
            .map(|word| word.parse().map_err(|_| StoreError::Corrupt("presence")))
            .transpose()?,
        note: row.try_get("note")?,
        until_ms: until_ms.map(from_sql),
    };
    Ok((address(row.try_get("address")?)?, set))
}

fn publication(row: &SqliteRow) -> Result<(AddressOfRecord, Publication), StoreError> {
    let publication = Publication {
        etag: row.try_get("etag")?,
        account: AccountId(row.try_get("account")?),
        device: DeviceId(row.try_get("device")?),
        body: row.try_get("body")?,
        expires_at_ms: from_sql(row.try_get("expires_ms")?),
    };
    Ok((address(row.try_get("address")?)?, publication))
}

fn subscription(row: &SqliteRow) -> Result<SavedSubscription, StoreError> {
    let number = |name: &str| -> Result<u32, StoreError> {
        let value: i64 = row.try_get(name)?;
        u32::try_from(value).map_err(|_| StoreError::Corrupt("subscription"))
    };
    let watcher: Option<&str> = row.try_get("watcher")?;
    let device: Option<i64> = row.try_get("device")?;
    let routes: &str = row.try_get("routes")?;
    Ok(SavedSubscription {
        local_tag: row.try_get("local_tag")?,
        package: row.try_get("package")?,
        address: address(row.try_get("address")?)?,
        watcher: watcher.map(address).transpose()?,
        device: device.map(DeviceId),
        flow: row.try_get("flow")?,
        event: row.try_get("event")?,
        contact: row.try_get("contact")?,
        expires_at_ms: from_sql(row.try_get("expires_ms")?),
        call_id: row.try_get("call_id")?,
        remote_tag: row.try_get("remote_tag")?,
        local: row.try_get("local")?,
        remote: row.try_get("remote")?,
        target: row.try_get("target")?,
        // A route has no line end: it came in one header field.
        routes: routes.lines().map(str::to_owned).collect(),
        local_cseq: number("local_cseq")?,
        remote_cseq: number("remote_cseq")?,
        version: number("version")?,
    })
}

async fn put_subscription(
    tx: &mut SqliteConnection,
    saved: &SavedSubscription,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO subscription (local_tag, package, address, watcher, device, flow, \
         event, contact, expires_ms, call_id, remote_tag, local, remote, target, routes, \
         local_cseq, remote_cseq, version) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&saved.local_tag)
    .bind(&saved.package)
    .bind(saved.address.as_str())
    .bind(saved.watcher.as_ref().map(AddressOfRecord::as_str))
    .bind(saved.device.map(|device| device.0))
    .bind(&saved.flow)
    .bind(&saved.event)
    .bind(&saved.contact)
    .bind(to_sql(saved.expires_at_ms))
    .bind(&saved.call_id)
    .bind(&saved.remote_tag)
    .bind(&saved.local)
    .bind(&saved.remote)
    .bind(&saved.target)
    .bind(saved.routes.join("\n"))
    .bind(i64::from(saved.local_cseq))
    .bind(i64::from(saved.remote_cseq))
    .bind(i64::from(saved.version))
    .execute(tx)
    .await?;
    Ok(())
}

/// An account that was removed since has nothing to publish.
async fn put_publication(
    tx: &mut SqliteConnection,
    publication: &Publication,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO publication (etag, account, device, body, expires_ms) \
         SELECT ?, id, ?, ?, ? FROM account WHERE id = ?",
    )
    .bind(&publication.etag)
    .bind(publication.device.0)
    .bind(&publication.body)
    .bind(to_sql(publication.expires_at_ms))
    .bind(publication.account.0)
    .execute(tx)
    .await?;
    Ok(())
}

async fn forget(tx: &mut SqliteConnection, sql: &'static str, key: &str) -> Result<(), StoreError> {
    sqlx::query(sql).bind(key).execute(tx).await?;
    Ok(())
}
