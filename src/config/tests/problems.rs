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
    insta::assert_snapshot!(files.errors(&[]), @r#"
    alerts.yaml:1:1: shedule: found `shedule`, expected one of schedule, timezone, state, accounts, notifiers, rules, unreadable, http, heartbeat, silences, reports; did you mean `schedule`?
    alerts.yaml:2:11: timezone: found `Europe/Amsterdm`, expected an IANA time zone such as Europe/Amsterdam; did you mean `Europe/Amsterdam`?
    alerts.yaml:6:19: accounts.acme.api_key_file: found `api_key_file` beside `api_key`, expected only one of them
    alerts.yaml:6:19: accounts.acme.api_key_file: found no such file (`y`), expected a readable file with the secret
    alerts.yaml:7:13: accounts.acme.region: found `uk`, expected us or eu
    alerts.yaml:8:3: accounts: found the key `acme` again, after line 4, expected each key once
    alerts.yaml:10:17: notifiers.chat.type: found `slak`, expected one of slack, email, webhook, pagerduty, teams; did you mean `slack`?
    alerts.yaml:11:40: notifiers.mail.from: found `nobody`, expected a mail address such as pki@example.com or "PKI team <pki@example.com>"
    alerts.yaml:11:48: notifiers.mail.to: found an empty list, expected a list of one to 50 mail addresses
    alerts.yaml:11:62: notifiers.mail.port: found `0`, expected a port number from 1 to 65535
    alerts.yaml:11:70: notifiers.mail.tls: found `none`, expected implicit or starttls (none is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:11:76: notifiers.mail.pasword: found `pasword`, expected one of type, webhook_url, webhook_url_file, mention, template, host, port, tls, username, password, password_file, oauth2, hello, from, to, url, url_file, headers, signing_secret, signing_secret_file, routing_key, routing_key_file, fallback, quiet_hours, timeout, ca_file, allow_insecure; did you mean `password`?
    alerts.yaml:14:13: rules.low.metric: found `availble_funds`, expected one of available_funds, balance, unpaid_invoices, used_credit, runway, spend, expiring_funds, renewals_due, shortfall; did you mean `available_funds`?
    alerts.yaml:15:25: rules.low.warning.000: found `000`, expected one of below, above, clear_at, for, remind_every, notify
    alerts.yaml:15:35: rules.low.warning.for: found `2 hours`, expected a duration such as 90s, 30m, 4h, 2d or 1w
    alerts.yaml:16:14: rules.low.notify[0]: found `chta`, expected a name under `notifiers`; did you mean `chat`?
    alerts.yaml:16:26: rules.low.notify[2]: found `mail` again, expected each only once
    alerts.yaml:17:16: rules.low.accounts[0]: found `acne`, expected a name under `accounts`; did you mean `acme`?
    alerts.yaml:18:19: rules.low.remind_every: found `0`, expected a duration above 0, such as 90s, 30m, 4h, 2d or 1w, or never
    alerts.yaml:19:3: rules.unreadable: found `unreadable`, expected another name: this one is for the alert about accounts that cannot be read
    alerts.yaml:19:3: rules.unreadable: found no level, expected `warning` or `critical`, or both (a rule needs at least one level, `warning` or `critical`)
    alerts.yaml:20:1: forecast: found `forecast`, expected one of schedule, timezone, state, accounts, notifiers, rules, unreadable, http, heartbeat, silences, reports
    "#);
    let json = serde_json::to_value(&files.load(&[]).config.unwrap_err().0[0]).unwrap();
    assert_eq!((&json["severity"], &json["line"], &json["column"]), (&"error".into(), &1.into(), &1.into()));
    assert_eq!((&json["path"], &json["suggestion"]), (&"shedule".into(), &"schedule".into()));
}

#[test]
fn what_is_missing_or_empty_is_said() {
    let files = Files::new("accounts:\nnotifiers: {}\nrules: []\n");
    insta::assert_snapshot!(files.errors(&[]), @r#"
    alerts.yaml:1:1: accounts: found nothing, expected at least one account, by its name
    alerts.yaml:2:1: notifiers: found nothing, expected at least one notifier, by its name
    alerts.yaml:3:1: rules: found a list, expected at least one rule, by its name
    "#);
    insta::assert_snapshot!(Files::new("timezone: UTC").errors(&[]), @r#"
    alerts.yaml:1:1: accounts: found nothing, expected at least one account
    alerts.yaml:1:1: notifiers: found nothing, expected at least one notifier
    alerts.yaml:1:1: rules: found nothing, expected at least one rule
    "#);
    insta::assert_snapshot!(account("region: us"), @"alerts.yaml:2:3: accounts.acme.api_key: found nothing, expected `api_key` or `api_key_file`");
    insta::assert_snapshot!(rule("metric: balance"), @"alerts.yaml:2:3: rules.low: found no level, expected `warning` or `critical`, or both (a rule needs at least one level, `warning` or `critical`)");
    insta::assert_snapshot!(rule("warning: { for: 1h }"), @r#"
    alerts.yaml:2:3: rules.low.metric: found nothing, expected one of available_funds, balance, unpaid_invoices, used_credit, runway, spend, expiring_funds, renewals_due, shortfall
    alerts.yaml:2:10: rules.low.warning: found neither `below` nor `above`, expected exactly one of them, such as `below: 2000`
    "#);
    insta::assert_snapshot!(notifier("type: email"), @r#"
    alerts.yaml:2:3: notifiers.n.host: found nothing, expected the name of a mail server
    alerts.yaml:2:3: notifiers.n.from: found nothing, expected the sender's mail address
    alerts.yaml:2:3: notifiers.n.to: found nothing, expected a list of mail addresses
    "#);
    insta::assert_snapshot!(notifier("webhook_url: 'https://x.example'"), @"alerts.yaml:2:3: notifiers.n.type: found nothing, expected one of slack, email, webhook, pagerduty, teams");
}

#[test]
fn levels_that_make_no_sense() {
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 500 }, critical: { below: 3000 }"), @"alerts.yaml:2:71: rules.low.critical.below: found `3000`, expected at most the warning's threshold (critical below 3,000 is reached before warning below 500: are the two swapped?)");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 500, clear_at: 100 }"), @"alerts.yaml:2:60: rules.low.warning.clear_at: found `100`, expected 500 or more (`clear_at` 100 is on the firing side of `below` 500: the level could never clear properly)");
    insta::assert_snapshot!(rule("metric: balance, warning: { above: 500 }, clear_at: 600"), @"alerts.yaml:2:62: rules.low.clear_at: found `600`, expected 500 or less (`clear_at` 600 is on the firing side of `above` 500: the level could never clear properly)");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5, above: 9 }"), @"alerts.yaml:2:55: rules.low.warning.above: found `above` beside `below`, expected only one of them");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 }, critical: { above: 9 }"), @"alerts.yaml:2:69: rules.low.critical.above: found `9`, expected the side of the warning (`warning` and `critical` look at opposite sides: make them two rules)");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 USD }, critical: { below: 2 EUR }"), @"alerts.yaml:2:73: rules.low.critical.below: found `2 EUR`, expected the currency of the warning (USD and EUR are different currencies: one rule has one)");
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 USD, clear_at: 6 EUR }"), @"alerts.yaml:2:62: rules.low.warning.clear_at: found `6 EUR`, expected one currency (USD and EUR are different currencies: one rule has one)");
    insta::assert_snapshot!(rule("metric: unpaid_invoices, warning: { above: -5 }"), @"alerts.yaml:2:53: rules.low.warning.above: found `-5`, expected 0 or more: unpaid_invoices is never negative");
    insta::assert_snapshot!(rule("metric: tide, warning: { below: 2 000 }"), @"
    alerts.yaml:2:18: rules.low.metric: found `tide`, expected one of available_funds, balance, unpaid_invoices, used_credit, runway, spend, expiring_funds, renewals_due, shortfall
    alerts.yaml:2:42: rules.low.warning.below: found `2 000`, expected an amount and its currency code, such as 2000 USD
    ");
    insta::assert_snapshot!(rule("metric: balance, warning: 2000, critical:"), @r#"
    alerts.yaml:2:36: rules.low.warning: found a text, expected a map with the keys below, above, clear_at, for, remind_every, notify
    alerts.yaml:2:42: rules.low.critical: found nothing, expected a map with the keys below, above, clear_at, for, remind_every, notify
    "#);
}

#[test]
fn a_currency_that_does_not_exist_or_is_no_money_is_refused() {
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 2000 USDD, clear_at: 3000 UDS }, critical: { below: 500 XXX }"), @r#"
    alerts.yaml:2:45: rules.low.warning.below: found `2000 USDD`, expected an amount and the ISO 4217 code of a currency, such as USD; did you mean `USD`?
    alerts.yaml:2:66: rules.low.warning.clear_at: found `3000 UDS`, expected an amount and the ISO 4217 code of a currency, such as USD; did you mean `USD`?
    alerts.yaml:2:97: rules.low.critical.below: found `500 XXX`, expected an amount and the ISO 4217 code of a currency, such as USD (XXX is not money: it stands for "No currency")
    "#);
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 credits }, clear_at: 6 XTS"), @r#"
    alerts.yaml:2:45: rules.low.warning.below: found `5 credits`, expected an amount and the ISO 4217 code of a currency, such as USD
    alerts.yaml:2:68: rules.low.clear_at: found `6 XTS`, expected an amount and the ISO 4217 code of a currency, such as USD (XTS is not money: it stands for "Code reserved for testing")
    "#);
    insta::assert_snapshot!(rule("metric: balance, warning: { below: 5 $ }, clear_at: 6 XAU"), @r#"
    alerts.yaml:2:45: rules.low.warning.below: found `5 $`, expected an amount and the ISO 4217 code of a currency, such as USD
    alerts.yaml:2:62: rules.low.clear_at: found `6 XAU`, expected an amount and the ISO 4217 code of a currency, such as USD (XAU is not money: it stands for "Gold (one troy ounce)")
    "#);
    assert_eq!(rule("metric: balance, warning: { below: 5 usd, clear_at: 7 USD }"), "");
    assert_eq!(rule("metric: balance, warning: { below: 5 XOF }"), "");
    let scenario = super::super::scenario::parse("mine.yaml", "divisions: { d: { id: 1, balance: 1, currency: ERU } }");
    insta::assert_snapshot!(scenario.unwrap_err(), @"mine.yaml:1:48: divisions.d.currency: found `ERU`, expected the ISO 4217 code of a currency, such as USD; did you mean `EUR`?");
}

