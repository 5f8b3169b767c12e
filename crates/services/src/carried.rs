//! What a MESSAGE carries: something said, word that somebody writes (RFC 3994), or what became of an earlier message
//! (RFC 5438); bare or in CPIM (RFC 3862).
//!
//! *Invariant*: what a wrapped message says of its sender is either what its credentials say, or the message is refused.

use bytes::Bytes;
use sidetone_model::{ConversationId, DeviceId, MessageId};
use sidetone_sip::imdn::{self, Imdn, Wanted};
use sidetone_sip::{Cpim, IsComposing, cpim, iscomposing, timestamp};

use crate::Abilities;

/// What a MESSAGE carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Something said.
    Said(Said),
    /// Its sender writes, or stopped.
    Composing(IsComposing),
    /// What became of an earlier message.
    Notification(Imdn),
}

/// Something said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Of the content; empty where there is none.
    pub content_type: String,
    /// What was said of the content, each line ended by CRLF.
    pub headers: String,
    /// The content.
    pub body: Bytes,
    /// The content is not as it came: what was said of its encoding is over.
    pub decoded: bool,
    /// When it was sent, as its sender says.
    pub sent_ms: Option<u64>,
    /// What its sender wants to be told of it; none where it came bare.
    pub asked: Option<Asked>,
}

/// What the sender of a message wants to be told of it. It lies with the message, as lines among its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What the sender calls the message; empty where nothing can be told of it.
    pub message_id: String,
    /// When it was sent, in the sender's own writing.
    pub date_time: String,
    /// What to tell.
    pub wanted: Wanted,
    /// Who wants to be told.
    pub device: Option<DeviceId>,
}

/// Why a body is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What to answer.
    pub status: u16,
    /// Why.
    pub why: &'static str,
}

/// What CPIM says is the sender where it says nobody.
const ANONYMOUS: &str = "sip:anonymous@anonymous.invalid";
/// Octets of a body that came deflated: as many as one may have that did not.
const INFLATED_BYTES_MAX: usize = 65_536;
/// MIME headers of a content that go with it.
const CONTENT_KEPT: [&str; 3] = [
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
];
const ID: &str = "imdn.Message-ID: ";
const WANTED: &str = "imdn.Disposition-Notification: ";
const DATE_TIME: &str = "imdn.DateTime: ";
const DEVICE: &str = "imdn.Device: ";

/// Reads a body, and what it shows of the device that sent it. `is_sender`: whether a URI is one of the sender's.
///
/// # Errors
/// Why it is refused.
pub fn read(
    (content_type, encoding): (&str, Option<&str>),
    body: Bytes,
    is_sender: impl Fn(&str) -> bool,
) -> Result<(Carried, Abilities), Unfit> {
    let (body, decoded) = decode(content_type, encoding, body)?;
    if !is(content_type, cpim::CONTENT_TYPE) {
        let mut carried = bare(content_type, body)?;
        if let Carried::Said(said) = &mut carried {
            said.decoded = decoded;
        }
        let shown = match carried {
            Carried::Composing(_) => Abilities::COMPOSING,
            _ => Abilities::default(),
        };
        return Ok((carried, shown));
    }
    let message = Cpim::parse(body).map_err(|_| BROKEN)?;
    if let Some(from) = message.from()
        && from.uri != ANONYMOUS
        && !is_sender(&from.uri)
    {
        return Err(Unfit {
            status: 403,
            why: "From in the message is not its sender",
        });
    }
    if !message.required().iter().all(is_understood) {
        return Err(Unfit {
            status: 415,
            why: "the message requires what is not understood here",
        });
    }
    Ok((unwrap(&message)?, Abilities::CPIM))
}

/// Inflates what is deflated, as far as it is no bomb. What is encoded in another way goes on as it came, unless it is for
/// us. COMPAT(linphone): it deflates its notifications.
fn decode(content_type: &str, encoding: Option<&str>, body: Bytes) -> Result<(Bytes, bool), Unfit> {
    let encoding = encoding.map_or("identity", str::trim);
    if encoding.eq_ignore_ascii_case("identity") {
        return Ok((body, false));
    }
    if encoding.eq_ignore_ascii_case("deflate") {
        let inflated =
            miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&body, INFLATED_BYTES_MAX);
        return inflated
            .map(|octets| (octets.into(), true))
            .map_err(|_| BROKEN);
    }
    let ours = [
        cpim::CONTENT_TYPE,
        imdn::CONTENT_TYPE,
        iscomposing::CONTENT_TYPE,
    ];
    match ours.iter().any(|name| is(content_type, name)) {
        true => Err(Unfit {
            status: 415,
            why: "this Content-Encoding is not understood here",
        }),
        false => Ok((body, false)),
    }
}

const BROKEN: Unfit = Unfit {
    status: 400,
    why: "the body cannot be read",
};

/// RFC 3862 §4.7: what a message requires and is not understood is not processed.
fn is_understood((namespace, name): &(String, String)) -> bool {
    let of_imdn = namespace == imdn::NAMESPACE
        && ["Message-ID", "Disposition-Notification"].contains(&name.as_str());
    namespace == cpim::NAMESPACE || of_imdn
}

