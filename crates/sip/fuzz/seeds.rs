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
        "cpim" => bodies(&CPIM),
        "imdn" => bodies(&IMDN),
        "iscomposing" => bodies(&IS_COMPOSING),
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

fn bodies(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const CPIM: [&str; 4] = [
    "From: \"Ann \\\"A\\\"\" <sip:ann@example.net>\r\nTo: Bo <sip:bo@example.net>\r\ncc: <sip:c@example.net>\r\nDateTime: 2026-11-22T12:20:13.5+01:00\r\nSubject:;lang=no Te\\u0020n\u{e5}\r\nNS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 7f3a\r\nimdn.Disposition-Notification: positive-delivery, display\r\n\r\nContent-Type: text/plain;\r\n charset=utf-8\r\nContent-Length: 5\r\n\r\nhello",
    "From: <sip:a@b>\nNS: <urn:example:x>\nWind:;a=\"b c\";d=e north\nNS: y <urn:example:y>\ny.Z: \\ud83d\\udc4d\nRequire: y.Z,Wind\n\n\n\0\u{ff}",
    "To: sip:bo@example.net\r\nx.Y: 1\r\n\r\nContent-Type: message/imdn+xml\r\nContent-Disposition: notification\r\n\r\n<imdn/>",
    "A: \\n\r\n\r\n\r\n",
];

const IMDN: [&str; 3] = [
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">\r\n<message-id>7f3a</message-id>\r\n<datetime>2026-11-22T11:20:13Z</datetime>\r\n<recipient-uri>sip:bo@example.net</recipient-uri>\r\n<delivery-notification><status><delivered/></status></delivery-notification>\r\n</imdn>",
    "<i:imdn xmlns:i=\"urn:ietf:params:xml:ns:imdn\"><i:message-id>a&amp;b&#13;</i:message-id><i:datetime/><i:subject><![CDATA[<x>]]>&#x1F44D;</i:subject><!-- c --><i:display-notification><i:status><i:displayed/></i:status></i:display-notification></i:imdn>",
    "<imdn><message-id>1</message-id><processing-notification><status><stored/></status></processing-notification></imdn>",
];

const IS_COMPOSING: [&str; 4] = [
    "<?xml version=\"1.0\"?><isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\"><state>active</state><contenttype>text/plain</contenttype><lastactive>2026-11-22T11:20:13Z</lastactive><refresh>90</refresh></isComposing>",
    "<c:isComposing xmlns:c=\"urn:ietf:params:xml:ns:im-iscomposing\" xmlns:x=\"urn:x\"><c:state> idle </c:state><x:a b=\"&lt;\"/></c:isComposing>",
    "2026-11-22T12:20:13.987654321+01:00",
    "1970-01-01t00:00:00z",
];
