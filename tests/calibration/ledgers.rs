//! Accounts that live by known laws, with what they will spend: what a forecast is measured against.
//!
//! Each is seeded: the same kind and number make the same account. Amounts are hundredths of a unit. The kinds that spend by
//! pace and rhythm are made here, those that live by renewals in `renewing.rs`.

mod renewing;

use std::collections::BTreeMap;

use lowtide::domain::Time;
use lowtide::domain::money::Currency;
use lowtide::sandbox::scenario::CreditLimit;
use lowtide::sandbox::world::{AccountRecords, CertificateIssuance, RecordedDivision, SimulatedEntry, SimulatedOrder};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

/// How an account spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountKind {
    /// The same pace every day.
    Steady,
    /// Working days only, one of them much busier.
    Weekly,
    /// Small orders, and a giant every three to ten weeks.
    Lumpy,
    /// A yearly wave, 20 to 50 % above and below the mean.
    Seasonal,
    /// Orders that end in waves and are mostly renewed, beside new ones.
    RenewalWaves,
    /// 0.5 to 1.5 % more every week.
    Growing,
    /// 0.5 to 1.5 % less every week.
    Shrinking,
    /// A steady pace, and a batch of orders every quarter.
    QuarterlyBatch,
    /// Two to four weeks of a doubled or trebled pace, every two to four months.
    CampaignBursts,
    /// The busy days of the week change, once, in the last months.
    WeekdayShift,
    /// The pace is 1.5 to 2.5 times as high since one day of the last months.
    StepUp,
    /// Nothing for two weeks, at the same time each year.
    Holidays,
    /// One order in three to ten days, for at least half a year.
    Sparse,
    /// Four times the pace in the last five days of every thirty.
    MonthEnd,
    /// Every week up to 7 % more or less than the week before.
    Drifting,
    /// Half the pace, and every fourteen days a batch of half a week's to one and a half weeks' orders.
    PayrollBatches,
    /// All of a week's orders on one day of the week.
    OneDayAWeek,
    /// A second account, with a week of its own, joined on some day of the last months.
    Merger,
    /// A campaign of the last months at two to five times the pace, half of it gone every three weeks.
    FadingCampaign,
    /// Every week up to 4 % more or less; every two to four months a week or two with hardly any orders.
    Vacations,
    /// Two to three times the pace for 45 days of each year.
    YearlyRush,
    /// Orders of very unequal size: most are small, a few cost as much as hundreds.
    UnequalOrders,
    /// The pace switches between two habits, 1 and 2 to 3.5 times, each of which lasts two to six months.
    RegimeSwitch,
    /// The same pace every day; all prices are 8 to 20 % higher since one of the last 10 to 120 days.
    PriceRise,
    /// Orders whose ends are spread over the year, most of them renewed, and some new ones.
    RenewalsSteady,
    /// The orders end in four to eight waves a year, of 10 to 40 each.
    RenewalsInWaves,
    /// Only 45 to 75 % are renewed, and there are hardly any new orders.
    RenewalsDeclining,
    /// List prices rise by 4 to 20 % on one day of each year.
    RenewalsWithPriceRises,
    /// As many new orders as renewals, most of them never renewed.
    EverySecondNew,
    /// A third each lasts one, two and three years.
    MultiYearMixed,
    /// Certificates last 199 days and are reissued within their orders; a few never are.
    ReissuesOf199Days,
    /// Ledger lines do not say which order they pay.
    LedgerWithoutOrderIds,
    /// The account began 84 to 330 days ago, by moving its certificates here or from nothing.
    YoungerThanAYear,
    /// Three to six divisions buy from one fund.
    SharedByDivisions,
    /// A fifth to three fifths of the certificates are paid by card.
    PartlyPaidByCard,
    /// Domains are added to one order in five, and 3 % of the purchases are taken back.
    DomainsAndRefunds,
    /// Every order is renewed automatically, 30 days before its end, or later where funds did not suffice that day.
    RenewalsByAutomation,
    /// 70 to 90 % of the orders end in the same four weeks of the year; the renewals are placed on Tuesdays.
    RenewalsInOneMonth,
    /// New orders rise by 2 to 4 % a week, and are renewed a year later.
    GrowingByRenewals,
    /// One renewal in three is for another product, one or two places up or down the price list.
    ProductChange,
    /// On one day of the last year, the share that is renewed fell from 90 to 97 % to 50 to 70 %, or rose as much.
    ChangingShare,
    /// As many new orders as renewals, bought 5 to 20 at a time, for one product, every few weeks.
    RenewalsAndBatches,
    /// An agency: each product is for another client, with a renewal share and a lead of their own; some pay by card.
    RenewalsForClients,
    /// One person renews at the end of each month what ends in the next 35 to 55 days, and catches up after holidays.
    RenewalsAtMonthEnd,
    /// Orders are bought for 90, 100 or 199 days, and renewed two to four times a year.
    OrdersOf90To199Days,
    /// Now and then one wildcard order is bought instead of renewing three to six orders of single names.
    WildcardsReplaceOrders,
    /// Orders of very unequal size; the larger one is, the earlier and more surely it is renewed. New ones are small.
    LargeOrdersRenewedEarly,
    /// A third to three quarters of the renewals come up to 10 to 25 days after the end.
    RenewalsAfterTheEnd,
}

