//! Matches renewals to the orders that they renewed.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use chrono::{Datelike as _, NaiveDate};
use rust_decimal::Decimal;

use crate::domain::order::Order;
use crate::forecast::purchase::{Purchase, Renewal, order_end};
use crate::forecast::renewal_window::{
    MAX_DAYS_BEFORE_END, MAX_DAYS_LATE, MAX_DAYS_LATE_BY_PRICE, days_after, days_before,
};

/// Returns the renewal of every order that is marked as renewed, if it can be recognised, ordered by the end of the
/// renewed order.
pub(in crate::forecast) fn renewals(
    purchases: &[Purchase<'_>],
    orders: &[Order],
    paid: &[Option<usize>],
) -> Vec<Renewal> {
    let mut renewed: Vec<(NaiveDate, u64, usize)> = (0..orders.len())
        .filter(|index| orders[*index].renewed)
        .map(|index| (order_end(&orders[index]), orders[index].id, index))
        .collect();
    if renewed.is_empty() {
        return Vec::new();
    }
    renewed.sort_unstable();
    let mut successors = SuccessorOrders::new(orders);
    let (mut found, mut rest) = (Vec::with_capacity(renewed.len()), Vec::new());
    for (end, _, index) in renewed {
        match successors.take(index, end) {
            Some((by, placed)) => {
                let on = paid[by].map_or(placed, |debit| purchases[debit].day());
                found.push(Renewal { renewed: index, by: Some(by), purchase: paid[by], on, lead: lead(end, on) });
            }
            None => rest.push((end, index)),
        }
    }
    let known: BTreeSet<usize> = found.iter().filter_map(|renewal| renewal.purchase).collect();
    found.extend(renewals_by_price(purchases, orders, &rest, &known));
    found
}

/// Day, rank within the day, and index of an order or debit that may match.
type MatchCandidate = (NaiveDate, u64, usize);

/// Candidates of each key, ordered by day.
struct CandidatesByDay<K>(HashMap<K, BTreeSet<MatchCandidate>>);

impl<K: Eq + Hash> CandidatesByDay<K> {
    fn insert(&mut self, key: K, candidate: MatchCandidate) {
        self.0.entry(key).or_default().insert(candidate);
    }

    fn remove(&mut self, key: &K, candidate: MatchCandidate) {
        if let Some(candidates) = self.0.get_mut(key) {
            candidates.remove(&candidate);
        }
    }

    /// Returns the last candidate before `day` and the first one from `day` on, within the window. Of several on one
    /// day, the first one.
    fn nearest(
        &self,
        key: &K,
        day: NaiveDate,
        (from, to): (NaiveDate, NaiveDate),
        fits: impl Fn(usize) -> bool,
    ) -> [Option<MatchCandidate>; 2] {
        let fits = |candidate: &&MatchCandidate| fits(candidate.2);
        let candidates = self.0.get(key);
        let before = candidates.filter(|_| from < day).and_then(|candidates| {
            let (nearest, ..) = *candidates.range((from, 0, 0)..(day, 0, 0)).rev().find(fits)?;
            candidates.range((nearest, 0, 0)..).find(fits)
        });
        let first = from.max(day);
        let after = candidates.filter(|_| first <= to);
        let after =
            after.and_then(|candidates| candidates.range((first, 0, 0)..=(to, u64::MAX, usize::MAX)).find(fits));
        [before.copied(), after.copied()]
    }
}

/// Orders of each common name by the day on which they were placed. Each renews at most one order.
struct SuccessorOrders<'a> {
    orders: &'a [Order],
    by_product: CandidatesByDay<(&'a str, Option<&'a str>)>,
    by_name: CandidatesByDay<&'a str>,
    /// Orders that can still be successors, the last to end first.
    ends: Vec<(NaiveDate, usize)>,
}

