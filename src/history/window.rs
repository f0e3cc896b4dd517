//! Which part of the ledger and of the orders is read, and how a listing of orders joins what is known from before it. It
//! asks nothing itself.
//!
//! An order that ended long ago changes no more: it is listed once and kept from then on. A listing covers the certificates
//! that end from one day on; within that range it replaces whatever was known.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};

use crate::domain::order::Order;

/// The part of a ledger that is kept: a deposit lasts a year.
const LEDGER_WINDOW_DAYS: u64 = 400;
/// Orders are known whose certificates ended at most this many days ago: as far back as the ledger, and ten days more, since
/// the renewal of an order may be paid up to some days after its end.
const ORDERS_BACK_DAYS: u64 = LEDGER_WINDOW_DAYS + 10;
/// Orders are known whose certificates end at most this many days ahead.
const ORDERS_AHEAD_DAYS: u64 = 1200;
/// An order may change for this many days after its end: renewals come up to weeks late.
const CHANGE_WINDOW_DAYS: u64 = 60;

/// Returns the first day of the ledger that is kept.
pub(super) fn oldest_line(today: NaiveDate) -> NaiveDate {
    today - Days::new(LEDGER_WINDOW_DAYS)
}

/// Returns the last day on which the certificate of a listed order ends.
pub(super) fn last_certificate(today: NaiveDate) -> NaiveDate {
    today + Days::new(ORDERS_AHEAD_DAYS)
}

fn oldest_certificate(today: NaiveDate) -> NaiveDate {
    today - Days::new(ORDERS_BACK_DAYS)
}

/// Returns the day from which the next listing covers the ends of certificates: the earliest on which something may have
/// changed since these orders were known on day `read`, or the oldest day of all where nothing is known.
pub(super) fn listing_begins(known: Option<(&[Order], NaiveDate)>, today: NaiveDate) -> NaiveDate {
    let oldest = oldest_certificate(today);
    let Some((known, read)) = known else { return oldest };
    let open = known.iter().filter(|order| may_change(order, read)).map(|order| order.certificate_ends);
    open.fold(read - Days::new(CHANGE_WINDOW_DAYS), NaiveDate::min).max(oldest)
}

/// Reports whether an order may still be renewed or get another certificate, as it was known on that day.
pub(super) fn may_change(order: &Order, on: NaiveDate) -> bool {
    let ended_lately = |end: NaiveDate| end >= on - Days::new(CHANGE_WINDOW_DAYS);
    !order.expired && !order.renewed && order.probably_ends().is_none_or(ended_lately)
}

