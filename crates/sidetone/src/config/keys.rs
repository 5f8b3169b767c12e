//! Every key once: its place, its default as TOML, and what it means.
//!
//! *Invariant*: `config/sidetone.toml` and `docs/CONFIGURATION.md` are this table; tests
//! compare them with it, and the table with the structs.

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// The section, empty at the top.
    pub section: &'static str,
    pub name: &'static str,
    /// The default as TOML.
    pub default: &'static str,
    /// What it means, in a sentence or two.
    pub meaning: &'static str,
}

pub(super) const SECTIONS: &[&str] = &[
    "sip", "https", "acme", "media", "store", "files", "limits", "log", "cluster",
];

const fn key(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        section,
        name,
        default,
        meaning,
    }
}

/// In the order of the file.
pub(crate) const KEYS: &[Key] = &[
    key(
        "",
        "domain",
        "\"localhost\"",
        "The SIP realm and the right-hand side of addresses.",
    ),
    key(
        "",
        "domains",
        "[]",
        "Several domains, in place of the one above; the first is the one that bare names belong to.",
    ),
    key(
        "",
        "data",
        "\"data\"",
        "The directory of database, certificates and keys. `--data` overrides it.",
    ),
    key(
        "sip",
        "udp",
        "[\"0.0.0.0:5060\"]",
        "Where SIP over UDP is heard. `[]`: nowhere.",
    ),
    key(
        "sip",
        "tcp",
        "[\"0.0.0.0:5060\"]",
        "Where SIP over TCP is heard.",
    ),
    key(
        "sip",
        "tls",
        "[\"0.0.0.0:5061\"]",
        "Where SIP over TLS is heard, with the certificate of `https.certificate`.",
    ),
    key(
        "sip",
        "routing",
        "\"anchor\"",
        "\"anchor\": calls become legs of a conversation; \"proxy\": RFC 3261 §16, no media. Until calls can be anchored, both proxy.",
    ),
    key(
        "sip",
        "shards",
        "0",
        "Threads that handle SIP. 0: chosen from the cores.",
    ),
    key(
        "sip",
        "trusted",
        "[]",
        "Networks whose requests are accepted without a challenge, such as a trunk's: [\"192.0.2.0/24\"].",
    ),
    key(
        "sip",
        "strangers",
        "\"challenge\"",
        "Requests for local users from other domains without credentials: \"challenge\" or \"accept\".",
    ),
    key(
        "sip",
        "advertise",
        "[]",
        "Host names or addresses that we are reached by, for Via and Record-Route: [\"sip.example.org\"], or \"10.0.0.5=203.0.113.7\" to name the second for the first. `[]`: the listener's own address.",
    ),
    key(
        "sip",
        "min_expires_s",
        "60",
        "The shortest registration; a shorter wish is answered 423.",
    ),
    key(
        "sip",
        "max_expires_s",
        "3600",
        "The longest registration; a longer wish is shortened.",
    ),
    key(
        "sip",
        "max_contacts",
        "10",
        "Contacts that one address may have at once.",
    ),
    key(
        "sip",
        "nonce_lifetime_s",
        "300",
        "How long a digest nonce is good.",
    ),
    key(
        "https",
        "listen",
        "[\"0.0.0.0:8443\"]",
        "Portal, API, and SIP over WebSocket at /sip.",
    ),
    key(
        "https",
        "http",
        "[]",
        "Plain HTTP: loopback addresses only, unless the next key says otherwise.",
    ),
    key(
        "https",
        "http_anywhere",
        "false",
        "Allow plain HTTP on other addresses, behind a proxy that does the TLS.",
    ),
    key(
        "https",
        "metrics_anywhere",
        "false",
        "Answer /metrics to others than this machine.",
    ),
    key(
        "https",
        "origins",
        "[]",
        "Further web origins whose pages may open /sip: [\"https://intranet.example.org\"].",
    ),
    key(
        "https",
        "certificate",
        "\"self-signed\"",
        "\"self-signed\", \"acme\", or { chain = \"FILE\", key = \"FILE\" }.",
    ),
    key(
        "acme",
        "directory",
        "\"https://acme-v02.api.letsencrypt.org/directory\"",
        "The authority that certificates are ordered from, with `https.certificate = \"acme\"`. It checks each domain by TLS-ALPN-01: port 443 of every domain has to reach one of `https.listen`.",
    ),
    key(
        "acme",
        "contact",
        "[]",
        "Where the authority may write to: [\"mailto:admin@example.org\"].",
    ),
    key(
        "acme",
        "terms_agreed",
        "false",
        "You agree to the authority's terms of service. Nothing is ordered before.",
    ),
    key(
        "acme",
        "root",
        "\"\"",
        "A PEM file with the root that a private authority's own HTTPS is trusted by, beside the system's.",
    ),
    key(
        "media",
        "addresses",
        "[\"auto\"]",
        "Addresses put into SDP; \"10.0.0.5=203.0.113.7\" advertises the second for the first.",
    ),
    key(
        "media",
        "rtp_ports",
        "\"10000-19999\"",
        "Ports for the media of phones.",
    ),
    key(
        "media",
        "webrtc_port",
        "8443",
        "One UDP and TCP port for the media of every browser.",
    ),
    key(
        "store",
        "url",
        "\"sqlite\"",
        "\"sqlite\": sidetone.db in the data directory; \"sqlite:FILE\": another file.",
    ),
    key(
        "store",
        "queue",
        "16384",
        "Writes that may wait for the disk; beyond, MESSAGE is answered 503.",
    ),
    key(
        "files",
        "max_bytes",
        "104857600",
        "The largest file that can be uploaded; a larger one is answered 413.",
    ),
    key(
        "files",
        "account_bytes",
        "10737418240",
        "All that one account can have uploaded.",
    ),
    key(
        "files",
        "link_s",
        "604800",
        "How long a link to a file is good that a SIP phone is sent. It needs no password.",
    ),
    key(
        "limits",
        "exempt",
        "[]",
        "Networks that rate limits and bans do not count (monitoring, load tests).",
    ),
    key(
        "limits",
        "requests_per_second",
        "200",
        "Requests from one source address, by SIP and by the API each; five times as many at once.",
    ),
    key(
        "limits",
        "account_requests_per_second",
        "100",
        "Requests of one account, by SIP and by the API each; five times as many at once.",
    ),
    key(
        "limits",
        "failures_before_ban",
        "10",
        "Wrong passwords from one source before it is banned.",
    ),
    key(
        "limits",
        "ban_s",
        "600",
        "How long a ban lasts. `sidetone unban ADDRESS` ends it.",
    ),
    key(
        "limits",
        "connections",
        "20000",
        "Open connections (TCP, TLS, WebSocket) in all.",
    ),
    key(
        "limits",
        "connections_per_source",
        "1000",
        "Open connections of one source address.",
    ),
    key(
        "limits",
        "sessions_per_account",
        "50",
        "Open WebSockets of the API of one account.",
    ),
    key(
        "limits",
        "message_bytes",
        "81920",
        "The largest SIP message; a larger one is answered 513. UDP holds 65,507 bytes at most.",
    ),
    key(
        "limits",
        "headers",
        "128",
        "The most header fields in a message.",
    ),
    key("limits", "via", "70", "The most Via values in a message."),
    key(
        "log",
        "level",
        "\"info\"",
        "error, warn, info, debug or trace, of our own parts; libraries stay at info unless named: \"info,hyper=debug\".",
    ),
    key("log", "format", "\"text\"", "\"text\" or \"json\"."),
    key(
        "cluster",
        "node",
        "\"one\"",
        "This node's name among those of a cluster.",
    ),
];

