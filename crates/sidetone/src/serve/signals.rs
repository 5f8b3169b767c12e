//! What tells the server to stop.
//!
//! *Invariant*: once [`Signals::register`] has returned, no signal of these ends the process by
//! itself: whoever sees the server listen may stop it, and it stops in order.

use crate::cli::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn register() -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("cannot wait for signals: {e}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits for one; one that came since [`Signals::register`] counts.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
