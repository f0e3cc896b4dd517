//! The way in which an account renews its orders, learnt from those that have ended: their share, the days before their end,
//! the price, and the source of the money; and the orders to which that applies.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive as _, ToPrimitive as _};

use super::HORIZON_DAYS;
use super::history::{Minor, minor};
use super::prices::{PriceKey, Prices, key, price_ratio};
use super::purchases::{Payment, PurchaseKind, Purchases, Renewal, last_day};
use super::ratio::{Ratio, UNCHANGED, scaled, share};
use super::renewals::{days_before, is_open};
use super::share::Share;
use crate::domain::books::Order;

/// An order can still be renewed up to so many days after its end.
const OVERDUE_DAYS: i32 = 7;
/// Orders that end so long after the horizon may still be renewed within it.
pub(super) const LONGEST_LEAD: i32 = 100;
/// Before any order has ended, the parameters of a beta distribution: about six in seven are renewed.
const RENEWED_BEFORE: (u32, u32) = (6, 1);
/// The same of orders whose certificate ended long before them, and was not issued anew: few are wanted any more.
const IDLE_RENEWED_BEFORE: (u32, u32) = (2, 3);
/// Days that count as long.
const IDLE_DAYS: u64 = 30;
/// All orders together count as so many cases of each standing.
const POOLED: u32 = 8;
/// An order may end so many days later than it was bought for without being a renewal.
const CARRIED_DAYS: i64 = 2;
/// The source of the money for an order probably pays for its renewal, too.
const STAYS_WITH_BALANCE: (u32, u32) = (21, 1);
const STAYS_ELSEWHERE: (u32, u32) = (1, 13);
const UNKNOWN_PAYMENT: (u32, u32) = (13, 1);
/// More cases than these make a share no more certain: accounts change.
const MOST_ENDED: u32 = 60;
const MOST_PAYMENTS: u32 = 200;
/// A product has leads of its own from so many renewals on.
const LEAST_LEADS: usize = 12;
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
    pub(super) length: u32,
    pub(super) payment: Payment,
    pub(super) standing: Standing,
    /// The place of the leads that it may have, and how many of them can still be.
    pub(super) leads: usize,
    pub(super) possible: usize,
    /// The place of the ratios of its next price to its last.
    pub(super) prices: usize,
}

/// Traits of an order that make its renewal more or less likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is a renewal itself.
    Renewed,
    /// It is the first of its kind, as far as is known.
    First,
    /// Its certificate ended long before it, and was not issued anew.
    Idle,
}

/// Numbers of orders that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) renewed: usize,
    pub(super) lapsed: usize,
}

/// The way in which an account renews its orders.
#[derive(Debug, Clone)]
pub(super) struct RenewalModel {
    pub(super) dues: Vec<Due>,
    /// Share of the orders that are renewed, by their standing.
    pub(super) renewed: [Share; 3],
    from_balance: Share,
    from_elsewhere: Share,
    from_unknown: Share,
    /// Days from each renewal to the end of its order, shortest first; all of them, then those of each product
    /// that has enough.
    pub(super) leads: Vec<Vec<i32>>,
    /// Ratios of the next price to the last; never an empty list.
    pub(super) prices: Vec<Vec<Ratio>>,
    /// Share of the new orders in what is bought beside renewals.
    pub(super) new_orders: f64,
    /// Days that a new order usually lasts.
    pub(super) new_length: u32,
}

