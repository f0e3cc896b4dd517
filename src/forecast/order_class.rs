//! Share of orders that are renewed, learnt from ended orders, for each class of orders.

use chrono::NaiveDate;
use rust_decimal::prelude::ToPrimitive as _;

use super::purchase::{Renewal, order_end};
use super::purchases::Purchases;
use super::renewal_window::{MAX_DAYS_LATE, MIN_DAYS_LATE, days_before};
use super::share::{RenewalOutcome, ShareDistribution, change_probabilities};
use crate::domain::order::Order;

/// Parameters of a beta distribution, before any order has ended: about six in seven are renewed.
const RENEWED_PRIOR: (u32, u32) = (6, 1);
/// Prior for orders whose certificate ended long before them and was not reissued: few of them are still needed.
const IDLE_RENEWED_PRIOR: (u32, u32) = (2, 3);
/// Days between the end of a certificate and that of its order that make the order idle.
const MIN_IDLE_DAYS: u64 = 30;
/// Weight of the share of all orders in that of each class, as a number of orders.
const POOLED_CASES: u32 = 8;
/// Number of orders beyond which a share becomes no more certain, since accounts change.
const MAX_ENDED: u32 = 60;
/// Number of the latest ended orders that are searched for a change of the share. The likelihoods of more than a
/// thousand would underflow.
const MAX_CASES: usize = 300;

/// Days by which an order that is not a renewal may end later than it was bought for.
const MAX_EXTRA_DAYS: i64 = 2;

/// Class of an order; each class has a renewal share of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderClass {
    /// An order that renews another one.
    Renewal,
    /// An order that renews none, as far as known.
    New,
    /// An order whose certificate ended long before it and was not reissued.
    Idle,
}

/// A value for each class of orders.
#[derive(Debug, Clone)]
pub(super) struct ByOrderClass<T> {
    pub(super) renewal: T,
    pub(super) new: T,
    idle: T,
}

impl<T> ByOrderClass<T> {
    pub(super) fn of(&self, class: OrderClass) -> &T {
        match class {
            OrderClass::Renewal => &self.renewal,
            OrderClass::New => &self.new,
            OrderClass::Idle => &self.idle,
        }
    }

    pub(super) fn map<U>(&self, mut value: impl FnMut(&T) -> U) -> ByOrderClass<U> {
        ByOrderClass { renewal: value(&self.renewal), new: value(&self.new), idle: value(&self.idle) }
    }
}

/// Classes of an account's orders.
pub(super) struct OrderClasses<'a> {
    orders: &'a [Order],
    today: NaiveDate,
    is_renewal: Vec<bool>,
    /// Days after its end for which an order may still be renewed, from the latest renewal of this account.
    max_days_late: i32,
}

impl<'a> OrderClasses<'a> {
    /// Classifies the orders. `recent` are the renewals of the last year.
    pub(super) fn read(purchases: &Purchases<'a>, recent: &[Renewal]) -> Self {
        let mut is_renewal: Vec<bool> = purchases.orders.iter().map(extends_another).collect();
        for by in purchases.renewals.iter().filter_map(|renewal| renewal.by) {
            is_renewal[by] = true;
        }
        let max_days_late =
            recent.iter().map(|renewal| -renewal.lead).max().unwrap_or(0).clamp(MIN_DAYS_LATE, MAX_DAYS_LATE);
        Self { orders: purchases.orders, today: purchases.now.date_naive(), is_renewal, max_days_late }
    }

    /// Returns the class of the order at this index.
    pub(super) fn of(&self, index: usize) -> OrderClass {
        match self.is_renewal[index] {
            _ if is_idle(&self.orders[index], self.today) => OrderClass::Idle,
            true => OrderClass::Renewal,
            false => OrderClass::New,
        }
    }

    /// Returns the indexes of the orders that ended in the last year and can no longer be renewed late, ordered by
    /// their end.
    pub(super) fn ended_orders(&self) -> Vec<usize> {
        let (from, to) =
            (days_before(self.today, 365), days_before(self.today, self.max_days_late.unsigned_abs().into()));
        let mut ended: Vec<(NaiveDate, u64, usize)> = self
            .orders
            .iter()
            .enumerate()
            .filter(|(_, order)| order.ends().is_some_and(|end| end >= from && end < to))
            .map(|(index, order)| (order_end(order), order.id, index))
            .collect();
        ended.sort_unstable();
        ended.into_iter().map(|(.., index)| index).collect()
    }

    /// Returns the present renewal share of each class. The share of all orders together counts as a few orders of
    /// each class. Orders whose end `is_uninformative`, because there were no funds, are left out.
    pub(super) fn renewal_shares(&self, is_uninformative: impl Fn(&Order) -> bool) -> ByOrderClass<ShareDistribution> {
        let ended = self.ended_orders().into_iter().filter(|index| !is_uninformative(&self.orders[*index]));
        let (idle, wanted): (Vec<usize>, Vec<usize>) = ended.partition(|index| self.of(*index) == OrderClass::Idle);
        let wanted = &wanted[wanted.len().saturating_sub(MAX_CASES)..];
        let case = |index: &usize| RenewalOutcome {
            is_renewal: self.is_renewal[*index],
            renewed: self.orders[*index].renewed,
        };
        let cases: Vec<RenewalOutcome> = wanted.iter().map(case).collect();
        let changed = change_probabilities(&cases);
        let share = |counts: &dyn Fn(&RenewalOutcome) -> bool, prior| {
            ShareDistribution::after_changes(&cases, counts, &changed, prior, MAX_ENDED)
        };
        let pooled = share(&|_| true, RENEWED_PRIOR).mean();
        let hits = (pooled * f64::from(POOLED_CASES)).round().to_u32().unwrap_or(0).min(POOLED_CASES);
        let of_all = (hits.max(1), (POOLED_CASES - hits).max(1));
        let renewed = idle.iter().filter(|index| self.orders[**index].renewed).count();
        ByOrderClass {
            renewal: share(&|case| case.is_renewal, of_all),
            new: share(&|case| !case.is_renewal, of_all),
            idle: ShareDistribution::new((renewed, idle.len() - renewed), IDLE_RENEWED_PRIOR, MAX_ENDED),
        }
    }
}

/// Reports whether an order lasts longer than it was bought for, because the rest of an earlier order was added.
fn extends_another(order: &Order) -> bool {
    let bought = order.bought_until.zip(order.order_ends);
    bought.is_some_and(|(bought, ends)| (ends - bought).num_days() > MAX_EXTRA_DAYS)
}

/// Reports whether the certificate ended long before its order, or long ago if the order has not ended.
fn is_idle(order: &Order, today: NaiveDate) -> bool {
    order.certificate_ends < days_before(order_end(order).min(today), MIN_IDLE_DAYS)
}
