//! Model of how an account renews its orders: share, lead, price and payment, learnt from its past, and the orders
//! that will be due.

use std::collections::BTreeMap;

use chrono::{NaiveDate, Timelike as _};

use super::calendar::RenewalCalendar;
use super::funds_history::FundsHistory;
use super::leads::{LeadDistribution, RemainingLeads, RenewalLeads};
use super::minor::{Minor, minor};
use super::payments::{ByPaymentSource, from_balance};
use super::prices::{PriceHistory, PriceKey, price_key, price_ratio};
use super::purchase::{PaymentSource, PurchaseKind, Renewal, order_end};
use super::purchases::Purchases;
use super::ratio::{Ratio, UNCHANGED, scaled, share};
use super::renewal_window::{MAX_DAYS_LATE, MAX_LEAD_DAYS, days_before, days_between};
use super::renewals::must_be_renewed;
use super::share::ShareDistribution;
use crate::domain::order::Order;
use crate::domain::rule::HORIZON_DAYS;
use crate::forecast::order_class::{ByOrderClass, OrderClass, OrderClasses};

/// Length of an order if it is not known, in days.
const DEFAULT_LENGTH_DAYS: u32 = 365;
/// Shortest length of an order in days; bounds the number of its renewals in a year.
const MIN_LENGTH_DAYS: u32 = 7;

/// A renewal that is expected.
#[derive(Debug, Clone)]
pub(super) struct DueRenewal {
    /// Price that is charged for the order.
    pub(super) price: Minor,
    /// Days until the order ends; negative if it has ended and may still be renewed.
    pub(super) days_to_end: i32,
    /// Days that the order and its renewal last.
    pub(super) length_days: i32,
    pub(super) payment_source: PaymentSource,
    pub(super) order_class: OrderClass,
    /// Index of the lead distribution, and the leads that are left.
    pub(super) lead_distribution: usize,
    pub(super) remaining_leads: RemainingLeads,
    /// Index of the ratios of the renewal's price to the order's price.
    pub(super) price_ratios: usize,
}

/// An account's way of renewing its orders.
#[derive(Debug, Clone)]
pub(super) struct RenewalModel {
    pub(super) due_renewals: Vec<DueRenewal>,
    /// Share of the orders that are renewed, by class.
    pub(super) renewed: ByOrderClass<ShareDistribution>,
    /// Share of the renewals that is paid from the balance, by the payment of the renewed order.
    pub(super) from_balance: ByPaymentSource<ShareDistribution>,
    /// Lead distributions: of all orders, then of each product.
    pub(super) lead_distributions: Vec<LeadDistribution>,
    pub(super) calendar: RenewalCalendar,
    /// True in the second half of the UTC day: most purchases of a day are then less than that number of full days
    /// away.
    pub(super) is_late_in_the_day: bool,
    /// Ratios of a renewal's price to the order's price; no list is empty.
    pub(super) price_ratios: Vec<Vec<Ratio>>,
    /// Share of new orders in the purchases that are not renewals.
    pub(super) new_order_share: f64,
    /// Typical length of a new order in days.
    pub(super) new_order_days: u32,
}

impl RenewalModel {
    pub(super) fn read(purchases: &Purchases<'_>, prices: &PriceHistory<'_>, funds: &FundsHistory) -> Self {
        let today = purchases.now.date_naive();
        let (orders, renewals) = (purchases.orders, recent_renewals(purchases, today));
        let order_classes = OrderClasses::read(purchases, &renewals);
        let short = |order: &Order, ago: i32| funds.could_not_pay(order, ago);
        let is_uninformative = |order: &Order| {
            let end = order_end(order);
            funds.is_uninformative(end) || short(order, days_between(end, today))
        };
        let leads = RenewalLeads::read(orders, &purchases.renewals, today, &short);
        let (due_renewals, price_ratios) = due_renewals(purchases, prices, &leads, &order_classes, &short);
        Self {
            due_renewals,
            renewed: order_classes.renewal_shares(is_uninformative),
            from_balance: from_balance(purchases, &renewals),
            lead_distributions: leads.distributions,
            calendar: RenewalCalendar::read(&renewals, today),
            is_late_in_the_day: purchases.now.hour() >= 12,
            price_ratios,
            new_order_share: new_order_share(purchases),
            new_order_days: typical_length(orders),
        }
    }

