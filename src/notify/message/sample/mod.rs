//! Sample events, for `preview` and for checking templates on load.
//!
//! They are made from a real reading if there is one, and otherwise from the sample figures that docs/templates.md
//! documents. Sample events are never queued.

mod figures;
mod forecast;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;
use rust_decimal::Decimal;

pub use self::figures::{balance, reading};
pub use self::forecast::add_forecast;
pub use self::report::report;
use crate::domain::alert::{AlertKey, TransitionKind};
use crate::domain::balance::{Balance, MetricValue, Persistence, Reading};
use crate::domain::event::{EvaluatedThreshold, Event, EventSubject, ThresholdEvent, UnreadableEvent};
use crate::domain::money::Money;
use crate::domain::rule::{Level, Metric, Rule, Severity, ThresholdAmount, ThresholdSide, UNREADABLE};
use crate::domain::{Division, Name, Time};
use crate::notify::{FallbackOrigin, Message, MessageContent, MessageContext, MessageEvent, RuleTexts};

/// Number of the sample division.
pub const DIVISION: u64 = 11224;
/// Name of the sample division.
pub const DIVISION_NAME: &str = "History department";
/// Reason of a sample that cannot be read.
const REASON: &str = "GET /finance/balance answered 503 Service Unavailable: CertCentral may be under maintenance (usually two hours, on the first weekend of a month)";
/// Error of a sample Slack notifier that fails.
pub const NOTIFIER_ERROR: &str = "Slack answered 404: no_service (the webhook was removed or disabled: make a new one)";

/// Account or division that a sample is about.
#[derive(Debug, Clone)]
pub struct SampleTarget {
    /// Name of the account.
    pub account: Name,
    /// Number of the division, if the account is read by division.
    pub division: Division,
    /// Name of the division.
    pub division_name: Option<String>,
}

impl SampleTarget {
    fn key(&self, rule: &str) -> AlertKey {
        AlertKey { account: self.account.clone(), division: self.division, rule: rule.into() }
    }
}

/// Returns a threshold event for this reading. `None` if the reading has no value.
pub fn threshold(
    rule: &Rule,
    kind: TransitionKind,
    level: Severity,
    (reading, balance): (&Reading, &Balance),
    target: &SampleTarget,
    now: Time,
) -> Option<EventSubject> {
    let (value, currency) = match reading {
        Reading::Amount(money) => (MetricValue::Amount(*money), Some(money.currency)),
        Reading::Time(lasts) => (MetricValue::Time(*lasts), None),
        Reading::Unlimited => (MetricValue::Unlimited, None),
        Reading::NotYetKnown(_) | Reading::NotYetRead(_) | Reading::Unreadable(_) => return None,
    };
    let milder = rule.level(Severity::Warning).filter(|_| kind == TransitionKind::Resolved);
    let own = rule.level(level);
    let remind_every = own.and_then(|level| level.remind_every).filter(|_| kind != TransitionKind::Resolved);
    Some(EventSubject::Threshold(ThresholdEvent {
        key: target.key(&rule.name),
        division_name: target.division_name.clone(),
        kind,
        level,
        since: began(kind, now),
        metric: rule.metric,
        within: rule.within(),
        value,
        threshold: milder.or(own).map(|level| EvaluatedThreshold {
            side: level.side(),
            bound: level.threshold().with_default_currency(currency.or(level.currency())),
        }),
        breakdown: balance.breakdown(),
        next_reminder: remind_every.and_then(|every| now.checked_add_signed(Duration::from_std(every).ok()?)),
        forecast: None,
        chart: None,
    }))
}

