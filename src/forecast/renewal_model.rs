//! The way in which an account renews its orders, as its past shows it: their share, the days before their end, the price and the
//! source of the money; and the orders to which that applies.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::HORIZON_DAYS;
use super::history::{Minor, minor};
use super::leads::{Class, Leads, Possible};
use super::payments::{ByPayment, from_balance};
use super::prices::{PriceKey, Prices, key, price_ratio};
use super::purchases::{Payment, PurchaseKind, Purchases, Renewal, last_day};
use super::ratio::{Ratio, UNCHANGED, count, scaled, share};
use super::renewals::{LATEST_RENEWAL, LONGEST_LEAD, days_before, is_open};
use super::share::Share;
use super::standing::{ByStanding, Standing, Standings};
use crate::domain::books::Order;

/// Days of the week tell something from so many renewals on. One on which less than this share of a usual day's are made is avoided.
const LEAST_WEEKDAYS: usize = 14;
const SELDOM: f64 = 0.5;
/// Days of an order whose length is not known.
const USUAL_LENGTH: u32 = 365;
/// No order is taken to last shorter: bounds how often it is renewed in a year.
const SHORTEST_LENGTH: u32 = 7;

/// One renewal to come.
#[derive(Debug, Clone)]
pub(super) struct Due {
    /// Price that is charged for the order.
    pub(super) price: Minor,
    /// Days until it ends; below 0 where it has ended and may still be renewed.
    pub(super) days: i32,
    /// Days that it lasts, and so does its renewal.
    pub(super) length: i32,
    pub(super) payment: Payment,
    pub(super) standing: Standing,
    /// The place of the leads that it may have, and the share of them that can still be.
    pub(super) leads: usize,
    pub(super) possible: Possible,
    /// The place of the ratios of its next price to its last.
    pub(super) prices: usize,
}

/// The way in which an account renews its orders.
#[derive(Debug, Clone)]
pub(super) struct RenewalModel {
    pub(super) dues: Vec<Due>,
    /// Share of the orders that are renewed, by their standing.
    pub(super) renewed: ByStanding<Share>,
    /// Share of the renewals that is paid from the balance, by the source of the money for the order.
    pub(super) from_balance: ByPayment<Share>,
    /// Days from each renewal to the end of its order: those of all orders, then those of each product with enough.
    pub(super) leads: Vec<Class>,
    /// The chance of each day to come, beginning with today, that a renewal due then is made on it, and not on one next to it.
    pub(super) weekdays: [f64; 7],
    /// Ratios of the next price to the last; never an empty list.
    pub(super) prices: Vec<Vec<Ratio>>,
    /// Share of the new orders in what is bought beside renewals.
    pub(super) new_orders: f64,
    /// Days that a new order usually lasts.
    pub(super) new_length: u32,
}

impl RenewalModel {
    /// Reads it from these purchases. Orders that ended on a day that `tells_nothing` say nothing of the share that is renewed.
    pub(super) fn read(
        purchases: &Purchases<'_>,
        prices: &Prices<'_>,
        tells_nothing: impl Fn(NaiveDate) -> bool,
    ) -> Self {
        let today = purchases.now.date_naive();
        let (orders, renewals) = (purchases.orders, recent(purchases, today));
        let standings = Standings::read(purchases, &renewals);
        let leads = Leads::read(orders, &purchases.renewals, today);
        let (dues, prices) = dues(purchases, prices, &leads, &standings);
        Self {
            dues,
            renewed: standings.shares(tells_nothing),
            from_balance: from_balance(purchases, &renewals),
            leads: leads.classes,
            weekdays: weekdays(&renewals, today),
            prices,
            new_orders: new_orders(purchases),
            new_length: usual_length(orders),
        }
    }

    /// Nothing will be renewed that is known.
    pub(super) fn is_empty(&self) -> bool {
        self.dues.is_empty() && self.new_orders <= 0.0
    }
}

