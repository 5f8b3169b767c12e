//! Where a request goes: within a dialog by the routes that we signed, else by the location table or by DNS.
//!
//! *Invariant*: a request leaves this server only for a local user, for its authenticated sender, or within a dialog
//! whose Route carries our token (RFC 3261 §26.2: no open relay).

use std::net::{IpAddr, SocketAddr};

use sidetone_model::AddressOfRecord;
use sidetone_services::{AccountRef, Target as Binding};
use sidetone_sip::proxy::{Forward, RecordRoute, Target};
use sidetone_sip::{
    Flow, Message, Method, NameAddr, Scheme, ServerId, Transport, Uri, gruu, strict,
};

use super::lookup::to_its_uri;
use super::request::Sender;
use super::{Now, Shard};

/// Our own values at the top of Route.
#[derive(Debug, Default)]
pub(super) struct OwnRoutes {
    pub(super) count: usize,
    /// One of them carries a token that we gave for this Call-ID and one of its tags.
    pub(super) signed: Option<Signed>,
    /// The flow that the last of them names.
    pub(super) flow: Option<Flow>,
}

/// What our token says of a dialog.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed {
    /// The address from which the dialog was begun.
    pub(super) caller: IpAddr,
    /// The request is from the side that began it.
    pub(super) by_caller: bool,
}

/// What is known of a forward before its targets are.
pub(super) struct Pending {
    pub(super) pop_routes: usize,
    record_route: Option<RecordRoute>,
    asserted: Option<String>,
    /// Our user who sends it, where it may begin something.
    caller: Option<AddressOfRecord>,
}

impl Shard {
    /// RFC 3261 §16.4: Route values that name us are taken off.
    pub(super) fn own_routes(&self, request: &Message) -> OwnRoutes {
        let mut own = OwnRoutes::default();
        let call_id = request.call_id();
        for route in request.routes() {
            let Some(uri) = route.ok().and_then(|route| route.parse_uri().ok()) else {
                break;
            };
            if !self.is_own_uri(&uri) {
                break;
            }
            own.count += 1;
            let tokens = &self.services.tokens;
            if let Some(token) = uri.params.value("d") {
                own.signed = own.signed.or_else(|| self.signed(request, token));
            }
            let flow = uri
                .params
                .value("f")
                .and_then(|token| tokens.open_flow_token(call_id, token));
            own.flow = flow.as_ref().and_then(Flow::from_token);
        }
        own
    }

    /// A request that a strict router sent to us, as a loose one would have (RFC 3261 §16.4).
    pub(super) fn straightened(&self, request: &Message) -> Option<Message> {
        let uri = Uri::parse(request.request_uri()).ok()?;
        let ours = uri.is_loose_router() && self.is_own_uri(&uri);
        let limits = &self.settings.limits;
        ours.then(|| strict::from_router(request, limits))?
    }

    fn signed(&self, request: &Message, token: &str) -> Option<Signed> {
        let tag_of = |address: Result<NameAddr<'_>, _>| address.ok()?.tag().map(str::to_owned);
        let open = |tag: Option<String>| {
            let (tokens, call_id) = (&self.services.tokens, request.call_id());
            tokens.open_dialog_token(call_id, &tag?, token)
        };
        let said = |caller, by_caller| Signed { caller, by_caller };
        open(tag_of(request.from()))
            .map(|caller| said(caller, true))
            .or_else(|| open(tag_of(request.to())).map(|caller| said(caller, false)))
    }

    pub(super) fn is_own_uri(&self, uri: &Uri<'_>) -> bool {
        let transport = uri
            .transport()
            .and_then(|name| Transport::from_uri_parameter(name, uri.scheme == Scheme::Sips));
        let port = uri.port.or_else(|| transport.map(Transport::default_port));
        let named = uri.port.is_none() && self.services.domains.canonical(uri.host).is_some();
        named || self.services.locals.is_ours(uri.host, port)
    }

