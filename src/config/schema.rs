//! The JSON Schema of `alerts.yaml`, for editors: made from [`keys`], so that it cannot name another key than the loader.
//!
//! `keys` says which keys there are and what is below them; here stands what a value looks like and what it is for. A key
//! that is missing here is still in the schema, only with less said about it. The schema never refuses what the loader
//! takes, but for what the environment would override; what needs other values to be judged is left to the loader.

use serde_json::{Map, Value, json};

use super::accounts::REGIONS;
use super::channels::types;
use super::keys::{self, Key, Shape};
use crate::domain::rule::Metric;

/// What a scalar, or an item of a list, looks like.
#[derive(Clone, Copy)]
enum ValueFormat {
    /// Any text.
    Text,
    /// `every 15m` or a crontab.
    Schedule,
    /// `30m`, or 0.
    Duration,
    /// `30m`, or `never`.
    DurationOrNever,
    /// An amount or a duration: what a rule fires at.
    Bound,
    /// `0.9` or `90%`.
    Confidence,
    /// `true` or `false`.
    Boolean,
    /// 1 to 65535.
    Port,
    /// A division's number.
    Division,
    /// `100/5s`.
    Quota,
    /// An address of the web.
    Web,
    /// `warning` or `critical`.
    Level,
    /// A metric.
    Metric,
    /// A region.
    Region,
    /// A type of notifier.
    NotifierType,
    /// How a mail server is reached.
    Tls,
}

use ValueFormat::{
    Boolean, Bound, Confidence, Division, Duration, DurationOrNever, Level, Metric as OfMetric, NotifierType, Port,
    Quota, Region, Schedule, Text, Tls, Web,
};