pub const TUNED: [AccountKind; 6] = [
    AccountKind::Steady,
    AccountKind::Weekly,
    AccountKind::Lumpy,
    AccountKind::Seasonal,
    AccountKind::RenewalWaves,
    AccountKind::Growing,
];
/// Held out at first; the method was changed for what they showed, and it is tuned on them, too, now.
pub const ONCE_HELD_OUT: [AccountKind; 12] = [
    AccountKind::Shrinking,
    AccountKind::QuarterlyBatch,
    AccountKind::CampaignBursts,
    AccountKind::WeekdayShift,
    AccountKind::StepUp,
    AccountKind::Holidays,
    AccountKind::Sparse,
    AccountKind::MonthEnd,
    AccountKind::Drifting,
    AccountKind::OneDayAWeek,
    AccountKind::FadingCampaign,
    AccountKind::YearlyRush,
];

/// Written and measured, once, after the method was final.
pub const HELD_OUT: [AccountKind; 4] =
    [AccountKind::PayrollBatches, AccountKind::Merger, AccountKind::Vacations, AccountKind::UnequalOrders];

/// Without orders, and written after the method of the others was final.
pub const CHANGING: [AccountKind; 2] = [AccountKind::RegimeSwitch, AccountKind::PriceRise];

/// Accounts that live by renewals.
pub const RENEWING: [AccountKind; 12] = [
    AccountKind::RenewalsSteady,
    AccountKind::RenewalsInWaves,
    AccountKind::RenewalsDeclining,
    AccountKind::RenewalsWithPriceRises,
    AccountKind::EverySecondNew,
    AccountKind::MultiYearMixed,
    AccountKind::ReissuesOf199Days,
    AccountKind::LedgerWithoutOrderIds,
    AccountKind::YoungerThanAYear,
    AccountKind::SharedByDivisions,
    AccountKind::PartlyPaidByCard,
    AccountKind::DomainsAndRefunds,
];

/// Accounts that live by renewals, held out at first; the method was changed for what they showed.
pub const RENEWING_ONCE_HELD_OUT: [AccountKind; 9] = [
    AccountKind::RenewalsByAutomation,
    AccountKind::RenewalsInOneMonth,
    AccountKind::GrowingByRenewals,
    AccountKind::ProductChange,
    AccountKind::ChangingShare,
    AccountKind::RenewalsAndBatches,
    AccountKind::RenewalsAtMonthEnd,
    AccountKind::LargeOrdersRenewedEarly,
    AccountKind::RenewalsAfterTheEnd,
];

/// Accounts that live by renewals, written without knowledge of the method, of which nothing was changed for what they showed.
pub const RENEWING_HELD_OUT: [AccountKind; 3] =
    [AccountKind::RenewalsForClients, AccountKind::OrdersOf90To199Days, AccountKind::WildcardsReplaceOrders];

