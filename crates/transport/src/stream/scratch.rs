//! The buffers that all connections of a thread share.
//!
//! *Invariant:* nothing in them outlives the call that took them.

use std::cell::Cell;

/// One read from a socket, with what was left of a TLS record before it.
pub(super) const WIRE_BYTES: usize = 96 << 10;

const KEEP_BYTES: usize = 256 << 10;

pub(super) struct Scratch {
    /// Bytes as on the wire, inbound; always `WIRE_BYTES` long.
    pub(super) wire: Vec<u8>,
    /// Decrypted bytes, inbound.
    pub(super) plain: Vec<u8>,
    /// TLS records, outbound.
    pub(super) records: Vec<u8>,
}

thread_local! {
    static SPARE: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Runs `work` with the thread's buffers; nested use gets fresh ones.
pub(super) fn with<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SPARE.take().unwrap_or_else(Scratch::fresh);
    let result = work(&mut scratch);
    scratch.plain.clear();
    scratch.records.clear();
    scratch.plain.shrink_to(KEEP_BYTES);
    scratch.records.shrink_to(KEEP_BYTES);
    SPARE.set(Some(scratch));
    result
}

impl Scratch {
    fn fresh() -> Box<Self> {
        Box::new(Self {
            wire: vec![0; WIRE_BYTES],
            plain: Vec::new(),
            records: Vec::new(),
        })
    }
}
