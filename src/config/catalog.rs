//! The keys of `alerts.yaml`, each described once. The loader takes names and defaults from here; the JSON Schema,
//! docs/configuration.md and the check of `alerts.example.yaml` are made from it.

use super::keys::Key;
use super::keys::ValueKind;
use super::keys::ValueKind::{
    Boolean, Confidence, Division, Duration, DurationOrNever, Email, EmailTls, Level, Metric as MetricName, Moment,
    Name, NotifierType, Path, Port, Quota, Region, Schedule, Text, Threshold, TimeOfDay, Url, Weekday,
};
use crate::domain::rule::Metric;

/// Regions of CertCentral: name, API and console.
pub(super) const REGIONS: [(&str, (&str, &str)); 2] = [
    ("us", ("https://www.digicert.com/services/v2", "https://www.digicert.com/secure/")),
    ("eu", ("https://certcentral.digicert.eu/services/v2", "https://certcentral.digicert.eu/secure/")),
];

pub(super) const NOTIFIER_TYPES: [&str; 5] = ["slack", "email", "webhook", "pagerduty", "teams"];

/// Returns the values that a type allows; empty if it is not a choice.
pub(super) fn choices(value: ValueKind) -> Vec<&'static str> {
    match value {
        Level => vec!["warning", "critical"],
        MetricName => Metric::ALL.map(|(_, name)| name).to_vec(),
        Region => REGIONS.map(|(name, _)| name).to_vec(),
        NotifierType => NOTIFIER_TYPES.to_vec(),
        EmailTls => vec!["implicit", "starttls", "none"],
        Boolean => vec!["true", "false"],
        _ => Vec::new(),
    }
}

/// Keys of the whole file.
pub(super) const ROOT: &[Key] = &[
    Key::scalar("schedule", Schedule, "Times at which balances are read: an interval or a crontab.")
        .default("every 15m")
        .example("\"*/15 8-18 * * Mon-Fri\""),
    Key::scalar("timezone", Text, "IANA time zone of schedules and of the times in messages.")
        .default("UTC")
        .example("Europe/Amsterdam"),
    Key::scalar(
        "state",
        Path,
        "File that keeps alerts across restarts. Without it, lowtide uses lowtide-state.json in $STATE_DIRECTORY (systemd) or beside this file.",
    )
    .example("lowtide-state.json"),
    Key::named("accounts", ACCOUNT, "CertCentral accounts to read. You choose the names; messages show them.").required(),
    Key::named("notifiers", NOTIFIER, "Channels that messages are sent through. You choose the names; rules refer to them.")
        .required(),
    Key::named("rules", RULE, "Conditions that raise alerts. You choose the names; messages show them.").required(),
    Key::map("unreadable", UNREADABLE, "The alert about balances that cannot be read."),
    Key::map("http", HTTP, "HTTP server for /healthz, /readyz and /metrics.").default("off"),
    Key::map("heartbeat", HEARTBEAT, "Pings to a service that alerts when they stop.").default("off"),
    Key::named("silences", SILENCE, "Periods in which notifications are muted. You choose the names."),
    Key::named("reports", REPORT, "Pages with every account and division. You choose the names; the pages show them."),
];

/// Keys of an account.
pub(super) const ACCOUNT: &[Key] = &[
    Key::scalar("api_key", Text, "API key of the account. A key that is restricted to View Only is sufficient.")
        .secret()
        .required()
        .example("${DIGICERT_API_KEY}"),
    Key::scalar("api_key_file", Path, "File that contains the API key.").required().example("/run/secrets/digicert"),
    Key::scalar("region", Region, "Region of the account: us (www.digicert.com) or eu (certcentral.digicert.eu).")
        .default("us")
        .example("eu"),
    Key::scalar("base_url", Url, "Address of the API, instead of a region.")
        .example("https://www.digicert.com/services/v2"),
    Key::word_or_list(
        "divisions",
        "all",
        Division,
        "Divisions to read: all, or a list of container ids. Leave it out if the account has one division.",
    )
    .example("[1234, 5678]"),
    Key::list("exclude_divisions", Division, "Container ids to leave out; only with `divisions: all`.")
        .example("[9999]"),
    Key::scalar("schedule", Schedule, "Times at which the balances of this account are read.")
        .default("the top-level schedule")
        .example("every 1h"),
    Key::scalar("console_url", Url, "Page that \"Deposit funds\" in a message opens.")
        .default("the console of the region")
        .example("https://www.digicert.com/secure/"),
    Key::word_or_list(
        "rate_limit",
        "off",
        Quota,
        "Maximum numbers of requests per API key, each in any window of the given length. `off` removes the limit.",
    )
    .default("[100/5s, 1000/3m]")
    .example("[50/5s, 500/3m]"),
    Key::list("not_spend", Text, "Transaction types of ledger debits that do not count as purchases.")
        .default("those named in docs/forecast.md")
        .example("[Expired Deposit, Adjustment]"),
    TIMEOUT,
    CA_FILE,
    Key::scalar("allow_insecure", Boolean, "Allows http:// to other machines, which exposes secrets on the network.")
        .default("false")
        .example("true"),
];

