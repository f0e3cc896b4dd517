//! Days before their end on which orders are renewed, learnt from all that could have been renewed lately: also from those that
//! were renewed before their end came, and from those that still wait.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::prelude::ToPrimitive as _;

use super::purchases::{Renewal, last_day};
use super::ratio::count;
use super::renewals::{LATEST_RENEWAL, LONGEST_LEAD, days_before};
use crate::domain::books::Order;

/// Number of the newest renewals that tell the leads, as far as they were made within a year …
const NEWEST: usize = 40;
/// … or all of so many days.
const LEAST_DAYS: i32 = 31;
/// Number of leads that are kept, at most.
const MOST: usize = 200;
/// Number of renewals from which on a product has leads of its own.
const LEAST: usize = 12;
/// Orders that are added to those of each day, so that a few orders cannot say that none is renewed later.
const DOUBT: f64 = 0.5;
/// Beside the known leads there is one of unknown length: any below one of these, chosen for each future.
pub(super) const LONGEST_LEADS: [u8; 4] = [11, 31, 61, 91];
/// Days from the longest lead to the end of what is overdue.
const DAYS: usize = (LONGEST_LEAD + LATEST_RENEWAL + 1).cast_unsigned() as usize;

/// The leads of an account's renewals.
#[derive(Debug, Clone)]
pub(super) struct Leads<'a> {
    /// Those of all orders, then those of each product with enough.
    pub(super) classes: Vec<Class>,
    products: BTreeMap<&'a str, usize>,
}

/// Leads that are as likely as each other, and one more that may be any.
#[derive(Debug, Clone)]
pub(super) struct Class {
    /// Shortest first.
    leads: Vec<i32>,
    /// Their number and the one more.
    all: f64,
    /// All of it, for an order that does not end soon.
    pub(super) whole: Possible,
}

/// Chances of the leads that an order can still have: what would have come about before today cannot be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Possible {
    /// Of the known ones.
    as_known: f64,
    /// Of one of unknown length, by the longest that it can be.
    of_its_own: [f64; LONGEST_LEADS.len()],
}

impl Class {
    fn new(leads: Vec<i32>) -> Self {
        let all = count(leads.len() + 1);
        let whole = Possible { as_known: count(leads.len()) / all, of_its_own: [1.0 / all; LONGEST_LEADS.len()] };
        Self { leads, all, whole }
    }

    /// For an order that ends in so many days.
    pub(super) fn possible(&self, days: i32) -> Possible {
        let known = self.leads.partition_point(|lead| *lead <= days);
        let own = |longest: u8| f64::from((days + 1).clamp(0, longest.into())) / f64::from(longest) / self.all;
        Possible { as_known: count(known) / self.all, of_its_own: LONGEST_LEADS.map(own) }
    }

    /// The lead of an order's renewal, chosen by a number from 0 to 1; `None` if it is not renewed. The closer its end without a
    /// renewal, the less likely one is, where the others came earlier; the fewer leads are known, the more likely it goes its own way.
    pub(super) fn lead(&self, possible: &Possible, longest: usize, renewed: Odds, chosen: f64) -> Option<i32> {
        let (as_known, of_its_own) = (possible.as_known, possible.of_its_own[longest]);
        // One number says whether it comes, and which lead it has.
        let chosen = chosen * (as_known + of_its_own + renewed.against);
        if chosen < as_known {
            return self.leads.get((chosen * self.all).to_usize().unwrap_or(0)).copied();
        }
        let own = (chosen - as_known) * self.all * f64::from(LONGEST_LEADS[longest]);
        (chosen < as_known + of_its_own).then(|| own.to_i32().unwrap_or(0))
    }

    /// Any of the known leads, chosen by a number from 0 to 1.
    pub(super) fn any(&self, chosen: f64) -> i32 {
        self.leads.get((chosen * count(self.leads.len())).to_usize().unwrap_or(0)).copied().unwrap_or(0)
    }
}

/// The share of orders that are renewed, as the odds against it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Odds {
    against: f64,
}

impl Odds {
    pub(super) fn of(share: f64) -> Self {
        /// Nothing is divided by less.
        const LEAST_SHARE: f64 = 1e-9;
        Self { against: (1.0 - share) / share.max(LEAST_SHARE) }
    }
}

