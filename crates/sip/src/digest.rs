//! Digest authentication (RFC 7616, RFC 8760): challenges, credentials, the response.
//!
//! *Invariant: nothing here knows a password or compares a secret in variable time;
//! a verification does the same work whether it succeeds or fails.*

use std::borrow::Cow;
use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Longest accepted credentials, in bytes; those of real clients are under 500.
const MAX_CREDENTIALS_BYTES: usize = 4096;
/// Most parameters read in one credentials field; RFC 7616 names 12.
const MAX_PARAMETERS: usize = 32;

/// A hash algorithm that we offer (RFC 8760 §2.1). The `-sess` variants are never offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `SHA-256`
    Sha256,
    /// `MD5`, for phones that know nothing else.
    Md5,
}

impl Algorithm {
    /// The token in `algorithm=`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    /// Length of a hash in bytes.
    pub fn hash_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Md5 => 16,
        }
    }

    fn from_token(token: &str) -> Option<Self> {
        [Self::Sha256, Self::Md5]
            .into_iter()
            .find(|algorithm| token.eq_ignore_ascii_case(algorithm.token()))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.token())
    }
}

/// `H(username ":" realm ":" password)` for each algorithm that a device may use.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    /// For `SHA-256`.
    pub sha256: [u8; 32],
    /// For `MD5`; `None` where the device must not use it.
    pub md5: Option<[u8; 16]>,
}

impl Ha1 {
    /// The bytes for `algorithm`, if the device may use it.
    pub fn bytes(&self, algorithm: Algorithm) -> Option<&[u8]> {
        match algorithm {
            Algorithm::Sha256 => Some(&self.sha256),
            Algorithm::Md5 => self.md5.as_ref().map(<[u8; 16]>::as_slice),
        }
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ha1(secret)")
    }
}

/// `qop` of the credentials (RFC 7616 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qop {
    /// `auth`
    Auth,
    /// `auth-int`: the body is protected too.
    AuthInt,
    /// No `qop`: the calculation of RFC 2069, without `nc` and so without replay protection.
    Missing,
}

/// The field is `Digest` but not of RFC 7616 §3.4's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed digest credentials")]
pub struct MalformedCredentials;

/// Parsed `Authorization` or `Proxy-Authorization` (RFC 7616 §3.4).
#[derive(Debug, Clone)]
pub struct Credentials<'a> {
    /// Unescaped user name.
    pub username: Cow<'a, str>,
    /// Unescaped realm.
    pub realm: Cow<'a, str>,
    /// The nonce, as sent.
    pub nonce: &'a str,
    /// The URI that was hashed, as sent.
    pub uri: &'a str,
    /// The algorithm, MD5 if none is named; `None` if it is none of ours.
    pub algorithm: Option<Algorithm>,
    /// Quality of protection.
    pub qop: Qop,
    /// Nonce count; 0 without `qop`.
    pub nc: u32,
    /// Client nonce, as sent; empty without `qop`.
    pub cnonce: &'a str,
    /// `opaque`, as sent.
    pub opaque: Option<&'a str>,
    nc_text: &'a str,
    response: [u8; 32],
    response_bytes: usize,
}

impl<'a> Credentials<'a> {
    /// Parses a field value. `Ok(None)`: another scheme than Digest.
    pub fn parse(value: &'a [u8]) -> Result<Option<Self>, MalformedCredentials> {
        let Some(rest) = after_scheme(value) else {
            return Ok(None);
        };
        if rest.len() > MAX_CREDENTIALS_BYTES {
            return Err(MalformedCredentials);
        }
        let text = std::str::from_utf8(rest).map_err(|_| MalformedCredentials)?;
        Raw::collect(text)
            .and_then(Raw::into_credentials)
            .map(Some)
            .ok_or(MalformedCredentials)
    }
}

fn after_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.trim_ascii_start().split_at_checked(6)?;
    let separated = rest.first().is_some_and(u8::is_ascii_whitespace);
    (separated && scheme.eq_ignore_ascii_case(b"digest")).then_some(rest)
}

