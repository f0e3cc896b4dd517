//! Whatever stands in the state file is a state or is refused, and every state can be lived with.
#![no_main]

#[path = "../../tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::state(data));
