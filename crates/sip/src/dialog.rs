//! Dialogs in the role of the server that was asked first (RFC 3261 §12).
//!
//! *Invariant: the route set never changes after the dialog is made*; the remote target does,
//! by requests that refresh it. What a dialog keeps is bounded.

use bytes::Bytes;

use crate::name_addr::open_ended;
use crate::{Contact, HeaderName, Malformed, Message, NameAddr, RequestBuilder, Uri};

/// The longest texts that one dialog keeps, all together.
const OCTETS_MAX: usize = 8_192;
/// Proxies that may want to stay on the way.
const ROUTES_MAX: usize = 20;

/// The state of one dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    call_id: Box<[u8]>,
    local_tag: Box<str>,
    remote_tag: Box<str>,
    /// The value of From in our requests, with our tag.
    local: Box<[u8]>,
    /// The value of To in our requests.
    remote: Box<[u8]>,
    target: Box<str>,
    /// URIs with their brackets and parameters.
    routes: Box<[Box<str>]>,
    local_cseq: u32,
    remote_cseq: u32,
}

/// A dialog as plain data, to be kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialogParts {
    /// The Call-ID.
    pub call_id: Vec<u8>,
    /// Our tag.
    pub local_tag: String,
    /// The peer's.
    pub remote_tag: String,
    /// From of our requests, with our tag.
    pub local: Vec<u8>,
    /// To of our requests.
    pub remote: Vec<u8>,
    /// The peer's Contact.
    pub target: String,
    /// The route set: URIs with their brackets and parameters.
    pub routes: Vec<String>,
    /// The number of our latest request.
    pub local_cseq: u32,
    /// The number of the peer's latest request.
    pub remote_cseq: u32,
}

