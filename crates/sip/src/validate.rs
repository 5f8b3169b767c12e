//! What a request must be before anyone acts on it: RFC 3261 §8.1.1, §8.2 and §16.3, as far as the message itself tells.
//!
//! *Invariant*: after `Ok`, every typed view of the mandatory headers, the Vias, Routes and Contacts succeeds.
//! Not decided here: extensions (420), credentials, hops left (483), loops (482): those need to know who we are.

use crate::{HeaderName, Limits, Malformed, Message, Rejected, Scheme, Uri};

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
    message.from().map_err(|_| {
        (
            400,
            missing_or(message, HeaderName::From, "Missing From", "Bad From"),
        )
    })?;
    message.to().map_err(|_| {
        (
            400,
            missing_or(message, HeaderName::To, "Missing To", "Bad To"),
        )
    })?;
    message.cseq().map_err(|_| {
        (
            400,
            missing_or(message, HeaderName::CSeq, "Missing CSeq", "Bad CSeq"),
        )
    })?;
    if message.call_id().is_empty() {
        return Err((400, "Missing Call-ID"));
    }
    for contact in message.contacts() {
        contact.map_err(|_| (400, "Bad Contact"))?;
    }
    check_addresses(message, HeaderName::Route, "Bad Route")?;
    check_addresses(message, HeaderName::RecordRoute, "Bad Record-Route")
}

fn missing_or(
    message: &Message,
    name: HeaderName,
    missing: &'static str,
    bad: &'static str,
) -> &'static str {
    if message.has(name) { bad } else { missing }
}

/// RFC 4475 §3.3.8: two Call-IDs make two requests; neither is to be guessed.
fn check_single(message: &Message) -> Verdict {
    let mut seen = 0u128;
    for field in message.fields().filter(|field| field.name.is_single()) {
        if seen & field.name.bit() != 0 {
            return Err((400, "Repeated Header"));
        }
        seen |= field.name.bit();
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
        address.map_err(|_| (400, reason))?;
    }
    Ok(())
}
