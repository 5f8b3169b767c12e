//! The look-ups. They run on one runtime, whichever thread asks.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::order::{Plan, Server, Service, order_servers, order_services, plan, srv_prefix};
use super::{Abilities, HOPS_MAX, Hop, Protocol, RESOLVE_TIMEOUT, ResolveError, Target};

const CACHE_RESPONSES: u64 = 4096;
/// A name that does not exist is not asked for again so soon, nor forgotten for long.
const NEGATIVE_MIN: Duration = Duration::from_secs(5);
const NEGATIVE_MAX: Duration = Duration::from_secs(300);
/// Leaves most of the whole time to SRV and addresses.
const NAPTR_TIMEOUT: Duration = Duration::from_secs(2);
const POSITIVE_MAX: Duration = Duration::from_secs(3600);

/// Finds hops for targets; remembers answers, also negative ones. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    lookups: TokioResolver,
    runtime: Handle,
    abilities: Abilities,
}

impl Resolver {
    /// With the name servers and the hosts file of the system. Look-ups run on
    /// `runtime`, which must outlive the resolver; any thread may ask.
    pub fn from_system(runtime: Handle, abilities: Abilities) -> Result<Self, ResolveError> {
        let builder = TokioResolver::builder_tokio().map_err(|e| failed(&e))?;
        Self::build(builder, runtime, abilities)
    }

