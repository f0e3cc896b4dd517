//! Deposits that end a fund's alerts.

use rust_decimal::Decimal;

use super::FundForecast;
use super::results::RequiredDeposit;
use super::rules::{deposit_days, last_to_clear};
use crate::domain::balance::Reading;
use crate::domain::rule::{Level, Metric, Rule, ThresholdSide};
use crate::forecast::renewals::shortfall;
use crate::forecast::simulation::deposit;

impl FundForecast {
    /// Returns the deposit that ends the rule's alert for good and pays for the next 30 days; `None` for rules that
    /// do not measure funds.
    pub(super) fn deposit(&self, rule: &Rule) -> Option<RequiredDeposit> {
        let (available, results) = (self.available()?, self.simulation.as_ref().ok()?);
        let level = last_to_clear(rule, |level| self.compares_with(level))?;
        let safe =
            level.clear_at().amount().filter(|_| level.side() == ThresholdSide::Below).map(|amount| amount.value);
        let keep = match rule.metric {
            Metric::AvailableFunds => safe?,
            // The balance differs from available funds by a fixed amount.
            Metric::Balance => match &self.balance {
                Reading::Amount(balance) => safe?.checked_add(available.checked_sub(balance.amount)?)?,
                _ => return None,
            },
            Metric::Runway | Metric::Shortfall => Decimal::ZERO,
            _ => return None,
        };
        let spent = *results.max_spend.get(&(rule.confidence, deposit_days(rule)))?;
        let regular = deposit(keep, available, spent).map(|amount| RequiredDeposit { amount, paid_in_full: None });
        let in_full = self.deposit_in_full(rule, available).filter(|_| rule.metric == Metric::Shortfall);
        regular.into_iter().chain(in_full).reduce(RequiredDeposit::max)
    }

    /// Returns the deposit for a shortfall, which counts renewals at their full price even if part is usually paid
    /// otherwise.
    fn deposit_in_full(&self, rule: &Rule, available: Decimal) -> Option<RequiredDeposit> {
        let renewals = self.renewals(rule.within().unwrap_or_default()).ok()?;
        let amount = shortfall(&renewals, available).ceil();
        (amount > Decimal::ZERO).then_some(RequiredDeposit { amount, paid_in_full: Some(renewals) })
    }

    /// Reports whether a level's amounts are in the currency of the funds.
    pub(super) fn compares_with(&self, level: &Level) -> bool {
        self.currency.as_ref().is_ok_and(|currency| level.compares_with(*currency))
    }
}
