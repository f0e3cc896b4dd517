//! Excerpts of the file beside the problems: they show the mistake and never a secret.

use super::super::keys::Key;
use super::super::{ConfigProblem, catalog};
use super::{Files, RULES, with};

const SECRET: &str = "Hunter2-Secr3t-9f8e7d6c5b4a";

/// Returns the excerpts of all errors, one a line, with the marked part between angle brackets.
fn excerpts(files: &Files, variables: &[(&str, &str)]) -> String {
    let problems = files.load(variables).config.unwrap_err();
    let marked = |problem: &ConfigProblem| {
        let Some(excerpt) = &problem.excerpt else { return "none".to_owned() };
        let (text, range) = (&excerpt.text, excerpt.marked.clone());
        format!("{}<{}>{}", &text[..range.start], &text[range.clone()], &text[range.end..])
    };
    problems.iter().map(marked).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_mistake_is_marked() {
    let files = Files::new(
        "accounts:
  acme:
    api_key: Hunter2-Secr3t
    region: uk       # for now
  globex: { api_key: Hunter2-Secr3t, region: eu, timeout: 5 minutes }
notifiers:
  finance-slack: { type: slack, webhook_url: \"${URL}\" }
  pki-slack:
    type: slack
rules:
  low: { metric: availble_funds, warning: { below: 2000 USDD }, accounts: [acne] }
  high: { metric: balance, warning: { below: 1 }, crit: { below: 0 } }",
    );
    insta::assert_snapshot!(excerpts(&files, &[]), @r#"
        region: <uk>
      …: { api_key: …, region: eu, timeout: <5 minutes> }
      finance-slack: { type: slack, webhook_url: <"${URL}"> }
      <pki-slack>:
      low: { metric: <availble_funds>, warning: { below: … }, accounts: […] }
      low: { metric: …, warning: { below: <2000 USDD> }, accounts: […] }
    …: { metric: …, warning: { below: … }, accounts: [<acne>] }
      high: { metric: balance, warning: { below: … }, <crit>: { below: … } }
    "#);
}

#[test]
fn a_missing_section_has_no_excerpt() {
    assert_eq!(excerpts(&Files::new("timezone: UTC"), &[]), "none\nnone\nnone");
}

/// Every way in which a secret can be near a problem. `SECRET` stands for the secret.
const NEAR_SECRETS: &[&str] = &[
    "accounts:\n  a: { api_key: SECRET, region: uk }",
    "accounts:\n  a: { api_key: 'SECRETé' }",
    "accounts:\n  a:\n    region: uk # api_key: SECRET",
    "accounts:\n  a:\n    api_key: [SECRET]",
    "accounts:\n  a:\n    api_key: { SECRET: 1 }",
    "accounts:\n  a:\n    api_key: SECRET\n\tregion: us",
    "accounts:\n  a:\n    api_key SECRET\n    region: us",
    "accounts:\n  a:\n    api_key:SECRET",
    "accounts:\n  a:\n    api_key=SECRET",
    "accounts:\n  a:\n    api_key: 'SECRET",
    "accounts:\n  a:\n    api_key: 'SECRET' x",
    "accounts:\n  a:\n    api_key: SECRET: x",
    "accounts:\n  a:\n    api_key: @SECRET",
    "accounts:\n  a:\n    apikey: SECRET",
    "accounts:\n  a:\n    api_key: |\n      SECRET\n     x: y",
    "accounts:\n  a: SECRET",
    "accounts:\n  a: { api_key: k, base_url: 'https://user:SECRET@api.example.com' }",
    "accounts:\n  a: { api_key: 'SECRET${', region: uk }",
    "notifiers:\n  n: { type: slack, webhook_url: 'http://hooks.example.com/SECRET' }",
    "notifiers:\n  n: { type: slack, webhook_url: 'https://hooks.example.com/SECRET', host: x }",
    "notifiers:\n  n: { type: teams, webhook_url: 'http://hooks.example.com/SECRET' }",
    "notifiers:\n  n: { type: email, host: mx, password: SECRET }",
    "notifiers:\n  n: { type: email, host: mx, pasword: SECRET }",
    "notifiers:\n  n: { type: email, host: 'u:SECRET@mx' }",
    "notifiers:\n  n: { type: email, username: u, oauth2: { token_url: x, client_secret: SECRET } }",
    "notifiers:\n  n: { type: email, username: u, oauth2: { client_secrets: SECRET } }",
    "notifiers:\n  n: { type: webhook, url: 'http://h.example/SECRET' }",
    "notifiers:\n  n: { type: webhook, url: 'https://h.example', headers: { X-Key: ' SECRET' } }",
    "notifiers:\n  n: { type: webhook, url: 'https://h.example', headers: { 'X Key: SECRET': 1 } }",
    "notifiers:\n  n: { type: webhook, url: 'https://h.example', headers: 'X-Key: SECRET' }",
    "notifiers:\n  n: { type: webhook, url: 'https://h.example', signing_secret: SECRET }",
    "notifiers:\n  n: { type: pagerduty, routing_key: 'SECRET x' }",
    "notifiers:\n  n: { type: pagerduty, routing_key: SECRET, url: 'http://h.example' }",
    "http: { listen: 192.0.2.1:80, tokn: SECRET }",
    "http: { listen: x, token: 'SECRET é' }",
    "heartbeat: { url: 'http://hc.example/SECRET', evry: 1m }",
    "state: [{ token: SECRET }]",
];

#[test]
fn no_excerpt_shows_a_secret() {
    for part in NEAR_SECRETS {
        let files = Files::new(with(&part.replace("SECRET", SECRET)));
        let problems = files.load(&[]).config.unwrap_err();
        let shown = format!("{}\n{problems}", excerpts(&files, &[]));
        for piece in SECRET.as_bytes().windows(6) {
            let piece = std::str::from_utf8(piece).unwrap();
            assert!(!shown.contains(piece), "{part}\n{shown}");
        }
    }
}

/// Fails if one of the secrets among these keys is not in [`NEAR_SECRETS`].
fn assert_tested(keys: &[Key]) {
    for key in keys {
        let tested = |part: &&&str| part.contains(&format!("{}: ", key.name));
        assert!(!key.secret || NEAR_SECRETS.iter().any(|part| tested(&part)), "{} is not tested", key.name);
        assert_tested(key.below());
    }
}

#[test]
fn every_secret_key_is_tested() {
    assert_tested(catalog::ROOT);
}

#[test]
fn long_lines_and_many_problems_are_bounded() {
    let keys: Vec<String> = (0..400).map(|i| format!("unknown-key-{i}: x")).collect();
    let files = Files::new(format!("{{ {} }}", keys.join(", ")));
    let problems = files.load(&[]).config.unwrap_err();
    assert_eq!(problems.iter().filter(|problem| problem.excerpt.is_some()).count(), 100);
    let length = |problem: &ConfigProblem| problem.excerpt.as_ref().map(|excerpt| excerpt.text.len());
    assert!(problems.iter().filter_map(length).all(|length| length < 500));
}

#[test]
fn one_mistake_is_one_error() {
    let errors = |part: &str| Files::new(with(part)).errors(&[]);
    let mail = "type: email, host: mx, from: a@example.com, to: [b@example.com]";
    for (part, suggestion) in [
        ("accounts:\n  a: { api_kye: k }", "`api_key`"),
        ("accounts:\n  a: { api_key k }", "a colon"),
        ("accounts:\n  a: { api_key: k, division: all, exclude_divisions: [1] }", "`divisions`"),
        ("notifiers:\n  n: { tpye: slack, webhook_url: 'https://h.example' }", "`type`"),
        ("notifiers:\n  n: { type: slack, webhok_url: 'https://h.example' }", "`webhook_url`"),
        ("notifiers:\n  n: { type: slack, url: 'https://h.example' }", "`webhook_url`"),
        ("notifiers:\n  n: { type: webhook, webhook_url: 'https://h.example' }", "`url`"),
        ("notifiers:\n  n: { type: email, hots: mx, from: a@example.com, to: [b@example.com] }", "`host`"),
        ("rules:\n  r: { metrik: balance, warning: { below: 5 } }", "`metric`"),
        ("rules:\n  r: { metric: balance, warnign: { below: 5 } }", "`warning`"),
        ("rules:\n  r: { metric: balance, warning: { belwo: 5 } }", "`below`"),
        ("http: { lsiten: 127.0.0.1:9095 }", "`listen`"),
        ("http: { listen: '192.0.2.1:9095', tokne: t }", "`token`"),
        ("reports:\n  r: { shedule: every 24h }", "`schedule`"),
    ] {
        let found = errors(part);
        assert_eq!(found.lines().count(), 1, "{part}\n{found}");
        assert!(found.contains(suggestion), "{part}\n{found}");
    }
    for login in ["usrname: u, password: p", "username: u, pasword: p", "username: u, oauht2: {}"] {
        let found = errors(&format!("notifiers:\n  n: {{ {mail}, {login} }}"));
        assert_eq!(found.lines().count(), 1, "{login}\n{found}");
    }
    let misspelt = |from: &str, to: &str| {
        let rules = RULES.replace("metric:", "accounts: [acme], notify: [chat], metric:");
        Files::new(with(rules.trim_end()).replace(from, to)).errors(&[])
    };
    for (from, to) in [("accounts:\n", "acounts:\n"), ("notifiers:", "notifers:")] {
        let found = misspelt(from, to);
        assert_eq!(found.lines().count(), 1, "{to}\n{found}");
    }
}

#[test]
fn an_unknown_key_lists_the_keys_of_the_notifiers_type() {
    let problems = Files::new(with("notifiers:\n  n: { type: teams, webhook_url: 'https://h.example', colour: red }"));
    insta::assert_snapshot!(problems.errors(&[]), @"alerts.yaml:2:55: notifiers.n.colour: unknown key `colour`; expected one of type, webhook_url, webhook_url_file, fallback, quiet_hours, timeout, ca_file, allow_insecure");
}
