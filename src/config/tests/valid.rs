//! The meaning of valid files.

use std::path::Path;
use std::time::Duration;

use super::super::keys::Key;
use super::super::{ChannelConfig, Config, Divisions, EmailTlsConfig, Quota, catalog, find};
use super::{Files, with};
use crate::domain::rule::{Metric, Severity, ThresholdSide};

const EXAMPLE: &str = include_str!("../../../alerts.example.yaml");
const VARIABLES: [(&str, &str); 3] = [
    ("DIGICERT_API_KEY", "key"),
    ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T/B/x"),
    ("SMTP_PASSWORD", "pass"),
];

fn rule_text(config: &Config, severity: Severity) -> String {
    config.rules[0].level(severity).unwrap().threshold().to_string()
}

#[test]
fn the_example_loads_without_warnings_and_names_every_key() {
    let files = Files::new(EXAMPLE);
    let loaded = files.load(&VARIABLES);
    assert_eq!(loaded.warnings.to_string(), "");
    let config = loaded.config.map_err(|problems| problems.to_string()).unwrap();
    assert_eq!(
        config.rules.iter().map(|rule| rule.name.as_ref()).collect::<Vec<_>>(),
        ["available-funds", "unpaid-invoices"]
    );
    assert_eq!(config.notifiers["finance-slack"].fallback.as_deref(), Some("finance-mail"));
    assert_eq!(loaded.secrets.len(), 3);
    assert_named(catalog::ROOT);
}

/// Fails if the example does not contain one of these keys, or a key below them.
fn assert_named(keys: &[Key]) {
    for key in keys {
        assert!(EXAMPLE.contains(&format!("{}:", key.name)), "{} is not in the example", key.name);
        assert_named(key.below());
    }
}

#[test]
fn the_smallest_file_gets_every_default() {
    let files = Files::new(with(super::ACCOUNTS.trim_end()));
    let config = files.config(&[]);
    let account = &config.accounts["acme"];
    assert_eq!(account.api_key.expose(), "key-of-acme");
    assert_eq!(account.base_url.as_str(), "https://www.digicert.com/services/v2");
    assert_eq!(account.console_url.as_str(), "https://www.digicert.com/secure/");
    assert_eq!((account.divisions.clone(), account.schedule.text()), (Divisions::Undivided, "every 15m"));
    let quota = |requests, seconds| Quota { requests, window: Duration::from_secs(seconds) };
    assert_eq!(account.rate_limit, [quota(100, 5), quota(1000, 180)]);
    assert_eq!(account.connection.timeout, Duration::from_secs(10));
    assert_eq!(config.state, files.0.path().join("lowtide-state.json"));
    assert_eq!(config.timezone, chrono_tz::Tz::UTC);
    let level = config.rules[0].level(Severity::Warning).unwrap();
    assert_eq!((level.hold, level.remind_every), (Duration::ZERO, Some(Duration::from_secs(86400))));
    assert_eq!(level.notify, ["chat".into()]);
    assert_eq!(config.unreadable.after, Duration::from_secs(3 * 3600));
    assert_eq!((config.unreadable.level, config.unreadable.notify), (Severity::Warning, vec!["chat".into()]));
}

#[test]
fn state_path_comes_from_the_file_or_systemd_or_the_default() {
    let files = Files::new(with(super::RULES.trim_end()));
    assert_eq!(
        files.config(&[("STATE_DIRECTORY", "/var/lib/lowtide:/x")]).state,
        Path::new("/var/lib/lowtide/lowtide-state.json")
    );
    let files = Files::new(with("state: here.json"));
    assert_eq!(files.config(&[("STATE_DIRECTORY", "/var/lib/lowtide")]).state, files.0.path().join("here.json"));
}

#[test]
fn amounts_reach_the_rule_exactly_as_written() {
    for (written, value, currency) in [
        ("1999.950", "1999.95", None),
        ("2000 USD", "2000", Some("USD")),
        ("\"2000\"", "2000", None),
        ("0.1 eur", "0.1", Some("EUR")),
        ("-569.00", "-569", None),
        ("123456789012345678.12345678", "123456789012345678.12345678", None),
    ] {
        let config =
            Files::new(with(&format!("rules: {{ low: {{ metric: balance, critical: {{ below: {written} }} }} }}")))
                .config(&[]);
        let threshold = config.rules[0].level(Severity::Critical).unwrap().threshold().amount().unwrap();
        assert_eq!(threshold.value, value.parse().unwrap(), "{written}");
        assert!(written.contains(&threshold.value.to_string()), "{} is not as written: {written}", threshold.value);
        assert_eq!(threshold.currency.map(|currency| currency.code().to_owned()).as_deref(), currency, "{written}");
    }
}

