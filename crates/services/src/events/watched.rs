//! The state of what is watched, as its subscribers have been told it.
//!
//! *Invariant*: a document is written once a change and view, however many are told.

use std::collections::HashMap;

use sidetone_model::{AddressOfRecord, Binding};

use super::contacts::{self, Contacts};
use super::source::{Document, Source, View};
use super::subscriber::Subscriber;
use super::{Package, Removal, reginfo};

#[derive(Debug)]
pub(super) struct Watched {
    /// Of the registration, and in the table of what changes by itself.
    pub(super) id: u64,
    pub(super) subscribers: Vec<u64>,
    /// When it changes by itself: its place in that table.
    pub(super) expiry_ms: Option<u64>,
    state: State,
}

#[derive(Debug)]
enum State {
    Contacts(Contacts),
    /// By view, those that anybody has asked for.
    Documents(Box<[Option<Document>; View::COUNT]>),
}

/// What is new.
pub(super) enum News {
    /// Contacts that changed.
    Contacts(Vec<contacts::Change>),
    /// Views that show something else, by place.
    Views([bool; View::COUNT]),
}

impl News {
    pub(super) fn is_for(&self, view: View) -> bool {
        match self {
            Self::Contacts(changes) => !changes.is_empty(),
            Self::Views(views) => views[view.place()],
        }
    }

    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Views(_))
    }

    pub(super) fn changes(&self) -> &[contacts::Change] {
        match self {
            Self::Contacts(changes) => changes,
            Self::Views(_) => &[],
        }
    }
}

impl Watched {
    pub(super) fn new(id: u64, package: Package, bindings: impl FnOnce() -> Vec<Binding>) -> Self {
        let state = match package {
            Package::Registration => State::Contacts(Contacts::new(id, &bindings())),
            _ => State::Documents(Default::default()),
        };
        Self {
            id,
            subscribers: Vec::new(),
            expiry_ms: None,
            state,
        }
    }

    pub(super) fn next_change_ms(&self) -> Option<u64> {
        match &self.state {
            State::Contacts(contacts) => contacts.next_expiry_ms(),
            State::Documents(documents) => documents
                .iter()
                .flatten()
                .filter_map(|document| document.until_ms)
                .min(),
        }
    }

    /// Takes over the state as it is now.
    pub(super) fn read(
        &mut self,
        now_ms: u64,
        removal: Removal,
        package: Package,
        address: &AddressOfRecord,
        source: &impl Source,
    ) -> News {
        match &mut self.state {
            State::Contacts(contacts) => {
                News::Contacts(contacts.update(now_ms, &source.bindings(address), removal))
            }
            State::Documents(documents) => {
                let mut views = [false; View::COUNT];
                for view in View::ALL {
                    let place = view.place();
                    if let Some(before) = &mut documents[place] {
                        let document = source.document(package, address, view);
                        views[place] = !before.says_the_same(&document);
                        *before = document;
                    }
                }
                News::Views(views)
            }
        }
    }

    /// The document for one subscriber, whose news it takes; and whether it was written just now.
    pub(super) fn body_for(
        &mut self,
        now_ms: u64,
        subscriber: &mut Subscriber,
        source: &impl Source,
    ) -> (Vec<u8>, bool) {
        let changes = std::mem::take(&mut subscriber.changes);
        let full = std::mem::take(&mut subscriber.full) || changes.is_empty();
        match &mut self.state {
            State::Contacts(contacts) => {
                let document = reginfo::Document {
                    version: subscriber.version,
                    full,
                    address: &subscriber.address,
                    contacts,
                    changes: &changes,
                };
                (document.render(now_ms).into_bytes(), false)
            }
            State::Documents(documents) => {
                let view = subscriber.view;
                let place = &mut documents[view.place()];
                let fresh = place.is_none();
                let document = place.get_or_insert_with(|| {
                    source.document(subscriber.package, &subscriber.address, view)
                });
                (document.body(subscriber.version), fresh)
            }
        }
    }
}

/// What is watched, by package and address.
#[derive(Debug, Default)]
pub(super) struct WatchedTable([HashMap<AddressOfRecord, Watched>; Package::ALL.len()]);

impl WatchedTable {
    fn of(package: Package) -> usize {
        match package {
            Package::Registration => 0,
            Package::Presence => 1,
            Package::Dialog => 2,
            Package::MessageSummary => 3,
        }
    }

    pub(super) fn contains(&self, address: &AddressOfRecord) -> bool {
        self.0.iter().any(|table| table.contains_key(address))
    }

    pub(super) fn get(&self, package: Package, address: &AddressOfRecord) -> Option<&Watched> {
        self.0[Self::of(package)].get(address)
    }

    pub(super) fn get_mut(
        &mut self,
        package: Package,
        address: &AddressOfRecord,
    ) -> Option<&mut Watched> {
        self.0[Self::of(package)].get_mut(address)
    }

    pub(super) fn insert(&mut self, package: Package, address: AddressOfRecord, watched: Watched) {
        self.0[Self::of(package)].insert(address, watched);
    }

    pub(super) fn remove(&mut self, package: Package, address: &AddressOfRecord) {
        self.0[Self::of(package)].remove(address);
    }

    /// All who watch anything of an address.
    pub(super) fn subscribers(&self, address: &AddressOfRecord) -> Vec<u64> {
        let watched = self.0.iter().filter_map(|table| table.get(address));
        watched
            .flat_map(|watched| watched.subscribers.clone())
            .collect()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(HashMap::is_empty)
    }
}