/// The days on which an order could be renewed.
#[derive(Clone, Copy)]
struct Exposure {
    /// Days from today to its end.
    ends: i32,
    /// The longest lead that it can have: it was placed the day before.
    longest: i32,
    /// Its lead, if it was renewed.
    renewed: Option<i32>,
}

impl<'a> Leads<'a> {
    pub(super) fn read(orders: &'a [Order], renewals: &[Renewal], today: NaiveDate) -> Self {
        let mut leads: Vec<Option<i32>> = vec![None; orders.len()];
        for renewal in renewals.iter().filter(|renewal| renewal.on <= today) {
            leads[renewal.renewed] = Some(renewal.lead);
        }
        let days = |day: NaiveDate, from: NaiveDate| i32::try_from((day - from).num_days()).unwrap_or(i32::MAX);
        let first = days_before(today, 365);
        let mut by_product: BTreeMap<Option<&str>, Vec<Exposure>> = BTreeMap::new();
        for (order, renewed) in orders.iter().zip(leads) {
            let end = last_day(order);
            let is_known = renewed.is_some() || !order.renewed;
            let ends = days(end, today);
            if is_known && end >= first && ends <= LONGEST_LEAD {
                let longest = order.placed.map_or(LONGEST_LEAD, |placed| days(end, placed) - 1);
                by_product.entry(order.product.as_deref()).or_default().push(Exposure { ends, longest, renewed });
            }
        }
        let all: Vec<Exposure> = by_product.values().flatten().copied().collect();
        let mut classes = vec![Class::new(likely(&all))];
        let mut products = BTreeMap::new();
        for (product, exposures) in by_product {
            let own = likely(&exposures);
            if let Some(product) = product.filter(|_| own.len() >= LEAST) {
                products.insert(product, classes.len());
                classes.push(Class::new(own));
            }
        }
        Self { classes, products }
    }

    /// The place of the leads of this order.
    pub(super) fn of(&self, order: &Order) -> usize {
        order.product.as_deref().and_then(|product| self.products.get(product)).copied().unwrap_or(0)
    }
}

/// As many leads as renewals were counted. On each day before its end, an order that is not renewed yet is renewed with the chance that
/// such orders had lately.
fn likely(exposures: &[Exposure]) -> Vec<i32> {
    let made = exposures.iter().filter_map(|order| Some(order.renewed? - order.ends));
    let mut made: Vec<i32> = made.filter(|ago| *ago <= 365).collect();
    made.sort_unstable();
    let Some(newest) = made.get(NEWEST.min(made.len()).saturating_sub(1)) else { return Vec::new() };
    // A few days alone would say that all orders are renewed as early as those of one day.
    let first = (*newest).max(LEAST_DAYS);
    let (mut waiting, mut renewed) = ([0.0; DAYS], [0.0; DAYS]);
    for order in exposures {
        let earliest = order.longest.min(order.ends + first).min(LONGEST_LEAD);
        // Today is not over: an order that is not renewed yet says nothing of it.
        let latest = order.renewed.unwrap_or(order.ends + 1).max(-LATEST_RENEWAL);
        for lead in latest..=earliest {
            waiting[place(lead)] += 1.0;
        }
        if let Some(lead) = order.renewed.filter(|lead| (latest..=earliest).contains(lead)) {
            renewed[place(lead)] += 1.0;
        }
    }
    let mut left = 1.0;
    let chances = waiting.iter().zip(&renewed).map(|(waiting, renewed): (&f64, &f64)| {
        let chance = left * renewed / (waiting + DOUBT);
        left -= chance;
        chance
    });
    quantiles(&chances.collect::<Vec<f64>>(), made.partition_point(|ago| *ago <= first).min(MOST))
}

/// So many leads that together are spread as these chances, of which the first is that of the longest.
fn quantiles(chances: &[f64], wanted: usize) -> Vec<i32> {
    let all = chances.iter().sum::<f64>();
    if all <= 0.0 {
        return Vec::new();
    }
    let mut leads = Vec::with_capacity(wanted);
    let mut so_far = 0.0;
    for (days, chance) in (0..).zip(chances) {
        so_far += chance;
        let shown = (so_far / all * count(wanted) + 0.5).to_usize().unwrap_or(0).min(wanted);
        leads.resize(shown.max(leads.len()), LONGEST_LEAD - days);
    }
    leads.reverse();
    leads
}

