//! Figures of the last readings, as `status`, metrics and reports show them.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::alerting::readings::DivisionReading;
use crate::domain::balance::{Balance, MetricValue, Reading};
use crate::domain::money::Money;
use crate::domain::report::{FundFigures, LatestFigures};
use crate::domain::rule::Metric;
use crate::domain::{Division, Name, Time};

/// Figures of one division at its last reading, for `status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastReading {
    /// Name of the account.
    pub account: Name,
    /// The division; `None` is the account itself.
    pub division: Division,
    /// Name of the division, if a listing gave one.
    pub division_name: Option<String>,
    /// Time of the reading.
    pub at: Time,
    /// Each metric for people: an amount, `unlimited`, or `unreadable: …`.
    pub metrics: BTreeMap<String, String>,
    /// Each metric for machines; `None` if the metric has no amount.
    #[serde(default)]
    pub amounts: BTreeMap<String, Option<Money>>,
    /// Time of the last successful reading.
    #[serde(default)]
    pub last_good: Option<Time>,
}

impl LastReading {
    /// Returns true if the balance was read, even if some metrics could not be computed.
    pub fn is_readable(&self) -> bool {
        self.last_good == Some(self.at)
    }
}

/// Last reading of one division. Its figures are computed on request.
#[derive(Debug, Clone)]
pub struct TimedReading {
    /// Balance and forecast as read.
    pub reading: DivisionReading,
    /// Time of the reading.
    pub at: Time,
    /// Time of the last successful reading.
    pub last_good: Option<Time>,
}

impl TimedReading {
    /// Returns a reading that was made at `at`.
    pub(super) fn new(reading: DivisionReading, at: Time) -> Self {
        let last_good = reading.balance.is_ok().then_some(at);
        Self { reading, at, last_good }
    }

    /// Computes the figures of the reading.
    pub fn figures(&self, account: &Name) -> LastReading {
        let metric_text = |metric: Metric| match &self.reading.balance {
            Err(why) => format!("unreadable: {}", why.reason),
            Ok(balance) => match balance.reading(metric) {
                Reading::Amount(money) => money.to_string(),
                Reading::Time(lasts) => crate::domain::seconds::format_compact(lasts),
                Reading::Unlimited => "unlimited".to_owned(),
                Reading::NotYetKnown(why) | Reading::NotYetRead(why) => format!("not yet known: {why}"),
                Reading::Unreadable(why) => format!("unreadable: {}", why.reason),
            },
        };
        let amount = |metric: Metric| match self.reading.balance.as_ref().ok()?.reading(metric) {
            Reading::Amount(money) => Some(money),
            _ => None,
        };
        let all = Metric::FROM_BALANCE;
        LastReading {
            account: account.clone(),
            division: self.reading.division,
            division_name: self.reading.name.clone(),
            at: self.at,
            metrics: all.into_iter().map(|metric| (metric.name().to_owned(), metric_text(metric))).collect(),
            amounts: all.into_iter().map(|metric| (metric.name().to_owned(), amount(metric))).collect(),
            last_good: self.last_good,
        }
    }
}

/// Returns the figures that a report shows of readings made at `at`.
pub fn report_figures(account: &Name, readings: &[DivisionReading], at: Time) -> Vec<LatestFigures> {
    let figures = |reading: &DivisionReading| {
        let unread = FundFigures::never_read(account.clone(), reading.division, reading.name.clone());
        match funds_and_invoices(reading) {
            Err(why) => LatestFigures { figures: unread, failure: Some(why) },
            Ok((funds, unpaid)) => LatestFigures {
                figures: FundFigures { at: Some(at), funds: Some(funds), unpaid, ..unread },
                failure: None,
            },
        }
    };
    readings.iter().map(figures).collect()
}

/// Returns available funds and unpaid invoices, or the reason why the funds are not known.
fn funds_and_invoices(reading: &DivisionReading) -> Result<(MetricValue, Option<Money>), String> {
    let balance = reading.balance.as_ref().map_err(|why| why.reason.clone())?;
    let funds = match balance.reading(Metric::AvailableFunds) {
        Reading::Amount(money) => MetricValue::Amount(money),
        Reading::Time(lasts) => MetricValue::Time(lasts),
        Reading::Unlimited => MetricValue::Unlimited,
        Reading::NotYetKnown(why) | Reading::NotYetRead(why) => return Err(why),
        Reading::Unreadable(why) => return Err(why.reason),
    };
    let unpaid = match balance.reading(Metric::UnpaidInvoices) {
        Reading::Amount(money) => Some(money),
        _ => None,
    };
    Ok((funds, unpaid))
}

/// Note about divisions that share one fund.
pub const SHARED_FUND_NOTE: &str = "divisions report exactly the same figures, so they seem to share one fund";

/// Returns the largest group of divisions that report exactly the same figures. `None` if no two divisions do.
pub fn shared_fund(readings: &[DivisionReading]) -> Option<Vec<u64>> {
    let readable = || readings.iter().filter_map(|reading| Some((reading.balance.as_ref().ok()?, reading.division?)));
    let mut counts: HashMap<&Balance, usize> = HashMap::with_capacity(readings.len());
    for (balance, _) in readable() {
        *counts.entry(balance).or_default() += 1;
    }
    let most = counts.values().copied().max().filter(|most| *most > 1)?;
    let (shared, _) = readable().find(|(balance, _)| counts.get(balance) == Some(&most))?;
    Some(readable().filter(|(balance, _)| *balance == shared).map(|(_, id)| id).collect())
}
