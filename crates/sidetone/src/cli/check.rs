//! `sidetone check`: what would keep the server from starting, a reason a line.
//!
//! *Invariant*: it writes nothing.

use super::{Context, Failure, say};
use crate::acme;
use crate::config::Certificate;
use crate::control::{self, ControlRequest};
use crate::ports;
use nix::unistd::AccessFlags;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sidetone_store::DataLock;
use std::path::Path;

const FREE_MIB_MIN: u64 = 256;

pub(super) fn check(context: &Context) -> Result<(), Failure> {
    let running = control::ask(&context.data, &ControlRequest::Status).is_ok();
    let mut reasons = Vec::new();
    check_disk(context, running, &mut reasons);
    if context.config.https.certificate == Certificate::Acme {
        reasons.extend(acme::missing(&context.config));
    }
    check_certificate(&context.config.https.certificate, &mut reasons);
    if !running {
        reasons.extend(ports::taken(&context.config));
    }
    if reasons.is_empty() {
        let ports = if running {
            " (ports: in use by the running server)"
        } else {
            ""
        };
        return say(&format!("all is well{ports}\n"));
    }
    Err(Failure::new(reasons.join("\nsidetone: ")))
}

fn check_disk(context: &Context, running: bool, reasons: &mut Vec<String>) {
    let data = &context.data;
    if !running && let Err(error) = DataLock::probe(data) {
        reasons.push(format!("data: {error}"));
        return;
    }
    if let Err(failure) = check_store(context, running) {
        reasons.push(format!("store: {failure}"));
    }
    let there = existing(data);
    if let Err(error) = nix::unistd::access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        reasons.push(format!(
            "data: {} cannot be written: {error}",
            there.display()
        ));
    }
    match nix::sys::statvfs::statvfs(there) {
        Ok(fs) => {
            let free_mib = fs.blocks_available().saturating_mul(fs.fragment_size()) >> 20;
            if free_mib < FREE_MIB_MIN {
                reasons.push(format!(
                    "data: {} has {free_mib} MiB left: make room for {FREE_MIB_MIN}",
                    data.display()
                ));
            }
        }
        Err(error) => reasons.push(format!("data: {}: {error}", data.display())),
    }
}

fn check_store(context: &Context, running: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let look = sidetone_store::inspect(&context.config.store.url, &context.data, running);
    Ok(runtime.block_on(look)?)
}

/// The directory, or the nearest one above it that is there: the server makes the rest.
fn existing(data: &Path) -> &Path {
    let above = data.ancestors().find(|path| path.exists());
    above
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn check_certificate(certificate: &Certificate, reasons: &mut Vec<String>) {
    let Certificate::Files { chain, key } = certificate else {
        return;
    };
    if let Err(reason) = check_pair(chain, key) {
        reasons.push(format!("https.certificate: {reason}"));
    }
}

fn check_pair(chain: &Path, key: &Path) -> Result<(), String> {
    let in_file = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| in_file(chain, &e))?;
    if certificates.is_empty() {
        return Err(in_file(chain, &"it holds no certificate"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| in_file(key, &e))?;
    let secret = any_supported_type(&secret).map_err(|e| in_file(key, &e))?;
    CertifiedKey::new(certificates, secret)
        .keys_match()
        .map_err(|e| {
            format!(
                "{} does not belong to {}: {e}",
                key.display(),
                chain.display()
            )
        })
}
