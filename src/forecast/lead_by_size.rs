//! Effect of an order's size on its lead: some accounts renew expensive orders earlier than cheap ones.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::prelude::ToPrimitive as _;

use super::minor::minor;
use super::purchase::Renewal;
use super::ratio::count;
use super::renewal_window::{MAX_LEAD_DAYS, days_before};
use crate::domain::order::Order;

/// Days by which expensive orders are renewed earlier than cheap ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeadBySize {
    /// Days for each doubling of the price.
    days: f64,
    /// Mean size of the orders, as returned by [`doublings`].
    mean: f64,
    /// Smallest and largest size among the renewals. Sizes beyond them are treated like these.
    known: (f64, f64),
}

/// Sums over the sizes and leads of some renewals.
#[derive(Clone, Copy, Default)]
struct LeadSums {
    number: f64,
    sizes: f64,
    leads: f64,
}

impl LeadBySize {
    /// Returns the regression slope of lead against size within the products, from the renewals of the last year; 0
    /// if it is not significant.
    pub(super) fn read(orders: &[Order], renewals: &[Renewal], today: NaiveDate) -> Self {
        /// Squared t statistic from which on the slope is significant.
        const MIN_SQUARED_T: f64 = 12.0;
        /// Degrees of freedom that the regression needs.
        const MIN_FREE: f64 = 10.0;
        let first = days_before(today, 365);
        let points = || {
            let recent = renewals.iter().filter(|renewal| renewal.on >= first && renewal.on <= today);
            recent.map(|renewal| {
                let order = &orders[renewal.renewed];
                (order.product.as_deref(), doublings(order), f64::from(renewal.lead))
            })
        };
        let mut products: BTreeMap<Option<&str>, LeadSums> = BTreeMap::new();
        let (mut all, mut known) = (LeadSums::default(), (f64::MAX, f64::MIN));
        for (product, size, lead) in points() {
            for sums in [&mut all, products.entry(product).or_default()] {
                *sums = LeadSums { number: sums.number + 1.0, sizes: sums.sizes + size, leads: sums.leads + lead };
            }
            known = (known.0.min(size), known.1.max(size));
        }
        let (mut of_sizes, mut of_both, mut of_leads) = (0.0, 0.0, 0.0);
        for (product, size, lead) in points() {
            let of = products.get(&product).copied().unwrap_or_default();
            let (size, lead) = (size - of.sizes / of.number, lead - of.leads / of.number);
            (of_sizes, of_both, of_leads) = (of_sizes + size * size, of_both + size * lead, of_leads + lead * lead);
        }
        let free = all.number - count(products.len()) - 1.0;
        let unexplained = (of_leads * of_sizes - of_both * of_both).max(0.0);
        if free >= MIN_FREE && of_both * of_both * free > MIN_SQUARED_T * unexplained {
            Self { days: of_both / of_sizes, mean: all.sizes / all.number, known }
        } else {
            Self { days: 0.0, mean: 0.0, known: (0.0, 0.0) }
        }
    }

    /// Returns the days by which an order of this size is renewed earlier than the mean order; negative if later.
    pub(super) fn days_earlier(self, order: &Order) -> i32 {
        let most = f64::from(MAX_LEAD_DAYS);
        let size = doublings(order).clamp(self.known.0, self.known.1);
        (self.days * (size - self.mean)).clamp(-most, most).round().to_i32().unwrap_or(0)
    }
}

/// Returns the size of an order: the binary logarithm of its price in hundredths. It is not an amount.
fn doublings(order: &Order) -> f64 {
    let price = minor(order.price).max(1).unsigned_abs();
    let shifted = (price << price.leading_zeros()) >> 32;
    f64::from(price.ilog2()) + f64::from(u32::try_from(shifted).unwrap_or(u32::MAX)) / 2_147_483_648.0 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(price: i64) -> Order {
        crate::forecast::tests::order(1, price, (2026, 12, 1))
    }

    #[test]
    fn expensive_orders_may_be_renewed_earlier() {
        let today = NaiveDate::from_ymd_opt(2026, 11, 24).unwrap();
        let orders: Vec<Order> = [100, 200, 400, 800].repeat(4).into_iter().map(order).collect();
        let renewals = |lead: &dyn Fn(usize) -> i32| -> Vec<Renewal> {
            let renewal = |index| Renewal { renewed: index, by: None, purchase: None, on: today, lead: lead(index) };
            (0..orders.len()).map(renewal).collect()
        };
        let sizes =
            LeadBySize::read(&orders, &renewals(&|index| i32::try_from(10 * (index % 4) + index % 3).unwrap()), today);
        let earlier: Vec<i32> = [100, 200, 400, 800, 1600].map(|price| sizes.days_earlier(&order(price))).to_vec();
        assert_eq!(earlier, [-15, -5, 5, 15, 15], "sizes beyond the highest are treated like it");
        let by_chance =
            LeadBySize::read(&orders, &renewals(&|index| i32::try_from(5 * (index * 7 % 5)).unwrap()), today);
        assert_eq!(by_chance.days_earlier(&order(80_000)), 0);
        assert_eq!(LeadBySize::read(&orders, &[], today).days_earlier(&order(1)), 0);
        // Two products with similar prices but different leads say nothing about expensive orders.
        let of = |product: &str, price| Order { product: Some(product.into()), ..order(price) };
        let orders: Vec<Order> =
            (0..24).map(|number| if number % 2 == 0 { of("dv", 399) } else { of("ov", 418) }).collect();
        let leads =
            |index: usize| i32::try_from(if index.is_multiple_of(2) { 8 + index / 6 } else { 28 + index / 6 }).unwrap();
        let renewal = |index| Renewal { renewed: index, by: None, purchase: None, on: today, lead: leads(index) };
        let sizes = LeadBySize::read(&orders, &(0..24).map(renewal).collect::<Vec<_>>(), today);
        assert_eq!([100, 399, 1197].map(|price| sizes.days_earlier(&order(price))), [0; 3]);
        assert!((doublings(&order(2)) - doublings(&order(1)) - 1.0).abs() < 1e-6 && doublings(&order(0)) == 0.0);
    }
}