fn place(lead: i32) -> usize {
    usize::try_from(LONGEST_LEAD - lead).unwrap_or(0).min(DAYS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An order that was renewed so many days ago, with this lead.
    fn renewed(ago: i32, lead: i32) -> Exposure {
        Exposure { ends: lead - ago, longest: LONGEST_LEAD, renewed: Some(lead) }
    }

    fn waiting(ends: i32) -> Exposure {
        Exposure { ends, longest: LONGEST_LEAD, renewed: None }
    }

    fn mean(leads: &[i32]) -> f64 {
        f64::from(leads.iter().sum::<i32>()) / count(leads.len())
    }

    #[test]
    fn leads_of_a_year_are_those_that_were_made() {
        let exposures: Vec<Exposure> = (0..30).map(|number| renewed(10 + 12 * number, 20 + number % 3)).collect();
        let leads = likely(&exposures);
        assert_eq!((leads.len(), leads[0], leads[29]), (30, 20, 22));
        assert!(leads.is_sorted() && (mean(&leads) - 21.0).abs() < 0.2, "{leads:?}");
    }

    #[test]
    fn where_nothing_was_renewed_there_are_no_leads() {
        assert_eq!(likely(&[]), [0; 0]);
        assert_eq!(likely(&[waiting(30), waiting(-20)]), [0; 0]);
        assert_eq!(quantiles(&[0.0; DAYS], 7), [0; 0]);
    }

    #[test]
    fn orders_that_wait_say_that_leads_are_short() {
        // Three were renewed 60 days before their ends; thirty have passed that day and wait.
        let early: Vec<Exposure> = (1..=3).map(|ago| renewed(ago, 60)).collect();
        let passed: Vec<Exposure> = (20..50).map(waiting).collect();
        let others: Vec<Exposure> = (1..=30).map(|ago| renewed(ago, 5)).collect();
        let leads = likely(&[early, passed, others].concat());
        let longest = leads.iter().filter(|lead| **lead == 60).count();
        assert!((1..=4).contains(&longest), "{leads:?}");
    }

    #[test]
    fn a_batch_of_one_day_does_not_say_that_all_are_renewed_as_early() {
        // Each month's batch is renewed on its last day, 35 to 64 days before the ends.
        let batch = |ago: i32| (0..60).map(move |number| renewed(ago, 35 + number / 2));
        let next = (0..60).map(|number| waiting(64 + number / 2));
        let leads = likely(&batch(1).chain(batch(31)).chain(batch(61)).chain(next).collect::<Vec<_>>());
        assert!((46.0..56.0).contains(&mean(&leads)), "{}", mean(&leads));
    }

    #[test]
    fn a_day_that_has_just_begun_says_nothing_of_orders_that_wait() {
        let past = || (1..=60).flat_map(|ago| (0..50).map(move |_| renewed(ago, 30)));
        let today = || (0..50).map(|_| waiting(30));
        let leads = likely(&past().chain(today()).collect::<Vec<_>>());
        assert!(leads.len() == MOST && leads.iter().all(|lead| *lead == 30), "{leads:?}");
    }

    #[test]
    fn late_renewals_have_leads_below_nothing() {
        let leads = likely(&(1..=40).map(|ago| renewed(ago, -15)).collect::<Vec<_>>());
        assert_eq!(leads, [-15; 40]);
        let half: Vec<Exposure> = (1..=40).map(|ago| renewed(ago, if ago % 2 == 0 { 10 } else { -15 })).collect();
        let late_ones_to_come = (0..25).step_by(2).map(|ago| waiting(ago - 15));
        let late = likely(&half.into_iter().chain(late_ones_to_come).collect::<Vec<_>>())
            .into_iter()
            .filter(|lead| *lead == -15)
            .count();
        assert!((17..=23).contains(&late), "{late}");
    }

    #[test]
    fn an_order_can_have_no_lead_longer_than_it_lasted() {
        let short: Vec<Exposure> = (1..=20).map(|ago| Exposure { longest: 25, ..renewed(ago, 20) }).collect();
        assert_eq!(likely(&short), [20; 20]);
    }

    #[test]
    fn an_order_has_a_lead_that_is_still_ahead_or_none() {
        let class = Class::new(vec![10; 11]);
        assert!(class.possible(9).as_known < 1e-12 && class.possible(10).as_known > 0.9);
        assert_eq!(class.lead(&class.whole, 0, Odds::of(1.0), 0.5), Some(10));
        assert_eq!(class.lead(&class.whole, 0, Odds::of(0.0), 0.5), None);
    }
}
