//! Typed views of header fields, made when asked.
//!
//! *Invariant*: a view borrows the message; of those that are asked for again and again the offsets are remembered.

use std::cell::Cell;

use super::Message;
use super::seen::{SeenAddress, SeenVia};
use crate::grammar::{is_lws, is_token, number, seconds, trim, utf8};
use crate::{Contact, HeaderName, Malformed, Method, NameAddr, Via};

/// The CSeq header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2³¹ (RFC 3261 §8.1.1.5).
    pub number: u32,
    /// The method.
    pub method: Method,
    /// The method as on the wire.
    pub method_text: &'a str,
}

impl<'a> CSeq<'a> {
    fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let gap = value
            .iter()
            .position(|octet| is_lws(*octet))
            .ok_or(Malformed("CSeq"))?;
        let number = number(&value[..gap])
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number < 1 << 31)
            .ok_or(Malformed("CSeq number"))?;
        let method = trim(&value[gap..]);
        if !is_token(method) {
            return Err(Malformed("CSeq method"));
        }
        Ok(Self {
            number,
            method: Method::parse(method),
            method_text: utf8(method)?,
        })
    }
}

impl Message {
    /// The topmost Via.
    ///
    /// # Errors
    /// Where there is none or it is malformed.
    pub fn top_via(&self) -> Result<Via<'_>, Malformed> {
        match self.seen.via.get() {
            Some(seen) => seen.view(self),
            None => self.vias().next().unwrap_or(Err(Malformed("no Via"))),
        }
    }

    /// All Vias, topmost first.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, Malformed>> {
        let values = self.values(HeaderName::Via).enumerate();
        values.map(|(place, value)| match place {
            0 => self.first_via(value),
            _ => Via::parse(value),
        })
    }

    fn first_via<'a>(&'a self, value: &'a [u8]) -> Result<Via<'a>, Malformed> {
        if let Some(seen) = self.seen.via.get() {
            return seen.view(self);
        }
        let via = Via::parse(value)?;
        self.seen.via.set(Some(SeenVia::of(self, &via)));
        Ok(via)
    }

    /// The From header.
    ///
    /// # Errors
    /// Where there is none or it is malformed.
    pub fn from(&self) -> Result<NameAddr<'_>, Malformed> {
        self.address(&self.seen.from, HeaderName::From, "no From")
    }

    /// The To header.
    ///
    /// # Errors
    /// Where there is none or it is malformed.
    pub fn to(&self) -> Result<NameAddr<'_>, Malformed> {
        self.address(&self.seen.to, HeaderName::To, "no To")
    }

    fn address(
        &self,
        seen: &Cell<Option<SeenAddress>>,
        name: HeaderName,
        absent: &'static str,
    ) -> Result<NameAddr<'_>, Malformed> {
        if let Some(seen) = seen.get() {
            return seen.view(self);
        }
        let address = NameAddr::parse(self.header(name).ok_or(Malformed(absent))?)?;
        seen.set(Some(SeenAddress::of(self, &address)));
        Ok(address)
    }

    /// The Call-ID; empty if absent.
    #[must_use]
    pub fn call_id(&self) -> &[u8] {
        self.header(HeaderName::CallId).unwrap_or(b"")
    }

    /// The CSeq header.
    ///
    /// # Errors
    /// Where there is none, its number is 2³¹ or more, or it is malformed.
    pub fn cseq(&self) -> Result<CSeq<'_>, Malformed> {
        CSeq::parse(self.header(HeaderName::CSeq).ok_or(Malformed("no CSeq"))?)
    }

    /// Max-Forwards, where there is one.
    ///
    /// # Errors
    /// Where it is no number up to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, Malformed> {
        let value = self.header(HeaderName::MaxForwards);
        let narrow = |value| number(value).and_then(|number| u8::try_from(number).ok());
        value
            .map(|value| narrow(value).ok_or(Malformed("Max-Forwards")))
            .transpose()
    }

    /// Expires in seconds, where there is one; more than 2³²−1 is taken as that.
    ///
    /// # Errors
    /// Where it is no number.
    pub fn expires(&self) -> Result<Option<u32>, Malformed> {
        self.header(HeaderName::Expires)
            .map(|value| seconds(value).ok_or(Malformed("Expires")))
            .transpose()
    }

    /// All Contact values.
    pub fn contacts(&self) -> impl Iterator<Item = Result<Contact<'_>, Malformed>> {
        self.values(HeaderName::Contact).map(Contact::parse)
    }

    /// All Route values.
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'_>, Malformed>> {
        self.addresses(HeaderName::Route)
    }

    /// All Record-Route values.
    pub fn record_routes(&self) -> impl Iterator<Item = Result<NameAddr<'_>, Malformed>> {
        self.addresses(HeaderName::RecordRoute)
    }

    /// All Path values (RFC 3327).
    pub fn paths(&self) -> impl Iterator<Item = Result<NameAddr<'_>, Malformed>> {
        self.addresses(HeaderName::Path)
    }

    /// All values of a header that lists addresses.
    pub fn addresses(
        &self,
        name: HeaderName,
    ) -> impl Iterator<Item = Result<NameAddr<'_>, Malformed>> {
        self.values(name).map(NameAddr::parse)
    }

    /// The media type of the body, with its parameters.
    #[must_use]
    pub fn content_type(&self) -> Option<&[u8]> {
        self.header(HeaderName::ContentType)
    }

    /// The tokens of a list header such as Supported or Require; what is not text is passed over.
    pub fn option_tags(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.values(name)
            .filter_map(|value| utf8(value).ok())
            .filter(|tag| !tag.is_empty())
    }
}
