//! Bindings at rest: one JSON text per address of record.
//!
//! *Invariant*: the text is ours alone; a text that cannot be read is an error at start, never
//! a registration lost in silence.

use crate::{Store, StoreError, rows};
use serde::{Deserialize, Serialize};
use sidetone_model::{AddressOfRecord, Binding, DeviceId};
use std::borrow::Cow;

// Short keys: 100,000 of these are written again every hour.
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    #[serde(rename = "c")]
    contact: Cow<'a, str>,
    #[serde(rename = "d")]
    device: i64,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    instance: Option<Cow<'a, str>>,
    #[serde(rename = "r", default, skip_serializing_if = "is_zero")]
    reg_id: u32,
    q: u16,
    #[serde(rename = "id")]
    call_id: Cow<'a, str>,
    #[serde(rename = "s")]
    cseq: u32,
    #[serde(rename = "e")]
    expires_at_ms: u64,
    #[serde(rename = "p", default, skip_serializing_if = "str::is_empty")]
    path: Cow<'a, str>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    received: Option<Cow<'a, str>>,
    #[serde(rename = "u", default, skip_serializing_if = "str::is_empty")]
    user_agent: Cow<'a, str>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

pub(crate) fn encode(bindings: &[Binding]) -> Result<String, StoreError> {
    let rows: Vec<Row<'_>> = bindings.iter().map(to_row).collect();
    serde_json::to_string(&rows).map_err(|_| StoreError::Corrupt("binding"))
}

pub(crate) fn decode(text: &str) -> Result<Vec<Binding>, StoreError> {
    let rows: Vec<Row<'_>> =
        serde_json::from_str(text).map_err(|_| StoreError::Corrupt("binding"))?;
    Ok(rows.into_iter().map(from_row).collect())
}

fn to_row(b: &Binding) -> Row<'_> {
    Row {
        contact: Cow::Borrowed(&b.contact),
        device: b.device.0,
        instance: b.instance.as_deref().map(Cow::Borrowed),
        reg_id: b.reg_id,
        q: b.q,
        call_id: Cow::Borrowed(&b.call_id),
        cseq: b.cseq,
        expires_at_ms: b.expires_at_ms,
        path: Cow::Borrowed(&b.path),
        received: b.received.as_deref().map(Cow::Borrowed),
        user_agent: Cow::Borrowed(&b.user_agent),
    }
}

fn from_row(r: Row<'_>) -> Binding {
    Binding {
        contact: r.contact.into(),
        device: DeviceId(r.device),
        instance: r.instance.map(Into::into),
        reg_id: r.reg_id,
        q: r.q,
        call_id: r.call_id.into(),
        cseq: r.cseq,
        expires_at_ms: r.expires_at_ms,
        path: r.path.into(),
        received: r.received.map(Into::into),
        user_agent: r.user_agent.into(),
    }
}

impl Store {
    /// Every address with its bindings that have not ended at `now_ms`.
    pub async fn load_bindings(
        &self,
        now_ms: u64,
    ) -> Result<Vec<(AddressOfRecord, Vec<Binding>)>, StoreError> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.binding_page(&after).await?;
            let Some((last, _)) = page.last() else {
                return Ok(all);
            };
            after.clone_from(last);
            for (aor, text) in &page {
                let mut bindings = decode(text)?;
                bindings.retain(|b| !b.is_expired(now_ms));
                if !bindings.is_empty() {
                    all.push((rows::address(aor)?, bindings));
                }
            }
        }
    }

    async fn binding_page(&self, after: &str) -> Result<Vec<(String, String)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT aor, bindings FROM binding WHERE aor > ? ORDER BY aor LIMIT 2000",
        )
        .bind(after)
        .fetch_all(self.pool())
        .await?)
    }
}
