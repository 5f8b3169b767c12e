//! The stateful forking proxy of RFC 3261 §16: copies requests to targets and chooses among what they answer.
//!
//! Whom a request is for, and whether it may go there, was decided before; where the messages go is the endpoint's
//! business.
//!
//! *Invariant*: a context lives until all its branches are done, and after a 2xx to an INVITE until its server
//! transaction ends (RFC 6026), so that each 2xx that still comes finds its way back.

mod answer;
mod breadth;
mod context;
mod locals;
mod rewrite;

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

pub use locals::{Local, Locals};

use crate::endpoint::{ClientId, Endpoint, Event, ServerId};
use crate::entropy::Entropy;
use crate::slab::{Id, Slab};
use crate::timer::Timers;
use crate::{Flow, HeaderName, Message, Method, ResponseBuilder, TokenKey};
use context::{Progress, Tools, Work};
use rewrite::{Changes, Hop};

/// Branches of one request. Who has more devices than this reaches those that want to be reached most.
pub const MAX_BRANCHES: usize = 32;

/// The loop hash in a branch.
const LOOP_DIGITS: usize = 8;

/// Users with this bit are not the proxy's.
const FOREIGN: u64 = 1 << 63;

/// One place where a request goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// The Request-URI of its copy.
    pub uri: String,
    /// Values of Route to push, the first one on top.
    pub routes: Vec<String>,
    /// The way there.
    pub flow: Flow,
    /// Preference in thousandths: equal ones at once, higher ones first.
    pub q: u16,
    /// Whether Record-Route carries the flow's token.
    pub record: bool,
    /// The `+sip.instance` of which this is one of several flows: they are tried one after the other.
    pub group: Option<Box<str>>,
}

/// What Record-Route says.
#[derive(Debug, Clone)]
pub struct RecordRoute {
    /// The dialog's token.
    pub token: String,
    /// The token of the caller's flow, where requests to the caller need it.
    pub incoming_flow: Option<String>,
}

/// A request to forward.
#[derive(Debug)]
pub struct Forward {
    /// Its transaction.
    pub server: ServerId,
    /// The request as it came.
    pub request: Message,
    /// Where from.
    pub incoming: Flow,
    /// How many of its topmost Route values are ours.
    pub pop_routes: usize,
    /// Where to.
    pub targets: Vec<Target>,
    /// For requests that may form a dialog.
    pub record_route: Option<RecordRoute>,
    /// P-Asserted-Identity that we vouch for; any other is removed.
    pub asserted: Option<String>,
    /// Whether credentials, which were for us, are removed.
    pub strip_credentials: bool,
}

/// An INVITE with no branch left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteDone {
    /// Its transaction.
    pub server: ServerId,
    /// Somebody answered.
    pub succeeded: bool,
}

#[derive(Debug)]
struct Context {
    server: ServerId,
    invite: bool,
    /// The server transaction is over.
    ended: bool,
    /// `None` when all branches are done.
    work: Option<Box<Work>>,
}

/// All response contexts of a shard.
#[derive(Debug)]
pub struct Proxy {
    locals: Arc<Locals>,
    tokens: TokenKey,
    contexts: Slab<Context>,
    /// INVITEs among them with branches that are not done.
    ringing: usize,
    /// INVITEs whose branches are done, until they are asked for.
    done: Vec<InviteDone>,
    timers: Timers<(Id, ClientId)>,
    loops: Entropy,
}

/// The number by which the endpoint's transactions name a context.
fn user(id: Id) -> u64 {
    id.to_bits() & !FOREIGN
}

impl Proxy {
    /// No contexts yet.
    #[must_use]
    pub fn new(locals: Arc<Locals>, tokens: TokenKey) -> Self {
        // Loop hashes are no secret, and every shard has to read those of the others.
        Self {
            locals,
            tokens,
            contexts: Slab::default(),
            ringing: 0,
            done: Vec::new(),
            timers: Timers::new(),
            loops: Entropy::new(0),
        }
    }

