//! The document `application/reginfo+xml` (RFC 3680 §5).
//!
//! *Invariant*: whatever a device wrote into its Contact, the document is well-formed XML
//! and no longer than a message may be.

use std::fmt::Write;

use sidetone_model::AddressOfRecord;

use super::contacts::{Change, Contacts};
use crate::xml::{Escaped, uri_of};

/// Contacts beyond this length are left out, so that the NOTIFY stays below 64 KiB.
const OCTETS_MAX: usize = 48 * 1024;

pub(super) struct Document<'a> {
    pub(super) version: u32,
    pub(super) full: bool,
    pub(super) address: &'a AddressOfRecord,
    pub(super) contacts: &'a Contacts,
    pub(super) changes: &'a [Change],
}

impl Document<'_> {
    // Writing into a String cannot fail.
    pub(super) fn render(&self, now_ms: u64) -> String {
        let mut out = String::with_capacity(1024);
        let state = if self.full { "full" } else { "partial" };
        let _ = write!(
            out,
            "<?xml version=\"1.0\"?>\r\n\
             <reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" version=\"{}\" state=\"{state}\">\r\n",
            self.version
        );
        let uri = uri_of(self.address);
        let _ = write!(
            out,
            " <registration aor=\"{}\" id=\"r{}\" state=\"{}\">\r\n",
            Escaped(&uri),
            self.contacts.id,
            self.state()
        );
        for contact in self.listed() {
            let text = render(contact, now_ms);
            if out.len() + text.len() <= OCTETS_MAX {
                out.push_str(&text);
            }
        }
        out.push_str(" </registration>\r\n</reginfo>\r\n");
        out
    }

    /// In full all contacts, and those that went since the last document.
    fn listed(&self) -> impl Iterator<Item = &Change> {
        let rows = self.contacts.rows().iter().filter(|_| self.full);
        let wanted = |change: &&Change| !self.full || change.event.is_removal();
        rows.chain(self.changes.iter().filter(wanted))
    }

    fn state(&self) -> &'static str {
        let removed = self.changes.iter().any(|change| change.event.is_removal());
        match self.contacts.rows().is_empty() {
            false => "active",
            true if removed => "terminated",
            true => "init",
        }
    }
}

fn render(change: &Change, now_ms: u64) -> String {
    let mut out = String::with_capacity(384);
    let binding = &change.binding;
    let gone = change.event.is_removal();
    let state = if gone { "terminated" } else { "active" };
    let event = change.event.as_str();
    let id = change.id();
    let _ = write!(
        out,
        "  <contact id=\"c{id}\" state=\"{state}\" event=\"{event}\""
    );
    if let Some(since_ms) = change.since_ms {
        let seconds = now_ms.saturating_sub(since_ms) / 1_000;
        let _ = write!(out, " duration-registered=\"{seconds}\"");
    }
    if !gone {
        let seconds = binding.expires_at_ms.saturating_sub(now_ms) / 1_000;
        let _ = write!(out, " expires=\"{seconds}\"");
    }
    let (whole, fraction) = (binding.q / 1_000, binding.q % 1_000);
    let _ = write!(
        out,
        " q=\"{whole}.{fraction:03}\" callid=\"{}\" cseq=\"{}\">\r\n   <uri>{}</uri>\r\n",
        Escaped(&binding.call_id),
        binding.cseq,
        Escaped(&binding.contact)
    );
    if let Some(instance) = &binding.instance {
        parameter(&mut out, "+sip.instance", &format!("\"<{instance}>\""));
    }
    if binding.reg_id > 0 {
        parameter(&mut out, "reg-id", &binding.reg_id.to_string());
    }
    out.push_str("  </contact>\r\n");
    out
}

fn parameter(out: &mut String, name: &str, value: &str) {
    let value = Escaped(value);
    let _ = write!(
        out,
        "   <unknown-param name=\"{name}\">{value}</unknown-param>\r\n"
    );
}
