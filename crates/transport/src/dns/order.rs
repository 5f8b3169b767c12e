//! The decisions of RFC 3263 §4 and RFC 2782, without a look-up.

use std::net::{IpAddr, SocketAddr};

use super::{Abilities, Hop, Protocol, ResolveError, Target};

/// What to ask name servers for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Direct(Hop),
    /// A and AAAA of the host.
    Addresses {
        /// How to reach them.
        transport: Protocol,
        /// At which port.
        port: u16,
    },
    /// SRV for one transport, then as `Addresses` with its default port.
    Servers(Protocol),
    /// NAPTR, then SRV for each of these, then as `Addresses` with the default port
    /// of `fallback`.
    Services {
        /// What we would ask for without NAPTR records, in our order.
        transports: Vec<Protocol>,
        /// What to use when there are no SRV records either.
        fallback: Protocol,
    },
}

/// RFC 3263 §4.1 and §4.2.
pub fn plan(target: &Target, abilities: &Abilities) -> Result<Plan, ResolveError> {
    let transport = target
        .transport
        .map(|asked| secured(asked, target.sips))
        .transpose()?;
    if transport.is_some_and(|t| !abilities.speak(t)) {
        return Err(ResolveError::Transport);
    }
    let fallback = if target.sips {
        Protocol::Tls
    } else {
        first_plain(abilities)
    };
    let chosen = transport.unwrap_or(fallback);
    if !abilities.speak(chosen) {
        return Err(ResolveError::Transport);
    }
    let port = target.port.unwrap_or(chosen.default_port());
    let host = target.host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = host.parse::<IpAddr>() {
        let address = SocketAddr::new(ip, port);
        return Ok(Plan::Direct(Hop {
            transport: chosen,
            address,
        }));
    }
    Ok(match (target.port, transport) {
        (Some(port), _) => Plan::Addresses {
            transport: chosen,
            port,
        },
        (None, Some(transport)) => Plan::Servers(transport),
        (None, None) => Plan::Services {
            transports: own_order(target.sips, abilities),
            fallback,
        },
    })
}

/// RFC 3261 §26.2.2: `sips` means TLS whatever the parameter says about TCP.
fn secured(asked: Protocol, sips: bool) -> Result<Protocol, ResolveError> {
    match asked {
        Protocol::Udp if sips => Err(ResolveError::Transport),
        Protocol::Tcp if sips => Ok(Protocol::Tls),
        Protocol::Ws if sips => Ok(Protocol::Wss),
        other => Ok(other),
    }
}

/// RFC 3263 §4.1: UDP for `sip` when nothing says otherwise.
fn first_plain(abilities: &Abilities) -> Protocol {
    if abilities.udp {
        Protocol::Udp
    } else {
        Protocol::Tcp
    }
}

fn own_order(sips: bool, abilities: &Abilities) -> Vec<Protocol> {
    let all: &[Protocol] = if sips {
        &[Protocol::Tls]
    } else {
        &[Protocol::Udp, Protocol::Tcp]
    };
    all.iter()
        .copied()
        .filter(|t| abilities.speak(*t))
        .collect()
}

/// The SRV prefix of a transport: `_sip._udp` (RFC 3263 §4.1).
pub(super) fn srv_prefix(transport: Protocol) -> Option<&'static str> {
    match transport {
        Protocol::Udp => Some("_sip._udp"),
        Protocol::Tcp => Some("_sip._tcp"),
        Protocol::Tls => Some("_sips._tcp"),
        Protocol::Ws | Protocol::Wss => None,
    }
}

