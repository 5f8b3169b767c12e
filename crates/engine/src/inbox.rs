//! A shard's inbox: all that other threads have to say to it, in order.
//!
//! *Invariant*: what peers cause ([`Inbox::offer`]) has a bound here and is refused over it.
//! Everything else ([`Inbox::tell`]) is the answer to something that was bounded where it was
//! asked: appends by the writer's queue, look-ups and pages of the spool by their own
//! counts, connections by the admission. So the channel needs no second bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use sidetone_sip::endpoint::{ClientId, Transmit};
use sidetone_sip::flow::Flow;
use tokio::sync::mpsc;

use crate::admission::Admitted;
use crate::reach::Peer;
use crate::shard::Note;

/// Mails of [`Inbox::offer`] that may wait.
const OFFERED_MAX: usize = 16_384;

pub(crate) enum Mail {
    /// For the shard itself.
    Note(Note),
    /// To be sent by a connection of this shard, for the shard `from`.
    Transmit { transmit: Transmit, from: u16 },
    /// To be sent to a peer, by a connection of this shard or one that it opens.
    Outward {
        transmit: Transmit,
        peer: Peer,
        from: u16,
    },
    /// A request of this shard went by that connection.
    Carried { client: ClientId, connection: u64 },
    /// A transmit for this shard could not be sent by the shard that has the connection.
    Failed(ClientId),
    /// A connection of another shard is gone.
    Gone(Flow),
    /// To be closed.
    Close(u64),
    /// A WebSocket is open; closed by dropping the sender.
    Opened {
        flow: Flow,
        outgoing: mpsc::Sender<Bytes>,
        place: Admitted,
    },
    /// One WebSocket message.
    Message { flow: Flow, bytes: Bytes },
    /// A WebSocket is gone.
    Left(Flow),
    /// End the thread.
    Stop,
}

/// The way into an inbox.
#[derive(Clone)]
pub(crate) struct Inbox {
    sender: mpsc::UnboundedSender<(Mail, Weight)>,
    offered: Arc<AtomicUsize>,
}

/// Holds the place of a mail among those that are bounded.
pub(crate) struct Weight(Option<Arc<AtomicUsize>>);

impl Drop for Weight {
    fn drop(&mut self) {
        if let Some(offered) = &self.0 {
            offered.fetch_sub(1, Relaxed);
        }
    }
}

pub(crate) type Outlet = mpsc::UnboundedReceiver<(Mail, Weight)>;

impl Inbox {
    pub(crate) fn new() -> (Self, Outlet) {
        let (sender, outlet) = mpsc::unbounded_channel();
        let offered = Arc::default();
        (Self { sender, offered }, outlet)
    }

    /// Puts in what a peer caused; `false` when too much waits, or the shard has ended.
    pub(crate) fn offer(&self, mail: Mail) -> bool {
        if self.offered.fetch_add(1, Relaxed) >= OFFERED_MAX {
            self.offered.fetch_sub(1, Relaxed);
            return false;
        }
        let weight = Weight(Some(Arc::clone(&self.offered)));
        self.sender.send((mail, weight)).is_ok()
    }

    /// Puts in what is bounded elsewhere. A shard that has ended needs no answers.
    pub(crate) fn tell(&self, mail: Mail) {
        let _ = self.sender.send((mail, Weight(None)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_have_a_bound_and_answers_pass() {
        let (inbox, mut outlet) = Inbox::new();
        for _ in 0..OFFERED_MAX {
            assert!(inbox.offer(Mail::Close(1)));
        }
        assert!(!inbox.offer(Mail::Close(1)));
        inbox.tell(Mail::Stop);
        drop(outlet.try_recv().unwrap());
        assert!(inbox.offer(Mail::Close(2)), "a place came back");
        drop(outlet);
        assert!(!inbox.offer(Mail::Close(3)), "nobody is there");
    }
}