    /// Forwards a request to its targets, or answers it.
    pub fn forward(&mut self, now: Instant, endpoint: &mut Endpoint, forward: Forward) {
        let Forward {
            server,
            request,
            incoming,
            pop_routes,
            mut targets,
            record_route,
            asserted,
            strip_credentials,
        } = forward;
        if let Some((status, why)) = refusal(&request) {
            let bytes = answer_here(endpoint, &request, incoming, status, why);
            return endpoint.respond(now, server, status, bytes);
        }
        targets.sort_by_key(|target| Reverse(target.q));
        targets.truncate(MAX_BRANCHES);
        let loop_hash = self.loop_hash(&request);
        let changes = Changes {
            incoming,
            pop_routes,
            record_route,
            asserted,
            strip_credentials,
            loop_hash,
        };
        let invite = request.method() == Some(Method::Invite);
        let work = Some(Box::new(Work::new(server, request, changes, targets)));
        let id = self.contexts.insert(Context {
            server,
            invite,
            ended: false,
            work,
        });
        self.ringing += usize::from(invite);
        endpoint.set_user(server, user(id));
        self.with(now, endpoint, id, |work, tools| work.start(tools));
    }

    /// A response of one of the proxy's client transactions.
    pub fn response(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        client: ClientId,
        message: &Message,
    ) {
        let Some(id) = endpoint
            .client_user(client)
            .and_then(|user| self.find(user))
        else {
            return;
        };
        let passed = self.with(now, endpoint, id, |work, tools| {
            work.response(tools, client, message)
        });
        let success = message
            .status()
            .is_some_and(|status| (200..300).contains(&status));
        if !passed && success {
            self.pass(now, endpoint, id, message);
        }
    }

    /// A 2xx to an INVITE whose branches are all done.
    fn pass(&mut self, now: Instant, endpoint: &mut Endpoint, id: Id, message: &Message) {
        if let Some(server) = self.contexts.get(id).map(|context| context.server)
            && let Some(bytes) = rewrite::response(message, std::iter::empty())
        {
            endpoint.respond(now, server, message.status().unwrap_or(200), bytes);
        }
    }

    /// The caller cancels its INVITE, for a reason that goes on (RFC 3326; empty: none). The CANCEL itself is answered
    /// elsewhere.
    pub fn cancel(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        invite: ServerId,
        reason: &[u8],
    ) {
        if let Some(id) = endpoint
            .server_user(invite)
            .and_then(|user| self.find(user))
        {
            self.with(now, endpoint, id, |work, tools| work.cancel(tools, reason));
        }
    }

    /// An event of the endpoint; those of others are passed over.
    pub fn event(&mut self, now: Instant, endpoint: &mut Endpoint, event: &Event) {
        match *event {
            Event::ClientFailed {
                client,
                user,
                timeout,
            } => {
                if let Some(id) = self.find(user) {
                    self.with(now, endpoint, id, |work, tools| {
                        work.failed(tools, client, timeout)
                    });
                }
            }
            Event::ServerEnded { user } => {
                if let Some(id) = self.find(user) {
                    self.ended(id);
                }
            }
            Event::AckMissing { .. } => {}
        }
    }

    fn ended(&mut self, id: Id) {
        if let Some(context) = self.contexts.get_mut(id) {
            context.ended = true;
            if context.work.is_none() {
                self.contexts.remove(id);
            }
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, endpoint: &mut Endpoint) {
        let contexts = &self.contexts;
        self.timers.sweep(|(id, _)| {
            contexts
                .get(*id)
                .is_some_and(|context| context.work.is_some())
        });
        while let Some((id, client)) = self.timers.pop(now) {
            self.with(now, endpoint, id, |work, tools| work.fired(tools, client));
        }
    }

    /// When to call [`Proxy::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Requests under way, and answered INVITEs whose transaction still lasts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contexts.len()
    }

    /// The next INVITE that has no branch left. Whoever forwards INVITEs asks after each turn.
    pub fn poll_done(&mut self) -> Option<InviteDone> {
        self.done.pop()
    }

