//! What the documents promise to say.

use std::fs;
use std::path::{Path, PathBuf};

use sidetone_tests::server::repository;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// The words of a log line: the last text in its macro.
fn words(call: &str) -> Option<&str> {
    let (mut depth, mut words) = (1, None);
    // Texts stand at odd places; none of them holds an escaped quote.
    for (at, part) in call.split('"').enumerate() {
        if at % 2 == 1 {
            words = Some(part);
            continue;
        }
        for octet in part.bytes() {
            depth += i32::from(octet == b'(') - i32::from(octet == b')');
            if depth == 0 {
                return words;
            }
        }
    }
    None
}

/// An administrator looks a line up and finds it.
#[test]
fn every_line_of_the_log_is_in_the_manual() {
    let root = repository();
    let manual = fs::read_to_string(root.join("docs/OPERATING.md")).expect("the manual");
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join("crates")).expect("crates") {
        let folder = entry.expect("a crate").path();
        let tool = folder.ends_with("xtask") || folder.ends_with("sim");
        if !tool && folder.join("src").is_dir() {
            sources(&folder.join("src"), &mut files);
        }
    }
    let mut lines = 0;
    let mut missing = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for kind in ["info", "warn", "error"] {
            for call in text.split(&format!("tracing::{kind}!(")).skip(1) {
                let words = words(call).unwrap_or_else(|| panic!("{}: {call:.80}", file.display()));
                lines += 1;
                if !manual.contains(&format!("`{words}`")) {
                    missing.push(words.to_owned());
                }
            }
        }
    }
    assert!(lines > 30, "only {lines} lines found");
    assert!(missing.is_empty(), "not in docs/OPERATING.md: {missing:#?}");
}
