//! Changes of single prices: the ratio of a renewal's price to that of the renewed order, learnt from orders and
//! their renewals.
//!
//! `list_prices.rs` finds a change of the whole price list in the ledger alone. It is used only for purchases whose
//! price shows no change here, such as those of accounts whose orders are not known.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::minor::{Minor, minor};
use super::purchases::Purchases;
use super::ratio::{Ratio, UNCHANGED};
use crate::domain::order::Order;

/// Number of the newest payments of a price that show its present value.
const MAX_PRICE_EVENTS: usize = 4;
/// Days for which a payment shows the present price. After that, other prices show it.
const MAX_PRICE_AGE_DAYS: i64 = 60;
/// Number of the newest renewals that show the change of other prices: at most, and at least.
const MAX_PRICE_RENEWALS: usize = 8;
const MIN_PRICE_RENEWALS: usize = 3;
/// Number of the newest renewals that show the price and frequency of product changes, and the number of renewals
/// from which on a product has figures of its own.
const MAX_PRODUCT_RENEWALS: usize = 60;
const MIN_PRODUCT_RENEWALS: usize = 12;

/// Product and one of its prices.
pub(super) type PriceKey<'a> = (Option<&'a str>, Minor);

/// Day on which a price was paid, and its ratio to the previous price.
type PriceEvent = (NaiveDate, Ratio);

/// Changes of each price of each product.
pub(super) struct PriceHistory<'a> {
    /// Payments of a price, and renewals of such orders for the same product at another price; oldest first.
    events: BTreeMap<PriceKey<'a>, Vec<PriceEvent>>,
    by_product: BTreeMap<Option<&'a str>, RenewalPriceRatios>,
    all_products: RenewalPriceRatios,
}

/// Ratios of the newest renewals of some orders, newest first.
#[derive(Default)]
struct RenewalPriceRatios {
    /// Renewals for the same product.
    same_product: Vec<PriceEvent>,
    /// Renewals for any product; `None` for the same product.
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
        for list in events.values_mut() {
            list.sort_by_key(|(on, _)| *on);
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

    /// Reports whether prices of this product had changed before this order was placed, so that its price is a new
    /// one already.
    pub(super) fn has_changed_before(&self, order: &Order) -> bool {
        self.product_events(order).iter().any(|(on, ratio)| *ratio != UNCHANGED && Some(*on) <= order.placed)
    }

    /// Returns possible prices of the order's renewal, as ratios to its price, including those for other products.
    pub(super) fn renewal_ratios(&self, order: &Order, today: NaiveDate) -> Vec<Ratio> {
        let same = self.same_product_ratios(order, today);
        let own = self
            .by_product
            .get(&order.product.as_deref())
            .filter(|ratios| ratios.any_product.len() >= MIN_PRODUCT_RENEWALS);
        let any = &own.unwrap_or(&self.all_products).any_product;
        if any.iter().all(Option::is_none) {
            return same;
        }
        any.iter().zip(same.iter().cycle()).map(|(other, same)| other.unwrap_or(*same)).collect()
    }

    /// Returns possible prices of the same order today, as ratios to its price.
    pub(super) fn same_product_ratios(&self, order: &Order, today: NaiveDate) -> Vec<Ratio> {
        let own = self.events.get(&price_key(order)).map(Vec::as_slice).unwrap_or_default();
        let own = own
            .iter()
            .rev()
            .take(MAX_PRICE_EVENTS)
            .take_while(|(on, _)| (today - *on).num_days() <= MAX_PRICE_AGE_DAYS);
        let mut newest: Vec<Ratio> = own.map(|(_, ratio)| *ratio).collect();
        if !newest.is_empty() {
            // A single payment may be an exception, so a second one at the old price is assumed.
            newest.resize(newest.len().max(2), UNCHANGED);
            return newest;
        }
        let events = [self.product_events(order), &self.all_products.same_product]
            .into_iter()
            .find(|ratios| ratios.len() >= MIN_PRICE_RENEWALS);
        match events {
            Some(events) if !self.has_changed_before(order) => events.iter().map(|(_, ratio)| *ratio).collect(),
            _ => vec![UNCHANGED],
        }
    }

    fn product_events<'s>(&'s self, order: &'s Order) -> &'s [PriceEvent] {
        self.by_product.get(&order.product.as_deref()).map(|ratios| ratios.same_product.as_slice()).unwrap_or_default()
    }
}

/// Reports whether two orders were bought for about the same time, so that their prices can be compared.
fn have_similar_length(one: &Order, other: &Order) -> bool {
    let days = |order: &Order| Some((order.bought_until? - order.placed?).num_days());
    days(one).zip(days(other)).is_none_or(|(one, other)| (one - other).abs() * 10 <= one.max(other))
}

pub(super) fn price_key(order: &Order) -> PriceKey<'_> {
    (order.product.as_deref(), minor(order.price))
}

/// Returns the ratio of two prices; `None` if they are too different to be related.
pub(super) fn price_ratio(old: Minor, new: Minor) -> Option<Ratio> {
    let ratio = i64::try_from(i128::from(new) * 65_536 / i128::from(old.max(1))).ok()?;
    (UNCHANGED / 10..=UNCHANGED * 10).contains(&ratio).then_some(ratio)
}
