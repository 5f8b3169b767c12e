//! Certificates from an ACME authority: the first, the next, and none.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use sidetone_tests::acme::{Acme, nowhere, presented};
use sidetone_tests::folder::Folder;
use sidetone_tests::server::DOMAIN;
use sidetone_tests::{Options, Server};

const SOON: Duration = Duration::from_secs(20);

fn options(acme: &Acme) -> Options {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    Options::new()
        .set("https.certificate", "acme")
        .set("acme.directory", acme.directory.as_str())
        .set("acme.root", path(&acme.root))
        .set("acme.terms_agreed", true)
        .set("acme.contact", vec![format!("mailto:ann@{DOMAIN}")])
}

/// The server is up before the authority knows where it is.
fn start(acme: &Acme, options: Options) -> Server {
    let server = options.start();
    acme.behave(|manner| manner.looks_at = Some(server.https()));
    server
}

/// Waits for the log's line of a certificate that came after this mark.
fn issued(server: &Server, mark: usize) {
    let process = server.process();
    process.expect_line(mark, SOON, "a certificate was issued");
}

/// What a client sees by HTTPS that trusts the authority; `None` if it does not like it.
fn seen(server: &Server, acme: &Acme) -> Option<Vec<u8>> {
    presented(server.https(), &acme.issuer, DOMAIN).ok()
}

fn days_left(server: &Server) -> i64 {
    let status: serde_json::Value =
        serde_json::from_str(&server.cli(&["status", "--json"], "")).expect("JSON");
    status["certificate"]["days_left"]
        .as_i64()
        .expect("a number")
}

#[test]
fn a_certificate_is_ordered_and_kept() {
    let folder = Folder::new("acme");
    let acme = Acme::start(&folder);
    let mut server = start(&acme, options(&acme));
    issued(&server, 0);
    let certificate = seen(&server, &acme).expect("a certificate");
    // SIP by TLS shows the same.
    let sip = presented(server.tls(), &acme.issuer, DOMAIN).expect("the name is proven");
    assert_eq!(sip, certificate);
    assert_eq!(days_left(&server), 90);
    for name in ["acme.pem", "acme-account.json"] {
        let file = server.folder().file("data/tls").join(name);
        let mode = file.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let (issued, orders) = (acme.issued(), acme.orders());
    server.down();
    server.up();
    assert_eq!(seen(&server, &acme), Some(certificate));
    assert_eq!((acme.issued(), acme.orders()), (issued, orders));
    assert_eq!((issued, acme.accounts()), (1, 1));
}

#[test]
fn a_certificate_is_renewed_while_the_server_runs() {
    let folder = Folder::new("acme");
    let acme = Acme::start(&folder);
    acme.behave(|manner| manner.lifetime = Duration::from_secs(30));
    let server = start(&acme, options(&acme));
    issued(&server, 0);
    let first = seen(&server, &acme).expect("a certificate");
    let (began, mark) = (Instant::now(), server.process().mark());
    acme.behave(|manner| manner.lifetime = Duration::from_secs(86_400));
    server
        .process()
        .expect_line(mark, Duration::from_secs(40), "a certificate was issued");
    assert_ne!(seen(&server, &acme).expect("a certificate"), first);
    // Two thirds of its life had to pass, less the second that its times are rounded to.
    let waited = began.elapsed();
    assert!(waited > Duration::from_secs(15), "{waited:?}");
    assert_eq!((acme.issued(), acme.accounts()), (2, 1));
}

#[test]
fn an_authority_that_fails_leaves_the_certificate_in_use() {
    let folder = Folder::new("acme");
    let acme = Acme::start(&folder);
    acme.behave(|manner| manner.lifetime = Duration::from_secs(60));
    let mut server = start(&acme, options(&acme));
    issued(&server, 0);
    let first = seen(&server, &acme).expect("a certificate");
    server.down();
    acme.behave(|manner| manner.refuses = true);
    // Another name is needed: the certificate in use is not good enough.
    let file = server.folder().file("sidetone.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.retain(|line| !line.starts_with("domain ="));
    lines.insert(0, format!("domains = [\"{DOMAIN}\", \"second.test\"]"));
    std::fs::write(&file, lines.join("\n")).expect("a file");
    server.up();
    let line = server
        .process()
        .expect_line(0, SOON, "no certificate was issued");
    assert!(
        line.contains("rateLimited") && line.contains("WARN"),
        "{line}"
    );
    assert!(line.contains("retry_in_s=5"), "{line}");
    assert_eq!(seen(&server, &acme), Some(first));
    // It tries again by itself.
    acme.behave(|manner| manner.refuses = false);
    issued(&server, 0);
    presented(server.https(), &acme.issuer, "second.test").expect("a certificate for both");
    assert!(seen(&server, &acme).is_some());
}

#[test]
fn a_name_that_does_not_lead_here_is_not_certified_and_the_log_says_so() {
    let folder = Folder::new("acme");
    let acme = Acme::start(&folder);
    acme.behave(|manner| manner.looks_at = Some(nowhere()));
    let server = options(&acme).start();
    let line = server
        .process()
        .expect_line(0, SOON, "no certificate was issued");
    assert!(
        line.contains("127.0.0.1:1") && line.contains(DOMAIN),
        "{line}"
    );
    assert_eq!(acme.issued(), 0);
    assert!(seen(&server, &acme).is_none());
}

#[test]
fn an_authority_that_cannot_prove_itself_is_told_nothing() {
    let folder = Folder::new("acme");
    let acme = Acme::start(&folder);
    let server = options(&acme).set("acme.root", "").start();
    let line = server
        .process()
        .expect_line(0, SOON, "no certificate was issued");
    assert!(line.contains("invalid peer certificate"), "{line}");
    assert_eq!((acme.accounts(), acme.orders()), (0, 0));
}

#[test]
fn check_and_start_say_what_is_missing() {
    let mut server = Server::with(&[]);
    server.down();
    let file = server.folder().file("sidetone.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let at = text.find("[https.certificate]").expect("the section");
    let end = text[at + 1..]
        .find("\n[")
        .map_or(text.len(), |n| at + 1 + n);
    let without = format!("{}{}", &text[..at], &text[end..]);
    let with = without.replace("[https]\n", "[https]\ncertificate = \"acme\"\n");
    std::fs::write(&file, with).expect("a file");
    for command in ["check", "serve"] {
        let output = server.try_cli(&[command], "");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {error}");
        assert!(error.contains("acme.terms_agreed:"), "{command}: {error}");
    }
}
