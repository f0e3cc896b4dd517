//! The replay gives the same result as processing every single step of the schedule.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use lowtide::backtest::{
    BacktestFund, BacktestInput, BacktestResult, NoticePeriod, PastBalances, ProposalError, SkipReason, crossings,
    depleted_periods, propose_thresholds, replay, replay_every_step,
};
use lowtide::domain::alert::TransitionKind;
use lowtide::domain::balance::Balance;
use lowtide::domain::history::AccountHistory;
use lowtide::domain::ledger::{Ledger, LedgerEntry};
use lowtide::domain::money::Currency;
use lowtide::domain::order::Order;
use lowtide::domain::rule::{Level, Metric, Rule, ThresholdAmount, ThresholdSide, ThresholdValue};
use lowtide::domain::schedule::Schedule;
use lowtide::domain::{Name, Time};
use lowtide::forecast::Spending;
use proptest::prelude::*;
use rust_decimal::Decimal;

const HOUR: u64 = 3600;

fn start() -> Time {
    "2026-09-01T00:00:00Z".parse().unwrap()
}

fn after(minutes: i64) -> Time {
    start() + TimeDelta::minutes(minutes)
}

fn fund(lines: &[(i64, i64)], balance: i64) -> BacktestFund {
    let entry = |(number, (minutes, change)): (usize, &(i64, i64))| LedgerEntry {
        id: number.to_string().into(),
        at: after(*minutes),
        change: Decimal::from(*change),
        kind: "Charge".into(),
        balance_after: None,
        currency: None,
        order: None,
        expires: None,
    };
    let ledger = Ledger::new(lines.iter().enumerate().map(entry).collect());
    BacktestFund {
        division: None,
        name: None,
        balance: Balance {
            currency: Ok(Currency::parse("USD").unwrap()),
            balance: Ok(Decimal::from(balance)),
            unpaid_invoices: Ok(Decimal::ZERO),
            used_credit: Ok(Decimal::ZERO),
            credit_limit: Ok(Some(Decimal::from(2000))),
            unlimited: Ok(false),
            reported_total: Ok(None),
        },
        history: AccountHistory {
            ledger: Ok(Arc::new(ledger)),
            orders: Ok(Arc::from(Vec::<Order>::new())),
            ..AccountHistory::unread()
        },
    }
}

fn level(side: ThresholdSide, bound: i64, clear_at: i64, hold: u64, remind: Option<u64>, to: &[&str]) -> Level {
    let amount = |value: i64| ThresholdAmount { value: Decimal::from(value), currency: None };
    let mut level = Level::new(side, amount(bound), Some(amount(clear_at))).unwrap();
    level.hold = Duration::from_secs(hold * HOUR);
    level.remind_every = remind.map(|hours| Duration::from_secs(hours * HOUR));
    level.notify = to.iter().map(|name| Name::from(*name)).collect();
    level
}

fn funds_rule(hold: u64, remind: Option<u64>, clear: i64) -> Rule {
    let warning = level(ThresholdSide::Below, 2000, 2000 + clear, hold, remind, &["slack"]);
    let critical = level(ThresholdSide::Below, 500, 500 + clear, hold / 2, Some(4), &["slack", "pager"]);
    Rule::new("funds".into(), Metric::AvailableFunds, Some(warning), Some(critical)).unwrap()
}

fn spend_rule() -> Rule {
    let warning = level(ThresholdSide::Above, 900, 900, 0, Some(24), &["pager"]);
    Rule::new("spend".into(), Metric::Spend, Some(warning), None).unwrap()
}

