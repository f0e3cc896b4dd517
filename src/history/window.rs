//! The range of the ledger and of the orders that is read, and how a new listing is merged with the known orders.
//! Nothing here sends a request.
//!
//! An order that ended long ago does not change any more, so that it is listed once and then kept. A listing covers the
//! certificates that end on or after one day, and replaces all known orders in that range.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};

use crate::domain::order::Order;

/// Number of past days of the ledger that are kept. A deposit lasts a year.
const LEDGER_WINDOW_DAYS: u64 = 400;
/// Number of past days whose ended certificates are listed: ten more than of the ledger, since the renewal of an order
/// may be paid some days after its end.
const ORDERS_BACK_DAYS: u64 = LEDGER_WINDOW_DAYS + 10;
/// Number of future days whose ending certificates are listed.
const ORDERS_AHEAD_DAYS: u64 = 1200;
/// Number of days after its end during which an order may change, since renewals may be weeks late.
const CHANGE_WINDOW_DAYS: u64 = 60;

/// Returns the first day of the ledger that is kept.
pub(super) fn oldest_entry(today: NaiveDate) -> NaiveDate {
    today - Days::new(LEDGER_WINDOW_DAYS)
}

/// Returns the last day on which the certificate of a listed order ends.
pub(super) fn last_certificate_end(today: NaiveDate) -> NaiveDate {
    today + Days::new(ORDERS_AHEAD_DAYS)
}

fn first_certificate_end(today: NaiveDate) -> NaiveDate {
    today - Days::new(ORDERS_BACK_DAYS)
}

/// Returns the first day whose ending certificates the next listing has to cover. That is the earliest day on which
/// something may have changed since the known orders were read on the day `read`, or the first day of the window if no
/// orders are known.
pub(super) fn listing_start(known: Option<(&[Order], NaiveDate)>, today: NaiveDate) -> NaiveDate {
    let first = first_certificate_end(today);
    let Some((known, read)) = known else { return first };
    let open = known.iter().filter(|order| may_change(order, read)).map(|order| order.certificate_ends);
    open.fold(read - Days::new(CHANGE_WINDOW_DAYS), NaiveDate::min).max(first)
}

/// Returns whether an order that was read on the day `on` may still be renewed or get another certificate.
pub(super) fn may_change(order: &Order, on: NaiveDate) -> bool {
    let ended_recently = |end: NaiveDate| end >= on - Days::new(CHANGE_WINDOW_DAYS);
    !order.expired && !order.renewed && order.probably_ends().is_none_or(ended_recently)
}

