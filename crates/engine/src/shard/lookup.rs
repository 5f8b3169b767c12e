//! Next hops that are host names (RFC 3263): a request waits until its name is looked up.
//!
//! *Invariant*: what waits is bounded, and each look-up that was asked for is answered or forgotten once.

use std::net::SocketAddr;

use sidetone_services::Verdict;
use sidetone_sip::proxy::Target;
use sidetone_sip::{Flow, Message, Scheme, ServerId, Transport, Uri, strict};

use super::route::Pending;
use super::{Now, ResolveTarget, Shard, Want};

/// Requests that wait for a name at a time.
const PARKED_MAX: usize = 1024;
/// Hosts of one name that are tried, one after the other (RFC 3263 §4.3).
const HOPS_MAX: usize = 4;

/// A request whose next hop is being looked up.
pub(super) struct Parked {
    request: Message,
    incoming: Flow,
    /// What is looked up.
    host: String,
    what: What,
}

enum What {
    /// In its server transaction.
    Request { server: ServerId, forward: Pending },
    /// It has none (RFC 3261 §16.11).
    Ack { pop_routes: usize },
}

impl Shard {
    /// An ACK for a 2xx goes on by the routes that we signed; any other is dropped.
    pub(super) fn handle_ack(&mut self, now: Now, flow: Flow, request: &Message) {
        let turned = self.straightened(request);
        let request = turned.as_ref().unwrap_or(request);
        let routes = self.own_routes(request);
        // What nobody answers is not refused either.
        let source = flow.remote.ip();
        if self.services.limiter.source(source, now.unix_ms) != Verdict::Pass
            || request.to().is_ok_and(|to| to.tag().is_none())
            || self.may_go_on(now, flow, request, &routes).is_err()
        {
            return;
        }
        if let Some(turned) = strict::to_router(request, routes.count, &self.settings.limits) {
            let uri = turned.request_uri();
            return match routes.flow.or_else(|| self.numeric_hop(uri, flow)) {
                Some(hop) => self.send_ack(flow, &turned, 0, &to_its_uri(&turned, hop)),
                None => self.park_ack(flow, &turned, 0, uri),
            };
        }
        let next = request.routes().nth(routes.count);
        if next.is_none()
            && routes.flow.is_none()
            && let Some(targets) = self.gruu_targets(now, request)
        {
            if let Some(target) = targets.first() {
                self.send_ack(flow, request, routes.count, target);
            }
            return;
        }
        let uri = next
            .and_then(Result::ok)
            .map_or(request.request_uri(), |route| route.uri);
        match routes.flow.or_else(|| self.numeric_hop(uri, flow)) {
            Some(hop) => self.send_ack(flow, request, routes.count, &to_its_uri(request, hop)),
            None => self.park_ack(flow, request, routes.count, uri),
        }
    }

    fn send_ack(&mut self, incoming: Flow, request: &Message, pop_routes: usize, target: &Target) {
        self.proxy
            .forward_ack(&mut self.endpoint, request, incoming, pop_routes, target);
    }

    /// The dialog's Contact is a host name. With no room the ACK is lost, and comes again with the 2xx that it answers.
    fn park_ack(&mut self, incoming: Flow, request: &Message, pop_routes: usize, uri: &str) {
        let uri = Uri::parse(uri).ok();
        if let Some(target) = uri.and_then(|uri| target_of(&uri))
            && self.parked.len() < PARKED_MAX
        {
            self.park(target, incoming, request, What::Ack { pop_routes });
        }
    }

    /// Looks a name up; the request waits in its server transaction.
    pub(super) fn resolve(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        forward: Pending,
        next: &str,
    ) {
        let Ok(uri) = Uri::parse(next) else {
            return self.reply(flow, request, 400, "the next hop is no URI", &[]);
        };
        let Some(target) = target_of(&uri) else {
            let why = "there is no trunk for telephone numbers";
            return self.reply(flow, request, 404, why, &[]);
        };
        if self.parked.len() >= PARKED_MAX {
            self.services.counters.overloaded.add();
            let headers = [("Retry-After", "2")];
            return self.reply(flow, request, 503, "too many look-ups", &headers);
        }
        if let Some(server) = self.accept(now, flow, request) {
            self.park(target, flow, request, What::Request { server, forward });
        }
    }

