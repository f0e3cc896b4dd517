//! Decodes `rules` and `unreadable`.

use std::collections::BTreeSet;
use std::time::Duration;

use rust_decimal::Decimal;

use super::accounts::AccountDraft;
use super::catalog::{LEVEL, RULE, UNREADABLE as UNREADABLE_KEYS};
use super::cursor::Cursor;
use super::keys::ValueKind;
use super::notifiers::known_name;
use super::problem::ValueError;
use super::section::{self, Section};
use super::values;
use crate::domain::Name;
use crate::domain::confidence::Confidence;
use crate::domain::rule::{
    HORIZON, Level, Metric, MetricUnit, Rule, RuleError, Severity, ThresholdSide, ThresholdValue, UNREADABLE,
    UnreadablePolicy,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Names and accounts that rules refer to.
pub(super) struct RuleReferences<'k> {
    pub(super) accounts: &'k [AccountDraft],
    pub(super) account_names: &'k [Name],
    pub(super) notifiers: &'k [Name],
}

/// Reads all rules and leaves out those with problems.
pub(super) fn rules(cursor: &Cursor<'_>, references: &RuleReferences<'_>) -> Vec<Rule> {
    cursor.named("rule").into_iter().filter_map(|(name, cursor)| rule(name, &cursor, references)).collect()
}

fn rule(name: Name, cursor: &Cursor<'_>, references: &RuleReferences<'_>) -> Option<Rule> {
    if name.as_ref() == UNREADABLE {
        let expected = "another name: this one is for the alert about accounts that cannot be read";
        let found = "`unreadable`";
        cursor.refuse("a rule cannot be called `unreadable`", found, expected);
    }
    let section = cursor.section(RULE)?;
    let metric = section.required("metric", &values::choices(ValueKind::Metric));
    let metric = metric.and_then(|cursor| cursor.read(values::metric));
    let within = section.get("within").and_then(|cursor| within(&cursor, metric));
    let confidence = section.get("confidence").and_then(|cursor| confidence(&cursor, metric));
    let defaults = LevelDefaults::of(&section, metric, references, None);
    let warning = level(&section, Severity::Warning, metric, &defaults, references);
    let critical = level(&section, Severity::Critical, metric, &defaults, references);
    let accounts = watched_accounts(&section, references);
    let divisions = watched_divisions(&section, accounts.as_ref(), references);
    let description = section.read("description", values::lines);
    let link = section.read("link", |text| values::web(text).map(|_| text.to_owned()));
    let (warning, critical) = (warning.ok()?, critical.ok()?);
    // Without a known metric, the levels are still compared with each other.
    let in_time = [&warning, &critical].into_iter().flatten().any(|level| level.threshold().unit() == MetricUnit::Time);
    let stand_in = if in_time { Metric::Runway } else { Metric::AvailableFunds };
    let rule = Rule::new(name, metric.unwrap_or(stand_in), warning, critical);
    let rule = rule.map(|rule| match within {
        Some(within) => rule.with_window(within),
        None => rule,
    });
    match rule {
        Err(error) => {
            refuse_rule(&section, &error);
            None
        }
        Ok(mut rule) => {
            metric?;
            rule.confidence = confidence.unwrap_or_default();
            rule.accounts = accounts;
            rule.divisions = divisions;
            rule.description = description;
            rule.link = link;
            Some(rule)
        }
    }
}

fn watched_accounts(section: &Section<'_>, references: &RuleReferences<'_>) -> Option<BTreeSet<Name>> {
    let cursor = section.get("accounts")?;
    let name = |text: &str| known_name(cursor.ctx, text, references.account_names, "accounts");
    Some(cursor.distinct("a list of names under `accounts`", name)?.into_iter().collect())
}

fn watched_divisions(
    section: &Section<'_>,
    accounts: Option<&BTreeSet<Name>>,
    references: &RuleReferences<'_>,
) -> Option<BTreeSet<u64>> {
    let cursor = section.get("divisions")?;
    let id = |text: &str| values::division(text).and_then(|id| reachable(id, accounts, references));
    Some(cursor.distinct("a list of division numbers such as [1234, 5678]", id)?.into_iter().collect())
}

