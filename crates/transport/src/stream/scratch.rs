//! The buffers that all connections of a thread share.
//!
//! *Invariants:* nothing in them outlives the call that took them. Inbound and
//! outbound are apart, so that answering from within a receive allocates nothing.

use std::cell::Cell;

/// One read from a socket, with what was left of a TLS record before it.
pub(super) const WIRE_BYTES: usize = 96 << 10;

const KEEP_BYTES: usize = 256 << 10;

pub(super) struct Inbound {
    /// Bytes as on the wire; always `WIRE_BYTES` long.
    pub(super) wire: Vec<u8>,
    /// Decrypted bytes.
    pub(super) plain: Vec<u8>,
}

thread_local! {
    static INBOUND: Cell<Option<Box<Inbound>>> = const { Cell::new(None) };
    static RECORDS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` with the thread's receive buffers; nested use gets fresh ones.
pub(super) fn inbound<R>(work: impl FnOnce(&mut Inbound) -> R) -> R {
    let mut buffers = INBOUND.take().unwrap_or_else(Inbound::fresh);
    let result = work(&mut buffers);
    empty(&mut buffers.plain);
    INBOUND.set(Some(buffers));
    result
}

/// Runs `work` with the thread's buffer for TLS records that go out.
pub(super) fn records<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut records = RECORDS.take();
    let result = work(&mut records);
    empty(&mut records);
    RECORDS.set(records);
    result
}

fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEEP_BYTES);
}

impl Inbound {
    fn fresh() -> Box<Self> {
        Box::new(Self {
            wire: vec![0; WIRE_BYTES],
            plain: Vec::new(),
        })
    }
}
