//! Instant Message Disposition Notifications (RFC 5438): asking what became of a message, and saying it.
//!
//! *Invariant*: what is read is bounded; a notification says exactly one thing about one message.

use crate::cpim::Cpim;
use crate::{Malformed, xml};

/// The content type of a notification.
pub const CONTENT_TYPE: &str = "message/imdn+xml";
/// The namespace of the CPIM headers (RFC 5438 §6.1).
pub const NAMESPACE: &str = "urn:ietf:params:imdn";
const XML_NAMESPACE: &str = "urn:ietf:params:xml:ns:imdn";
/// Octets of a Message-ID. Known phones use 8 to 36.
const MESSAGE_ID_BYTES_MAX: usize = 256;

/// Which notifications a sender wants (RFC 5438 §6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Wanted {
    /// When it was delivered.
    pub positive_delivery: bool,
    /// When it could not be delivered.
    pub negative_delivery: bool,
    /// When somebody on the way has processed it.
    pub processing: bool,
    /// When it was shown.
    pub display: bool,
}

/// A notification (RFC 5438 §11.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imdn {
    /// The Message-ID of what it is about.
    pub message_id: String,
    /// The DateTime of what it is about, as its sender wrote it.
    pub date_time: String,
    /// To whom the message was brought.
    pub recipient_uri: Option<String>,
    /// To whom it was sent first.
    pub original_recipient_uri: Option<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// What became of it.
    pub disposition: Disposition,
}

/// What became of a message (RFC 5438 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// It was, or was not, delivered.
    Delivery(Delivery),
    /// It was, or was not, shown.
    Display(Display),
    /// It was, or was not, handled on the way.
    Processing(Processing),
}

/// Whether a message was delivered (RFC 5438 §11.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// It was delivered.
    Delivered,
    /// It was not.
    Failed,
    /// Whether it was is not told.
    Forbidden,
    /// Something went wrong.
    Error,
}

/// Whether a message was shown (RFC 5438 §11.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Display {
    /// It was shown.
    Displayed,
    /// Whether it was is not told.
    Forbidden,
    /// Something went wrong.
    Error,
}

/// Whether a message was handled on the way (RFC 5438 §11.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Processing {
    /// It was handled.
    Processed,
    /// It is kept for later.
    Stored,
    /// Whether it was is not told.
    Forbidden,
    /// Something went wrong.
    Error,
}

/// What stands in the document for each disposition.
const DISPOSITIONS: [(&str, &str, Disposition); 11] = {
    use Disposition::{Delivery as D, Display as S, Processing as P};
    [
        ("delivery-notification", "delivered", D(Delivery::Delivered)),
        ("delivery-notification", "failed", D(Delivery::Failed)),
        ("delivery-notification", "forbidden", D(Delivery::Forbidden)),
        ("delivery-notification", "error", D(Delivery::Error)),
        ("display-notification", "displayed", S(Display::Displayed)),
        ("display-notification", "forbidden", S(Display::Forbidden)),
        ("display-notification", "error", S(Display::Error)),
        (
            "processing-notification",
            "processed",
            P(Processing::Processed),
        ),
        ("processing-notification", "stored", P(Processing::Stored)),
        (
            "processing-notification",
            "forbidden",
            P(Processing::Forbidden),
        ),
        ("processing-notification", "error", P(Processing::Error)),
    ]
};

impl Wanted {
    /// Reads the value of Disposition-Notification; words that are not known mean nothing.
    pub fn parse(value: &str) -> Self {
        let mut wanted = Self::default();
        for item in value.split(',') {
            // RFC 5438 §10: each may have parameters, of which none is defined.
            let word = item.split(';').next().unwrap_or_default().trim();
            match word.to_ascii_lowercase().as_str() {
                "positive-delivery" => wanted.positive_delivery = true,
                "negative-delivery" => wanted.negative_delivery = true,
                "processing" => wanted.processing = true,
                "display" => wanted.display = true,
                _ => {}
            }
        }
        wanted
    }

