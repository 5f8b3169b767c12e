//! Accounts and their devices.
//!
//! *Invariant*: a person's web password is never a SIP password; each device has a secret of
//! its own, kept only as the hashes that digest needs (RFC 8760).

use crate::{AccountId, AddressOfRecord, DeviceId};
use std::fmt;
use std::str::FromStr;

/// What an account may do in the portal and the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Role {
    /// Uses the service.
    #[default]
    User,
    /// Changes everything.
    Admin,
    /// Reads everything, changes nothing.
    Auditor,
}

/// A role's name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role: use user, admin or auditor")]
pub struct UnknownRole(pub String);

/// One account: a person or a thing that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// The address of record that it is known by.
    pub address: AddressOfRecord,
    /// The name to show; may be empty.
    pub name: String,
    /// The name of the profile that holds its rights.
    pub profile: String,
    /// Its role in the portal.
    pub role: Role,
    /// A disabled account neither registers nor sends; what is sent to it is kept.
    pub disabled: bool,
}

/// One device of an account, with a SIP secret of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub id: DeviceId,
    /// Whose it is.
    pub account: AccountId,
    /// What the owner calls it.
    pub label: String,
    /// The name it authenticates with; unique within the account's domain.
    pub sip_user: String,
    /// The realm that the hashes were made for: the account's domain.
    pub realm: String,
    /// SHA-256 of `sip_user:realm:secret` (RFC 7616 §3.4.2).
    pub ha1_sha256: [u8; 32],
    /// MD5 of the same, while a phone needs it.
    pub ha1_md5: Option<[u8; 16]>,
    /// When it was added, Unix time.
    pub created_ms: u64,
}

impl Role {
    /// The name in configuration, database and command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Admin => "admin",
            Role::Auditor => "auditor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "user" => Ok(Role::User),
            "admin" => Ok(Role::Admin),
            "auditor" => Ok(Role::Auditor),
            _ => Err(UnknownRole(text.to_owned())),
        }
    }
}

// The hashes stay out of logs: HA1 is as good as the password for this realm.
impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("label", &self.label)
            .field("sip_user", &self.sip_user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_back_what_they_write() {
        for role in [Role::User, Role::Admin, Role::Auditor] {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn a_logged_device_shows_no_hash() {
        let device = Device {
            id: DeviceId(1),
            account: AccountId(2),
            label: "desk".into(),
            sip_user: "alice".into(),
            realm: "localhost".into(),
            ha1_sha256: [171; 32],
            ha1_md5: Some([171; 16]),
            created_ms: 0,
        };
        assert!(!format!("{device:?}").contains("171"));
    }
}