impl<'a> SuccessorOrders<'a> {
    fn new(orders: &'a [Order]) -> Self {
        let (by_product, by_name) = (CandidatesByDay(HashMap::new()), CandidatesByDay(HashMap::new()));
        let mut successors = Self { orders, by_product, by_name, ends: Vec::new() };
        for (index, order) in orders.iter().enumerate() {
            if let Some((name, candidate)) = successors.candidate(index) {
                successors.by_product.insert((name, order.product.as_deref()), candidate);
                successors.by_name.insert(name, candidate);
                successors.ends.push((order_end(order), index));
            }
        }
        successors.ends.sort_unstable_by(|one, other| other.cmp(one));
        successors
    }

    fn candidate(&self, index: usize) -> Option<(&'a str, MatchCandidate)> {
        let order = &self.orders[index];
        Some((order.common_name.as_deref()?, (order.placed?, order.id, index)))
    }

    /// Removes and returns the successor of the order at `index`, which ends on `end`: the nearest one of the same
    /// product, or else the nearest one. Calls must be ordered by `end`.
    fn take(&mut self, index: usize, end: NaiveDate) -> Option<(usize, NaiveDate)> {
        while let Some((_, ended)) = self.ends.pop_if(|(last, _)| *last <= end) {
            self.remove(ended);
        }
        let renewed = &self.orders[index];
        let name = renewed.common_name.as_deref()?;
        let earliest = days_before(end, MAX_DAYS_BEFORE_END.unsigned_abs());
        let after_it = renewed.placed.and_then(|placed| placed.succ_opt());
        let window =
            (after_it.map_or(earliest, |day| day.max(earliest)), days_after(end, MAX_DAYS_LATE.unsigned_abs().into()));
        let rank = |(placed, id, _): &MatchCandidate| ((end - *placed).num_days().abs(), *id);
        let nearest = |found: [Option<MatchCandidate>; 2]| found.into_iter().flatten().min_by_key(rank);
        let same_product = (name, renewed.product.as_deref());
        let (placed, _, by) = nearest(self.by_product.nearest(&same_product, end, window, |_| true))
            .or_else(|| nearest(self.by_name.nearest(&name, end, window, |_| true)))?;
        self.remove(by);
        Some((by, placed))
    }

    fn remove(&mut self, index: usize) {
        if let Some((name, candidate)) = self.candidate(index) {
            self.by_product.remove(&(name, self.orders[index].product.as_deref()), candidate);
            self.by_name.remove(&name, candidate);
        }
    }
}

/// Recognises renewals by their price, for orders without a successor of their name, ordered by their end. Among the
/// debits of exactly the price near the end, the renewal is the one whose own order ends whole years later, or else
/// the nearest one. Each debit renews at most one order.
fn renewals_by_price(
    purchases: &[Purchase<'_>],
    orders: &[Order],
    renewed: &[(NaiveDate, usize)],
    taken: &BTreeSet<usize>,
) -> Vec<Renewal> {
    let mut debits = DebitsByPrice::new(purchases, orders, renewed, taken);
    let renewal = |(end, index): (NaiveDate, usize)| {
        let debit = debits.take(index, end)?;
        let (by, on) = (purchases[debit].order, purchases[debit].day());
        Some(Renewal { renewed: index, by, purchase: Some(debit), on, lead: lead(end, on) })
    };
    renewed.iter().copied().filter_map(renewal).collect()
}

/// Amount of a debit, and the common name of its order, if it has one.
type AmountAndName<'a> = (Decimal, Option<&'a str>);

/// Debits that may have renewed an order of their amount.
struct DebitsByPrice<'a> {
    purchases: &'a [Purchase<'a>],
    orders: &'a [Order],
    all: CandidatesByDay<AmountAndName<'a>>,
    /// Debits whose own order has not ended, by the day of the year on which it ends.
    by_end: CandidatesByDay<(AmountAndName<'a>, i32)>,
    /// Ends of those orders, the last to end first, with the index of the debit.
    ends: Vec<(NaiveDate, usize)>,
}

