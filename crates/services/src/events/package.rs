//! The event packages that are served (RFC 6665 §5.4).
//!
//! *Invariant*: every package stands here once, with its name, its type and its pace.

use sidetone_sip::{HeaderName, Message, Notifier};

/// What Allow-Events says (RFC 6665 §8.2.2).
pub const ALLOW_EVENTS: &str = "presence, dialog, message-summary, reg";

/// An event package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Package {
    /// Registrations (RFC 3680): the one that tells changes.
    Registration,
    /// Presence (RFC 3856).
    Presence,
    /// Calls of a user (RFC 4235), for busy lamps.
    Dialog,
    /// Messages that wait (RFC 3842).
    MessageSummary,
}

static REGISTRATION: Notifier = Notifier {
    event: "reg",
    content_type: "application/reginfo+xml",
    min_expires_s: 60,
    max_expires_s: 86_400,
    // RFC 3680 §4.4.
    default_expires_s: 3_761,
};
static PRESENCE: Notifier = Notifier {
    event: "presence",
    content_type: "application/pidf+xml",
    min_expires_s: 60,
    max_expires_s: 86_400,
    // RFC 3856 §6.4.
    default_expires_s: 3_600,
};
static DIALOG: Notifier = Notifier {
    event: "dialog",
    content_type: "application/dialog-info+xml",
    min_expires_s: 60,
    max_expires_s: 86_400,
    // RFC 4235 §3.4.
    default_expires_s: 3_600,
};
static MESSAGE_SUMMARY: Notifier = Notifier {
    event: "message-summary",
    content_type: "application/simple-message-summary",
    min_expires_s: 60,
    max_expires_s: 86_400,
    // RFC 3842 §3.4 leaves it to us: "hours to days".
    default_expires_s: 86_400,
};

impl Package {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Registration,
        Self::Presence,
        Self::Dialog,
        Self::MessageSummary,
    ];

    /// How it is offered.
    pub fn notifier(self) -> &'static Notifier {
        match self {
            Self::Registration => &REGISTRATION,
            Self::Presence => &PRESENCE,
            Self::Dialog => &DIALOG,
            Self::MessageSummary => &MESSAGE_SUMMARY,
        }
    }

    /// Its name in Event.
    pub fn name(self) -> &'static str {
        self.notifier().event
    }

    /// The package of a name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|package| package.name().eq_ignore_ascii_case(name))
    }

    /// The package that a request names in Event.
    pub fn of(request: &Message) -> Option<Self> {
        let value = std::str::from_utf8(request.header(HeaderName::Event)?).ok()?;
        Self::named(value.split(';').next().unwrap_or_default().trim())
    }

    /// The least time between two NOTIFYs of a subscription.
    pub fn interval_ms(self) -> u64 {
        match self {
            // RFC 3680 §4.10, RFC 3856 §6.10.
            Self::Registration | Self::Presence => 5_000,
            // RFC 4235 §3.10, RFC 3842 §3.10.
            Self::Dialog | Self::MessageSummary => 1_000,
        }
    }
}
