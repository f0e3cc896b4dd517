//! For all names and figures of an event, the message is well-formed and safe, and fits the limits of Slack.
#![no_main]

#[allow(dead_code)] // each target calls its own part
#[path = "../../tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::render(data));
