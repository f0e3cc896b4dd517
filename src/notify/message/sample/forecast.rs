//! Forecasts and charts of samples.

use std::sync::Arc;

use chrono::Duration;
use rust_decimal::Decimal;

use crate::domain::Time;
use crate::domain::alert::TransitionKind;
use crate::domain::balance::{Balance, MetricValue, Reading};
use crate::domain::event::EventSubject;
use crate::domain::forecast::{ForecastBand, ForecastSummary, FundChart, RenewalsDue, Runway};
use crate::domain::money::Money;
use crate::domain::rule::{Metric, Rule, Severity};

/// Adds a forecast and a chart to a sample, wherever a real message has them. Only for sample figures: with real ones they
/// would contradict the account.
pub fn add_forecast(subject: &mut EventSubject, rule: &Rule, balance: &Balance, now: Time) {
    let EventSubject::Threshold(it) = subject else { return };
    let has_forecast = !matches!(it.metric, Metric::UnpaidInvoices | Metric::UsedCredit);
    if let Reading::Amount(funds) = balance.reading(Metric::AvailableFunds)
        && has_forecast
        && it.kind != TransitionKind::Resolved
    {
        let days = SampleForecast::new(rule, it.value, funds);
        it.forecast = Some(Box::new(days.forecast(rule, now)));
        it.chart = Some(Arc::new(days.chart(rule, now)));
    }
}

/// Made-up past and future that match the value of a sample.
struct SampleForecast {
    funds: Money,
    /// Days until the funds end at the earliest, at the median and at the latest.
    early: i64,
    about: i64,
    late: i64,
    /// Amount bought on an ordinary day.
    pace: Decimal,
    /// Further amount bought in the last 24 hours.
    last_day: Decimal,
    /// Renewals: days from now, and the price.
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

    /// Returns the chart of the same days.
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

    /// Returns the funds of each day until today. Nothing is bought on Saturdays and Sundays, and three times the usual
    /// amount on one weekday.
    fn past(&self) -> impl Iterator<Item = Decimal> {
        const BOUGHT: [i64; 7] = [1, 1, 3, 1, 1, 0, 0];
        let after = |day: usize| -> i64 { (day + 1..28).map(|day| BOUGHT[day % 7]).sum() };
        (0..28).map(move |day| {
            let last = if day < 27 { self.last_day } else { Decimal::ZERO };
            self.funds.amount + last + self.pace * Decimal::from(after(day))
        })
    }
}
