//! The response context of one request (RFC 3261 §16.7): its branches and what they have answered.
//!
//! *Invariant*: a branch is `Waiting`, then `Active` with one client transaction, then `Done`; it never goes back.
//! Once `stopped`, nothing new is sent but CANCELs.

use std::time::Instant;

use smallvec::SmallVec;

use super::answer::{Answer, is_challenge, rank};
use super::rewrite::{self, Changes, Hop};
use super::{Locals, Target};
use crate::endpoint::{ClientId, Endpoint, ServerId};
use crate::slab::Id;
use crate::timer::{T1_64, TIMER_C, Timers};
use crate::{HeaderName, Message, Method, TokenKey};

/// Challenges of other branches that are added to the one that is passed on.
const MAX_CHALLENGES: usize = 8;

/// What the phones that rang in vain are told (RFC 3326 §2), so that they note no missed call.
const ELSEWHERE: &[u8] = b"SIP;cause=200;text=\"Call completed elsewhere\"";

/// Why 408.
const LATE: &str = "no answer in time";

/// What a context works with.
pub(super) struct Tools<'a> {
    pub(super) now: Instant,
    pub(super) endpoint: &'a mut Endpoint,
    pub(super) locals: &'a Locals,
    pub(super) tokens: &'a TokenKey,
    pub(super) timers: &'a mut Timers<(Id, ClientId)>,
    /// The context's own id.
    pub(super) id: Id,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Active(ClientId),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cancel {
    No,
    /// It has to wait for a provisional response (RFC 3261 §9.1).
    Wanted,
    Sent,
}

#[derive(Debug)]
struct Branch {
    target: Target,
    state: State,
    cancel: Cancel,
    /// Timer C has fired.
    overdue: bool,
    /// When to give up: Timer C, or after a CANCEL 64×T1. `None` until something is heard.
    deadline: Option<Instant>,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Work {
    server: ServerId,
    request: Message,
    changes: Changes,
    branches: SmallVec<[Branch; 1]>,
    method: Method,
    /// By the caller.
    cancelled: bool,
    stopped: bool,
    /// Why, as the other branches are told (RFC 3326); empty where there is nothing to say.
    reason: Vec<u8>,
    /// A final response went back.
    answered: bool,
    succeeded: bool,
    best: Option<Answer>,
    challenges: Vec<Message>,
    /// Max-Breadth of the request, if it says one.
    breadth: Option<u32>,
    widest: usize,
}

/// How far a request is after something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Pending,
    /// All branches are done.
    Finished,
}

impl Work {
    pub(super) fn new(
        server: ServerId,
        request: Message,
        changes: Changes,
        targets: Vec<Target>,
    ) -> Self {
        let branch = |target| Branch {
            target,
            state: State::Waiting,
            cancel: Cancel::No,
            overdue: false,
            deadline: None,
        };
        let method = request.method().unwrap_or(Method::Other);
        let (widest, said) = super::breadth::of(&request);
        Self {
            server,
            method,
            changes,
            branches: targets.into_iter().map(branch).collect(),
            cancelled: false,
            stopped: false,
            reason: Vec::new(),
            answered: false,
            succeeded: false,
            best: None,
            challenges: Vec::new(),
            breadth: said.then_some(widest),
            widest: usize::try_from(widest).unwrap_or(usize::MAX),
            request,
        }
    }

    fn is_invite(&self) -> bool {
        self.method == Method::Invite
    }

    /// Whether a 2xx went back.
    pub(super) fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// Begins with the targets that the caller wants first.
    pub(super) fn start(&mut self, tools: &mut Tools<'_>) -> Progress {
        self.launch_next(tools);
        self.conclude(tools, None)
    }

    fn is_active(&self) -> bool {
        self.branches
            .iter()
            .any(|branch| matches!(branch.state, State::Active(_)))
    }

    fn branch_of(&self, client: ClientId) -> Option<usize> {
        self.branches
            .iter()
            .position(|branch| branch.state == State::Active(client))
    }