#[test]
fn only_near_values_are_suggested_but_all_are_named() {
    insta::assert_snapshot!(account("api_key: k, region: uk"), @"alerts.yaml:2:31: accounts.acme.region: found `uk`, expected us or eu");
    insta::assert_snapshot!(account("api_key: k, region: US"), @"alerts.yaml:2:31: accounts.acme.region: found `US`, expected us or eu; did you mean `us`?");
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
    for (divisions, rule) in [
        ("divisions: [1]", "divisions: [2]"),
        ("divisions: all", "accounts: [b], divisions: [2]"),
        ("divisions: all, exclude_divisions: [2]", "divisions: [2]"),
    ] {
        let errors = divided(divisions, rule);
        assert!(errors.contains(&format!("rules.low.divisions[0]: found `2`, {undefined}")), "{errors}");
    }
    assert!(
        rule("metric: balance, warning: { below: 5 }, notify: []")
            .contains("found an empty list, expected a list of at least one")
    );
    let long = errors(&format!("rules:\n  {}: {{ metric: balance, warning: {{ below: 5 }} }}", "n".repeat(65)));
    assert!(long.contains("expected a name for the rule of 1 to 64 characters"), "{long}");
    assert!(errors("rules:\n  \"a\\nb\": { metric: balance, warning: { below: 5 } }").contains("found `a\\nb`"));
}

