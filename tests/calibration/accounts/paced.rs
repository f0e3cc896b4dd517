//! Accounts that spend at a daily rate, from which each kind deviates in its own way.

use std::collections::BTreeMap;

use lowtide::domain::Time;
use lowtide::sandbox::world::{CertificateIssuance, SimulatedEntry, SimulatedOrder};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;

use super::kinds::AccountKind;
use super::{AFTER, FIRST_DIVISION, GeneratedAccount, days, now, poisson, scrambled_id, sorted_by_time, truncated};

const PRICES: [i64; 4] = [21_800, 29_900, 39_900, 99_500];

/// State of an account while its days are simulated.
pub(super) struct PacedAccount {
    kind: AccountKind,
    /// Number of days before `now`.
    history: usize,
    /// Mean number of small orders a day.
    rate: f64,
    /// Two random numbers from 0 to 1 that vary the kind from account to account.
    traits: [f64; 2],
    drift: f64,
    campaign_ends: usize,
    next_special: usize,
    purchases: Vec<(usize, i64, Option<u64>)>,
    /// Id, price, and the days of placement and end.
    orders: Vec<(u64, i64, usize, usize)>,
    /// Site of each order. A renewal keeps the site of the renewed order.
    sites: Vec<usize>,
    renewed: BTreeMap<u64, usize>,
    renewals: BTreeMap<usize, Vec<usize>>,
    share: f64,
}

impl PacedAccount {
    pub(super) fn new(kind: AccountKind, rng: &mut ChaCha8Rng) -> Self {
        let history = rng.random_range(84..=540);
        let traits = [rng.random(), rng.random()];
        let mut account = Self {
            kind,
            history,
            rate: rng.random_range(0.4..3.0),
            traits,
            drift: 1.0,
            campaign_ends: 0,
            next_special: rng.random_range(0..90),
            purchases: Vec::new(),
            orders: Vec::new(),
            sites: Vec::new(),
            renewed: BTreeMap::new(),
            renewals: BTreeMap::new(),
            share: rng.random_range(0.8..1.0),
        };
        if kind == AccountKind::Sparse {
            account.history = history.max(182);
            account.rate = rng.random_range(0.1..0.33);
        }
        if kind == AccountKind::RegimeSwitch {
            account.campaign_ends = if account.traits[1] < 0.5 { account.next_special } else { 0 };
        }
        if kind == AccountKind::PayrollBatches {
            account.next_special %= 14;
        }
        if kind == AccountKind::RenewalWaves {
            account.rate *= 0.4;
            for _ in 0..rng.random_range(4..9) {
                let wave = rng.random_range(0..365);
                for _ in 0..rng.random_range(10..40) {
                    let end = wave + rng.random_range(0..10);
                    account.place(0, end, PRICES[rng.random_range(0..4)], rng);
                }
            }
        }
        account
    }

    pub(super) fn days(&self) -> usize {
        self.history + AFTER
    }

    pub(super) fn simulate_day(&mut self, day: usize, rng: &mut ChaCha8Rng) {
        let most = match self.kind {
            AccountKind::Drifting => 0.07,
            AccountKind::Vacations => 0.04,
            _ => 0.0,
        };
        if most > 0.0 && day.is_multiple_of(7) {
            self.drift *= 1.0 + rng.random_range(-most..most);
        }
        let rate = self.rate * self.factor(day);
        for _ in 0..poisson(rate, rng) {
            let price = self.price(day, rng);
            self.buy(day, price, rng);
        }
        self.occasional_purchases(day, rng);
        for order in self.renewals.remove(&day).unwrap_or_default() {
            let (id, price, _, end) = self.orders[order];
            let new = self.place(day, end + 365, price, rng);
            self.sites[self.orders.len() - 1] = self.sites[order];
            self.renewed.insert(id, day);
            self.purchases.push((day, price, Some(new)));
        }
    }

