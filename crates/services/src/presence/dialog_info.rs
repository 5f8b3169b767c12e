//! The document `application/dialog-info+xml` (RFC 4235 §4).
//!
//! *Invariant*: who the other party is, and what names the call on the wire, stands in the owner's document only: with
//! those anybody could take the call over (RFC 3891).

use std::fmt::Write;

use sidetone_model::AddressOfRecord;

use super::calls::{Call, Direction};
use crate::events::{Document, View};
use crate::xml::{Escaped, uri_of};

/// Calls beyond this length are left out.
const OCTETS_MAX: usize = 32 * 1024;

pub(super) fn render<'a>(
    address: &AddressOfRecord,
    view: View,
    calls: impl Iterator<Item = &'a Call>,
) -> Document {
    let uri = uri_of(address);
    let mut out = String::with_capacity(768);
    // Writing into a String cannot fail, here and below.
    out.push_str(
        "<?xml version=\"1.0\"?>\r\n\
         <dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"",
    );
    let version_at = Some(out.len());
    let _ = write!(out, "\" state=\"full\" entity=\"{}\">\r\n", Escaped(&uri));
    for call in calls.filter(|_| view.shows()) {
        if out.len() < OCTETS_MAX {
            dialog(&mut out, &uri, call, view == View::Own);
        }
    }
    out.push_str("</dialog-info>\r\n");
    Document {
        text: out.into(),
        version_at,
        until_ms: None,
    }
}

fn dialog(out: &mut String, uri: &str, call: &Call, own: bool) {
    let (number, direction) = (call.number, call.direction.as_str());
    let _ = write!(out, " <dialog id=\"{number:x}\"");
    if own {
        let call_id = Escaped(&call.id.call_id);
        let tag = Escaped(&call.id.caller_tag);
        let side = match call.direction {
            Direction::Initiator => "local-tag",
            Direction::Recipient => "remote-tag",
        };
        let _ = write!(out, " call-id=\"{call_id}\" {side}=\"{tag}\"");
    }
    let state = call.state.as_str();
    let _ = write!(
        out,
        " direction=\"{direction}\">\r\n  <state>{state}</state>\r\n  <local><identity>{0}</identity><target uri=\"{0}\"/></local>\r\n",
        Escaped(uri)
    );
    if own {
        let (name, remote) = (Escaped(&call.remote.name), Escaped(&call.remote.uri));
        let _ = write!(
            out,
            "  <remote><identity display=\"{name}\">{remote}</identity><target uri=\"{remote}\"/></remote>\r\n"
        );
    }
    out.push_str(" </dialog>\r\n");
}
