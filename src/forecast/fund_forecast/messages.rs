//! Forecast sections and charts of messages.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::FundForecast;
use super::results::{CHART_FUTURE_DAYS, DAY, MESSAGE_HORIZON_DAYS, RequiredDeposit};
use super::rules::{is_resolved_by_deposit, shows_forecast};
use crate::domain::Time;
use crate::domain::balance::Reading;
use crate::domain::confidence::Confidence;
use crate::domain::forecast::{ForecastSummary, FundChart, RenewalsDue, Runway};
use crate::domain::money::Money;
use crate::domain::order::Order;
use crate::domain::rule::{Metric, Rule, Severity};
use crate::forecast::funds::{past_funds, sparkline};
use crate::forecast::renewals::{RenewalsSum, must_be_renewed};

/// Days of the past that the chart shows.
const CHART_PAST_DAYS: u32 = 56;

impl FundForecast {
    /// Returns the forecast section of a message about this rule's alert.
    pub fn summary(&self, rule: &Rule) -> Option<ForecastSummary> {
        if !shows_forecast(rule) {
            return None;
        }
        let runway = self.message_runway(rule.confidence)?;
        let money = |amount| Some(Money::new(amount, *self.currency.as_ref().ok()?));
        let due = |sum: RenewalsSum| {
            Some(RenewalsDue { count: sum.count, amount: money(sum.amount)?, from_balance: sum.from_balance })
        };
        // All messages of a fund ask for one amount. With two, readers would add them up or believe the smaller one.
        let deposit = self.deposit(rule).into_iter().chain(self.deposit.clone()).reduce(RequiredDeposit::max);
        let deposit = deposit.filter(|_| is_resolved_by_deposit(rule));
        let sparkline =
            self.available().zip(self.ledger().ok()).map(|(funds, ledger)| sparkline(ledger, funds, self.now));
        let typical = self
            .simulation
            .as_ref()
            .ok()
            .map(|results| results.typical_order)
            .filter(|typical| *typical > Decimal::ZERO);
        Some(ForecastSummary {
            typical_order: typical.filter(|_| runway == Runway::Exhausted).and_then(money),
            runway,
            deposit: deposit.as_ref().and_then(|deposit| money(deposit.amount)),
            paid_in_full: deposit.and_then(|deposit| deposit.paid_in_full).and_then(due),
            renewals: self.renewals(DAY * MESSAGE_HORIZON_DAYS).ok().and_then(due),
            sparkline: sparkline.unwrap_or_default(),
        })
    }

    /// Returns the runway that both text and chart of a message show.
    fn message_runway(&self, confidence: Confidence) -> Option<Runway> {
        Some(match (&self.simulation, &self.funds) {
            (_, Reading::Unlimited) => Runway::BeyondHorizon,
            (_, Reading::Amount(money)) if money.amount <= Decimal::ZERO => Runway::Exhausted,
            (Ok(results), _) => results.runways.get(&confidence)?.0.clone(),
            (Err(Reading::NotYetKnown(why) | Reading::NotYetRead(why)), _) => Runway::NotYetKnown(why.clone()),
            (Err(Reading::Unreadable(_)), _) => {
                Runway::NotYetKnown("the account's ledger or orders cannot be read".to_owned())
            }
            (Err(_), _) => return None,
        })
    }

    /// Returns the chart for a message about this rule's alert; `None` if the ledger or the funds are not known.
    pub fn chart(&self, rule: &Rule) -> Option<FundChart> {
        let (funds, ledger) = self.available().zip(self.ledger().ok())?;
        if !shows_forecast(rule) {
            return None;
        }
        let lines = [Severity::Warning, Severity::Critical].into_iter().filter_map(|severity| {
            let level = rule.level(severity).filter(|_| rule.metric == Metric::AvailableFunds)?;
            let level = Some(level).filter(|level| self.compares_with(level))?;
            Some((severity, level.threshold().amount()?.value))
        });
        let bands = self.simulation.as_ref().ok().and_then(|results| results.bands.get(&rule.confidence));
        Some(FundChart {
            currency: *self.currency.as_ref().ok()?,
            now: self.now,
            past: past_funds(ledger, funds, self.now, CHART_PAST_DAYS),
            thresholds: lines.collect(),
            renewals: self.orders().map(|orders| self.renewals_by_day(orders)).unwrap_or_default(),
            runway: self.message_runway(rule.confidence)?,
            future: bands.cloned().unwrap_or_default(),
            percent: rule.confidence.percent(),
        })
    }

    fn renewals_by_day(&self, orders: &[Order]) -> Vec<(Time, Decimal)> {
        let mut days: BTreeMap<Time, Decimal> = BTreeMap::new();
        let (today, last) = (self.now.date_naive(), (self.now + DAY * CHART_FUTURE_DAYS).date_naive());
        for order in orders.iter().filter(|order| must_be_renewed(order, today)) {
            let day = order.ends().filter(|day| (today..=last).contains(day));
            if let Some(at) = day.and_then(|day| day.and_hms_opt(12, 0, 0)) {
                *days.entry(at.and_utc().max(self.now)).or_default() += order.price;
            }
        }
        days.into_iter().collect()
    }
}
