//! An ACME authority of the test's own (RFC 8555), over HTTPS.
//!
//! *Invariant*: it believes nothing: every request is signed over a nonce that it gave out and
//! the address that was asked for; every name is validated by TLS-ALPN-01 (RFC 8737) at the
//! server under test; what is certified is the key of a signed request.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::certificate::Authority;
use crate::folder::Folder;
use crate::loopback;

mod validate;

pub use validate::presented;

const PATIENCE: Duration = Duration::from_secs(20);

/// How the authority behaves.
#[derive(Clone)]
pub struct Manner {
    /// Validity of what it issues.
    pub lifetime: Duration,
    /// New orders are refused.
    pub refuses: bool,
    /// Where it looks for the names; until that is known, a check waits.
    pub looks_at: Option<SocketAddr>,
}

/// The authority, until it is dropped.
pub struct Acme {
    /// The address of its directory.
    pub directory: String,
    /// What its own HTTPS is trusted by.
    pub root: PathBuf,
    /// What it issues is trusted by this.
    pub issuer: PathBuf,
    desk: Arc<Desk>,
}

struct Desk {
    base: String,
    authority: Authority,
    books: Mutex<Books>,
}

struct Books {
    manner: Manner,
    nonces: HashSet<String>,
    accounts: Vec<Value>,
    orders: Vec<Order>,
    issued: usize,
}

struct Order {
    account: usize,
    names: Vec<String>,
    /// One for each name: its token, and the outcome.
    checks: Vec<(String, Option<Result<(), String>>)>,
    chain: Option<String>,
}

struct Reply(u16, Option<String>, String);

impl Acme {
    /// An authority that will be told where to look for names.
    pub fn start(folder: &Folder) -> Acme {
        let ip = loopback::address();
        // Two authorities: one for its own HTTPS, one for what it issues.
        let (own, issuing) = (Folder::new("acme-own"), Folder::new("acme-issuer"));
        let mine = Authority::new(&own);
        let files = mine.issue(&own, "acme", "acme.test", ip);
        let authority = Authority::new(&issuing);
        let copy = |from: &PathBuf, name: &str| {
            folder.write(name, std::fs::read(from).expect("a certificate"))
        };
        let root = copy(&mine.file, "acme-root.pem");
        let issuer = copy(&authority.file, "acme-issuer.pem");
        let chain = CertificateDer::pem_file_iter(&files.chain).expect("a chain");
        let chain = chain.map(|one| one.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("TLS");
        let listener = TcpListener::bind((ip, 0)).expect("a listener");
        let base = format!("https://{}", listener.local_addr().expect("an address"));
        let desk = Arc::new(Desk {
            base: base.clone(),
            authority,
            books: Mutex::new(Books {
                manner: Manner {
                    // And half a day: so that whole days are the same now and a second later.
                    lifetime: Duration::from_secs(90 * 86_400 + 43_200),
                    refuses: false,
                    looks_at: None,
                },
                nonces: HashSet::new(),
                accounts: Vec::new(),
                orders: Vec::new(),
                issued: 0,
            }),
        });
        let (tls, served) = (Arc::new(tls), Arc::clone(&desk));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, desk) = (Arc::clone(&tls), Arc::clone(&served));
                std::thread::spawn(move || desk.serve(stream, tls));
            }
        });
        Acme {
            directory: format!("{base}/directory"),
            root,
            issuer,
            desk,
        }
    }

    /// Changes how it behaves from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.desk.books().manner);
    }

    /// How many certificates it has issued.
    pub fn issued(&self) -> usize {
        self.desk.books().issued
    }

    pub fn orders(&self) -> usize {
        self.desk.books().orders.len()
    }

    pub fn accounts(&self) -> usize {
        self.desk.books().accounts.len()
    }
}

