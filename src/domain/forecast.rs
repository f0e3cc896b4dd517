//! What lies ahead of a fund, as messages tell it: how long it lasts, what has to be paid, and what to deposit.
//!
//! Results of [`crate::forecast`], small enough to be saved with an event; only the [`FundChart`] stays in memory.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::Time;
use super::money::{Currency, Money};
use super::rule::Severity;

/// What a message about low funds says of the days to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastSummary {
    /// How long the funds last.
    pub runway: Runway,
    /// What a typical order costs (the usual purchase: the median of the last year's), where the funds do not cover it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typical_order: Option<Money>,
    /// What brings them back above the threshold and through the next 30 days, rounded up to a whole unit; `None` where
    /// nothing is missing, or not enough is known to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposit: Option<Money>,
    /// Renewals that the deposit pays for at their whole price, where it would be smaller if it paid for what is usually paid
    /// from the balance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_in_full: Option<RenewalsDue>,
    /// Orders that end in the next 30 days and are not renewed yet; `None` where they cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewals: Option<RenewalsDue>,
    /// Available funds of the last four weeks, one a day, oldest first: from 0 (none are left) to 8 (the most in these
    /// weeks). Empty where the ledger does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparkline: Vec<u8>,
}

/// How long funds last at the recent pace, known renewals included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runway {
    /// Some futures end within the forecast's year. A date that is `None` lies beyond it.
    Until {
        /// As likely before as after it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about: Option<Time>,
        /// The early end of the range.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        early: Option<Time>,
        /// The late end of the range.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        late: Option<Time>,
        /// How many futures of a hundred lie in the range.
        percent: u8,
    },
    /// Less than a usual purchase is left, or nothing.
    Exhausted,
    /// Longer than the forecast looks (a year), or without end.
    BeyondHorizon,
    /// There is no forecast yet, and why.
    NotYetKnown(String),
}

/// What has to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalsDue {
    /// How many orders.
    pub count: u32,
    /// Their price together.
    pub amount: Money,
    /// The part of it that is usually paid from the balance, in the same currency; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_balance: Option<Decimal>,
}

impl RenewalsDue {
    /// The part that is usually paid from the balance, where it is less than the whole by more than 5 %.
    pub fn part_from_balance(&self) -> Option<Decimal> {
        let nearly_all = self.amount.amount.checked_mul(Decimal::new(95, 2))?;
        self.from_balance.filter(|part| *part < nearly_all)
    }
}

/// The picture of a fund: its past, its thresholds, what is to be renewed, and the range of its future.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FundChart {
    /// Of every amount here.
    pub currency: Currency,
    /// The reading that it was drawn for; the past ends and the future begins here.
    pub now: Time,
    /// Available funds at these times, oldest first; the last is the reading.
    pub past: Vec<(Time, Decimal)>,
    /// Where the rule fires.
    pub thresholds: Vec<(Severity, Decimal)>,
    /// The price of the orders that end on a day and are not renewed yet, in order.
    pub renewals: Vec<(Time, Decimal)>,
    /// How long the funds last: the same as the message says.
    pub runway: Runway,
    /// Day by day from now on; empty where there is no forecast yet, and where the funds are over.
    pub future: Vec<ForecastBand>,
    /// How many futures of a hundred lie in the range.
    pub percent: u8,
}

/// Where funds are on a day to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForecastBand {
    /// The day.
    pub at: Time,
    /// The low end of the range.
    pub low: Decimal,
    /// As likely more as less.
    pub middle: Decimal,
    /// The high end of the range.
    pub high: Decimal,
}
