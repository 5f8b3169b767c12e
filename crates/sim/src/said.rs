//! Conversations in small: groups, word that somebody writes, and what became of messages. The product's own
//! conversations ask a database and are not in this world.
//!
//! *Invariant*: what the shard is told here, it is told in the same notes by the product.

use std::sync::Arc;

use sidetone_engine::shard::{News, Note};
use sidetone_model::{AccountId, AddressOfRecord, DeviceId, MessageId, NewMessage, Origin};
use sidetone_services::Composing;
use sidetone_services::carried::{Asked, Named};
use sidetone_sip::{Imdn, imdn};

use crate::world::{DOMAIN, Happening, SPOOL_US, World};

impl World {
    /// Makes a group of people that there are.
    ///
    /// # Panics
    /// When a name is no user part of an address.
    pub fn group(&mut self, name: &str, members: &[&str]) {
        let address = |name: &str| {
            let address = AddressOfRecord::new(name, DOMAIN);
            assert!(address.is_ok(), "{name} is no user");
            address.ok()
        };
        let members = members.iter().filter_map(|name| address(name)).collect();
        if let Some(group) = address(name) {
            let number = sidetone_model::ConversationId(1);
            self.services.groups.add(group.clone(), number);
            self.groups.insert(group, members);
        }
    }

    /// Says something in a group that nobody has written.
    pub fn line(&mut self, group: &str, text: &str) {
        let Ok(group) = AddressOfRecord::new(group, DOMAIN) else {
            return;
        };
        let devices = self.devices_of(&group, &group);
        let from = format!("<sip:{group}>");
        let message = self.written(from, group, AccountId(0), ("text/plain", text));
        self.append(message, &devices, 0);
    }

    /// The devices of those to whom something is said that goes to an address.
    pub(crate) fn devices_of(
        &self,
        to: &AddressOfRecord,
        author: &AddressOfRecord,
    ) -> Vec<DeviceId> {
        let directory = &self.services.directory;
        let one = [to.clone()];
        let people = self.groups.get(to).map_or(&one[..], Vec::as_slice);
        let others = people.iter().filter(|person| *person != author);
        others
            .filter_map(|person| directory.find(person.as_str()))
            .flat_map(|account| directory.devices(account.account))
            .collect()
    }

    pub(crate) fn append(&mut self, message: NewMessage, devices: &[DeviceId], ticket: u64) {
        let services = Arc::clone(&self.services);
        let is_first = |device| services.waiting.add(device);
        for note in self.spool.append(message, devices, ticket, is_first) {
            self.later(SPOOL_US, Happening::Note(note));
        }
    }

    pub(crate) fn composes(
        &mut self,
        author: &AddressOfRecord,
        to: &AddressOfRecord,
        holds_s: Option<u32>,
        ticket: u64,
    ) {
        let devices = self.devices_of(to, author);
        let composing = Arc::new(Composing {
            sender: format!("<sip:{author}>"),
            group: self.groups.contains_key(to).then(|| to.clone()),
            holds_s,
            devices: devices.clone(),
        });
        self.done(ticket);
        for device in devices {
            let news = News::Composing(Arc::clone(&composing));
            self.later(SPOOL_US, Happening::Note(Note::Wake { device, news }));
        }
    }

    pub(crate) fn notifies(&mut self, author: &AddressOfRecord, said: &Imdn, ticket: u64) {
        self.done(ticket);
        let Some(Named::Event(_, number)) = Named::parse(&said.message_id) else {
            return;
        };
        let about = self.spool.stored(number);
        let asked = about.and_then(|message| Asked::of(&message.headers));
        let Some((asked, device)) = asked.and_then(|asked| Some((asked.clone(), asked.device?)))
        else {
            return;
        };
        let Some(owner) = self.services.directory.account_of(device) else {
            return;
        };
        let notification = Imdn {
            message_id: asked.message_id,
            date_time: asked.date_time,
            ..said.clone()
        };
        let body = (imdn::CONTENT_TYPE, notification.write());
        let from = format!("<sip:{author}>");
        let message = self.written(from, owner.address, owner.account, (body.0, &body.1));
        self.append(message, &[device], 0);
    }

    fn done(&mut self, ticket: u64) {
        let result = Ok(MessageId(0));
        self.later(SPOOL_US, Happening::Note(Note::Appended { ticket, result }));
    }

    fn written(
        &mut self,
        from: String,
        to: AddressOfRecord,
        account: AccountId,
        (kind, body): (&str, &str),
    ) -> NewMessage {
        let now = self.now();
        self.lines += 1;
        NewMessage {
            from,
            to,
            account,
            received_ms: now.unix_ms,
            content_type: kind.to_owned(),
            headers: String::new(),
            body: body.to_owned().into(),
            origin: Origin((u128::MAX - u128::from(self.lines)).to_be_bytes()),
            keyed: false,
            place: None,
        }
    }
}
