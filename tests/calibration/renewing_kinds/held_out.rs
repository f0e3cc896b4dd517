//! Tests that the accounts of held-out kinds match the descriptions of their kinds.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Datelike as _;
use lowtide::domain::Time;
use lowtide::sandbox::world::{AccountRecords, SimulatedOrder};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use super::{RenewalPair, all, days, is_recent, purchases, records_of, renewals, share};
use crate::account_reader::AccountReader;

use crate::accounts::{self, AccountKind, GeneratedAccount, name};

/// Kinds that were written without knowledge of the method.
const KINDS: [AccountKind; 6] = [
    AccountKind::RenewalsForClients,
    AccountKind::RenewalsAtMonthEnd,
    AccountKind::OrdersOf90To199Days,
    AccountKind::WildcardsReplaceOrders,
    AccountKind::LargeOrdersRenewedEarly,
    AccountKind::RenewalsAfterTheEnd,
];

#[test]
fn the_same_number_gives_the_same_account() {
    for kind in all() {
        let made = || {
            let case = GeneratedAccount::new(kind, 3);
            format!("{:?} {:?}", case.records(0), case.future)
        };
        assert_eq!(made(), made(), "{}", name(kind));
    }
}

#[test]
fn each_order_not_paid_by_card_has_a_debit_of_its_price() {
    for (kind, its) in KINDS.into_iter().flat_map(|kind| records_of(kind).into_iter().map(move |it| (kind, it))) {
        let orders: BTreeMap<u64, &SimulatedOrder> = its.orders.iter().map(|it| (it.id, it)).collect();
        let paid: Vec<_> = its.entries.iter().filter(|line| line.change < Decimal::ZERO).collect();
        for line in &paid {
            let order = orders[&line.order.unwrap()];
            assert_eq!((line.at, line.change, line.division), (order.placed, -order.price, order.division));
        }
        let known = |it: &&&SimulatedOrder| is_recent(it.placed) && kind != AccountKind::RenewalsForClients;
        let ids: BTreeSet<u64> = paid.iter().filter_map(|line| line.order).collect();
        assert_eq!(ids.len(), paid.len(), "no order is paid twice");
        assert!(orders.values().filter(known).all(|it| ids.contains(&it.id)), "{}", name(kind));
    }
}

#[test]
fn the_future_spend_is_like_the_past() {
    for kind in KINDS {
        let spends = (0..48).map(|number| {
            let case = GeneratedAccount::new(kind, number);
            let [past, future] = [&case.past, &case.future].map(|days| days.iter().sum::<i64>() as f64);
            (future / past).ln()
        });
        let change = (spends.sum::<f64>() / 48.0).exp();
        assert!((0.85..1.15).contains(&change), "{}: {change}", name(kind));
    }
}

#[test]
fn agencies_renew_differently_for_each_client() {
    let (mut leads, mut shares) = (Vec::new(), Vec::new());
    for its in records_of(AccountKind::RenewalsForClients) {
        let paid: BTreeSet<u64> = its.entries.iter().filter_map(|line| line.order).collect();
        let ended = by_product(its.orders.iter().filter(|it| it.expired(accounts::now())));
        for orders in ended.values().filter(|orders| orders.len() >= 20) {
            shares.push(share(orders.iter(), |it| it.renewed));
        }
        for (_, orders) in by_product(its.orders.iter().filter(|it| is_recent(it.placed))) {
            let by_card = orders.iter().filter(|it| !paid.contains(&it.id)).count();
            assert!(by_card == 0 || by_card == orders.len(), "{by_card} of {}", orders.len());
        }
        let renewals = renewals(&its);
        let mut its_leads: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for it in &renewals {
            its_leads.entry(&it.old.product).or_default().push(it.lead());
        }
        leads.extend(its_leads.into_values().filter(|leads| leads.len() >= 20).map(median));
    }
    for (what, is_low, is_high) in [
        ("leads", share(leads.iter(), |it| *it < 20), share(leads.iter(), |it| *it > 45)),
        ("shares", share(shares.iter(), |it| *it < 0.7), share(shares.iter(), |it| *it > 0.85)),
    ] {
        assert!((0.15..0.5).contains(&is_low) && (0.15..0.5).contains(&is_high), "{what}: {is_low}, {is_high}");
    }
}

