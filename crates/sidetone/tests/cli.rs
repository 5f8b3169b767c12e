//! The command line, as an administrator calls it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Bench {
    directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
        command.args(arguments).args(["--data", &self.path("data")]);
        command.current_dir(self.directory.path());
        command
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Standard output of a command that must succeed.
    fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, "")
    }

    fn ok_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        assert_eq!(error, "", "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// The one line that a failing command says.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments, "");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
        assert!(error.starts_with("sidetone: "), "{error}");
        error
    }

    /// A server on ports of its own.
    fn serve(&self) -> Server {
        let config = self.path("server.toml");
        let text = "[sip]\nudp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\n\
                    tls = [\"127.0.0.1:0\"]\n[https]\nlisten = [\"127.0.0.1:0\"]\n";
        std::fs::write(&config, text).unwrap();
        let mut command = self.command(&["serve", "--config", &config]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server(command.spawn().unwrap());
        let start = Instant::now();
        while !self.run(&["status"], "").status.success() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "the server does not answer"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

struct Server(Child);

impl Server {
    fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Adds two people with their phones; gives the second phone of the first.
fn add_two_people(b: &Bench) -> Value {
    let out = b.ok(&[
        "user",
        "add",
        "alice",
        "--name",
        "Alice A",
        "--extension",
        "1001",
    ]);
    assert!(out.starts_with("added alice@localhost\n"), "{out}");
    assert!(out.contains(":8443/reset?token="), "{out}");
    let out = b.ok_with(
        &[
            "user",
            "add",
            "bob@LOCALHOST",
            "--role",
            "admin",
            "--password-stdin",
        ],
        "correct horse\n",
    );
    assert_eq!(out, "added bob@localhost\n");

    let out = b.ok(&["device", "add", "alice", "--label", "desk"]);
    assert!(
        out.contains("user      alice\n") && out.contains("(shown only now)"),
        "{out}"
    );
    assert!(
        out.contains("domain    localhost\n") && out.contains(":5060 (udp)"),
        "{out}"
    );
    let second = b.json(&["device", "add", "1001", "--json"]);
    assert_eq!(second["sip_user"], "alice-2");
    assert_eq!(second["sip_password"].as_str().unwrap().len(), 20);
    let own = [
        "device",
        "add",
        "bob",
        "--sip-user",
        "b",
        "--sip-password-stdin",
        "--json",
    ];
    let own: Value = serde_json::from_str(&b.ok_with(&own, "secret\r\n")).unwrap();
    assert_eq!(
        (&own["sip_user"], &own["sip_password"]),
        (&json!("b"), &Value::Null)
    );
    second
}

#[test]
fn two_people_and_a_phone() {
    let b = Bench::new();
    let second = add_two_people(&b);
    let shown = b.json(&["user", "show", "alice@localhost", "--json"]);
    assert_eq!(shown["aliases"], json!(["1001@localhost"]));
    assert_eq!(shown["devices"].as_array().unwrap().len(), 2);
    assert_eq!(shown["has_password"], false);
    let bob = b.json(&["user", "show", "bob", "--json"]);
    assert_eq!(
        (&bob["role"], &bob["has_password"]),
        (&json!("admin"), &json!(true))
    );
    assert!(b.ok(&["user", "show", "bob"]).contains("role      admin\n"));

    let number = second["id"].to_string();
    b.ok(&["device", "remove", &number]);
    assert_eq!(
        b.json(&["device", "list", "alice", "--json"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    b.ok(&["user", "disable", "bob"]);
    let all = b.json(&["user", "list", "--json"]);
    assert_eq!(
        (&all[0]["disabled"], &all[1]["disabled"]),
        (&json!(false), &json!(true))
    );
    b.ok(&["user", "disable", "bob", "--undo"]);
    b.ok(&["user", "remove", "bob"]);
    assert_eq!(
        b.json(&["user", "list", "--json"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let link = b.ok(&["user", "reset-link", "alice"]);
    assert_eq!(link.lines().count(), 1);
}

#[test]
fn a_wrong_call_ends_with_2_and_a_failure_with_1() {
    let b = Bench::new();
    b.ok(&["user", "add", "alice"]);
    for wrong in [
        &["dance"][..],
        &["user"],
        &["user", "add"],
        &["user", "add", "a", "--role", "king"],
        &["user", "add", "a b@c d"],
        &["user", "add", "x@elsewhere.example"],
        &["user", "add", "a", "--password-stdin"],
        &["device", "remove", "seven"],
        &["device", "add", "alice", "--sip-user", "a:b"],
        &["unban", "nowhere"],
        &["backup"],
    ] {
        b.fails(2, wrong);
    }
    for (failing, says) in [
        (&["user", "add", "alice"][..], "exists already"),
        (
            &["user", "show", "nobody"],
            "there is no user nobody@localhost",
        ),
        (&["device", "remove", "99"], "there is no device 99"),
        (&["import", "users", "missing.csv"], "missing.csv"),
        (&["restore", "missing"], "there is no file missing"),
        (&["status"], "no server runs"),
        (&["unban", "192.0.2.1"], "no server runs"),
        (
            &["user", "list", "--config", "missing.toml"],
            "missing.toml",
        ),
    ] {
        let error = b.fails(1, failing);
        assert!(error.contains(says), "{error}");
    }
    assert!(b.ok(&["--help"]).contains("import"));
    let config = b.path("printed.toml");
    std::fs::write(&config, b.ok(&["config"])).unwrap();
    b.ok(&["user", "list", "--config", &config]);
    assert!(b.ok(&["--version"]).starts_with("sidetone "));
}

#[test]
fn an_unknown_key_stops_every_command() {
    let b = Bench::new();
    let config = b.path("bad.toml");
    std::fs::write(&config, "[sip]\nupd = []\n").unwrap();
    let error = b.fails(1, &["user", "list", "--config", &config]);
    assert!(
        error.contains("no key sip.upd; the nearest is sip.udp"),
        "{error}"
    );
}

#[test]
fn an_import_is_whole_or_says_the_line() {
    let b = Bench::new();
    let write = |name: &str, text: &str| {
        std::fs::write(Path::new(&b.path(name)), text).unwrap();
    };
    write(
        "users.csv",
        "address,name,profile,sip_user,sip_password\n\
         u1@localhost,\"One, First\",sales,u1,p1\n\
         u2,Two,,,p2\n\
         u3,Three,,,\n\
         u4,Four,,four,\n",
    );
    let out = b.ok(&["import", "users", "users.csv"]);
    assert!(out.contains("added 4 users and 3 devices\n"), "{out}");
    assert!(out.contains("u4@localhost,four,"), "{out}");
    let one = b.json(&["user", "show", "u1", "--json"]);
    assert_eq!(
        (&one["name"], &one["profile"]),
        (&json!("One, First"), &json!("sales"))
    );
    assert_eq!(one["devices"][0]["sip_user"], "u1");
    let out = b.ok(&["import", "users", "users.csv"]);
    assert!(
        out.contains("added 0 users") && out.contains("left 4 as they were"),
        "{out}"
    );

    write("bad.csv", "v1,,,,\nv2,,,v2,x\nv3@elsewhere.example,,,,\n");
    let error = b.fails(1, &["import", "users", "bad.csv"]);
    assert!(
        error.contains("bad.csv line 3: elsewhere.example"),
        "{error}"
    );
    write("twice.csv", "w1,,,w,x\nw2,,,w,x\n");
    let error = b.fails(1, &["import", "users", "twice.csv"]);
    assert!(
        error.contains("line 2: SIP user w of localhost stands in the file twice"),
        "{error}"
    );
    write("columns.csv", "address,shoe\n");
    assert!(
        b.fails(1, &["import", "users", "columns.csv"])
            .contains("shoe")
    );
    b.fails(1, &["user", "show", "v1"]);
}

#[test]
fn nobody_is_left_out_of_an_import_in_silence() {
    let b = Bench::new();
    b.ok(&["user", "add", "Ann", "--extension", "Desk"]);
    b.ok(&["device", "add", "Ann", "--sip-user", "taken"]);
    let text = "u1,,,taken,x\nu2,,,free,x\nann,,,,\ndesk,,,,\n";
    std::fs::write(Path::new(&b.path("users.csv")), text).unwrap();
    let output = b.run(&["import", "users", "users.csv"], "");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("added 1 users and 1 devices"), "{out}");
    let errors = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "{errors}");
    for (line, part) in lines.iter().zip([
        "users.csv line 1: u1@localhost was left out: SIP user taken exists already",
        "line 3: ann@localhost was left out: ann@localhost differs from Ann@localhost only",
        "line 4: desk@localhost was left out: desk@localhost differs from Desk@localhost only",
    ]) {
        assert!(line.contains(part), "{line}");
    }
    b.fails(1, &["user", "show", "u1"]);
    b.ok(&["user", "show", "u2"]);
    std::fs::write(Path::new(&b.path("twice.csv")), "w1,,,,\nW1,,,,\n").unwrap();
    let error = b.fails(1, &["import", "users", "twice.csv"]);
    assert!(error.contains("line 2: W1@localhost stands in the file twice"));
}

#[test]
fn an_address_is_one_that_a_phone_can_call() {
    let b = Bench::new();
    b.ok(&["user", "add", "j%C3%BCrgen"]);
    let shown = b.json(&["user", "show", "j%C3%BCrgen", "--json"]);
    assert_eq!(shown["address"], "jürgen@localhost");
    for wrong in ["a@b@localhost", "a b", "a<b", "a%40b"] {
        let error = b.fails(2, &["user", "add", wrong]);
        assert!(error.contains("is no address"), "{error}");
        b.fails(2, &["user", "add", "x", "--extension", wrong]);
    }
    let similar = b.fails(1, &["user", "add", "x", "--extension", "J%C3%BCrgen"]);
    assert!(similar.contains("only in capitals"), "{similar}");
    b.fails(1, &["user", "show", "x"]);
}

#[test]
fn a_backup_comes_back() {
    let b = Bench::new();
    b.ok(&["user", "add", "alice"]);
    b.ok(&["backup", "saved"]);
    b.ok(&["user", "remove", "alice"]);
    b.ok(&["restore", "saved"]);
    b.ok(&["user", "show", "alice"]);
    assert!(b.fails(1, &["backup", "saved"]).contains("exists already"));
}

#[test]
fn beside_a_running_server() {
    let b = Bench::new();
    let server = b.serve();
    b.ok(&["user", "add", "alice"]);
    b.ok(&["device", "add", "alice"]);
    let status = b.json(&["status", "--json"]);
    assert!(
        status["version"].is_string() && status["uptime_s"].is_u64(),
        "{status}"
    );
    assert!(b.ok(&["status"]).contains("version"));
    b.ok(&["backup", "saved"]);
    assert!(b.fails(1, &["restore", "saved"]).contains("stop it first"));
    assert!(b.fails(1, &["serve"]).contains("stop it first"));
    b.fails(1, &["unban", "192.0.2.1"]);
    server.stop();
    b.ok(&["restore", "saved"]);
    b.ok(&["user", "show", "alice"]);
}

#[test]
fn check_names_each_reason() {
    let b = Bench::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let config = b.path("check.toml");
    let text = format!(
        "[sip]\nudp = [\"127.0.0.1:0\"]\ntcp = [\"{at}\"]\ntls = []\n[https]\nlisten = []\n\
         certificate = {{ chain = \"none.pem\", key = \"none.key\" }}\n"
    );
    std::fs::write(&config, text).unwrap();
    let output = b.run(&["check", "--config", &config], "");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(error.lines().count(), 2, "{error}");
    assert!(
        error.contains(&format!("sip.tcp: {at}")) && error.contains("none.pem"),
        "{error}"
    );
    let good = "[sip]\nudp = [\"127.0.0.1:0\"]\ntcp = []\ntls = []\n[https]\nlisten = []\n";
    std::fs::write(&config, good).unwrap();
    assert!(
        b.ok(&["check", "--config", &config])
            .starts_with("all is well")
    );
}
