//! Certificates on disk: what is accepted, and what the errors say.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sidetone_transport::tls::{ACME_TLS, ClientTls, ServerTls};

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

fn made(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn error(chain: &Path, key: &Path) -> String {
    ServerTls::from_files(chain, key).unwrap_err().to_string()
}

#[test]
fn self_signed_is_kept_until_the_names_change() {
    let files = Files::new();
    let directory = files.path("certificates");
    let names = ["a.example".to_owned(), "192.0.2.1".to_owned()];
    let first = ServerTls::self_signed(&names, &directory).unwrap();
    assert_eq!(first.summary().names, names);
    let key = directory.join("self-signed.key");
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let before = fs::read(&key).unwrap();
    ServerTls::self_signed(&names, &directory).unwrap();
    assert_eq!(fs::read(&key).unwrap(), before);
    let other = ["b.example".to_owned()];
    assert_eq!(
        ServerTls::self_signed(&other, &directory)
            .unwrap()
            .summary()
            .names,
        other
    );
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_pair_that_does_not_fit_is_remade() {
    let files = Files::new();
    let names = ["a.example".to_owned()];
    ServerTls::self_signed(&names, files.directory.path()).unwrap();
    files.write("self-signed.key", &made("a.example").1);
    ServerTls::self_signed(&names, files.directory.path()).unwrap();
    let (chain, key) = (files.path("self-signed.crt"), files.path("self-signed.key"));
    ServerTls::from_files(&chain, &key).unwrap();
}

#[test]
fn https_offers_http_and_sip_offers_nothing() {
    let files = Files::new();
    let tls = ServerTls::self_signed(&["a.example".to_owned()], files.directory.path()).unwrap();
    assert!(tls.sip().alpn_protocols.is_empty());
    assert_eq!(
        tls.https().alpn_protocols,
        [b"h2".to_vec(), b"http/1.1".to_vec()]
    );
}

#[test]
fn errors_name_the_file_and_the_reason() {
    let files = Files::new();
    let (certificate, private) = made("a.example");
    let chain = files.write("chain.pem", &certificate);
    let key = files.write("key.pem", &private);
    assert_eq!(
        ServerTls::from_files(&chain, &key).unwrap().summary().names,
        ["a.example"]
    );

    let missing = error(&files.path("none.pem"), &key);
    assert!(
        missing.contains("none.pem") && missing.contains("No such file"),
        "{missing}"
    );
    let swapped = error(&key, &chain);
    assert!(
        swapped.contains("key.pem") && swapped.contains("no certificate"),
        "{swapped}"
    );
    let stranger = files.write("stranger.pem", &made("a.example").1);
    let text = error(&chain, &stranger);
    assert!(
        text.contains("stranger.pem") && text.contains("not the private key"),
        "{text}"
    );
    let body = private.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let text = error(&chain, &files.write("locked.pem", &body));
    assert!(
        text.contains("locked.pem") && text.contains("encrypted"),
        "{text}"
    );
    let text = error(
        &files.write("bad.pem", &certificate.replace("MII", "M!I")),
        &key,
    );
    assert!(text.contains("bad.pem"), "{text}");
}

#[test]
fn one_file_may_hold_chain_and_key() {
    let files = Files::new();
    let (certificate, private) = made("a.example");
    let both = files.write("both.pem", &format!("{private}{certificate}"));
    ServerTls::from_files(&both, &both).unwrap();
}

fn issued(name: &str) -> (String, String) {
    let issuer = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(params, issuer).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn what_an_authority_issued_is_used_at_once_and_kept() {
    let files = Files::new();
    let directory = files.directory.path();
    let names = ["a.example".to_owned()];
    let tls = ServerTls::acme(&["self.example".to_owned()], directory).unwrap();
    assert!(tls.summary().self_signed);
    let (chain, key) = issued("a.example");
    tls.install(&chain, &key, &names).unwrap();
    assert_eq!(tls.summary().names, names);
    assert!(!tls.summary().self_signed);
    let kept = files.path("acme.pem");
    let mode = fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Neither a key of something else nor a missing name takes its place.
    let before = fs::read(&kept).unwrap();
    assert!(tls.install(&chain, &made("a.example").1, &names).is_err());
    let (other, other_key) = issued("b.example");
    assert!(tls.install(&other, &other_key, &names).is_err());
    assert_eq!(fs::read(&kept).unwrap(), before);
    assert!(!files.path("acme.new").exists());
    assert_eq!(tls.summary().names, names);
    // A later start finds it; a damaged one does not keep the server from starting.
    let later = ServerTls::acme(&["self.example".to_owned()], directory).unwrap();
    assert_eq!(later.summary().names, names);
    fs::write(&kept, "nothing").unwrap();
    assert!(later.reload().is_err());
    assert_eq!(later.summary().names, names);
    let damaged = ServerTls::acme(&["self.example".to_owned()], directory).unwrap();
    assert_eq!(damaged.summary().names, ["self.example"]);
}

#[test]
fn only_https_offers_the_protocol_of_challenges_and_only_with_acme() {
    let files = Files::new();
    let names = ["a.example".to_owned()];
    let tls = ServerTls::acme(&names, files.directory.path()).unwrap();
    assert!(tls.https().alpn_protocols.contains(&ACME_TLS.to_vec()));
    assert!(tls.sip().alpn_protocols.is_empty());
    let own = ServerTls::self_signed(&names, files.directory.path()).unwrap();
    assert!(!own.https().alpn_protocols.contains(&ACME_TLS.to_vec()));
}

#[test]
fn an_extra_authority_must_be_readable() {
    let files = Files::new();
    let (certificate, private) = made("a.example");
    let without = ClientTls::new(None).unwrap().root_count();
    let with = ClientTls::new(Some(&files.write("ca.pem", &certificate))).unwrap();
    assert_eq!(with.root_count(), without + 1);
    let wrong = ClientTls::new(Some(&files.write("key.pem", &private)))
        .unwrap_err()
        .to_string();
    assert!(wrong.contains("key.pem"), "{wrong}");
}