/// Days of truth after `now`.
pub const AFTER: usize = 365;
const PRICES: [i64; 4] = [21_800, 29_900, 39_900, 99_500];
/// The divisions have numbers from here on.
const FIRST_DIVISION: u64 = 11_224;
/// Every account that is older than its ledger has this credit limit.
const CREDIT: i64 = 200_000;

/// An account at a moment, and what comes after.
pub struct GeneratedAccount {
    /// The ledger, in the order of time; balances are not filled in.
    entries: Vec<SimulatedEntry>,
    orders: Vec<SimulatedOrder>,
    divisions: u64,
    /// True if the ledger begins with the account.
    is_young: bool,
    /// What it will spend on each day from `now` on, in hundredths.
    pub future: Vec<i64>,
    /// What it spent on each day before `now`, oldest first.
    pub past: Vec<i64>,
    /// What it spends a day.
    daily_spend: i64,
    /// Of its purchases of the last year.
    prices: Vec<i64>,
}

impl GeneratedAccount {
    pub fn new(kind: AccountKind, number: u64) -> Self {
        if [&RENEWING[..], &RENEWING_ONCE_HELD_OUT, &RENEWING_HELD_OUT].concat().contains(&kind) {
            return renewing::generate(kind, number);
        }
        let mut chance = ChaCha8Rng::seed_from_u64(number * 1000 + kind as u64);
        let mut account = PacedAccount::new(kind, &mut chance);
        for day in 0..account.days() {
            account.simulate_day(day, &mut chance);
        }
        account.generated()
    }

    /// Funds for so many days at its own pace, and at least for two usual purchases: with less, none could be made.
    pub fn available(&self, days: i64) -> i64 {
        let mut prices = self.prices.clone();
        prices.sort_unstable();
        let usual = prices.get(prices.len() / 2).copied().unwrap_or_default();
        (self.daily_spend * days).max(2 * usual)
    }

    /// What `CertCentral` shows of the account when so much is available.
    pub fn records(&self, available: i64) -> AccountRecords {
        let credit = if self.is_young { 0 } else { CREDIT };
        let mut balance = Decimal::new(available - credit, 2);
        let division = |number: u64| RecordedDivision {
            id: FIRST_DIVISION + number,
            name: format!("Division {number}"),
            currency: Currency::parse("USD").unwrap(),
            balance,
            credit: CreditLimit::Limit(Decimal::new(credit, 2)),
        };
        let divisions = (0..self.divisions).map(division).collect();
        let mut entries = self.entries.clone();
        for entry in entries.iter_mut().rev() {
            entry.balance_after = balance;
            balance -= entry.change;
        }
        if self.is_young {
            // Nothing was there before its first deposit.
            entries[0].change += balance;
        }
        AccountRecords { divisions, shared_funds: true, entries, orders: self.orders.clone() }
    }
}

/// Of every account.
pub fn now() -> Time {
    Time::from_timestamp(1_795_500_000, 0).unwrap()
}

fn days(days: i64) -> chrono::Duration {
    chrono::Duration::days(days)
}

/// Another number for each; they do not rise with time.
fn scrambled_id(number: usize) -> u64 {
    10_000_000 + (number as u64 + 1) * 48_271 % 2_147_483_647
}

fn sorted_by_time(mut entries: Vec<SimulatedEntry>) -> Vec<SimulatedEntry> {
    entries.sort_by_key(|entry| entry.at);
    entries
}

/// What an account does on a day.
struct PacedAccount {
    kind: AccountKind,
    /// Days before `now`.
    history: usize,
    /// Small orders a day, on average.
    rate: f64,
    /// Two numbers from 0 to 1 that make an account of this kind its own.
    traits: [f64; 2],
    drift: f64,
    campaign_ends: usize,
    next_special: usize,
    purchases: Vec<(usize, i64, Option<u64>)>,
    /// Number, price, and the days on which it was placed and ends.
    orders: Vec<(u64, i64, usize, usize)>,
    /// Of each order: a renewal is for the site of the order before it.
    sites: Vec<usize>,
    renewed: BTreeMap<u64, usize>,
    renewals: BTreeMap<usize, Vec<usize>>,
    share: f64,
}