/// Path without chosen names, look, purpose. What stands below `critical` is what stands below `warning`.
const DETAILS: &[(&str, ValueFormat, &str)] = &[
    (
        "schedule",
        Schedule,
        "When the balances are read: \"every 15m\", a crontab of five fields, or of six with seconds first. Default: every 15m.",
    ),
    (
        "timezone",
        Text,
        "The zone of schedules and of the times in messages: an IANA name such as Europe/Amsterdam. Default: UTC.",
    ),
    ("state", Text, "Where alerts are remembered across restarts; relative to this file."),
    ("accounts", Text, "Whose balance is read. The names are yours; messages show them."),
    ("accounts.api_key", Text, "The account's API key; one that is restricted to viewing is enough."),
    ("accounts.api_key_file", Text, "A file that holds the API key."),
    ("accounts.region", Region, "us (www.digicert.com) or eu (certcentral.digicert.eu). Default: us."),
    ("accounts.base_url", Web, "The address of the API, instead of a region."),
    ("accounts.divisions", Division, "all, or a list of container ids; leave it out if the account has one division."),
    ("accounts.exclude_divisions", Division, "With `divisions: all`: every division but these."),
    ("accounts.schedule", Schedule, "When this account's balances are read. Default: the schedule of the file."),
    ("accounts.console_url", Web, "What \"Deposit funds\" in a message opens. Default: the console of the region."),
    (
        "accounts.rate_limit",
        Quota,
        "At most so many requests in any window of that length, such as [100/5s, 1000/3m]; off lifts it.",
    ),
    (
        "accounts.not_spend",
        Text,
        "Types of debits in the ledger that are no purchases. Default: those named in docs/forecast.md.",
    ),
    ("accounts.timeout", Duration, "The longest wait for one request. Default: 10s."),
    ("accounts.ca_file", Text, "PEM certificates to trust besides the system's."),
    ("accounts.allow_insecure", Boolean, "Allows http:// to other machines; secrets are then readable on the way."),
    ("notifiers", Text, "Who is told, and how. The names are yours; rules refer to them."),
    ("notifiers.type", NotifierType, "The kind of channel; the other keys depend on it."),
    ("notifiers.webhook_url", Text, "The address of the incoming webhook; it is a secret."),
    ("notifiers.webhook_url_file", Text, "A file that holds the webhook's address."),
    ("notifiers.mention", Text, "Put in front of messages of that level."),
    ("notifiers.mention.warning", Text, "Such as <@U012AB3CD>."),
    ("notifiers.mention.critical", Text, "Such as <!here>."),
    ("notifiers.template", Text, "Texts of your own, in the language of Jinja; docs/templates.md has the variables."),
    ("notifiers.template.subject", Text, "A mail's subject."),
    (
        "notifiers.template.slack",
        Text,
        "A Slack message: its first line, and below it what is behind the coloured bar.",
    ),
    ("notifiers.template.text", Text, "A mail's plain text."),
    ("notifiers.template.html", Text, "A mail's HTML: a whole page, or what goes into lowtide's frame."),
    ("notifiers.host", Text, "The name of the mail server."),
    ("notifiers.port", Port, "Default: by tls, 465, 587 or 25."),
    (
        "notifiers.tls",
        Tls,
        "implicit (port 465), starttls (587), or none (25; only to this machine). Default: implicit.",
    ),
    ("notifiers.username", Text, "Leave out username and password if the server wants none."),
    ("notifiers.password", Text, "The password that belongs to the username."),
    ("notifiers.password_file", Text, "A file that holds the password."),
    (
        "notifiers.hello",
        Text,
        "The name in EHLO, such as alerts.example.com. Default: the host's name if it has a dot, else its address.",
    ),
    ("notifiers.from", Text, "The sender's mail address."),
    ("notifiers.to", Text, "One to fifty mail addresses."),
    ("notifiers.oauth2", Text, "Logs in by a token instead of a password, as Microsoft 365 wants it."),
    ("notifiers.oauth2.token_url", Web, "The address of the token endpoint."),
    ("notifiers.oauth2.client_id", Text, "The id of the application."),
    ("notifiers.oauth2.client_secret", Text, "The secret of the application."),
    ("notifiers.oauth2.client_secret_file", Text, "A file that holds the application's secret."),
    ("notifiers.oauth2.scope", Text, "What the token is asked for."),
    ("notifiers.url", Text, "Where requests go; of a webhook, it is a secret."),
    ("notifiers.url_file", Text, "A file that holds the address."),
    ("notifiers.headers", Text, "Headers of your own and their values, which are secrets."),
    ("notifiers.signing_secret", Text, "whsec_ and base64: signs requests as Standard Webhooks says."),
    ("notifiers.signing_secret_file", Text, "A file that holds the signing secret."),
    ("notifiers.routing_key", Text, "The integration key of an Events API v2 integration."),
    ("notifiers.routing_key_file", Text, "A file that holds the integration key."),
    ("notifiers.quiet_hours", Text, "When its messages are held and told as one afterwards."),
    ("notifiers.quiet_hours.from", Text, "When they begin every day, such as \"19:00\"."),
    ("notifiers.quiet_hours.to", Text, "When they end, such as \"07:30\"."),
    ("notifiers.quiet_hours.days", Text, "Days that are quiet as a whole, such as [Sat, Sun]."),
    ("notifiers.quiet_hours.except", Text, "critical: what is critical is told all the same."),
    ("notifiers.fallback", Text, "The notifier that takes over when this one keeps failing."),
    ("notifiers.timeout", Duration, "The longest wait for one request. Default: 10s."),
    ("notifiers.ca_file", Text, "PEM certificates to trust besides the system's."),
    (
        "notifiers.allow_insecure",
        Boolean,
        "Allows unencrypted connections to other machines; secrets are then readable on the way.",
    ),
    ("rules", Text, "From which amount on somebody should know. The names are yours; messages show them."),
    ("rules.metric", OfMetric, "What the rule looks at."),
    (
        "rules.within",
        Duration,
        "The window of spend (default 24h), expiring_funds, renewals_due and shortfall (default 30d).",
    ),
    (
        "rules.confidence",
        Confidence,
        "How cautious a runway is: the early end of a range that holds so much. Default: 0.9.",
    ),
    ("rules.warning", Text, "Somebody should plan for it."),
    ("rules.critical", Text, "Somebody should act now."),
    ("rules.clear_at", Bound, "A level that fired clears only at this value or beyond. Default: its threshold."),
    ("rules.for", Duration, "A level fires only after its condition has held for so long. Default: 0."),
    ("rules.remind_every", DurationOrNever, "The pause between reminders while it fires, or never. Default: 24h."),
    ("rules.notify", Text, "Names of notifiers. Default: all."),
    ("rules.accounts", Text, "Names of the accounts that it watches. Default: all."),
    ("rules.divisions", Division, "Container ids of the divisions that it watches. Default: all."),
    ("rules.description", Text, "Shown in every message."),
    ("rules.link", Web, "Shown in every message."),
    ("rules.warning.below", Bound, "Fires strictly below this: 2000, 1999.95 or 2000 USD; of a runway, 14d."),
    ("rules.warning.above", Bound, "Fires strictly above this: 2000, 1999.95 or 2000 USD; of a runway, 14d."),
    ("rules.warning.clear_at", Bound, "Clears only at this value or beyond. Default: the rule's, else the threshold."),
    ("rules.warning.for", Duration, "Fires only after the condition has held for so long. Default: the rule's."),
    (
        "rules.warning.remind_every",
        DurationOrNever,
        "The pause between reminders while it fires, or never. Default: the rule's.",
    ),
    ("rules.warning.notify", Text, "Names of notifiers. Default: the rule's."),
    ("unreadable", Text, "What happens when a balance cannot be read."),
    ("unreadable.after", Duration, "How long a failure that may heal is waited out. Default: 3h."),
    ("unreadable.level", Level, "How bad it is. Default: warning."),
    ("unreadable.remind_every", DurationOrNever, "The pause between reminders, or never. Default: 24h."),
    ("unreadable.notify", Text, "Names of notifiers. Default: all."),
    ("http", Text, "Answers GET on /healthz, /readyz and /metrics. Default: off."),
    ("http.listen", Text, "Address and port, such as 127.0.0.1:9095."),
    ("http.token", Text, "What whoever asks has to show, as `Authorization: Bearer …`; it is a secret."),
    ("http.token_file", Text, "A file that holds the token."),
    ("http.allow_public", Boolean, "Shows the amounts to everyone who can reach the address. Default: false."),
    ("heartbeat", Text, "Pings a service that speaks up when pings stay away. Default: off."),
    ("heartbeat.url", Text, "The address to ping; it is a secret."),
    ("heartbeat.url_file", Text, "A file that holds the address."),
    ("heartbeat.every", Duration, "The pause between two pings while all is well. Default: 5m."),
    ("heartbeat.timeout", Duration, "The longest wait for one request. Default: 10s."),
    ("heartbeat.ca_file", Text, "PEM certificates to trust besides the system's."),
    ("heartbeat.allow_insecure", Boolean, "Allows http:// to other machines."),
    ("silences", Text, "What nobody wants to hear for a while. The names are yours."),
    ("silences.account", Text, "The name of an account."),
    ("silences.division", Division, "Only this division. Default: all of the account."),
    ("silences.rule", Text, "Only this rule, or unreadable. Default: all of them."),
    ("silences.until", Text, "When it ends: 2026-12-01T09:00, in `timezone` or with an offset."),
    ("silences.reason", Text, "Shown in messages and by `lowtide status`."),
    ("silences.level", Level, "The most severe level that is hushed. Default: warning."),
    ("reports", Text, "Pages with every account and division. The names are yours; the pages show them."),
    ("reports.schedule", Schedule, "When the report comes: a crontab such as \"0 9 * * Mon\", or \"every 24h\"."),
    ("reports.notify", Text, "Names of notifiers. Default: all."),
];

