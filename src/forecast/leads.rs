//! Days before their end on which orders are renewed, learnt from all that could have been renewed lately: also from those that
//! were renewed before their end came, and from those that still wait.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::prelude::ToPrimitive as _;

use super::purchases::{Renewal, last_day};
use super::ratio::count;
use super::renewals::days_before;
pub(super) use super::renewals::{LONGEST_LEAD, OVERDUE_DAYS};
use crate::domain::books::Order;

/// So many of the newest renewals tell the leads, as far as they were made within a year.
const NEWEST: usize = 40;
/// A product has leads of its own from so many renewals on.
const LEAST: usize = 12;
/// A day's orders count as one more, so that a few of them cannot say that none is renewed later.
const DOUBT: f64 = 0.5;
/// As if one lead more were known, of any length below the account's longest, which is one of these.
pub(super) const LONGEST_LEADS: [u8; 4] = [11, 31, 61, 91];
/// Days from the longest lead to the end of what is overdue.
const DAYS: usize = (LONGEST_LEAD + OVERDUE_DAYS + 1).cast_unsigned() as usize;

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

/// The share of a class that an order can still have: what would have come about before today cannot be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Possible {
    /// As those that are known.
    as_known: f64,
    /// As none that is known, by the longest lead of the account.
    in_its_way: [f64; LONGEST_LEADS.len()],
}

impl Class {
    fn new(leads: Vec<i32>) -> Self {
        let all = count(leads.len() + 1);
        let whole = Possible { as_known: count(leads.len()) / all, in_its_way: [1.0 / all; LONGEST_LEADS.len()] };
        Self { leads, all, whole }
    }

    /// For an order that ends in so many days.
    pub(super) fn possible(&self, days: i32) -> Possible {
        let known = self.leads.partition_point(|lead| *lead <= days);
        let own = |longest: u8| f64::from((days + 1).clamp(0, longest.into())) / f64::from(longest) / self.all;
        Possible { as_known: count(known) / self.all, in_its_way: LONGEST_LEADS.map(own) }
    }

    /// The lead of an order's renewal, chosen by a number from 0 to 1; `None` if it is not renewed. The closer its end without a
    /// renewal, the less likely one is, where the others came earlier; the fewer leads are known, the more likely it goes its own way.
    pub(super) fn lead(&self, possible: &Possible, longest: usize, renewed: Odds, chosen: f64) -> Option<i32> {
        let (as_known, in_its_way) = (possible.as_known, possible.in_its_way[longest]);
        // One number says whether it comes, and which lead it has.
        let chosen = chosen * (as_known + in_its_way + renewed.against);
        if chosen < as_known {
            return self.leads.get((chosen * self.all).to_usize().unwrap_or(0)).copied();
        }
        let own = (chosen - as_known) * self.all * f64::from(LONGEST_LEADS[longest]);
        (chosen < as_known + in_its_way).then(|| own.to_i32().unwrap_or(0))
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

/// An order as it tells of leads.
#[derive(Clone, Copy)]
struct Life {
    /// Days from today to its end.
    ends: i32,
    /// Days from its placement to its end.
    longest: i32,
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
        let mut by_product: BTreeMap<Option<&str>, Vec<Life>> = BTreeMap::new();
        for (order, renewed) in orders.iter().zip(leads) {
            let end = last_day(order);
            let is_known = renewed.is_some() || !order.renewed;
            let ends = days(end, today);
            if is_known && end >= first && ends <= LONGEST_LEAD {
                let longest = order.placed.map_or(LONGEST_LEAD, |placed| days(end, placed) - 1);
                by_product.entry(order.product.as_deref()).or_default().push(Life { ends, longest, renewed });
            }
        }
        let all: Vec<Life> = by_product.values().flatten().copied().collect();
        let mut classes = vec![Class::new(likely(&all))];
        let mut products = BTreeMap::new();
        for (product, lives) in by_product {
            let own = likely(&lives);
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

/// As many leads as renewals were counted. On each day before its end, an order that is not renewed yet is with the chance that such
/// orders had lately.
fn likely(lives: &[Life]) -> Vec<i32> {
    let mut made: Vec<i32> =
        lives.iter().filter_map(|life| Some(life.renewed? - life.ends)).filter(|ago| *ago <= 365).collect();
    made.sort_unstable();
    made.truncate(NEWEST);
    let Some(longest_ago) = made.last().copied() else { return Vec::new() };
    let (mut waiting, mut renewed) = ([0.0; DAYS], [0.0; DAYS]);
    for life in lives {
        let earliest = life.longest.min(life.ends + longest_ago).min(LONGEST_LEAD);
        let latest = life.renewed.unwrap_or(life.ends).max(-OVERDUE_DAYS);
        for lead in latest..=earliest {
            waiting[place(lead)] += 1.0;
        }
        if let Some(lead) = life.renewed.filter(|lead| (latest..=earliest).contains(lead)) {
            renewed[place(lead)] += 1.0;
        }
    }
    let mut left = 1.0;
    let parts: Vec<f64> = waiting
        .iter()
        .zip(&renewed)
        .map(|(waiting, renewed)| {
            let part: f64 = left * renewed / (waiting + DOUBT);
            left -= part;
            part
        })
        .collect();
    quantiles(&parts, made.len())
}

/// So many leads that together are spread as these parts, of which the first is that of the longest.
fn quantiles(parts: &[f64], wanted: usize) -> Vec<i32> {
    let each = parts.iter().sum::<f64>() / count(wanted);
    let mut leads = Vec::with_capacity(wanted);
    let mut so_far = 0.0;
    for (days, part) in (0..).zip(parts) {
        so_far += part;
        let told = (so_far / each + 0.5).to_usize().unwrap_or(0).min(wanted);
        leads.resize(told.max(leads.len()), LONGEST_LEAD - days);
    }
    leads.reverse();
    leads
}

fn place(lead: i32) -> usize {
    usize::try_from(LONGEST_LEAD - lead).unwrap_or(0).min(DAYS - 1)
}
