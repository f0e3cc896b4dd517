//! Changes of prices: the price of an order's renewal beside that of the order, as other purchases show it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::purchases::Purchases;
use super::ratio::{Ratio, UNCHANGED};
use crate::domain::order::Order;
use crate::forecast::spend_history::{Minor, minor};

/// So many of the newest payments for a price say what it has become.
const MAX_PRICE_EVENTS: usize = 4;
/// They say it for so many days; what is older is told by other prices.
const MAX_PRICE_AGE_DAYS: i64 = 60;
/// So many of the newest renewals tell it of other prices, and no fewer than so many.
const MAX_PRICE_RENEWALS: usize = 8;
const MIN_PRICE_RENEWALS: usize = 3;
/// So many tell how often, and at what price, an order is renewed for another product, and no fewer of its own than so many.
const MAX_PRODUCT_RENEWALS: usize = 60;
const MIN_PRODUCT_RENEWALS: usize = 12;

/// A product and one of its prices.
pub(super) type PriceKey<'a> = (Option<&'a str>, Minor);

/// A day on which a price was paid, and the ratio to the price before.
type PriceEvent = (NaiveDate, Ratio);

/// The changes of each price of each product.
pub(super) struct PriceHistory<'a> {
    /// Payments of a price, and renewals of such orders for the same product that cost another; oldest first.
    events: BTreeMap<PriceKey<'a>, Vec<PriceEvent>>,
    by_product: BTreeMap<Option<&'a str>, RenewalPriceRatios>,
    all_products: RenewalPriceRatios,
}

/// Ratios of the newest renewals of some orders, newest first.
#[derive(Default)]
struct RenewalPriceRatios {
    /// For the same product.
    same_product: Vec<PriceEvent>,
    /// For any product: `None` is the same one.
    any_product: Vec<Option<Ratio>>,
}

impl RenewalPriceRatios {
    fn add(&mut self, on: NaiveDate, ratio: Ratio, is_same: bool) {
        if is_same && self.same_product.len() < MAX_PRICE_RENEWALS {
            self.same_product.push((on, ratio));
        }
        if self.any_product.len() < MAX_PRODUCT_RENEWALS {
            self.any_product.push((!is_same).then_some(ratio));
        }
    }
}

impl<'a> PriceHistory<'a> {
    pub(super) fn read(purchases: &Purchases<'a>) -> Self {
        let orders = purchases.orders;
        let mut events: BTreeMap<PriceKey<'a>, Vec<PriceEvent>> = BTreeMap::new();
        for order in orders {
            if let Some(placed) = order.placed {
                events.entry(price_key(order)).or_default().push((placed, UNCHANGED));
            }
        }
        let mut renewals = Vec::new();
        for renewal in &purchases.renewals {
            let (old, Some(new)) = (&orders[renewal.renewed], renewal.by.map(|by| &orders[by])) else { continue };
            let Some(ratio) = price_ratio(minor(old.price), minor(new.price)) else { continue };
            if !have_similar_length(old, new) {
                continue;
            }
            let is_same = old.product == new.product;
            renewals.push((renewal.on, ratio, old.product.as_deref(), is_same));
            if ratio != UNCHANGED && is_same {
                events.entry(price_key(old)).or_default().push((renewal.on, ratio));
            }
        }
        for its in events.values_mut() {
            its.sort_by_key(|(on, _)| *on);
        }
        renewals.sort_by_key(|(on, ..)| Reverse(*on));
        let (mut by_product, mut all_products) =
            (BTreeMap::<_, RenewalPriceRatios>::new(), RenewalPriceRatios::default());
        for (on, ratio, product, is_same) in renewals {
            all_products.add(on, ratio, is_same);
            by_product.entry(product).or_default().add(on, ratio, is_same);
        }
        Self { events, by_product, all_products }
    }

    /// Tells if prices of this product had changed already when this order was placed, so that its own is one of the new.
    pub(super) fn has_changed_before(&self, order: &Order) -> bool {
        self.product_events(order).iter().any(|(on, ratio)| *ratio != UNCHANGED && Some(*on) <= order.placed)
    }

    /// Possible prices of the order's renewal, as ratios to its last: some are for other products.
    pub(super) fn renewal_ratios(&self, order: &Order, today: NaiveDate) -> Vec<Ratio> {
        let same = self.same_product_ratios(order, today);
        let own =
            self.by_product.get(&order.product.as_deref()).filter(|its| its.any_product.len() >= MIN_PRODUCT_RENEWALS);
        let any = &own.unwrap_or(&self.all_products).any_product;
        if any.iter().all(Option::is_none) {
            return same;
        }
        any.iter().zip(same.iter().cycle()).map(|(other, same)| other.unwrap_or(*same)).collect()
    }

    /// Possible prices of such an order today, as ratios to its last.
    pub(super) fn same_product_ratios(&self, order: &Order, today: NaiveDate) -> Vec<Ratio> {
        let own = self.events.get(&price_key(order)).map(Vec::as_slice).unwrap_or_default();
        let own = own
            .iter()
            .rev()
            .take(MAX_PRICE_EVENTS)
            .take_while(|(on, _)| (today - *on).num_days() <= MAX_PRICE_AGE_DAYS);
        let mut newest: Vec<Ratio> = own.map(|(_, ratio)| *ratio).collect();
        if !newest.is_empty() {
            // One alone may be an exception: as if another had cost what it did before.
            newest.resize(newest.len().max(2), UNCHANGED);
            return newest;
        }
        let ratios = [self.product_events(order), &self.all_products.same_product]
            .into_iter()
            .find(|its| its.len() >= MIN_PRICE_RENEWALS);
        match ratios {
            Some(its) if !self.has_changed_before(order) => its.iter().map(|(_, ratio)| *ratio).collect(),
            _ => vec![UNCHANGED],
        }
    }

    fn product_events<'s>(&'s self, order: &'s Order) -> &'s [PriceEvent] {
        self.by_product.get(&order.product.as_deref()).map(|its| its.same_product.as_slice()).unwrap_or_default()
    }
}

/// Tells if two orders were bought for about as long, so that their prices can be compared.
fn have_similar_length(one: &Order, other: &Order) -> bool {
    let days = |order: &Order| Some((order.bought_until? - order.placed?).num_days());
    days(one).zip(days(other)).is_none_or(|(one, other)| (one - other).abs() * 10 <= one.max(other))
}

pub(super) fn price_key(order: &Order) -> PriceKey<'_> {
    (order.product.as_deref(), minor(order.price))
}

/// The ratio of two prices; `None` where they have nothing to do with each other.
pub(super) fn price_ratio(old: Minor, new: Minor) -> Option<Ratio> {
    let ratio = i64::try_from(i128::from(new) * 65_536 / i128::from(old.max(1))).ok()?;
    (UNCHANGED / 10..=UNCHANGED * 10).contains(&ratio).then_some(ratio)
}