    /// Sends to all waiting targets of the highest q, of each group to one.
    fn launch_next(&mut self, tools: &mut Tools<'_>) {
        let waiting = |branch: &&Branch| branch.state == State::Waiting;
        let Some(q) = self
            .branches
            .iter()
            .filter(waiting)
            .map(|branch| branch.target.q)
            .max()
        else {
            return;
        };
        let mut chosen: SmallVec<[usize; 8]> = SmallVec::new();
        for (index, branch) in self.branches.iter().enumerate() {
            let group = branch.target.group.as_deref();
            let taken = group.is_some()
                && chosen
                    .iter()
                    .any(|other| self.branches[*other].target.group.as_deref() == group);
            // RFC 5393 §5.3.3.2: what does not fit into the breadth waits for its turn.
            if branch.state == State::Waiting
                && branch.target.q == q
                && !taken
                && chosen.len() < self.widest
            {
                chosen.push(index);
            }
        }
        let share = self.share(chosen.len());
        for index in chosen {
            self.launch(tools, index, share);
        }
    }

    /// The part of Max-Breadth that each of so many copies gets; nothing is written where nobody asks and nothing forks.
    fn share(&self, copies: usize) -> Option<u32> {
        if self.breadth.is_none() && copies < 2 {
            return None;
        }
        u32::try_from(self.widest / copies.max(1)).ok()
    }

    fn launch(&mut self, tools: &mut Tools<'_>, index: usize, breadth: Option<u32>) {
        let branch = &mut self.branches[index];
        let (target, request, changes) = (&branch.target, &self.request, &self.changes);
        let (locals, tokens) = (tools.locals, tools.tokens);
        let client = tools.endpoint.request(
            tools.now,
            target.flow,
            self.method,
            super::user(tools.id),
            |branch| {
                let hop = Hop {
                    uri: &target.uri,
                    routes: &target.routes,
                    flow: target.flow,
                    record: target.record,
                    branch,
                    breadth,
                };
                rewrite::request(request, changes, &hop, locals, tokens)
            },
        );
        branch.state = State::Active(client);
    }

    /// A response of one branch.
    pub(super) fn response(
        &mut self,
        tools: &mut Tools<'_>,
        client: ClientId,
        message: &Message,
    ) -> Progress {
        let Some(index) = self.branch_of(client) else {
            return self.late(tools, message);
        };
        let status = message.status().unwrap_or_default();
        if status < 200 {
            self.provisional(tools, index, client, message);
            return Progress::Pending;
        }
        if message.values(HeaderName::Via).nth(1).is_none() {
            self.branches[index].state = State::Done;
            return self.conclude(tools, Some(Answer::Ours(500, "answer without Via")));
        }
        if status < 300 {
            self.success(tools, index, message)
        } else {
            self.failure(tools, index, status, message)
        }
    }

    /// RFC 6026 §7: each 2xx to an INVITE is passed on, also those that come again.
    fn late(&mut self, tools: &mut Tools<'_>, message: &Message) -> Progress {
        if message
            .status()
            .is_some_and(|status| (200..300).contains(&status))
        {
            pass(tools, self.server, message);
        }
        Progress::Pending
    }

    fn provisional(
        &mut self,
        tools: &mut Tools<'_>,
        index: usize,
        client: ClientId,
        message: &Message,
    ) {
        let trying = message.status() == Some(100);
        let branch = &mut self.branches[index];
        // RFC 3261 §16.7 step 2: 101 to 199 begin Timer C anew. It runs from the first response on; until then Timer B
        // does.
        if self.method == Method::Invite && branch.deadline.is_none() {
            branch.deadline = Some(tools.now + TIMER_C);
            tools.timers.start(tools.now, TIMER_C, (tools.id, client));
        } else if !trying && branch.cancel == Cancel::No {
            branch.deadline = Some(tools.now + TIMER_C);
        }
        if branch.cancel == Cancel::Wanted {
            // RFC 3261 §9.1: now the CANCEL can be sent.
            branch.cancel(tools, &self.reason);
        }
        if !trying && !self.answered {
            pass(tools, self.server, message);
        }
    }

    /// Steps 5 and 10: passed on at once, and of an INVITE the others are cancelled.
    fn success(&mut self, tools: &mut Tools<'_>, index: usize, message: &Message) -> Progress {
        self.branches[index].state = State::Done;
        pass(tools, self.server, message);
        (self.answered, self.succeeded) = (true, true);
        self.stop(tools, ELSEWHERE);
        self.conclude(tools, None)
    }

