//! Small ledgers whose sums are known, and properties that hold for all ledgers.

use std::time::Duration;

use chrono::{Datelike as _, NaiveDate, TimeZone as _, Utc};
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;
use crate::domain::Time;
use crate::domain::forecast::Runway;
use crate::domain::ledger::{Ledger, LedgerEntry};
use crate::domain::order::Order;

mod depletion;
mod purchases;
mod renewals;

fn now() -> Time {
    Utc.with_ymd_and_hms(2026, 11, 27, 12, 0, 0).unwrap()
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3600)
}

/// A ledger line this number of hours before now.
fn line(hours_ago: i64, change: i64, kind: &str) -> LedgerEntry {
    LedgerEntry {
        id: format!("{hours_ago} {change} {kind}").into(),
        at: now() - chrono::Duration::hours(hours_ago),
        change: Decimal::from(change),
        kind: kind.into(),
        balance_after: None,
        currency: None,
        order: None,
        expires: None,
    }
}

/// A deposit `ago` days ago that expires in `expires_in` days.
fn deposit_of(ago: i64, amount: i64, expires_in: i64) -> LedgerEntry {
    let expires = Some(now() + chrono::Duration::days(expires_in));
    LedgerEntry { expires, ..line(ago * 24, amount, "Credit Card Deposit") }
}

pub(super) fn order(id: u64, price: i64, ends: (i32, u32, u32)) -> Order {
    Order {
        id,
        division: None,
        product: None,
        common_name: None,
        price: Decimal::from(price),
        expired: false,
        renewed: false,
        placed: NaiveDate::from_ymd_opt(ends.0 - 1, ends.1, ends.2),
        bought_until: NaiveDate::from_ymd_opt(ends.0, ends.1, ends.2),
        is_plan: false,
        certificate_ends: NaiveDate::from_ymd_opt(ends.0, ends.1, ends.2).unwrap(),
        order_ends: None,
    }
}

/// One purchase of this amount on each of `count` days.
fn daily(count: i64, amount: i64) -> Ledger {
    let opening = line(count * 24, 100_000, "Credit");
    let purchases = (0..count).map(|day| line(day * 24 + 1, -amount, "Charge"));
    Ledger::new([opening].into_iter().chain(purchases).collect())
}

fn forecast(ledger: &Ledger, available: i64) -> Simulation {
    Simulation::new(ledger, None, &Spending::default(), Decimal::from(available), now()).unwrap()
}

#[test]
fn debits_are_purchases_unless_their_type_is_excluded() {
    let spending = Spending::default();
    for (kind, counts) in [
        ("Charge", true),
        ("Sale from Account Balance", true),
        ("Invoice Payment", true),
        ("unlisted type", true),
        ("", true),
        ("Adjustment", false),
        ("EXPIRED deposit", false),
        (" transfer ", false),
    ] {
        assert_eq!(spending.spent(&line(1, -5, kind)), counts.then(|| 5.into()), "{kind}");
        assert_eq!(spending.spent(&line(1, 5, kind)), None, "{kind}");
    }
    let own = Spending::without(["Charge"]);
    assert_eq!((own.spent(&line(1, -5, "CHARGE")), own.spent(&line(1, -5, "Transfer"))), (None, Some(5.into())));
    assert_eq!(own.not_counted().collect::<Vec<_>>(), ["charge"]);
}

#[test]
fn spend_counts_purchases_inside_the_window() {
    let lines = [(25, -1), (24, -2), (23, -4), (0, -8), (-1, -16), (5, 32)];
    let ledger = Ledger::new(lines.map(|(hours, change)| line(hours, change, "Charge")).to_vec());
    let spent = |within| spend(&ledger, &Spending::default(), now(), within);
    assert_eq!(
        [spent(days(1)), spent(Duration::ZERO), spent(Duration::MAX)].map(|it| it.to_string()),
        ["12", "0", "15"]
    );
}

