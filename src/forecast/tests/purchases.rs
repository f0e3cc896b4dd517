//! Classification of purchases: renewal, new order, other, or refunded.

use super::*;
use crate::forecast::purchase::PaymentSource;

/// A debit at noon, this number of days ago, for this order.
pub(super) fn debit(days_ago: i64, amount: i64, order: Option<u64>) -> LedgerEntry {
    let id = format!("{days_ago} {amount} {order:?}").into();
    LedgerEntry { id, order, at: day(days_ago).and_hms_opt(12, 0, 0).unwrap().and_utc(), ..line(0, -amount, "Charge") }
}

pub(super) fn day(days_ago: i64) -> NaiveDate {
    now().date_naive() - chrono::Duration::days(days_ago)
}

/// An order of one year, placed and ended this number of days ago.
pub(super) fn site(id: u64, name: &str, price: i64, (placed, ended): (i64, i64)) -> Order {
    Order {
        product: Some("ssl_plus".into()),
        common_name: Some(name.into()),
        placed: Some(day(placed)),
        bought_until: None,
        certificate_ends: day(ended),
        order_ends: Some(day(ended)),
        expired: ended > 0,
        ..order(id, price, (2026, 1, 1))
    }
}

pub(super) fn renewed(order: Order) -> Order {
    Order { renewed: true, ..order }
}

/// A ledger that begins 400 days ago.
pub(super) fn ledger(debits: Vec<LedgerEntry>) -> Ledger {
    let first = LedgerEntry { id: "first".into(), ..line(400 * 24, 100_000, "Credit") };
    Ledger::new([first, line(1, -1, "Transfer")].into_iter().chain(debits).collect())
}

/// Describes each purchase by its age in days, cost and kind.
fn costs_and_kinds(ledger: &Ledger, orders: &[Order]) -> Vec<String> {
    let purchases = Purchases::read(ledger, Some(orders), &Spending::default(), now());
    let show = |purchase: &crate::forecast::purchase::Purchase<'_>| {
        let ago = (now().date_naive() - purchase.entry.at.date_naive()).num_days();
        format!("{ago}: {} {:?}", purchase.cost, purchase.kind)
    };
    purchases.all.iter().map(show).collect()
}

#[test]
fn a_debit_belongs_to_the_order_that_it_names() {
    let orders = [
        renewed(site(1, "www.example.com", 300, (375, 10))),
        site(2, "www.example.com", 330, (20, -355)),
        site(3, "new.example.com", 300, (15, -350)),
    ];
    let debits = vec![debit(20, 330, Some(2)), debit(15, 300, Some(3)), debit(9, 40, Some(3)), debit(5, 77, Some(99))];
    assert_eq!(
        costs_and_kinds(&ledger(debits), &orders),
        ["20: 330 Renewal", "15: 300 NewOrder", "9: 40 Other", "5: 77 Other"]
    );
}

#[test]
fn an_unnamed_debit_belongs_to_the_order_of_its_price_and_day() {
    let orders = [
        renewed(site(1, "www.example.com", 300, (375, 10))),
        site(2, "www.example.com", 330, (20, -355)),
        site(3, "new.example.com", 300, (15, -350)),
    ];
    let debits = vec![debit(25, 330, None), debit(20, 330, None), debit(14, 300, None), debit(5, 300, None)];
    let expected = ["25: 330 Other", "20: 330 Renewal", "14: 300 NewOrder", "5: 300 Other"];
    assert_eq!(costs_and_kinds(&ledger(debits), &orders), expected);
}

