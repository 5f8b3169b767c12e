//! Stored messages on their way to a device: one MESSAGE to each of its bindings.
//!
//! *Invariant*: a message leaves the spool only after a binding took it.

use std::sync::Arc;

use sidetone_model::{DeviceId, StoredMessage};
use sidetone_services::delivery::Step;
use sidetone_services::{Abilities, Target as Binding};
use sidetone_sip::{Flow, Method, Transport};

use super::copy::{self, Place};
use super::own::{Own, via};
use super::{News, Now, Shard, Want, hints};

impl Shard {
    /// Tells the shard that delivers to this device, which may be another one.
    pub(super) fn wake_everywhere(&mut self, device: DeviceId, news: News) {
        self.want(Want::Wake { device, news });
    }

    pub(super) fn wake(&mut self, now: Now, device: DeviceId, news: News) {
        match news {
            News::Registered => self.deliveries.wake(now.unix_ms, device),
            News::Refreshed => self.deliveries.refreshed(now.unix_ms, device),
            News::Stored { message, first } => {
                // Another shard added it, and this one may have found the spool empty since.
                self.services.waiting.add(device);
                self.messages_changed(device);
                self.deliveries
                    .appended(now.unix_ms, device, message, first);
            }
            News::Composing(composing) => self.send_composing(now, device, &composing),
        }
    }

    pub(super) fn pending(
        &mut self,
        now: Now,
        device: DeviceId,
        messages: Option<Vec<StoredMessage>>,
    ) {
        match messages {
            Some(messages) => self.deliveries.loaded(now.unix_ms, device, messages),
            None => self.deliveries.load_failed(now.unix_ms, device),
        }
    }

    /// Takes one step; whether there was one.
    pub(super) fn deliver_step(&mut self, now: Now) -> bool {
        match self.deliveries.poll() {
            None => return false,
            Some(Step::Load { device, after }) => self.want(Want::Pending { device, after }),
            Some(Step::Delivered { device, message }) => {
                self.want(Want::Delivered { device, message });
                self.messages_changed(device);
            }
            Some(Step::Arrived { device, event }) => self.want(Want::Arrived { device, event }),
            Some(Step::Refused { device, message }) => {
                let refused = |event| Want::Refused {
                    device,
                    message: message.id,
                    event,
                };
                self.wants.extend(message.event.map(refused));
            }
            Some(Step::Emptied { device }) => self.services.waiting.remove(device),
            Some(Step::Send {
                attempt,
                device,
                message,
            }) => self.send_copies(now, attempt, device, &message),
        }
        true
    }

    fn send_copies(&mut self, now: Now, attempt: u64, device: DeviceId, message: &StoredMessage) {
        // Removed a moment ago: nobody waits for it any more.
        let owner = self.services.directory.account_of(device);
        let address = owner.map_or_else(|| message.to.clone(), |owner| owner.address);
        let bindings = self.services.location.lookup(&address, now.unix_ms);
        let incoming = Flow::to(
            Transport::Udp,
            0,
            std::net::SocketAddr::from(([0, 0, 0, 0], 0)),
        );
        let copies = bindings.iter().filter(|binding| binding.device == device);
        let copies: smallvec::SmallVec<[(u64, &Binding, Flow); 2]> = copies
            .filter_map(|binding| {
                let flow = self.flow_to(binding, incoming)?.0;
                Some((self.way(binding, flow), binding, flow))
            })
            .collect();
        let ways: smallvec::SmallVec<[u64; 2]> = copies.iter().map(|(way, ..)| *way).collect();
        let ways = self.deliveries.sending(attempt, &ways);
        let abilities = self.services.abilities.of(device);
        for (way, binding, flow) in copies {
            if !ways.contains(&way) {
                continue;
            }
            let services = Arc::clone(&self.services);
            let sent_by = services.locals.sent_by(&flow);
            let user = Own::Delivery(attempt).user();
            self.endpoint
                .request(now.instant, flow, Method::Message, user, |branch| {
                    let place = Place {
                        binding,
                        to: &address,
                        via: &via(&flow, sent_by, branch),
                        abilities,
                    };
                    copy::of_message(&place, message)
                });
        }
    }

    /// Stands for a binding and the way to it.
    fn way(&self, binding: &Binding, flow: Flow) -> u64 {
        let remote = flow.remote.to_string();
        let connection = flow.connection.to_be_bytes();
        let contact = binding.contact().as_bytes();
        let hash = self
            .endpoint
            .digest(&[contact, remote.as_bytes(), &connection, b"way"]);
        u64::try_from(hash >> 64).unwrap_or_default()
    }

    /// A device answered a message.
    pub(super) fn delivery_answered(&mut self, now: Now, attempt: u64, status: u16) {
        if self.unlearned(attempt, status) {
            // It gets the same once more, as it takes it.
            return self.deliveries.failed(now.unix_ms, attempt);
        }
        if (200..300).contains(&status) {
            self.services.counters.messages_delivered.add();
        }
        self.deliveries.answered(now.unix_ms, attempt, status);
    }

    /// Whether a device has refused what it seemed to understand.
    fn unlearned(&mut self, attempt: u64, status: u16) -> bool {
        let device = self.deliveries.device_of(attempt);
        device.is_some_and(|device| {
            hints::refuses_type(status) && self.unlearn(device, Abilities::CPIM)
        })
    }
}