#[test]
fn levels_inherit_settings_from_their_rule() {
    let config = Files::new(with(
        "rules:
  invoices:
    metric: unpaid_invoices
    warning: { above: 1000, for: 0 }
    critical: { above: 5000 USD, remind_every: never, notify: [chat] }
    clear_at: 10
    for: 2h
    remind_every: 1d
    accounts: [acme]
    description: |
      two
      lines",
    ))
    .config(&[]);
    let rule = &config.rules[0];
    let (warning, critical) = (rule.level(Severity::Warning).unwrap(), rule.level(Severity::Critical).unwrap());
    assert_eq!((rule.metric, warning.side()), (Metric::UnpaidInvoices, ThresholdSide::Above));
    assert_eq!((warning.clear_at().to_string(), critical.clear_at().to_string()), ("10".to_owned(), "10".to_owned()));
    assert_eq!((warning.hold, critical.hold), (Duration::ZERO, Duration::from_secs(7200)));
    assert_eq!((warning.remind_every, critical.remind_every), (Some(Duration::from_secs(86400)), None));
    assert_eq!(rule.description.as_deref(), Some("two\nlines"));
    assert!(rule.accounts.as_ref().unwrap().contains("acme"));
    assert_eq!(rule_text(&config, Severity::Critical), "USD 5,000.00");
}

#[test]
fn accounts_divisions_regions_limits_and_mail() {
    let config = Files::new(
        "accounts:
  eu: { api_key: &key k1, region: eu, divisions: all, exclude_divisions: [7], rate_limit: off, schedule: 0 9 * * * }
  own: { api_key: *key, base_url: 'http://127.0.0.1:8080/v2/', divisions: [3, 1], timeout: 5s, rate_limit: [5/1s] }
notifiers:
  mail: { type: email, host: mx, tls: starttls, from: a@example.com, to: ['B <b@example.com>', c@example.com] }
  local: { type: email, host: '[::1]', tls: none, username: u, password: p, from: a@example.com, to: [b@example.com], fallback: mail, hello: vm.example.com }
rules:
  low: { metric: balance, warning: { below: 1 }, divisions: [3] }
unreadable: { after: 0, level: critical, remind_every: never, notify: [mail] }",
    )
    .config(&[]);
    let (eu, own) = (&config.accounts["eu"], &config.accounts["own"]);
    assert_eq!(eu.base_url.as_str(), "https://certcentral.digicert.eu/services/v2");
    assert_eq!(eu.console_url.as_str(), "https://certcentral.digicert.eu/secure/");
    assert_eq!((&eu.divisions, eu.rate_limit.len()), (&Divisions::All { exclude: [7].into() }, 0));
    assert_eq!((own.base_url.as_str(), own.api_key.expose()), ("http://127.0.0.1:8080/v2", "k1"));
    assert_eq!((&own.divisions, own.rate_limit[0].requests), (&Divisions::Listed(vec![3, 1]), 5));
    let ChannelConfig::Email { port, to, credentials, hello, .. } = &config.notifiers["mail"].channel else { panic!() };
    assert_eq!((*port, to.len(), credentials.is_none(), hello.as_deref()), (587, 2, true, None));
    let ChannelConfig::Email { port, tls, host, credentials, hello, .. } = &config.notifiers["local"].channel else {
        panic!()
    };
    assert_eq!(hello.as_deref(), Some("vm.example.com"));
    assert_eq!((*port, *tls, host.as_str(), credentials.is_some()), (25, EmailTlsConfig::None, "::1", true));
    assert_eq!((config.unreadable.after, config.unreadable.remind_every), (Duration::ZERO, None));
}

#[test]
fn silences_end_in_the_files_zone_and_ended_ones_only_warn() {
    let files = Files::new(with(
        "timezone: Europe/Amsterdam
silences:
  po: { account: acme, until: 2126-12-01T09:00, reason: PO 4711 raised }
  all: { account: acme, rule: unreadable, until: '2126-12-01T09:00:00Z', level: critical }
  old: { account: acme, rule: low, until: 2020-12-01T09:00 }",
    ));
    let config = files.config(&[]);
    assert_eq!(config.silences.keys().map(|name| &**name).collect::<Vec<_>>(), ["all", "po"]);
    let (all, po) = (&config.silences["all"], &config.silences["po"]);
    assert_eq!(po.until.to_rfc3339(), "2126-12-01T08:00:00+00:00");
    assert_eq!((po.level, po.rule.as_deref(), po.reason.as_deref()), (Severity::Warning, None, Some("PO 4711 raised")));
    assert_eq!(all.until.to_rfc3339(), "2126-12-01T09:00:00+00:00");
    assert_eq!((all.level, all.rule.as_deref(), all.division), (Severity::Critical, Some("unreadable"), None));
    assert_eq!(
        files.warnings(&[]),
        "alerts.yaml:5:43: silences.old.until: the silence has ended and has no effect; expected a later time, or no such silence"
    );
    assert!(Files::new(with("silences: {}")).config(&[]).silences.is_empty());
}

