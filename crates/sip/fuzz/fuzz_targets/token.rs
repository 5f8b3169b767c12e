#![no_main]

#[allow(dead_code, reason = "each target uses one of the checks")] // the other targets use the rest
#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| checks::token(octets));
