//! A file as a phone is told of it: a line of text with a link.
//!
//! *Invariant*: what is written here is never stored; the link is made anew each time the message is sent.

use bytes::Bytes;
use sidetone_model::{EventId, FileRef, StoredMessage};

use super::Links;

/// Puts the file that a message brings into its text.
pub fn for_phone(message: &mut StoredMessage, links: &Links, now_ms: u64) {
    let Some(file) = &message.file else {
        return;
    };
    let link = links.to(EventId(message.id.0), now_ms);
    let mut text = String::from_utf8_lossy(&message.body).into_owned();
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&described(file));
    if let Some(link) = link {
        text.push_str(": ");
        text.push_str(&link);
    }
    message.body = Bytes::from(text);
}

/// `photo.jpg (2.3 MB)`.
fn described(file: &FileRef) -> String {
    let name = match file.name.as_str() {
        "" => file.kind.as_str().replace('_', " "),
        name => name.to_owned(),
    };
    match file.octets {
        Some(octets) => format!("{name} ({})", size(octets)),
        None => name,
    }
}

fn size(octets: u64) -> String {
    let tenths = |unit: u64| (octets.saturating_mul(10).saturating_add(unit / 2)) / unit;
    let said =
        |unit: u64, name: &str| format!("{}.{} {name}", tenths(unit) / 10, tenths(unit) % 10);
    match octets {
        0..1_000 => format!("{octets} B"),
        1_000..1_000_000 => said(1_000, "kB"),
        1_000_000..1_000_000_000 => said(1_000_000, "MB"),
        _ => said(1_000_000_000, "GB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidetone_model::{FileId, FileKind, MessageId};

    fn message(name: &str, caption: &'static str) -> StoredMessage {
        StoredMessage {
            id: MessageId(7),
            from: "<sip:ann@x.org>".to_owned(),
            to: "bob@x.org".parse().expect("an address"),
            received_ms: 0,
            content_type: "text/plain".to_owned(),
            headers: String::new(),
            body: Bytes::from_static(caption.as_bytes()),
            in_group: false,
            event: None,
            file: Some(Box::new(FileRef {
                id: FileId(3),
                name: name.to_owned(),
                kind: FileKind::VoiceNote,
                digest: None,
                content_type: None,
                octets: Some(2_345_678),
                width: None,
                height: None,
                duration_ms: None,
            })),
        }
    }

    fn text(mut message: StoredMessage, base: &str) -> String {
        let links = Links::new([1; 32], base.to_owned(), 60);
        for_phone(&mut message, &links, 0);
        String::from_utf8_lossy(&message.body).into_owned()
    }

    #[test]
    fn a_phone_is_given_a_line_with_a_link() {
        let said = text(message("båt.jpg", "look"), "https://x.org");
        let start = "look\nbåt.jpg (2.3 MB): https://x.org/f/";
        assert!(said.starts_with(start), "{said}");
        let links = Links::new([1; 32], String::new(), 60);
        assert_eq!(links.read(&said[start.len()..], 0), Some(EventId(7)));
        let said = text(message("", ""), "");
        assert_eq!(said, "voice note (2.3 MB)");
    }

    #[test]
    fn sizes_are_short() {
        for (octets, said) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_049, "1.0 kB"),
            (5_000_000_000, "5.0 GB"),
        ] {
            assert_eq!(size(octets), said);
        }
    }
}
