//! Subscriptions in the role of the notifier (RFC 6665 §4.2).
//!
//! *Invariant: every SUBSCRIBE that is accepted is followed by a NOTIFY*, also one that only
//! fetches (Expires: 0) or ends a subscription; after a NOTIFY with `terminated` there is none.

use crate::dialog::{Dialog, DialogParts, DialogRequest};
use crate::grammar::trim;
use crate::{HeaderName, Message, Params};

/// The longest `id` of an Event that is kept.
const EVENT_ID_MAX: usize = 256;

/// An event package as it is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notifier {
    /// The package's name.
    pub event: &'static str,
    /// The type of the bodies.
    pub content_type: &'static str,
    /// Shorter subscriptions are refused with 423; at most 3600 (RFC 6665 §4.2.1.1).
    pub min_expires_s: u32,
    /// Longer ones are made so long.
    pub max_expires_s: u32,
    /// For requests that name no time.
    pub default_expires_s: u32,
}

/// Header fields of an answer beside the usual ones.
pub type AnswerHeaders = Vec<(&'static str, String)>;

/// The answer that refuses a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub status: u16,
    /// Why, for people.
    pub reason: &'static str,
    /// Fields that go with it.
    pub headers: AnswerHeaders,
}

impl Refused {
    fn new(status: u16, reason: &'static str) -> Self {
        let headers = Vec::new();
        Self {
            status,
            reason,
            headers,
        }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// Why a subscription ends (RFC 6665 §4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Termination {
    /// Subscribe again at once.
    Deactivated,
    /// What was subscribed to is no more.
    NoResource,
    /// Not allowed any longer.
    Rejected,
    /// It was not refreshed, or was ended by the subscriber.
    Timeout,
}

impl Termination {
    fn as_str(self) -> &'static str {
        match self {
            Self::Deactivated => "deactivated",
            Self::NoResource => "noresource",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
        }
    }
}

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    dialog: Dialog,
    /// The value of Event, with the subscriber's `id`.
    event: Box<str>,
    /// The URI of our Contact.
    contact: Box<str>,
    expires_at_ms: u64,
}

/// A subscription as plain data, to be kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionParts {
    /// Its dialog.
    pub dialog: DialogParts,
    /// The value of Event, with the subscriber's `id`.
    pub event: String,
    /// The URI of our Contact.
    pub contact: String,
    /// When it ends, unless it is refreshed.
    pub expires_at_ms: u64,
}

impl Notifier {
    /// A SUBSCRIBE outside any dialog: the subscription and the fields of its 200, which
    /// gets `tag` as its To tag and copies Record-Route.
    ///
    /// # Errors
    /// With the answer that refuses it.
    pub fn subscribe(
        &self,
        now_ms: u64,
        request: &Message,
        contact_uri: &str,
        tag: &str,
    ) -> Result<(Subscription, AnswerHeaders), Refused> {
        if request.to().is_ok_and(|to| to.tag().is_some()) {
            return Err(Refused::new(481, "there is no such subscription"));
        }
        let event = self.event_of(request)?;
        self.check_accept(request)?;
        let expires_s = self.expires_s(request)?;
        let dialog =
            Dialog::accept(request, tag).map_err(|malformed| Refused::new(400, malformed.0))?;
        let subscription = Subscription {
            dialog,
            event,
            contact: contact_uri.into(),
            expires_at_ms: now_ms + u64::from(expires_s) * 1_000,
        };
        let headers = subscription.headers(expires_s);
        Ok((subscription, headers))
    }

    /// A SUBSCRIBE within the dialog of `subscription`: the fields of its 200.
    ///
    /// # Errors
    /// With the answer that refuses it; the subscription is then as it was.
    pub fn refresh(
        &self,
        now_ms: u64,
        request: &Message,
        subscription: &mut Subscription,
    ) -> Result<AnswerHeaders, Refused> {
        let gone = Refused::new(481, "there is no such subscription");
        if !subscription.is_of(request) || self.event_of(request)? != subscription.event {
            return Err(gone);
        }
        self.check_accept(request)?;
        let expires_s = self.expires_s(request)?;
        subscription
            .dialog
            .refresh(request)
            .map_err(|status| Refused::new(status, "out of order or broken"))?;
        subscription.expires_at_ms = now_ms + u64::from(expires_s) * 1_000;
        Ok(subscription.headers(expires_s))
    }

    /// The next NOTIFY, which lacks its Via only. `ends` makes it the last one; so does the
    /// end of the subscription's time. `pending`: nobody has agreed to it yet (RFC 6665 §4.1.3).
    pub fn notify(
        &self,
        now_ms: u64,
        subscription: &mut Subscription,
        ends: Option<Termination>,
        pending: bool,
        body: Vec<u8>,
    ) -> DialogRequest {
        let timeout = subscription.is_over(now_ms).then_some(Termination::Timeout);
        let state = match ends.or(timeout) {
            Some(reason) => format!("terminated;reason={}", reason.as_str()),
            None if pending => format!("pending;expires={}", subscription.left_s(now_ms)),
            None => format!("active;expires={}", subscription.left_s(now_ms)),
        };
        let mut request = subscription.dialog.request("NOTIFY");
        request.push("Contact", format!("<{}>", subscription.contact));
        request.push("Event", subscription.event.as_bytes());
        request.push("Subscription-State", state);
        request.body = Some((self.content_type, body));
        request
    }

