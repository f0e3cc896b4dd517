//! What a fund held at any moment of its past: what it holds now, with each later line of its ledger taken back.

use rust_decimal::Decimal;

use super::BacktestFund;
use crate::domain::Time;
use crate::domain::balance::{Balance, Reading};
use crate::domain::ledger::{Ledger, LedgerEntry};
use crate::domain::rule::Metric;

/// The past of one fund.
#[derive(Debug, Clone)]
pub struct PastBalances {
    current: Balance,
    /// The moments of the lines, oldest first.
    times: Vec<Time>,
    /// At each place, what the lines from there on changed together; one more than there are lines.
    later_changes: Vec<Decimal>,
}

impl PastBalances {
    /// The past of a fund whose balance was just read: every line of the ledger is part of it.
    pub fn new(balance: &Balance, ledger: &Ledger) -> Self {
        let mut later_changes = vec![Decimal::ZERO; ledger.entries().len() + 1];
        for (place, entry) in ledger.entries().iter().enumerate().rev() {
            later_changes[place] = later_changes[place + 1] + entry.change;
        }
        Self {
            current: balance.clone(),
            times: ledger.entries().iter().map(|it| it.at).collect(),
            later_changes: later_changes,
        }
    }

    /// The past of a fund whose ledger may be missing: then it was always as it is.
    pub(super) fn of(fund: &BacktestFund) -> Self {
        let none = Ledger::default();
        Self::new(&fund.balance, fund.history.ledger.as_deref().unwrap_or(&none))
    }

    /// What it held then. Credit limit, unpaid invoices and used credit are those of today.
    pub fn balance(&self, at: Time) -> Balance {
        let later = self.later_changes[self.times.partition_point(|time| *time <= at)];
        let mut then = self.current.clone();
        then.balance = then.balance.map(|balance| balance - later);
        then.reported_total = then.reported_total.map(|total| total.map(|total| total - later));
        then
    }

    /// Available funds then; `None` where they are unlimited or cannot be read.
    pub fn available(&self, at: Time) -> Option<Decimal> {
        match self.balance(at).reading(Metric::AvailableFunds) {
            Reading::Amount(money) => Some(money.amount),
            _ => None,
        }
    }

    /// Available funds from one moment to another: at the first, and after each change up to the last.
    pub fn path(&self, from: Time, to: Time) -> Vec<(Time, Decimal)> {
        let Some(now) = self.available(Time::MAX_UTC) else { return Vec::new() };
        let first = self.times.partition_point(|time| *time <= from);
        let last = self.times.partition_point(|time| *time <= to);
        let mut path = vec![(from, now - self.later_changes[first])];
        for place in first..last {
            let funds = now - self.later_changes[place + 1];
            match path.last_mut() {
                Some((at, left)) if *at == self.times[place] => *left = funds,
                _ => path.push((self.times[place], funds)),
            }
        }
        path
    }

    /// When the ledger changed it, from just after one moment to another.
    pub(super) fn changes(&self, from: Time, to: Time) -> &[Time] {
        let first = self.times.partition_point(|time| *time <= from);
        let last = self.times.partition_point(|time| *time <= to).max(first);
        &self.times[first..last]
    }
}

/// How far the ledger's last line is from the balance, where it says what it left: what the rehearsal may be off by.
pub fn unexplained_difference(balance: &Balance, last: &LedgerEntry) -> Option<Decimal> {
    let difference = balance.balance.clone().ok()? - last.balance_after?;
    (!difference.is_zero()).then_some(difference)
}