const TIMEOUT: Key = Key::scalar("timeout", Duration, "Maximum time for one request.").default("10s").example("30s");
const CA_FILE: Key =
    Key::scalar("ca_file", Path, "PEM certificates to trust in addition to the system's.").example("company-ca.pem");

/// Keys of a notifier.
pub(super) const NOTIFIER: &[Key] = &[
    Key::scalar("type", NotifierType, "Type of the channel. It decides which other keys are allowed.")
        .required()
        .example("slack"),
    Key::scalar("webhook_url", Text, "Address of the incoming webhook.")
        .secret()
        .only_for(&["slack", "teams"])
        .required_for(&["slack", "teams"])
        .example("${SLACK_WEBHOOK_URL}"),
    Key::scalar("webhook_url_file", Path, "File that contains the address of the webhook.")
        .only_for(&["slack", "teams"])
        .required_for(&["slack", "teams"])
        .example("/run/secrets/slack"),
    Key::map("mention", MENTION, "Text that starts messages of a level.").only_for(&["slack"]),
    Key::map("template", TEMPLATE, "Custom templates in the Jinja language; docs/templates.md lists the variables.")
        .only_for(&["slack", "email"]),
    Key::scalar("host", Text, "Host name of the mail server.")
        .only_for(&["email"])
        .required_for(&["email"])
        .example("smtp.example.com"),
    Key::scalar("port", Port, "Port of the mail server.")
        .only_for(&["email"])
        .default("by tls: 465, 587 or 25")
        .example("2525"),
    Key::scalar(
        "tls",
        EmailTls,
        "Encryption: implicit (port 465), starttls (587), or none (25; only to this machine).",
    )
    .only_for(&["email"])
    .default("implicit")
    .example("starttls"),
    Key::scalar("username", Text, "User name. Leave it out, with the password, if the server requires no login.")
        .only_for(&["email"])
        .example("lowtide"),
    Key::scalar("password", Text, "Password of the user.").secret().only_for(&["email"]).example("${SMTP_PASSWORD}"),
    Key::scalar("password_file", Path, "File that contains the password.")
        .only_for(&["email"])
        .example("/run/secrets/smtp"),
    Key::map("oauth2", OAUTH2, "OAuth 2.0 login instead of a password, for Microsoft 365. `username` is the mailbox.")
        .only_for(&["email"]),
    Key::scalar("hello", Text, "Name in EHLO.")
        .only_for(&["email"])
        .default("the host's name if it has a dot, else its address")
        .example("alerts.example.com"),
    Key::scalar("from", Email, "Email address of the sender.")
        .only_for(&["email"])
        .required_for(&["email"])
        .example("\"Lowtide <lowtide@example.com>\""),
    Key::list("to", Email, "One to fifty email addresses.")
        .only_for(&["email"])
        .required_for(&["email"])
        .example("[finance@example.com]"),
    Key::scalar("url", Text, "Address that requests are sent to: a secret for webhook, the Events API for pagerduty.")
        .secret()
        .only_for(&["webhook", "pagerduty"])
        .required_for(&["webhook"])
        .example("https://tickets.example.com/lowtide"),
    Key::scalar("url_file", Path, "File that contains the address.")
        .only_for(&["webhook"])
        .required_for(&["webhook"])
        .example("/run/secrets/tickets-url"),
    Key::texts("headers", "Additional HTTP headers. The values are secrets.")
        .secret()
        .only_for(&["webhook"])
        .example("{ Authorization: \"Bearer ${TICKETS_TOKEN}\" }"),
    Key::scalar("signing_secret", Text, "Standard Webhooks signing secret: whsec_ and base64.")
        .secret()
        .only_for(&["webhook"])
        .example("${TICKETS_SIGNING_SECRET}"),
    Key::scalar("signing_secret_file", Path, "File that contains the signing secret.")
        .only_for(&["webhook"])
        .example("/run/secrets/tickets"),
    Key::scalar("routing_key", Text, "Integration key of an Events API v2 integration.")
        .secret()
        .only_for(&["pagerduty"])
        .required_for(&["pagerduty"])
        .example("${PAGERDUTY_ROUTING_KEY}"),
    Key::scalar("routing_key_file", Path, "File that contains the integration key.")
        .only_for(&["pagerduty"])
        .required_for(&["pagerduty"])
        .example("/run/secrets/pagerduty"),
    Key::scalar("fallback", Name, "Notifier that takes over when this one keeps failing.").example("finance-mail"),
    Key::map(
        "quiet_hours",
        QUIET_HOURS,
        "Hours in which messages are held back, to be sent as one message afterwards.",
    ),
    TIMEOUT,
    CA_FILE,
    Key::scalar(
        "allow_insecure",
        Boolean,
        "Allows unencrypted connections to other machines, which exposes secrets on the network.",
    )
    .default("false")
    .example("true"),
];

