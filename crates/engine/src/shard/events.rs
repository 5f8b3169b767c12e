//! Subscriptions to registrations (RFC 3680, RFC 6665): who may watch, and the NOTIFYs on their way.
//!
//! A subscription lives in the shard of its Call-ID; bindings change anywhere. Who changes those of an address that is
//! on the watch list tells every shard, and each reads the bindings anew.
//!
//! *Invariant*: only an account watches its own registrations, and trusted networks do; both are asked again with every
//! SUBSCRIBE.

use sidetone_model::AddressOfRecord;
use sidetone_services::reg_event::{EVENT, is_served};
use sidetone_services::{AccountRef, Notify, Removal, SubscribeAnswer, Watcher};
use sidetone_sip::{Flow, Message, Method, ResponseBuilder, ServerId, Uri};

use super::own::{Own, via};
use super::request::Sender;
use super::{Now, Shard, Want};

const NOT_YOURS: &str = "only the owner of an address watches its registrations";

impl Shard {
    /// Whether a request is a SUBSCRIBE to the registrations of a user of ours. One to a GRUU is for that device.
    pub(super) fn is_for_registrations(&self, request: &Message) -> bool {
        request.method() == Some(Method::Subscribe)
            && is_served(request)
            && Uri::parse(request.request_uri()).is_ok_and(|uri| {
                uri.user.is_some()
                    && !uri.params.has("gr")
                    && self.services.domains.canonical(uri.host).is_some()
            })
    }

    /// Whether a SUBSCRIBE within a dialog is within one of ours, or of ours that is no more.
    pub(super) fn is_for_subscription(&self, request: &Message, signed: bool) -> bool {
        if request.method() != Some(Method::Subscribe)
            || !request.to().is_ok_and(|to| to.tag().is_some())
        {
            return false;
        }
        let to_us = || {
            let uri = Uri::parse(request.request_uri());
            uri.is_ok_and(|uri| uri.user.is_none() && self.is_own_uri(&uri))
        };
        self.events.address_of(request).is_some()
            || to_us()
            || (!signed && self.is_for_registrations(request))
    }

    /// A SUBSCRIBE outside of a dialog, from somebody who may watch (RFC 3680 §4.6) or is refused (RFC 6665 §4.2.1.3).
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        sender: Sender,
        account: &AccountRef,
    ) {
        if !self.may_watch(sender, &account.address) {
            return self.reply(flow, request, 403, NOT_YOURS, &[]);
        }
        if account.disabled {
            return self.reply(flow, request, 403, "the account is disabled", &[]);
        }
        let Some(server) = self.accept(now, flow, request) else {
            return;
        };
        let tag = self.endpoint.new_tag();
        let services = self.services.clone();
        let answer = self.events.subscribe(
            now.unix_ms,
            watcher(sender, flow),
            request,
            &account.address,
            || services.location.bindings(&account.address, now.unix_ms),
            services.locals.uri(&flow),
            &tag,
        );
        if answer.status == 503 {
            services.counters.overloaded.add();
        }
        self.answer_subscribe(now, flow, request, server, &answer, &tag);
    }

    /// A SUBSCRIBE within a dialog: prolongs a subscription, or ends it (RFC 6665 §4.2.1.4).
    pub(super) fn subscribe_within(&mut self, now: Now, flow: Flow, request: &Message) {
        let Some(sender) = self.sender(now, flow, request) else {
            return;
        };
        let address = self.events.address_of(request).cloned();
        if address.is_some_and(|address| !self.may_watch(sender, &address)) {
            return self.reply(flow, request, 403, NOT_YOURS, &[]);
        }
        let Some(server) = self.accept(now, flow, request) else {
            return;
        };
        let from = watcher(sender, flow);
        let answer = self.events.refresh(now.unix_ms, from, request);
        self.answer_subscribe(now, flow, request, server, &answer, "");
    }

    fn may_watch(&self, sender: Sender, address: &AddressOfRecord) -> bool {
        match sender {
            Sender::Device(_, account) => {
                self.services.address_of(account).as_ref() == Some(address)
            }
            Sender::Trusted => true,
            Sender::Stranger => false,
        }
    }

    /// RFC 6665 §4.4.4: what we serve stands in Allow-Events.
    fn answer_subscribe(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        server: ServerId,
        answer: &SubscribeAnswer,
        tag: &str,
    ) {
        let bytes = if answer.status < 300 {
            let builder = ResponseBuilder::new(request, answer.status, "")
                .received(flow.remote)
                .record_route()
                .to_tag(tag)
                .header("Allow-Events", EVENT);
            let fields = answer.headers.iter();
            fields
                .fold(builder, |builder, (name, value)| {
                    builder.header(name, value)
                })
                .finish()
        } else {
            let fields: Vec<(&str, &str)> = answer
                .headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            self.answer(flow, request, answer.status, answer.reason, &fields)
        };
        self.endpoint
            .respond(now.instant, server, answer.status, bytes);
    }

    /// Sends one NOTIFY; whether there was one.
    pub(super) fn notify_step(&mut self, now: Now) -> bool {
        let Some(notify) = self.events.poll(now.unix_ms) else {
            return false;
        };
        let flow = self.way_of(&notify);
        let services = self.services.clone();
        let sent_by = services.locals.sent_by(&flow);
        let user = Own::Notify(notify.ticket).user();
        self.endpoint
            .request(now.instant, flow, Method::Notify, user, |branch| {
                notify.request.build(&via(&flow, sent_by, branch))
            });
        true
    }

    /// The connection by which the SUBSCRIBE came; of datagrams, the port of the next hop where no NAT is between.
    fn way_of(&self, notify: &Notify) -> Flow {
        let direct = !notify.flow.transport.is_reliable()
            && self.is_direct(&notify.request.next_hop, notify.flow);
        let hop = direct.then(|| self.numeric_hop(&notify.request.next_hop, notify.flow));
        hop.flatten().unwrap_or(notify.flow)
    }

    /// The bindings of an address were changed here (RFC 3680 §4.7.2). Costs one read where nobody watches it.
    pub(super) fn registration_changed(
        &mut self,
        now: Now,
        address: &AddressOfRecord,
        removal: Removal,
    ) {
        if !self.services.watched.contains(address) {
            return;
        }
        self.read_registration(now, address, removal);
        let address = address.clone();
        self.want(Want::TellChanged { address, removal });
    }

    /// The bindings of an address were changed, here or elsewhere.
    pub(super) fn read_registration(
        &mut self,
        now: Now,
        address: &AddressOfRecord,
        removal: Removal,
    ) {
        if self.events.is_watched(address) {
            let bindings = self.services.location.bindings(address, now.unix_ms);
            self.events
                .changed(now.unix_ms, address, &bindings, removal);
        }
    }
}

fn watcher(sender: Sender, flow: Flow) -> Watcher {
    let device = match sender {
        Sender::Device(device, _) => Some(device),
        Sender::Trusted | Sender::Stranger => None,
    };
    Watcher { flow, device }
}
