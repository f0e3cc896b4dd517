//! Orders that must be renewed, and the funds that are missing for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::renewal_window::{MAX_DAYS_BEFORE_END, MAX_DAYS_LATE_BY_PRICE};
use super::spending::Spending;
use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};
use crate::domain::order::Order;

/// Renewals that are due within a window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RenewalsSum {
    /// Number of the orders to renew.
    pub count: u32,
    /// Sum of their prices, in the account's currency.
    pub amount: Decimal,
    /// Part of the amount that is usually paid from the balance rather than by card or on an invoice; `None` if not
    /// known.
    pub from_balance: Option<Decimal>,
    /// Orders whose certificate ends in the window while the end of the order is not known. They are not in `count`
    /// or `amount`.
    pub unknown_ends: Vec<u64>,
}

/// Returns the renewals of orders that end from today to the day of `now + within`, both included.
///
/// Days are UTC days: an order that ends today must still be renewed, one that ended yesterday is gone. `share`
/// returns the share, from 0 to 1, of the renewal's price that is usually paid from the balance, for the order at an
/// index.
pub fn renewals_due(
    orders: &[Order],
    now: Time,
    within: Duration,
    share: impl Fn(usize) -> Option<Decimal>,
) -> RenewalsSum {
    /// Decimal places of the part paid from the balance, at least.
    const PLACES: u32 = 2;
    let (today, last) = (now.date_naive(), window_end(now, within));
    let in_window = |day: NaiveDate| (today..=last).contains(&day);
    let mut sum = RenewalsSum { from_balance: Some(Decimal::ZERO), ..RenewalsSum::default() };
    for (index, order) in orders.iter().enumerate().filter(|(_, order)| must_be_renewed(order, today)) {
        match order.ends() {
            Some(end) if in_window(end) => {
                sum.count = sum.count.saturating_add(1);
                sum.amount += order.price;
                sum.from_balance = sum.from_balance.zip(share(index)).map(|(sum, share)| sum + order.price * share);
            }
            None if in_window(order.certificate_ends) => sum.unknown_ends.push(order.id),
            _ => {}
        }
    }
    sum.from_balance = sum.from_balance.map(|part| part.round_dp(PLACES.max(sum.amount.scale())));
    sum
}

/// Returns the amount by which the renewals exceed the available funds; never negative.
pub fn shortfall(renewals: &RenewalsSum, available: Decimal) -> Decimal {
    (renewals.amount - available).max(Decimal::ZERO)
}

/// Returns the open orders that were probably renewed by a purchase after the listing: one of exactly the price, near
/// the end of the order. Otherwise a paid renewal would stay due until the next listing, which comes early only if
/// the ledger names orders.
pub(super) fn renewed_since(orders: &[Order], ledger: &Ledger, spending: &Spending, listed: Time) -> BTreeSet<u64> {
    let lines = ledger.entries();
    let new = &lines[lines.partition_point(|line| line.at <= listed)..];
    let new: Vec<(&LedgerEntry, Decimal)> = new.iter().filter_map(|line| Some((line, spending.spent(line)?))).collect();
    let mut renewed = BTreeSet::new();
    if new.is_empty() {
        return renewed;
    }
    let mut by_price: BTreeMap<Decimal, Vec<(NaiveDate, &Order)>> = BTreeMap::new();
    for order in orders.iter().filter(|order| !order.expired && !order.renewed) {
        if let Some(end) = order.ends() {
            by_price.entry(order.price).or_default().push((end, order));
        }
    }
    for same in by_price.values_mut() {
        same.sort_by_key(|(end, _)| *end);
    }
    for (line, spent) in new {
        let day = line.at.date_naive();
        let Some(same) = by_price.get_mut(&spent) else { continue };
        let left = |end: NaiveDate| (end - day).num_days();
        let first = same.partition_point(|(end, _)| left(*end) < -MAX_DAYS_LATE_BY_PRICE);
        let near = same[first..].iter().take_while(|(end, _)| left(*end) <= MAX_DAYS_BEFORE_END);
        let found =
            near.enumerate().find(|(_, (_, order))| must_be_renewed(order, day) && line.order != Some(order.id));
        if let Some(index) = found.map(|(index, _)| first + index) {
            renewed.insert(same.remove(index).1.id);
        }
    }
    renewed
}

/// Reports whether an order must still be renewed on a day.
pub(super) fn must_be_renewed(order: &Order, today: NaiveDate) -> bool {
    !order.expired && !order.renewed && order.placed.is_none_or(|placed| placed <= today)
}

fn window_end(now: Time, within: Duration) -> NaiveDate {
    let end = chrono::Duration::from_std(within).ok().and_then(|within| now.checked_add_signed(within));
    end.map_or(NaiveDate::MAX, |end| end.date_naive()).max(now.date_naive())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn order(price: i64, end: NaiveDate) -> Order {
        let order = crate::forecast::tests::order(7, price, (2026, 1, 1));
        Order { placed: None, bought_until: None, certificate_ends: end, order_ends: Some(end), ..order }
    }

    #[test]
    fn a_renewal_since_the_listing_is_recognised_by_its_price() {
        let now: Time = "2026-11-23T12:00:00Z".parse().unwrap();
        let paid = LedgerEntry {
            id: "paid".into(),
            at: now,
            change: (-300).into(),
            kind: "Charge".into(),
            balance_after: None,
            currency: None,
            order: None,
            expires: None,
        };
        let ledger = Ledger::new(vec![paid]);
        for (price, days_to_end, expected) in
            [(300, 92, true), (300, 93, false), (300, -7, true), (300, -8, false), (301, 20, false)]
        {
            let orders = [order(price, (now + TimeDelta::days(days_to_end)).date_naive())];
            let renewed = renewed_since(&orders, &ledger, &Spending::default(), now - TimeDelta::hours(1));
            assert_eq!(renewed.contains(&7), expected, "{price}, {days_to_end} days before the end");
        }
    }
}
