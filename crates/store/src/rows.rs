//! Rows to model values and back.

use crate::StoreError;
use sidetone_model::{Account, AccountId, AddressOfRecord, Device, DeviceId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

pub(crate) fn account(row: &SqliteRow) -> Result<Account, StoreError> {
    let role: &str = row.try_get("role")?;
    Ok(Account {
        id: AccountId(row.try_get("id")?),
        address: address(row.try_get("address")?)?,
        name: row.try_get("name")?,
        profile: row.try_get("profile")?,
        role: role.parse().map_err(|_| StoreError::Corrupt("role"))?,
        disabled: row.try_get("disabled")?,
    })
}

pub(crate) fn device(row: &SqliteRow) -> Result<Device, StoreError> {
    let sha256: &[u8] = row.try_get("ha1_sha256")?;
    let md5: Option<&[u8]> = row.try_get("ha1_md5")?;
    let created_ms: i64 = row.try_get("created_ms")?;
    Ok(Device {
        id: DeviceId(row.try_get("id")?),
        account: AccountId(row.try_get("account")?),
        label: row.try_get("label")?,
        sip_user: row.try_get("sip_user")?,
        realm: row.try_get("realm")?,
        ha1_sha256: sha256.try_into().map_err(|_| StoreError::Corrupt("HA1"))?,
        ha1_md5: md5
            .map(|bytes| bytes.try_into().map_err(|_| StoreError::Corrupt("HA1")))
            .transpose()?,
        created_ms: from_sql(created_ms),
    })
}

pub(crate) fn address(text: &str) -> Result<AddressOfRecord, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("address"))
}

pub(crate) fn to_sql(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

pub(crate) fn from_sql(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}
