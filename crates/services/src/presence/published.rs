//! Published presence documents as we read them (RFC 3863, RFC 4480).
//!
//! *Invariant*: of a document only a few words are taken over, each bounded; what is no well-formed PIDF is refused.

use roxmltree::{Document, Node, ParsingOptions};
use sidetone_model::{Availability, DeviceId};

const PIDF: &str = "urn:ietf:params:xml:ns:pidf";
const RPID: &str = "urn:ietf:params:xml:ns:pidf:rpid";
const DATA_MODEL: &str = "urn:ietf:params:xml:ns:pidf:data-model";
/// Nodes of one document.
const NODES_MAX: u32 = 2_000;
/// Characters of a note.
const NOTE_MAX: usize = 256;

/// What a device says of its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Which device.
    pub device: DeviceId,
    /// Whether it takes anything.
    pub open: bool,
    /// What its user does.
    pub availability: Option<Availability>,
    /// Words of its user.
    pub note: Option<Box<str>>,
    /// When the publication ends.
    pub until_ms: u64,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Whether any tuple is open, or there is none.
    pub open: bool,
    /// What its activities mean.
    pub availability: Option<Availability>,
    /// Its first note.
    pub note: Option<Box<str>>,
}

impl Published {
    /// Reads a document; `None` where it is no PIDF.
    pub fn parse(text: &str) -> Option<Self> {
        // No DTD: entities are where small documents become large ones.
        let options = ParsingOptions {
            allow_dtd: false,
            nodes_limit: NODES_MAX,
        };
        let document = Document::parse_with_options(text, options).ok()?;
        let root = document.root_element();
        if !root.has_tag_name((PIDF, "presence")) {
            return None;
        }
        let all = |name| {
            root.descendants()
                .filter(move |node| node.has_tag_name(name))
        };
        let mut basics = all((PIDF, "basic"))
            .filter_map(|node| node.text())
            .peekable();
        let open = basics.peek().is_none() || basics.any(|basic| basic.trim() == "open");
        let activities = all((RPID, "activities")).flat_map(|node| node.children());
        let availability = activities.filter_map(meaning).max_by_key(|one| *one as u8);
        let notes = all((DATA_MODEL, "note"))
            .chain(all((RPID, "note")))
            .chain(all((PIDF, "note")));
        let notes = notes.filter_map(|node| node.text());
        let note = notes.map(str::trim).find(|note| !note.is_empty());
        Some(Self {
            open,
            availability,
            note: note.map(|note| note.chars().take(NOTE_MAX).collect::<String>().into()),
        })
    }

    /// As something that a device says until then.
    pub fn by(self, device: DeviceId, until_ms: u64) -> Statement {
        Statement {
            device,
            open: self.open,
            availability: self.availability,
            note: self.note,
            until_ms,
        }
    }
}

/// An activity (RFC 4480 §3.2) as one of our few words.
fn meaning(activity: Node<'_, '_>) -> Option<Availability> {
    if activity.tag_name().namespace() != Some(RPID) {
        return None;
    }
    match activity.tag_name().name() {
        "busy" | "on-the-phone" | "meeting" | "appointment" | "presentation" | "in-transit"
        | "performance" | "steering" | "worship" => Some(Availability::Busy),
        "away" | "breakfast" | "dinner" | "holiday" | "lunch" | "meal" | "permanent-absence"
        | "sleeping" | "travel" | "vacation" => Some(Availability::Away),
        "other" if activity.text().map(str::trim) == Some("do not disturb") => {
            Some(Availability::DoNotDisturb)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pidf(inside: &str) -> String {
        format!(
            "<presence xmlns='{PIDF}' xmlns:r='{RPID}' xmlns:dm='{DATA_MODEL}' entity='sip:a@b'>{inside}</presence>"
        )
    }

    #[test]
    fn what_phones_publish_is_understood() {
        let open = "<tuple id='1'><status><basic>open</basic></status></tuple>";
        let closed = "<tuple id='1'><status><basic>closed</basic></status></tuple>";
        let person = |inside: &str| {
            format!("<dm:person id='p'><r:activities>{inside}</r:activities></dm:person>")
        };
        for (inside, is_open, availability) in [
            (open.to_owned(), true, None),
            (closed.to_owned(), false, None),
            (format!("{closed}{open}"), true, None),
            (
                open.to_owned() + &person("<r:busy/>"),
                true,
                Some(Availability::Busy),
            ),
            (
                open.to_owned() + &person("<r:away/>"),
                true,
                Some(Availability::Away),
            ),
            (
                person("<r:busy/><r:other>do not disturb</r:other>"),
                true,
                Some(Availability::DoNotDisturb),
            ),
            (person("<r:playing/>"), true, None),
            (String::new(), true, None),
        ] {
            let published = Published::parse(&pidf(&inside)).expect("a PIDF");
            assert_eq!(published.open, is_open, "{inside}");
            assert_eq!(published.availability, availability, "{inside}");
        }
        let noted = Published::parse(&pidf("<note>back at <![CDATA[5]]></note>")).unwrap();
        assert_eq!(noted.note.as_deref(), Some("back at 5"));
    }

    #[test]
    fn bombs_and_strangers_are_refused() {
        let entities = format!(
            "<!DOCTYPE x [<!ENTITY a 'aaaa'>]>{}",
            pidf("<note>&a;</note>")
        );
        let wide = pidf(&"<x/>".repeat(3_000));
        let deep = format!("{}{}", "<x>".repeat(5_000), "</x>".repeat(5_000));
        for text in ["", "x", "<presence/>", "<presence", &entities, &wide, &deep] {
            assert_eq!(
                Published::parse(text),
                None,
                "{}",
                &text[..text.len().min(40)]
            );
        }
    }
}
