//! Accounts that live on renewals: orders, ledger lines and future spend.
//!
//! All kinds share one simulation. An account has a number of sites, and each site has one running order at a time.
//! An order is renewed with the account's own probability and lead. Other sites are new. Days are counted from the
//! present one, which is 0.

mod calendar;
mod existing_orders;
mod month_end_clerk;
mod records;
mod term;
mod traits;

use std::collections::BTreeMap;

use lowtide::domain::Time;
use lowtide::sandbox::world::CertificateIssuance;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{AFTER, AccountKind, FIRST_DIVISION, GeneratedAccount, poisson, truncated};
use calendar::{YEAR, is_working, moment, tuesday, working};
use term::OrderTerm;
use traits::{AccountTraits, PRODUCTS, WILDCARD};

/// Days before its end from which on an order can be renewed.
const MAX_LEAD_DAYS: f64 = 90.0;
/// Number of purchases in the last year that every account has, at least.
const MIN_PURCHASES: usize = 8;
/// Days within which orders must end for a wildcard to replace them.
const CONSOLIDATION_DAYS: i64 = 120;
/// Days of a certificate that outlasts any order.
const LONG_CERTIFICATE_DAYS: u64 = 2000;

/// A common name with its product.
struct RenewedSite {
    name: String,
    product: usize,
    term: OrderTerm,
    /// Price of its orders, in multiples of a usual order's.
    size: i64,
    division: u64,
    by_card: bool,
    one_off: bool,
}

struct PlacedOrder {
    id: u64,
    site: usize,
    product: usize,
    price: i64,
    day: i64,
    at: Time,
    ends: i64,
    renewed: Option<i64>,
    canceled: Option<i64>,
    /// True if an order for more names replaced it.
    replaced: bool,
    issuance: CertificateIssuance,
}

#[derive(Clone, Copy)]
enum AccountEvent {
    Renew(usize),
    AddDomain(usize),
    Refund(usize),
    /// Migration of a site from another provider.
    Move,
    /// Purchase of this number of new orders, all of one product.
    Batch(usize),
}

/// A change of the balance.
struct BalanceChange {
    day: i64,
    at: Time,
    change: i64,
    kind: &'static str,
    order: Option<u64>,
    division: u64,
}

struct RenewingAccount {
    traits: AccountTraits,
    rises: Vec<f64>,
    sites: Vec<RenewedSite>,
    orders: Vec<PlacedOrder>,
    lines: Vec<BalanceChange>,
    events: BTreeMap<i64, Vec<AccountEvent>>,
    rng: ChaCha8Rng,
}

/// Generates an account. Accounts with hardly any purchases are drawn again.
pub(super) fn generate(kind: AccountKind, number: u64) -> GeneratedAccount {
    let mut rng = ChaCha8Rng::seed_from_u64(number * 1000 + kind as u64);
    loop {
        let account = RenewingAccount::new(kind, ChaCha8Rng::from_rng(&mut rng));
        if account.purchases().count() >= MIN_PURCHASES {
            return account.generated();
        }
    }
}

impl RenewingAccount {
    fn new(kind: AccountKind, mut rng: ChaCha8Rng) -> Self {
        let traits = AccountTraits::new(kind, &mut rng);
        let rises = (0..10).map(|_| rng.random_range(1.04..1.2)).collect();
        let begins = traits.begins;
        let (sites, orders, lines, events) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        let mut account = Self { traits, rises, sites, orders, lines, events, rng };
        account.place_existing_orders();
        for day in begins..i64::try_from(AFTER).unwrap() {
            account.simulate_day(day);
        }
        account
    }

    /// Returns the costs of the purchases of the last year.
    fn purchases(&self) -> impl Iterator<Item = i64> {
        let known = self.lines.iter().filter(|line| (-YEAR..0).contains(&line.day) && line.change < 0);
        known.map(|line| -line.change)
    }

    fn product(&mut self) -> usize {
        let mut drawn = self.rng.random::<f64>() * self.traits.product_weights.iter().sum::<f64>();
        let product = self.traits.product_weights.iter().position(|weight| {
            drawn -= weight;
            drawn <= 0.0
        });
        product.unwrap_or_default()
    }

    fn term(&mut self) -> OrderTerm {
        match self.traits.kind {
            AccountKind::MultiYearMixed => OrderTerm::Years(self.rng.random_range(1..=3)),
            AccountKind::OrdersOf90To199Days => {
                let lengths = &self.traits.lengths;
                OrderTerm::Days(lengths[self.rng.random_range(0..lengths.len())])
            }
            _ => OrderTerm::Years(1),
        }
    }

