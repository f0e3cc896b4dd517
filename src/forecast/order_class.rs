//! The share of orders that are renewed now, learnt from those that have ended, by what an order is.

use chrono::NaiveDate;
use rust_decimal::prelude::ToPrimitive as _;

use super::purchases::{Purchases, Renewal, order_end};
use super::renewals::{MAX_DAYS_AFTER_END, days_before};
use super::share::{RenewalOutcome, ShareDistribution, change_probabilities};
use crate::domain::order::Order;

/// Before any order has ended, the parameters of a beta distribution: about six in seven are renewed.
const RENEWED_PRIOR: (u32, u32) = (6, 1);
/// The same of orders whose certificate ended long before them, and was not issued anew: few are wanted any more.
const IDLE_RENEWED_PRIOR: (u32, u32) = (2, 3);
/// Days that count as long.
const MIN_IDLE_DAYS: u64 = 30;
/// All orders together count as so many cases of each standing.
const POOLED_CASES: u32 = 8;
/// More cases than these make a share no more certain: accounts change.
const MAX_ENDED: u32 = 60;
/// Number of the newest orders that ended which tell if the share has changed. The likelihoods of more than a thousand would be too small
/// for a number.
const MAX_CASES: usize = 300;
/// An order that ended so many days ago may be renewed yet, also where none was renewed late.
const MIN_LATE_DAYS: i32 = 7;
/// An order may end so many days later than it was bought for without being a renewal.
const MAX_EXTRA_DAYS: i64 = 2;

/// Traits of an order that make its renewal more or less likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderClass {
    /// A renewal of another order.
    Renewal,
    /// An order that renews none, as far as is known.
    New,
    /// An order whose certificate ended long before it, and was not issued anew.
    Idle,
}

/// A value for the orders of each standing.
#[derive(Debug, Clone)]
pub(super) struct ByOrderClass<T> {
    pub(super) renewal: T,
    pub(super) new: T,
    idle: T,
}

impl<T> ByOrderClass<T> {
    pub(super) fn of(&self, standing: OrderClass) -> &T {
        match standing {
            OrderClass::Renewal => &self.renewal,
            OrderClass::New => &self.new,
            OrderClass::Idle => &self.idle,
        }
    }

    pub(super) fn map<U>(&self, mut value: impl FnMut(&T) -> U) -> ByOrderClass<U> {
        ByOrderClass { renewal: value(&self.renewal), new: value(&self.new), idle: value(&self.idle) }
    }
}

/// The standing of each order of an account.
pub(super) struct OrderClasses<'a> {
    orders: &'a [Order],
    today: NaiveDate,
    is_renewal: Vec<bool>,
    /// Days after its end for which an order may be renewed yet, as far as this account's renewals show.
    max_days_late: i32,
}

impl<'a> OrderClasses<'a> {
    /// Reads them from these purchases, of which these renewals are the newest.
    pub(super) fn read(purchases: &Purchases<'a>, recent: &[Renewal]) -> Self {
        let mut is_renewal: Vec<bool> = purchases.orders.iter().map(extends_another).collect();
        for by in purchases.renewals.iter().filter_map(|renewal| renewal.by) {
            is_renewal[by] = true;
        }
        let max_days_late =
            recent.iter().map(|renewal| -renewal.lead).max().unwrap_or(0).clamp(MIN_LATE_DAYS, MAX_DAYS_AFTER_END);
        Self { orders: purchases.orders, today: purchases.now.date_naive(), is_renewal, max_days_late }
    }

    /// Standing of the order at this place.
    pub(super) fn of(&self, place: usize) -> OrderClass {
        match self.is_renewal[place] {
            _ if is_idle(&self.orders[place], self.today) => OrderClass::Idle,
            true => OrderClass::Renewal,
            false => OrderClass::New,
        }
    }

    /// Places of the orders that ended in the last year and so long ago that they are not renewed any more if they were not; by the
    /// day on which they ended.
    pub(super) fn ended_orders(&self) -> Vec<usize> {
        let (from, to) =
            (days_before(self.today, 365), days_before(self.today, self.max_days_late.unsigned_abs().into()));
        let mut ended: Vec<(NaiveDate, u64, usize)> = self
            .orders
            .iter()
            .enumerate()
            .filter(|(_, order)| order.ends().is_some_and(|end| end >= from && end < to))
            .map(|(place, order)| (order_end(order), order.id, place))
            .collect();
        ended.sort_unstable();
        ended.into_iter().map(|(.., place)| place).collect()
    }

    /// Share of the orders of each standing that are renewed now. What is known of all of them counts for a few cases of each.
    /// Orders whose end `is_uninformative`, since there were no funds then, do not count.
    pub(super) fn renewal_shares(&self, is_uninformative: impl Fn(&Order) -> bool) -> ByOrderClass<ShareDistribution> {
        let ended = self.ended_orders().into_iter().filter(|place| !is_uninformative(&self.orders[*place]));
        let (idle, wanted): (Vec<usize>, Vec<usize>) = ended.partition(|place| self.of(*place) == OrderClass::Idle);
        let wanted = &wanted[wanted.len().saturating_sub(MAX_CASES)..];
        let case = |place: &usize| RenewalOutcome {
            is_renewal: self.is_renewal[*place],
            renewed: self.orders[*place].renewed,
        };
        let cases: Vec<RenewalOutcome> = wanted.iter().map(case).collect();
        let changed = change_probabilities(&cases);
        let share = |counts: &dyn Fn(&RenewalOutcome) -> bool, prior| {
            ShareDistribution::after_changes(&cases, counts, &changed, prior, MAX_ENDED)
        };
        let pooled = share(&|_| true, RENEWED_PRIOR).mean();
        let hits = (pooled * f64::from(POOLED_CASES)).round().to_u32().unwrap_or(0).min(POOLED_CASES);
        let of_all = (hits.max(1), (POOLED_CASES - hits).max(1));
        let renewed = idle.iter().filter(|place| self.orders[**place].renewed).count();
        ByOrderClass {
            renewal: share(&|case| case.is_renewal, of_all),
            new: share(&|case| !case.is_renewal, of_all),
            idle: ShareDistribution::new((renewed, idle.len() - renewed), IDLE_RENEWED_PRIOR, MAX_ENDED),
        }
    }
}

/// Tells if the order lasts longer than it was bought for: what was left of the one before was added.
fn extends_another(order: &Order) -> bool {
    let bought = order.bought_until.zip(order.order_ends);
    bought.is_some_and(|(bought, ends)| (ends - bought).num_days() > MAX_EXTRA_DAYS)
}

/// Tells if the order's certificate ended long before it, or long ago while it goes on.
fn is_idle(order: &Order, today: NaiveDate) -> bool {
    order.certificate_ends < days_before(order_end(order).min(today), MIN_IDLE_DAYS)
}
