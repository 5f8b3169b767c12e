//! Bindings: where an address of record can be reached now (RFC 3261 §10.3, RFC 5626, RFC 3327).

use crate::DeviceId;

/// One contact that is bound to an address of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The contact's URI as the device wrote it, without angle brackets.
    pub contact: Box<str>,
    /// The device whose credentials made the binding.
    pub device: DeviceId,
    /// `+sip.instance` without quotes (RFC 5626 §4.1).
    pub instance: Option<Box<str>>,
    /// `reg-id`, 0 where there was none (RFC 5626 §4.2).
    pub reg_id: u32,
    /// Preference in thousandths, 0 to 1000.
    pub q: u16,
    /// Call-ID of the REGISTER that last changed the binding.
    pub call_id: Box<str>,
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// When the binding ends, Unix time.
    pub expires_at_ms: u64,
    /// Path header values as on the wire, separated by commas; may be empty (RFC 3327).
    pub path: Box<str>,
    /// Where the REGISTER came from, as the engine describes a flow.
    pub received: Option<Box<str>>,
    /// The device's User-Agent, shortened; may be empty.
    pub user_agent: Box<str>,
}

impl Binding {
    /// Whether the binding has ended at `now_ms`.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms <= now_ms
    }
}
