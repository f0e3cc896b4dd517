//! When a fund held too little to buy with: what was not bought then says nothing of the pace.

use chrono::Duration;
use rust_decimal::Decimal;

use super::Spending;
use super::purchases::{RefundMatch, net_purchases};
use super::spending::entries_until;
use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};

/// What a purchase usually costs: the median of the ledger's purchases of the year up to `now`, without what was refunded;
/// 0 where it has none.
pub fn typical_order(ledger: &Ledger, spending: &Spending, now: Time) -> Decimal {
    typical_cost(net_purchases(entries_until(ledger, now), spending, RefundMatch::Newest), now)
}

/// The same of purchases and what they cost, oldest first.
pub(super) fn typical_cost<'a>(purchases: impl IntoIterator<Item = (&'a LedgerEntry, Decimal)>, now: Time) -> Decimal {
    let year = purchases.into_iter().filter(|(entry, cost)| entry.at > now - Duration::days(365) && !cost.is_zero());
    let mut prices: Vec<Decimal> = year.map(|(_, cost)| cost).collect();
    let middle = prices.len() / 2;
    if middle == prices.len() { Decimal::ZERO } else { *prices.select_nth_unstable(middle).1 }
}

/// Whether so much is nothing to buy with: not above 0, or less than a usual purchase. An order that could not be
/// paid leaves no line in the ledger.
pub fn is_depleted(funds: Decimal, typical: Decimal) -> bool {
    funds <= Decimal::ZERO || funds < typical
}

/// The most that a fund held on each of so many last days, the newest first.
///
/// `known` are the lines up to `now`, each of which is taken back from what is available now.
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

/// Tells of each week, oldest first, if there was too little to buy with on a whole day of it.
pub(super) fn depleted_weeks(daily_highs: &[Decimal], typical: Decimal) -> Vec<bool> {
    daily_highs.chunks(7).rev().map(|week| week.iter().any(|most| is_depleted(*most, typical))).collect()
}
