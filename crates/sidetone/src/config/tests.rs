use super::*;
use std::collections::BTreeSet;

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::read("test.toml", text, environment).map_err(|e| e.to_string())
}

fn keys_of(value: &toml::Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                keys_of(value, &path, into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

#[test]
fn the_table_holds_exactly_the_keys_of_the_structs() {
    let value = toml::Value::try_from(Config::default()).unwrap();
    let mut keys = BTreeSet::new();
    keys_of(&value, "", &mut keys);
    let described: BTreeSet<String> = KEYS
        .iter()
        .map(|k| {
            [k.section, k.name]
                .join(".")
                .trim_start_matches('.')
                .to_owned()
        })
        .collect();
    assert_eq!(keys, described);
    assert!(KEYS.len() <= 47, "{} keys are too many", KEYS.len());
}

#[test]
fn the_commented_file_is_the_defaults() {
    assert_eq!(read(&commented_file(), &[]).unwrap(), Config::default());
    assert_eq!(read("", &[]).unwrap(), Config::default());
}

#[test]
fn the_files_in_the_repository_are_generated() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (file, text) in [
        ("config/sidetone.toml", commented_file()),
        ("docs/CONFIGURATION.md", reference()),
    ] {
        let path = root.join(file);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{file} is outdated: UPDATE_GENERATED=1 cargo test -p sidetone config"
        );
    }
}

#[test]
fn the_development_file_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/dev.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let config = read(&text, &[]).unwrap();
    let mut listeners = config
        .sip
        .udp
        .iter()
        .chain(&config.sip.tcp)
        .chain(&config.sip.tls);
    assert!(listeners.all(|a| a.ip().is_loopback()));
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let error = read("[sip]\nmax_contact = 3", &[]).unwrap_err();
    assert_eq!(
        error,
        "test.toml: there is no key sip.max_contact; the nearest is sip.max_contacts"
    );
    let error = read("domian = 'x'", &[]).unwrap_err();
    assert!(error.ends_with("the nearest is domain"), "{error}");
    let error = read("[http]\nlisten = []", &[]).unwrap_err();
    assert!(
        error.contains("there is no key http;") && error.contains("https"),
        "{error}"
    );
    let error = read("udp = []", &[]).unwrap_err();
    assert!(error.ends_with("the nearest is sip.udp"), "{error}");
}

#[test]
fn a_wrong_value_names_its_line() {
    let error = read("domain = \"x\"\n[sip]\nudp = [\"nowhere\"]\n", &[]).unwrap_err();
    assert!(error.starts_with("test.toml line 3: "), "{error}");
    let error = read("domain = \n", &[]).unwrap_err();
    assert!(
        error.starts_with("test.toml line 1: ") && !error.contains('\n'),
        "{error}"
    );
    assert!(read("[limits]\nexempt = [\"10.0.0.0/33\"]", &[]).is_err());
    assert!(read("[media]\nrtp_ports = \"20-10\"", &[]).is_err());
    assert!(read("[https]\ncertificate = \"none\"", &[]).is_err());
    assert!(read("sip = 3", &[]).is_err());
}

#[test]
fn what_contradicts_itself_is_refused() {
    for text in [
        "[sip]\nmin_expires_s = 4000",
        "[sip]\nmin_expires_s = 0",
        "domain = \"not a host\"",
        "[https]\nhttp = [\"0.0.0.0:80\"]",
        "[log]\nlevel = \"loud\"",
        "[limits]\nmessage_bytes = 10",
    ] {
        assert!(read(text, &[]).is_err(), "{text}");
    }
    assert!(
        read(
            "[https]\nhttp = [\"0.0.0.0:80\"]\nhttp_anywhere = true",
            &[]
        )
        .is_ok()
    );
    assert!(read("[https]\nhttp = [\"127.0.0.1:80\"]", &[]).is_ok());
}

#[test]
fn the_environment_overrides_the_file() {
    let config = read(
        "domain = \"file.example\"\n[sip]\nshards = 1\n",
        &[
            ("SIDETONE__DOMAIN", "env.example"),
            ("SIDETONE__SIP__SHARDS", "3"),
            ("SIDETONE__SIP__UDP", "127.0.0.1:5070, [::1]:5070"),
            ("SIDETONE__SIP__TCP", "[]"),
            (
                "SIDETONE__HTTPS__CERTIFICATE",
                "{ chain = \"a\", key = \"b\" }",
            ),
            ("SIDETONE__LOG__LEVEL", "debug"),
            ("UNRELATED", "x"),
        ],
    )
    .unwrap();
    assert_eq!(config.domain, "env.example");
    assert_eq!(config.sip.shards, 3);
    assert_eq!(config.sip.udp.len(), 2);
    assert!(config.sip.tcp.is_empty());
    assert_eq!(config.log.level, "debug");
    let files = Certificate::Files {
        chain: "a".into(),
        key: "b".into(),
    };
    assert_eq!(config.https.certificate, files);
    let error = read("", &[("SIDETONE__SIP__SHARD", "3")]).unwrap_err();
    assert!(
        error.starts_with("SIDETONE__SIP__SHARD: ") && error.contains("sip.shards"),
        "{error}"
    );
    assert!(read("", &[("SIDETONE__SIP__SHARDS", "many")]).is_err());
}

