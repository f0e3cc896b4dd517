//! What rules read of the days to come, and what messages say of them, from books in every state.

use chrono::NaiveDate;

use super::*;
use crate::domain::balance::tests::sample;
use crate::domain::history::Entry;
use crate::domain::rule::Amount;
use std::sync::Arc;

const HOUR: TimeDelta = TimeDelta::hours(1);

fn now() -> Time {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn entry(id: &str, at: Time, change: i64) -> Entry {
    let (kind, currency) = ("Charge".into(), Currency::parse("USD").ok());
    let change = Decimal::from(change);
    Entry { id: id.into(), at, change, kind, balance_after: None, currency, order: None, expires: None }
}

/// 40 a day for ninety days.
fn ledger() -> Vec<Entry> {
    (1..=90).map(|ago| entry(&format!("L{ago}"), now() - TimeDelta::days(ago), -40)).collect()
}

fn order(id: u64, price: i64, ends_in: i64) -> Order {
    let day: NaiveDate = (now() + TimeDelta::days(ends_in)).date_naive();
    Order {
        id,
        division: None,
        product: None,
        common_name: None,
        price: Decimal::from(price),
        expired: false,
        renewed: false,
        placed: None,
        bought_until: None,
        is_plan: false,
        certificate_ends: day,
        order_ends: Some(day),
    }
}

fn books(entries: Vec<Entry>, orders: Vec<Order>) -> Books {
    Books {
        ledger: Ok(Arc::new(Ledger::new(entries))),
        ledger_read: Some(now()),
        orders: Ok(orders.into()),
        orders_read: Some(now() - HOUR * 20),
        ends: None,
    }
}

fn money_rule(metric: Metric, side: Side, at: i64) -> Rule {
    let threshold = Amount { value: Decimal::from(at), currency: None };
    Rule::new(metric.name().into(), metric, Some(Level::new(side, threshold, None).unwrap()), None).unwrap()
}

fn runway_rule(days: u32) -> Rule {
    let level = Level::new(Side::Below, DAY * days, None).unwrap();
    Rule::new("runway".into(), Metric::Runway, Some(level), None).unwrap()
}

/// What these rules read, with so many US dollars available.
fn readings(available: &str, books: &Books, rules: &[Rule]) -> Vec<Reading> {
    let balance = sample(available, Some("0"), "0", "0");
    let prospect = Prospect::new(&balance, books.clone(), &Spending::default(), rules, now());
    rules.iter().map(|rule| prospect.reading(rule)).collect()
}

fn amount(reading: &Reading) -> Decimal {
    let Reading::Amount(money) = reading else { panic!("{reading:?}") };
    money.amount
}

#[test]
fn a_renewal_that_was_paid_after_the_orders_were_listed_is_due_no_more() {
    let rules = [money_rule(Metric::RenewalsDue, Side::Above, 0), money_rule(Metric::Shortfall, Side::Above, 0)];
    let orders = || vec![order(7, 8000, 14), order(8, 300, 20)];
    let before = readings("10000", &books(ledger(), orders()), &rules);
    assert_eq!((amount(&before[0]), amount(&before[1])), (Decimal::from(8300), Decimal::ZERO));
    let mut paid = ledger();
    paid.push(entry("PAID", now() - HOUR, -8000));
    let after = readings("2000", &books(paid.clone(), orders()), &rules);
    assert_eq!((amount(&after[0]), amount(&after[1])), (Decimal::from(300), Decimal::ZERO));
    // A purchase from before the listing is in the listing.
    paid.pop();
    paid.push(entry("OLD", now() - HOUR * 30, -8000));
    assert_eq!(amount(&readings("2000", &books(paid, orders()), &rules)[1]), Decimal::from(6300));
}

#[test]
fn renewals_of_orders_that_were_paid_by_card_take_nothing_from_the_balance() {
    let rule = money_rule(Metric::RenewalsDue, Side::Above, 0);
    let day = |ago: i64| Some((now() - TimeDelta::days(ago)).date_naive());
    let by_card = Order { placed: day(50), ..order(7, 500, 14) };
    let from_balance = Order { placed: day(60), ..order(8, 300, 20) };
    let debit = Entry { order: Some(8), ..entry("PAID", now() - TimeDelta::days(60), -300) };
    let lines: Vec<Entry> = ledger().into_iter().chain([debit]).collect();
    let balance = sample("10000", Some("0"), "0", "0");
    let due = |books: Books| {
        let prospect = Prospect::new(&balance, books, &Spending::default(), [&rule], now());
        let due = prospect.ahead(&rule).unwrap().renewals.unwrap();
        (due.amount.amount, due.from_balance, prospect.past_year().map(|sums| sums.paid_elsewhere.count))
    };
    let orders = || vec![by_card.clone(), from_balance.clone()];
    assert_eq!(due(books(lines, orders())), (800.into(), Some(300.into()), Some(1)));
    let gap = Gap::Unreadable(Unreadable { outlook: Outlook::NeedsAction, reason: "no".to_owned() });
    let without = Books { ledger: Err(gap), ..books(Vec::new(), orders()) };
    assert_eq!(due(without), (800.into(), None, None), "what paid for them is not known");
}

#[test]
fn where_nothing_was_bought_from_the_balance_renewals_take_nothing_from_it() {
    let rules = [runway_rule(14), money_rule(Metric::RenewalsDue, Side::Above, 0)];
    let balance = sample("1000", Some("0"), "0", "0");
    let placed = Some((now() - TimeDelta::days(50)).date_naive());
    let books = books(Vec::new(), vec![Order { placed, ..order(7, 500, 14) }]);
    let prospect = Prospect::new(&balance, books, &Spending::default(), &rules, now());
    let ahead = prospect.ahead(&rules[1]).unwrap();
    let due = ahead.renewals.unwrap();
    assert_eq!((due.amount.amount, due.from_balance), (500.into(), Some(Decimal::ZERO)));
    let Runway::NotYetKnown(why) = ahead.runway else { panic!("{:?}", ahead.runway) };
    assert!(why.starts_with("nothing was bought from the balance in the last 400 days"), "{why}");
    assert_eq!(ahead.deposit, None);
}

/// The part of these renewals that is usually paid from the balance, and why there is no forecast.
fn usually_paid(lines: Vec<Entry>, placed: &[i64]) -> (Option<Decimal>, Option<String>) {
    let rules = [runway_rule(14), money_rule(Metric::RenewalsDue, Side::Above, 0)];
    let day = |ago: &i64| Some((now() - TimeDelta::days(*ago)).date_naive());
    let orders = (1..).zip(placed).map(|(id, ago)| Order { placed: day(ago), ..order(id, 500, 14) });
    let balance = sample("1000", Some("0"), "0", "0");
    let prospect = Prospect::new(&balance, books(lines, orders.collect()), &Spending::default(), &rules, now());
    let ahead = prospect.ahead(&rules[1]).unwrap();
    let why = if let Runway::NotYetKnown(why) = ahead.runway { Some(why) } else { None };
    (ahead.renewals.unwrap().from_balance, why)
}

#[test]
fn orders_older_than_a_ledger_without_purchases_take_nothing_from_the_balance() {
    let deposit = |ago| vec![entry("DEPOSIT", now() - TimeDelta::days(ago), 5000)];
    let (part, why) = usually_paid(deposit(300), &[50, 350]);
    assert_eq!(part, Some(Decimal::ZERO), "one of the covered days was paid elsewhere, and one is older");
    assert!(why.unwrap().starts_with("nothing was bought from the balance"));
    assert_eq!(usually_paid(deposit(300), &[700]).0, None, "nothing was ordered since: nothing is known");
}

#[test]
fn a_ledger_of_less_than_four_weeks_does_not_say_what_pays_for_older_orders() {
    let deposit = |ago| vec![entry("DEPOSIT", now() - TimeDelta::days(ago), 5000)];
    let (part, why) = usually_paid(deposit(7), &[50]);
    assert_eq!((part, why.as_deref()), (None, Some("the ledger reaches back 7 days; a forecast needs 28")));
    assert_eq!(usually_paid(deposit(27), &[50]).0, None);
    assert_eq!(usually_paid(deposit(28), &[50]).0, Some(Decimal::ZERO));
    let bought = |ago| [deposit(ago), vec![entry("PAID", now() - TimeDelta::days(2), -70)]].concat();
    assert_eq!(usually_paid(bought(7), &[50]).0, None);
    assert_eq!(usually_paid(deposit(7), &[5]).0, Some(Decimal::ZERO), "that one has no debit");
}

#[test]
fn a_deposit_that_pays_for_renewals_in_full_says_so_in_every_message() {
    // Nothing is missing for the last one alone.
    let enough = money_rule(Metric::AvailableFunds, Side::Below, 100);
    let rules = [money_rule(Metric::Shortfall, Side::Above, 0), runway_rule(60), enough];
    let day = |ago: i64| Some((now() - TimeDelta::days(ago)).date_naive());
    let by_card = |id| Order { placed: day(50), ..order(id, 300, 14) };
    let balance = sample("2000", Some("0"), "0", "0");
    let deposits = |lines: Vec<Entry>| {
        let books = books(lines, (1..=30).map(by_card).collect());
        let prospect = Prospect::new(&balance, books, &Spending::default(), &rules, now());
        let ahead = |rule| prospect.ahead(rule).unwrap();
        rules.each_ref().map(|rule| (ahead(rule).deposit.unwrap().amount, ahead(rule).paid_in_full))
    };
    let [short, lasts, enough] = deposits(ledger());
    assert_eq!((short.0, &short, &short), (Decimal::from(7000), &lasts, &enough), "one number for all");
    let due = short.1.unwrap();
    assert_eq!((due.count, due.amount.amount, due.from_balance), (30, 9000.into(), Some(Decimal::ZERO)));
    // From the balance this time, so that the forecast counts them, too.
    let paid = |id: u64| Entry { order: Some(id), ..entry(&format!("P{id}"), now() - TimeDelta::days(50), -300) };
    let [short, ..] = deposits(ledger().into_iter().chain((1..=30).map(paid)).collect());
    assert!(short.0 > Decimal::from(7000) && short.1.is_none(), "{short:?}");
}

#[test]
fn an_old_ledger_says_nothing_of_what_was_bought_until_now() {
    let rules = [money_rule(Metric::Spend, Side::Above, 0), runway_rule(14)];
    let old = Books { ledger_read: Some(now() - HOUR * 3), ..books(ledger(), Vec::new()) };
    let [spend, runway] = &readings("10000", &old, &rules)[..] else { panic!() };
    let Reading::Unreadable(why) = spend else { panic!("{spend:?}") };
    assert_eq!(why.outlook, Outlook::MayHeal);
    assert!(why.reason.contains("2026-11-23 09:00 UTC"), "{}", why.reason);
    assert!(matches!(runway, Reading::Time(_)), "{runway:?}");
}

#[test]
fn a_runway_without_the_orders_is_not_longer_than_one_with_them() {
    let gap = |outlook| Err(Gap::Unreadable(Unreadable { outlook, reason: "no".to_owned() }));
    let runway = |orders| {
        let books = Books { orders, ..books(ledger(), Vec::new()) };
        readings("10000", &books, &[runway_rule(14)]).remove(0)
    };
    assert!(matches!(runway(Err(Gap::NotYetRead)), Reading::NotYetRead(_)));
    assert!(matches!(runway(gap(Outlook::MayHeal)), Reading::Unreadable(_)));
    assert!(matches!(runway(gap(Outlook::NeedsAction)), Reading::Time(_)), "nobody would ever hear of it else");
}

#[test]
fn unlimited_funds_last_for_ever_and_empty_ones_not_at_all_whatever_the_books() {
    let unlimited = crate::domain::balance::Balance { unlimited: Ok(true), ..sample("-5", None, "0", "0") };
    let rules = [runway_rule(14), money_rule(Metric::Shortfall, Side::Above, 0)];
    let prospect = Prospect::new(&unlimited, Books::unread(), &Spending::default(), &rules, now());
    assert_eq!(prospect.reading(&rules[0]), Reading::Unlimited);
    assert_eq!(amount(&prospect.reading(&rules[1])), Decimal::ZERO);
    assert_eq!(readings("-1", &Books::unread(), &rules)[0], Reading::Time(Duration::ZERO));
}

#[test]
fn everything_that_is_wrong_with_a_fund_asks_for_one_deposit() {
    let rules = [money_rule(Metric::AvailableFunds, Side::Below, 5000), runway_rule(60), runway_rule(10)];
    let balance = sample("1000", Some("0"), "0", "0");
    let prospect = Prospect::new(&balance, books(ledger(), Vec::new()), &Spending::default(), &rules, now());
    let deposits: Vec<Money> = rules.iter().map(|rule| prospect.ahead(rule).unwrap().deposit.unwrap()).collect();
    assert!(deposits.iter().all(|it| it == &deposits[0]), "{deposits:?}");
    // 5,000 to keep, thirty days at 40 to spend, 1,000 there; the caution costs little, since every day was the same.
    let needed = deposits[0].amount;
    assert!((5100..5600).contains(&i64::try_from(needed.mantissa()).unwrap()) && needed.scale() == 0, "{needed}");
}

#[test]
fn alerts_that_go_on_until_clear_at_ask_for_the_deposit_of_all() {
    use crate::domain::alert::{Alert, Latch};
    let amount = |value: i64| Amount { value: value.into(), currency: None };
    let level = Level::new(Side::Below, amount(2000), Some(amount(5000))).unwrap();
    let funds = Rule::new("funds".into(), Metric::AvailableFunds, Some(level), None).unwrap();
    let rules = [funds, runway_rule(100)];
    let prospect = |available| {
        let balance = sample(available, Some("0"), "0", "0");
        Arc::new(Prospect::new(&balance, books(ledger(), Vec::new()), &Spending::default(), &rules, now()))
    };
    let deposits = |prospect: &Prospect| rules.each_ref().map(|rule| prospect.ahead(rule).unwrap().deposit.unwrap());
    let alert = |firing| Alert { warning: Some(Latch { since: now() - HOUR, firing }), ..Alert::default() };
    let (fires, pending) = (alert(true), alert(false));
    let between = prospect("3000");
    let [all, lasts] = deposits(&between);
    assert!(lasts.amount < all.amount, "no state says that both fire");
    assert_eq!(deposits(&Arc::clone(&between).with_alerts([(&rules[0], vec![&fires])])), [all, all]);
    assert_eq!(deposits(&Arc::clone(&between).with_alerts([(&rules[0], vec![&pending])])), [all, lasts]);
    let of_divisions = vec![&pending, &fires];
    assert_eq!(deposits(&between.with_alerts([(&rules[0], of_divisions)])), [all, all], "of one fund");
    let clear = prospect("5000");
    assert_eq!(Arc::clone(&clear).with_alerts([(&rules[0], vec![&fires])]), clear, "it ends by itself");
    let breached = prospect("1000");
    assert_eq!(Arc::clone(&breached).with_alerts([(&rules[0], vec![&fires])]), breached, "counted already");
}

#[test]
fn the_chart_has_the_runway_that_the_text_has() {
    let rule = runway_rule(60);
    for (available, over) in [("1000", false), ("39", true), ("0", true), ("100000", false)] {
        let balance = sample(available, Some("0"), "0", "0");
        let prospect = Prospect::new(&balance, books(ledger(), Vec::new()), &Spending::default(), [&rule], now());
        let (ahead, chart) = (prospect.ahead(&rule).unwrap(), prospect.chart(&rule).unwrap());
        assert_eq!(ahead.runway, chart.runway);
        assert_eq!(chart.runway == Runway::Over, over, "{available}");
        assert_eq!(chart.future.is_empty(), over, "nothing is drawn of what can no longer be bought");
    }
}

#[test]
fn a_ledger_in_another_currency_needs_somebody_and_what_is_being_read_nobody() {
    let euro = Entry { currency: Currency::parse("EUR").ok(), ..entry("E", now() - HOUR, -1) };
    let rules = [runway_rule(14), money_rule(Metric::Spend, Side::Above, 0)];
    for reading in readings("10000", &books(vec![euro], Vec::new()), &rules) {
        let Reading::Unreadable(why) = reading else { panic!("{reading:?}") };
        assert_eq!(why.outlook, Outlook::NeedsAction);
        assert!(why.reason.contains("EUR") && why.reason.contains("USD"), "{}", why.reason);
    }
    for reading in readings("10000", &Books::unread(), &rules) {
        assert!(matches!(reading, Reading::NotYetRead(_)), "{reading:?}");
    }
}
