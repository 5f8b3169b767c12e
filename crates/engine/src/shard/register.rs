//! REGISTER (RFC 3261 §10.3), authenticated as the owner of the address in To.
//!
//! *Invariant*: the table changes only for the account that owns the address.
//!
//! There is no server transaction (RFC 3261 §8.2.7): it would be held for 32 s for a request that does no harm when it
//! is done again. A retransmission gets the same answer for some seconds; later its nonce count was used, so it is
//! challenged as stale, and its client comes again.

use sidetone_model::AddressOfRecord;
use sidetone_services::{
    Abilities, CredentialsHeader, RegisterContext, Registered, Removal, register,
};
use sidetone_sip::{Flow, Message, Uri};

use super::{News, Now, Shard, Want};

impl Shard {
    pub(super) fn register(&mut self, now: Now, flow: Flow, request: &Message) {
        let services = self.services.clone();
        let to = request.to().map_or("", |to| to.uri);
        let host = Uri::parse(to).map_or("", |uri| uri.host);
        let Some(realm) = services.domains.canonical(host) else {
            return self.reply(flow, request, 404, "this domain is not served here", &[]);
        };
        let header = CredentialsHeader::Authorization;
        let Some((device, account)) = self.authenticate(now, flow, request, realm, header) else {
            return;
        };
        let owner = services.directory.resolve(&services.domains, to);
        let Some(owner) = owner.filter(|owner| owner.account == account) else {
            return self.reply(
                flow,
                request,
                403,
                "To is not an address of the account that authenticated",
                &[],
            );
        };
        let context = RegisterContext {
            aor: &owner.address,
            device,
            flow: flow.as_token(),
            policy: &services.register_policy,
            tokens: &services.tokens,
            unique: self.endpoint.random(),
            now_ms: now.unix_ms,
        };
        self.learn(device, Abilities::accepted(request));
        let (status, headers) = match register(&services.location, request, &context) {
            Ok(registered) => (
                200,
                self.registered(now, flow, &owner.address, device, registered),
            ),
            Err(refused) => (refused.status, refused.headers),
        };
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = self.answer(flow, request, status, "", &headers);
        self.endpoint
            .reply_again(now.instant, flow, request, answer);
    }

    fn registered(
        &mut self,
        now: Now,
        flow: Flow,
        address: &AddressOfRecord,
        device: sidetone_model::DeviceId,
        registered: Registered,
    ) -> Vec<(&'static str, String)> {
        self.services.counters.registers.add();
        if registered.changed && self.services.waiting.contains(device) {
            let news = match registered.refreshed {
                true => News::Refreshed,
                false => News::Registered,
            };
            self.wake_everywhere(device, news);
        }
        if self.services.watched.has_stranded() {
            self.events.device_back(now.unix_ms, device, flow);
            self.want(Want::TellBack { device, flow });
        }
        if registered.changed {
            self.registration_changed(now, address, Removal::Unregistered);
        }
        registered.headers
    }
}
