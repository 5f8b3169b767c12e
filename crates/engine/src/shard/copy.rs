//! What a phone gets of a message: plain, or in CPIM (RFC 3862) where the phone has shown that it speaks it.
//!
//! *Invariant*: a phone that does not speak CPIM never gets what it would show as markup.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use sidetone_model::{AddressOfRecord, StoredMessage};
use sidetone_services::carried::{self, Asked, Named};
use sidetone_services::{Abilities, Composing, Target as Binding};
use sidetone_sip::imdn::{self, Wanted};
use sidetone_sip::{
    Cpim, IsComposing, Mailbox, Malformed, RequestBuilder, cpim, escape_user, iscomposing,
    timestamp,
};

use super::route::split_path;

/// Where a copy goes.
pub(super) struct Place<'a> {
    pub(super) binding: &'a Binding,
    /// Whose phone it is.
    pub(super) to: &'a AddressOfRecord,
    pub(super) via: &'a str,
    pub(super) abilities: Abilities,
}

/// Of the content, not of the message: in CPIM they stand with it.
const OF_CONTENT: [&str; 4] = [
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "MIME-Version",
];
/// What a sender whose phone does not ask is told all the same, by the API.
const ASKED_BY_THE_API: Wanted = Wanted {
    positive_delivery: true,
    negative_delivery: true,
    processing: false,
    display: true,
};

impl Place<'_> {
    fn request<'m>(&self, from: &str, tag: &str, call_id: &str) -> RequestBuilder<'m> {
        let mut builder = RequestBuilder::new("MESSAGE", self.binding.contact())
            .header("Via", self.via)
            .header("Max-Forwards", "70");
        for route in split_path(self.binding.path()) {
            builder = builder.header("Route", route);
        }
        builder
            .header("From", format!("{from};tag={tag}"))
            .header("To", format!("<{}>", uri_of(self.to)))
            .header("Call-ID", call_id)
            .header("CSeq", "1 MESSAGE")
    }
}

/// The Call-ID names message and device, so that a device which gets it again after a crash can tell.
pub(super) fn of_message(place: &Place<'_>, message: &StoredMessage) -> Bytes {
    let call_id = Named::Copy(message.id, place.binding.device).write(place.to.domain());
    let tag = format!("m{}", message.id.0);
    let notification = carried::is(&message.content_type, imdn::CONTENT_TYPE);
    let wrapped = match place.abilities.has(Abilities::CPIM) || notification {
        true => wrapped(place, message, notification).ok(),
        false => None,
    };
    let from = match message.in_group {
        true => format!("<{}>", uri_of(&message.to)).into(),
        false => author_of(message),
    };
    let mut builder = place.request(&from, &tag, &call_id);
    // RFC 3428 §4: a text that comes late says when it was sent.
    if !message
        .headers
        .lines()
        .any(|line| line.starts_with("Date: "))
    {
        let received = UNIX_EPOCH + Duration::from_millis(message.received_ms);
        builder = builder.header("Date", httpdate::fmt_http_date(received));
    }
    for (name, value) in told(message) {
        if wrapped.is_none() || !OF_CONTENT.contains(&name) {
            builder = builder.header(name, value);
        }
    }
    match wrapped {
        Some(body) => builder.body(cpim::CONTENT_TYPE, &body).finish(),
        None => builder
            .body(&message.content_type, &plain(message))
            .finish(),
    }
}

/// That somebody writes, in a form that the phone understands; nothing where it understands none.
pub(super) fn of_composing(place: &Place<'_>, composing: &Composing, unique: u64) -> Option<Bytes> {
    let indication = IsComposing {
        active: composing.holds_s.is_some(),
        content_type: Some("text/plain".to_owned()),
        last_active_ms: None,
        refresh_seconds: composing.holds_s,
    };
    let xml = indication.write();
    let from = match &composing.group {
        Some(group) => format!("<{}>", uri_of(group)),
        None => composing.sender.clone(),
    };
    let call_id = format!("t{unique:016x}@{}", place.to.domain());
    let builder = place.request(&from, "t", &call_id);
    if place.abilities.has(Abilities::CPIM) {
        let to = composing.group.as_ref().unwrap_or(place.to);
        let wrapped = in_cpim(iscomposing::CONTENT_TYPE, xml.into(), &composing.sender, to);
        let body = wrapped.ok()?.write();
        return Some(builder.body(cpim::CONTENT_TYPE, &body).finish());
    }
    let bare = place.abilities.has(Abilities::COMPOSING);
    bare.then(|| {
        builder
            .body(iscomposing::CONTENT_TYPE, xml.as_bytes())
            .finish()
    })
}