/// A request that lacks nothing but its Via.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogRequest {
    /// The method's name.
    pub method: &'static str,
    /// The Request-URI.
    pub uri: String,
    /// The URI of where it goes: the first route or else the remote target.
    pub next_hop: String,
    /// Header fields, in order.
    pub fields: Vec<(&'static str, Vec<u8>)>,
    /// Content-Type and body.
    pub body: Option<(&'static str, Vec<u8>)>,
}

impl DialogRequest {
    /// Adds a field.
    pub fn push(&mut self, name: &'static str, value: impl Into<Vec<u8>>) {
        self.fields.push((name, value.into()));
    }

    /// The request on the wire; `via` is the value of its Via, with the branch.
    #[must_use]
    pub fn build(&self, via: &str) -> Bytes {
        let mut builder = RequestBuilder::new(self.method, &self.uri)
            .header("Via", via)
            .header("Max-Forwards", "70");
        for (name, value) in &self.fields {
            builder = builder.header(name, value);
        }
        match &self.body {
            Some((content_type, body)) => builder.body(content_type, body).finish(),
            None => builder.finish(),
        }
    }
}

impl Dialog {
    /// The dialog that a 2xx with this tag makes of a request (RFC 3261 §12.1.1).
    ///
    /// # Errors
    /// Where the request lacks what a dialog needs, or wants more kept than is kept.
    pub fn accept(request: &Message, local_tag: &str) -> Result<Self, Malformed> {
        let raw = |name, missing| request.header(name).ok_or(Malformed(missing));
        let to = raw(HeaderName::To, "no To")?;
        if request.to()?.tag().is_some() {
            return Err(Malformed("within a dialog already"));
        }
        let remote = raw(HeaderName::From, "no From")?;
        let dialog = Self {
            call_id: request.call_id().into(),
            local_tag: local_tag.into(),
            // RFC 3261 §12.1.1: a peer of RFC 2543 has no tag.
            remote_tag: request.from()?.tag().unwrap_or_default().into(),
            local: [open_ended(to), b";tag=", local_tag.as_bytes()]
                .concat()
                .into(),
            remote: remote.into(),
            target: target(request)?.ok_or(Malformed("no Contact"))?,
            routes: routes(request)?,
            local_cseq: 0,
            remote_cseq: request.cseq()?.number,
        };
        dialog.check_size()?;
        Ok(dialog)
    }

    /// As plain data.
    #[must_use]
    pub fn parts(&self) -> DialogParts {
        DialogParts {
            call_id: self.call_id.to_vec(),
            local_tag: self.local_tag.to_string(),
            remote_tag: self.remote_tag.to_string(),
            local: self.local.to_vec(),
            remote: self.remote.to_vec(),
            target: self.target.to_string(),
            routes: self.routes.iter().map(ToString::to_string).collect(),
            local_cseq: self.local_cseq,
            remote_cseq: self.remote_cseq,
        }
    }

    /// The inverse of [`Dialog::parts`].
    #[must_use]
    pub fn from_parts(parts: DialogParts) -> Self {
        Self {
            call_id: parts.call_id.into(),
            local_tag: parts.local_tag.into(),
            remote_tag: parts.remote_tag.into(),
            local: parts.local.into(),
            remote: parts.remote.into(),
            target: parts.target.into(),
            routes: parts.routes.into_iter().map(Into::into).collect(),
            local_cseq: parts.local_cseq,
            remote_cseq: parts.remote_cseq,
        }
    }

    /// The number of our latest request.
    #[must_use]
    pub fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    fn check_size(&self) -> Result<(), Malformed> {
        let routes: usize = self.routes.iter().map(|route| route.len()).sum();
        let texts = self.call_id.len() + self.local.len() + self.remote.len();
        match texts + routes + self.target.len() > OCTETS_MAX {
            true => Err(Malformed("more than a dialog keeps")),
            false => Ok(()),
        }
    }

    /// The Call-ID.
    #[must_use]
    pub fn call_id(&self) -> &[u8] {
        &self.call_id
    }

    /// Our tag.
    #[must_use]
    pub fn local_tag(&self) -> &str {
        &self.local_tag
    }

    /// Whether a request of the peer belongs here (RFC 3261 §12.2.2).
    #[must_use]
    pub fn is_of(&self, request: &Message) -> bool {
        let tags = |tag: Option<&str>, own: &str| tag.unwrap_or_default() == own;
        *request.call_id() == *self.call_id
            && request.to().is_ok_and(|to| tags(to.tag(), &self.local_tag))
            && request
                .from()
                .is_ok_and(|from| tags(from.tag(), &self.remote_tag))
    }

    /// Takes in a request of the peer that refreshes the target (RFC 3261 §12.2.2).
    ///
    /// # Errors
    /// With the status to answer: 500 for one that was overtaken, 400 for a broken one; the
    /// dialog is then as it was.
    pub fn refresh(&mut self, request: &Message) -> Result<(), u16> {
        let cseq = request.cseq().map_err(|_| 400u16)?.number;
        if cseq <= self.remote_cseq {
            return Err(500);
        }
        let target = target(request).map_err(|_| 400u16)?;
        if target
            .as_ref()
            .is_some_and(|target| target.len() > OCTETS_MAX)
        {
            return Err(400);
        }
        self.remote_cseq = cseq;
        if let Some(target) = target {
            self.target = target;
        }
        Ok(())
    }

    /// The next request of ours within the dialog (RFC 3261 §12.2.1.1).
    pub fn request(&mut self, method: &'static str) -> DialogRequest {
        self.local_cseq = self.local_cseq.saturating_add(1);
        let mut request = self.routed(method);
        request.push("From", &*self.local);
        request.push("To", &*self.remote);
        request.push("Call-ID", &*self.call_id);
        request.push("CSeq", format!("{} {method}", self.local_cseq));
        request
    }

    fn routed(&self, method: &'static str) -> DialogRequest {
        let first = self.routes.first().map(|route| inner(route));
        let loose = first.is_none_or(|uri| Uri::parse(uri).is_ok_and(|uri| uri.is_loose_router()));
        let mut request = DialogRequest {
            method,
            uri: self.target.to_string(),
            next_hop: first.unwrap_or(&self.target).to_owned(),
            fields: Vec::with_capacity(self.routes.len() + 8),
            body: None,
        };
        for route in self.routes.iter().skip(usize::from(!loose)) {
            request.push("Route", route.as_bytes());
        }
        if let (false, Some(strict)) = (loose, first) {
            // A strict router wants itself in the Request-URI, and the target last.
            request.uri = strict.to_owned();
            request.push("Route", format!("<{}>", self.target));
        }
        request
    }
}

/// The URI between the brackets.
fn inner(route: &str) -> &str {
    NameAddr::parse(route.as_bytes()).map_or(route, |route| route.uri)
}

fn target(request: &Message) -> Result<Option<Box<str>>, Malformed> {
    let mut contacts = request.contacts();
    let target = match contacts.next().transpose()? {
        None => return Ok(None),
        Some(Contact::Star) => return Err(Malformed("Contact: * outside REGISTER")),
        Some(Contact::Addr(contact)) => contact,
    };
    if contacts.next().is_some() {
        return Err(Malformed("more than one Contact"));
    }
    if !target.parse_uri()?.is_sip() {
        return Err(Malformed("a Contact that is no SIP URI"));
    }
    Ok(Some(target.uri.into()))
}

/// RFC 3261 §12.1.1: Record-Route in the order of the request.
fn routes(request: &Message) -> Result<Box<[Box<str>]>, Malformed> {
    let mut routes = Vec::new();
    for route in request.record_routes() {
        let route = route?;
        if routes.len() == ROUTES_MAX {
            return Err(Malformed("more Record-Route than a dialog keeps"));
        }
        // A strict router would become the Request-URI (RFC 3261 §12.2.1.1).
        if !route.parse_uri()?.is_sip() {
            return Err(Malformed("a Record-Route that is no SIP URI"));
        }
        routes.push(format!("<{}>{}", route.uri, route.params.as_str()).into());
    }
    Ok(routes.into())
}

#[cfg(test)]
#[path = "dialog_tests.rs"]
mod tests;
