//! The answer to an ACME authority that asks by TLS whether a name is ours (RFC 8737).
//!
//! *Invariant:* a certificate made for a challenge is shown only to a peer that asks for the
//! challenge's protocol and nothing else, and only while its order is under way; nobody else
//! ever sees it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

/// The protocol in ALPN (RFC 8737 §6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// The challenges under way, by name.
#[derive(Debug, Default)]
pub(super) struct Challenges(RwLock<HashMap<String, Arc<CertifiedKey>>>);

impl Challenges {
    /// Whether the peer is an authority that validates: it offers this one protocol (RFC 8737 §3).
    pub(super) fn asked(hello: &ClientHello<'_>) -> bool {
        hello
            .alpn()
            .is_some_and(|mut offered| offered.next() == Some(ACME_TLS) && offered.next().is_none())
    }

    pub(super) fn resolve(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        let open = self.0.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&name).cloned()
    }

    pub(super) fn open(
        self: &Arc<Self>,
        name: &str,
        digest: &[u8; 32],
    ) -> Result<Challenge, String> {
        let name = name.to_ascii_lowercase();
        let key = make(&name, digest)?;
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(name.clone(), Arc::new(key));
        Ok(Challenge {
            all: Arc::clone(self),
            name,
        })
    }
}

/// A challenge that is answered as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct Challenge {
    all: Arc<Challenges>,
    name: String,
}

impl Drop for Challenge {
    fn drop(&mut self) {
        let mut open = self.all.0.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.name);
    }
}

fn make(name: &str, digest: &[u8; 32]) -> Result<CertifiedKey, String> {
    let wrong = |e: rcgen::Error| e.to_string();
    let mut params = CertificateParams::new([name.to_owned()]).map_err(wrong)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(wrong)?;
    let certificate = params.self_signed(&key).map_err(wrong)?;
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let private = ring::sign::any_ecdsa_type(&private).map_err(|e| e.to_string())?;
    // Not by way of rustls' own check that both fit: it refuses the critical extension that
    // this certificate is there for.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], private))
}