/// Returns an event about a balance that cannot be read.
pub fn unreadable(
    kind: TransitionKind,
    level: Severity,
    why: Option<(String, Persistence)>,
    target: &SampleTarget,
    now: Time,
) -> EventSubject {
    let resolved = kind == TransitionKind::Resolved;
    let (reason, persistence) = why.unwrap_or_else(|| (REASON.to_owned(), Persistence::Transient));
    EventSubject::Unreadable(UnreadableEvent {
        key: target.key(UNREADABLE),
        division_name: target.division_name.clone(),
        kind,
        level,
        since: now - Duration::hours(3),
        reason: (!resolved).then_some(reason),
        persistence: (!resolved).then_some(persistence),
        firing_alerts: Vec::new(),
        unevaluated_rules: Vec::new(),
        next_reminder: (!resolved).then(|| now + Duration::days(1)),
    })
}

/// Returns a notice about a division that CertCentral no longer lists.
pub fn unwatched(target: &SampleTarget, rules: Vec<Name>) -> EventSubject {
    EventSubject::Unwatched {
        account: target.account.clone(),
        division: target.division.or(Some(DIVISION)),
        division_name: target.division_name.clone().or_else(|| Some(DIVISION_NAME.to_owned())),
        rules,
    }
}

/// Returns a notice about a notifier that has failed for an hour with this error; without an error, that it works again.
pub fn notifier(notifier: Name, error: Option<&str>, now: Time) -> EventSubject {
    let since = now - Duration::hours(1);
    match error {
        None => EventSubject::NotifierRecovered { notifier, since },
        Some(error) => EventSubject::NotifierFailing { notifier, since, error: error.to_owned() },
    }
}

/// Returns events of thirteen divisions, more than a message shows in full.
pub fn several(rule: &Rule, account: &Name, now: Time) -> Vec<EventSubject> {
    let transitions = [
        (TransitionKind::Raised, Severity::Critical),
        (TransitionKind::Raised, Severity::Warning),
        (TransitionKind::Resolved, Severity::Warning),
    ];
    let transitions = transitions.iter().filter(|(_, level)| rule.level(*level).is_some()).cycle();
    let one = |(n, (kind, level)): (u64, &(TransitionKind, Severity))| {
        let division_name = Some(if n == 0 { DIVISION_NAME.to_owned() } else { format!("Department {}", n + 1) });
        let target = SampleTarget { account: account.clone(), division: Some(DIVISION + n), division_name };
        let mut figures = balance(rule, *level, *kind != TransitionKind::Resolved);
        // Divisions with identical figures would share an entry.
        let part = match rule.metric {
            Metric::UnpaidInvoices => &mut figures.unpaid_invoices,
            Metric::UsedCredit => &mut figures.used_credit,
            _ => &mut figures.balance,
        };
        if let Ok(amount) = part {
            *amount += Decimal::from(n);
        }
        let reading = match reading(rule, *level, *kind != TransitionKind::Resolved) {
            _ if !rule.metric.needs_history() => figures.reading(rule.metric),
            Reading::Amount(money) => Reading::Amount(Money::new(money.amount + Decimal::from(n), money.currency)),
            Reading::Time(lasts) => Reading::Time(lasts + std::time::Duration::from_secs(3600 * n)),
            other => other,
        };
        threshold(rule, *kind, *level, (&reading, &figures), &target, now)
    };
    (0..13).zip(transitions).filter_map(one).collect()
}

/// Returns the time of the first breached reading: now, or earlier for the later events of an alert.
fn began(kind: TransitionKind, now: Time) -> Time {
    match kind {
        TransitionKind::Raised => now,
        TransitionKind::Reminder => now - Duration::days(1),
        TransitionKind::Escalated | TransitionKind::Eased | TransitionKind::Resolved => now - Duration::minutes(200),
    }
}

/// Returns a message with these events.
pub fn message(subjects: Vec<EventSubject>, now: Time) -> Message {
    let event = |(n, subject)| Event {
        id: format!("preview-{n}"),
        at: now,
        evaluated_at: None,
        subject,
        silence: None,
        audience: BTreeSet::new(),
    };
    let item = |event: Event| MessageEvent { event: event.into(), omitted: 0, in_place_of: None };
    let items = subjects.into_iter().enumerate().map(event).map(item).collect();
    Message {
        id: "preview".to_owned(),
        at: now,
        content: MessageContent::Events(items),
        references: Vec::new(),
        remaining_recipients: None,
    }
}

