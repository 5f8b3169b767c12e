//! What people do about their contacts, and what comes of it.
//!
//! *Invariant*: an outcome tells nothing of what the other one has decided.

/// What somebody wants done with contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactAction {
    /// Put somebody on the list; from another domain, ask.
    Add,
    /// Take somebody off the list, and everything that goes with it.
    Remove,
    /// Let somebody who asks see this person.
    Accept,
    /// Or not.
    Refuse,
    /// Take nothing from somebody, and be invisible to him.
    Block,
    /// Take that back.
    Unblock,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactOutcome {
    /// It is so now.
    Done,
    /// Nobody is his own contact.
    Oneself,
    /// The list is full.
    Full,
    /// The other one is blocked: unblock first.
    Blocked,
    /// There is nothing of the kind.
    Unknown,
}
