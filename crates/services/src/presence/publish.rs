//! PUBLISH (RFC 3903 §6): what it asks for, and what it is answered.
//!
//! *Invariant*: a publication is named by one entity-tag at a time, which every PUBLISH replaces.

use sidetone_model::{AccountId, DeviceId, Publication};
use sidetone_sip::{HeaderName, Message};

use super::published::{Published, Statement};
use crate::events::EventAnswer;

/// The type of published documents.
pub(super) const CONTENT_TYPE: &str = "application/pidf+xml";

/// What is accepted.
#[derive(Debug, Clone, Copy)]
pub struct PublishLimits {
    /// Publications of one account.
    pub per_account: usize,
    /// Octets of one document.
    pub octets: usize,
    /// Shorter ones are refused with 423.
    pub min_expires_s: u32,
    /// Longer ones are made so long.
    pub max_expires_s: u32,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self {
            per_account: 16,
            octets: 16 * 1024,
            min_expires_s: 60,
            max_expires_s: 3_600,
        }
    }
}

/// The answer to a PUBLISH, and whether anything has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishAnswer {
    /// What to answer.
    pub answer: EventAnswer,
    /// Whoever watches is to be told.
    pub changed: bool,
}

impl From<EventAnswer> for PublishAnswer {
    fn from(answer: EventAnswer) -> Self {
        let changed = false;
        Self { answer, changed }
    }
}

/// A publication and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) publication: Publication,
    pub(super) statement: Statement,
}

impl Kept {
    pub(super) fn new(publication: Publication) -> Option<Self> {
        let published = Published::parse(&publication.body)?;
        let statement = published.by(publication.device, publication.expires_at_ms);
        Some(Self {
            publication,
            statement,
        })
    }
}

/// What a PUBLISH asks for.
#[derive(Debug)]
pub(super) struct Request<'m> {
    pub(super) etag: Option<&'m str>,
    /// `None`: nothing but a refresh or removal.
    pub(super) body: Option<&'m str>,
    pub(super) expires_s: u32,
}

impl<'m> Request<'m> {
    /// RFC 3903 §6 steps 3 to 5, as far as they do not depend on what is kept.
    pub(super) fn read(message: &'m Message, limits: &PublishLimits) -> Result<Self, EventAnswer> {
        let wanted = message
            .expires()
            .map_err(|_| EventAnswer::new(400, "Expires is no number"))?
            .unwrap_or(limits.max_expires_s);
        if wanted > 0 && wanted < limits.min_expires_s {
            let answer = EventAnswer::new(423, "shorter than allowed");
            return Err(answer.with("Min-Expires", limits.min_expires_s));
        }
        let etag = message
            .header(HeaderName::SipIfMatch)
            .map(std::str::from_utf8);
        let etag = etag.transpose();
        let etag = etag.map_err(|_| EventAnswer::new(412, "no such publication"))?;
        let request = Self {
            etag: etag.map(str::trim),
            body: body(message, limits)?,
            expires_s: wanted.min(limits.max_expires_s),
        };
        match (request.etag, request.body) {
            (None, None) => Err(EventAnswer::new(400, "a first PUBLISH without a document")),
            (None, Some(_)) if wanted == 0 => {
                Err(EventAnswer::new(400, "a first PUBLISH that ends at once"))
            }
            _ => Ok(request),
        }
    }
}

fn body<'m>(message: &'m Message, limits: &PublishLimits) -> Result<Option<&'m str>, EventAnswer> {
    let octets = message.body_bytes();
    if octets.is_empty() {
        return Ok(None);
    }
    if octets.len() > limits.octets {
        return Err(EventAnswer::new(413, "the document is too large"));
    }
    let named = message.content_type().unwrap_or_default();
    let named = named
        .split(|octet| *octet == b';')
        .next()
        .unwrap_or_default();
    if !named
        .trim_ascii()
        .eq_ignore_ascii_case(CONTENT_TYPE.as_bytes())
    {
        let answer = EventAnswer::new(415, "presence is published as PIDF");
        return Err(answer.with("Accept", CONTENT_TYPE));
    }
    let text = std::str::from_utf8(octets);
    text.map(Some)
        .map_err(|_| EventAnswer::new(400, "the document is no UTF-8"))
}

/// Does what a PUBLISH asks for; `etag` is new. Returns the entity-tag that is no more.
pub(super) fn apply(
    kept: &mut Vec<Kept>,
    request: &Request<'_>,
    who: (AccountId, DeviceId),
    etag: String,
    now_ms: u64,
    limits: &PublishLimits,
) -> Result<(EventAnswer, Option<String>), EventAnswer> {
    kept.retain(|one| one.publication.expires_at_ms > now_ms);
    let (account, device) = who;
    let place = match request.etag {
        None => None,
        Some(named) => {
            let is = |one: &Kept| one.publication.etag == named && one.publication.device == device;
            let place = kept.iter().position(is);
            Some(place.ok_or(EventAnswer::new(412, "no such publication"))?)
        }
    };
    let accepted = EventAnswer::new(200, "");
    let accepted = accepted
        .with("SIP-ETag", &etag)
        .with("Expires", request.expires_s);
    let before = place.and_then(|place| kept.get(place)).cloned();
    let gone = before.as_ref().map(|one| one.publication.etag.clone());
    if request.expires_s == 0 {
        place.into_iter().for_each(|place| drop(kept.remove(place)));
        return Ok((accepted, gone));
    }
    if before.is_none() && kept.len() >= limits.per_account {
        let answer = EventAnswer::new(503, "too many publications");
        return Err(answer.with("Retry-After", 60));
    }
    let earlier = before.as_ref().map(|one| one.publication.body.as_str());
    let body = request.body.or(earlier).unwrap_or_default().to_owned();
    let publication = Publication {
        etag,
        account,
        device,
        body,
        expires_at_ms: now_ms + u64::from(request.expires_s) * 1_000,
    };
    let new = Kept::new(publication);
    let new = new.ok_or(EventAnswer::new(400, "the document is no PIDF"))?;
    place.into_iter().for_each(|place| drop(kept.remove(place)));
    // The latest is the last: it counts for most.
    kept.push(new);
    Ok((accepted, gone))
}
