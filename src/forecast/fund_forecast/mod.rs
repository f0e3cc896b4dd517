//! Forecast of one fund at one reading: values of the forecast metrics, and the figures for messages.
//!
//! The futures are simulated once, for the rules that watch the fund. Only the figures that these rules need are
//! kept.

mod deposits;
mod messages;
mod results;
mod rules;
mod simulate;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rust_decimal::Decimal;

use self::results::{PurchaseAnalysis, RequiredDeposit, SimulationResults};
use self::rules::is_resolved_by_deposit;
pub use self::rules::shows_forecast;
use super::expiring::expiring;
use super::purchases::PurchaseSums;
use super::refunds::spend;
use super::renewals::{RenewalsSum, renewals_due, renewed_since, shortfall};
use super::spending::Spending;
use crate::alerting::evaluate::{Evaluation, NotEvaluated, evaluate};
use crate::alerting::transition::transition;
use crate::domain::Time;
use crate::domain::alert::Alert;
use crate::domain::balance::{Balance, Persistence, Reading, Unreadable};
use crate::domain::confidence::Confidence;
use crate::domain::history::{AccountHistory, HistoryGap};
use crate::domain::ledger::Ledger;
use crate::domain::money::{Currency, Money};
use crate::domain::order::Order;
use crate::domain::rule::{Metric, Rule};

/// Age of a ledger beyond which recent purchases may be missing. The ledger is read hourly.
const MAX_LEDGER_AGE: TimeDelta = TimeDelta::hours(2);

/// Forecast of one fund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FundForecast {
    now: Time,
    currency: Result<Currency, Unreadable>,
    funds: Reading,
    balance: Reading,
    history: AccountHistory,
    spending: Spending,
    simulation: Result<SimulationResults, Reading>,
    /// Analysis of the purchases; `None` if the ledger or the orders are not known, or nothing was simulated.
    purchases: Option<PurchaseAnalysis>,
    /// Deposit that ends every alert of this reading: of the breached rules, and of those added by
    /// [`FundForecast::with_alerts`].
    deposit: Option<RequiredDeposit>,
    /// Readings that replace computed ones.
    overrides: Vec<(ReadingKey, Reading)>,
}

/// Parameters of a reading, apart from the history.
type ReadingKey = (Metric, Option<Duration>, Confidence);

fn reading_key(rule: &Rule) -> ReadingKey {
    (rule.metric, rule.within(), rule.confidence)
}

