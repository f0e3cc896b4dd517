//! Whatever stands in the state file is a state or is refused, and every state can be lived with.
#![no_main]

#[allow(dead_code)] // every target calls its own part
#[path = "../../tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::state(data));
