//! Subscriptions to the state of our users and what their devices publish (RFC 6665, RFC 3903): who may, and the
//! NOTIFYs on their way.
//!
//! A subscription lives in the shard of its Call-ID; state changes anywhere. Who changes that of an address that is on
//! the watch list tells every shard, and each reads it anew.
//!
//! *Invariant*: what may be seen is asked again with every SUBSCRIBE; for an account only its own devices publish.

use sidetone_model::{AddressOfRecord, Binding};
use sidetone_services::events::{ALLOW_EVENTS, Document};
use sidetone_services::{
    AccountRef, Change, EventAnswer, Notify, Package, Removal, Source, View, Watcher,
};
use sidetone_sip::{Flow, Message, Method, ResponseBuilder, ServerId, Uri};

use super::own::{Own, via};
use super::request::Sender;
use super::{Now, Shard, Want};
use crate::shared::Services;

const NOT_YOURS: &str = "only the owner of an address watches this";
const NOT_SERVED: &str = "this event is not served";

/// The state of our users, now.
pub(super) struct Known<'a> {
    pub(super) services: &'a Services,
    pub(super) now_ms: u64,
}

impl Source for Known<'_> {
    fn bindings(&self, address: &AddressOfRecord) -> Vec<Binding> {
        self.services.location.bindings(address, self.now_ms)
    }

    fn document(&self, package: Package, address: &AddressOfRecord, view: View) -> Document {
        let devices = match package {
            Package::Presence => self.services.reachable(address, self.now_ms),
            _ => Default::default(),
        };
        let board = &self.services.board;
        board.document(self.now_ms, package, address, view, &devices)
    }

    fn view(&self, package: Package, address: &AddressOfRecord, watcher: &Watcher) -> Option<View> {
        let services = self.services;
        services.directory.find(address.as_str())?;
        if let Some(device) = watcher.device {
            services.directory.device(device)?;
        }
        services
            .board
            .view(package, address, watcher.address.as_ref())
    }
}

impl Shard {
    /// Whether a request is about the state of a user of ours. One to a GRUU is for that device.
    pub(super) fn is_for_events(&self, request: &Message) -> bool {
        matches!(request.method(), Some(Method::Subscribe | Method::Publish))
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
        self.events.resource_of(request).is_some()
            || to_us()
            || (!signed && self.is_for_events(request))
    }

