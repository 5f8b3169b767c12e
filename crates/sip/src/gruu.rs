//! Globally routable user agent URIs (RFC 5627), made without a table.
//!
//! A public GRUU is the address of record and the instance. A temporary one hides both:
//! its user part is the encryption of a reference to them, under a tag that both proves
//! it and is the initialisation vector (the construction of RFC 5297).
//!
//! *Invariant: who does not hold the key learns from a temporary GRUU neither the user
//! nor that two of them belong together.*

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::base64url;
use crate::nonce::truncated;
use crate::token::{TokenKey, tag};

/// What the user part of a temporary GRUU starts with (RFC 5627 §3.1.2 shows it so).
pub const TEMP_PREFIX: &str = "tgruu.";
/// Longest user part of an address of record that gets a temporary GRUU.
const MAX_USER_BYTES: usize = 128;
const TAG_BYTES: usize = 12;
const FINGERPRINT_BYTES: usize = 8;
const UNIQUE_BYTES: usize = 8;
const FIXED_BYTES: usize = UNIQUE_BYTES + 2 * FINGERPRINT_BYTES;
const MAX_BYTES: usize = TAG_BYTES + FIXED_BYTES + MAX_USER_BYTES;

/// What a temporary GRUU refers to; the domain stands in the URI itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TempGruu {
    /// User part of the address of record, unescaped.
    pub user: String,
    instance: [u8; FINGERPRINT_BYTES],
    epoch: [u8; FINGERPRINT_BYTES],
}

impl TempGruu {
    /// Whether it was made for this instance while it registered with this Call-ID:
    /// RFC 5627 §5.1 ends all temporary GRUUs of an instance when the Call-ID changes.
    pub fn matches(&self, instance: &str, call_id: &str) -> bool {
        self.matches_instance(instance) && self.epoch == fingerprint(call_id)
    }

    /// Whether it was made for this instance, alive or not.
    pub fn matches_instance(&self, instance: &str) -> bool {
        self.instance == instance_fingerprint(instance)
    }
}

/// Of an instance in any case: URNs of UUIDs are equal so (RFC 9562 §4).
fn instance_fingerprint(instance: &str) -> [u8; FINGERPRINT_BYTES] {
    fingerprint(&instance.to_ascii_lowercase())
}

fn fingerprint(text: &str) -> [u8; FINGERPRINT_BYTES] {
    let hash = Sha256::digest(text.as_bytes());
    std::array::from_fn(|at| hash[at])
}

impl TokenKey {
    /// The user part of a new temporary GRUU. `unique` differs at each registration, and
    /// so does the GRUU. `None` if `user` is too long to travel in it.
    pub fn temp_gruu(
        &self,
        user: &str,
        instance: &str,
        call_id: &str,
        unique: u64,
    ) -> Option<String> {
        let mut plain = smallvec::SmallVec::<[u8; MAX_BYTES]>::new();
        plain.extend_from_slice(&unique.to_be_bytes());
        plain.extend_from_slice(&instance_fingerprint(instance));
        plain.extend_from_slice(&fingerprint(call_id));
        plain.extend_from_slice(user.as_bytes());
        if user.len() > MAX_USER_BYTES {
            return None;
        }
        let tag: [u8; TAG_BYTES] = tag(&self.gruu_tag, &plain);
        apply_stream(&self.gruu_stream, &tag, &mut plain);
        plain.insert_from_slice(0, &tag);
        let mut out = String::with_capacity(TEMP_PREFIX.len() + plain.len() * 4 / 3 + 3);
        out.push_str(TEMP_PREFIX);
        base64url::encode_into(&mut out, &plain);
        Some(out)
    }

    /// What the user part of a temporary GRUU refers to; `None` if it is not ours.
    pub fn open_temp_gruu(&self, user_part: &str) -> Option<TempGruu> {
        let mut buffer = [0u8; MAX_BYTES];
        let opaque = user_part.strip_prefix(TEMP_PREFIX)?;
        let length = base64url::decode(opaque.as_bytes(), &mut buffer)?.len();
        let (given, plain) = buffer.get_mut(..length)?.split_at_mut_checked(TAG_BYTES)?;
        apply_stream(&self.gruu_stream, given, plain);
        let expected: [u8; TAG_BYTES] = tag(&self.gruu_tag, plain);
        if !bool::from(expected.ct_eq(given)) {
            return None;
        }
        let (_, rest) = plain.split_first_chunk::<UNIQUE_BYTES>()?;
        let (instance, rest) = rest.split_first_chunk()?;
        let (epoch, user) = rest.split_first_chunk()?;
        let user = std::str::from_utf8(user).ok()?.to_owned();
        Some(TempGruu {
            user,
            instance: *instance,
            epoch: *epoch,
        })
    }
}