    fn site(&mut self, product: usize, term: OrderTerm, is_new: bool) -> usize {
        let number = self.sites.len();
        let size = self.traits.size(is_new, &mut self.rng);
        let division = FIRST_DIVISION + self.rng.random_range(0..self.traits.divisions);
        let payment = self.rng.random::<f64>();
        let mut site = RenewedSite {
            name: format!("site-{number}.example.com"),
            product,
            term,
            size,
            division,
            by_card: false,
            one_off: is_new && self.rng.random::<f64>() < self.traits.one_off,
        };
        // Sometimes a second certificate is bought for the same name.
        if is_new && number > 0 && self.rng.random_bool(0.03) {
            let other = &self.sites[self.rng.random_range(0..number)];
            (site.name, site.product) = (other.name.clone(), other.product);
        }
        site.by_card = payment < self.traits.card_of(site.product);
        self.sites.push(site);
        number
    }

    fn simulate_day(&mut self, day: i64) {
        if is_working(day) {
            for _ in 0..poisson(self.traits.new_orders(day), &mut self.rng) {
                self.buy_new(None, day);
            }
        }
        while let Some(events) = self.events.remove(&day) {
            for event in events {
                match event {
                    AccountEvent::Move => self.buy_new(None, day),
                    AccountEvent::Batch(orders) => {
                        let product = self.product();
                        (0..orders).for_each(|_| self.buy_new(Some(product), day));
                    }
                    AccountEvent::Renew(order) => self.renew(order, day),
                    AccountEvent::AddDomain(order) => self.add_domain(order, day),
                    AccountEvent::Refund(order) => self.refund(order, day),
                }
            }
        }
    }

    /// Buys a certificate for a new site, of this product or a random one.
    fn buy_new(&mut self, product: Option<usize>, day: i64) {
        let term = self.term();
        let product = product.unwrap_or_else(|| self.product());
        let site = self.site(product, term, true);
        let order = self.place(site, day, day + term.days());
        self.pay(order);
    }

    fn renew(&mut self, order: usize, day: i64) {
        let (site, ends) = (self.orders[order].site, self.orders[order].ends);
        let is_over = self.orders[order].canceled.is_some() || self.orders[order].replaced;
        if !is_over && !self.replaced_by_wildcard(order, day) {
            self.orders[order].renewed = Some(day);
            if self.traits.kind == AccountKind::ProductChange && self.rng.random_ratio(1, 3) {
                self.sites[site].product = self.other_product(self.sites[site].product);
            }
            let renewal = self.place(site, day, self.traits.renewal_ends(ends, day, self.sites[site].term));
            self.pay(renewal);
        }
    }

    /// Replaces this order and others that end soon by a wildcard. Returns false if the order is to be renewed
    /// instead.
    fn replaced_by_wildcard(&mut self, order: usize, day: i64) -> bool {
        if self.traits.consolidated == 0.0 || !self.rng.random_bool(self.traits.consolidated) {
            return false;
        }
        let soon = self.orders[order].ends + CONSOLIDATION_DAYS;
        let is_one = |its: &PlacedOrder| {
            its.product < WILDCARD && its.renewed.is_none() && !its.replaced && (day..=soon).contains(&its.ends)
        };
        let mut replaced: Vec<usize> = (0..self.orders.len()).filter(|it| is_one(&self.orders[*it])).collect();
        replaced.sort_by_key(|it| (*it != order, self.orders[*it].ends));
        replaced.truncate(self.rng.random_range(3..=6));
        if replaced.len() < 3 || replaced[0] != order {
            return false;
        }
        for its in replaced {
            self.orders[its].replaced = true;
        }
        let term = OrderTerm::Years(1);
        let site = self.site(WILDCARD, term, false);
        self.sites[site].name = format!("*.zone-{site}.example.com");
        let wildcard = self.place(site, day, day + term.days());
        self.pay(wildcard);
        true
    }

    /// Returns a product one or two steps up or down the price list.
    fn other_product(&mut self, product: usize) -> usize {
        let (places, last) = (self.rng.random_range(1..=2), PRODUCTS.len() - 1);
        let is_more_expensive = product == 0 || product < last && self.rng.random::<f64>() < self.traits.more_expensive;
        if is_more_expensive { (product + places).min(last) } else { product.saturating_sub(places) }
    }

    /// Adds a domain, charged for the rest of the order's term.
    fn add_domain(&mut self, order: usize, day: i64) {
        let its = &self.orders[order];
        if its.canceled.is_none() && day < its.ends {
            let (year, left) = (its.price * self.rng.random_range(40..70) / 100, its.ends - day);
            self.record_change(order, day, -(year * left / YEAR).max(100), "Charge");
        }
    }

