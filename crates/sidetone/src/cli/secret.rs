//! Secrets that the command line makes, and what is kept of them.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, SaltString};
use rand::Rng;
use sha2::{Digest, Sha256};

/// Without letters that look or sound alike: some are typed with a desk phone's keys.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz123456789";
const SECRET_LETTERS: usize = 20;
const TOKEN_LETTERS: usize = 40;

/// A SIP secret of 100 bits.
pub(super) fn sip_secret() -> String {
    letters(SECRET_LETTERS)
}

/// A one-time token of 200 bits, and the hash that is kept of it.
pub(super) fn reset_token() -> (String, [u8; 32]) {
    let token = letters(TOKEN_LETTERS);
    let hash = Sha256::digest(token.as_bytes()).into();
    (token, hash)
}

fn letters(count: usize) -> String {
    let mut random = rand::rng();
    (0..count)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}

/// The argon2id hash of a web password, as a PHC string.
pub(super) fn web_password(password: &str) -> Result<String, argon2::password_hash::Error> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>())?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::{PasswordHash, PasswordVerifier};

    #[test]
    fn secrets_are_long_and_differ() {
        let (a, b) = (sip_secret(), sip_secret());
        assert_ne!(a, b);
        assert_eq!(a.len(), SECRET_LETTERS);
        assert!(a.bytes().all(|c| ALPHABET.contains(&c)));
    }

    #[test]
    fn the_web_takes_the_hash() {
        let hash = web_password("correct horse").unwrap();
        let parsed = PasswordHash::new(&hash).unwrap();
        assert!(
            Argon2::default()
                .verify_password(b"correct horse", &parsed)
                .is_ok()
        );
        assert!(
            Argon2::default()
                .verify_password(b"wrong horse", &parsed)
                .is_err()
        );
    }
}
