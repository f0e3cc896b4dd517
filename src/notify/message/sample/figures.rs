//! Balances and readings of samples.

use rust_decimal::Decimal;

use crate::domain::balance::{Balance, FieldProblem, Reading};
use crate::domain::money::{Currency, Money};
use crate::domain::rule::{Level, Metric, Rule, Severity, ThresholdAmount, ThresholdSide, ThresholdValue};

/// Returns the level that the figures of a sample are made for. For a resolved alert this is the warning if there is one,
/// because it clears last.
fn sample_level(rule: &Rule, severity: Severity, breached: bool) -> Option<&Level> {
    let preferred = if breached { severity } else { Severity::Warning };
    [preferred, Severity::Warning, Severity::Critical].into_iter().find_map(|severity| rule.level(severity))
}

/// Returns a balance that is beyond the level's threshold by half of it, or as far on the safe side if `breached` is false.
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
        // Deposits that expire are still part of the funds.
        Metric::ExpiringFunds => (value.max(Decimal::from(1800)), limit, none, none),
        Metric::Runway | Metric::Spend | Metric::RenewalsDue | Metric::Shortfall => {
            (Decimal::from(1800), limit, none, none)
        }
    };
    let usd = || {
        Currency::parse("USD")
            .map_err(|_| FieldProblem { field: "currency", problem: "is not known".to_owned() }.into())
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

/// Returns the reading of the rule's metric that matches the sample balance.
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

/// Returns half of a runway, or one and a half times as much, in whole days as a forecast counts them.
fn runway(threshold: std::time::Duration, down: bool) -> std::time::Duration {
    const DAY: u64 = 24 * 3600;
    let seconds = threshold.as_secs();
    let days = if down { seconds / 2 / DAY } else { (seconds + seconds / 2).div_ceil(DAY) };
    std::time::Duration::from_secs(days * DAY)
}