#[test]
fn debits_consume_the_oldest_deposit_first() {
    let expires_in = |lines: Vec<LedgerEntry>, within| {
        expiring(&Ledger::new(lines), &Spending::default(), now(), days(within)).to_string()
    };
    let two = [deposit_of(90, 100, 10), deposit_of(60, 100, 20)];
    let with = |more: Vec<LedgerEntry>| [two.to_vec(), more].concat();
    assert_eq!(expires_in(two.to_vec(), 30), "200");
    assert_eq!(expires_in(two.to_vec(), 10), "100");
    assert_eq!(expires_in(two.to_vec(), 9), "0");
    assert_eq!(expires_in(with(vec![line(240, -70, "Charge")]), 30), "130");
    assert_eq!(expires_in(with(vec![line(240, -70, "Charge")]), 15), "30");
    assert_eq!(expires_in(with(vec![line(240, -130, "Adjustment")]), 30), "70");
    assert_eq!(expires_in(with(vec![line(240, -300, "Charge"), line(10, 150, "Credit")]), 30), "0");
    assert_eq!(expires_in(Vec::new(), 30), "0");
}

#[test]
fn the_opening_balance_is_the_oldest_deposit() {
    let opening =
        |balance_after: i64| LedgerEntry { balance_after: Some(balance_after.into()), ..deposit_of(90, 100, 10) };
    let left = |lines: &[LedgerEntry]| {
        expiring(&Ledger::new(lines.to_vec()), &Spending::default(), now(), days(30)).to_string()
    };
    assert_eq!(left(&[opening(150), line(240, -60, "Charge")]), "90");
    assert_eq!(left(&[opening(70), line(240, -20, "Charge")]), "50");
}

#[test]
fn a_write_off_takes_from_the_deposit_that_expires_then() {
    let lines = [
        line(91 * 24, 50, "Credit"),
        deposit_of(90, 100, -5),
        deposit_of(60, 100, 20),
        line(5 * 24, -100, "Expired Deposit"),
        line(24, -60, "Charge"),
    ];
    assert_eq!(expiring(&Ledger::new(lines.to_vec()), &Spending::default(), now(), days(30)), Decimal::from(90));
}

#[test]
fn renewals_are_due_from_today_to_the_end_of_the_window() {
    let (yesterday, today) = (order(1, 1, (2026, 11, 26)), order(2, 2, (2026, 11, 27)));
    let (last, later) = (order(3, 4, (2026, 12, 27)), order(4, 8, (2026, 12, 28)));
    let renewed = Order { renewed: true, ..order(5, 16, (2026, 12, 1)) };
    let placed = NaiveDate::from_ymd_opt(2025, 12, 1);
    let until = |year| NaiveDate::from_ymd_opt(year, 12, 1);
    let long = Order { bought_until: until(2028), placed, ..order(7, 64, (2026, 12, 1)) };
    let asked = Order { id: 8, order_ends: NaiveDate::from_ymd_opt(2028, 12, 1), ..long.clone() };
    let unknown_end_later = Order { id: 9, bought_until: until(2031), ..later.clone() };
    let orders = [yesterday, today, last, later, renewed, long, asked, unknown_end_later];
    let due = renewals_due(&orders, now(), days(30), |_| None);
    assert_eq!(due, RenewalsSum { count: 2, amount: 6.into(), from_balance: None, unknown_ends: vec![7] });
    assert_eq!([shortfall(&due, 4.into()), shortfall(&due, 10.into())], [2.into(), Decimal::ZERO]);
    assert_eq!(shortfall(&due, (-4).into()), 10.into());
}

#[test]
fn the_part_from_the_balance_is_known_where_every_share_is() {
    let orders = [order(1, 300, (2026, 12, 1)), order(2, 500, (2026, 12, 2)), order(3, 101, (2026, 12, 3))];
    let part = |shares: [Option<&str>; 3]| {
        let share = |place: usize| shares[place].map(|share| share.parse().unwrap());
        renewals_due(&orders, now(), days(30), share).from_balance.map(|part| part.to_string())
    };
    assert_eq!(part([Some("1"), Some("0"), Some("0.3333")]).as_deref(), Some("333.66"), "33.6633 of the last");
    assert_eq!(part([Some("1"), Some("1"), Some("1")]).as_deref(), Some("901"));
    assert_eq!(part([Some("1"), None, Some("1")]), None);
}

