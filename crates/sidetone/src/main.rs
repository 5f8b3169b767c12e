//! The softswitch: command line, configuration, wiring, drain.

use std::io::Write;
use std::process::ExitCode;

mod acme;
mod cli;
mod config;
mod control;
mod ports;
mod serve;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "sidetone: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