/// Returns the division if any account that the rule watches can have it.
fn reachable(id: u64, watched: Option<&BTreeSet<Name>>, references: &RuleReferences<'_>) -> Result<u64, ValueError> {
    let watched = |draft: &&AccountDraft| watched.is_none_or(|names| names.contains(&draft.name));
    let has = |draft: &AccountDraft| draft.divisions.as_ref().is_none_or(|divisions| divisions.can_have(id));
    if references.accounts.is_empty() || references.accounts.iter().filter(watched).any(has) {
        return Ok(id);
    }
    let expected = "a division that an account of this rule reads (its `divisions`)";
    Err(ValueError::new("is not read by any account of this rule", expected))
}

/// Settings that a level inherits from its rule.
struct LevelDefaults<'a> {
    clear_at: Option<(ThresholdValue, Cursor<'a>)>,
    hold: Duration,
    remind_every: Option<Duration>,
    notify: Vec<Name>,
}

impl<'a> LevelDefaults<'a> {
    fn of(
        section: &Section<'a>,
        metric: Option<Metric>,
        references: &RuleReferences<'_>,
        rule: Option<&LevelDefaults<'a>>,
    ) -> Self {
        let clear_at = section.get("clear_at").and_then(|cursor| Some((threshold_value(&cursor, metric)?, cursor)));
        let hold = section.read("for", values::duration);
        let remind_every = section.read("remind_every", values::pause_or_never);
        let notify = section.get("notify").and_then(|cursor| notify(&cursor, references.notifiers));
        Self {
            clear_at: clear_at.or_else(|| rule?.clear_at.clone()),
            hold: hold.unwrap_or_else(|| rule.map_or(Duration::ZERO, |rule| rule.hold)),
            remind_every: remind_every.unwrap_or_else(|| rule.map_or(Some(DAY), |rule| rule.remind_every)),
            notify: notify
                .unwrap_or_else(|| rule.map_or_else(|| references.notifiers.to_vec(), |rule| rule.notify.clone())),
        }
    }
}

/// Reads a list of notifiers.
pub(super) fn notify(cursor: &Cursor<'_>, notifiers: &[Name]) -> Option<Vec<Name>> {
    cursor.distinct("a list of at least one name under `notifiers`", |text| {
        known_name(cursor.ctx, text, notifiers, "notifiers")
    })
}

/// Reads a threshold in the unit of the metric.
fn threshold_value(cursor: &Cursor<'_>, metric: Option<Metric>) -> Option<ThresholdValue> {
    if metric.is_some_and(|metric| metric.unit() == MetricUnit::Time) {
        return cursor.read(within_a_year).map(ThresholdValue::from);
    }
    cursor.read(|text| {
        let amount = match (values::amount(text), metric) {
            (Err(error), None) => return values::pause(text).map(ThresholdValue::from).map_err(|_| error),
            (amount, _) => amount?,
        };
        match metric {
            Some(metric) if metric.is_never_negative() && amount.value < Decimal::ZERO => {
                Err(ValueError::new("is negative", format!("0 or more: {metric} is never negative")))
            }
            _ => Ok(ThresholdValue::from(amount)),
        }
    })
}

/// Parses a duration up to [`HORIZON`], the limit of the forecast.
fn within_a_year(text: &str) -> Result<Duration, ValueError> {
    let expected = "a duration above 0 and up to a year, such as 24h, 14d or 30d";
    let duration = values::pause(text).map_err(|error| ValueError { expected: expected.to_owned(), ..error })?;
    if duration > HORIZON { Err(ValueError::new("is longer than a year", expected)) } else { Ok(duration) }
}

fn within(cursor: &Cursor<'_>, metric: Option<Metric>) -> Option<Duration> {
    let has_window = |metric: &Metric| metric.default_within().is_some();
    if let Some(metric) = metric.filter(|metric| !has_window(metric)) {
        let others = Metric::ALL.into_iter().filter(|(metric, _)| has_window(metric)).map(|(_, name)| name);
        let expected = format!("no window: only {} have one", others.collect::<Vec<_>>().join(", "));
        cursor.refuse(format!("`within` does not apply to {metric}"), "`within`", expected);
        return None;
    }
    cursor.read(within_a_year)
}

fn confidence(cursor: &Cursor<'_>, metric: Option<Metric>) -> Option<Confidence> {
    if let Some(metric) = metric.filter(|metric| *metric != Metric::Runway) {
        let message = format!("`confidence` does not apply to {metric}");
        cursor.refuse(message, "`confidence`", "no confidence: only runway has one");
        return None;
    }
    let invalid = || ValueError::new("is not a confidence", "a share from 0.5 to 0.99, such as 0.9");
    cursor.read(|text| Confidence::parse(text).map_err(|_| invalid()))
}

