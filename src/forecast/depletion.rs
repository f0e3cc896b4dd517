//! Periods in which a fund held too little to buy anything. A purchase that was impossible then does not mean that
//! the account buys less.

use chrono::Duration;
use rust_decimal::Decimal;

use super::refunds::{RefundMatch, net_purchases};
use super::spending::{Spending, entries_until};
use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};

/// Returns the typical order: the median of the ledger's purchases in the year up to `now`, without refunded ones; 0
/// if there are none.
pub fn typical_order(ledger: &Ledger, spending: &Spending, now: Time) -> Decimal {
    typical_cost(net_purchases(entries_until(ledger, now), spending, RefundMatch::Newest), now)
}

/// Returns the median cost of the purchases in the year up to `now`; 0 if there are none.
pub(super) fn typical_cost<'a>(purchases: impl IntoIterator<Item = (&'a LedgerEntry, Decimal)>, now: Time) -> Decimal {
    let year = purchases.into_iter().filter(|(entry, cost)| entry.at > now - Duration::days(365) && !cost.is_zero());
    let mut prices: Vec<Decimal> = year.map(|(_, cost)| cost).collect();
    let middle = prices.len() / 2;
    if middle == prices.len() { Decimal::ZERO } else { *prices.select_nth_unstable(middle).1 }
}

/// Reports whether funds are exhausted: not above 0, or less than a typical order. An order that cannot be paid
/// leaves no line in the ledger.
pub fn is_depleted(funds: Decimal, typical: Decimal) -> bool {
    funds <= Decimal::ZERO || funds < typical
}

/// Returns the highest funds on each of the last `days` days, newest day first.
///
/// `known` are the ledger lines up to `now`. Past funds are today's funds minus every later line.
pub(super) fn daily_highs(known: &[LedgerEntry], available: Decimal, now: Time, days: usize) -> Vec<Decimal> {
    let (mut left, mut funds, mut begin) = (known, available, now);
    let day = |_| {
        begin -= Duration::days(1);
        let mut most = funds;
        while let Some((entry, before)) = left.split_last().filter(|(entry, _)| entry.at > begin) {
            funds = funds.saturating_sub(entry.change);
            most = most.max(funds);
            left = before;
        }
        most
    };
    (0..days).map(day).collect()
}

/// Returns for each week, oldest first, whether funds were exhausted for at least one whole day.
pub(super) fn depleted_weeks(daily_highs: &[Decimal], typical: Decimal) -> Vec<bool> {
    daily_highs.chunks(7).rev().map(|week| week.iter().any(|most| is_depleted(*most, typical))).collect()
}