    /// INVITEs that still ring somewhere.
    #[must_use]
    pub fn ringing(&self) -> usize {
        self.ringing
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The user number has one bit less than the id, which both could be of.
    fn find(&self, user: u64) -> Option<Id> {
        if user & FOREIGN != 0 {
            return None;
        }
        let ids = [user, user | FOREIGN].map(Id::from_bits);
        ids.into_iter().find(|id| self.contexts.get(*id).is_some())
    }

    /// Runs something on a context that is still at work; whether there was one.
    fn with(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        id: Id,
        run: impl FnOnce(&mut Work, &mut Tools<'_>) -> Progress,
    ) -> bool {
        let Some(context) = self.contexts.get_mut(id) else {
            return false;
        };
        let Some(work) = context.work.as_mut() else {
            return false;
        };
        let (locals, tokens, timers) = (&*self.locals, &self.tokens, &mut self.timers);
        let mut tools = Tools {
            now,
            endpoint,
            locals,
            tokens,
            timers,
            id,
        };
        if run(work, &mut tools) == Progress::Finished {
            let lasting = context.invite && work.succeeded() && !context.ended;
            let (server, succeeded) = (context.server, work.succeeded());
            context.work = None;
            if context.invite {
                self.done.push(InviteDone { server, succeeded });
            }
            self.ringing -= usize::from(context.invite);
            if !lasting {
                self.contexts.remove(id);
            }
        }
        true
    }

    /// Forwards the ACK for a 2xx, which belongs to no transaction (RFC 3261 §16.11), to one target.
    pub fn forward_ack(
        &mut self,
        endpoint: &mut Endpoint,
        request: &Message,
        incoming: Flow,
        pop_routes: usize,
        target: &Target,
    ) {
        if request.max_forwards() == Ok(Some(0)) {
            return;
        }
        let loop_hash = self.loop_hash(request);
        let changes = Changes {
            incoming,
            pop_routes,
            record_route: None,
            asserted: None,
            strip_credentials: true,
            loop_hash,
        };
        let branch = endpoint.stateless_branch(request);
        let hop = Hop {
            uri: &target.uri,
            routes: &target.routes,
            flow: target.flow,
            record: false,
            branch: &branch,
            breadth: None,
        };
        endpoint.send(
            target.flow,
            rewrite::request(request, &changes, &hop, &self.locals, &self.tokens),
        );
    }

    /// RFC 5393 §4.2: the hash covers what decides where the request goes, and nothing that we change otherwise.
    fn loop_hash(&self, request: &Message) -> u32 {
        let number = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
        let mut parts: SmallVec<[&[u8]; 16]> = SmallVec::new();
        parts.push(request.request_uri().as_bytes());
        parts.push(
            request
                .from()
                .ok()
                .and_then(|from| from.tag())
                .unwrap_or_default()
                .as_bytes(),
        );
        parts.push(
            request
                .to()
                .ok()
                .and_then(|to| to.tag())
                .unwrap_or_default()
                .as_bytes(),
        );
        parts.push(request.call_id());
        parts.push(&number);
        for name in [HeaderName::Route, HeaderName::ProxyRequire] {
            parts.push(name.as_str().as_bytes());
            parts.extend(request.values(name));
        }
        u32::try_from(self.loops.digest(&parts) & u128::from(u32::MAX)).unwrap_or_default()
    }

    /// Whether this request was here before and would go the same way again (RFC 3261 §16.3 step 4): 482.
    #[must_use]
    pub fn is_loop(&self, request: &Message) -> bool {
        let mut hash = None;
        request.vias().filter_map(Result::ok).any(|via| {
            let given = via
                .branch()
                .and_then(|branch| branch.rsplit_once('.'))
                .map(|(_, hash)| hash);
            given.is_some_and(|given| given.len() == LOOP_DIGITS)
                && self.locals.is_ours(via.host, via.port)
                && given.and_then(|given| u32::from_str_radix(given, 16).ok())
                    == Some(*hash.get_or_insert_with(|| self.loop_hash(request)))
        })
    }
}

/// RFC 3261 §16.3 step 3, RFC 5393 §5.3.3.1.
fn refusal(request: &Message) -> Option<(u16, &'static str)> {
    if request.max_forwards() == Ok(Some(0)) {
        return Some((483, "no hops left"));
    }
    (breadth::of(request).0 == 0).then_some((440, "no breadth left"))
}

/// A final response of our own making, which says why.
fn answer_here(
    endpoint: &mut Endpoint,
    request: &Message,
    incoming: Flow,
    status: u16,
    why: &str,
) -> Bytes {
    ResponseBuilder::new(request, status, "")
        .to_tag(&endpoint.new_tag())
        .received(incoming.remote)
        .header("Warning", format!("399 sidetone \"{why}\""))
        .finish()
}

#[cfg(test)]
mod tests;
