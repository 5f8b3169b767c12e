//! What a device has shown that it understands beside plain texts.
//!
//! *Invariant*: nothing is believed of a device that it has not shown with its own credentials, and what it then refuses
//! is believed no longer.

use std::collections::HashMap;
use std::ops::BitOr;
use std::sync::{PoisonError, RwLock};

use sidetone_model::DeviceId;
use sidetone_sip::{Message, cpim, iscomposing};

use crate::carried;

/// What a device understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Abilities(u8);

impl Abilities {
    /// Messages wrapped in CPIM (RFC 3862), and in them whatever stands there.
    pub const CPIM: Self = Self(1);
    /// Bare word that somebody writes (RFC 3994).
    pub const COMPOSING: Self = Self(2);
    /// Word that somebody writes is refused, however it is wrapped.
    pub const UNCURIOUS: Self = Self(4);

    /// What a number in the store stands for.
    pub fn of_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    /// The number.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// What a request says that its sender takes (RFC 3261 §20.1). `*/*` says nothing of what it does with it.
    pub fn accepted(request: &Message) -> Self {
        let mut all = Self::default();
        let Some(values) = request.header_by_name("Accept") else {
            return all;
        };
        for value in String::from_utf8_lossy(values).split(',') {
            if carried::is(value, cpim::CONTENT_TYPE) {
                all = all | Self::CPIM;
            } else if carried::is(value, iscomposing::CONTENT_TYPE) {
                all = all | Self::COMPOSING;
            }
        }
        all
    }

    /// Whether all of these are among them.
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

impl BitOr for Abilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What every device understands, as far as is known.
#[derive(Debug, Default)]
pub struct AbilityTable(RwLock<HashMap<DeviceId, Abilities>>);

impl AbilityTable {
    /// What a device understands.
    pub fn of(&self, device: DeviceId) -> Abilities {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&device).copied().unwrap_or_default()
    }

    /// The device has shown this; gives all of it where that is news.
    pub fn learn(&self, device: DeviceId, shown: Abilities) -> Option<Abilities> {
        let known = self.of(device);
        let mut all = known | shown;
        if shown.has(Abilities::COMPOSING) {
            all = all.without(Abilities::UNCURIOUS);
        }
        (all != known).then(|| self.set(device, all))
    }

    /// The device has refused this; gives what is left where that is news.
    pub fn unlearn(&self, device: DeviceId, refused: Abilities) -> Option<Abilities> {
        let known = self.of(device);
        let left = known.without(refused);
        (left != known).then(|| self.set(device, left))
    }

    /// The device is gone.
    pub fn forget(&self, device: DeviceId) {
        self.set(device, Abilities::default());
    }

    fn set(&self, device: DeviceId, abilities: Abilities) -> Abilities {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match abilities == Abilities::default() {
            true => drop(all.remove(&device)),
            false => drop(all.insert(device, abilities)),
        }
        abilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sidetone_sip::{Framing, Limits};

    const DEVICE: DeviceId = DeviceId(1);

    #[test]
    fn what_is_shown_is_known_until_it_is_refused() {
        let table = AbilityTable::default();
        assert_eq!(table.of(DEVICE), Abilities::default());
        assert_eq!(table.learn(DEVICE, Abilities::CPIM), Some(Abilities::CPIM));
        assert_eq!(table.learn(DEVICE, Abilities::CPIM), None, "no news");
        let both = Abilities::CPIM | Abilities::COMPOSING;
        assert_eq!(table.learn(DEVICE, Abilities::COMPOSING), Some(both));
        assert_eq!(
            table.unlearn(DEVICE, Abilities::CPIM),
            Some(Abilities::COMPOSING)
        );
        assert_eq!(table.unlearn(DEVICE, Abilities::CPIM), None);
        assert!(table.of(DEVICE).has(Abilities::COMPOSING));
        assert!(!table.of(DEVICE).has(both));
        table.forget(DEVICE);
        assert_eq!(table.of(DEVICE), Abilities::default());
    }

    #[test]
    fn accept_is_read_and_a_star_says_nothing() {
        let accepted = |accept: &str| {
            let text = format!(
                "REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
                 From: <sip:a@x>;tag=1\r\nTo: <sip:a@x>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n\
                 {accept}Content-Length: 0\r\n\r\n"
            );
            let message = Message::parse(Bytes::from(text), Framing::Datagram, &Limits::default());
            Abilities::accepted(&message.expect("well-formed"))
        };
        let both = Abilities::CPIM | Abilities::COMPOSING;
        let accept = "Accept: text/plain, message/CPIM;q=0.5,application/im-iscomposing+xml\r\n";
        assert_eq!(accepted(accept), both);
        assert_eq!(accepted("Accept: */*\r\n"), Abilities::default());
        assert_eq!(accepted(""), Abilities::default());
    }
}
