//! The JSON Schema of alerts.yaml, checked with an independent validator, and the configuration reference. The schema accepts
//! what the loader accepts, and refuses most of what the loader refuses.

use std::path::Path;
use std::sync::LazyLock;

use crate::support::bin::World;
use jsonschema::Validator;
use serde_json::Value;

const EXAMPLE: &str = include_str!("../../alerts.example.yaml");
const SAVED: &str = include_str!("../../docs/alerts.schema.json");

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(SAVED).unwrap();
    jsonschema::draft202012::meta::validate(&schema).map_err(|error| error.to_string()).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
});

fn errors(text: &str) -> Vec<String> {
    let file = yaml(text);
    VALIDATOR.iter_errors(&file).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Returns a complete file with one account, notifier and rule.
fn file(account: &str, notifier: &str, rule: &str) -> String {
    format!("accounts: {{ a: {{ {account} }} }}\nnotifiers: {{ n: {{ {notifier} }} }}\nrules: {{ r: {{ {rule} }} }}\n")
}

const ACCOUNT: &str = "api_key: k";
const NOTIFIER: &str = "type: slack, webhook_url: 'https://hooks.example.com/T0/B0/x'";
const MAIL: &str = "type: email, host: mx, from: a@example.com, to: [b@example.com]";
const RULE: &str = "metric: balance, warning: { below: 5 }";

#[tokio::test]
async fn the_schema_in_docs_is_the_one_that_the_command_prints() {
    let world = World::new().await;
    let printed = world.run(&["schema", "-c", "missing.yaml"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.schema.json");
    if std::env::var_os("LOWTIDE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &printed.stdout).unwrap();
    }
    let saved = std::fs::read_to_string(path).unwrap();
    assert!(printed.stdout == saved, "docs/alerts.schema.json is out of date: set LOWTIDE_WRITE_DOCS to write it");
    assert_eq!(EXAMPLE.lines().next(), Some("# yaml-language-server: $schema=docs/alerts.schema.json"));
    assert_eq!(world.run(&["init", "-c", "fresh.yaml"]).code, Some(0));
    let fresh = std::fs::read_to_string(world.path("fresh.yaml")).unwrap();
    assert_eq!(fresh.lines().next(), Some("# yaml-language-server: $schema=alerts.schema.json"));
}

#[test]
fn the_configuration_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let reference = lowtide::config::reference();
    if std::env::var_os("LOWTIDE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &reference).unwrap();
    }
    let saved = std::fs::read_to_string(path).unwrap();
    assert!(reference == saved, "docs/configuration.md is out of date: set LOWTIDE_WRITE_DOCS to write it");
}

#[test]
fn the_example_and_other_valid_files_are_accepted() {
    assert_eq!(errors(EXAMPLE), Vec::<String>::new());
    for (account, notifier, rule) in [
        (ACCOUNT, NOTIFIER, RULE),
        ("api_key_file: /run/k, divisions: all, exclude_divisions: [7], rate_limit: 'off', timeout: 5s", MAIL, RULE),
        ("api_key: 123, base_url: 'http://127.0.0.1/v2', divisions: [1, '2'], rate_limit: [100/5s]", NOTIFIER, RULE),
        ("api_key: '${K}', region: '${R}', allow_insecure: '${I}'", "type: '${T}', webhook_url: '${U}'", RULE),
        ("api_key: k, schedule: '*/15 8-18 * * Mon-Fri', console_url: 'https://x'", MAIL, RULE),
        (ACCOUNT, "type: email, host: mx, port: 25, tls: none, username: u, password: 1, from: a, to: [b]", RULE),
        (ACCOUNT, "type: slack, webhook_url_file: f, mention: { critical: '<!here>' }, fallback: n", RULE),
        (
            ACCOUNT,
            NOTIFIER,
            "metric: used_credit, critical: { above: '2000 USD', for: 0, remind_every: never }, for: 2h",
        ),
        (
            ACCOUNT,
            NOTIFIER,
            "metric: balance, warning: { below: '-5.50', clear_at: 3 }, critical: { below: -9 }, link: 'https://x'",
        ),
    ] {
        let text = file(account, notifier, rule);
        assert_eq!(errors(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn invalid_files_are_refused() {
    let broken = [
        format!("shedule: every 15m\n{}", file(ACCOUNT, NOTIFIER, RULE)),
        format!("schedule: whenever\n{}", file(ACCOUNT, NOTIFIER, RULE)),
        format!("schedule: [every 15m]\n{}", file(ACCOUNT, NOTIFIER, RULE)),
        format!("unreadable: {{ level: awful }}\n{}", file(ACCOUNT, NOTIFIER, RULE)),
        format!("unreadable: 3h\n{}", file(ACCOUNT, NOTIFIER, RULE)),
        "accounts: { a: { api_key: k } }\nnotifiers: {}\nrules: {}".to_owned(),
        "accounts: { a: { api_key: k } }".to_owned(),
        file("region: us", NOTIFIER, RULE),
        file("api_key: k, api_key_file: f", NOTIFIER, RULE),
        file("api_key: [k]", NOTIFIER, RULE),
        file("api_key: k, regoin: us", NOTIFIER, RULE),
        file("api_key: k, region: uk", NOTIFIER, RULE),
        file("api_key: k, region: us, base_url: 'https://x'", NOTIFIER, RULE),
        file("api_key: k, divisions: some", NOTIFIER, RULE),
        file("api_key: k, divisions: []", NOTIFIER, RULE),
        file("api_key: k, divisions: [x]", NOTIFIER, RULE),
        file("api_key: k, timeout: 5 minutes", NOTIFIER, RULE),
        file("api_key: k, rate_limit: [100]", NOTIFIER, RULE),
        file("api_key: k, allow_insecure: yes please", NOTIFIER, RULE),
        file(ACCOUNT, "webhook_url: 'https://x'", RULE),
        file(ACCOUNT, "type: slak, webhook_url: 'https://x'", RULE),
        file(ACCOUNT, "type: slack", RULE),
        file(ACCOUNT, "type: slack, webhook_url: 'https://x', host: mx", RULE),
        file(ACCOUNT, "type: slack, webhook_url: 'https://x', mention: '<!here>'", RULE),
        file(ACCOUNT, "type: email, host: mx, from: a@example.com", RULE),
        file(ACCOUNT, "type: email, host: mx, from: a@example.com, to: b@example.com", RULE),
        file(ACCOUNT, &format!("{MAIL}, port: 99999"), RULE),
        file(ACCOUNT, &format!("{MAIL}, pasword: x"), RULE),
        file(ACCOUNT, &format!("{MAIL}, tls: maybe"), RULE),
        file(ACCOUNT, &format!("{MAIL}, username: u, password: p, password_file: f"), RULE),
        file(
            ACCOUNT,
            &format!(
                "{MAIL}, username: u, password: p, oauth2: {{ token_url: 'https://t', client_id: i, client_secret: s }}"
            ),
            RULE,
        ),
        format!("http: {{ listen: '127.0.0.1:9095', token: t, token_file: f }}\n{}", file(ACCOUNT, NOTIFIER, RULE)),
        file(ACCOUNT, NOTIFIER, "warning: { below: 5 }"),
        file(ACCOUNT, NOTIFIER, "metric: balance"),
        file(ACCOUNT, NOTIFIER, "metric: availble_funds, warning: { below: 5 }"),
        file(ACCOUNT, NOTIFIER, "metric: balance, warning: 5"),
        file(ACCOUNT, NOTIFIER, "metric: balance, warning: {}"),
        file(ACCOUNT, NOTIFIER, "metric: balance, warning: { below: 5, above: 4 }"),
        file(ACCOUNT, NOTIFIER, "metric: balance, warning: { below: lots }"),
        file(ACCOUNT, NOTIFIER, "metric: balance, warning: { below: 2000 USDD }"),
        file(ACCOUNT, NOTIFIER, "metric: balance, warning: { below: 5, for: 2 hours }"),
        file(ACCOUNT, NOTIFIER, "metric: balance, critical: { below: 5, remind_every: 1 }"),
        file(ACCOUNT, NOTIFIER, "metric: balance, warning: { below: 5 }, notify: n"),
        file(ACCOUNT, NOTIFIER, "metric: balance, warning: { below: 5 }, link: wiki"),
    ];
    for text in broken {
        assert!(!errors(&text).is_empty(), "accepted: {text}");
    }
}

/// Collects the descriptions in a schema with the paths of their keys, without names that the user chooses.
fn descriptions(path: &str, schema: &Value, out: &mut Vec<(String, String)>) {
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        out.extend(below["description"].as_str().map(|text| (path.clone(), text.to_owned())));
        descriptions(&path, below, out);
        descriptions(&path, &below["additionalProperties"], out);
    }
}

/// Returns what the example says about a key: its line, commented out or not, with the lines above it, in its section.
fn described_in_example(path: &str) -> Vec<String> {
    let (section, key) = (path.split('.').next().unwrap(), path.rsplit('.').next().unwrap());
    let bare = |line: &str| line.trim_start_matches([' ', '#']).to_owned();
    let top =
        |line: &&str| line.trim_start_matches('#').starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(':');
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let begin = lines.iter().position(|line| top(line) && bare(line).starts_with(&format!("{section}:"))).unwrap();
    let end = lines[begin + 1..].iter().position(top).map_or(lines.len(), |at| begin + 1 + at);
    let first = if section == path { 0 } else { begin };
    let of_key = |at: &usize| bare(lines[*at]).starts_with(&format!("{key}:"));
    (first..end).filter(of_key).map(|at| lines[at.saturating_sub(3)..=at].join("\n")).collect()
}

#[test]
fn the_defaults_in_the_schema_are_those_of_the_example() {
    let schema: Value = serde_json::from_str(SAVED).unwrap();
    let mut all = Vec::new();
    descriptions("", &schema, &mut all);
    assert!(all.len() > 80, "{}", all.len());
    let mut checked = 0;
    for (path, text) in all {
        let Some((_, default)) = text.split_once("Default: ") else { continue };
        if default.starts_with("the rule's") {
            assert!(EXAMPLE.contains("# For both levels, unless a level says otherwise."), "{path}");
            continue;
        }
        // The first word of `the threshold` or `all of them` that states the fact.
        let fact = default
            .trim_end_matches('.')
            .split([',', ' '])
            .find(|word| !["the", "by", "those", "named", "in", "top-level"].contains(word))
            .unwrap();
        let described = described_in_example(&path);
        // The keys of a level are shown with those of the rule.
        if described.is_empty() {
            assert!(path.starts_with("rules.") || path.starts_with("accounts."), "{path} is not in the example");
            continue;
        }
        checked += 1;
        let words = if fact == "all" { vec!["all", "every"] } else { vec![fact] };
        let mentions = |lines: &String| words.iter().any(|word| lines.contains(word));
        assert!(described.iter().any(mentions), "{path}: {default} in {described:#?}");
    }
    assert!(checked > 15, "{checked}");
}
