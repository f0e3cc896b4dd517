//! Replays the inputs that the fuzzers in `fuzz/` have found, with the same checks.

use crate::support::hostile;
use std::path::Path;

/// Replays every input of a target, and names the one that fails.
fn replay(target: &str, at_least: usize, check: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus-kept").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= at_least, "only {} files of {target}", files.len());
    for file in files {
        let data = std::fs::read(&file).unwrap();
        let result = std::panic::catch_unwind(|| check(&data));
        assert!(result.is_ok(), "the check of {} fails", file.display());
    }
}

#[test]
fn every_configuration_is_loaded_or_refused_with_reasons() {
    replay("config", 20, hostile::config);
}

#[test]
fn every_body_is_read_exactly_or_reported_as_unreadable() {
    replay("body", 20, hostile::body);
}

#[test]
fn every_state_is_loaded_or_refused() {
    replay("state", 20, hostile::state);
}

#[test]
fn every_message_is_well_formed_and_safe_and_fits_slack() {
    replay("render", 20, hostile::render);
}