/// `config/sidetone.toml`.
pub(crate) fn commented_file() -> String {
    let mut text = String::from(
        "# Every key of Sidetone with its default. Leave out what you do not change.\n\
         # SIDETONE__SECTION__KEY in the environment overrides a key: SIDETONE__SIP__SHARDS=2.\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push('\n');
        for line in wrap(key.meaning, 94) {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("{} = {}\n", key.name, key.default));
    }
    text
}

/// `docs/CONFIGURATION.md`.
pub(crate) fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         One TOML file, given with `--config`; without it every key has its default. \
         `SIDETONE__SECTION__KEY` in the environment overrides a key (lists: `a,b`). \
         An unknown key is an error. `config/sidetone.toml` is this page as a file; both are \
         generated from `crates/sidetone/src/config/keys.rs` by \
         `UPDATE_GENERATED=1 cargo test -p sidetone config`.\n",
    );
    let mut section = None;
    for key in KEYS {
        if section != Some(key.section) {
            section = Some(key.section);
            let title = match key.section {
                "" => "Top".to_owned(),
                name => format!("`[{name}]`"),
            };
            text.push_str(&format!(
                "\n## {title}\n\n| key | default | meaning |\n|---|---|---|\n"
            ));
        }
        let meaning = key.meaning.replace('|', "\\|");
        text.push_str(&format!(
            "| `{}` | `{}` | {meaning} |\n",
            key.name, key.default
        ));
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let full = lines
            .last()
            .is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
