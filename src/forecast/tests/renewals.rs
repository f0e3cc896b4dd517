//! Future renewals, with the share, lead, price and payment of earlier ones.

use super::purchases::{debit, ledger, renewed, site};
use super::*;

/// Orders and debits of an account.
#[derive(Default)]
struct RenewingOrders {
    orders: Vec<Order>,
    debits: Vec<LedgerEntry>,
}

impl RenewingOrders {
    /// Adds an order that was renewed this number of days ago, ten days before its end, and its successor, which ends
    /// a year later.
    fn renewal(&mut self, name: &str, days_ago: i64, (old, new): (i64, i64)) {
        let (first, second) = (self.id(), self.id() + 1);
        let end = days_ago - 10;
        self.orders.push(renewed(site(first, name, old, (end + 365, end))));
        self.orders.push(site(second, name, new, (days_ago, end - 365)));
        self.debits.push(debit(end + 365, old, Some(first)));
        self.debits.push(debit(days_ago, new, Some(second)));
    }

    /// Adds an order that ended this number of days ago and was not renewed.
    fn lapsed(&mut self, name: &str, ended: i64) {
        let id = self.id();
        self.orders.push(site(id, name, 700, (ended + 365, ended)));
        self.debits.push(debit(ended + 365, 700, Some(id)));
    }

    /// Adds a new order placed this number of days ago.
    fn new_order(&mut self, name: &str, days_ago: i64, price: i64) {
        let id = self.id();
        self.orders.push(site(id, name, price, (days_ago, days_ago - 365)));
        self.debits.push(debit(days_ago, price, Some(id)));
    }

    fn id(&self) -> u64 {
        1 + self.orders.len() as u64
    }

    /// Adds a small purchase of another kind each week.
    fn with_weekly_purchases(mut self) -> Self {
        self.debits.extend((1..52).map(|week| debit(7 * week, 1, None)));
        self
    }

    fn forecast(&self) -> Simulation {
        let ledger = ledger(self.debits.clone());
        Simulation::new(&ledger, Some(&self.orders), &Spending::default(), 1_000_000.into(), now()).unwrap()
    }

    fn middle(&self, days: u32) -> Decimal {
        self.forecast().spend_range(days, Confidence::default()).middle
    }
}

fn within(range: std::ops::RangeInclusive<i64>, amount: Decimal) -> bool {
    (Decimal::from(*range.start())..=Decimal::from(*range.end())).contains(&amount)
}

#[test]
fn a_year_adds_up_with_each_purchase_counted_once() {
    let mut account = RenewingOrders::default();
    for week in 1..=52 {
        account.renewal(&format!("renewed-{week}.example.com"), 7 * week - 3, (700, 700));
    }
    for week in 1..=51 {
        account.new_order(&format!("new-{week}.example.com"), 7 * week - 4, 300);
        account.debits.push(debit(7 * week - 5, 20, Some(account.id() - 1)));
    }
    // 52 renewals of sites renewed before, 51 of those bought last year, and as many new ones as then, of which the
    // first are renewed within the year. Added domains continue.
    let truth = 52 * 700 + 51 * 300 + 52 * 300 + 300 + 52 * 20;
    assert!(within(truth * 94 / 100..=truth * 102 / 100, account.middle(365)), "{} of {truth}", account.middle(365));
    // A month has a twelfth of it.
    let month = 30 * (700 + 300 + 300 + 20) / 7;
    assert!(within(month * 85 / 100..=month * 115 / 100, account.middle(30)), "{} of {month}", account.middle(30));
}

#[test]
fn the_sums_of_a_past_year_are_its_debits_less_its_refunds() {
    let mut account = RenewingOrders::default();
    for week in 1..=52 {
        account.renewal(&format!("renewed-{week}.example.com"), 7 * week - 3, (700, 700));
        account.new_order(&format!("new-{week}.example.com"), 7 * week - 4, 300);
        account.debits.push(debit(7 * week - 5, 20, Some(account.id() - 1)));
    }
    for week in 1..=4 {
        // Fully refunded, and partly refunded.
        account.new_order(&format!("canceled-{week}.example.com"), 30 * week, 500);
        let canceled = account.id() - 1;
        let amount = if week > 3 { 200 } else { 500 };
        account.debits.push(LedgerEntry {
            change: amount.into(),
            kind: "Refund".into(),
            ..debit(30 * week - 2, 1, Some(canceled))
        });
        // Paid by card.
        account.new_order(&format!("card-{week}.example.com"), 40 * week, 900);
        account.debits.pop();
        // For an order that is not listed.
        account.debits.push(debit(50 * week, 77, Some(900_000 + week.unsigned_abs())));
    }
    let ledger = ledger(account.debits);
    let sums = Purchases::read(&ledger, Some(&account.orders), &Spending::default(), now()).past_year();
    let of = |sum: PurchaseSum| (sum.count, sum.amount);
    assert_eq!(of(sums.renewals), (52, Decimal::from(52 * 700)));
    // Includes the rest of the partly refunded order, and the first order of the site that was renewed last.
    assert_eq!(of(sums.new_orders), (54, Decimal::from(52 * 300 + 300 + 700)));
    assert_eq!(of(sums.other), (56, Decimal::from(52 * 20 + 4 * 77)));
    assert_eq!((sums.refunded, of(sums.paid_elsewhere)), (3, (4, Decimal::from(4 * 900))));
}

