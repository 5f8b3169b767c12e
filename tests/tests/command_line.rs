//! The command line beside a running server, and what the server answers by HTTP.

use std::time::Duration;

use serde_json::Value;
use sidetone_tests::server::{get, post};
use sidetone_tests::{Options, Phone, Server, until};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_running_server_sees_people_and_phones_at_once() {
    let server = Server::with(&["ann"]);
    server.add_user("bob");
    server.add_device("bob", "bob");
    let mut bob = Phone::udp(&server, "bob");
    let registered = until(Duration::from_secs(3), || {
        bob.forget_nonces();
        (bob.register(600).status() == Some(200)).then_some(())
    });
    assert!(registered.is_some());
    server.cli(&["user", "remove", "bob@example.test"], "");
    let mut ann = Phone::udp(&server, "ann");
    let gone = until(Duration::from_secs(3), || {
        (ann.message("bob", "still there?").status() == Some(404)).then_some(())
    });
    assert!(gone.is_some());
    bob.forget_nonces();
    assert_ne!(bob.register(600).status(), Some(200));
}

#[test]
fn revoking_a_phone_touches_no_other() {
    let server = Server::with(&["ann"]);
    server.add_device("ann", "ann-2");
    let devices = json(&server.cli(&["device", "list", "ann@example.test", "--json"], ""));
    let devices = devices.as_array().cloned().expect("a list");
    assert_eq!(devices.len(), 2, "{devices:?}");
    let second = devices
        .iter()
        .find(|d| d.to_string().contains("ann-2"))
        .expect("the phone");
    let id = second["id"].to_string();
    server.cli(&["device", "remove", id.trim_matches('"')], "");
    let mut one = Phone::udp(&server, "ann").registered();
    let mut two = Phone::udp(&server, "ann").device("ann-2");
    let refused = until(Duration::from_secs(3), || {
        two.forget_nonces();
        (two.register(600).status() != Some(200)).then_some(())
    });
    assert!(refused.is_some());
    assert_eq!(one.register(600).status(), Some(200));
}

#[test]
fn lists_and_status_are_json() {
    let server = Server::with(&["ann", "bob"]);
    let _ann = Phone::udp(&server, "ann").registered();
    let users = json(&server.cli(&["user", "list", "--json"], ""));
    assert_eq!(users.as_array().map(Vec::len), Some(2), "{users}");
    let ann = json(&server.cli(&["user", "show", "ann@example.test", "--json"], ""));
    assert!(ann.to_string().contains("ann@example.test"), "{ann}");
    let status = json(&server.cli(&["status", "--json"], ""));
    assert!(status["version"].is_string(), "{status}");
    assert!(status.to_string().contains("registrations"), "{status}");
}

