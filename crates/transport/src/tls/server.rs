//! What our listeners present.
//!
//! *Invariant:* both settings (SIP, HTTPS) share one certificate slot, so a reload
//! reaches both; a reload that fails leaves the old certificate in use.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, InconsistentKeys, ServerConfig};

use super::certificate::CertificateSummary;
use super::{TlsError, self_signed};

enum Source {
    SelfSigned {
        names: Vec<String>,
        directory: PathBuf,
    },
    Files {
        chain: PathBuf,
        key: PathBuf,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) summary: CertificateSummary,
}

/// The slot that running settings read at each handshake.
#[derive(Debug)]
struct Slot(RwLock<Loaded>);

impl Slot {
    fn get(&self) -> Loaded {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, loaded: Loaded) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = loaded;
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get().key)
    }
}

/// Certificate and settings of our TLS listeners.
pub struct ServerTls {
    source: Source,
    slot: Arc<Slot>,
    sip: Arc<ServerConfig>,
    https: Arc<ServerConfig>,
}

impl ServerTls {
    /// A self-signed certificate (ECDSA P-256) for these names and addresses, kept
    /// in `directory`; made anew when near its end or when the names have changed.
    pub fn self_signed(names: &[String], directory: &Path) -> Result<Self, TlsError> {
        let (names, directory) = (names.to_vec(), directory.to_owned());
        Self::from_source(Source::SelfSigned { names, directory })
    }

    /// A certificate chain and its key from PEM files (PKCS #8, PKCS #1 or SEC 1).
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let (chain, key) = (chain.to_owned(), key.to_owned());
        Self::from_source(Source::Files { chain, key })
    }

    /// Reads the files again (or remakes the self-signed certificate when due) for
    /// all later handshakes. On an error nothing changes.
    pub fn reload(&self) -> Result<CertificateSummary, TlsError> {
        let loaded = self.source.load()?;
        let summary = loaded.summary.clone();
        self.slot.set(loaded);
        Ok(summary)
    }

    /// Settings for SIP over TLS: no ALPN.
    pub fn sip(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.sip)
    }

    /// Settings for HTTPS and secure WebSocket: ALPN `h2`, `http/1.1`.
    pub fn https(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.https)
    }

    /// Names and end of the certificate in use.
    pub fn summary(&self) -> CertificateSummary {
        self.slot.get().summary
    }

    fn from_source(source: Source) -> Result<Self, TlsError> {
        let slot = Arc::new(Slot(RwLock::new(source.load()?)));
        let mut config =
            config_with(Arc::clone(&slot)).map_err(|e| TlsError::new(source.path(), e))?;
        let sip = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            source,
            slot,
            sip,
            https: Arc::new(config),
        })
    }
}

impl Source {
    fn path(&self) -> &Path {
        match self {
            Self::SelfSigned { directory, .. } => directory,
            Self::Files { chain, .. } => chain,
        }
    }

    fn load(&self) -> Result<Loaded, TlsError> {
        match self {
            Self::SelfSigned { names, directory } => self_signed::load_or_make(names, directory),
            Self::Files { chain, key } => load_files(chain, key),
        }
    }
}

impl Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("summary", &self.summary())
            .finish_non_exhaustive()
    }
}

fn config_with(slot: Arc<Slot>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth();
    let mut config = builder.with_cert_resolver(slot);
    // Sessions live in tickets at the peer, not in memory here (RFC 5077, RFC 8446 §4.6.1).
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}

pub(super) fn load_files(chain_path: &Path, key_path: &Path) -> Result<Loaded, TlsError> {
    let chain = read_chain(chain_path)?;
    let summary = match chain.first() {
        Some(leaf) => CertificateSummary::of(leaf).ok_or("the first certificate is malformed"),
        None => Err("there is no certificate in it"),
    };
    let summary = summary.map_err(|reason| TlsError::new(chain_path, reason))?;
    let key = PrivateKeyDer::from_pem_file(key_path)
        .map_err(|e| TlsError::new(key_path, key_reason(key_path, &e)))?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|e| mismatch(chain_path, key_path, &e))?;
    Ok(Loaded {
        key: Arc::new(key),
        summary,
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let reading =
        CertificateDer::pem_file_iter(path).map_err(|e| TlsError::new(path, pem_reason(&e)))?;
    reading
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::new(path, pem_reason(&e)))
}

fn pem_reason(error: &PemError) -> String {
    match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => "there is no PEM section of the right kind in it".to_owned(),
        other => format!("not valid PEM: {other}"),
    }
}

fn key_reason(path: &Path, error: &PemError) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if matches!(error, PemError::NoItemsFound) && text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        return "the private key is encrypted; give one without a passphrase".to_owned();
    }
    pem_reason(error)
}

fn mismatch(chain: &Path, key: &Path, error: &Error) -> TlsError {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let reason = format!(
                "this is not the private key of the certificate in {}",
                chain.display()
            );
            TlsError::new(key, reason)
        }
        Error::InvalidCertificate(reason) => TlsError::new(chain, format!("{reason:?}")),
        other => TlsError::new(key, other),
    }
}
