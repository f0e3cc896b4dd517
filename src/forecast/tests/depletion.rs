//! Funds that ran out: what could not be bought leaves no line, and is no slower pace.

use std::sync::Arc;

use super::*;
use crate::domain::balance::{Balance, Reading};
use crate::domain::history::Books;
use crate::domain::money::Currency;
use crate::domain::rule::{Amount, Bound, Level, Metric, Rule, Side};

const USUAL: i64 = 175;

/// Four orders of 175 a week for so many weeks, which leave 125; then nothing for so many days up to now.
fn bought_until_empty(weeks: i64, dry: i64) -> Vec<Entry> {
    let opening = line((weeks * 7 + dry) * 24, weeks * 4 * USUAL + 125, "Credit");
    let ago = |order: i64| (dry + order / 4 * 7 + [0, 2, 3, 4][usize::try_from(order % 4).unwrap()]) * 24 + 1;
    [opening].into_iter().chain((0..weeks * 4).map(|order| line(ago(order), -USUAL, "Charge"))).collect()
}

/// The middle and the high end of four weeks' spend, and the early end of the runway of 3000, in days.
fn told(lines: &[Entry], available: i64) -> [f64; 3] {
    let known = forecast(&Ledger::new(lines.to_vec()), available);
    let spend = known.spend_range(28, Confidence::default());
    let paid = [lines, &[line(0, 3000 - available, "Credit")]].concat();
    let lasts = forecast(&Ledger::new(paid), 3000).runway_early(Confidence::default()).unwrap();
    let number = |amount: Decimal| amount.to_string().parse::<f64>().unwrap();
    [number(spend.middle), number(spend.high), lasts.as_secs_f64() / (24.0 * 3600.0)]
}

fn close(told: [f64; 3], to: [f64; 3]) -> bool {
    // On which day of its week a runway begins makes it up to two days longer or shorter.
    told.into_iter().zip(to).zip([0.03, 0.03, 0.07]).all(|((told, to), off)| (told - to).abs() <= off * to)
}

#[test]
fn however_long_funds_have_been_out_the_pace_stays_what_it_was_before() {
    for weeks in [8, 26, 50] {
        let before = told(&bought_until_empty(weeks, 0), 125);
        for dry in [1, 3, 7, 10, 28, 60] {
            let now = told(&bought_until_empty(weeks, dry), 125);
            assert!(close(now, before), "{weeks} weeks, {dry} days: {now:?}, not {before:?}");
        }
    }
}

#[test]
fn less_than_a_usual_order_is_out_now_and_the_deposit_pays_for_the_pace_before() {
    let known = forecast(&Ledger::new(bought_until_empty(26, 28)), 125);
    assert_eq!(known.runway(Confidence::default()), Runway::Over);
    assert_eq!(known.runway_early(Confidence::default()), Some(Duration::ZERO));
    let deposit = known.deposit(Decimal::ZERO, 30, Confidence::default()).unwrap();
    assert!((Decimal::from(2650)..=Decimal::from(2800)).contains(&deposit), "{deposit}");
    let one_order = forecast(&Ledger::new(bought_until_empty(26, 28)), USUAL);
    assert!(matches!(one_order.runway(Confidence::default()), Runway::Until { .. }));
}

#[test]
fn a_drought_that_is_over_is_left_out_too() {
    let before = told(&bought_until_empty(26, 0), 125);
    let old = bought_until_empty(20, 28 + 8 * 7).into_iter();
    let new = bought_until_empty(8, 0).into_iter();
    let now = told(&old.chain(new).collect::<Vec<_>>(), 250);
    assert!(close(now, before), "{now:?}, not {before:?}");
}

/// Whoever pays just before each order always has less than one: then there is nothing else to learn from.
#[test]
fn where_funds_are_always_low_every_week_counts() {
    let pairs = (0..26).flat_map(|week| [line(week * 168 + 30, 175, "Credit"), line(week * 168 + 30, -175, "Charge")]);
    let spend = forecast(&Ledger::new(pairs.collect()), 0).spend_range(28, Confidence::default());
    assert_eq!(spend.middle.round(), Decimal::from(700));
}

#[test]
fn a_usual_purchase_is_the_median_of_the_last_year() {
    let usual = |lines: &[(i64, i64)]| {
        let lines = lines.iter().map(|(days, change)| line(days * 24, *change, "Charge"));
        usual_purchase(&Ledger::new(lines.collect()), &Spending::default(), now()).to_string()
    };
    assert_eq!(usual(&[]), "0");
    assert_eq!(usual(&[(3, -5), (2, -9), (1, -7), (0, 800)]), "7");
    assert_eq!(usual(&[(366, -90), (365, -90), (364, -1), (-1, -90), (-2, -90)]), "1");
    for (funds, dry) in [(-1, true), (0, true), (6, true), (7, false)] {
        assert_eq!(is_dry(Decimal::from(funds), Decimal::from(7)), dry, "{funds}");
    }
    assert!(!is_dry(Decimal::ONE, Decimal::ZERO) && is_dry(Decimal::ZERO, Decimal::ZERO));
}

prop_compose! {
    /// Deposits between the purchases: funds run out, and come back.
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
    fn a_deposit_never_makes_them_last_shorter(ledger in ups_and_downs(), funds in -300i64..4000, more in 1i64..4000) {
        let lasts = |ledger: &Ledger, funds| forecast(ledger, funds).runway_early(Confidence::default());
        let paid = Ledger::new([ledger.entries(), &[line(0, more, "Credit")]].concat());
        let (before, after) = (lasts(&ledger, funds), lasts(&paid, funds + more));
        prop_assert!(before.unwrap_or(Duration::MAX) <= after.unwrap_or(Duration::MAX));
    }
}

/// What finance reads: out now, and a deposit for the threshold and 30 days at the pace before.
#[test]
fn a_message_in_a_drought_says_over_and_asks_for_enough() {
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
    let books = Books {
        ledger: Ok(Arc::new(Ledger::new(bought_until_empty(26, 28)))),
        orders: Ok([].into()),
        ..Books::unread()
    };
    let below = |bound: Bound| Some(Level::new(Side::Below, bound, None).unwrap());
    let rule = |name, metric, bound| Rule::new(name, metric, below(bound), None).unwrap();
    let threshold = Amount { value: 1000.into(), currency: None };
    let funds = rule("funds".into(), Metric::AvailableFunds, threshold.into());
    let lasts = rule("lasts".into(), Metric::Runway, days(14).into());
    let told = Prospect::new(&balance, books, &Spending::default(), [&funds, &lasts], now());
    assert_eq!(told.reading(&lasts), Reading::Time(Duration::ZERO));
    let ahead = told.ahead(&funds).unwrap();
    assert_eq!((ahead.runway, ahead.deposit.unwrap().to_string().as_str()), (Runway::Over, "GBP 3,675.00"));
    assert!(ahead.typical_order.is_some(), "messages say what the funds do not cover");
}
