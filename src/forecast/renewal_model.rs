//! The way in which an account renews its orders, learnt from those that have ended: their share, the days before their end,
//! the price, and the source of the money; and the orders to which that applies.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive as _, ToPrimitive as _};

use super::HORIZON_DAYS;
use super::history::{Minor, minor};
use super::leads::{Class, LONGEST_LEAD, Leads, OVERDUE_DAYS, Possible};
use super::prices::{PriceKey, Prices, key, price_ratio};
use super::purchases::{Payment, PurchaseKind, Purchases, Renewal, last_day};
use super::ratio::{Ratio, UNCHANGED, count, scaled, share};
use super::renewals::{days_before, is_open};
use super::share::{Case, Share, changed};
use crate::domain::books::Order;

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
/// So many of the newest orders that ended tell if the share has changed.
const MOST_CASES: usize = 300;
const MOST_PAYMENTS: u32 = 200;
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
    pub(super) fn read(purchases: &Purchases<'_>, prices: &Prices<'_>) -> Self {
        let today = purchases.now.date_naive();
        let (orders, renewals) = (purchases.orders, recent(purchases, today));
        let standings = Standings::read(purchases);
        let leads = Leads::read(orders, &purchases.renewals, today);
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
            ratios.push(prices.of_renewal(order, today));
            ratios.len() - 1
        });
        dues.push(Due {
            price: scaled(minor(order.price), beside_price),
            days,
            length: i32::try_from(length(order).unwrap_or(USUAL_LENGTH).max(SHORTEST_LENGTH)).unwrap_or(i32::MAX),
            payment: *payment,
            standing: standings.of(place, order, today),
            leads: lead,
            possible: leads.classes[lead].possible(days),
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

    /// Share of the orders of each standing that are renewed now. What is known of all of them counts for a few cases of each.
    fn shares(&self, orders: &[Order], today: NaiveDate) -> [Share; 3] {
        let mut ended: Vec<(NaiveDate, u64, usize)> = orders
            .iter()
            .enumerate()
            .filter(|(_, order)| has_ended_lately(order, today))
            .map(|(place, order)| (last_day(order), order.id, place))
            .collect();
        ended.sort_unstable();
        let standing = |place: usize| self.of(place, &orders[place], today);
        let (idle, wanted): (Vec<usize>, Vec<usize>) =
            ended.into_iter().map(|(.., place)| place).partition(|place| standing(*place) == Standing::Idle);
        let wanted = &wanted[wanted.len().saturating_sub(MOST_CASES)..];
        let case = |place: &usize| Case { kind: self.follows[*place], hit: orders[*place].renewed };
        let cases: Vec<Case> = wanted.iter().map(case).collect();
        let changed = changed(&cases);
        let share = |counts: &dyn Fn(&Case) -> bool, prior| {
            Share::at_the_end(&cases, counts, &changed, prior, MOST_ENDED)
        };
        let pooled = share(&|_| true, RENEWED_BEFORE).mean();
        let hits = (pooled * f64::from(POOLED)).round().to_u32().unwrap_or(0).min(POOLED);
        let of_all = (hits.max(1), (POOLED - hits).max(1));
        let of = |follows: bool| share(&|case| case.kind == follows, of_all);
        let renewed = idle.iter().filter(|place| orders[**place].renewed).count();
        let idle = Share::new((renewed, idle.len() - renewed), IDLE_RENEWED_BEFORE, MOST_ENDED);
        [of(true), of(false), idle]
    }
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
    let mut ended = Ended { renewed: 0, lapsed: 0 };
    for order in orders.into_iter().filter(|order| has_ended_lately(order, today)) {
        *(if order.renewed { &mut ended.renewed } else { &mut ended.lapsed }) += 1;
    }
    ended
}

/// Tells if the order ended in the last year, and so long ago that it is not renewed any more if it was not.
fn has_ended_lately(order: &Order, today: NaiveDate) -> bool {
    let (from, to) = (days_before(today, 365), days_before(today, 7));
    order.ends().is_some_and(|end| end >= from && end < to)
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
