//! Tests that balance, history and orders agree with one another at every moment of any simulation.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::scenario::parse;
use crate::domain::money::Currency;
use crate::sandbox::scenario::{
    CreditLimit, DepositPlan, DomainPlan, InvoicePlan, OrderPlan, ProductPlan, RenewalPlan, SHIPPED,
};

fn start() -> Time {
    "2026-11-02T08:00:00Z".parse().unwrap()
}

fn shipped(name: &str) -> Scenario {
    parse(name, SHIPPED.iter().find(|(it, _)| *it == name).unwrap().1).unwrap()
}

/// Asserts all invariants of the account.
fn assert_consistent(world: &SimulatedWorld) {
    let mut balances: BTreeMap<u64, Decimal> = BTreeMap::new();
    let shared = world.plans.len() > world.funds.len();
    let fund = |division: u64| if shared { world.plans[0].id } else { division };
    let orders: BTreeMap<u64, &SimulatedOrder> = world.orders().iter().map(|order| (order.id, order)).collect();
    let mut paid: BTreeMap<u64, u32> = BTreeMap::new();
    for pair in world.entries().windows(2) {
        assert!(pair[0].at <= pair[1].at, "the ledger is in the order of time");
    }
    for entry in world.entries() {
        let balance = balances.entry(fund(entry.division)).or_default();
        *balance += entry.change;
        assert_eq!(*balance, entry.balance_after, "every entry has the balance after it");
        let plan = world.plans.iter().find(|plan| plan.id == entry.division).unwrap();
        if let CreditLimit::Limit(limit) = plan.credit
            && entry.at < world.start()
        {
            assert!(
                entry.balance_after >= plan.balance.min(-limit),
                "below the credit limit before the start: {entry:?}"
            );
        }
        if let Some(order) = entry.order {
            let order = orders[&order];
            assert_eq!(order.division, entry.division);
            if entry.at == order.placed {
                assert_eq!(order.price, -entry.change);
                *paid.entry(order.id).or_default() += 1;
            } else {
                assert!(entry.at > order.placed && entry.at < order.ends && -entry.change < order.price, "a domain");
            }
        }
    }
    let begins = world.entries().first().map_or(world.start(), |entry| entry.at);
    for order in world.orders() {
        let debits = paid.get(&order.id).copied().unwrap_or_default();
        assert_eq!(
            debits,
            u32::from(order.placed >= begins),
            "an order placed since the ledger began is paid once: {order:?}"
        );
    }
    for orders in sites(world) {
        for pair in orders.windows(2) {
            let from = pair[0].ends.max(pair[1].placed);
            assert!(pair[0].renewed && pair[0].placed < pair[1].placed, "{pair:?}");
            assert_eq!(
                pair[1].ends,
                from + DAY * 365 * pair[1].years,
                "a renewal keeps the remaining time of the old order: {pair:?}"
            );
        }
        assert!(!orders.last().unwrap().renewed, "{orders:?}");
    }
    for (division, _) in world.divisions() {
        let sheet = world.sheet(division).unwrap();
        assert_eq!(
            sheet.balance,
            balances.get(&fund(division)).copied().unwrap_or_default(),
            "balance is the sum of history"
        );
        if let CreditLimit::Limit(limit) = sheet.credit {
            let formula = sheet.balance + limit - sheet.unpaid_invoices - sheet.used_by_others;
            assert_eq!(sheet.available(), Some(formula));
        }
        assert!(sheet.unpaid_invoices >= Decimal::ZERO && sheet.used_by_others >= Decimal::ZERO);
    }
    for (fund, plan) in world.funds.iter().zip(&world.plans) {
        let left: Decimal = fund.lots.iter().map(|lot| lot.left).sum();
        assert_eq!(left, fund.balance.max(Decimal::ZERO), "the unspent deposits add up to the balance: {}", plan.name);
    }
}