    /// Reports whether no renewals are expected.
    pub(super) fn is_empty(&self) -> bool {
        self.due_renewals.is_empty() && self.new_order_share <= 0.0
    }
}

/// Returns the future renewals, and the lists of price ratios that they refer to.
fn due_renewals(
    purchases: &Purchases<'_>,
    prices: &PriceHistory<'_>,
    leads: &RenewalLeads<'_>,
    order_classes: &OrderClasses<'_>,
    short: &impl Fn(&Order, i32) -> bool,
) -> (Vec<DueRenewal>, Vec<Vec<Ratio>>) {
    let today = purchases.now.date_naive();
    let last = i32::try_from(HORIZON_DAYS).unwrap_or(i32::MAX) + MAX_LEAD_DAYS;
    let charge_ratio = charge_ratio_to_price(purchases);
    let mut ratio_indexes: BTreeMap<(PriceKey<'_>, bool), usize> = BTreeMap::new();
    let (mut due, mut ratios) = (Vec::new(), Vec::new());
    for (index, (order, payment)) in purchases.orders.iter().zip(&purchases.payments).enumerate() {
        let days = order.probably_ends().and_then(|end| i32::try_from((end - today).num_days()).ok());
        let is_due = |days: &i32| {
            let is_overdue = order.expired && !order.renewed && *days <= 0;
            (must_be_renewed(order, today) || is_overdue) && (-MAX_DAYS_LATE..last).contains(days)
        };
        let Some(days) = days.filter(is_due) else { continue };
        let (lead, days) = (leads.distribution_of(order), days - leads.days_earlier(order));
        let key = (price_key(order), prices.has_changed_before(order));
        let price_ratios = *ratio_indexes.entry(key).or_insert_with(|| {
            ratios.push(prices.renewal_ratios(order, today));
            ratios.len() - 1
        });
        due.push(DueRenewal {
            price: scaled(minor(order.price), charge_ratio),
            days_to_end: days,
            length_days: i32::try_from(order_length(order).unwrap_or(DEFAULT_LENGTH_DAYS).max(MIN_LENGTH_DAYS))
                .unwrap_or(i32::MAX),
            payment_source: *payment,
            order_class: order_classes.of(index),
            lead_distribution: lead,
            remaining_leads: leads.distributions[lead].remaining(days, |passed| short(order, passed)),
            price_ratios,
        });
    }
    (due, ratios)
}

/// Returns the typical ratio of the charge for an order to its listed price: above 1 if prices are listed without
/// tax.
fn charge_ratio_to_price(purchases: &Purchases<'_>) -> Ratio {
    let charged = purchases.all.iter().filter_map(|purchase| {
        let price = minor(purchases.orders.get(purchase.order?)?.price);
        price_ratio(price, minor(-purchase.entry.change))
    });
    let mut ratios: Vec<Ratio> = charged.collect();
    ratios.sort_unstable();
    ratios.get(ratios.len() / 2).copied().unwrap_or(UNCHANGED)
}

/// Returns the renewals up to today of orders that ended in the last year or have not ended.
fn recent_renewals(purchases: &Purchases<'_>, today: NaiveDate) -> Vec<Renewal> {
    let from = days_before(today, 365);
    let recent = |renewal: &&Renewal| order_end(&purchases.orders[renewal.renewed]) >= from && renewal.on <= today;
    purchases.renewals.iter().filter(recent).copied().collect()
}

/// Returns the days that an order lasts from the day it was placed, or from the end of the order that it renewed.
fn order_length(order: &Order) -> Option<u32> {
    let until = order.bought_until.or_else(|| order.probably_ends())?;
    u32::try_from((until - order.placed?).num_days()).ok().filter(|days| *days > 0)
}

fn typical_length(orders: &[Order]) -> u32 {
    let mut lengths: Vec<u32> = orders.iter().filter_map(order_length).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(DEFAULT_LENGTH_DAYS)
}

/// Returns the share of new orders in the purchases that are not renewals.
fn new_order_share(purchases: &Purchases<'_>) -> f64 {
    let sum = |kind| -> Minor {
        let matching = purchases.all.iter().filter(|purchase| purchase.kind == kind);
        matching.fold(0, |sum: Minor, purchase| sum.saturating_add(minor(purchase.cost)))
    };
    let (new, other) = (sum(PurchaseKind::NewOrder), sum(PurchaseKind::Other));
    share(new, new.saturating_add(other))
}
