//! `sidetone check`: what would keep the server from starting, a reason a line, and what is only worth a look, as warnings.
//!
//! *Invariant*: it writes nothing.

use super::{Context, Failure, now_ms, say};
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
use sidetone_transport::tls::CertificateSummary;
use std::io::Write;
use std::path::Path;

/// Less is a warning.
const FREE_MIB_WANTED: u64 = 256;
/// Less is next to nothing: the database could not even be begun.
const FREE_MIB_MIN: u64 = 16;
const CERTIFICATE_DAYS_WANTED: i64 = 14;

/// What was found: what keeps the server from starting, and what is only worth a look.
#[derive(Default)]
struct Findings {
    reasons: Vec<String>,
    warnings: Vec<String>,
}

pub(super) fn check(context: &Context) -> Result<(), Failure> {
    let running = control::ask(&context.data, &ControlRequest::Status).is_ok();
    let mut found = Findings::default();
    check_disk(context, running, &mut found);
    if context.config.https.certificate == Certificate::Acme {
        found.reasons.extend(acme::missing(&context.config));
    }
    check_certificate(context, &mut found);
    if !running {
        found.reasons.extend(ports::taken(&context.config));
    }
    for warning in &found.warnings {
        // Standard error may be closed; the exit code still tells.
        let _ = writeln!(std::io::stderr(), "sidetone: warning: {warning}");
    }
    if !found.reasons.is_empty() {
        return Err(Failure::new(found.reasons.join("\nsidetone: ")));
    }
    let ports = match running {
        true => " (ports: in use by the running server)",
        false => "",
    };
    match found.warnings.is_empty() {
        true => say(&format!("all is well{ports}\n")),
        false => say(&format!("the server can start, with warnings{ports}\n")),
    }
}

fn check_disk(context: &Context, running: bool, found: &mut Findings) {
    let data = &context.data;
    if !running && let Err(error) = DataLock::probe(data) {
        found.reasons.push(format!("data: {error}"));
        return;
    }
    if let Err(failure) = check_store(context, running) {
        found.reasons.push(format!("store: {failure}"));
    }
    let there = existing(data);
    if let Err(error) = nix::unistd::access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        found.reasons.push(format!(
            "data: {} cannot be written: {error}",
            there.display()
        ));
    }
    match nix::sys::statvfs::statvfs(there) {
        Ok(fs) => {
            let free_mib = fs.blocks_available().saturating_mul(fs.fragment_size()) >> 20;
            check_room(data, free_mib, found);
        }
        Err(error) => found
            .reasons
            .push(format!("data: {}: {error}", data.display())),
    }
}

fn check_room(data: &Path, free_mib: u64, found: &mut Findings) {
    let text = format!(
        "data: {} has {free_mib} MiB left: make room for {FREE_MIB_WANTED}",
        data.display()
    );
    match free_mib {
        0..FREE_MIB_MIN => found.reasons.push(text),
        FREE_MIB_MIN..FREE_MIB_WANTED => found.warnings.push(text),
        _ => {}
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

fn check_certificate(context: &Context, found: &mut Findings) {
    let config = &context.config;
    let Certificate::Files { chain, key } = &config.https.certificate else {
        return;
    };
    match check_pair(chain, key) {
        Err(reason) => found.reasons.push(format!("https.certificate: {reason}")),
        Ok(certificate) => {
            let now_s = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
            check_content(chain, &certificate, &config.all_domains(), now_s, found);
        }
    }
}

fn check_content(
    chain: &Path,
    certificate: &[u8],
    domains: &[String],
    now_s: i64,
    found: &mut Findings,
) {
    let file = chain.display();
    let Some(summary) = CertificateSummary::of(certificate) else {
        let text = format!("https.certificate: {file}: the certificate could not be read");
        return found.warnings.push(text);
    };
    match summary.days_left(now_s) {
        // Phones by UDP and TCP need none: it must not keep the server from starting.
        ..0 => found
            .warnings
            .push(format!("https.certificate: {file} has expired")),
        days @ 0..CERTIFICATE_DAYS_WANTED => found.warnings.push(format!(
            "https.certificate: {file} expires in {days} days: renew it"
        )),
        _ => {}
    }
    for domain in domains {
        if !summary.names.iter().any(|name| proves(name, domain)) {
            found.warnings.push(format!(
                "https.certificate: {file} is not for {domain}, but for {}",
                summary.names.join(", ")
            ));
        }
    }
}

/// RFC 6125 §6.4.3: a `*` stands for one whole label, the first.
fn proves(name: &str, domain: &str) -> bool {
    let below = |rest: &str| {
        let parent = domain.split_once('.').map(|(_, parent)| parent);
        parent.is_some_and(|parent| parent.eq_ignore_ascii_case(rest))
    };
    name.eq_ignore_ascii_case(domain) || name.strip_prefix("*.").is_some_and(below)
}

/// Gives the first certificate, which is the server's own.
fn check_pair(chain: &Path, key: &Path) -> Result<Vec<u8>, String> {
    let in_file = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| in_file(chain, &e))?;
    let Some(own) = certificates.first().map(|own| own.to_vec()) else {
        return Err(in_file(chain, &"it holds no certificate"));
    };
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
        })?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_a_warning_and_none_an_error() {
        for (free_mib, reasons, warnings) in [(15, 1, 0), (16, 0, 1), (255, 0, 1), (256, 0, 0)] {
            let mut found = Findings::default();
            check_room(Path::new("data"), free_mib, &mut found);
            let counted = (found.reasons.len(), found.warnings.len());
            assert_eq!(counted, (reasons, warnings), "{free_mib}");
        }
    }

    #[test]
    fn a_star_is_one_label() {
        assert!(proves("example.org", "Example.org") && proves("*.example.org", "sip.example.org"));
        assert!(!proves("*.example.org", "example.org"));
        assert!(!proves("*.example.org", "a.sip.example.org"));
        assert!(!proves("sip.example.org", "example.org"));
    }
}
