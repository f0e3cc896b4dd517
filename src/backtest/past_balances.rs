//! Balance of a fund at any moment of its past: the present balance without the changes of all later ledger entries.

use rust_decimal::Decimal;

use super::BacktestFund;
use crate::domain::Time;
use crate::domain::balance::{Balance, Reading};
use crate::domain::ledger::{Ledger, LedgerEntry};
use crate::domain::rule::Metric;

/// Past balances of one fund.
#[derive(Debug, Clone)]
pub struct PastBalances {
    current: Balance,
    /// Times of the ledger entries, oldest first.
    times: Vec<Time>,
    /// Sum of the changes from the entry with this index on. One element more than there are entries.
    later_changes: Vec<Decimal>,
}

impl PastBalances {
    /// Computes the past of a fund from its present balance, which includes every entry of the ledger.
    pub fn new(balance: &Balance, ledger: &Ledger) -> Self {
        let mut later_changes = vec![Decimal::ZERO; ledger.entries().len() + 1];
        for (index, entry) in ledger.entries().iter().enumerate().rev() {
            later_changes[index] = later_changes[index + 1] + entry.change;
        }
        Self { current: balance.clone(), times: ledger.entries().iter().map(|entry| entry.at).collect(), later_changes }
    }

    /// Computes the past of a fund. Without a ledger, the balance is constant.
    pub(super) fn of(fund: &BacktestFund) -> Self {
        let empty = Ledger::default();
        Self::new(&fund.balance, fund.history.ledger.as_deref().unwrap_or(&empty))
    }

    /// Returns the balance at that time. Credit limit, unpaid invoices and used credit are those of today.
    pub fn balance(&self, at: Time) -> Balance {
        let later = self.later_changes[self.times.partition_point(|time| *time <= at)];
        let mut then = self.current.clone();
        then.balance = then.balance.map(|balance| balance - later);
        then.reported_total = then.reported_total.map(|total| total.map(|total| total - later));
        then
    }

    /// Returns the available funds at that time; `None` if they are unlimited or unreadable.
    pub fn available(&self, at: Time) -> Option<Decimal> {
        match self.balance(at).reading(Metric::AvailableFunds) {
            Reading::Amount(money) => Some(money.amount),
            _ => None,
        }
    }

    /// Returns the available funds at `from` and after each change until `to`. Empty if they are unlimited or unreadable.
    pub fn path(&self, from: Time, to: Time) -> Vec<(Time, Decimal)> {
        let Some(now) = self.available(Time::MAX_UTC) else { return Vec::new() };
        let first = self.times.partition_point(|time| *time <= from);
        let last = self.times.partition_point(|time| *time <= to);
        let mut path = vec![(from, now - self.later_changes[first])];
        for index in first..last {
            let funds = now - self.later_changes[index + 1];
            match path.last_mut() {
                Some((at, left)) if *at == self.times[index] => *left = funds,
                _ => path.push((self.times[index], funds)),
            }
        }
        path
    }

    /// Returns the times of the ledger entries after `from` and until `to`.
    pub(super) fn changes(&self, from: Time, to: Time) -> &[Time] {
        let first = self.times.partition_point(|time| *time <= from);
        let last = self.times.partition_point(|time| *time <= to).max(first);
        &self.times[first..last]
    }
}

/// Returns the difference between the present balance and the balance after the last ledger entry, by which past balances may
/// be wrong. `None` if they agree or the entry has no balance.
pub fn unexplained_difference(balance: &Balance, last: &LedgerEntry) -> Option<Decimal> {
    let difference = balance.balance.clone().ok()? - last.balance_after?;
    (!difference.is_zero()).then_some(difference)
}
