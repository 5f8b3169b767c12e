//! Max-Breadth (RFC 5393 §5): how many copies of a request may be under way at once.
//!
//! *Invariant*: the shares of the copies that are sent together are at least one each, and no more than what came.

use crate::grammar::seconds;
use crate::{Field, Message};

pub(super) const NAME: &str = "Max-Breadth";
/// RFC 5393 §5.3.3: what a request without the field may have.
const DEFAULT: u32 = 60;

pub(super) fn is_field(field: &Field<'_>) -> bool {
    field.name_text.eq_ignore_ascii_case(NAME.as_bytes())
}

/// What the request allows: the number, and whether the request says so itself.
pub(super) fn of(request: &Message) -> (u32, bool) {
    let given = request.header_by_name(NAME).and_then(seconds);
    (given.unwrap_or(DEFAULT), given.is_some())
}
