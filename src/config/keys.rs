//! The keys of `alerts.yaml`, as data: what the file may hold and what a variable of the environment may override.

use crate::util::text::resembles;

/// A key and what belongs below it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

/// What belongs below a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// One scalar.
    Scalar,
    /// A list.
    List,
    /// This word, or a list.
    WordOrList(&'static str),
    /// Known keys.
    Map(&'static [Key]),
    /// Names that the user chooses, each with known keys.
    Named(&'static [Key]),
    /// Names that the user chooses, each with one scalar.
    Texts,
}

const fn scalar(name: &'static str) -> Key {
    Key { name, shape: Shape::Scalar }
}

const fn list(name: &'static str) -> Key {
    Key { name, shape: Shape::List }
}

const fn word_or_list(name: &'static str, word: &'static str) -> Key {
    Key { name, shape: Shape::WordOrList(word) }
}

const fn map(name: &'static str, keys: &'static [Key]) -> Key {
    Key { name, shape: Shape::Map(keys) }
}

const fn named(name: &'static str, keys: &'static [Key]) -> Key {
    Key { name, shape: Shape::Named(keys) }
}

/// The whole file.
pub(super) const ROOT: &[Key] = &[
    scalar("schedule"),
    scalar("timezone"),
    scalar("state"),
    named("accounts", ACCOUNT),
    named("notifiers", NOTIFIER),
    named("rules", RULE),
    map("unreadable", UNREADABLE),
    map("http", HTTP),
    map("heartbeat", HEARTBEAT),
    named("silences", SILENCE),
    named("reports", REPORT),
];

/// Below an account.
pub(super) const ACCOUNT: &[Key] = &[
    scalar("api_key"),
    scalar("api_key_file"),
    scalar("region"),
    scalar("base_url"),
    word_or_list("divisions", "all"),
    list("exclude_divisions"),
    scalar("schedule"),
    scalar("console_url"),
    word_or_list("rate_limit", "off"),
    list("not_spend"),
    scalar("timeout"),
    scalar("ca_file"),
    scalar("allow_insecure"),
];

/// Below a notifier, of whatever type.
pub(super) const NOTIFIER: &[Key] = &[
    scalar("type"),
    scalar("webhook_url"),
    scalar("webhook_url_file"),
    map("mention", MENTION),
    map("template", TEMPLATE),
    scalar("host"),
    scalar("port"),
    scalar("tls"),
    scalar("username"),
    scalar("password"),
    scalar("password_file"),
    map("oauth2", OAUTH2),
    scalar("hello"),
    scalar("from"),
    list("to"),
    scalar("url"),
    scalar("url_file"),
    Key { name: "headers", shape: Shape::Texts },
    scalar("signing_secret"),
    scalar("signing_secret_file"),
    scalar("routing_key"),
    scalar("routing_key_file"),
    scalar("fallback"),
    map("quiet_hours", QUIET_HOURS),
    scalar("timeout"),
    scalar("ca_file"),
    scalar("allow_insecure"),
];

/// Below `oauth2`.
pub(super) const OAUTH2: &[Key] =
    &[scalar("token_url"), scalar("client_id"), scalar("client_secret"), scalar("client_secret_file"), scalar("scope")];

/// Below `set_quiet_hours`.
pub(super) const QUIET_HOURS: &[Key] = &[scalar("from"), scalar("to"), list("days"), scalar("except")];

/// Below `mention`.
pub(super) const MENTION: &[Key] = &[scalar("warning"), scalar("critical")];

/// Below `template`.
pub(super) const TEMPLATE: &[Key] = &[scalar("subject"), scalar("slack"), scalar("text"), scalar("html")];

/// Below a rule.
pub(super) const RULE: &[Key] = &[
    scalar("metric"),
    scalar("within"),
    scalar("confidence"),
    map("warning", LEVEL),
    map("critical", LEVEL),
    scalar("clear_at"),
    scalar("for"),
    scalar("remind_every"),
    list("notify"),
    list("accounts"),
    list("divisions"),
    scalar("description"),
    scalar("link"),
];

/// Below a rule's level.
pub(super) const LEVEL: &[Key] =
    &[scalar("below"), scalar("above"), scalar("clear_at"), scalar("for"), scalar("remind_every"), list("notify")];

/// Below `unreadable`.
pub(super) const UNREADABLE: &[Key] = &[scalar("after"), scalar("level"), scalar("remind_every"), list("notify")];

/// Below `http`.
pub(super) const HTTP: &[Key] = &[scalar("listen"), scalar("token"), scalar("token_file"), scalar("allow_public")];

/// Below `heartbeat`.
pub(super) const HEARTBEAT: &[Key] = &[
    scalar("url"),
    scalar("url_file"),
    scalar("every"),
    scalar("timeout"),
    scalar("ca_file"),
    scalar("allow_insecure"),
];

/// Below a silence.
pub(super) const SILENCE: &[Key] =
    &[scalar("account"), scalar("division"), scalar("rule"), scalar("until"), scalar("reason"), scalar("level")];

/// Below a report.
pub(super) const REPORT: &[Key] = &[scalar("schedule"), list("notify")];

/// Keys of one section that say the same in different ways: only one of each row may be there. A variable of the
/// environment for one of them replaces the others of the file.
const ALTERNATIVES: &[&[&str]] = &[
    &["api_key", "api_key_file"],
    &["base_url", "region"],
    &["webhook_url", "webhook_url_file"],
    &["url", "url_file"],
    &["signing_secret", "signing_secret_file"],
    &["routing_key", "routing_key_file"],
    &["oauth2", "password", "password_file"],
    &["client_secret", "client_secret_file"],
    &["token", "token_file"],
    &["below", "above"],
    // Of a scenario.
    &["on", "ago"],
];

/// Keys that mean nothing without one of others: where a variable replaces that one, they leave the file with it.
const DEPENDENTS: &[(&str, &[&str])] = &[("clear_at", &["below", "above"])];

/// The keys that this one depends on.
pub(super) fn depends_on(name: &str) -> &'static [&'static str] {
    DEPENDENTS.iter().find(|(dependent, _)| *dependent == name).map_or(&[], |(_, others)| others)
}

/// The alternatives of which a section with these keys can have only one.
pub(super) fn alternatives(known: &'static [Key]) -> impl Iterator<Item = &'static [&'static str]> {
    let has = |name: &&str| known.iter().any(|key| key.name == *name);
    ALTERNATIVES.iter().copied().filter(move |row| row.iter().all(has))
}

/// The keys that exclude this one in a section with these keys.
pub(super) fn excluded_by(name: &str, known: &'static [Key]) -> impl Iterator<Item = &'static str> {
    let rows = alternatives(known).filter(move |row| row.contains(&name));
    rows.flat_map(|row| row.iter().copied()).filter(move |other| *other != name)
}

/// Keys whose value is never shown.
const SECRETS: &[&str] = &[
    "api_key",
    "webhook_url",
    "password",
    "url",
    "headers",
    "signing_secret",
    "routing_key",
    "client_secret",
    "token",
];

/// Whether the value of this key is a secret.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// A key as messages show it. `api_key=VALUE` or `password:VALUE`, a colon or space forgotten, shows no value.
pub(super) fn shown_key(key: &str) -> &str {
    let end = key.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(key.len());
    let (word, rest) = key.split_at(end);
    let secret = !rest.is_empty() && SECRETS.iter().any(|secret| resembles(word, secret));
    if secret { word } else { key }
}

/// The names of keys.
pub(super) fn names(keys: &'static [Key]) -> impl Iterator<Item = &'static str> + Clone {
    keys.iter().map(|key| key.name)
}