/// A parameter's value; for a quoted string the text between the quotes.
#[derive(Clone, Copy)]
struct Value<'a> {
    text: &'a str,
    escaped: bool,
}

impl<'a> Value<'a> {
    /// Without the backslashes of quoted-pairs (RFC 3261 §25.1).
    fn unescaped(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.text);
        }
        let mut characters = self.text.chars();
        let mut out = String::with_capacity(self.text.len());
        while let Some(character) = characters.next() {
            match character {
                '\\' => out.extend(characters.next()),
                other => out.push(other),
            }
        }
        Cow::Owned(out)
    }
}

#[derive(Default)]
struct Raw<'a> {
    username: Option<Value<'a>>,
    realm: Option<Value<'a>>,
    nonce: Option<Value<'a>>,
    uri: Option<Value<'a>>,
    response: Option<Value<'a>>,
    algorithm: Option<Value<'a>>,
    qop: Option<Value<'a>>,
    nc: Option<Value<'a>>,
    cnonce: Option<Value<'a>>,
    opaque: Option<Value<'a>>,
}

impl<'a> Raw<'a> {
    fn collect(text: &'a str) -> Option<Self> {
        let mut raw = Self::default();
        let mut rest = text;
        for _ in 0..MAX_PARAMETERS {
            rest = rest.trim_ascii_start();
            let Some(comma_less) = rest.strip_prefix(',') else {
                if rest.is_empty() {
                    return Some(raw);
                }
                let (name, value, after) = parameter(rest)?;
                raw.put(name, value)?;
                rest = end_of_item(after)?;
                continue;
            };
            // An empty list element (RFC 9110 §5.6.1) is allowed, and is an item to the bound.
            rest = comma_less;
        }
        rest.trim_ascii().is_empty().then_some(raw)
    }

    /// A parameter given twice is refused: two readers might choose differently.
    fn put(&mut self, name: &str, value: Value<'a>) -> Option<()> {
        let Some(slot) = self.slot(name) else {
            return Some(());
        };
        slot.replace(value).is_none().then_some(())
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<Value<'a>>> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        Some(match name.len() {
            2 if is("nc") => &mut self.nc,
            3 if is("uri") => &mut self.uri,
            3 if is("qop") => &mut self.qop,
            5 if is("realm") => &mut self.realm,
            5 if is("nonce") => &mut self.nonce,
            6 if is("cnonce") => &mut self.cnonce,
            6 if is("opaque") => &mut self.opaque,
            8 if is("username") => &mut self.username,
            8 if is("response") => &mut self.response,
            9 if is("algorithm") => &mut self.algorithm,
            _ => return None,
        })
    }

    fn into_credentials(self) -> Option<Credentials<'a>> {
        let algorithm = match self.algorithm {
            None => Some(Algorithm::Md5),
            Some(value) => Algorithm::from_token(value.text),
        };
        let (qop, nc, nc_text, cnonce) = self.protection()?;
        let (response, response_bytes) = hex_bytes(self.response?.text)?;
        Some(Credentials {
            username: self.username?.unescaped(),
            realm: self.realm?.unescaped(),
            nonce: self.nonce?.text,
            uri: self.uri?.text,
            algorithm,
            qop,
            nc,
            cnonce,
            opaque: self.opaque.map(|value| value.text),
            nc_text,
            response,
            response_bytes,
        })
    }

    /// RFC 7616 §3.4: `cnonce` and `nc` are there exactly when `qop` is.
    fn protection(&self) -> Option<(Qop, u32, &'a str, &'a str)> {
        let Some(qop) = self.qop else {
            return Some((Qop::Missing, 0, "", ""));
        };
        let qop = match qop.text {
            text if text.eq_ignore_ascii_case("auth") => Qop::Auth,
            text if text.eq_ignore_ascii_case("auth-int") => Qop::AuthInt,
            _ => return None,
        };
        let nc_text = self.nc?.text;
        let hexadecimal = nc_text.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !hexadecimal || !(1..=8).contains(&nc_text.len()) {
            return None;
        }
        let nc = u32::from_str_radix(nc_text, 16).ok()?;
        Some((qop, nc, nc_text, self.cnonce?.text))
    }
}