/// Merges a listing of the certificates that end on the day `from` or later with the orders known before. Earlier
/// orders are kept until they leave the window. An order that should be in the listing and is not was revoked or
/// cancelled.
pub(super) fn merge(before: &[Order], listed: Vec<Order>, from: NaiveDate, today: NaiveDate) -> Vec<Order> {
    let kept = |order: &&Order| (first_certificate_end(today)..from).contains(&order.certificate_ends);
    let kept = before.iter().filter(kept).map(|order| (order.id, order.clone()));
    // The listed order replaces a kept one of the same id, which has got another certificate.
    let orders: BTreeMap<u64, Order> = kept.chain(listed.into_iter().map(|order| (order.id, order))).collect();
    orders.into_values().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    fn day(number: i64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 23).unwrap() + chrono::TimeDelta::days(number)
    }

    /// Returns an order whose only certificate ends on this day.
    fn order(id: u64, ends: i64) -> Order {
        Order {
            id,
            division: None,
            product: None,
            common_name: None,
            price: Decimal::ONE,
            expired: false,
            renewed: false,
            placed: None,
            bought_until: Some(day(ends)),
            is_plan: false,
            certificate_ends: day(ends),
            order_ends: None,
        }
    }

    fn expired(id: u64, ends: i64) -> Order {
        Order { expired: true, ..order(id, ends) }
    }

    /// Returns an order that ends on another day than its certificate.
    fn plan(id: u64, certificate_ends: i64, order_ends: i64) -> Order {
        Order { order_ends: Some(day(order_ends)), ..order(id, certificate_ends) }
    }

    #[test]
    fn a_listing_starts_where_something_may_have_changed() {
        let unknown_end = Order { bought_until: None, is_plan: true, ..order(1, -200) };
        for (what, known, read, expected) in [
            ("nothing is known", None, 0, -410),
            ("no orders", Some(vec![]), -1, -61),
            ("all ended long ago", Some(vec![expired(1, -300), order(2, -100)]), -1, -61),
            ("read long ago", Some(vec![expired(1, -300)]), -100, -160),
            ("read longer ago than the window", Some(vec![]), -500, -410),
            ("ended recently", Some(vec![order(1, -61)]), -1, -61),
            ("a plan whose certificate ended", Some(vec![plan(1, -150, 200), plan(2, -120, 20)]), -1, -150),
            ("a plan that ended 60 days before", Some(vec![plan(1, -150, -61)]), -1, -150),
            ("a plan that ended earlier", Some(vec![plan(1, -150, -62)]), -1, -61),
            ("a plan that is renewed", Some(vec![Order { renewed: true, ..plan(1, -150, 20) }]), -1, -61),
            ("a plan that is over", Some(vec![Order { expired: true, ..plan(1, -150, 20) }]), -1, -61),
            ("a plan with an unknown end", Some(vec![unknown_end]), -1, -200),
            ("a plan older than the window", Some(vec![plan(1, -409, 200), plan(2, -411, 200)]), -1, -410),
        ] {
            let known = known.as_deref().map(|orders| (orders, day(read)));
            assert_eq!(listing_start(known, day(0)), day(expected), "{what}");
        }
    }

    #[test]
    fn a_listing_replaces_its_range_and_older_orders_are_kept() {
        let before =
            [expired(9, -411), expired(8, -410), expired(7, -62), order(6, -61), order(5, 10), plan(4, -90, 99)];
        for (what, listed, expected) in [
            ("an order that is not listed is removed", vec![], vec![4, 7, 8]),
            ("listed orders replace known ones", vec![order(5, 20), order(6, -61)], vec![4, 5, 6, 7, 8]),
            ("an old order with another certificate", vec![plan(4, 100, 99)], vec![4, 7, 8]),
            ("a new order", vec![order(10, 370)], vec![4, 7, 8, 10]),
        ] {
            let merged = merge(&before, listed.clone(), day(-61), day(0));
            assert_eq!(merged.iter().map(|order| order.id).collect::<Vec<_>>(), expected, "{what}");
            assert!(listed.iter().all(|order| merged.contains(order)), "{what}");
        }
        assert_eq!(
            merge(&before, vec![order(1, 5)], day(-410), day(0)),
            [order(1, 5)],
            "a full listing keeps no known order"
        );
    }

    /// End of an order's life.
    #[derive(Debug, Clone, Copy)]
    enum OrderFate {
        Ends,
        /// Days from the renewal to the end of the order; negative if it is renewed later.
        Renewed(i64),
        /// Days from the revocation to the end of the order; negative if it is revoked later.
        Revoked(i64),
    }

    /// An order with its changes over time.
    #[derive(Debug, Clone)]
    struct OrderLifetime {
        placed: i64,
        days: i64,
        certificate_days: i64,
        /// Days from each reissue to the end of the certificate before it; negative if it is reissued later; `None` if
        /// never.
        reissued: Option<i64>,
        fate: OrderFate,
        says_expired: bool,
        says_end: bool,
    }

    impl OrderLifetime {
        fn listed(&self, id: u64, on: i64) -> Option<Order> {
            let end = self.placed + self.days;
            if on < self.placed || matches!(self.fate, OrderFate::Revoked(left) if on >= end - left) {
                return None;
            }
            let renewed = matches!(self.fate, OrderFate::Renewed(left) if on >= end - left);
            let mut certificate = (self.placed + self.certificate_days).min(end);
            while certificate < end && self.reissued.is_some_and(|before| on >= certificate - before) {
                certificate = (certificate + self.certificate_days).min(end);
            }
            Some(Order {
                expired: self.says_expired && on > end,
                renewed,
                placed: Some(day(self.placed)),
                bought_until: Some(day(end)),
                order_ends: self.says_end.then(|| day(end)),
                ..order(id, certificate)
            })
        }
    }

    fn order_lifetime() -> impl Strategy<Value = OrderLifetime> {
        let fate = prop_oneof![
            Just(OrderFate::Ends),
            (-60..=90i64).prop_map(OrderFate::Renewed),
            (-60..=300i64).prop_map(OrderFate::Revoked),
        ];
        let days = prop_oneof![Just(199i64), Just(365), Just(730), Just(1095)];
        // Gaps between certificates may be long, but the last certificate of a reissued order ends with the order.
        let certificates = prop_oneof![
            (Just(1100i64), Just(None)),
            (Just(199), Just(None)),
            (Just(100), Just(None)),
            (Just(199), (-70..20i64).prop_map(Some)),
            (Just(100), (-20..20i64).prop_map(Some)),
        ];
        (-1200..100i64, days, certificates, fate, any::<bool>(), any::<bool>()).prop_map(
            |(placed, days, (certificate_days, reissued), fate, says_expired, says_end)| OrderLifetime {
                placed,
                days,
                certificate_days,
                reissued,
                fate,
                // An order whose end is long after the end of its certificate is not listed any more when it expires.
                says_expired: says_expired
                    && (certificate_days >= days || reissued.is_some() || matches!(fate, OrderFate::Ends)),
                says_end,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        /// The orders are listed on random days, from daily to half-yearly.
        #[test]
        fn merged_listings_equal_a_full_listing_of_the_same_day(
            lives in prop::collection::vec(order_lifetime(), 0..60),
            gaps in prop::collection::vec(prop_oneof![4 => 1..10i64, 1 => 10..200i64], 1..60),
        ) {
            let list = |on: i64, from: NaiveDate| -> Vec<Order> {
                let orders = (0..).zip(&lives).filter_map(|(id, life)| life.listed(id, on));
                orders.filter(|order| (from..=last_certificate_end(day(on))).contains(&order.certificate_ends)).collect()
            };
            let (mut on, mut known) = (0, None::<(Vec<Order>, i64)>);
            for gap in gaps {
                let before = known.as_ref().map(|(orders, read)| (orders.as_slice(), day(*read)));
                let from = listing_start(before, day(on));
                let merged = merge(before.map_or(&[], |(orders, _)| orders), list(on, from), from, day(on));
                prop_assert_eq!(&merged, &list(on, first_certificate_end(day(on))), "on day {}, from {}", on, from);
                known = Some((merged, on));
                on += gap;
            }
        }
    }
}
