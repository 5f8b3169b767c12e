//! Web passwords by argon2id.
//!
//! *Invariant*: checking costs the same whether an account exists or not, and
//! at most a few checks run at once, so that login cannot starve the machine.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use tokio::sync::Semaphore;

/// Each check takes 19 MiB for some 20 ms of one core.
static PERMITS: Semaphore = Semaphore::const_new(2);

/// What an unknown user's password is compared with.
static NOBODY: LazyLock<String> =
    LazyLock::new(|| hash_password(&format!("{:x}", rand::random::<u128>())).unwrap_or_default());

/// The longest password that is looked at, in bytes.
pub(crate) const LONGEST: usize = 1024;
/// The shortest that may be chosen, in characters.
const SHORTEST: usize = 10;

/// What is wrong with a chosen password, in a sentence.
pub fn weakness(chosen: &str) -> Option<&'static str> {
    if chosen.chars().count() < SHORTEST {
        return Some("The password needs at least ten characters.");
    }
    if chosen.len() > LONGEST {
        return Some("The password is too long.");
    }
    None
}

/// What is wrong with a password that was typed twice, in a sentence.
pub(crate) fn fault(chosen: &str, again: &str) -> Option<&'static str> {
    let differ = || (chosen != again).then_some("The two passwords differ.");
    weakness(chosen).or_else(differ)
}

/// The argon2id string of a password, with a salt of its own.
pub fn hash_password(password: &str) -> Option<String> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).ok()?;
    let hash = Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .ok()?;
    Some(hash.to_string())
}

/// Whether a password fits; `None` for a hash takes as long and says no.
pub fn verify_password(password: &str, hash: Option<&str>) -> bool {
    let known = hash.is_some();
    let Ok(parsed) = PasswordHash::new(hash.unwrap_or(&NOBODY)) else {
        return false;
    };
    let fits = Argon2::default()
        .verify_password(password.as_bytes(), &parsed)
        .is_ok();
    fits && known
}

/// [`verify_password`] on a thread that may take its time.
pub(crate) async fn verify_elsewhere(password: String, hash: Option<String>) -> Option<bool> {
    let permit = PERMITS.acquire().await.ok()?;
    let check = tokio::task::spawn_blocking(move || verify_password(&password, hash.as_deref()));
    let fits = check.await.ok();
    drop(permit);
    fits
}

/// [`hash_password`] on a thread that may take its time.
pub(crate) async fn hash_elsewhere(password: String) -> Option<String> {
    let permit = PERMITS.acquire().await.ok()?;
    let hash = tokio::task::spawn_blocking(move || hash_password(&password))
        .await
        .ok()?;
    drop(permit);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_fits() {
        let hash = hash_password("correct horse").expect("hash");
        assert!(hash.starts_with("$argon2id$"));
        assert!(verify_password("correct horse", Some(&hash)));
        assert!(!verify_password("wrong horse", Some(&hash)));
        assert!(!verify_password("correct horse", None));
        assert!(!verify_password("x", Some("not a hash")));
    }
}
