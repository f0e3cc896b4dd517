//! Every response body is read exactly, or reported as unreadable.
#![no_main]

#[allow(dead_code)] // each target calls its own part
#[path = "../../tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::body(data));