#[test]
fn orders_are_renewed_as_often_as_those_before_them() {
    let account = |renewals: i64| {
        let mut account = RenewingOrders::default();
        for number in 0..40 {
            let (name, days) = (format!("{number}.example.com"), 60 + 7 * number);
            let is_renewed = number * renewals % 40 < renewals;
            if is_renewed { account.renewal(&name, days, (700, 700)) } else { account.lapsed(&name, days) }
        }
        for number in 0..20 {
            let (id, name) = (account.id(), format!("due-{number}.example.com"));
            account.orders.push(site(id, &name, 1000, (730 - 14 - number, -14 - number)));
        }
        account.with_weekly_purchases()
    };
    assert!(within(18_500..=22_500, account(40).middle(45)), "{}", account(40).middle(45));
    assert!(within(8_000..=13_500, account(20).middle(45)), "{}", account(20).middle(45));
    let range = account(20).forecast().spend_range(45, Confidence::default());
    assert!(range.low < Decimal::from(8000) && range.high > Decimal::from(12_000), "{range:?}");
}

/// Sixty orders that ended in the last year, of which those selected by number were renewed, the latest first; and 20
/// orders of 1,000 that are due.
fn renewed_if(is_renewed: impl Fn(i64) -> bool) -> RenewingOrders {
    let mut account = RenewingOrders::default();
    for number in 0..60 {
        let (name, days) = (format!("{number}.example.com"), 20 + 5 * number);
        if is_renewed(number) { account.renewal(&name, days, (700, 700)) } else { account.lapsed(&name, days) }
    }
    for number in 0..20 {
        let (id, name) = (account.id(), format!("due-{number}.example.com"));
        account.orders.push(site(id, &name, 1000, (730 - 14 - number, -14 - number)));
    }
    account.with_weekly_purchases()
}

#[test]
fn after_a_change_the_renewal_share_is_that_of_later_orders() {
    let fell = renewed_if(|number| number >= 20 || number % 4 == 0).middle(45);
    assert!(within(3_500..=9_000, fell), "a quarter for four months: {fell}");
    let rose = renewed_if(|number| number < 20 || number % 4 == 0).middle(45);
    assert!(within(17_500..=22_000, rose), "all for four months: {rose}");
}

#[test]
fn orders_that_ended_without_funds_do_not_count() {
    let middle = |lapsed: std::ops::Range<i64>| {
        let mut account = RenewingOrders::default();
        for number in 0..30 {
            account.renewal(&format!("{number}.example.com"), 80 + 7 * number, (700, 700));
        }
        for (number, ended) in lapsed.step_by(2).enumerate() {
            account.lapsed(&format!("lapsed-{number}.example.com"), ended);
        }
        for number in 0..20 {
            let (id, name) = (account.id(), format!("due-{number}.example.com"));
            account.orders.push(site(id, &name, 1000, (716 - number, -14 - number)));
            account.debits.push(debit(716 - number, 1000, Some(id)));
        }
        // Nothing is bought from nine to three weeks ago. Then a deposit arrives.
        account.debits.extend(
            (0..52).map(|week| 3 + 7 * week).filter(|ago| !(20..64).contains(ago)).map(|ago| debit(ago, 100, None)),
        );
        let deposit = LedgerEntry { change: 100_000.into(), kind: "Credit".into(), ..debit(20, 1, None) };
        account.debits.push(deposit);
        let after = account
            .debits
            .iter()
            .filter(|line| line.change < Decimal::ZERO && line.at > now() - chrono::Duration::days(20));
        let available = Decimal::from(100_000 + 50) + after.map(|line| line.change).sum::<Decimal>();
        let ledger = ledger(account.debits.clone());
        let forecast = Simulation::new(&ledger, Some(&account.orders), &Spending::default(), available, now()).unwrap();
        forecast.spend_range(45, Confidence::default()).middle
    };
    let (funded, while_depleted) = (middle(0..0), middle(28..56));
    assert!(within(18_000..=22_500, funded), "{funded}");
    assert!((funded - while_depleted).abs() < Decimal::from(1_000), "{funded}, {while_depleted}");
    let unwanted = middle(65..85);
    assert!(unwanted < funded - Decimal::from(1_000), "{funded}, {unwanted}");
}

