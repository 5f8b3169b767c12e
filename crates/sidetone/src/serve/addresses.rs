//! Our own addresses: where we listen, and what others are told.
//!
//! *Invariant*: a listener's number is its place in the configuration: UDP, TCP, TLS, HTTPS,
//! HTTP, each in order. The same configuration gives the same numbers, so bindings and tokens
//! of an earlier run still name the right listener.

use crate::config::Config;
use sidetone_engine::Listen;
use sidetone_services::Domains;
use sidetone_sip::Transport;
use sidetone_sip::proxy::{Local, Locals};
use sidetone_transport::netinfo;
use std::net::{IpAddr, SocketAddr};

/// Every listener in the order of its number; `web` are the bound ones of HTTPS, then HTTP.
pub(super) fn listeners(config: &Config, https: &[SocketAddr], http: &[SocketAddr]) -> Vec<Listen> {
    let sip = &config.sip;
    let all = [
        (Transport::Udp, sip.udp.as_slice()),
        (Transport::Tcp, sip.tcp.as_slice()),
        (Transport::Tls, sip.tls.as_slice()),
        (Transport::Wss, https),
        (Transport::Ws, http),
    ];
    let listen = |transport| {
        move |address: &SocketAddr| Listen {
            transport,
            address: *address,
        }
    };
    all.into_iter()
        .flat_map(|(transport, list)| list.iter().map(listen(transport)))
        .collect()
}

/// Where a browser finds the pages of the server that this configuration starts.
pub(crate) fn configured_portal(config: &Config) -> Option<String> {
    let (https, http) = (&config.https.listen, &config.https.http);
    Advertised::read(config).portal(https, http)
}

/// What `sip.advertise` says.
pub(super) struct Advertised {
    /// The name for every listener.
    general: Option<String>,
    /// `10.0.0.5=203.0.113.7`: the name for the listeners of one address.
    mapped: Vec<(IpAddr, String)>,
    machine: Vec<IpAddr>,
}

impl Advertised {
    pub(super) fn read(config: &Config) -> Self {
        let mut read = Self {
            general: None,
            mapped: Vec::new(),
            machine: netinfo::local_addresses().unwrap_or_default(),
        };
        for entry in &config.sip.advertise {
            match entry.split_once('=') {
                None if read.general.is_some() => {}
                None => read.general = Some(entry.trim().to_owned()),
                Some((inner, outer)) => match inner.trim().parse() {
                    Ok(inner) => read.mapped.push((inner, outer.trim().to_owned())),
                    Err(_) => tracing::warn!(entry, "sip.advertise: no address before the ="),
                },
            }
        }
        read
    }

    /// The host that peers reach this listener by.
    pub(super) fn host(&self, bound: IpAddr) -> String {
        let own = match bound.is_unspecified() {
            true => self.machine_address(bound.is_ipv6()).unwrap_or(bound),
            false => bound,
        };
        let mapped = self.mapped.iter().find(|(inner, _)| *inner == own);
        let named = mapped.map(|(_, outer)| outer).or(self.general.as_ref());
        named.map_or_else(|| own.to_string(), Clone::clone)
    }

    /// Where a browser finds the pages, with HTTPS first.
    pub(super) fn portal(&self, https: &[SocketAddr], http: &[SocketAddr]) -> Option<String> {
        let secure = https.first().map(|address| ("https", address));
        let (scheme, address) = secure.or_else(|| http.first().map(|address| ("http", address)))?;
        let host = self.host(address.ip());
        Some(format!("{scheme}://{}", join(&host, address.port())))
    }

    /// The first address of that family; loopback where the machine has no other.
    fn machine_address(&self, ipv6: bool) -> Option<IpAddr> {
        self.machine.iter().copied().find(|ip| ip.is_ipv6() == ipv6)
    }

    /// Every host that means this server.
    fn hosts(&self, bound: IpAddr) -> Vec<String> {
        let mut hosts = vec![self.host(bound)];
        match bound.is_unspecified() {
            true => {
                let family = |ip: &&IpAddr| ip.is_ipv6() == bound.is_ipv6();
                hosts.extend(self.machine.iter().filter(family).map(IpAddr::to_string));
            }
            false => hosts.push(bound.to_string()),
        }
        hosts
    }

