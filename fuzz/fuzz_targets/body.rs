//! Whatever CertCentral answers is read or named as unreadable, never read as another amount.
#![no_main]

#[allow(dead_code)] // every target calls its own part
#[path = "../../tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::body(data));
