//! The document `application/simple-message-summary` (RFC 3842 §5).
//!
//! *Invariant*: it holds counts only.

use sidetone_model::AddressOfRecord;

use crate::xml::uri_of;

/// `unread` messages no device has taken; `read` ones some device has, and another waits for.
pub(super) fn render(address: &AddressOfRecord, unread: u64, read: u64) -> String {
    let waiting = if unread > 0 { "yes" } else { "no" };
    let uri = uri_of(address);
    format!(
        "Messages-Waiting: {waiting}\r\nMessage-Account: {uri}\r\nText-Message: {unread}/{read}\r\n"
    )
}
