//! The text of every kind of problem.

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
fn all_problems_of_a_file_are_reported_at_once() {
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
    insta::assert_snapshot!(files.errors(&[]), @r#"
    alerts.yaml:1:1: shedule: unknown key `shedule`; expected one of schedule, timezone, state, accounts, notifiers, rules, unreadable, http, heartbeat, silences, reports; did you mean `schedule`?
    alerts.yaml:2:11: timezone: `Europe/Amsterdm` is not a time zone; expected an IANA time zone such as Europe/Amsterdam; did you mean `Europe/Amsterdam`?
    alerts.yaml:6:19: accounts.acme.api_key_file: `api_key_file` and `api_key` exclude each other; expected only one of them
    alerts.yaml:6:19: accounts.acme.api_key_file: cannot use `y`: no such file; expected a readable file with the secret
    alerts.yaml:7:13: accounts.acme.region: `uk` is not a region; expected us or eu
    alerts.yaml:8:3: accounts: duplicate key `acme`, first used in line 4; expected each key once
    alerts.yaml:10:17: notifiers.chat.type: `slak` is not a type of notifier; expected one of slack, email, webhook, pagerduty, teams; did you mean `slack`?
    alerts.yaml:11:40: notifiers.mail.from: `nobody` is not an email address; expected an email address such as pki@example.com or "PKI team <pki@example.com>"
    alerts.yaml:11:48: notifiers.mail.to: `to` is an empty list; expected a list of one to 50 email addresses
    alerts.yaml:11:62: notifiers.mail.port: `0` is not a port number; expected a port number from 1 to 65535
    alerts.yaml:11:70: notifiers.mail.tls: `none` is not encrypted; expected implicit or starttls (none is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:11:76: notifiers.mail.pasword: unknown key `pasword`; expected one of type, template, host, port, tls, username, password, password_file, oauth2, hello, from, to, fallback, quiet_hours, timeout, ca_file, allow_insecure; did you mean `password`?
    alerts.yaml:14:13: rules.low.metric: `availble_funds` is not a metric; expected one of available_funds, balance, unpaid_invoices, used_credit, runway, spend, expiring_funds, renewals_due, shortfall; did you mean `available_funds`?
    alerts.yaml:15:25: rules.low.warning.000: unknown key `000`; expected one of below, above, clear_at, for, remind_every, notify
    alerts.yaml:15:35: rules.low.warning.for: `2 hours` is not a duration; expected a duration such as 90s, 30m, 4h, 2d or 1w
    alerts.yaml:16:14: rules.low.notify[0]: `chta` is not the name of a notifier; expected a name under `notifiers`; did you mean `chat`?
    alerts.yaml:16:26: rules.low.notify[2]: `mail` is listed twice; expected each only once
    alerts.yaml:17:16: rules.low.accounts[0]: `acne` is not the name of an account; expected a name under `accounts`; did you mean `acme`?
    alerts.yaml:18:19: rules.low.remind_every: `0` is too short; expected a duration above 0, such as 90s, 30m, 4h, 2d or 1w, or never
    alerts.yaml:19:3: rules.unreadable: a rule cannot be called `unreadable`; expected another name: this one is for the alert about accounts that cannot be read
    alerts.yaml:19:3: rules.unreadable: a rule needs at least one level, `warning` or `critical`; expected `warning` or `critical`, or both
    alerts.yaml:20:1: forecast: unknown key `forecast`; expected one of schedule, timezone, state, accounts, notifiers, rules, unreadable, http, heartbeat, silences, reports
    "#);
    let json = serde_json::to_value(&files.load(&[]).config.unwrap_err().0[0]).unwrap();
    assert_eq!((&json["severity"], &json["line"], &json["column"]), (&"error".into(), &1.into(), &1.into()));
    assert_eq!((&json["path"], &json["suggestion"]), (&"shedule".into(), &"schedule".into()));
}

#[test]
fn missing_and_empty_sections_are_reported() {
    let files = Files::new("accounts:\nnotifiers: {}\nrules: []\n");
    insta::assert_snapshot!(files.errors(&[]), @"
    alerts.yaml:1:1: accounts: `accounts` is empty; expected at least one account, by its name
    alerts.yaml:2:1: notifiers: `notifiers` is empty; expected at least one notifier, by its name
    alerts.yaml:3:1: rules: `rules` is an empty list; expected at least one rule, by its name
    ");
    insta::assert_snapshot!(Files::new("timezone: UTC").errors(&[]), @"
    alerts.yaml:1:1: accounts: missing required key `accounts`; expected at least one account
    alerts.yaml:1:1: notifiers: missing required key `notifiers`; expected at least one notifier
    alerts.yaml:1:1: rules: missing required key `rules`; expected at least one rule
    ");
    insta::assert_snapshot!(account("region: us"), @"alerts.yaml:2:3: accounts.acme.api_key: missing required key `api_key`; expected `api_key` or `api_key_file`");
    insta::assert_snapshot!(rule("metric: balance"), @"alerts.yaml:2:3: rules.low: a rule needs at least one level, `warning` or `critical`; expected `warning` or `critical`, or both");
    insta::assert_snapshot!(rule("warning: { for: 1h }"), @"
    alerts.yaml:2:3: rules.low.metric: missing required key `metric`; expected one of available_funds, balance, unpaid_invoices, used_credit, runway, spend, expiring_funds, renewals_due, shortfall
    alerts.yaml:2:10: rules.low.warning: `warning` has no threshold; expected exactly one of `below` and `above`, such as `below: 2000`
    ");
    insta::assert_snapshot!(notifier("type: email"), @"
    alerts.yaml:2:3: notifiers.n.host: missing required key `host`; expected the name of a mail server
    alerts.yaml:2:3: notifiers.n.from: missing required key `from`; expected the sender's email address
    alerts.yaml:2:3: notifiers.n.to: missing required key `to`; expected a list of email addresses
    ");
    insta::assert_snapshot!(notifier("webhook_url: 'https://x.example'"), @"alerts.yaml:2:3: notifiers.n.type: missing required key `type`; expected one of slack, email, webhook, pagerduty, teams");
}

#[test]
fn contradictory_levels_are_refused() {
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 500 }, critical: { below: 3000 }"), @"alerts.yaml:2:71: rules.low.critical.below: critical below 3,000 is reached before warning below 500: are the two swapped?; expected at most the warning's threshold");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 500, clear_at: 100 }"), @"alerts.yaml:2:60: rules.low.warning.clear_at: `clear_at` 100 is on the firing side of `below` 500: the level could never clear properly; expected 500 or more");
    insta::assert_snapshot!(rule("metric: balance, warning: { above: 500 }, clear_at: 600"), @"alerts.yaml:2:62: rules.low.clear_at: `clear_at` 600 is on the firing side of `above` 500: the level could never clear properly; expected 500 or less");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5, above: 9 }"), @"alerts.yaml:2:55: rules.low.warning.above: `above` and `below` exclude each other; expected only one of them");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 }, critical: { above: 9 }"), @"alerts.yaml:2:69: rules.low.critical.above: `warning` and `critical` look at opposite sides: make them two rules; expected the side of the warning");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 USD }, critical: { below: 2 EUR }"), @"alerts.yaml:2:73: rules.low.critical.below: USD and EUR are different currencies: one rule has one; expected the currency of the warning");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 USD, clear_at: 6 EUR }"), @"alerts.yaml:2:62: rules.low.warning.clear_at: USD and EUR are different currencies: one rule has one; expected one currency");
    insta::assert_snapshot!(rule("metric: unpaid_invoices, warning: { above: -5 }"), @"alerts.yaml:2:53: rules.low.warning.above: `-5` is negative; expected 0 or more: unpaid_invoices is never negative");
    insta::assert_snapshot!(rule("metric: tide, warning: { below: 2 000 }"), @"
    alerts.yaml:2:18: rules.low.metric: `tide` is not a metric; expected one of available_funds, balance, unpaid_invoices, used_credit, runway, spend, expiring_funds, renewals_due, shortfall
    alerts.yaml:2:42: rules.low.warning.below: `2 000` is not an amount; expected an amount and its currency code, such as 2000 USD
    ");
    insta::assert_snapshot!(rule("metric: balance, warning: 2000, critical:"), @"
    alerts.yaml:2:36: rules.low.warning: `warning` cannot be a text; expected a map with the keys below, above, clear_at, for, remind_every, notify
    alerts.yaml:2:42: rules.low.critical: `critical` is empty; expected a map with the keys below, above, clear_at, for, remind_every, notify
    ");
}

#[test]
fn a_currency_that_does_not_exist_is_refused() {
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 2000 USDD, clear_at: 3000 UDS }, critical: { below: 500 XXX }"), @r#"
    alerts.yaml:2:45: rules.low.warning.below: `2000 USDD` has an unknown currency; expected an amount and the ISO 4217 code of a currency, such as USD; did you mean `USD`?
    alerts.yaml:2:66: rules.low.warning.clear_at: `3000 UDS` has an unknown currency; expected an amount and the ISO 4217 code of a currency, such as USD; did you mean `USD`?
    alerts.yaml:2:97: rules.low.critical.below: `500 XXX` has an unknown currency; expected an amount and the ISO 4217 code of a currency, such as USD (XXX is not money: it stands for "No currency")
    "#);
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 credits }, clear_at: 6 XTS"), @r#"
    alerts.yaml:2:45: rules.low.warning.below: `5 credits` has an unknown currency; expected an amount and the ISO 4217 code of a currency, such as USD
    alerts.yaml:2:68: rules.low.clear_at: `6 XTS` has an unknown currency; expected an amount and the ISO 4217 code of a currency, such as USD (XTS is not money: it stands for "Code reserved for testing")
    "#);
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 $ }, clear_at: 6 XAU"), @r#"
    alerts.yaml:2:45: rules.low.warning.below: `5 $` has an unknown currency; expected an amount and the ISO 4217 code of a currency, such as USD
    alerts.yaml:2:62: rules.low.clear_at: `6 XAU` has an unknown currency; expected an amount and the ISO 4217 code of a currency, such as USD (XAU is not money: it stands for "Gold (one troy ounce)")
    "#);
    assert_eq!(rule("metric: balance, warning: { below: 5 usd, clear_at: 7 USD }"), "");
    assert_eq!(rule("metric: balance, warning: { below: 5 XOF }"), "");
    let scenario = super::super::scenario::parse("mine.yaml", "divisions: { d: { id: 1, balance: 1, currency: ERU } }");
    insta::assert_snapshot!(scenario.unwrap_err(), @"mine.yaml:1:48: divisions.d.currency: `ERU` is not a currency; expected the ISO 4217 code of a currency, such as USD; did you mean `EUR`?");
}