    /// A request within a dialog (RFC 3261 §16.12).
    pub(super) fn forward_within(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        routes: &OwnRoutes,
    ) {
        if let Err(refusal) = self.may_go_on(now, flow, request, routes)
            && !self.refuse_within(now, flow, request, refusal)
        {
            return;
        }
        self.call_ends(now, request);
        if let Some(turned) = strict::to_router(request, routes.count, &self.settings.limits) {
            let pending = self.within(&turned, flow, 0);
            let next = turned.request_uri();
            return match routes.flow {
                Some(hop) => {
                    self.forward(now, flow, &turned, pending, vec![to_its_uri(&turned, hop)])
                }
                None => self.leave(now, flow, &turned, pending, next),
            };
        }
        let next = request.routes().nth(routes.count);
        let next_uri = match next {
            Some(Ok(route)) => route.uri,
            _ => request.request_uri(),
        };
        let to_user = next.is_none() && routes.flow.is_none();
        if to_user && let Some(targets) = self.gruu_targets(now, request) {
            return self.forward(
                now,
                flow,
                request,
                self.within(request, flow, routes.count),
                targets,
            );
        }
        let pending = self.within(request, flow, routes.count);
        match routes.flow.or_else(|| self.numeric_hop(next_uri, flow)) {
            Some(hop) => self.forward(now, flow, request, pending, vec![to_its_uri(request, hop)]),
            None => self.resolve(now, flow, request, pending, next_uri),
        }
    }

    /// Requests that refresh a dialog's target are recorded like those that make it (RFC 5658).
    fn within(&self, request: &Message, incoming: Flow, pop_routes: usize) -> Pending {
        let refresh = matches!(
            request.method(),
            Some(Method::Invite | Method::Subscribe | Method::Update | Method::Refer)
        );
        let record_route = refresh.then(|| self.record_route(request, incoming));
        Pending {
            pop_routes,
            record_route,
            asserted: None,
            caller: None,
        }
    }

    fn record_route(&self, request: &Message, incoming: Flow) -> RecordRoute {
        let tokens = &self.services.tokens;
        let from = request.from().ok();
        let tag = from.and_then(|from| from.tag()).unwrap_or_default();
        let reachable = request
            .contacts()
            .next()
            .and_then(Result::ok)
            .is_some_and(|contact| {
                let sidetone_sip::Contact::Addr(contact) = contact else {
                    return false;
                };
                !incoming.transport.is_reliable() && self.is_direct(contact.uri, incoming)
            });
        RecordRoute {
            token: tokens.dialog_token(request.call_id(), tag, incoming.remote.ip()),
            incoming_flow: (!reachable)
                .then(|| tokens.flow_token(request.call_id(), &incoming.as_token())),
        }
    }

    /// Whether a datagram peer is reached at its contact: no NAT between, for the address is that which we see.
    pub(super) fn is_direct(&self, contact: &str, flow: Flow) -> bool {
        Uri::parse(contact).is_ok_and(|uri| {
            let udp = uri
                .transport()
                .is_none_or(|name| name.eq_ignore_ascii_case("udp"));
            udp && uri
                .host_ip()
                .is_some_and(|address| address.to_canonical() == flow.remote.ip().to_canonical())
        })
    }

    /// A hop whose host is an address.
    pub(super) fn numeric_hop(&self, uri: &str, incoming: Flow) -> Option<Flow> {
        let uri = Uri::parse(uri).ok()?;
        let host = uri.params.value("maddr").unwrap_or(uri.host);
        let address = sidetone_sip::host_ip(host)?;
        let transport = transport_of(&uri)?;
        Some(self.hop(
            transport,
            SocketAddr::new(address, uri.port.unwrap_or(transport.default_port())),
            incoming,
        ))
    }

    pub(super) fn hop(&self, transport: Transport, remote: SocketAddr, incoming: Flow) -> Flow {
        let same = incoming.transport == transport && incoming.remote.is_ipv6() == remote.is_ipv6();
        let listener = self.services.locals.listener(transport, remote.is_ipv6());
        Flow::to(
            transport,
            if same {
                incoming.listener
            } else {
                listener.unwrap_or_default()
            },
            remote,
        )
    }

    /// A request for a local user.
    pub(super) fn call(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        sender: Sender,
        account: &AccountRef,
        pop_routes: usize,
    ) {
        let targets = match self.gruu_targets(now, request) {
            Some(targets) => targets,
            None => self.targets(now, flow, &account.address, |_| true),
        };
        if targets.is_empty() || account.disabled {
            return self.reply(
                flow,
                request,
                480,
                "no device of this user is registered",
                &[],
            );
        }
        if request.method() == Some(Method::Invite) {
            self.services.counters.calls.add();
        }
        let pending = self.before_targets(request, flow, sender, pop_routes);
        self.forward(now, flow, request, pending, targets);
    }

