//! What happens to a new request: checks in the order of RFC 3261 §16.3, authentication, then who serves it.
//!
//! *Invariant*: nothing is stored for a request before its sender is known, trusted or expected.

use sidetone_model::{AccountId, AddressOfRecord, DeviceId};
use sidetone_services::{AuthOutcome, Challenges, CredentialsHeader, Verdict, identity_allowed};
use sidetone_sip::{Flow, HeaderName, Message, Method, NotAccepted, ServerId, Uri, digest};

use smallvec::SmallVec;

use super::message::Addressee;
use super::{Now, Shard, UAS, is_lever};
use crate::shared::Strangers;

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// A device of ours, by its credentials.
    Device(DeviceId, AccountId),
    /// Somebody in a trusted network.
    Trusted,
    /// Somebody from elsewhere, where that is allowed.
    Stranger,
}

/// Methods that we serve or pass on.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, REGISTER, OPTIONS, MESSAGE, SUBSCRIBE, NOTIFY, PUBLISH, INFO, REFER, PRACK, UPDATE";
/// Extensions that a proxy in our place understands (RFC 3261 §20.29).
const PROXY_EXTENSIONS: &[&str] = &["path", "outbound", "gruu"];
/// Extensions of the registrar.
const EXTENSIONS: &[&str] = &["path", "outbound", "gruu"];

impl Shard {
    pub(super) fn handle_request(&mut self, now: Now, flow: Flow, request: &Message) {
        let services = self.services.clone();
        services.counters.requests.add();
        match self.source_verdict(now, flow, request) {
            Verdict::Pass => {}
            Verdict::Slow(seconds) => {
                services.counters.slowed.add();
                return self.reply(
                    flow,
                    request,
                    503,
                    "too many requests",
                    &[("Retry-After", &seconds.to_string())],
                );
            }
            Verdict::Banned => return services.counters.banned.add(),
        }
        if request.max_forwards() == Ok(Some(0)) {
            return self.reply(flow, request, 483, "", &[]);
        }
        if let Some(unsupported) = self.unsupported(request) {
            return self.reply(flow, request, 420, "", &[("Unsupported", &unsupported)]);
        }
        if self.proxy.is_loop(request) || self.came_from_here(request) {
            return self.reply(
                flow,
                request,
                482,
                "the request came back to this server unchanged",
                &[],
            );
        }
        self.dispatch(now, flow, request);
    }

    /// What is sent in somebody's name by forged datagrams must not use up what is that somebody's.
    fn source_verdict(&self, now: Now, flow: Flow, request: &Message) -> Verdict {
        let (services, source) = (&self.services, flow.remote.ip());
        let verdict = services.limiter.source(source, now.unix_ms);
        let proven = || {
            let authenticator = &services.authenticator;
            flow.transport.is_reliable()
                || authenticator.proves_source(request, source, now.unix_ms)
        };
        match verdict {
            Verdict::Slow(_) if proven() => services.limiter.proven(source, now.unix_ms),
            other => other,
        }
    }

    /// A contact that points at this server sends every request back to it.
    fn came_from_here(&self, request: &Message) -> bool {
        let via = request.top_via();
        via.is_ok_and(|via| self.services.locals.is_ours(via.host, via.port))
    }

