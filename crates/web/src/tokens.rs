//! Access tokens: short-lived, scoped, signed with Ed25519 (RFC 8037).
//!
//! *Invariant*: a token is worth something only with our issuer, our audience
//! and a time that has not passed; time and randomness are arguments.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};

use crate::accounts::Login;

const AUDIENCE: &str = "sidetone-api";

/// How long an access token lives, in seconds.
pub(crate) const ACCESS_S: u64 = 600;
/// How long a refresh token lives, in milliseconds: thirty days.
pub(crate) const REFRESH_MS: u64 = 30 * 24 * 3600 * 1000;

/// What an access token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer: the first domain served.
    pub iss: String,
    /// Always `sidetone-api`.
    pub aud: String,
    /// The account's number.
    pub sub: String,
    /// The account's address when the token was issued.
    pub address: String,
    /// The name to show when the token was issued; may be empty.
    #[serde(default)]
    pub name: String,
    /// The scope: `user`, `admin` or `auditor`.
    pub scope: String,
    /// Issued at, in seconds of Unix time.
    pub iat: u64,
    /// Worth nothing from here on, in seconds of Unix time.
    pub exp: u64,
    /// Names this token in logs.
    pub jti: String,
}

/// Signs and checks access tokens.
pub struct Tokens {
    issuer: String,
    signing: EncodingKey,
    verifying: DecodingKey,
}

/// The stored key is not an Ed25519 seed.
#[derive(Debug, thiserror::Error)]
#[error("the token key is not a usable Ed25519 seed")]
pub struct BadKey;

impl Tokens {
    /// Tokens signed with the 32-byte seed that the store keeps.
    pub fn new(issuer: &str, seed: &[u8; 32]) -> Result<Self, BadKey> {
        crate::jwt_ring::install();
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadKey)?;
        Ok(Tokens {
            issuer: issuer.to_owned(),
            signing: EncodingKey::from_ed_der(&pkcs8(seed)),
            verifying: DecodingKey::from_ed_der(pair.public_key().as_ref()),
        })
    }

    /// A token for an account; its role is the scope.
    pub fn issue(&self, login: &Login, now_s: u64, id: [u8; 16]) -> Option<String> {
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: login.id.to_string(),
            address: login.address.clone(),
            name: login.name.clone(),
            scope: login.role.clone(),
            iat: now_s,
            exp: now_s + ACCESS_S,
            jti: URL_SAFE_NO_PAD.encode(id),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.signing).ok()
    }

    /// The claims of a token that is ours and of this moment.
    pub fn check(&self, token: &str, now_s: u64) -> Option<Claims> {
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[AUDIENCE]);
        // The library would read the clock: the time is compared here instead.
        rules.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &rules)
            .ok()?
            .claims;
        (claims.iat <= now_s + 30 && now_s < claims.exp).then_some(claims)
    }
}

/// RFC 8410 §7: a private key without its public half is this prefix and the seed.
fn pkcs8(seed: &[u8; 32]) -> Vec<u8> {
    const PREFIX: [u8; 16] = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    [&PREFIX[..], seed].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(seed: u8) -> Tokens {
        Tokens::new("example.test", &[seed; 32]).expect("key")
    }

    fn login(role: &str) -> Login {
        Login {
            id: 7,
            address: "ann@example.test".to_owned(),
            name: String::new(),
            role: role.to_owned(),
            disabled: false,
            password_hash: None,
        }
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let t = tokens(1);
        let token = t.issue(&login("admin"), 1_000, [9; 16]).expect("token");
        let claims = t.check(&token, 1_000).expect("claims");
        assert_eq!((claims.sub.as_str(), claims.scope.as_str()), ("7", "admin"));
        assert!(t.check(&token, 1_000 + ACCESS_S - 1).is_some());
        assert!(t.check(&token, 1_000 + ACCESS_S).is_none());
        assert!(t.check(&token, 500).is_none(), "issued in the future");
    }

    #[test]
    fn another_key_another_issuer_and_a_changed_token_are_refused() {
        let token = tokens(1)
            .issue(&login("user"), 1_000, [9; 16])
            .expect("token");
        assert!(tokens(2).check(&token, 1_000).is_none());
        let elsewhere = Tokens::new("other.test", &[1; 32]).expect("key");
        assert!(elsewhere.check(&token, 1_000).is_none());
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        let claims = URL_SAFE_NO_PAD.decode(&parts[1]).expect("base64");
        let changed = String::from_utf8(claims)
            .expect("json")
            .replace("user", "admin");
        parts[1] = URL_SAFE_NO_PAD.encode(changed);
        assert!(tokens(1).check(&parts.join("."), 1_000).is_none());
    }

    #[test]
    fn a_token_cannot_choose_its_algorithm() {
        let token = tokens(1)
            .issue(&login("user"), 1_000, [9; 16])
            .expect("token");
        let rest: Vec<&str> = token.split('.').collect();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256","typ":"JWT"}"#] {
            let head = URL_SAFE_NO_PAD.encode(header);
            assert!(
                tokens(1)
                    .check(&format!("{head}.{}.{}", rest[1], rest[2]), 1_000)
                    .is_none()
            );
            assert!(
                tokens(1)
                    .check(&format!("{head}.{}.", rest[1]), 1_000)
                    .is_none()
            );
        }
    }
}
