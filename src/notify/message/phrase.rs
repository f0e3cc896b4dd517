//! What one event says: headline, details, history line. The product's voice lives here, and only here.
//!
//! Plain text without any escaping; `places` are the divisions it is about, already put into words.

use std::time::Duration;

use rust_decimal::Decimal;

use super::text::{Times, lasted, name, short};
use crate::domain::Name;
use crate::domain::alert::Kind;
use crate::domain::balance::{Breakdown, Outlook};
use crate::domain::event::{Event, Subject, Threshold, ThresholdEvent, UnreadableEvent, Value};
use crate::domain::forecast::Runway;
use crate::domain::money::{Money, figure};
use crate::domain::rule::{Amount, Bound, Metric, Side};
use crate::notify::message::forecast_lines::none_left;

/// Longest sentence that comes from outside (an error, a reason).
const LONGEST_QUOTE: usize = 300;
/// Rules that a headline names before it counts the rest.
const NAMED_RULES: usize = 5;

/// An error or reason from outside, on one line.
pub(super) fn quote(text: &str) -> String {
    short(text, LONGEST_QUOTE)
}

/// A sentence from outside with exactly one full stop.
pub(super) fn sentence(text: &str) -> String {
    let text = quote(text);
    if text.ends_with(['?', '!', '…']) { text } else { format!("{}.", text.trim_end_matches('.')) }
}

/// The one line that says it all.
pub(super) fn headline(event: &Event, place: &str) -> String {
    match &event.subject {
        Subject::Threshold(event) => threshold_headline(event, place),
        Subject::Unreadable(event) => unreadable_headline(event, place),
        Subject::Unwatched { .. } => {
            format!("{place} is no longer watched: the division is gone from CertCentral's list")
        }
        Subject::AlertEnded { key, .. } => format!("{place} is no longer watched by rule {}", name(&key.rule)),
        Subject::NotifierRemoved { notifier } => format!("Notifier {} is no longer configured", name(notifier)),
        Subject::NotifierFailing { notifier, .. } => format!("Notifier {} cannot deliver", name(notifier)),
        Subject::NotifierRecovered { notifier, .. } => format!("Notifier {} works again", name(notifier)),
        Subject::Report(page) => super::report::title(page),
    }
}

fn prefix(kind: Kind, level: impl std::fmt::Display) -> String {
    match kind {
        Kind::Raised => String::new(),
        Kind::Escalated => "Got worse: ".to_owned(),
        Kind::Eased => format!("Eased to {level}: "),
        Kind::Reminder => format!("Still {level}: "),
        Kind::Resolved => "Resolved: ".to_owned(),
    }
}

fn threshold_headline(event: &ThresholdEvent, place: &str) -> String {
    let prefix = prefix(event.kind, event.level);
    let value = value(event);
    let limit = match (event.kind, &event.threshold) {
        (Kind::Resolved, _) => String::new(),
        (_, Some(limit)) => format!(" ({} {} {})", event.level, limit.side, amount(limit)),
        (_, None) => format!(" ({})", event.level),
    };
    format!("{prefix}{place}: {value}{limit}")
}

fn unreadable_headline(event: &UnreadableEvent, place: &str) -> String {
    let prefix = prefix(event.kind, event.level);
    let what = match (event.kind, event.blind.as_slice()) {
        (Kind::Resolved, []) => "the balance can be read again".to_owned(),
        (Kind::Resolved, _) => "everything can be read again".to_owned(),
        (_, []) => "the balance cannot be read".to_owned(),
        (_, blind) => cannot_be_judged(blind),
    };
    format!("{prefix}{place}: {what}")
}

/// `rule runway cannot be judged`, `rules runway, shortfall and spend cannot be judged`.
pub(super) fn cannot_be_judged(rules: &[Name]) -> String {
    let names: Vec<String> = rules.iter().take(NAMED_RULES).map(|rule| name(rule)).collect();
    let more = rules.len().saturating_sub(NAMED_RULES);
    let names = match (names.as_slice(), more) {
        ([one], _) => return format!("rule {one} cannot be judged"),
        ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
        (names, more) => format!("{} and {more} more", names.join(", ")),
    };
    format!("rules {names} cannot be judged")
}

