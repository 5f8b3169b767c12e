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
use super::challenge::{ACME_TLS, Challenge, Challenges};
use super::file::Fresh;
use super::{TlsError, self_signed};

/// Key and chain of an ACME authority, in one file so that both change at once.
const ACME_FILE: &str = "acme.pem";

enum Source {
    SelfSigned {
        names: Vec<String>,
        directory: PathBuf,
    },
    Files {
        chain: PathBuf,
        key: PathBuf,
    },
    /// What an authority issued; a self-signed one until then.
    Acme {
        names: Vec<String>,
        directory: PathBuf,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) summary: CertificateSummary,
}

/// The slot that running settings read at each handshake.
#[derive(Debug)]
struct Slot {
    loaded: RwLock<Loaded>,
    challenges: Arc<Challenges>,
}

impl Slot {
    fn new(loaded: Loaded) -> Self {
        Self {
            loaded: RwLock::new(loaded),
            challenges: Arc::default(),
        }
    }

    fn get(&self) -> Loaded {
        self.loaded
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, loaded: Loaded) {
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get().key)
    }
}

/// The same slot where an ACME authority may ask, too.
#[derive(Debug)]
struct Answering(Arc<Slot>);

impl ResolvesServerCert for Answering {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match Challenges::asked(&hello) {
            true => self.0.challenges.resolve(&hello),
            false => self.0.resolve(hello),
        }
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

    /// The certificate that an ACME authority issued, kept in `directory`; before the first
    /// one, a self-signed certificate for `names`.
    pub fn acme(names: &[String], directory: &Path) -> Result<Self, TlsError> {
        let (names, directory) = (names.to_vec(), directory.to_owned());
        Self::from_source(Source::Acme { names, directory })
    }

    /// Answers an authority that asks for `name` with this digest, on the HTTPS listeners,
    /// until the returned value is dropped.
    pub fn answer_challenge(&self, name: &str, digest: &[u8; 32]) -> Result<Challenge, TlsError> {
        let opened = self.slot.challenges.open(name, digest);
        opened.map_err(|e| TlsError::new(self.source.path(), e))
    }

    /// Keeps what an ACME authority issued (PEM) and uses it for all later handshakes. A key
    /// or chain that cannot be used, or does not name all of `names`, changes nothing.
    pub fn install(
        &self,
        chain: &str,
        key: &str,
        names: &[String],
    ) -> Result<CertificateSummary, TlsError> {
        let place = self.source.path().join(ACME_FILE);
        let wrong = |e: &dyn ToString| TlsError::new(&place, e.to_string());
        let text = format!("{}\n{}\n", key.trim_end(), chain.trim_end());
        let fresh = Fresh::private(&place, &text).map_err(|e| wrong(&e))?;
        let loaded = load_files(&fresh.path, &fresh.path)?;
        if !loaded.summary.covers(names) {
            return Err(wrong(&"the authority left out a name"));
        }
        fresh.keep().map_err(|e| wrong(&e))?;
        let summary = loaded.summary.clone();
        self.slot.set(loaded);
        Ok(summary)
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

    /// Settings for HTTPS and secure WebSocket: ALPN `h2`, `http/1.1`; with ACME also
    /// [`ACME_TLS`], after whose handshake the connection has to be closed.
    pub fn https(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.https)
    }

    /// Names and end of the certificate in use.
    pub fn summary(&self) -> CertificateSummary {
        self.slot.get().summary
    }

    fn from_source(source: Source) -> Result<Self, TlsError> {
        let slot = Arc::new(Slot::new(source.first()?));
        let mut config =
            config_with(Arc::clone(&slot)).map_err(|e| TlsError::new(source.path(), e))?;
        let sip = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if matches!(source, Source::Acme { .. }) {
            config.alpn_protocols.push(ACME_TLS.to_vec());
            config.cert_resolver = Arc::new(Answering(Arc::clone(&slot)));
        }
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
            Self::SelfSigned { directory, .. } | Self::Acme { directory, .. } => directory,
            Self::Files { chain, .. } => chain,
        }
    }

    /// At the start even a kept file that is damaged keeps nobody from serving.
    fn first(&self) -> Result<Loaded, TlsError> {
        match (self, self.load()) {
            (Self::Acme { names, directory }, Err(error)) => {
                tracing::warn!(%error, "the kept certificate cannot be used");
                self_signed::load_or_make(names, directory)
            }
            (_, loaded) => loaded,
        }
    }

    fn load(&self) -> Result<Loaded, TlsError> {
        match self {
            Self::SelfSigned { names, directory } => self_signed::load_or_make(names, directory),
            Self::Files { chain, key } => load_files(chain, key),
            Self::Acme { names, directory } => {
                let kept = directory.join(ACME_FILE);
                match kept.exists() {
                    true => load_files(&kept, &kept),
                    false => self_signed::load_or_make(names, directory),
                }
            }
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