#[test]
fn all_choices_are_listed_but_only_close_ones_suggested() {
    insta::assert_snapshot!(account("api_key: k, region: uk"), @"alerts.yaml:2:31: accounts.acme.region: `uk` is not a region; expected us or eu");
    insta::assert_snapshot!(account("api_key: k, region: US"), @"alerts.yaml:2:31: accounts.acme.region: `US` is not a region; expected us or eu; did you mean `us`?");
}

#[test]
fn undefined_names_and_divisions_are_refused() {
    let divided = |divisions: &str, rule: &str| {
        let accounts = format!("accounts:\n  a: {{ api_key: k, {divisions} }}\n  b: {{ api_key: k }}");
        Files::new(with(&accounts).replace("warning:", &format!("{rule}, warning:"))).errors(&[])
    };
    assert_eq!(divided("divisions: [1, 2]", "divisions: [2]"), "");
    assert_eq!(divided("divisions: all", "divisions: [2]"), "");
    let undefined = "expected a division that an account of this rule reads (its `divisions`)";
    for (divisions, rule) in [
        ("divisions: [1]", "divisions: [2]"),
        ("divisions: all", "accounts: [b], divisions: [2]"),
        ("divisions: all, exclude_divisions: [2]", "divisions: [2]"),
    ] {
        let errors = divided(divisions, rule);
        assert!(
            errors
                .contains(&format!("rules.low.divisions[0]: `2` is not read by any account of this rule; {undefined}")),
            "{errors}"
        );
    }
    assert!(
        rule("metric: balance, warning: { below: 5 }, notify: []")
            .contains("`notify` is an empty list; expected a list of at least one")
    );
    let long = errors(&format!("rules:\n  {}: {{ metric: balance, warning: {{ below: 5 }} }}", "n".repeat(65)));
    assert!(long.contains("expected a name for the rule of 1 to 64 characters"), "{long}");
    assert!(errors("rules:\n  \"a\\nb\": { metric: balance, warning: { below: 5 } }").contains("invalid name `a\\nb`"));
}