    fn refund(&mut self, order: usize, day: i64) {
        self.orders[order].canceled = Some(day);
        self.record_change(order, day, self.orders[order].price, "Refund");
    }

    fn pay(&mut self, order: usize) {
        let its = &self.orders[order];
        if self.sites[its.site].by_card {
            return;
        }
        let (day, price) = (its.day, its.price);
        self.record_change(order, day, -price, "Charge");
        if self.traits.kind == AccountKind::DomainsAndRefunds && self.rng.random_bool(0.03) {
            let day = working(day + self.rng.random_range(2..=20)).max(day + 1);
            self.events.entry(day).or_default().push(AccountEvent::Refund(order));
        }
    }

    fn record_change(&mut self, order: usize, day: i64, change: i64, kind: &'static str) {
        let its = &self.orders[order];
        let at = if day == its.day { its.at } else { moment(day, &mut self.rng) };
        let id = (self.traits.kind != AccountKind::LedgerWithoutOrderIds).then_some(its.id);
        let division = self.sites[its.site].division;
        self.lines.push(BalanceChange { day, at, change, kind, order: id, division });
    }

    /// Places an order and schedules its renewal.
    fn place(&mut self, site: usize, day: i64, ends: i64) -> usize {
        let order = self.orders.len();
        let RenewedSite { product, term, size, one_off, .. } = self.sites[site];
        let level = self.traits.price_level(day, &self.rises);
        #[allow(clippy::cast_precision_loss)]
        let year = i64::try_from(truncated(PRODUCTS[product].1 as f64 * level / 100.0) * 100).unwrap();
        let price = term.price(year) * size;
        let issuance = self.issuance();
        self.orders.push(PlacedOrder {
            id: 107_000_001 + order as u64,
            site,
            product,
            price,
            day,
            at: moment(day, &mut self.rng),
            ends,
            renewed: None,
            canceled: None,
            replaced: false,
            issuance,
        });
        // Orders whose certificate is not reissued are seldom renewed.
        let share = self.traits.share_of(ends, product, size) * if issuance.reissued { 1.0 } else { 0.3 };
        if !one_off && self.rng.random::<f64>() < share {
            let renewed = self.renewal_day(ends, product, size).max(day + 1).max(self.traits.begins);
            self.events.entry(renewed).or_default().push(AccountEvent::Renew(order));
        }
        if self.traits.kind == AccountKind::DomainsAndRefunds && self.rng.random_bool(0.2) {
            let added = working(self.rng.random_range(day + 1..ends)).max(day + 1);
            self.events.entry(added).or_default().push(AccountEvent::AddDomain(order));
        }
        order
    }

    fn renewal_day(&mut self, ends: i64, product: usize, size: i64) -> i64 {
        if self.traits.kind == AccountKind::RenewalsByAutomation {
            return self.traits.automatic_renewal(ends);
        }
        if self.rng.random::<f64>() < self.traits.late {
            let latest = self.traits.latest;
            return working(ends + self.rng.random_range(1..=latest)).max(ends + 1).min(ends + latest);
        }
        if let Some(clerk) = &self.traits.clerk {
            return clerk.renewal_day(ends);
        }
        let deviation: f64 = (0..6).map(|_| self.rng.random_range(-0.5..0.5)).sum::<f64>() * 2.0_f64.sqrt();
        let lead = self.traits.lead_of(product, size) * (1.0 + self.traits.spread * deviation);
        let day = ends - i64::try_from(truncated(lead.clamp(0.0, MAX_LEAD_DAYS))).unwrap();
        if self.traits.kind == AccountKind::RenewalsInOneMonth { tuesday(day) } else { working(day) }
    }

    fn issuance(&mut self) -> CertificateIssuance {
        match self.traits.kind {
            AccountKind::ReissuesOf199Days => {
                let reissued = self.rng.random::<f64>() > 0.06;
                let slow = self.rng.random_bool(0.3);
                let days = if slow { self.rng.random_range(1..=13) } else { 0 };
                let reissue_takes = std::time::Duration::from_secs(3600 * (2 + 24 * days));
                CertificateIssuance { reissued, reissue_takes, ..CertificateIssuance::default() }
            }
            AccountKind::RenewalsByAutomation => CertificateIssuance::default(),
            AccountKind::MultiYearMixed => {
                CertificateIssuance { certificate_days: 397, ..CertificateIssuance::default() }
            }
            _ => CertificateIssuance { certificate_days: LONG_CERTIFICATE_DAYS, ..CertificateIssuance::default() },
        }
    }
}