/// Groups orders by site, oldest first.
fn sites(world: &SimulatedWorld) -> Vec<Vec<&SimulatedOrder>> {
    let mut sites: BTreeMap<(u64, &str), Vec<&SimulatedOrder>> = BTreeMap::new();
    for order in world.past_orders().iter().chain(world.orders()) {
        sites.entry((order.division, &order.common_name)).or_default().push(order);
    }
    let mut sites: Vec<Vec<&SimulatedOrder>> = sites.into_values().collect();
    for orders in &mut sites {
        orders.sort_by_key(|order| order.placed);
    }
    sites
}

/// Returns the time between each renewal and the end of the order.
fn leads(orders: &[&SimulatedOrder]) -> Vec<chrono::TimeDelta> {
    orders.windows(2).map(|pair| pair[0].ends - pair[1].placed).collect()
}

/// Builds a scenario with one division and one renewal plan.
fn renewing(history: &str, renewals: &str) -> Scenario {
    let text = format!(
        "history: {history}\ndivisions: {{ Main: {{ id: 1, balance: 90000, credit_limit: 0, renewals: [{{ product: X, price: 150, {renewals} }}] }} }}"
    );
    parse("x", &text).unwrap()
}

/// Formats the ledger for comparison.
fn ledger_text(world: &SimulatedWorld) -> String {
    world.entries().iter().fold(String::new(), |text, entry| text + &format!("{entry:?}\n"))
}

#[test]
fn shipped_scenarios_start_at_their_balance_and_stay_consistent() {
    for (name, _) in SHIPPED {
        let scenario = shipped(name);
        let mut world = SimulatedWorld::new(&scenario, start(), 1);
        for plan in &scenario.divisions {
            assert_eq!(world.sheet(plan.id).unwrap().balance, plan.balance, "{name}");
        }
        let days = u32::try_from(scenario.length.as_secs() / DAY.as_secs()).unwrap();
        for day in 0..=days {
            world.advance(start() + DAY * day);
            assert_consistent(&world);
        }
    }
}

#[test]
fn a_simulation_depends_on_its_seed_not_on_how_often_it_is_read() {
    let scenario = shipped("drain");
    let end = start() + scenario.length;
    let (mut often, mut once, mut other) = (
        SimulatedWorld::new(&scenario, start(), 7),
        SimulatedWorld::new(&scenario, start(), 7),
        SimulatedWorld::new(&scenario, start(), 8),
    );
    (0..16 * 24).for_each(|hour| often.advance(start() + Duration::from_secs(3600 * hour)));
    often.advance(end);
    once.advance(end);
    other.advance(end);
    assert_eq!(ledger_text(&often), ledger_text(&once));
    assert_eq!(often.orders(), once.orders());
    assert_ne!(ledger_text(&once), ledger_text(&other));
}

#[test]
fn the_default_scenario_has_its_phases_in_order_for_every_seed() {
    let scenario = shipped("drain");
    let outage = &scenario.faults[0];
    for seed in 1..=200 {
        let mut world = SimulatedWorld::new(&scenario, start(), seed);
        // First times, in periods of the demo's schedule, at which funds are below 2000 and below 500.
        let mut first = [None, None];
        for step in 0..=scenario.length.as_secs() / 7200 {
            let at = Duration::from_secs(7200 * step);
            world.advance(start() + at);
            let funds = world.sheet(11224).unwrap().available().unwrap();
            for (first, threshold) in first.iter_mut().zip([2000, 500]) {
                *first = first.or((funds < Decimal::from(threshold)).then_some(at));
            }
            if at == outage.from + outage.length {
                assert!(funds < Decimal::from(500), "seed {seed}: low before and after the outage");
            }
        }
        let [Some(warning), Some(critical)] = first else { panic!("seed {seed}: {first:?}") };
        assert!(warning < critical && critical < outage.from, "seed {seed}: {warning:?}, {critical:?}");
        assert!(
            world.sheet(11224).unwrap().available().unwrap() > Decimal::from(2000),
            "seed {seed}: the deposit arrives"
        );
    }
}