/// HMAC-SHA256 in counter mode over the tag as a key stream.
fn apply_stream(key: &Hmac<Sha256>, tag: &[u8], bytes: &mut [u8]) {
    for (counter, chunk) in (0u8..=u8::MAX).zip(bytes.chunks_mut(32)) {
        let mut mac = key.clone();
        mac.update(tag);
        mac.update(&[counter]);
        let stream: [u8; 32] = truncated(mac);
        chunk
            .iter_mut()
            .zip(stream)
            .for_each(|(byte, key)| *byte ^= key);
    }
}

/// The public GRUU (RFC 5627 §3.1.1): the address of record with a `gr` that is the
/// instance. `aor` is a whole SIP URI without parameters; `instance` a URN without `<>`.
pub fn public_gruu(aor: &str, instance: &str) -> String {
    let mut out = String::with_capacity(aor.len() + 4 + instance.len());
    out.push_str(aor);
    out.push_str(";gr=");
    for byte in instance.bytes() {
        push_escaped(&mut out, byte);
    }
    out
}

/// The temporary GRUU as a URI (RFC 5627 §3.1.2): `user_part` of [`TokenKey::temp_gruu`].
pub fn temp_gruu_uri(user_part: &str, domain: &str) -> String {
    format!("sip:{user_part}@{domain};gr")
}

/// `paramchar` of RFC 3261 §25.1, everything else escaped.
fn push_escaped(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if byte.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$".contains(&byte) {
        out.push(char::from(byte));
        return;
    }
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// The instance that the `gr` of a public GRUU names, unescaped; `None` if it is not
/// UTF-8 after unescaping or an escape is broken.
pub fn instance_of_gr(gr: &str) -> Option<String> {
    let mut out = Vec::with_capacity(gr.len());
    let mut bytes = gr.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: &str = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

    fn key() -> TokenKey {
        TokenKey::new([3; 32])
    }

    #[test]
    fn public_gruu_of_rfc_5627() {
        let gruu = public_gruu("sip:callee@example.com", INSTANCE);
        assert_eq!(gruu, format!("sip:callee@example.com;gr={INSTANCE}"));
        let odd = "urn:x;a=\"\u{e9}";
        let gruu = public_gruu("sip:a@b", odd);
        assert_eq!(gruu, "sip:a@b;gr=urn:x%3Ba%3D%22%C3%A9");
        assert_eq!(
            instance_of_gr(&gruu["sip:a@b;gr=".len()..]).as_deref(),
            Some(odd)
        );
        for broken in ["%", "%4", "%zz", "%ff", "a%"] {
            assert_eq!(instance_of_gr(broken), None, "{broken}");
        }
    }

    #[test]
    fn temporary_gruus_come_back() {
        for user in [
            "",
            "a",
            "callee",
            &"x".repeat(MAX_USER_BYTES),
            "\u{e9}t\u{e9}",
        ] {
            let gruu = key()
                .temp_gruu(user, INSTANCE, "call-1", 42)
                .expect("short enough");
            let opened = key().open_temp_gruu(&gruu).expect("ours");
            assert_eq!(opened.user, user);
            assert!(opened.matches(INSTANCE, "call-1"));
            assert!(!opened.matches(INSTANCE, "call-2"));
            assert!(!opened.matches("urn:uuid:other", "call-1"));
            assert!(opened.matches_instance(&INSTANCE.to_uppercase()));
        }
        assert_eq!(
            key().temp_gruu(&"x".repeat(MAX_USER_BYTES + 1), INSTANCE, "c", 1),
            None
        );
    }

    #[test]
    fn temporary_gruus_cannot_be_linked_or_read() {
        let first = key()
            .temp_gruu("callee", INSTANCE, "call-1", 1)
            .expect("short");
        let second = key()
            .temp_gruu("callee", INSTANCE, "call-1", 2)
            .expect("short");
        let same = first
            .bytes()
            .zip(second.bytes())
            .filter(|(a, b)| a == b)
            .count();
        assert!(same < TEMP_PREFIX.len() + 12, "{first} {second}");
        let mut buffer = [0u8; MAX_BYTES];
        let bytes = base64url::decode(&first.as_bytes()[TEMP_PREFIX.len()..], &mut buffer);
        assert!(
            !bytes
                .expect("base64")
                .windows(6)
                .any(|window| window == b"callee")
        );
        assert_eq!(
            temp_gruu_uri("tgruu.x", "example.com"),
            "sip:tgruu.x@example.com;gr"
        );
    }

    #[test]
    fn foreign_and_changed_gruus_do_not_open() {
        let gruu = key()
            .temp_gruu("callee", INSTANCE, "call-1", 1)
            .expect("short");
        assert_eq!(TokenKey::new([4; 32]).open_temp_gruu(&gruu), None);
        for at in 0..gruu.len() {
            let mut bytes = gruu.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                key().open_temp_gruu(&String::from_utf8(bytes).expect("ASCII")),
                None
            );
            assert_eq!(key().open_temp_gruu(&gruu[..at]), None);
        }
        assert_eq!(
            key().open_temp_gruu(&format!("{TEMP_PREFIX}{}", "A".repeat(5000))),
            None
        );
    }
}