#[test]
fn an_order_follows_one_of_its_name_renewed_near_its_end() {
    let follower = || site(2, "www.example.com", 300, (20, -355));
    let kind = |order: Order| costs_and_kinds(&ledger(vec![debit(20, 300, Some(2))]), &[order, follower()]).remove(0);
    assert_eq!(kind(renewed(site(1, "www.example.com", 250, (375, 10)))), "20: 300 Renewal");
    assert_eq!(kind(renewed(site(1, "www.example.com", 250, (395, 49)))), "20: 300 Renewal", "29 days late");
    assert_eq!(kind(renewed(site(1, "www.example.com", 250, (385, 55)))), "20: 300 NewOrder", "35 days late");
    assert_eq!(kind(renewed(site(1, "www.example.com", 250, (300, -100)))), "20: 300 NewOrder", "120 days early");
    assert_eq!(kind(site(1, "www.example.com", 250, (375, 10))), "20: 300 NewOrder", "the order was not renewed");
    assert_eq!(kind(renewed(site(1, "other.example.com", 250, (375, 10)))), "20: 300 NewOrder", "another name");
}

#[test]
fn of_two_orders_with_one_name_the_same_product_is_followed() {
    let other = |order: Order| Order { product: Some("ev".into()), ..order };
    let orders = [
        renewed(site(1, "www.example.com", 300, (375, 10))),
        renewed(other(site(2, "www.example.com", 900, (375, 10)))),
        other(site(3, "www.example.com", 950, (12, -355))),
        site(4, "www.example.com", 310, (20, -355)),
    ];
    let ledger = ledger(vec![debit(20, 310, Some(4)), debit(12, 950, Some(3))]);
    let purchases = Purchases::read(&ledger, Some(&orders), &Spending::default(), now());
    let pairs: Vec<_> =
        purchases.renewals.iter().map(|it| (orders[it.renewed].id, orders[it.by.unwrap()].id)).collect();
    assert_eq!(pairs, [(1, 4), (2, 3)]);
}

#[test]
fn a_credit_that_names_an_order_cancels_its_purchase() {
    let credit =
        |days_ago, amount: i64, order| LedgerEntry { change: Decimal::from(amount), ..debit(days_ago, -amount, order) };
    let lines = vec![
        debit(30, 300, Some(1)),
        debit(20, 50, Some(1)),
        credit(10, 120, Some(1)),
        debit(9, 400, Some(2)),
        credit(8, 400, Some(2)),
        credit(7, 500, None),
        credit(6, 90, Some(3)),
    ];
    let ledger = ledger(lines);
    assert_eq!(costs_and_kinds(&ledger, &[]), ["30: 230 Other", "20: 0 Other", "9: 0 Other"]);
    assert_eq!(spend(&ledger, &Spending::default(), now(), days(25)), Decimal::ZERO);
    assert_eq!(spend(&ledger, &Spending::default(), now(), days(35)), Decimal::from(230));
    assert_eq!(typical_order(&ledger, &Spending::default(), now()), Decimal::from(230));
    let sums = Purchases::read(&ledger, None, &Spending::default(), now()).past_year();
    assert_eq!((sums.other.count, sums.other.amount, sums.refunded), (1, 230.into(), 2));
}

#[test]
fn an_unnamed_refund_cancels_the_newest_purchase_of_its_amount() {
    let refund = |days_ago, amount: i64, kind: &str| {
        let kind = kind.into();
        LedgerEntry { change: Decimal::from(amount), kind, ..debit(days_ago, -amount, None) }
    };
    let lines = vec![
        debit(30, 300, Some(1)),
        debit(20, 300, Some(2)),
        debit(15, 50, None),
        refund(12, 300, "Refund"),
        refund(11, 77, "Partial refund"),
        refund(10, 50, "Credit"),
        debit(8, 300, Some(3)),
    ];
    assert_eq!(
        costs_and_kinds(&ledger(lines.clone()), &[]),
        ["30: 300 Other", "20: 0 Other", "15: 50 Other", "8: 300 Other"]
    );
    let two = lines.into_iter().chain([refund(7, 300, "REFUND"), refund(6, 300, "refund"), refund(5, 300, "refund")]);
    assert_eq!(
        costs_and_kinds(&ledger(two.collect()), &[]),
        ["30: 0 Other", "20: 0 Other", "15: 50 Other", "8: 0 Other"]
    );
}