    /// The names for a certificate of our own.
    pub(super) fn names(&self, config: &Config, listeners: &[Listen]) -> Vec<String> {
        let mut names = config.all_domains();
        let hosts = listeners
            .iter()
            .flat_map(|listen| self.hosts(listen.address.ip()));
        names.extend(hosts);
        names.push("localhost".to_owned());
        names.retain(|name| {
            name.parse()
                .ok()
                .is_none_or(|ip: IpAddr| !ip.is_unspecified())
        });
        names.sort();
        names.dedup();
        names
    }
}

/// The table of our addresses. Behind those of the listeners stand the others that requests
/// may name in Route: a wildcard listener is reached by every address of the machine.
pub(super) fn locals(advertised: &Advertised, listeners: &[Listen]) -> Locals {
    let first = listeners
        .iter()
        .map(|listen| local(*listen, &advertised.host(listen.address.ip())));
    let others = listeners.iter().flat_map(|listen| {
        let hosts = advertised.hosts(listen.address.ip()).into_iter().skip(1);
        hosts.map(|host| local(*listen, &host))
    });
    Locals::new(first.chain(others).collect())
}

fn local(listen: Listen, host: &str) -> Local {
    let sent_by = join(host, listen.address.port());
    let parameter = match listen.transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
        Transport::Ws | Transport::Wss => ";transport=ws",
    };
    Local {
        transport: listen.transport,
        uri: format!("sip:{sent_by}{parameter}"),
        sent_by,
    }
}

/// `host:port`, with brackets where the host is an IPv6 address.
pub(super) fn join(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

/// Our domains; a host or address of ours means the first one.
pub(super) fn domains(config: &Config, advertised: &Advertised, listeners: &[Listen]) -> Domains {
    let first = config.first_domain();
    let mut domains = Domains::new(&first);
    for listen in listeners {
        for host in advertised.hosts(listen.address.ip()) {
            domains.add(&host, &first);
        }
    }
    for domain in config.all_domains() {
        domains.add(&domain, &domain);
    }
    domains
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::read("test", text, []).unwrap()
    }

    #[test]
    fn listeners_are_numbered_in_order() {
        let config = config("[sip]\nudp = [\"127.0.0.1:5060\", \"[::1]:5060\"]\ntls = []");
        let https = ["127.0.0.1:8443".parse().unwrap()];
        let listeners = listeners(&config, &https, &[]);
        let transports: Vec<Transport> = listeners.iter().map(|listen| listen.transport).collect();
        use Transport::{Tcp, Udp, Wss};
        assert_eq!(transports, [Udp, Udp, Tcp, Wss]);
    }

    #[test]
    fn a_wildcard_is_every_address_and_advertises_one() {
        let config = config(
            "domain = \"example.test\"\n[sip]\nadvertise = [\"sip.example.test\", \"127.0.0.1=203.0.113.7\"]",
        );
        let listen = |text: &str| Listen {
            transport: Transport::Udp,
            address: text.parse().unwrap(),
        };
        let listeners = [
            listen("127.0.0.1:5060"),
            listen("0.0.0.0:5070"),
            listen("192.0.2.9:5080"),
        ];
        let mut advertised = Advertised::read(&config);
        advertised.machine = vec!["192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let locals = locals(&advertised, &listeners);
        assert!(locals.is_ours("203.0.113.7", Some(5060)) && locals.is_ours("127.0.0.1", None));
        assert!(locals.is_ours("sip.example.test", Some(5070)));
        assert!(locals.is_ours("192.0.2.1", Some(5070)) && locals.is_ours("127.0.0.1", Some(5070)));
        assert!(!locals.is_ours("192.0.2.1", Some(5080)) && !locals.is_ours("0.0.0.0", Some(5070)));
        let domains = domains(&config, &advertised, &listeners);
        for host in [
            "example.test",
            "sip.example.test",
            "192.0.2.9",
            "203.0.113.7",
        ] {
            assert_eq!(domains.canonical(host), Some("example.test"), "{host}");
        }
        assert_eq!(domains.canonical("0.0.0.0"), None);
        assert_eq!(join("::1", 5), "[::1]:5");
    }
}
