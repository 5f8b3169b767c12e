//! SIP over WebSocket (RFC 7118): the upgrade and the frames.
//!
//! *Invariant*: one WebSocket message is one SIP message (RFC 7118 §5); both
//! directions are bounded, and a peer that falls behind or silent is dropped.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::SinkExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, timeout};

use crate::problem::Problem;
use crate::serve::Place;
use crate::state::State;

/// Messages that may wait for a slow browser.
const OUTGOING: usize = 64;

/// How long a peer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often a ping goes out (RFC 6455 §5.5.2).
    pub ping: Duration,
    /// A peer that sent nothing for this long, not even a pong, is gone.
    pub silence: Duration,
    /// A peer that takes nothing for this long is gone.
    pub stuck: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            ping: Duration::from_secs(25),
            silence: Duration::from_secs(80),
            stuck: Duration::from_secs(10),
        }
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who connected.
    pub remote: SocketAddr,
    /// Our address that was connected to.
    pub local: SocketAddr,
    /// Whether the connection is TLS.
    pub secure: bool,
}

/// The connection is to be closed.
#[derive(Debug, thiserror::Error)]
#[error("closed")]
pub struct Closed;

/// Takes what one connection sends; dropped when the connection has closed.
pub trait Inbound: Send {
    /// One WebSocket message: a SIP message or a keep-alive.
    fn receive(&mut self, message: Bytes) -> Result<(), Closed>;
}

/// Takes new connections.
pub trait SipOverWebSocket: Send + Sync + 'static {
    /// A connection is open; what is put into `outgoing` is sent to the peer.
    /// When the last sender of `outgoing` is dropped, the connection closes.
    fn connect(&self, peer: Peer, outgoing: mpsc::Sender<Bytes>) -> Box<dyn Inbound>;
}

pub(crate) async fn upgrade(
    axum::extract::State(state): axum::extract::State<State>,
    Extension(peer): Extension<Peer>,
    place: Option<Extension<Place>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return refused("This address speaks WebSocket only.");
    };
    if !offers_sip(&headers) {
        return refused("The WebSocket subprotocol must be sip.");
    }
    if !origin_allowed(&headers, &state.web.settings.origins) {
        let detail = "Pages of this origin may not use this server.";
        return Problem::new(StatusCode::FORBIDDEN, "Origin refused", detail).into_response();
    }
    let limit = state.web.settings.message_bytes;
    upgrade
        .protocols(["sip"])
        .max_message_size(limit)
        .max_frame_size(limit)
        .write_buffer_size(0)
        .max_write_buffer_size(limit * 4)
        .on_upgrade(move |socket| async move {
            carry(socket, state, peer).await;
            // The connection counted until here.
            drop(place);
        })
}

fn refused(detail: &'static str) -> Response {
    Problem::bad_request(detail).into_response()
}

/// RFC 7118 §4.1: the client offers `sip`; it may offer others as well.
fn offers_sip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim() == "sip")
}

/// RFC 6455 §10.2: a browser names the page's origin; it must be our own host
/// or one that was allowed. Programs that are no browsers name none.
pub(crate) fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let (Ok(origin), None) = (origin.to_str(), origins.next()) else {
        return false;
    };
    if allowed
        .iter()
        .any(|a| a.trim_end_matches('/').eq_ignore_ascii_case(origin))
    {
        return true;
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let page = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    matches!((page, host), (Some(page), Some(host)) if page.eq_ignore_ascii_case(host))
}

async fn carry(socket: WebSocket, state: State, peer: Peer) {
    let (sender, outgoing) = mpsc::channel(OUTGOING);
    let inbound = state.web.sip.connect(peer, sender);
    let closing = state.web.closing.clone();
    let patience = state.web.settings.patience;
    let mut connection = Connection {
        socket,
        inbound,
        outgoing,
        closing,
        patience,
        heard: Instant::now(),
    };
    let why = connection.run().await;
    tracing::debug!(remote = %peer.remote, why, "websocket closed");
    // The far end learns that this was on purpose; whether it listens is its affair.
    let _ = timeout(patience.stuck, connection.socket.close()).await;
}

