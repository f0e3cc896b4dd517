//! When a fund held too little to buy with: what was not bought then says nothing of the pace.

use chrono::Duration;
use rust_decimal::Decimal;

use super::Spending;
use super::purchases::{Refunded, net_purchases};
use super::spending::until;
use crate::domain::Time;
use crate::domain::books::{Entry, Ledger};

/// What a purchase usually costs: the median of the ledger's purchases of the year up to `now`, without what was refunded;
/// 0 where it has none.
pub fn usual_purchase(ledger: &Ledger, spending: &Spending, now: Time) -> Decimal {
    usual(net_purchases(until(ledger, now), spending, Refunded::Newest), now)
}

/// The same of purchases and what they cost, oldest first.
pub(super) fn usual<'a>(purchases: impl IntoIterator<Item = (&'a Entry, Decimal)>, now: Time) -> Decimal {
    let year = purchases.into_iter().filter(|(entry, cost)| entry.at > now - Duration::days(365) && !cost.is_zero());
    let mut prices: Vec<Decimal> = year.map(|(_, cost)| cost).collect();
    let middle = prices.len() / 2;
    if middle == prices.len() { Decimal::ZERO } else { *prices.select_nth_unstable(middle).1 }
}

/// Whether so much is nothing to buy with: not above 0, or less than a usual purchase. An order that could not be
/// paid leaves no line in the ledger.
pub fn is_dry(funds: Decimal, usual: Decimal) -> bool {
    funds <= Decimal::ZERO || funds < usual
}

/// Of each of the last `weeks` weeks, oldest first: whether there was too little to buy with on a whole day of it.
///
/// `known` are the lines up to `now`, each of which is taken back from what is available now.
pub(super) fn starved(known: &[Entry], available: Decimal, usual: Decimal, now: Time, weeks: usize) -> Vec<bool> {
    let mut starved = vec![false; weeks];
    let (mut left, mut funds, mut begin) = (known, available, now);
    for week in starved.iter_mut().rev() {
        for _ in 0..7 {
            begin -= Duration::days(1);
            let mut most = funds;
            while let Some((entry, before)) = left.split_last().filter(|(entry, _)| entry.at > begin) {
                funds = funds.saturating_sub(entry.change);
                most = most.max(funds);
                left = before;
            }
            *week |= is_dry(most, usual);
        }
    }
    starved
}
