//! What a request must be before anyone acts on it: RFC 3261 §8.1.1, §8.2 and §16.3, as far as the message itself tells.
//!
//! *Invariant*: after `Ok`, every typed view of the mandatory headers, the Vias, Routes and Contacts succeeds, and so does taking their URIs apart.
//! Not decided here: extensions (420), credentials, hops left (483), loops (482): those need to know who we are.

use crate::{Contact, HeaderName, Limits, Malformed, Message, NameAddr, Rejected, Scheme, Uri};

type Verdict = Result<(), (u16, &'static str)>;

/// Checks a parsed request against the default limits.
///
/// # Errors
/// With the answer code that fits: 400 or 416.
pub fn request(message: &Message) -> Result<(), Rejected> {
    request_within(message, &Limits::default())
}

/// Checks a parsed request.
///
/// # Errors
/// With the answer code that fits: 400 or 416.
pub fn request_within(message: &Message, limits: &Limits) -> Result<(), Rejected> {
    check_request(message, limits)
        .map_err(|(status, reason)| Rejected::new(status, reason, message.clone()))
}

/// Whether a response can be used at all; one that cannot is dropped (RFC 4475 §3.1.2.5).
///
/// # Errors
/// Naming what is wrong with it.
pub fn response(message: &Message) -> Result<(), Malformed> {
    check_common(message, &Limits::default()).map_err(|(_, reason)| Malformed(reason))?;
    message.expires()?;
    Ok(())
}

fn check_request(message: &Message, limits: &Limits) -> Verdict {
    check_common(message, limits)?;
    check_uri(message.request_uri())?;
    if message
        .cseq()
        .is_ok_and(|cseq| cseq.method_text != message.method_text())
    {
        return Err((400, "CSeq Method Mismatch"));
    }
    message
        .max_forwards()
        .map_err(|_| (400, "Bad Max-Forwards"))?;
    message.expires().map_err(|_| (400, "Bad Expires"))?;
    check_addresses(message, HeaderName::Path, "Bad Path")
}

fn check_common(message: &Message, limits: &Limits) -> Verdict {
    check_single(message)?;
    check_vias(message, limits)?;
    present(message, HeaderName::From, "Missing From")?;
    message
        .from()
        .and_then(check_address)
        .map_err(|_| (400, "Bad From"))?;
    present(message, HeaderName::To, "Missing To")?;
    message
        .to()
        .and_then(check_address)
        .map_err(|_| (400, "Bad To"))?;
    present(message, HeaderName::CSeq, "Missing CSeq")?;
    message.cseq().map_err(|_| (400, "Bad CSeq"))?;
    if message.call_id().is_empty() {
        return Err((400, "Missing Call-ID"));
    }
    check_contacts(message)?;
    check_addresses(message, HeaderName::Route, "Bad Route")?;
    check_addresses(message, HeaderName::RecordRoute, "Bad Record-Route")
}

fn present(message: &Message, name: HeaderName, missing: &'static str) -> Verdict {
    if message.has(name) {
        Ok(())
    } else {
        Err((400, missing))
    }
}

/// The URI of an address has to be by its scheme's grammar too; of a scheme that is not ours anything goes.
fn check_address(address: NameAddr<'_>) -> Result<(), Malformed> {
    address.parse_uri().map(|_| ())
}

fn check_contacts(message: &Message) -> Verdict {
    for contact in message.contacts() {
        let checked = contact.and_then(|contact| match contact {
            Contact::Star => Ok(()),
            Contact::Addr(address) => check_address(address),
        });
        checked.map_err(|_| (400, "Bad Contact"))?;
    }
    Ok(())
}

/// RFC 4475 §3.3.8: two Call-IDs make two requests; neither is to be guessed.
fn check_single(message: &Message) -> Verdict {
    let mut seen = 0u128;
    for name in message.names() {
        if seen & name.bit() & HeaderName::SINGLE != 0 {
            return Err((400, "Repeated Header"));
        }
        seen |= name.bit();
    }
    Ok(())
}

fn check_vias(message: &Message, limits: &Limits) -> Verdict {
    let mut count = 0;
    for via in message.vias() {
        via.map_err(|_| (400, "Bad Via"))?;
        count += 1;
    }
    match count {
        0 => Err((400, "Missing Via")),
        count if count > limits.via => Err((400, "Too Many Vias")),
        _ => Ok(()),
    }
}

/// RFC 3261 §8.2.2.1: 416 for a scheme that is not understood, whatever follows it.
fn check_uri(uri: &str) -> Verdict {
    let parsed = Uri::parse(uri).map_err(|_| (400, "Bad Request-URI"))?;
    match parsed.scheme {
        Scheme::Sip | Scheme::Sips | Scheme::Tel => Ok(()),
        Scheme::Other => Err((416, "Unsupported URI Scheme")),
    }
}

fn check_addresses(message: &Message, name: HeaderName, reason: &'static str) -> Verdict {
    for address in message.addresses(name) {
        address.and_then(check_address).map_err(|_| (400, reason))?;
    }
    Ok(())
}
