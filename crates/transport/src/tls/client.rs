//! What we trust when we open a TLS connection.
//!
//! *Invariant:* there is no setting that skips the check of the peer.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

use super::TlsError;

/// Settings for TLS connections that we open; cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    roots: usize,
}

impl ClientTls {
    /// Trusts the roots of the system and those in `extra_ca` (PEM), if given.
    /// A system without roots is no error: only `extra_ca` counts then.
    pub fn new(extra_ca: Option<&Path>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "some roots of the system cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
        if let Some(path) = extra_ca {
            add_file(&mut roots, path)?;
        }
        let count = roots.len();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e| TlsError::new(extra_ca.unwrap_or(Path::new("")), e))?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
            roots: count,
        })
    }

    /// The same trust with no memory of earlier sessions: resuming one does not show
    /// the certificate again (RFC 8446 §2.2).
    #[must_use]
    pub fn without_sessions(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::disabled();
        Self {
            config: Arc::new(config),
            roots: self.roots,
        }
    }

    /// How many roots are trusted; with none every connection fails.
    pub fn root_count(&self) -> usize {
        self.roots
    }

    /// The settings, for other users of rustls.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let wrong = |e: &dyn ToString| TlsError::new(path, e.to_string());
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))? {
        roots
            .add(certificate.map_err(|e| wrong(&e))?)
            .map_err(|e| wrong(&e))?;
    }
    if roots.len() == before {
        return Err(TlsError::new(path, "there is no certificate in it"));
    }
    Ok(())
}
