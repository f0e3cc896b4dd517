//! Every `alerts.yaml` and every overriding variable is loaded or refused, quickly and without a panic.
#![no_main]

#[allow(dead_code)] // each target calls its own part
#[path = "../../tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::config(data));
