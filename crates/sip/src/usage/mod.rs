//! What dialogs are used for (RFC 5057).
//!
//! *Invariant*: a usage owns its dialog; when the usage ends, so does the dialog.

pub mod subscription;
