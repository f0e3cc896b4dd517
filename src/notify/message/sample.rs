//! Events that have not happened: for `preview`, and to try a notifier's own texts before they are needed.
//!
//! Made of a real reading where there is one, else of the sample figures that docs/templates.md documents. Nothing here
//! is ever owed to anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::Duration;
use rust_decimal::Decimal;

use crate::domain::alert::{AlertKey, TransitionKind};
use crate::domain::balance::{Balance, MetricValue, Persistence, Reading};
use crate::domain::event::{EvaluatedThreshold, Event, EventSubject, ThresholdEvent, UnreadableEvent};
use crate::domain::forecast::{ForecastBand, ForecastSummary, FundChart, RenewalsDue, Runway};
use crate::domain::money::{Currency, Money};
use crate::domain::report::{FundFigures, ReportAlert, ReportPage, ReportRow};
use crate::domain::rule::{Level, Metric, Rule, Severity, ThresholdAmount, ThresholdSide, ThresholdValue, UNREADABLE};
use crate::domain::silence::Silence;
use crate::domain::{Division, Name, Time};
use crate::notify::{FallbackOrigin, Message, MessageContent, MessageContext, MessageEvent, RuleTexts};

/// The division's number where a sample needs one.
pub const DIVISION: u64 = 11224;
/// The division's name where a sample needs one.
pub const DIVISION_NAME: &str = "History department";
/// Why a sample is unreadable.
const REASON: &str = "GET /finance/balance answered 503 Service Unavailable: CertCentral may be under maintenance (usually two hours, on the first weekend of a month)";
/// Why a sample's Slack notifier fails.
pub const NOTIFIER_ERROR: &str = "Slack answered 404: no_service (the webhook was removed or disabled: make a new one)";

/// What an event is about.
#[derive(Debug, Clone)]
pub struct SampleTarget {
    /// The account.
    pub account: Name,
    /// The division, where the account is read by division.
    pub division: Division,
    /// Its name.
    pub division_name: Option<String>,
}

impl SampleTarget {
    fn key(&self, rule: &str) -> AlertKey {
        AlertKey { account: self.account.clone(), division: self.division, rule: rule.into() }
    }
}

/// The level that a sample's figures are made for. What is over is over for both: the milder one clears last.
fn sample_level(rule: &Rule, severity: Severity, breached: bool) -> Option<&Level> {
    let preferred = if breached { severity } else { Severity::Warning };
    [preferred, Severity::Warning, Severity::Critical].into_iter().find_map(|severity| rule.level(severity))
}

/// A balance that breaches this level of the rule by half its threshold (or is as far on the safe side of it).
pub fn balance(rule: &Rule, severity: Severity, breached: bool) -> Balance {
    let level = sample_level(rule, severity, breached);
    let line = |level: &Level| if breached { level.threshold() } else { level.clear_at() };
    let amount = |level: &Level| line(level).amount().map_or(Decimal::ZERO, |amount| amount.value);
    let (side, threshold) = level.map_or((ThresholdSide::Below, Decimal::ZERO), |level| (level.side(), amount(level)));
    let half = (threshold / Decimal::TWO).abs().max(Decimal::ONE_HUNDRED).round_dp(2);
    let down = (side == ThresholdSide::Below) == breached;
    let value = if down { threshold - half } else { threshold + half };
    let none = Decimal::ZERO;
    let limit = Decimal::from(2000);
    let (balance, limit, unpaid, used) = match rule.metric {
        Metric::AvailableFunds => (value - limit, limit, none, none),
        Metric::Balance => (value, none, none, none),
        Metric::UnpaidInvoices => (Decimal::from(5000), none, value.max(none), none),
        Metric::UsedCredit => (Decimal::from(5000), none, none, value.max(none)),
        // What expires is still there.
        Metric::ExpiringFunds => (value.max(Decimal::from(1800)), limit, none, none),
        Metric::Runway | Metric::Spend | Metric::RenewalsDue | Metric::Shortfall => {
            (Decimal::from(1800), limit, none, none)
        }
    };
    let usd = || {
        Currency::parse("USD").map_err(|_| {
            crate::domain::balance::FieldProblem { field: "currency", problem: "is not known".to_owned() }.into()
        })
    };
    Balance {
        currency: rule.currency().map_or_else(usd, Ok),
        balance: Ok(balance),
        unpaid_invoices: Ok(unpaid),
        used_credit: Ok(used),
        credit_limit: Ok(Some(limit)),
        unlimited: Ok(false),
        reported_total: Ok(None),
    }
}