    fn failure(
        &mut self,
        tools: &mut Tools<'_>,
        index: usize,
        status: u16,
        message: &Message,
    ) -> Progress {
        let branch = &mut self.branches[index];
        branch.state = State::Done;
        // Timer C, not the caller, ended this branch.
        if branch.overdue && status == 487 && !self.cancelled {
            return self.conclude(tools, Some(Answer::Ours(408, LATE)));
        }
        if status >= 600 {
            self.stop(tools, format!("SIP;cause={status}").as_bytes());
        }
        // RFC 3263 §4.3: of the hosts of one name, an overloaded one is a failed one.
        let overloaded = status == 503 && !self.branches[index].is_connected();
        self.next_of_group(tools, index, overloaded || matches!(status, 408 | 430));
        self.conclude(tools, Some(Answer::Theirs(Box::new(message.clone()))))
    }

    /// RFC 5626 §7: another flow to the same instance is tried if this one failed, and only then.
    fn next_of_group(&mut self, tools: &mut Tools<'_>, index: usize, failed: bool) {
        let Some(group) = self.branches[index].target.group.clone() else {
            return;
        };
        for other in 0..self.branches.len() {
            let branch = &mut self.branches[other];
            if branch.state != State::Waiting || branch.target.group.as_ref() != Some(&group) {
                continue;
            }
            if failed {
                // It takes the place of one that is done, so the breadth stays what it was.
                let share = self.share(self.branches.len());
                return self.launch(tools, other, share);
            }
            branch.state = State::Done;
        }
    }

    /// No final response will come from this branch.
    pub(super) fn failed(
        &mut self,
        tools: &mut Tools<'_>,
        client: ClientId,
        timeout: bool,
    ) -> Progress {
        let Some(index) = self.branch_of(client) else {
            return Progress::Pending;
        };
        let branch = &mut self.branches[index];
        branch.state = State::Done;
        let connected = branch.is_connected();
        if timeout && !self.is_invite() {
            // RFC 4320 §4.2: no 408; the caller's own transaction ends at this moment too.
            self.stop(tools, b"");
            return self.conclude(tools, None);
        }
        self.next_of_group(tools, index, true);
        let answer = match (timeout, connected) {
            (true, _) => Answer::Ours(408, LATE),
            // RFC 5626 §5.3.1: within a dialog it is the flow of the Route that is gone. Outside of one a phone whose
            // connection is gone is not there; a server that cannot be reached is RFC 3261 §16.9.
            (false, true) if self.is_within_dialog() => Answer::Ours(430, "the connection is gone"),
            (false, true) => Answer::Ours(480, "the connection is gone"),
            (false, false) => Answer::Ours(500, "next hop unreachable"),
        };
        self.conclude(tools, Some(answer))
    }

    fn is_within_dialog(&self) -> bool {
        self.request.to().is_ok_and(|to| to.tag().is_some())
    }

    /// The caller gives up (RFC 3261 §16.10), for a reason that is passed on (RFC 3326 §2).
    pub(super) fn cancel(&mut self, tools: &mut Tools<'_>, reason: &[u8]) -> Progress {
        if !self.is_invite() || self.answered {
            return Progress::Pending;
        }
        self.cancelled = true;
        self.stop(tools, reason);
        self.conclude(tools, None)
    }

    /// Nothing new is sent; an INVITE that is under way is cancelled.
    fn stop(&mut self, tools: &mut Tools<'_>, reason: &[u8]) {
        self.stopped = true;
        self.reason = reason.to_vec();
        let invite = self.is_invite();
        for branch in &mut self.branches {
            match branch.state {
                State::Waiting => branch.state = State::Done,
                State::Active(_) if invite => branch.cancel(tools, reason),
                State::Active(_) | State::Done => {}
            }
        }
    }

    /// A timer of one branch.
    pub(super) fn fired(&mut self, tools: &mut Tools<'_>, client: ClientId) -> Progress {
        let Some(index) = self.branch_of(client) else {
            return Progress::Pending;
        };
        let branch = &mut self.branches[index];
        if branch.deadline.is_none_or(|deadline| deadline > tools.now) {
            // Begun anew meanwhile. Looked at every 32 s; RFC 3261 §16.6 step 11 asks for more than three minutes.
            if branch.cancel != Cancel::Sent {
                tools.timers.start(tools.now, T1_64, (tools.id, client));
            }
            return Progress::Pending;
        }
        if branch.cancel == Cancel::No {
            // RFC 3261 §16.8
            branch.overdue = true;
            branch.cancel(tools, b"SIP;cause=408");
            return Progress::Pending;
        }
        // RFC 3261 §9.1: cancelled, and no final response for 64×T1.
        branch.state = State::Done;
        tools.endpoint.abandon_client(client);
        self.conclude(tools, Some(Answer::Ours(408, LATE)))
    }