#[test]
fn a_renewal_without_funds_is_tried_again_every_day() {
    let text = "divisions: { Main: { id: 1, balance: 100, credit_limit: 0, renewals: [{ product: X, price: 150, count: 1, from: 20d, to: 20d }], deposits: [{ on: 9d, amount: 100 }] } }";
    let mut world = SimulatedWorld::new(&parse("x", text).unwrap(), start(), 1);
    let charged = |world: &SimulatedWorld| world.entries().iter().filter(|entry| entry.kind == "Charge").count();
    world.advance(start() + DAY * 8);
    assert_eq!((charged(&world), world.orders().len()), (0, 1));
    world.advance(start() + DAY * 10);
    assert_eq!((charged(&world), world.orders().len()), (1, 2));
    assert!(world.orders()[0].renewed);
    assert_eq!(world.orders()[1].ends, world.orders()[0].ends + DAY * 365);
    assert_eq!(world.orders()[1].common_name, world.orders()[0].common_name);
}

#[test]
fn past_and_simulated_renewals_have_the_same_lead() {
    let (day, cases) = (
        chrono::TimeDelta::days(1),
        [
            ("early: 14d", 14),
            ("early: 45d", 45),
            ("early: 0s", 0),
            ("early: 14d, years: 3", 14),
            ("early: 14d, auto_renew: true", 30),
            ("early: 40d, auto_renew: true", 40),
        ],
    );
    for (more, lead) in cases {
        for (history, from, to) in
            [("1w", "24d", "31d"), ("400d", "24d", "31d"), ("1000d", "2d", "360d"), ("90d", "300d", "500d")]
        {
            let renewals = format!("count: 20, from: {from}, to: {to}, {more}");
            let mut world = SimulatedWorld::new(&renewing(history, &renewals), start(), 1);
            world.advance(start() + DAY * 800);
            assert_consistent(&world);
            let sites = sites(&world);
            assert_eq!(sites.len(), 20);
            for orders in sites {
                let before = orders.iter().filter(|order| order.placed < start()).count();
                assert!(before >= 2, "{renewals}: {orders:?}");
                assert!(leads(&orders).iter().all(|it| *it == day * lead), "{renewals}: {orders:?}");
            }
        }
    }
}

#[test]
fn orders_that_ended_within_400_days_are_listed_with_renewals() {
    for (from, more) in [("24d", "early: 14d"), ("370d", "early: 14d"), ("300d", "early: 200d")] {
        let mut world =
            SimulatedWorld::new(&renewing("1w", &format!("count: 5, from: {from}, to: {from}, {more}")), start(), 1);
        world.advance(start() + DAY * 3);
        for orders in sites(&world) {
            let ended = |order: &&&SimulatedOrder| order.ends < start() && order.ends >= start() - DAY * 400;
            assert_eq!(orders.iter().filter(ended).count(), 1, "one a year: {orders:?}");
            assert!(orders[0].placed < start() - DAY * 400, "{orders:?}");
        }
    }
}

#[test]
fn one_order_of_each_site_ends_between_from_and_to() {
    for history in ["1w", "400d", "1000d"] {
        let mut world = SimulatedWorld::new(&renewing(history, "count: 30, from: 24d, to: 31d"), start(), 1);
        let ends = |world: &SimulatedWorld| {
            let orders = world.orders().iter().filter(|order| !order.renewed);
            orders.map(|order| (order.ends - start()).num_days()).collect::<Vec<_>>()
        };
        assert!(ends(&world).len() == 30 && ends(&world).iter().all(|days| (24..=31).contains(days)), "{history}");
        world.advance(start() + DAY * 10 - Duration::from_secs(1));
        assert_eq!(ends(&world).iter().filter(|days| **days > 31).count(), 0, "{history}");
        world.advance(start() + DAY * 17);
        assert_eq!(ends(&world).iter().filter(|days| **days > 31).count(), 30, "{history}");
    }
}