impl RenewalModel {
    pub(super) fn read(purchases: &Purchases<'_>, prices: &Prices<'_>) -> Self {
        let today = purchases.now.date_naive();
        let (orders, renewals) = (purchases.orders, recent(purchases, today));
        let standings = Standings::read(purchases);
        let leads = Leads::read(orders, &renewals, today);
        let (dues, prices) = dues(purchases, prices, &leads, &standings);
        let after = |payment| {
            let its = renewals.iter().filter(|renewal| purchases.payments[renewal.renewed] == payment);
            payments(&its.map(|renewal| renewal.by.map_or(Payment::Balance, |by| purchases.payments[by])))
        };
        let paid = |cases, prior| Share::new(cases, prior, MOST_PAYMENTS);
        let (balance, elsewhere) = payments(&purchases.payments.iter().copied());
        let (stays, leaves) = after(Payment::Balance);
        // Where nothing was ever paid from elsewhere, every order says so.
        let stays = if elsewhere == 0 { stays + balance } else { stays };
        Self {
            dues,
            renewed: standings.shares(orders, today),
            from_balance: paid((stays, leaves), STAYS_WITH_BALANCE),
            from_elsewhere: paid(after(Payment::Elsewhere), STAYS_ELSEWHERE),
            from_unknown: unknown_from_balance(balance, elsewhere),
            leads: leads.classes,
            prices,
            new_orders: new_orders(purchases),
            new_length: usual_length(orders),
        }
    }

    /// Nothing will be renewed that is known.
    pub(super) fn is_empty(&self) -> bool {
        self.dues.is_empty() && self.new_orders <= 0.0
    }

    /// The share of such orders' renewals that is paid from the balance.
    pub(super) fn paid_from_balance(&self, payment: Payment) -> &Share {
        match payment {
            Payment::Balance => &self.from_balance,
            Payment::Elsewhere => &self.from_elsewhere,
            Payment::Unknown => &self.from_unknown,
        }
    }
}

/// The renewals to come, and the ratios that their prices may change by.
fn dues(
    purchases: &Purchases<'_>,
    prices: &Prices<'_>,
    leads: &Leads<'_>,
    standings: &Standings,
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
            (is_open(order, today) || is_overdue) && (-OVERDUE_DAYS..last).contains(days)
        };
        let Some(days) = days.filter(is_due) else { continue };
        let lead = leads.of(order);
        let class = (key(order), prices.has_changed_before(order));
        let class = *classes.entry(class).or_insert_with(|| {
            ratios.push(prices.next(order, today));
            ratios.len() - 1
        });
        dues.push(Due {
            price: scaled(minor(order.price), beside_price),
            days,
            length: length(order).unwrap_or(USUAL_LENGTH).max(SHORTEST_LENGTH),
            payment: *payment,
            standing: standings.of(place, order, today),
            leads: lead,
            possible: leads.classes[lead].partition_point(|lead| *lead <= days),
            prices: class,
        });
    }
    (dues, ratios)
}

/// The share of the renewals of orders that are older than the ledger that is paid from the balance.
fn unknown_from_balance(balance: usize, elsewhere: usize) -> Share {
    Share::new((balance, elsewhere), UNKNOWN_PAYMENT, MOST_PAYMENTS)
}

