//! Proposes thresholds from the ledger, and computes how much notice a threshold would have given.

use chrono::TimeDelta;
use rust_decimal::Decimal;

use crate::domain::Time;
use crate::domain::ledger::Ledger;
use crate::forecast::{MIN_HISTORY_DAYS, MIN_PURCHASES, Spending, is_depleted, typical_order};

/// Notice that a warning should give, in days: a week for a purchase order, and another in case somebody is on holiday.
pub const WARNING_NOTICE_DAYS: i64 = 14;
/// Notice that critical should give, in days: three working days with a weekend between them.
pub const CRITICAL_NOTICE_DAYS: i64 = 5;
/// Percentage of past windows in which the proposed threshold covers the spend.
pub const COVERED_WINDOWS_PERCENT: usize = 95;

/// Proposed thresholds for `available_funds`, and their basis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThresholdProposal {
    /// Proposed threshold of warning.
    pub warning: Decimal,
    /// Proposed threshold of critical.
    pub critical: Decimal,
    /// Spend that 95 % of all windows of 14 days did not exceed.
    pub spent_in_14_days: Decimal,
    /// Spend that 95 % of all windows of 5 days did not exceed.
    pub spent_in_5_days: Decimal,
    /// Price of a typical order. Two are added: the order that crosses the threshold is already paid when the alert fires, and
    /// with less than one left the funds are depleted.
    pub typical_order: Decimal,
    /// Length of the history, in whole days.
    pub days: i64,
}

/// Reason why no thresholds are proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// The ledger does not reach back far enough.
    #[error("the ledger reaches back {days} days; a proposal needs {MIN_HISTORY_DAYS}")]
    LedgerTooShort {
        /// Whole days since the first entry.
        days: i64,
    },
    /// There were too few purchases.
    #[error("there were {count} purchases; a proposal needs {MIN_PURCHASES}")]
    TooFewPurchases {
        /// Number of purchases in the ledger.
        count: usize,
    },
}

/// Proposes thresholds for available funds: the spend that 95 % of all windows of 14 (critical: 5) days did not exceed, plus two
/// typical orders, rounded up to two digits.
pub fn propose_thresholds(ledger: &Ledger, spending: &Spending, now: Time) -> Result<ThresholdProposal, ProposalError> {
    let first = ledger.entries().first().map_or(now, |entry| entry.at);
    let days = (now - first).num_days();
    if days < i64::from(MIN_HISTORY_DAYS) {
        return Err(ProposalError::LedgerTooShort { days });
    }
    let mut spent = vec![(Time::MIN_UTC, Decimal::ZERO)];
    for (at, amount) in ledger.entries().iter().filter_map(|entry| Some((entry.at, spending.spent(entry)?))) {
        let sum = spent.last().map_or(Decimal::ZERO, |(_, sum)| *sum);
        spent.push((at, sum + amount));
    }
    let count = spent.len() - 1;
    if count < usize::try_from(MIN_PURCHASES).unwrap_or(usize::MAX) {
        return Err(ProposalError::TooFewPurchases { count });
    }
    let typical_order = typical_order(ledger, spending, now);
    let (spent_in_14_days, spent_in_5_days) =
        (high_spend(&spent, first, now, WARNING_NOTICE_DAYS), high_spend(&spent, first, now, CRITICAL_NOTICE_DAYS));
    let margin = typical_order + typical_order;
    let critical = round_up(spent_in_5_days + margin);
    let warning = round_up(spent_in_14_days + margin).max(critical);
    Ok(ThresholdProposal { warning, critical, spent_in_14_days, spent_in_5_days, typical_order, days })
}

/// Returns the spend that 95 % of all windows of this length did not exceed. One window ends on each day of the history.
fn high_spend(spent: &[(Time, Decimal)], first: Time, now: Time, days: i64) -> Decimal {
    let until = |at: Time| {
        let later = spent.partition_point(|(entry_at, _)| *entry_at <= at);
        later.checked_sub(1).and_then(|last| spent.get(last)).map_or(Decimal::ZERO, |(_, sum)| *sum)
    };
    let length = TimeDelta::days(days);
    let mut windows: Vec<Decimal> = (0..=(now - first).num_days())
        .map(|ago| now - TimeDelta::days(ago))
        .take_while(|end| *end - length >= first)
        .map(|end| until(end) - until(end - length))
        .collect();
    windows.sort_unstable();
    let index = (windows.len() * COVERED_WINDOWS_PERCENT).div_ceil(100).saturating_sub(1);
    windows.get(index).copied().unwrap_or_default()
}

/// Rounds up to two digits and a whole unit: 3,412 becomes 3,500.
fn round_up(amount: Decimal) -> Decimal {
    let mut unit = Decimal::ONE;
    while unit * Decimal::ONE_HUNDRED <= amount.ceil() {
        unit *= Decimal::TEN;
    }
    (amount / unit).ceil() * unit
}

/// A time at which funds fell below a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThresholdCrossing {
    /// Time of the ledger entry.
    pub at: Time,
    /// Funds after this entry.
    pub funds: Decimal,
    /// Time until these funds would have been depleted without a deposit.
    pub notice: NoticePeriod,
}

/// Time for which the funds left at a crossing would have lasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticePeriod {
    /// The funds lasted exactly this long.
    Lasted(TimeDelta),
    /// At least until the present.
    AtLeast(TimeDelta),
}

impl NoticePeriod {
    /// Returns true if the notice was at least this long. `None` if too little time has passed since then.
    pub fn is_at_least(self, required: TimeDelta) -> Option<bool> {
        match self {
            NoticePeriod::Lasted(lasted) => Some(lasted >= required),
            NoticePeriod::AtLeast(lasted) => (lasted >= required).then_some(true),
        }
    }
}

/// Returns each time at which funds fell below the threshold along this path. The notice is how long the funds left would have
/// paid for the later debits, without any deposit.
pub fn crossings(
    path: &[(Time, Decimal)],
    ledger: &Ledger,
    threshold: Decimal,
    typical: Decimal,
    now: Time,
) -> Vec<ThresholdCrossing> {
    let falls = path.windows(2).filter(|pair| pair[0].1 >= threshold && pair[1].1 < threshold);
    falls
        .map(|pair| ThresholdCrossing {
            at: pair[1].0,
            funds: pair[1].1,
            notice: notice_period(ledger, pair[1], typical, now),
        })
        .collect()
}

fn notice_period(ledger: &Ledger, (at, mut funds): (Time, Decimal), typical: Decimal, now: Time) -> NoticePeriod {
    if is_depleted(funds, typical) {
        return NoticePeriod::Lasted(TimeDelta::zero());
    }
    let later = &ledger.entries()[ledger.entries().partition_point(|entry| entry.at <= at)..];
    for entry in later.iter().filter(|entry| entry.change < Decimal::ZERO) {
        funds += entry.change;
        if is_depleted(funds, typical) {
            return NoticePeriod::Lasted(entry.at - at);
        }
    }
    NoticePeriod::AtLeast(now - at)
}