/// The value of a metric in words.
fn value(event: &ThresholdEvent) -> String {
    let money = match event.value {
        Value::Amount(money) => money,
        Value::Time(lasts) => return runway(event, lasts),
        Value::Unlimited if event.metric == Metric::Runway => return "funds last for more than a year".to_owned(),
        Value::Unlimited => return "unlimited funds".to_owned(),
    };
    let within = event.within.map(days).unwrap_or_default();
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

/// How long funds last. The value is the early end of the forecast's range: bad news *may* come true, good news is a least.
fn runway(event: &ThresholdEvent, lasts: Duration) -> String {
    let safe = matches!(beyond(event), Some((_, By::Time { over: false, .. })));
    let over = event.ahead.as_ref().is_some_and(|ahead| ahead.runway == Runway::Over);
    match event.threshold {
        _ if lasts.is_zero() && over && none_left(event) => "no funds are left".to_owned(),
        _ if lasts.is_zero() && over => "funds do not cover a typical order".to_owned(),
        _ if lasts.is_zero() => "funds may not last a day".to_owned(),
        _ if event.kind == Kind::Resolved || safe => format!("funds last at least {}", lasting(lasts)),
        Some(Threshold { side: Side::Above, .. }) => format!("funds last at least {}", lasting(lasts)),
        _ => format!("funds may last only {}", lasting(lasts)),
    }
}

/// A runway, or a part of one: `1 day`, `14 days`, `36 hours`.
pub(super) fn lasting(lasts: Duration) -> String {
    if lasts.as_secs() == 24 * 3600 { "1 day".to_owned() } else { days(lasts) }
}

/// A window: `24 hours`, `1 day`, `14 days`.
pub(super) fn days(lasts: Duration) -> String {
    let (hours, minutes) = (lasts.as_secs() / 3600, lasts.as_secs() / 60);
    let plural = |n: u64, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
    match hours {
        24 => "24 hours".to_owned(),
        _ if !minutes.is_multiple_of(60) => plural(minutes, "minute"),
        _ if hours > 0 && !hours.is_multiple_of(24) => plural(hours, "hour"),
        _ => plural(hours / 24, "day"),
    }
}

pub(super) fn amount(threshold: &Threshold) -> String {
    match threshold.bound {
        Bound::Money(Amount { value, currency: Some(currency) }) => Money::new(value, currency).to_string(),
        Bound::Money(Amount { value, currency: None }) => figure(value, 0),
        Bound::Time { lasts } => lasting(lasts),
    }
}

/// The lines below the headline. `since` is the earliest of the divisions that share the entry.
pub(super) fn details(event: &Event, since: crate::domain::Time, times: Times) -> Vec<String> {
    match &event.subject {
        Subject::Threshold(threshold) => {
            let first = match threshold.kind {
                Kind::Resolved => over(threshold, event.lasted(since)),
                _ => missing(threshold, &times.full(since)),
            };
            let parts = threshold.breakdown.as_ref().filter(|_| threshold.metric == Metric::AvailableFunds);
            std::iter::once(first).chain(parts.and_then(|parts| made_up(parts, threshold.value))).collect()
        }
        Subject::Unreadable(unreadable) if unreadable.kind == Kind::Resolved => {
            let what = if unreadable.blind.is_empty() { "It" } else { "Something" };
            let (since, lasted) = (times.full(since), lasted(event.lasted(since)));
            vec![format!("{what} could not be read since {since}; that lasted {lasted}.")]
        }
        Subject::Unreadable(unreadable) => cannot_be_read(unreadable, &times.full(since)),
        Subject::Unwatched { rules, .. } => {
            let rules: Vec<String> = rules.iter().map(|rule| name(rule)).collect();
            vec![format!("Its alerts ended: {}.", rules.join(", "))]
        }
        Subject::NotifierFailing { error, .. } => {
            vec![format!("It has failed since {}.", times.full(since)), format!("Last error: {}", sentence(error))]
        }
        Subject::NotifierRecovered { .. } => {
            vec![format!(
                "It could not deliver since {}; that lasted {}.",
                times.full(since),
                lasted(event.lasted(since))
            )]
        }
        Subject::AlertEnded { .. } => vec!["Its alert ended.".to_owned()],
        Subject::NotifierRemoved { .. } => Vec::new(),
        // For channels that know no tables.
        Subject::Report(page) => super::report::lines(&super::report::view(page, None, times)),
    }
}

/// How far a value is from its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// An amount; negative on the safe side.
    Money(Money),
    /// A part of a runway, on the bad side (`over`) or the safe one.
    Time {
        /// How long it is.
        lasts: Duration,
        /// Whether it is on the bad side.
        over: bool,
    },
}

impl By {
    /// What is missing: nothing on the safe side, and nothing at the threshold itself.
    pub(crate) fn missing(self) -> Option<Self> {
        let missing = match self {
            By::Money(money) => money.amount > Decimal::ZERO,
            By::Time { lasts, over } => over && !lasts.is_zero(),
        };
        missing.then_some(self)
    }

    fn is_nothing(self) -> bool {
        match self {
            By::Money(money) => money.amount.is_zero(),
            By::Time { lasts, .. } => lasts.is_zero(),
        }
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            By::Money(money) => money.fmt(f),
            By::Time { lasts, .. } => f.write_str(&lasting(*lasts)),
        }
    }
}

