//! MESSAGE (RFC 3428): committed, then answered, then delivered.
//!
//! *Invariant*: a 2xx is sent only after the store said that the message is committed.

use std::time::{Duration, UNIX_EPOCH};

use sidetone_model::{AccountId, AddressOfRecord, DeviceId, MessageId, NewMessage, Origin};
use sidetone_services::carried::{Asked, Carried, Said, Unfit};
use sidetone_services::{AccountRef, PostError, any_address};
use sidetone_sip::{Flow, Message, Method, ServerId, escape_user};

use super::request::Sender;
use super::{Now, Shard, Want};

/// A MESSAGE that waits for the store.
pub(super) struct Unstored {
    server: ServerId,
    flow: Flow,
    request: Message,
    /// It is a message, and no more than a hint.
    kept: bool,
    /// It will be delivered now, as far as we know.
    reachable: bool,
}

/// Whom a MESSAGE is for.
pub(super) enum Addressee<'a> {
    Account(&'a AccountRef),
    Group(AddressOfRecord),
}

impl Addressee<'_> {
    fn address(&self) -> &AddressOfRecord {
        match self {
            Self::Account(account) => &account.address,
            Self::Group(address) => address,
        }
    }
}

/// Headers that go on to the recipient beside those that every message has.
const KEPT: &[&str] = &["Date", "Subject", "In-Reply-To", "Priority", "Organization"];
/// The same, of those that speak of the body.
const KEPT_OF_CONTENT: &[&str] = &[
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "MIME-Version",
];
/// What a MESSAGE may carry here; and anything else that its recipients understand.
const ACCEPT: &str =
    "text/plain, message/cpim, message/imdn+xml, application/im-iscomposing+xml, */*";

impl Shard {
    pub(super) fn message(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        sender: Sender,
        to: &Addressee<'_>,
    ) {
        if self.unstored.len() >= self.settings.max_unstored {
            return self.overloaded(flow, request);
        }
        if request.body_bytes().is_empty() && request.content_type().is_none() {
            return self.reply(flow, request, 400, "a MESSAGE without a body", &[]);
        }
        let Some(author) = self.author(request, sender) else {
            return self.reply(flow, request, 400, "From is no address", &[]);
        };
        let carried = match self.read_body(request, sender, &author) {
            Ok(carried) => carried,
            Err(unfit) => return self.unfit(flow, request, unfit),
        };
        let Some(server) = self.accept(now, flow, request) else {
            return;
        };
        let ticket = self.ticket();
        let unstored = Unstored {
            server,
            flow,
            request: request.clone(),
            kept: matches!(carried, Carried::Said(_)),
            reachable: self.is_reachable(now, to),
        };
        self.unstored.insert(ticket, unstored);
        let device = match sender {
            Sender::Device(device, _) => Some(device),
            Sender::Trusted | Sender::Stranger => None,
        };
        let want = match carried {
            Carried::Said(said) => {
                let mut message = Box::new(self.new_message(now, request, to, said, device));
                if matches!((to, device), (Addressee::Group(_), Some(_))) {
                    // A group is told who wrote, not what a phone calls itself.
                    message.from = uri_text(&author);
                }
                Want::Append {
                    author,
                    message,
                    ticket,
                }
            }
            Carried::Composing(indication) => Want::Composing {
                author,
                to: to.address().clone(),
                holds_s: indication.holds_for_seconds(),
                ticket,
            },
            Carried::Notification(notification) => Want::Notified {
                author,
                device,
                notification: Box::new(notification),
                ticket,
            },
        };
        self.want(want);
    }

    fn is_reachable(&self, now: Now, to: &Addressee<'_>) -> bool {
        match to {
            Addressee::Account(to) => {
                let location = &self.services.location;
                location.is_registered(&to.address, now.unix_ms)
            }
            Addressee::Group(_) => true,
        }
    }

    fn unfit(&mut self, flow: Flow, request: &Message, unfit: Unfit) {
        let accept = [("Accept", ACCEPT)];
        let headers: &[(&str, &str)] = if unfit.status == 415 { &accept } else { &[] };
        self.reply(flow, request, unfit.status, unfit.why, headers);
    }

