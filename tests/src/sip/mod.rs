//! A SIP phone of our own that does exactly what a test says, wrong things too.

pub mod digest;
pub mod message;
pub mod phone;
pub mod wire;

pub use message::Message;
pub use phone::{Dialog, Phone};
pub use wire::Wire;