#[test]
fn a_credit_is_a_refund_if_its_type_has_the_word_and_counts() {
    let spending = Spending::default();
    let refund = |kind: &str| spending.is_refund(&line(1, 5, kind));
    for kind in ["Refund", "Partial refund", "ORDER_REFUND", " refund: order 7"] {
        assert!(refund(kind), "{kind}");
    }
    for kind in ["Non-refundable Deposit", "Refundable Deposit", "Refund Reversal", "Credit", ""] {
        assert!(!refund(kind), "{kind}");
    }
    assert!(!spending.is_refund(&line(1, -5, "Refund")), "a debit");
    assert!(!Spending::without(["Refund"]).is_refund(&line(1, 5, "refund")), "the type is excluded");
}

#[test]
fn a_non_refundable_deposit_is_a_deposit_of_its_own() {
    let deposit = |ago: i64, amount, kind, expires_in| {
        let expires = Some(now() + chrono::Duration::days(expires_in));
        LedgerEntry { expires, ..line(ago * 24, amount, kind) }
    };
    let lines = vec![deposit(50, 1000, "Credit Card Deposit", 60), deposit(40, 400, "Non-refundable Deposit", 9)];
    assert_eq!(expiring(&Ledger::new(lines), &Spending::default(), now(), days(30)), Decimal::from(400));
}

#[test]
fn spend_is_not_reduced_by_refunds_of_earlier_purchases() {
    let refund = |hours, amount, order| LedgerEntry { order, ..line(hours, amount, "Refund") };
    let charge = |hours, amount: i64, order| LedgerEntry { order, ..line(hours, -amount, "Charge") };
    let spent = |lines: Vec<LedgerEntry>| spend(&Ledger::new(lines), &Spending::default(), now(), days(1));
    let (earlier, today) = (charge(7 * 24, 300, Some(1)), charge(5, 300, Some(2)));
    let bought = || vec![earlier.clone(), today.clone()];
    let with = |more: Vec<LedgerEntry>| spent([bought(), more].concat());
    assert_eq!(with(vec![refund(2, 300, None)]), Decimal::from(300), "may refund the earlier one");
    assert_eq!(with(vec![refund(2, 300, None), refund(1, 300, None)]), Decimal::ZERO, "both are refunded");
    assert_eq!(with(vec![refund(2, 300, Some(1))]), Decimal::from(300));
    assert_eq!(with(vec![refund(2, 300, Some(2))]), Decimal::ZERO);
    assert_eq!(spent(vec![today.clone(), refund(2, 300, None)]), Decimal::ZERO, "no other purchase fits");
    // A credit may come a day before its debit, even before the window begins.
    assert_eq!(spent(vec![refund(25, 300, Some(2)), today.clone()]), Decimal::ZERO);
}