impl<'a> DebitsByPrice<'a> {
    fn new(
        purchases: &'a [Purchase<'a>],
        orders: &'a [Order],
        renewed: &[(NaiveDate, usize)],
        taken: &BTreeSet<usize>,
    ) -> Self {
        let (all, by_end) = (CandidatesByDay(HashMap::new()), CandidatesByDay(HashMap::new()));
        let mut debits = Self { purchases, orders, all, by_end, ends: Vec::new() };
        let prices: BTreeSet<Decimal> = renewed.iter().map(|(_, index)| orders[*index].price).collect();
        let fits = |debit: &usize| !taken.contains(debit) && prices.contains(&purchases[*debit].amount());
        for debit in (0..purchases.len()).filter(fits) {
            let (key, candidate) = debits.candidate(debit);
            debits.all.insert(key, candidate);
            if let Some(own) = debits.own(debit) {
                debits.by_end.insert((key, day_of_year(order_end(own))), candidate);
                debits.ends.push((order_end(own), debit));
            }
        }
        debits.ends.sort_unstable_by(|one, other| other.cmp(one));
        debits
    }

    fn own(&self, debit: usize) -> Option<&'a Order> {
        self.purchases[debit].order.map(|index| &self.orders[index])
    }

    fn candidate(&self, debit: usize) -> (AmountAndName<'a>, MatchCandidate) {
        let purchase = &self.purchases[debit];
        let name = self.own(debit).and_then(|own| own.common_name.as_deref());
        ((purchase.amount(), name), (purchase.day(), 0, debit))
    }

    /// Removes and returns the debit that renewed the order at `index`, which ends on `end`. Calls must be ordered by
    /// `end`.
    fn take(&mut self, index: usize, end: NaiveDate) -> Option<usize> {
        while let Some((_, ended)) = self.ends.pop_if(|(last, _)| *last <= end) {
            self.remove_end(ended);
        }
        let order = &self.orders[index];
        let name = order.common_name.as_deref();
        let names = [None, name];
        let keys = || names[..=usize::from(name.is_some())].iter().map(|name| (order.price, *name));
        let window = (
            days_before(end, MAX_DAYS_BEFORE_END.unsigned_abs()),
            days_after(end, MAX_DAYS_LATE_BY_PRICE.unsigned_abs()),
        );
        let fits = |debit: usize| {
            self.purchases[debit].entry.order != Some(order.id) && self.own(debit).is_none_or(|own| own.id != order.id)
        };
        let rank = |(on, _, debit): &MatchCandidate| (*on >= end, (end - *on).num_days().abs(), *debit);
        let years_later = [day_of_year(end), (day_of_year(end) + 1).rem_euclid(YEAR)];
        let years_later = keys().flat_map(|key| years_later.map(|end| (key, end)));
        let years_later = years_later.flat_map(|key| self.by_end.nearest(&key, end, window, fits)).flatten();
        let any = || keys().flat_map(|key| self.all.nearest(&key, end, window, fits)).flatten().min_by_key(rank);
        let (.., debit) = years_later.min_by_key(rank).or_else(any)?;
        let (key, candidate) = self.candidate(debit);
        self.all.remove(&key, candidate);
        self.remove_end(debit);
        Some(debit)
    }

    fn remove_end(&mut self, debit: usize) {
        let (key, candidate) = self.candidate(debit);
        if let Some(own) = self.own(debit) {
            self.by_end.remove(&(key, day_of_year(order_end(own))), candidate);
        }
    }
}

/// Days of a year without a leap day.
const YEAR: i32 = 365;

/// Returns the same number for days that are multiples of 365 days apart.
fn day_of_year(day: NaiveDate) -> i32 {
    day.num_days_from_ce().rem_euclid(YEAR)
}

fn lead(end: NaiveDate, on: NaiveDate) -> i32 {
    i32::try_from((end - on).num_days()).unwrap_or(0)
}
