//! Deposits that are about to expire.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rust_decimal::Decimal;

use super::spending::{Spending, entries_until};
use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};

/// Days between a write-off and the expiry of its deposit, at most. The API states no time zone.
const MAX_WRITE_OFF_DAYS: i64 = 2;

struct DepositLot {
    left: Decimal,
    expires: Option<Time>,
}

/// Returns what is left at `now` of the deposits that expire after `now` and not after `now + within`.
///
/// Debits of any kind consume the oldest deposit first. A refund goes back to the oldest deposit. A write-off takes
/// from the deposit that expires at that time. Funds from before the first line count as the oldest deposit, which
/// never expires. Spend expected before the expiry is not deducted: the result is a fact, not a forecast.
pub fn expiring(ledger: &Ledger, spending: &Spending, now: Time, within: Duration) -> Decimal {
    let last = chrono::Duration::from_std(within).ok().and_then(|within| now.checked_add_signed(within));
    let due = |expires: Time| expires > now && last.is_none_or(|last| expires <= last);
    let lots = DepositLots::from_entries(entries_until(ledger, now), spending).lots;
    lots.iter().filter(|lot| lot.expires.is_some_and(due)).map(|lot| lot.left).sum()
}

/// Deposits that are not used up, oldest first, and the account's debt. One of the two is empty.
#[derive(Default)]
struct DepositLots {
    lots: VecDeque<DepositLot>,
    debt: Decimal,
}

impl DepositLots {
    fn from_entries(entries: &[LedgerEntry], spending: &Spending) -> Self {
        let mut lots = Self::default();
        let opening = entries.first().and_then(|first| Some(first.balance_after? - first.change)).unwrap_or_default();
        lots.apply(opening, None);
        let mut paid = BTreeSet::new();
        for entry in entries {
            let of_order = entry.change > Decimal::ZERO && entry.order.is_some_and(|order| paid.contains(&order));
            let refund = of_order || spending.is_refund(entry);
            match lots.find_written_off(entry) {
                Some(index) => lots.write_off(index, -entry.change),
                None if refund => lots.refund(entry.change),
                None => lots.apply(entry.change, entry.expires),
            }
            paid.extend(entry.order.filter(|_| entry.change < Decimal::ZERO));
        }
        lots
    }

    fn apply(&mut self, change: Decimal, expires: Option<Time>) {
        if change > Decimal::ZERO {
            let paid = change.min(self.debt);
            self.debt -= paid;
            if change > paid {
                self.lots.push_back(DepositLot { left: change - paid, expires });
            }
        } else {
            self.consume(-change);
        }
    }

    /// Adds a refund to the oldest deposit. A refund is not a deposit of its own.
    fn refund(&mut self, amount: Decimal) {
        match self.lots.front_mut() {
            Some(oldest) => oldest.left += amount,
            None => self.apply(amount, None),
        }
    }

    fn consume(&mut self, mut due: Decimal) {
        while due > Decimal::ZERO {
            let Some(oldest) = self.lots.front_mut() else {
                self.debt += due;
                return;
            };
            let consumed = due.min(oldest.left);
            oldest.left -= consumed;
            due -= consumed;
            if oldest.left.is_zero() {
                self.lots.pop_front();
            }
        }
    }

    /// Returns the index of the deposit that a line writes off, if the line is a write-off of a known deposit.
    fn find_written_off(&self, entry: &LedgerEntry) -> Option<usize> {
        let is_write_off = |kind: &str| kind.as_bytes().windows(5).any(|part| part.eq_ignore_ascii_case(b"expir"));
        if entry.change >= Decimal::ZERO || !is_write_off(&entry.kind) {
            return None;
        }
        let away = |lot: &DepositLot| lot.expires.map(|at| (at - entry.at).abs());
        let near = self.lots.iter().enumerate().filter_map(|(index, lot)| Some((away(lot)?, index)));
        let (distance, index) = near.min()?;
        (distance <= chrono::Duration::days(MAX_WRITE_OFF_DAYS)).then_some(index)
    }

    fn write_off(&mut self, index: usize, amount: Decimal) {
        let taken = self.lots.get(index).map_or(Decimal::ZERO, |lot| lot.left.min(amount));
        if let Some(lot) = self.lots.get_mut(index) {
            lot.left -= taken;
            if lot.left.is_zero() {
                self.lots.remove(index);
            }
        }
        self.consume(amount - taken);
    }
}
