//! Accounts that live by renewals, as the API shows them: orders, ledger lines, and what they will spend.
//!
//! One life for all kinds. The account has a number of sites; a site has one running order at a time. An order is renewed
//! with the account's own chance and so long before its end as is usual in the account; other sites are new. Days count
//! from the present one, which is 0.

#[path = "renewing/habits.rs"]
mod habits;

use std::collections::BTreeMap;

use lowtide::domain::Time;
use lowtide::sandbox::world::{Entry, Issuance, Order};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;

use super::{AFTER, Case, FIRST_DIVISION, Kind, days, in_order, now, poisson, shuffled, whole};
use habits::{Habits, PRODUCTS, YEAR};

/// What an order of one, two and three years costs, in hundredths of a year's price.
const YEARS: [i64; 3] = [100, 185, 260];
/// The ledger reaches back so far.
const LEDGER: i64 = 400;
/// Orders can be renewed so many days before their end.
const EARLIEST: f64 = 90.0;
/// Every account bought so much in the last year at least.
const FEWEST: usize = 8;
/// A certificate that lasts as long as any order of a year.
const WHOLE: u64 = 2000;
/// The orders of an account that renews in one month end within so many days.
const MONTH: i64 = 28;

/// What is renewed: a common name with its product.
struct Site {
    name: String,
    product: usize,
    years: i64,
    division: u64,
    by_card: bool,
    one_off: bool,
}

struct Placed {
    id: u64,
    site: usize,
    product: usize,
    price: i64,
    day: i64,
    at: Time,
    ends: i64,
    renewed: Option<i64>,
    canceled: Option<i64>,
    issuance: Issuance,
}

#[derive(Clone, Copy)]
enum Event {
    Renew(usize),
    AddDomain(usize),
    Refund(usize),
    /// A site that moves here from elsewhere.
    Move,
    /// So many new orders at a time, all of one product.
    Batch(usize),
}

/// What moved the balance.
struct Line {
    day: i64,
    at: Time,
    change: i64,
    kind: &'static str,
    order: Option<u64>,
    division: u64,
}

struct Life {
    habits: Habits,
    rises: Vec<f64>,
    sites: Vec<Site>,
    orders: Vec<Placed>,
    lines: Vec<Line>,
    events: BTreeMap<i64, Vec<Event>>,
    chance: ChaCha8Rng,
}

/// An account of one of the kinds that live by renewals. One that hardly ever bought anything is drawn anew.
pub(super) fn case(kind: Kind, number: u64) -> Case {
    let mut chance = ChaCha8Rng::seed_from_u64(number * 1000 + kind as u64);
    loop {
        let life = Life::new(kind, ChaCha8Rng::from_rng(&mut chance));
        if life.purchases().count() >= FEWEST {
            return life.case();
        }
    }
}

impl Life {
    fn new(kind: Kind, mut chance: ChaCha8Rng) -> Self {
        let habits = Habits::new(kind, &mut chance);
        let rises = (0..10).map(|_| chance.random_range(1.04..1.2)).collect();
        let begins = habits.begins;
        let (sites, orders, lines, events) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        let mut life = Self { habits, rises, sites, orders, lines, events, chance };
        life.begin();
        for day in begins..i64::try_from(AFTER).unwrap() {
            life.live(day);
        }
        life
    }

    /// What was paid for each of the last year.
    fn purchases(&self) -> impl Iterator<Item = i64> {
        let known = self.lines.iter().filter(|line| (-YEAR..0).contains(&line.day) && line.change < 0);
        known.map(|line| -line.change)
    }

