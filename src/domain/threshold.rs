//! Thresholds: an amount or a duration, and the side on which a level fires.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::metric::MetricUnit;
use super::money::{Currency, Money, figure};

/// Side of the threshold on which a level fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdSide {
    /// Fires strictly below the threshold.
    Below,
    /// Fires strictly above the threshold.
    Above,
}

impl fmt::Display for ThresholdSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ThresholdSide::Below => "below",
            ThresholdSide::Above => "above",
        })
    }
}

/// Amount of a threshold, with or without a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThresholdAmount {
    /// Exact amount, as configured.
    pub value: Decimal,
    /// `None` for the account's own currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
}

impl fmt::Display for ThresholdAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.currency {
            Some(currency) => Money::new(self.value, currency).fmt(f),
            None => f.write_str(&figure(self.value, 0)),
        }
    }
}

/// Value at which a level fires or clears, in the unit of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ThresholdValue {
    /// A duration, for a runway.
    Time {
        /// Length of the duration.
        #[serde(with = "super::seconds")]
        lasts: Duration,
    },
    /// An amount of money.
    Money(ThresholdAmount),
}

impl ThresholdValue {
    /// Returns the currency, if the configuration names one.
    pub fn currency(self) -> Option<Currency> {
        match self {
            ThresholdValue::Money(amount) => amount.currency,
            ThresholdValue::Time { .. } => None,
        }
    }

    /// Returns the amount; `None` for a duration.
    pub fn amount(self) -> Option<ThresholdAmount> {
        match self {
            ThresholdValue::Money(amount) => Some(amount),
            ThresholdValue::Time { .. } => None,
        }
    }

    /// Returns the value with this currency, if it is an amount without one.
    #[must_use]
    pub fn with_default_currency(self, currency: Option<Currency>) -> Self {
        match self {
            ThresholdValue::Money(ThresholdAmount { value, currency: own }) => {
                ThresholdValue::Money(ThresholdAmount { value, currency: own.or(currency) })
            }
            ThresholdValue::Time { .. } => self,
        }
    }

    /// Returns the unit of the value.
    pub fn unit(self) -> MetricUnit {
        match self {
            ThresholdValue::Money(_) => MetricUnit::Money,
            ThresholdValue::Time { .. } => MetricUnit::Time,
        }
    }

    /// Compares the numbers; `None` if the units differ. Currencies are not compared.
    pub(crate) fn compare(self, other: ThresholdValue) -> Option<Ordering> {
        match (self, other) {
            (ThresholdValue::Money(one), ThresholdValue::Money(other)) => Some(one.value.cmp(&other.value)),
            (ThresholdValue::Time { lasts: one }, ThresholdValue::Time { lasts: other }) => Some(one.cmp(&other)),
            (ThresholdValue::Money(_), ThresholdValue::Time { .. })
            | (ThresholdValue::Time { .. }, ThresholdValue::Money(_)) => None,
        }
    }
}

impl From<ThresholdAmount> for ThresholdValue {
    fn from(amount: ThresholdAmount) -> Self {
        ThresholdValue::Money(amount)
    }
}

impl From<Duration> for ThresholdValue {
    fn from(lasts: Duration) -> Self {
        ThresholdValue::Time { lasts }
    }
}

impl fmt::Display for ThresholdValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ThresholdValue::Money(amount) => amount.fmt(f),
            ThresholdValue::Time { lasts } => f.write_str(&super::seconds::format_compact(*lasts)),
        }
    }
}
