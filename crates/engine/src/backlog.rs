//! What is put off when datagrams come faster than they are answered.
//!
//! A queue that is longer than the 500 ms after which clients repeat (T1, RFC 3261 §17.1.1.1) is
//! answered twice and grows by that. So once a socket has not been empty for [`PATIENCE`], new
//! registrations that bring no credentials are dropped unread: they have cost nothing yet and
//! come again, and who was challenged gets in.
//!
//! *Invariant*: nothing that anybody has waited for is dropped: credentials, calls, messages and
//! answers pass.

use std::time::{Duration, Instant};

use memchr::memmem;

/// How long a socket may be behind before anything is put off.
const PATIENCE: Duration = Duration::from_millis(120);
/// Repetitions of the line about it are this far apart.
const SILENCE: Duration = Duration::from_secs(60);

/// One socket's arrears.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    since: Option<Instant>,
    told: Option<Instant>,
}

impl Backlog {
    /// Notes a read of the socket; `full`: more may wait.
    pub(crate) fn note(&mut self, now: Instant, full: bool) {
        if full {
            self.since.get_or_insert(now);
        } else {
            self.since = None;
        }
    }

    /// Whether new registrations are put off now.
    pub(crate) fn is_long(&self, now: Instant) -> bool {
        let behind = |since| now.saturating_duration_since(since) >= PATIENCE;
        self.since.is_some_and(behind)
    }

    /// Whether it is time to say so.
    pub(crate) fn is_news(&mut self, now: Instant) -> bool {
        let silent = |told| now.saturating_duration_since(told) >= SILENCE;
        let news = self.told.is_none_or(silent);
        if news {
            self.told = Some(now);
        }
        news
    }
}

/// A REGISTER without credentials. (Names of header fields are in any case: of the first letter it is likely.)
pub(crate) fn can_wait(octets: &[u8]) -> bool {
    octets.starts_with(b"REGISTER ") && memmem::find(octets, b"uthorization:").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_that_is_behind_for_long_puts_anything_off() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut backlog = Backlog::default();
        backlog.note(at(0), true);
        assert!(!backlog.is_long(at(119)));
        assert!(backlog.is_long(at(120)));
        backlog.note(at(210), false);
        assert!(!backlog.is_long(at(500)));
        backlog.note(at(500), true);
        backlog.note(at(610), true);
        assert!(!backlog.is_long(at(610)));
        assert!(backlog.is_long(at(620)));
    }

    #[test]
    fn it_is_said_once_a_minute() {
        let start = Instant::now();
        let mut backlog = Backlog::default();
        assert!(backlog.is_news(start));
        assert!(!backlog.is_news(start + Duration::from_secs(59)));
        assert!(backlog.is_news(start + Duration::from_secs(60)));
    }

    #[test]
    fn who_was_challenged_does_not_wait_and_no_call_does() {
        assert!(can_wait(b"REGISTER sip:x SIP/2.0\r\nTo: <sip:a@x>\r\n\r\n"));
        assert!(!can_wait(
            b"REGISTER sip:x SIP/2.0\r\nAuthorization: Digest a\r\n\r\n"
        ));
        assert!(!can_wait(b"INVITE sip:x SIP/2.0\r\n\r\n"));
        assert!(!can_wait(b"SIP/2.0 200 OK\r\n\r\n"));
    }
}
