//! UDP in batches: `recvmmsg` in, `sendmmsg` out, one datagram by `sendto`.
//!
//! *Invariants:* a receive slot holds the largest datagram that UDP can carry, so
//! nothing arrives truncated. A batch that came back not full has emptied the
//! socket, so readiness is cleared without another system call: the kernel gives a
//! new edge for the next datagram (epoll(7), edge-triggered). A datagram that could
//! not be sent is kept within a bound or counted, never lost in silence.
//!
//! The socket is watched for reading only. Watched for writing too it would wake its
//! thread a second time for every datagram sent, when the peer has taken it and its
//! place in the send buffer is free again.

mod receive;
mod send;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use receive::{RecvBatch, SLOTS};
pub use send::{Failure, SendBatch};

/// How a UDP socket is opened.
#[derive(Clone, Debug)]
pub struct UdpOptions {
    /// Let several sockets (one a shard) share the address; the kernel spreads
    /// sources over them (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Asked receive buffer. Beyond the system's limit only with privilege.
    pub recv_buffer_bytes: usize,
    /// Asked send buffer.
    pub send_buffer_bytes: usize,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            reuse_port: true,
            recv_buffer_bytes: 4 << 20,
            send_buffer_bytes: 4 << 20,
        }
    }
}

/// A bound UDP socket of one thread's runtime.
///
/// An IPv6 socket carries IPv6 only; IPv4 has a socket of its own.
#[derive(Debug)]
pub struct UdpSocket {
    socket: AsyncFd<std::net::UdpSocket>,
    local: SocketAddr,
}

impl UdpSocket {
    /// Opens and binds. Must be called inside a runtime with I/O enabled.
    pub fn bind(address: SocketAddr, options: &UdpOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_port(options.reuse_port)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        set_buffers(&socket, options)?;
        socket.bind(&address.into())?;
        let socket = std::net::UdpSocket::from(socket);
        let local = socket.local_addr()?;
        let socket = watch(socket, Interest::READABLE)?;
        Ok(Self { socket, local })
    }

    /// The bound address, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Size of the receive buffer that the system granted.
    pub fn recv_buffer_bytes(&self) -> io::Result<usize> {
        socket2::SockRef::from(self.socket.get_ref()).recv_buffer_size()
    }

    /// Waits until a datagram may be there. Safe to drop and call again.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Like [`readable`](Self::readable), for one waiting task.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_read_ready(cx))?.retain_ready();
        Poll::Ready(Ok(()))
    }

    /// Waits until a send that would have blocked may be tried again.
    pub async fn writable(&self) -> io::Result<()> {
        let socket = self.socket.get_ref().try_clone()?;
        let watched = watch(socket, Interest::WRITABLE)?;
        watched.writable().await?.retain_ready();
        Ok(())
    }

    /// Takes what has arrived, at most [`SLOTS`] datagrams, and returns how many;
    /// 0 means that nothing was there. After a full batch more may be waiting:
    /// [`readable`](Self::readable) returns at once then.
    pub fn try_recv_batch(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        // Without readiness the runtime does not even ask the system.
        batch.clear();
        let socket = self.socket.as_raw_fd();
        let taken = self.socket.try_io(Interest::READABLE, |_| {
            batch.fill(socket, self.local.is_ipv6())?;
            clear_readiness_unless(batch.len() == SLOTS)
        });
        match taken {
            Ok(()) => Ok(batch.len()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(batch.len()),
            Err(e) => Err(e),
        }
    }
}

#[expect(
    deprecated,
    reason = "unsound for a value whose descriptor changes; a std socket keeps the one that it owns"
)]
fn watch(
    socket: std::net::UdpSocket,
    interest: Interest,
) -> io::Result<AsyncFd<std::net::UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

/// Inside `try_io`, `WouldBlock` is what clears the runtime's readiness flag.
fn clear_readiness_unless(more_may_wait: bool) -> io::Result<()> {
    if more_may_wait {
        return Ok(());
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// With `CAP_NET_ADMIN` the asked size is granted; without, the system's limit.
fn set_buffers(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &options.recv_buffer_bytes).is_err() {
        socket.set_recv_buffer_size(options.recv_buffer_bytes)?;
    }
    if setsockopt(socket, sockopt::SndBufForce, &options.send_buffer_bytes).is_err() {
        socket.set_send_buffer_size(options.send_buffer_bytes)?;
    }
    Ok(())
}