    /// The orders that are there already, each of which took the place of another one.
    fn begin(&mut self) {
        let begins = self.habits.begins;
        if self.habits.kind == Kind::RenewalsAndBatches {
            self.plan_batches();
        }
        match (self.habits.kind, self.habits.migration) {
            (Kind::YoungerThanAYear, Some(weeks)) => {
                for _ in 0..whole(self.habits.renewals / self.habits.share) {
                    let day = working(begins + self.chance.random_range(0..=weeks)).max(begins);
                    self.events.entry(day).or_default().push(Event::Move);
                }
            }
            (Kind::YoungerThanAYear, None) => {}
            (Kind::RenewalsInWaves, _) => {
                for _ in 0..self.chance.random_range(4..=8) {
                    let wave = begins + self.chance.random_range(0..YEAR);
                    for _ in 0..self.chance.random_range(10..=40) {
                        let end = wave + self.chance.random_range(0..10);
                        self.older(end, 1);
                    }
                }
                #[allow(clippy::cast_precision_loss)]
                let renewals = self.orders.len() as f64;
                self.habits.new *= renewals / self.habits.renewals;
            }
            (Kind::MultiYearMixed, _) => {
                for years in 1..=3 {
                    for _ in 0..whole(self.habits.renewals / self.habits.share / 3.0) * usize::try_from(years).unwrap()
                    {
                        let end = begins + self.chance.random_range(0..YEAR * years);
                        self.older(end, years);
                    }
                }
            }
            (Kind::RenewalsInOneMonth, _) => {
                let (month, within) = (self.chance.random_range(0..YEAR), self.chance.random_range(0.7..0.9));
                for _ in 0..whole(self.habits.renewals / self.habits.share) {
                    let in_month = self.chance.random::<f64>() < within;
                    let (first, days) = if in_month { (month, MONTH) } else { (0, YEAR) };
                    let end = begins + first + self.chance.random_range(0..days);
                    self.older(end, 1);
                }
            }
            _ => {
                // An account that declines was larger once.
                let declines = self.habits.kind == Kind::RenewalsDeclining;
                let years = if declines { -f64::from(i32::try_from(begins).unwrap()) / 365.0 } else { 1.0 };
                for _ in 0..whole(self.habits.renewals / self.habits.share.powf(years)) {
                    let end = begins + self.chance.random_range(0..YEAR);
                    self.older(end, 1);
                }
            }
        }
    }

    /// Plans the batches by which new orders are bought: about as many orders as there are renewals.
    fn plan_batches(&mut self) {
        let sizes = 5..=20;
        #[allow(clippy::cast_precision_loss)]
        let usual = (sizes.start() + sizes.end()) as f64 / 2.0;
        #[allow(clippy::cast_precision_loss)]
        let apart = YEAR as f64 * usual / self.habits.renewals;
        let (mut day, end) = (self.habits.begins, i64::try_from(AFTER).unwrap());
        while day < end {
            let size = self.chance.random_range(sizes.clone());
            day += i64::try_from(whole(apart * self.chance.random_range(0.5..1.5))).unwrap().max(1);
            self.events.entry(working(day)).or_default().push(Event::Batch(size));
        }
    }

    fn older(&mut self, end: i64, years: i64) {
        let product = self.product();
        let site = self.site(product, years, false);
        self.place(site, end - years * YEAR, end);
    }

    fn product(&mut self) -> usize {
        let mut drawn = self.chance.random::<f64>() * self.habits.tastes.iter().sum::<f64>();
        let product = self.habits.tastes.iter().position(|taste| {
            drawn -= taste;
            drawn <= 0.0
        });
        product.unwrap_or_default()
    }

    fn site(&mut self, product: usize, years: i64, is_new: bool) -> usize {
        let number = self.sites.len();
        let mut site = Site {
            name: format!("site-{number}.example.com"),
            product,
            years,
            division: FIRST_DIVISION + self.chance.random_range(0..self.habits.divisions),
            by_card: self.chance.random::<f64>() < self.habits.card,
            one_off: is_new && self.chance.random::<f64>() < self.habits.one_off,
        };
        // Now and then somebody buys a second certificate for the same name.
        if is_new && number > 0 && self.chance.random_bool(0.03) {
            let other = &self.sites[self.chance.random_range(0..number)];
            (site.name, site.product) = (other.name.clone(), other.product);
        }
        self.sites.push(site);
        number
    }

    fn live(&mut self, day: i64) {
        if is_working(day) {
            for _ in 0..poisson(self.habits.new_orders(day), &mut self.chance) {
                self.buy_new(None, day);
            }
        }
        while let Some(events) = self.events.remove(&day) {
            for event in events {
                match event {
                    Event::Move => self.buy_new(None, day),
                    Event::Batch(orders) => {
                        let product = self.product();
                        (0..orders).for_each(|_| self.buy_new(Some(product), day));
                    }
                    Event::Renew(order) => self.renew(order, day),
                    Event::AddDomain(order) => self.add_domain(order, day),
                    Event::Refund(order) => self.refund(order, day),
                }
            }
        }
    }

    /// Buys a certificate for a new site, of this product or of any.
    fn buy_new(&mut self, product: Option<usize>, day: i64) {
        let years = if self.habits.kind == Kind::MultiYearMixed { self.chance.random_range(1..=3) } else { 1 };
        let product = product.unwrap_or_else(|| self.product());
        let site = self.site(product, years, true);
        let order = self.place(site, day, day + years * YEAR);
        self.pay(order);
    }

