//! Stored messages on their way to a device: one MESSAGE to each of its bindings.
//!
//! *Invariant*: a message leaves the spool only after a binding took it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use sidetone_model::{AddressOfRecord, DeviceId, StoredMessage};
use sidetone_services::Target as Binding;
use sidetone_services::delivery::Step;
use sidetone_sip::{Flow, Method, RequestBuilder, Transport, escape_user};

use super::own::{Own, via};
use super::route::split_path;
use super::{News, Now, Shard, Want};

impl Shard {
    /// Tells the shard that delivers to this device, which may be another one.
    pub(super) fn wake_everywhere(&mut self, device: DeviceId, news: News) {
        self.want(Want::Wake { device, news });
    }

    pub(super) fn wake(&mut self, now: Now, device: DeviceId, news: News) {
        match news {
            News::Registered => self.deliveries.wake(now.unix_ms, device),
            News::Refreshed => self.deliveries.refreshed(now.unix_ms, device),
            News::Stored { message, first } => {
                // Another shard added it, and this one may have found the spool empty since.
                self.services.waiting.add(device);
                self.messages_changed(device);
                self.deliveries
                    .appended(now.unix_ms, device, message, first);
            }
        }
    }

    pub(super) fn pending(
        &mut self,
        now: Now,
        device: DeviceId,
        messages: Option<Vec<StoredMessage>>,
    ) {
        match messages {
            Some(messages) => self.deliveries.loaded(now.unix_ms, device, messages),
            None => self.deliveries.load_failed(now.unix_ms, device),
        }
    }

    /// Takes one step; whether there was one.
    pub(super) fn deliver_step(&mut self, now: Now) -> bool {
        match self.deliveries.poll() {
            None => return false,
            Some(Step::Load { device, after }) => self.want(Want::Pending { device, after }),
            Some(Step::Delivered { device, message }) => {
                self.want(Want::Delivered { device, message });
                self.messages_changed(device);
            }
            Some(Step::Arrived { device, event }) => self.want(Want::Arrived { device, event }),
            Some(Step::Emptied { device }) => self.services.waiting.remove(device),
            Some(Step::Send {
                attempt,
                device,
                message,
            }) => self.send_copies(now, attempt, device, &message),
        }
        true
    }

    fn send_copies(&mut self, now: Now, attempt: u64, device: DeviceId, message: &StoredMessage) {
        // Removed a moment ago: nobody waits for it any more.
        let owner = self.services.directory.account_of(device);
        let address = owner.map_or_else(|| message.to.clone(), |owner| owner.address);
        let bindings = self.services.location.lookup(&address, now.unix_ms);
        let incoming = Flow::to(
            Transport::Udp,
            0,
            std::net::SocketAddr::from(([0, 0, 0, 0], 0)),
        );
        let copies = bindings.iter().filter(|binding| binding.device == device);
        let copies: smallvec::SmallVec<[(u64, &Binding, Flow); 2]> = copies
            .filter_map(|binding| {
                let flow = self.flow_to(binding, incoming)?.0;
                Some((self.way(binding, flow), binding, flow))
            })
            .collect();
        let ways: smallvec::SmallVec<[u64; 2]> = copies.iter().map(|(way, ..)| *way).collect();
        let ways = self.deliveries.sending(attempt, &ways);
        for (way, binding, flow) in copies {
            if !ways.contains(&way) {
                continue;
            }
            let services = Arc::clone(&self.services);
            let sent_by = services.locals.sent_by(&flow);
            let user = Own::Delivery(attempt).user();
            self.endpoint
                .request(now.instant, flow, Method::Message, user, |branch| {
                    let via = via(&flow, sent_by, branch);
                    copy_for(binding, device, &address, message, &via)
                });
        }
    }

    /// Stands for a binding and the way to it.
    fn way(&self, binding: &Binding, flow: Flow) -> u64 {
        let remote = flow.remote.to_string();
        let connection = flow.connection.to_be_bytes();
        let contact = binding.contact().as_bytes();
        let hash = self
            .endpoint
            .digest(&[contact, remote.as_bytes(), &connection, b"way"]);
        u64::try_from(hash >> 64).unwrap_or_default()
    }

