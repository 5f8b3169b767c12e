//! What arrives: datagrams in batches, connections and what they say.
//!
//! *Invariant*: a batch of datagrams is one turn of the shard. A connection that ends, in
//! whatever way, is taken off the table and the shard is told.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::ServerConfig;
use sidetone_sip::Frame;
use sidetone_sip::flow::{Flow, Transport};
use sidetone_transport::stream::{Incoming, Listener};
use sidetone_transport::udp::{RecvBatch, SLOTS};

use crate::admission::Admitted;
use crate::backlog::{self, Backlog};
use crate::connections::{Carrier, Link};
use crate::driver::Driver;
use crate::inbox::{Mail, Outlet};
use crate::shard::Now;

/// What a peer has to take the answer to what was no SIP.
const FAREWELL: Duration = Duration::from_secs(2);
/// A pause where the system refuses to read or accept.
const PAUSE: Duration = Duration::from_millis(50);
/// Mails of one turn.
const MAILS: usize = 256;

/// Reads one UDP socket for ever.
pub(crate) async fn datagrams(driver: Rc<Driver>, listener: u16) {
    let Some(port) = driver
        .ports
        .get(usize::from(listener))
        .and_then(Option::as_ref)
    else {
        return;
    };
    let mut batch = RecvBatch::new();
    let mut backlog = Backlog::default();
    loop {
        let arrived = match port.socket.readable().await {
            Ok(()) => port.socket.try_recv_batch(&mut batch),
            Err(error) => Err(error),
        };
        let count = match arrived {
            Ok(0) => continue,
            Ok(count) => count,
            // An ICMP error of something sent before, most likely.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => {
                tracing::warn!(local = %port.socket.local_addr(), %error, "cannot read");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let now = Now::read();
        backlog.note(now.instant, count == SLOTS);
        if backlog.is_long(now.instant) {
            if backlog.is_news(now.instant) {
                let local = port.socket.local_addr();
                tracing::warn!(%local, "more arrives than can be answered: new registrations wait");
            }
            driver.datagrams_behind(now, listener, &batch);
        } else {
            for (remote, octets) in batch.iter() {
                driver.datagram(now, listener, remote, octets);
            }
        }
        driver.pump();
        if count == SLOTS {
            // More may wait; connections, timers and the store have their turn first.
            tokio::task::yield_now().await;
        }
    }
}

/// Sends what a UDP socket did not take at once.
pub(crate) async fn flush(driver: Rc<Driver>, listener: u16) {
    let Some(port) = driver
        .ports
        .get(usize::from(listener))
        .and_then(Option::as_ref)
    else {
        return;
    };
    loop {
        port.blocked.notified().await;
        if port.socket.writable().await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        driver.flush_port(port);
        driver.pump();
    }
}

/// Accepts connections for ever.
pub(crate) async fn accept(
    driver: Rc<Driver>,
    number: u16,
    listener: Rc<Listener>,
    tls: Option<Arc<ServerConfig>>,
) {
    let mut warned: Option<Instant> = None;
    loop {
        let incoming = match listener.accept().await {
            Ok(incoming) => incoming,
            Err(error) => {
                tracing::warn!(local = %listener.local_addr(), %error, "cannot accept");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let remote = incoming.remote_addr();
        let limiter = &driver.supplies.services.limiter;
        if limiter.is_banned(remote.ip(), Now::read().unix_ms) {
            continue;
        }
        let Some(place) = driver.supplies.admission.admit(remote.ip()) else {
            driver.supplies.counts.refused.fetch_add(1, Relaxed);
            // One line a second tells as much as a thousand.
            if warned.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
                tracing::warn!(%remote, "too many connections");
                warned = Some(Instant::now());
            }
            continue;
        };
        let driver = Rc::clone(&driver);
        let tls = tls.clone();
        tokio::task::spawn_local(serve(driver, number, incoming, tls, place));
    }
}

async fn serve(
    driver: Rc<Driver>,
    listener: u16,
    incoming: Incoming,
    tls: Option<Arc<ServerConfig>>,
    place: Admitted,
) {
    let remote = incoming.remote_addr();
    let (transport, connection) = match tls {
        None => (Transport::Tcp, incoming.plain()),
        Some(tls) => (Transport::Tls, Box::pin(incoming.secure(tls)).await),
    };
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%remote, %error, "handshake");
            return;
        }
    };
    let flow = Flow {
        transport,
        listener,
        connection: driver.numbers[usize::from(driver.index)].next(),
        remote,
    };
    let link = Rc::new(Link::accepted(flow, connection, place));
    driver.connections.insert(Rc::clone(&link));
    converse(driver, link).await;
}

