//! sip.js in Chromium, driven by lines of JSON (see `browser/phone.mjs`).

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::Process;
use crate::server::{DOMAIN, Server, repository, secret};

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Browser {
    process: Process,
    mark: usize,
}

fn folder() -> PathBuf {
    repository().join("tests/browser")
}

impl Browser {
    /// Opens a browser at a page of the server's origin.
    pub fn start(server: &Server) -> Browser {
        install();
        let mut command = Command::new("node");
        command
            .arg(folder().join("phone.mjs"))
            .arg(format!("https://{}", server.https()));
        let process = Process::start("browser", &mut command);
        let mut browser = Browser { process, mark: 0 };
        browser.event("ready", |_| true);
        browser
    }

    /// Registers by SIP over WebSocket.
    pub fn register(&mut self, server: &Server, user: &str) {
        self.run(json!({
            "do": "register",
            "address": format!("{user}@{DOMAIN}"),
            "user": user,
            "password": secret(user),
            "socket": format!("wss://{}/sip", server.https()),
        }));
    }

    pub fn message(&mut self, to: &str, text: &str) {
        self.run(json!({ "do": "message", "to": to, "text": text }));
    }

    pub fn call(&mut self, to: &str) {
        self.run(json!({ "do": "call", "to": to }));
    }

    pub fn hang_up(&mut self) {
        self.run(json!({ "do": "hangUp" }));
    }

    pub fn unregister(&mut self) {
        self.run(json!({ "do": "unregister" }));
    }

    /// RTP packets received in the call so far.
    pub fn packets(&mut self) -> u64 {
        self.run(json!({ "do": "packets" }))["result"]
            .as_u64()
            .unwrap_or(0)
    }

    /// Waits for a state of the call.
    pub fn call_state(&mut self, state: &str) {
        self.event("call", |event| event["state"] == state);
    }

    /// Waits for a text; gives the address it came from.
    pub fn received(&mut self, text: &str) -> String {
        let event = self.event("message", |event| event["text"] == text);
        event["peer"].as_str().unwrap_or_default().to_owned()
    }

    pub fn quit(mut self) {
        self.process.say("{\"do\":\"quit\"}");
        assert!(
            self.process.wait(PATIENCE).is_some(),
            "the browser does not quit"
        );
    }

    fn run(&mut self, command: Value) -> Value {
        let mark = self.process.mark();
        self.process.say(&command.to_string());
        let end = Instant::now() + PATIENCE;
        let fits = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap_or_default();
            ["did", "failed"].contains(&event["event"].as_str().unwrap_or_default())
                && event["what"] == command["do"]
        };
        let left = end.saturating_duration_since(Instant::now());
        let line = self.process.line(mark, left, fits);
        let line = line.unwrap_or_else(|| panic!("the browser did not do {command}"));
        let event: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(event["event"], "did", "{event}");
        event
    }

    /// The next event after those that were waited for.
    pub fn event(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let seen = self.process.line(self.mark, left, |_| true);
            let line = seen.unwrap_or_else(|| panic!("no {kind} from the browser"));
            self.mark += 1;
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == kind && fits(&event) {
                return event;
            }
        }
    }
}

/// Fetches sip.js and the rest once, as the lock file says.
fn install() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if folder().join("node_modules/sip.js").is_dir() {
            return;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(folder());
        let status = npm.status().expect("npm");
        assert!(status.success(), "npm ci: {status}");
    });
}
