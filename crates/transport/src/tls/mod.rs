//! Certificates, and the TLS settings made from them.
//!
//! *Invariants:* private keys are readable by their owner only and never logged.
//! TLS 1.2 and 1.3 only. A server's certificate can be replaced while it runs: all
//! handshakes that start later use the new one. A client always checks its peer.

mod certificate;
mod challenge;
mod client;
mod file;
mod self_signed;
mod server;

use std::path::{Path, PathBuf};

pub use certificate::CertificateSummary;
pub use challenge::{ACME_TLS, Challenge};
pub use client::ClientTls;
pub use file::write_private;
pub use server::ServerTls;

/// What is wrong with a certificate or key, and with which file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    /// The file, or the directory for a self-signed certificate.
    pub path: PathBuf,
    /// Why it cannot be used.
    pub reason: String,
}

impl TlsError {
    fn new(path: &Path, reason: impl ToString) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