    fn renew(&mut self, order: usize, day: i64) {
        let (site, ends) = (self.orders[order].site, self.orders[order].ends);
        if self.orders[order].canceled.is_none() {
            self.orders[order].renewed = Some(day);
            if self.habits.kind == Kind::ProductChange && self.chance.random_ratio(1, 3) {
                self.sites[site].product = self.other_product(self.sites[site].product);
            }
            let renewal = self.place(site, day, ends + self.sites[site].years * YEAR);
            self.pay(renewal);
        }
    }

    /// A product that is one or two places dearer or cheaper.
    fn other_product(&mut self, product: usize) -> usize {
        let (places, last) = (self.chance.random_range(1..=2), PRODUCTS.len() - 1);
        let is_dearer = product == 0 || product < last && self.chance.random::<f64>() < self.habits.dearer;
        if is_dearer { (product + places).min(last) } else { product.saturating_sub(places) }
    }

    /// A domain is charged for what is left of its order.
    fn add_domain(&mut self, order: usize, day: i64) {
        let its = &self.orders[order];
        if its.canceled.is_none() && day < its.ends {
            let (year, left) = (its.price * self.chance.random_range(40..70) / 100, its.ends - day);
            self.book(order, day, -(year * left / YEAR).max(100), "Charge");
        }
    }

    fn refund(&mut self, order: usize, day: i64) {
        self.orders[order].canceled = Some(day);
        self.book(order, day, self.orders[order].price, "Refund");
    }

    fn pay(&mut self, order: usize) {
        let its = &self.orders[order];
        if self.sites[its.site].by_card {
            return;
        }
        let (day, price) = (its.day, its.price);
        self.book(order, day, -price, "Charge");
        if self.habits.kind == Kind::DomainsAndRefunds && self.chance.random_bool(0.03) {
            let day = working(day + self.chance.random_range(2..=20)).max(day + 1);
            self.events.entry(day).or_default().push(Event::Refund(order));
        }
    }

    fn book(&mut self, order: usize, day: i64, change: i64, kind: &'static str) {
        let its = &self.orders[order];
        let at = if day == its.day { its.at } else { moment(day, &mut self.chance) };
        let id = (self.habits.kind != Kind::LedgerWithoutOrderIds).then_some(its.id);
        let division = self.sites[its.site].division;
        self.lines.push(Line { day, at, change, kind, order: id, division });
    }

    /// An order, and what will become of it.
    fn place(&mut self, site: usize, day: i64, ends: i64) -> usize {
        let order = self.orders.len();
        let Site { product, years, one_off, .. } = self.sites[site];
        let level = self.habits.price_level(day, &self.rises);
        #[allow(clippy::cast_precision_loss)]
        let price = whole(PRODUCTS[product].1 as f64 * level / 100.0) as f64 * 100.0;
        #[allow(clippy::cast_precision_loss)]
        let price = i64::try_from(whole(price * YEARS[usize::try_from(years - 1).unwrap()] as f64 / 100.0)).unwrap();
        let issuance = self.issuance();
        self.orders.push(Placed {
            id: 107_000_001 + order as u64,
            site,
            product,
            price,
            day,
            at: moment(day, &mut self.chance),
            ends,
            renewed: None,
            canceled: None,
            issuance,
        });
        // Who does not get the next certificate seldom needs the next order.
        let share = self.habits.share_of(ends) * if issuance.reissued { 1.0 } else { 0.3 };
        if !one_off && self.chance.random::<f64>() < share {
            let renewed = self.renewal_day(ends).max(day + 1).max(self.habits.begins);
            self.events.entry(renewed).or_default().push(Event::Renew(order));
        }
        if self.habits.kind == Kind::DomainsAndRefunds && self.chance.random_bool(0.2) {
            let added = working(self.chance.random_range(day + 1..ends)).max(day + 1);
            self.events.entry(added).or_default().push(Event::AddDomain(order));
        }
        order
    }

    fn renewal_day(&mut self, ends: i64) -> i64 {
        if self.habits.kind == Kind::RenewalsByAutomation {
            return self.habits.automatic_renewal(ends);
        }
        if self.chance.random::<f64>() < self.habits.late {
            return working(ends + self.chance.random_range(1..=5)).max(ends + 1).min(ends + 5);
        }
        let deviation: f64 = (0..6).map(|_| self.chance.random_range(-0.5..0.5)).sum::<f64>() * 2.0_f64.sqrt();
        let lead = self.habits.lead * (1.0 + self.habits.spread * deviation);
        let day = ends - i64::try_from(whole(lead.clamp(0.0, EARLIEST))).unwrap();
        if self.habits.kind == Kind::RenewalsInOneMonth { tuesday(day) } else { working(day) }
    }

