//! Every kind of problem, as it reads.

use super::{Files, with};

fn errors(part: &str) -> String {
    Files::new(with(part)).errors(&[])
}

fn rule(body: &str) -> String {
    errors(&format!("rules:\n  low: {{ {body} }}"))
}

fn account(body: &str) -> String {
    errors(&format!("accounts:\n  acme: {{ {body} }}"))
}

fn notifier(body: &str) -> String {
    errors(&format!("notifiers:\n  n: {{ {body} }}"))
}

#[test]
fn everything_wrong_with_a_file_is_reported_at_once() {
    let files = Files::new(
        "shedule: every 15m
timezone: Europe/Amsterdm
accounts:
  acme:
    api_key: x
    api_key_file: y
    region: uk
  acme: { api_key: z }
notifiers:
  chat: { type: slak }
  mail: { type: email, host: mx, from: nobody, to: [], port: 0, tls: none, pasword: x }
rules:
  low:
    metric: availble_funds
    warning: { below: 5,000, for: 2 hours }
    notify: [chta, mail, mail]
    accounts: [acne]
    remind_every: 0
  unreadable: { metric: balance }
forecast: {}
",
    );
    insta::assert_snapshot!(files.errors(&[]), @"");
    let json = serde_json::to_value(&files.load(&[]).config.unwrap_err().0[0]).unwrap();
    assert_eq!((&json["severity"], &json["line"], &json["column"]), (&"error".into(), &1.into(), &1.into()));
    assert_eq!((&json["path"], &json["suggestion"]), (&"shedule".into(), &"schedule".into()));
}

#[test]
fn what_is_missing_or_empty_is_said() {
    let files = Files::new("accounts:\nnotifiers: {}\nrules: []\n");
    insta::assert_snapshot!(files.errors(&[]), @"");
    insta::assert_snapshot!(Files::new("timezone: UTC").errors(&[]), @"");
    insta::assert_snapshot!(account("region: us"), @"");
    insta::assert_snapshot!(rule("metric: balance"), @"");
    insta::assert_snapshot!(rule("warning: { for: 1h }"), @"");
    insta::assert_snapshot!(notifier("type: email"), @"");
    insta::assert_snapshot!(notifier("webhook_url: 'https://x.example'"), @"");
}

#[test]
fn levels_that_make_no_sense() {
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 500 }, critical: { below: 3000 }"), @"");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 500, clear_at: 100 }"), @"");
    insta::assert_snapshot!(rule("metric: balance, warning: { above: 500 }, clear_at: 600"), @"");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5, above: 9 }"), @"");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 }, critical: { above: 9 }"), @"");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 USD }, critical: { below: 2 EUR }"), @"");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 USD, clear_at: 6 EUR }"), @"");
    insta::assert_snapshot!(rule("metric: unpaid_invoices, warning: { above: -5 }"), @"");
    insta::assert_snapshot!(rule("metric: runway, warning: { below: 2 000 }"), @"");
    insta::assert_snapshot!(rule("metric: balance, warning: 2000, critical:"), @"");
}

#[test]
fn names_and_divisions_that_nothing_defines() {
    let divided = |divisions: &str, rule: &str| {
        let accounts = format!("accounts:\n  a: {{ api_key: k, {divisions} }}\n  b: {{ api_key: k }}");
        Files::new(with(&accounts).replace("warning:", &format!("{rule}, warning:"))).errors(&[])
    };
    assert_eq!(divided("divisions: [1, 2]", "divisions: [2]"), "");
    assert_eq!(divided("divisions: all", "divisions: [2]"), "");
    let undefined = "expected a division that an account of this rule reads (its `divisions`)";
    for (divisions, rule) in
        [("divisions: [1]", "divisions: [2]"), ("divisions: all", "accounts: [b], divisions: [2]"), ("divisions: all, exclude_divisions: [2]", "divisions: [2]")]
    {
        let errors = divided(divisions, rule);
        assert!(errors.contains(&format!("rules.low.divisions[0]: found `2`, {undefined}")), "{errors}");
    }
    assert!(rule("metric: balance, warning: { below: 5 }, notify: []").contains("found an empty list, expected a list of at least one"));
    let long = errors(&format!("rules:\n  {}: {{ metric: balance, warning: {{ below: 5 }} }}", "n".repeat(65)));
    assert!(long.contains("expected a name for the rule of 1 to 64 characters"), "{long}");
    assert!(errors("rules:\n  \"a\\nb\": { metric: balance, warning: { below: 5 } }").contains("found `a\\nb`"));
}

#[test]
fn accounts_that_make_no_sense() {
    insta::assert_snapshot!(account("api_key: k, region: us, base_url: 'http://api.example.com'"), @"");
    insta::assert_snapshot!(account("api_key: k, divisions: [], exclude_divisions: [1]"), @"");
    insta::assert_snapshot!(account("api_key: k, divisions: [1, x, 1]"), @"");
    insta::assert_snapshot!(account("api_key: k, divisions: 5, rate_limit: [0/5s, 5]"), @"");
    insta::assert_snapshot!(account("api_key: ' ', timeout: 0s, allow_insecure: yes, schedule: hourly"), @"");
    insta::assert_snapshot!(account("api_key: \"a\\nb\", console_url: ftp://x, ca_file: nowhere.pem, schedule: 0 0 30 2 *"), @"");
    assert_eq!(account("api_key: k, base_url: 'http://api.example.com', allow_insecure: true"), "");
    let files = Files::new(with("accounts:\n  acme: { api_key: k, ca_file: ca.pem }"));
    files.add("ca.pem", "nothing");
    insta::assert_snapshot!(files.errors(&[]), @"");
    files.add("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    assert_eq!(files.errors(&[]), "");
}

#[test]
fn notifiers_that_make_no_sense() {
    let mail = "type: email, from: a@example.com, to: [b@example.com]";
    insta::assert_snapshot!(notifier("type: slack, webhook_url: 'http://hooks.example.com/x', host: mx, fallback: n"), @"");
    insta::assert_snapshot!(notifier(&format!("{mail}, host: 'mx:25', password: p, mention: {{}}")), @"");
    insta::assert_snapshot!(notifier(&format!("{mail}, host: mx, username: u, tls: none")), @"");
    insta::assert_snapshot!(notifier(&format!("type: email, host: mx, from: a@example.com, to: [{}]", "b@example.com, ".repeat(51))), @"");
    assert_eq!(notifier(&format!("{mail}, host: mx, tls: none, allow_insecure: true")), "");
    let slack = "type: slack, webhook_url: 'https://h.example'";
    let circle = format!("notifiers:\n  a: {{ {slack}, fallback: b }}\n  b: {{ {slack}, fallback: c }}\n  c: {{ {slack}, fallback: b }}");
    insta::assert_snapshot!(errors(&circle), @"");
}
