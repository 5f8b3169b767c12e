//! Listening for TCP, and the handshake of what was accepted.
//!
//! *Invariants:* options are set on the listening socket, from which Linux hands
//! them down, so accepting costs no further system calls. Running out of
//! descriptors delays accepting and never ends it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use rustls::ServerConfig;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::session::Session;
use super::{Connection, StreamOptions};

/// Pause before accepting again when the system is out of something.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How a listener is opened.
#[derive(Clone, Copy, Debug)]
pub struct ListenerOptions {
    /// Let one socket a shard share the address.
    pub reuse_port: bool,
    /// Connections that the system completes ahead of us.
    pub backlog: u32,
    /// Bounds of each connection.
    pub stream: StreamOptions,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            reuse_port: true,
            backlog: 1024,
            stream: StreamOptions::default(),
        }
    }
}

/// A listening TCP socket of one thread's runtime.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    stream: StreamOptions,
    local: SocketAddr,
}

impl Listener {
    /// Opens, binds and listens. Must be called inside a runtime with I/O enabled.
    pub fn bind(address: SocketAddr, options: &ListenerOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(options.reuse_port)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        prepare(&SockRef::from(&socket))?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        let socket = TcpListener::from_std(socket.into())?;
        let local = socket.local_addr()?;
        Ok(Self {
            socket,
            stream: options.stream,
            local,
        })
    }

    /// The bound address, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next peer. Safe to drop and call again.
    pub async fn accept(&self) -> io::Result<Incoming> {
        loop {
            match self.socket.accept().await {
                Ok((socket, remote)) => {
                    return Ok(Incoming {
                        socket,
                        remote,
                        options: self.stream,
                    });
                }
                Err(e) if is_of_the_peer(&e) => {}
                Err(e) if is_exhaustion(&e) => {
                    tracing::warn!(local = %self.local, error = %e, "cannot accept now");
                    sleep(EXHAUSTED_PAUSE).await;
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// A peer that was accepted; nothing has been read from it.
#[derive(Debug)]
pub struct Incoming {
    socket: TcpStream,
    remote: SocketAddr,
    options: StreamOptions,
}

impl Incoming {
    /// Where it comes from, to refuse it before any work.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// Plain TCP.
    pub fn plain(self) -> io::Result<Connection> {
        Connection::new(self.socket, None, self.options.outbox_bytes)
    }

    /// TLS: done, failed or timed out within the bound of the options.
    pub async fn secure(self, config: Arc<ServerConfig>) -> io::Result<Connection> {
        let session = Session::server(config)?;
        let connection = Connection::new(self.socket, Some(session), self.options.outbox_bytes)?;
        // Boxed: a task that goes on to serve the connection keeps no trace of it.
        Box::pin(shake_hands(connection, self.options.handshake_timeout)).await
    }

    /// The bare socket, for a protocol that does its own framing.
    pub fn into_socket(self) -> TcpStream {
        self.socket
    }
}

pub(super) async fn shake_hands(
    connection: Connection,
    within: Duration,
) -> io::Result<Connection> {
    connection.start_handshake()?;
    let handshake = poll_fn(|cx| connection.poll_handshake(cx));
    timeout(within, handshake)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(connection)
}

/// No delay for small messages; a peer that is gone is noticed in a minute and a
/// half, idle or not, after several probes have gone unanswered: with a user time-out
/// Linux does not count probes but time (tcp(7)).
pub(super) fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(90)))
}

/// accept(2) reports errors of a connection that died in the queue.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
    };
    let kinds = [
        ConnectionAborted,
        ConnectionRefused,
        ConnectionReset,
        HostUnreachable,
        Interrupted,
    ];
    kinds.contains(&error.kind())
}

fn is_exhaustion(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}
