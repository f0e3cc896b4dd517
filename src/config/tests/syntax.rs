//! The usual mistakes in a YAML file, each reported where it is, with a correction.

use super::{Files, NOTIFIERS, RULES, with};

/// Returns the errors of the lines of an account, which begin at line 3 of the file.
fn account(lines: &str) -> String {
    Files::new(format!("accounts:\n  acme:\n{lines}\n{NOTIFIERS}{RULES}")).errors(&[("K", "k")])
}

/// Returns the errors of further lines of a rule, which begin at line 8 of the file.
fn rule(lines: &str) -> String {
    let rule = "rules:\n  low:\n    metric: balance\n    warning: { below: 2000 }";
    Files::new(format!("accounts: {{ acme: {{ api_key: k }} }}\n{NOTIFIERS}{rule}\n{lines}\n")).errors(&[])
}

#[test]
fn a_tab_is_reported_where_it_is() {
    let tab = |place: &str| {
        format!(
            "alerts.yaml:{place}: invalid YAML: a tab in the indentation; expected spaces, since YAML does not allow tabs there"
        )
    };
    assert_eq!(account("    api_key: k\n\tregion: us"), tab("4:1"));
    assert_eq!(account("\tapi_key: k"), tab("3:1"));
    assert_eq!(account("  \tapi_key: k"), tab("3:3"));
    assert_eq!(account("    api_key: k\n\n    # why\n\tregion: us"), tab("6:1"));
    assert_eq!(account("    api_key: k\n    divisions:\n    - 1\n\t- 2"), tab("6:1"));
    insta::assert_snapshot!(account("    api_key:\tk"), @"alerts.yaml:3:13: invalid YAML: a tab after the colon; expected a space");
    assert_eq!(account("    api_key: k\n\t\n    region: us"), "", "a line of nothing but a tab does no harm");
}

#[test]
fn a_missing_colon_is_reported_where_it_is() {
    let missing_colon =
        "invalid YAML: missing colon after a key; expected a colon and a space after the key, as in `region: us`";
    assert_eq!(account("    api_key k\n    region: us"), format!("alerts.yaml:3:5: {missing_colon}"));
    assert_eq!(account("    region: us\n    api_key k"), format!("alerts.yaml:4:5: {missing_colon}"));
    assert_eq!(account("    region: us\n    api_key k\n    # why\n"), format!("alerts.yaml:4:5: {missing_colon}"));
    assert_eq!(account("    api_key ${K}\n    region: ${K}"), format!("alerts.yaml:3:5: {missing_colon}"));
    assert_eq!(
        Files::new("schedule every 5m\naccounts:\n  acme: {}\n").errors(&[]),
        format!("alerts.yaml:1:1: {missing_colon}")
    );
    assert_eq!(
        Files::new("accounts:\n  acme\n    api_key: k\n").errors(&[]),
        format!("alerts.yaml:2:3: {missing_colon}")
    );
    let inside = Files::new(with("accounts:\n  acme: { api_key: k, region us }")).errors(&[]);
    insta::assert_snapshot!(inside, @"alerts.yaml:2:23: accounts.acme.region us: missing colon after a key; expected a colon and a space after the key, as in `region: us`");
}

#[test]
fn a_missing_space_or_another_sign_for_the_colon_is_explained() {
    let space = "missing space after the colon; expected a space after the colon, as in `region: us`";
    assert_eq!(account("    api_key:k\n    region: us"), format!("alerts.yaml:3:5: invalid YAML: {space}"));
    assert_eq!(account("    api_key:hunter2"), format!("alerts.yaml:3:5: accounts.acme: {space}"));
    insta::assert_snapshot!(rule("    critical: { below: 5, for:5m }"), @"alerts.yaml:8:27: rules.low.critical.for:5m: missing space after the colon; expected a space after the colon, as in `region: us`");
    let equals = "`=` instead of a colon; expected a colon and a space, as in `region: us`";
    assert_eq!(account("    api_key = hunter2\n    region = us"), format!("alerts.yaml:3:5: accounts.acme: {equals}"));
    assert_eq!(account("    api_key: k\n    region=us"), format!("alerts.yaml:4:5: invalid YAML: {equals}"));
    insta::assert_snapshot!(account("    api_key: k\n    region：us"), @"alerts.yaml:4:5: invalid YAML: a full-width colon; expected an ordinary colon and a space, as in `region: us`");
    insta::assert_snapshot!(account("    api_key: k\n    region:\u{a0}us"), @"alerts.yaml:4:5: invalid YAML: a no-break space after the colon; expected an ordinary space");
    insta::assert_snapshot!(account("  \u{a0} api_key: k"), @"alerts.yaml:3:3: a no-break space in the indentation; expected ordinary spaces");
    let address = Files::new(with("notifiers:\n  chat: https://hooks.example.com/x")).errors(&[]);
    assert!(
        address.contains("notifiers.chat: `chat` cannot be a text; expected a map with the keys type, "),
        "{address}"
    );
    insta::assert_snapshot!(account("    api_key: k\n    divisions:\n    -1\n    -2"), @"alerts.yaml:5:5: invalid YAML: missing space after `-`; expected a dash and a space before each item of a list, as in `- 1234`");
}

