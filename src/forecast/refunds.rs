//! Purchases minus their refunds, and the spend that is left.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rust_decimal::Decimal;

use super::spending::{Spending, entries_until};
use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};

/// Time by which a credit can come before the debit that it cancels.
const MAX_CREDIT_LEAD: chrono::TimeDelta = chrono::TimeDelta::days(1);

/// Choice among the purchases of its amount for a refund that names no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefundMatch {
    /// The newest purchase before the refund.
    Newest,
    /// The oldest purchase in the ledger.
    Oldest,
}

/// Returns the spend on purchases after `now - within`, up to and including `now`, minus refunds of those purchases.
///
/// Refunded purchases are searched in the whole ledger. A refund that names no order and fits several purchases
/// counts for the oldest, so that it hides no recent purchase.
pub fn spend(ledger: &Ledger, spending: &Spending, now: Time, within: Duration) -> Decimal {
    let purchases = net_purchases(entries_until(ledger, now), spending, RefundMatch::Oldest);
    let from = chrono::Duration::from_std(within).ok().and_then(|within| now.checked_sub_signed(within));
    let first = from.map_or(0, |from| purchases.partition_point(|(entry, _)| entry.at <= from));
    purchases[first..].iter().map(|(_, cost)| *cost).sum()
}

/// Returns the purchases among these lines with their cost, oldest first, minus refunds.
pub(super) fn net_purchases<'a>(
    lines: &'a [LedgerEntry],
    spending: &Spending,
    refund_match: RefundMatch,
) -> Vec<(&'a LedgerEntry, Decimal)> {
    let mut purchases: Vec<(&LedgerEntry, Decimal)> =
        lines.iter().filter_map(|line| Some((line, spending.spent(line)?))).collect();
    deduct_by_order(&mut purchases, lines);
    deduct_by_amount(&mut purchases, lines, spending, refund_match);
    purchases
}

/// Purchases that can still be refunded, by a key of the credit. They are found in one pass over the ledger.
struct RefundablePurchases<K> {
    /// Indexes of the purchases of each key, oldest first.
    indexes: BTreeMap<K, VecDeque<usize>>,
    /// Number of purchases passed so far.
    passed: usize,
}

impl<K: Ord> RefundablePurchases<K> {
    /// Starts before the first purchase. Purchases with other keys are ignored.
    fn new(keys: impl Iterator<Item = K>) -> Self {
        Self { indexes: keys.map(|key| (key, VecDeque::new())).collect(), passed: 0 }
    }

    /// Adds the purchases up to this time.
    fn advance(
        &mut self,
        purchases: &[(&LedgerEntry, Decimal)],
        until: Time,
        key: impl Fn(&(&LedgerEntry, Decimal)) -> Option<K>,
    ) {
        while let Some(purchase) = purchases.get(self.passed).filter(|(line, _)| line.at <= until) {
            if let Some(indexes) = key(purchase).and_then(|key| self.indexes.get_mut(&key)) {
                indexes.push_back(self.passed);
            }
            self.passed += 1;
        }
    }
}

/// Deducts credits that name an order from this order's debits up to a day later, newest first.
fn deduct_by_order(purchases: &mut [(&LedgerEntry, Decimal)], lines: &[LedgerEntry]) {
    let credits = || lines.iter().filter(|line| line.change > Decimal::ZERO);
    let mut refundable = RefundablePurchases::new(credits().filter_map(|line| line.order));
    for credit in credits() {
        let Some(order) = credit.order else { continue };
        let last = credit.at.checked_add_signed(MAX_CREDIT_LEAD).unwrap_or(Time::MAX_UTC);
        refundable.advance(purchases, last, |(line, _)| line.order);
        let Some(indexes) = refundable.indexes.get_mut(&order) else { continue };
        let mut left = credit.change;
        while let Some(index) = indexes.back().copied().filter(|_| !left.is_zero()) {
            let cost = &mut purchases[index].1;
            let taken = left.min(*cost);
            (*cost, left) = (*cost - taken, left - taken);
            if cost.is_zero() {
                indexes.pop_back();
            }
        }
    }
}

/// Deducts refunds that name no order from an earlier purchase of exactly the same amount. If there is none, the
/// refund belongs to something that is not in the ledger, and has no effect.
fn deduct_by_amount(
    purchases: &mut [(&LedgerEntry, Decimal)],
    lines: &[LedgerEntry],
    spending: &Spending,
    refund_match: RefundMatch,
) {
    let refunds = || lines.iter().filter(|line| line.order.is_none() && spending.is_refund(line));
    let mut refundable = RefundablePurchases::new(refunds().map(|refund| refund.change));
    for refund in refunds() {
        refundable.advance(purchases, refund.at, |(_, cost)| Some(*cost));
        let Some(indexes) = refundable.indexes.get_mut(&refund.change) else { continue };
        let index = match refund_match {
            RefundMatch::Newest => indexes.pop_back(),
            RefundMatch::Oldest => indexes.pop_front(),
        };
        if let Some(index) = index {
            purchases[index].1 = Decimal::ZERO;
        }
    }
}