fn bare(content_type: &str, body: Bytes) -> Result<Carried, Unfit> {
    if is(content_type, iscomposing::CONTENT_TYPE) {
        let read = IsComposing::parse(&body);
        return read.map(Carried::Composing).map_err(|_| BROKEN);
    }
    if is(content_type, imdn::CONTENT_TYPE) {
        let read = Imdn::parse(&body);
        return read.map(Carried::Notification).map_err(|_| BROKEN);
    }
    Ok(Carried::Said(Said {
        content_type: content_type.to_owned(),
        headers: String::new(),
        body,
        decoded: false,
        sent_ms: None,
        asked: None,
    }))
}

fn unwrap(message: &Cpim) -> Result<Carried, Unfit> {
    let content_type = message.content_type().unwrap_or("text/plain");
    if is(content_type, cpim::CONTENT_TYPE) || is_encoded(message) {
        return Err(Unfit {
            status: 415,
            why: "the content is wrapped twice or encoded for transfer",
        });
    }
    let mut carried = bare(content_type, message.content().clone())?;
    if let Carried::Said(said) = &mut carried {
        for name in CONTENT_KEPT {
            if let Some(value) = message.content_header(name) {
                said.headers.extend([name, ": ", value, "\r\n"]);
            }
        }
        said.decoded = true;
        said.sent_ms = message.sent_ms();
        said.asked = Some(Asked::of_message(message));
    }
    Ok(carried)
}

/// SIP carries octets as they are (RFC 3261 §7.4.1): nobody needs another encoding.
fn is_encoded(message: &Cpim) -> bool {
    let encoding = message.content_header("Content-Transfer-Encoding");
    let plain = ["7bit", "8bit", "binary"];
    encoding.is_some_and(|one| !plain.iter().any(|plain| one.eq_ignore_ascii_case(plain)))
}

/// Whether a content type, with or without parameters, is this one.
pub fn is(content_type: &str, name: &str) -> bool {
    let own = content_type.split(';').next().unwrap_or_default();
    own.trim().eq_ignore_ascii_case(name)
}

impl Asked {
    fn of_message(message: &Cpim) -> Self {
        let date_time = message.header(cpim::NAMESPACE, "DateTime");
        let date_time = date_time.map(cpim::Header::raw);
        Self {
            message_id: imdn::message_id(message).unwrap_or_default().to_owned(),
            // Only what is a moment: it goes into documents of ours.
            date_time: date_time
                .filter(|text| text.len() <= 64 && timestamp::parse(text).is_some())
                .unwrap_or_default()
                .to_owned(),
            wanted: Wanted::of(message),
            device: None,
        }
    }

    /// As header lines of a stored message, each ended by CRLF.
    pub fn write(&self) -> String {
        let device = self.device.map_or(0, |device| device.0);
        format!(
            "{ID}{}\r\n{WANTED}{}\r\n{DATE_TIME}{}\r\n{DEVICE}{device}\r\n",
            self.message_id,
            self.wanted.write(),
            self.date_time,
        )
    }

    /// Reads them back from among others; none where the message came bare.
    pub fn of(headers: &str) -> Option<Self> {
        let value = |name: &str| headers.lines().find_map(|line| line.strip_prefix(name));
        let device = value(DEVICE).and_then(|number| number.parse().ok());
        Some(Self {
            wanted: Wanted::parse(value(WANTED)?),
            message_id: value(ID).unwrap_or_default().to_owned(),
            date_time: value(DATE_TIME).unwrap_or_default().to_owned(),
            device: device.filter(|number| *number > 0).map(DeviceId),
        })
    }

    /// Whether there is anybody to tell anything.
    pub fn is_answerable(&self) -> bool {
        !self.message_id.is_empty() && self.device.is_some() && self.wanted != Wanted::default()
    }
}

/// The header lines that are for others, without ours.
pub fn told(headers: &str) -> impl Iterator<Item = &str> {
    headers.lines().filter(|line| !line.starts_with("imdn."))
}

/// What phones call a message of ours, when they say what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Where it stands: the Message-ID of every copy in CPIM.
    Event(ConversationId, u64),
    /// COMPAT(linphone): a copy that came bare, by its Call-ID.
    Copy(MessageId, DeviceId),
}

impl Named {
    /// Reads a Message-ID; what is none of ours names nothing.
    pub fn parse(message_id: &str) -> Option<Self> {
        let two = |text: &str, between: &str| {
            let (first, second) = text.split_once(between)?;
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            (digits(first) && digits(second)).then_some(())?;
            Some((first.parse::<i64>().ok()?, second.parse::<i64>().ok()?))
        };
        if let Some(place) = message_id.strip_prefix('c') {
            let (conversation, seq) = two(place, "-")?;
            return Some(Self::Event(
                ConversationId(conversation),
                u64::try_from(seq).ok()?,
            ));
        }
        let (copy, _) = message_id.strip_prefix('m')?.split_once('@')?;
        let (message, device) = two(copy, "-d")?;
        Some(Self::Copy(MessageId(message), DeviceId(device)))
    }

    /// Writes it; `domain` is for the Call-ID of a copy.
    pub fn write(self, domain: &str) -> String {
        match self {
            Self::Event(conversation, seq) => format!("c{}-{seq}", conversation.0),
            Self::Copy(message, device) => format!("m{}-d{}@{domain}", message.0, device.0),
        }
    }
}

#[cfg(test)]
#[path = "carried_tests.rs"]
mod tests;
