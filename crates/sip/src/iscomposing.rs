//! "Somebody is writing": `application/im-iscomposing+xml` (RFC 3994).
//!
//! *Invariant*: what is read is bounded, and a state that is not known means idle (RFC 3994 §3.4).

use crate::{Malformed, timestamp, xml};

/// The content type of an indication.
pub const CONTENT_TYPE: &str = "application/im-iscomposing+xml";
const NAMESPACE: &str = "urn:ietf:params:xml:ns:im-iscomposing";
/// RFC 3994 §3.3: without a refresh interval, somebody who is active is idle after two minutes.
const REFRESH_DEFAULT_SECONDS: u32 = 120;
/// Nobody is taken to be writing for longer than this without saying so again.
const REFRESH_MAX_SECONDS: u32 = 3_600;

/// Whether somebody is composing a message.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct IsComposing {
    /// Whether he is.
    pub active: bool,
    /// What is being composed: a content type, or its first part alone.
    pub content_type: Option<String>,
    /// When he was last active, Unix time.
    pub last_active_ms: Option<u64>,
    /// After how long he says again that he is active.
    pub refresh_seconds: Option<u32>,
}

impl IsComposing {
    /// Reads an indication.
    pub fn parse(octets: &[u8]) -> Result<Self, Malformed> {
        let document = xml::document(xml::text(octets)?)?;
        let root = document.root_element();
        if !xml::is(&root, NAMESPACE, "isComposing") {
            return Err(Malformed("isComposing element"));
        }
        let text = |name| xml::child_text(&root, NAMESPACE, name);
        let state = text("state").ok_or(Malformed("state of isComposing"))?;
        Ok(Self {
            active: state == "active",
            content_type: text("contenttype").filter(|text| !text.is_empty()),
            last_active_ms: text("lastactive").and_then(|text| timestamp::parse(&text)),
            refresh_seconds: text("refresh").and_then(|text| text.parse().ok()),
        })
    }

    /// Writes an indication.
    pub fn write(&self) -> String {
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<isComposing xmlns=\"{NAMESPACE}\">"
        );
        let state = if self.active { "active" } else { "idle" };
        xml::write_element(&mut xml, "state", state);
        if let Some(at_ms) = self.last_active_ms {
            xml::write_element(&mut xml, "lastactive", &timestamp::write(at_ms));
        }
        if let Some(content_type) = &self.content_type {
            xml::write_element(&mut xml, "contenttype", content_type);
        }
        if let Some(seconds) = self.refresh_seconds {
            xml::write_element(&mut xml, "refresh", &seconds.to_string());
        }
        xml.push_str("</isComposing>\r\n");
        xml
    }

    /// For how long the indication holds when no other one comes; nothing when it says idle.
    pub fn holds_for_seconds(&self) -> Option<u32> {
        let refresh = self.refresh_seconds.filter(|seconds| *seconds > 0);
        let seconds = refresh.unwrap_or(REFRESH_DEFAULT_SECONDS);
        self.active.then_some(seconds.min(REFRESH_MAX_SECONDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_indication_of_a_phone_is_read() {
        let body = br#"<?xml version="1.0"?>
            <c:isComposing xmlns:c="urn:ietf:params:xml:ns:im-iscomposing" xmlns:x="urn:x">
              <c:state> active </c:state>
              <c:contenttype>text/plain</c:contenttype>
              <x:mood>good</x:mood>
              <c:lastactive>2026-11-22T11:20:13Z</c:lastactive>
              <c:refresh>90</c:refresh>
            </c:isComposing>"#;
        let read = IsComposing::parse(body).unwrap();
        let expected = IsComposing {
            active: true,
            content_type: Some("text/plain".into()),
            last_active_ms: Some(1_795_346_413_000),
            refresh_seconds: Some(90),
        };
        assert_eq!(read, expected);
        assert_eq!(read.holds_for_seconds(), Some(90));
    }

    #[test]
    fn what_is_not_known_is_idle() {
        let body = b"<isComposing><state>dreaming</state><refresh>-4</refresh></isComposing>";
        let read = IsComposing::parse(body).unwrap();
        assert_eq!(read, IsComposing::default());
        assert_eq!(read.holds_for_seconds(), None);
    }

    #[test]
    fn nobody_writes_for_ever() {
        let mut active = IsComposing {
            active: true,
            ..IsComposing::default()
        };
        for (refresh, holds) in [
            (None, 120),
            (Some(0), 120),
            (Some(60), 60),
            (Some(u32::MAX), 3_600),
        ] {
            active.refresh_seconds = refresh;
            assert_eq!(active.holds_for_seconds(), Some(holds));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let full = IsComposing {
            active: true,
            content_type: Some("a<b".into()),
            last_active_ms: Some(5_000),
            refresh_seconds: Some(60),
        };
        for indication in [full, IsComposing::default()] {
            let read = IsComposing::parse(indication.write().as_bytes());
            assert_eq!(read, Ok(indication));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for body in [
            "",
            "hello",
            "<isComposing/>",
            "<other><state>active</state></other>",
            "<isComposing xmlns='urn:other'><state>active</state></isComposing>",
        ] {
            assert!(IsComposing::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
