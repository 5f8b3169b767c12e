//! MESSAGE (RFC 3428): committed, then answered, then delivered.
//!
//! *Invariant*: a 2xx is sent only after the store said that the message is committed.

use std::sync::Arc;

use sidetone_model::{DeviceId, MessageId, NewMessage, Origin, StoredMessage};
use sidetone_services::AccountRef;
use sidetone_sip::{Flow, Message, Method, ServerId};

use super::{News, Now, Shard, Want};

/// A MESSAGE that waits for the store.
pub(super) struct Unstored {
    server: ServerId,
    flow: Flow,
    request: Message,
    devices: Vec<DeviceId>,
    message: NewMessage,
    reachable: bool,
}

/// Headers that go on to the recipient beside those that every message has.
const KEPT: &[&str] = &[
    "Date",
    "Subject",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "MIME-Version",
    "In-Reply-To",
    "Priority",
    "Organization",
];

impl Shard {
    pub(super) fn message(&mut self, now: Now, flow: Flow, request: &Message, to: &AccountRef) {
        if self.unstored.len() >= self.settings.max_unstored {
            return self.overloaded(flow, request);
        }
        if request.body_bytes().is_empty() && request.content_type().is_none() {
            return self.reply(flow, request, 400, "a MESSAGE without a body", &[]);
        }
        let Some(server) = self.accept(now, flow, request) else {
            return;
        };
        let services = self.services.clone();
        let devices = services.directory.devices(to.account).to_vec();
        let message = self.new_message(now, request, to);
        let ticket = self.ticket();
        let reachable = services.location.is_registered(&to.address, now.unix_ms);
        self.want(Want::Append {
            message: message.clone(),
            devices: devices.clone(),
            ticket,
        });
        let unstored = Unstored {
            server,
            flow,
            request: request.clone(),
            devices,
            message,
            reachable,
        };
        self.unstored.insert(ticket, unstored);
    }

    fn overloaded(&mut self, flow: Flow, request: &Message) {
        self.services.counters.overloaded.add();
        self.reply(
            flow,
            request,
            503,
            "too many messages wait for the disk",
            &[("Retry-After", "2")],
        );
    }

    /// Whether a MESSAGE was stored just before this run began; its answer may have been lost.
    pub(super) fn was_stored(&self, request: &Message) -> bool {
        let services = &self.services;
        let to = services
            .directory
            .resolve(&services.domains, request.request_uri());
        let known = |to: AccountRef| services.stored_before.contains(&origin_of(request, &to));
        request.method() == Some(Method::Message) && to.is_some_and(known)
    }

    fn new_message(&self, now: Now, request: &Message, to: &AccountRef) -> NewMessage {
        NewMessage {
            from: sender_text(request),
            to: to.address.clone(),
            account: to.account,
            received_ms: now.unix_ms,
            content_type: text(request.content_type().unwrap_or(b"text/plain")),
            headers: kept_headers(request),
            body: request.body(),
            origin: origin_of(request, to),
        }
    }

    /// The store has it, or could not take it.
    pub(super) fn appended(&mut self, now: Now, ticket: u64, result: Result<MessageId, bool>) {
        let Some(unstored) = self.unstored.remove(&ticket) else {
            return;
        };
        match result {
            Ok(id) => self.stored(now, unstored, id),
            Err(temporary) => {
                self.services.counters.overloaded.add();
                let (status, why) = match temporary {
                    true => (503, "the message could not be stored now"),
                    false => (500, "the message could not be stored"),
                };
                let headers: &[(&str, &str)] = if temporary {
                    &[("Retry-After", "5")]
                } else {
                    &[]
                };
                let answer = self.answer(unstored.flow, &unstored.request, status, why, headers);
                self.endpoint
                    .respond(now.instant, unstored.server, status, answer);
            }
        }
    }

    /// RFC 3428 §7: 200 when it will be delivered now, 202 when later.
    fn stored(&mut self, now: Now, unstored: Unstored, id: MessageId) {
        self.services.counters.messages_stored.add();
        let status = if unstored.reachable { 200 } else { 202 };
        let answer = self.answer(unstored.flow, &unstored.request, status, "", &[]);
        self.endpoint
            .respond(now.instant, unstored.server, status, answer);
        let account = unstored.message.account;
        self.count_messages(account, &unstored.message.to);
        let message = Arc::new(StoredMessage {
            id,
            from: unstored.message.from,
            to: unstored.message.to,
            received_ms: unstored.message.received_ms,
            content_type: unstored.message.content_type,
            headers: unstored.message.headers,
            body: unstored.message.body,
        });
        if unstored.devices.is_empty() {
            // It may have got its first device meanwhile, which the store has given the message.
            for device in self.services.directory.devices(account) {
                self.services.waiting.add(device);
                let message = Arc::clone(&message);
                let first = false;
                self.wake_everywhere(device, News::Stored { message, first });
            }
        }
        for device in unstored.devices {
            let first = self.services.waiting.add(device);
            let message = Arc::clone(&message);
            self.wake_everywhere(device, News::Stored { message, first });
        }
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Display name and URI of From, without its parameters.
fn sender_text(request: &Message) -> String {
    let Ok(from) = request.from() else {
        return String::new();
    };
    let display = from.display.map(text).unwrap_or_default();
    let display = display.trim();
    match display {
        "" => format!("<{}>", from.uri),
        quoted if quoted.starts_with('"') => format!("{quoted} <{}>", from.uri),
        plain => format!("\"{}\" <{}>", plain.replace(['"', '\\'], ""), from.uri),
    }
}

fn kept_headers(request: &Message) -> String {
    let mut out = String::new();
    for name in KEPT {
        if let Some(value) = request.header_by_name(name) {
            let value = text(value).replace(['\r', '\n'], " ");
            out.extend([*name, ": ", &value, "\r\n"]);
        }
    }
    out
}

/// Not keyed: the same request has the same origin after a restart.
fn origin_of(request: &Message, to: &AccountRef) -> Origin {
    let from = request.from().ok();
    let tag = from.and_then(|from| from.tag()).unwrap_or_default();
    let sender = from.map_or("", |from| from.uri);
    let cseq = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
    origin(&[
        sender.as_bytes(),
        request.call_id(),
        tag.as_bytes(),
        &cseq,
        to.address.as_str().as_bytes(),
    ])
}

/// A hash of what makes a MESSAGE the same one when it is sent again.
fn origin(parts: &[&[u8]]) -> Origin {
    const SEED: u128 = 0x7369_6465_746f_6e65_6f72_6967_696e_3031;
    Origin(
        sidetone_sip::entropy::Entropy::new(SEED)
            .digest(parts)
            .to_be_bytes(),
    )
}