#[test]
fn mistakes_are_told_in_one_line() {
    let server = Server::with(&["ann"]);
    for (arguments, code) in [
        (&["user", "add", "ann@example.test"][..], 1),
        (&["user", "show", "nobody@example.test"], 1),
        (&["user", "add", "no address at all @"], 2),
        (&["user", "frobnicate"], 2),
    ] {
        let output = server.try_cli(arguments, "");
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!errors.trim().is_empty(), "{arguments:?}");
        assert!(code == 2 || errors.trim().lines().count() == 1, "{errors}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_thousand_people_are_imported_and_can_register() {
    let server = Server::with(&["ann"]);
    let mut csv = "address,name,profile,sip_user,sip_password\n".to_owned();
    for n in 0..1000 {
        let secret = sidetone_tests::server::secret(&format!("u{n}"));
        csv.push_str(&format!("u{n}@example.test,User {n},,u{n},{secret}\n"));
    }
    let file = server.folder().write("many.csv", csv);
    server.cli(&["import", "users", &file.to_string_lossy()], "");
    let mut last = Phone::udp(&server, "u999");
    let registered = until(Duration::from_secs(5), || {
        last.forget_nonces();
        (last.register(600).status() == Some(200)).then_some(())
    });
    assert!(registered.is_some());
}

#[test]
fn health_metrics_and_the_start_page() {
    let server = Server::with(&["ann"]);
    let _ann = Phone::udp(&server, "ann").registered();
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/",
        "/api/v1/openapi.json",
    ] {
        let answer = get(server.http(), path).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let metrics = get(server.http(), "/metrics").expect("metrics");
    assert!(metrics.contains("# TYPE "), "{metrics}");
    assert!(
        metrics.contains("\nsidetone_deliveries_open 0\n"),
        "{metrics}"
    );
    server.add_user("bob");
    let mut ann = Phone::udp(&server, "ann");
    let counted = until(Duration::from_secs(3), || {
        let kept = ann.message("bob", "for later").status() == Some(202);
        let metrics = get(server.http(), "/metrics").expect("metrics");
        (kept && !metrics.contains("\nsidetone_messages_waiting 0\n")).then_some(metrics)
    });
    let metrics = counted.expect("a message that waits");
    assert!(
        metrics.contains("\nsidetone_messages_waiting "),
        "{metrics}"
    );
}

#[test]
fn a_backup_of_a_running_server_is_restored() {
    let mut server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann");
    assert!(matches!(
        ann.message("bob", "before the backup").status(),
        Some(200 | 202)
    ));
    let file = server.folder().file("backup");
    server.cli(&["backup", &file.to_string_lossy()], "");
    assert!(matches!(
        ann.message("bob", "after the backup").status(),
        Some(200 | 202)
    ));
    server.down();
    server.cli(&["restore", &file.to_string_lossy()], "");
    server.up();
    let mut bob = Phone::udp(&server, "bob").registered();
    assert_eq!(bob.texts(1), ["before the backup"]);
    bob.expect_silence("MESSAGE", Duration::from_millis(500));
}

#[test]
fn the_set_up_link_makes_an_administrator() {
    let server = Server::with(&["ann"]);
    let line = server
        .process()
        .expect_line(0, Duration::from_secs(5), "/setup?token=");
    let token = line.split("/setup?token=").nth(1).expect("a token");
    let token: String = token
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
        .collect();
    let form = get(server.http(), &format!("/setup?token={token}")).expect("the form");
    assert!(form.starts_with("HTTP/1.1 200"), "{form}");
    let answers = format!("token={token}&address=admin&password=long+enough+1&again=long+enough+1");
    let form_type = "application/x-www-form-urlencoded";
    let done = post(server.http(), "/setup", form_type, &answers).expect("an answer");
    assert!(done.starts_with("HTTP/1.1 200"), "{done}");
    let login = r#"{"address":"admin@example.test","password":"long enough 1"}"#;
    let signed = post(
        server.http(),
        "/api/v1/auth/login",
        "application/json",
        login,
    );
    assert!(
        signed.as_ref().is_some_and(|a| a.contains("access_token")),
        "{signed:?}"
    );
    let again = post(server.http(), "/setup", form_type, &answers).expect("an answer");
    assert!(again.starts_with("HTTP/1.1 403"), "it works once: {again}");
}

#[test]
fn a_reset_link_lets_a_person_choose_a_password() {
    let server = Server::with(&["ann"]);
    let link = server.cli(&["user", "reset-link", "ann@example.test"], "");
    let token = link
        .trim()
        .split("/reset?token=")
        .nth(1)
        .expect("a token")
        .to_owned();
    let answers = format!("token={token}&password=long+enough+1&again=long+enough+1");
    let form_type = "application/x-www-form-urlencoded";
    let done = post(server.http(), "/reset", form_type, &answers).expect("an answer");
    assert!(done.starts_with("HTTP/1.1 200"), "{done}");
    let login = r#"{"address":"ann@example.test","password":"long enough 1"}"#;
    let signed = post(
        server.http(),
        "/api/v1/auth/login",
        "application/json",
        login,
    );
    assert!(
        signed.as_ref().is_some_and(|a| a.contains("access_token")),
        "{signed:?}"
    );
}

/// Runs a command beside the server that is under test, without its configuration.
fn beside(arguments: &[&str], environment: &[(&str, &str)]) -> std::process::Output {
    let mut process = std::process::Command::new(sidetone_tests::server::binary())
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the command");
    let ended = until(Duration::from_secs(10), || {
        process.try_wait().ok().flatten()
    });
    if ended.is_none() {
        let _ = process.kill();
    }
    let output = process.wait_with_output().expect("an end");
    assert!(ended.is_some(), "{arguments:?} went on: {output:?}");
    output
}

#[test]
fn a_second_server_does_not_take_the_ports_of_the_first() {
    let server = Server::with(&["ann"]);
    let data = server.folder().file("other");
    let data = data.to_string_lossy();
    let own = format!("{}:0", server.ip);
    let held = server.udp().to_string();
    for (key, others) in [
        ("UDP", ["SIDETONE__SIP__TCP", "SIDETONE__SIP__TLS"]),
        ("TCP", ["SIDETONE__SIP__UDP", "SIDETONE__SIP__TLS"]),
    ] {
        let variable = format!("SIDETONE__SIP__{key}");
        let environment = [
            (variable.as_str(), held.as_str()),
            (others[0], &own),
            (others[1], &own),
            ("SIDETONE__HTTPS__LISTEN", &own),
        ];
        let output = beside(&["serve", "--data", &data], &environment);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        let line = format!(
            "sip.{}: {held}: address already in use by another program",
            key.to_lowercase()
        );
        assert!(errors.contains(&line), "{errors}");
    }
    let _ann = Phone::udp(&server, "ann").registered();
}

#[test]
fn a_data_directory_that_is_not_there_is_named_and_not_made() {
    let folder = sidetone_tests::folder::Folder::new("nothing");
    let data = folder.file("no-such-data");
    let at = data.to_string_lossy().into_owned();
    let file = folder.file("backup").to_string_lossy().into_owned();
    let said = format!("{at} holds no database: name the data directory with --data");
    for arguments in [
        &["backup", &file][..],
        &["user", "list"],
        &["user", "show", "ann"],
        &["user", "disable", "ann"],
        &["user", "remove", "ann"],
        &["user", "reset-link", "ann"],
        &["device", "list", "ann"],
        &["device", "add", "ann"],
        &["device", "remove", "1"],
        &["status"],
        &["unban", "192.0.2.1"],
    ] {
        let output = beside(&[arguments, &["--data", &at]].concat(), &[]);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(&said), "{arguments:?}: {errors}");
        assert!(!data.exists() && !folder.file("backup").exists());
    }
    let free = [
        ("SIDETONE__SIP__UDP", "127.0.0.1:0"),
        ("SIDETONE__SIP__TCP", "127.0.0.1:0"),
        ("SIDETONE__SIP__TLS", "127.0.0.1:0"),
        ("SIDETONE__HTTPS__LISTEN", "127.0.0.1:0"),
    ];
    let output = beside(&["check", "--data", &at], &free);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!data.exists(), "check writes nothing");
    beside(&["user", "add", "ann@localhost", "--data", &at], &[]);
    let names = || {
        let entries = std::fs::read_dir(&data).expect("the directory");
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let output = beside(&["check", "--data", &at], &free);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(names(), before, "check writes nothing");
}