#[test]
fn renewals_at_month_end_catch_up_after_holidays() {
    let records = records_of(AccountKind::RenewalsAtMonthEnd);
    let (mut placed, mut in_batches) = (Vec::new(), Vec::new());
    for its in &records {
        let mut batches: BTreeMap<_, usize> = BTreeMap::new();
        for renewal in renewals(its).into_iter().filter(|it| is_recent(it.new.placed)) {
            *batches.entry(renewal.new.placed.date_naive()).or_default() += 1;
            placed.push(renewal.new.placed.date_naive());
        }
        let mut sizes: Vec<usize> = batches.values().copied().collect();
        sizes.sort_unstable();
        in_batches.push(sizes.iter().rev().take(13).sum::<usize>() as f64 / sizes.iter().sum::<usize>() as f64);
    }
    let at_end = share(placed.iter(), |it| it.day() >= 22);
    assert!((0.6..0.92).contains(&at_end), "the others come after a holiday: {at_end}");
    let away = share(placed.iter(), |it| it.month() == 12 && it.day() >= 22 || it.month() == 1 && it.day() <= 4);
    let back = share(placed.iter(), |it| it.month() == 1 && (5..=15).contains(&it.day()));
    assert!(away < 0.01 && back > 0.04, "{away} {back}");
    assert!(in_batches.iter().sum::<f64>() / 16.0 > 0.85, "{in_batches:?}");
    let late = share(records.iter().flat_map(renewals), |it| it.lead() < -5);
    assert!(late < 0.1, "{late}");
}

#[test]
fn orders_bought_by_days_are_renewed_several_times_a_year() {
    let records = records_of(AccountKind::OrdersOf90To199Days);
    let renewed = share(records.iter().flat_map(purchases), |it| it.renewal);
    assert!(renewed > 0.85, "{renewed}");
    for its in records {
        let lengths: BTreeSet<i64> = its.orders.iter().map(|it| days(it.placed, it.ends)).collect();
        assert!(lengths.len() <= 2 && lengths.iter().all(|it| [90, 100, 199].contains(it)), "{lengths:?}");
        let mut names: BTreeMap<_, usize> = BTreeMap::new();
        its.orders
            .iter()
            .filter(|it| is_recent(it.placed))
            .for_each(|it| *names.entry(&it.common_name).or_default() += 1);
        assert!((2..=14).contains(names.values().max().unwrap()));
    }
}

#[test]
fn orders_bought_by_days_are_listed_and_read_with_their_ends() {
    let reader = AccountReader::new(accounts::now());
    let case = GeneratedAccount::new(AccountKind::OrdersOf90To199Days, 1);
    let records = case.records(case.available(30));
    let (_, history) = reader.read(records.clone());
    let read = history.orders.unwrap();
    let ends: BTreeMap<u64, _> = read.iter().map(|it| (it.id, it.order_ends)).collect();
    for order in records.orders.iter().filter(|it| !it.expired(accounts::now())) {
        assert_eq!(ends[&order.id], Some(order.ends.date_naive()));
    }
}