/// What the rule sees of the sample's balance, or of the sample's books.
pub fn reading(rule: &Rule, severity: Severity, breached: bool) -> Reading {
    let balance = balance(rule, severity, breached);
    if !rule.metric.needs_history() {
        return balance.reading(rule.metric);
    }
    let Some(level) = sample_level(rule, severity, breached) else { return Reading::Unlimited };
    let down = (level.side() == ThresholdSide::Below) == breached;
    match if breached { level.threshold() } else { level.clear_at() } {
        ThresholdValue::Time { lasts } => Reading::Time(runway(lasts, down)),
        ThresholdValue::Money(ThresholdAmount { value, .. }) => {
            let half = (value / Decimal::TWO).abs().max(Decimal::ONE_HUNDRED).round_dp(2);
            let value = if down { value - half } else { value + half };
            balance
                .currency
                .map_or(Reading::Unlimited, |usd| Reading::Amount(Money::new(value.max(Decimal::ZERO), usd)))
        }
    }
}

/// Half of a runway, or half as much again, in whole days as the forecast counts them.
fn runway(threshold: std::time::Duration, down: bool) -> std::time::Duration {
    const DAY: u64 = 24 * 3600;
    let seconds = threshold.as_secs();
    let days = if down { seconds / 2 / DAY } else { (seconds + seconds / 2).div_ceil(DAY) };
    std::time::Duration::from_secs(days * DAY)
}

/// How a threshold alert would move at this reading. `None` if it is none.
pub fn threshold(
    rule: &Rule,
    kind: TransitionKind,
    level: Severity,
    (reading, of): (&Reading, &Balance),
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
    let terms = rule.level(level);
    let remind_every = terms.and_then(|level| level.remind_every).filter(|_| kind != TransitionKind::Resolved);
    Some(EventSubject::Threshold(ThresholdEvent {
        key: target.key(&rule.name),
        division_name: target.division_name.clone(),
        kind,
        level,
        since: began(kind, now),
        metric: rule.metric,
        within: rule.within(),
        value,
        threshold: milder.or(terms).map(|level| EvaluatedThreshold {
            side: level.side(),
            bound: level.threshold().with_default_currency(currency.or(level.currency())),
        }),
        breakdown: of.breakdown(),
        next_reminder: remind_every.and_then(|every| now.checked_add_signed(Duration::from_std(every).ok()?)),
        forecast: None,
        chart: None,
    }))
}

/// Gives a sample the days to come, and their picture, wherever a real message has them. They are for sample figures alone:
/// beside real ones they would be a lie.
pub fn add_forecast(subject: &mut EventSubject, rule: &Rule, of: &Balance, now: Time) {
    let EventSubject::Threshold(it) = subject else { return };
    let has_forecast = !matches!(it.metric, Metric::UnpaidInvoices | Metric::UsedCredit);
    if let Reading::Amount(funds) = of.reading(Metric::AvailableFunds)
        && has_forecast
        && it.kind != TransitionKind::Resolved
    {
        let days = SampleForecast::new(rule, it.value, funds);
        it.forecast = Some(Box::new(days.forecast(rule, now)));
        it.chart = Some(Arc::new(days.chart(rule, now)));
    }
}

/// What the days around a sample could be: its own value, and what fits it.
struct SampleForecast {
    funds: Money,
    /// Days until they end: at the earliest, and as likely as not.
    early: i64,
    about: i64,
    late: i64,
    /// Bought on a day.
    pace: Decimal,
    /// Bought in the last 24 hours beside it.
    last_day: Decimal,
    /// Days from now, and the price of what ends then.
    renewals: [(i64, Decimal); 2],
}

impl SampleForecast {
    fn new(rule: &Rule, value: MetricValue, funds: Money) -> Self {
        let left = funds.amount;
        let early = match value {
            MetricValue::Time(lasts) => i64::try_from(lasts.as_secs() / 86_400).unwrap_or(365),
            MetricValue::Amount(_) | MetricValue::Unlimited => 8,
        };
        let (about, late) = (early * 11 / 8, early * 17 / 8);
        let least = if rule.metric == Metric::Runway { Decimal::ONE } else { Decimal::from(50) };
        let pace = (left / Decimal::from(about.max(1))).round_dp(0).max(least);
        let due = match (rule.metric, value) {
            (Metric::RenewalsDue, MetricValue::Amount(due)) => due.amount,
            (Metric::Shortfall, MetricValue::Amount(short)) => left + short.amount,
            _ => pace * Decimal::from(12),
        };
        let last_day = match (rule.metric, value) {
            (Metric::Spend, MetricValue::Amount(spent)) => spent.amount,
            _ => Decimal::ZERO,
        };
        let within = rule.within().filter(|_| matches!(rule.metric, Metric::RenewalsDue | Metric::Shortfall));
        let within = within.map_or(30, |within| i64::try_from(within.as_secs() / 86_400).unwrap_or(30).min(30));
        let first = (due / Decimal::from(3)).round_dp(2);
        let renewals = [(within / 4, first), (within * 2 / 3, due - first)];
        Self { funds, early, about, late, pace, last_day, renewals }
    }