/// Beyond the threshold by how much. `None` where the two do not compare.
pub(crate) fn beyond(event: &ThresholdEvent) -> Option<(Threshold, By)> {
    let threshold = event.threshold?;
    let by = match (event.value, threshold.bound) {
        (Value::Amount(money), Bound::Money(limit)) => {
            if limit.currency.is_some_and(|currency| currency != money.currency) {
                return None;
            }
            let by = match threshold.side {
                Side::Below => limit.value.checked_sub(money.amount)?,
                Side::Above => money.amount.checked_sub(limit.value)?,
            };
            By::Money(Money::new(by, money.currency))
        }
        (Value::Time(value), Bound::Time { lasts }) => By::Time {
            lasts: value.abs_diff(lasts),
            over: match threshold.side {
                Side::Below => value < lasts,
                Side::Above => value > lasts,
            },
        },
        _ => return None,
    };
    Some((threshold, by))
}

fn missing(event: &ThresholdEvent, since: &str) -> String {
    let beyond = beyond(event).and_then(|(threshold, by)| Some((threshold.side, by.missing()?)));
    match beyond {
        Some((Side::Below, by)) => format!("{by} under the threshold since {since}."),
        Some((Side::Above, by)) => format!("{by} over the threshold since {since}."),
        // Between threshold and `clear_at`: it still fires, but nothing is missing.
        None => format!("Since {since}."),
    }
}

fn over(event: &ThresholdEvent, duration: chrono::Duration) -> String {
    let lasted = lasted(duration);
    let back = match (event.threshold, event.value) {
        (Some(threshold), Value::Unlimited) if threshold.side == Side::Below => {
            Some(format!("above {}", amount(&threshold)))
        }
        _ => beyond(event).filter(|(_, by)| by.missing().is_none()).map(|(threshold, by)| {
            let back = match threshold.side {
                Side::Below if by.is_nothing() => "at",
                Side::Below => "above",
                Side::Above => "at or below",
            };
            format!("{back} {}", amount(&threshold))
        }),
    };
    match back {
        Some(back) => format!("Back {back}; lasted {lasted}."),
        None => format!("Lasted {lasted}."),
    }
}

fn made_up(parts: &Breakdown, value: Value) -> Option<String> {
    if value == Value::Unlimited {
        return None; // the headline says so, and no sum would lead to it
    }
    let of = |amount| Money::new(amount, parts.currency).figure();
    let (balance, unpaid, used) = (of(parts.balance), of(parts.unpaid_invoices), of(parts.used_credit));
    let owed = format!("\u{2212} unpaid invoices {unpaid} \u{2212} used by other divisions {used}");
    Some(match parts.credit_limit {
        Some(limit) => format!("Balance {balance} + credit limit {} {owed}", of(limit)),
        None => format!("Balance {balance} {owed} (credit limit not reported; CertCentral's own total is shown)"),
    })
}

fn cannot_be_read(event: &UnreadableEvent, since: &str) -> Vec<String> {
    let mut lines = vec![format!("Unreadable since {since} ({}).", event.level)];
    lines.extend(event.reason.as_ref().map(|reason| format!("Reason: {}", sentence(reason))));
    lines.extend(event.outlook.map(|outlook| match outlook {
        Outlook::MayHeal => "This may heal by itself.".to_owned(),
        Outlook::NeedsAction => "This does not heal by itself: somebody has to act.".to_owned(),
    }));
    if !event.standing_still.is_empty() {
        let firing = event.standing_still.iter().map(|(key, level)| match key.division {
            Some(id) if key.division != event.key.division => format!("division {id} {} ({level})", name(&key.rule)),
            _ => format!("{} ({level})", name(&key.rule)),
        });
        let known = if event.blind.is_empty() { "read" } else { "judged" };
        lines.push(format!("Still firing when it was last {known}: {}.", firing.collect::<Vec<_>>().join(", ")));
    }
    lines.push("No alert resolves because of this.".to_owned());
    lines
}

/// The silence that an event breaks, ends under, or follows.
pub(super) fn silence(event: &Event, times: Times) -> Option<String> {
    let note = event.silence.as_ref()?;
    let why = note.reason.as_ref().map(|reason| format!(" ({})", quote(reason))).unwrap_or_default();
    let until = times.full(note.until);
    Some(match event.kind() {
        _ if note.until <= event.at => format!("It was silenced until {until}{why}."),
        Some(Kind::Resolved) => format!("Silenced until {until}{why}; told because you heard its beginning."),
        _ => format!("Only its warnings are silenced, until {until}{why}."),
    })
}

/// An earlier event of the same alert in one short line.
pub(super) fn history(event: &Event, times: Times) -> String {
    let at = times.full(event.at);
    let what = match event.kind() {
        Some(Kind::Raised) => "Raised",
        Some(Kind::Escalated) => "Escalated",
        Some(Kind::Eased) => "Eased",
        Some(Kind::Reminder) => "Reminded",
        Some(Kind::Resolved) => "Resolved",
        None => "Noted",
    };
    match &event.subject {
        Subject::Threshold(ThresholdEvent { value: Value::Amount(money), .. }) => format!("{what} {at} at {money}"),
        Subject::Threshold(event) => format!("{what} {at}: {}", value(event)),
        _ => format!("{what} {at}"),
    }
}