#[test]
fn renewals_in_the_history_leave_the_scenarios_balance() {
    for (history, paid) in [("90d", 0), ("400d", 40), ("750d", 80)] {
        let world = SimulatedWorld::new(&renewing(history, "count: 40, from: 24d, to: 31d"), start(), 1);
        assert_consistent(&world);
        let (charges, others): (Vec<&SimulatedEntry>, Vec<&SimulatedEntry>) =
            world.entries().iter().partition(|entry| entry.kind == "Charge");
        assert_eq!(charges.len(), paid, "{history}");
        assert!(charges.iter().all(|it| it.change == Decimal::from(-150) && it.order.is_some()), "{charges:?}");
        let opening = Decimal::from(90_000 + 150 * paid);
        assert_eq!(others.iter().map(|it| it.change).collect::<Vec<_>>(), [opening], "{history}");
        assert!(world.entries().iter().all(|it| it.balance_after >= Decimal::from(90_000)), "never below the start");
        assert_eq!(world.sheet(1).unwrap().balance, Decimal::from(90_000));
    }
}

#[test]
fn excess_past_deposits_keep_the_ledger_above_its_credit_limit() {
    let text = |ago: u32| {
        format!(
            "history: 400d\ndivisions: {{ Main: {{ id: 1, balance: 500, credit_limit: 100, orders: [{{ product: X, price: 10, per_week: 1 }}], deposits: [{{ ago: {ago}d, amount: 1000, expires_after: 100d }}] }} }}"
        )
    };
    for (ago, taken_off) in [(10, true), (99, true), (300, false)] {
        let world = SimulatedWorld::new(&parse("x", &text(ago)).unwrap(), start(), 1);
        assert_consistent(&world);
        let adjusted =
            |entry: &SimulatedEntry| entry.kind == "Adjustment" && entry.at == start() && entry.change < Decimal::ZERO;
        assert_eq!(world.entries().iter().any(adjusted), taken_off, "{ago} days ago");
        assert_eq!(world.sheet(1).unwrap().balance, Decimal::from(500));
    }
}

#[test]
fn the_fraction_of_per_week_is_the_chance_of_one_more() {
    // Number of new orders in each of 200 weeks, without the weeks that have none.
    let ordered = |per_week: &str| {
        let text = format!(
            "history: 156w\ndivisions: {{ Main: {{ id: 1, balance: 90000, orders: [{{ product: X, price: 1, per_week: {per_week} }}] }} }}"
        );
        let mut world = SimulatedWorld::new(&parse("x", &text).unwrap(), start(), 1);
        world.advance(start() + WEEK * 44);
        let mut weeks: BTreeMap<i64, u32> = BTreeMap::new();
        for entry in world.entries().iter().filter(|entry| entry.note.as_deref() == Some("Order of X")) {
            *weeks.entry((entry.at - (start() - WEEK * 156)).num_weeks()).or_default() += 1;
        }
        weeks.into_values().collect::<Vec<u32>>()
    };
    assert_eq!(ordered("3"), [3; 200]);
    let (rare, often) = (ordered("0.3"), ordered("2.5"));
    assert!((45..75).contains(&rare.len()) && rare.iter().all(|count| *count == 1), "{rare:?}");
    assert!(often.len() == 200 && often.iter().all(|count| (2..=3).contains(count)), "{often:?}");
    assert!((470..530).contains(&often.iter().sum::<u32>()), "{often:?}");
}