/// The schema.
pub fn schema() -> Value {
    let mut root = section(keys::ROOT, "");
    let head = [
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("title", "alerts.yaml of lowtide"),
        ("description", "What lowtide watches, and whom it tells. `lowtide validate` sees more than this schema can."),
    ];
    for (key, text) in head {
        root[key] = text.into();
    }
    root
}

/// A map of known keys.
fn section(keys: &'static [Key], path: &str) -> Value {
    let mut properties = Map::new();
    for key in keys {
        let below = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        properties.insert(key.name.to_owned(), value(key.shape, &below.replace("rules.critical.", "rules.warning.")));
    }
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    demand(&mut schema, path);
    let excluded: Vec<Value> =
        keys::alternatives(keys).flat_map(pairs).map(|pair| json!({ "not": { "required": pair } })).collect();
    if !excluded.is_empty() {
        let mut all = schema["allOf"].as_array().cloned().unwrap_or_default();
        all.extend(excluded);
        schema["allOf"] = all.into();
    }
    schema
}

/// Every two of a row.
fn pairs(row: &'static [&'static str]) -> impl Iterator<Item = [&'static str; 2]> {
    row.iter().enumerate().flat_map(move |(i, one)| row[i + 1..].iter().map(move |other| [*one, *other]))
}

fn value(shape: Shape, path: &str) -> Value {
    let detail = DETAILS.iter().find(|(at, ..)| *at == path);
    let item = |format: Option<ValueFormat>| format.map_or_else(anything, format_schema);
    let items = || json!({ "type": "array", "minItems": 1, "items": item(detail.map(|(_, format, _)| *format)) });
    let mut schema = match shape {
        Shape::Scalar => item(detail.map(|(_, format, _)| *format)),
        Shape::List => items(),
        Shape::WordOrList(word) => json!({ "anyOf": [one_of(&[word]), items()] }),
        Shape::Map(keys) => section(keys, path),
        Shape::Texts => json!({ "type": "object", "additionalProperties": anything() }),
        Shape::Named(keys) => {
            let names = json!({ "minLength": 1, "maxLength": 64 });
            json!({ "type": "object", "minProperties": 1, "propertyNames": names, "additionalProperties": section(keys, path) })
        }
    };
    if let Some((_, _, purpose)) = detail {
        schema["description"] = (*purpose).into();
    }
    schema
}

