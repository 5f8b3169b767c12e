//! What the receiving side adds to the topmost Via: `received` and `rport` (RFC 3261 §18.2.1, RFC 3581 §4).
//!
//! *Invariant*: after it, `received` and `rport` in the topmost Via are what we saw, whatever the peer had written.

use std::fmt::Arguments;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::HeaderName;
use crate::grammar::offset_in;
use crate::message::{Message, Split};

/// Calls `patch` with each range of the message's octets to replace, in ascending order.
pub(crate) fn patches(
    message: &Message,
    source: SocketAddr,
    mut patch: impl FnMut(Range<usize>, Arguments<'_>),
) {
    let Some(field) = message.first_filled(HeaderName::Via) else {
        return;
    };
    let octets = message.bytes();
    let Some((start, value)) = Split::new(&octets[field.clone()]).next() else {
        return;
    };
    let Ok(via) = message.top_via() else { return };
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    let asked = via.params.has("rport");
    let mut told = false;
    for (name, text) in via.params.iter() {
        let place = || text.map_or(after(octets, name), |text| within(octets, text));
        if name.eq_ignore_ascii_case("rport") {
            let sign = if text.is_none() { "=" } else { "" };
            patch(place(), format_args!("{sign}{}", source.port()));
        } else if name.eq_ignore_ascii_case("received") {
            let sign = if text.is_none() { "=" } else { "" };
            patch(place(), format_args!("{sign}{}", source.ip()));
            told = true;
        }
    }
    if !told
        && (asked
            || crate::host_ip(via.host).map(|ip: IpAddr| ip.to_canonical()) != Some(source.ip()))
    {
        let end = field.start + start + value.len();
        // COMPAT(several phones): a Via that ends with ';' must not come to hold an empty parameter.
        let semicolon = if value.ends_with(b";") { "" } else { ";" };
        patch(
            end..end,
            format_args!("{semicolon}received={}", source.ip()),
        );
    }
}

fn within(octets: &[u8], part: &str) -> Range<usize> {
    let start = offset_in(octets, part.as_bytes());
    start..start + part.len()
}

fn after(octets: &[u8], part: &str) -> Range<usize> {
    let end = within(octets, part).end;
    end..end
}
