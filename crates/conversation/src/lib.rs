//! The conversation, the product's centre: who takes part, what was said, who may see it, what became of it.
//!
//! [`Conversation`] is a pure machine. Commands and receipts go in, and what must be done comes out, in order: an
//! [`Output::Append`] is committed before anything after it is performed. It keeps no events, only what is needed to go
//! on, so a conversation of 100,000 events is loaded as quickly as a new one: [`Conversation::restore`].
//!
//! *Invariant*: time, numbers and what the store knows are arguments; nothing here reads a clock, blocks or panics on
//! input, and refused input changes nothing.
#![warn(missing_docs)]

mod command;
#[cfg(test)]
mod content_tests;
mod decide;
mod delivery;
mod log;
mod machine;
mod marks;
#[cfg(test)]
mod member_tests;
mod participant;
#[cfg(test)]
mod property_tests;
mod ranges;
#[cfg(test)]
mod receipt_tests;
mod refusal;
mod rights;
#[cfg(test)]
mod staging;

pub use command::{Authority, Command, Content, Input, Output, Target, TargetKind};
pub use delivery::Delivery;
pub use log::LogFault;
pub use machine::Conversation;
pub use refusal::{Refusal, bounds};
pub use rights::Action;
