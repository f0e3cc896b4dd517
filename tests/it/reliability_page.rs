//! docs/reliability.md names files and tests that exist.

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Returns the words between backticks.
fn quoted(page: &str) -> impl Iterator<Item = &str> {
    page.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn the_page_of_guarantees_names_files_and_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let files: Vec<PathBuf> = ["src", "tests"].iter().flat_map(|folder| sources(&root.join(folder))).collect();
    let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let is_snake = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let mut checked = 0;
    for word in quoted(&page) {
        if word.strip_suffix(".rs").is_some() {
            assert!(files.iter().any(|file| file.ends_with(word)), "no file is called {word}");
        } else if let Some(prefix) = word.strip_suffix('…').filter(|prefix| is_snake(prefix)) {
            assert!(code.contains(&format!("fn {prefix}")), "no test begins with {prefix}");
        } else if is_snake(word) && word.matches('_').count() > 3 {
            assert!(code.contains(&format!("fn {word}(")), "no test is called {word}");
        } else {
            continue;
        }
        checked += 1;
    }
    assert!(checked > 100, "only {checked} names were found");
}
