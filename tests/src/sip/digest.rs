//! The client's half of digest authentication (RFC 7616, RFC 8760).

use md5::{Digest, Md5};
use sha2::Sha256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha256,
}

/// What a challenge asked.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub algorithm: Algorithm,
    pub realm: String,
    pub nonce: String,
    pub stale: bool,
    pub qop: Option<String>,
    pub opaque: Option<String>,
}

/// Who answers, and what for.
pub struct Answer<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub method: &'a str,
    pub uri: &'a str,
    pub nc: u32,
    pub cnonce: &'a str,
}

impl Challenge {
    pub fn parse(value: &str) -> Option<Challenge> {
        let fields = value.strip_prefix("Digest ")?;
        let algorithm = match field(fields, "algorithm").as_deref() {
            None | Some("MD5") => Algorithm::Md5,
            Some("SHA-256") => Algorithm::Sha256,
            Some(_) => return None,
        };
        Some(Challenge {
            algorithm,
            realm: field(fields, "realm")?,
            nonce: field(fields, "nonce")?,
            stale: field(fields, "stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
            qop: field(fields, "qop"),
            opaque: field(fields, "opaque"),
        })
    }

    /// The value of Authorization or Proxy-Authorization.
    pub fn answer(&self, a: &Answer<'_>) -> String {
        let hash = |text: String| match self.algorithm {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
        };
        let ha1 = hash(format!("{}:{}:{}", a.user, self.realm, a.password));
        let ha2 = hash(format!("{}:{}", a.method, a.uri));
        let nonce = &self.nonce;
        let (response, qop) = match &self.qop {
            Some(_) => {
                let between = format!("{nonce}:{:08x}:{}:auth", a.nc, a.cnonce);
                let qop = format!(", qop=auth, nc={:08x}, cnonce=\"{}\"", a.nc, a.cnonce);
                (hash(format!("{ha1}:{between}:{ha2}")), qop)
            }
            None => (hash(format!("{ha1}:{nonce}:{ha2}")), String::new()),
        };
        let algorithm = match self.algorithm {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        };
        let opaque = self
            .opaque
            .as_ref()
            .map_or(String::new(), |o| format!(", opaque=\"{o}\""));
        format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{nonce}\", uri=\"{}\", \
             response=\"{response}\", algorithm={algorithm}{qop}{opaque}",
            a.user, self.realm, a.uri
        )
    }
}

/// One field of a comma list of `name=value` or `name="value"`.
fn field(fields: &str, name: &str) -> Option<String> {
    let mut rest = fields;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').map_or((after, ""), |(v, n)| (v, n)),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = next.trim_start_matches([',', ' ']);
    }
    None
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1, with `qop=auth`.
    #[test]
    fn the_example_of_the_rfc() {
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let opaque = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS";
        let challenge = format!(
            "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
             algorithm=SHA-256, nonce=\"{nonce}\", opaque=\"{opaque}\""
        );
        let challenge = Challenge::parse(&challenge).expect("challenge");
        let answer = challenge.answer(&Answer {
            user: "Mufasa",
            password: "Circle of Life",
            method: "GET",
            uri: "/dir/index.html",
            nc: 1,
            cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        });
        let expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert!(answer.contains(expected), "{answer}");
    }
}