/// `name = value` at the start of `text`, and what follows.
fn parameter(text: &str) -> Option<(&str, Value<'_>, &str)> {
    let (name, after) = text.split_at(token_end(text));
    let value = after
        .trim_ascii_start()
        .strip_prefix('=')?
        .trim_ascii_start();
    if name.is_empty() {
        return None;
    }
    let (value, rest) = match value.strip_prefix('"') {
        Some(quoted) => quoted_string(quoted)?,
        None => bare(value)?,
    };
    Some((name, value, rest))
}

fn token_end(text: &str) -> usize {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    text.bytes()
        .position(|byte| !is_token(byte))
        .unwrap_or(text.len())
}

/// COMPAT(several): an unquoted value is taken up to white space or a comma, since
/// some phones leave the quotes of `uri` and `realm` out.
fn bare(text: &str) -> Option<(Value<'_>, &str)> {
    let ends = |byte: u8| byte == b',' || byte.is_ascii_whitespace();
    let (value, rest) = text.split_at(text.bytes().position(ends).unwrap_or(text.len()));
    let sound = !value.is_empty() && !value.contains('"');
    sound.then_some((
        Value {
            text: value,
            escaped: false,
        },
        rest,
    ))
}

/// The rest of a quoted string after its opening quote.
fn quoted_string(text: &str) -> Option<(Value<'_>, &str)> {
    let mut escaped = false;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                return Some((
                    Value {
                        text: &text[..at],
                        escaped,
                    },
                    &text[at + 1..],
                ));
            }
            b'\\' => {
                bytes.next().filter(|(_, next)| next.is_ascii())?;
                escaped = true;
            }
            b'\r' | b'\n' | 0 => return None,
            _ => {}
        }
    }
    None
}

fn end_of_item(text: &str) -> Option<&str> {
    let rest = text.trim_ascii_start();
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix(',')
    }
}

/// Decodes a hash in hexadecimal: 16 or 32 bytes.
fn hex_bytes(text: &str) -> Option<([u8; 32], usize)> {
    let length = text.len() / 2;
    if !matches!(text.len(), 32 | 64) {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some((bytes, length))
}

fn hex_digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

/// A hash and its text in lower-case hexadecimal, on the stack.
struct Hash {
    bytes: [u8; 32],
    length: usize,
}

impl Hash {
    fn of(algorithm: Algorithm, parts: &[&[u8]]) -> Self {
        let mut bytes = [0u8; 32];
        match algorithm {
            Algorithm::Sha256 => bytes.copy_from_slice(&joined::<Sha256>(parts)),
            Algorithm::Md5 => bytes[..16].copy_from_slice(&joined::<Md5>(parts)),
        }
        Self {
            bytes,
            length: algorithm.hash_bytes(),
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Hashes the parts with a colon between each two.
fn joined<D: Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut hasher = D::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hasher.update(b":");
        }
        hasher.update(part);
    }
    hasher.finalize()
}

/// Lower-case hexadecimal in the front of a buffer.
fn hex_text<'b>(bytes: &[u8], buffer: &'b mut [u8; 64]) -> &'b [u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in buffer.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    &buffer[..(bytes.len() * 2).min(64)]
}

/// `H(A1)` for SHA-256 (RFC 7616 §3.4.2).
pub fn ha1_sha256(username: &str, realm: &str, password: &str) -> [u8; 32] {
    joined::<Sha256>(&[username.as_bytes(), realm.as_bytes(), password.as_bytes()]).into()
}

/// `H(A1)` for MD5 (RFC 7616 §3.4.2).
pub fn ha1_md5(username: &str, realm: &str, password: &str) -> [u8; 16] {
    joined::<Md5>(&[username.as_bytes(), realm.as_bytes(), password.as_bytes()]).into()
}