#[test]
fn a_deposit_counts_at_once_and_ends_the_refusals() {
    let text = "divisions: { Main: { id: 1, balance: 100, credit_limit: 0, orders: [{ product: X, price: 150, per_week: 2 }] } }";
    let mut world = SimulatedWorld::new(&parse("x", text).unwrap(), start(), 1);
    assert_eq!(world.refused(1), 0, "nothing is refused before the start");
    world.advance(start() + DAY * 7);
    assert_eq!((world.refused(1), world.refused(2)), (2, 0));
    world.pay_in(2, Decimal::from(9000));
    world.pay_in(1, Decimal::from(200));
    assert_eq!(world.sheet(1).unwrap().available(), Some(Decimal::from(300)));
    assert_eq!((world.entries().last().unwrap().at, world.now), (start() + DAY * 7, start() + DAY * 7));
    world.advance(start() + DAY * 14);
    assert_eq!((world.refused(1), world.sheet(1).unwrap().balance), (2, Decimal::ZERO));
    world.advance(start() + DAY * 21);
    assert_eq!(world.refused(1), 4);
    assert_consistent(&world);
}

#[test]
fn debits_consume_the_oldest_deposit_first_and_the_rest_expires() {
    let text = "history: 1w\ndivisions: { Main: { id: 1, balance: 0, credit_limit: 5000, deposits: [{ on: 1d, amount: 100, expires_after: 10d }, { on: 2d, amount: 50, expires_after: 3d }], orders: [{ product: X, price: 5, per_week: 1 }] } }";
    let mut world = SimulatedWorld::new(&parse("x", text).unwrap(), start(), 3);
    world.advance(start() + DAY * 30);
    let expired: Vec<Decimal> =
        world.entries().iter().filter(|entry| entry.kind == "Expired Deposit").map(|entry| entry.change).collect();
    // The younger deposit expires first, in full, because debits consumed the older one.
    assert_eq!(expired[0], Decimal::from(-50));
    assert!(expired[1] > Decimal::from(-100) && expired[1] < Decimal::from(-80), "{expired:?}");
    assert_consistent(&world);
}

#[test]
fn an_overdue_invoice_is_taken_from_the_balance() {
    let mut world = SimulatedWorld::new(&shipped("unpaid-invoices"), start(), 1);
    let mut at = |day: u32| {
        world.advance(start() + DAY * day + Duration::from_secs(60));
        (world.sheet(11224).unwrap().unpaid_invoices, world.entries().iter().any(|it| it.kind == "Invoice Payment"))
    };
    assert_eq!(at(3), (Decimal::ZERO, false));
    assert_eq!(at(4), (Decimal::from(1250), false));
    assert_eq!(at(8), (Decimal::from(3150), false));
    assert_eq!(at(13), (Decimal::from(1900), false));
    assert_eq!(at(22), (Decimal::ZERO, true));
}

#[test]
fn a_long_order_gets_its_certificates_one_after_the_other() {
    let placed = start();
    let ends = placed + DAY * 365;
    let common_name = String::new();
    let order = SimulatedOrder {
        id: 1,
        division: 1,
        product: String::new(),
        price: Decimal::ONE,
        years: 1,
        common_name,
        placed,
        ends,
        renewed: false,
        auto_renew: false,
        issuance: CertificateIssuance::default(),
    };
    assert_eq!(order.certificate_ends(placed), placed + DAY * 199);
    assert_eq!(order.certificate_ends(placed + DAY * 186), ends.min(placed + DAY * (199 - 14 + 199)));
    assert_eq!(order.certificate_ends(placed + DAY * 360), ends);
    let hour = Duration::from_secs(3600);
    let states = |at: Time| (order.issued(at), order.reissuing(at), order.expired(at), order.certificate(at).number);
    assert_eq!(states(placed + hour), (false, false, false, 0));
    assert_eq!(states(placed + DAY * 185 - hour), (true, true, false, 0));
    assert_eq!(states(placed + DAY * 185), (true, false, false, 1));
    assert_eq!(states(ends), (true, false, false, 1), "an order lasts until the end of its last day");
    assert_eq!(states(ends + DAY), (true, false, true, 1));
    let never = SimulatedOrder { issuance: CertificateIssuance { reissued: false, ..order.issuance }, ..order.clone() };
    assert_eq!(never.certificate_ends(ends), placed + DAY * 199);
    assert!(!never.expired(ends - DAY), "the order outlasts its certificate");
    let slow = SimulatedOrder { issuance: CertificateIssuance { reissue_takes: DAY * 5, ..order.issuance }, ..order };
    assert!(!slow.reissuing(placed + DAY * 179) && slow.reissuing(placed + DAY * 181));
}