    /// RFC 3261 §16.3 step 5; where we are the server at the end, §8.2.2.3 too.
    fn unsupported(&self, request: &Message) -> Option<String> {
        let unknown = |name, known: &'static [&str]| {
            request
                .option_tags(name)
                .filter(move |tag| !known.iter().any(|one| one.eq_ignore_ascii_case(tag)))
        };
        let mut tags: Vec<&str> = unknown(HeaderName::ProxyRequire, PROXY_EXTENSIONS).collect();
        let at_the_end = self.is_for_us(request)
            || request.method() == Some(Method::Register)
            || self.is_for_events(request);
        if at_the_end || !tags.is_empty() {
            tags.extend(unknown(HeaderName::Require, EXTENSIONS));
        }
        (!tags.is_empty()).then(|| tags.join(", "))
    }

    /// Whether the Request-URI names this server and no user of it.
    pub(super) fn is_for_us(&self, request: &Message) -> bool {
        let uri = Uri::parse(request.request_uri());
        uri.is_ok_and(|uri| {
            uri.user.is_none() && self.services.domains.canonical(uri.host).is_some()
        })
    }

    fn dispatch(&mut self, now: Now, flow: Flow, request: &Message) {
        let turned = self.straightened(request);
        let request = turned.as_ref().unwrap_or(request);
        let within = request.to().is_ok_and(|to| to.tag().is_some());
        let routes = self.own_routes(request);
        if within && self.is_for_subscription(request, routes.signed.is_some()) {
            return self.subscribe_within(now, flow, request);
        }
        // A token is for what follows in its dialog: it lets nothing begin, nor anything that has no dialog.
        let follows = !matches!(request.method(), Some(Method::Register | Method::Publish));
        if within && follows && routes.signed.is_some() {
            return self.forward_within(now, flow, request, &routes);
        }
        match request.method() {
            Some(Method::Register) => self.register(now, flow, request),
            Some(Method::Options) if self.is_for_us(request) => self.options(flow, request),
            _ if within && routes.count > 0 => {
                self.reply(
                    flow,
                    request,
                    403,
                    "the Route was not signed for this dialog",
                    &[],
                );
            }
            _ => self.outside(now, flow, request, routes.count),
        }
    }

    /// RFC 3261 §11.2. Not more than the question: nothing here for a reflected flood.
    fn options(&mut self, flow: Flow, request: &Message) {
        let headers = [
            ("Allow", ALLOW),
            ("Accept", "*/*"),
            ("Supported", "path, outbound, gruu"),
            ("Allow-Events", sidetone_services::events::ALLOW_EVENTS),
        ];
        let bytes = self.answer(flow, request, 200, "", &headers);
        if is_lever(flow, request, &bytes) {
            return self.reply(flow, request, 200, "", &[]);
        }
        self.endpoint.reply(flow, request, bytes);
    }

    /// A request outside of a dialog.
    fn outside(&mut self, now: Now, flow: Flow, request: &Message, pop_routes: usize) {
        let Some(sender) = self.sender(now, flow, request) else {
            return;
        };
        if self.is_for_us(request) {
            let known = [Method::Register, Method::Options];
            let status = if request
                .method()
                .is_some_and(|method| known.contains(&method))
            {
                404
            } else {
                405
            };
            return self.reply(
                flow,
                request,
                status,
                "this address is the server's own",
                &[("Allow", ALLOW)],
            );
        }
        let Some(account) = self
            .services
            .directory
            .resolve(&self.services.domains, request.request_uri())
        else {
            if request.method() == Some(Method::Message)
                && let Some(group) = self.group_of(request)
            {
                return self.message(now, flow, request, sender, &Addressee::Group(group));
            }
            return self.not_here(now, flow, request, sender, pop_routes);
        };
        match request.method() {
            Some(Method::Message) => {
                self.message(now, flow, request, sender, &Addressee::Account(&account))
            }
            Some(Method::Subscribe | Method::Publish) => {
                self.event(now, flow, request, sender, &account, pop_routes)
            }
            _ => self.call(now, flow, request, sender, &account, pop_routes),
        }
    }

    /// The conversation that a Request-URI names.
    pub(super) fn group_of(&self, request: &Message) -> Option<AddressOfRecord> {
        let address = self.services.domains.address(request.request_uri())?;
        self.services.groups.id_of(&address)?;
        address.parse().ok()
    }

    /// Who sent it; `None`: an answer has been given.
    pub(super) fn sender(&mut self, now: Now, flow: Flow, request: &Message) -> Option<Sender> {
        let services = self.services.clone();
        let source = flow.remote.ip();
        if services.trusted.contains(source) {
            return Some(Sender::Trusted);
        }
        let from = request.from().map_or("", |from| from.uri);
        let from_host = Uri::parse(from).map_or("", |uri| uri.host);
        let Some(realm) = services.domains.canonical(from_host) else {
            return self.stranger(now, flow, request);
        };
        let header = CredentialsHeader::ProxyAuthorization;
        let (device, account) = self.authenticate(now, flow, request, realm, header)?;
        if !identity_allowed(&services.directory, &services.domains, account, from) {
            self.reply(
                flow,
                request,
                403,
                "From is not an address of the account that authenticated",
                &[],
            );
            return None;
        }
        Some(Sender::Device(device, account))
    }

    /// From is not at a domain of ours.
    fn stranger(&mut self, now: Now, flow: Flow, request: &Message) -> Option<Sender> {
        let services = self.services.clone();
        let host = Uri::parse(request.request_uri()).map_or("", |uri| uri.host);
        let Some(realm) = services.domains.canonical(host) else {
            self.reply(
                flow,
                request,
                403,
                "this server relays for its own users only",
                &[],
            );
            return None;
        };
        if services.strangers == Strangers::Accept {
            return Some(Sender::Stranger);
        }
        let header = CredentialsHeader::ProxyAuthorization;
        self.authenticate(now, flow, request, realm, header)?;
        self.reply(
            flow,
            request,
            403,
            "From is not an address of the account that authenticated",
            &[],
        );
        None
    }

    /// Checks credentials; `None`: an answer has been given.
    pub(super) fn authenticate(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        realm: &str,
        header: CredentialsHeader,
    ) -> Option<(DeviceId, AccountId)> {
        let services = self.services.clone();
        let source = flow.remote.ip();
        match services.authenticator.authenticate(
            &services.directory,
            realm,
            request,
            header,
            source,
            now.unix_ms,
        ) {
            AuthOutcome::Granted { device, account } => {
                if services.limiter.account(account, source, now.unix_ms) == Verdict::Pass {
                    return Some((device, account));
                }
                services.counters.slowed.add();
                self.reply(
                    flow,
                    request,
                    503,
                    "too many requests of this account",
                    &[("Retry-After", "1")],
                );
            }
            AuthOutcome::Challenge { stale } => {
                self.challenge(now, flow, request, realm, header, stale)
            }
            AuthOutcome::Earlier if self.was_stored(request) => {
                self.reply(flow, request, 202, "", &[])
            }
            AuthOutcome::Earlier => self.challenge(now, flow, request, realm, header, true),
            AuthOutcome::Denied => self.denied(now, flow, request),
            AuthOutcome::Disabled { .. } => {
                self.reply(flow, request, 403, "the account is disabled", &[])
            }
            AuthOutcome::Malformed => {
                self.reply(flow, request, 400, "the credentials cannot be read", &[])
            }
        }
        None
    }

    fn challenge(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        realm: &str,
        header: CredentialsHeader,
        stale: bool,
    ) {
        self.services.counters.challenges.add();
        let random = self.endpoint.random();
        let source = flow.remote.ip();
        let values = self.services.authenticator.challenges(
            request,
            realm,
            stale,
            source,
            now.unix_ms,
            random,
        );
        let status = header.challenge_status();
        let bytes = self.answer(flow, request, status, "", &named(header, &values));
        if !is_lever(flow, request, &bytes) {
            return self.endpoint.reply(flow, request, bytes);
        }
        let values: Challenges = values.iter().map(|value| digest::narrow(value)).collect();
        let headers = named(header, &values);
        let bytes = self.terse_answer(flow, request, status, &headers);
        if !is_lever(flow, request, &bytes) {
            return self.endpoint.reply(flow, request, bytes);
        }
        // One is better than none; who does not know it gets the other at the next attempt.
        self.reply(flow, request, status, "", &headers[..1]);
    }

    fn denied(&mut self, now: Now, flow: Flow, request: &Message) {
        self.services.counters.denied.add();
        let source = flow.remote.ip();
        let user = request.from().map_or("", |from| from.uri);
        // One a second tells as much as a thousand.
        if now.unix_ms.saturating_sub(self.denied_logged_ms) >= 1_000 {
            self.denied_logged_ms = now.unix_ms;
            tracing::info!(%source, user, "wrong user or password");
        }
        if let Some(ban) = self.services.limiter.failure(source, now.unix_ms) {
            let for_s = ban.until_ms.saturating_sub(now.unix_ms).div_ceil(1000);
            tracing::warn!(%source, user, for_s, "banned: too many wrong passwords");
        }
        // The same words whether there is such a user or not.
        self.reply(flow, request, 403, "wrong user or password", &[]);
    }

    /// A server transaction that we answer ourselves; `None`: there is none and an answer has been given.
    pub(super) fn accept(&mut self, now: Now, flow: Flow, request: &Message) -> Option<ServerId> {
        match self.endpoint.accept(now.instant, flow, request, UAS) {
            Ok(server) => return Some(server),
            Err(NotAccepted::Merged) => self.reply(
                flow,
                request,
                482,
                "the same request came another way and is being worked on",
                &[],
            ),
            Err(NotAccepted::Full) => {
                self.services.counters.overloaded.add();
                self.reply(
                    flow,
                    request,
                    503,
                    "too many transactions",
                    &[("Retry-After", "5")],
                );
            }
        }
        None
    }

    pub(super) fn handle_cancel(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        invite: Option<ServerId>,
    ) {
        let Some(invite) = invite else {
            return self.reply(flow, request, 481, "", &[]);
        };
        let Some(server) = self.accept(now, flow, request) else {
            return;
        };
        let answer = self.answer(flow, request, 200, "", &[]);
        self.endpoint.respond(now.instant, server, 200, answer);
        if !self.cancel_parked(now, invite) {
            let reason = request.header(HeaderName::Reason).unwrap_or_default();
            self.proxy
                .cancel(now.instant, &mut self.endpoint, invite, reason);
        }
    }
}

fn named(header: CredentialsHeader, values: &Challenges) -> SmallVec<[(&'static str, &str); 2]> {
    let values = values.iter().map(String::as_str);
    values
        .map(|value| (header.challenge_name(), value))
        .collect()
}
