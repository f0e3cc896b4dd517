//! What has to be renewed, and what is missing for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;

use super::Spending;
use crate::domain::Time;
use crate::domain::books::{Entry, Ledger, Order};

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
    pub in_doubt: Vec<u64>,
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
    let (today, last) = (now.date_naive(), last_day(now, within));
    let in_window = |day: NaiveDate| (today..=last).contains(&day);
    let mut sum = RenewalsSum { from_balance: Some(Decimal::ZERO), ..RenewalsSum::default() };
    for (place, order) in orders.iter().enumerate().filter(|(_, order)| is_open(order, today)) {
        match order.ends() {
            Some(end) if in_window(end) => {
                sum.count = sum.count.saturating_add(1);
                sum.amount += order.price;
                sum.from_balance = sum.from_balance.zip(share(place)).map(|(sum, share)| sum + order.price * share);
            }
            None if in_window(order.certificate_ends) => sum.in_doubt.push(order.id),
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
/// an order is renewed. Without this, a renewal that has been paid since would be due all the same, until the next listing.
pub(super) fn renewed_since(orders: &[Order], ledger: &Ledger, spending: &Spending, listed: Time) -> BTreeSet<u64> {
    /// An order is renewed at most so many days before its end, or after it.
    const BEFORE: i64 = 60;
    const AFTER: i64 = 7;
    let lines = ledger.entries();
    let new = &lines[lines.partition_point(|line| line.at <= listed)..];
    let new: Vec<(&Entry, Decimal)> = new.iter().filter_map(|line| Some((line, spending.spent(line)?))).collect();
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
        let first = same.partition_point(|(end, _)| left(*end) < -AFTER);
        let near = same[first..].iter().take_while(|(end, _)| left(*end) <= BEFORE);
        let found = near.enumerate().find(|(_, (_, order))| is_open(order, day) && line.order != Some(order.id));
        if let Some(place) = found.map(|(place, _)| first + place) {
            renewed.insert(same.remove(place).1.id);
        }
    }
    renewed
}

/// Whether an order has to be renewed one day.
pub(super) fn is_open(order: &Order, today: NaiveDate) -> bool {
    !order.expired && !order.renewed && order.placed.is_none_or(|placed| placed <= today)
}

fn last_day(now: Time, within: Duration) -> NaiveDate {
    let end = chrono::Duration::from_std(within).ok().and_then(|within| now.checked_add_signed(within));
    end.map_or(NaiveDate::MAX, |end| end.date_naive()).max(now.date_naive())
}

/// A day so many days before another.
pub(super) fn days_before(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days)).unwrap_or(NaiveDate::MIN)
}
