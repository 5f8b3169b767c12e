//! One connection: read at readiness, write at once.
//!
//! *Invariants:* one task waits in [`Connection::receive`] (or the handshake); its
//! waker is the only one stored. After an error or a close nothing more is read or
//! written, and the waiting task is woken to see it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::outbox::Outbox;
use super::scratch::{self, Inbound, WIRE_BYTES};
use super::session::Session;

/// An incomplete record, or handshake message, that may wait for its end.
const PARTIAL_MAX: usize = 32 << 10;

/// Why a write was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The peer takes too little; close it.
    #[error("the peer does not take what it is sent")]
    Full,
    /// The connection is gone.
    #[error("the connection is closed")]
    Closed,
}

struct Secured {
    session: Session,
    /// The start of a record whose end has not arrived.
    partial: Vec<u8>,
    /// Plaintext that came in the same segment as the end of the handshake.
    early: Vec<u8>,
}

/// A TCP or TLS connection. See the module about who may call what.
pub struct Connection {
    socket: TcpStream,
    secured: Option<Box<RefCell<Secured>>>,
    outbox: RefCell<Outbox>,
    outbox_max: usize,
    waker: Cell<Option<Waker>>,
    received_at: Cell<Instant>,
    closed: Cell<bool>,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        session: Option<Session>,
        outbox_max: usize,
    ) -> io::Result<Self> {
        let secured = session.map(|session| Secured {
            session,
            partial: Vec::new(),
            early: Vec::new(),
        });
        Ok(Self {
            local: socket.local_addr()?,
            remote: socket.peer_addr()?,
            socket,
            secured: secured.map(|s| Box::new(RefCell::new(s))),
            outbox: RefCell::default(),
            outbox_max,
            waker: Cell::new(None),
            received_at: Cell::new(Instant::now()),
            closed: Cell::new(false),
        })
    }

    /// Our address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The peer's address.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// Whether it is TLS.
    pub fn is_secure(&self) -> bool {
        self.secured.is_some()
    }

    /// Whether nothing more will be read or written.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// When bytes last arrived, or the connection was made.
    pub fn received_at(&self) -> Instant {
        self.received_at.get()
    }

    /// Bytes that the peer has not taken.
    pub fn queued_bytes(&self) -> usize {
        self.outbox.borrow().len()
    }

    /// Since when the peer has taken nothing although bytes wait for it.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.outbox.borrow().stalled_since()
    }

    /// Waits for bytes and gives them to `sink`, once; returns how many, 0 when the
    /// connection is over. Meanwhile sends what waits in the outbox. `sink` may
    /// write to this or any other connection. Safe to drop and call again.
    pub async fn receive(&self, mut sink: impl FnMut(&[u8])) -> io::Result<usize> {
        poll_fn(|cx| self.poll_receive(cx, &mut sink)).await
    }

    /// [`receive`](Self::receive) by hand.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if let Some(early) = self.take_early() {
            sink(&early);
            return Poll::Ready(Ok(early.len()));
        }
        loop {
            match ready!(self.poll_pump(cx, sink)) {
                Ok(0) if !self.closed.get() => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Sends at once, or keeps what the peer does not take yet.
    pub fn try_write(&self, bytes: &[u8]) -> Result<(), WriteError> {
        if self.closed.get() {
            return Err(WriteError::Closed);
        }
        if self.queued_bytes() + bytes.len() > self.outbox_max {
            return Err(WriteError::Full);
        }
        let Some(secured) = &self.secured else {
            return self.send(bytes).map_err(|e| self.fail(&e));
        };
        scratch::records(|records| {
            let Secured {
                session, partial, ..
            } = &mut *secured.borrow_mut();
            session.encrypt(partial, bytes, records)?;
            self.send(records)
        })
        .map_err(|e| self.fail(&e))
    }

    /// Waits until the peer's system has taken everything written, or it is over.
    pub async fn flush(&self) -> io::Result<()> {
        while !self.closed.get() && !self.outbox.borrow().is_empty() {
            self.socket.writable().await?;
            self.offer_outbox()?;
        }
        Ok(())
    }

    /// Ends it in good order: what is queued goes out first if the peer takes it
    /// in that time.
    pub async fn finish(&self, within: Duration) {
        // A peer that takes nothing is closed all the same.
        let _ = tokio::time::timeout(within, self.flush()).await;
        self.close();
    }

    /// Ends it now. [`receive`](Self::receive) returns 0.
    pub fn close(&self) {
        if self.closed.get() {
            return;
        }
        self.say_goodbye();
        self.shut();
    }

    /// Drives the handshake to its end.
    pub(super) fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.is_handshaking() {
            let mut early = Vec::new();
            let outcome = ready!(self.poll_pump(cx, &mut |bytes| early.extend_from_slice(bytes)));
            if let (Some(secured), false) = (&self.secured, early.is_empty()) {
                secured.borrow_mut().early = early;
            }
            outcome?;
            if self.closed.get() && self.is_handshaking() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A client speaks first.
    pub(super) fn start_handshake(&self) -> io::Result<()> {
        let Some(secured) = &self.secured else {
            return Ok(());
        };
        scratch::records(|records| {
            let session = &mut secured.borrow_mut().session;
            session.receive(&mut [], &mut Vec::new(), records)?;
            self.send(records)
        })
    }

    fn is_handshaking(&self) -> bool {
        let secured = self.secured.as_ref();
        secured.is_some_and(|secured| secured.borrow().session.is_handshaking())
    }

    fn take_early(&self) -> Option<Vec<u8>> {
        let mut secured = self.secured.as_ref()?.borrow_mut();
        Some(std::mem::take(&mut secured.early)).filter(|early| !early.is_empty())
    }

    /// One readiness: the outbox is moved along, then one read. 0 with an open
    /// connection: something arrived, but no plaintext.
    fn poll_pump(
        &self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.closed.get() {
                return Poll::Ready(Ok(0));
            }
            self.remember(cx.waker());
            if let Err(error) = self.poll_outbox(cx) {
                self.shut();
                return Poll::Ready(Err(error));
            }
            ready!(self.socket.poll_read_ready(cx))?;
            match self.read_once(sink) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.shut();
                    return Poll::Ready(Err(error));
                }
                Ok(count) => return Poll::Ready(Ok(count)),
            }
        }
    }

    fn remember(&self, waker: &Waker) {
        let known = self.waker.take().filter(|known| known.will_wake(waker));
        self.waker.set(Some(known.unwrap_or_else(|| waker.clone())));
    }

    fn poll_outbox(&self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.outbox.borrow().is_empty() {
            match self.socket.poll_write_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
            self.offer_outbox()?;
        }
        Ok(())
    }

    fn offer_outbox(&self) -> io::Result<()> {
        let offered = self
            .outbox
            .borrow_mut()
            .offer(|bytes| self.socket.try_write(bytes));
        match offered {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    fn read_once(&self, sink: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        scratch::inbound(|Inbound { wire, plain }| match &self.secured {
            None => {
                let count = self.read_into(wire)?;
                if count > 0 {
                    sink(&wire[..count]);
                }
                Ok(count)
            }
            Some(secured) => {
                let peer_closed = self.read_records(secured, wire, plain)?;
                if !plain.is_empty() {
                    sink(plain);
                }
                if peer_closed {
                    self.close();
                }
                Ok(plain.len())
            }
        })
    }

    /// Reads, decrypts, and sends what TLS itself has to say; true when the peer has
    /// ended the session.
    fn read_records(
        &self,
        secured: &RefCell<Secured>,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> io::Result<bool> {
        scratch::records(|records| {
            let outcome = self.decrypt(&mut secured.borrow_mut(), wire, plain, records);
            // After an error this is the alert that explains it.
            let sent = self.send(records);
            let peer_closed = outcome?;
            sent.map(|()| peer_closed)
        })
    }

    /// Reads and decrypts; true when the peer has ended the session.
    fn decrypt(
        &self,
        secured: &mut Secured,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        records: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let Secured {
            session, partial, ..
        } = secured;
        let held = partial.len();
        let arrived = self.read_into(&mut wire[held..])?;
        if arrived == 0 {
            return Ok(false);
        }
        wire[..held].copy_from_slice(partial);
        let wire = &mut wire[..held + arrived];
        let processed = session.receive(wire, plain, records)?;
        let rest = wire.get(processed.consumed..).unwrap_or_default();
        if rest.len() > PARTIAL_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "TLS message too large",
            ));
        }
        *partial = rest.to_vec();
        Ok(processed.peer_closed)
    }

    /// One read. A read that does not fill the buffer has emptied the socket: the
    /// runtime's readiness is cleared without asking the system again. The end of
    /// the stream stays visible, as the runtime keeps that flag.
    fn read_into(&self, buffer: &mut [u8]) -> io::Result<usize> {
        debug_assert!(buffer.len() >= WIRE_BYTES - PARTIAL_MAX);
        let mut arrived = None;
        let read = self.socket.try_io(Interest::READABLE, || {
            let count = (&*SockRef::from(&self.socket)).read(buffer)?;
            arrived = Some(count);
            if count > 0 && count < buffer.len() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        let count = match (arrived, read) {
            (Some(count), _) => count,
            (None, Err(error)) => return Err(error),
            (None, Ok(())) => 0,
        };
        if count == 0 {
            self.shut();
        } else {
            self.received_at.set(Instant::now());
        }
        Ok(count)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() || self.closed.get() {
            return Ok(());
        }
        let mut outbox = self.outbox.borrow_mut();
        if !outbox.is_empty() {
            outbox.keep(bytes);
            return Ok(());
        }
        let sent = match self.socket.try_write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            other => other?,
        };
        if sent < bytes.len() {
            outbox.keep(&bytes[sent..]);
            self.wake();
        }
        Ok(())
    }

    fn say_goodbye(&self) {
        let Some(secured) = &self.secured else {
            return;
        };
        // Best effort: the peer may be gone, or in the middle of its handshake.
        let _ = scratch::records(|records| {
            let Secured {
                session, partial, ..
            } = &mut *secured.borrow_mut();
            session.close_notify(partial, records)?;
            self.send(records)
        });
    }

    fn fail(&self, error: &io::Error) -> WriteError {
        tracing::debug!(remote = %self.remote, %error, "write failed");
        self.shut();
        WriteError::Closed
    }

    fn shut(&self) {
        if self.closed.replace(true) {
            return;
        }
        self.outbox.take();
        // Already reset by the peer: nothing left to shut.
        let _ = SockRef::from(&self.socket).shutdown(std::net::Shutdown::Both);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("secure", &self.is_secure())
            .finish_non_exhaustive()
    }
}