    fn issuance(&mut self) -> Issuance {
        match self.habits.kind {
            Kind::ReissuesOf199Days => {
                let reissued = self.chance.random::<f64>() > 0.06;
                let slow = self.chance.random_bool(0.3);
                let days = if slow { self.chance.random_range(1..=13) } else { 0 };
                let reissue_takes = std::time::Duration::from_secs(3600 * (2 + 24 * days));
                Issuance { reissued, reissue_takes, ..Issuance::default() }
            }
            Kind::RenewalsByAutomation => Issuance::default(),
            Kind::MultiYearMixed => Issuance { certificate_days: 397, ..Issuance::default() },
            _ => Issuance { certificate_days: WHOLE, ..Issuance::default() },
        }
    }

    fn case(mut self) -> Case {
        self.lines.sort_by_key(|line| line.at);
        let life = usize::try_from(-self.habits.begins).unwrap();
        let (mut past, mut future) = (vec![0; life.min(usize::try_from(YEAR).unwrap())], vec![0; AFTER]);
        for line in &self.lines {
            let (days, day) = match usize::try_from(line.day) {
                Ok(day) => (&mut future, Some(day)),
                Err(_) => (&mut past, usize::try_from(line.day + YEAR.min(-self.habits.begins)).ok()),
            };
            if let Some(spent) = day.and_then(|day| days.get_mut(day)) {
                *spent -= line.change;
            }
        }
        let worth = past.iter().sum::<i64>() / i64::try_from(past.len()).unwrap();
        let prices = self.purchases().collect();
        let mut case = Case {
            entries: Vec::new(),
            orders: self.orders.iter().filter_map(|order| self.listed(order)).collect(),
            divisions: self.habits.divisions,
            future,
            past,
            worth,
            prices,
        };
        case.entries = self.entries(case.available(15), worth);
        case
    }

    fn listed(&self, order: &Placed) -> Option<Order> {
        let site = &self.sites[order.site];
        let is_known = order.day < 0 && order.canceled.is_none_or(|day| day >= 0);
        is_known.then(|| Order {
            id: order.id,
            division: site.division,
            product: PRODUCTS[order.product].0.to_owned(),
            price: Decimal::new(order.price, 2),
            years: u32::try_from(site.years).unwrap(),
            common_name: site.name.clone(),
            placed: order.at,
            ends: now() + days(order.ends),
            renewed: order.renewed.is_some_and(|day| day < 0),
            auto_renew: self.habits.kind == Kind::RenewalsByAutomation,
            issuance: order.issuance,
        })
    }

    /// The ledger, with deposits that kept the funds above what they are at least today.
    fn entries(&self, least: i64, worth: i64) -> Vec<Entry> {
        #[allow(clippy::cast_precision_loss)]
        let deposit = i64::try_from(whole((worth as f64 * self.habits.deposit / 50_000.0).max(2.0)) * 50_000).unwrap();
        let mut entries = Vec::new();
        let mut put = |at: Time, change: i64, kind: &'static str, order: Option<u64>, division: u64| {
            let (id, change) = (shuffled(entries.len()), Decimal::new(change, 2));
            let (note, expires, balance_after) = (None, None, Decimal::ZERO);
            entries.push(Entry { id, division, at, change, kind, order, note, expires, balance_after });
        };
        let mut funds = least;
        let known = self.lines.iter().rev().filter(|line| line.day < 0 && line.day >= -LEDGER - 10);
        for line in known {
            put(line.at, line.change, line.kind, line.order, line.division);
            funds -= line.change;
            if funds >= least + deposit {
                let at = line.at - chrono::Duration::minutes(37);
                put(at, deposit, "Credit Card Deposit", None, FIRST_DIVISION);
                funds -= deposit;
            }
        }
        if self.habits.begins > -LEDGER {
            put(now() + days(self.habits.begins), funds.max(100), "Credit", None, FIRST_DIVISION);
        }
        in_order(entries)
    }
}

/// Whether people work on this day; today is a Tuesday.
fn is_working(day: i64) -> bool {
    (day + 1).rem_euclid(7) < 5
}

/// The working day that is nearest.
fn working(day: i64) -> i64 {
    match (day + 1).rem_euclid(7) {
        5 => day - 1,
        6 => day + 1,
        _ => day,
    }
}

/// This day or the next one that is a Tuesday, like today.
fn tuesday(day: i64) -> i64 {
    day + (-day).rem_euclid(7)
}

/// Some time of the working hours; a day begins at 06:00.
fn moment(day: i64, chance: &mut ChaCha8Rng) -> Time {
    now() + days(day) + chrono::Duration::seconds(chance.random_range(2 * 3600..11 * 3600))
}
