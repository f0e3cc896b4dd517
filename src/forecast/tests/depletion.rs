//! Depleted periods: missing purchases in them are not lower spend.

use std::sync::Arc;

use super::*;
use crate::domain::balance::{Balance, Reading};
use crate::domain::history::AccountHistory;
use crate::domain::money::Currency;
use crate::domain::rule::{Level, Metric, Rule, ThresholdAmount, ThresholdSide, ThresholdValue};

const TYPICAL: i64 = 175;

/// Four orders of 175 a week for this number of weeks, which leave 125; then nothing for `depleted_days` up to now.
fn bought_until_empty(weeks: i64, depleted_days: i64) -> Vec<LedgerEntry> {
    let opening = line((weeks * 7 + depleted_days) * 24, weeks * 4 * TYPICAL + 125, "Credit");
    let ago = |order: i64| (depleted_days + order / 4 * 7 + [0, 2, 3, 4][usize::try_from(order % 4).unwrap()]) * 24 + 1;
    [opening].into_iter().chain((0..weeks * 4).map(|order| line(ago(order), -TYPICAL, "Charge"))).collect()
}

/// Median and high end of four weeks' spend, and the early end of the runway of 3,000 in days.
fn spend_and_runway(lines: &[LedgerEntry], available: i64) -> [f64; 3] {
    let known = forecast(&Ledger::new(lines.to_vec()), available);
    let range = known.spend_range(28, Confidence::default());
    let paid = [lines, &[line(0, 3000 - available, "Credit")]].concat();
    let lasts = forecast(&Ledger::new(paid), 3000).runway_early(Confidence::default()).unwrap();
    let number = |amount: Decimal| amount.to_string().parse::<f64>().unwrap();
    [number(range.middle), number(range.high), lasts.as_secs_f64() / (24.0 * 3600.0)]
}

fn close(actual: [f64; 3], to: [f64; 3]) -> bool {
    // Depending on the day of the week on which a runway begins, it is up to two days longer or shorter.
    actual.into_iter().zip(to).zip([0.03, 0.03, 0.07]).all(|((value, to), off)| (value - to).abs() <= off * to)
}

#[test]
fn the_trend_is_unchanged_however_long_funds_are_depleted() {
    for weeks in [8, 26, 50] {
        let before = spend_and_runway(&bought_until_empty(weeks, 0), 125);
        for depleted_days in [1, 3, 7, 10, 28, 60] {
            let now = spend_and_runway(&bought_until_empty(weeks, depleted_days), 125);
            assert!(close(now, before), "{weeks} weeks, {depleted_days} days: {now:?}, not {before:?}");
        }
    }
}

#[test]
fn less_than_a_typical_order_means_funds_have_run_out() {
    let known = forecast(&Ledger::new(bought_until_empty(26, 28)), 125);
    assert_eq!(known.runway(Confidence::default()), Runway::Exhausted);
    assert_eq!(known.runway_early(Confidence::default()), Some(Duration::ZERO));
    let deposit = known.deposit(Decimal::ZERO, 30, Confidence::default()).unwrap();
    assert!((Decimal::from(2650)..=Decimal::from(2800)).contains(&deposit), "{deposit}");
    let one_order = forecast(&Ledger::new(bought_until_empty(26, 28)), TYPICAL);
    assert!(matches!(one_order.runway(Confidence::default()), Runway::Until { .. }));
}

#[test]
fn past_depleted_periods_are_left_out() {
    let before = spend_and_runway(&bought_until_empty(26, 0), 125);
    let old = bought_until_empty(20, 28 + 8 * 7).into_iter();
    let new = bought_until_empty(8, 0).into_iter();
    let now = spend_and_runway(&old.chain(new).collect::<Vec<_>>(), 250);
    assert!(close(now, before), "{now:?}, not {before:?}");
}

/// An account that pays in just before each order always has less than one order costs.
#[test]
fn if_funds_are_always_low_every_week_counts() {
    let pairs = (0..26).flat_map(|week| [line(week * 168 + 30, 175, "Credit"), line(week * 168 + 30, -175, "Charge")]);
    let spend = forecast(&Ledger::new(pairs.collect()), 0).spend_range(28, Confidence::default());
    assert_eq!(spend.middle.round(), Decimal::from(700));
}

