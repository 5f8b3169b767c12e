//! Listeners: HTTPS, and plain HTTP on loopback.
//!
//! *Invariant*: connections are counted and bounded, a TLS handshake and a
//! request's head have a deadline, and one connection's fault ends only itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::websocket::Peer;

/// The protocol in ALPN by which an ACME authority validates.
const ACME_TLS: &[u8] = b"acme-tls/1";

/// The sockets to serve on; the caller decides that `http` is loopback only.
pub struct Listeners {
    /// Spoken to with TLS.
    pub https: Vec<TcpListener>,
    /// Spoken to without.
    pub http: Vec<TcpListener>,
}

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once, all listeners together.
    pub connections: usize,
    /// A TLS handshake.
    pub handshake: Duration,
    /// A request's head, and how long an idle connection is kept.
    pub head: Duration,
    /// How long requests in progress may finish when the server closes.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            connections: 20_000,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(20),
            drain: Duration::from_secs(3),
        }
    }
}

/// Serves until `closing` becomes true, then lets requests in progress finish.
pub async fn serve(
    listeners: Listeners,
    tls: Arc<rustls::ServerConfig>,
    router: axum::Router,
    bounds: Bounds,
    closing: watch::Receiver<bool>,
) {
    let door = Door {
        acceptor: TlsAcceptor::from(tls),
        router,
        bounds,
        room: Arc::new(Semaphore::new(bounds.connections)),
        closing,
    };
    let graceful = Arc::new(GracefulShutdown::new());
    let mut doors = tokio::task::JoinSet::new();
    for listener in listeners.https {
        doors.spawn(door.clone().accept(listener, true, Arc::clone(&graceful)));
    }
    for listener in listeners.http {
        doors.spawn(door.clone().accept(listener, false, Arc::clone(&graceful)));
    }
    while doors.join_next().await.is_some() {}
    // Only the doors shared it, and they are gone.
    if let Some(graceful) = Arc::into_inner(graceful) {
        let _ = timeout(bounds.drain, graceful.shutdown()).await;
    }
}

#[derive(Clone)]
struct Door {
    acceptor: TlsAcceptor,
    router: axum::Router,
    bounds: Bounds,
    room: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
}

impl Door {
    async fn accept(mut self, listener: TcpListener, secure: bool, all: Arc<GracefulShutdown>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.closing.wait_for(|closing| *closing) => return,
            };
            match accepted {
                Ok((stream, remote)) => self.open(stream, remote, secure, all.watcher()),
                Err(error) => {
                    // Mostly "too many open files": waiting is all that helps.
                    tracing::warn!(%error, "accept");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// A connection too many is closed at once: who waits in line learns nothing.
    fn open(&self, stream: TcpStream, remote: SocketAddr, secure: bool, watcher: Watcher) {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!(%remote, "too many connections");
            return;
        };
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let _ = stream.set_nodelay(true);
        let peer = Peer {
            remote,
            local,
            secure,
        };
        let door = self.clone();
        tokio::spawn(async move { door.talk(stream, peer, permit, watcher).await });
    }

    async fn talk(
        self,
        stream: TcpStream,
        peer: Peer,
        permit: OwnedSemaphorePermit,
        watcher: Watcher,
    ) {
        let permit = Arc::new(permit);
        if !peer.secure {
            return self.requests(stream, peer, permit, watcher).await;
        }
        let handshake = self.acceptor.accept(stream);
        match timeout(self.bounds.handshake, handshake).await {
            // An authority has seen what it asked for; nothing else is said (RFC 8737 §3).
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) => {}
            Ok(Ok(stream)) => self.requests(stream, peer, permit, watcher).await,
            Ok(Err(error)) => tracing::debug!(remote = %peer.remote, %error, "handshake"),
            Err(_) => tracing::debug!(remote = %peer.remote, "handshake took too long"),
        }
    }

    async fn requests<S>(
        &self,
        stream: S,
        peer: Peer,
        permit: Arc<OwnedSemaphorePermit>,
        watcher: Watcher,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = self
            .router
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer);
                // An upgraded connection keeps its place in the count.
                request.extensions_mut().insert(Place(Arc::clone(&permit)));
                request.map(axum::body::Body::new)
            });
        let builder = self.builder();
        let connection = builder.serve_connection_with_upgrades(
            TokioIo::new(stream),
            TowerToHyperService::new(service),
        );
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(remote = %peer.remote, %error, "connection");
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.head)
            .max_buf_size(64 * 1024);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(64)
            .max_header_list_size(32 * 1024)
            .keep_alive_interval(Some(self.bounds.head))
            .keep_alive_timeout(self.bounds.handshake);
        builder
    }
}

/// Holds a connection's place among [`Bounds::connections`].
#[derive(Clone)]
pub(crate) struct Place(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);
