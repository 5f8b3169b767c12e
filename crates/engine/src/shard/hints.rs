//! What a MESSAGE carries beside texts, in both directions: that somebody writes, and what became of earlier messages;
//! and what phones show of what they understand.
//!
//! *Invariant*: nothing of it is kept, and nothing of it is told of anybody who has not shown who he is.

use sidetone_model::{AddressOfRecord, DeviceId};
use sidetone_services::carried::{self, Carried, Unfit};
use sidetone_services::{Abilities, Composing, any_address};
use sidetone_sip::{Flow, Message, Method, Transport};

use super::copy::{self, Place};
use super::own::{Own, via};
use super::request::Sender;
use super::{Now, Shard, Want};

/// Whether an answer says that the type of the body is the matter (RFC 3261 §21.4).
pub(super) fn refuses_type(status: u16) -> bool {
    matches!(status, 400 | 406 | 415 | 488 | 606)
}

impl Shard {
    /// What a MESSAGE carries; what it shows of its sender's phone is remembered.
    pub(super) fn read_body(
        &mut self,
        request: &Message,
        sender: Sender,
        author: &AddressOfRecord,
    ) -> Result<Carried, Unfit> {
        let services = self.services.clone();
        let is_author = |uri: &str| {
            let ours = services.directory.resolve(&services.domains, uri);
            let address = ours
                .map(|account| account.address)
                .or_else(|| any_address(uri));
            address.as_ref() == Some(author)
        };
        let content_type = request.content_type().unwrap_or(b"text/plain");
        let content_type = String::from_utf8_lossy(content_type);
        let encoding = request.header_by_name("Content-Encoding");
        let encoding = encoding.map(String::from_utf8_lossy);
        let kind = (&*content_type, encoding.as_deref());
        let (carried, shown) = carried::read(kind, request.body(), is_author)?;
        match (sender, &carried) {
            (Sender::Device(device, _), _) => {
                self.learn(device, shown | Abilities::accepted(request));
            }
            // Anyone may say that he is that somebody.
            (Sender::Stranger, Carried::Composing(_) | Carried::Notification(_)) => {
                return Err(Unfit {
                    status: 415,
                    why: "from elsewhere, texts only",
                });
            }
            _ => {}
        }
        Ok(carried)
    }

    pub(super) fn learn(&mut self, device: DeviceId, shown: Abilities) {
        if let Some(abilities) = self.services.abilities.learn(device, shown) {
            self.want(Want::Learned { device, abilities });
        }
    }

    /// Whether the device seemed to understand this until now.
    pub(super) fn unlearn(&mut self, device: DeviceId, refused: Abilities) -> bool {
        let left = self.services.abilities.unlearn(device, refused);
        let learned = left.map(|abilities| Want::Learned { device, abilities });
        let news = learned.is_some();
        self.wants.extend(learned);
        news
    }

    /// Tells a device, where it is registered and understands it. Once: the next one says more.
    pub(super) fn send_composing(&mut self, now: Now, device: DeviceId, composing: &Composing) {
        let services = self.services.clone();
        let Some(owner) = services.directory.account_of(device) else {
            return;
        };
        let abilities = services.abilities.of(device);
        if abilities.has(Abilities::UNCURIOUS) {
            return;
        }
        let bindings = services.location.lookup(&owner.address, now.unix_ms);
        let anywhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let incoming = Flow::to(Transport::Udp, 0, anywhere);
        for binding in bindings.iter().filter(|binding| binding.device == device) {
            let Some((flow, _)) = self.flow_to(binding, incoming) else {
                continue;
            };
            let unique = self.endpoint.random();
            let sent_by = services.locals.sent_by(&flow);
            let user = Own::Hint(device.0.unsigned_abs()).user();
            let copy = |via: &str| {
                let place = Place {
                    binding,
                    to: &owner.address,
                    via,
                    abilities,
                };
                copy::of_composing(&place, composing, unique)
            };
            if copy("").is_none() {
                return;
            }
            self.endpoint
                .request(now.instant, flow, Method::Message, user, |branch| {
                    copy(&via(&flow, sent_by, branch)).unwrap_or_default()
                });
        }
    }

    /// A device answered such a hint.
    pub(super) fn hint_answered(&mut self, device: u64, status: u16) {
        let device = DeviceId(i64::try_from(device).unwrap_or_default());
        // RFC 3994 §4: who does not understand it is not told again.
        if refuses_type(status) || matches!(status, 405 | 501) {
            self.unlearn(device, Abilities::COMPOSING);
            self.learn(device, Abilities::UNCURIOUS);
        }
    }
}