/// The renewals to come, and the ratios that their prices may change by.
fn dues(
    purchases: &Purchases<'_>,
    prices: &Prices<'_>,
    leads: &Leads<'_>,
    standings: &Standings<'_>,
) -> (Vec<Due>, Vec<Vec<Ratio>>) {
    let today = purchases.now.date_naive();
    let last = i32::try_from(HORIZON_DAYS).unwrap_or(i32::MAX) + LONGEST_LEAD;
    let beside_price = beside_price(purchases);
    let mut classes: BTreeMap<(PriceKey<'_>, bool), usize> = BTreeMap::new();
    let (mut dues, mut ratios) = (Vec::new(), Vec::new());
    for (place, (order, payment)) in purchases.orders.iter().zip(&purchases.payments).enumerate() {
        let days = order.probably_ends().and_then(|end| i32::try_from((end - today).num_days()).ok());
        let is_due = |days: &i32| {
            let is_overdue = order.expired && !order.renewed && *days <= 0;
            (is_open(order, today) || is_overdue) && (-LATEST_RENEWAL..last).contains(days)
        };
        let Some(days) = days.filter(is_due) else { continue };
        let lead = leads.of(order);
        let class = (key(order), prices.has_changed_before(order));
        let class = *classes.entry(class).or_insert_with(|| {
            ratios.push(prices.of_renewal(order, today));
            ratios.len() - 1
        });
        dues.push(Due {
            price: scaled(minor(order.price), beside_price),
            days,
            length: i32::try_from(length(order).unwrap_or(USUAL_LENGTH).max(SHORTEST_LENGTH)).unwrap_or(i32::MAX),
            payment: *payment,
            standing: standings.of(place),
            leads: lead,
            possible: leads.classes[lead].possible(days),
            prices: class,
        });
    }
    (dues, ratios)
}

/// The usual charge for an order, as a ratio to its listed price: more than 1 where that is without tax.
fn beside_price(purchases: &Purchases<'_>) -> Ratio {
    let charged = purchases.all.iter().filter_map(|purchase| {
        let price = minor(purchases.orders.get(purchase.order?)?.price);
        price_ratio(price, minor(-purchase.entry.change))
    });
    let mut ratios: Vec<Ratio> = charged.collect();
    ratios.sort_unstable();
    ratios.get(ratios.len() / 2).copied().unwrap_or(UNCHANGED)
}

/// Renewals of orders that ended in the last year, or have not ended yet.
fn recent(purchases: &Purchases<'_>, today: NaiveDate) -> Vec<Renewal> {
    let from = days_before(today, 365);
    let recent = |renewal: &&Renewal| last_day(&purchases.orders[renewal.renewed]) >= from && renewal.on <= today;
    purchases.renewals.iter().filter(recent).copied().collect()
}

/// A day of the week on which hardly any of these was made is one on which few will be.
fn weekdays(renewals: &[Renewal], today: NaiveDate) -> [f64; 7] {
    let mut made = [0; 7];
    for renewal in renewals {
        let place = usize::try_from((renewal.on - today).num_days().rem_euclid(7)).unwrap_or(0);
        made[place] += 1;
    }
    let usual = count(renewals.len()) * SELDOM / 7.0;
    made.map(|made| if renewals.len() < LEAST_WEEKDAYS { 1.0 } else { (count(made) / usual).min(1.0) })
}

/// Days that an order lasts from the day it was placed, or from the end of the one that it renewed.
fn length(order: &Order) -> Option<u32> {
    let until = order.bought_until.or_else(|| order.probably_ends())?;
    u32::try_from((until - order.placed?).num_days()).ok().filter(|days| *days > 0)
}

fn usual_length(orders: &[Order]) -> u32 {
    let mut lengths: Vec<u32> = orders.iter().filter_map(length).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(USUAL_LENGTH)
}

/// Share of the new orders in what was bought beside renewals.
fn new_orders(purchases: &Purchases<'_>) -> f64 {
    let sum = |kind| -> Minor {
        let its = purchases.all.iter().filter(|purchase| purchase.kind == kind);
        its.fold(0, |sum: Minor, purchase| sum.saturating_add(minor(purchase.cost)))
    };
    let (new, other) = (sum(PurchaseKind::NewOrder), sum(PurchaseKind::Other));
    share(new, new.saturating_add(other))
}