#[test]
fn an_account_is_enabled_again_and_changed() {
    let server = Server::with(&["ann"]);
    let mut ann = Phone::udp(&server, "ann");
    server.cli(&["user", "disable", "ann"], "");
    let mut becomes = |wanted: bool| {
        until(Duration::from_secs(3), || {
            ann.forget_nonces();
            ((ann.register(600).status() == Some(200)) == wanted).then_some(())
        })
    };
    assert!(becomes(false).is_some(), "disabled");
    server.cli(&["user", "enable", "ann"], "");
    assert!(becomes(true).is_some(), "enabled");
    let set = [
        "user", "set", "ann", "--name", "Ann A.", "--role", "auditor",
    ];
    server.cli(&set, "");
    server.cli(&["user", "set", "ann", "--profile", "office"], "");
    let ann = json(&server.cli(&["user", "show", "ann", "--json"], ""));
    assert_eq!(ann["name"], "Ann A.", "{ann}");
    assert_eq!(ann["role"], "auditor", "{ann}");
    assert_eq!(ann["profile"], "office", "{ann}");
    assert_eq!(ann["disabled"], false, "{ann}");
    let nothing = server.try_cli(&["user", "set", "ann"], "");
    assert_eq!(nothing.status.code(), Some(2), "{nothing:?}");
}