    fn price(&self, day: usize, rng: &mut ChaCha8Rng) -> i64 {
        if self.kind != AccountKind::UnequalOrders {
            let price = PRICES[rng.random_range(0..4)];
            return if self.is_after_rise(day) { price + price * self.rise() / 100 } else { price };
        }
        let rare = 1.0 - rng.random::<f64>();
        i64::try_from(truncated((20_000.0 * rare.powf(-0.55)).min(20_000_000.0))).unwrap()
    }

    fn is_after_rise(&self, day: usize) -> bool {
        self.kind == AccountKind::PriceRise && day + 10 + truncated(self.traits[1] * 110.0) >= self.history
    }

    /// Returns the price rise in percent.
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

    /// Simulates irregular events of some kinds.
    fn occasional_purchases(&mut self, day: usize, rng: &mut ChaCha8Rng) {
        if day != self.next_special {
            return;
        }
        let week = self.rate * 7.0;
        match self.kind {
            AccountKind::Lumpy => {
                let price = truncated(week * 47_700.0 * rng.random_range(2.0..8.0));
                self.buy(day, i64::try_from(price).unwrap(), rng);
                let mean = 21.0 + 49.0 * self.traits[0];
                self.next_special = day + 1 + truncated(-(1.0 - rng.random::<f64>()).ln() * mean);
            }
            AccountKind::QuarterlyBatch => {
                for _ in 0..truncated(week * (2.0 + 4.0 * self.traits[0])) {
                    self.buy(day, PRICES[rng.random_range(0..4)], rng);
                }
                self.next_special = day + 91;
            }
            AccountKind::CampaignBursts => {
                self.campaign_ends = day + rng.random_range(14..=28);
                self.next_special = self.campaign_ends + rng.random_range(45..=100);
            }
            AccountKind::RegimeSwitch => {
                let was_busy = self.campaign_ends == day;
                self.next_special = day + rng.random_range(60..=182);
                self.campaign_ends = if was_busy { 0 } else { self.next_special };
            }
            AccountKind::Vacations => {
                self.campaign_ends = day + rng.random_range(7..=14);
                self.next_special = self.campaign_ends + rng.random_range(60..=120);
            }
            AccountKind::PayrollBatches => {
                for _ in 0..poisson(week * (0.5 + self.traits[0]), rng) {
                    self.buy(day, PRICES[rng.random_range(0..4)], rng);
                }
                self.next_special = day + 14;
            }
            _ => {}
        }
    }

    fn buy(&mut self, day: usize, price: i64, rng: &mut ChaCha8Rng) {
        let id = self.place(day, day + 365, price, rng);
        self.purchases.push((day, price, Some(id)));
    }

    fn place(&mut self, day: usize, end: usize, price: i64, rng: &mut ChaCha8Rng) -> u64 {
        let id = 1000 + self.orders.len() as u64;
        if self.kind == AccountKind::RenewalWaves && rng.random::<f64>() < self.share {
            let lead = 3 + truncated(self.traits[1] * 20.0) + rng.random_range(0..8);
            self.renewals.entry(end.saturating_sub(lead).max(day + 1)).or_default().push(self.orders.len());
        }
        self.sites.push(self.orders.len());
        self.orders.push((id, price, day, end));
        id
    }

    pub(super) fn generated(&self) -> GeneratedAccount {
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
        // Most kinds have been measured without orders from the beginning, so they list none.
        let listed = self.orders.iter().enumerate().filter(|_| self.kind == AccountKind::RenewalWaves);
        let orders = listed.filter(|(_, (_, _, placed, _))| *placed < self.history);
        let orders = orders.map(|(number, order)| self.listed(number, *order, at)).collect();
        let future = days.split_off(self.history);
        let daily_spend = days[days.len() - 84..].iter().sum::<i64>() / 84;
        GeneratedAccount { entries, orders, divisions: 1, is_young: false, future, past: days, daily_spend, prices }
    }

    fn listed(&self, number: usize, order: (u64, i64, usize, usize), at: impl Fn(usize) -> Time) -> SimulatedOrder {
        let (id, price, placed, end) = order;
        // The orders that exist on the first day are older than the ledger.
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
