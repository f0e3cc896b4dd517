//! The way in which an account renews its orders, as its past shows it: their share, the days before their end, the price and the
//! source of the money; and the orders to which that applies.

use std::collections::BTreeMap;

use chrono::{NaiveDate, Timelike as _};

use super::HORIZON_DAYS;
use super::calendar::RenewalCalendar;
use super::leads::{LeadDistribution, RemainingLeads, RenewalLeads};
use super::payments::{ByPaymentSource, from_balance};
use super::prices::{PriceHistory, PriceKey, price_key, price_ratio};
use super::purchases::{PaymentSource, PurchaseKind, Purchases, Renewal, order_end};
use super::ratio::{Ratio, UNCHANGED, scaled, share};
use super::renewals::{MAX_DAYS_AFTER_END, MAX_LEAD_DAYS, days_before, days_between, must_be_renewed};
use super::share::ShareDistribution;
use crate::domain::order::Order;
use crate::forecast::order_class::{ByOrderClass, OrderClass, OrderClasses};
use crate::forecast::spend_history::{Minor, minor};

/// Days of an order whose length is not known.
const DEFAULT_LENGTH_DAYS: u32 = 365;
/// No order is taken to last shorter: bounds how often it is renewed in a year.
const MIN_LENGTH_DAYS: u32 = 7;

/// One renewal to come.
#[derive(Debug, Clone)]
pub(super) struct DueRenewal {
    /// Price that is charged for the order.
    pub(super) price: Minor,
    /// Days until it ends; below 0 where it has ended and may still be renewed.
    pub(super) days_to_end: i32,
    /// Days that it lasts, and so does its renewal.
    pub(super) length_days: i32,
    pub(super) payment_source: PaymentSource,
    pub(super) order_class: OrderClass,
    /// The place of the leads that it may have, and the share of them that can still be.
    pub(super) lead_distribution: usize,
    pub(super) remaining_leads: RemainingLeads,
    /// The place of the ratios of its next price to its last.
    pub(super) price_ratios: usize,
}

/// The past of an account's funds.
pub(super) struct FundsHistory<F: Fn(NaiveDate) -> bool> {
    /// The most that they have been since each of the last days, the newest first.
    pub(super) highest_since: Vec<Minor>,
    /// Tells if a day lies in a week that is left out of all that is learnt.
    pub(super) is_uninformative: F,
}

impl<F: Fn(NaiveDate) -> bool> FundsHistory<F> {
    /// Tells if this order could not have been paid since so many days ago. Where it could be since, nobody wanted to renew it: who pays
    /// in just before each order may have had too little then, too.
    fn could_not_pay(&self, order: &Order, ago: i32) -> bool {
        let since = usize::try_from(ago).ok().and_then(|ago| self.highest_since.get(ago));
        since.is_some_and(|most| *most < minor(order.price))
    }
}

/// The way in which an account renews its orders.
#[derive(Debug, Clone)]
pub(super) struct RenewalModel {
    pub(super) due_renewals: Vec<DueRenewal>,
    /// Share of the orders that are renewed, by their standing.
    pub(super) renewed: ByOrderClass<ShareDistribution>,
    /// Share of the renewals that is paid from the balance, by the source of the money for the order.
    pub(super) from_balance: ByPaymentSource<ShareDistribution>,
    /// Days from each renewal to the end of its order: of all orders, then of each product.
    pub(super) lead_distributions: Vec<LeadDistribution>,
    pub(super) calendar: RenewalCalendar,
    /// True if most of a day's purchases lie less than so many times 24 hours ahead as the day is days away.
    pub(super) is_late_in_the_day: bool,
    /// Ratios of the next price to the last; never an empty list.
    pub(super) price_ratios: Vec<Vec<Ratio>>,
    /// Share of the new orders in what is bought beside renewals.
    pub(super) new_order_share: f64,
    /// Days that a new order usually lasts.
    pub(super) new_order_days: u32,
}

impl RenewalModel {
    pub(super) fn read<F: Fn(NaiveDate) -> bool>(
        purchases: &Purchases<'_>,
        prices: &PriceHistory<'_>,
        funds: &FundsHistory<F>,
    ) -> Self {
        let today = purchases.now.date_naive();
        let (orders, renewals) = (purchases.orders, recent_renewals(purchases, today));
        let standings = OrderClasses::read(purchases, &renewals);
        let short = |order: &Order, ago: i32| funds.could_not_pay(order, ago);
        let is_uninformative = |order: &Order| {
            let end = order_end(order);
            (funds.is_uninformative)(end) || short(order, days_between(end, today))
        };
        let leads = RenewalLeads::read(orders, &purchases.renewals, today, &short);
        let (due_renewals, price_ratios) = due_renewals(purchases, prices, &leads, &standings, &short);
        Self {
            due_renewals,
            renewed: standings.renewal_shares(is_uninformative),
            from_balance: from_balance(purchases, &renewals),
            lead_distributions: leads.distributions,
            calendar: RenewalCalendar::read(&renewals, today),
            is_late_in_the_day: purchases.now.hour() >= 12,
            price_ratios,
            new_order_share: new_order_share(purchases),
            new_order_days: typical_length(orders),
        }
    }