/// Joins a listing of the certificates that end on day `from` or later with what was known before: older orders are kept
/// until the window has passed them; an order that should be listed and is not has been revoked or cancelled.
pub(super) fn merge(before: &[Order], listed: Vec<Order>, from: NaiveDate, today: NaiveDate) -> Vec<Order> {
    let kept = |order: &&Order| (oldest_certificate(today)..from).contains(&order.certificate_ends);
    let kept = before.iter().filter(kept).map(|order| (order.id, order.clone()));
    // What is listed comes last: it counts where an order has got another certificate.
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

    /// An order of one certificate, which ends on this day.
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

    /// An order whose certificate ended, and that lasts until another day.
    fn plan(id: u64, certificate_ends: i64, order_ends: i64) -> Order {
        Order { order_ends: Some(day(order_ends)), ..order(id, certificate_ends) }
    }

    #[test]
    fn a_listing_begins_where_something_may_have_changed() {
        let unknown_end = Order { bought_until: None, is_plan: true, ..order(1, -200) };
        for (what, known, read, expected) in [
            ("nothing is known", None, 0, -410),
            ("no orders", Some(vec![]), -1, -61),
            ("all ended long ago", Some(vec![expired(1, -300), order(2, -100)]), -1, -61),
            ("read long ago", Some(vec![expired(1, -300)]), -100, -160),
            ("read longer ago than the window", Some(vec![]), -500, -410),
            ("ended lately", Some(vec![order(1, -61)]), -1, -61),
            ("a plan whose certificate ended", Some(vec![plan(1, -150, 200), plan(2, -120, 20)]), -1, -150),
            ("a plan that ended 60 days before", Some(vec![plan(1, -150, -61)]), -1, -150),
            ("a plan that ended earlier", Some(vec![plan(1, -150, -62)]), -1, -61),
            ("a plan that is renewed", Some(vec![Order { renewed: true, ..plan(1, -150, 20) }]), -1, -61),
            ("a plan that is over", Some(vec![Order { expired: true, ..plan(1, -150, 20) }]), -1, -61),
            ("a plan that ends nobody knows when", Some(vec![unknown_end]), -1, -200),
            ("a plan older than the window", Some(vec![plan(1, -409, 200), plan(2, -411, 200)]), -1, -410),
        ] {
            let known = known.as_deref().map(|orders| (orders, day(read)));
            assert_eq!(listing_begins(known, day(0)), day(expected), "{what}");
        }
    }

    #[test]
    fn a_listing_replaces_its_range_and_older_orders_are_kept() {
        let before =
            [expired(9, -411), expired(8, -410), expired(7, -62), order(6, -61), order(5, 10), plan(4, -90, 99)];
        for (what, listed, expected) in [
            ("what is not listed is gone", vec![], vec![4, 7, 8]),
            ("what is listed is as it is listed", vec![order(5, 20), order(6, -61)], vec![4, 5, 6, 7, 8]),
            ("an old order with another certificate", vec![plan(4, 100, 99)], vec![4, 7, 8]),
            ("a new order", vec![order(10, 370)], vec![4, 7, 8, 10]),
        ] {
            let merged = merge(&before, listed.clone(), day(-61), day(0));
            assert_eq!(merged.iter().map(|it| it.id).collect::<Vec<_>>(), expected, "{what}");
            assert!(listed.iter().all(|order| merged.contains(order)), "{what}");
        }
        assert_eq!(
            merge(&before, vec![order(1, 5)], day(-410), day(0)),
            [order(1, 5)],
            "a whole listing keeps nothing"
        );
    }

    /// What becomes of an order after its last certificate.
    #[derive(Debug, Clone, Copy)]
    enum OrderFate {
        Ends,
        /// So many days before its end, or after it.
        Renewed(i64),
        Revoked(i64),
    }

    /// An order as the listing shows it from day to day.
    #[derive(Debug, Clone)]
    struct OrderLifetime {
        placed: i64,
        days: i64,
        certificate_days: i64,
        /// Another certificate comes so many days before the last one ends, or after it, or never.
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
        // A gap between two certificates may be long, but one that gets another has its last one until the end of the order.
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
                // An order that is over long after its certificate ended changes no more.
                says_expired: says_expired
                    && (certificate_days >= days || reissued.is_some() || matches!(fate, OrderFate::Ends)),
                says_end,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        /// Whatever days it is read on: as often as daily, or after half a year.
        #[test]
        fn merged_listings_equal_a_full_listing_of_the_same_day(
            lives in prop::collection::vec(order_lifetime(), 0..60),
            gaps in prop::collection::vec(prop_oneof![4 => 1..10i64, 1 => 10..200i64], 1..60),
        ) {
            let list = |on: i64, from: NaiveDate| -> Vec<Order> {
                let orders = (0..).zip(&lives).filter_map(|(id, life)| life.listed(id, on));
                orders.filter(|it| (from..=last_certificate(day(on))).contains(&it.certificate_ends)).collect()
            };
            let (mut on, mut known) = (0, None::<(Vec<Order>, i64)>);
            for gap in gaps {
                let before = known.as_ref().map(|(orders, read)| (orders.as_slice(), day(*read)));
                let from = listing_begins(before, day(on));
                let merged = merge(before.map_or(&[], |(orders, _)| orders), list(on, from), from, day(on));
                prop_assert_eq!(&merged, &list(on, oldest_certificate(day(on))), "on day {}, from {}", on, from);
                known = Some((merged, on));
                on += gap;
            }
        }
    }
}
