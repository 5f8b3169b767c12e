//! What no single key can say about itself.
//!
//! *Invariant*: a configuration that passes names hosts, addresses and pages that can be such.

use super::{Config, ConfigError};
use std::net::{IpAddr, SocketAddr};

type Fits = fn(&str) -> bool;

impl Config {
    /// What no single key can say.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |text: &str| Err(ConfigError::new(text.to_owned()));
        if self.domain != Config::default().domain && !self.domains.is_empty() {
            return wrong("domain and domains are both given: keep one of them");
        }
        for domain in self.all_domains() {
            if sidetone_model::AddressOfRecord::new("x", &domain).is_err() {
                return Err(ConfigError::new(format!(
                    "domain: {domain:?} is no host name"
                )));
            }
        }
        if self.sip.min_expires_s == 0 || self.sip.min_expires_s > self.sip.max_expires_s {
            return wrong("sip.min_expires_s: must be above 0 and not above sip.max_expires_s");
        }
        if self.sip.nonce_lifetime_s == 0 {
            return wrong("sip.nonce_lifetime_s: must be above 0");
        }
        if self.limits.connections == 0 || self.limits.connections_per_source == 0 {
            return wrong("limits.connections and connections_per_source: must be above 0");
        }
        if self.sip.max_contacts == 0 {
            return wrong("sip.max_contacts: must be above 0");
        }
        if self.sip.shards > 256 {
            return wrong("sip.shards: at most 256");
        }
        if self.store.queue == 0 {
            return wrong("store.queue: must be above 0");
        }
        if self.limits.message_bytes < 4096 || self.limits.headers < 16 || self.limits.via == 0 {
            return wrong("limits: message_bytes is at least 4096, headers 16, via 1");
        }
        if self.files.max_bytes == 0 || self.files.link_s == 0 {
            return wrong("files.max_bytes and link_s: must be above 0");
        }
        let open = self.https.http.iter().find(|a| !a.ip().is_loopback());
        if let (Some(address), false) = (open, self.https.http_anywhere) {
            return Err(ConfigError::new(format!(
                "https.http: {address} is not loopback; plain HTTP there needs \
                 https.http_anywhere = true"
            )));
        }
        self.check_addresses()?;
        self.check_names()?;
        if !super::log::is_level(&self.log.level) {
            return wrong(
                "log.level: use error, warn, info, debug or trace, also info,TARGET=debug",
            );
        }
        Ok(())
    }

    /// No two listeners of one kind on one address: the second would take calls of the first.
    fn check_addresses(&self) -> Result<(), ConfigError> {
        let (sip, https) = (&self.sip, &self.https);
        let udp = [("sip.udp", &sip.udp)];
        let streams = [
            ("sip.tcp", &sip.tcp),
            ("sip.tls", &sip.tls),
            ("https.listen", &https.listen),
            ("https.http", &https.http),
        ];
        if udp.iter().chain(&streams).all(|(_, list)| list.is_empty()) {
            let text = "sip, https: there is no listener at all: nobody could reach the server";
            return Err(ConfigError::new(text.to_owned()));
        }
        for kind in [&udp[..], &streams[..]] {
            let mut seen: Vec<(&str, SocketAddr)> = Vec::new();
            let all = kind
                .iter()
                .flat_map(|(key, list)| list.iter().map(|at| (*key, *at)));
            for (key, at) in all {
                let same = seen
                    .iter()
                    .find(|(_, other)| *other == at && at.port() != 0);
                if let Some((first, _)) = same {
                    let text = match *first == key {
                        true => format!("{key}: {at} is given twice"),
                        false => format!("{key}: {at} is given to {first} already"),
                    };
                    return Err(ConfigError::new(text));
                }
                seen.push((key, at));
            }
        }
        Ok(())
    }

    /// Names of hosts, addresses and web pages, which nothing else reads before they are used.
    fn check_names(&self) -> Result<(), ConfigError> {
        let lists: [(&str, &[String], Fits, &str); 3] = [
            (
                "media.addresses",
                &self.media.addresses,
                |text| text == "auto" || is_address(text) || is_pair(text, is_address),
                "\"auto\", an address, or ADDRESS=ADDRESS",
            ),
            (
                "sip.advertise",
                &self.sip.advertise,
                |text| is_host(text) || is_pair(text, is_host),
                "a host name, an address, or ADDRESS=HOST",
            ),
            (
                "https.origins",
                &self.https.origins,
                is_origin,
                "an origin like https://intranet.example.org",
            ),
        ];
        for (key, list, fits, wanted) in lists {
            if let Some(text) = list.iter().find(|text| !fits(text)) {
                return Err(ConfigError::new(format!("{key}: {text:?} is not {wanted}")));
            }
        }
        Ok(())
    }
}

fn is_address(text: &str) -> bool {
    let address: Result<IpAddr, _> = text.trim().parse();
    address.is_ok_and(|address| !address.is_unspecified())
}

fn is_host(text: &str) -> bool {
    let text = text.trim();
    is_address(text) || {
        // Four numbers that are no address are a slip of the pen, and no host name.
        let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let label = |label: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
        };
        !numeric && text.len() <= 253 && text.split('.').all(label)
    }
}

/// `10.0.0.5=203.0.113.7`: an address of this machine, and what stands for it.
fn is_pair(text: &str, outer: impl Fn(&str) -> bool) -> bool {
    text.split_once('=')
        .is_some_and(|(inside, outside)| is_address(inside) && outer(outside))
}

/// RFC 6454 §6.2: scheme, host and port, and nothing behind them.
fn is_origin(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest)) else {
        return false;
    };
    let literal = rest
        .strip_prefix('[')
        .and_then(|inner| inner.split_once(']'));
    let (host, port) = match (literal, rest.split_once(':')) {
        (Some((host, "")), _) => (host, None),
        (Some((host, port)), _) => (host, Some(port.strip_prefix(':').unwrap_or(""))),
        (None, Some((host, port))) => (host, Some(port)),
        (None, None) => (rest, None),
    };
    is_host(host) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}
