//! `rules` and `unreadable`: what is watched, from where on it is bad, and who is told.

use std::collections::BTreeSet;
use std::time::Duration;

use rust_decimal::Decimal;

use super::accounts::AccountDraft;
use super::cursor::{Cursor, Section, ValueError};
use super::keys::{LEVEL, RULE, UNREADABLE as UNREADABLE_KEYS};
use super::notifiers::known_name;
use super::values;
use crate::domain::Name;
use crate::domain::confidence::Confidence;
use crate::domain::rule::UnreadablePolicy;
use crate::domain::rule::{
    HORIZON, Level, Metric, MetricUnit, Rule, RuleError, Severity, ThresholdSide, ThresholdValue, UNREADABLE,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What rules refer to.
pub(super) struct RuleReferences<'k> {
    pub(super) accounts: &'k [AccountDraft],
    pub(super) account_names: &'k [Name],
    pub(super) notifiers: &'k [Name],
}

/// Reads all rules; those with problems are left out.
pub(super) fn rules(cursor: &Cursor<'_>, references: &RuleReferences<'_>) -> Vec<Rule> {
    cursor.named("rule").into_iter().filter_map(|(name, cursor)| rule(name, &cursor, references)).collect()
}

fn rule(name: Name, cursor: &Cursor<'_>, references: &RuleReferences<'_>) -> Option<Rule> {
    if name.as_ref() == UNREADABLE {
        cursor.refuse("`unreadable`", "another name: this one is for the alert about accounts that cannot be read");
    }
    let section = cursor.section(RULE)?;
    let metrics = Metric::ALL.map(|(metric, name)| (name, metric));
    let expected = super::problem::one_of(metrics.iter().map(|(name, _)| *name));
    let metric = section.required("metric", &expected).and_then(|cursor| cursor.read(values::choice(&metrics)));
    let within = section.get("within").and_then(|cursor| within(&cursor, metric));
    let confidence = section.get("confidence").and_then(|cursor| confidence(&cursor, metric));
    let defaults = LevelDefaults::of(&section, metric, references, None);
    let warning = level(&section, Severity::Warning, metric, &defaults, references);
    let critical = level(&section, Severity::Critical, metric, &defaults, references);
    let accounts = section.get("accounts").map(|cursor| {
        cursor.distinct("a list of names under `accounts`", |text| {
            known_name(cursor.ctx, text, references.account_names, "accounts")
        })
    });
    let watched: Option<BTreeSet<Name>> = accounts.clone().flatten().map(|names| names.into_iter().collect());
    let divisions = section.get("divisions").map(|cursor| {
        let id = |text: &str| values::division(text).and_then(|id| reachable(id, watched.as_ref(), references));
        cursor.distinct("a list of division numbers such as [1234, 5678]", id)
    });
    let description = section.read("description", values::lines);
    let link = section.read("link", |text| values::web(text).map(|_| text.to_owned()));
    let (warning, critical) = (warning.ok()?, critical.ok()?);
    // Without a known metric the levels are still judged against each other.
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
            rule.accounts = accounts.flatten().map(|names| names.into_iter().collect());
            rule.divisions = divisions.flatten().map(|ids| ids.into_iter().collect());
            rule.description = description;
            rule.link = link;
            Some(rule)
        }
    }
}

/// Whether any account that the rule watches can have this division.
fn reachable(id: u64, watched: Option<&BTreeSet<Name>>, references: &RuleReferences<'_>) -> Result<u64, ValueError> {
    let watched = |draft: &&AccountDraft| watched.is_none_or(|names| names.contains(&draft.name));
    let has = |draft: &AccountDraft| draft.divisions.as_ref().is_none_or(|divisions| divisions.can_have(id));
    if references.accounts.iter().filter(watched).any(has) {
        return Ok(id);
    }
    Err("a division that an account of this rule reads (its `divisions`)".into())
}