impl FundForecast {
    /// Computes the forecast of this history and balance at `now`, for these rules. Rules that are breached count as
    /// alerts that the deposit must end.
    pub fn new<'r>(
        balance: &Balance,
        history: AccountHistory,
        spending: &Spending,
        rules: impl IntoIterator<Item = &'r Rule>,
        now: Time,
    ) -> Self {
        let rules: Vec<&Rule> = rules.into_iter().collect();
        let (funds, balance_reading) = (balance.reading(Metric::AvailableFunds), balance.reading(Metric::Balance));
        let currency = balance
            .currency
            .clone()
            .map_err(|problem| Unreadable { persistence: Persistence::Transient, reason: problem.to_string() });
        let history = mark_renewed(history, spending);
        let (spending, simulation) = (spending.clone(), Err(Reading::Unlimited));
        let mut forecast = Self {
            now,
            currency,
            funds,
            balance: balance_reading,
            history,
            spending,
            simulation,
            purchases: None,
            deposit: None,
            overrides: Vec::new(),
        };
        (forecast.simulation, forecast.purchases) = forecast.simulate(&rules);
        let breached = rules.iter().filter(|rule| forecast.is_breached(rule));
        forecast.deposit = breached.filter_map(|rule| forecast.deposit(rule)).reduce(RequiredDeposit::max);
        forecast
    }

    /// Returns the purchases of the past year by kind; `None` if they cannot be classified, or nothing was simulated.
    pub fn past_year(&self) -> Option<&PurchaseSums> {
        self.purchases.as_ref().map(|analysis| &analysis.past_year)
    }

    fn is_breached(&self, rule: &Rule) -> bool {
        self.evaluated(rule).is_ok_and(|evaluation| evaluation.breached().is_some())
    }

    fn evaluated(&self, rule: &Rule) -> Result<Evaluation, NotEvaluated> {
        match rule.metric {
            Metric::AvailableFunds => evaluate(rule, &self.funds),
            Metric::Balance => evaluate(rule, &self.balance),
            _ => evaluate(rule, &self.reading(rule)),
        }
    }

    /// Adds firing alerts to those that the deposit must end. The rules must be among those given to
    /// [`FundForecast::new`]. An alert can fire beyond its threshold until `clear_at` is reached, and while its rule
    /// cannot be evaluated.
    #[must_use]
    pub fn with_alerts<'a>(self: Arc<Self>, alerts: impl IntoIterator<Item = (&'a Rule, Vec<&'a Alert>)>) -> Arc<Self> {
        let keeps_firing = |rule: &Rule, alerts: Vec<&Alert>| match self.evaluated(rule) {
            // Already counted by `new`.
            Ok(evaluation) if evaluation.breached().is_some() => false,
            Ok(evaluation) => {
                alerts.iter().any(|alert| transition(alert, &evaluation, |_| None, self.now).0.firing().is_some())
            }
            Err(_) => alerts.iter().any(|alert| alert.firing().is_some()),
        };
        let resolvable = alerts.into_iter().filter(|(rule, _)| is_resolved_by_deposit(rule));
        let going_on = resolvable.filter_map(|(rule, alerts)| keeps_firing(rule, alerts).then_some(rule));
        let deposits = going_on.filter_map(|rule| self.deposit(rule)).chain(self.deposit.clone());
        let deposit = deposits.reduce(RequiredDeposit::max);
        if deposit == self.deposit { self } else { Arc::new(Self { deposit, ..(*self).clone() }) }
    }

    /// Replaces the readings of these rules. A backtest uses this so that each rule keeps the reading of its own
    /// latest evaluation.
    #[must_use]
    pub fn with_readings<'r>(self, readings: impl IntoIterator<Item = (&'r Rule, Reading)>) -> Self {
        Self { overrides: readings.into_iter().map(|(rule, reading)| (reading_key(rule), reading)).collect(), ..self }
    }

    /// Returns the reading of a forecast metric. Metrics of the balance itself are not available here.
    pub fn reading(&self, rule: &Rule) -> Reading {
        if let Some((_, reading)) = self.overrides.iter().find(|(known, _)| *known == reading_key(rule)) {
            return reading.clone();
        }
        let amount = match rule.metric {
            Metric::Runway => return self.runway(rule.confidence),
            Metric::Shortfall if self.funds == Reading::Unlimited => Ok(Decimal::ZERO),
            Metric::Shortfall => self.shortfall(rule),
            Metric::Spend => self.fresh_ledger().map(|ledger| spend(ledger, &self.spending, self.now, within(rule))),
            Metric::ExpiringFunds => {
                self.ledger().map(|ledger| expiring(ledger, &self.spending, self.now, within(rule)))
            }
            Metric::RenewalsDue => self.renewals(within(rule)).map(|sum| sum.amount),
            Metric::AvailableFunds | Metric::Balance | Metric::UnpaidInvoices | Metric::UsedCredit => {
                return Reading::NotYetKnown("this metric is read from the balance".to_owned());
            }
        };
        match (amount, &self.currency) {
            (Ok(amount), Ok(currency)) => Reading::Amount(Money::new(amount, *currency)),
            (Err(reading), _) => reading,
            (Ok(_), Err(why)) => Reading::Unreadable(why.clone()),
        }
    }

    fn runway(&self, confidence: Confidence) -> Reading {
        match (&self.funds, &self.simulation) {
            (Reading::Unlimited, _) => Reading::Unlimited,
            (Reading::Unreadable(why), _) => Reading::Unreadable(why.clone()),
            (Reading::Amount(money), _) if money.amount <= Decimal::ZERO => Reading::Time(Duration::ZERO),
            (_, Err(reading)) => reading.clone(),
            (_, Ok(results)) => match results.runways.get(&confidence) {
                Some((_, Some(lasts))) => Reading::Time(*lasts),
                Some((_, None)) => Reading::Unlimited,
                None => Reading::NotYetKnown("the forecast was computed for other rules".to_owned()),
            },
        }
    }

    fn shortfall(&self, rule: &Rule) -> Result<Decimal, Reading> {
        let Some(available) = self.available() else { return Err(self.funds.clone()) };
        Ok(shortfall(&self.renewals(within(rule))?, available))
    }

    fn available(&self) -> Option<Decimal> {
        match &self.funds {
            Reading::Amount(money) => Some(money.amount),
            _ => None,
        }
    }

    /// Returns the ledger, if all its amounts are in the currency of the balance.
    fn ledger(&self) -> Result<&Ledger, Reading> {
        let ledger = self.history.ledger.as_deref().map_err(|gap| gap_reading(gap, "ledger"))?;
        let Ok(currency) = &self.currency else { return Ok(ledger) };
        let other = ledger.entries().iter().find_map(|entry| entry.currency.filter(|other| other != currency));
        match other {
            None => Ok(ledger),
            Some(other) => Err(Reading::Unreadable(Unreadable {
                persistence: Persistence::Permanent,
                reason: format!(
                    "the ledger has amounts in {other}, but the balance is in {currency}, so no forecast is possible; exclude \
                     this account from the rules that need a forecast (`accounts` of the rule)"
                ),
            })),
        }
    }

    /// Returns the ledger, if it is recent. Without the latest purchases, an alert about spend would seem to be over.
    fn fresh_ledger(&self) -> Result<&Ledger, Reading> {
        let stale = self.history.ledger_read.filter(|read| self.now - *read > MAX_LEDGER_AGE);
        match stale {
            None => self.ledger(),
            Some(read) => Err(Reading::Unreadable(Unreadable {
                persistence: Persistence::Transient,
                reason: format!(
                    "the ledger was last read {}; later purchases are not known",
                    read.format("%Y-%m-%d %H:%M UTC")
                ),
            })),
        }
    }

    fn orders(&self) -> Result<&[Order], Reading> {
        self.history.orders.as_deref().map_err(|gap| gap_reading(gap, "list of orders"))
    }

    fn renewals(&self, within: Duration) -> Result<RenewalsSum, Reading> {
        let share = |index| self.purchases.as_ref()?.payments.share_from_balance(index);
        let sum = renewals_due(self.orders()?, self.now, within, share);
        if sum.unknown_ends.is_empty() {
            return Ok(sum);
        }
        // The details of these orders have been requested already, without success.
        let count = sum.unknown_ends.len();
        let what = format!("{count} orders may end in this period, but the details with their end could not be read");
        Err(Reading::Unreadable(match &self.history.order_ends_failure {
            Some(why) => Unreadable { persistence: why.persistence, reason: format!("{what}: {}", why.reason) },
            None => Unreadable { persistence: Persistence::Transient, reason: what },
        }))
    }
}

/// Marks the orders as renewed that the newer ledger shows to be renewed.
fn mark_renewed(mut history: AccountHistory, spending: &Spending) -> AccountHistory {
    if let (Ok(orders), Ok(ledger), Some(listed)) = (&history.orders, &history.ledger, history.orders_read) {
        let renewed = renewed_since(orders, ledger, spending, listed);
        if !renewed.is_empty() {
            let updated =
                |order: &Order| Order { renewed: order.renewed || renewed.contains(&order.id), ..order.clone() };
            history.orders = Ok(orders.iter().map(updated).collect());
        }
    }
    history
}

fn within(rule: &Rule) -> Duration {
    rule.within().unwrap_or_default()
}

fn gap_reading(gap: &HistoryGap, what: &str) -> Reading {
    match gap {
        HistoryGap::NotYetRead => Reading::NotYetRead(format!("the {what} is still being read")),
        HistoryGap::Unreadable(why) => Reading::Unreadable(why.clone()),
    }
}

#[cfg(test)]
mod tests;