#[test]
fn past_funds_are_computed_back_from_the_present() {
    let ledger = Ledger::new(vec![line(72, 500, "Credit"), line(30, -100, "Charge"), line(-5, -999, "Charge")]);
    let funds: Vec<_> =
        past_funds(&ledger, 300.into(), now(), 90).into_iter().map(|(_, left)| left.to_string()).collect();
    assert_eq!(funds, ["400", "400", "300", "300"]);
    assert_eq!(sparkline(&ledger, 300.into(), now()), [8, 8, 6, 6]);
    assert_eq!(sparkline(&ledger, (-400).into(), now()), [0, 0, 0, 0]);
    assert_eq!(sparkline(&Ledger::default(), 300.into(), now()), [0; 0]);
    assert_eq!(sparkline(&daily(90, 10), 5.into(), now()).len(), 28);
}

#[test]
fn ended_orders_set_the_renewal_share_and_are_not_due() {
    let over = |id, renewed, ends| Order { expired: true, renewed, ..order(id, 100, ends) };
    let today = over(1, false, (2026, 11, 27));
    let unknown_end = Order { bought_until: NaiveDate::from_ymd_opt(2026, 12, 9), ..over(2, false, (2026, 11, 26)) };
    let due = renewals_due(&[today.clone(), unknown_end.clone()], now(), days(30), |_| Some(Decimal::ONE));
    assert_eq!((due.count, due.amount, due.from_balance), (0, Decimal::ZERO, Some(Decimal::ZERO)));
    let orders = [
        today,
        unknown_end,
        over(3, true, (2026, 10, 1)),
        over(4, true, (2026, 9, 1)),
        over(5, false, (2026, 8, 1)),
        order(6, 100, (2026, 7, 1)),
        order(7, 100, (2026, 12, 20)),
    ];
    let usual = Decimal::from(100);
    let ledger = daily(90, 100);
    let purchases = Purchases::read(&ledger, Some(&orders), &Spending::default(), now());
    let history = crate::forecast::spend_history::SpendHistory::read(&purchases, (usual, usual));
    let model = history.unwrap_or_else(|why| panic!("{why}")).renewals;
    let ended =
        order_class::OrderClasses::read(&purchases, &[]).ended_orders().into_iter().map(|place| orders[place].renewed);
    assert_eq!(ended.collect::<Vec<_>>(), [false, false, true, true], "ended more than a week ago, by their end");
    assert_eq!(
        model.due_renewals.iter().map(|due| due.days_to_end).collect::<Vec<_>>(),
        [0, -1, 23],
        "orders of the last days may still be renewed"
    );
}

#[test]
fn too_short_a_history_gives_no_forecast_and_a_reason() {
    let why = |ledger: &Ledger| {
        let forecast = Simulation::new(ledger, None, &Spending::default(), Decimal::ONE, now());
        forecast.map(|_| ()).map_err(|reason| reason.to_string())
    };
    let short = Err("the ledger reaches back 27 days; a forecast needs 28".to_owned());
    assert_eq!(why(&daily(27, 5)), short);
    let found =
        |funds: i64| Ledger::new(vec![LedgerEntry { balance_after: Some(funds.into()), ..line(24, -100, "Charge") }]);
    assert_eq!(why(&found(-100)), Err("the ledger reaches back 1 day; a forecast needs 28".to_owned()));
    assert_eq!(
        why(&found(900)),
        Err("purchases in the last year: 1; a forecast needs 4".to_owned()),
        "the account is older"
    );
    assert_eq!(why(&daily(28, 5)), Ok(()));
    let nothing = "nothing was bought from the balance in the last 400 days; a forecast needs 4 purchases";
    for empty in [Ledger::default(), Ledger::new(vec![line(2000, 9, "Credit"), line(8, -2, "Transfer")])] {
        assert_eq!(why(&empty), Err(nothing.to_owned()));
    }
    let quiet = Ledger::new(vec![line(2000, 9, "Credit"), line(9, -1, "Charge"), line(8, -2, "Transfer")]);
    assert_eq!(why(&quiet), Err("purchases in the last year: 1; a forecast needs 4".to_owned()));
}

