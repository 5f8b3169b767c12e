//! Fuzzing on a stable toolchain: deterministic, structure-aware mutations of the torture corpus.
//!
//! `cargo run --release -p sidetone-sip --example fuzz -- <target|all> <inputs> [seed]`. A finding is a panic; the
//! input and the seed are printed. The same targets run under libFuzzer from the `fuzz` folder.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a tool that prints, and ends at the first surprise"
)]

use std::cell::RefCell;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

#[path = "../fuzz/checks.rs"]
mod checks;
#[path = "../fuzz/mutate.rs"]
mod mutate;
#[path = "../fuzz/seeds.rs"]
mod seeds;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn run(name: &str, check: fn(&[u8]), inputs: u64, seed: u64) {
    let seeds = seeds::seeds(Path::new(env!("CARGO_MANIFEST_DIR")), name);
    let pieces = mutate::pieces(name);
    let mut random = mutate::Random(seed);
    let start = Instant::now();
    for _ in 0..inputs {
        let octets = mutate::mutant(&mut random, &seeds, pieces);
        INPUT.with_borrow_mut(|input| input.clone_from(&octets));
        check(&octets);
    }
    println!(
        "{name:12} {inputs} inputs from {} seeds, seed {seed}, {:.0} s: no finding",
        seeds.len(),
        start.elapsed().as_secs_f64()
    );
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().unwrap_or_else(|| "all".to_owned());
    let inputs = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let seed = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        INPUT.with_borrow(|input| println!("finding, seed {seed}: \"{}\"", input.escape_ascii()));
        usual(panic);
    }));
    let chosen: Vec<_> = checks::TARGETS
        .iter()
        .filter(|(name, _)| target == "all" || target == *name)
        .collect();
    if chosen.is_empty() {
        println!(
            "targets: all {}",
            checks::TARGETS.map(|(name, _)| name).join(" ")
        );
        let asked = target == "targets";
        return if asked {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    for (name, check) in chosen {
        run(name, *check, inputs, seed);
    }
    ExitCode::SUCCESS
}
