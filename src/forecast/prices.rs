//! What becomes of prices: what an order's renewal costs beside what the order did, as other purchases tell.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::history::{Minor, minor};
use super::purchases::Renewal;
use crate::domain::books::Order;

/// So many of the newest payments for a price say what it has become.
const PRICE_EVENTS: usize = 4;
/// They say it for so many days; what is older is told by other prices.
const PRICE_DAYS: i64 = 60;
/// So many of the newest renewals tell it of other prices, and no fewer than so many.
const PRICE_RENEWALS: usize = 8;
const LEAST_PRICE_RENEWALS: usize = 3;

/// A ratio of two prices, in 65 536ths.
pub(super) type Ratio = i64;
pub(super) const UNCHANGED: Ratio = 65_536;
/// A product and one of its prices.
pub(super) type PriceKey<'a> = (Option<&'a str>, Minor);

/// What has become of each price of each product.
pub(super) struct Prices<'a> {
    /// When a price was paid, or a renewal of such an order cost another: the ratio to it, oldest first.
    events: BTreeMap<PriceKey<'a>, Vec<(NaiveDate, Ratio)>>,
    /// All renewals: when they came, of which product, and the ratio, oldest first.
    renewals: Vec<(NaiveDate, Option<&'a str>, Ratio)>,
}

impl<'a> Prices<'a> {
    pub(super) fn read(orders: &'a [Order], renewals: &[Renewal]) -> Self {
        let mut events: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for order in orders {
            if let Some(placed) = order.placed {
                events.entry(key(order)).or_default().push((placed, UNCHANGED));
            }
        }
        let mut all = Vec::new();
        for renewal in renewals {
            let (old, Some(new)) = (&orders[renewal.renewed], renewal.by.map(|by| &orders[by])) else { continue };
            let Some(ratio) = price_ratio(minor(old.price), minor(new.price)) else { continue };
            all.push((renewal.on, old.product.as_deref(), ratio));
            if ratio != UNCHANGED {
                events.entry(key(old)).or_default().push((renewal.on, ratio));
            }
        }
        for its in events.values_mut() {
            its.sort_by_key(|(on, _)| *on);
        }
        all.sort_by_key(|(on, ..)| *on);
        Self { events, renewals: all }
    }

    /// Whether prices of this product had changed already when this order was placed, so that its own is one of the new.
    pub(super) fn has_changed_before(&self, order: &Order) -> bool {
        let changed = |(on, product, ratio): &&(NaiveDate, Option<&str>, Ratio)| {
            *ratio != UNCHANGED && *product == order.product.as_deref() && Some(*on) <= order.placed
        };
        self.renewals.iter().rev().take(PRICE_RENEWALS).any(|it| changed(&it))
    }

    /// What the order's next price may be, as ratios to its last.
    pub(super) fn next(&self, order: &Order, today: NaiveDate) -> Vec<Ratio> {
        let own = self.events.get(&key(order)).map(Vec::as_slice).unwrap_or_default();
        let own = own.iter().rev().take(PRICE_EVENTS).take_while(|(on, _)| (today - *on).num_days() <= PRICE_DAYS);
        let newest: Vec<Ratio> = own.map(|(_, ratio)| *ratio).collect();
        if !newest.is_empty() {
            return newest;
        }
        if self.has_changed_before(order) {
            return vec![UNCHANGED];
        }
        let product = order.product.as_deref();
        let of = |wanted: &dyn Fn(Option<&str>) -> bool| -> Vec<Ratio> {
            let its = self.renewals.iter().rev().filter(|(_, product, _)| wanted(*product));
            its.take(PRICE_RENEWALS).map(|(.., ratio)| *ratio).collect()
        };
        let same = of(&|its| its == product);
        let told = if same.len() >= LEAST_PRICE_RENEWALS { same } else { of(&|_| true) };
        if told.len() >= LEAST_PRICE_RENEWALS { told } else { vec![UNCHANGED] }
    }
}

pub(super) fn key(order: &Order) -> PriceKey<'_> {
    (order.product.as_deref(), minor(order.price))
}

/// The ratio of two prices; `None` where they have nothing to do with each other.
fn price_ratio(old: Minor, new: Minor) -> Option<Ratio> {
    let ratio = i64::try_from(i128::from(new) * 65_536 / i128::from(old.max(1))).ok()?;
    (UNCHANGED / 10..=UNCHANGED * 10).contains(&ratio).then_some(ratio)
}