    fn runway(&self, rule: &Rule, now: Time) -> Runway {
        if self.funds.amount <= Decimal::ZERO {
            return Runway::Exhausted;
        }
        let day = |n: i64| Some(now + Duration::days(n));
        let (about, early, late) = (day(self.about), day(self.early), day(self.late));
        Runway::Until { about, early, late, percent: rule.confidence.percent() }
    }

    fn forecast(&self, rule: &Rule, now: Time) -> ForecastSummary {
        let left = self.funds.amount;
        let most = self.past().fold(Decimal::ONE, Decimal::max);
        let spark = self.past().map(|of| of * Decimal::from(8) / most);
        let due = self.renewals[0].1 + self.renewals[1].1;
        let spent = due + self.pace * Decimal::from(30);
        let safe = rule.levels().next().and_then(|level| level.clear_at().amount()).map(|amount| amount.value);
        let keep = match rule.metric {
            Metric::AvailableFunds | Metric::Balance => safe,
            Metric::Runway | Metric::Shortfall => Some(Decimal::ZERO),
            _ => None,
        };
        let needed = keep.map(|keep| (keep + spent - left).ceil()).filter(|needed| *needed > Decimal::ZERO);
        let money = |amount| Money::new(amount, self.funds.currency);
        ForecastSummary {
            runway: self.runway(rule, now),
            deposit: needed.map(money),
            typical_order: None,
            paid_in_full: None,
            renewals: Some(RenewalsDue {
                count: if due.is_zero() { 0 } else { 12 },
                amount: money(due),
                from_balance: Some(due),
            }),
            sparkline: spark
                .map(|level| u8::try_from(level.ceil().max(Decimal::ZERO).mantissa()).unwrap_or(8))
                .collect(),
        }
    }

    /// The picture of the same days.
    fn chart(&self, rule: &Rule, now: Time) -> FundChart {
        let left = self.funds.amount;
        let day = |n: i64| now + Duration::days(n);
        let band = |n: i64| {
            let spent = |in_days: i64| left.max(Decimal::ZERO) * Decimal::from(n) / Decimal::from(in_days.max(1));
            ForecastBand {
                at: day(n),
                low: left - spent(self.early),
                middle: left - spent(self.about),
                high: left - spent(self.late),
            }
        };
        let levels =
            [Severity::Warning, Severity::Critical].into_iter().filter(|_| rule.metric == Metric::AvailableFunds);
        let thresholds = levels.filter_map(|it| Some((it, rule.level(it)?.threshold().amount()?.value)));
        FundChart {
            currency: self.funds.currency,
            now,
            past: (0..28).map(|n| day(n - 27)).zip(self.past()).collect(),
            thresholds: thresholds.collect(),
            renewals: self.renewals.map(|(n, amount)| (day(n), amount)).to_vec(),
            future: (1..=(self.late + 4).clamp(7, 45)).map(band).collect(),
            runway: self.runway(rule, now),
            percent: rule.confidence.percent(),
        }
    }

    /// Day by day until today: nothing is bought on Saturdays and Sundays, and much now and then.
    fn past(&self) -> impl Iterator<Item = Decimal> {
        const BOUGHT: [i64; 7] = [1, 1, 3, 1, 1, 0, 0];
        let after = |day: usize| -> i64 { (day + 1..28).map(|day| BOUGHT[day % 7]).sum() };
        (0..28).map(move |day| {
            let last = if day < 27 { self.last_day } else { Decimal::ZERO };
            self.funds.amount + last + self.pace * Decimal::from(after(day))
        })
    }
}

/// How the alert about what cannot be read would move.
pub fn unreadable(
    kind: TransitionKind,
    level: Severity,
    why: Option<(String, Persistence)>,
    target: &SampleTarget,
    now: Time,
) -> EventSubject {
    let over = kind == TransitionKind::Resolved;
    let (reason, outlook) = why.unwrap_or_else(|| (REASON.to_owned(), Persistence::Transient));
    EventSubject::Unreadable(UnreadableEvent {
        key: target.key(UNREADABLE),
        division_name: target.division_name.clone(),
        kind,
        level,
        since: now - Duration::hours(3),
        reason: (!over).then_some(reason),
        persistence: (!over).then_some(outlook),
        firing_alerts: Vec::new(),
        unevaluated_rules: Vec::new(),
        next_reminder: (!over).then(|| now + Duration::days(1)),
    })
}

