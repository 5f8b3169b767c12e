//! Streams that we open: to other servers, to phones whose connection is gone, and for answers
//! whose connection is gone.
//!
//! *Invariant*: one connection at a time is opened to one peer, by the one shard that the peer
//! falls to, with what waits for it bounded; when it cannot be opened, everybody who waited is
//! told.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use sidetone_sip::endpoint::{ClientId, Transmit};
use sidetone_sip::flow::{Flow, Transport};
use sidetone_sip::{Framing, Message};
use sidetone_transport::stream::{self, Connection, StreamOptions};

use crate::admission::Admitted;
use crate::connections::Link;
use crate::driver::Driver;
use crate::inbox::Mail;
use crate::listeners;
use crate::reach::Peer;
use crate::shard::Now;

/// Connections that are being opened at once.
const OPENING_MAX: usize = 1_024;
/// Of them, such that carry nothing but answers: whoever asks and leaves chooses their port.
const ANSWERING_MAX: usize = 64;
/// And of those, to one host.
const ANSWERING_HOST_MAX: usize = 2;
/// Messages that wait for one of them.
const WAITING_MAX: usize = 64;

/// A connection that is being opened.
struct Opening {
    /// What waits for it, and the shard that it is of.
    waiting: Vec<(Transmit, u16)>,
    /// It was begun for an answer.
    answers: bool,
}

/// Transmits that wait for their connection.
#[derive(Default)]
pub(crate) struct Outward {
    opening: RefCell<HashMap<Peer, Opening>>,
}

impl Outward {
    fn has_room(&self, peer: &Peer, answers: bool) -> bool {
        let opening = self.opening.borrow();
        if !answers {
            return opening.len() < OPENING_MAX;
        }
        let others = opening.iter().filter(|(_, other)| other.answers);
        let (mut all, mut same_host) = (0, 0);
        for (other, _) in others {
            all += 1;
            same_host += usize::from(other.remote.ip() == peer.remote.ip());
        }
        all < ANSWERING_MAX && same_host < ANSWERING_HOST_MAX
    }
}

impl Driver {
    /// Whom a flow without a connection leads to; `None` for a name that was forgotten.
    pub(crate) fn peer_of(&self, flow: &Flow) -> Option<Peer> {
        let name = match flow.transport {
            // The name is the host of the URI (RFC 5922 §4); here it is an address.
            Transport::Tls if flow.peer_name().is_none() => {
                Some(flow.remote.ip().to_string().into())
            }
            Transport::Tls => Some(self.with(|shard| shard.peer_name(flow))?),
            _ => None,
        };
        Some(Peer {
            transport: flow.transport,
            remote: flow.remote,
            name,
        })
    }

    /// Sends by an open connection to that peer, or by a new one (RFC 3261 §18.1.1), whichever
    /// shard has it or is to open it. `from` is the shard that the message is of.
    pub(crate) fn transmit_outward(
        &self,
        transmit: &Transmit,
        peer: Peer,
        from: u16,
    ) -> Result<(), Option<ClientId>> {
        if let Some(connection) = self.reach.find(&peer) {
            let holder = crate::connections::shard_of(connection);
            if holder != self.index {
                return self.pass_on(holder, transmit, peer, from);
            }
            if let Some(link) = self.connections.get(connection) {
                self.carried(transmit.client, connection, from);
                let written = self.write(&link, &transmit.bytes);
                return written.map_err(|_| transmit.client);
            }
        }
        // A browser cannot be called: it has to be connected.
        if !matches!(peer.transport, Transport::Tcp | Transport::Tls) {
            return Err(transmit.client);
        }
        match self.owners.of_peer(&peer) {
            opener if opener != self.index => self.pass_on(opener, transmit, peer, from),
            _ => self.wait_for(transmit, peer, from),
        }
    }

    fn pass_on(
        &self,
        shard: u16,
        transmit: &Transmit,
        peer: Peer,
        from: u16,
    ) -> Result<(), Option<ClientId>> {
        let transmit = transmit.clone();
        let client = transmit.client;
        let mail = Mail::Outward {
            transmit,
            peer,
            from,
        };
        match self.offer(shard, mail) {
            true => Ok(()),
            false => Err(client),
        }
    }