    fn before_targets(
        &self,
        request: &Message,
        incoming: Flow,
        sender: Sender,
        pop_routes: usize,
    ) -> Pending {
        let forms = matches!(
            request.method(),
            Some(Method::Invite | Method::Subscribe | Method::Refer | Method::Notify)
        );
        let caller = match sender {
            Sender::Device(_, account) => self.services.address_of(account),
            Sender::Trusted | Sender::Stranger => None,
        };
        Pending {
            pop_routes,
            record_route: forms.then(|| self.record_route(request, incoming)),
            asserted: caller.as_ref().map(|address| format!("<sip:{address}>")),
            caller,
        }
    }

    /// RFC 5627 §5.1: a GRUU names one instance. `None`: the Request-URI is no GRUU of ours.
    pub(super) fn gruu_targets(&self, now: Now, request: &Message) -> Option<Vec<Target>> {
        let uri = Uri::parse(request.request_uri()).ok()?;
        let gr = uri.params.get("gr")?;
        let incoming = Flow::to(
            Transport::Udp,
            0,
            SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0),
        );
        let user = uri.user_unescaped()?;
        if let Some(opened) = self.services.tokens.open_temp_gruu(&user) {
            let domain = self.services.domains.canonical(uri.host)?;
            let address = AddressOfRecord::new(&opened.user, domain).ok()?;
            let of_it = |binding: &Binding| {
                binding
                    .instance()
                    .is_some_and(|one| opened.matches(one, binding.call_id()))
            };
            return Some(self.targets(now, incoming, &address, of_it));
        }
        let account = self
            .services
            .directory
            .resolve(&self.services.domains, request.request_uri())?;
        let instance = gruu::instance_of_gr(gr.unwrap_or_default())?;
        Some(self.targets(now, incoming, &account.address, |binding| {
            binding.instance() == Some(&instance)
        }))
    }

    fn targets(
        &self,
        now: Now,
        incoming: Flow,
        address: &AddressOfRecord,
        wanted: impl Fn(&Binding) -> bool,
    ) -> Vec<Target> {
        let bindings = self.services.location.lookup(address, now.unix_ms);
        bindings
            .iter()
            .filter(|binding| wanted(binding))
            .filter_map(|binding| self.target(binding, incoming))
            .collect()
    }

    fn target(&self, binding: &Binding, incoming: Flow) -> Option<Target> {
        let (flow, record) = self.flow_to(binding, incoming)?;
        Some(Target {
            uri: binding.contact().to_owned(),
            routes: split_path(binding.path()),
            flow,
            q: binding.q,
            record,
            group: binding
                .instance()
                .filter(|_| binding.reg_id > 0)
                .map(Box::from),
        })
    }

    /// The way to a binding, and whether it is a flow that later requests have to take too.
    pub(super) fn flow_to(&self, binding: &Binding, incoming: Flow) -> Option<(Flow, bool)> {
        let flow = binding.flow.as_ref().and_then(Flow::from_token);
        let path = split_path(binding.path());
        if let Some(first) = path.first() {
            let hop = NameAddr::parse(first.as_bytes()).ok()?;
            // The edge proxy of a Path is what the REGISTER came from: where its URI holds a name, that way is known
            // without a look-up.
            let named = || flow.map(|flow| (flow, flow.transport.is_reliable()));
            return self
                .numeric_hop(hop.uri, incoming)
                .map(|hop| (hop, false))
                .or_else(named);
        }
        match flow {
            Some(flow) if flow.transport.is_reliable() || binding.reg_id > 0 => Some((flow, true)),
            Some(flow) if !self.is_direct(binding.contact(), flow) => Some((flow, true)),
            Some(flow) => self
                .numeric_hop(binding.contact(), flow)
                .map(|hop| (hop, false)),
            None => self
                .numeric_hop(binding.contact(), incoming)
                .map(|hop| (hop, false)),
        }
    }

    /// SUBSCRIBE and PUBLISH: the state of a user we serve ourselves; that of one device is the device's.
    pub(super) fn event(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        sender: Sender,
        account: &AccountRef,
        pop_routes: usize,
    ) {
        match request.method() {
            _ if !self.is_for_events(request) => {
                self.call(now, flow, request, sender, account, pop_routes);
            }
            Some(Method::Publish) => self.publish(now, flow, request, sender, account),
            _ => self.subscribe(now, flow, request, sender, account),
        }
    }

    /// No account of ours: unknown here, or somebody elsewhere.
    pub(super) fn not_here(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        sender: Sender,
        pop_routes: usize,
    ) {
        let host = Uri::parse(request.request_uri()).map_or("", |uri| uri.host);
        if self.services.domains.canonical(host).is_some() {
            if let Some(targets) = self
                .gruu_targets(now, request)
                .filter(|targets| !targets.is_empty())
            {
                let pending = self.before_targets(request, flow, sender, pop_routes);
                return self.forward(now, flow, request, pending, targets);
            }
            return self.reply(flow, request, 404, "no such user", &[]);
        }
        if sender == Sender::Stranger {
            return self.reply(
                flow,
                request,
                403,
                "this server relays for its own users only",
                &[],
            );
        }
        let mut pending = self.before_targets(request, flow, sender, pop_routes);
        if let Some(turned) = strict::to_router(request, pop_routes, &self.settings.limits) {
            pending.pop_routes = 0;
            return self.leave(now, flow, &turned, pending, turned.request_uri());
        }
        let next = request
            .routes()
            .nth(pop_routes)
            .and_then(Result::ok)
            .map(|route| route.uri.to_owned());
        let next = next.unwrap_or_else(|| request.request_uri().to_owned());
        self.leave(now, flow, request, pending, &next);
    }

    fn leave(&mut self, now: Now, flow: Flow, request: &Message, pending: Pending, next: &str) {
        let Some(hop) = self.numeric_hop(next, flow) else {
            return self.resolve(now, flow, request, pending, next);
        };
        let target = to_its_uri(request, hop);
        self.forward(now, flow, request, pending, vec![target]);
    }

    fn forward(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        pending: Pending,
        targets: Vec<Target>,
    ) {
        let Some(server) = self.accept(now, flow, request) else {
            return;
        };
        self.start(now, server, flow, request, pending, targets);
    }

    pub(super) fn start(
        &mut self,
        now: Now,
        server: ServerId,
        incoming: Flow,
        request: &Message,
        pending: Pending,
        targets: Vec<Target>,
    ) {
        let forward = Forward {
            server,
            request: request.clone(),
            incoming,
            pop_routes: pending.pop_routes,
            targets: targets.into_iter().filter(is_sent_to).collect(),
            record_route: pending.record_route,
            asserted: pending.asserted,
            strip_credentials: true,
        };
        if forward.targets.is_empty() {
            let why = "this server sends nothing to such an address";
            let answer = self.answer(incoming, request, 403, why, &[]);
            return self.endpoint.respond(now.instant, server, 403, answer);
        }
        self.call_begins(now, server, request, pending.caller);
        self.proxy.forward(now.instant, &mut self.endpoint, forward);
    }
}