/// A NAPTR record (RFC 3403 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower first; a different order is not considered once one matched.
    pub order: u16,
    /// Lower first among the same order.
    pub preference: u16,
    /// `s` for an SRV name in `replacement`.
    pub flags: String,
    /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`.
    pub service: String,
    /// Must be empty for SIP.
    pub regexp: String,
    /// Where the SRV records are.
    pub replacement: String,
}

/// The SRV names to ask for, in order. What we do not speak, or `sips` forbids, is
/// left out (RFC 3263 §4.1).
pub fn order_services(
    mut records: Vec<Service>,
    sips: bool,
    abilities: &Abilities,
) -> Vec<(Protocol, String)> {
    records.sort_by_key(|r| (r.order, r.preference));
    let usable = records.into_iter().filter_map(|record| {
        let transport = service_transport(&record, sips).filter(|t| abilities.speak(*t))?;
        Some((transport, record.replacement))
    });
    usable.collect()
}

fn service_transport(record: &Service, sips: bool) -> Option<Protocol> {
    if !record.flags.eq_ignore_ascii_case("s") || !record.regexp.is_empty() {
        return None;
    }
    match record.service.to_ascii_uppercase().as_str() {
        "SIPS+D2T" => Some(Protocol::Tls),
        "SIP+D2U" if !sips => Some(Protocol::Udp),
        "SIP+D2T" if !sips => Some(Protocol::Tcp),
        _ => None,
    }
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Lower first.
    pub priority: u16,
    /// Share of the load among the same priority.
    pub weight: u16,
    /// At which port.
    pub port: u16,
    /// The host; `.` means that the service does not exist.
    pub host: String,
}

/// RFC 2782, "Weight": by priority, then drawn by weight with this seed.
pub fn order_servers(mut records: Vec<Server>, seed: u64) -> Vec<Server> {
    records.retain(|r| r.host != "." && !r.host.is_empty());
    // Weight 0 first within a priority, as the algorithm asks.
    records.sort_by_key(|r| (r.priority, r.weight > 0));
    let mut dice = Dice(seed);
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let same = records
            .iter()
            .take_while(|r| r.priority == first.priority)
            .count();
        let drawn = draw(&records[..same], &mut dice);
        ordered.push(records.remove(drawn));
    }
    ordered
}

/// The first whose running sum of weights reaches a number from 0 to the total.
fn draw(candidates: &[Server], dice: &mut Dice) -> usize {
    let total: u64 = candidates.iter().map(|r| u64::from(r.weight)).sum();
    let number = dice.up_to(total);
    let mut running = 0;
    let reaches = |r: &Server| {
        running += u64::from(r.weight);
        running >= number
    };
    candidates.iter().position(reaches).unwrap_or(0)
}

/// SplitMix64: enough to spread load, and repeatable from a seed.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, max: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % (max + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities {
        ipv4: true,
        ipv6: true,
        udp: true,
        tcp: true,
        tls: true,
    };

    fn target(host: &str, port: Option<u16>, transport: Option<Protocol>, sips: bool) -> Target {
        Target {
            host: host.to_owned(),
            port,
            transport,
            sips,
        }
    }

    fn direct(transport: Protocol, address: &str) -> Result<Plan, ResolveError> {
        Ok(Plan::Direct(Hop {
            transport,
            address: address.parse().unwrap(),
        }))
    }

    #[test]
    fn addresses_need_no_question() {
        use Protocol::{Tcp, Tls, Udp};
        let of = |host, port, transport, sips| plan(&target(host, port, transport, sips), &ALL);
        assert_eq!(
            of("192.0.2.1", None, None, false),
            direct(Udp, "192.0.2.1:5060")
        );
        assert_eq!(
            of("192.0.2.1", None, None, true),
            direct(Tls, "192.0.2.1:5061")
        );
        assert_eq!(
            of("192.0.2.1", Some(7), Some(Tcp), false),
            direct(Tcp, "192.0.2.1:7")
        );
        assert_eq!(
            of("[2001:db8::1]", None, Some(Tls), false),
            direct(Tls, "[2001:db8::1]:5061")
        );
        assert_eq!(
            of("2001:db8::1", None, Some(Tcp), true),
            direct(Tls, "[2001:db8::1]:5061")
        );
    }

    #[test]
    fn names_are_asked_for_as_far_as_needed() {
        use Protocol::{Tcp, Tls, Udp};
        let of = |port, transport, sips| plan(&target("a.example", port, transport, sips), &ALL);
        let addresses = |transport, port| Ok(Plan::Addresses { transport, port });
        assert_eq!(of(Some(5080), None, false), addresses(Udp, 5080));
        assert_eq!(of(Some(5080), None, true), addresses(Tls, 5080));
        assert_eq!(of(None, Some(Tcp), false), Ok(Plan::Servers(Tcp)));
        assert_eq!(of(None, Some(Tcp), true), Ok(Plan::Servers(Tls)));
        let services = Plan::Services {
            transports: vec![Udp, Tcp],
            fallback: Udp,
        };
        assert_eq!(of(None, None, false), Ok(services));
        let services = Plan::Services {
            transports: vec![Tls],
            fallback: Tls,
        };
        assert_eq!(of(None, None, true), Ok(services));
    }

    #[test]
    fn what_cannot_be_spoken_is_refused() {
        let of = |transport, sips, abilities| {
            plan(&target("a.example", None, transport, sips), abilities)
        };
        assert_eq!(
            of(Some(Protocol::Udp), true, &ALL),
            Err(ResolveError::Transport)
        );
        assert_eq!(
            of(Some(Protocol::Ws), false, &ALL),
            Err(ResolveError::Transport)
        );
        let no_tls = Abilities { tls: false, ..ALL };
        assert_eq!(of(None, true, &no_tls), Err(ResolveError::Transport));
        let no_udp = Abilities { udp: false, ..ALL };
        let services = Plan::Services {
            transports: vec![Protocol::Tcp],
            fallback: Protocol::Tcp,
        };
        assert_eq!(of(None, false, &no_udp), Ok(services));
    }

    fn service(order: u16, preference: u16, service: &str) -> Service {
        let replacement = format!("{order}.{preference}.example");
        let (service, flags) = (service.to_owned(), "s".to_owned());
        Service {
            order,
            preference,
            flags,
            service,
            regexp: String::new(),
            replacement,
        }
    }

    #[test]
    fn services_are_taken_by_order_then_preference() {
        let mut records = vec![
            service(90, 50, "SIP+D2T"),
            service(50, 50, "SIPS+D2T"),
            service(90, 10, "sip+d2u"),
            service(10, 10, "E2U+sip"),
        ];
        records.push(Service {
            flags: "u".to_owned(),
            ..service(1, 1, "SIP+D2U")
        });
        records.push(Service {
            regexp: "!.*!x!".to_owned(),
            ..service(1, 2, "SIP+D2U")
        });
        let named = |list: &[(Protocol, &str)]| -> Vec<(Protocol, String)> {
            list.iter()
                .map(|(t, name)| (*t, (*name).to_owned()))
                .collect()
        };
        use Protocol::{Tcp, Tls, Udp};
        let all = named(&[
            (Tls, "50.50.example"),
            (Udp, "90.10.example"),
            (Tcp, "90.50.example"),
        ]);
        assert_eq!(order_services(records.clone(), false, &ALL), all);
        assert_eq!(order_services(records.clone(), true, &ALL), all[..1]);
        let no_tls = Abilities { tls: false, ..ALL };
        assert_eq!(order_services(records, false, &no_tls), all[1..]);
    }

    fn server(priority: u16, weight: u16, host: &str) -> Server {
        Server {
            priority,
            weight,
            port: 5060,
            host: host.to_owned(),
        }
    }

    #[test]
    fn servers_are_tried_by_priority_whatever_the_seed() {
        for seed in 0..200 {
            let records = vec![
                server(2, 9, "d"),
                server(1, 0, "a"),
                server(1, 5, "b"),
                server(0, 0, "c"),
            ];
            let hosts: Vec<_> = order_servers(records, seed)
                .into_iter()
                .map(|s| s.host)
                .collect();
            assert_eq!((hosts[0].as_str(), hosts[3].as_str()), ("c", "d"));
            assert_eq!(hosts.len(), 4);
        }
    }

    #[test]
    fn weights_decide_how_often_a_server_is_first() {
        let records = [
            server(1, 10, "a"),
            server(1, 30, "b"),
            server(1, 60, "c"),
            server(1, 0, "z"),
        ];
        let mut first = std::collections::HashMap::<String, u32>::new();
        for seed in 0..20_000 {
            let winner = order_servers(records.to_vec(), seed).swap_remove(0);
            *first.entry(winner.host).or_default() += 1;
        }
        let near = |host: &str, share: f64| {
            let got = f64::from(first[host]) / 20_000.0;
            assert!(
                (got - share).abs() < 0.02,
                "{host}: {got} instead of {share}"
            );
        };
        near("a", 10.0 / 101.0);
        near("b", 30.0 / 101.0);
        near("c", 60.0 / 101.0);
        near("z", 1.0 / 101.0);
        assert_eq!(
            order_servers(records.to_vec(), 7),
            order_servers(records.to_vec(), 7)
        );
    }

    #[test]
    fn a_dot_means_that_there_is_no_such_service() {
        assert_eq!(order_servers(vec![server(0, 0, ".")], 1), []);
    }
}
