//! Presence documents as we write them (RFC 3863, RFC 4479, RFC 4480).
//!
//! *Invariant*: no contact of a device stands in it, only the address that everybody knows; it is shorter than
//! [`OCTETS_MAX`].

use std::fmt::Write;

use sidetone_model::{AddressOfRecord, Availability, DeviceId};

use super::{Composed, Reachable};
use crate::xml::{Escaped, uri_of};

/// Devices beyond this length are left out.
const OCTETS_MAX: usize = 32 * 1024;

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
    <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
    xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
    xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\"";

/// The document of somebody of whom nothing is shown, and of somebody who is not there: they cannot be told apart.
pub(super) fn nobody(address: &AddressOfRecord) -> String {
    let uri = uri_of(address);
    let mut out = String::with_capacity(512);
    // Writing into a String cannot fail, here and below.
    let _ = write!(out, "{HEAD} entity=\"{}\">\r\n", Escaped(&uri));
    tuple(&mut out, "none", false, &uri, "");
    out.push_str(" <dm:person id=\"p1\"/>\r\n</presence>\r\n");
    out
}

/// The document of a person.
pub(super) fn render(
    address: &AddressOfRecord,
    composed: &Composed,
    devices: &[Reachable],
    sessions: u32,
) -> String {
    let person = &composed.person;
    if person.availability == Availability::Offline && person.note.is_empty() {
        return nobody(address);
    }
    let uri = uri_of(address);
    let mut out = String::with_capacity(1024);
    let _ = write!(out, "{HEAD} entity=\"{}\">\r\n", Escaped(&uri));
    for device in devices {
        let open = !composed.closed.contains(&device.device);
        if out.len() < OCTETS_MAX {
            tuple(&mut out, &id_of(device.device), open, &uri, &device.label);
        }
    }
    if sessions > 0 {
        tuple(&mut out, "web", true, &uri, "");
    }
    if devices.is_empty() && sessions == 0 {
        tuple(&mut out, "none", false, &uri, "");
    }
    out.push_str(" <dm:person id=\"p1\">\r\n");
    activities(&mut out, person.availability, person.on_call);
    if !person.note.is_empty() {
        let _ = write!(out, "  <dm:note>{}</dm:note>\r\n", Escaped(&person.note));
    }
    out.push_str(" </dm:person>\r\n</presence>\r\n");
    out
}

fn id_of(device: DeviceId) -> String {
    format!("d{device}")
}

fn tuple(out: &mut String, id: &str, open: bool, uri: &str, label: &str) {
    let basic = if open { "open" } else { "closed" };
    let _ = write!(
        out,
        " <tuple id=\"{id}\">\r\n  <status><basic>{basic}</basic></status>\r\n  <contact>{}</contact>\r\n",
        Escaped(uri)
    );
    if !label.is_empty() {
        let _ = write!(out, "  <note>{}</note>\r\n", Escaped(label));
    }
    out.push_str(" </tuple>\r\n");
}

/// RFC 4480 §3.2. It knows no "do not disturb": who is that is busy, and the words say so.
fn activities(out: &mut String, availability: Availability, on_call: bool) {
    let mut inside = String::new();
    if on_call {
        inside.push_str("<rpid:on-the-phone/>");
    }
    match availability {
        Availability::Busy => inside.push_str("<rpid:busy/>"),
        Availability::Away => inside.push_str("<rpid:away/>"),
        Availability::DoNotDisturb => {
            inside.push_str("<rpid:busy/><rpid:other>do not disturb</rpid:other>");
        }
        Availability::Available | Availability::Offline => {}
    }
    if !inside.is_empty() {
        let _ = write!(out, "  <rpid:activities>{inside}</rpid:activities>\r\n");
    }
}