#[test]
fn constant_spend_lasts_as_long_as_the_funds_divided_by_it() {
    let Runway::Until { about: Some(about), early: Some(early), late: Some(late), percent: 90 } =
        forecast(&daily(90, 100), 3050).runway(Confidence::default())
    else {
        panic!("a date");
    };
    assert_eq!([early, about, late].map(|at| (at - now()).num_days()), [30, 30, 30]);
    assert_eq!(forecast(&daily(90, 100), 0).runway(Confidence::default()), Runway::Exhausted);
    assert_eq!(forecast(&daily(90, 100), -5).runway_early(Confidence::default()), Some(Duration::ZERO));
    assert_eq!(forecast(&daily(90, 100), 99_999).runway(Confidence::default()), Runway::BeyondHorizon);
    assert_eq!(forecast(&daily(90, 100), 99_999).runway_early(Confidence::default()), None);
}

/// The day of the large order is left out of the trend, including the small order of that day.
#[test]
fn one_huge_order_does_not_change_the_trend() {
    let huge = line(100, -50_000, "Charge");
    let ledger = Ledger::new([daily(180, 100).entries(), &[huge]].concat());
    let middle = forecast(&ledger, 3050).spend_range(30, Confidence::default()).middle;
    assert!((Decimal::from(2800)..=Decimal::from(3100)).contains(&middle), "{middle}");
}

/// One purchase a day for a year, of the amount returned for the number of days ago.
fn a_year(amount: impl Fn(i64) -> i64) -> Ledger {
    let purchases = (0..364).map(|day| line(day * 24 + 1, -amount(day), "Charge"));
    Ledger::new([line(364 * 24, 1_000_000, "Credit")].into_iter().chain(purchases).collect())
}

#[test]
fn quarterly_batches_are_expected_a_quarter_after_the_last() {
    let coming = |ago: i64| {
        let ledger = a_year(|day| if day % 91 == ago { 20_000 } else { 100 });
        forecast(&ledger, 9000).spend_range(45, Confidence::default())
    };
    assert!(coming(5).high < Decimal::from(6000), "{:?}", coming(5));
    assert!(coming(80).middle > Decimal::from(20_000), "{:?}", coming(80));
}

#[test]
fn spend_that_changed_once_is_expected_to_stay() {
    let range = forecast(&a_year(|day| if day < 70 { 200 } else { 100 }), 9000).spend_range(30, Confidence::default());
    assert!(range.low > Decimal::from(5700) && range.high < Decimal::from(6300), "{range:?}");
}

#[test]
fn spend_that_switched_between_regimes_may_switch_again() {
    let switching = |day: i64| if (day / 84) % 2 == 0 { 200 } else { 100 };
    let range = forecast(&a_year(switching), 9000).spend_range(60, Confidence::default());
    assert!(range.low < Decimal::from(8000) && range.high > Decimal::from(11_900), "{range:?}");
    assert!(range.low > Decimal::from(4000) && range.high < Decimal::from(14_000), "{range:?}");
}

#[test]
fn a_campaign_that_fades_is_expected_to_fade_further() {
    let of_the_campaign = |day: i64| if day < 56 { 400 >> ((55 - day) / 21) } else { 0 };
    let ledger = a_year(|day| 100 + day * 7919 % 31 + of_the_campaign(day));
    let range = forecast(&ledger, 9000).spend_range(60, Confidence::default());
    // 60 days at 115, and the rest of the campaign: 7 days at 100, 21 at 50, 21 at 25, 11 at 12. Constant spend would
    // be 12,900.
    let truth = Decimal::from(9307);
    assert!(range.low < truth && range.high > truth && range.middle < Decimal::from(10_500), "{range:?}");
}

