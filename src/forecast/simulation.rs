//! The forecast: what its futures say together.

use std::time::Duration;

use rust_decimal::Decimal;

use super::{Confidence, HORIZON_DAYS, MIN_HISTORY_DAYS, MIN_PURCHASES, Purchases, Spending};
use crate::domain::Time;
use crate::domain::forecast::{ForecastBand, Runway};
use crate::domain::ledger::Ledger;
use crate::domain::order::Order;
use crate::forecast::depletion::is_depleted;
use crate::forecast::sampling::{DAYS, FUTURES, simulate};
use crate::forecast::spend_history::{Minor, SpendHistory};

/// Why there is no forecast yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForecastUnavailable {
    /// The ledger does not reach back far enough.
    #[error("the ledger reaches back {days} {}; a forecast needs {MIN_HISTORY_DAYS}", if *days == 1 { "day" } else { "days" })]
    LedgerTooShort {
        /// Whole days since its first line.
        days: u32,
    },
    /// The ledger, which is read 400 days back, has no purchase.
    #[error("nothing was bought from the balance in the last 400 days; a forecast needs {MIN_PURCHASES} purchases")]
    NoPurchases,
    /// Nothing can be told from so few.
    #[error("purchases in the last year: {count}; a forecast needs {MIN_PURCHASES}")]
    TooFewPurchases {
        /// Purchases in the weeks that are looked at.
        count: u32,
    },
}

/// What will be spent in a number of days, as a range of sums in the account's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpendRange {
    /// The low end of the range.
    pub low: Decimal,
    /// As likely more as less.
    pub middle: Decimal,
    /// The high end of the range.
    pub high: Decimal,
}

/// Six hundred futures of a fund, each a year long, none with a deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulation {
    now: Time,
    available: Decimal,
    /// With less than a usual purchase left, funds have run out.
    is_depleted: bool,
    /// Future after future: what it has spent by the end of each day.
    spent: Vec<Minor>,
}

impl Simulation {
    /// Draws the futures of a fund with this much available, from what is known at `now`. Without orders, renewals
    /// come as any purchase does.
    pub fn new(
        ledger: &Ledger,
        orders: Option<&[Order]>,
        spending: &Spending,
        available: Decimal,
        now: Time,
    ) -> Result<Self, ForecastUnavailable> {
        Self::from_purchases(&Purchases::read(ledger, orders, spending, now), available)
    }

    /// The same from purchases that are known for what they are.
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

    /// How long the funds last: the middle, and the range that holds so many futures of a hundred. They are over once
    /// they are less than a usual purchase, whatever could still be bought with them.
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

    /// How long the funds last at least, as far as this confidence goes: the early end of [`Simulation::runway`]'s range.
    /// `None`: longer than the forecast looks.
    pub fn runway_early(&self, confidence: Confidence) -> Option<Duration> {
        let (early, _, _) = self.runway_days(confidence);
        let early = if self.is_depleted { Some(0) } else { early };
        early.map(|days| Duration::from_secs(u64::from(days) * 24 * 3600))
    }

    /// What is left on each day from `now` on, the last `days` days from now; nothing where the funds are over, since
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

    /// What will be spent in the next `days` days (a year at most): the middle, and the range.
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

    /// What will be spent in the next `days` days at most, as far as this confidence goes: the high end of its range.
    pub fn max_spend(&self, days: u32, confidence: Confidence) -> Decimal {
        self.spend_range(days, confidence).high
    }

    /// What to deposit now so that funds end the next `days` days no lower than the threshold, cautiously.
    pub fn deposit(&self, threshold: Decimal, days: u32, confidence: Confidence) -> Option<Decimal> {
        deposit(threshold, self.available, self.max_spend(days, confidence))
    }

    /// Early end, middle and late end in days; `None` beyond the horizon.
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

/// What brings `available` back to the threshold and pays for what will be spent, rounded up to a whole unit; `None`
/// where nothing is missing.
pub fn deposit(threshold: Decimal, available: Decimal, spend: Decimal) -> Option<Decimal> {
    let missing = (threshold + spend - available).ceil();
    (missing > Decimal::ZERO).then_some(missing)
}

/// Of a value for each future: the low end of the central range, the middle, and the high end.
fn central_range<T: Ord + Copy>(mut values: Vec<T>, confidence: Confidence) -> (T, T, T) {
    values.sort_unstable();
    let low = FUTURES * usize::from(100 - confidence.percent()) / 200;
    (values[low], values[FUTURES / 2], values[FUTURES - 1 - low])
}