    fn wait_for(&self, transmit: &Transmit, peer: Peer, from: u16) -> Result<(), Option<ClientId>> {
        if let Some(opening) = self.outward.opening.borrow_mut().get_mut(&peer) {
            if opening.waiting.len() >= WAITING_MAX {
                return Err(transmit.client);
            }
            opening.waiting.push((transmit.clone(), from));
            return Ok(());
        }
        let answers = is_answer(transmit);
        let driver = self
            .shared()
            .filter(|_| self.outward.has_room(&peer, answers));
        let driver = driver.ok_or(transmit.client)?;
        let place = self.supplies.admission.admit(peer.remote.ip());
        let place = place.ok_or(transmit.client)?;
        let waiting = vec![(transmit.clone(), from)];
        let opening = Opening { waiting, answers };
        self.outward
            .opening
            .borrow_mut()
            .insert(peer.clone(), opening);
        let listener = transmit.flow.listener;
        tokio::task::spawn_local(open(driver, peer, listener, place));
        Ok(())
    }

    /// Sends an answer whose connection is gone by a new one, to the address that the request
    /// came from and the port of sent-by (RFC 3261 §18.2.2).
    pub(crate) fn answer_anew(
        &self,
        transmit: &Transmit,
        from: u16,
    ) -> Result<(), Option<ClientId>> {
        let peer = self.peer_of_answer(transmit).ok_or(transmit.client)?;
        self.transmit_outward(transmit, peer, from)
    }

    fn peer_of_answer(&self, transmit: &Transmit) -> Option<Peer> {
        let Flow {
            transport, remote, ..
        } = transmit.flow;
        if !is_answer(transmit) || !matches!(transport, Transport::Tcp | Transport::Tls) {
            return None;
        }
        // Who is banned is not called back, either.
        let limiter = &self.supplies.services.limiter;
        if limiter.is_banned(remote.ip(), Now::read().unix_ms) {
            return None;
        }
        let limits = &self.supplies.limits;
        let answer = Message::parse(transmit.bytes.clone(), Framing::Stream, limits).ok()?;
        let via = answer.top_via().ok()?;
        let port = via.port.unwrap_or(transport.default_port());
        // `received` is where the request came from, which the flow knows without asking.
        let remote = SocketAddr::new(remote.ip(), port);
        let name = (transport == Transport::Tls).then(|| Arc::from(via.host));
        Some(Peer {
            transport,
            remote,
            name,
        })
    }

    /// Tells the shard of a request which connection it went by.
    fn carried(&self, client: Option<ClientId>, connection: u64, from: u16) {
        match client {
            Some(client) if from == self.index => {
                self.with(|shard| shard.carried(client, connection));
            }
            Some(client) => self.inbox(from).tell(Mail::Carried { client, connection }),
            None => {}
        }
    }

    /// The connection is there, or it is not to be had.
    fn opened(&self, opened: &io::Result<Rc<Link>>, peer: &Peer) {
        let opening = self.outward.opening.borrow_mut().remove(peer);
        for (transmit, from) in opening.into_iter().flat_map(|opening| opening.waiting) {
            let sent = match opened {
                Ok(link) => {
                    self.carried(transmit.client, link.flow.connection, from);
                    self.write(link, &transmit.bytes).is_ok()
                }
                Err(_) => false,
            };
            if !sent {
                self.report(transmit.client, from);
            }
        }
        self.pump();
    }
}

fn is_answer(transmit: &Transmit) -> bool {
    transmit.bytes.starts_with(b"SIP/2.0 ")
}

async fn open(driver: Rc<Driver>, peer: Peer, listener: u16, place: Admitted) {
    let opened = connect(&driver, &peer, listener).await;
    let opened = opened.map(|connection| {
        let flow = Flow {
            transport: peer.transport,
            listener,
            connection: driver.numbers[usize::from(driver.index)].next(),
            remote: peer.remote,
        };
        let link = Rc::new(Link::opened(flow, connection, peer.name.clone(), place));
        driver.connections.insert(Rc::clone(&link));
        link
    });
    // No handshake tells more than this line; the caller is told that the hop is not reached.
    if let Err(error) = &opened {
        let (transport, remote) = (peer.transport.via_token(), peer.remote);
        let name = peer.name.as_deref().unwrap_or_default();
        tracing::info!(%remote, transport, name, %error, "cannot connect");
    }
    driver.opened(&opened, &peer);
    if let Ok(link) = opened {
        listeners::converse(driver, link).await;
    }
}

async fn connect(driver: &Driver, peer: &Peer, listener: u16) -> io::Result<Connection> {
    // From the address that Via names, where the listener has one of its own.
    let local = driver.addresses.get(usize::from(listener));
    let options = StreamOptions {
        source: local
            .map(SocketAddr::ip)
            .filter(|source| !source.is_unspecified()),
        ..StreamOptions::default()
    };
    match &peer.name {
        None => stream::connect(peer.remote, &options).await,
        Some(name) => {
            let tls = &driver.supplies.client_tls;
            Box::pin(stream::connect_tls(peer.remote, name, tls, &options)).await
        }
    }
}
