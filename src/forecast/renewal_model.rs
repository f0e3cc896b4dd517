//! The way in which an account renews its orders, as its past shows it: their share, the days before their end, the price and the
//! source of the money; and the orders to which that applies.

use std::collections::BTreeMap;

use chrono::{NaiveDate, Timelike as _};

use super::HORIZON_DAYS;
use super::calendar::Calendar;
use super::leads::{Class, Leads, Possible};
use super::payments::{ByPayment, from_balance};
use super::prices::{PriceKey, Prices, key, price_ratio};
use super::purchases::{Payment, PurchaseKind, Purchases, Renewal, last_day};
use super::ratio::{Ratio, UNCHANGED, scaled, share};
use super::renewals::{LATEST_RENEWAL, LONGEST_LEAD, days_before, days_between, is_open};
use super::share::Share;
use crate::domain::history::Order;
use crate::forecast::order_class::{ByStanding, Standing, Standings};
use crate::forecast::spend_history::{Minor, minor};

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

/// The past of an account's funds.
pub(super) struct Funds<F: Fn(NaiveDate) -> bool> {
    /// The most that they have been since each of the last days, the newest first.
    pub(super) since: Vec<Minor>,
    /// Tells if a day lies in a week that is left out of all that is learnt.
    pub(super) tells_nothing: F,
}

impl<F: Fn(NaiveDate) -> bool> Funds<F> {
    /// Tells if this order could not have been paid since so many days ago. Where it could be since, nobody wanted to renew it: who pays
    /// in just before each order may have had too little then, too.
    fn are_short_of(&self, order: &Order, ago: i32) -> bool {
        let since = usize::try_from(ago).ok().and_then(|ago| self.since.get(ago));
        since.is_some_and(|most| *most < minor(order.price))
    }
}

/// The way in which an account renews its orders.
#[derive(Debug, Clone)]
pub(super) struct RenewalModel {
    pub(super) dues: Vec<Due>,
    /// Share of the orders that are renewed, by their standing.
    pub(super) renewed: ByStanding<Share>,
    /// Share of the renewals that is paid from the balance, by the source of the money for the order.
    pub(super) from_balance: ByPayment<Share>,
    /// Days from each renewal to the end of its order: of all orders, then of each product.
    pub(super) leads: Vec<Class>,
    pub(super) calendar: Calendar,
    /// True if most of a day's purchases lie less than so many times 24 hours ahead as the day is days away.
    pub(super) is_late_in_the_day: bool,
    /// Ratios of the next price to the last; never an empty list.
    pub(super) prices: Vec<Vec<Ratio>>,
    /// Share of the new orders in what is bought beside renewals.
    pub(super) new_orders: f64,
    /// Days that a new order usually lasts.
    pub(super) new_length: u32,
}

impl RenewalModel {
    pub(super) fn read<F: Fn(NaiveDate) -> bool>(
        purchases: &Purchases<'_>,
        prices: &Prices<'_>,
        funds: &Funds<F>,
    ) -> Self {
        let today = purchases.now.date_naive();
        let (orders, renewals) = (purchases.orders, recent(purchases, today));
        let standings = Standings::read(purchases, &renewals);
        let short = |order: &Order, ago: i32| funds.are_short_of(order, ago);
        let tells_nothing = |order: &Order| {
            let end = last_day(order);
            (funds.tells_nothing)(end) || short(order, days_between(end, today))
        };
        let leads = Leads::read(orders, &purchases.renewals, today, &short);
        let (dues, prices) = dues(purchases, prices, &leads, &standings, &short);
        Self {
            dues,
            renewed: standings.shares(tells_nothing),
            from_balance: from_balance(purchases, &renewals),
            leads: leads.classes,
            calendar: Calendar::read(&renewals, today),
            is_late_in_the_day: purchases.now.hour() >= 12,
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
    short: &impl Fn(&Order, i32) -> bool,
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
        let (lead, days) = (leads.of(order), days - leads.earlier(order));
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
            possible: leads.classes[lead].possible(days, |passed| short(order, passed)),
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
