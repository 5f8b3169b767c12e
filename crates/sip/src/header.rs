//! Header field names.
//!
//! *Invariant*: a name maps to one variant whatever its case and whether or not it is compact
//! (RFC 3261 §7.3.3); one that is not in the table is `Other`, never an error.

use std::fmt;

macro_rules! header_names {
    ($($variant:ident $text:literal $($compact:literal)?),* $(,)?) => {
        /// The name of a header field.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum HeaderName {
            $(#[doc = $text] $variant,)*
            /// Any other name: its text stays with the message.
            Other,
        }

        const NAMES: &[(HeaderName, &str)] = &[$((HeaderName::$variant, $text),)*];
        const COMPACT: &[(HeaderName, u8)] = &[$($((HeaderName::$variant, $compact),)?)*];
    };
}

header_names! {
    Via "Via" b'v',
    From "From" b'f',
    To "To" b't',
    CallId "Call-ID" b'i',
    CSeq "CSeq",
    Contact "Contact" b'm',
    MaxForwards "Max-Forwards",
    Route "Route",
    RecordRoute "Record-Route",
    ContentLength "Content-Length" b'l',
    ContentType "Content-Type" b'c',
    ContentEncoding "Content-Encoding" b'e',
    ContentDisposition "Content-Disposition",
    ContentLanguage "Content-Language",
    Authorization "Authorization",
    ProxyAuthorization "Proxy-Authorization",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthenticate "Proxy-Authenticate",
    AuthenticationInfo "Authentication-Info",
    ProxyAuthenticationInfo "Proxy-Authentication-Info",
    Expires "Expires",
    MinExpires "Min-Expires",
    Require "Require",
    ProxyRequire "Proxy-Require",
    Supported "Supported" b'k',
    Unsupported "Unsupported",
    Accept "Accept",
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    AcceptContact "Accept-Contact" b'a',
    RejectContact "Reject-Contact" b'j',
    RequestDisposition "Request-Disposition" b'd',
    AlertInfo "Alert-Info",
    Allow "Allow",
    AllowEvents "Allow-Events" b'u',
    CallInfo "Call-Info",
    Date "Date",
    ErrorInfo "Error-Info",
    Event "Event" b'o',
    FlowTimer "Flow-Timer",
    HistoryInfo "History-Info",
    Diversion "Diversion",
    Identity "Identity" b'y',
    InReplyTo "In-Reply-To",
    Join "Join",
    MimeVersion "MIME-Version",
    MinSe "Min-SE",
    Organization "Organization",
    PAssertedIdentity "P-Asserted-Identity",
    PPreferredIdentity "P-Preferred-Identity",
    PAssociatedUri "P-Associated-URI",
    Path "Path",
    ServiceRoute "Service-Route",
    Priority "Priority",
    Privacy "Privacy",
    RAck "RAck",
    RSeq "RSeq",
    Reason "Reason",
    ReferTo "Refer-To" b'r',
    ReferredBy "Referred-By" b'b',
    ReferSub "Refer-Sub",
    RemotePartyId "Remote-Party-ID",
    Replaces "Replaces",
    ReplyTo "Reply-To",
    RetryAfter "Retry-After",
    Server "Server",
    UserAgent "User-Agent",
    SessionExpires "Session-Expires" b'x',
    SessionId "Session-ID",
    SipEtag "SIP-ETag",
    SipIfMatch "SIP-If-Match",
    Subject "Subject" b's',
    SubscriptionState "Subscription-State",
    TargetDialog "Target-Dialog",
    Timestamp "Timestamp",
    UserToUser "User-to-User",
    Warning "Warning",
}

const BUCKETS: usize = 256;
const VACANT: u8 = u8::MAX;

const fn bucket(name: &[u8]) -> usize {
    let last = name.len() - 1;
    let mix = (name[0] | 0x20) as usize * 7
        + (name[last] | 0x20) as usize * 31
        + (name[last / 2] | 0x20) as usize * 67
        + name.len() * 13;
    mix % BUCKETS
}

/// Open addressing over the names, built at compile time: bucket → index into `NAMES`.
const INDEX: [u8; BUCKETS] = {
    assert!(NAMES.len() < 120, "one presence bit per name in a u128");
    let mut index = [VACANT; BUCKETS];
    let mut at = 0;
    while at < NAMES.len() {
        let mut slot = bucket(NAMES[at].1.as_bytes());
        while index[slot] != VACANT {
            slot = (slot + 1) % BUCKETS;
        }
        #[allow(clippy::cast_possible_truncation)] // fewer than 120 names
        let entry = at as u8;
        index[slot] = entry;
        at += 1;
    }
    index
};

const COMPACT_INDEX: [HeaderName; 26] = {
    let mut index = [HeaderName::Other; 26];
    let mut at = 0;
    while at < COMPACT.len() {
        index[(COMPACT[at].1 - b'a') as usize] = COMPACT[at].0;
        at += 1;
    }
    index
};

impl HeaderName {
    /// The name that this text stands for, compact or not, in any case.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        match text {
            [] => Self::Other,
            [letter] if letter.is_ascii_alphabetic() => {
                COMPACT_INDEX[usize::from((letter | 0x20) - b'a')]
            }
            _ => Self::probe(text),
        }
    }

    fn probe(text: &[u8]) -> Self {
        let mut slot = bucket(text);
        while INDEX[slot] != VACANT {
            let (name, canonical) = NAMES[usize::from(INDEX[slot])];
            let canonical = canonical.as_bytes();
            if canonical == text || canonical.eq_ignore_ascii_case(text) {
                return name;
            }
            slot = (slot + 1) % BUCKETS;
        }
        Self::Other
    }

    /// The long form as it is written; empty for `Other`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        NAMES.get(self as usize).map_or("", |(_, text)| text)
    }

    /// One bit per known name, to tell absence without a scan.
    pub(crate) const fn bit(self) -> u128 {
        1u128 << (self as u8)
    }

    /// The bits of headers that a message may hold once only and that are no lists (RFC 3261 §7.3.1, §20).
    pub(crate) const SINGLE: u128 = {
        const NAMES: [HeaderName; 12] = [
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::CSeq,
            HeaderName::MaxForwards,
            HeaderName::ContentType,
            HeaderName::Expires,
            HeaderName::Event,
            HeaderName::ReferTo,
            HeaderName::Replaces,
            HeaderName::RAck,
            HeaderName::RSeq,
        ];
        let mut bits = 0;
        let mut at = 0;
        while at < NAMES.len() {
            bits |= NAMES[at].bit();
            at += 1;
        }
        bits
    };
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for (name, text) in NAMES {
            assert_eq!(HeaderName::parse(text.as_bytes()), *name);
            assert_eq!(HeaderName::parse(text.to_uppercase().as_bytes()), *name);
            assert_eq!(HeaderName::parse(text.to_lowercase().as_bytes()), *name);
            assert_eq!(name.as_str(), *text);
        }
        assert_eq!(HeaderName::parse(b"X-Unheard-Of"), HeaderName::Other);
        assert_eq!(HeaderName::parse(b""), HeaderName::Other);
        assert_eq!(HeaderName::parse(b"="), HeaderName::Other);
        assert_eq!(HeaderName::Other.as_str(), "");
    }

    #[test]
    fn compact_forms_map_to_the_same_variant() {
        for (name, letter) in COMPACT {
            assert_eq!(HeaderName::parse(&[*letter]), *name);
            assert_eq!(HeaderName::parse(&[letter.to_ascii_uppercase()]), *name);
        }
        assert_eq!(HeaderName::parse(b"z"), HeaderName::Other);
    }
}