#[test]
fn many_refunds_of_one_amount_are_matched_in_one_pass() {
    const EACH: i64 = 100_000;
    let purchase = |number: i64| LedgerEntry { id: format!("{number}").into(), ..line(0, -300, "Charge") };
    let refund = |number: i64| LedgerEntry { id: format!("{number} refund").into(), ..line(0, 300, "Refund") };
    let at = |entry: LedgerEntry, minutes: i64| LedgerEntry { at: now() - chrono::Duration::minutes(minutes), ..entry };
    // Each purchase is refunded a minute later, while most of the others are still to come.
    let lines: Vec<LedgerEntry> =
        (0..EACH).flat_map(|it| [at(purchase(it), 2 * it + 1), at(refund(it), 2 * it)]).collect();
    let ledger = Ledger::new(lines);
    let started = std::time::Instant::now();
    assert_eq!(spend(&ledger, &Spending::default(), now(), Duration::MAX), Decimal::ZERO);
    let purchases = Purchases::read(&ledger, None, &Spending::default(), now());
    assert!(purchases.all.iter().all(|purchase| purchase.cost.is_zero()));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_refund_goes_back_to_the_oldest_deposit() {
    let lines = |order, kind| {
        vec![
            LedgerEntry {
                expires: Some(now() + chrono::Duration::days(9)),
                ..line(50 * 24, 1000, "Credit Card Deposit")
            },
            LedgerEntry { order: Some(7), ..line(40 * 24, -600, "Charge") },
            LedgerEntry { order, ..line(30 * 24, 600, kind) },
        ]
    };
    let left = |lines| expiring(&Ledger::new(lines), &Spending::default(), now(), days(30));
    assert_eq!(left(lines(Some(7), "Credit")), Decimal::from(1000));
    assert_eq!(left(lines(None, "Refund")), Decimal::from(1000), "the type is a refund");
    assert_eq!(left(lines(Some(8), "Refund")), Decimal::from(1000), "for any order");
    assert_eq!(left(lines(None, "Credit")), Decimal::from(400), "another deposit");
}

#[test]
fn an_order_without_a_debit_was_paid_elsewhere() {
    let orders = [
        site(1, "a.example.com", 300, (100, -265)),
        site(2, "b.example.com", 300, (90, -275)),
        site(3, "c.example.com", 300, (500, 135)),
        Order { placed: None, ..site(4, "d.example.com", 300, (90, -275)) },
        site(5, "e.example.com", 300, (80, -285)),
    ];
    let refund = LedgerEntry { change: Decimal::from(300), ..debit(70, -300, Some(5)) };
    let ledger = ledger(vec![debit(100, 300, Some(1)), debit(80, 300, Some(5)), refund]);
    let purchases = Purchases::read(&ledger, Some(&orders), &Spending::default(), now());
    let expected = [
        PaymentSource::Balance,
        PaymentSource::Elsewhere,
        PaymentSource::Unknown,
        PaymentSource::Unknown,
        PaymentSource::Elsewhere,
    ];
    assert_eq!(purchases.payments, expected);
    let sums = purchases.past_year();
    assert_eq!((sums.new_orders.count, sums.paid_elsewhere.count, sums.refunded), (1, 1, 1));
}

#[test]
fn orders_older_than_the_ledger_use_the_mean_share() {
    use PaymentSource::{Balance, Elsewhere, Unknown};
    let share = |payments: &[PaymentSource]| crate::forecast::payments::mean_balance_share(payments);
    assert_eq!(share(&[Unknown, Unknown]), None, "no payment is known");
    assert_eq!(share(&[Balance, Unknown]), Some(Decimal::ONE), "nothing was ever paid elsewhere");
    let half = share(&[Balance, Elsewhere].repeat(50)).unwrap();
    assert!((Decimal::new(50, 2)..Decimal::new(60, 2)).contains(&half) && half.scale() <= 4, "{half}");
}

#[test]
fn the_time_of_a_renewal_is_known_for_every_way_of_payment() {
    let orders = [
        renewed(site(1, "a.example.com", 300, (375, 10))),
        site(2, "a.example.com", 300, (20, -355)),
        renewed(site(3, "b.example.com", 300, (375, 10))),
        site(4, "b.example.com", 300, (18, -355)),
    ];
    let ledger = ledger(vec![debit(20, 300, Some(2))]);
    let at = Purchases::read(&ledger, Some(&orders), &Spending::default(), now()).renewed_at();
    let dates: Vec<_> = at.into_iter().map(|(order, at)| (order, at.date_naive())).collect();
    assert_eq!(dates, [(1, day(20)), (3, day(18))]);
}

#[test]
fn debits_with_tax_belong_to_orders_that_are_listed_without() {
    let orders = [
        renewed(site(1, "www.example.com", 300, (375, 10))),
        site(2, "www.example.com", 300, (20, -355)),
        site(3, "new.example.com", 500, (15, -350)),
    ];
    let taxed = [debit(20, 363, None), debit(15, 605, None)].to_vec();
    assert_eq!(costs_and_kinds(&ledger(taxed.clone()), &orders), ["20: 363 Renewal", "15: 605 NewOrder"]);
    let taxed = ledger(taxed);
    let purchases = Purchases::read(&taxed, Some(&orders), &Spending::default(), now());
    assert_eq!(purchases.payments[1..], [PaymentSource::Balance, PaymentSource::Balance]);
    let other = [debit(20, 363, None), debit(15, 511, None)].to_vec();
    assert_eq!(costs_and_kinds(&ledger(other), &orders), ["20: 363 Other", "15: 511 Other"], "no rate explains these");
}

/// The debit of an order on the day it was placed, at this percentage of its price, to the cent.
fn charged(order: &Order, percent: Decimal) -> LedgerEntry {
    let ago = (now().date_naive() - order.placed.unwrap()).num_days();
    let id = format!("charge {}", order.id).into();
    LedgerEntry { id, change: -(order.price * percent / Decimal::ONE_HUNDRED).round_dp(2), ..debit(ago, 1, None) }
}

/// Orders at these prices in turn, evenly spread over 390 days.
fn over_a_year(count: u64, prices: &[i64]) -> Vec<Order> {
    let placed = |number: u64| 3 + i64::try_from(number * 390 / count).unwrap();
    let price = |number: u64| prices[usize::try_from(number).unwrap() % prices.len()];
    let site =
        |number| site(number, &format!("{number}.example.com"), price(number), (placed(number), placed(number) - 365));
    (0..count).map(site).collect()
}

/// Number of orders that were paid from the balance by the debit of their own amount.
fn paid(lines: Vec<LedgerEntry>, orders: &[Order], percent: Decimal) -> usize {
    let ledger = ledger(lines);
    let purchases = Purchases::read(&ledger, Some(orders), &Spending::default(), now());
    let right = |purchase: &&crate::forecast::purchase::Purchase<'_>| {
        purchase.order.is_some_and(|place| charged(&orders[place], percent).change == purchase.entry.change)
    };
    purchases.all.iter().filter(right).count()
}

