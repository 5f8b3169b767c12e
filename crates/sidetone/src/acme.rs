//! Certificates from an ACME authority (RFC 8555), validated by TLS-ALPN-01 (RFC 8737).
//!
//! *Invariant*: whatever the authority does or fails to do, the certificate in use stays until
//! a better one is on the disk; between two attempts that fail lies a pause that grows.

mod account;
mod client;
mod order;

use crate::config::Config;
use sidetone_transport::tls::{CertificateSummary, ClientTls, ServerTls, TlsError};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// An attempt, with all the waiting for the authority.
const ATTEMPT: Duration = Duration::from_secs(600);
/// The first pause after a failure. An authority counts failed validations by the hour
/// (Let's Encrypt allows five): with [`GROWTH`], no more than that many fall into the first.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);
const GROWTH: u32 = 6;
/// The clock is looked at this often at least: it may be set, and machines are suspended.
const LOOK: Duration = Duration::from_secs(3600);

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error("{0}")]
    Protocol(#[from] instant_acme::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
    #[error("{0}")]
    Refused(String),
    #[error("the authority took too long")]
    Slow,
}

/// Keeps a server's certificate good.
pub(crate) struct Renewal {
    tls: Arc<ServerTls>,
    client: ClientTls,
    directory: String,
    contact: Vec<String>,
    names: Vec<String>,
    /// Where the account is kept.
    account: PathBuf,
}

/// What the configuration lacks for ACME, a reason a line.
pub(crate) fn missing(config: &Config) -> Vec<String> {
    let acme = &config.acme;
    let mut reasons = Vec::new();
    if !acme.terms_agreed {
        reasons.push(
            "acme.terms_agreed: read the terms of service of the authority in acme.directory; \
             if you agree, set it to true"
                .to_owned(),
        );
    }
    if !acme.directory.starts_with("https://") {
        reasons.push(format!(
            "acme.directory: {:?} is no https:// address",
            acme.directory
        ));
    }
    for contact in acme.contact.iter().filter(|c| !c.starts_with("mailto:")) {
        reasons.push(format!(
            "acme.contact: {contact:?}: write \"mailto:admin@example.org\""
        ));
    }
    for domain in config.all_domains() {
        let local = domain == "localhost" || domain.ends_with(".localhost");
        let host = domain.trim_matches(['[', ']']);
        if local || host.parse::<IpAddr>().is_ok() {
            reasons.push(format!(
                "domain: no authority certifies {domain:?}: set a name that others reach this server by"
            ));
        }
    }
    if config.https.listen.is_empty() {
        reasons.push(
            "https.listen: the authority's check is answered there; name an address".to_owned(),
        );
    }
    if let Err(error) = trust(&acme.root) {
        reasons.push(format!("acme.root: {error}"));
    }
    reasons
}

/// What the authority's own certificate is checked by.
fn trust(root: &Path) -> Result<ClientTls, TlsError> {
    let file = (!root.as_os_str().is_empty()).then_some(root);
    ClientTls::new(file)
}

impl Renewal {
    pub(crate) fn new(config: &Config, data: &Path, tls: Arc<ServerTls>) -> Result<Self, TlsError> {
        Ok(Self {
            tls,
            client: trust(&config.acme.root)?,
            directory: config.acme.directory.clone(),
            contact: config.acme.contact.clone(),
            names: config.all_domains(),
            account: data.join("tls").join("acme-account.json"),
        })
    }

    /// Orders and renews until the task is dropped.
    pub(crate) async fn run(self) {
        let mut failures = 0;
        // An authority that was changed is asked at once; the old certificate serves meanwhile.
        let mut due = account::is_of_another(&self.account, &self.directory)
            || self.remaining(now_s()).is_zero();
        loop {
            if due {
                failures = match self.attempt().await {
                    Ok(summary) => {
                        self.announce(&summary);
                        0
                    }
                    Err(error) => self.wait_after(failures, &error).await,
                };
                due = failures > 0 || self.remaining(now_s()).is_zero();
                continue;
            }
            sleep(self.remaining(now_s()).min(LOOK)).await;
            due = self.remaining(now_s()).is_zero();
        }
    }

    /// How long the certificate in use is still good enough.
    fn remaining(&self, now_s: i64) -> Duration {
        remaining(&self.tls.summary(), &self.names, now_s)
    }