#[test]
fn the_typical_purchase_is_the_median_of_the_last_year() {
    let typical = |lines: &[(i64, i64)]| {
        let lines = lines.iter().map(|(days, change)| line(days * 24, *change, "Charge"));
        typical_order(&Ledger::new(lines.collect()), &Spending::default(), now()).to_string()
    };
    assert_eq!(typical(&[]), "0");
    assert_eq!(typical(&[(3, -5), (2, -9), (1, -7), (0, 800)]), "7");
    assert_eq!(typical(&[(366, -90), (365, -90), (364, -1), (-1, -90), (-2, -90)]), "1");
    for (funds, expected) in [(-1, true), (0, true), (6, true), (7, false)] {
        assert_eq!(is_depleted(Decimal::from(funds), Decimal::from(7)), expected, "{funds}");
    }
    assert!(!is_depleted(Decimal::ONE, Decimal::ZERO) && is_depleted(Decimal::ZERO, Decimal::ZERO));
}

prop_compose! {
    /// Deposits between the purchases: funds run out and come back.
    fn ups_and_downs()(
        bought in proptest::collection::vec((1i64..3000, 1i64..500), 8..120),
        paid in proptest::collection::vec((1i64..3000, 100i64..4000), 0..12),
    ) -> Ledger {
        let bought = bought.into_iter().map(|(ago, amount)| line(ago, -amount, "Charge"));
        let paid = paid.into_iter().map(|(ago, amount)| line(ago, amount, "Credit"));
        Ledger::new([line(3001, 1, "Credit")].into_iter().chain(bought).chain(paid).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_deposit_never_shortens_the_runway(ledger in ups_and_downs(), funds in -300i64..4000, more in 1i64..4000) {
        let lasts = |ledger: &Ledger, funds| forecast(ledger, funds).runway_early(Confidence::default());
        let paid = Ledger::new([ledger.entries(), &[line(0, more, "Credit")]].concat());
        let (before, after) = (lasts(&ledger, funds), lasts(&paid, funds + more));
        prop_assert!(before.unwrap_or(Duration::MAX) <= after.unwrap_or(Duration::MAX));
    }
}

/// A message says that funds are exhausted, and asks for the threshold and 30 days of the spend before the depletion.
#[test]
fn a_message_for_depleted_funds_asks_for_enough() {
    let nothing = Decimal::ZERO;
    let balance = Balance {
        currency: Ok(Currency::parse("GBP").unwrap()),
        balance: Ok(125.into()),
        unpaid_invoices: Ok(nothing),
        used_credit: Ok(nothing),
        credit_limit: Ok(Some(nothing)),
        unlimited: Ok(false),
        reported_total: Ok(None),
    };
    let history = AccountHistory {
        ledger: Ok(Arc::new(Ledger::new(bought_until_empty(26, 28)))),
        orders: Ok([].into()),
        ..AccountHistory::unread()
    };
    let below = |bound: ThresholdValue| Some(Level::new(ThresholdSide::Below, bound, None).unwrap());
    let rule = |name, metric, bound| Rule::new(name, metric, below(bound), None).unwrap();
    let threshold = ThresholdAmount { value: 1000.into(), currency: None };
    let funds = rule("funds".into(), Metric::AvailableFunds, threshold.into());
    let lasts = rule("lasts".into(), Metric::Runway, days(14).into());
    let forecast = FundForecast::new(&balance, history, &Spending::default(), [&funds, &lasts], now());
    assert_eq!(forecast.reading(&lasts), Reading::Time(Duration::ZERO));
    let summary = forecast.summary(&funds).unwrap();
    assert_eq!((summary.runway, summary.deposit.unwrap().to_string().as_str()), (Runway::Exhausted, "GBP 3,675.00"));
    assert!(summary.typical_order.is_some(), "messages name the typical order that the funds do not cover");
}
