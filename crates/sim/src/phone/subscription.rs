//! A phone's subscriptions (RFC 6665), in the role of the subscriber, and what it publishes (RFC 3903).
//!
//! *Invariant*: the latest subscription that was accepted is the one that is prolonged and ended.

use sidetone_sip::Message;

use super::client::Request;
use super::dialog::Dialog;
use super::{Phone, Seen};

/// A subscription that somebody else may try to use.
#[derive(Debug, Clone)]
pub struct Overheard(Dialog);

impl Phone {
    /// Watches the registrations of a user; 0 seconds only asks once.
    pub fn subscribe(&mut self, user: &str, seconds: u32) {
        self.watch("reg", user, seconds);
    }

    /// Watches anything of a user.
    pub fn watch(&mut self, event: &'static str, user: &str, seconds: u32) {
        self.event = event;
        let uri = format!("sip:{user}@{}", self.identity.domain);
        let request = self.request("SUBSCRIBE", uri);
        self.start_subscribe(request, seconds);
    }

    /// Prolongs the subscription, or ends it with 0; whether there is one.
    pub fn resubscribe(&mut self, seconds: u32) -> bool {
        self.cseq += 1;
        let cseq = self.cseq;
        let dialog = self.watches.last();
        let Some(request) = dialog.and_then(|dialog| dialog.request("SUBSCRIBE", cseq)) else {
            return false;
        };
        self.start_subscribe(request, seconds);
        true
    }

    /// Goes on as if its subscription had been given another tag.
    pub fn forge_subscription(&mut self, tag: &str) {
        if let Some(dialog) = self.watches.last_mut() {
            dialog.remote_tag = tag.to_owned();
        }
    }

    /// Its subscription, as somebody who overhears everything knows it.
    #[must_use]
    pub fn overheard(&self) -> Option<Overheard> {
        self.watches.last().cloned().map(Overheard)
    }

    /// Takes another phone's subscription for its own.
    pub fn steal_subscription(&mut self, overheard: Option<Overheard>) {
        self.watches.extend(overheard.map(|overheard| overheard.0));
    }

    fn start_subscribe(&mut self, mut request: Request, seconds: u32) {
        request.headers = vec![
            ("Contact", self.contact()),
            ("Event", self.event.to_owned()),
            ("Accept", accepted(self.event).to_owned()),
            ("Expires", seconds.to_string()),
        ];
        self.start(request);
    }

    /// Publishes its user's presence; without a document it refreshes what it published, 0 seconds take it back.
    pub fn publish(&mut self, document: Option<&str>, seconds: u32) {
        let uri = format!("sip:{}@{}", self.identity.user, self.identity.domain);
        let mut request = self.request("PUBLISH", uri);
        request.headers = vec![
            ("Event", "presence".to_owned()),
            ("Expires", seconds.to_string()),
        ];
        let etag = self.etag.clone();
        request
            .headers
            .extend(etag.map(|etag| ("SIP-If-Match", etag)));
        request.body = document.map(|text| ("application/pidf+xml", text.to_owned()));
        self.start(request);
    }

    /// A PUBLISH was answered 2xx.
    pub(super) fn published(&mut self, answer: &Message) {
        let etag = answer.header_by_name("SIP-ETag");
        self.etag = etag.map(|etag| String::from_utf8_lossy(etag).into_owned());
    }

    /// A SUBSCRIBE was answered 2xx: outside of a dialog that makes one.
    pub(super) fn subscribed(&mut self, answer: &Message, from_tag: &str) {
        let known = |dialog: &Dialog| dialog.call_id.as_bytes() == answer.call_id();
        if !self.watches.iter().any(known) {
            self.watches.extend(Dialog::new(answer, from_tag));
        }
    }

    pub(super) fn notified(&mut self, request: &Message) {
        let state = request.header_by_name("Subscription-State");
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        self.seen.push(Seen::Notify {
            state: text(state.unwrap_or_default()),
            body: text(request.body_bytes()),
        });
    }

    /// What it was notified of: the state and the document of each NOTIFY.
    #[must_use]
    pub fn notified_of(&self) -> Vec<(&str, &str)> {
        let notify = |seen: &'_ Seen| matches!(seen, Seen::Notify { .. });
        let all = self.seen.iter().filter(|seen| notify(seen));
        all.map(|seen| match seen {
            Seen::Notify { state, body } => (state.as_str(), body.as_str()),
            _ => ("", ""),
        })
        .collect()
    }
}

fn accepted(event: &str) -> &'static str {
    match event {
        "presence" => "application/pidf+xml",
        "dialog" => "application/dialog-info+xml",
        "message-summary" => "application/simple-message-summary",
        _ => "application/reginfo+xml",
    }
}