/// Whether the response of `credentials` was made with `ha1` for this request
/// (RFC 7616 §3.4.1). Constant time in everything secret; the nonce, its count, the
/// realm and the URI are the caller's to judge.
pub fn verify(
    algorithm: Algorithm,
    ha1: &[u8],
    method: &str,
    credentials: &Credentials<'_>,
    body: &[u8],
) -> bool {
    let expected = response(algorithm, ha1, method, credentials, body);
    let given = &credentials.response[..credentials.response_bytes];
    let sizes = ha1.len() == algorithm.hash_bytes() && given.len() == expected.length;
    bool::from(expected.as_slice().ct_eq(given)) & sizes
}

/// The response in hexadecimal, for clients (tests, a simulated phone).
pub fn response_text(
    algorithm: Algorithm,
    ha1: &[u8],
    method: &str,
    credentials: &Credentials<'_>,
    body: &[u8],
) -> String {
    let hash = response(algorithm, ha1, method, credentials, body);
    String::from_utf8_lossy(hex_text(hash.as_slice(), &mut [0; 64])).into_owned()
}

fn response(
    algorithm: Algorithm,
    ha1: &[u8],
    method: &str,
    credentials: &Credentials<'_>,
    body: &[u8],
) -> Hash {
    let (mut ha1_buffer, mut ha2_buffer) = ([0; 64], [0; 64]);
    let ha1 = hex_text(ha1, &mut ha1_buffer);
    let ha2 = second_hash(algorithm, method, credentials, body);
    let ha2 = hex_text(ha2.as_slice(), &mut ha2_buffer);
    let nonce = credentials.nonce.as_bytes();
    let (nc, cnonce) = (
        credentials.nc_text.as_bytes(),
        credentials.cnonce.as_bytes(),
    );
    match credentials.qop {
        Qop::Auth => Hash::of(algorithm, &[ha1, nonce, nc, cnonce, b"auth", ha2]),
        Qop::AuthInt => Hash::of(algorithm, &[ha1, nonce, nc, cnonce, b"auth-int", ha2]),
        Qop::Missing => Hash::of(algorithm, &[ha1, nonce, ha2]),
    }
}

/// `H(A2)` (RFC 7616 §3.4.3).
fn second_hash(
    algorithm: Algorithm,
    method: &str,
    credentials: &Credentials<'_>,
    body: &[u8],
) -> Hash {
    let (method, uri) = (method.as_bytes(), credentials.uri.as_bytes());
    if credentials.qop != Qop::AuthInt {
        return Hash::of(algorithm, &[method, uri]);
    }
    let body = Hash::of(algorithm, &[body]);
    Hash::of(
        algorithm,
        &[method, uri, hex_text(body.as_slice(), &mut [0; 64])],
    )
}

/// The value of a `WWW-Authenticate` or `Proxy-Authenticate` (RFC 7616 §3.3).
pub fn challenge(realm: &str, nonce: &str, algorithm: Algorithm, stale: bool) -> String {
    let mut out = String::with_capacity(96 + realm.len() + nonce.len());
    out.push_str("Digest realm=\"");
    for character in realm.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    for part in [
        "\", nonce=\"",
        nonce,
        "\", algorithm=",
        algorithm.token(),
        ", qop=\"auth\"",
    ] {
        out.push_str(part);
    }
    if stale {
        out.push_str(", stale=true");
    }
    out
}