impl PacedAccount {
    fn new(kind: AccountKind, chance: &mut ChaCha8Rng) -> Self {
        let history = chance.random_range(84..=540);
        let traits = [chance.random(), chance.random()];
        let mut life = Self {
            kind,
            history,
            rate: chance.random_range(0.4..3.0),
            traits,
            drift: 1.0,
            campaign_ends: 0,
            next_special: chance.random_range(0..90),
            purchases: Vec::new(),
            orders: Vec::new(),
            sites: Vec::new(),
            renewed: BTreeMap::new(),
            renewals: BTreeMap::new(),
            share: chance.random_range(0.8..1.0),
        };
        if kind == AccountKind::Sparse {
            life.history = history.max(182);
            life.rate = chance.random_range(0.1..0.33);
        }
        if kind == AccountKind::RegimeSwitch {
            life.campaign_ends = if life.traits[1] < 0.5 { life.next_special } else { 0 };
        }
        if kind == AccountKind::PayrollBatches {
            life.next_special %= 14;
        }
        if kind == AccountKind::RenewalWaves {
            life.rate *= 0.4;
            for _ in 0..chance.random_range(4..9) {
                let wave = chance.random_range(0..365);
                for _ in 0..chance.random_range(10..40) {
                    let end = wave + chance.random_range(0..10);
                    life.place(0, end, PRICES[chance.random_range(0..4)], chance);
                }
            }
        }
        life
    }

    fn days(&self) -> usize {
        self.history + AFTER
    }

    fn simulate_day(&mut self, day: usize, chance: &mut ChaCha8Rng) {
        let most = match self.kind {
            AccountKind::Drifting => 0.07,
            AccountKind::Vacations => 0.04,
            _ => 0.0,
        };
        if most > 0.0 && day.is_multiple_of(7) {
            self.drift *= 1.0 + chance.random_range(-most..most);
        }
        let rate = self.rate * self.factor(day);
        for _ in 0..poisson(rate, chance) {
            let price = self.price(day, chance);
            self.buy(day, price, chance);
        }
        self.occasional_purchases(day, chance);
        for order in self.renewals.remove(&day).unwrap_or_default() {
            let (id, price, _, end) = self.orders[order];
            let new = self.place(day, end + 365, price, chance);
            self.sites[self.orders.len() - 1] = self.sites[order];
            self.renewed.insert(id, day);
            self.purchases.push((day, price, Some(new)));
        }
    }

    fn price(&self, day: usize, chance: &mut ChaCha8Rng) -> i64 {
        if self.kind != AccountKind::UnequalOrders {
            let price = PRICES[chance.random_range(0..4)];
            return if self.is_after_rise(day) { price + price * self.rise() / 100 } else { price };
        }
        let rare = 1.0 - chance.random::<f64>();
        i64::try_from(truncated((20_000.0 * rare.powf(-0.55)).min(20_000_000.0))).unwrap()
    }

    fn is_after_rise(&self, day: usize) -> bool {
        self.kind == AccountKind::PriceRise && day + 10 + truncated(self.traits[1] * 110.0) >= self.history
    }

    /// In percent.
    fn rise(&self) -> i64 {
        8 + i64::try_from(truncated(self.traits[0] * 13.0)).unwrap()
    }