pub(super) const OAUTH2: &[Key] = &[
    Key::scalar("token_url", Url, "Address of the token endpoint.")
        .required()
        .example("https://login.microsoftonline.com/YOUR-TENANT/oauth2/v2.0/token"),
    Key::scalar("client_id", Text, "Id of the application.").required().example("11112222-3333-4444-5555-666677778888"),
    Key::scalar("client_secret", Text, "Secret of the application.").secret().required().example("${OAUTH2_SECRET}"),
    Key::scalar("client_secret_file", Path, "File that contains the secret of the application.")
        .required()
        .example("/run/secrets/oauth2"),
    Key::scalar("scope", Text, "Scope that the token is requested for.")
        .example("https://outlook.office365.com/.default"),
];

pub(super) const QUIET_HOURS: &[Key] = &[
    Key::scalar("from", TimeOfDay, "Time at which they begin every day.").example("\"19:00\""),
    Key::scalar("to", TimeOfDay, "Time at which they end.").example("\"07:30\""),
    Key::list("days", Weekday, "Days that are quiet from midnight to midnight.").example("[Sat, Sun]"),
    Key::scalar("except", Text, "`critical`: critical alerts are sent at once.").example("critical"),
];

pub(super) const MENTION: &[Key] = &[
    Key::scalar("warning", Text, "Mention at the start of warnings.").example("\"<@U012AB3CD>\""),
    Key::scalar("critical", Text, "Mention at the start of critical messages.").example("\"<!here>\""),
];

pub(super) const TEMPLATE: &[Key] = &[
    Key::scalar("subject", Text, "Subject of an email.").example("\"[{{ level }}] {{ account }}: {{ amount }}\""),
    Key::scalar("slack", Text, "Slack message: its first line, and the lines below it as the card.")
        .example("\"{{ headline }}\""),
    Key::scalar("text", Text, "Plain text of an email.").example("\"{{ headline }} {{ description }}\""),
    Key::scalar("html", Text, "HTML of an email: a complete page, or the content of lowtide's page.")
        .example("\"<p><b>{{ headline }}</b></p>\""),
];

/// Keys of a rule.
pub(super) const RULE: &[Key] = &[
    Key::scalar("metric", MetricName, "Value that the rule compares.").required().example("available_funds"),
    Key::scalar(
        "within",
        Duration,
        "Window of spend (default 24h), expiring_funds, renewals_due and shortfall (default 30d); at most 365d.",
    )
    .example("14d"),
    Key::scalar(
        "confidence",
        Confidence,
        "Caution of a runway: compares the early end of the range with this probability.",
    )
    .default("0.9")
    .example("0.95"),
    Key::map("warning", LEVEL, "Level that needs planning."),
    Key::map("critical", LEVEL, "Level that needs action now."),
    Key::scalar("clear_at", Threshold, "Value at which a level that fired clears.")
        .default("the threshold")
        .example("2500"),
    Key::scalar("for", Duration, "Time for which the condition must hold before a level fires.")
        .default("0")
        .example("2h"),
    Key::scalar("remind_every", DurationOrNever, "Interval of reminders while it fires, or never.")
        .default("24h")
        .example("4h"),
    Key::list("notify", Name, "Names of notifiers.").default("all").example("[finance-slack]"),
    Key::list("accounts", Name, "Names of the accounts that the rule watches.").default("all").example("[acme]"),
    Key::list("divisions", Division, "Container ids of the divisions that the rule watches.")
        .default("all")
        .example("[1234]"),
    Key::scalar("description", Text, "Text that every message shows.").example("Ask Finance for a purchase order."),
    Key::scalar("link", Url, "Address that every message shows.")
        .example("https://wiki.example.com/certificates/funds"),
];