#[test]
fn invalid_accounts_are_refused() {
    insta::assert_snapshot!(account("api_key: k, region: us, base_url: 'http://api.example.com'"), @"
    alerts.yaml:2:31: accounts.acme.region: `region` and `base_url` exclude each other; expected only one of them
    alerts.yaml:2:45: accounts.acme.base_url: `http://api.example.com` is not encrypted; expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    ");
    insta::assert_snapshot!(account("api_key: k, divisions: [], exclude_divisions: [1]"), @"alerts.yaml:2:23: accounts.acme.divisions: `divisions` is an empty list; expected all, or a list of division numbers such as [1234, 5678]");
    insta::assert_snapshot!(account("api_key: k, divisions: [1, x, 1]"), @"
    alerts.yaml:2:38: accounts.acme.divisions[1]: `x` is not a division; expected the number of a division (its container id)
    alerts.yaml:2:41: accounts.acme.divisions[2]: `1` is listed twice; expected each only once
    ");
    insta::assert_snapshot!(account("api_key: k, divisions: 5, rate_limit: [0/5s, 5]"), @"
    alerts.yaml:2:34: accounts.acme.divisions: `5` is neither `all` nor a list; expected all, or a list of division numbers such as [1234, 5678]
    alerts.yaml:2:50: accounts.acme.rate_limit[0]: `0/5s` is not a rate limit; expected a number of requests and a duration, both above 0, such as 100/5s
    alerts.yaml:2:56: accounts.acme.rate_limit[1]: `5` is not a rate limit; expected a number of requests and a duration, both above 0, such as 100/5s
    ");
    insta::assert_snapshot!(account("api_key: ' ', timeout: 0s, allow_insecure: yes, schedule: hourly"), @r#"
    alerts.yaml:2:20: accounts.acme.api_key: `api_key` is empty; expected a secret
    alerts.yaml:2:34: accounts.acme.timeout: `0s` is too short; expected a duration above 0, such as 90s, 30m, 4h, 2d or 1w
    alerts.yaml:2:54: accounts.acme.allow_insecure: `yes` is neither true nor false; expected true or false
    alerts.yaml:2:69: accounts.acme.schedule: `hourly` is not a schedule; expected a crontab of 5 fields ("*/15 * * * *"), of 6 with seconds first, or "every 15m"
    "#);
    insta::assert_snapshot!(account("api_key: \"a\\nb\", console_url: ftp://x, ca_file: nowhere.pem, schedule: 0 0 30 2 *"), @r#"
    alerts.yaml:2:20: accounts.acme.api_key: the value of `api_key` is not an API key; expected an API key of printable ASCII characters, without spaces around it
    alerts.yaml:2:41: accounts.acme.console_url: `ftp://x` is not an https address; expected an address that begins with https://
    alerts.yaml:2:59: accounts.acme.ca_file: cannot use `nowhere.pem`: no such file; expected a readable PEM file with at least one certificate
    alerts.yaml:2:82: accounts.acme.schedule: `0 0 30 2 *` is not a schedule; expected a crontab of 5 fields ("*/15 * * * *"), of 6 with seconds first, or "every 15m" (this crontab never matches)
    "#);
    assert_eq!(account("api_key: k, base_url: 'http://api.example.com', allow_insecure: true"), "");
    let files = Files::new(with("accounts:\n  acme: { api_key: k, ca_file: ca.pem }"));
    files.add("ca.pem", "nothing");
    insta::assert_snapshot!(files.errors(&[]), @"alerts.yaml:2:32: accounts.acme.ca_file: cannot use `ca.pem`: no certificate; expected a readable PEM file with at least one certificate");
}

#[test]
fn invalid_email_and_slack_notifiers_are_refused() {
    let mail = "type: email, from: a@example.com, to: [b@example.com]";
    insta::assert_snapshot!(notifier("type: slack, webhook_url: 'http://hooks.example.com/x', host: mx, fallback: n"), @"
    alerts.yaml:2:34: notifiers.n.webhook_url: the value of `webhook_url` is not encrypted; expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:2:64: notifiers.n.host: `host` is not a key of a Slack notifier; expected one of type, webhook_url, webhook_url_file, mention, template, fallback, quiet_hours, timeout, ca_file, allow_insecure
    alerts.yaml:2:84: notifiers.n.fallback: `n` leads back to its start; expected a fallback that does not lead back to its start (n → n)
    ");
    insta::assert_snapshot!(notifier(&format!("{mail}, host: 'mx:25', password: p, mention: {{}}")), @"
    alerts.yaml:2:69: notifiers.n.host: `mx:25` is not a host name; expected a host name such as smtp.example.com, without a port (use the key `port`)
    alerts.yaml:2:88: notifiers.n.password: missing `username` for the password; expected `username` beside it
    alerts.yaml:2:91: notifiers.n.mention: `mention` is not a key of an email notifier; expected one of type, template, host, port, tls, username, password, password_file, oauth2, hello, from, to, fallback, quiet_hours, timeout, ca_file, allow_insecure
    ");
    insta::assert_snapshot!(notifier(&format!("{mail}, host: mx, username: u, tls: none")), @"
    alerts.yaml:2:3: notifiers.n.password: missing required key `password`; expected `password`, `password_file` or `oauth2` beside `username`
    alerts.yaml:2:91: notifiers.n.tls: `none` is not encrypted; expected implicit or starttls (none is for loopback only, or with `allow_insecure: true`)
    ");
    insta::assert_snapshot!(notifier(&format!("type: email, host: mx, from: a@example.com, to: [{}]", "b@example.com, ".repeat(51))), @"alerts.yaml:2:52: notifiers.n.to: too many email addresses; expected a list of one to 50 email addresses");
    assert_eq!(notifier(&format!("{mail}, host: mx, tls: none, allow_insecure: true")), "");
    for hello in ["alerts.example.com", "mx", "'[192.0.2.1]'", "'[IPv6:2001:db8::1]'"] {
        assert_eq!(notifier(&format!("{mail}, host: mx, hello: {hello}")), "");
    }
    for hello in [
        "'a b'",
        "192.0.2.1",
        "'[2001:db8::1]'",
        "'2001:db8::1'",
        "a..b",
        "-a.example.com",
        "a_b",
        "m\u{fc}ller.de",
        "'[x]'",
        "''",
    ] {
        let problem = notifier(&format!("{mail}, host: mx, hello: {hello}"));
        let bare = hello.trim_matches('\'');
        let message =
            if bare.is_empty() { "`hello` is empty".to_owned() } else { format!("`{bare}` is not a host name") };
        assert_eq!(
            problem,
            format!(
                "alerts.yaml:2:80: notifiers.n.hello: {message}; expected the full name of this host, such as alerts.example.com, or its address in brackets and quotes, such as \"[192.0.2.1]\" or \"[IPv6:2001:db8::1]\""
            )
        );
    }
    let slack = "type: slack, webhook_url: 'https://h.example'";
    let circle = format!(
        "notifiers:\n  a: {{ {slack}, fallback: b }}\n  b: {{ {slack}, fallback: c }}\n  c: {{ {slack}, fallback: b }}"
    );
    insta::assert_snapshot!(errors(&circle), @"alerts.yaml:3:65: notifiers.b.fallback: `c` leads back to its start; expected a fallback that does not lead back to its start (b → c → b)");
}

#[test]
fn invalid_notifiers_of_other_types_are_refused() {
    insta::assert_snapshot!(notifier("type: webhook"), @"alerts.yaml:2:3: notifiers.n.url: missing required key `url`; expected `url` or `url_file`");
    insta::assert_snapshot!(notifier("type: webhook, url: 'http://h.example/hunter2', webhook_url: x, signing_secret: whsec_c2hvcnQ="), @"
    alerts.yaml:2:28: notifiers.n.url: the value of `url` is not encrypted; expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:2:56: notifiers.n.webhook_url: `webhook_url` is not a key of a webhook notifier; expected one of type, url, url_file, headers, signing_secret, signing_secret_file, fallback, quiet_hours, timeout, ca_file, allow_insecure
    alerts.yaml:2:88: notifiers.n.signing_secret: the value of `signing_secret` is not a signing secret; expected whsec_ and 24 to 64 random bytes in base64 (`echo whsec_$(openssl rand -base64 32)` creates one)
    ");
    insta::assert_snapshot!(notifier("type: webhook, url: 'https://h.example', headers: { 'a b': hunter2, Host: hunter2, X-A: ' hunter2', X-B: [hunter2], x-c: 1, X-C: hunter2, X-D: '${NOPE}', X-E: }"), @"
    alerts.yaml:2:49: notifiers.n.headers: invalid header name; expected names of headers, such as X-Api-Key
    alerts.yaml:2:82: notifiers.n.headers.Host: the header `host` is set by lowtide; expected a header that lowtide does not set itself
    alerts.yaml:2:96: notifiers.n.headers.X-A: the value of `X-A` is not a header value; expected the value of a header: printable ASCII characters, no spaces around it
    alerts.yaml:2:108: notifiers.n.headers.X-B: `X-B` cannot be a list; expected a secret
    alerts.yaml:2:137: notifiers.n.headers.X-C: duplicate header `x-c`; expected each only once, in upper case or lower
    alerts.yaml:2:151: notifiers.n.headers.X-D: environment variable NOPE is not set; expected a variable that is set before lowtide starts (write `$$` for a dollar sign)
    alerts.yaml:2:162: notifiers.n.headers.X-E: `X-E` is empty; expected a secret
    ");
    insta::assert_snapshot!(notifier("type: webhook, url: 'https://h.example', headers: 'X-Key: hunter2'"), @"alerts.yaml:2:58: notifiers.n.headers: `headers` cannot be a text; expected a map of headers and their values, such as { X-Api-Key: ... }");
    insta::assert_snapshot!(notifier("type: pagerduty, routing_key: 'has spaces', url: 'http://events.example', host: x"), @"
    alerts.yaml:2:38: notifiers.n.routing_key: the value of `routing_key` is not an integration key; expected the integration key of an Events API v2 integration
    alerts.yaml:2:57: notifiers.n.url: the value of `url` is not encrypted; expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:2:82: notifiers.n.host: `host` is not a key of a PagerDuty notifier; expected one of type, url, routing_key, routing_key_file, fallback, quiet_hours, timeout, ca_file, allow_insecure
    ");
    insta::assert_snapshot!(notifier("type: teams, mention: { critical: x }"), @"
    alerts.yaml:2:3: notifiers.n.webhook_url: missing required key `webhook_url`; expected `webhook_url` or `webhook_url_file`
    alerts.yaml:2:21: notifiers.n.mention: `mention` is not a key of a Teams notifier; expected one of type, webhook_url, webhook_url_file, fallback, quiet_hours, timeout, ca_file, allow_insecure
    ");
    let mail = "type: email, host: mx, from: a@example.com, to: [b@example.com]";
    insta::assert_snapshot!(notifier(&format!("{mail}, oauth2: {{}}")), @"
    alerts.yaml:2:3: notifiers.n.username: missing required key `username`; expected the mailbox to log in to, beside `oauth2`
    alerts.yaml:2:73: notifiers.n.oauth2.token_url: missing required key `token_url`; expected the address of the token endpoint
    alerts.yaml:2:73: notifiers.n.oauth2.client_id: missing required key `client_id`; expected the id of the application
    alerts.yaml:2:73: notifiers.n.oauth2.client_secret: missing required key `client_secret`; expected `client_secret` or `client_secret_file`
    ");
    insta::assert_snapshot!(notifier(&format!("{mail}, username: u, password: p, oauth2: {{ token_url: 'http://t.example', client_id: '', client_secret: s, client_secret_file: s, secret: x }}")), @"
    alerts.yaml:2:96: notifiers.n.password: `password` and `oauth2` exclude each other; expected only one of them
    alerts.yaml:2:120: notifiers.n.oauth2.token_url: `http://t.example` is not encrypted; expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:2:151: notifiers.n.oauth2.client_id: `client_id` is empty; expected a text on one line, not empty
    alerts.yaml:2:193: notifiers.n.oauth2.client_secret_file: `client_secret_file` and `client_secret` exclude each other; expected only one of them
    alerts.yaml:2:193: notifiers.n.oauth2.client_secret_file: cannot use `s`: no such file; expected a readable file with the secret
    alerts.yaml:2:196: notifiers.n.oauth2.secret: unknown key `secret`; expected one of token_url, client_id, client_secret, client_secret_file, scope
    ");
    insta::assert_snapshot!(notifier(&format!("{mail}, username: u, oauth2: yes")), @"alerts.yaml:2:94: notifiers.n.oauth2: `oauth2` cannot be a text; expected a map with the keys token_url, client_id, client_secret, client_secret_file, scope");
}

#[test]
fn monitoring_that_would_expose_amounts_or_secrets_is_refused() {
    let errors = |part: &str| Files::new(with(part)).errors(&[]);
    assert_eq!(errors("http: { listen: '127.0.0.1:9095' }"), "");
    assert_eq!(errors("http: { listen: '0.0.0.0:9095', token: a-long-token }"), "");
    assert_eq!(errors("heartbeat: { url: 'https://hc.example.com/1', every: 1m }"), "");
    insta::assert_snapshot!(errors("http: { listen: '192.0.2.1:9095', allow_public: nope }"), @"
    alerts.yaml:1:17: http.listen: `192.0.2.1:9095` would be public without a token; expected a loopback address such as 127.0.0.1:9095, or `token` or `token_file` beside it (`allow_public: true` shows the amounts to everyone who can reach the address)
    alerts.yaml:1:49: http.allow_public: `nope` is neither true nor false; expected true or false
    ");
    insta::assert_snapshot!(errors("http: { listen: localhost, token: 'two words' }"), @"
    alerts.yaml:1:17: http.listen: `localhost` is not an address with a port; expected an address and a port, such as 127.0.0.1:9095 or [::1]:9095
    alerts.yaml:1:35: http.token: the value of `token` is not a token; expected a token of printable ASCII characters, without spaces
    ");
    insta::assert_snapshot!(errors("http: { token: x, token_file: nowhere }"), @"
    alerts.yaml:1:1: http.listen: missing required key `listen`; expected an address and a port, such as 127.0.0.1:9095
    alerts.yaml:1:31: http.token_file: `token_file` and `token` exclude each other; expected only one of them
    alerts.yaml:1:31: http.token_file: cannot use `nowhere`: no such file; expected a readable file with the secret
    ");
    insta::assert_snapshot!(errors("heartbeat: { url: 'http://hc.example.com/1', every: 0, evry: 5m }"), @"
    alerts.yaml:1:19: heartbeat.url: the value of `url` is not encrypted; expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:1:53: heartbeat.every: `0` is too short; expected a duration above 0, such as 90s, 30m, 4h, 2d or 1w
    alerts.yaml:1:56: heartbeat.evry: unknown key `evry`; expected one of url, url_file, every, timeout, ca_file, allow_insecure; did you mean `every`?
    ");
    insta::assert_snapshot!(errors("heartbeat: 5m"), @"alerts.yaml:1:12: heartbeat: `heartbeat` cannot be a text; expected a map with the keys url, url_file, every, timeout, ca_file, allow_insecure");
}

#[test]
fn a_silence_without_end_or_about_what_is_not_there_is_refused() {
    let files = Files::new(
        "accounts:
  acme: { api_key: x, divisions: [7] }
  sole: { api_key: y }
notifiers:
  chat: { type: slack, webhook_url: 'https://hooks.example.com/T0/B0/secret' }
rules:
  low: { metric: balance, warning: { below: 2000 } }
silences:
  endless: { account: acme }
  nobody: { until: 2126-12-01T09:00 }
  typos: { account: acne, rule: lwo, until: tomorrow, level: wraning, for: 3d }
  elsewhere: { account: acme, division: 8, until: 2126-12-01T09:00 }
  undivided: { account: sole, division: 7, until: 2126-12-01T09:00 }
  named: { account: acme, division: History, until: 2126-12-01, reason: '' }
  fine: { account: acme, division: 7, rule: unreadable, until: 2126-12-01T09:00 }
",
    );
    insta::assert_snapshot!(files.errors(&[]), @"
    alerts.yaml:9:3: silences.endless.until: missing required key `until`; expected a time such as 2026-12-01T09:00 (in `timezone`), or with an offset, 2026-12-01T09:00+01:00
    alerts.yaml:10:3: silences.nobody.account: missing required key `account`; expected a name under `accounts`
    alerts.yaml:11:21: silences.typos.account: `acne` is not the name of an account; expected a name under `accounts`; did you mean `acme`?
    alerts.yaml:11:33: silences.typos.rule: `lwo` is not the name of a rule; expected a name under `rules`; did you mean `low`?
    alerts.yaml:11:45: silences.typos.until: `tomorrow` is not a time; expected a time such as 2026-12-01T09:00 (in `timezone`), or with an offset, 2026-12-01T09:00+01:00
    alerts.yaml:11:62: silences.typos.level: `wraning` is not a level; expected warning or critical; did you mean `warning`?
    alerts.yaml:11:71: silences.typos.for: unknown key `for`; expected one of account, division, rule, until, reason, level
    alerts.yaml:12:41: silences.elsewhere.division: `8` is not read by this account; expected a division that this account reads (its `divisions`)
    alerts.yaml:13:41: silences.undivided.division: `7` is not read by this account; expected a division that this account reads (its `divisions`)
    alerts.yaml:14:37: silences.named.division: `History` is not a division; expected the number of a division (its container id)
    alerts.yaml:14:53: silences.named.until: `2126-12-01` is not a time; expected a time such as 2026-12-01T09:00 (in `timezone`), or with an offset, 2026-12-01T09:00+01:00
    alerts.yaml:14:73: silences.named.reason: `reason` is empty; expected a text on one line, of 1 to 300 characters
    ");
}

#[test]
fn empty_or_endless_quiet_hours_are_refused() {
    let quiet = |body: &str| {
        notifier(&format!(
            "type: slack, webhook_url: 'https://hooks.example.com/T0/B0/secret', quiet_hours: {{ {body} }}"
        ))
        .replace("alerts.yaml:2:", "")
        .lines()
        .filter(|line| line.contains("quiet_hours"))
        .collect::<Vec<_>>()
        .join("\n")
    };
    let found = [
        "",
        "from: '19:00'",
        "to: '19:00'",
        "from: '19:00', to: '19:00'",
        "from: 7, to: '25:00', days: [Sat, Caturday, Sat], except: warning, form: 1",
        "days: [Mon, Tue, Wed, Thu, Fri, Sat, Sun]",
        "days: []",
    ];
    insta::assert_snapshot!(found.map(quiet).join("\n"), @r#"
    76: notifiers.n.quiet_hours: `quiet_hours` is empty; expected `from` and `to`, such as "19:00" and "07:30", or `days`, or all of them
    76: notifiers.n.quiet_hours.to: missing required key `to`; expected the end of the quiet hours, such as "07:30", beside `from`
    76: notifiers.n.quiet_hours.from: missing required key `from`; expected the start of the quiet hours, such as "19:00", beside `to`
    110: notifiers.n.quiet_hours.to: the quiet hours end when they begin; expected another time than `from` (for whole days, use `days`)
    97: notifiers.n.quiet_hours.from: `7` is not a time of day; expected a time of day such as "19:00" or "07:30"
    104: notifiers.n.quiet_hours.to: `25:00` is not a time of day; expected a time of day such as "19:00" or "07:30"
    125: notifiers.n.quiet_hours.days[1]: `Caturday` is not a day of the week; expected Mon, Tue, Wed, Thu, Fri, Sat or Sun
    135: notifiers.n.quiet_hours.days[2]: `Sat` is listed twice; expected each only once
    149: notifiers.n.quiet_hours.except: `warning` is not a level that can be excepted; expected critical
    158: notifiers.n.quiet_hours.form: unknown key `form`; expected one of from, to, days, except; did you mean `from`?
    91: notifiers.n.quiet_hours.days: the quiet hours never end, so no message would be sent; expected at most six days
    91: notifiers.n.quiet_hours.days: `days` is an empty list; expected a list of days such as [Sat, Sun]
    "#);
    assert_eq!(quiet("from: 19:00, to: 07:30, days: [Sat, sunday], except: critical"), "");
}

#[test]
fn mistakes_in_forecast_rules_are_explained() {
    insta::assert_snapshot!(rule("metric: runway, warning: { below: 2000 }, within: 30d"), @"
    alerts.yaml:2:44: rules.low.warning.below: `2000` is not a duration; expected a duration above 0 and up to a year, such as 24h, 14d or 30d
    alerts.yaml:2:60: rules.low.within: `within` does not apply to runway; expected no window: only spend, expiring_funds, renewals_due, shortfall have one
    ");
    insta::assert_snapshot!(rule("metric: runway, warning: { below: 400d }, confidence: 90"), @"
    alerts.yaml:2:44: rules.low.warning.below: `400d` is longer than a year; expected a duration above 0 and up to a year, such as 24h, 14d or 30d
    alerts.yaml:2:64: rules.low.confidence: `90` is not a confidence; expected a share from 0.5 to 0.99, such as 0.9
    ");
    insta::assert_snapshot!(rule("metric: spend, warning: { above: 14d }, within: 0, confidence: 0.9"), @"
    alerts.yaml:2:43: rules.low.warning.above: `14d` is not an amount; expected an amount such as 2000, 1999.95 or 2000 USD
    alerts.yaml:2:58: rules.low.within: `0` is too short; expected a duration above 0 and up to a year, such as 24h, 14d or 30d
    alerts.yaml:2:73: rules.low.confidence: `confidence` does not apply to spend; expected no confidence: only runway has one
    ");
    insta::assert_snapshot!(rule("metric: shortfall, warning: { above: -1 }"), @"alerts.yaml:2:47: rules.low.warning.above: `-1` is negative; expected 0 or more: shortfall is never negative");
    insta::assert_snapshot!(rule("metric: runwy, warning: { below: 14d, clear_at: 7d }"), @"
    alerts.yaml:2:18: rules.low.metric: `runwy` is not a metric; expected one of available_funds, balance, unpaid_invoices, used_credit, runway, spend, expiring_funds, renewals_due, shortfall; did you mean `runway`?
    alerts.yaml:2:58: rules.low.warning.clear_at: `clear_at` 7d is on the firing side of `below` 14d: the level could never clear properly; expected 14d or more
    ");
    insta::assert_snapshot!(account("api_key: k, not_spend: []"), @"alerts.yaml:2:23: accounts.acme.not_spend: `not_spend` is an empty list; expected a list of transaction types such as [Expired Deposit, Adjustment]");
}

#[test]
fn a_variable_without_quotes_inside_braces_is_explained() {
    let hint = "expected quotes around a value with ${NAME} inside { } and [ ]: \"${NAME}\"";
    for part in ["accounts:\n  acme: { api_key: ${KEY} }", "accounts:\n  acme: { api_key: ${KEY}, region: eu }"] {
        let errors = Files::new(with(part)).errors(&[("KEY", "k")]);
        assert!(errors.contains("invalid YAML") && errors.contains(hint), "{errors}");
    }
    let other = Files::new(with("accounts:\n  acme: { api_key: 'k }")).errors(&[]);
    assert!(other.contains("a quote that is not closed") && !other.contains("${"), "{other}");
    assert_eq!(Files::new(with("accounts:\n  acme: { api_key: \"${KEY}\" }")).errors(&[("KEY", "k")]), "");
}

#[test]
fn an_impossible_email_domain_is_refused() {
    let mail = |to: &str| notifier(&format!("type: email, host: mx, from: a@example.com, to: [{to}]"));
    assert_eq!(mail("einkauf@müller-söhne.de, Jürgen <j@straße.example>"), "");
    insta::assert_snapshot!(mail("b@example.com, a@ü-.de"), @"alerts.yaml:2:72: notifiers.n.to[1]: `a@ü-.de` has an invalid domain; expected an email address whose domain has an ASCII form (IDNA rejects this one)");
    assert!(mail(&format!("a@{}.de", "ü".repeat(60))).contains("notifiers.n.to[0]: `a@üü"));
    let host = |host: &str| notifier(&format!("type: email, host: '{host}', from: a@example.com, to: [b@example.com]"));
    assert_eq!(host("smtp.müller-söhne.de"), "");
    assert!(host("smtp.ü-.de").contains("expected a host name"));
}

#[test]
fn a_mention_that_notifies_nobody_is_a_warning() {
    let files = Files::new(with(
        "notifiers:
  chat:
    type: slack
    webhook_url: https://hooks.example.com/T0/B0/secret
    mention:
      warning: '@jane'
      critical: \"@here\"
",
    ));
    assert_eq!(files.errors(&[]), "");
    insta::assert_snapshot!(files.warnings(&[]), @"
    alerts.yaml:6:16: notifiers.chat.mention.warning: the mention notifies nobody; expected `<@U012AB3CD>` with the id of a member, or `<!subteam^S012AB3CD>` with the id of a user group (Slack shows anything else as plain text and notifies nobody)
    alerts.yaml:7:17: notifiers.chat.mention.critical: the mention notifies nobody; expected `<!here>` (Slack shows anything else as plain text and notifies nobody)
    ");
}
