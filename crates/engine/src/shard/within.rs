//! Who may send within a dialog that went through us.
//!
//! Our token in Route says that we let the dialog begin, and from where. It is no password: both parties have seen it.
//!
//! *Invariant*: a request that is from one of our users comes from where that user is, or is authenticated; one that is
//! from outside goes to the user with whom the dialog is, and to nobody else.

use std::net::IpAddr;

use sidetone_services::{CredentialsHeader, identity_allowed};
use sidetone_sip::{Flow, Message, Uri};

use super::route::OwnRoutes;
use super::{Now, Shard};

/// Why a request within a dialog does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing says that our user has sent it: who can be asked is.
    Unproven,
    /// Its Route was not signed for this dialog, or leads to somebody else.
    Astray,
}

impl Shard {
    pub(super) fn may_go_on(
        &self,
        now: Now,
        flow: Flow,
        request: &Message,
        routes: &OwnRoutes,
    ) -> Result<(), Refusal> {
        let Some(signed) = routes.signed else {
            return Err(Refusal::Astray);
        };
        let source = flow.remote.ip().to_canonical();
        if self.services.trusted.contains(source) {
            return Ok(());
        }
        let begun_there = |address: IpAddr| signed.caller.to_canonical() == address;
        let from = request.from().map_or("", |from| from.uri);
        if self.is_ours(from) {
            let there = signed.by_caller && begun_there(source) || self.is_at(now, from, source);
            return there.then_some(()).ok_or(Refusal::Unproven);
        }
        // An outsider's: to the flow of this dialog, or to where its other party is.
        if routes.flow.is_some() {
            return Ok(());
        }
        let to = request.to().map_or("", |to| to.uri);
        let next = request.routes().nth(routes.count).and_then(Result::ok);
        let next = next.map_or(request.request_uri(), |route| route.uri);
        let reaches = |address: IpAddr| {
            !signed.by_caller && begun_there(address) || self.is_at(now, to, address)
        };
        let host = Uri::parse(next).ok().and_then(|uri| uri.host_ip());
        let is_there = host.is_some_and(|address| reaches(address.to_canonical()))
            || self.gruu_targets(now, request).is_some();
        is_there.then_some(()).ok_or(Refusal::Astray)
    }

    /// Whether an address is at a domain of ours.
    fn is_ours(&self, uri: &str) -> bool {
        Uri::parse(uri).is_ok_and(|uri| self.services.domains.canonical(uri.host).is_some())
    }

    /// Whether a user of ours has a registration from, or to, this address.
    fn is_at(&self, now: Now, user: &str, address: IpAddr) -> bool {
        let services = &self.services;
        let Some(account) = services.directory.resolve(&services.domains, user) else {
            return false;
        };
        let bindings = services.location.lookup(&account.address, now.unix_ms);
        bindings.iter().any(|binding| {
            let flow = binding.flow.as_ref().and_then(Flow::from_token);
            let contact = Uri::parse(binding.contact()).ok();
            flow.map(|flow| flow.remote.ip())
                .map(|ip| ip.to_canonical())
                == Some(address)
                || contact
                    .and_then(|uri| uri.host_ip())
                    .map(|ip| ip.to_canonical())
                    == Some(address)
        })
    }

    /// Answers; where our user can be asked for credentials and has them, the request goes on.
    pub(super) fn refuse_within(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        refusal: Refusal,
    ) -> bool {
        if refusal == Refusal::Astray {
            let why = "the Route was not signed for this dialog";
            self.reply(flow, request, 403, why, &[]);
            return false;
        }
        let services = self.services.clone();
        let from = request.from().map_or("", |from| from.uri);
        let host = Uri::parse(from).map_or("", |uri| uri.host);
        let realm = services.domains.canonical(host).unwrap_or_default();
        let header = CredentialsHeader::ProxyAuthorization;
        let Some((_, account)) = self.authenticate(now, flow, request, realm, header) else {
            return false;
        };
        let allowed = identity_allowed(&services.directory, &services.domains, account, from);
        if !allowed {
            let why = "From is not an address of the account that authenticated";
            self.reply(flow, request, 403, why, &[]);
        }
        allowed
    }
}
