//! Forecast of a fund as messages show it: how long the funds last, which renewals are due, and how much to deposit.
//!
//! Results of [`crate::forecast`] that are small enough to be saved with an event. Only the [`FundChart`] stays in memory.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::Time;
use super::money::{Currency, Money};
use super::rule::Severity;

/// Forecast in a message about low funds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastSummary {
    /// Runway of the fund.
    pub runway: Runway,
    /// Price of a typical order (the median of the last year's purchases), if the funds do not cover it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typical_order: Option<Money>,
    /// Deposit that brings the funds back above the threshold and pays for the next 30 days, rounded up to a whole unit; `None`
    /// if no deposit is needed or too little is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposit: Option<Money>,
    /// Renewals for which the deposit includes the full price, although usually only a part is paid from the balance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_in_full: Option<RenewalsDue>,
    /// Orders that end in the next 30 days and are not renewed yet; `None` if they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewals: Option<RenewalsDue>,
    /// Available funds of the last four weeks, one value for each day, oldest first, from 0 (nothing left) to 8 (the highest
    /// value of these weeks). Empty if the ledger is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparkline: Vec<u8>,
}

/// Runway of a fund: how long the funds last at the recent rate of spending, including known renewals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runway {
    /// The funds run out within the forecast's year in some simulated futures. A date that is `None` lies beyond that year.
    Until {
        /// Median of the simulated dates.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about: Option<Time>,
        /// Early end of the range.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        early: Option<Time>,
        /// Late end of the range.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        late: Option<Time>,
        /// Percentage of the simulated futures that lie in the range.
        percent: u8,
    },
    /// Nothing is left, or less than a typical order.
    Exhausted,
    /// The funds last longer than the forecast's year, or without end.
    BeyondHorizon,
    /// No forecast yet, and the reason.
    NotYetKnown(String),
}

/// Orders that have to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalsDue {
    /// Number of these orders.
    pub count: u32,
    /// Sum of their prices.
    pub amount: Money,
    /// Part of the sum that is usually paid from the balance, in the same currency; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_balance: Option<Decimal>,
}

impl RenewalsDue {
    /// Returns the part that is usually paid from the balance, if it is less than the sum by more than 5 %.
    pub fn part_from_balance(&self) -> Option<Decimal> {
        let nearly_all = self.amount.amount.checked_mul(Decimal::new(95, 2))?;
        self.from_balance.filter(|part| *part < nearly_all)
    }
}

/// Data of a fund's chart: its past, its thresholds, renewals due, and the range of its future.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FundChart {
    /// Currency of every amount.
    pub currency: Currency,
    /// Time of the reading that it was drawn for. The past ends and the future begins here.
    pub now: Time,
    /// Available funds at past times, oldest first. The last value is the reading.
    pub past: Vec<(Time, Decimal)>,
    /// Thresholds of the rule, by level.
    pub thresholds: Vec<(Severity, Decimal)>,
    /// Sum of the prices of orders that end on a day and are not renewed yet, in order of days.
    pub renewals: Vec<(Time, Decimal)>,
    /// Runway, the same as in the message.
    pub runway: Runway,
    /// Range of the funds for each coming day; empty if there is no forecast yet or the funds are exhausted.
    pub future: Vec<ForecastBand>,
    /// Percentage of the simulated futures that lie in the range.
    pub percent: u8,
}

/// Range of the funds on a coming day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForecastBand {
    /// Time on that day.
    pub at: Time,
    /// Low end of the range.
    pub low: Decimal,
    /// Median of the simulated futures.
    pub middle: Decimal,
    /// High end of the range.
    pub high: Decimal,
}
