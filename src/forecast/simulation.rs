//! The simulated futures of a fund, and the figures derived from them.

use std::time::Duration;

use rust_decimal::Decimal;

use super::depletion::is_depleted;
use super::horizon::{DAYS, FUTURES};
use super::minor::Minor;
use super::purchases::Purchases;
use super::requirements::{ForecastUnavailable, MIN_HISTORY_DAYS};
use super::sampling::simulate;
use super::spend_history::SpendHistory;
use super::spending::Spending;
use crate::domain::Time;
use crate::domain::confidence::Confidence;
use crate::domain::forecast::{ForecastBand, Runway};
use crate::domain::ledger::Ledger;
use crate::domain::order::Order;
use crate::domain::rule::HORIZON_DAYS;

/// Expected spend in a number of days, in the account's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpendRange {
    /// Low end of the range.
    pub low: Decimal,
    /// Median of the futures.
    pub middle: Decimal,
    /// High end of the range.
    pub high: Decimal,
}

/// Simulated futures of a fund, each a year long, without deposits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulation {
    now: Time,
    available: Decimal,
    /// True if funds have run out: less than a typical order is left.
    is_depleted: bool,
    /// Cumulative spend of each future at the end of each day, one future after the other.
    spent: Vec<Minor>,
}

impl Simulation {
    /// Simulates a fund with these available funds from what is known at `now`. Without orders, renewals are treated
    /// like other purchases.
    pub fn new(
        ledger: &Ledger,
        orders: Option<&[Order]>,
        spending: &Spending,
        available: Decimal,
        now: Time,
    ) -> Result<Self, ForecastUnavailable> {
        Self::from_purchases(&Purchases::read(ledger, orders, spending, now), available)
    }

    /// Simulates a fund from classified purchases.
    pub fn from_purchases(purchases: &Purchases<'_>, available: Decimal) -> Result<Self, ForecastUnavailable> {
        if purchases.all.is_empty() {
            let too_short = purchases.days_covered().filter(|days| *days < MIN_HISTORY_DAYS);
            return Err(
                too_short.map_or(ForecastUnavailable::NoPurchases, |days| ForecastUnavailable::LedgerTooShort { days })
            );
        }
        let typical = purchases.typical_cost();
        let history = SpendHistory::read(purchases, (available, typical))?;
        Ok(Self {
            now: purchases.now,
            available,
            is_depleted: is_depleted(available, typical),
            spent: simulate(&history),
        })
    }

    /// Returns how long the funds last: the median and the range. Funds have run out once they are below a typical
    /// order, even if they could still pay for a cheaper one.
    pub fn runway(&self, confidence: Confidence) -> Runway {
        if self.is_depleted {
            return Runway::Exhausted;
        }
        let (early, about, late) = self.runway_days(confidence);
        let at = |days: Option<u32>| days.map(|days| self.day(days));
        match early {
            None => Runway::BeyondHorizon,
            Some(_) => {
                Runway::Until { about: at(about), early: at(early), late: at(late), percent: confidence.percent() }
            }
        }
    }

    /// Returns the early end of [`Simulation::runway`]'s range; `None` beyond the horizon.
    pub fn runway_early(&self, confidence: Confidence) -> Option<Duration> {
        let (early, _, _) = self.runway_days(confidence);
        let early = if self.is_depleted { Some(0) } else { early };
        early.map(|days| Duration::from_secs(u64::from(days) * 24 * 3600))
    }

    /// Returns the remaining funds for `now` and each of the next `days` days; empty if funds have run out, since
    /// nothing more can be bought.
    pub fn bands(&self, days: u32, confidence: Confidence) -> Vec<ForecastBand> {
        if self.is_depleted {
            return Vec::new();
        }
        let band = |day: u32| {
            let SpendRange { low, middle, high } = self.spend_range(day, confidence);
            let left = |spent: Decimal| self.available - spent;
            ForecastBand { at: self.day(day), low: left(high), middle: left(middle), high: left(low) }
        };
        (0..=days.min(HORIZON_DAYS)).map(band).collect()
    }

    /// Returns the expected spend in the next `days` days (at most a year).
    pub fn spend_range(&self, days: u32, confidence: Confidence) -> SpendRange {
        let day = usize::try_from(days).unwrap_or(DAYS).min(DAYS);
        let Some(day) = day.checked_sub(1) else {
            return SpendRange { low: Decimal::ZERO, middle: Decimal::ZERO, high: Decimal::ZERO };
        };
        let spent = self.spent.chunks_exact(DAYS).map(|future| future[day]).collect();
        let (low, middle, high) = central_range(spent, confidence);
        let money = |minor: Minor| Decimal::new(minor, 2);
        SpendRange { low: money(low), middle: money(middle), high: money(high) }
    }

    /// Returns the high end of the expected spend in the next `days` days.
    pub fn max_spend(&self, days: u32, confidence: Confidence) -> Decimal {
        self.spend_range(days, confidence).high
    }

    /// Returns the deposit that keeps funds at or above the threshold for `days` days, at the high end of the
    /// expected spend.
    pub fn deposit(&self, threshold: Decimal, days: u32, confidence: Confidence) -> Option<Decimal> {
        deposit(threshold, self.available, self.max_spend(days, confidence))
    }

    /// Returns the early end, median and late end of the runway in days; `None` beyond the horizon.
    fn runway_days(&self, confidence: Confidence) -> (Option<u32>, Option<u32>, Option<u32>) {
        let enough = |future: &[Minor]| future.partition_point(|spent| Decimal::new(*spent, 2) <= self.available);
        let lasts = self.spent.chunks_exact(DAYS).map(enough).collect();
        let (early, about, late) = central_range(lasts, confidence);
        let days = |day: usize| u32::try_from(day).ok().filter(|day| *day < HORIZON_DAYS);
        (days(early), days(about), days(late))
    }

    fn day(&self, days: u32) -> Time {
        self.now + chrono::Duration::days(i64::from(days))
    }
}

/// Returns the deposit that brings `available` back to the threshold and pays for `spend`, rounded up to a whole
/// unit; `None` if nothing is missing.
pub fn deposit(threshold: Decimal, available: Decimal, spend: Decimal) -> Option<Decimal> {
    let missing = (threshold + spend - available).ceil();
    (missing > Decimal::ZERO).then_some(missing)
}

/// Returns the low end, median and high end of one value for each future.
fn central_range<T: Ord + Copy>(mut values: Vec<T>, confidence: Confidence) -> (T, T, T) {
    values.sort_unstable();
    let low = FUTURES * usize::from(100 - confidence.percent()) / 200;
    (values[low], values[FUTURES / 2], values[FUTURES - 1 - low])
}
