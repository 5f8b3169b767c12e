//! The receive side of a batch: one arena, a header block for each family.
//!
//! *Invariant:* the kernel writes an address length into the headers and never
//! enlarges it again, so headers are never shared between IPv4 and IPv6 sockets.

use std::array;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

/// Datagrams taken by one system call.
pub const SLOTS: usize = 32;

/// Room for any datagram: the UDP length field counts to 65,535 with its header.
/// Pages of the arena that no datagram reached are never made resident.
const SLOT_BYTES: usize = 65_536;

/// Datagrams of one receive call; reused for the next.
pub struct RecvBatch {
    arena: Vec<u8>,
    v4: MultiHeaders<SockaddrStorage>,
    v6: MultiHeaders<SockaddrStorage>,
    received: Vec<(SocketAddr, usize)>,
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl RecvBatch {
    /// An empty batch; make one a thread.
    pub fn new() -> Self {
        Self {
            arena: vec![0; SLOTS * SLOT_BYTES],
            v4: MultiHeaders::preallocate(SLOTS, None),
            v6: MultiHeaders::preallocate(SLOTS, None),
            received: Vec::with_capacity(SLOTS),
        }
    }

    /// How many datagrams the last call brought.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether the last call brought nothing.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// The datagrams in the order of arrival. A datagram may be empty.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.arena.chunks_exact(SLOT_BYTES);
        let received = self.received.iter();
        received
            .zip(slots)
            .map(|(&(remote, len), slot)| (remote, &slot[..len]))
    }

    pub(super) fn clear(&mut self) {
        self.received.clear();
    }

    pub(super) fn fill(&mut self, socket: RawFd, ipv6: bool) -> io::Result<()> {
        let mut slots = self.arena.chunks_exact_mut(SLOT_BYTES);
        let mut vectors: [[IoSliceMut<'_>; 1]; SLOTS] =
            array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
        let headers = if ipv6 { &mut self.v6 } else { &mut self.v4 };
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = recvmmsg(socket, headers, vectors.iter_mut(), flags, None)?;
        for message in messages {
            let remote = message.address.as_ref().and_then(to_std);
            // A datagram always has a source; a zero length keeps the slots aligned.
            let len = if remote.is_some() { message.bytes } else { 0 };
            let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
            self.received
                .push((remote.unwrap_or(unknown), len.min(SLOT_BYTES)));
        }
        Ok(())
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::from(*v4)));
    }
    address
        .as_sockaddr_in6()
        .map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6)))
}