    fn factor(&self, day: usize) -> f64 {
        let weeks = (day as f64 - self.history as f64) / 7.0;
        let growth = 0.005 + 0.01 * self.traits[0];
        let weekday = |busy: usize| match (day + 7 - busy) % 7 {
            0 => 3.0,
            1..=4 => 1.0,
            _ => 0.0,
        };
        let busy = truncated(self.traits[0] * 5.0);
        match self.kind {
            AccountKind::Weekly => weekday(busy),
            AccountKind::Seasonal => {
                let turn = day as f64 / 365.0 + self.traits[0];
                1.0 + (0.2 + 0.3 * self.traits[1]) * (std::f64::consts::TAU * turn).sin()
            }
            AccountKind::Growing => (1.0 + growth).powf(weeks),
            AccountKind::Shrinking => (1.0 + growth).powf(-weeks),
            AccountKind::CampaignBursts if day < self.campaign_ends => 2.0 + self.traits[0],
            AccountKind::RegimeSwitch if day < self.campaign_ends => 2.0 + 1.5 * self.traits[0],
            AccountKind::WeekdayShift => {
                let shift = self.history - truncated(self.traits[1] * 80.0);
                if day < shift { weekday(busy) } else { weekday((busy + 3) % 7) }
            }
            AccountKind::StepUp if day + 30 + truncated(self.traits[1] * 170.0) >= self.history => 1.5 + self.traits[0],
            AccountKind::Holidays if (day + truncated(self.traits[0] * 365.0)) % 365 < 14 => 0.0,
            AccountKind::MonthEnd if (day + truncated(self.traits[0] * 30.0)) % 30 >= 25 => 4.0,
            AccountKind::Vacations if day < self.campaign_ends => 0.1 * self.drift,
            AccountKind::Drifting | AccountKind::Vacations => self.drift,
            AccountKind::PayrollBatches => 0.5,
            AccountKind::OneDayAWeek => {
                if day % 7 == busy {
                    7.0
                } else {
                    0.0
                }
            }
            AccountKind::Merger if day + 30 + truncated(self.traits[1] * 170.0) >= self.history => {
                1.0 + (0.5 + 1.5 * self.traits[0]) * weekday(busy)
            }
            AccountKind::FadingCampaign if day + truncated(self.traits[1] * 120.0) >= self.history => {
                let lasted = day as f64 - (self.history as f64 - self.traits[1] * 120.0);
                1.0 + (1.0 + 3.0 * self.traits[0]) * 0.5_f64.powf(lasted / 21.0)
            }
            AccountKind::YearlyRush if (day + truncated(self.traits[0] * 365.0)) % 365 < 45 => 2.0 + self.traits[1],
            _ => 1.0,
        }
    }

    /// What happens now and then.
    fn occasional_purchases(&mut self, day: usize, chance: &mut ChaCha8Rng) {
        if day != self.next_special {
            return;
        }
        let week = self.rate * 7.0;
        match self.kind {
            AccountKind::Lumpy => {
                let price = truncated(week * 47_700.0 * chance.random_range(2.0..8.0));
                self.buy(day, i64::try_from(price).unwrap(), chance);
                let mean = 21.0 + 49.0 * self.traits[0];
                self.next_special = day + 1 + truncated(-(1.0 - chance.random::<f64>()).ln() * mean);
            }
            AccountKind::QuarterlyBatch => {
                for _ in 0..truncated(week * (2.0 + 4.0 * self.traits[0])) {
                    self.buy(day, PRICES[chance.random_range(0..4)], chance);
                }
                self.next_special = day + 91;
            }
            AccountKind::CampaignBursts => {
                self.campaign_ends = day + chance.random_range(14..=28);
                self.next_special = self.campaign_ends + chance.random_range(45..=100);
            }
            AccountKind::RegimeSwitch => {
                let was_busy = self.campaign_ends == day;
                self.next_special = day + chance.random_range(60..=182);
                self.campaign_ends = if was_busy { 0 } else { self.next_special };
            }
            AccountKind::Vacations => {
                self.campaign_ends = day + chance.random_range(7..=14);
                self.next_special = self.campaign_ends + chance.random_range(60..=120);
            }
            AccountKind::PayrollBatches => {
                for _ in 0..poisson(week * (0.5 + self.traits[0]), chance) {
                    self.buy(day, PRICES[chance.random_range(0..4)], chance);
                }
                self.next_special = day + 14;
            }
            _ => {}
        }
    }