    /// A device answered a message.
    pub(super) fn delivery_answered(&mut self, now: Now, attempt: u64, status: u16) {
        if (200..300).contains(&status) {
            self.services.counters.messages_delivered.add();
        }
        self.deliveries.answered(now.unix_ms, attempt, status);
    }
}

/// The Call-ID names message and device, so that a device which gets it again after a crash can tell.
fn copy_for(
    binding: &Binding,
    device: DeviceId,
    to: &AddressOfRecord,
    message: &StoredMessage,
    via: &str,
) -> Bytes {
    let Shown { from, body } = shown(message);
    let mut builder = RequestBuilder::new("MESSAGE", binding.contact())
        .header("Via", via)
        .header("Max-Forwards", "70");
    for route in split_path(binding.path()) {
        builder = builder.header("Route", route);
    }
    builder = builder
        .header("From", format!("{from};tag=m{}", message.id.0))
        .header(
            "To",
            format!("<sip:{}@{}>", escape_user(to.user()), to.domain()),
        )
        .header(
            "Call-ID",
            format!("m{}-d{}@{}", message.id.0, device.0, to.domain()),
        )
        .header("CSeq", "1 MESSAGE");
    // RFC 3428 §4: a text that comes late says when it was sent.
    if !message
        .headers
        .lines()
        .any(|line| line.starts_with("Date: "))
    {
        let received = UNIX_EPOCH + Duration::from_millis(message.received_ms);
        builder = builder.header("Date", httpdate::fmt_http_date(received));
    }
    for line in message.headers.lines() {
        if let Some((name, value)) = line.split_once(": ") {
            builder = builder.header(name, value);
        }
    }
    builder.body(&message.content_type, &body).finish()
}

/// What a phone shows of a message.
struct Shown<'a> {
    from: Cow<'a, str>,
    body: Bytes,
}

/// A group's messages come from the group, which is whom an answer is for; a text then begins with the name of who
/// wrote it.
fn shown(message: &StoredMessage) -> Shown<'_> {
    let body = message.body.clone();
    if !message.in_group {
        let from = match message.from.as_str() {
            "" => "<sip:anonymous@anonymous.invalid>",
            from => from,
        };
        return Shown {
            from: from.into(),
            body,
        };
    }
    let group = format!("<{}>", uri_of(&message.to));
    let written = is_text(&message.content_type) && message.from != group;
    let body = match written {
        true => Bytes::from([name_in(&message.from).as_bytes(), b": ", &body[..]].concat()),
        false => body,
    };
    Shown {
        from: group.into(),
        body,
    }
}

fn uri_of(address: &AddressOfRecord) -> String {
    format!("sip:{}@{}", escape_user(address.user()), address.domain())
}

fn is_text(content_type: &str) -> bool {
    let name = content_type.split(';').next().unwrap_or_default();
    name.trim().eq_ignore_ascii_case("text/plain")
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
        }
    }

    #[test]
    fn a_message_to_one_is_shown_as_it_came() {
        let message = message("\"Ann\" <sip:ann@example.com>", "text/plain", false);
        let shown = shown(&message);
        assert_eq!(shown.from, "\"Ann\" <sip:ann@example.com>");
        assert_eq!(shown.body, "hi");
    }

    #[test]
    fn a_message_to_a_group_comes_from_the_group_and_names_who_wrote_it() {
        for (from, body) in [
            ("\"Ann\" <sip:ann@example.com>", "Ann: hi"),
            ("<sip:ann@example.com>", "ann: hi"),
            ("<sip:team@example.com>", "hi"),
        ] {
            let message = message(from, "text/plain;charset=utf-8", true);
            let shown = shown(&message);
            assert_eq!(shown.from, "<sip:team@example.com>");
            assert_eq!(shown.body, body);
        }
        let picture = message("<sip:ann@example.com>", "image/png", true);
        assert_eq!(shown(&picture).body, "hi");
    }
}