/// Returns a sample of every kind of message about events, with everything that a message may lack or contain.
pub fn every_message(now: Time) -> Vec<Message> {
    let Some(rule) = rule() else { return Vec::new() };
    let divided = SampleTarget {
        account: "acme".into(),
        division: Some(DIVISION),
        division_name: Some(DIVISION_NAME.to_owned()),
    };
    let alone = SampleTarget { account: "acme".into(), division: None, division_name: None };
    let mut subjects = Vec::new();
    for (kind, level) in [
        (TransitionKind::Raised, Severity::Warning),
        (TransitionKind::Escalated, Severity::Critical),
        (TransitionKind::Eased, Severity::Warning),
        (TransitionKind::Reminder, Severity::Critical),
        (TransitionKind::Resolved, Severity::Warning),
    ] {
        let figures = balance(&rule, level, kind != TransitionKind::Resolved);
        let reading = figures.reading(rule.metric);
        let mut subject = threshold(&rule, kind, level, (&reading, &figures), &divided, now);
        if let Some(subject) = &mut subject {
            add_forecast(subject, &rule, &figures, now);
        }
        subjects.extend(subject);
    }
    let unlimited = Balance { unlimited: Ok(true), ..balance(&rule, Severity::Warning, false) };
    let figures = (&Reading::Unlimited, &unlimited);
    subjects.extend(threshold(&rule, TransitionKind::Resolved, Severity::Critical, figures, &alone, now));
    for kind in [TransitionKind::Raised, TransitionKind::Reminder, TransitionKind::Resolved] {
        subjects.push(unreadable(kind, Severity::Warning, None, &alone, now));
    }
    subjects.push(unwatched(&divided, vec![rule.name.clone()]));
    subjects.push(notifier("finance-slack".into(), Some(NOTIFIER_ERROR), now));
    subjects.push(notifier("finance-slack".into(), None, now));
    let mut messages: Vec<Message> = subjects.iter().map(|subject| message(vec![subject.clone()], now)).collect();
    let mut several = message(subjects, now);
    if let MessageContent::Events(items) = &mut several.content
        && let Some(first) = items.first_mut()
    {
        first.omitted = 2;
        first.in_place_of = Some(FallbackOrigin { notifier: "finance-slack".into(), error: NOTIFIER_ERROR.to_owned() });
    }
    messages.push(several);
    messages
}

/// Returns texts of a sample configuration, for [`every_message`].
pub fn context() -> MessageContext {
    let text = |text: &str| Some(text.to_owned());
    let description = text("Ask Finance for a purchase order; a PO takes five working days.");
    let link = text("https://wiki.example.com/certificates/funds");
    MessageContext {
        timezone: chrono_tz::Tz::UTC,
        rules: BTreeMap::from([("available-funds".into(), RuleTexts { description, link })]),
        console_urls: BTreeMap::from([("acme".into(), "https://www.digicert.com/secure/".to_owned())]),
    }
}

