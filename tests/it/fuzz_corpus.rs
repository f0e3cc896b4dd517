//! What the fuzzers found or thought interesting, replayed on every run with the fuzzers' own checks (`fuzz/`).

use crate::support::hostile;
use std::path::Path;

/// Replays every file that was kept for a target, and says which one it was that failed.
fn replay(target: &str, at_least: usize, check: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus-kept").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= at_least, "only {} files of {target} are left", files.len());
    for file in files {
        let data = std::fs::read(&file).unwrap();
        let held = std::panic::catch_unwind(|| check(&data));
        assert!(held.is_ok(), "{} breaks a promise", file.display());
    }
}

#[test]
fn every_kept_configuration_is_loaded_or_refused_with_reasons() {
    replay("config", 20, hostile::config);
}

#[test]
fn every_kept_body_is_read_as_it_is_written_or_named_as_unreadable() {
    replay("body", 20, hostile::body);
}

#[test]
fn every_kept_state_is_lived_with_or_refused() {
    replay("state", 20, hostile::state);
}

#[test]
fn every_kept_message_is_well_formed_fits_slack_and_smuggles_nothing() {
    replay("render", 20, hostile::render);
}
