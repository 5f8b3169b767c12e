//! Streams that we open: to phones whose connection is gone, and to other servers.
//!
//! *Invariant*: one connection at a time is opened to one address, with what waits for it
//! bounded; when it cannot be opened, everybody who waited is told.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use sidetone_sip::endpoint::{ClientId, Transmit};
use sidetone_sip::flow::{Flow, Transport};
use sidetone_transport::stream::{self, Connection, StreamOptions};

use crate::connections::Link;
use crate::driver::Driver;
use crate::listeners;
use crate::shard::Now;

/// Connections that are being opened at once.
const OPENING_MAX: usize = 1_024;
/// Messages that wait for one of them.
const WAITING_MAX: usize = 64;

/// Transmits that wait for their connection.
#[derive(Default)]
pub(crate) struct Outward {
    opening: RefCell<HashMap<(Transport, SocketAddr), Vec<Transmit>>>,
}

impl Driver {
    /// Sends by an open connection to that address, or by a new one (RFC 3261 §18.1.1).
    pub(crate) fn transmit_outward(&self, transmit: &Transmit) -> Result<(), Option<ClientId>> {
        let Flow {
            transport, remote, ..
        } = transmit.flow;
        let name = (transport == Transport::Tls).then(|| self.name_of(remote));
        if let Some(link) = self.connections.to(transport, remote, name.as_deref()) {
            return self
                .write(&link, &transmit.bytes)
                .map_err(|_| transmit.client);
        }
        // A browser cannot be called: it has to be connected.
        if !matches!(transport, Transport::Tcp | Transport::Tls) {
            return Err(transmit.client);
        }
        self.wait_for(transport, remote, name, transmit)
    }

    fn wait_for(
        &self,
        transport: Transport,
        remote: SocketAddr,
        name: Option<Box<str>>,
        transmit: &Transmit,
    ) -> Result<(), Option<ClientId>> {
        let mut opening = self.outward.opening.borrow_mut();
        if let Some(waiting) = opening.get_mut(&(transport, remote)) {
            if waiting.len() >= WAITING_MAX {
                return Err(transmit.client);
            }
            waiting.push(transmit.clone());
            return Ok(());
        }
        let driver = self.shared().filter(|_| opening.len() < OPENING_MAX);
        let driver = driver.ok_or(transmit.client)?;
        opening.insert((transport, remote), vec![transmit.clone()]);
        let listener = transmit.flow.listener;
        tokio::task::spawn_local(open(driver, transport, remote, name, listener));
        Ok(())
    }

    /// The connection is there, or it is not to be had.
    fn opened(&self, opened: io::Result<Rc<Link>>, transport: Transport, remote: SocketAddr) {
        let waiting = self
            .outward
            .opening
            .borrow_mut()
            .remove(&(transport, remote));
        for transmit in waiting.unwrap_or_default() {
            let sent = match &opened {
                Ok(link) => self.write(link, &transmit.bytes).is_ok(),
                Err(_) => false,
            };
            if let (false, Some(client)) = (sent, transmit.client) {
                self.with(|shard| shard.transport_failed(Now::read(), client));
            }
        }
        self.pump();
    }
}

async fn open(
    driver: Rc<Driver>,
    transport: Transport,
    remote: SocketAddr,
    name: Option<Box<str>>,
    listener: u16,
) {
    let opened = connect(&driver, remote, name.as_deref()).await;
    let opened = opened.map(|connection| {
        let flow = Flow {
            transport,
            listener,
            connection: driver.numbers[usize::from(driver.index)].next(),
            remote,
        };
        let link = Rc::new(Link::opened(flow, connection, name));
        driver.connections.insert(Rc::clone(&link));
        link
    });
    if let Err(error) = &opened {
        tracing::info!(%remote, transport = transport.via_token(), %error, "cannot connect");
    }
    driver.opened_by_us(opened, transport, remote).await;
}

impl Driver {
    async fn opened_by_us(
        self: Rc<Self>,
        opened: io::Result<Rc<Link>>,
        transport: Transport,
        remote: SocketAddr,
    ) {
        let link = opened.as_ref().ok().map(Rc::clone);
        self.opened(opened, transport, remote);
        if let Some(link) = link {
            listeners::converse(self, link).await;
        }
    }
}

async fn connect(
    driver: &Driver,
    remote: SocketAddr,
    name: Option<&str>,
) -> io::Result<Connection> {
    let options = StreamOptions::default();
    match name {
        None => stream::connect(remote, &options).await,
        Some(name) => {
            let tls = &driver.supplies.client_tls;
            Box::pin(stream::connect_tls(remote, name, tls, &options)).await
        }
    }
}
