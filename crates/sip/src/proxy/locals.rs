//! Our own addresses, by the number of their listener.
//!
//! *Invariant*: fixed at start; a flow of a listener that is not in the table has the address of the first of its
//! transport, or of all.

use crate::{Flow, Transport, host_port};

/// The addresses of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// The transport.
    pub transport: Transport,
    /// `host:port` for Via.
    pub sent_by: String,
    /// The URI for Record-Route and Path, such as `sip:host:port;transport=tcp`.
    pub uri: String,
}

#[derive(Debug, Clone)]
struct Place {
    local: Local,
    host: String,
    port: u16,
}

/// The addresses of all listeners.
#[derive(Debug, Clone, Default)]
pub struct Locals {
    places: Vec<Place>,
}

impl Locals {
    /// The table: the index of an entry is the number of its listener.
    #[must_use]
    pub fn new(locals: Vec<Local>) -> Self {
        let place = |local: Local| {
            let (host, port) = host_port(&local.sent_by).unwrap_or((&local.sent_by, None));
            let (host, port) = (
                host.to_owned(),
                port.unwrap_or(local.transport.default_port()),
            );
            Place { local, host, port }
        };
        Self {
            places: locals.into_iter().map(place).collect(),
        }
    }

    fn local(&self, flow: &Flow) -> Option<&Local> {
        let by_number = self.places.get(usize::from(flow.listener));
        let same = |place: &&Place| place.local.transport == flow.transport;
        let place = by_number
            .filter(same)
            .or_else(|| self.places.iter().find(same))
            .or(by_number);
        place.or(self.places.first()).map(|place| &place.local)
    }

    /// What stands in Via for requests that leave by this flow.
    #[must_use]
    pub fn sent_by(&self, flow: &Flow) -> &str {
        self.local(flow).map_or("invalid", |local| &local.sent_by)
    }

    /// The URI by which the other end of this flow reaches us.
    #[must_use]
    pub fn uri(&self, flow: &Flow) -> &str {
        self.local(flow).map_or("sip:invalid", |local| &local.uri)
    }

    /// The number of the first listener of this transport and address family, or of this transport.
    #[must_use]
    pub fn listener(&self, transport: Transport, ipv6: bool) -> Option<u16> {
        let of = |fits: &dyn Fn(&Place) -> bool| {
            self.places
                .iter()
                .position(|place| place.local.transport == transport && fits(place))
        };
        let found = of(&|place| place.host.starts_with('[') == ipv6).or_else(|| of(&|_| true))?;
        u16::try_from(found).ok()
    }

    /// Whether one of our listeners has this address. No port means the usual one.
    #[must_use]
    pub fn is_ours(&self, host: &str, port: Option<u16>) -> bool {
        let here = |place: &Place| {
            port.unwrap_or(place.local.transport.default_port()) == place.port
                && place.host.eq_ignore_ascii_case(host)
        };
        self.places.iter().any(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_by_listener() {
        let local = |transport, sent_by: &str, uri: &str| Local {
            transport,
            sent_by: sent_by.to_owned(),
            uri: uri.to_owned(),
        };
        let locals = Locals::new(vec![
            local(Transport::Udp, "192.0.2.1:5060", "sip:192.0.2.1:5060"),
            local(
                Transport::Tcp,
                "[2001:db8::1]:5070",
                "sip:[2001:db8::1]:5070;transport=tcp",
            ),
        ]);
        let remote = "198.51.100.7:1234".parse().unwrap();
        let tcp = Flow::to(Transport::Tcp, 1, remote);
        assert_eq!(locals.sent_by(&tcp), "[2001:db8::1]:5070");
        assert_eq!(
            locals.uri(&Flow { listener: 9, ..tcp }),
            "sip:[2001:db8::1]:5070;transport=tcp"
        );
        assert_eq!(
            locals.uri(&Flow::to(Transport::Udp, 0, remote)),
            "sip:192.0.2.1:5060"
        );
        assert!(locals.is_ours("192.0.2.1", Some(5060)) && locals.is_ours("192.0.2.1", None));
        assert!(locals.is_ours("[2001:DB8::1]", Some(5070)));
        for (host, port) in [
            ("192.0.2.1", Some(5070)),
            ("[2001:db8::1]", None),
            ("192.0.2.2", Some(5060)),
        ] {
            assert!(!locals.is_ours(host, port), "{host}");
        }
        assert!(!Locals::default().is_ours("invalid", None));
    }
}
