//! The share of orders that are renewed now, learnt from those that have ended, by what an order is.

use chrono::NaiveDate;
use rust_decimal::prelude::ToPrimitive as _;

use super::purchases::{Purchases, Renewal, last_day};
use super::renewals::{LATEST_RENEWAL, days_before};
use super::share::{Case, Share, changed};
use crate::domain::history::Order;

/// Before any order has ended, the parameters of a beta distribution: about six in seven are renewed.
const RENEWED_BEFORE: (u32, u32) = (6, 1);
/// The same of orders whose certificate ended long before them, and was not issued anew: few are wanted any more.
const IDLE_RENEWED_BEFORE: (u32, u32) = (2, 3);
/// Days that count as long.
const IDLE_DAYS: u64 = 30;
/// All orders together count as so many cases of each standing.
const POOLED: u32 = 8;
/// More cases than these make a share no more certain: accounts change.
const MOST_ENDED: u32 = 60;
/// Number of the newest orders that ended which tell if the share has changed. The likelihoods of more than a thousand would be too small
/// for a number.
const MOST_CASES: usize = 300;
/// An order that ended so many days ago may be renewed yet, also where none was renewed late.
const LATE: i32 = 7;
/// An order may end so many days later than it was bought for without being a renewal.
const CARRIED_DAYS: i64 = 2;

/// Traits of an order that make its renewal more or less likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// A renewal of another order.
    Renewed,
    /// An order that renews none, as far as is known.
    First,
    /// An order whose certificate ended long before it, and was not issued anew.
    Idle,
}

/// A value for the orders of each standing.
#[derive(Debug, Clone)]
pub(super) struct ByStanding<T> {
    pub(super) renewed: T,
    pub(super) first: T,
    idle: T,
}

impl<T> ByStanding<T> {
    pub(super) fn of(&self, standing: Standing) -> &T {
        match standing {
            Standing::Renewed => &self.renewed,
            Standing::First => &self.first,
            Standing::Idle => &self.idle,
        }
    }

    pub(super) fn map<U>(&self, mut value: impl FnMut(&T) -> U) -> ByStanding<U> {
        ByStanding { renewed: value(&self.renewed), first: value(&self.first), idle: value(&self.idle) }
    }
}

/// The standing of each order of an account.
pub(super) struct Standings<'a> {
    orders: &'a [Order],
    today: NaiveDate,
    is_renewal: Vec<bool>,
    /// Days after its end for which an order may be renewed yet, as far as this account's renewals show.
    latest: i32,
}

impl<'a> Standings<'a> {
    /// Reads them from these purchases, of which these renewals are the newest.
    pub(super) fn read(purchases: &Purchases<'a>, recent: &[Renewal]) -> Self {
        let mut is_renewal: Vec<bool> = purchases.orders.iter().map(carries_on).collect();
        for by in purchases.renewals.iter().filter_map(|renewal| renewal.by) {
            is_renewal[by] = true;
        }
        let latest = recent.iter().map(|renewal| -renewal.lead).max().unwrap_or(0).clamp(LATE, LATEST_RENEWAL);
        Self { orders: purchases.orders, today: purchases.now.date_naive(), is_renewal, latest }
    }

    /// Standing of the order at this place.
    pub(super) fn of(&self, place: usize) -> Standing {
        match self.is_renewal[place] {
            _ if is_idle(&self.orders[place], self.today) => Standing::Idle,
            true => Standing::Renewed,
            false => Standing::First,
        }
    }

    /// Places of the orders that ended in the last year and so long ago that they are not renewed any more if they were not; by the
    /// day on which they ended.
    pub(super) fn ended(&self) -> Vec<usize> {
        let (from, to) = (days_before(self.today, 365), days_before(self.today, self.latest.unsigned_abs().into()));
        let mut ended: Vec<(NaiveDate, u64, usize)> = self
            .orders
            .iter()
            .enumerate()
            .filter(|(_, order)| order.ends().is_some_and(|end| end >= from && end < to))
            .map(|(place, order)| (last_day(order), order.id, place))
            .collect();
        ended.sort_unstable();
        ended.into_iter().map(|(.., place)| place).collect()
    }

    /// Share of the orders of each standing that are renewed now. What is known of all of them counts for a few cases of each.
    /// Orders whose end `tells_nothing`, since there were no funds then, do not count.
    pub(super) fn shares(&self, tells_nothing: impl Fn(&Order) -> bool) -> ByStanding<Share> {
        let ended = self.ended().into_iter().filter(|place| !tells_nothing(&self.orders[*place]));
        let (idle, wanted): (Vec<usize>, Vec<usize>) = ended.partition(|place| self.of(*place) == Standing::Idle);
        let wanted = &wanted[wanted.len().saturating_sub(MOST_CASES)..];
        let case = |place: &usize| Case { is_renewal: self.is_renewal[*place], hit: self.orders[*place].renewed };
        let cases: Vec<Case> = wanted.iter().map(case).collect();
        let changed = changed(&cases);
        let share =
            |counts: &dyn Fn(&Case) -> bool, prior| Share::at_the_end(&cases, counts, &changed, prior, MOST_ENDED);
        let pooled = share(&|_| true, RENEWED_BEFORE).mean();
        let hits = (pooled * f64::from(POOLED)).round().to_u32().unwrap_or(0).min(POOLED);
        let of_all = (hits.max(1), (POOLED - hits).max(1));
        let renewed = idle.iter().filter(|place| self.orders[**place].renewed).count();
        ByStanding {
            renewed: share(&|case| case.is_renewal, of_all),
            first: share(&|case| !case.is_renewal, of_all),
            idle: Share::new((renewed, idle.len() - renewed), IDLE_RENEWED_BEFORE, MOST_ENDED),
        }
    }
}

/// Tells if the order lasts longer than it was bought for: what was left of the one before was added.
fn carries_on(order: &Order) -> bool {
    let bought = order.bought_until.zip(order.order_ends);
    bought.is_some_and(|(bought, ends)| (ends - bought).num_days() > CARRIED_DAYS)
}

/// Tells if the order's certificate ended long before it, or long ago while it goes on.
fn is_idle(order: &Order, today: NaiveDate) -> bool {
    order.certificate_ends < days_before(last_day(order).min(today), IDLE_DAYS)
}