#[test]
fn wildcards_replace_at_least_three_orders() {
    let records = records_of(AccountKind::WildcardsReplaceOrders);
    let is_wildcard = |it: &SimulatedOrder| it.common_name.starts_with("*.");
    let bought = || records.iter().flat_map(|its| &its.orders).filter(|it| is_recent(it.placed));
    let renewed: BTreeSet<(usize, u64)> = (0..)
        .zip(&records)
        .flat_map(|(account, its)| renewals(its).into_iter().map(move |it| (account, it.new.id)))
        .collect();
    let new = (0..).zip(&records).flat_map(|(account, its)| its.orders.iter().map(move |it| (account, it)));
    let new: Vec<_> = new.filter(|(_, it)| is_wildcard(it) && is_recent(it.placed)).collect();
    let first = new.iter().filter(|(account, it)| !renewed.contains(&(*account, it.id))).count();
    let of_all = first as f64 / bought().count() as f64;
    assert!((0.015..0.08).contains(&of_all), "{of_all}");
    assert!(first < new.len(), "some wildcards are renewals");
    assert!(new.iter().all(|(_, it)| it.product == "GeoTrust Wildcard"));
    let price = |it: &SimulatedOrder| it.price.to_f64().unwrap();
    let mean = |orders: Vec<&SimulatedOrder>| orders.iter().map(|it| price(it)).sum::<f64>() / orders.len() as f64;
    let (wildcard, others) =
        (bought().filter(|it| is_wildcard(it)).collect(), bought().filter(|it| !is_wildcard(it)).collect());
    assert!(mean(wildcard) > 1.5 * mean(others), "one more expensive order replaces several");
}

#[test]
fn large_orders_are_most_of_the_spend_and_renewed_early() {
    let records = records_of(AccountKind::LargeOrdersRenewedEarly);
    let mut smallest: BTreeMap<&str, Decimal> = BTreeMap::new();
    for order in records.iter().flat_map(|its| &its.orders) {
        let least = smallest.entry(&order.product).or_insert(order.price);
        *least = order.price.min(*least);
    }
    let size = |it: &SimulatedOrder| (it.price / smallest[&*it.product]).to_i64().unwrap();
    let lead = |sizes: std::ops::Range<i64>| {
        let all = records.iter().flat_map(renewals).filter(|it| sizes.contains(&size(it.old)));
        median(all.map(|it| it.lead()).collect())
    };
    let leads = [lead(1..2), lead(3..8), lead(30..100)];
    assert!((3..12).contains(&leads[0]) && leads[0] + 8 < leads[1] && leads[1] + 12 < leads[2], "{leads:?}");
    let ended = |large: bool| {
        let all = records.iter().flat_map(|its| &its.orders).filter(|it| it.expired(accounts::now()));
        share(all.filter(|it| (size(it) >= 10) == large), |it| it.renewed)
    };
    assert!(ended(true) > ended(false) + 0.03, "{} {}", ended(true), ended(false));
    for its in &records {
        let mut prices: Vec<Decimal> = its.orders.iter().filter(|it| is_recent(it.placed)).map(|it| it.price).collect();
        prices.sort_by(|a, b| b.cmp(a));
        let dearest: Decimal = prices.iter().take(prices.len().div_ceil(5)).sum();
        assert!(dearest > prices.iter().sum::<Decimal>() / Decimal::TWO, "a fifth of the orders");
    }
}

#[test]
fn late_renewals_leave_a_gap_between_orders() {
    let records = records_of(AccountKind::RenewalsAfterTheEnd);
    let renewals: Vec<RenewalPair> = records.iter().flat_map(renewals).collect();
    let late = share(renewals.iter(), |it| it.lead() < 0);
    assert!((0.4..0.7).contains(&late), "{late}");
    assert!(renewals.iter().all(|it| (-25..=40).contains(&it.lead())));
    assert!(share(renewals.iter(), |it| it.lead() < -7) > 0.15, "many are more than a week late");
    assert!(renewals.iter().filter(|it| it.lead() < 0).all(|it| days(it.new.placed, it.new.ends) == 365));
    let not_yet = |its: &AccountRecords| {
        let ended = |at: Time| (1..=25).contains(&days(at, accounts::now()));
        its.orders.iter().filter(|it| ended(it.ends) && !it.renewed).count()
    };
    assert!(records.iter().map(not_yet).sum::<usize>() > 20, "some ended orders will still be renewed");
}

fn by_product<'o>(orders: impl Iterator<Item = &'o SimulatedOrder>) -> BTreeMap<&'o str, Vec<&'o SimulatedOrder>> {
    let mut by_product: BTreeMap<_, Vec<_>> = BTreeMap::new();
    orders.for_each(|it| by_product.entry(&*it.product).or_default().push(it));
    by_product
}

fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values[values.len() / 2]
}