#[test]
fn divisions_with_shared_funds_report_the_same_and_buy_from_them() {
    let text = "shared_funds: true\ndivisions: { A: { id: 1, balance: 900, credit_limit: 0, orders: [{ product: X, price: 100, per_week: 4 }] }, B: { id: 2, balance: 900, credit_limit: 0, orders: [{ product: X, price: 100, per_week: 3 }] } }";
    let mut world = SimulatedWorld::new(&parse("x", text).unwrap(), start(), 1);
    for day in 0..30 {
        world.advance(start() + DAY * day);
        assert_consistent(&world);
        assert_eq!(world.sheet(1), world.sheet(2));
    }
    assert_eq!(world.sheet(1).unwrap().available(), Some(Decimal::ZERO), "nine orders, of both");
    let charges = |id: u64| world.entries().iter().filter(|it| it.division == id && it.at > start()).count();
    assert!(charges(1) > 0 && charges(2) > 0 && charges(1) + charges(2) == 9);
}

#[test]
fn a_recorded_account_shows_its_records_and_never_changes() {
    let division = |id: u64| RecordedDivision {
        id,
        name: format!("Division {id}"),
        currency: Currency::parse("USD").unwrap(),
        balance: Decimal::from(500),
        credit: CreditLimit::Limit(Decimal::from(2000)),
    };
    let mut simulated = SimulatedWorld::new(&shipped("drain"), start(), 1);
    simulated.advance(start() + DAY * 5);
    let (entries, orders) = (simulated.entries().to_vec(), simulated.orders().to_vec());
    let divisions = vec![division(11224), division(2)];
    let records = AccountRecords { divisions, shared_funds: true, entries: entries.clone(), orders: orders.clone() };
    let mut world = SimulatedWorld::recorded(records, start() + DAY * 5);
    world.advance(start() + DAY * 400);
    assert_eq!((world.entries(), world.orders()), (&*entries, &*orders));
    assert_eq!(world.sheet(2).unwrap().available(), Some(Decimal::from(2500)));
    assert_eq!(world.sheet(2), world.sheet(11224));
}

#[test]
fn plans_renew_30_days_before_their_end_while_funds_are_sufficient() {
    let text = |balance: u32| {
        format!(
            "divisions: {{ Main: {{ id: 1, balance: {balance}, credit_limit: 0, renewals: [{{ product: X, price: 150, count: 1, from: 40d, to: 40d, auto_renew: true }}], deposits: [{{ on: 20d, amount: 200 }}] }} }}"
        )
    };
    let paid = |balance: u32, days: u32| {
        let mut world = SimulatedWorld::new(&parse("x", &text(balance)).unwrap(), start(), 1);
        world.advance(start() + DAY * days);
        assert_consistent(&world);
        world.entries().iter().filter(|entry| entry.kind == "Charge").count()
    };
    assert_eq!((paid(150, 9), paid(150, 11)), (0, 1), "30 days before the end");
    assert_eq!(
        (paid(100, 25), paid(100, 27)),
        (0, 1),
        "automatic renewal failed, and a manual one followed 14 days before the end"
    );
}