/// Reads a level. Returns `Ok(None)` if the rule does not have it, and `Err` after reporting what is wrong with it.
fn level(
    rule: &Section<'_>,
    severity: Severity,
    metric: Option<Metric>,
    defaults: &LevelDefaults<'_>,
    references: &RuleReferences<'_>,
) -> Result<Option<Level>, ()> {
    let Some(cursor) = rule.get(&severity.to_string()) else { return Ok(None) };
    let section = cursor.section(LEVEL).ok_or(())?;
    let settings = LevelDefaults::of(&section, metric, references, Some(defaults));
    let (below, above) = (section.get("below"), section.get("above"));
    let (side, cursor) = match (below, above) {
        (Some(_), Some(_)) => return Err(()), // reported with the section
        (None, None) => {
            if !section.has_misspelt("below") && !section.has_misspelt("above") {
                let (message, found) = (format!("{} has no threshold", cursor.name()), "neither `below` nor `above`");
                cursor.refuse(message, found, "exactly one of `below` and `above`, such as `below: 2000`");
            }
            return Err(());
        }
        (Some(below), None) => (ThresholdSide::Below, below),
        (None, Some(above)) => (ThresholdSide::Above, above),
    };
    let threshold = threshold_value(&cursor, metric).ok_or(())?;
    match Level::new(side, threshold, settings.clear_at.as_ref().map(|(value, _)| *value)) {
        Ok(mut level) => {
            level.hold = settings.hold;
            level.remind_every = settings.remind_every;
            level.notify = settings.notify;
            Ok(Some(level))
        }
        Err(error) => {
            let at = settings.clear_at.map_or(cursor, |(_, cursor)| cursor);
            let expected = match (&error, side) {
                (RuleError::TwoCurrencies { .. }, _) => "one currency".to_owned(),
                (_, ThresholdSide::Below) => format!("{threshold} or more"),
                (_, ThresholdSide::Above) => format!("{threshold} or less"),
            };
            at.report(ValueError::sentence(error.to_string(), expected));
            Err(())
        }
    }
}

/// Reports a contradiction between the levels of a rule at the threshold of the critical one.
fn refuse_rule(section: &Section<'_>, error: &RuleError) {
    let critical = section.get("critical");
    let threshold = critical.and_then(|cursor| cursor.peek("below").or_else(|| cursor.peek("above")));
    let expected = match error {
        RuleError::NoLevel => "`warning` or `critical`, or both",
        RuleError::TwoCurrencies { .. } => "the currency of the warning",
        RuleError::Swapped { side: ThresholdSide::Below, .. } => "at most the warning's threshold",
        RuleError::Swapped { side: ThresholdSide::Above, .. } => "at least the warning's threshold",
        _ => "the side of the warning",
    };
    let message = error.to_string();
    match threshold {
        Some(cursor) => cursor.report(ValueError::sentence(message, expected)),
        None if section.has_misspelt("warning") || section.has_misspelt("critical") => {}
        None => section.at.refuse(message, "no level", expected),
    }
}

/// Reads `unreadable`, of which every key has a default.
pub(super) fn unreadable(cursor: Option<&Cursor<'_>>, notifiers: &[Name]) -> Option<UnreadablePolicy> {
    let section = cursor.and_then(|cursor| cursor.section(UNREADABLE_KEYS));
    let section = section.as_ref();
    Some(UnreadablePolicy {
        after: setting(section, "after", values::duration)?,
        level: setting(section, "level", values::level)?,
        remind_every: setting(section, "remind_every", values::pause_or_never)?,
        notify: section
            .and_then(|section| notify(&section.get("notify")?, notifiers))
            .unwrap_or_else(|| notifiers.to_vec()),
    })
}

/// Reads a key of `unreadable`; the default replaces a value that is missing, or wrong and reported.
fn setting<T>(section: Option<&Section<'_>>, key: &str, parse: impl Fn(&str) -> Result<T, ValueError>) -> Option<T> {
    let read = section.and_then(|section| section.read(key, &parse));
    read.or_else(|| section::default(UNREADABLE_KEYS, key, &parse))
}
