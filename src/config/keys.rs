//! The keys of `alerts.yaml`, as data: what the file may hold and what a variable of the environment may override.

use super::problem::nearest;

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
    named("silences", SILENCE),
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
    scalar("host"),
    scalar("port"),
    scalar("tls"),
    scalar("username"),
    scalar("password"),
    scalar("password_file"),
    scalar("from"),
    list("to"),
    scalar("fallback"),
    map("quiet_hours", QUIET_HOURS),
    scalar("timeout"),
    scalar("ca_file"),
    scalar("allow_insecure"),
];

/// Keys that only a Slack notifier has.
pub(super) const SLACK_ONLY: &[&str] = &["webhook_url", "webhook_url_file", "mention"];

/// Keys that only an e-mail notifier has.
pub(super) const EMAIL_ONLY: &[&str] = &["host", "port", "tls", "username", "password", "password_file", "from", "to"];

/// Below `quiet_hours`.
pub(super) const QUIET_HOURS: &[Key] = &[scalar("from"), scalar("to"), list("days"), scalar("except")];

/// Below `mention`.
pub(super) const MENTION: &[Key] = &[scalar("warning"), scalar("critical")];

/// Below a rule.
pub(super) const RULE: &[Key] = &[
    scalar("metric"),
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

/// Below a silence.
pub(super) const SILENCE: &[Key] =
    &[scalar("account"), scalar("division"), scalar("rule"), scalar("until"), scalar("reason"), scalar("level")];

/// Keys whose value is never shown.
const SECRETS: &[&str] = &["api_key", "webhook_url", "password"];

/// Whether the value of this key is a secret.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// A key as messages show it. `api_key=VALUE` or `password:VALUE`, a colon or space forgotten, shows no value.
pub(super) fn shown_key(key: &str) -> &str {
    let end = key.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(key.len());
    let (word, rest) = key.split_at(end);
    let secret = !rest.is_empty() && SECRETS.iter().any(|secret| nearest(word, [*secret]).is_some());
    if secret { word } else { key }
}

/// The names of keys.
pub(super) fn names(keys: &'static [Key]) -> impl Iterator<Item = &'static str> + Clone {
    keys.iter().map(|key| key.name)
}