struct Connection {
    socket: WebSocket,
    inbound: Box<dyn Inbound>,
    outgoing: mpsc::Receiver<Bytes>,
    closing: watch::Receiver<bool>,
    patience: Patience,
    heard: Instant,
}

enum Event {
    Frame(Option<Result<Message, axum::Error>>),
    Message(Option<Bytes>),
    Ping,
    Closing,
}

impl Connection {
    async fn run(&mut self) -> &'static str {
        let mut ping = interval(self.patience.ping);
        ping.reset();
        loop {
            let event = tokio::select! {
                frame = self.socket.recv() => Event::Frame(frame),
                message = self.outgoing.recv() => Event::Message(message),
                _ = ping.tick() => Event::Ping,
                _ = self.closing.wait_for(|closing| *closing) => Event::Closing,
            };
            if let Err(why) = self.handle(event).await {
                return why;
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), &'static str> {
        match event {
            Event::Frame(frame) => self.received(frame),
            Event::Message(message) => self.forward(message).await,
            Event::Ping => self.ping().await,
            Event::Closing => Err("the server closes"),
        }
    }

    fn received(
        &mut self,
        frame: Option<Result<Message, axum::Error>>,
    ) -> Result<(), &'static str> {
        let message = match frame {
            Some(Ok(message)) => message,
            Some(Err(_)) => return Err("broken or too large a frame"),
            None => return Err("the peer left"),
        };
        self.heard = Instant::now();
        let bytes = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return Err("the peer closed"),
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
        };
        self.inbound
            .receive(bytes)
            .map_err(|Closed| "closed by SIP")
    }

    async fn forward(&mut self, message: Option<Bytes>) -> Result<(), &'static str> {
        let bytes = message.ok_or("closed by SIP")?;
        self.send(as_frame(bytes)).await
    }

    async fn ping(&mut self) -> Result<(), &'static str> {
        if self.heard.elapsed() > self.patience.silence {
            return Err("the peer is silent");
        }
        self.send(Message::Ping(Bytes::new())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), &'static str> {
        match timeout(self.patience.stuck, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("the peer left"),
            Err(_) => Err("the peer takes nothing"),
        }
    }
}

/// RFC 7118 §5: text where the message is UTF-8, binary where it is not.
fn as_frame(bytes: Bytes) -> Message {
    match axum::extract::ws::Utf8Bytes::try_from(bytes.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| {
                (
                    header::HeaderName::from_static(n),
                    v.parse().expect("value"),
                )
            })
            .collect()
    }

    #[test]
    fn the_origin_is_our_host_or_allowed_or_absent() {
        let allowed = vec!["https://app.example.test".to_owned()];
        let ask = |origin| {
            let h = headers(&[("host", "sip.example.test:8443"), ("origin", origin)]);
            origin_allowed(&h, &allowed)
        };
        assert!(ask("https://sip.example.test:8443"));
        assert!(ask("https://SIP.example.test:8443"));
        assert!(ask("https://app.example.test"));
        assert!(
            !ask("https://sip.example.test"),
            "another port is another origin"
        );
        assert!(!ask("https://evil.example"));
        assert!(!ask("null"));
        assert!(origin_allowed(&headers(&[("host", "x")]), &[]));
        let mut two = headers(&[("host", "x"), ("origin", "https://x")]);
        two.append(
            header::ORIGIN,
            "https://evil.example".parse().expect("value"),
        );
        assert!(!origin_allowed(&two, &[]));
    }

    #[test]
    fn sip_must_be_among_the_subprotocols() {
        assert!(offers_sip(&headers(&[(
            "sec-websocket-protocol",
            "msrp, sip"
        )])));
        assert!(!offers_sip(&headers(&[(
            "sec-websocket-protocol",
            "sips, xmpp"
        )])));
        assert!(!offers_sip(&headers(&[])));
    }
}
