//! `rules` and `unreadable`: what is watched, from where on it is bad, and who is told.

use std::collections::BTreeSet;
use std::time::Duration;

use rust_decimal::Decimal;

use super::accounts::Draft;
use super::cursor::{Cursor, Fault, Section};
use super::keys::{LEVEL, RULE, UNREADABLE as UNREADABLE_KEYS};
use super::notifiers::known_name;
use super::values;
use crate::domain::Name;
use crate::domain::confidence::Confidence;
use crate::domain::rule::UnreadablePolicy;
use crate::domain::rule::{Bound, HORIZON, Level, Metric, Rule, RuleError, Severity, Side, UNREADABLE, Unit};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What rules refer to.
pub(super) struct Known<'k> {
    pub(super) accounts: &'k [Draft],
    pub(super) account_names: &'k [Name],
    pub(super) notifiers: &'k [Name],
}

/// Reads all rules; those with problems are left out.
pub(super) fn rules(cursor: &Cursor<'_>, known: &Known<'_>) -> Vec<Rule> {
    cursor.named("rule").into_iter().filter_map(|(name, cursor)| rule(name, &cursor, known)).collect()
}

fn rule(name: Name, cursor: &Cursor<'_>, known: &Known<'_>) -> Option<Rule> {
    if name.as_ref() == UNREADABLE {
        cursor.refuse("`unreadable`", "another name: this one is for the alert about accounts that cannot be read");
    }
    let section = cursor.section(RULE)?;
    let metrics = Metric::ALL.map(|(metric, name)| (name, metric));
    let expected = super::problem::one_of(metrics.iter().map(|(name, _)| *name));
    let metric = section.required("metric", &expected).and_then(|cursor| cursor.read(values::choice(&metrics)));
    let within = section.get("within").and_then(|cursor| within(&cursor, metric));
    let confidence = section.get("confidence").and_then(|cursor| confidence(&cursor, metric));
    let defaults = Terms::of(&section, metric, known, None);
    let warning = level(&section, Severity::Warning, metric, &defaults, known);
    let critical = level(&section, Severity::Critical, metric, &defaults, known);
    let accounts = section.get("accounts").map(|cursor| {
        cursor.distinct("a list of names under `accounts`", |text| {
            known_name(cursor.ctx, text, known.account_names, "accounts")
        })
    });
    let watched: Option<BTreeSet<Name>> = accounts.clone().flatten().map(|names| names.into_iter().collect());
    let divisions = section.get("divisions").map(|cursor| {
        let id = |text: &str| values::division(text).and_then(|id| reachable(id, watched.as_ref(), known));
        cursor.distinct("a list of division numbers such as [1234, 5678]", id)
    });
    let description = section.read("description", values::lines);
    let link = section.read("link", |text| values::web(text).map(|_| text.to_owned()));
    let (warning, critical) = (warning.ok()?, critical.ok()?);
    // Without a known metric the levels are still judged against each other.
    let in_time = [&warning, &critical].into_iter().flatten().any(|level| level.threshold().unit() == Unit::Time);
    let stand_in = if in_time { Metric::Runway } else { Metric::AvailableFunds };
    let rule = Rule::new(name, metric.unwrap_or(stand_in), warning, critical);
    let rule = rule.map(|rule| match within {
        Some(within) => rule.over(within),
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
fn reachable(id: u64, watched: Option<&BTreeSet<Name>>, known: &Known<'_>) -> Result<u64, Fault> {
    let watched = |draft: &&Draft| watched.is_none_or(|names| names.contains(&draft.name));
    let has = |draft: &Draft| draft.divisions.as_ref().is_none_or(|divisions| divisions.can_have(id));
    if known.accounts.iter().filter(watched).any(has) {
        return Ok(id);
    }
    Err("a division that an account of this rule reads (its `divisions`)".into())
}

/// What a level inherits from its rule.
struct Terms<'a> {
    clear_at: Option<(Bound, Cursor<'a>)>,
    hold: Duration,
    remind_every: Option<Duration>,
    notify: Vec<Name>,
}

impl<'a> Terms<'a> {
    fn of(section: &Section<'a>, metric: Option<Metric>, known: &Known<'_>, rule: Option<&Terms<'a>>) -> Self {
        let clear_at = section.get("clear_at").and_then(|cursor| Some((bound(&cursor, metric)?, cursor)));
        let hold = section.read("for", values::duration);
        let remind_every = section.read("remind_every", values::pause_or_never);
        let notify = section.get("notify").and_then(|cursor| notify(&cursor, known.notifiers));
        Self {
            clear_at: clear_at.or_else(|| rule?.clear_at.clone()),
            hold: hold.unwrap_or_else(|| rule.map_or(Duration::ZERO, |rule| rule.hold)),
            remind_every: remind_every.unwrap_or_else(|| rule.map_or(Some(DAY), |rule| rule.remind_every)),
            notify: notify.unwrap_or_else(|| rule.map_or_else(|| known.notifiers.to_vec(), |rule| rule.notify.clone())),
        }
    }
}

pub(super) fn notify(cursor: &Cursor<'_>, notifiers: &[Name]) -> Option<Vec<Name>> {
    cursor.distinct("a list of at least one name under `notifiers`", |text| {
        known_name(cursor.ctx, text, notifiers, "notifiers")
    })
}

/// Where a level fires or clears, in what the metric is measured in.
fn bound(cursor: &Cursor<'_>, metric: Option<Metric>) -> Option<Bound> {
    if metric.is_some_and(|metric| metric.unit() == Unit::Time) {
        return cursor.read(within_a_year).map(Bound::from);
    }
    cursor.read(|text| {
        let amount = match (values::amount(text), metric) {
            (Err(fault), None) => return values::pause(text).map(Bound::from).map_err(|_| fault),
            (amount, _) => amount?,
        };
        match metric {
            Some(metric) if metric.is_never_negative() && amount.value < Decimal::ZERO => {
                Err(format!("0 or more: {metric} is never negative").into())
            }
            _ => Ok(Bound::from(amount)),
        }
    })
}

/// The forecast looks no further than a year.
fn within_a_year(text: &str) -> Result<Duration, Fault> {
    let expected = || Fault::from("a duration above 0 and up to a year, such as 24h, 14d or 30d");
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
    defaults: &Terms<'_>,
    known: &Known<'_>,
) -> Result<Option<Level>, ()> {
    let Some(cursor) = rule.get(&severity.to_string()) else { return Ok(None) };
    let section = cursor.section(LEVEL).ok_or(())?;
    let terms = Terms::of(&section, metric, known, Some(defaults));
    let (below, above) = (section.get("below"), section.get("above"));
    let (side, cursor) = match (below, above) {
        (Some(_), Some(_)) => return Err(()), // reported with the section
        (None, None) => {
            cursor.refuse("neither `below` nor `above`", "exactly one of them, such as `below: 2000`");
            return Err(());
        }
        (Some(below), None) => (Side::Below, below),
        (None, Some(above)) => (Side::Above, above),
    };
    let threshold = bound(&cursor, metric).ok_or(())?;
    match Level::new(side, threshold, terms.clear_at.as_ref().map(|(bound, _)| *bound)) {
        Ok(mut level) => {
            level.hold = terms.hold;
            level.remind_every = terms.remind_every;
            level.notify = terms.notify;
            Ok(Some(level))
        }
        Err(error) => {
            let at = terms.clear_at.map_or(cursor, |(_, cursor)| cursor);
            let expected = match (&error, side) {
                (RuleError::TwoCurrencies { .. }, _) => "one currency".to_owned(),
                (_, Side::Below) => format!("{threshold} or more"),
                (_, Side::Above) => format!("{threshold} or less"),
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
        RuleError::Swapped { side: Side::Below, .. } => "at most the warning's threshold",
        RuleError::Swapped { side: Side::Above, .. } => "at least the warning's threshold",
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