    /// Nothing will be renewed that is known.
    pub(super) fn is_empty(&self) -> bool {
        self.due_renewals.is_empty() && self.new_order_share <= 0.0
    }
}

/// The renewals to come, and the ratios that their prices may change by.
fn due_renewals(
    purchases: &Purchases<'_>,
    prices: &PriceHistory<'_>,
    leads: &RenewalLeads<'_>,
    standings: &OrderClasses<'_>,
    short: &impl Fn(&Order, i32) -> bool,
) -> (Vec<DueRenewal>, Vec<Vec<Ratio>>) {
    let today = purchases.now.date_naive();
    let last = i32::try_from(HORIZON_DAYS).unwrap_or(i32::MAX) + MAX_LEAD_DAYS;
    let charge_ratio = charge_ratio_to_price(purchases);
    let mut classes: BTreeMap<(PriceKey<'_>, bool), usize> = BTreeMap::new();
    let (mut due, mut ratios) = (Vec::new(), Vec::new());
    for (place, (order, payment)) in purchases.orders.iter().zip(&purchases.payments).enumerate() {
        let days = order.probably_ends().and_then(|end| i32::try_from((end - today).num_days()).ok());
        let is_due = |days: &i32| {
            let is_overdue = order.expired && !order.renewed && *days <= 0;
            (must_be_renewed(order, today) || is_overdue) && (-MAX_DAYS_AFTER_END..last).contains(days)
        };
        let Some(days) = days.filter(is_due) else { continue };
        let (lead, days) = (leads.distribution_of(order), days - leads.days_earlier(order));
        let class = (price_key(order), prices.has_changed_before(order));
        let class = *classes.entry(class).or_insert_with(|| {
            ratios.push(prices.renewal_ratios(order, today));
            ratios.len() - 1
        });
        due.push(DueRenewal {
            price: scaled(minor(order.price), charge_ratio),
            days_to_end: days,
            length_days: i32::try_from(order_length(order).unwrap_or(DEFAULT_LENGTH_DAYS).max(MIN_LENGTH_DAYS))
                .unwrap_or(i32::MAX),
            payment_source: *payment,
            order_class: standings.of(place),
            lead_distribution: lead,
            remaining_leads: leads.distributions[lead].remaining(days, |passed| short(order, passed)),
            price_ratios: class,
        });
    }
    (due, ratios)
}

/// The usual charge for an order, as a ratio to its listed price: more than 1 where that is without tax.
fn charge_ratio_to_price(purchases: &Purchases<'_>) -> Ratio {
    let charged = purchases.all.iter().filter_map(|purchase| {
        let price = minor(purchases.orders.get(purchase.order?)?.price);
        price_ratio(price, minor(-purchase.entry.change))
    });
    let mut ratios: Vec<Ratio> = charged.collect();
    ratios.sort_unstable();
    ratios.get(ratios.len() / 2).copied().unwrap_or(UNCHANGED)
}

/// Renewals of orders that ended in the last year, or have not ended yet.
fn recent_renewals(purchases: &Purchases<'_>, today: NaiveDate) -> Vec<Renewal> {
    let from = days_before(today, 365);
    let recent = |renewal: &&Renewal| order_end(&purchases.orders[renewal.renewed]) >= from && renewal.on <= today;
    purchases.renewals.iter().filter(recent).copied().collect()
}

/// Days that an order lasts from the day it was placed, or from the end of the one that it renewed.
fn order_length(order: &Order) -> Option<u32> {
    let until = order.bought_until.or_else(|| order.probably_ends())?;
    u32::try_from((until - order.placed?).num_days()).ok().filter(|days| *days > 0)
}

fn typical_length(orders: &[Order]) -> u32 {
    let mut lengths: Vec<u32> = orders.iter().filter_map(order_length).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(DEFAULT_LENGTH_DAYS)
}

/// Share of the new orders in what was bought beside renewals.
fn new_order_share(purchases: &Purchases<'_>) -> f64 {
    let sum = |kind| -> Minor {
        let its = purchases.all.iter().filter(|purchase| purchase.kind == kind);
        its.fold(0, |sum: Minor, purchase| sum.saturating_add(minor(purchase.cost)))
    };
    let (new, other) = (sum(PurchaseKind::NewOrder), sum(PurchaseKind::Other));
    share(new, new.saturating_add(other))
}