#[test]
fn orders_that_may_be_renewed_late_do_not_count_as_lapsed() {
    let account = |lateness: i64| {
        let mut account = RenewingOrders::default();
        for number in 0..60 {
            let (id, name, ended) = (account.id(), format!("{number}.example.com"), 3 + 2 * number);
            let order = site(id, &name, 700, (ended + 365, ended));
            account.debits.push(debit(ended + 365, 700, Some(id)));
            if ended < lateness {
                account.orders.push(order);
            } else {
                account.orders.push(renewed(order));
                account.orders.push(site(id + 1, &name, 700, (ended - lateness, ended - lateness - 365)));
                account.debits.push(debit(ended - lateness, 700, Some(id + 1)));
            }
        }
        for number in 0..20 {
            let (id, name) = (account.id(), format!("due-{number}.example.com"));
            account.orders.push(site(id, &name, 1000, (730 - 14 - number, -14 - number)));
        }
        account.with_weekly_purchases().middle(65)
    };
    // The 20 due orders, and those that have ended and are not renewed yet.
    assert!(within(18_500..=22_500, account(0)), "{}", account(0));
    assert!(within(26_000..=30_000, account(24)), "{}", account(24));
}

#[test]
fn renewals_of_half_a_wave_predict_the_rest() {
    let mut account = RenewingOrders::default();
    // A year ago, each order was renewed on its last day. Since then, automatic renewal has been switched on.
    for number in 0..40 {
        let (old, middle, end) = (account.id(), account.id() + 1, number - 24);
        let name = format!("{number}.example.com");
        account.orders.push(renewed(site(old, &name, 400, (end + 730, end + 365))));
        account.orders.push(site(middle, &name, 400, (end + 365, end)));
        account.debits.push(debit(end + 365, 400, Some(middle)));
        if end + 14 > 0 {
            let renewal = account.id();
            account.orders[usize::try_from(middle).unwrap() - 1].renewed = true;
            account.orders.push(site(renewal, &name, 400, (end + 14, end - 365)));
            account.debits.push(debit(end + 14, 400, Some(renewal)));
        }
    }
    // Twelve orders are left, which end in 13 to 24 days.
    let account = account.with_weekly_purchases();
    assert!(within(4_000..=5_200, account.middle(11)), "{}", account.middle(11));
    assert!(within(4_000..=5_200, account.middle(20)), "{}", account.middle(20));
}

#[test]
fn renewals_made_on_one_weekday_stay_on_it() {
    let mut account = RenewingOrders::default();
    for number in 0..40 {
        account.renewal(&format!("{number}.example.com"), 7 * (1 + number), (700, 700));
    }
    for number in 0..7 {
        account.new_order(&format!("due-{number}.example.com"), 341 - number, 1000);
    }
    // Renewed ten days before their ends, they would be spread over seven days.
    let forecast = account.with_weekly_purchases().forecast();
    let middle = |days: u32| forecast.spend_range(days, Confidence::default()).middle;
    // It is past noon, so a day's purchases are less than that number of full days away.
    let (before, after) = (middle(13), middle(14));
    assert!(after - before > Decimal::from(2_500), "{before} to {after}");
    assert!(before - middle(8) < Decimal::from(1_000), "{} to {before}", middle(8));
}

#[test]
fn some_orders_are_renewed_for_another_product() {
    let renewals_for = |another: &str| {
        let mut account = RenewingOrders::default();
        for number in 0..40 {
            let more_expensive = number % 2 == 0;
            account.renewal(
                &format!("{number}.example.com"),
                8 + 8 * number,
                (700, if more_expensive { 2100 } else { 700 }),
            );
            if more_expensive {
                account.orders.last_mut().unwrap().product = Some(another.into());
            }
        }
        for number in 0..12 {
            account.new_order(&format!("due-{number}.example.com"), 355 - number, 700);
        }
        account.with_weekly_purchases().middle(30)
    };
    // Half of the twelve renewals cost three times the price, but new orders cost the same as before.
    let more_expensive = renewals_for("ssl_ev");
    assert!(within(13_500..=20_000, more_expensive), "{more_expensive}");
    // Within one product, the same prices mean that the price either rose or did not, with equal probability.
    let risen = renewals_for("ssl_plus");
    assert!(within(8_400..=26_000, risen) && risen != more_expensive, "{risen}");
}