fn author_of(message: &StoredMessage) -> Cow<'_, str> {
    match message.from.as_str() {
        "" => "<sip:anonymous@anonymous.invalid>".into(),
        from => from.into(),
    }
}

/// The header lines that go on.
fn told(message: &StoredMessage) -> impl Iterator<Item = (&str, &str)> {
    carried::told(&message.headers).filter_map(|line| line.split_once(": "))
}

fn in_cpim(
    content_type: &str,
    body: Bytes,
    from: &str,
    to: &AddressOfRecord,
) -> Result<Cpim, Malformed> {
    let from = Mailbox::parse(from).ok_or(Malformed("From"))?;
    let to = Mailbox {
        name: String::new(),
        uri: uri_of(to),
    };
    Cpim::new(content_type, body)?
        .with_from(&from)?
        .with_to(&to)
}

fn wrapped(
    place: &Place<'_>,
    message: &StoredMessage,
    notification: bool,
) -> Result<Bytes, Malformed> {
    let asked = Asked::of(&message.headers);
    let to = if message.in_group {
        &message.to
    } else {
        place.to
    };
    let content_type = match message.content_type.as_str() {
        "" => "text/plain",
        name => name,
    };
    let sent = asked
        .as_ref()
        .and_then(|asked| timestamp::parse(&asked.date_time));
    let mut cpim = in_cpim(content_type, message.body.clone(), &author_of(message), to)?
        .with_sent_ms(sent.unwrap_or(message.received_ms))?;
    for (name, value) in told(message).filter(|(name, _)| OF_CONTENT.contains(name)) {
        cpim = cpim.with_content_header(name, value)?;
    }
    if notification {
        // RFC 5438 §7.2.1: it asks for nothing, so that nothing is said of it.
        cpim = cpim.with_content_header("Content-Disposition", "notification")?;
    } else if let Some((conversation, seq)) = message.event.filter(|_| !is_of_the_group(message)) {
        let wanted = asked.map_or(ASKED_BY_THE_API, |asked| asked.wanted);
        let name = Named::Event(conversation, seq).write(place.to.domain());
        cpim = imdn::request(cpim, &name, wanted)?;
    }
    Ok(cpim.write())
}

/// A line that nobody wrote.
fn is_of_the_group(message: &StoredMessage) -> bool {
    message.in_group && message.from == format!("<{}>", uri_of(&message.to))
}

/// A group's messages come from the group, which is whom an answer is for; a text then begins with the name of who
/// wrote it.
fn plain(message: &StoredMessage) -> Bytes {
    let body = message.body.clone();
    let written = carried::is(&message.content_type, "text/plain") && !is_of_the_group(message);
    match written && message.in_group {
        true => Bytes::from([name_in(&message.from).as_bytes(), b": ", &body[..]].concat()),
        false => body,
    }
}

fn uri_of(address: &AddressOfRecord) -> String {
    format!("sip:{}@{}", escape_user(address.user()), address.domain())
}

/// The display name of a From, or its user.
fn name_in(from: &str) -> &str {
    let (display, uri) = from.split_once('<').unwrap_or(("", from));
    let display = display.trim().trim_matches('"');
    if !display.is_empty() {
        return display;
    }
    let user = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    user.split(['@', '>']).next().unwrap_or(user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidetone_model::MessageId;

    fn message(from: &str, content_type: &str, in_group: bool) -> StoredMessage {
        StoredMessage {
            id: MessageId(1),
            from: from.to_owned(),
            to: "team@example.com".parse().expect("an address"),
            received_ms: 0,
            content_type: content_type.to_owned(),
            headers: String::new(),
            body: Bytes::from_static(b"hi"),
            in_group,
            event: None,
            file: None,
        }
    }

    #[test]
    fn a_message_to_one_is_shown_as_it_came() {
        let message = message("\"Ann\" <sip:ann@example.com>", "text/plain", false);
        assert_eq!(author_of(&message), "\"Ann\" <sip:ann@example.com>");
        assert_eq!(plain(&message), "hi");
    }

    #[test]
    fn a_text_to_a_group_names_who_wrote_it() {
        for (from, body) in [
            ("\"Ann\" <sip:ann@example.com>", "Ann: hi"),
            ("<sip:ann@example.com>", "ann: hi"),
            ("<sip:team@example.com>", "hi"),
        ] {
            let message = message(from, "text/plain;charset=utf-8", true);
            assert_eq!(plain(&message), body);
        }
        let picture = message("<sip:ann@example.com>", "image/png", true);
        assert_eq!(plain(&picture), "hi");
    }
}