#[test]
fn accounts_that_make_no_sense() {
    insta::assert_snapshot!(account("api_key: k, region: us, base_url: 'http://api.example.com'"), @r#"
    alerts.yaml:2:31: accounts.acme.region: found `region` beside `base_url`, expected only one of them
    alerts.yaml:2:45: accounts.acme.base_url: found `http://api.example.com`, expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    "#);
    insta::assert_snapshot!(account("api_key: k, divisions: [], exclude_divisions: [1]"), @"alerts.yaml:2:23: accounts.acme.divisions: found an empty list, expected all, or a list of division numbers such as [1234, 5678]");
    insta::assert_snapshot!(account("api_key: k, divisions: [1, x, 1]"), @r#"
    alerts.yaml:2:38: accounts.acme.divisions[1]: found `x`, expected the number of a division (its container id)
    alerts.yaml:2:41: accounts.acme.divisions[2]: found `1` again, expected each only once
    "#);
    insta::assert_snapshot!(account("api_key: k, divisions: 5, rate_limit: [0/5s, 5]"), @r#"
    alerts.yaml:2:34: accounts.acme.divisions: found `5`, expected all, or a list of division numbers such as [1234, 5678]
    alerts.yaml:2:50: accounts.acme.rate_limit[0]: found `0/5s`, expected a number of requests and a duration, both above 0, such as 100/5s
    alerts.yaml:2:56: accounts.acme.rate_limit[1]: found `5`, expected a number of requests and a duration, both above 0, such as 100/5s
    "#);
    insta::assert_snapshot!(account("api_key: ' ', timeout: 0s, allow_insecure: yes, schedule: hourly"), @r#"
    alerts.yaml:2:20: accounts.acme.api_key: found an empty value, expected a secret
    alerts.yaml:2:34: accounts.acme.timeout: found `0s`, expected a duration above 0, such as 90s, 30m, 4h, 2d or 1w
    alerts.yaml:2:54: accounts.acme.allow_insecure: found `yes`, expected true or false
    alerts.yaml:2:69: accounts.acme.schedule: found `hourly`, expected a crontab of 5 fields ("*/15 * * * *"), of 6 with seconds first, or "every 15m"
    "#);
    insta::assert_snapshot!(account("api_key: \"a\\nb\", console_url: ftp://x, ca_file: nowhere.pem, schedule: 0 0 30 2 *"), @r#"
    alerts.yaml:2:20: accounts.acme.api_key: found a value that is not shown, expected an API key of printable ASCII characters, without spaces around it
    alerts.yaml:2:41: accounts.acme.console_url: found `ftp://x`, expected an address that begins with https://
    alerts.yaml:2:59: accounts.acme.ca_file: found no such file (`nowhere.pem`), expected a readable PEM file with at least one certificate
    alerts.yaml:2:82: accounts.acme.schedule: found `0 0 30 2 *`, expected a crontab of 5 fields ("*/15 * * * *"), of 6 with seconds first, or "every 15m" (this crontab never matches)
    "#);
    assert_eq!(account("api_key: k, base_url: 'http://api.example.com', allow_insecure: true"), "");
    let files = Files::new(with("accounts:\n  acme: { api_key: k, ca_file: ca.pem }"));
    files.add("ca.pem", "nothing");
    insta::assert_snapshot!(files.errors(&[]), @"alerts.yaml:2:32: accounts.acme.ca_file: found no certificate (`ca.pem`), expected a readable PEM file with at least one certificate");
}

#[test]
fn notifiers_that_make_no_sense() {
    let mail = "type: email, from: a@example.com, to: [b@example.com]";
    insta::assert_snapshot!(notifier("type: slack, webhook_url: 'http://hooks.example.com/x', host: mx, fallback: n"), @r#"
    alerts.yaml:2:34: notifiers.n.webhook_url: found a value that is not shown, expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:2:64: notifiers.n.host: found `host`, expected only keys of a `type: slack` notifier: webhook_url, webhook_url_file, mention, template, fallback, …
    alerts.yaml:2:84: notifiers.n.fallback: found `n`, expected a fallback that does not lead back to its start (n → n)
    "#);
    insta::assert_snapshot!(notifier(&format!("{mail}, host: 'mx:25', password: p, mention: {{}}")), @r#"
    alerts.yaml:2:69: notifiers.n.host: found `mx:25`, expected a host name such as smtp.example.com, without a port (there is `port`)
    alerts.yaml:2:88: notifiers.n.password: found a password without a username, expected `username` beside it
    alerts.yaml:2:91: notifiers.n.mention: found `mention`, expected only keys of a `type: email` notifier: host, port, tls, username, password, password_file, oauth2, hello, from, to, template, fallback, …
    "#);
    insta::assert_snapshot!(notifier(&format!("{mail}, host: mx, username: u, tls: none")), @r#"
    alerts.yaml:2:3: notifiers.n.password: found nothing, expected `password`, `password_file` or `oauth2` beside `username`
    alerts.yaml:2:91: notifiers.n.tls: found `none`, expected implicit or starttls (none is for loopback only, or with `allow_insecure: true`)
    "#);
    insta::assert_snapshot!(notifier(&format!("type: email, host: mx, from: a@example.com, to: [{}]", "b@example.com, ".repeat(51))), @"alerts.yaml:2:52: notifiers.n.to: found 51 addresses, expected a list of one to 50 mail addresses");
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
        let found = hello.trim_matches('\'');
        assert_eq!(
            problem,
            format!(
                "alerts.yaml:2:80: notifiers.n.hello: found `{found}`, expected the full name of this host, such as alerts.example.com, or its address in brackets and quotes, such as \"[192.0.2.1]\" or \"[IPv6:2001:db8::1]\""
            )
        );
    }
    let slack = "type: slack, webhook_url: 'https://h.example'";
    let circle = format!(
        "notifiers:\n  a: {{ {slack}, fallback: b }}\n  b: {{ {slack}, fallback: c }}\n  c: {{ {slack}, fallback: b }}"
    );
    insta::assert_snapshot!(errors(&circle), @"alerts.yaml:3:65: notifiers.b.fallback: found `c`, expected a fallback that does not lead back to its start (b → c → b)");
}

#[test]
fn other_ends_that_make_no_sense() {
    insta::assert_snapshot!(notifier("type: webhook"), @"alerts.yaml:2:3: notifiers.n.url: found nothing, expected `url` or `url_file`");
    insta::assert_snapshot!(notifier("type: webhook, url: 'http://h.example/hunter2', webhook_url: x, signing_secret: whsec_c2hvcnQ="), @r#"
    alerts.yaml:2:28: notifiers.n.url: found a value that is not shown, expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:2:56: notifiers.n.webhook_url: found `webhook_url`, expected only keys of a `type: webhook` notifier: url, url_file, headers, signing_secret, signing_secret_file, fallback, …
    alerts.yaml:2:88: notifiers.n.signing_secret: found a value that is not shown, expected whsec_ and 24 to 64 random bytes in base64, such as `echo whsec_$(openssl rand -base64 32)` makes
    "#);
    insta::assert_snapshot!(notifier("type: webhook, url: 'https://h.example', headers: { 'a b': hunter2, Host: hunter2, X-A: ' hunter2', X-B: [hunter2], x-c: 1, X-C: hunter2, X-D: '${NOPE}', X-E: }"), @r#"
    alerts.yaml:2:49: notifiers.n.headers: found a name that no header can have, expected names of headers, such as X-Api-Key
    alerts.yaml:2:82: notifiers.n.headers.Host: found the header host, expected a header that lowtide does not set itself
    alerts.yaml:2:96: notifiers.n.headers.X-A: found a value that is not shown, expected the value of a header: printable ASCII characters, no spaces around it
    alerts.yaml:2:108: notifiers.n.headers.X-B: found a list, expected a secret
    alerts.yaml:2:137: notifiers.n.headers.X-C: found the header x-c again, expected each only once, in upper case or lower
    alerts.yaml:2:151: notifiers.n.headers.X-D: found `${NOPE}`, expected the environment variable NOPE to be set
    alerts.yaml:2:162: notifiers.n.headers.X-E: found nothing, expected a secret
    "#);
    insta::assert_snapshot!(notifier("type: webhook, url: 'https://h.example', headers: 'X-Key: hunter2'"), @"alerts.yaml:2:58: notifiers.n.headers: found a text, expected a map of headers and their values, such as { X-Api-Key: ... }");
    insta::assert_snapshot!(notifier("type: pagerduty, routing_key: 'has spaces', url: 'http://events.example', host: x"), @r#"
    alerts.yaml:2:38: notifiers.n.routing_key: found a value that is not shown, expected the integration key of an Events API v2 integration
    alerts.yaml:2:57: notifiers.n.url: found a value that is not shown, expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:2:82: notifiers.n.host: found `host`, expected only keys of a `type: pagerduty` notifier: routing_key, routing_key_file, url, fallback, …
    "#);
    insta::assert_snapshot!(notifier("type: teams, mention: { critical: x }"), @r#"
    alerts.yaml:2:3: notifiers.n.webhook_url: found nothing, expected `webhook_url` or `webhook_url_file`
    alerts.yaml:2:21: notifiers.n.mention: found `mention`, expected only keys of a `type: teams` notifier: webhook_url, webhook_url_file, fallback, …
    "#);
    let mail = "type: email, host: mx, from: a@example.com, to: [b@example.com]";
    insta::assert_snapshot!(notifier(&format!("{mail}, oauth2: {{}}")), @r#"
    alerts.yaml:2:3: notifiers.n.username: found nothing, expected the mailbox that is logged in to, beside `oauth2`
    alerts.yaml:2:73: notifiers.n.oauth2.token_url: found nothing, expected the address of the token endpoint
    alerts.yaml:2:73: notifiers.n.oauth2.client_id: found nothing, expected the id of the application
    alerts.yaml:2:73: notifiers.n.oauth2.client_secret: found nothing, expected `client_secret` or `client_secret_file`
    "#);
    insta::assert_snapshot!(notifier(&format!("{mail}, username: u, password: p, oauth2: {{ token_url: 'http://t.example', client_id: '', client_secret: s, client_secret_file: s, secret: x }}")), @"
    alerts.yaml:2:96: notifiers.n.password: found `password` beside `oauth2`, expected only one of them
    alerts.yaml:2:120: notifiers.n.oauth2.token_url: found `http://t.example`, expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:2:151: notifiers.n.oauth2.client_id: found ``, expected a text on one line, not empty
    alerts.yaml:2:193: notifiers.n.oauth2.client_secret_file: found `client_secret_file` beside `client_secret`, expected only one of them
    alerts.yaml:2:193: notifiers.n.oauth2.client_secret_file: found no such file (`s`), expected a readable file with the secret
    alerts.yaml:2:196: notifiers.n.oauth2.secret: found `secret`, expected one of token_url, client_id, client_secret, client_secret_file, scope
    ");
    insta::assert_snapshot!(notifier(&format!("{mail}, username: u, oauth2: yes")), @"alerts.yaml:2:94: notifiers.n.oauth2: found a text, expected a map with the keys token_url, client_id, client_secret, client_secret_file, scope");
}

#[test]
fn watching_that_would_show_amounts_or_secrets() {
    let errors = |part: &str| Files::new(with(part)).errors(&[]);
    assert_eq!(errors("http: { listen: '127.0.0.1:9095' }"), "");
    assert_eq!(errors("http: { listen: '0.0.0.0:9095', token: a-long-token }"), "");
    assert_eq!(errors("heartbeat: { url: 'https://hc.example.com/1', every: 1m }"), "");
    insta::assert_snapshot!(errors("http: { listen: '192.0.2.1:9095', allow_public: nope }"), @r#"
    alerts.yaml:1:17: http.listen: found `192.0.2.1:9095`, expected a loopback address such as 127.0.0.1:9095, or `token` or `token_file` beside it (`allow_public: true` shows the amounts to everyone who can reach the address)
    alerts.yaml:1:49: http.allow_public: found `nope`, expected true or false
    "#);
    insta::assert_snapshot!(errors("http: { listen: localhost, token: 'two words' }"), @r#"
    alerts.yaml:1:17: http.listen: found `localhost`, expected an address and a port, such as 127.0.0.1:9095 or [::1]:9095
    alerts.yaml:1:35: http.token: found a value that is not shown, expected a token of printable ASCII characters, without spaces
    "#);
    insta::assert_snapshot!(errors("http: { token: x, token_file: nowhere }"), @r#"
    alerts.yaml:1:1: http.listen: found nothing, expected an address and a port, such as 127.0.0.1:9095
    alerts.yaml:1:31: http.token_file: found `token_file` beside `token`, expected only one of them
    alerts.yaml:1:31: http.token_file: found no such file (`nowhere`), expected a readable file with the secret
    "#);
    insta::assert_snapshot!(errors("heartbeat: { url: 'http://hc.example.com/1', every: 0, evry: 5m }"), @r#"
    alerts.yaml:1:19: heartbeat.url: found a value that is not shown, expected an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)
    alerts.yaml:1:53: heartbeat.every: found `0`, expected a duration above 0, such as 90s, 30m, 4h, 2d or 1w
    alerts.yaml:1:56: heartbeat.evry: found `evry`, expected one of url, url_file, every, timeout, ca_file, allow_insecure; did you mean `every`?
    "#);
    insta::assert_snapshot!(errors("heartbeat: 5m"), @"alerts.yaml:1:12: heartbeat: found a text, expected a map with the keys url, url_file, every, timeout, ca_file, allow_insecure");
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
    insta::assert_snapshot!(files.errors(&[]), @r#"
    alerts.yaml:9:3: silences.endless.until: found nothing, expected when it ends: a time such as 2026-12-01T09:00 (in `timezone`), or with an offset, 2026-12-01T09:00+01:00
    alerts.yaml:10:3: silences.nobody.account: found nothing, expected a name under `accounts`
    alerts.yaml:11:21: silences.typos.account: found `acne`, expected a name under `accounts`; did you mean `acme`?
    alerts.yaml:11:33: silences.typos.rule: found `lwo`, expected a name under `rules`; did you mean `low`?
    alerts.yaml:11:45: silences.typos.until: found `tomorrow`, expected a time such as 2026-12-01T09:00 (in `timezone`), or with an offset, 2026-12-01T09:00+01:00
    alerts.yaml:11:62: silences.typos.level: found `wraning`, expected warning or critical; did you mean `warning`?
    alerts.yaml:11:71: silences.typos.for: found `for`, expected one of account, division, rule, until, reason, level
    alerts.yaml:12:41: silences.elsewhere.division: found `8`, expected a division that this account reads (its `divisions`)
    alerts.yaml:13:41: silences.undivided.division: found `7`, expected a division that this account reads (its `divisions`)
    alerts.yaml:14:37: silences.named.division: found `History`, expected the number of a division (its container id)
    alerts.yaml:14:53: silences.named.until: found `2126-12-01`, expected a time such as 2026-12-01T09:00 (in `timezone`), or with an offset, 2026-12-01T09:00+01:00
    alerts.yaml:14:73: silences.named.reason: found ``, expected a text on one line, of 1 to 300 characters
    "#);
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
    76: notifiers.n.quiet_hours: found neither hours nor days, expected `from` and `to`, such as "19:00" and "07:30", or `days`, or all of them
    76: notifiers.n.quiet_hours.to: found nothing, expected when they end, such as "07:30", beside `from`
    76: notifiers.n.quiet_hours.from: found nothing, expected when they begin, such as "19:00", beside `to`
    110: notifiers.n.quiet_hours.to: found hours that end when they begin, expected another time than `from` (for whole days there is `days`)
    97: notifiers.n.quiet_hours.from: found `7`, expected a time of day such as "19:00" or "07:30"
    104: notifiers.n.quiet_hours.to: found `25:00`, expected a time of day such as "19:00" or "07:30"
    125: notifiers.n.quiet_hours.days[1]: found `Caturday`, expected Mon, Tue, Wed, Thu, Fri, Sat or Sun
    135: notifiers.n.quiet_hours.days[2]: found `Sat` again, expected each only once
    149: notifiers.n.quiet_hours.except: found `warning`, expected critical
    158: notifiers.n.quiet_hours.form: found `form`, expected one of from, to, days, except; did you mean `from`?
    91: notifiers.n.quiet_hours.days: found every day of the week, so that nothing would ever be told, expected at most six days
    91: notifiers.n.quiet_hours.days: found an empty list, expected a list of days such as [Sat, Sun]
    "#);
    assert_eq!(quiet("from: 19:00, to: 07:30, days: [Sat, sunday], except: critical"), "");
}

#[test]
fn mistakes_in_forecast_rules_say_what_would_be_right() {
    insta::assert_snapshot!(rule("metric: runway, warning: { below: 2000 }, within: 30d"), @"
    alerts.yaml:2:44: rules.low.warning.below: found `2000`, expected a duration above 0 and up to a year, such as 24h, 14d or 30d
    alerts.yaml:2:60: rules.low.within: found `within`, expected no window: only spend, expiring_funds, renewals_due, shortfall have one
    ");
    insta::assert_snapshot!(rule("metric: runway, warning: { below: 400d }, confidence: 90"), @"
    alerts.yaml:2:44: rules.low.warning.below: found `400d`, expected a duration above 0 and up to a year, such as 24h, 14d or 30d
    alerts.yaml:2:64: rules.low.confidence: found `90`, expected a share from 0.5 to 0.99, such as 0.9
    ");
    insta::assert_snapshot!(rule("metric: spend, warning: { above: 14d }, within: 0, confidence: 0.9"), @"
    alerts.yaml:2:43: rules.low.warning.above: found `14d`, expected an amount such as 2000, 1999.95 or 2000 USD
    alerts.yaml:2:58: rules.low.within: found `0`, expected a duration above 0 and up to a year, such as 24h, 14d or 30d
    alerts.yaml:2:73: rules.low.confidence: found `confidence`, expected no confidence: only runway has one
    ");
    insta::assert_snapshot!(rule("metric: shortfall, warning: { above: -1 }"), @"alerts.yaml:2:47: rules.low.warning.above: found `-1`, expected 0 or more: shortfall is never negative");
    insta::assert_snapshot!(rule("metric: runwy, warning: { below: 14d, clear_at: 7d }"), @"
    alerts.yaml:2:18: rules.low.metric: found `runwy`, expected one of available_funds, balance, unpaid_invoices, used_credit, runway, spend, expiring_funds, renewals_due, shortfall; did you mean `runway`?
    alerts.yaml:2:58: rules.low.warning.clear_at: found `7d`, expected 14d or more (`clear_at` 7d is on the firing side of `below` 14d: the level could never clear properly)
    ");
    insta::assert_snapshot!(account("api_key: k, not_spend: []"), @"alerts.yaml:2:23: accounts.acme.not_spend: found an empty list, expected a list of transaction types such as [Expired Deposit, Adjustment]");
}

#[test]
fn a_variable_without_quotes_inside_braces_is_explained() {
    let hint = "expected valid YAML: inside { } and [ ], a value with ${NAME} stands in quotes: \"${NAME}\"";
    for part in ["accounts:\n  acme: { api_key: ${KEY} }", "accounts:\n  acme: { api_key: ${KEY}, region: eu }"] {
        let errors = Files::new(with(part)).errors(&[("KEY", "k")]);
        assert!(errors.contains("broken YAML") && errors.contains(hint), "{errors}");
    }
    let other = Files::new(with("accounts:\n  acme: { api_key: 'k }")).errors(&[]);
    assert!(other.contains("a quote that is not closed") && !other.contains("${"), "{other}");
    assert_eq!(Files::new(with("accounts:\n  acme: { api_key: \"${KEY}\" }")).errors(&[("KEY", "k")]), "");
}

#[test]
fn a_mail_domain_that_cannot_exist_is_an_error_with_its_place() {
    let mail = |to: &str| notifier(&format!("type: email, host: mx, from: a@example.com, to: [{to}]"));
    assert_eq!(mail("einkauf@müller-söhne.de, Jürgen <j@straße.example>"), "");
    insta::assert_snapshot!(mail("b@example.com, a@ü-.de"), @"alerts.yaml:2:72: notifiers.n.to[1]: found `a@ü-.de`, expected a mail address with a domain that exists in ASCII too (IDNA refuses this one)");
    assert!(mail(&format!("a@{}.de", "ü".repeat(60))).contains("notifiers.n.to[0]: found `a@üü"));
    let host = |host: &str| notifier(&format!("type: email, host: '{host}', from: a@example.com, to: [b@example.com]"));
    assert_eq!(host("smtp.müller-söhne.de"), "");
    assert!(host("smtp.ü-.de").contains("expected a host name"));
}

#[test]
fn a_mention_that_pings_nobody_is_a_warning_with_the_right_form() {
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
    alerts.yaml:6:16: notifiers.chat.mention.warning: found `@jane`, expected `<@U012AB3CD>` with the id of a member, or `<!subteam^S012AB3CD>` with the id of a user group: Slack shows anything else as text and pings nobody
    alerts.yaml:7:17: notifiers.chat.mention.critical: found `@here`, expected `<!here>`: Slack shows anything else as text and pings nobody
    ");
}
