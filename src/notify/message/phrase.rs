//! Sentences about one event: headline, details, history line. The tone of the product is set here and nowhere else.
//!
//! Plain text without any escaping. `fund` is the account and its divisions, already in words.

use std::time::Duration;

use rust_decimal::Decimal;

use super::text::{TimeFormatter, elapsed_text, name, short};
use crate::domain::Name;
use crate::domain::alert::TransitionKind;
use crate::domain::balance::{Breakdown, MetricValue, Persistence};
use crate::domain::event::{EvaluatedThreshold, Event, EventSubject, ThresholdEvent, UnreadableEvent};
use crate::domain::forecast::Runway;
use crate::domain::money::{Money, figure};
use crate::domain::rule::{Metric, ThresholdAmount, ThresholdSide, ThresholdValue};
use crate::notify::message::forecast_lines::no_funds_left;
use crate::util::text::counted;

/// Maximum length of an error or reason from outside.
const MAX_QUOTE_CHARS: usize = 300;
/// Maximum number of rules that a headline names. The others are counted.
const MAX_NAMED_RULES: usize = 5;

/// Returns an error or reason from outside on one line.
pub(super) fn quote(text: &str) -> String {
    short(text, MAX_QUOTE_CHARS)
}

/// Returns a sentence from outside with exactly one full stop.
pub(super) fn sentence(text: &str) -> String {
    let text = quote(text);
    if text.ends_with(['?', '!', '…']) { text } else { format!("{}.", text.trim_end_matches('.')) }
}

/// Returns the first line of an entry.
pub(super) fn headline(event: &Event, fund: &str) -> String {
    match &event.subject {
        EventSubject::Threshold(event) => threshold_headline(event, fund),
        EventSubject::Unreadable(event) => unreadable_headline(event, fund),
        EventSubject::Unwatched { .. } => {
            format!("{fund} is no longer watched: the division is gone from CertCentral's list")
        }
        EventSubject::AlertEnded { key, .. } => format!("{fund} is no longer watched by rule {}", name(&key.rule)),
        EventSubject::NotifierRemoved { notifier } => format!("Notifier {} is no longer configured", name(notifier)),
        EventSubject::NotifierFailing { notifier, .. } => format!("Notifier {} cannot deliver", name(notifier)),
        EventSubject::NotifierRecovered { notifier, .. } => format!("Notifier {} works again", name(notifier)),
        EventSubject::Report(page) => super::report::title(page),
    }
}

fn prefix(kind: TransitionKind, level: impl std::fmt::Display) -> String {
    match kind {
        TransitionKind::Raised => String::new(),
        TransitionKind::Escalated => format!("Now {level}: "),
        TransitionKind::Eased => format!("Improved to {level}: "),
        TransitionKind::Reminder => format!("Still {level}: "),
        TransitionKind::Resolved => "Resolved: ".to_owned(),
    }
}

fn threshold_headline(event: &ThresholdEvent, fund: &str) -> String {
    let prefix = prefix(event.kind, event.level);
    let value = value_text(event);
    let limit = match (event.kind, &event.threshold) {
        (TransitionKind::Resolved, _) => String::new(),
        (_, Some(limit)) => format!(" ({} {} {})", event.level, limit.side, threshold_text(limit)),
        (_, None) => format!(" ({})", event.level),
    };
    format!("{prefix}{fund}: {value}{limit}")
}

fn unreadable_headline(event: &UnreadableEvent, fund: &str) -> String {
    let prefix = prefix(event.kind, event.level);
    let what = match (event.kind, event.unevaluated_rules.as_slice()) {
        (TransitionKind::Resolved, []) => "the balance can be read again".to_owned(),
        (TransitionKind::Resolved, _) => "everything can be read again".to_owned(),
        (_, []) => "the balance cannot be read".to_owned(),
        (_, rules) => cannot_be_evaluated(rules),
    };
    format!("{prefix}{fund}: {what}")
}

/// Returns `rule runway cannot be evaluated` or `rules runway, shortfall and spend cannot be evaluated`.
pub(super) fn cannot_be_evaluated(rules: &[Name]) -> String {
    let names: Vec<String> = rules.iter().take(MAX_NAMED_RULES).map(|rule| name(rule)).collect();
    let more = rules.len().saturating_sub(MAX_NAMED_RULES);
    let names = match (names.as_slice(), more) {
        ([one], _) => return format!("rule {one} cannot be evaluated"),
        ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
        (names, more) => format!("{} and {more} more", names.join(", ")),
    };
    format!("rules {names} cannot be evaluated")
}

