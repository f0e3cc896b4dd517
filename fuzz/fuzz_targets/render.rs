//! Whatever names and figures an event has, the message is well-formed, fits Slack, and smuggles nothing.
#![no_main]

#[allow(dead_code)] // every target calls its own part
#[path = "../../tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::render(data));