#[test]
fn a_backup_does_not_go_into_the_data_directory() {
    let server = Server::with(&["ann"]);
    let data = server.folder().file("data");
    std::fs::create_dir(data.join("below")).expect("a directory");
    for inside in [data.join("backup"), data.join("below/backup")] {
        let output = server.try_cli(&["backup", &inside.to_string_lossy()], "");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("lies in the data directory"), "{errors}");
        assert!(!inside.exists());
    }
    let beside = server.folder().file("backup");
    server.cli(&["backup", &beside.to_string_lossy()], "");
}

#[test]
fn check_looks_at_the_certificate() {
    let server = Server::with(&[]);
    let said = |options: Options| {
        let other = options.start();
        let output = other.try_cli(&["check"], "");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), errors)
    };
    assert_eq!(said(Options::new()), (Some(0), String::new()));
    let (code, errors) = said(Options::new().set("domain", "elsewhere.test"));
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("warning: https.certificate"), "{errors}");
    assert!(errors.contains("is not for elsewhere.test"), "{errors}");
    let folder = server.folder();
    let mut params = rcgen::CertificateParams::new(vec!["example.test".to_owned()]).expect("names");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let expired = params.self_signed(&key).expect("a certificate");
    let mut files = toml::Table::new();
    for (name, text) in [("chain", expired.pem()), ("key", key.serialize_pem())] {
        let file = folder.write(&format!("expired-{name}.pem"), text);
        files.insert(name.to_owned(), file.to_string_lossy().into_owned().into());
    }
    let files = toml::Value::Table(files);
    let (code, errors) = said(Options::new().set("https.certificate", files));
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("warning: https.certificate"), "{errors}");
    assert!(errors.contains("has expired"), "{errors}");
}

#[test]
fn links_of_people_lead_to_one_host() {
    let advertise = vec![toml::Value::from("pbx.example.test")];
    let server = Options::new()
        .users(&["ann"])
        .set("sip.advertise", advertise)
        .start();
    let line = server
        .process()
        .expect_line(0, Duration::from_secs(5), "/setup?token=");
    let link = server.cli(&["user", "reset-link", "ann"], "");
    let host = |text: &str| text.split('/').nth(2).map(str::to_owned);
    assert_eq!(host(&line).as_deref(), Some("pbx.example.test:8443"));
    assert_eq!(host(&line), host(&link));
    let page = get(server.http(), "/").expect("the start page");
    assert!(page.contains("The web app is not part of this release"));
}

#[test]
fn a_web_password_is_long_wherever_it_is_chosen() {
    let server = Server::with(&[]);
    let add = ["user", "add", "ann", "--password-stdin"];
    let short = server.try_cli(&add, "nine char\n");
    assert_eq!(short.status.code(), Some(2), "{short:?}");
    assert!(String::from_utf8_lossy(&short.stderr).contains("ten characters"));
    server.cli(&add, "ten chars!\n");
}

#[test]
fn the_log_names_registrations_that_ended_and_no_others() {
    let server = Server::with(&["ann", "bob"]);
    let _bob = Phone::udp(&server, "bob").registered();
    let mark = server.process().mark();
    server.cli(&["user", "disable", "ann"], "");
    server.cli(&["user", "disable", "bob"], "");
    let ended = "registrations ended by a change of the directory";
    let line = server
        .process()
        .expect_line(mark, Duration::from_secs(5), ended);
    assert!(line.contains("bob@example.test"), "{line}");
    assert!(line.contains("ended=1"), "{line}");
}
