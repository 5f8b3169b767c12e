//! The API against its own description, by schemathesis: whatever the OpenAPI document lists is called with what fits
//! and with what does not, and what comes back has to be what the document says.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use sidetone_tests::{Api, Options, Server};

/// Long enough for a loaded machine; it takes a part of it.
const SECONDS_MAX: &str = "170";
/// The same calls in the same order each time.
const SEED: &str = "20260";
/// What every answer has to be. `ignored_auth` asks again without the token. Not `unsupported_method`: it takes
/// HEAD, which every GET answers, for unknown. Not `positive_data_acceptance`: an address of nobody fits the schema.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,ignored_auth,missing_required_header,\
    negative_data_rejection,\
    use_after_free";

/// Where `./x test` installs it; `SIDETONE_SCHEMATHESIS` names another one.
fn schemathesis() -> PathBuf {
    if let Some(named) = std::env::var_os("SIDETONE_SCHEMATHESIS") {
        return PathBuf::from(named);
    }
    let root = sidetone_tests::server::repository();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    target.join("tools/schemathesis/bin/schemathesis")
}

/// A server that counts none of this, with somebody to talk to and something said.
fn world() -> (Server, Api, Value) {
    let loopback = toml::Value::Array(vec!["127.0.0.0/8".into()]);
    let server = Options::new()
        .set("limits.exempt", loopback)
        .users(&["ann", "bob", "carl"])
        .start();
    server.cli(&["user", "add", "root@example.test", "--role", "admin"], "");
    let ann = Api::sign_in(&server, "root");
    let ask = json!({ "members": ["ann", "bob"], "subject": "group", "name": "crew" });
    let group = ann.ask("POST", "/api/v1/conversations", &ask);
    let messages = format!("/api/v1/conversations/{}/messages", group["id"]);
    for text in ["one", "two", "three"] {
        ann.ask("POST", &messages, &json!({ "text": text }));
    }
    (server, ann, group)
}

fn run(server: &Server, api: &Api, settings: &str) {
    let folder = sidetone_tests::folder::Folder::new("schemathesis");
    let config = folder.write("schemathesis.toml", settings);
    let base = format!("http://{}", server.http());
    let output = Command::new("timeout")
        .arg(SECONDS_MAX)
        .arg(schemathesis())
        .arg("--config-file")
        .arg(config)
        .args(["run", &format!("{base}/api/v1/openapi.json")])
        .args(["--url", &base, "--checks", CHECKS, "--seed", SEED])
        .args([
            "--header",
            &format!("Authorization: Bearer {}", api.token()),
        ])
        .args([
            "--max-examples",
            "15",
            "--phases",
            "examples,coverage,fuzzing",
        ])
        .args(["--request-timeout", "10", "--no-color", "--warnings", "off"])
        .args([
            "--suppress-health-check",
            "all",
            "--generation-database",
            "none",
        ])
        .current_dir(folder.path())
        .output()
        .expect("timeout, of coreutils");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() != Some(127),
        "schemathesis is not installed: ./x test does that ({errors})"
    );
    assert!(output.status.success(), "{said}\n{errors}");
}

#[test]
fn the_api_is_as_it_is_described() {
    let (server, api, _) = world();
    run(&server, &api, "");
}

#[test]
fn a_conversation_that_there_is_is_as_described() {
    let (server, api, group) = world();
    // Without this nearly every number would be that of no conversation.
    let settings = format!(
        "[parameters]\n\"path.id\" = {}\n\"path.seq\" = 2\n\"path.address\" = \"bob@example.test\"\n",
        group["id"]
    );
    run(&server, &api, &settings);
}
