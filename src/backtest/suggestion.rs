//! Thresholds from the account's own history, and what any threshold's warning would have been worth.

use chrono::TimeDelta;
use rust_decimal::Decimal;

use crate::domain::Time;
use crate::domain::ledger::Ledger;
use crate::forecast::{MIN_HISTORY_DAYS, MIN_PURCHASES, Spending, is_depleted, typical_order};

/// The notice that a warning is to give: a purchase order takes a week, and somebody is on holiday in the other.
pub const WARNING_NOTICE_DAYS: i64 = 14;
/// The notice that critical is to give: three working days, with a weekend between them.
pub const CRITICAL_NOTICE_DAYS: i64 = 5;
/// The proposal would have sufficed in so many windows of a hundred.
pub const COVERED_WINDOWS_PERCENT: usize = 95;

/// What is proposed for `available_funds`, and from what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThresholdProposal {
    /// Below this is a warning.
    pub warning: Decimal,
    /// Below this is critical.
    pub critical: Decimal,
    /// Not more than this was spent in 95 of 100 windows of 14 days.
    pub spent_in_14_days: Decimal,
    /// The same of 5 days.
    pub spent_in_5_days: Decimal,
    /// A usual purchase, of which two are added: the one that crosses the threshold is paid already when the alert comes, and
    /// with less than one left funds have run out.
    pub typical_order: Decimal,
    /// Whole days of history that it is made from.
    pub days: i64,
}

/// Why nothing is proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// The history is too short.
    #[error("the ledger reaches back {days} days; a proposal needs {MIN_HISTORY_DAYS}")]
    LedgerTooShort {
        /// Whole days since its first line.
        days: i64,
    },
    /// Next to nothing was bought.
    #[error("there were {count} purchases; a proposal needs {MIN_PURCHASES}")]
    TooFewPurchases {
        /// How many.
        count: usize,
    },
}

/// Proposes thresholds for available funds: what was spent in 95 of 100 windows of 14 (critical: 5) days, and two usual purchases
/// on top, rounded up to two digits.
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

/// What was spent in 95 of 100 windows of so many days at most; a window ends on each day of the history.
fn high_spend(spent: &[(Time, Decimal)], first: Time, now: Time, days: i64) -> Decimal {
    let until = |at: Time| {
        let place = spent.partition_point(|(line, _)| *line <= at);
        place.checked_sub(1).and_then(|place| spent.get(place)).map_or(Decimal::ZERO, |(_, sum)| *sum)
    };
    let length = TimeDelta::days(days);
    let mut windows: Vec<Decimal> = (0..=(now - first).num_days())
        .map(|ago| now - TimeDelta::days(ago))
        .take_while(|end| *end - length >= first)
        .map(|end| until(end) - until(end - length))
        .collect();
    windows.sort_unstable();
    let place = (windows.len() * COVERED_WINDOWS_PERCENT).div_ceil(100).saturating_sub(1);
    windows.get(place).copied().unwrap_or_default()
}

/// Rounded up to two digits, and to a whole unit: 3,412 is 3,500.
fn round_up(amount: Decimal) -> Decimal {
    let mut unit = Decimal::ONE;
    while unit * Decimal::ONE_HUNDRED <= amount.ceil() {
        unit *= Decimal::TEN;
    }
    (amount / unit).ceil() * unit
}

/// A moment at which funds fell below a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThresholdCrossing {
    /// When.
    pub at: Time,
    /// What was left.
    pub funds: Decimal,
    /// How long that would have lasted, had nothing been deposited.
    pub notice: NoticePeriod,
}

/// How long what was left would have lasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticePeriod {
    /// So long.
    Lasted(TimeDelta),
    /// At least so long: until the present.
    AtLeast(TimeDelta),
}

impl NoticePeriod {
    /// Whether it was as long as this; `None` where the present is too near to tell.
    pub fn is_at_least(self, required: TimeDelta) -> Option<bool> {
        match self {
            NoticePeriod::Lasted(lasted) => Some(lasted >= required),
            NoticePeriod::AtLeast(lasted) => (lasted >= required).then_some(true),
        }
    }
}

/// Each time that funds fell below the threshold along this path, with what the warning was worth: how long what was left would
/// have paid for what was in fact debited afterwards, without any deposit.
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
