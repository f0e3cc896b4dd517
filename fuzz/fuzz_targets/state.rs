//! Every state file is loaded or refused, and the service runs with every state that is loaded.
#![no_main]

#[allow(dead_code)] // each target calls its own part
#[path = "../../tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::state(data));
