//! Where mutations start: the corpus of torture messages, and its parts for the parsers of parts.

use std::path::Path;

use sidetone_sip::{FlowToken, NonceKey, TokenKey};

/// Seeds for a parser. The corpus stands in `tests/corpus` of the crate.
pub(crate) fn seeds(crate_root: &Path, target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(crate_root.join("tests/corpus"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sip"))
        .collect();
    files.sort();
    let messages: Vec<Vec<u8>> = files
        .iter()
        .filter_map(|path| std::fs::read(path).ok())
        .filter(|octets| octets.len() < 8_192)
        .collect();
    match target {
        "message" | "edit" | "framer" => messages,
        "uri" => texts(&messages, uris),
        "name_addr" => texts(&messages, |line| header(line, &["to", "f", "from", "contact", "m", "route"])),
        "via" => texts(&messages, |line| header(line, &["via", "v"])),
        "params" => texts(&messages, |line| line.split_once(';').map(|(_, rest)| format!(";{rest}"))),
        "credentials" => vec![
            br#"Digest username="ann", realm="pbx.example", nonce="n0", uri="sip:pbx.example", response="00112233445566778899aabbccddeeff", algorithm=MD5, qop=auth, nc=00000001, cnonce="c\"0""#.to_vec(),
            br#"Digest username*=UTF-8''J%C3%A4s, realm="x", nonce="n", uri="sip:x", response="ab", algorithm=SHA-256, qop=auth-int, nc=0000000f, cnonce="c", opaque="o", userhash=true"#.to_vec(),
            b"Basic YTpi".to_vec(),
            b"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>".to_vec(),
        ],
        "stun" => vec![
            b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl".to_vec(),
            b"\x00\x01\x00\x0c\x21\x12\xa4\x42abcdefghijkl\x80\x22\x00\x05hello\x00\x00\x00".to_vec(),
        ],
        "token" => tokens(),
        _ => vec![Vec::new()],
    }
}

/// Made with the keys of the check, so that what is not mutated opens.
fn tokens() -> Vec<Vec<u8>> {
    let key = TokenKey::new([1; 32]);
    let flow = FlowToken {
        transport: 2,
        listener: 1,
        connection: 77,
        remote: ([192, 0, 2, 1], 5_060).into(),
    };
    let gruu = key.temp_gruu("ann", "urn:uuid:1", "call", 1);
    let texts = [
        key.flow_token(b"call", &flow),
        key.dialog_token(b"call", "tag", flow.remote.ip()),
        gruu.unwrap_or_default(),
        NonceKey::new([1; 32]).issue(1_000_000, 5),
    ];
    texts.map(String::into_bytes).to_vec()
}

fn texts(messages: &[Vec<u8>], part: impl Fn(&str) -> Option<String>) -> Vec<Vec<u8>> {
    let heads = messages
        .iter()
        .map(|octets| String::from_utf8_lossy(octets).replace("\r\n ", " "));
    heads
        .flat_map(|head| {
            head.lines()
                .filter_map(&part)
                .map(String::into_bytes)
                .collect::<Vec<_>>()
        })
        .collect()
}

fn uris(line: &str) -> Option<String> {
    let start = line.find("sip:").or_else(|| line.find("tel:"))?;
    Some(
        line[start..]
            .split(['>', ' '])
            .next()
            .unwrap_or("")
            .to_owned(),
    )
}

fn header(line: &str, names: &[&str]) -> Option<String> {
    let (name, value) = line.split_once(':')?;
    names
        .contains(&name.trim().to_ascii_lowercase().as_str())
        .then(|| value.trim().to_owned())
}
