//! The core computes and nothing else: no clock, no file, no network, no log, no environment.

use std::path::{Path, PathBuf};

const FORBIDDEN: [&str; 7] = ["tokio", "reqwest", "tracing", "std::env", "SystemTime", "Utc::now", "std::fs"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// Without comments, and without everything from the tests on, which stand last in every file.
fn code(text: &str) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    lines.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default())).collect()
}

#[test]
fn the_domain_touches_nothing_outside_itself() {
    holds("src/domain");
}

#[test]
fn the_forecast_touches_nothing_outside_itself_and_the_domain() {
    holds("src/forecast");
}

#[test]
fn the_backtest_is_pure() {
    holds("src/backtest");
}

fn holds(folder: &str) {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    assert!(files.len() > 5, "{files:?}");
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        for (at, line) in code(&text) {
            for word in FORBIDDEN {
                assert!(!line.contains(word), "{}:{at} uses {word}: {line}", file.display());
            }
        }
    }
}
