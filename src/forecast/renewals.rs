//! What has to be renewed, and what is missing for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;

use super::Spending;
use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};
use crate::domain::order::Order;

/// Number of days before its order ends from which a renewal can be placed (documented: 90; two more for other time zones).
pub(super) const MAX_DAYS_BEFORE_END: i64 = 92;
/// Number of days after its end up to which an order can be renewed.
pub(super) const MAX_DAYS_AFTER_END: i32 = 30;
/// The same where a renewal is recognised by its price alone.
pub(super) const MAX_DAYS_AFTER_END_BY_PRICE: i64 = 7;
/// Number of days before its end beyond which no order is expected to be renewed.
pub(super) const MAX_LEAD_DAYS: i32 = 100;

/// What has to be renewed in a window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RenewalsSum {
    /// How many orders.
    pub count: u32,
    /// Their price together, in the account's currency.
    pub amount: Decimal,
    /// The part of it that is usually paid from the balance, and not by card or on an invoice; `None` where that is not
    /// known.
    pub from_balance: Option<Decimal>,
    /// Orders whose certificate ends in the window, but perhaps not the order: to be asked for. They are in neither
    /// sum.
    pub unknown_ends: Vec<u64>,
}

/// Not yet renewed orders that end in the window: from today to the day of `now + within`, both included.
///
/// Days are UTC days: an order that ends today still has to be renewed, one that ended yesterday is gone. `share` says how much
/// of its price the renewal of the order at a place usually takes from the balance, from 0 to 1.
pub fn renewals_due(
    orders: &[Order],
    now: Time,
    within: Duration,
    share: impl Fn(usize) -> Option<Decimal>,
) -> RenewalsSum {
    /// Decimal places of what a learnt share makes of an amount, at least.
    const PLACES: u32 = 2;
    let (today, last) = (now.date_naive(), window_end(now, within));
    let in_window = |day: NaiveDate| (today..=last).contains(&day);
    let mut sum = RenewalsSum { from_balance: Some(Decimal::ZERO), ..RenewalsSum::default() };
    for (place, order) in orders.iter().enumerate().filter(|(_, order)| must_be_renewed(order, today)) {
        match order.ends() {
            Some(end) if in_window(end) => {
                sum.count = sum.count.saturating_add(1);
                sum.amount += order.price;
                sum.from_balance = sum.from_balance.zip(share(place)).map(|(sum, share)| sum + order.price * share);
            }
            None if in_window(order.certificate_ends) => sum.unknown_ends.push(order.id),
            _ => {}
        }
    }
    sum.from_balance = sum.from_balance.map(|part| part.round_dp(PLACES.max(sum.amount.scale())));
    sum
}

/// What the renewals cost more than is available; never below 0.
pub fn shortfall(renewals: &RenewalsSum, available: Decimal) -> Decimal {
    (renewals.amount - available).max(Decimal::ZERO)
}

/// Open orders that a purchase made after they were listed has probably renewed: one of exactly the price, made when such
/// an order is renewed. Without this, a renewal that has been paid since would be due all the same, until the next listing,
/// which comes early only where the ledger names orders.
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
    for its in by_price.values_mut() {
        its.sort_by_key(|(end, _)| *end);
    }
    for (line, spent) in new {
        let day = line.at.date_naive();
        let Some(same) = by_price.get_mut(&spent) else { continue };
        let left = |end: NaiveDate| (end - day).num_days();
        let first = same.partition_point(|(end, _)| left(*end) < -MAX_DAYS_AFTER_END_BY_PRICE);
        let near = same[first..].iter().take_while(|(end, _)| left(*end) <= MAX_DAYS_BEFORE_END);
        let found =
            near.enumerate().find(|(_, (_, order))| must_be_renewed(order, day) && line.order != Some(order.id));
        if let Some(place) = found.map(|(place, _)| first + place) {
            renewed.insert(same.remove(place).1.id);
        }
    }
    renewed
}

/// Whether an order has to be renewed one day.
pub(super) fn must_be_renewed(order: &Order, today: NaiveDate) -> bool {
    !order.expired && !order.renewed && order.placed.is_none_or(|placed| placed <= today)
}

fn window_end(now: Time, within: Duration) -> NaiveDate {
    let end = chrono::Duration::from_std(within).ok().and_then(|within| now.checked_add_signed(within));
    end.map_or(NaiveDate::MAX, |end| end.date_naive()).max(now.date_naive())
}

/// Days from one day to another.
pub(super) fn days_between(from: NaiveDate, to: NaiveDate) -> i32 {
    i32::try_from((to - from).num_days()).unwrap_or(i32::MAX)
}

/// A day so many days before another.
pub(super) fn days_before(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days)).unwrap_or(NaiveDate::MIN)
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
            assert_eq!(renewed.contains(&7), expected, "{price}, {days_to_end} days before its end");
        }
    }
}