impl Desk {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream, tls: Arc<ServerConfig>) -> Option<()> {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        let tls = ServerConnection::new(tls).ok()?;
        let mut reader = BufReader::new(StreamOwned::new(tls, stream));
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_ascii_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let lower = header.trim_end().to_ascii_lowercase();
            if lower.is_empty() {
                break;
            }
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let nonce = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        let Reply(status, location, text) = self
            .answer(&method, &path, &body)
            .unwrap_or_else(|kind| problem(&kind, "refused by the test's authority"));
        self.books().nonces.insert(nonce.clone());
        let location = location.map_or(String::new(), |at| format!("Location: {at}\r\n"));
        let length = text.len();
        let head = format!(
            "HTTP/1.1 {status} -\r\nReplay-Nonce: {nonce}\r\n{location}Content-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        );
        let text = if method == "HEAD" { "" } else { text.as_str() };
        let mut stream = reader.into_inner();
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(text.as_bytes()).ok()?;
        stream.conn.send_close_notify();
        stream.flush().ok()
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> Result<Reply, String> {
        let base = &self.base;
        match (method, path) {
            ("GET", "/directory") => {
                let directory = json!({
                    "newNonce": format!("{base}/nonce"),
                    "newAccount": format!("{base}/account"),
                    "newOrder": format!("{base}/order"),
                });
                return Ok(Reply(200, None, directory.to_string()));
            }
            ("HEAD", "/nonce") => return Ok(Reply(200, None, String::new())),
            ("POST", _) => {}
            _ => return Err("malformed".to_owned()),
        }
        let (account, payload) = self.open(path, body)?;
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (parts.as_slice(), account) {
            (["account"], Who::New(key)) => Ok(self.register(key, &payload)?),
            (["order"], Who::Known(account)) => self.take_order(account, &payload),
            ([what, order, rest @ ..], Who::Known(account)) => {
                let order: usize = order.parse().map_err(|_| "malformed")?;
                let check = rest.first().map_or(Ok(0), |n| n.parse::<usize>());
                let check = check.map_err(|_| "malformed")?;
                let owner = self.books().orders.get(order).map(|order| order.account);
                if owner != Some(account) {
                    return Err("unauthorized".to_owned());
                }
                match *what {
                    "order" => Ok(Reply(200, None, self.order(order).to_string())),
                    "authz" => Ok(Reply(
                        200,
                        None,
                        self.authorization(order, check).to_string(),
                    )),
                    "check" => Ok(self.check(order, check)),
                    "finalize" => self.finalize(order, &payload),
                    "certificate" => {
                        let chain = self.books().orders[order].chain.clone();
                        Ok(Reply(200, None, chain.ok_or("malformed")?))
                    }
                    _ => Err("malformed".to_owned()),
                }
            }
            _ => Err("malformed".to_owned()),
        }
    }

    /// Checks the signature, the nonce and the address (RFC 8555 §6.2 to §6.5).
    fn open(&self, path: &str, body: &[u8]) -> Result<(Who, Value), String> {
        let jws: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let text = |key: &str| jws[key].as_str().unwrap_or_default().to_owned();
        let header: Value =
            serde_json::from_slice(&decode(&text("protected"))?).map_err(|e| e.to_string())?;
        let nonce = header["nonce"].as_str().unwrap_or_default();
        if !self.books().nonces.remove(nonce) {
            return Err("badNonce".to_owned());
        }
        let asked = format!("{}{path}", self.base);
        if header["url"] != asked.as_str() || header["alg"] != "ES256" {
            return Err("unauthorized".to_owned());
        }
        let prefix = format!("{}/account/", self.base);
        let who = match header["kid"].as_str() {
            Some(kid) => {
                let number = kid.strip_prefix(&prefix).and_then(|n| n.parse().ok());
                Who::Known(number.ok_or("accountDoesNotExist")?)
            }
            None => Who::New(header["jwk"].clone()),
        };
        let key = match &who {
            Who::Known(number) => self.books().accounts.get(*number).cloned(),
            Who::New(key) => Some(key.clone()),
        };
        let key = point(&key.ok_or("accountDoesNotExist")?)?;
        let signed = format!("{}.{}", text("protected"), text("payload"));
        let signature = decode(&text("signature"))?;
        verify(
            &ECDSA_P256_SHA256_FIXED,
            &key,
            signed.as_bytes(),
            &signature,
        )?;
        let payload = decode(&text("payload"))?;
        let payload = serde_json::from_slice(&payload).unwrap_or(Value::Null);
        Ok((who, payload))
    }

    fn register(&self, key: Value, wanted: &Value) -> Result<Reply, String> {
        if wanted["termsOfServiceAgreed"] != true {
            return Err("userActionRequired".to_owned());
        }
        let mut books = self.books();
        books.accounts.push(key);
        let location = format!("{}/account/{}", self.base, books.accounts.len() - 1);
        Ok(Reply(
            201,
            Some(location),
            json!({"status": "valid"}).to_string(),
        ))
    }

    fn take_order(&self, account: usize, wanted: &Value) -> Result<Reply, String> {
        let names = wanted["identifiers"].as_array().ok_or("malformed")?;
        let name = |one: &Value| one["value"].as_str().unwrap_or_default().to_owned();
        let names: Vec<String> = names.iter().map(name).collect();
        let number = {
            let mut books = self.books();
            if books.manner.refuses {
                return Ok(problem("rateLimited", "too many orders, says the test"));
            }
            let token = || BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>());
            let checks = names.iter().map(|_| (token(), None)).collect();
            books.orders.push(Order {
                account,
                names,
                checks,
                chain: None,
            });
            books.orders.len() - 1
        };
        let location = format!("{}/order/{number}", self.base);
        Ok(Reply(201, Some(location), self.order(number).to_string()))
    }