/// Runs `replay_input` on this many days of these funds.
fn with_input<R>(
    funds: &[BacktestFund],
    rules: &[Rule],
    schedule: &str,
    days: i64,
    replay_input: impl FnOnce(&BacktestInput<'_>) -> R,
) -> R {
    let (account, spending) = (Name::from("acme"), Spending::default());
    let schedule = Schedule::parse(schedule, Tz::Europe__Berlin).unwrap();
    let to = start() + TimeDelta::days(days);
    let (schedule, no_notifiers) = (&schedule, BTreeSet::new());
    let (account, spending, incident_notifiers) = (&account, &spending, &no_notifiers);
    replay_input(&BacktestInput { account, funds, rules, schedule, spending, incident_notifiers, from: start(), to })
}

/// Returns the quick replay, the replay of every step, and the number of steps of the quick one.
fn both(funds: &[BacktestFund], rules: &[Rule], schedule: &str, days: i64) -> (BacktestResult, BacktestResult, usize) {
    with_input(funds, rules, schedule, days, |input| {
        let mut steps = 0;
        let quick = replay(input, &mut |_| steps += 1);
        (quick, replay_every_step(input), steps)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn skipping_idle_steps_changes_nothing(
        lines in proptest::collection::vec((0i64..28_800, -700i64..500), 0..60),
        twin in proptest::collection::vec((0i64..28_800, -700i64..700), 0..20),
        balance in -1500i64..2500,
        hold in 0u64..30,
        remind in proptest::option::of(1u64..50),
        clear in 0i64..600,
        schedule in proptest::sample::select(vec!["every 15m", "every 7m", "*/15 * * * *", "0 9,17 * * Mon-Fri"]),
    ) {
        let own = BacktestFund { division: Some(7), ..fund(&lines, balance) };
        let other = BacktestFund { division: Some(8), ..fund(&twin, balance / 2) };
        let rules = [funds_rule(hold, remind, clear), spend_rule()];
        let (quick, slow, _) = both(&[own, other], &rules, schedule, 20);
        prop_assert_eq!(quick, slow);
    }
}

#[test]
fn a_runway_replay_is_the_same_with_a_fiftieth_of_the_steps() {
    let lines: Vec<(i64, i64)> =
        (0..60).map(|n| (n * 24 * 60 + 600, if n % 25 == 0 { 4000 } else { -100 - n })).collect();
    let runway = {
        let bound = |days: u64| ThresholdValue::from(Duration::from_secs(days * 24 * HOUR));
        let mut warning = Level::new(ThresholdSide::Below, bound(14), None).unwrap();
        warning.notify = vec!["slack".into()];
        Rule::new("runway".into(), Metric::Runway, Some(warning), None).unwrap()
    };
    let (quick, slow, steps) = both(&[fund(&lines, 500)], &[runway, funds_rule(0, Some(24), 0)], "every 5m", 45);
    assert_eq!(quick, slow);
    assert!(!quick.rule_backtests[0].episodes.as_ref().unwrap().is_empty());
    assert!(steps < 45 * 288 / 50, "{steps} steps");
}

#[test]
fn the_result_of_a_rule_does_not_depend_on_other_rules() {
    let change = |n: i64| match (n % 25, n % 9) {
        (0, _) => 5000,
        (_, 5) => -950,
        _ => -100 - n,
    };
    let lines: Vec<(i64, i64)> = (0..60).map(|n| (n * 24 * 60 + n * 37 % 1400, change(n))).collect();
    let runway = {
        let bound = |days: u64| ThresholdValue::from(Duration::from_secs(days * 24 * HOUR));
        let mut warning = Level::new(ThresholdSide::Below, bound(14), None).unwrap();
        warning.remind_every = Some(Duration::from_secs(24 * HOUR));
        warning.notify = vec!["slack".into()];
        Rule::new("runway".into(), Metric::Runway, Some(warning), None).unwrap()
    };
    let rules = [runway, spend_rule(), funds_rule(0, Some(24), 0)];
    let result =
        |rules: &[Rule]| with_input(&[fund(&lines, 500)], rules, "every 15m", 60, |input| replay(input, &mut |_| {}));
    let all = result(&rules);
    for rule in &rules {
        let alone = result(std::slice::from_ref(rule));
        let beside = all.rule_backtests.iter().find(|part| part.rule == rule.name).unwrap();
        assert!(!beside.episodes.as_ref().unwrap().is_empty(), "{} fires", rule.name);
        assert_eq!(alone.rule_backtests[0].episodes, beside.episodes, "{}", rule.name);
    }
}

#[test]
fn a_fall_and_a_deposit_make_events_at_the_steps_of_the_schedule() {
    // 3,000 available at first; 1,900 after 10:07, 400 on the next day, 5,400 three days later.
    let lines = [(607, -1100), (2047, -1500), (5047, 5000)];
    let (result, _, _) = both(&[fund(&lines, 3400)], &[funds_rule(0, Some(24), 0)], "every 15m", 10);
    let episodes = result.rule_backtests[0].episodes.as_ref().unwrap();
    assert_eq!(episodes.len(), 1);
    let events: Vec<_> = episodes[0].events.iter().map(|it| (it.kind, (it.at - start()).num_minutes())).collect();
    let reminders = (1..=12).map(|n| (TransitionKind::Reminder, 2055 + 240 * n));
    let expected: Vec<_> = [(TransitionKind::Raised, 615), (TransitionKind::Escalated, 2055)]
        .into_iter()
        .chain(reminders)
        .chain([(TransitionKind::Resolved, 5055)])
        .collect();
    assert_eq!(events, expected);
    // Slack gets every event; the pager gets those from critical on, and the end.
    assert_eq!((result.notified["slack"].messages, result.notified["pager"].messages), (15, 14));
}

#[test]
fn metrics_without_history_are_skipped_and_unlimited_never_fires() {
    let mut unlimited = fund(&[(600, -5000)], -4000);
    unlimited.balance.unlimited = Ok(true);
    let invoices = Rule::new(
        "invoices".into(),
        Metric::UnpaidInvoices,
        Some(level(ThresholdSide::Above, -1, -1, 0, None, &["slack"])),
        None,
    );
    let (result, _, _) = both(&[unlimited], &[funds_rule(0, None, 0), invoices.unwrap()], "every 15m", 3);
    assert_eq!(result.rule_backtests[0].episodes, Ok(Vec::new()));
    assert!(matches!(result.rule_backtests[1].episodes, Err(SkipReason::NoHistory(_))));
    assert!(result.notified.is_empty());
}

#[test]
fn rules_are_skipped_only_if_never_known_at_any_step() {
    let bound = ThresholdValue::from(Duration::from_secs(14 * 24 * HOUR));
    let runway = || {
        Rule::new("runway".into(), Metric::Runway, Some(Level::new(ThresholdSide::Below, bound, None).unwrap()), None)
    };
    let few = [(600, -100), (2000, -100)];
    let (quick, slow, _) = both(&[fund(&few, 500)], &[runway().unwrap()], "every 1h", 3);
    assert_eq!(quick, slow);
    assert!(matches!(quick.rule_backtests[0].episodes, Err(SkipReason::NotYetKnown(_))), "{quick:?}");
    let many: Vec<(i64, i64)> = (0..60).map(|day| (day * 24 * 60 + 600, -100)).collect();
    let (known, _, _) = both(&[fund(&many, 90_000)], &[runway().unwrap()], "every 6h", 60);
    assert_eq!(known.rule_backtests[0].episodes, Ok(Vec::new()));
}

#[test]
fn funds_are_depleted_when_they_cannot_pay_a_typical_order() {
    let fund = fund(&[(10, -300), (20, -200), (30, 600), (40, -500)], -1900);
    let ledger = fund.history.ledger.as_ref().unwrap();
    let path = PastBalances::new(&fund.balance, ledger).path(start(), after(60));
    let funds: Vec<i64> = path.iter().map(|(_, left)| left.to_string().parse().unwrap()).collect();
    assert_eq!(funds, [500, 200, 0, 600, 100]);
    let periods = depleted_periods(&path, Decimal::from(300));
    assert_eq!(periods.len(), 2);
    assert_eq!((periods[0].from, periods[0].until, periods[0].lowest), (after(10), Some(after(30)), Decimal::ZERO));
    assert_eq!((periods[1].from, periods[1].until, periods[1].lowest), (after(40), None, Decimal::from(100)));
}

#[test]
fn a_suggestion_covers_two_weeks_of_spend_and_needs_enough_history() {
    // 100 a day for 60 days: 1,400 in 14 days, 500 in 5 days; a typical order is 100.
    let lines: Vec<(i64, i64)> = (0..60).map(|n| (n * 1440 + 600, -100)).collect();
    let fund = fund(&lines, 0);
    let ledger = fund.history.ledger.as_ref().unwrap();
    let (spending, now) = (Spending::default(), start() + TimeDelta::days(60));
    let proposal = propose_thresholds(ledger, &spending, now).unwrap();
    assert_eq!((proposal.warning, proposal.critical), (1600.into(), 700.into()));
    assert_eq!((proposal.spent_in_14_days, proposal.spent_in_5_days), (1400.into(), 500.into()));
    let path = PastBalances::new(&fund.balance, ledger).path(after(0), now);
    // Funds fall from 8,000 to 2,000, so they never cross 1,600.
    assert_eq!(crossings(&path, ledger, 1600.into(), 100.into(), now), []);
    let crossing = crossings(&path, ledger, 2500.into(), 100.into(), now);
    assert_eq!((crossing.len(), crossing[0].funds), (1, 2400.into()));
    assert_eq!(crossing[0].notice, NoticePeriod::AtLeast(now - crossing[0].at));
    let early = start() + TimeDelta::days(20);
    assert_eq!(propose_thresholds(ledger, &spending, early), Err(ProposalError::LedgerTooShort { days: 19 }));
}

#[test]
fn notice_is_how_long_the_remaining_funds_would_have_lasted() {
    // 1,000 at first and 100 a day last ten days; a deposit on the fourth day extends that.
    let mut lines: Vec<(i64, i64)> = (0..20).map(|n| (n * 1440 + 600, -100)).collect();
    lines.push((3 * 1440, 5000));
    let fund = fund(&lines, 2000);
    let ledger = fund.history.ledger.as_ref().unwrap();
    let now = start() + TimeDelta::days(20);
    let path = PastBalances::new(&fund.balance, ledger).path(after(0), now);
    assert_eq!(path[0].1, 1000.into());
    let crossings = crossings(&path, ledger, 900.into(), 100.into(), now);
    assert_eq!(crossings.len(), 1);
    assert_eq!((crossings[0].funds, crossings[0].notice), (800.into(), NoticePeriod::Lasted(TimeDelta::days(8))));
    assert_eq!(crossings[0].notice.is_at_least(TimeDelta::days(14)), Some(false));
    assert_eq!(NoticePeriod::AtLeast(TimeDelta::days(3)).is_at_least(TimeDelta::days(14)), None);
}

/// Returns an order of 500 for a year that ends on this day after the start.
fn order_ending(id: u64, day: i64) -> Order {
    let date = |day: i64| (start() + TimeDelta::days(day)).date_naive();
    Order {
        id,
        division: None,
        product: Some("ev".into()),
        common_name: Some("www.example.com".into()),
        price: Decimal::from(500),
        expired: false,
        renewed: false,
        placed: Some(date(day - 365)),
        bought_until: Some(date(day)),
        is_plan: true,
        certificate_ends: date(day),
        order_ends: Some(date(day)),
    }
}

fn due_rule() -> Rule {
    let warning = level(ThresholdSide::Above, 100, 100, 0, Some(24 * 365), &["slack"]);
    Rule::new("due".into(), Metric::RenewalsDue, Some(warning), None).unwrap()
}

#[test]
fn an_order_that_has_expired_by_today_was_due_in_its_time() {
    let run = |expired: bool| {
        let mut fund = fund(&[(5, -10)], 1000);
        fund.history.orders = Ok(Arc::from(vec![Order { expired, ..order_ending(1, 40) }]));
        both(&[fund], &[due_rule()], "every 6h", 60).0
    };
    assert_eq!(run(true), run(false));
    assert_eq!(run(true).rule_backtests[0].episodes.as_ref().unwrap().len(), 1);
}

#[test]
fn an_order_was_due_until_it_was_renewed() {
    const DAY: i64 = 24 * 60;
    let renewed = Order { renewed: true, expired: true, ..order_ending(1, 40) };
    let follower = Order { placed: Some((start() + TimeDelta::days(38)).date_naive()), ..order_ending(2, 405) };
    // The order that the day's debit names, whether there is a debit, and whether the renewal is listed.
    for (what, named, paid, listed) in [
        ("its renewal is listed, and a debit names it", Some(2), true, true),
        ("its renewal is listed, and a debit has its price", None, true, true),
        ("a debit of its price alone", None, true, false),
        ("its renewal was paid by card", None, false, true),
    ] {
        let debits = [(5, -10), (38 * DAY + 30, if paid { -500 } else { -10 }), (50 * DAY, -10)];
        let mut fund = fund(&debits, 1000);
        let with_order =
            |entry: &LedgerEntry| LedgerEntry { order: named.filter(|_| entry.id.as_ref() == "1"), ..entry.clone() };
        let ledger = fund.history.ledger.unwrap().entries().iter().map(with_order).collect();
        fund.history.ledger = Ok(Arc::new(Ledger::new(ledger)));
        fund.history.orders = Ok([renewed.clone()].into_iter().chain(listed.then(|| follower.clone())).collect());
        let (quick, slow, _) = both(&[fund], &[due_rule()], "every 6h", 60);
        assert_eq!(quick, slow, "{what}");
        let episodes = quick.rule_backtests[0].episodes.as_ref().unwrap();
        let spans: Vec<_> =
            episodes.iter().map(|episode| (episode.raised().unwrap(), episode.resolved().unwrap())).collect();
        // The order enters the window of 30 days on day 10. Debits count from the next full hour, card payments from the day.
        let (raised, resolved) = (after(10 * DAY), after(38 * DAY));
        assert_eq!(spans.len(), 1, "{what}: {spans:?}");
        assert!((raised..raised + TimeDelta::hours(7)).contains(&spans[0].0), "{what}: {spans:?}");
        assert!((resolved..resolved + TimeDelta::hours(8)).contains(&spans[0].1), "{what}: {spans:?}");
    }
}