    fn buy(&mut self, day: usize, price: i64, chance: &mut ChaCha8Rng) {
        let id = self.place(day, day + 365, price, chance);
        self.purchases.push((day, price, Some(id)));
    }

    fn place(&mut self, day: usize, end: usize, price: i64, chance: &mut ChaCha8Rng) -> u64 {
        let id = 1000 + self.orders.len() as u64;
        if self.kind == AccountKind::RenewalWaves && chance.random::<f64>() < self.share {
            let lead = 3 + truncated(self.traits[1] * 20.0) + chance.random_range(0..8);
            self.renewals.entry(end.saturating_sub(lead).max(day + 1)).or_default().push(self.orders.len());
        }
        self.sites.push(self.orders.len());
        self.orders.push((id, price, day, end));
        id
    }

    fn generated(&self) -> GeneratedAccount {
        let at = |day: usize| now() + span(day) - span(self.history) + chrono::Duration::hours(9);
        let mut days = vec![0; self.days()];
        self.purchases.iter().for_each(|(day, price, _)| days[*day] += price);
        let entry = |number: usize, (day, change, order): (usize, i64, Option<u64>)| SimulatedEntry {
            id: scrambled_id(number),
            division: FIRST_DIVISION,
            at: at(day),
            change: Decimal::new(change, 2),
            kind: if change < 0 { "Charge" } else { "Credit" },
            order,
            note: None,
            expires: None,
            balance_after: Decimal::ZERO,
        };
        let opening = SimulatedEntry {
            at: at(0) - chrono::Duration::hours(9),
            ..entry(self.purchases.len(), (0, 100_000_000, None))
        };
        let known = || self.purchases.iter().filter(|(day, ..)| *day < self.history);
        let debits = known().enumerate().map(|(number, (day, price, order))| entry(number, (*day, -price, *order)));
        let entries = sorted_by_time([opening].into_iter().chain(debits).collect());
        let last_year = self.history.saturating_sub(365);
        let prices = known().filter(|(day, ..)| *day >= last_year).map(|(_, price, _)| *price).collect();
        // Most kinds were measured without orders from the beginning.
        let listed = self.orders.iter().enumerate().filter(|_| self.kind == AccountKind::RenewalWaves);
        let orders = listed.filter(|(_, (_, _, placed, _))| *placed < self.history);
        let orders = orders.map(|(number, order)| self.listed(number, *order, at)).collect();
        let future = days.split_off(self.history);
        let worth = days[days.len() - 84..].iter().sum::<i64>() / 84;
        GeneratedAccount {
            entries,
            orders,
            divisions: 1,
            is_young: false,
            future,
            past: days,
            daily_spend: worth,
            prices,
        }
    }

    fn listed(&self, number: usize, order: (u64, i64, usize, usize), at: impl Fn(usize) -> Time) -> SimulatedOrder {
        let (id, price, placed, end) = order;
        // The orders of the beginning are older than the ledger.
        let placed = if placed > 0 { at(placed) } else { at(end) - span(365) };
        SimulatedOrder {
            id,
            division: FIRST_DIVISION,
            product: format!("Product {price}"),
            price: Decimal::new(price, 2),
            years: 1,
            common_name: format!("site-{}.example.com", self.sites[number]),
            placed,
            ends: at(end),
            renewed: self.renewed.get(&id).is_some_and(|day| *day < self.history),
            auto_renew: false,
            issuance: CertificateIssuance { certificate_days: 2000, ..CertificateIssuance::default() },
        }
    }
}

fn span(count: usize) -> chrono::Duration {
    days(i64::try_from(count).unwrap())
}

/// Without its fraction.
fn truncated(number: f64) -> usize {
    number.to_usize().unwrap()
}

/// How often something happens on a day that happens so often on average.
fn poisson(mean: f64, chance: &mut ChaCha8Rng) -> usize {
    let (least, mut product, mut count) = ((-mean).exp(), chance.random::<f64>(), 0);
    while product > least {
        product *= chance.random::<f64>();
        count += 1;
    }
    count
}