/// The notice about a division that is gone.
pub fn unwatched(target: &SampleTarget, rules: Vec<Name>) -> EventSubject {
    EventSubject::Unwatched {
        account: target.account.clone(),
        division: target.division.or(Some(DIVISION)),
        division_name: target.division_name.clone().or_else(|| Some(DIVISION_NAME.to_owned())),
        rules,
    }
}

/// The notice about a notifier that has failed for an hour, at last with this error; `None`: it works again.
pub fn notifier(notifier: Name, error: Option<&str>, now: Time) -> EventSubject {
    let since = now - Duration::hours(1);
    match error {
        None => EventSubject::NotifierRecovered { notifier, since },
        Some(error) => EventSubject::NotifierFailing { notifier, since, error: error.to_owned() },
    }
}

/// A report about three divisions: one in trouble, one that cannot be read, one that is well.
pub fn report(name: Name, now: Time) -> EventSubject {
    let week = Duration::days(7);
    let usd = |amount: i64| Currency::parse("USD").ok().map(|currency| Money::new(Decimal::from(amount), currency));
    let figures = |id, division: &str, funds| FundFigures {
        at: Some(now),
        funds: usd(funds).map(MetricValue::Amount),
        unpaid: usd(0),
        ..FundFigures::never_read("acme".into(), Some(id), Some(division.to_owned()))
    };
    let standing = ReportAlert {
        rule: "available-funds".into(),
        level: Severity::Critical,
        firing: true,
        since: Some(now - Duration::days(1)),
        silenced_until: None,
        unevaluated_rules: Vec::new(),
    };
    let silence = Silence {
        account: "acme".into(),
        division: Some(11225),
        rule: None,
        until: now + Duration::days(2),
        reason: Some("PO 4711 raised".to_owned()),
        level: Severity::Warning,
        created_at: Some(now - Duration::days(1)),
    };
    let before = |amount| usd(amount).map(MetricValue::Amount);
    let rows = vec![
        ReportRow {
            figures: FundFigures { unpaid: usd(1250), ..figures(DIVISION, DIVISION_NAME, 431) },
            unreadable: None,
            before: before(1631),
            alerts: vec![standing],
        },
        ReportRow {
            figures: FundFigures { at: Some(now - Duration::hours(4)), ..figures(11225, "Law school", 3120) },
            unreadable: Some(REASON.to_owned()),
            before: before(3120),
            alerts: Vec::new(),
        },
        ReportRow {
            figures: figures(11226, "Physics", 8088),
            unreadable: None,
            before: before(5088),
            alerts: Vec::new(),
        },
    ];
    let (compared_with, next) = (Some(now - week), Some(now + week));
    EventSubject::Report(Box::new(ReportPage {
        name,
        due: now,
        compared_with,
        next,
        rows,
        silences: vec![silence],
        failing: Vec::new(),
    }))
}

/// Thirteen divisions in trouble or out of it: more than a message tells in full.
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
        let mut of = balance(rule, *level, *kind != TransitionKind::Resolved);
        // Divisions of the very same figures would share an entry.
        let part = match rule.metric {
            Metric::UnpaidInvoices => &mut of.unpaid_invoices,
            Metric::UsedCredit => &mut of.used_credit,
            _ => &mut of.balance,
        };
        if let Ok(amount) = part {
            *amount += Decimal::from(n);
        }
        let reading = match reading(rule, *level, *kind != TransitionKind::Resolved) {
            _ if !rule.metric.needs_history() => of.reading(rule.metric),
            Reading::Amount(money) => Reading::Amount(Money::new(money.amount + Decimal::from(n), money.currency)),
            Reading::Time(lasts) => Reading::Time(lasts + std::time::Duration::from_secs(3600 * n)),
            other => other,
        };
        threshold(rule, *kind, *level, (&reading, &of), &target, now)
    };
    (0..13).zip(transitions).filter_map(one).collect()
}

/// The first breached reading: just now, or a while ago for what comes later in an alert's life.
fn began(kind: TransitionKind, now: Time) -> Time {
    match kind {
        TransitionKind::Raised => now,
        TransitionKind::Reminder => now - Duration::days(1),
        TransitionKind::Escalated | TransitionKind::Eased | TransitionKind::Resolved => now - Duration::minutes(200),
    }
}

/// A message that says this.
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

/// A sample of every kind of message about events, each with what a message may lack or have in plenty.
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

/// What the configuration would add to [`every_message`].
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

/// The rule that the samples are about.
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

    #[test]
    fn the_samples_are_of_every_kind_and_a_sample_breaches_its_level() {
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
    fn a_resolved_sample_has_left_both_levels_behind() {
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
