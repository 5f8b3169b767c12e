//! Repository chores, run as `cargo xtask NAME`.
//!
//! *Invariant:* a chore reads the files that git tracks and nothing else, so its answer
//! is the same on every machine that has the same commit checked out.
#![allow(clippy::print_stdout, clippy::print_stderr)] // the report of a chore is its output

mod docs;
mod layers;
mod lexer;
mod names;
mod rfc;
mod source;
mod tree;

use std::process::ExitCode;
use tree::Tree;

const USAGE: &str =
    "cargo xtask tidy            check layers, sizes, names, paths, allows and links
cargo xtask rfc-coverage    write docs/rfc-coverage.md from the RFC citations in crates/";

fn main() -> ExitCode {
    let chore = std::env::args().nth(1).unwrap_or_default();
    let tree = match Tree::open() {
        Ok(tree) => tree,
        Err(error) => {
            return fail(&format!(
                "cannot list the files of this repository: {error}"
            ));
        }
    };
    match chore.as_str() {
        "tidy" => tidy(&tree),
        "rfc-coverage" => write_rfc_coverage(&tree),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("xtask: {reason}");
    ExitCode::FAILURE
}

fn tidy(tree: &Tree) -> ExitCode {
    let mut findings = Vec::new();
    findings.extend(layers::check(tree));
    findings.extend(source::check(tree));
    findings.extend(names::check(tree));
    findings.extend(docs::check(tree));
    findings.extend(rfc::check(tree));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to report", tree.files().count());
        return ExitCode::SUCCESS;
    }
    fail(&format!("{} findings", findings.len()))
}

fn write_rfc_coverage(tree: &Tree) -> ExitCode {
    match std::fs::write(tree.root().join(rfc::DOCUMENT), rfc::render(tree)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write {}: {error}", rfc::DOCUMENT)),
    }
}
