//! Bytes that a peer has not taken yet.
//!
//! *Invariant:* an empty outbox owns no memory.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<u8>,
    /// When the peer last took something, or when the first byte began to wait.
    moved_at: Option<Instant>,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.moved_at
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.waiting.extend(bytes);
        self.moved_at.get_or_insert_with(Instant::now);
    }

    /// Gives the oldest bytes to `send` once, and drops what it took.
    pub(super) fn offer(
        &mut self,
        send: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let taken = send(self.waiting.as_slices().0)?;
        self.waiting.drain(..taken.min(self.waiting.len()));
        if self.waiting.is_empty() {
            *self = Self::default();
        } else if taken > 0 {
            self.moved_at = Some(Instant::now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_and_memory_goes_with_the_last() {
        let mut outbox = Outbox::default();
        outbox.keep(b"abc");
        outbox.keep(b"def");
        let mut got = Vec::new();
        while !outbox.is_empty() {
            assert!(outbox.stalled_since().is_some());
            let send = |bytes: &[u8]| {
                got.push(bytes[0]);
                Ok(1)
            };
            outbox.offer(send).unwrap();
        }
        assert_eq!(got, b"abcdef");
        assert_eq!(outbox.waiting.capacity(), 0);
        assert!(outbox.stalled_since().is_none());
    }
}