/// The same challenge in fewer octets: without blanks.
///
/// COMPAT(sipp 3.6): `algorithm=MD5` stays, for it reads on into the next challenge where a parameter is missing.
pub fn narrow(challenge: &str) -> String {
    challenge
        .replace("\", ", "\",")
        .replace("SHA-256, ", "SHA-256,")
        .replace("MD5, ", "MD5,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Credentials<'_> {
        Credentials::parse(text.as_bytes())
            .expect("well-formed")
            .expect("Digest")
    }

    fn malformed(text: &str) -> bool {
        Credentials::parse(text.as_bytes()).is_err()
    }

    /// RFC 7616 §3.9.1, both algorithms.
    const MUFASA_MD5: &str = "Digest username=\"Mufasa\",\r\n realm=\"http-auth@example.org\",\
        \r\n uri=\"/dir/index.html\", algorithm=MD5,\
        \r\n nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001,\
        \r\n cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth,\
        \r\n response=\"8ca523f5e9506fed4657c9700eebdbec\",\
        \r\n opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
    const MUFASA_SHA256: &str = "digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
        uri=\"/dir/index.html\", algorithm=SHA-256, \
        nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
        cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
        response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\", \
        opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
    const REALM: &str = "http-auth@example.org";
    const PASSWORD: &str = "Circle of Life";

    #[test]
    fn examples_of_rfc_7616() {
        let md5 = parse(MUFASA_MD5);
        assert_eq!(md5.algorithm, Some(Algorithm::Md5));
        assert_eq!((md5.nc, md5.qop), (1, Qop::Auth));
        let ha1 = ha1_md5("Mufasa", REALM, PASSWORD);
        assert!(verify(Algorithm::Md5, &ha1, "GET", &md5, b""));
        let sha = parse(MUFASA_SHA256);
        assert_eq!(sha.algorithm, Some(Algorithm::Sha256));
        let ha1 = ha1_sha256("Mufasa", REALM, PASSWORD);
        assert!(verify(Algorithm::Sha256, &ha1, "GET", &sha, b""));
        assert_eq!(
            sha.opaque,
            Some("FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS")
        );
    }

    /// RFC 2617 §3.5, whose only difference is the algorithm left out.
    #[test]
    fn algorithm_defaults_to_md5() {
        let credentials = parse(
            "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", qop=auth, \
             nc=00000001, cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\", \
             opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        );
        let ha1 = ha1_md5("Mufasa", "testrealm@host.com", "Circle Of Life");
        assert!(verify(Algorithm::Md5, &ha1, "GET", &credentials, b""));
    }

    #[test]
    fn every_part_is_protected() {
        let ha1 = ha1_sha256("Mufasa", REALM, PASSWORD);
        let good = |text: &str| verify(Algorithm::Sha256, &ha1, "GET", &parse(text), b"");
        assert!(good(MUFASA_SHA256));
        for (from, to) in [
            ("/dir/index", "/dir/other"),
            ("7ypf", "7ypg"),
            ("00000001", "00000002"),
            ("f2/wE", "f2/wF"),
            ("qop=auth", "qop=auth-int"),
            ("753927", "753928"),
        ] {
            assert!(!good(&MUFASA_SHA256.replace(from, to)), "{from}");
        }
        let credentials = parse(MUFASA_SHA256);
        assert!(!verify(Algorithm::Sha256, &ha1, "POST", &credentials, b""));
        let other = ha1_sha256("Mufasa", REALM, "circle of life");
        assert!(!verify(Algorithm::Sha256, &other, "GET", &credentials, b""));
        assert!(!verify(
            Algorithm::Md5,
            &ha1[..16],
            "GET",
            &credentials,
            b""
        ));
        assert!(!verify(
            Algorithm::Sha256,
            &ha1[..16],
            "GET",
            &credentials,
            b""
        ));
        assert!(!verify(Algorithm::Sha256, &[], "GET", &credentials, b""));
    }

    #[test]
    fn auth_int_protects_the_body() {
        let ha1 = ha1_sha256("Mufasa", REALM, PASSWORD);
        let draft = MUFASA_SHA256.replace("qop=auth", "qop=auth-int");
        let response = response_text(Algorithm::Sha256, &ha1, "MESSAGE", &parse(&draft), b"hello");
        let old = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        let signed = draft.replace(old, &response);
        assert!(verify(
            Algorithm::Sha256,
            &ha1,
            "MESSAGE",
            &parse(&signed),
            b"hello"
        ));
        assert!(!verify(
            Algorithm::Sha256,
            &ha1,
            "MESSAGE",
            &parse(&signed),
            b"hellO"
        ));
    }

    #[test]
    fn quoted_pairs_are_unescaped_once() {
        let credentials = parse(
            "Digest username=\"a\\\"b\\\\c\",realm=\"x, y=\\\"z\\\"\",nonce=\"n\",uri=\"sip:x\",\
             response=\"0123456789abcdefABCDEF0123456789\"",
        );
        assert_eq!(credentials.username, "a\"b\\c");
        assert_eq!(credentials.realm, "x, y=\"z\"");
        assert_eq!((credentials.qop, credentials.nc), (Qop::Missing, 0));
    }

    #[test]
    fn spacing_order_and_unknown_parameters_do_not_matter() {
        let credentials = parse(
            "Digest  ,, x = \"y\" , RESPONSE = \"0123456789abcdef0123456789abcdef\" ,\turi=sip:a;b=c \
             , Nonce=n,realm=\"\",username=\"u\", algorithm=\"sha-256\" ,",
        );
        assert_eq!((credentials.uri, credentials.nonce), ("sip:a;b=c", "n"));
        assert_eq!(credentials.algorithm, Some(Algorithm::Sha256));
        let other = MUFASA_SHA256.replace("SHA-256", "SHA-512-256");
        assert_eq!(parse(&other).algorithm, None);
    }

    #[test]
    fn other_schemes_are_none() {
        for text in ["Basic dTpw", "", "Digest", "Digestive x=y", "Diges\u{e9} a"] {
            assert!(
                matches!(Credentials::parse(text.as_bytes()), Ok(None)),
                "{text}"
            );
        }
    }

    #[test]
    fn hostile_texts_are_malformed() {
        let base = "Digest username=\"u\",realm=\"r\",nonce=\"n\",uri=\"sip:x\",";
        let good = "response=\"0123456789abcdef0123456789abcdef\"";
        assert!(!malformed(&format!("{base}{good}")));
        for tail in [
            "",
            "response=\"xyz\"",
            "response=\"0123456789abcdef0123456789abcde\u{e9}\"",
            &format!("{good},username=\"v\""),
            &format!("{good},qop=auth"),
            &format!("{good},qop=auth,nc=1"),
            &format!("{good},qop=auth,nc=000000001,cnonce=\"x\""),
            &format!("{good},qop=auth,nc=+1,cnonce=\"x\""),
            &format!("{good},qop=other,nc=1,cnonce=\"x\""),
            &format!("{good} opaque=\"x\""),
            &format!("{good},opaque=\"x"),
            &format!("{good},opaque=\"x\\"),
            &format!("{good},opaque=\"x\\\u{e9}\""),
            &format!("{good},opaque=\"x\r\n\""),
            &format!("{good},=\"x\""),
            &format!("{good},opaque"),
            &format!("{good},opaque="),
            &format!("{good},opaque=x\"y\""),
            &format!("{good},x=\"{}\"", "y".repeat(4096)),
            &format!("{good},{}", "x=y,".repeat(40)),
        ] {
            assert!(malformed(&format!("{base}{tail}")), "{tail}");
        }
        assert!(Credentials::parse(b"Digest username=\"\xff\"").is_err());
    }

    #[test]
    fn every_cut_of_good_credentials_is_survived() {
        for end in 0..MUFASA_MD5.len() {
            let _ = Credentials::parse(&MUFASA_MD5.as_bytes()[..end]);
        }
    }

    #[test]
    fn challenges_escape_the_realm() {
        assert_eq!(
            challenge("a\"b", "n", Algorithm::Sha256, false),
            "Digest realm=\"a\\\"b\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\""
        );
        assert_eq!(
            challenge("r", "n", Algorithm::Md5, true),
            "Digest realm=\"r\", nonce=\"n\", algorithm=MD5, qop=\"auth\", stale=true"
        );
    }

    #[test]
    fn narrow_challenges_say_the_same() {
        assert_eq!(
            narrow(&challenge("r", "n", Algorithm::Sha256, true)),
            "Digest realm=\"r\",nonce=\"n\",algorithm=SHA-256,qop=\"auth\",stale=true"
        );
        assert_eq!(
            narrow(&challenge("r", "n", Algorithm::Md5, false)),
            "Digest realm=\"r\",nonce=\"n\",algorithm=MD5,qop=\"auth\""
        );
    }
}
