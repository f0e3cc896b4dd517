//! When a fund held too little to buy with: what was not bought then says nothing of the pace.

use chrono::Duration;
use rust_decimal::Decimal;

use super::Spending;
use super::purchases::{Refunded, net_purchases};
use super::spending::until;
use crate::domain::Time;
use crate::domain::history::{Entry, Ledger};

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

/// The most that a fund held on each of so many last days, the newest first.
///
/// `known` are the lines up to `now`, each of which is taken back from what is available now.
pub(super) fn most_held(known: &[Entry], available: Decimal, now: Time, days: usize) -> Vec<Decimal> {
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
pub(super) fn starved(held: &[Decimal], usual: Decimal) -> Vec<bool> {
    held.chunks(7).rev().map(|week| week.iter().any(|most| is_dry(*most, usual))).collect()
}