    fn order(&self, number: usize) -> Value {
        let (base, books) = (&self.base, self.books());
        let order = &books.orders[number];
        let outcomes = || order.checks.iter().map(|(_, outcome)| outcome);
        let status = if order.chain.is_some() {
            "valid"
        } else if outcomes().any(|outcome| matches!(outcome, Some(Err(_)))) {
            "invalid"
        } else if outcomes().all(Option::is_some) {
            "ready"
        } else {
            "pending"
        };
        let checks = 0..order.checks.len();
        let urls: Vec<String> = checks
            .map(|check| format!("{base}/authz/{number}/{check}"))
            .collect();
        let mut value = json!({
            "status": status,
            "authorizations": urls,
            "finalize": format!("{base}/finalize/{number}"),
        });
        if order.chain.is_some() {
            value["certificate"] = format!("{base}/certificate/{number}").into();
        }
        value
    }

    fn authorization(&self, order: usize, check: usize) -> Value {
        let (base, books) = (&self.base, self.books());
        let Order { names, checks, .. } = &books.orders[order];
        let (token, outcome) = &checks[check];
        let status = match outcome {
            None => "pending",
            Some(Ok(())) => "valid",
            Some(Err(_)) => "invalid",
        };
        let mut challenge = json!({
            "type": "tls-alpn-01",
            "url": format!("{base}/check/{order}/{check}"),
            "token": token,
            "status": status,
        });
        if let Some(Err(reason)) = outcome {
            challenge["error"] = json!({
                "type": "urn:ietf:params:acme:error:connection",
                "detail": reason,
            });
        }
        let http = json!({
            "type": "http-01", "url": format!("{base}/none"), "token": token, "status": "pending",
        });
        json!({
            "status": status,
            "identifier": {"type": "dns", "value": names[check]},
            "challenges": [http, challenge],
        })
    }

    /// Asks the server under test, then answers.
    fn check(&self, order: usize, check: usize) -> Reply {
        let (name, token, key) = {
            let books = self.books();
            let Order {
                account,
                names,
                checks,
                ..
            } = &books.orders[order];
            let key = books.accounts[*account].clone();
            (names[check].clone(), checks[check].0.clone(), key)
        };
        let at = crate::until(PATIENCE, || self.books().manner.looks_at).unwrap_or_else(nowhere);
        let authorization = format!("{token}.{}", thumbprint(&key));
        let digest: [u8; 32] = Sha256::digest(authorization.as_bytes()).into();
        let outcome = validate::tls_alpn(at, &name, &digest);
        self.books().orders[order].checks[check].1 = Some(outcome);
        let authorization = self.authorization(order, check);
        let mut challenge = authorization["challenges"][1].clone();
        // The outcome is told where it is asked for.
        challenge["status"] = "processing".into();
        if let Some(fields) = challenge.as_object_mut() {
            fields.remove("error");
        }
        Reply(200, None, challenge.to_string())
    }

    fn finalize(&self, number: usize, payload: &Value) -> Result<Reply, String> {
        if self.order(number)["status"] != "ready" {
            return Err("orderNotReady".to_owned());
        }
        let csr = decode(payload["csr"].as_str().unwrap_or_default())?;
        let names = self.books().orders[number].names.clone();
        let key = validate::requested_key(&csr, &names).map_err(|_| "badCSR")?;
        let lifetime = self.books().manner.lifetime;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_s = since.expect("a clock after 1970").as_secs();
        let chain = self
            .authority
            .certify(names, &Requested(key), now_s, lifetime);
        {
            let mut books = self.books();
            books.orders[number].chain = Some(chain);
            books.issued += 1;
        }
        Ok(Reply(200, None, self.order(number).to_string()))
    }
}

enum Who {
    Known(usize),
    New(Value),
}

/// The key of a certificate request.
struct Requested(Vec<u8>);

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn problem(kind: &str, detail: &str) -> Reply {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    let text = json!({"type": kind, "detail": detail}).to_string();
    Reply(400, None, text)
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|e| e.to_string())
}

/// The uncompressed point of a JWK (RFC 7518 §6.2).
fn point(jwk: &Value) -> Result<Vec<u8>, String> {
    let part = |key: &str| decode(jwk[key].as_str().unwrap_or_default());
    Ok([vec![4], part("x")?, part("y")?].concat())
}

/// RFC 7638 §3.
fn thumbprint(jwk: &Value) -> String {
    let sorted: HashMap<&str, &Value> = ["crv", "kty", "x", "y"].map(|k| (k, &jwk[k])).into();
    let text = format!(
        r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#,
        sorted["crv"], sorted["kty"], sorted["x"], sorted["y"]
    );
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()))
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    signed: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    UnparsedPublicKey::new(algorithm, key)
        .verify(signed, signature)
        .map_err(|_| "unauthorized".to_owned())
}

/// Whether the request is signed by the key that it asks a certificate for (RFC 2986 §4.2).
fn is_signed_by(key: &[u8], signed: &[u8], signature: &[u8]) -> Result<(), String> {
    verify(&ECDSA_P256_SHA256_ASN1, key, signed, signature)
}

/// Where nobody listens.
pub fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 1))
}
