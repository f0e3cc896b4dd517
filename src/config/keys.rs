//! The description of a key: one for the loader, the JSON Schema and docs/configuration.md. `catalog` has those of
//! `alerts.yaml`.

/// Description of a key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Type of the scalar, or of the items of a list.
    pub(super) value: ValueKind,
    /// Purpose of the key, in sentences.
    pub(super) text: &'static str,
    /// Default as the file would write it, or a phrase that names it.
    pub(super) default: Option<&'static str>,
    /// Value as the file would write it.
    pub(super) example: Option<&'static str>,
    pub(super) secret: bool,
    pub(super) required: Required,
    /// Types of notifiers that have the key; empty: all of them.
    pub(super) types: &'static [&'static str],
}

/// Sections in which a key, or an alternative to it, must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Required {
    Never,
    Always,
    /// Required for these types of notifiers.
    ForTypes(&'static [&'static str]),
}

/// Structure of what belongs below a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Scalar,
    List,
    /// This word, or a list.
    WordOrList(&'static str),
    Map(&'static [Key]),
    /// Names that the user chooses, each with known keys.
    Named(&'static [Key]),
    /// Names that the user chooses, each with one scalar.
    Texts,
}

/// Type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    Text,
    /// An interval such as `every 15m`, or a crontab.
    Schedule,
    /// A duration such as `30m`, or 0.
    Duration,
    /// A duration such as `30m`, or `never`.
    DurationOrNever,
    /// An amount or a duration, depending on the metric.
    Threshold,
    /// A probability such as `0.9` or `90%`.
    Confidence,
    Boolean,
    Port,
    /// Container id of a division.
    Division,
    /// A number of requests in a window, such as `100/5s`.
    Quota,
    Url,
    Level,
    Metric,
    Region,
    NotifierType,
    EmailTls,
    /// A file, relative to the configuration.
    Path,
    Email,
    /// Name of a notifier, account or rule.
    Name,
    /// A time such as `2026-12-01T09:00`.
    Moment,
    TimeOfDay,
    Weekday,
}

impl Key {
    const fn new(name: &'static str, shape: Shape, value: ValueKind, text: &'static str) -> Self {
        Self {
            name,
            shape,
            value,
            text,
            default: None,
            example: None,
            secret: false,
            required: Required::Never,
            types: &[],
        }
    }

    /// Describes the key of a text that needs no description, as in scenarios.
    pub(super) const fn plain(name: &'static str) -> Self {
        Self::new(name, Shape::Scalar, ValueKind::Text, "")
    }

    pub(super) const fn scalar(name: &'static str, value: ValueKind, text: &'static str) -> Self {
        Self::new(name, Shape::Scalar, value, text)
    }

    pub(super) const fn list(name: &'static str, value: ValueKind, text: &'static str) -> Self {
        Self::new(name, Shape::List, value, text)
    }

    pub(super) const fn word_or_list(
        name: &'static str,
        word: &'static str,
        value: ValueKind,
        text: &'static str,
    ) -> Self {
        Self::new(name, Shape::WordOrList(word), value, text)
    }

    pub(super) const fn map(name: &'static str, keys: &'static [Key], text: &'static str) -> Self {
        Self::new(name, Shape::Map(keys), ValueKind::Text, text)
    }

    pub(super) const fn named(name: &'static str, keys: &'static [Key], text: &'static str) -> Self {
        Self::new(name, Shape::Named(keys), ValueKind::Text, text)
    }

    pub(super) const fn texts(name: &'static str, text: &'static str) -> Self {
        Self::new(name, Shape::Texts, ValueKind::Text, text)
    }

    pub(super) const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    pub(super) const fn example(self, example: &'static str) -> Self {
        Self { example: Some(example), ..self }
    }

    pub(super) const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    pub(super) const fn required(self) -> Self {
        Self { required: Required::Always, ..self }
    }

    pub(super) const fn required_for(self, types: &'static [&'static str]) -> Self {
        Self { required: Required::ForTypes(types), ..self }
    }

    pub(super) const fn only_for(self, types: &'static [&'static str]) -> Self {
        Self { types, ..self }
    }

    /// Returns `true` if notifiers of this type have the key.
    pub(super) fn fits_type(&self, notifier_type: &str) -> bool {
        self.types.is_empty() || self.types.contains(&notifier_type)
    }

    /// Returns the keys below this one, if they are known.
    pub(super) fn below(&self) -> &'static [Key] {
        match self.shape {
            Shape::Map(keys) | Shape::Named(keys) => keys,
            _ => &[],
        }
    }
}

/// Groups of keys that set the same thing in different ways: a section may have only one of each group. An environment
/// variable for one of them replaces the others of the file.
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
    // In a scenario.
    &["on", "ago"],
];

/// Keys that mean nothing without one of others: an override that replaces that one removes them from the file, too.
const DEPENDENTS: &[(&str, &[&str])] = &[("clear_at", &["below", "above"])];

/// Returns the keys that this one depends on.
pub(super) fn depends_on(name: &str) -> &'static [&'static str] {
    DEPENDENTS.iter().find(|(dependent, _)| *dependent == name).map_or(&[], |(_, others)| others)
}

/// Returns the groups of alternatives among these keys.
pub(super) fn alternatives(known: &'static [Key]) -> impl Iterator<Item = &'static [&'static str]> {
    let has = |name: &&str| known.iter().any(|key| key.name == *name);
    ALTERNATIVES.iter().copied().filter(move |row| row.iter().all(has))
}

/// Returns the alternatives to a key among these keys.
pub(super) fn excluded_by(name: &str, known: &'static [Key]) -> impl Iterator<Item = &'static str> {
    let rows = alternatives(known).filter(move |row| row.contains(&name));
    rows.flat_map(|row| row.iter().copied()).filter(move |other| *other != name)
}

/// Returns the names of keys.
pub(super) fn names(keys: &'static [Key]) -> impl Iterator<Item = &'static str> + Clone {
    keys.iter().map(|key| key.name)
}
