//! A deterministic world: virtual time, a lossy network, scripted phones, ladders.