/// Nothing is opened to addresses that no peer has: a user could name them to reach what the server's own network keeps
/// there. A flow that came from one is that peer's own.
fn is_sent_to(target: &Target) -> bool {
    let no_peer = match target.flow.remote.ip().to_canonical() {
        IpAddr::V4(address) => {
            address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_link_local()
        }
        IpAddr::V6(address) => {
            address.is_unspecified() || address.is_multicast() || address.is_unicast_link_local()
        }
    };
    target.flow.connection != 0 || !no_peer
}

fn transport_of(uri: &Uri<'_>) -> Option<Transport> {
    let sips = uri.scheme == Scheme::Sips;
    match uri.transport() {
        Some(name) => Transport::from_uri_parameter(name, sips),
        None if sips => Some(Transport::Tls),
        None => Some(Transport::Udp),
    }
}

/// Path values (RFC 3327), which become Route values.
pub(super) fn split_path(path: &str) -> Vec<String> {
    let mut values = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, octet) in path.bytes().enumerate() {
        match octet {
            b'<' => inside = true,
            b'>' => inside = false,
            b',' if !inside => {
                values.push(path[start..at].trim().to_owned());
                start = at + 1;
            }
            _ => {}
        }
    }
    values.push(path[start..].trim().to_owned());
    values.retain(|value| !value.is_empty());
    values
}
