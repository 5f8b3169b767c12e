//! Mutated torture messages through every parser: nothing panics, and what must hold of any input holds.
//! The same checks run for longer as `examples/fuzz.rs` and under libFuzzer.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test ends at the first surprise"
)]

use std::path::Path;

#[path = "../fuzz/checks.rs"]
mod checks;
#[path = "../fuzz/mutate.rs"]
mod mutate;
#[path = "../fuzz/seeds.rs"]
mod seeds;

const INPUTS: usize = 4_000;

#[test]
fn every_parser_holds() {
    for (name, check) in checks::TARGETS {
        let seeds = seeds::seeds(Path::new(env!("CARGO_MANIFEST_DIR")), name);
        assert!(seeds.len() > 1, "{name}");
        for seed in &seeds {
            check(seed);
        }
        let mut random = mutate::Random(7);
        for _ in 0..INPUTS {
            check(&mutate::mutant(&mut random, &seeds, mutate::pieces(name)));
        }
    }
}

/// Every prefix of every torture message.
#[test]
fn every_cut_is_survived() {
    for octets in seeds::seeds(Path::new(env!("CARGO_MANIFEST_DIR")), "message") {
        for end in 0..octets.len().min(1_200) {
            checks::message(&octets[..end]);
        }
    }
}