    async fn attempt(&self) -> Result<CertificateSummary, AcmeError> {
        tracing::info!(directory = %self.directory, names = ?self.names, "ordering a certificate");
        let issued = timeout(ATTEMPT, Box::pin(self.order()));
        let summary = issued.await.map_err(|_| AcmeError::Slow)??;
        if remaining(&summary, &self.names, now_s()).is_zero() {
            // It is used, but another one at once would be no better.
            return Err(AcmeError::Refused(
                "the new certificate is as good as over: look at the clock".to_owned(),
            ));
        }
        Ok(summary)
    }

    fn announce(&self, summary: &CertificateSummary) {
        let days_left = summary.days_left(now_s());
        tracing::info!(names = ?summary.names, days_left, "a certificate was issued");
    }

    /// Sleeps, and counts one failure more.
    async fn wait_after(&self, failures: u32, error: &AcmeError) -> u32 {
        let pause = pause(failures);
        let summary = self.tls.summary();
        tracing::warn!(
            %error,
            retry_in_s = pause.as_secs(),
            days_left = summary.days_left(now_s()),
            self_signed = summary.self_signed,
            "no certificate was issued"
        );
        sleep(pause).await;
        failures.saturating_add(1)
    }
}

fn remaining(summary: &CertificateSummary, names: &[String], now_s: i64) -> Duration {
    if summary.self_signed || !summary.covers(names) {
        return Duration::ZERO;
    }
    let left_s = summary.renew_at_s().saturating_sub(now_s);
    Duration::from_secs(u64::try_from(left_s).unwrap_or(0))
}

fn pause(failures: u32) -> Duration {
    let factor = GROWTH.checked_pow(failures).unwrap_or(u32::MAX);
    PAUSE_MIN.saturating_mul(factor).min(PAUSE_MAX)
}

fn now_s() -> i64 {
    i64::try_from(crate::cli::now_ms() / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> CertificateSummary {
        CertificateSummary {
            names: vec!["example.test".to_owned()],
            not_before_s: 1_000,
            not_after_s: 1_300,
            self_signed: false,
        }
    }

    #[test]
    fn a_certificate_is_good_for_two_thirds_of_its_life() {
        let names = summary().names;
        let left = |now_s| remaining(&summary(), &names, now_s).as_secs();
        assert_eq!((left(1_000), left(1_199), left(1_200)), (200, 1, 0));
        assert_eq!(left(i64::MAX), 0);
        let other = ["example.test".to_owned(), "other.test".to_owned()];
        assert!(remaining(&summary(), &other, 1_000).is_zero());
        let own = CertificateSummary {
            self_signed: true,
            ..summary()
        };
        assert!(remaining(&own, &names, 1_000).is_zero());
    }

    #[test]
    fn pauses_grow_and_stay_below_the_hourly_limit_of_authorities() {
        let first_hour = (0..)
            .scan(Duration::ZERO, |at, failures| {
                let now = *at;
                *at += pause(failures);
                Some(now)
            })
            .take_while(|at| *at < Duration::from_secs(3600));
        assert_eq!(first_hour.count(), 5);
        assert_eq!(pause(40), PAUSE_MAX);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }

    #[test]
    fn what_is_missing_is_named() {
        let config = |text: &str| Config::read("test", text, []).unwrap();
        let reasons = missing(&config("domain = \"localhost\""));
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        let reasons = missing(&config(
            "domain = \"192.0.2.1\"\n[https]\nlisten = []\n[acme]\ndirectory = \"http://a\"\n\
             contact = [\"me\"]\nroot = \"none.pem\"\n",
        ));
        let keys = [
            "acme.terms_agreed:",
            "acme.directory:",
            "acme.contact:",
            "domain:",
            "https.listen:",
            "acme.root:",
        ];
        assert_eq!(reasons.len(), keys.len(), "{reasons:?}");
        for (key, reason) in keys.iter().zip(&reasons) {
            assert!(reason.starts_with(key), "{reason}");
        }
        let good = "domain = \"example.test\"\n[acme]\nterms_agreed = true\n\
                    contact = [\"mailto:ann@example.test\"]";
        assert_eq!(missing(&config(good)), Vec::<String>::new());
    }
}
