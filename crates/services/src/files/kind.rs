//! What a content is, by its first octets, and how it may be shown.
//!
//! *Invariant*: a file is what its content is, never what its name or somebody says; only what is known to run nothing is
//! shown in a browser, and all else is saved.

use sidetone_model::FileKind;

/// So much of a content says what it is.
pub(super) const HEAD: usize = 8 * 1024;

const UNKNOWN: &str = "application/octet-stream";
/// A text that no browser reads as anything else, because it is told so and to save it.
const TEXT: &str = "text/plain";
/// A picture that is a page.
const DRAWING: &str = "image/svg+xml";

/// Names of one type that are in use side by side.
const SAME: &[(&str, &str)] = &[
    ("audio/m4a", "audio/mp4"),
    ("audio/x-wav", "audio/wav"),
    ("audio/x-flac", "audio/flac"),
    ("video/x-m4v", "video/mp4"),
];

/// What browsers draw or play, and nothing in it runs. Not SVG: that is a page.
const SHOWN: &[&str] = &[
    "audio/aac",
    "audio/flac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "audio/webm",
    "image/avif",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "video/mp4",
    "video/ogg",
    "video/webm",
];

/// What a content that begins like this is.
pub(super) fn of(head: &[u8]) -> &'static str {
    if let Some(known) = infer::get(head) {
        let name = known.mime_type();
        let same = SAME.iter().find(|(other, _)| *other == name);
        return same.map_or(name, |(_, usual)| usual);
    }
    match is_text(head) {
        true if names(head, b"<svg") => DRAWING,
        true if names(head, b"<html") || names(head, b"<script") => "text/html",
        true => TEXT,
        false => UNKNOWN,
    }
}

/// Whether what was declared to be seen or heard is something else. Types that programs confuse (JPEG for PNG, the sound in
/// a container of videos) are no lie, and what nobody knows by its beginning proves none.
pub(super) fn lies(declared: &str, is: &str) -> bool {
    let declared = declared.split(';').next().unwrap_or_default().trim();
    let declared = declared.to_ascii_lowercase();
    let sense = |name: &str| match name.split('/').next() {
        Some("image") => Some("seen"),
        Some("audio" | "video") => Some("played"),
        _ => None,
    };
    match sense(&declared) {
        None => false,
        Some(_) if is == UNKNOWN => false,
        Some(_) if declared == DRAWING => !matches!(is, DRAWING | "text/xml"),
        Some("played") => sense(is) != Some("played") && is != "application/ogg",
        Some(_) => is == DRAWING || sense(is) != Some("seen"),
    }
}

/// Whether a browser may show it in its place.
pub fn is_shown(content_type: &str) -> bool {
    SHOWN.contains(&content_type)
}

/// What it is to those who see it in a conversation.
pub(super) fn kind(content_type: &str) -> FileKind {
    match content_type.split('/').next() {
        Some("image") if is_shown(content_type) => FileKind::Picture,
        Some("audio") => FileKind::Sound,
        Some("video") => FileKind::Video,
        _ => FileKind::File,
    }
}

/// UTF-8 without control signs other than those of lines; the last sign may be cut off.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            let whole = head.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(whole).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let plain = |sign: char| !sign.is_control() || matches!(sign, '\t' | '\n' | '\r' | '\u{c}');
    !text.is_empty() && text.chars().all(plain)
}

fn names(head: &[u8], tag: &[u8]) -> bool {
    head.windows(tag.len())
        .any(|window| window.eq_ignore_ascii_case(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_what_it_begins_with() {
        for (head, is) in [
            (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], "image/png"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "image/jpeg"),
            (b"GIF89a\x01\0\x01\0", "image/gif"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
            (b"OggS\0\x02", "audio/ogg"),
            (b"%PDF-1.7\n", "application/pdf"),
            (b"PK\x03\x04\x14\0", "application/zip"),
            (b"<!DOCTYPE html><p>", "text/html"),
            (b"  <ScRiPt>alert(1)</script>", "text/html"),
            (b"a text first <HTML><script>", "text/html"),
            (b"<?xml version=\"1.0\"?><svg xmlns=\"\">", "text/xml"),
            (
                b"<svg xmlns=\"http://www.w3.org/2000/svg\">",
                "image/svg+xml",
            ),
            ("hei på deg, 你好\n".as_bytes(), "text/plain"),
            (&"å".as_bytes()[..1], UNKNOWN),
            (b"\0\x01\x02", UNKNOWN),
            (b"", UNKNOWN),
        ] {
            assert_eq!(of(head), is, "{:?}", String::from_utf8_lossy(head));
        }
        let mut webm = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm".to_vec();
        webm.resize(300, 0);
        assert_eq!(of(&webm), "video/webm");
    }

    #[test]
    fn a_lie_is_what_is_declared_to_be_seen_or_heard_and_is_not() {
        for (declared, is) in [
            ("image/png", "text/html"),
            ("IMAGE/PNG; name=x", "application/zip"),
            ("image/png", DRAWING),
            ("image/jpeg", "video/mp4"),
            (DRAWING, "text/html"),
            ("audio/ogg", "image/png"),
            ("video/mp4", "text/plain"),
        ] {
            assert!(lies(declared, is), "{declared} {is}");
        }
        for (declared, is) in [
            ("image/png", "image/jpeg"),
            ("image/x-raw", UNKNOWN),
            (DRAWING, "text/xml"),
            ("audio/webm", "video/webm"),
            ("video/ogg", "application/ogg"),
            ("text/plain", "image/png"),
            ("application/octet-stream", "text/html"),
            ("", "text/html"),
        ] {
            assert!(!lies(declared, is), "{declared} {is}");
        }
    }

    #[test]
    fn what_may_run_is_never_shown() {
        for active in [
            "text/html",
            "image/svg+xml",
            "text/xml",
            "application/pdf",
            "text/plain",
            UNKNOWN,
        ] {
            assert!(!is_shown(active), "{active}");
        }
        assert!(is_shown("image/png"));
        assert_eq!(kind("image/png"), FileKind::Picture);
        assert_eq!(kind("image/svg+xml"), FileKind::File);
        assert_eq!(kind("audio/ogg"), FileKind::Sound);
        assert_eq!(kind("video/webm"), FileKind::Video);
        assert_eq!(kind("application/zip"), FileKind::File);
    }

    #[test]
    fn no_head_is_too_odd() {
        let seeds: [&[u8]; 4] = [
            b"\x89PNG\r\n\x1a\n",
            b"RIFF\0\0\0\0WEBPVP8 ",
            b"<svg",
            b"\0\0\0\x18ftypmp42",
        ];
        let mut state = 7_u32;
        for round in 0..20_000_usize {
            let mut head = seeds[round % seeds.len()].to_vec();
            for _ in 0..4 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let [a, b, ..] = state.to_be_bytes();
                let at = usize::from(a) % (head.len() + 1);
                match b % 3 {
                    0 => head.insert(at, b),
                    1 => head.truncate(at),
                    _ => head
                        .iter_mut()
                        .skip(at)
                        .take(1)
                        .for_each(|octet| *octet = b),
                }
            }
            let found = of(&head);
            assert!(found.contains('/') && found.is_ascii(), "{head:?}");
        }
    }
}
