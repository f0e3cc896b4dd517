//! The environment: overrides, interpolation and secrets in files.

use std::time::Duration;

use super::super::{ChannelConfig, Divisions};
use super::{Files, RULES, with};
use crate::domain::rule::{Severity, ThresholdSide};

#[test]
fn overrides_are_verbatim_and_lists_are_split_at_commas() {
    let files = Files::new(with("timezone: Europe/Oslo"));
    let config = files.config(&[
        ("LOWTIDE_TIMEZONE", "Europe/Amsterdam"),
        ("LOWTIDE_ACCOUNTS__ACME__API_KEY", "${NOT} $$ true"),
        ("LOWTIDE_ACCOUNTS__ACME__DIVISIONS", "3, 4"),
        ("LOWTIDE_RULES__LOW__WARNING__BELOW", "1999.950"),
        ("LOWTIDE_RULES__LOW__CRITICAL__BELOW", "5"),
        ("LOWTIDE_RULES__LOW__NOTIFY", "[chat]"),
        ("LOWTIDE_UNREADABLE__AFTER", "5h"),
        ("LOWTIDE_CONFIG", "x"),
        ("LOWTIDE_LOG_LEVEL", "debug"),
    ]);
    assert_eq!(config.timezone, chrono_tz::Europe::Amsterdam);
    assert_eq!(config.accounts["acme"].api_key.expose(), "${NOT} $$ true");
    assert_eq!(config.accounts["acme"].divisions, Divisions::Listed(vec![3, 4]));
    assert_eq!(
        config.rules[0].level(Severity::Warning).unwrap().threshold().amount().unwrap().value,
        "1999.95".parse().unwrap()
    );
    assert!(config.rules[0].level(Severity::Critical).is_some());
    assert_eq!(config.unreadable.after, Duration::from_secs(5 * 3600));
    let config = files
        .config(&[("LOWTIDE_ACCOUNTS__ACME__DIVISIONS", "all"), ("LOWTIDE_ACCOUNTS__ACME__RATE_LIMIT", "5/1s,9/1m")]);
    assert_eq!(config.accounts["acme"].divisions, Divisions::All { exclude: [].into() });
    assert_eq!(config.accounts["acme"].rate_limit.len(), 2);
}