    /// Keeps the better answer; with the last branch done, the best goes back.
    fn conclude(&mut self, tools: &mut Tools<'_>, answer: Option<Answer>) -> Progress {
        self.keep(answer);
        if self.is_active() {
            return Progress::Pending;
        }
        if !self.stopped {
            self.launch_next(tools);
            if self.is_active() {
                return Progress::Pending;
            }
        }
        if !self.answered {
            self.answered = true;
            self.answer(tools);
        }
        Progress::Finished
    }

    fn keep(&mut self, answer: Option<Answer>) {
        let Some(answer) = answer.filter(|_| !self.answered) else {
            return;
        };
        let rank = |answer: &Answer| rank(answer.status(), self.cancelled);
        let better = self
            .best
            .as_ref()
            .is_none_or(|best| rank(&answer) < rank(best));
        let other = if better {
            self.best.replace(answer)
        } else {
            Some(answer)
        };
        if let Some(Answer::Theirs(message)) = other
            && message.status().is_some_and(is_challenge)
            && self.challenges.len() < MAX_CHALLENGES
        {
            self.challenges.push(*message);
        }
    }

    /// Steps 6 to 9.
    fn answer(&mut self, tools: &mut Tools<'_>) {
        match self.best.take() {
            // RFC 3261 §16.7 step 6: it is us whom the caller would leave alone.
            Some(Answer::Theirs(message)) if message.status() == Some(503) => {
                self.answer_here(tools, 500, "next hop overloaded");
            }
            Some(Answer::Theirs(message)) => {
                let status = message.status().unwrap_or(500);
                let others = self.challenges.iter().filter(|_| is_challenge(status));
                if let Some(bytes) = rewrite::response(&message, others) {
                    tools
                        .endpoint
                        .respond(tools.now, self.server, status, bytes);
                }
            }
            Some(Answer::Ours(408 | 480 | 500, _)) if self.cancelled => {
                self.answer_here(tools, 487, "cancelled")
            }
            Some(Answer::Ours(status, why)) => self.answer_here(tools, status, why),
            None if self.is_invite() => self.answer_here(tools, 480, "nobody to ask"),
            None if self.branches.is_empty() => self.answer_here(tools, 480, "nobody to ask"),
            // RFC 4320 §4.2
            None => tools.endpoint.abandon_server(self.server),
        }
    }

    fn answer_here(&self, tools: &mut Tools<'_>, status: u16, why: &str) {
        let bytes = super::answer_here(
            tools.endpoint,
            &self.request,
            self.changes.incoming,
            status,
            why,
        );
        tools
            .endpoint
            .respond(tools.now, self.server, status, bytes);
    }
}

impl Branch {
    /// Whether the target came over a connection of its own; else it is an address to which one may be opened.
    fn is_connected(&self) -> bool {
        self.target.flow.is_connection()
    }

    /// Sends CANCEL, or remembers to.
    fn cancel(&mut self, tools: &mut Tools<'_>, reason: &[u8]) {
        let State::Active(client) = self.state else {
            return;
        };
        if self.cancel == Cancel::Sent {
            return;
        }
        self.cancel = Cancel::Wanted;
        if tools.endpoint.cancel(tools.now, client, reason) {
            self.cancel = Cancel::Sent;
            self.deadline = Some(tools.now + T1_64);
            tools.timers.start(tools.now, T1_64, (tools.id, client));
        }
    }
}

/// RFC 3261 §16.7 steps 3 and 9. What may not follow an earlier answer the transaction does not send.
pub(super) fn pass(tools: &mut Tools<'_>, server: ServerId, message: &Message) {
    let status = message.status().unwrap_or_default();
    if let Some(bytes) = rewrite::response(message, std::iter::empty()) {
        tools.endpoint.respond(tools.now, server, status, bytes);
    }
}