#[test]
fn an_explicit_file_is_used() {
    assert_eq!(find(Some(Path::new("/x/y.yaml"))), Path::new("/x/y.yaml"));
}

#[test]
fn webhook_pagerduty_teams_and_oauth2_take_keys_files_and_overrides() {
    let key = format!("whsec_{}", "QUJD".repeat(8));
    let files = Files::new(with(&format!(
        "notifiers:
  hook: {{ type: webhook, url: 'https://h.example/x', headers: {{ X-Api-Key: k-e-y, authorization: Bearer one }}, signing_secret: {key} }}
  plain: {{ type: webhook, url_file: url, fallback: hook }}
  page: {{ type: pagerduty, routing_key: 0123456789abcdef0123456789abcdef, url: 'https://events.eu.pagerduty.com' }}
  page2: {{ type: pagerduty, routing_key_file: url }}
  page3: {{ type: pagerduty, routing_key: k, url: 'http://127.0.0.1:9/own' }}
  team: {{ type: teams, webhook_url: 'https://t.example/?sig=1' }}
  mail: {{ type: email, host: mx, username: box@example.com, from: a@example.com, to: [b@example.com], oauth2: {{ token_url: 'https://login.example/token', client_id: me, client_secret: s, scope: mail }} }}"
    )));
    files.add("url", "https://secret.example/\n");
    let config = files.config(&[("LOWTIDE_NOTIFIERS__HOOK__HEADERS__AUTHORIZATION", "Bearer two")]);
    let channel = |name: &str| config.notifiers[name].channel.clone();
    let ChannelConfig::Webhook { url, headers, signing_secret } = channel("hook") else { panic!() };
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("x-api-key", "k-e-y"), ("authorization", "Bearer two")]);
    assert_eq!((url.expose(), signing_secret.unwrap().expose()), ("https://h.example/x", key.as_str()));
    let ChannelConfig::Webhook { url, headers, signing_secret } = channel("plain") else { panic!() };
    assert_eq!((url.expose(), headers.len(), signing_secret), ("https://secret.example/", 0, None));
    let page = |name: &str| match channel(name) {
        ChannelConfig::PagerDuty { routing_key, url } => (routing_key.expose().to_owned(), url.map(String::from)),
        _ => panic!(),
    };
    assert_eq!(page("page").1.unwrap(), "https://events.eu.pagerduty.com/v2/enqueue");
    assert_eq!(page("page2"), ("https://secret.example/".to_owned(), None));
    assert_eq!(page("page3").1.unwrap(), "http://127.0.0.1:9/own");
    assert!(matches!(channel("team"), ChannelConfig::Teams { webhook_url } if webhook_url.expose().ends_with("sig=1")));
    let ChannelConfig::Email { oauth2: Some((user, oauth2)), credentials: None, .. } = channel("mail") else {
        panic!()
    };
    assert_eq!(
        (user.as_str(), oauth2.client_id.as_str(), oauth2.scope.as_deref()),
        ("box@example.com", "me", Some("mail"))
    );
    assert_eq!(oauth2.token_url.as_str(), "https://login.example/token");
}

#[test]
fn forecast_rules_have_windows_confidence_and_durations() {
    let config = Files::new(
        "accounts:
  acme: { api_key: k, not_spend: [Expired Deposit, 'Adjustment'] }
notifiers:
  chat: { type: slack, webhook_url: 'https://hooks.slack.com/services/T0/B0/x' }
rules:
  lasts: { metric: runway, confidence: 0.95, warning: { below: 21d, clear_at: 30d }, critical: { below: 36h } }
  spent: { metric: spend, warning: { above: 500 USD } }
  short: { metric: shortfall, within: 14d, warning: { above: 0 } }
  plain: { metric: balance, warning: { below: 5 } }",
    )
    .config(&[]);
    let days = |days: u64| Duration::from_secs(days * 86400);
    let rule = |name: &str| config.rules.iter().find(|rule| &*rule.name == name).unwrap();
    assert_eq!(rule("lasts").confidence.percent(), 95);
    let warning = rule("lasts").level(Severity::Warning).unwrap();
    assert_eq!((warning.threshold(), warning.clear_at()), (days(21).into(), days(30).into()));
    assert_eq!(rule("lasts").level(Severity::Critical).unwrap().threshold().to_string(), "36h");
    assert_eq!(["spent", "short", "plain"].map(|name| rule(name).within()), [Some(days(1)), Some(days(14)), None]);
    let not_spend = config.accounts["acme"].not_spend.clone().unwrap();
    assert_eq!(not_spend, ["Expired Deposit", "Adjustment"]);
}
