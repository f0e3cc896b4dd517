//! What of the deposits expires unused.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rust_decimal::Decimal;

use super::Spending;
use super::spending::entries_until;
use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};

/// A write-off belongs to a deposit that expires at most so far from it: the API names no zone.
const MAX_WRITE_OFF_DAYS: i64 = 2;

struct DepositLot {
    left: Decimal,
    expires: Option<Time>,
}

/// What is left at `now` of the deposits that expire after `now` and not after `now + within`.
///
/// Debits eat the oldest deposit first, whatever they are for; a refund goes back to the oldest; a write-off takes from the
/// deposit that expires at that time. What was there before the first line is the oldest deposit and never expires. What will be spent until
/// they expire is not deducted: the result is a fact of the books, not a guess.
pub fn expiring(ledger: &Ledger, spending: &Spending, now: Time, within: Duration) -> Decimal {
    let last = chrono::Duration::from_std(within).ok().and_then(|within| now.checked_add_signed(within));
    let due = |expires: Time| expires > now && last.is_none_or(|last| expires <= last);
    let lots = DepositLots::from_entries(entries_until(ledger, now), spending).lots;
    lots.iter().filter(|lot| lot.expires.is_some_and(due)).map(|lot| lot.left).sum()
}

/// What is left of each deposit, oldest first; or how much debt there is.
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
                Some(place) => lots.write_off(place, -entry.change),
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

    /// A refund is no deposit: it fills up the oldest one.
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

    /// The deposit that a line writes off, if it is such a line and the deposit is known.
    fn find_written_off(&self, entry: &LedgerEntry) -> Option<usize> {
        let is_write_off = |kind: &str| kind.as_bytes().windows(5).any(|part| part.eq_ignore_ascii_case(b"expir"));
        if entry.change >= Decimal::ZERO || !is_write_off(&entry.kind) {
            return None;
        }
        let away = |lot: &DepositLot| lot.expires.map(|at| (at - entry.at).abs());
        let near = self.lots.iter().enumerate().filter_map(|(place, lot)| Some((away(lot)?, place)));
        let (distance, place) = near.min()?;
        (distance <= chrono::Duration::days(MAX_WRITE_OFF_DAYS)).then_some(place)
    }

    fn write_off(&mut self, place: usize, amount: Decimal) {
        let taken = self.lots.get(place).map_or(Decimal::ZERO, |lot| lot.left.min(amount));
        if let Some(lot) = self.lots.get_mut(place) {
            lot.left -= taken;
            if lot.left.is_zero() {
                self.lots.remove(place);
            }
        }
        self.consume(amount - taken);
    }
}
