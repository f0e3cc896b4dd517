//! The readings of one cycle: everything that evaluating the rules takes as input.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::balance::{Balance, Reading, Unreadable};
use crate::domain::rule::Rule;
use crate::domain::{Division, Time};
use crate::forecast::FundForecast;

/// The two times of a cycle. They are minutes apart if a large account is read slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CycleTime {
    /// The scheduled time. Rules, reminders and silences are evaluated as of this time, so that reminders do not drift.
    pub planned: Time,
    /// The time at which the last division was read. Events carry this time.
    pub read_at: Time,
}

impl CycleTime {
    /// Returns the times of a cycle that was read by `now`. If the clock was set back during the cycle, `planned` counts as
    /// the end too, so that no event precedes its alert.
    pub fn new(planned: Time, now: Time) -> Self {
        Self { planned, read_at: now.max(planned) }
    }
}

/// Returns the times of a cycle that takes no time.
impl From<Time> for CycleTime {
    fn from(at: Time) -> Self {
        Self::new(at, at)
    }
}

/// One division as it was read.
#[derive(Debug, Clone)]
pub struct DivisionReading {
    /// The division; `None` is the account itself.
    pub division: Division,
    /// The name of the division, if a listing gave one.
    pub name: Option<String>,
    /// The balance, or the reason why it could not be read.
    pub balance: Result<Balance, Unreadable>,
    /// The forecast of the fund, if a rule or a message needs one.
    pub forecast: Option<Arc<FundForecast>>,
}

impl DivisionReading {
    /// Returns the value that a rule evaluates.
    pub fn reading(&self, rule: &Rule) -> Reading {
        match (&self.balance, &self.forecast) {
            (Err(why), _) => Reading::Unreadable(why.clone()),
            (Ok(_), Some(forecast)) if rule.metric.needs_history() => forecast.reading(rule),
            (Ok(balance), _) => balance.reading(rule.metric),
        }
    }
}

/// All readings of one account's cycle.
pub struct AccountReadings {
    /// The divisions that were read.
    pub divisions: Vec<DivisionReading>,
    /// The reason why the divisions could not be listed. `None` if they could, or if no listing was needed.
    pub listing_failure: Option<Unreadable>,
    /// Active divisions of a good listing, including excluded ones. `None` without a good listing.
    pub active: Option<BTreeSet<u64>>,
}