    /// A SUBSCRIBE outside of a dialog, from somebody who may watch or is refused (RFC 6665 §4.2.1.3).
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        sender: Sender,
        account: &AccountRef,
    ) {
        let Some(package) = Package::of(request) else {
            return self.not_served(flow, request, ALLOW_EVENTS);
        };
        let Some((watcher, view)) = self.watcher(now, sender, flow, package, &account.address)
        else {
            return self.reply(flow, request, 403, NOT_YOURS, &[]);
        };
        if account.disabled {
            return self.reply(flow, request, 403, "the account is disabled", &[]);
        }
        let Some(server) = self.accept(now, flow, request) else {
            return;
        };
        let tag = self.endpoint.new_tag();
        let services = self.services.clone();
        let known = known(&services, now);
        let uri = services.locals.uri(&flow);
        let address = &account.address;
        let answer = self.events.subscribe(
            now.unix_ms,
            watcher,
            view,
            request,
            package,
            address,
            &known,
            uri,
            &tag,
        );
        if answer.status == 503 {
            services.counters.overloaded.add();
        }
        if answer.status < 300 && package == Package::MessageSummary {
            self.count_messages(account.account, address);
        }
        if answer.status < 300
            && let (View::Pending, Sender::Device(_, account)) = (view, sender)
        {
            // RFC 3857 §1: the person learns that somebody waits, and decides.
            let address = address.clone();
            self.want(Want::Ask { account, address });
        }
        self.answer_event(now, flow, request, server, &answer, &tag);
    }

    fn not_served(&mut self, flow: Flow, request: &Message, served: &str) {
        self.reply(flow, request, 489, NOT_SERVED, &[("Allow-Events", served)]);
    }

    /// A SUBSCRIBE within a dialog: prolongs a subscription, or ends it (RFC 6665 §4.2.1.4).
    pub(super) fn subscribe_within(&mut self, now: Now, flow: Flow, request: &Message) {
        let Some(sender) = self.sender(now, flow, request) else {
            return;
        };
        let resource = self.events.resource_of(request);
        let resource = resource.map(|(package, address)| (package, address.clone()));
        let watcher = match resource {
            Some((package, address)) => self.watcher(now, sender, flow, package, &address),
            // There is none: who asks makes no difference.
            None => Some((self.watcher_of(sender, flow), View::Blocked)),
        };
        let Some((watcher, view)) = watcher else {
            return self.reply(flow, request, 403, NOT_YOURS, &[]);
        };
        let Some(server) = self.accept(now, flow, request) else {
            return;
        };
        let answer = self.events.refresh(now.unix_ms, watcher, view, request);
        self.answer_event(now, flow, request, server, &answer, "");
    }

    /// Who watches, and how much of it; `None`: may not.
    fn watcher(
        &self,
        now: Now,
        sender: Sender,
        flow: Flow,
        package: Package,
        address: &AddressOfRecord,
    ) -> Option<(Watcher, View)> {
        let watcher = self.watcher_of(sender, flow);
        let nameless = watcher.address.is_none() && sender != Sender::Trusted;
        let view = known(&self.services, now).view(package, address, &watcher)?;
        (!nameless).then_some((watcher, view))
    }

    fn watcher_of(&self, sender: Sender, flow: Flow) -> Watcher {
        let (device, address) = match sender {
            Sender::Device(device, account) => (Some(device), self.services.address_of(account)),
            Sender::Trusted | Sender::Stranger => (None, None),
        };
        Watcher {
            flow,
            device,
            address,
        }
    }

    /// PUBLISH (RFC 3903 §6): devices of the account tell what their user does.
    pub(super) fn publish(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        sender: Sender,
        account: &AccountRef,
    ) {
        if Package::of(request) != Some(Package::Presence) {
            return self.not_served(flow, request, Package::Presence.name());
        }
        let Sender::Device(device, of) = sender else {
            return self.reply(
                flow,
                request,
                403,
                "only a device publishes for its user",
                &[],
            );
        };
        if of != account.account {
            return self.reply(
                flow,
                request,
                403,
                "only the owner of an address publishes for it",
                &[],
            );
        }
        let Some(server) = self.accept(now, flow, request) else {
            return;
        };
        let etag = format!("{:016x}", self.endpoint.random());
        let board = &self.services.board;
        let published = board.publish(now.unix_ms, request, &account.address, (of, device), etag);
        self.answer_event(now, flow, request, server, &published.answer, "");
        if published.changed {
            self.changed(now, &account.address, Change::Presence);
        }
    }

    /// RFC 6665 §4.4.4: what we serve stands in Allow-Events.
    fn answer_event(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        server: ServerId,
        answer: &EventAnswer,
        tag: &str,
    ) {
        let bytes = if answer.status < 300 {
            let tag = match tag {
                "" => self.stateless_tag(request),
                tag => tag.to_owned(),
            };
            let builder = ResponseBuilder::new(request, answer.status, "")
                .received(flow.remote)
                .record_route()
                .to_tag(&tag)
                .header("Allow-Events", ALLOW_EVENTS);
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
        let services = self.services.clone();
        let Some(notify) = self.events.poll(now.unix_ms, &known(&services, now)) else {
            return false;
        };
        let flow = self.way_of(&notify);
        let sent_by = services.locals.sent_by(&flow);
        let user = Own::Notify(notify.ticket).user();
        services.counters.notifies.add();
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

    /// The bindings of an address were changed here (RFC 3680 §4.7.2). Costs two reads where nobody watches it.
    pub(super) fn registration_changed(
        &mut self,
        now: Now,
        address: &AddressOfRecord,
        removal: Removal,
    ) {
        // A phone that is gone has hung up, even where nobody has heard it.
        if !self.services.location.is_registered(address, now.unix_ms)
            && self.services.board.calls_end(address)
        {
            self.changed(now, address, Change::Calls);
        }
        self.changed(now, address, Change::Bindings(removal));
    }

    /// Something of an address was changed here: tells its watchers, in every shard.
    pub(super) fn changed(&mut self, now: Now, address: &AddressOfRecord, change: Change) {
        if change != Change::Messages {
            self.services.board.announce(address);
        }
        if !self.services.watched.contains(address) {
            return;
        }
        self.read_state(now, address, change);
        let address = address.clone();
        self.want(Want::TellChanged { address, change });
    }

    /// Something of an address was changed, here or elsewhere.
    pub(super) fn read_state(&mut self, now: Now, address: &AddressOfRecord, change: Change) {
        if self.events.is_watched(address) {
            let services = self.services.clone();
            self.events
                .changed(now.unix_ms, address, change, &known(&services, now));
        }
    }

    /// Takes over subscriptions of an earlier run.
    pub fn restore(&mut self, now: Now, saved: Vec<sidetone_model::SavedSubscription>) {
        let services = self.services.clone();
        self.events
            .restore(now.unix_ms, saved, &known(&services, now));
    }

    /// Lets the time of subscriptions pass.
    pub(super) fn events_timeout(&mut self, now: Now) {
        let services = self.services.clone();
        self.events
            .handle_timeout(now.unix_ms, &known(&services, now));
    }
}

pub(super) fn known(services: &Services, now: Now) -> Known<'_> {
    Known {
        services,
        now_ms: now.unix_ms,
    }
}