/// What a level inherits from its rule.
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
        let clear_at = section.get("clear_at").and_then(|cursor| Some((bound(&cursor, metric)?, cursor)));
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

pub(super) fn notify(cursor: &Cursor<'_>, notifiers: &[Name]) -> Option<Vec<Name>> {
    cursor.distinct("a list of at least one name under `notifiers`", |text| {
        known_name(cursor.ctx, text, notifiers, "notifiers")
    })
}

/// Where a level fires or clears, in what the metric is measured in.
fn bound(cursor: &Cursor<'_>, metric: Option<Metric>) -> Option<ThresholdValue> {
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
                Err(format!("0 or more: {metric} is never negative").into())
            }
            _ => Ok(ThresholdValue::from(amount)),
        }
    })
}

/// The forecast looks no further than a year.
fn within_a_year(text: &str) -> Result<Duration, ValueError> {
    let expected = || ValueError::from("a duration above 0 and up to a year, such as 24h, 14d or 30d");
    let duration = values::pause(text).map_err(|_| expected())?;
    if duration > HORIZON { Err(expected()) } else { Ok(duration) }
}

fn within(cursor: &Cursor<'_>, metric: Option<Metric>) -> Option<Duration> {
    let has_window = |metric: &Metric| metric.default_within().is_some();
    if metric.is_some_and(|metric| !has_window(&metric)) {
        let those = Metric::ALL.into_iter().filter(|(metric, _)| has_window(metric)).map(|(_, name)| name);
        cursor.refuse("`within`", format!("no window: only {} have one", those.collect::<Vec<_>>().join(", ")));
        return None;
    }
    cursor.read(within_a_year)
}

fn confidence(cursor: &Cursor<'_>, metric: Option<Metric>) -> Option<Confidence> {
    if metric.is_some_and(|metric| metric != Metric::Runway) {
        cursor.refuse("`confidence`", "no confidence: only runway has one");
        return None;
    }
    cursor.read(|text| Confidence::parse(text).map_err(|_| "a share from 0.5 to 0.99, such as 0.9".into()))
}

/// A level; `Ok(None)` if the rule has none of that severity, `Err` after reporting what is wrong with it.
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
            cursor.refuse("neither `below` nor `above`", "exactly one of them, such as `below: 2000`");
            return Err(());
        }
        (Some(below), None) => (ThresholdSide::Below, below),
        (None, Some(above)) => (ThresholdSide::Above, above),
    };
    let threshold = bound(&cursor, metric).ok_or(())?;
    match Level::new(side, threshold, settings.clear_at.as_ref().map(|(bound, _)| *bound)) {
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
            at.report(format!("{expected} ({error})").into());
            Err(())
        }
    }
}

/// Reports what is wrong between the levels of a rule, at the critical one's threshold.
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
    match threshold {
        Some(cursor) => cursor.report(format!("{expected} ({error})").into()),
        None => section.at.refuse("no level", format!("{expected} ({error})")),
    }
}

/// Reads `unreadable`; without it the defaults stand.
pub(super) fn unreadable(cursor: Option<&Cursor<'_>>, notifiers: &[Name]) -> UnreadablePolicy {
    let section = cursor.and_then(|cursor| cursor.section(UNREADABLE_KEYS));
    let section = section.as_ref();
    let levels = [("warning", Severity::Warning), ("critical", Severity::Critical)];
    UnreadablePolicy {
        after: section.and_then(|section| section.read("after", values::duration)).unwrap_or(3 * HOUR),
        level: section.and_then(|section| section.read("level", values::choice(&levels))).unwrap_or(Severity::Warning),
        remind_every: section
            .and_then(|section| section.read("remind_every", values::pause_or_never))
            .unwrap_or(Some(DAY)),
        notify: section
            .and_then(|section| notify(&section.get("notify")?, notifiers))
            .unwrap_or_else(|| notifiers.to_vec()),
    }
}