/// Takes a connection off the table when its task ends.
struct Departure {
    driver: Rc<Driver>,
    link: Rc<Link>,
}

impl Drop for Departure {
    fn drop(&mut self) {
        if self.driver.is_stopping() {
            return;
        }
        self.link.close();
        self.driver.gone(Now::read(), self.link.flow);
        self.driver.pump();
    }
}

/// Reads a connection to its end.
pub(crate) async fn converse(driver: Rc<Driver>, link: Rc<Link>) {
    let here = Departure { driver, link };
    let (driver, link) = (&here.driver, &here.link);
    let Carrier::Stream { connection, framer } = &link.carrier else {
        return;
    };
    loop {
        let read = connection.receive(|octets| framer.borrow_mut().push(octets));
        match read.await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if driver.frames(link).is_break() {
            // The answer says why; a peer that does not take it is closed all the same.
            return Box::pin(connection.finish(FAREWELL)).await;
        }
    }
}

impl Driver {
    /// Handles what cannot wait, and counts the rest.
    fn datagrams_behind(&self, now: Now, listener: u16, batch: &RecvBatch) {
        let (wait, urgent): (Vec<_>, Vec<_>) = batch
            .iter()
            .partition(|(_, octets)| backlog::can_wait(octets));
        let count = u64::try_from(wait.len()).unwrap_or_default();
        self.supplies.counts.put_off.fetch_add(count, Relaxed);
        for (remote, octets) in urgent {
            self.datagram(now, listener, remote, octets);
        }
    }

    /// Handles the whole frames that came; breaks when the stream cannot be read on.
    fn frames(&self, link: &Link) -> ControlFlow<()> {
        let Carrier::Stream { framer, .. } = &link.carrier else {
            return ControlFlow::Break(());
        };
        let now = Now::read();
        let mut whole = false;
        let flow = loop {
            let next = framer.borrow_mut().next(&self.supplies.limits);
            match next {
                Ok(Some(Frame::Message(bytes))) => {
                    whole = true;
                    self.message(now, link.flow, bytes);
                }
                Ok(Some(Frame::Ping)) => self.pong(link),
                Ok(Some(Frame::Pong)) => {}
                Ok(None) => break ControlFlow::Continue(()),
                Err(rejected) => {
                    self.with(|shard| shard.handle_broken_frame(now, link.flow, rejected));
                    break ControlFlow::Break(());
                }
            }
        };
        link.progress(now.instant, whole, framer.borrow().buffered());
        self.pump();
        flow
    }

    /// RFC 5626 §4.4.1.
    fn pong(&self, link: &Link) {
        // A failed write has closed it, which its task is about to see.
        let _ = self.write(link, &Bytes::from_static(b"\r\n"));
    }
}

/// Reads the inbox until it says stop.
pub(crate) async fn letters(driver: Rc<Driver>, outlet: Rc<RefCell<Outlet>>) {
    let mut mails = Vec::with_capacity(MAILS);
    loop {
        let some = poll_fn(|cx| outlet.borrow_mut().poll_recv_many(cx, &mut mails, MAILS));
        if some.await == 0 {
            return;
        }
        let now = Now::read();
        let mut stop = false;
        for (mail, weight) in mails.drain(..) {
            stop |= matches!(mail, Mail::Stop);
            driver.mail(now, mail);
            drop(weight);
        }
        driver.pump();
        if stop {
            return;
        }
    }
}

/// Looks through the connections, now and then.
pub(crate) async fn sweep(driver: Rc<Driver>) {
    let patience = driver.supplies.patience;
    let mut tick = tokio::time::interval(patience.sweep);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        driver.connections.sweep(Instant::now(), &patience);
        driver.pump();
    }
}
