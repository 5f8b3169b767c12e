//! The send side of a batch: a bounded queue that is flushed once a turn.
//!
//! *Invariant:* datagrams leave in the order in which they were pushed; one that
//! the system refuses is reported and does not hold up those behind it.

use std::array;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use bytes::Bytes;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use socket2::SockRef;

use super::UdpSocket;

const CALL_MAX: usize = 32;
const FAILURES_MAX: usize = 64;

/// A datagram that the system refused (RFC 3261 §18.4: a transport error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it was to go.
    pub remote: SocketAddr,
    /// Why it did not.
    pub kind: io::ErrorKind,
}

/// Datagrams waiting to leave by one socket.
pub struct SendBatch {
    queue: VecDeque<(SocketAddr, Bytes)>,
    queued_bytes: usize,
    limit_datagrams: usize,
    limit_bytes: usize,
    headers: MultiHeaders<SockaddrStorage>,
    dropped: u64,
    failures: Vec<Failure>,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self::new(4096, 4 << 20)
    }
}

impl SendBatch {
    /// An empty batch that keeps at most so much when the socket would block.
    pub fn new(limit_datagrams: usize, limit_bytes: usize) -> Self {
        Self {
            queue: VecDeque::with_capacity(CALL_MAX),
            queued_bytes: 0,
            limit_datagrams,
            limit_bytes,
            headers: MultiHeaders::preallocate(CALL_MAX, None),
            dropped: 0,
            failures: Vec::new(),
        }
    }

    /// Queues a datagram; `false` if it was dropped because the batch is full.
    pub fn push(&mut self, remote: SocketAddr, datagram: Bytes) -> bool {
        let bytes = self.queued_bytes + datagram.len();
        if self.queue.len() >= self.limit_datagrams || bytes > self.limit_bytes {
            self.dropped += 1;
            return false;
        }
        self.queued_bytes = bytes;
        self.queue.push_back((remote, datagram));
        true
    }

    /// Datagrams waiting.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many datagrams were dropped because the batch was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The refusals since the last call, the first few of them.
    pub fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// Sends what the socket takes and returns how many left. What would block
    /// stays; wait for [`UdpSocket::writable`] and call again.
    pub fn try_flush(&mut self, socket: &UdpSocket) -> usize {
        let mut sent = 0;
        while !self.queue.is_empty() {
            match self.send_some(socket) {
                Ok(count) => {
                    self.forget(count);
                    sent += count;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => self.refuse_first(e.kind()),
            }
        }
        sent
    }

    fn send_some(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        if self.queue.len() == 1 {
            return self.send_one(socket);
        }
        let count = self.queue.len().min(CALL_MAX);
        let (queue, headers) = (&self.queue, &mut self.headers);
        let vectors: [[IoSlice<'_>; 1]; CALL_MAX] =
            array::from_fn(|i| [IoSlice::new(queue.get(i).map_or(&[], |(_, bytes)| bytes))]);
        let remotes: [Option<SockaddrStorage>; CALL_MAX] =
            array::from_fn(|i| queue.get(i).map(|&(remote, _)| remote.into()));
        let vectors = &vectors[..count];
        let descriptor = socket.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        Ok(sendmmsg(descriptor, headers, vectors, &remotes[..count], [], flags)?.count())
    }

    /// `sendto` costs less than `sendmmsg` with one datagram.
    fn send_one(&self, socket: &UdpSocket) -> io::Result<usize> {
        let Some((remote, datagram)) = self.queue.front() else {
            return Ok(0);
        };
        SockRef::from(socket.socket.get_ref()).send_to(datagram, &(*remote).into())?;
        Ok(1)
    }

    fn forget(&mut self, count: usize) {
        for (_, datagram) in self.queue.drain(..count) {
            self.queued_bytes -= datagram.len();
        }
    }

    fn refuse_first(&mut self, kind: io::ErrorKind) {
        let Some(&(remote, _)) = self.queue.front() else {
            return;
        };
        self.forget(1);
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(Failure { remote, kind });
        }
    }
}