/// Returns the value of the rule's metric in words.
fn value_text(event: &ThresholdEvent) -> String {
    let money = match event.value {
        MetricValue::Amount(money) => money,
        MetricValue::Time(lasts) => return runway_text(event, lasts),
        MetricValue::Unlimited if event.metric == Metric::Runway => {
            return "funds last for more than a year".to_owned();
        }
        MetricValue::Unlimited => return "unlimited funds".to_owned(),
    };
    let within = event.within.map(window_text).unwrap_or_default();
    match event.metric {
        Metric::AvailableFunds => format!("{money} left"),
        Metric::Balance => format!("balance {money}"),
        Metric::UnpaidInvoices => format!("{money} of unpaid invoices"),
        Metric::UsedCredit => format!("{money} of credit used by other divisions"),
        Metric::Runway => format!("funds of {money}"),
        Metric::Spend => format!("{money} spent in {within}"),
        Metric::ExpiringFunds => format!("{money} of deposits expire within {within} unless they are spent"),
        Metric::RenewalsDue => format!("{money} of renewals due within {within}"),
        Metric::Shortfall if money.amount.is_zero() => format!("funds cover the renewals due within {within}"),
        Metric::Shortfall => format!("{money} short of the renewals due within {within}"),
    }
}

/// Returns how long funds last. The value is the early end of the forecast's range, so bad news *may* come true and good
/// news is a lower bound.
fn runway_text(event: &ThresholdEvent, lasts: Duration) -> String {
    let safe = matches!(distance_from_threshold(event), Some((_, ThresholdDistance::Time { breached: false, .. })));
    let exhausted = event.forecast.as_ref().is_some_and(|forecast| forecast.runway == Runway::Exhausted);
    match event.threshold {
        _ if lasts.is_zero() && exhausted && no_funds_left(event) => "no funds are left".to_owned(),
        _ if lasts.is_zero() && exhausted => "funds do not cover a typical order".to_owned(),
        _ if lasts.is_zero() => "funds may not last a day".to_owned(),
        _ if event.kind == TransitionKind::Resolved || safe => format!("funds last at least {}", duration_text(lasts)),
        Some(EvaluatedThreshold { side: ThresholdSide::Above, .. }) => {
            format!("funds last at least {}", duration_text(lasts))
        }
        _ => format!("funds may last only {}", duration_text(lasts)),
    }
}

/// Returns a runway or a part of one: `1 day`, `14 days`, `36 hours`.
pub(super) fn duration_text(lasts: Duration) -> String {
    if lasts.as_secs() == 24 * 3600 { "1 day".to_owned() } else { window_text(lasts) }
}

/// Returns a window: `24 hours`, `14 days`, `90 minutes`.
pub(super) fn window_text(lasts: Duration) -> String {
    let (hours, minutes) = (lasts.as_secs() / 3600, lasts.as_secs() / 60);
    match hours {
        24 => "24 hours".to_owned(),
        _ if !minutes.is_multiple_of(60) => counted(minutes, "minute"),
        _ if hours > 0 && !hours.is_multiple_of(24) => counted(hours, "hour"),
        _ => counted(hours / 24, "day"),
    }
}

pub(super) fn threshold_text(threshold: &EvaluatedThreshold) -> String {
    match threshold.bound {
        ThresholdValue::Money(ThresholdAmount { value, currency: Some(currency) }) => {
            Money::new(value, currency).to_string()
        }
        ThresholdValue::Money(ThresholdAmount { value, currency: None }) => figure(value, 0),
        ThresholdValue::Time { lasts } => duration_text(lasts),
    }
}

