//! Forecast metrics and message figures, for every state of the history.

use chrono::NaiveDate;

use super::results::DAY;
use super::*;
use crate::domain::balance::tests::sample;
use crate::domain::forecast::Runway;
use crate::domain::ledger::LedgerEntry;
use crate::domain::rule::{Level, ThresholdAmount, ThresholdSide};
use std::sync::Arc;

const HOUR: TimeDelta = TimeDelta::hours(1);

fn now() -> Time {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn entry(id: &str, at: Time, change: i64) -> LedgerEntry {
    let (kind, currency) = ("Charge".into(), Currency::parse("USD").ok());
    let change = Decimal::from(change);
    LedgerEntry { id: id.into(), at, change, kind, balance_after: None, currency, order: None, expires: None }
}

/// Purchases of 40 a day for ninety days.
fn ledger() -> Vec<LedgerEntry> {
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

fn history(entries: Vec<LedgerEntry>, orders: Vec<Order>) -> AccountHistory {
    AccountHistory {
        ledger: Ok(Arc::new(Ledger::new(entries))),
        ledger_read: Some(now()),
        orders: Ok(orders.into()),
        orders_read: Some(now() - HOUR * 20),
        order_ends_failure: None,
    }
}

fn money_rule(metric: Metric, side: ThresholdSide, at: i64) -> Rule {
    let threshold = ThresholdAmount { value: Decimal::from(at), currency: None };
    Rule::new(metric.name().into(), metric, Some(Level::new(side, threshold, None).unwrap()), None).unwrap()
}

fn runway_rule(days: u32) -> Rule {
    let level = Level::new(ThresholdSide::Below, DAY * days, None).unwrap();
    Rule::new("runway".into(), Metric::Runway, Some(level), None).unwrap()
}

/// Readings of these rules with these available funds in US dollars.
fn readings(available: &str, history: &AccountHistory, rules: &[Rule]) -> Vec<Reading> {
    let balance = sample(available, Some("0"), "0", "0");
    let forecast = FundForecast::new(&balance, history.clone(), &Spending::default(), rules, now());
    rules.iter().map(|rule| forecast.reading(rule)).collect()
}

fn amount(reading: &Reading) -> Decimal {
    let Reading::Amount(money) = reading else { panic!("{reading:?}") };
    money.amount
}

#[test]
fn a_renewal_paid_after_the_listing_is_not_due() {
    let rules = [
        money_rule(Metric::RenewalsDue, ThresholdSide::Above, 0),
        money_rule(Metric::Shortfall, ThresholdSide::Above, 0),
    ];
    let orders = || vec![order(7, 8000, 14), order(8, 300, 20)];
    let before = readings("10000", &history(ledger(), orders()), &rules);
    assert_eq!((amount(&before[0]), amount(&before[1])), (Decimal::from(8300), Decimal::ZERO));
    let mut paid = ledger();
    paid.push(entry("PAID", now() - HOUR, -8000));
    let after = readings("2000", &history(paid.clone(), orders()), &rules);
    assert_eq!((amount(&after[0]), amount(&after[1])), (Decimal::from(300), Decimal::ZERO));
    // A purchase from before the listing is already reflected in it.
    paid.pop();
    paid.push(entry("OLD", now() - HOUR * 30, -8000));
    assert_eq!(amount(&readings("2000", &history(paid, orders()), &rules)[1]), Decimal::from(6300));
}

#[test]
fn renewals_paid_by_card_take_nothing_from_the_balance() {
    let rule = money_rule(Metric::RenewalsDue, ThresholdSide::Above, 0);
    let day = |ago: i64| Some((now() - TimeDelta::days(ago)).date_naive());
    let by_card = Order { placed: day(50), ..order(7, 500, 14) };
    let from_balance = Order { placed: day(60), ..order(8, 300, 20) };
    let debit = LedgerEntry { order: Some(8), ..entry("PAID", now() - TimeDelta::days(60), -300) };
    let lines: Vec<LedgerEntry> = ledger().into_iter().chain([debit]).collect();
    let balance = sample("10000", Some("0"), "0", "0");
    let due = |history: AccountHistory| {
        let forecast = FundForecast::new(&balance, history, &Spending::default(), [&rule], now());
        let due = forecast.summary(&rule).unwrap().renewals.unwrap();
        (due.amount.amount, due.from_balance, forecast.past_year().map(|sums| sums.paid_elsewhere.count))
    };
    let orders = || vec![by_card.clone(), from_balance.clone()];
    assert_eq!(due(history(lines, orders())), (800.into(), Some(300.into()), Some(1)));
    let gap = HistoryGap::Unreadable(Unreadable { persistence: Persistence::Permanent, reason: "no".to_owned() });
    let without = AccountHistory { ledger: Err(gap), ..history(Vec::new(), orders()) };
    assert_eq!(due(without), (800.into(), None, None), "the payment is not known");
}

#[test]
fn renewals_need_no_balance_if_nothing_was_bought_from_it() {
    let rules = [runway_rule(14), money_rule(Metric::RenewalsDue, ThresholdSide::Above, 0)];
    let balance = sample("1000", Some("0"), "0", "0");
    let placed = Some((now() - TimeDelta::days(50)).date_naive());
    let history = history(Vec::new(), vec![Order { placed, ..order(7, 500, 14) }]);
    let forecast = FundForecast::new(&balance, history, &Spending::default(), &rules, now());
    let summary = forecast.summary(&rules[1]).unwrap();
    let due = summary.renewals.unwrap();
    assert_eq!((due.amount.amount, due.from_balance), (500.into(), Some(Decimal::ZERO)));
    let Runway::NotYetKnown(why) = summary.runway else { panic!("{:?}", summary.runway) };
    assert!(why.starts_with("nothing was bought from the balance in the last 400 days"), "{why}");
    assert_eq!(summary.deposit, None);
}

/// The part of these renewals that is usually paid from the balance, and the reason for no forecast.
fn share_and_reason(lines: Vec<LedgerEntry>, placed: &[i64]) -> (Option<Decimal>, Option<String>) {
    let rules = [runway_rule(14), money_rule(Metric::RenewalsDue, ThresholdSide::Above, 0)];
    let day = |ago: &i64| Some((now() - TimeDelta::days(*ago)).date_naive());
    let orders = (1..).zip(placed).map(|(id, ago)| Order { placed: day(ago), ..order(id, 500, 14) });
    let balance = sample("1000", Some("0"), "0", "0");
    let forecast = FundForecast::new(&balance, history(lines, orders.collect()), &Spending::default(), &rules, now());
    let summary = forecast.summary(&rules[1]).unwrap();
    let why = if let Runway::NotYetKnown(why) = summary.runway { Some(why) } else { None };
    (summary.renewals.unwrap().from_balance, why)
}

#[test]
fn a_ledger_without_purchases_needs_no_balance_for_renewals() {
    let deposit = |ago| vec![entry("DEPOSIT", now() - TimeDelta::days(ago), 5000)];
    let (part, why) = share_and_reason(deposit(300), &[50, 350]);
    assert_eq!(part, Some(Decimal::ZERO), "one order was paid elsewhere, and one is older than the ledger");
    assert!(why.unwrap().starts_with("nothing was bought from the balance"));
    assert_eq!(share_and_reason(deposit(300), &[700]).0, None, "without recent orders, nothing is known");
}

#[test]
fn a_short_ledger_does_not_show_how_older_orders_were_paid() {
    let deposit = |ago| vec![entry("DEPOSIT", now() - TimeDelta::days(ago), 5000)];
    let (part, why) = share_and_reason(deposit(7), &[50]);
    assert_eq!((part, why.as_deref()), (None, Some("the ledger reaches back 7 days; a forecast needs 28")));
    assert_eq!(share_and_reason(deposit(27), &[50]).0, None);
    assert_eq!(share_and_reason(deposit(28), &[50]).0, Some(Decimal::ZERO));
    let bought = |ago| [deposit(ago), vec![entry("PAID", now() - TimeDelta::days(2), -70)]].concat();
    assert_eq!(share_and_reason(bought(7), &[50]).0, None);
    assert_eq!(share_and_reason(deposit(7), &[5]).0, Some(Decimal::ZERO), "the order has no debit");
}

#[test]
fn a_deposit_for_full_renewals_says_so_in_every_message() {
    // For the last rule alone, nothing is missing.
    let enough = money_rule(Metric::AvailableFunds, ThresholdSide::Below, 100);
    let rules = [money_rule(Metric::Shortfall, ThresholdSide::Above, 0), runway_rule(60), enough];
    let day = |ago: i64| Some((now() - TimeDelta::days(ago)).date_naive());
    let by_card = |id| Order { placed: day(50), ..order(id, 300, 14) };
    let balance = sample("2000", Some("0"), "0", "0");
    let deposits = |lines: Vec<LedgerEntry>| {
        let history = history(lines, (1..=30).map(by_card).collect());
        let forecast = FundForecast::new(&balance, history, &Spending::default(), &rules, now());
        let summary = |rule| forecast.summary(rule).unwrap();
        rules.each_ref().map(|rule| (summary(rule).deposit.unwrap().amount, summary(rule).paid_in_full))
    };
    let [short, lasts, enough] = deposits(ledger());
    assert_eq!((short.0, &short, &short), (Decimal::from(7000), &lasts, &enough), "one deposit for all rules");
    let due = short.1.unwrap();
    assert_eq!((due.count, due.amount.amount, due.from_balance), (30, 9000.into(), Some(Decimal::ZERO)));
    // These are paid from the balance, so that the forecast includes them.
    let paid = |id: u64| LedgerEntry { order: Some(id), ..entry(&format!("P{id}"), now() - TimeDelta::days(50), -300) };
    let [short, ..] = deposits(ledger().into_iter().chain((1..=30).map(paid)).collect());
    assert!(short.0 > Decimal::from(7000) && short.1.is_none(), "{short:?}");
}

#[test]
fn a_stale_ledger_makes_spend_unreadable() {
    let rules = [money_rule(Metric::Spend, ThresholdSide::Above, 0), runway_rule(14)];
    let old = AccountHistory { ledger_read: Some(now() - HOUR * 3), ..history(ledger(), Vec::new()) };
    let [spend, runway] = &readings("10000", &old, &rules)[..] else { panic!() };
    let Reading::Unreadable(why) = spend else { panic!("{spend:?}") };
    assert_eq!(why.persistence, Persistence::Transient);
    assert!(why.reason.contains("2026-11-23 09:00 UTC"), "{}", why.reason);
    assert!(matches!(runway, Reading::Time(_)), "{runway:?}");
}

#[test]
fn a_runway_needs_orders_unless_they_stay_unreadable() {
    let gap = |persistence| Err(HistoryGap::Unreadable(Unreadable { persistence, reason: "no".to_owned() }));
    let runway = |orders| {
        let history = AccountHistory { orders, ..history(ledger(), Vec::new()) };
        readings("10000", &history, &[runway_rule(14)]).remove(0)
    };
    assert!(matches!(runway(Err(HistoryGap::NotYetRead)), Reading::NotYetRead(_)));
    assert!(matches!(runway(gap(Persistence::Transient)), Reading::Unreadable(_)));
    assert!(matches!(runway(gap(Persistence::Permanent)), Reading::Time(_)), "otherwise the alert would never fire");
}

#[test]
fn unlimited_funds_last_forever_and_negative_ones_are_exhausted() {
    let unlimited = crate::domain::balance::Balance { unlimited: Ok(true), ..sample("-5", None, "0", "0") };
    let rules = [runway_rule(14), money_rule(Metric::Shortfall, ThresholdSide::Above, 0)];
    let forecast = FundForecast::new(&unlimited, AccountHistory::unread(), &Spending::default(), &rules, now());
    assert_eq!(forecast.reading(&rules[0]), Reading::Unlimited);
    assert_eq!(amount(&forecast.reading(&rules[1])), Decimal::ZERO);
    assert_eq!(readings("-1", &AccountHistory::unread(), &rules)[0], Reading::Time(Duration::ZERO));
}

#[test]
fn all_alerts_of_a_fund_share_one_deposit() {
    let rules = [money_rule(Metric::AvailableFunds, ThresholdSide::Below, 5000), runway_rule(60), runway_rule(10)];
    let balance = sample("1000", Some("0"), "0", "0");
    let forecast = FundForecast::new(&balance, history(ledger(), Vec::new()), &Spending::default(), &rules, now());
    let deposits: Vec<Money> = rules.iter().map(|rule| forecast.summary(rule).unwrap().deposit.unwrap()).collect();
    assert!(deposits.iter().all(|it| it == &deposits[0]), "{deposits:?}");
    // 5,000 to keep, plus thirty days at 40, minus 1,000. The range is narrow, since every day was the same.
    let needed = deposits[0].amount;
    assert!((5100..5600).contains(&i64::try_from(needed.mantissa()).unwrap()) && needed.scale() == 0, "{needed}");
}

#[test]
fn alerts_held_by_clear_at_share_the_deposit() {
    use crate::domain::alert::{Alert, LevelState};
    let amount = |value: i64| ThresholdAmount { value: value.into(), currency: None };
    let level = Level::new(ThresholdSide::Below, amount(2000), Some(amount(5000))).unwrap();
    let funds = Rule::new("funds".into(), Metric::AvailableFunds, Some(level), None).unwrap();
    let rules = [funds, runway_rule(100)];
    let forecast = |available| {
        let balance = sample(available, Some("0"), "0", "0");
        Arc::new(FundForecast::new(&balance, history(ledger(), Vec::new()), &Spending::default(), &rules, now()))
    };
    let deposits =
        |forecast: &FundForecast| rules.each_ref().map(|rule| forecast.summary(rule).unwrap().deposit.unwrap());
    let alert = |firing| Alert { warning: Some(LevelState { since: now() - HOUR, firing }), ..Alert::default() };
    let (fires, pending) = (alert(true), alert(false));
    let between = forecast("3000");
    let [all, lasts] = deposits(&between);
    assert!(lasts.amount < all.amount, "without the alerts, only the other rule counts");
    assert_eq!(deposits(&Arc::clone(&between).with_alerts([(&rules[0], vec![&fires])])), [all, all]);
    assert_eq!(deposits(&Arc::clone(&between).with_alerts([(&rules[0], vec![&pending])])), [all, lasts]);
    let of_divisions = vec![&pending, &fires];
    assert_eq!(
        deposits(&between.with_alerts([(&rules[0], of_divisions)])),
        [all, all],
        "alerts of two divisions that share the fund"
    );
    let clear = forecast("5000");
    assert_eq!(
        Arc::clone(&clear).with_alerts([(&rules[0], vec![&fires])]),
        clear,
        "the alert resolves at this reading"
    );
    let breached = forecast("1000");
    assert_eq!(Arc::clone(&breached).with_alerts([(&rules[0], vec![&fires])]), breached, "already counted");
}

#[test]
fn chart_and_text_have_the_same_runway() {
    let rule = runway_rule(60);
    for (available, over) in [("1000", false), ("39", true), ("0", true), ("100000", false)] {
        let balance = sample(available, Some("0"), "0", "0");
        let forecast = FundForecast::new(&balance, history(ledger(), Vec::new()), &Spending::default(), [&rule], now());
        let (summary, chart) = (forecast.summary(&rule).unwrap(), forecast.chart(&rule).unwrap());
        assert_eq!(summary.runway, chart.runway);
        assert_eq!(chart.runway == Runway::Exhausted, over, "{available}");
        assert_eq!(chart.future.is_empty(), over, "no future is drawn once funds are exhausted");
    }
}

#[test]
fn a_ledger_in_another_currency_needs_action() {
    let euro = LedgerEntry { currency: Currency::parse("EUR").ok(), ..entry("E", now() - HOUR, -1) };
    let rules = [runway_rule(14), money_rule(Metric::Spend, ThresholdSide::Above, 0)];
    for reading in readings("10000", &history(vec![euro], Vec::new()), &rules) {
        let Reading::Unreadable(why) = reading else { panic!("{reading:?}") };
        assert_eq!(why.persistence, Persistence::Permanent);
        assert!(why.reason.contains("EUR") && why.reason.contains("USD"), "{}", why.reason);
    }
    for reading in readings("10000", &AccountHistory::unread(), &rules) {
        assert!(matches!(reading, Reading::NotYetRead(_)), "{reading:?}");
    }
}