/// What must be there.
fn demand(schema: &mut Value, path: &str) {
    let either = |keys: &[&str]| keys.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>();
    match path {
        "" => schema["required"] = json!(["accounts", "notifiers", "rules"]),
        "accounts" => schema["anyOf"] = json!(either(&["api_key", "api_key_file"])),
        "notifiers" => {
            schema["required"] = json!(["type"]);
            schema["allOf"] = types().map(|(name, own)| of_type(name, own)).collect();
        }
        "rules" => {
            schema["required"] = json!(["metric"]);
            schema["anyOf"] = json!(either(&["warning", "critical"]));
        }
        "reports" => schema["required"] = json!(["schedule"]),
        "silences" => schema["required"] = json!(["account", "until"]),
        "http" => schema["required"] = json!(["listen"]),
        "heartbeat" => schema["anyOf"] = json!(either(&["url", "url_file"])),
        "notifiers.oauth2" => {
            schema["required"] = json!(["token_url", "client_id"]);
            schema["anyOf"] = json!(either(&["client_secret", "client_secret_file"]));
        }
        "rules.warning" | "rules.critical" => schema["anyOf"] = json!(either(&["below", "above"])),
        _ => {}
    }
}

/// What a notifier of one type has to have, and the keys of other types that it must not have.
fn of_type(name: &str, own: &[&str]) -> Value {
    let others = types().flat_map(|(_, keys)| keys.iter()).filter(|key| !own.contains(key));
    let others: Map<String, Value> = others.map(|key| ((*key).to_owned(), json!(false))).collect();
    let either = |one: &str, other: &str| json!([{ "required": [one] }, { "required": [other] }]);
    let mut then = json!({ "properties": others });
    match name {
        "slack" | "teams" => then["anyOf"] = either("webhook_url", "webhook_url_file"),
        "webhook" => then["anyOf"] = either("url", "url_file"),
        "pagerduty" => then["anyOf"] = either("routing_key", "routing_key_file"),
        "email" => then["required"] = json!(["host", "from", "to"]),
        _ => {}
    }
    json!({ "if": { "properties": { "type": { "const": name } }, "required": ["type"] }, "then": then })
}

/// A scalar of which nothing is known.
fn anything() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// A scalar. Whatever it is, a variable of the environment may stand for it or for a part of it.
fn format_schema(format: ValueFormat) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": format!("^(?:{pattern})$|\\$\\{{") });
    let duration = "0|[0-9]+[smhdw]";
    match format {
        Text => anything(),
        Schedule => text(r"\s*every\s+[0-9]+[smhdw]\s*|\s*\S+(?:\s+\S+){4,5}\s*"),
        Duration => json!({ "anyOf": [{ "const": 0 }, text(duration)] }),
        DurationOrNever => text(r"[0-9]+[smhdw]|never"),
        Bound => json!({ "anyOf": [
            { "type": "number" }, text(r"-?[0-9]+(?:\.[0-9]+)?(?: +[A-Za-z]{3})?|[0-9]+[smhdw]"),
        ] }),
        Confidence => json!({ "anyOf": [
            { "type": "number", "minimum": 0.5, "maximum": 0.99 }, text(r"0\.[5-9][0-9]*|[5-9][0-9]%"),
        ] }),
        Boolean => json!({ "anyOf": [{ "type": "boolean" }, text("true|false")] }),
        Port => json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 65535 }, text("[0-9]+")] }),
        Division => json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, text("[0-9]+")] }),
        Quota => text("[0-9]+/[0-9]+[smhdw]"),
        Web => text(r"[Hh][Tt][Tt][Pp][Ss]?:.+"),
        Level => one_of(&["warning", "critical"]),
        OfMetric => one_of(&Metric::ALL.map(|(_, name)| name)),
        Region => one_of(&REGIONS.map(|(name, _)| name)),
        NotifierType => one_of(&types().map(|(name, _)| name).collect::<Vec<_>>()),
        Tls => one_of(&["implicit", "starttls", "none"]),
    }
}

fn one_of(words: &[&str]) -> Value {
    json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": "\\$\\{" }] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn paths(keys: &'static [Key], path: &str, all: &mut BTreeSet<String>) {
        for key in keys {
            let below = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            all.insert(below.replace("rules.critical.", "rules.warning."));
            if let Shape::Map(keys) | Shape::Named(keys) = key.shape {
                paths(keys, &below, all);
            }
        }
    }

    #[test]
    fn every_key_is_explained_and_nothing_else_is() {
        let mut all = BTreeSet::new();
        paths(keys::ROOT, "", &mut all);
        let explained: BTreeSet<String> = DETAILS.iter().map(|(path, ..)| (*path).to_owned()).collect();
        assert_eq!(explained.len(), DETAILS.len(), "a key is explained twice");
        assert_eq!(explained, all, "a new key wants a line in DETAILS");
    }
}