/// Returns the rule of [`every_message`].
pub(crate) fn rule() -> Option<Rule> {
    let level = |value| {
        let threshold = ThresholdAmount { value: Decimal::from(value), currency: None };
        Level::new(ThresholdSide::Below, threshold, None).ok()
    };
    Rule::new("available-funds".into(), Metric::AvailableFunds, level(2000), level(500)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::forecast::Runway;
    use crate::domain::rule::ThresholdValue;

    #[test]
    fn samples_are_of_every_kind_and_breach_their_level() {
        let now = Time::from_timestamp(1_795_500_000, 0).unwrap();
        assert_eq!(every_message(now).len(), 13);
        let rule = rule().unwrap();
        for (severity, breached, expected) in [
            (Severity::Warning, true, Some(Severity::Warning)),
            (Severity::Critical, true, Some(Severity::Critical)),
            (Severity::Warning, false, None),
        ] {
            let reading = balance(&rule, severity, breached).reading(rule.metric);
            assert_eq!(crate::alerting::evaluate::evaluate(&rule, &reading).unwrap().breached(), expected);
        }
    }

    fn of(metric: Metric, side: ThresholdSide, warning: i64, critical: i64) -> Rule {
        let day = std::time::Duration::from_secs(24 * 3600);
        let bound = |value: i64| match metric {
            Metric::Runway => ThresholdValue::from(day * u32::try_from(value).unwrap()),
            _ => ThresholdValue::from(ThresholdAmount { value: Decimal::from(value), currency: None }),
        };
        let level = |value: i64| Level::new(side, bound(value), None).ok();
        Rule::new("it".into(), metric, level(warning), level(critical)).unwrap()
    }

    #[test]
    fn a_resolved_sample_breaches_no_level() {
        for rule in [
            of(Metric::AvailableFunds, ThresholdSide::Below, 2000, 500),
            of(Metric::Runway, ThresholdSide::Below, 21, 7),
            of(Metric::Spend, ThresholdSide::Above, 3000, 9000),
        ] {
            for severity in [Severity::Warning, Severity::Critical] {
                let verdict = crate::alerting::evaluate::evaluate(&rule, &reading(&rule, severity, false)).unwrap();
                assert_eq!(verdict.breached(), None, "{} {severity}", rule.metric);
            }
        }
    }

    #[test]
    fn a_sample_has_every_part_and_consistent_figures() {
        let now = Time::from_timestamp(1_795_500_000, 0).unwrap();
        let target = SampleTarget { account: "acme".into(), division: None, division_name: None };
        let sampled = |rule: &Rule| {
            let of = balance(rule, Severity::Warning, true);
            let read = reading(rule, Severity::Warning, true);
            let mut subject =
                threshold(rule, TransitionKind::Raised, Severity::Warning, (&read, &of), &target, now).unwrap();
            add_forecast(&mut subject, rule, &of, now);
            let EventSubject::Threshold(it) = subject else { panic!() };
            it
        };
        let runway = sampled(&of(Metric::Runway, ThresholdSide::Below, 14, 7));
        let forecast = runway.forecast.unwrap();
        let Runway::Until { early, about, .. } = forecast.runway else { panic!("{:?}", forecast.runway) };
        assert_eq!(early, Some(now + Duration::days(7)), "the value is the early end");
        assert!(
            about > early
                && forecast.deposit.is_some()
                && forecast.renewals.is_some()
                && !forecast.sparkline.is_empty()
        );
        assert!(runway.chart.unwrap().thresholds.is_empty());

        let due = |metric| {
            sampled(&of(metric, ThresholdSide::Above, 1000, 9000)).forecast.unwrap().renewals.unwrap().amount.amount
        };
        assert_eq!(due(Metric::RenewalsDue), Decimal::from(1500), "what the headline says");
        assert_eq!(due(Metric::Shortfall), Decimal::from(3800 + 1500), "more than there is");
        for metric in [Metric::Spend, Metric::ExpiringFunds] {
            let it = sampled(&of(metric, ThresholdSide::Above, 3000, 9000));
            assert_eq!(it.forecast.unwrap().deposit, None, "{metric}");
            let past = it.chart.unwrap().past.clone();
            let MetricValue::Amount(value) = it.value else { panic!() };
            assert!(metric != Metric::Spend || past[26].1 - past[27].1 >= value.amount, "{past:?}");
            assert!(metric != Metric::ExpiringFunds || past[27].1 >= value.amount, "{past:?}");
        }
        assert_eq!(sampled(&of(Metric::UnpaidInvoices, ThresholdSide::Above, 3000, 9000)).forecast, None);
    }
}