#[test]
fn problems_of_overrides_name_the_variable() {
    let files = Files::new(with("timezone: Europe/Oslo"));
    let variables = [
        ("LOWTIDE_ACCOUNTS__ACME__TIMEOUT", "0s"),
        ("LOWTIDE_RULES__LOW__NOTIFY", "chat,chta"),
        ("LOWTIDE_ACCOUNTS__ACME__API_KEY", "wörd-that-is-secret"),
    ];
    insta::assert_snapshot!(files.errors(&variables), @"
    LOWTIDE_ACCOUNTS__ACME__API_KEY: accounts.acme.api_key: the value of `api_key` is not an API key; expected an API key of printable ASCII characters, without spaces around it
    LOWTIDE_ACCOUNTS__ACME__TIMEOUT: accounts.acme.timeout: `0s` is too short; expected a duration above 0, such as 90s, 30m, 4h, 2d or 1w
    LOWTIDE_RULES__LOW__NOTIFY: rules.low.notify[1]: `chta` is not the name of a notifier; expected a name under `notifiers`; did you mean `chat`?
    ");
    let ignored = [
        ("LOWTIDE_PORT", "tcp://10.0.0.1:80"),
        ("LOWTIDE_SHEDULE", "x"),
        ("LOWTIDE_RULES", "x"),
        ("LOWTIDE_ACCOUNTS__OTHER__API_KEY", "topsecret"),
        ("LOWTIDE_STATE__X", "x"),
    ];
    assert_eq!(files.errors(&ignored), "");
    insta::assert_snapshot!(files.warnings(&ignored), @"
    LOWTIDE_ACCOUNTS__OTHER__API_KEY: accounts.other.api_key: ignored, since `other` is not defined in the file; expected a name that the file has under `accounts`
    LOWTIDE_RULES: rules: ignored, since it names a whole section; expected one key of it
    LOWTIDE_SHEDULE: shedule: ignored, since `shedule` is not a key; expected one of schedule, timezone, state, accounts, notifiers, rules, unreadable, http, heartbeat, silences, reports; did you mean `schedule`?
    LOWTIDE_STATE__X: state.x: ignored, since `x` is not a key; expected no further level
    ");
}

#[test]
fn values_may_contain_variables_and_errors_quote_the_source() {
    let files = Files::new(with("schedule: ${WHEN}\ntimezone: ${NONE}\nstate: ${x\nunreadable: { after: '${LONG}' }"));
    let errors = files.errors(&[("WHEN", "often-expanded"), ("LONG", "long-expanded")]);
    insta::assert_snapshot!(errors, @r#"
    alerts.yaml:1:11: schedule: `${WHEN}` is not a schedule; expected a crontab of 5 fields ("*/15 * * * *"), of 6 with seconds first, or "every 15m"
    alerts.yaml:2:11: timezone: environment variable NONE is not set; expected a variable that is set before lowtide starts (write `$$` for a dollar sign)
    alerts.yaml:3:8: state: `${x` has `${` without `}`; expected `}` after `${` (write `$${` for a plain `${`)
    alerts.yaml:4:22: unreadable.after: `${LONG}` is not a duration; expected a duration such as 90s, 30m, 4h, 2d or 1w
    "#);
    let config = Files::new(with("accounts:\n  acme: { api_key: '${KEY}$$${KEY}' }")).config(&[("KEY", "a: #b")]);
    assert_eq!(config.accounts["acme"].api_key.expose(), "a: #b$a: #b");
}

#[test]
fn secrets_are_read_from_files_beside_the_configuration() {
    let accounts = |file: &str| Files::new(with(&format!("accounts:\n  acme: {{ api_key_file: {file} }}")));
    let files = accounts("key");
    files.add("key", "from-the-file\r\n");
    assert_eq!(files.config(&[]).accounts["acme"].api_key.expose(), "from-the-file");
    files.add("key", "\n");
    insta::assert_snapshot!(files.errors(&[]), @"alerts.yaml:2:25: accounts.acme.api_key_file: cannot use `key`: an empty file; expected a file with the secret");
    files.add("key", vec![b'x'; 65 * 1024]);
    insta::assert_snapshot!(files.errors(&[]), @"alerts.yaml:2:25: accounts.acme.api_key_file: cannot use `key`: a larger file; expected a file of at most 64 KiB with the secret and nothing else");
    files.add("key", "content that is nöt for a header");
    insta::assert_snapshot!(files.errors(&[]), @"alerts.yaml:2:25: accounts.acme.api_key_file: the value of `api_key_file` is not an API key; expected an API key of printable ASCII characters, without spaces around it");
    insta::assert_snapshot!(accounts("missing").errors(&[]), @"alerts.yaml:2:25: accounts.acme.api_key_file: cannot use `missing`: no such file; expected a readable file with the secret");
    let swapped = accounts("'${API_KEY}'").errors(&[("API_KEY", "hunter2hunter2")]);
    assert!(swapped.contains("cannot use `${API_KEY}`: no such file"), "{swapped}");
    insta::assert_snapshot!(accounts("/").errors(&[]), @"alerts.yaml:2:25: accounts.acme.api_key_file: cannot use `/`: a folder; expected a readable file with the secret");
}

#[test]
fn no_message_shows_a_secret() {
    let secret = "hunter2hunter2";
    let files = Files::new(format!(
        "api_key: {secret}
accounts:
  a: {{ api_key: '{secret}é', region: {secret} }}
  b: {{ api_key: '{secret}${{', api_keys: {secret} }}
  c: {{ api_key: [{secret}] }}
  d: api_key:{secret}
  e: {{ 'api_key={secret}': 1, 'api-key:{secret}': 2 }}
  f: {{ api_key: {secret}, base_url: 'https://user:{secret}@example.com' }}
  g: {{ api_key: {{ {secret}: 1, {secret}: 2 }} }}
notifiers:
  s: {{ type: slack, webhook_url: 'http://hooks.example.com/{secret}' }}
  t: {{ type: slack, webhook_url: '{secret}' }}
  m: {{ type: email, host: 'u:{secret}@mx', password: '{secret}', from: x, to: x }}
rules: {{ r: {{ metric: {secret}, link: 'http://{secret}:x@y' }} }}"
    ));
    let loaded = files.load(&[]);
    let problems = loaded.config.unwrap_err();
    assert!(problems.len() > 15, "{problems}");
    let all =
        format!("{problems}\n{}\n{:?}\n{}", loaded.warnings, loaded.secrets, serde_json::to_string(&problems).unwrap());
    assert!(!all.contains("hunter2"), "{all}");
}

#[cfg(unix)]
#[test]
fn a_readable_file_with_secrets_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new(with(RULES.trim_end()));
    assert_eq!(files.warnings(&[]), "");
    let open = |files: &Files| {
        std::fs::set_permissions(files.0.path().join("alerts.yaml"), PermissionsExt::from_mode(0o644)).unwrap();
    };
    open(&files);
    insta::assert_snapshot!(files.warnings(&[]), @"alerts.yaml: other users can read this file, and it contains secrets (mode 0644); expected mode 0600, or ${NAME} or a `_file` key instead of the secrets");
    let files = Files::new(format!(
        "accounts: {{ a: {{ api_key: '${{K}}' }} }}\nnotifiers: {{ n: {{ type: slack, webhook_url: '${{U}}' }} }}\n{RULES}"
    ));
    open(&files);
    let variables = [("K", "key"), ("U", "https://hooks.example.com/")];
    assert_eq!((files.errors(&variables), files.warnings(&variables)), (String::new(), String::new()));
    let ChannelConfig::Slack { webhook_url, .. } = &files.config(&variables).notifiers["n"].channel else { panic!() };
    assert_eq!(webhook_url.expose(), "https://hooks.example.com/");
}

#[test]
fn an_override_replaces_the_keys_that_exclude_it() {
    let files = Files::new(
        "accounts:
  acme: { api_key_file: nowhere, base_url: 'https://nowhere.example' }
  below: { api_key: k, region: eu }
  some: { api_key: k, divisions: all, exclude_divisions: [3] }
notifiers:
  hook: { type: webhook, url: 'https://hook.example/old', signing_secret_file: nowhere }
  mail: { type: email, host: mx, username: u, password_file: nowhere, from: a@example.com, to: [b@example.com] }
  login: { type: email, host: mx, username: u, password: p, from: a@example.com, to: [b@example.com] }
  token: { type: email, host: mx, username: u, oauth2: { token_url: 'https://t.example', client_id: i, client_secret_file: nowhere }, from: a@example.com, to: [b@example.com] }
  other: { type: email, host: mx, username: u, oauth2: { token_url: 'https://t.example', client_id: i, client_secret: s }, from: a@example.com, to: [b@example.com] }
rules:
  low: { metric: balance, warning: { below: 2000, clear_at: 2500 } }
http: { listen: '127.0.0.1:9095', token_file: nowhere }
",
    );
    files.add("url", "https://hook.example/new");
    let key = format!("whsec_{}", "QUJD".repeat(8));
    let config = files.config(&[
        ("LOWTIDE_ACCOUNTS__ACME__API_KEY", "from-the-environment"),
        ("LOWTIDE_ACCOUNTS__ACME__REGION", "eu"),
        // An account may be called as a key is.
        ("LOWTIDE_ACCOUNTS__BELOW__BASE_URL", "https://below.example"),
        ("LOWTIDE_ACCOUNTS__SOME__DIVISIONS", "[1, 2]"),
        ("LOWTIDE_NOTIFIERS__HOOK__URL_FILE", "url"),
        ("LOWTIDE_NOTIFIERS__HOOK__SIGNING_SECRET", &key),
        ("LOWTIDE_NOTIFIERS__MAIL__PASSWORD", "new"),
        ("LOWTIDE_NOTIFIERS__LOGIN__OAUTH2__TOKEN_URL", "https://t.example"),
        ("LOWTIDE_NOTIFIERS__LOGIN__OAUTH2__CLIENT_ID", "i"),
        ("LOWTIDE_NOTIFIERS__LOGIN__OAUTH2__CLIENT_SECRET", "s"),
        ("LOWTIDE_NOTIFIERS__TOKEN__OAUTH2__CLIENT_SECRET", "s"),
        ("LOWTIDE_RULES__LOW__WARNING__ABOVE", "1000"),
        ("LOWTIDE_NOTIFIERS__OTHER__PASSWORD", "p"),
        ("LOWTIDE_HTTP__TOKEN", "token"),
    ]);
    let (acme, below) = (&config.accounts["acme"], &config.accounts["below"]);
    assert_eq!(acme.api_key.expose(), "from-the-environment");
    assert_eq!(acme.base_url.as_str(), "https://certcentral.digicert.eu/services/v2");
    assert_eq!(below.base_url.as_str(), "https://below.example/");
    assert!(matches!(&config.accounts["some"].divisions, Divisions::Listed(ids) if ids.len() == 2));
    let ChannelConfig::Webhook { url, signing_secret, .. } = &config.notifiers["hook"].channel else { panic!() };
    assert_eq!((url.expose(), signing_secret.as_ref().unwrap().expose()), ("https://hook.example/new", key.as_str()));
    let login = |name: &str| match &config.notifiers[name].channel {
        ChannelConfig::Email { credentials, oauth2, .. } => (credentials.is_some(), oauth2.is_some()),
        _ => panic!(),
    };
    let logins = ["mail", "login", "token", "other"].map(login);
    assert_eq!(logins, [(true, false), (false, true), (false, true), (true, false)]);
    let warning = config.rules[0].level(Severity::Warning).unwrap();
    assert_eq!((warning.side(), warning.threshold().to_string()), (ThresholdSide::Above, "1,000".to_owned()));
    assert_eq!(config.http.unwrap().token.unwrap().expose(), "token");
}

#[test]
fn two_overrides_that_exclude_each_other_are_both_named() {
    let files = Files::new(with("accounts:\n  acme: { api_key_file: nowhere }"));
    files.add("key", "k");
    let errors = files.errors(&[
        ("LOWTIDE_ACCOUNTS__ACME__API_KEY", "k"),
        ("LOWTIDE_ACCOUNTS__ACME__API_KEY_FILE", "key"),
        ("LOWTIDE_RULES__LOW__WARNING__ABOVE", "1"),
        ("LOWTIDE_RULES__LOW__WARNING__BELOW", "2"),
    ]);
    insta::assert_snapshot!(errors, @"
    LOWTIDE_ACCOUNTS__ACME__API_KEY_FILE: accounts.acme.api_key_file: `api_key_file` and `api_key` (LOWTIDE_ACCOUNTS__ACME__API_KEY) exclude each other; expected only one of them
    LOWTIDE_RULES__LOW__WARNING__ABOVE: rules.low.warning.above: `above` and `below` (LOWTIDE_RULES__LOW__WARNING__BELOW) exclude each other; expected only one of them
    ");
    let mail = "type: email, host: mx, username: u, from: a@example.com, to: [b@example.com]";
    let oauth2 = "oauth2: { token_url: 'https://t.example', client_id: i, client_secret: s }";
    for own in ["tls: implicit", oauth2] {
        let files = Files::new(with(&format!("notifiers:\n  mail: {{ {mail}, {own} }}")));
        let errors = files.errors(&[
            ("LOWTIDE_NOTIFIERS__MAIL__OAUTH2__CLIENT_SECRET", "s"),
            ("LOWTIDE_NOTIFIERS__MAIL__PASSWORD", "p"),
        ]);
        assert!(
            errors.contains("LOWTIDE_NOTIFIERS__MAIL__PASSWORD: notifiers.mail.password: `password` and `oauth2`"),
            "{errors}"
        );
    }
}
