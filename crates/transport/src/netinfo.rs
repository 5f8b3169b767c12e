//! The addresses of this machine, for advertising when a listener is bound to a
//! wildcard address.
//!
//! *Invariant:* the order is stable for one set of interfaces: usable by others
//! first (IPv4, then IPv6), loopback last.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

/// Addresses of interfaces that are up, without link-local ones.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = getifaddrs()?.filter_map(|i| usable(&i)).collect();
    found.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    found.dedup();
    Ok(found)
}

/// The first address that other machines can reach, if there is one.
pub fn advertised_address(want_ipv6: bool) -> io::Result<Option<IpAddr>> {
    let mut found = local_addresses()?.into_iter();
    Ok(found.find(|ip| !ip.is_loopback() && ip.is_ipv6() == want_ipv6))
}

fn usable(interface: &InterfaceAddress) -> Option<IpAddr> {
    if !interface.flags.contains(InterfaceFlags::IFF_UP) {
        return None;
    }
    let address = interface.address.as_ref()?;
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip())).filter(|ip| !is_link_local(*ip));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(IpAddr::V6(v6.ip())).filter(|ip| !is_link_local(*ip))
}

/// RFC 3927 and RFC 4291 §2.5.6: of no use without the interface's name.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => is_v6_link_local(v6),
    }
}

fn is_v6_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed_last_and_link_local_never() {
        let found = local_addresses().unwrap();
        assert!(found.contains(&IpAddr::from([127, 0, 0, 1])));
        assert!(found.iter().all(|ip| !is_link_local(*ip)));
        let first_loopback = found.iter().position(IpAddr::is_loopback).unwrap();
        assert!(found[first_loopback..].iter().all(IpAddr::is_loopback));
    }

    #[test]
    fn link_local_is_recognised() {
        assert!(is_link_local("fe80::1".parse().unwrap()));
        assert!(is_link_local("169.254.3.4".parse().unwrap()));
        assert!(!is_link_local("fd00::1".parse().unwrap()));
    }
}
