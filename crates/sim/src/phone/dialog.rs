//! A phone's dialogs (RFC 3261 §12): who hears requests, and by which way.
//!
//! *Invariant*: a dialog's route set is that of the first 2xx and never changes.

use std::net::SocketAddr;

use bytes::Bytes;
use sidetone_sip::{Contact, Message, NameAddr, Uri};

use super::client::Request;
use super::{Phone, Seen};

/// One call that was answered.
#[derive(Debug, Clone)]
pub(super) struct Dialog {
    pub(super) call_id: String,
    pub(super) local_tag: String,
    pub(super) remote_tag: String,
    remote_uri: String,
    target: String,
    routes: Vec<String>,
    /// The ACK, to be sent again for each 2xx that comes again.
    pub(super) ack: Option<(SocketAddr, Bytes)>,
    pub(super) ended: bool,
}

impl Dialog {
    /// From a 2xx that the caller got, or from the INVITE of a call that was answered.
    pub(super) fn new(message: &Message, local_tag: &str) -> Option<Self> {
        let caller = !message.is_request();
        let remote = if caller { message.to() } else { message.from() }.ok()?;
        let target = match message.contacts().next()?.ok()? {
            Contact::Addr(contact) => contact.uri.to_owned(),
            Contact::Star => return None,
        };
        let route = |route: NameAddr<'_>| format!("<{}>", route.uri);
        let mut routes: Vec<String> = message
            .record_routes()
            .filter_map(|one| one.ok().map(route))
            .collect();
        if caller {
            routes.reverse();
        }
        Some(Self {
            call_id: String::from_utf8_lossy(message.call_id()).into_owned(),
            local_tag: local_tag.to_owned(),
            remote_tag: remote.tag().unwrap_or_default().to_owned(),
            remote_uri: remote.uri.to_owned(),
            target,
            routes,
            ack: None,
            ended: false,
        })
    }

    /// A request within the dialog; all routes here are loose (RFC 3261 §12.2.1.1).
    pub(super) fn request(&self, method: &'static str, cseq: u32) -> Option<Request> {
        let next = self
            .routes
            .first()
            .map_or(self.target.as_str(), |route| route.trim_matches(['<', '>']));
        let next = Uri::parse(next).ok()?;
        let hop = SocketAddr::new(next.host_ip()?, next.port.unwrap_or(5060));
        Some(Request {
            method,
            uri: self.target.clone(),
            to: format!("<{}>;tag={}", self.remote_uri, self.remote_tag),
            call_id: self.call_id.clone(),
            cseq,
            from_tag: self.local_tag.clone(),
            routes: self.routes.clone(),
            headers: Vec::new(),
            body: None,
            hop,
            authorized: false,
        })
    }
}

impl Phone {
    /// Hangs up the latest call; whether there was one.
    pub fn bye(&mut self) -> bool {
        let Some(at) = self.dialogs.iter().rposition(|dialog| !dialog.ended) else {
            return false;
        };
        self.hang_up(at);
        true
    }

    pub(super) fn hang_up(&mut self, at: usize) {
        self.cseq += 1;
        self.dialogs[at].ended = true;
        if let Some(request) = self.dialogs[at].request("BYE", self.cseq) {
            self.start(request);
        }
    }

    /// A BYE came: whether it was for a call that goes on.
    pub(super) fn hung_up(&mut self, request: &Message) -> bool {
        let remote = request.from().ok().and_then(|from| from.tag());
        let local = request.to().ok().and_then(|to| to.tag());
        let found = self.dialogs.iter_mut().find(|dialog| {
            dialog.call_id.as_bytes() == request.call_id()
                && Some(dialog.local_tag.as_str()) == local
                && Some(dialog.remote_tag.as_str()) == remote
        });
        let Some(dialog) = found else {
            return false;
        };
        if !std::mem::replace(&mut dialog.ended, true) {
            self.seen.push(Seen::Bye);
        }
        true
    }

    /// Calls that go on.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.dialogs.iter().filter(|dialog| !dialog.ended).count()
    }
}