#[test]
fn a_peak_of_a_year_ago_may_come_again() {
    let rush = |first: i64| move |day: i64| if (first - 44..=first).contains(&day) { 300 } else { 100 };
    let high = |first| forecast(&a_year(rush(first)), 9000).spend_range(60, Confidence::default()).high;
    assert!(high(350) > Decimal::from(13_000), "{}", high(350));
    assert!(high(250) < Decimal::from(13_000), "{}", high(250));
}

#[test]
fn busy_month_ends_do_not_widen_the_range() {
    let busy = |day: i64| {
        let at = (now() - chrono::Duration::hours(day * 24 + 1)).date_naive();
        (at + chrono::Days::new(5)).month() != at.month()
    };
    let range = forecast(&a_year(|day| if busy(day) { 400 } else { 100 }), 9000).spend_range(61, Confidence::default());
    // Two months: 51 normal days, and 10 days at four times the amount.
    let (least, truth, most) = (Decimal::from(7800), Decimal::from(9100), Decimal::from(10_000));
    assert!((least..truth).contains(&range.low) && (truth..most).contains(&range.high), "{range:?}");
}

#[test]
fn a_rise_of_the_price_list_applies_to_all_purchases() {
    let ledger = |rise: i64| {
        a_year(|day| [200, 300, 500][usize::try_from(day % 3).unwrap()] * if day < 12 { rise } else { 100 } / 100)
    };
    let middle = |rise| forecast(&ledger(rise), 90_000).spend_range(30, Confidence::default()).middle;
    let within = |low: i64, high: i64, amount: Decimal| (Decimal::from(low)..=Decimal::from(high)).contains(&amount);
    assert!(within(9_900, 10_100, middle(100)), "{}", middle(100));
    assert!(within(11_900, 12_100, middle(120)), "{}", middle(120));
}

#[test]
fn an_even_buyer_has_a_narrower_range_than_an_uneven_one() {
    // One order a week on some day of it, or two weeks with two orders followed by two weeks without.
    let width = |days: &dyn Fn(i64) -> bool| {
        let purchases = (0..91).filter(|day| days(*day)).map(|day| line(day * 24 + 1, -200, "Charge"));
        let ledger = Ledger::new([line(91 * 24, 100_000, "Credit")].into_iter().chain(purchases).collect());
        let range = forecast(&ledger, 9000).spend_range(30, Confidence::default());
        range.high - range.low
    };
    let even = width(&|day| day % 7 == (day / 7 * 5) % 7);
    let uneven = width(&|day| matches!(day % 28, 2 | 5 | 9 | 11));
    assert!(even * Decimal::TWO < uneven, "{even} {uneven}");
}

#[test]
fn known_renewals_are_added_once_near_their_end() {
    let ledger = daily(90, 100);
    let orders: Vec<Order> = (0..10).map(|id| order(id, 1000, (2027, 1, 20))).collect();
    let known = Simulation::new(&ledger, Some(&orders), &Spending::default(), 9000.into(), now()).unwrap();
    let range = |days| known.spend_range(days, Confidence::default());
    // The time and number of the renewals are uncertain: most or all of them, perhaps early.
    let within = |low: i64, high: i64| Decimal::from(low)..=Decimal::from(high);
    assert!(within(2000, 4000).contains(&range(20).middle), "{:?}", range(20));
    assert!(within(13_000, 16_000).contains(&range(60).middle), "{:?}", range(60));
    assert!(within(15_900, 16_100).contains(&range(60).high), "{:?}", range(60));
}

#[test]
fn a_past_renewal_is_not_repeated_as_a_purchase() {
    let paid = LedgerEntry { order: Some(70), ..line(20 * 24, -7000, "Charge") };
    let ledger = Ledger::new([daily(60, 100).entries(), &[paid]].concat());
    let old = Order { renewed: true, ..order(7, 7000, (2026, 11, 20)) };
    let spent = |orders: Option<&[Order]>| {
        let forecast = Simulation::new(&ledger, orders, &Spending::default(), 9000.into(), now()).unwrap();
        forecast.max_spend(60, Confidence::new(99).unwrap())
    };
    assert!(spent(Some(&[old])) < Decimal::from(6010));
    assert!(spent(None) > Decimal::from(12_000));
}

