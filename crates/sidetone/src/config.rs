//! Configuration: one small file, with a default for every key.
//!
//! Values come from the defaults, then the file, then `SIDETONE__SECTION__KEY` in the
//! environment. [`KEYS`] describes every key once; the commented file and the reference are
//! generated from it.
//!
//! *Invariant*: a key that nobody knows is an error that names the nearest known one; a
//! server never starts with half of what was meant.

mod check;
mod keys;
mod log;
mod parse;
mod types;

#[cfg(test)]
use keys::KEYS;
pub(crate) use keys::{commented_file, reference};
pub(crate) use log::log_filter;
pub(crate) use parse::ConfigError;
pub(crate) use types::{Certificate, LogFormat, Network, PortRange, Routing, Strangers};

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    /// The domain, where there is one.
    pub domain: String,
    /// All domains, where there are several.
    pub domains: Vec<String>,
    /// The data directory.
    pub data: PathBuf,
    pub sip: Sip,
    pub https: Https,
    pub acme: Acme,
    pub media: Media,
    pub store: StoreConfig,
    pub files: Files,
    pub limits: Limits,
    pub log: Log,
    pub cluster: Cluster,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sip {
    pub udp: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
    pub tls: Vec<SocketAddr>,
    pub routing: Routing,
    pub shards: usize,
    pub trusted: Vec<Network>,
    pub strangers: Strangers,
    pub advertise: Vec<String>,
    pub min_expires_s: u32,
    pub max_expires_s: u32,
    pub max_contacts: usize,
    pub nonce_lifetime_s: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Https {
    pub listen: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    pub http_anywhere: bool,
    pub metrics_anywhere: bool,
    pub origins: Vec<String>,
    pub certificate: Certificate,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Acme {
    pub directory: String,
    pub contact: Vec<String>,
    pub terms_agreed: bool,
    pub root: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Media {
    pub addresses: Vec<String>,
    pub rtp_ports: PortRange,
    pub webrtc_port: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StoreConfig {
    pub url: String,
    pub queue: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Files {
    pub max_bytes: u64,
    pub account_bytes: u64,
    pub link_s: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Limits {
    pub exempt: Vec<Network>,
    pub requests_per_second: u32,
    pub account_requests_per_second: u32,
    pub failures_before_ban: u32,
    pub ban_s: u32,
    pub connections: usize,
    pub connections_per_source: usize,
    pub sessions_per_account: usize,
    pub message_bytes: usize,
    pub headers: usize,
    pub via: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Log {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cluster {
    pub node: String,
}

impl Config {
    /// Reads the file, if one is named, and the environment.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| ConfigError::new(format!("{}: {e}", path.display())))?,
            None => String::new(),
        };
        let name = file.map_or_else(|| "defaults".to_owned(), |p| p.display().to_string());
        Self::read(&name, &text, std::env::vars())
    }

    /// Reads a text and environment variables; `name` stands in errors.
    pub(crate) fn read(
        name: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let config: Self = parse::read(name, text, environment)?;
        config.check()?;
        Ok(config)
    }

    /// The domains, the first of which bare names belong to.
    pub(crate) fn all_domains(&self) -> Vec<String> {
        let domains = match self.domains.as_slice() {
            [] => std::slice::from_ref(&self.domain),
            several => several,
        };
        domains.iter().map(|d| d.to_ascii_lowercase()).collect()
    }

    /// The domain that bare names belong to.
    pub(crate) fn first_domain(&self) -> String {
        self.all_domains().into_iter().next().unwrap_or_default()
    }
}

macro_rules! any_v4 {
    ($port:literal) => {
        vec![SocketAddr::from(([0, 0, 0, 0], $port))]
    };
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: "localhost".to_owned(),
            domains: Vec::new(),
            data: PathBuf::from("data"),
            sip: Sip::default(),
            https: Https::default(),
            acme: Acme::default(),
            media: Media::default(),
            store: StoreConfig::default(),
            files: Files::default(),
            limits: Limits::default(),
            log: Log::default(),
            cluster: Cluster::default(),
        }
    }
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            udp: any_v4!(5060),
            tcp: any_v4!(5060),
            tls: any_v4!(5061),
            routing: Routing::Anchor,
            shards: 0,
            trusted: Vec::new(),
            strangers: Strangers::Challenge,
            advertise: Vec::new(),
            min_expires_s: 60,
            max_expires_s: 3600,
            max_contacts: 10,
            nonce_lifetime_s: 300,
        }
    }
}

impl Default for Https {
    fn default() -> Self {
        Self {
            listen: any_v4!(8443),
            http: Vec::new(),
            http_anywhere: false,
            metrics_anywhere: false,
            origins: Vec::new(),
            certificate: Certificate::SelfSigned,
        }
    }
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            contact: Vec::new(),
            terms_agreed: false,
            root: PathBuf::new(),
        }
    }
}

impl Default for Media {
    fn default() -> Self {
        Self {
            addresses: vec!["auto".to_owned()],
            rtp_ports: PortRange {
                first: 10_000,
                last: 19_999,
            },
            webrtc_port: 8443,
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: "sqlite".to_owned(),
            queue: 16_384,
        }
    }
}

impl Default for Files {
    fn default() -> Self {
        Self {
            max_bytes: 100 * 1024 * 1024,
            account_bytes: 10 * 1024 * 1024 * 1024,
            link_s: 7 * 24 * 3600,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            exempt: Vec::new(),
            requests_per_second: 200,
            account_requests_per_second: 100,
            failures_before_ban: 10,
            ban_s: 600,
            connections: 20_000,
            connections_per_source: 1_000,
            sessions_per_account: 50,
            message_bytes: 81_920,
            headers: 128,
            via: 70,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            node: "one".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