    /// Writes the value; empty where nothing is wanted.
    pub fn write(self) -> String {
        let words = [
            (self.positive_delivery, "positive-delivery"),
            (self.negative_delivery, "negative-delivery"),
            (self.processing, "processing"),
            (self.display, "display"),
        ];
        let wanted = words.iter().filter(|(wanted, _)| *wanted);
        let words: Vec<&str> = wanted.map(|(_, word)| *word).collect();
        words.join(", ")
    }

    /// What the sender of a message wants.
    pub fn of(message: &Cpim) -> Self {
        message
            .header(NAMESPACE, "Disposition-Notification")
            .map(|header| Self::parse(header.raw()))
            .unwrap_or_default()
    }
}

/// The Message-ID of a message (RFC 5438 §6.3).
pub fn message_id(message: &Cpim) -> Option<&str> {
    let id = message.header(NAMESPACE, "Message-ID")?.raw();
    is_message_id(id).then_some(id)
}

/// Gives a message a Message-ID, and asks what will become of it.
pub fn request(message: Cpim, message_id: &str, wanted: Wanted) -> Result<Cpim, Malformed> {
    if !is_message_id(message_id) {
        return Err(Malformed("Message-ID"));
    }
    let message = message.with_header(NAMESPACE, "Message-ID", message_id)?;
    match wanted.write().as_str() {
        "" => Ok(message),
        words => message.with_header(NAMESPACE, "Disposition-Notification", words),
    }
}

/// RFC 5438 §10: a Token of CPIM, read with some latitude; nothing in it needs an escape.
fn is_message_id(id: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '\\' | '"');
    !id.is_empty() && id.len() <= MESSAGE_ID_BYTES_MAX && !id.contains(odd)
}

impl Imdn {
    /// Reads a notification.
    pub fn parse(octets: &[u8]) -> Result<Self, Malformed> {
        let document = xml::document(xml::text(octets)?)?;
        let root = document.root_element();
        if !xml::is(&root, XML_NAMESPACE, "imdn") {
            return Err(Malformed("imdn element"));
        }
        let text = |name| xml::child_text(&root, XML_NAMESPACE, name);
        let message_id = text("message-id").filter(|id| is_message_id(id));
        Ok(Self {
            message_id: message_id.ok_or(Malformed("message-id of an IMDN"))?,
            date_time: text("datetime").unwrap_or_default(),
            recipient_uri: text("recipient-uri"),
            original_recipient_uri: text("original-recipient-uri"),
            subject: text("subject"),
            disposition: disposition(&root).ok_or(Malformed("status of an IMDN"))?,
        })
    }

    /// Writes a notification. RFC 5438 §7.2.1: it goes out in CPIM, with `Content-Disposition: notification`, and asks
    /// for no notification itself.
    pub fn write(&self) -> String {
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"{XML_NAMESPACE}\">\r\n"
        );
        let required = [
            ("message-id", Some(&self.message_id)),
            ("datetime", Some(&self.date_time)),
            ("recipient-uri", self.recipient_uri.as_ref()),
            (
                "original-recipient-uri",
                self.original_recipient_uri.as_ref(),
            ),
            ("subject", self.subject.as_ref()),
        ];
        for (name, text) in required {
            if let Some(text) = text {
                xml::write_element(&mut xml, name, text);
                xml.push_str("\r\n");
            }
        }
        let of = |(_, _, disposition): &&(_, _, Disposition)| *disposition == self.disposition;
        if let Some((kind, status, _)) = DISPOSITIONS.iter().find(of) {
            xml.push_str(&format!(
                "<{kind}><status><{status}/></status></{kind}>\r\n"
            ));
        }
        xml.push_str("</imdn>\r\n");
        xml
    }
}

fn disposition(root: &roxmltree::Node<'_, '_>) -> Option<Disposition> {
    let stands = |kind: &str, status: &str| {
        xml::child(root, XML_NAMESPACE, kind)
            .and_then(|kind| xml::child(&kind, XML_NAMESPACE, "status"))
            .and_then(|states| xml::child(&states, XML_NAMESPACE, status))
            .is_some()
    };
    let found = DISPOSITIONS
        .iter()
        .find(|(kind, status, _)| stands(kind, status));
    found.map(|(_, _, disposition)| *disposition)
}

#[cfg(test)]
#[path = "imdn_tests.rs"]
mod tests;