#[test]
fn one_debit_of_exactly_a_price_leaves_the_others_taxed() {
    let mut orders = over_a_year(600, &[100, 175, 300]);
    let tax = Decimal::from(119);
    let lines: Vec<LedgerEntry> = orders.iter().map(|order| charged(order, tax)).collect();
    assert_eq!(paid(lines.clone(), &orders, tax), 600);
    orders.push(site(9000, "coincidence.example.com", 119, (40, -325)));
    assert_eq!(paid(lines.clone(), &orders, tax), 600, "one has the price of another with tax");
    let mut one_named = lines;
    one_named[300].order = Some(orders[300].id);
    assert_eq!(paid(one_named, &orders, tax), 600, "one debit names its order");
}

#[test]
fn a_price_that_is_another_with_tax_does_not_mislead() {
    let orders = over_a_year(600, &[100, 119]);
    let lines = |percent: i64| orders.iter().map(|order| charged(order, percent.into())).collect::<Vec<LedgerEntry>>();
    assert_eq!(paid(lines(119), &orders, 119.into()), 600);
    assert_eq!(paid(lines(100), &orders, 100.into()), 600, "listed with tax");
}

#[test]
fn a_rate_of_tax_may_have_four_places() {
    let orders = over_a_year(300, &[175, 218, 399, 1501]);
    let tax = Decimal::new(10825, 2);
    assert_eq!(paid(orders.iter().map(|order| charged(order, tax)).collect(), &orders, tax), 300);
}

#[test]
fn a_few_taxed_debits_change_nothing_where_most_are_listed_prices() {
    let orders = over_a_year(60, &[100, 175]);
    let percent = |order: &Order| if order.id < 40 { 100.into() } else { 119.into() };
    let lines: Vec<LedgerEntry> = orders.iter().map(|order| charged(order, percent(order))).collect();
    assert_eq!(paid(lines, &orders, 100.into()), 40);
}

#[test]
fn thousands_of_taxed_debits_of_one_day_find_their_orders() {
    let prices = [175, 218, 399];
    let bulk = |number: u64| {
        let price = prices[usize::try_from(number % 3).unwrap()];
        let placed = 20 + i64::try_from(number % 4).unwrap() * 90;
        site(number, &format!("{number}.example.com"), price, (placed, placed - 365))
    };
    let orders: Vec<Order> = (0..4000).map(bulk).collect();
    let tax = Decimal::from(119);
    assert_eq!(paid(orders.iter().map(|order| charged(order, tax)).collect(), &orders, tax), 4000);
}