#[test]
fn a_wrong_indentation_is_reported_where_it_is() {
    insta::assert_snapshot!(account("    api_key: k\n      region: us"), @"alerts.yaml:4:7: invalid YAML: a line with too much indentation; expected the indentation of the keys above, since the line before already has its value");
    insta::assert_snapshot!(account("    api_key: k\n   region: us"), @"alerts.yaml:4:4: invalid YAML: a line whose indentation matches no section above it; expected the same indentation as the other keys of its section");
    insta::assert_snapshot!(account("    api_key: k\n    divisions:\n      - 1\n      region: us"), @"alerts.yaml:6:7: invalid YAML: a line without `- ` in a list; expected `- ` before each item, and less indentation after the list");
}

#[test]
fn unclosed_and_typographic_quotes_are_explained() {
    let open = "invalid YAML: a quote that is not closed; expected the same quote at the end of the value (every line of a text with several lines is indented)";
    assert_eq!(account("    api_key: \"k\n    region: us"), format!("alerts.yaml:3:14: {open}"));
    assert_eq!(account("    api_key: 'k\n    region: us"), format!("alerts.yaml:3:14: {open}"));
    assert_eq!(Files::new("accounts: {}\nschedule: \"every 5m\n").errors(&[]), format!("alerts.yaml:2:11: {open}"));
    insta::assert_snapshot!(rule("    description: 'Don't forget'"), @r#"alerts.yaml:8:23: invalid YAML: text after the closing quote; expected no text there (inside '…' an apostrophe is written twice (''), inside "…" a quote is written \")"#);
    insta::assert_snapshot!(account("    api_key: k\n    region: “us”"), @r#"alerts.yaml:4:13: accounts.acme.region: `“us”` is not a region; expected us or eu (YAML accepts only the straight quotes " and ')"#);
    insta::assert_snapshot!(rule("    description: “Ask: Finance”"), @r#"alerts.yaml:8:22: invalid YAML: a second colon in one line; expected quotes around the value (YAML accepts only the straight quotes " and ')"#);
}

#[test]
fn a_value_that_needs_quotes_is_explained() {
    insta::assert_snapshot!(rule("    description: Ask: Finance"), @"alerts.yaml:8:21: invalid YAML: a second colon in one line; expected quotes around a value that contains a colon and a space");
    insta::assert_snapshot!(account("    api_key: k\n    schedule: */15 * * * *"), @r#"alerts.yaml:4:15: invalid YAML: `*` before a name that no anchor (`&name`) defines; expected quotes around a value that begins with `*`, as in "*/15 * * * *""#);
    insta::assert_snapshot!(account("    api_key: @k"), @"alerts.yaml:3:14: invalid YAML: a value that begins with `@`; expected quotes around a value that begins with this character");
}

#[test]
fn brackets_that_do_not_match_are_reported_where_they_open() {
    insta::assert_snapshot!(account("    api_key: k\n    divisions: [1, 2"), @"alerts.yaml:4:16: invalid YAML: `[` that is not closed; expected `]` at the end of the list");
    insta::assert_snapshot!(Files::new("accounts:\n  acme: { api_key: k").errors(&[]), @"alerts.yaml:2:9: invalid YAML: `{` that is not closed; expected `}` at the end of the map");
    insta::assert_snapshot!(Files::new("accounts:\n  acme: { api_key: k } }\nrules: {}").errors(&[]), @"alerts.yaml:2:24: invalid YAML: a bracket that closes nothing; expected as many closing brackets as opening ones");
}

#[test]
fn a_list_is_suggested_for_a_single_word() {
    insta::assert_snapshot!(rule("    notify: chat"), @"alerts.yaml:8:13: rules.low.notify: `chat` is not a list; expected a list of at least one name under `notifiers`; did you mean `[chat]`?");
}

#[test]
fn names_that_look_like_numbers_or_booleans_stay_texts() {
    let config = Files::new(
        "accounts:\n  0123: { api_key: 0o17 }\n  yes: &yes { api_key: true, divisions: [0xF] }\n".to_owned()
            + NOTIFIERS
            + "rules:\n  1e3: { metric: balance, warning: { below: 1 }, accounts: [0123] }\n",
    );
    insta::assert_snapshot!(config.errors(&[]), @"alerts.yaml:3:42: accounts.yes.divisions[0]: `0xF` is not a division; expected the number of a division (its container id)");
    let config = Files::new(with("accounts:\n  0123: &first { api_key: 0o17 }\n  yes: *first")).config(&[]);
    assert_eq!(config.accounts.keys().map(|name| &**name).collect::<Vec<_>>(), ["0123", "yes"]);
    assert_eq!(config.accounts["yes"].api_key.expose(), "0o17");
}

#[test]
fn a_merge_key_is_refused_with_an_alternative() {
    let errors = account("    api_key: k\n    <<: { region: us }");
    insta::assert_snapshot!(errors, @"alerts.yaml:4:5: accounts.acme.<<: merge keys are not supported; expected an alias (`*name`) in place of a whole section");
}