    /// Whether a request names this package in Event.
    #[must_use]
    pub fn is_named_by(&self, request: &Message) -> bool {
        self.params_of(request).is_some()
    }

    /// The parameters of Event, if it names this package.
    fn params_of<'m>(&self, request: &'m Message) -> Option<&'m str> {
        let value = std::str::from_utf8(request.header(HeaderName::Event)?).ok()?;
        let end = value.find(';').unwrap_or(value.len());
        let (name, params) = value.split_at(end);
        let same = trim(name.as_bytes()).eq_ignore_ascii_case(self.event.as_bytes());
        same.then_some(params)
    }

    /// The Event of a request, if it is ours (RFC 6665 §8.2.1).
    fn event_of(&self, request: &Message) -> Result<Box<str>, Refused> {
        let Some(params) = self.params_of(request) else {
            let refused = Refused::new(489, "this event is not served");
            return Err(refused.with("Allow-Events", self.event));
        };
        match Params::new(params).value("id") {
            Some(id) if id.len() > EVENT_ID_MAX => {
                Err(Refused::new(400, "the event's id is too long"))
            }
            Some(id) => Ok(format!("{};id={id}", self.event).into()),
            None => Ok(self.event.into()),
        }
    }

    /// RFC 6665 §4.1.2.1, RFC 3261 §20.1: without Accept, the package's own type is meant.
    fn check_accept(&self, request: &Message) -> Result<(), Refused> {
        let mut accepted = request.values(HeaderName::Accept).peekable();
        let all = accepted.peek().is_none();
        match all || accepted.any(|range| self.is_in(range)) {
            true => Ok(()),
            false => Err(Refused::new(406, "the event comes in another type")
                .with("Accept", self.content_type)),
        }
    }

    /// Whether a media range takes the package's type.
    fn is_in(&self, range: &[u8]) -> bool {
        let end = memchr::memchr(b';', range).unwrap_or(range.len());
        let range = trim(&range[..end]);
        let kind = self.content_type.split('/').next().unwrap_or_default();
        let any_of_kind = range.strip_suffix(b"/*");
        range == b"*/*"
            || any_of_kind.is_some_and(|range| range.eq_ignore_ascii_case(kind.as_bytes()))
            || range.eq_ignore_ascii_case(self.content_type.as_bytes())
    }

    /// RFC 6665 §4.2.1.1: never longer than was asked for.
    fn expires_s(&self, request: &Message) -> Result<u32, Refused> {
        let wanted = request
            .expires()
            .map_err(|_| Refused::new(400, "Expires is no number"))?
            .unwrap_or(self.default_expires_s);
        if wanted > 0 && wanted < self.min_expires_s {
            return Err(
                Refused::new(423, "shorter than allowed").with("Min-Expires", self.min_expires_s)
            );
        }
        Ok(wanted.min(self.max_expires_s))
    }
}

impl Subscription {
    /// As plain data.
    #[must_use]
    pub fn parts(&self) -> SubscriptionParts {
        SubscriptionParts {
            dialog: self.dialog.parts(),
            event: self.event.to_string(),
            contact: self.contact.to_string(),
            expires_at_ms: self.expires_at_ms,
        }
    }

    /// The inverse of [`Subscription::parts`].
    #[must_use]
    pub fn from_parts(parts: SubscriptionParts) -> Self {
        Self {
            dialog: Dialog::from_parts(parts.dialog),
            event: parts.event.into(),
            contact: parts.contact.into(),
            expires_at_ms: parts.expires_at_ms,
        }
    }

    /// Its dialog.
    #[must_use]
    pub fn dialog(&self) -> &Dialog {
        &self.dialog
    }

    /// Whether a request is within its dialog.
    #[must_use]
    pub fn is_of(&self, request: &Message) -> bool {
        self.dialog.is_of(request)
    }

    /// When it ends, unless it is refreshed.
    #[must_use]
    pub fn expires_at_ms(&self) -> u64 {
        self.expires_at_ms
    }

    /// Whether its time is over: the next NOTIFY is the last.
    #[must_use]
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.expires_at_ms <= now_ms
    }

    /// Whether this answer to a NOTIFY ends the subscription (RFC 6665 §4.2.2, RFC 5057 §5.1).
    #[must_use]
    pub fn ends_by(status: u16) -> bool {
        matches!(
            status,
            401 | 403 | 404 | 405 | 407 | 408 | 410 | 416 | 480..=485 | 489 | 501 | 600..=699
        )
    }

    fn left_s(&self, now_ms: u64) -> u64 {
        self.expires_at_ms.saturating_sub(now_ms) / 1_000
    }

    fn headers(&self, expires_s: u32) -> AnswerHeaders {
        vec![
            ("Contact", format!("<{}>", self.contact)),
            ("Expires", expires_s.to_string()),
        ]
    }
}

#[cfg(test)]
#[path = "subscription_tests.rs"]
mod tests;