#[test]
fn a_deposit_restores_the_threshold_and_covers_spend() {
    let amount = |text: &str| text.parse::<Decimal>().unwrap();
    assert_eq!(deposit(amount("2000"), amount("1431.20"), amount("600")), Some(1169.into()));
    assert_eq!(deposit(amount("2000"), amount("2600"), amount("600")), None);
    assert_eq!(forecast(&daily(90, 100), 2500).deposit(2000.into(), 30, Confidence::default()), Some(2500.into()));
}

#[test]
fn huge_amounts_do_not_overflow() {
    let ledger = daily(60, i64::MAX / 1000);
    let known = forecast(&ledger, i64::MAX);
    assert!(known.max_spend(365, Confidence::default()) > Decimal::ZERO);
    assert_eq!(known.bands(1000, Confidence::default()).len(), 366);
}

prop_compose! {
    fn ledgers()(lines in proptest::collection::vec((0i64..2000, 1i64..5000), 4..80)) -> Ledger {
        let purchases = lines.iter().map(|(hours, amount)| line(*hours, -amount, "Charge"));
        Ledger::new([line(2100, 9999, "Credit")].into_iter().chain(purchases).chain([1, 2, 3, 4].map(|it| line(it, -7, "Charge"))).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_history_gives_the_same_forecast(ledger in ledgers()) {
        prop_assert_eq!(forecast(&ledger, 5000), forecast(&ledger, 5000));
    }

    #[test]
    fn more_funds_never_shorten_the_runway(ledger in ledgers(), less in 0i64..90_000, more in 0i64..90_000) {
        let lasts = |funds| forecast(&ledger, funds).runway_early(Confidence::default()).unwrap_or(Duration::MAX);
        prop_assert!(lasts(less) <= lasts(less + more));
    }

    #[test]
    fn higher_confidence_gives_a_wider_range(ledger in ledgers(), low in 50u8..99, days in 1u32..365) {
        let known = forecast(&ledger, 20_000);
        let (sure, surer) = (Confidence::new(low).unwrap(), Confidence::new(low + 1).unwrap());
        let early = |confidence| known.runway_early(confidence).unwrap_or(Duration::MAX);
        prop_assert!(early(surer) <= early(sure));
        let (narrow, wide) = (known.spend_range(days, sure), known.spend_range(days, surer));
        prop_assert!(wide.low <= narrow.low && narrow.low <= narrow.middle);
        prop_assert!(narrow.middle <= narrow.high && narrow.high <= wide.high);
    }

    #[test]
    fn entries_after_now_change_nothing(ledger in ledgers(), later in -500i64..-1) {
        let longer = Ledger::new([ledger.entries(), &[line(later, -4000, "Charge"), deposit_of(later / 24 - 1, 50, 9)]].concat());
        prop_assert_eq!(forecast(&ledger, 5000), forecast(&longer, 5000));
        prop_assert_eq!(expiring(&ledger, &Spending::default(), now(), days(30)), expiring(&longer, &Spending::default(), now(), days(30)));
        prop_assert_eq!(past_funds(&ledger, 5.into(), now(), 90), past_funds(&longer, 5.into(), now(), 90));
    }

    #[test]
    fn no_more_expires_than_was_deposited(amounts in proptest::collection::vec((1i64..80, -900i64..900), 0..40)) {
        let lines: Vec<LedgerEntry> = amounts.iter().enumerate().map(|(number, (ago, change))| {
            let entry = if *change > 0 { deposit_of(*ago, *change, 9) } else { line(*ago * 24, *change, "Charge") };
            LedgerEntry { id: number.to_string().into(), ..entry }
        }).collect();
        let balance: Decimal = lines.iter().map(|entry| entry.change).sum();
        let left = expiring(&Ledger::new(lines), &Spending::default(), now(), days(30));
        prop_assert!(left >= Decimal::ZERO && left == balance.max(Decimal::ZERO), "{left} of {balance}");
    }
}