    /// With these name servers, asked by UDP, and by TCP for what does not fit.
    pub fn with_servers(
        servers: &[SocketAddr],
        runtime: Handle,
        abilities: Abilities,
    ) -> Result<Self, ResolveError> {
        let servers = servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider);
        Self::build(builder, runtime, abilities)
    }

    fn build(
        mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>,
        runtime: Handle,
        abilities: Abilities,
    ) -> Result<Self, ResolveError> {
        bound(builder.options_mut(), &abilities);
        let _inside = runtime.enter();
        let lookups = builder.build().map_err(|e| failed(&e))?;
        Ok(Self {
            lookups,
            runtime: runtime.clone(),
            abilities,
        })
    }

    /// The hops for a target, best first. `seed` decides among SRV records of one
    /// priority.
    pub async fn resolve(&self, target: Target, seed: u64) -> Result<Vec<Hop>, ResolveError> {
        let plan = plan(&target, &self.abilities)?;
        if let Plan::Direct(hop) = plan {
            return if self.abilities.reach(hop.address.ip()) {
                Ok(vec![hop])
            } else {
                Err(ResolveError::NotFound(target.host))
            };
        }
        let name = host_name(&target.host)?;
        let resolver = self.clone();
        // Not in the caller's future, and on the runtime where the sockets live.
        let work = self.runtime.spawn(async move {
            let found = resolver.follow(&name, plan, target.sips, seed);
            timeout(RESOLVE_TIMEOUT, found)
                .await
                .unwrap_or(Err(ResolveError::Timeout))
        });
        let hops = work
            .await
            .map_err(|e| ResolveError::Failed(e.to_string()))??;
        if hops.is_empty() {
            return Err(ResolveError::NotFound(target.host));
        }
        Ok(hops)
    }

    async fn follow(
        &self,
        host: &Name,
        plan: Plan,
        sips: bool,
        seed: u64,
    ) -> Result<Vec<Hop>, ResolveError> {
        match plan {
            Plan::Direct(hop) => Ok(vec![hop]),
            Plan::Addresses { transport, port } => self.addresses(host, transport, port).await,
            Plan::Servers(transport) => {
                let names = srv_names(host, &[transport]);
                self.servers_or_host(host, names, transport, seed).await
            }
            Plan::Services {
                transports,
                fallback,
            } => {
                let mut names = self.services(host, sips).await?;
                if names.is_empty() {
                    names = srv_names(host, &transports);
                }
                self.servers_or_host(host, names, fallback, seed).await
            }
        }
    }

    async fn services(
        &self,
        host: &Name,
        sips: bool,
    ) -> Result<Vec<(Protocol, Name)>, ResolveError> {
        // COMPAT(home routers): some fail or say nothing when asked for NAPTR; that is
        // no reason not to ask for SRV.
        let asked = timeout(NAPTR_TIMEOUT, self.ask(host, RecordType::NAPTR));
        let answer = asked.await.unwrap_or(Ok(None)).unwrap_or_default();
        let records = records(answer.as_ref()).filter_map(service).collect();
        let ordered = order_services(records, sips, &self.abilities);
        let named = ordered
            .into_iter()
            .filter_map(|(t, name)| Some((t, host_name(&name).ok()?)));
        Ok(named.take(HOPS_MAX).collect())
    }

    /// RFC 3263 §4.2: without any SRV record, the addresses of the host itself. A
    /// record that says `.` counts: the service is decidedly not there.
    async fn servers_or_host(
        &self,
        host: &Name,
        names: Vec<(Protocol, Name)>,
        fallback: Protocol,
        seed: u64,
    ) -> Result<Vec<Hop>, ResolveError> {
        let (mut servers, mut any) = (Vec::new(), false);
        for (transport, name) in names {
            let answer = self.ask(&name, RecordType::SRV).await?;
            let found: Vec<Server> = records(answer.as_ref()).filter_map(server).collect();
            any |= !found.is_empty();
            let ordered = order_servers(found, seed).into_iter();
            servers.extend(ordered.map(|server| (transport, server)));
        }
        if !any {
            return self
                .addresses(host, fallback, fallback.default_port())
                .await;
        }
        servers.truncate(HOPS_MAX);
        self.all_addresses(servers).await
    }

    /// Side by side, so that one dead zone does not use up the time of the others.
    async fn all_addresses(
        &self,
        servers: Vec<(Protocol, Server)>,
    ) -> Result<Vec<Hop>, ResolveError> {
        let asked: Vec<_> = servers
            .into_iter()
            .filter_map(|(transport, server)| {
                let name = host_name(&server.host).ok()?;
                let resolver = self.clone();
                Some(tokio::spawn(async move {
                    resolver.addresses(&name, transport, server.port).await
                }))
            })
            .collect();
        let (mut hops, mut failure) = (Vec::new(), None);
        for answer in asked {
            match answer
                .await
                .map_err(|e| ResolveError::Failed(e.to_string()))?
            {
                Ok(found) => hops.extend(found),
                Err(error) => failure = Some(error),
            }
        }
        hops.truncate(HOPS_MAX);
        match failure {
            Some(error) if hops.is_empty() => Err(error),
            _ => Ok(hops),
        }
    }

    async fn addresses(
        &self,
        host: &Name,
        transport: Protocol,
        port: u16,
    ) -> Result<Vec<Hop>, ResolveError> {
        let found = match self.lookups.lookup_ip(host.clone()).await {
            Ok(found) => found,
            Err(error) => return missing_or(&error).map(|()| Vec::new()),
        };
        let mut ips: Vec<IpAddr> = found
            .iter()
            .filter(|ip| self.abilities.reach(*ip))
            .collect();
        ips.sort_by_key(IpAddr::is_ipv6);
        let hops = ips.into_iter().map(|ip| Hop {
            transport,
            address: SocketAddr::new(ip, port),
        });
        Ok(hops.take(HOPS_MAX).collect())
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Option<Lookup>, ResolveError> {
        match self.lookups.lookup(name.clone(), kind).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => missing_or(&error).map(|()| None),
        }
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn bound(options: &mut ResolverOpts, abilities: &Abilities) {
    options.timeout = Duration::from_millis(1500);
    options.attempts = 2;
    options.cache_size = CACHE_RESPONSES;
    options.negative_min_ttl = Some(NEGATIVE_MIN);
    options.negative_max_ttl = Some(NEGATIVE_MAX);
    options.positive_max_ttl = Some(POSITIVE_MAX);
    options.ip_strategy = match (abilities.ipv4, abilities.ipv6) {
        (true, false) => LookupIpStrategy::Ipv4Only,
        (false, true) => LookupIpStrategy::Ipv6Only,
        _ => LookupIpStrategy::Ipv4AndIpv6,
    };
}

/// Always from the root: the search list of the machine is not for SIP domains.
fn host_name(host: &str) -> Result<Name, ResolveError> {
    let wrong = || ResolveError::NotAHost(host.to_owned());
    if host.is_empty() || host.len() > 254 {
        return Err(wrong());
    }
    let mut name = Name::from_ascii(host).map_err(|_| wrong())?;
    name.set_fqdn(true);
    Ok(name)
}

fn srv_names(host: &Name, transports: &[Protocol]) -> Vec<(Protocol, Name)> {
    let named = transports.iter().filter_map(|&transport| {
        let prefix = Name::from_ascii(srv_prefix(transport)?).ok()?;
        Some((transport, prefix.append_domain(host).ok()?))
    });
    named.collect()
}

fn records(answer: Option<&Lookup>) -> impl Iterator<Item = &RData> {
    answer
        .into_iter()
        .flat_map(|a| a.answers())
        .map(|record| &record.data)
}

fn service(data: &RData) -> Option<Service> {
    let RData::NAPTR(naptr) = data else {
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Service {
        order: naptr.order,
        preference: naptr.preference,
        flags: text(&naptr.flags),
        service: text(&naptr.services),
        regexp: text(&naptr.regexp),
        replacement: naptr.replacement.to_ascii(),
    })
}

fn server(data: &RData) -> Option<Server> {
    let RData::SRV(srv) = data else {
        return None;
    };
    let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
    Some(Server {
        priority,
        weight,
        port,
        host: srv.target.to_ascii(),
    })
}

/// An answer that says "there is none" is no failure.
fn missing_or(error: &NetError) -> Result<(), ResolveError> {
    if error.is_no_records_found() || error.is_nx_domain() {
        return Ok(());
    }
    Err(failed(error))
}

fn failed(error: &NetError) -> ResolveError {
    match error {
        NetError::Timeout => ResolveError::Timeout,
        other => ResolveError::Failed(other.to_string()),
    }
}