/// The mean of that share, for people: all of them where no payment is known to have been made elsewhere, and `None` where no
/// payment is known.
pub(super) fn share_from_balance(made: &[Payment]) -> Option<Decimal> {
    /// Decimal places of the share.
    const PLACES: u32 = 4;
    match payments(&made.iter().copied()) {
        (0, 0) => None,
        (_, 0) => Some(Decimal::ONE),
        (balance, elsewhere) => {
            Decimal::from_f64(unknown_from_balance(balance, elsewhere).mean()).map(|mean| mean.round_dp(PLACES))
        }
    }
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

/// Numbers of these that were made from the balance, and from elsewhere.
fn payments(all: &(impl Iterator<Item = Payment> + Clone)) -> (usize, usize) {
    let count = |payment| all.clone().filter(|its| *its == payment).count();
    (count(Payment::Balance), count(Payment::Elsewhere))
}

/// Renewals of orders that ended in the last year, or have not ended yet.
fn recent(purchases: &Purchases<'_>, today: NaiveDate) -> Vec<Renewal> {
    let from = days_before(today, 365);
    let recent = |renewal: &&Renewal| last_day(&purchases.orders[renewal.renewed]) >= from && renewal.on <= today;
    purchases.renewals.iter().filter(recent).copied().collect()
}

/// The orders that are renewals.
struct Standings {
    follows: Vec<bool>,
}

impl Standings {
    fn read(purchases: &Purchases<'_>) -> Self {
        let mut follows: Vec<bool> = purchases.orders.iter().map(carries_on).collect();
        for by in purchases.renewals.iter().filter_map(|renewal| renewal.by) {
            follows[by] = true;
        }
        Self { follows }
    }

    fn of(&self, place: usize, order: &Order, today: NaiveDate) -> Standing {
        match self.follows[place] {
            _ if is_idle(order, today) => Standing::Idle,
            true => Standing::Renewed,
            false => Standing::First,
        }
    }

    /// Share of the orders of each standing that were renewed. What is known of all of them counts for a few cases of each.
    fn shares(&self, orders: &[Order], today: NaiveDate) -> [Share; 3] {
        let of = |wanted: &[Standing]| {
            let its =
                orders.iter().enumerate().filter(|(place, order)| wanted.contains(&self.of(*place, order, today)));
            ended(its.map(|(_, order)| order), today)
        };
        let all = of(&[Standing::Renewed, Standing::First]);
        let pooled = Share::new((all.renewed, all.lapsed), RENEWED_BEFORE, MOST_ENDED).mean();
        let hits = (pooled * f64::from(POOLED)).round().to_u32().unwrap_or(0).min(POOLED);
        let share = |standing, prior| {
            let ended = of(&[standing]);
            Share::new((ended.renewed, ended.lapsed), prior, MOST_ENDED)
        };
        let of_all = (hits.max(1), (POOLED - hits).max(1));
        [share(Standing::Renewed, of_all), share(Standing::First, of_all), share(Standing::Idle, IDLE_RENEWED_BEFORE)]
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

/// Numbers of these orders that ended in the last year and were renewed, and were not.
pub(super) fn ended<'o>(orders: impl IntoIterator<Item = &'o Order>, today: NaiveDate) -> Ended {
    let (from, to) = (days_before(today, 365), days_before(today, 7));
    let mut ended = Ended { renewed: 0, lapsed: 0 };
    for order in orders {
        if order.ends().is_some_and(|end| end >= from && end < to) {
            *(if order.renewed { &mut ended.renewed } else { &mut ended.lapsed }) += 1;
        }
    }
    ended
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

/// Days from each renewal to the end of its order.
struct Leads<'a> {
    classes: Vec<Vec<i32>>,
    products: BTreeMap<&'a str, usize>,
}

impl<'a> Leads<'a> {
    /// Of orders that have not ended, only those are known that were renewed early: they count only where few have ended.
    fn read(orders: &'a [Order], renewals: &[Renewal], today: NaiveDate) -> Self {
        let mut by_product: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        let mut classes = vec![Vec::with_capacity(renewals.len())];
        let has_ended = |renewal: &&Renewal| last_day(&orders[renewal.renewed]) < today;
        let enough = renewals.iter().filter(has_ended).count() >= LEAST_LEADS;
        for renewal in renewals.iter().filter(|renewal| !enough || has_ended(renewal)) {
            classes[0].push(renewal.lead);
            if let Some(product) = &orders[renewal.renewed].product {
                by_product.entry(product).or_default().push(renewal.lead);
            }
        }
        let mut products = BTreeMap::new();
        for (product, leads) in by_product.into_iter().filter(|(_, leads)| leads.len() >= LEAST_LEADS) {
            products.insert(product, classes.len());
            classes.push(leads);
        }
        for leads in &mut classes {
            leads.sort_unstable();
        }
        Self { classes, products }
    }

    fn of(&self, order: &Order) -> usize {
        order.product.as_deref().and_then(|product| self.products.get(product)).copied().unwrap_or(0)
    }
}