/// Returns the lines below the headline. `since` is the earliest of the divisions that share the entry.
pub(super) fn details(event: &Event, since: crate::domain::Time, times: TimeFormatter) -> Vec<String> {
    match &event.subject {
        EventSubject::Threshold(threshold) => {
            let first = match threshold.kind {
                TransitionKind::Resolved => resolved_line(threshold, event.lasted(since)),
                _ => breach_line(threshold, &times.full(since)),
            };
            let parts = threshold.breakdown.as_ref().filter(|_| threshold.metric == Metric::AvailableFunds);
            std::iter::once(first).chain(parts.and_then(|parts| breakdown_line(parts, threshold.value))).collect()
        }
        EventSubject::Unreadable(unreadable) if unreadable.kind == TransitionKind::Resolved => {
            let what = if unreadable.unevaluated_rules.is_empty() { "It" } else { "Some data" };
            let (since, lasted) = (times.full(since), elapsed_text(event.lasted(since)));
            vec![format!("{what} could not be read since {since} (for {lasted}).")]
        }
        EventSubject::Unreadable(unreadable) => unreadable_lines(unreadable, &times.full(since)),
        EventSubject::Unwatched { rules, .. } => {
            let rules: Vec<String> = rules.iter().map(|rule| name(rule)).collect();
            vec![format!("Its alerts ended: {}.", rules.join(", "))]
        }
        EventSubject::NotifierFailing { error, .. } => {
            vec![format!("It has failed since {}.", times.full(since)), format!("Last error: {}", sentence(error))]
        }
        EventSubject::NotifierRecovered { .. } => {
            vec![format!(
                "It could not deliver since {} (for {}).",
                times.full(since),
                elapsed_text(event.lasted(since))
            )]
        }
        EventSubject::AlertEnded { .. } => vec!["Its alert ended.".to_owned()],
        EventSubject::NotifierRemoved { .. } => Vec::new(),
        // Channels without tables show the report as lines.
        EventSubject::Report(page) => super::report::lines(&super::report::view(page, None, times)),
    }
}

/// Distance of a value from its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThresholdDistance {
    /// Distance in money; negative on the safe side.
    Money(Money),
    /// Distance in time, for a runway.
    Time {
        /// Length of time between value and threshold.
        duration: Duration,
        /// True if the threshold is crossed.
        breached: bool,
    },
}

impl ThresholdDistance {
    /// Returns the distance if it is positive: `None` on the safe side and at the threshold itself.
    pub(crate) fn missing(self) -> Option<Self> {
        let missing = match self {
            ThresholdDistance::Money(money) => money.amount > Decimal::ZERO,
            ThresholdDistance::Time { duration, breached } => breached && !duration.is_zero(),
        };
        missing.then_some(self)
    }

    fn is_zero(self) -> bool {
        match self {
            ThresholdDistance::Money(money) => money.amount.is_zero(),
            ThresholdDistance::Time { duration, .. } => duration.is_zero(),
        }
    }
}

impl std::fmt::Display for ThresholdDistance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ThresholdDistance::Money(money) => money.fmt(f),
            ThresholdDistance::Time { duration, .. } => f.write_str(&duration_text(*duration)),
        }
    }
}

/// Returns the threshold and the distance to it. `None` if value and threshold cannot be compared.
pub(crate) fn distance_from_threshold(event: &ThresholdEvent) -> Option<(EvaluatedThreshold, ThresholdDistance)> {
    let threshold = event.threshold?;
    let distance = match (event.value, threshold.bound) {
        (MetricValue::Amount(money), ThresholdValue::Money(limit)) => {
            if limit.currency.is_some_and(|currency| currency != money.currency) {
                return None;
            }
            let by = match threshold.side {
                ThresholdSide::Below => limit.value.checked_sub(money.amount)?,
                ThresholdSide::Above => money.amount.checked_sub(limit.value)?,
            };
            ThresholdDistance::Money(Money::new(by, money.currency))
        }
        (MetricValue::Time(value), ThresholdValue::Time { lasts }) => ThresholdDistance::Time {
            duration: value.abs_diff(lasts),
            breached: match threshold.side {
                ThresholdSide::Below => value < lasts,
                ThresholdSide::Above => value > lasts,
            },
        },
        _ => return None,
    };
    Some((threshold, distance))
}

fn breach_line(event: &ThresholdEvent, since: &str) -> String {
    let distance = distance_from_threshold(event).and_then(|(threshold, by)| Some((threshold.side, by.missing()?)));
    match distance {
        Some((ThresholdSide::Below, by)) => format!("{by} under the threshold since {since}."),
        Some((ThresholdSide::Above, by)) => format!("{by} over the threshold since {since}."),
        // Between threshold and `clear_at` the alert still fires, but nothing is missing.
        None => format!("Since {since}."),
    }
}

