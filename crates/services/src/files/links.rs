//! Links to files for phones, which cannot sign in: each names one event and ends.
//!
//! *Invariant*: a link that we did not make, or that was changed, or whose time has passed, leads nowhere; it is compared
//! in constant time.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use sidetone_model::EventId;

/// Octets of the signature that go into a link.
const SIGNATURE: usize = 16;
const OCTETS: usize = 8 + 8 + SIGNATURE;

/// Makes links and reads them.
#[derive(Clone)]
pub struct Links {
    key: [u8; 32],
    base: String,
    lifetime_s: u64,
}

impl Links {
    /// Links that begin with `base`, which is the address of the portal; without one, none are made.
    pub fn new(key: [u8; 32], base: String, lifetime_s: u64) -> Self {
        Self {
            key,
            base: base.trim_end_matches('/').to_owned(),
            lifetime_s,
        }
    }

    /// A link to the file that an event brings.
    pub fn to(&self, event: EventId, now_ms: u64) -> Option<String> {
        let ends_s = (now_ms / 1_000).saturating_add(self.lifetime_s);
        let token = self.token(event, ends_s);
        (!self.base.is_empty()).then(|| format!("{}/f/{token}", self.base))
    }

    fn token(&self, event: EventId, ends_s: u64) -> String {
        let mut octets = Vec::with_capacity(OCTETS);
        octets.extend(event.0.to_be_bytes());
        octets.extend(ends_s.to_be_bytes());
        let signature = self.signed(&octets).map(|mac| mac.finalize().into_bytes());
        octets.extend(signature.iter().flatten().take(SIGNATURE));
        URL_SAFE_NO_PAD.encode(octets)
    }

    /// The event that a link leads to.
    pub fn read(&self, token: &str, now_ms: u64) -> Option<EventId> {
        // Strict: there is one way to write a link.
        let octets: [u8; OCTETS] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
        let (said, signature) = octets.split_at(OCTETS - SIGNATURE);
        self.signed(said)?.verify_truncated_left(signature).ok()?;
        let (event, ends_s) = said.split_at(8);
        let ends_s = u64::from_be_bytes(ends_s.try_into().ok()?);
        let event = EventId(i64::from_be_bytes(event.try_into().ok()?));
        (now_ms / 1_000 < ends_s).then_some(event)
    }

    fn signed(&self, octets: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(b"file\0");
        mac.update(octets);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(key: u8) -> Links {
        Links::new([key; 32], "https://x.org:8443/".to_owned(), 60)
    }

    #[test]
    fn a_link_leads_to_its_event_until_it_ends() {
        let link = links(1).to(EventId(77), 5_000).expect("a link");
        let token = link.strip_prefix("https://x.org:8443/f/").expect("ours");
        assert_eq!(links(1).read(token, 5_000), Some(EventId(77)));
        assert_eq!(links(1).read(token, 64_999), Some(EventId(77)));
        assert_eq!(links(1).read(token, 65_000), None);
        assert_eq!(links(2).read(token, 5_000), None, "another key");
        assert_eq!(
            Links::new([1; 32], String::new(), 60).to(EventId(1), 0),
            None
        );
    }

    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    #[test]
    fn a_link_with_any_sign_changed_leads_nowhere() {
        let links = links(1);
        let token = links.token(EventId(77), 1_000);
        for at in 0..token.len() {
            for other in SIGNS.iter().chain(b"=+/ %\0") {
                let mut changed = token.clone().into_bytes();
                if changed[at] == *other {
                    continue;
                }
                changed[at] = *other;
                let changed = String::from_utf8(changed).expect("ASCII");
                assert_eq!(links.read(&changed, 0), None, "{changed}");
            }
            assert_eq!(links.read(&token[..at], 0), None);
        }
        assert_eq!(links.read(&format!("{token}A"), 0), None);
        assert_eq!(links.read("åååååååååååååååååååå", 0), None);
    }
}