#[test]
fn a_renewal_costs_the_present_price() {
    let mut account = RenewingOrders::default();
    for number in 0..30 {
        let (name, days) = (format!("{number}.example.com"), 5 + 9 * number);
        account.renewal(&name, days, (700, if days < 100 { 770 } else { 700 }));
    }
    for (number, placed) in (0..10).map(|number| (number, 355 - number)) {
        account.new_order(&format!("old-{number}.example.com"), placed, 700);
    }
    let more_expensive = account.with_weekly_purchases();
    assert!(within(7_600..=8_800, more_expensive.middle(30)), "{}", more_expensive.middle(30));
    let purchases_at = |price: i64| {
        let mut account = RenewingOrders::default();
        for number in 0..30 {
            account.renewal(&format!("{number}.example.com"), 5 + 9 * number, (700, 700));
        }
        for number in 0..10 {
            account.new_order(&format!("old-{number}.example.com"), 355 - number, price);
        }
        account.with_weekly_purchases().middle(30)
    };
    // Ten renewals, and a month of as many new orders as last year.
    assert!(within(6_900..=7_800, purchases_at(700)), "{}", purchases_at(700));
    assert!(within(4_900..=5_700, purchases_at(500)), "{}", purchases_at(500));
}

#[test]
fn renewals_paid_by_card_need_no_funds() {
    let account = |by_card: bool| {
        let mut account = RenewingOrders::default();
        for number in 0..30 {
            account.renewal(&format!("{number}.example.com"), 9 + 9 * number, (700, 700));
        }
        for number in 0..12 {
            account.new_order(&format!("due-{number}.example.com"), 355 - number, 1000);
            if by_card {
                account.debits.pop();
            }
        }
        account.with_weekly_purchases().middle(30)
    };
    assert!(within(11_500..=13_500, account(false)), "{}", account(false));
    assert!(within(0..=4_000, account(true)), "{}", account(true));
}

#[test]
fn an_order_of_several_years_is_due_at_its_own_end() {
    let plan = |order_ends: i64| {
        let mut account = RenewingOrders::default();
        for number in 0..20 {
            account.renewal(&format!("{number}.example.com"), 30 + 9 * number, (700, 700));
        }
        let plan = Order { is_plan: true, ..site(900, "plan.example.com", 5000, (700, -12)) };
        account.orders.push(Order { order_ends: Some(super::purchases::day(-order_ends)), ..plan });
        account.with_weekly_purchases().middle(30)
    };
    assert!(within(4_900..=6_500, plan(12)), "{}", plan(12));
    assert!(within(0..=1_500, plan(380)), "only its certificate ends: {}", plan(380));
}

#[test]
fn an_order_of_a_quarter_is_renewed_again_and_again() {
    let mut account = RenewingOrders::default();
    for number in 0..20 {
        account.renewal(&format!("{number}.example.com"), 30 + 9 * number, (1, 1));
    }
    account.orders.push(site(900, "short.example.com", 1000, (60, -30)));
    account.debits.push(debit(60, 1000, Some(900)));
    let account = account.with_weekly_purchases();
    assert!(within(1_000..=1_200, account.middle(40)), "{}", account.middle(40));
    assert!(within(3_900..=4_400, account.middle(340)), "{}", account.middle(340));
}

#[test]
fn one_renewal_at_another_price_does_not_change_the_price() {
    let mut account = RenewingOrders::default();
    for number in 0..30 {
        let (name, days) = (format!("{number}.example.com"), 5 + 9 * number);
        account.renewal(&name, days, (700, if number == 0 { 2100 } else { 700 }));
    }
    for number in 0..10 {
        account.new_order(&format!("old-{number}.example.com"), 355 - number, 700);
    }
    let account = account.with_weekly_purchases();
    assert!(within(6_900..=10_500, account.middle(30)), "{}", account.middle(30));
}

#[test]
fn taxes_are_charged_for_renewals_too() {
    let mut account = RenewingOrders::default();
    for number in 0..30 {
        account.renewal(&format!("{number}.example.com"), 9 + 9 * number, (700, 700));
    }
    for number in 0..12 {
        account.new_order(&format!("due-{number}.example.com"), 355 - number, 1000);
    }
    for line in &mut account.debits {
        line.change = line.change * Decimal::from(12) / Decimal::TEN;
    }
    let account = account.with_weekly_purchases();
    assert!(within(13_800..=16_200, account.middle(30)), "{}", account.middle(30));
}
