//! What lay ahead of a fund at moments of its past, as far as the books of today can tell.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Fund, Past, Script};
use crate::domain::Time;
use crate::domain::books::{Books, Order};
use crate::domain::rule::{Metric, Rule};
use crate::forecast::{Prospect, renewed_at};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Looks ahead of this cost together, in lines of the ledger that are gone through, are at most made.
const BUDGET: usize = 40_000_000;
/// Drawing the futures costs as much as so many lines.
const DRAWING: usize = 100_000;

/// The looks ahead of one fund: at which moments the books would have been looked at, and what they said then.
pub(super) struct Hindsight<'a> {
    fund: &'a Fund,
    past: &'a Past,
    script: &'a Script<'a>,
    rules: Vec<&'a Rule>,
    /// When each order was renewed; orders of which that is not known are not in the books.
    orders: Vec<(Order, Option<Time>)>,
    /// The moments, in order.
    looks: Vec<Time>,
    drawn: Option<(usize, Arc<Prospect>)>,
}

impl<'a> Hindsight<'a> {
    /// `None` where none of these rules looks ahead.
    pub(super) fn new(fund: &'a Fund, past: &'a Past, script: &'a Script<'a>, rules: Vec<&'a Rule>) -> Option<Self> {
        let rules: Vec<&Rule> = rules.into_iter().filter(|rule| rule.metric.looks_ahead()).collect();
        if rules.is_empty() {
            return None;
        }
        let looks = looks(past, script, &rules);
        Some(Self { fund, past, script, rules, orders: orders(fund, script), looks, drawn: None })
    }

    /// The moments at which the books are looked at.
    pub(super) fn looks(&self) -> &[Time] {
        &self.looks
    }

    /// What was known at this step: of the last look before it, which the first step always has.
    pub(super) fn at(&mut self, step: Time) -> Option<Arc<Prospect>> {
        let place = self.looks.partition_point(|look| *look <= step).checked_sub(1)?;
        if let Some((_, prospect)) = self.drawn.as_ref().filter(|(drawn, _)| *drawn == place) {
            return Some(Arc::clone(prospect));
        }
        let look = self.looks[place];
        // Only a runway takes the futures.
        let drawn_for = self.rules.iter().copied().filter(|rule| rule.metric == Metric::Runway);
        let (balance, books) = (self.past.balance(look), self.books(look));
        let prospect = Prospect::new(&balance, books, self.script.spending, drawn_for, look);
        let prospect = Arc::new(prospect.read_for(self.rules.iter().copied()));
        self.drawn = Some((place, Arc::clone(&prospect)));
        Some(prospect)
    }

    /// The ledger is cut at the look by whoever reads it; an order is as it was then. Both count as read at that moment.
    fn books(&self, look: Time) -> Books {
        let today = look.date_naive();
        let then = |(order, renewed): &(Order, Option<Time>)| Order {
            renewed: renewed.is_some_and(|renewed| renewed <= look),
            expired: order.expired && order.ends().is_some_and(|end| end < today),
            ..order.clone()
        };
        let known = |(order, _): &&(Order, Option<Time>)| order.placed.is_none_or(|placed| placed <= today);
        let orders = || self.orders.iter().filter(known).map(then).collect();
        Books {
            ledger: self.fund.books.ledger.clone(),
            ledger_read: Some(look),
            orders: self.fund.books.orders.as_ref().map(|_| orders()).map_err(Clone::clone),
            orders_read: Some(look),
            ends: self.fund.books.ends.clone(),
        }
    }
}

/// The orders with the moment of their renewal. An order that was renewed without a purchase that can be told is left out. One
/// of which only its details could tell when it ends, ends when what it was bought for is over.
fn orders(fund: &Fund, script: &Script<'_>) -> Vec<(Order, Option<Time>)> {
    let (Ok(ledger), Ok(orders)) = (&fund.books.ledger, &fund.books.orders) else { return Vec::new() };
    let renewals = renewed_at(ledger, orders, script.spending);
    let whole = |order: &Order| Order { order_ends: order.probably_ends(), ..order.clone() };
    let known = orders.iter().map(|order| (whole(order), renewals.get(&order.id).copied()));
    known.filter(|(order, renewed)| !order.renewed || renewed.is_some()).collect()
}

/// The first step; each UTC day; and each full hour after a change of the ledger, or of a window of `spend`. Where these are
/// too many to be looked at in seconds, the days alone.
fn looks(past: &Past, script: &Script<'_>, rules: &[&Rule]) -> Vec<Time> {
    let (from, to) = (script.from, script.to);
    let grid = |every: i64, at: Time| Time::from_timestamp((at.timestamp() + every - 1).div_euclid(every) * every, 0);
    let mut looks = BTreeSet::from([from]);
    let mut day = grid(DAY, from);
    while let Some(at) = day.filter(|at| *at <= to) {
        looks.insert(at);
        day = Time::from_timestamp(at.timestamp() + DAY, 0);
    }
    let days = looks.clone();
    let spends = rules.iter().filter(|rule| rule.metric == Metric::Spend).filter_map(|rule| rule.within());
    let windows = spends.filter_map(|within| chrono::Duration::from_std(within).ok());
    for delay in std::iter::once(chrono::Duration::zero()).chain(windows) {
        let changes = past.changes(from - delay, to - delay).iter();
        looks.extend(changes.filter_map(|at| grid(HOUR, *at + delay)).filter(|at| *at > from && *at <= to));
    }
    let drawing = if rules.iter().any(|rule| rule.metric == Metric::Runway) { DRAWING } else { 0 };
    let each = drawing + rules.len() * past.changes(Time::MIN_UTC, to).len();
    let affordable = looks.len().saturating_mul(each) <= BUDGET;
    (if affordable { looks } else { days }).into_iter().collect()
}
