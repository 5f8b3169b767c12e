//! Small XML documents in message bodies.
//!
//! *Invariant*: a document is bounded before it is read, has no DTD and so no entities of its own (roxmltree refuses
//! them), and what is written is well-formed whatever the text is.

use std::fmt::Write as _;

use roxmltree::{Document, Node, ParsingOptions};

use crate::Malformed;

/// Octets of a document. Ours have a few hundred.
const DOCUMENT_BYTES_MAX: usize = 8_192;
/// Nodes of a document.
const NODES_MAX: u32 = 512;
/// Octets of a text that is kept.
const TEXT_BYTES_MAX: usize = 2_048;

/// The text of a document that is worth reading.
pub(crate) fn text(octets: &[u8]) -> Result<&str, Malformed> {
    if octets.len() > DOCUMENT_BYTES_MAX {
        return Err(Malformed("XML document of bounded size"));
    }
    std::str::from_utf8(octets).map_err(|_| Malformed("XML in UTF-8"))
}

pub(crate) fn document(text: &str) -> Result<Document<'_>, Malformed> {
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: NODES_MAX,
    };
    Document::parse_with_options(text, options).map_err(|_| Malformed("XML document"))
}

/// Whether an element has this name in this namespace. COMPAT(several): the namespace is left out altogether.
pub(crate) fn is(node: &Node<'_, '_>, namespace: &str, name: &str) -> bool {
    let tag = node.tag_name();
    node.is_element() && tag.name() == name && tag.namespace().is_none_or(|uri| uri == namespace)
}

pub(crate) fn child<'a, 'i>(
    node: &Node<'a, 'i>,
    namespace: &str,
    name: &str,
) -> Option<Node<'a, 'i>> {
    node.children().find(|child| is(child, namespace, name))
}

/// The text of a child, without the space around it.
pub(crate) fn child_text(node: &Node<'_, '_>, namespace: &str, name: &str) -> Option<String> {
    let text = child(node, namespace, name)?.text().unwrap_or_default();
    let text = text.trim();
    (text.len() <= TEXT_BYTES_MAX).then(|| text.to_owned())
}

/// Writes an element with nothing but text in it.
pub(crate) fn write_element(xml: &mut String, name: &str, text: &str) {
    let _ = write!(xml, "<{name}>");
    escape(xml, text);
    let _ = write!(xml, "</{name}>");
}

fn escape(xml: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(xml, "&#{};", u32::from(c));
            }
            // No character of XML 1.0, not even escaped.
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => xml.push('\u{fffd}'),
            c => xml.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_as_it_was() {
        let mut xml = String::new();
        write_element(&mut xml, "a", "<&>\"'\r\n\tø👍\u{1}\u{ffff}");
        let document = document(&xml).unwrap();
        let read = document.root_element().text().unwrap();
        assert_eq!(read, "<&>\"'\r\n\tø👍\u{fffd}\u{fffd}");
    }

    #[test]
    fn entities_depth_and_size_are_refused() {
        let bomb = r#"<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>"#;
        assert!(document(bomb).is_err());
        assert!(document(r#"<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>"#).is_err());
        let deep = "<a>".repeat(DOCUMENT_BYTES_MAX / 3);
        assert!(document(&deep).is_err());
        let wide = format!("<a>{}</a>", "<b/>".repeat(600));
        assert!(document(&wide).is_err());
        assert!(text(&vec![b' '; DOCUMENT_BYTES_MAX + 1]).is_err());
        assert!(text(b"<a>\xff</a>").is_err());
    }
}