/// Half of these orders ended 10 days ago and were renewed 20 days ago, all at one price. Returns the number of
/// renewals, and of those that are in the ledger.
fn renewed_in_bulk(count: u64, name: fn(u64) -> Option<&'static str>, names_orders: bool) -> (usize, usize) {
    let order = |number: u64| {
        let order = if number.is_multiple_of(2) {
            renewed(site(number, "", 199, (375, 10)))
        } else {
            site(number, "", 199, (20, -355))
        };
        Order { common_name: name(number).map(Into::into), ..order }
    };
    let orders: Vec<Order> = (0..count).map(order).collect();
    let debit =
        |order: &Order| LedgerEntry { order: names_orders.then_some(order.id), ..charged(order, Decimal::ONE_HUNDRED) };
    let ledger = ledger(orders.iter().map(debit).collect());
    let began = std::time::Instant::now();
    let purchases = Purchases::read(&ledger, Some(&orders), &Spending::default(), now());
    // With quadratic time, this takes a minute.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let paid = purchases.renewals.iter().filter(|renewal| renewal.purchase.is_some()).count();
    (purchases.renewals.len(), paid)
}

#[test]
fn thousands_of_orders_of_one_price_are_renewed_on_one_day() {
    let same = |_| Some("www.example.com");
    assert_eq!(renewed_in_bulk(20_000, same, true), (10_000, 10_000), "one name");
    assert_eq!(renewed_in_bulk(20_000, |_| None, true), (10_000, 10_000), "no names");
    assert_eq!(renewed_in_bulk(20_000, |_| None, false), (10_000, 10_000), "no names, and debits that name no order");
    let half = |number| (number % 4 > 1).then_some("www.example.com");
    assert_eq!(renewed_in_bulk(20_000, half, false), (10_000, 10_000), "some names");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random ledgers and orders: few names, prices and days, unknown order ids, credits of any amount.
    #[test]
    fn each_purchase_has_one_kind_and_pays_for_at_most_one_order(
        listed in proptest::collection::vec((0u64..30, 0i64..3, 0i64..3, 0i64..60, 1i64..5, any::<bool>()), 0..30),
        lines in proptest::collection::vec((0i64..60, -3i64..4, proptest::option::of(0u64..40)), 0..60),
    ) {
        let order = |(id, name, price, placed, years, is_renewed): (u64, i64, i64, i64, i64, bool)| Order {
            renewed: is_renewed,
            ..site(id, &format!("{name}.example.com"), price * 100, (placed * 10, placed * 10 - 73 * years))
        };
        let orders: Vec<Order> = listed.into_iter().map(order).collect();
        let lines: Vec<LedgerEntry> = lines.into_iter().enumerate().map(|(number, (ago, hundreds, order))| {
            LedgerEntry { id: number.to_string().into(), ..debit(ago * 10, hundreds * 100, order) }
        }).collect();
        let ledger = ledger(lines);
        let purchases = Purchases::read(&ledger, Some(&orders), &Spending::default(), now());
        let mut paid: Vec<usize> = purchases.all.iter().filter_map(|purchase| purchase.order).collect();
        let mut renewals: Vec<usize> = purchases.renewals.iter().map(|renewal| renewal.renewed).collect();
        let mut by: Vec<usize> = purchases.renewals.iter().filter_map(|renewal| renewal.purchase).collect();
        for places in [&mut paid, &mut renewals, &mut by] {
            let count = places.len();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), count);
        }
        let debits: Decimal = purchases.all.iter().map(|purchase| -purchase.entry.change).sum();
        let costs: Decimal = purchases.all.iter().map(|purchase| purchase.cost).sum();
        let credits: Decimal = ledger.entries().iter().filter(|line| line.order.is_some()).map(|line| line.change.max(Decimal::ZERO)).sum();
        prop_assert!(costs <= debits && debits - costs <= credits);
        prop_assert!(purchases.all.iter().all(|purchase| purchase.cost >= Decimal::ZERO));
    }
}
