//! Changes of prices: the price of an order's renewal beside that of the order, as other purchases show it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::purchases::Purchases;
use super::ratio::{Ratio, UNCHANGED};
use crate::domain::history::Order;
use crate::forecast::spend_history::{Minor, minor};

/// So many of the newest payments for a price say what it has become.
const PRICE_EVENTS: usize = 4;
/// They say it for so many days; what is older is told by other prices.
const PRICE_DAYS: i64 = 60;
/// So many of the newest renewals tell it of other prices, and no fewer than so many.
const PRICE_RENEWALS: usize = 8;
const LEAST_PRICE_RENEWALS: usize = 3;
/// So many tell how often, and at what price, an order is renewed for another product, and no fewer of its own than so many.
const PRODUCT_RENEWALS: usize = 60;
const LEAST_PRODUCT_RENEWALS: usize = 12;

/// A product and one of its prices.
pub(super) type PriceKey<'a> = (Option<&'a str>, Minor);

/// A day on which a price was paid, and the ratio to the price before.
type PriceEvent = (NaiveDate, Ratio);

/// The changes of each price of each product.
pub(super) struct Prices<'a> {
    /// Payments of a price, and renewals of such orders for the same product that cost another; oldest first.
    events: BTreeMap<PriceKey<'a>, Vec<PriceEvent>>,
    of_product: BTreeMap<Option<&'a str>, Renewals>,
    of_all: Renewals,
}

/// Ratios of the newest renewals of some orders, newest first.
#[derive(Default)]
struct Renewals {
    /// For the same product.
    same: Vec<PriceEvent>,
    /// For any product: `None` is the same one.
    any: Vec<Option<Ratio>>,
}

impl Renewals {
    fn add(&mut self, on: NaiveDate, ratio: Ratio, is_same: bool) {
        if is_same && self.same.len() < PRICE_RENEWALS {
            self.same.push((on, ratio));
        }
        if self.any.len() < PRODUCT_RENEWALS {
            self.any.push((!is_same).then_some(ratio));
        }
    }
}

impl<'a> Prices<'a> {
    pub(super) fn read(purchases: &Purchases<'a>) -> Self {
        let orders = purchases.orders;
        let mut events: BTreeMap<PriceKey<'a>, Vec<PriceEvent>> = BTreeMap::new();
        for order in orders {
            if let Some(placed) = order.placed {
                events.entry(key(order)).or_default().push((placed, UNCHANGED));
            }
        }
        let mut renewals = Vec::new();
        for renewal in &purchases.renewals {
            let (old, Some(new)) = (&orders[renewal.renewed], renewal.by.map(|by| &orders[by])) else { continue };
            let Some(ratio) = price_ratio(minor(old.price), minor(new.price)) else { continue };
            if !last_as_long(old, new) {
                continue;
            }
            let is_same = old.product == new.product;
            renewals.push((renewal.on, ratio, old.product.as_deref(), is_same));
            if ratio != UNCHANGED && is_same {
                events.entry(key(old)).or_default().push((renewal.on, ratio));
            }
        }
        for its in events.values_mut() {
            its.sort_by_key(|(on, _)| *on);
        }
        renewals.sort_by_key(|(on, ..)| Reverse(*on));
        let (mut of_product, mut of_all) = (BTreeMap::<_, Renewals>::new(), Renewals::default());
        for (on, ratio, product, is_same) in renewals {
            of_all.add(on, ratio, is_same);
            of_product.entry(product).or_default().add(on, ratio, is_same);
        }
        Self { events, of_product, of_all }
    }

    /// Tells if prices of this product had changed already when this order was placed, so that its own is one of the new.
    pub(super) fn has_changed_before(&self, order: &Order) -> bool {
        self.product(order).iter().any(|(on, ratio)| *ratio != UNCHANGED && Some(*on) <= order.placed)
    }

    /// Possible prices of the order's renewal, as ratios to its last: some are for other products.
    pub(super) fn of_renewal(&self, order: &Order, today: NaiveDate) -> Vec<Ratio> {
        let same = self.of_same_product(order, today);
        let own = self.of_product.get(&order.product.as_deref()).filter(|its| its.any.len() >= LEAST_PRODUCT_RENEWALS);
        let any = &own.unwrap_or(&self.of_all).any;
        if any.iter().all(Option::is_none) {
            return same;
        }
        any.iter().zip(same.iter().cycle()).map(|(other, same)| other.unwrap_or(*same)).collect()
    }

    /// Possible prices of such an order today, as ratios to its last.
    pub(super) fn of_same_product(&self, order: &Order, today: NaiveDate) -> Vec<Ratio> {
        let own = self.events.get(&key(order)).map(Vec::as_slice).unwrap_or_default();
        let own = own.iter().rev().take(PRICE_EVENTS).take_while(|(on, _)| (today - *on).num_days() <= PRICE_DAYS);
        let mut newest: Vec<Ratio> = own.map(|(_, ratio)| *ratio).collect();
        if !newest.is_empty() {
            // One alone may be an exception: as if another had cost what it did before.
            newest.resize(newest.len().max(2), UNCHANGED);
            return newest;
        }
        let told = [self.product(order), &self.of_all.same].into_iter().find(|its| its.len() >= LEAST_PRICE_RENEWALS);
        match told {
            Some(its) if !self.has_changed_before(order) => its.iter().map(|(_, ratio)| *ratio).collect(),
            _ => vec![UNCHANGED],
        }
    }

    fn product<'s>(&'s self, order: &'s Order) -> &'s [PriceEvent] {
        self.of_product.get(&order.product.as_deref()).map(|its| its.same.as_slice()).unwrap_or_default()
    }
}

/// Tells if two orders were bought for about as long, so that their prices can be compared.
fn last_as_long(one: &Order, other: &Order) -> bool {
    let days = |order: &Order| Some((order.bought_until? - order.placed?).num_days());
    days(one).zip(days(other)).is_none_or(|(one, other)| (one - other).abs() * 10 <= one.max(other))
}

pub(super) fn key(order: &Order) -> PriceKey<'_> {
    (order.product.as_deref(), minor(order.price))
}

/// The ratio of two prices; `None` where they have nothing to do with each other.
pub(super) fn price_ratio(old: Minor, new: Minor) -> Option<Ratio> {
    let ratio = i64::try_from(i128::from(new) * 65_536 / i128::from(old.max(1))).ok()?;
    (UNCHANGED / 10..=UNCHANGED * 10).contains(&ratio).then_some(ratio)
}