fn resolved_line(event: &ThresholdEvent, duration: chrono::Duration) -> String {
    let lasted = elapsed_text(duration);
    let back = match (event.threshold, event.value) {
        (Some(threshold), MetricValue::Unlimited) if threshold.side == ThresholdSide::Below => {
            Some(format!("above {}", threshold_text(&threshold)))
        }
        _ => distance_from_threshold(event).filter(|(_, by)| by.missing().is_none()).map(|(threshold, by)| {
            let back = match threshold.side {
                ThresholdSide::Below if by.is_zero() => "at",
                ThresholdSide::Below => "above",
                ThresholdSide::Above => "at or below",
            };
            format!("{back} {}", threshold_text(&threshold))
        }),
    };
    match back {
        Some(back) => format!("Back {back} after {lasted}."),
        None => format!("It lasted {lasted}."),
    }
}

fn breakdown_line(parts: &Breakdown, value: MetricValue) -> Option<String> {
    if value == MetricValue::Unlimited {
        return None; // the headline says `unlimited`, which no sum results in
    }
    let of = |amount| Money::new(amount, parts.currency).figure();
    let (balance, unpaid, used) = (of(parts.balance), of(parts.unpaid_invoices), of(parts.used_credit));
    let deductions = format!("\u{2212} unpaid invoices {unpaid} \u{2212} used by other divisions {used}");
    Some(match parts.credit_limit {
        Some(limit) => format!("Balance {balance} + credit limit {} {deductions}", of(limit)),
        None => format!("Balance {balance} {deductions} (credit limit not reported; CertCentral's own total is shown)"),
    })
}

fn unreadable_lines(event: &UnreadableEvent, since: &str) -> Vec<String> {
    let mut lines = vec![format!("Unreadable since {since} ({}).", event.level)];
    lines.extend(event.reason.as_ref().map(|reason| format!("Reason: {}", sentence(reason))));
    lines.extend(event.persistence.map(|persistence| match persistence {
        Persistence::Transient => "This usually clears on its own.".to_owned(),
        Persistence::Permanent => "This does not clear on its own: someone has to act.".to_owned(),
    }));
    if !event.firing_alerts.is_empty() {
        let firing = event.firing_alerts.iter().map(|(key, level)| match key.division {
            Some(id) if key.division != event.key.division => format!("division {id} {} ({level})", name(&key.rule)),
            _ => format!("{} ({level})", name(&key.rule)),
        });
        let state = if event.unevaluated_rules.is_empty() { "read" } else { "evaluated" };
        lines.push(format!("Still firing when it was last {state}: {}.", firing.collect::<Vec<_>>().join(", ")));
    }
    lines.push("Open alerts stay open meanwhile.".to_owned());
    lines
}

/// Returns a line about the silence that an event breaks, resolves under, or follows.
pub(super) fn silence_line(event: &Event, times: TimeFormatter) -> Option<String> {
    let note = event.silence.as_ref()?;
    let why = note.reason.as_ref().map(|reason| format!(" ({})", quote(reason))).unwrap_or_default();
    let until = times.full(note.until);
    Some(match event.kind() {
        _ if note.until <= event.at => format!("It was silenced until {until}{why}."),
        Some(TransitionKind::Resolved) => {
            format!("Silenced until {until}{why}; sent because you were notified when it began.")
        }
        _ => format!("Only its warnings are silenced, until {until}{why}."),
    })
}

/// Returns one short line about an earlier event of the same alert.
pub(super) fn history_line(event: &Event, times: TimeFormatter) -> String {
    let at = times.full(event.at);
    let what = match event.kind() {
        Some(TransitionKind::Raised) => "Raised",
        Some(TransitionKind::Escalated) => "Escalated",
        Some(TransitionKind::Eased) => "Improved",
        Some(TransitionKind::Reminder) => "Reminded",
        Some(TransitionKind::Resolved) => "Resolved",
        None => "Noted",
    };
    match &event.subject {
        EventSubject::Threshold(ThresholdEvent { value: MetricValue::Amount(money), .. }) => {
            format!("{what} {at} at {money}")
        }
        EventSubject::Threshold(event) => format!("{what} {at}: {}", value_text(event)),
        _ => format!("{what} {at}"),
    }
}
