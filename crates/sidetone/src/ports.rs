//! Whether the addresses of the configuration are free.
//!
//! *Invariant*: the SIP sockets are shared between shards (`SO_REUSEPORT`), and so another
//! server could bind them too and take a part of the calls; an address is tried without it
//! first, and one that somebody holds is an error that names it.

use crate::config::Config;
use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// Binds every address for a moment and for itself alone; gives what is wrong, a line each.
pub(crate) fn taken(config: &Config) -> Vec<String> {
    let (sip, https) = (&config.sip, &config.https);
    let udp = |at: SocketAddr| UdpSocket::bind(at).map(drop);
    let tcp = |at: SocketAddr| TcpListener::bind(at).map(drop);
    let mut reasons = Vec::new();
    let mut try_all =
        |key: &str, list: &[SocketAddr], bind: &dyn Fn(SocketAddr) -> Result<(), Error>| {
            for at in list {
                if let Err(error) = bind(*at) {
                    reasons.push(reason(key, *at, &error));
                }
            }
        };
    try_all("sip.udp", &sip.udp, &udp);
    try_all("sip.tcp", &sip.tcp, &tcp);
    try_all("sip.tls", &sip.tls, &tcp);
    try_all("https.listen", &https.listen, &tcp);
    try_all("https.http", &https.http, &tcp);
    reasons
}

/// Why an address could not be bound.
pub(crate) fn reason(key: &str, at: SocketAddr, error: &Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("{key}: {at}: address already in use by another program"),
        ErrorKind::AddrNotAvailable => format!("{key}: {at}: this machine has no such address"),
        ErrorKind::PermissionDenied => {
            format!("{key}: {at}: ports below 1024 need the right to bind them ({error})")
        }
        _ => format!("{key}: {at}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_somebody_holds_is_named() {
        let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::default();
        config.sip.udp = vec![holder.local_addr().unwrap()];
        config.sip.tcp = vec![listener.local_addr().unwrap()];
        config.sip.tls = Vec::new();
        config.https.listen = Vec::new();
        let reasons = taken(&config);
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        for (reason, key) in reasons.iter().zip(["sip.udp", "sip.tcp"]) {
            assert!(reason.starts_with(key), "{reason}");
            assert!(reason.ends_with("address already in use by another program"));
        }
        drop((holder, listener));
        assert!(taken(&config).is_empty());
    }
}
