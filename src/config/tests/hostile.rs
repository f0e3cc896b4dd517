//! Hostile and generated files, which must be refused quickly and without a panic.

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::Files;

/// Returns the first problem of a file, and fails if loading takes long. A debug build takes some seconds of processor time; a
/// step that grows faster than the file would take minutes.
fn quickly(content: impl AsRef<[u8]>) -> String {
    let files = Files::new(content);
    let used_time = || clock_gettime(ClockId::ThreadCPUTime).tv_sec;
    let before = used_time();
    let errors = files.errors(&[]);
    let seconds = used_time() - before;
    assert!(seconds < 10, "{seconds} s");
    errors.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn hostile_files_are_refused_quickly() {
    let bomb = |width: usize, depth: usize| {
        let mut text = "a0: &a0 [x]\n".to_owned();
        for i in 1..depth {
            let aliases = vec![format!("*a{}", i - 1); width].join(", ");
            text = format!("{text}a{i}: &a{i} [{aliases}]\n");
        }
        text
    };
    assert_eq!(
        quickly(bomb(10, 12)),
        "alerts.yaml:5:25: too many values; expected at most 10000; an alias counts as much as the value it stands for"
    );
    assert_eq!(quickly(bomb(1, 200)), "alerts.yaml:63:12: nesting is too deep; expected at most 64 levels");
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), "*a, ".repeat(100_000));
    assert!(quickly(long).contains("too many values"));
    assert_eq!(
        quickly("a: &a [*a]"),
        "alerts.yaml:1:8: an alias inside its own anchor; expected an anchor that ends before its alias"
    );
    assert_eq!(
        quickly("x".repeat(10_000_000)),
        "alerts.yaml: cannot use the file: a larger file; expected a file of at most 1 MiB"
    );
    assert_eq!(
        quickly(b"a: b\nc: \xff\xfe"),
        "alerts.yaml:2:4: cannot use the file: the byte 0xFF, which is not UTF-8; expected text in UTF-8"
    );
    assert_eq!(
        quickly(b"\x7fELF\x02\x00\x00"),
        "alerts.yaml:1:1: cannot use the file: the control character U+007F; expected text"
    );
    assert_eq!(quickly(""), "alerts.yaml:1:1: the file is empty; expected accounts, notifiers and rules");
    assert_eq!(quickly("# nothing\n"), quickly(""));
    assert_eq!(quickly("a: 1\n---\nb: 2\n"), "alerts.yaml:2:1: a second document; expected one document in a file");
    assert_eq!(quickly("[a]: 1"), "alerts.yaml:1:1: a key that is a map or a list; expected a name as the key");
    assert_eq!(
        quickly("a: !ENV x"),
        "alerts.yaml:1:4: the tag `!ENV`; expected a value without a tag (put a text that begins with `!` in quotes)"
    );
    assert_eq!(
        quickly("just text"),
        "alerts.yaml:1:1: the file cannot be a text; expected a map with the keys schedule, timezone, state, accounts, notifiers, rules, unreadable, http, heartbeat, silences, reports"
    );
    assert!(quickly("a: [1, 2").starts_with("alerts.yaml:"));
}

#[test]
fn large_and_deep_files_do_not_take_long() {
    for part in [
        "[", "{", "{a: ", "- ", "? ", "a: \n ", "\"", "'", "&a ", "*a ", "!a ", "[a, ", "a: b, ", "|\n", "#", "%",
        "--- ", "a\n", "? a\n", "\t", "}{", "- a\n", "- - a\n", ", ", "${",
    ] {
        let text = part.repeat(1_000_000 / part.len());
        quickly(&text);
        quickly(format!("accounts: [{text}"));
    }
    let keys = |n: usize| (0..n).map(|i| format!("kez{i}: x")).collect::<Vec<_>>().join("\n");
    quickly(keys(4_900));
    quickly(format!(
        "accounts: {{ {} }}\nrules: {{ r: {{ accounts: [{}] }} }}",
        many("a", ": ", 1500),
        many("b", "", 6000)
    ));
    quickly(format!(
        "notifiers: {{ {} }}\nrules: {{ {} }}",
        many("a", ": ", 2000),
        many("b", ": { warning: { below: 1 } }", 700)
    ));
    quickly(format!(
        "accounts: {{ {0} }}\nrules: {{ r: {{ accounts: [{1}], divisions: [{2}] }} }}",
        many("a", ": { api_key: x }", 800),
        many("a", "", 800),
        many("", "", 3000)
    ));
    quickly(format!("\"{}\": 1", "k".repeat(900_000)));
}

fn many(before: &str, after: &str, n: usize) -> String {
    (1..=n).map(|i| format!("{before}{i}{after}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_missing_file_and_a_folder_are_problems() {
    let files = Files::new("");
    std::fs::remove_file(files.0.path().join("alerts.yaml")).unwrap();
    let expected = "a readable file with accounts, notifiers and rules (`lowtide init` writes one to start from)";
    assert_eq!(files.errors(&[]), format!("alerts.yaml: cannot use the file: no such file; expected {expected}"));
    std::fs::create_dir(files.0.path().join("alerts.yaml")).unwrap();
    assert_eq!(files.errors(&[]), format!("alerts.yaml: cannot use the file: a folder; expected {expected}"));
}

#[test]
fn a_secret_in_place_of_a_key_is_redacted_in_the_path() {
    let files = Files::new("accounts: { acme: { api_key: hunter2-hunter2, hunter2-hunter2: x } }");
    let errors = files.errors(&[]);
    assert!(errors.contains("accounts.acme.***: unknown key `***`"), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn a_byte_order_mark_is_fine() {
    let files = Files::new(format!("\u{feff}{}", super::with("timezone: UTC")));
    assert_eq!(files.errors(&[]), "");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "(\\PC|\n){0,200}") {
        let _ = Files::new(text).load(&[]);
    }

    #[test]
    fn yaml_like_text_never_panics(words in proptest::collection::vec(0usize..26, 0..60)) {
        let parts = ["accounts", "rules", "a", ": ", ":", "\n", "\n  ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a", "'", "\"", "|", ">", "? ", "!!str ", "#", "${", "~", "---\n", "\t"];
        let text: String = words.into_iter().map(|i| parts[i]).collect();
        let _ = Files::new(text).load(&[("LOWTIDE_ACCOUNTS__A__API_KEY", "x"), ("LOWTIDE_RULES__A__NOTIFY", "x")]);
    }
}