#[test]
fn several_domains_take_the_place_of_the_one() {
    let config = read("domains = [\"A.example\", \"b.example\"]", &[]).unwrap();
    assert_eq!(config.all_domains(), ["a.example", "b.example"]);
    assert_eq!(config.first_domain(), "a.example");
    assert_eq!(Config::default().all_domains(), ["localhost"]);
}

#[test]
fn a_network_holds_its_addresses() {
    let holds = |net: &str, a: &str| {
        let network: Network = net.parse().unwrap();
        network.contains(a.parse().unwrap())
    };
    assert!(holds("10.1.0.0/16", "10.1.255.255"));
    assert!(!holds("10.1.0.0/16", "10.2.0.0"));
    assert!(holds("0.0.0.0/0", "203.0.113.9"));
    assert!(holds("192.0.2.1", "192.0.2.1") && !holds("192.0.2.1", "192.0.2.2"));
    assert!(holds("192.0.2.0/24", "::ffff:192.0.2.7"));
    assert!(holds("2001:db8::/32", "2001:db8:1::1") && !holds("2001:db8::/32", "2001:db9::1"));
    assert!(holds("::/0", "::1") && !holds("::/0", "10.0.0.1"));
}

#[test]
fn an_address_belongs_to_one_listener() {
    let error = |text: &str| read(text, &[]).unwrap_err();
    let twice = error("[sip]\nudp = [\"127.0.0.1:5060\", \"127.0.0.1:5060\"]");
    assert_eq!(twice, "sip.udp: 127.0.0.1:5060 is given twice");
    let shared = error("[sip]\ntls = [\"0.0.0.0:5060\"]");
    assert_eq!(shared, "sip.tls: 0.0.0.0:5060 is given to sip.tcp already");
    let web = error("[https]\nlisten = [\"0.0.0.0:5061\"]");
    assert!(web.contains("sip.tls"), "{web}");
    let several =
        "[sip]\nudp = [\"127.0.0.1:5060\", \"[::1]:5060\", \"127.0.0.1:0\", \"127.0.0.1:0\"]";
    assert!(read(several, &[]).is_ok());
}

#[test]
fn what_cannot_work_is_refused() {
    for (text, part) in [
        ("[sip]\nnonce_lifetime_s = 0", "sip.nonce_lifetime_s"),
        ("[limits]\nconnections = 0", "limits.connections"),
        (
            "[sip]\nudp = []\ntcp = []\ntls = []\n[https]\nlisten = []",
            "no listener",
        ),
        (
            "domain = \"a.test\"\ndomains = [\"a.test\", \"b.test\"]",
            "both given",
        ),
        ("[media]\naddresses = [\"my.host\"]", "media.addresses"),
        ("[media]\naddresses = [\"0.0.0.0\"]", "media.addresses"),
        (
            "[media]\naddresses = [\"auto=203.0.113.7\"]",
            "media.addresses",
        ),
        ("[sip]\nadvertise = [\"203.0.113.300\"]", "sip.advertise"),
        (
            "[sip]\nadvertise = [\"sip.example.org:5060\"]",
            "sip.advertise",
        ),
        ("[sip]\nadvertise = [\"host=203.0.113.7\"]", "sip.advertise"),
        (
            "[https]\norigins = [\"intranet.example.org\"]",
            "https.origins",
        ),
        (
            "[https]\norigins = [\"https://a.test/page\"]",
            "https.origins",
        ),
        ("[https]\norigins = [\"https://a.test:0\"]", "https.origins"),
    ] {
        let error = read(text, &[]).unwrap_err();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
    for text in [
        "domains = [\"a.test\", \"b.test\"]",
        "[media]\naddresses = [\"auto\", \"192.0.2.1\", \"10.0.0.5=203.0.113.7\", \"2001:db8::1\"]",
        "[sip]\nadvertise = [\"sip.example.org\", \"10.0.0.5=sip.example.org\", \"2001:db8::1\"]",
        "[https]\norigins = [\"https://a.test\", \"http://[::1]:8080\", \"https://a.test:8443/\"]",
        "[sip]\nudp = []\ntcp = []\ntls = []",
    ] {
        assert!(read(text, &[]).is_ok(), "{text}: {:?}", read(text, &[]));
    }
}
