//! What one transaction holds: messages with numbers given, and their arguments.
//!
//! *Invariant*: an origin has one number; a message whose origin is known gets that number and is
//! not stored again.

use super::origins::Origins;
use super::{Append, Appended};
use crate::StoreError;
use crate::conversation;
use crate::rows::to_sql;
use crate::statements::{LISTS, MESSAGE_COLUMNS};
use sidetone_model::{DeviceId, MessageId, NewMessage, Origin, Place};
use sqlx::Arguments;
use sqlx::sqlite::SqliteArguments;
use std::collections::HashMap;
use std::fmt::{Display, Write};

/// One transaction's worth of appends.
#[derive(Default)]
pub(super) struct Group {
    appends: Vec<(Append, Appended)>,
    origins: HashMap<Origin, MessageId>,
    fresh: i64,
    duplicates: u64,
}

impl Group {
    /// `keyed`: what was stored with the keys among them.
    pub(super) fn new(
        appends: Vec<Append>,
        known: &Origins,
        keyed: HashMap<Origin, MessageId>,
        next_id: i64,
    ) -> Self {
        let mut group = Self {
            appends: Vec::with_capacity(appends.len()),
            origins: keyed,
            ..Self::default()
        };
        for append in appends {
            group.add(append, known, next_id);
        }
        group
    }

    fn add(&mut self, append: Append, known: &Origins, next_id: i64) {
        let origin = append.message.origin;
        let stored = known
            .get(&origin)
            .or_else(|| self.origins.get(&origin).copied());
        let appended = match stored {
            Some(id) => {
                self.duplicates += 1;
                Appended { id, known: true }
            }
            None => {
                let id = MessageId(next_id + self.fresh);
                self.fresh += 1;
                self.origins.insert(origin, id);
                Appended { id, known: false }
            }
        };
        self.appends.push((append, appended));
    }

    pub(super) fn len(&self) -> usize {
        self.appends.len()
    }

    /// Nothing in it is to be stored.
    pub(super) fn is_known(&self) -> bool {
        self.fresh == 0
    }

    /// How many numbers were given.
    pub(super) fn numbers(&self) -> i64 {
        self.fresh
    }

    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    pub(super) fn origins(&self) -> &HashMap<Origin, MessageId> {
        &self.origins
    }

    pub(super) fn into_appends(self) -> Vec<(Append, Appended)> {
        self.appends
    }

    /// What is to be stored.
    pub(super) fn fresh(&self) -> impl Iterator<Item = (&Append, MessageId)> + Clone {
        let fresh = self.appends.iter().filter(|(_, appended)| !appended.known);
        fresh.map(|(append, appended)| (append, appended.id))
    }

    /// In the order that [`crate::statements::Statements::spool`] names.
    pub(super) fn arguments(
        &self,
        marks: &[(DeviceId, MessageId)],
    ) -> Result<SqliteArguments, StoreError> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(MESSAGE_COLUMNS * self.appends.len(), 0);
        for (at, (append, id)) in self.fresh().enumerate() {
            bind_message(&mut arguments, &append.message, id)?;
            let lists = match at {
                0 => self.lists(marks).map(Some),
                _ => Default::default(),
            };
            for list in lists {
                bind(&mut arguments, list)?;
            }
        }
        Ok(arguments)
    }

    fn lists(&self, marks: &[(DeviceId, MessageId)]) -> [String; LISTS] {
        let changes = self
            .fresh()
            .filter_map(|(append, _)| append.change.as_deref());
        let [conversations, members] = conversation::changes_json(changes);
        let devices = self.fresh().flat_map(|(append, id)| {
            let devices = append.to.devices.iter();
            devices.map(move |device| (device.0, id.0))
        });
        let accounts = self.fresh().flat_map(|(append, id)| {
            let accounts = append.to.accounts.iter();
            accounts.map(move |account| (account.0, id.0))
        });
        let (deliveries, accounts) = (pairs(devices), pairs(accounts));
        [
            conversations,
            members,
            self.keys(),
            deliveries,
            accounts,
            mark_pairs(marks),
        ]
    }

    /// `[["0a…",number,received],…]`
    fn keys(&self) -> String {
        let keyed = self.fresh().filter(|(append, _)| append.message.keyed);
        list(keyed.map(|(Append { message, .. }, id)| {
            let (key, received) = (hexadecimal(message.origin), to_sql(message.received_ms));
            format!("[\"{key}\",{},{received}]", id.0)
        }))
    }
}

/// As the statements take it.
pub(super) fn hexadecimal(origin: Origin) -> String {
    format!("{:032x}", u128::from_be_bytes(origin.0))
}

/// The one argument of marks that ride along with nothing.
pub(super) fn marks(marks: &[(DeviceId, MessageId)]) -> Result<SqliteArguments, StoreError> {
    let mut arguments = SqliteArguments::default();
    bind(&mut arguments, mark_pairs(marks))?;
    Ok(arguments)
}

pub(super) fn bind<'q, T>(arguments: &mut SqliteArguments, value: T) -> Result<(), StoreError>
where
    T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    arguments
        .add(value)
        .map_err(|error| StoreError::from(sqlx::Error::Encode(error)))
}

fn bind_message(
    arguments: &mut SqliteArguments,
    message: &NewMessage,
    id: MessageId,
) -> Result<(), StoreError> {
    bind(arguments, id.0)?;
    bind(arguments, message.from.as_str())?;
    bind(arguments, message.to.as_str())?;
    bind(arguments, message.account.0)?;
    bind(arguments, to_sql(message.received_ms))?;
    bind(arguments, message.content_type.as_str())?;
    bind(arguments, message.headers.as_str())?;
    bind(arguments, message.body.as_ref())?;
    bind(arguments, message.origin.0.as_slice())?;
    bind_place(arguments, message.place.as_ref())
}

/// The six values of where a message stands in its conversation.
fn bind_place(arguments: &mut SqliteArguments, place: Option<&Place>) -> Result<(), StoreError> {
    bind(arguments, place.map(|place| place.conversation.0))?;
    bind(arguments, place.map(|place| to_sql(place.seq)))?;
    bind(arguments, place.map(|place| i64::from(place.epoch)))?;
    bind(arguments, place.map(|place| place.author.as_str()))?;
    bind(arguments, place.map(|place| &*place.kind))?;
    bind(arguments, place.map(|place| &*place.detail))
}

fn mark_pairs(marks: &[(DeviceId, MessageId)]) -> String {
    pairs(marks.iter().map(|(device, message)| (device.0, message.0)))
}

/// `[[1,2],[3,4]]`
fn pairs(items: impl Iterator<Item = (i64, i64)>) -> String {
    list(items.map(|(first, second)| format!("[{first},{second}]")))
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    let mut json = String::from("[");
    for (i, item) in items.enumerate() {
        let comma = if i == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(json, "{comma}{item}");
    }
    json.push(']');
    json
}