    /// The address of the account that authenticated, or what somebody from elsewhere calls itself.
    fn author(&self, request: &Message, sender: Sender) -> Option<AddressOfRecord> {
        let services = &self.services;
        match sender {
            Sender::Device(_, account) => services.address_of(account),
            Sender::Trusted | Sender::Stranger => {
                let from = request.from().ok()?.uri;
                let ours = services.directory.resolve(&services.domains, from);
                ours.map(|account| account.address)
                    .or_else(|| any_address(from))
            }
        }
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
            .resolve(&services.domains, request.request_uri())
            .map(|account| account.address)
            .or_else(|| self.group_of(request));
        let known = |to| services.stored_before.contains(&origin_of(request, &to));
        request.method() == Some(Method::Message) && to.is_some_and(known)
    }

    fn new_message(
        &self,
        now: Now,
        request: &Message,
        to: &Addressee<'_>,
        said: Said,
        device: Option<DeviceId>,
    ) -> NewMessage {
        let (address, account) = match to {
            Addressee::Account(to) => (&to.address, to.account),
            Addressee::Group(address) => (address, AccountId(0)),
        };
        NewMessage {
            from: sender_text(request),
            to: address.clone(),
            account,
            received_ms: now.unix_ms,
            headers: kept_headers(now, request, &said, device),
            content_type: said.content_type,
            body: said.body,
            origin: origin_of(request, address),
            keyed: false,
            place: None,
        }
    }

    /// The store has it, or could not take it.
    pub(super) fn appended(&mut self, now: Now, ticket: u64, result: Result<MessageId, PostError>) {
        let Some(unstored) = self.unstored.remove(&ticket) else {
            return;
        };
        let Err(error) = result else {
            return self.stored(now, &unstored);
        };
        if matches!(error, PostError::Busy | PostError::Failed) {
            self.services.counters.overloaded.add();
        }
        let (status, why): (u16, &str) = match &error {
            PostError::Busy => (503, "the message could not be stored now"),
            PostError::Failed => (500, "the message could not be stored"),
            PostError::Refused(why) => (403, why),
            PostError::Blocked(why) => (403, why),
            PostError::Unknown => (403, "the sender is not in this group"),
        };
        let again = [("Retry-After", "5")];
        let headers: &[(&str, &str)] = if status == 503 { &again } else { &[] };
        let answer = self.answer(unstored.flow, &unstored.request, status, why, headers);
        self.endpoint
            .respond(now.instant, unstored.server, status, answer);
    }

    /// RFC 3428 §7: 200 when it will be delivered now, 202 when later.
    fn stored(&mut self, now: Now, unstored: &Unstored) {
        let kept = unstored.kept;
        if kept {
            self.services.counters.messages_stored.add();
        }
        let status = if unstored.reachable || !kept {
            200
        } else {
            202
        };
        let answer = self.answer(unstored.flow, &unstored.request, status, "", &[]);
        self.endpoint
            .respond(now.instant, unstored.server, status, answer);
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

fn uri_text(address: &AddressOfRecord) -> String {
    format!("<sip:{}@{}>", escape_user(address.user()), address.domain())
}

/// What lies with a message beside what every message has. In CPIM, what is said of the outer body is not.
fn kept_headers(now: Now, request: &Message, said: &Said, device: Option<DeviceId>) -> String {
    let mut out = String::new();
    let of_content = KEPT_OF_CONTENT.iter().filter(|_| said.asked.is_none());
    let over = |name: &&&str| said.decoded && **name == "Content-Encoding";
    for name in KEPT.iter().chain(of_content.filter(|name| !over(name))) {
        if let Some(value) = request.header_by_name(name) {
            let value = text(value).replace(['\r', '\n'], " ");
            out.extend([*name, ": ", &value, "\r\n"]);
        }
    }
    out.push_str(&said.headers);
    if let (Some(sent_ms), None) = (said.sent_ms, request.header_by_name("Date")) {
        // Nothing was sent after it came.
        let sent = UNIX_EPOCH + Duration::from_millis(sent_ms.min(now.unix_ms));
        out.extend(["Date: ", &httpdate::fmt_http_date(sent), "\r\n"]);
    }
    if let Some(asked) = said.asked.clone() {
        out.push_str(&Asked { device, ..asked }.write());
    }
    out
}

/// Not keyed: the same request has the same origin after a restart.
fn origin_of(request: &Message, to: &AddressOfRecord) -> Origin {
    let from = request.from().ok();
    let tag = from.and_then(|from| from.tag()).unwrap_or_default();
    let sender = from.map_or("", |from| from.uri);
    let cseq = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
    origin(&[
        sender.as_bytes(),
        request.call_id(),
        tag.as_bytes(),
        &cseq,
        to.as_str().as_bytes(),
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
