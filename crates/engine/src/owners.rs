//! Which shard a message belongs to: a keyed hash of its Call-ID.
//!
//! *Invariant*: all requests and responses of one Call-ID land on one shard, however they
//! arrive; the key is random, so nobody outside can aim at one shard.

use std::hash::{BuildHasher, RandomState};

use sidetone_model::DeviceId;

use crate::reach::Peer;

/// Finds the shard of a message.
#[derive(Clone, Debug)]
pub struct Owners {
    shards: u16,
    key: RandomState,
}

impl Owners {
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            shards: shards.max(1),
            key: RandomState::new(),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard of a Call-ID.
    pub fn of_call_id(&self, call_id: &[u8]) -> u16 {
        if self.shards == 1 {
            return 0;
        }
        let hash = self.key.hash_one(call_id) % u64::from(self.shards);
        u16::try_from(hash).unwrap_or(0)
    }

    /// The shard of a device: it alone delivers to that device.
    pub fn of_device(&self, device: DeviceId) -> u16 {
        let at = device.0.rem_euclid(i64::from(self.shards));
        u16::try_from(at).unwrap_or(0)
    }

    /// The shard that opens connections to a peer, so that there is one for all shards.
    pub(crate) fn of_peer(&self, peer: &Peer) -> u16 {
        let hash = self.key.hash_one(peer) % u64::from(self.shards);
        u16::try_from(hash).unwrap_or(0)
    }

    /// The shard of a message as it came; `here` where it names no Call-ID (keep-alives,
    /// STUN, what is no SIP at all).
    pub(crate) fn of_message(&self, octets: &[u8], here: u16) -> u16 {
        if self.shards == 1 {
            return 0;
        }
        let Some(id) = call_id(octets) else {
            return here;
        };
        // Only answers are sent after the device: nobody outside chooses a shard for a request.
        let delivery = octets.starts_with(b"SIP/2.0 ").then(|| device_of(id));
        match delivery.flatten() {
            Some(device) => self.of_device(device),
            None => self.of_call_id(id),
        }
    }
}

/// The value of Call-ID without a parse of anything else (RFC 3261 §20.8; compact form `i`).
fn call_id(octets: &[u8]) -> Option<&[u8]> {
    let mut lines = octets.split(|octet| *octet == b'\n').skip(1);
    while let Some(line) = lines.next() {
        let line = line.trim_ascii_end();
        if line.is_empty() {
            return None;
        }
        let Some(value) = value_of_call_id(line) else {
            continue;
        };
        // RFC 3261 §7.3.1: the value may begin on a continuation line.
        return match value {
            [] => lines.next().map(<[u8]>::trim_ascii),
            value => Some(value),
        };
    }
    None
}

fn value_of_call_id(line: &[u8]) -> Option<&[u8]> {
    if !matches!(line.first(), Some(b'C' | b'c' | b'I' | b'i')) {
        return None;
    }
    let colon = line.iter().position(|octet| *octet == b':')?;
    let name = line.get(..colon)?.trim_ascii_end();
    let known = name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i");
    known.then(|| line.get(colon + 1..).unwrap_or_default().trim_ascii())
}

/// The device of a delivery, whose Call-ID is `m<message>-d<device>@<domain>`.
fn device_of(call_id: &[u8]) -> Option<DeviceId> {
    let text = std::str::from_utf8(call_id).ok()?.strip_prefix('m')?;
    let (message, rest) = text.split_once("-d")?;
    let (device, _) = rest.split_once('@')?;
    message.parse::<i64>().ok()?;
    device.parse().ok().map(DeviceId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_id_is_found_in_every_spelling() {
        for (text, expected) in [
            (
                "OPTIONS sip:a SIP/2.0\r\nCall-ID: abc@x\r\n\r\n",
                Some("abc@x"),
            ),
            (
                "OPTIONS sip:a SIP/2.0\r\nVia: x\r\ni:abc\r\n\r\n",
                Some("abc"),
            ),
            ("SIP/2.0 200 OK\r\nCALL-ID \t: abc \r\n\r\n", Some("abc")),
            ("SIP/2.0 200 OK\r\nCall-ID:\r\n abc\r\n\r\n", Some("abc")),
            ("SIP/2.0 200 OK\r\nCSeq: 1 A\r\n\r\nCall-ID: body\r\n", None),
            ("Call-ID: no start line\r\n\r\n", None),
            ("\r\n\r\n", None),
            ("", None),
        ] {
            let found = call_id(text.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{text:?}");
        }
    }

    #[test]
    fn one_call_id_has_one_owner_and_all_shards_own_some() {
        let owners = Owners::new(4);
        let mut seen = [0; 4];
        for n in 0..400 {
            let id = format!("{n}@host");
            let owner = owners.of_call_id(id.as_bytes());
            let message = format!("OPTIONS sip:a SIP/2.0\r\ni: {id}\r\n\r\n");
            assert_eq!(owners.of_message(message.as_bytes(), 9), owner);
            seen[usize::from(owner)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
        assert_eq!(owners.of_message(b"\r\n\r\n", 3), 3);
    }

    #[test]
    fn the_answer_to_a_delivery_goes_to_the_shard_of_its_device() {
        let owners = Owners::new(4);
        for device in 0..40 {
            let id = format!("m7-d{device}@example.test");
            let answer = format!("SIP/2.0 200 OK\r\nCall-ID: {id}\r\n\r\n");
            let expected = owners.of_device(DeviceId(device));
            assert_eq!(owners.of_message(answer.as_bytes(), 9), expected);
            let request = format!("MESSAGE sip:a SIP/2.0\r\nCall-ID: {id}\r\n\r\n");
            let hashed = owners.of_call_id(id.as_bytes());
            assert_eq!(owners.of_message(request.as_bytes(), 9), hashed);
        }
        assert_eq!(device_of(b"m1-d2"), None);
        assert_eq!(device_of(b"mx-d2@x"), None);
    }
}