#[test]
fn added_domains_are_charged_for_the_remaining_days_of_their_orders() {
    let mut world = SimulatedWorld::new(&shipped("plans"), start(), 1);
    world.advance(start() + DAY * 14);
    assert_consistent(&world);
    let added = world.entries().iter().filter(|it| it.note.as_ref().is_some_and(|note| note.starts_with("Additional")));
    let charges: Vec<Decimal> = added.map(|it| -it.change).collect();
    assert!(charges.len() > 50, "{}", charges.len());
    assert!(charges.iter().all(|it| *it > Decimal::ZERO && *it < Decimal::from(260) && it.scale() <= 2), "{charges:?}");
    let distinct: std::collections::BTreeSet<&Decimal> = charges.iter().collect();
    assert!(distinct.len() > charges.len() / 2, "prices depend on the remaining days");
}

fn price() -> impl Strategy<Value = Decimal> {
    (1i64..200_000).prop_map(|cents| Decimal::new(cents, 2))
}

fn span() -> impl Strategy<Value = Duration> {
    (1u64..40 * 24).prop_map(|hours| Duration::from_secs(3600 * hours))
}

prop_compose! {
    fn division(id: u64)(
        balance in -300_000i64..1_000_000,
        limit in prop_oneof![Just(None), (0i64..500_000).prop_map(Some)],
        orders in prop::collection::vec((price(), 1i64..1200, 1u32..=3), 0..3),
        renewals in prop::collection::vec((price(), 1u32..20, span(), span(), span()), 0..2),
        deposits in prop::collection::vec((any::<bool>(), span(), price(), prop::option::of(span()), prop::option::of(span())), 0..4),
        invoices in prop::collection::vec((span(), price(), span(), prop::option::of(span())), 0..4),
        domains in prop::option::of(1i64..600),
    ) -> DivisionPlan {
        let product = |price, years| ProductPlan { name: "X".to_owned(), price, years, auto_renew: years == 1 };
        DivisionPlan {
            id,
            name: id.to_string(),
            currency: Currency::parse(if id == 3 { "EUR" } else { "USD" }).unwrap(),
            balance: Decimal::new(balance, 2),
            credit: limit.map_or(CreditLimit::Unlimited, |limit| CreditLimit::Limit(Decimal::new(limit, 2))),
            orders: orders.into_iter().map(|(price, per_week, years)| OrderPlan { product: product(price, years), per_week: Decimal::new(per_week, 2) }).collect(),
            renewals: renewals
                .into_iter()
                .map(|(price, count, from, more, early)| RenewalPlan { product: product(price, 1), count, from, to: from + more, early })
                .collect(),
            deposits: deposits
                .into_iter()
                .map(|(ago, on, amount, every, expires_after)| DepositPlan {
                    on: if ago { DepositTime::Ago(on) } else { DepositTime::After(on) },
                    amount,
                    every,
                    expires_after,
                })
                .collect(),
            added_domains: domains.into_iter().map(|per_week| DomainPlan { price: Decimal::new(1, 2), per_week: Decimal::new(per_week, 2) }).collect(),
            invoices: invoices
                .into_iter()
                .map(|(on, amount, due_after, paid_after)| InvoicePlan { on, amount, due_after, paid_after })
                .collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn balance_history_and_orders_always_agree(
        one in division(1), two in division(2), three in division(3), seed in any::<u64>(), weeks in prop_oneof![3 => 1u32..12, 1 => 50u32..60],
    ) {
        let balances = [one.balance, two.balance, three.balance];
        let scenario = Scenario {
            name: String::new(),
            about: String::new(),
            length: WEEK * 6,
            history: WEEK * weeks,
            rate_limit: Vec::new(),
            shared_funds: false,
            divisions: vec![one, two, three],
            faults: Vec::new(),
        };
        let mut world = SimulatedWorld::new(&scenario, start(), seed);
        for (id, balance) in (1..).zip(balances) {
            prop_assert_eq!(world.sheet(id).unwrap().balance, balance);
        }
        for step in 0..12u32 {
            world.advance(start() + DAY * step * 3);
            assert_consistent(&world);
        }
    }
}
