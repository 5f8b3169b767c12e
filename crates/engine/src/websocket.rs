//! SIP over WebSocket (RFC 7118), without knowing who carries the frames.
//!
//! *Invariant*: one call of [`WebSocketInbound::receive`] is one WebSocket message; both
//! directions are bounded, and a peer over its bound is cut off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use sidetone_sip::flow::{Flow, Transport};
use tokio::sync::mpsc;

use crate::admission::Admission;
use crate::connections::Numbers;
use crate::inbox::{Inbox, Mail};

/// Where WebSocket connections enter.
#[derive(Clone)]
pub struct WebSocketDoor {
    inboxes: Arc<[Inbox]>,
    numbers: Arc<[Numbers]>,
    admission: Arc<Admission>,
    next: Arc<AtomicUsize>,
}

/// The connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("closed")]
pub struct WebSocketClosed;

/// Takes what one connection sends; dropped when the connection has closed.
pub struct WebSocketInbound {
    inbox: Inbox,
    flow: Flow,
    /// Not admitted, or cut off.
    closed: bool,
}

impl WebSocketDoor {
    pub(crate) fn new(
        inboxes: Arc<[Inbox]>,
        numbers: Arc<[Numbers]>,
        admission: Arc<Admission>,
    ) -> Self {
        Self {
            inboxes,
            numbers,
            admission,
            next: Arc::default(),
        }
    }

    /// A connection is open; what is put into `outgoing` goes to the peer, and when the last
    /// sender is dropped the connection closes.
    pub fn connect(
        &self,
        listener: u16,
        secure: bool,
        remote: SocketAddr,
        outgoing: mpsc::Sender<Bytes>,
    ) -> WebSocketInbound {
        let at = self.next.fetch_add(1, Relaxed) % self.inboxes.len().max(1);
        let inbox = self.inboxes[at].clone();
        let transport = if secure {
            Transport::Wss
        } else {
            Transport::Ws
        };
        let flow = Flow {
            transport,
            listener,
            connection: self.numbers[at].next(),
            remote,
        };
        let place = self.admission.admit(remote.ip());
        let closed = place.is_none();
        if let Some(place) = place {
            inbox.tell(Mail::Opened {
                flow,
                outgoing,
                place,
            });
        } else {
            tracing::warn!(%remote, "too many connections");
        }
        WebSocketInbound {
            inbox,
            flow,
            closed,
        }
    }
}

impl WebSocketInbound {
    /// One WebSocket message: a SIP message or a keep-alive.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn receive(&mut self, bytes: Bytes) -> Result<(), WebSocketClosed> {
        let flow = self.flow;
        if !self.closed && self.inbox.offer(Mail::Message { flow, bytes }) {
            return Ok(());
        }
        Err(WebSocketClosed)
    }
}

impl Drop for WebSocketInbound {
    fn drop(&mut self) {
        if !self.closed {
            self.inbox.tell(Mail::Left(self.flow));
        }
    }
}
