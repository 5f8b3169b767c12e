//! Timers without a wheel: a first-in-first-out queue for each duration.
//!
//! The durations of SIP's timers are few constants, so the deadlines of one duration come in order and starting a
//! timer is a push. Nothing is ever cancelled: the state tables ignore a timer that has lost its meaning, and an owner
//! that is gone is recognised by its generation.
//!
//! *Invariant*: each queue is sorted by deadline; `next` is at or before the earliest of them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The timers of RFC 3261 §17 (table 4) and RFC 6026.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// INVITE request retransmission, UDP.
    A,
    /// INVITE transaction time-out.
    B,
    /// Wait for response retransmissions after a refused INVITE.
    D,
    /// Non-INVITE request retransmission, UDP.
    E,
    /// Non-INVITE transaction time-out.
    F,
    /// INVITE response retransmission.
    G,
    /// Wait for ACK.
    H,
    /// Wait for ACK retransmissions.
    I,
    /// Wait for non-INVITE request retransmissions.
    J,
    /// Wait for non-INVITE response retransmissions.
    K,
    /// Wait for INVITE retransmissions after a 2xx (RFC 6026).
    L,
    /// Wait for 2xx retransmissions (RFC 6026).
    M,
    /// 200 ms after an INVITE without any answer: 100 Trying (RFC 3261 §17.2.1).
    Trying,
}

/// RFC 3261 §17.1.1.1: round-trip estimate.
pub const T1: Duration = Duration::from_millis(500);
/// RFC 3261 §17.1.2.2: longest interval of retransmissions.
pub const T2: Duration = Duration::from_secs(4);
/// RFC 3261 §17.1.2.2: longest time a message stays in the network.
pub const T4: Duration = Duration::from_secs(5);
/// 64 × T1, how long a transaction is tried.
pub const T1_64: Duration = Duration::from_secs(32);
/// RFC 3261 §17.1.1.2: Timer D is at least 32 s.
pub const TIMER_D: Duration = Duration::from_secs(32);
/// RFC 3261 §17.2.1: how long a 100 may wait.
pub const TRYING_DELAY: Duration = Duration::from_millis(200);
/// RFC 3261 §16.6 step 11: Timer C is more than three minutes.
pub const TIMER_C: Duration = Duration::from_secs(181);

/// Deadlines of `T`, by duration.
#[derive(Debug)]
pub struct Timers<T> {
    queues: Vec<Queue<T>>,
    next: Option<Instant>,
}

#[derive(Debug)]
struct Queue<T> {
    after: Duration,
    entries: VecDeque<(Instant, T)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            next: None,
        }
    }
}

impl<T> Timers<T> {
    /// No timers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts one. Cost: a push.
    pub fn start(&mut self, now: Instant, after: Duration, what: T) {
        let queue = self.queue(after);
        let deadline = queue
            .entries
            .back()
            .map_or(now + after, |(last, _)| (now + after).max(*last));
        queue.entries.push_back((deadline, what));
        if self.next.is_none_or(|next| deadline < next) {
            self.next = Some(deadline);
        }
    }

    fn queue(&mut self, after: Duration) -> &mut Queue<T> {
        let place = self
            .queues
            .iter()
            .position(|queue| queue.after == after)
            .unwrap_or_else(|| {
                self.queues.push(Queue {
                    after,
                    entries: VecDeque::new(),
                });
                self.queues.len() - 1
            });
        &mut self.queues[place]
    }

    /// The next deadline, or something earlier.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Takes one timer that is due.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        if self.next.is_none_or(|next| next > now) {
            return None;
        }
        let due = |queue: &&mut Queue<T>| {
            queue
                .entries
                .front()
                .is_some_and(|(deadline, _)| *deadline <= now)
        };
        let found = self
            .queues
            .iter_mut()
            .filter(due)
            .min_by_key(|queue| queue.entries.front().map(|entry| entry.0));
        let popped = found.and_then(|queue| queue.entries.pop_front());
        if popped.is_none() {
            self.next = self
                .queues
                .iter()
                .filter_map(|queue| queue.entries.front())
                .map(|(deadline, _)| *deadline)
                .min();
        }
        popped.map(|(_, what)| what)
    }

    /// How many are started and not popped, dead ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.entries.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the entries at the head of each queue whose owner is gone, so that memory follows the load down.
    pub fn sweep(&mut self, alive: impl Fn(&T) -> bool) {
        for queue in &mut self.queues {
            while queue.entries.front().is_some_and(|(_, what)| !alive(what)) {
                queue.entries.pop_front();
            }
            if queue.entries.is_empty() && queue.entries.capacity() > 4096 {
                queue.entries.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_timers_come_in_order_of_deadline() {
        let start = crate::tests_now();
        let mut timers = Timers::new();
        timers.start(start, T2, "late");
        timers.start(start, T1, "early");
        assert_eq!(timers.next(), Some(start + T1));
        assert_eq!(timers.pop(start), None);
        assert_eq!(timers.pop(start + T2), Some("early"));
        assert_eq!(timers.pop(start + T2), Some("late"));
        assert_eq!(timers.pop(start + T2), None);
        assert_eq!(timers.next(), None);
    }
}
