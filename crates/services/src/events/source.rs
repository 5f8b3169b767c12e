//! What subscribers are notified of, as the keeper of subscriptions asks for it.
//!
//! *Invariant*: a document depends on the address and the view alone, so that one is written for all who have that view.

use bytes::Bytes;
use sidetone_model::{AddressOfRecord, Binding};

use super::contacts::Removal;
use super::{Package, Watcher};

/// How much a watcher may see. (A view a watcher with filters would be another one: RFC 4660.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// Its own state.
    Own,
    /// What colleagues see.
    Others,
    /// Nothing, and not that it is nothing: a state in which nobody is there ("polite blocking", RFC 5025 §3.3.1).
    Blocked,
    /// Nothing yet: the person has to agree first (RFC 6665 §4.1.3, "pending").
    Pending,
}

impl View {
    pub(super) const ALL: [Self; 4] = [Self::Own, Self::Others, Self::Blocked, Self::Pending];
    pub(super) const COUNT: usize = Self::ALL.len();

    /// Whether it shows the state as it is.
    #[must_use]
    pub fn shows(self) -> bool {
        matches!(self, Self::Own | Self::Others)
    }

    pub(super) fn place(self) -> usize {
        match self {
            Self::Own => 0,
            Self::Others => 1,
            Self::Blocked => 2,
            Self::Pending => 3,
        }
    }
}

/// A document of the whole state. Clones share the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The document; what depends on the subscription is left out.
    pub text: Bytes,
    /// Where the number of the document within its subscription belongs (RFC 4235 §4.1.1).
    pub version_at: Option<usize>,
    /// When it changes by itself, Unix time.
    pub until_ms: Option<u64>,
}

impl Document {
    /// As one subscriber gets it.
    pub(super) fn body(&self, version: u32) -> Vec<u8> {
        let Some((head, tail)) = self
            .version_at
            .and_then(|at| self.text.split_at_checked(at))
        else {
            return self.text.to_vec();
        };
        let number = version.to_string();
        let mut body = Vec::with_capacity(self.text.len() + number.len());
        body.extend_from_slice(head);
        body.extend_from_slice(number.as_bytes());
        body.extend_from_slice(tail);
        body
    }

    /// Whether somebody who has been told `other` has nothing new to hear.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Something of an address has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Its bindings; why those that are missing went.
    Bindings(Removal),
    /// What is known of the person otherwise.
    Presence,
    /// Its calls, and with them its presence.
    Calls,
    /// The messages that wait for it.
    Messages,
    /// Who may see what.
    Policy,
}

impl Change {
    /// Whether documents of a package may be other ones now.
    pub(super) fn touches(self, package: Package) -> bool {
        match package {
            Package::Registration => matches!(self, Self::Bindings(_)),
            Package::Presence => !matches!(self, Self::Messages),
            Package::Dialog => matches!(self, Self::Calls | Self::Policy),
            Package::MessageSummary => matches!(self, Self::Messages),
        }
    }
}

/// Where the state is.
pub trait Source {
    /// The bindings of an address now.
    fn bindings(&self, address: &AddressOfRecord) -> Vec<Binding>;
    /// The state of an address, for a package that tells the whole of it.
    fn document(&self, package: Package, address: &AddressOfRecord, view: View) -> Document;
    /// How much somebody may see; `None`: may not subscribe.
    fn view(&self, package: Package, address: &AddressOfRecord, watcher: &Watcher) -> Option<View>;
}
