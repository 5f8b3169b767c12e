//! What a phone is asked: answered by plan, retransmissions from memory.
//!
//! *Invariant*: the application hears of a request once, however often it comes.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use sidetone_sip::{Message, ResponseBuilder};

use super::dialog::Dialog;
use super::{Again, LIFE_US, Phone, Seen};

/// A server transaction.
#[derive(Debug)]
pub(super) struct Server {
    branch: String,
    method: String,
    source: SocketAddr,
    request: Message,
    tag: String,
    /// The latest answer.
    status: u16,
    reply: Option<Bytes>,
    plan: VecDeque<(u64, u16)>,
    again: Option<Again>,
    ends_us: u64,
}

impl Server {
    pub(super) fn next_timeout(&self) -> u64 {
        let again = self.again.map_or(u64::MAX, |again| again.at_us);
        let plan = self.plan.front().map_or(u64::MAX, |(at_us, _)| *at_us);
        again.min(plan).min(self.ends_us)
    }

    fn is_invite(&self) -> bool {
        self.method == "INVITE"
    }
}

impl Phone {
    pub(super) fn incoming(&mut self, source: SocketAddr, request: &Message) {
        let branch = request.top_via().ok().and_then(|via| via.branch());
        let branch = branch.unwrap_or_default().to_owned();
        let method = request.method_text().to_owned();
        if method == "ACK" {
            return self.acknowledged(&branch, request);
        }
        let known = |server: &&Server| server.branch == branch && server.method == method;
        if let Some(server) = self.servers.iter().find(known) {
            self.outgoing
                .extend(server.reply.clone().map(|reply| (source, reply)));
            return;
        }
        let tag = self.token();
        self.servers.push(Server {
            branch: branch.clone(),
            method: method.clone(),
            source,
            request: request.clone(),
            tag,
            status: 0,
            reply: None,
            plan: VecDeque::new(),
            again: None,
            ends_us: self.now_us + LIFE_US,
        });
        let at = self.servers.len() - 1;
        match method.as_str() {
            "INVITE" => self.rings(at),
            "CANCEL" => self.cancelled(at, &branch),
            "BYE" => {
                let status = if self.hung_up(request) { 200 } else { 481 };
                self.respond(at, status);
            }
            "MESSAGE" => {
                self.seen.push(Seen::Message {
                    call_id: String::from_utf8_lossy(request.call_id()).into_owned(),
                    kind: String::from_utf8_lossy(request.content_type().unwrap_or_default())
                        .into_owned(),
                    body: String::from_utf8_lossy(request.body_bytes()).into_owned(),
                });
                self.respond(at, self.message_status);
            }
            "NOTIFY" => {
                self.notified(request);
                if let Some(status) = self.notify_status {
                    self.respond(at, status);
                }
            }
            "OPTIONS" => self.respond(at, 200),
            _ => self.respond(at, 501),
        }
    }

    fn rings(&mut self, at: usize) {
        self.seen.push(Seen::Invite);
        let now_us = self.now_us;
        let steps = self.plan.0.iter();
        let server = &mut self.servers[at];
        server.ends_us = u64::MAX;
        server.plan = steps
            .map(|(ms, status)| (now_us + ms * 1_000, *status))
            .collect();
        self.follow_plans();
    }

    fn cancelled(&mut self, at: usize, branch: &str) {
        let invite = self
            .servers
            .iter()
            .position(|server| server.is_invite() && server.branch == branch);
        let Some(invite) = invite else {
            return self.respond(at, 481);
        };
        self.respond(at, 200);
        if self.servers[invite].status < 200 {
            self.seen.push(Seen::Cancelled);
            self.servers[invite].plan.clear();
            self.respond(invite, 487);
        }
    }

    fn respond(&mut self, at: usize, status: u16) {
        let contact = match &self.host_name {
            Some(host) => format!("<sip:{}@{host}>", self.identity.user),
            None => self.contact(),
        };
        let server = &mut self.servers[at];
        let mut builder = ResponseBuilder::new(&server.request, status, "").to_tag(&server.tag);
        if server.is_invite() && status < 300 {
            builder = builder.record_route().header("Contact", contact);
        }
        let reply = builder.finish();
        server.status = status;
        server.reply = Some(reply.clone());
        if server.is_invite() && status >= 200 {
            server.again = Some(Again::from(self.now_us));
            server.ends_us = self.now_us + LIFE_US;
            if status < 300 {
                self.dialogs
                    .extend(Dialog::new(&server.request, &server.tag));
            }
        }
        self.outgoing.push((server.source, reply));
    }

    /// The ACK of a 2xx has a branch of its own; that of another answer has the INVITE's.
    fn acknowledged(&mut self, branch: &str, request: &Message) {
        let tag = request.to().ok().and_then(|to| to.tag());
        let found = self.servers.iter_mut().find(|server| {
            let same = server.branch == branch || (200..300).contains(&server.status);
            server.is_invite()
                && same
                && server.request.call_id() == request.call_id()
                && Some(server.tag.as_str()) == tag
        });
        if let Some(server) = found
            && server.again.take().is_some()
        {
            self.seen.push(Seen::Ack);
        }
    }

    fn follow_plans(&mut self) {
        let now_us = self.now_us;
        for at in 0..self.servers.len() {
            while let Some((_, status)) = self.servers[at]
                .plan
                .pop_front_if(|(at_us, _)| *at_us <= now_us)
            {
                self.respond(at, status);
            }
        }
    }

    pub(super) fn server_timeouts(&mut self) {
        let now_us = self.now_us;
        for server in &mut self.servers {
            if let Some(again) = server.again.as_mut().filter(|again| again.at_us <= now_us) {
                again.turn(now_us, true);
                let reply = server.reply.clone();
                self.outgoing
                    .extend(reply.map(|reply| (server.source, reply)));
            }
        }
        self.follow_plans();
        self.servers.retain(|server| server.ends_us > now_us);
    }
}