    fn park(&mut self, target: ResolveTarget, incoming: Flow, request: &Message, what: What) {
        let ticket = self.ticket();
        let parked = Parked {
            request: request.clone(),
            incoming,
            host: target.host.clone(),
            what,
        };
        self.want(Want::Resolve { target, ticket });
        self.parked.insert(ticket, parked);
    }

    pub(super) fn resolved(
        &mut self,
        now: Now,
        ticket: u64,
        hops: Result<Vec<(Transport, SocketAddr)>, String>,
    ) {
        let Some(parked) = self.parked.remove(&ticket) else {
            return;
        };
        let hops = hops.unwrap_or_else(|why| {
            let uri = parked.request.request_uri();
            tracing::info!(uri, why, "the next hop was not found");
            Vec::new()
        });
        let mut targets = Vec::with_capacity(HOPS_MAX);
        for (transport, remote) in hops.into_iter().take(HOPS_MAX) {
            let hop = self.named_hop(&parked.host, transport, remote, parked.incoming);
            targets.push(Target {
                group: Some("dns".into()),
                ..to_its_uri(&parked.request, hop)
            });
        }
        match parked.what {
            What::Ack { pop_routes } => {
                if let Some(target) = targets.first() {
                    self.send_ack(parked.incoming, &parked.request, pop_routes, target);
                }
            }
            What::Request { server, .. } if targets.is_empty() => {
                let why = "the host of the address was not found";
                let answer = self.answer(parked.incoming, &parked.request, 404, why, &[]);
                self.endpoint.respond(now.instant, server, 404, answer);
            }
            What::Request { server, forward } => {
                let (incoming, request) = (parked.incoming, &parked.request);
                self.start(now, server, incoming, request, forward, targets);
            }
        }
    }

    /// A hop that was found by a name: over TLS its certificate has to prove that name, and not the one that SRV led
    /// to (RFC 5922 §4).
    fn named_hop(
        &mut self,
        name: &str,
        transport: Transport,
        remote: SocketAddr,
        incoming: Flow,
    ) -> Flow {
        let hop = self.hop(transport, remote, incoming);
        if transport != Transport::Tls {
            return hop;
        }
        let hash = self.endpoint.digest(&[name.as_bytes(), b"peer"]);
        let number = u64::try_from(hash >> 65).unwrap_or_default();
        self.names.remember(number, name);
        Flow::to_peer(hop.transport, hop.listener, hop.remote, number)
    }

    /// An INVITE that is cancelled while its next hop is looked up.
    pub(super) fn cancel_parked(&mut self, now: Now, invite: ServerId) -> bool {
        let waits = |parked: &Parked| matches!(parked.what, What::Request { server, .. } if server == invite);
        let mut found = self.parked.iter().filter(|(_, parked)| waits(parked));
        let Some(ticket) = found.next().map(|(ticket, _)| *ticket) else {
            return false;
        };
        let Some(parked) = self.parked.remove(&ticket) else {
            return false;
        };
        let answer = self.answer(parked.incoming, &parked.request, 487, "", &[]);
        self.endpoint.respond(now.instant, invite, 487, answer);
        true
    }
}

/// What to look up; `None`: a telephone number, which no name server knows.
fn target_of(uri: &Uri<'_>) -> Option<ResolveTarget> {
    let sips = uri.scheme == Scheme::Sips;
    let transport = uri
        .transport()
        .and_then(|name| Transport::from_uri_parameter(name, sips));
    (uri.scheme != Scheme::Tel).then(|| ResolveTarget {
        host: uri.host.to_owned(),
        port: uri.port,
        transport,
        sips,
    })
}

/// The request as it is, to this hop.
pub(super) fn to_its_uri(request: &Message, flow: Flow) -> Target {
    Target {
        uri: request.request_uri().to_owned(),
        routes: Vec::new(),
        flow,
        q: 1000,
        record: false,
        group: None,
    }
}