/// Keys of a level.
pub(super) const LEVEL: &[Key] = &[
    Key::scalar(
        "below",
        Threshold,
        "Fires strictly below this: an amount such as 2000 or 2000 USD; for runway, a duration.",
    )
    .required()
    .example("2000"),
    Key::scalar(
        "above",
        Threshold,
        "Fires strictly above this: an amount such as 2000 or 2000 USD; for runway, a duration.",
    )
    .required()
    .example("1000"),
    Key::scalar("clear_at", Threshold, "Value at which the level clears after it fired.")
        .default("the rule's, else the threshold")
        .example("2500"),
    Key::scalar("for", Duration, "Time for which the condition must hold before the level fires.")
        .default("the rule's")
        .example("2h"),
    Key::scalar("remind_every", DurationOrNever, "Interval of reminders while it fires, or never.")
        .default("the rule's")
        .example("4h"),
    Key::list("notify", Name, "Names of notifiers.").default("the rule's").example("[finance-slack, finance-mail]"),
];

pub(super) const UNREADABLE: &[Key] = &[
    Key::scalar("after", Duration, "Duration of a failure that usually clears on its own, before it raises an alert.")
        .default("3h")
        .example("6h"),
    Key::scalar("level", Level, "Level of the alert.").default("warning").example("critical"),
    Key::scalar("remind_every", DurationOrNever, "Interval of reminders, or never.").default("24h").example("never"),
    Key::list("notify", Name, "Names of notifiers.").default("all").example("[finance-slack]"),
];

pub(super) const HTTP: &[Key] = &[
    Key::scalar("listen", Text, "Address and port. An address other than loopback needs a token or `allow_public`.")
        .required()
        .example("127.0.0.1:9095"),
    Key::scalar("token", Text, "Token that requests must carry, as `Authorization: Bearer …`.")
        .secret()
        .example("${METRICS_TOKEN}"),
    Key::scalar("token_file", Path, "File that contains the token.").example("/run/secrets/metrics"),
    Key::scalar("allow_public", Boolean, "Shows the amounts to everyone who can reach the address.")
        .default("false")
        .example("true"),
];

pub(super) const HEARTBEAT: &[Key] = &[
    Key::scalar("url", Text, "Address to ping.").secret().required().example("${HEARTBEAT_URL}"),
    Key::scalar("url_file", Path, "File that contains the address.").required().example("/run/secrets/heartbeat"),
    Key::scalar("every", Duration, "Interval of the pings.").default("5m").example("1m"),
    TIMEOUT,
    CA_FILE,
    Key::scalar("allow_insecure", Boolean, "Allows http:// to other machines.").default("false").example("true"),
];

/// Keys of a silence.
pub(super) const SILENCE: &[Key] = &[
    Key::scalar("account", Name, "Name of an account.").required().example("acme"),
    Key::scalar("division", Division, "Container id of a division of the account.")
        .default("all of them")
        .example("1234"),
    Key::scalar("rule", Name, "Name of a rule, or unreadable.").default("all of them").example("available-funds"),
    Key::scalar("until", Moment, "End of the silence, in the time zone of the file or with an offset.")
        .required()
        .example("2026-12-01T09:00"),
    Key::scalar("reason", Text, "Reason, shown in messages and by `lowtide status`.").example("PO 4711 raised"),
    Key::scalar("level", Level, "Highest level that is silenced.").default("warning").example("critical"),
];

/// Keys of a report.
pub(super) const REPORT: &[Key] = &[
    Key::scalar("schedule", Schedule, "Times at which the report is sent.").required().example("\"0 9 * * Mon\""),
    Key::list("notify", Name, "Names of notifiers.").default("all").example("[finance-mail]"),
];
