//! Traits of each account of a kind.

use std::ops::RangeInclusive;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::super::{AccountKind, truncated};
use super::calendar::{YEAR, working};
use super::month_end_clerk::MonthEndClerk;
use super::term::OrderTerm;

/// Products and their list prices for a year, in hundredths.
pub const PRODUCTS: [(&str, i64); 8] = [
    ("GeoTrust DV SSL", 14_900),
    ("Basic DV", 21_800),
    ("Basic OV", 26_800),
    ("Basic EV", 34_400),
    ("Secure Site OV", 39_900),
    ("GeoTrust Wildcard", 68_800),
    ("Secure Site EV", 99_500),
    ("Secure Site Pro EV", 149_900),
];
/// Index of the first wildcard product. Products before it are for single names.
pub const WILDCARD: usize = 5;
/// Size of the largest order, as a multiple of a usual one, and of the largest new order.
const LARGEST: [f64; 2] = [60.0, 4.0];
/// First simulated day: two years before the ledger begins, so that the account has reached its normal state.
const BEGINS_DAY: i64 = -1130;
/// Lead of automatic renewals, in days.
const AUTO_RENEWAL_DAYS: i64 = 30;

/// Traits of one account.
pub struct AccountTraits {
    pub kind: AccountKind,
    /// First day of the account.
    pub begins: i64,
    /// Approximate number of renewals a year.
    pub renewals: f64,
    /// Probability that an order is renewed.
    pub share: f64,
    /// Probability for orders that end on this day or later, if it differs.
    pub changed_share: Option<(i64, f64)>,
    /// Mean lead in days, and its relative standard deviation.
    pub lead: f64,
    pub spread: f64,
    /// Probability that a renewal comes after the end.
    pub late: f64,
    /// Days after the end by which a late renewal comes, at most.
    pub latest: i64,
    /// True if late renewals last from their own day on, not from the end of the renewed order.
    pub lasts_from_renewal: bool,
    /// Mean lead of the largest orders, if the lead depends on the size.
    pub lead_of_largest: Option<f64>,
    /// Client of each product, for an agency.
    pub clients: Option<[AgencyClient; PRODUCTS.len()]>,
    /// The one person who renews, if there is one.
    pub clerk: Option<MonthEndClerk>,
    /// Terms in days, if orders are not bought for years.
    pub lengths: Vec<i64>,
    /// Probability that a wildcard replaces an order that would be renewed, and others.
    pub consolidated: f64,
    /// Mean number of new orders on a working day.
    pub new: f64,
    /// Weekly growth of the new orders as a share. `new` is the present number.
    pub growth: f64,
    /// Probability that a new site is given up when its order ends.
    pub one_off: f64,
    /// Probability that a renewal for another product is for a more expensive one.
    pub more_expensive: f64,
    /// Past days on which funds were too low for automatic renewals.
    pub unfunded: Vec<RangeInclusive<i64>>,
    /// Relative frequency of each product.
    pub product_weights: [f64; PRODUCTS.len()],
    pub divisions: u64,
    /// Share of the sites that are paid by card.
    pub card: f64,
    /// Day of the year on which list prices rise.
    pub rise_day: i64,
    /// Approximate size of a deposit, in days of spend.
    pub deposit: f64,
    /// Days in which a young account migrated its sites; `None` if it grew from nothing.
    pub migration: Option<i64>,
}

/// A client for whom an agency buys one product.
pub struct AgencyClient {
    share: f64,
    lead: f64,
    pays_by_card: bool,
}

impl AccountTraits {
    pub fn new(kind: AccountKind, rng: &mut ChaCha8Rng) -> Self {
        let renewals = 20.0 * 20.0_f64.powf(rng.random());
        let mut traits = Self {
            kind,
            begins: BEGINS_DAY,
            renewals,
            share: rng.random_range(0.8..0.97),
            lead: rng.random_range(3.0..60.0),
            spread: rng.random_range(0.15..0.6),
            late: rng.random_range(0.0..0.08),
            latest: 5,
            lasts_from_renewal: false,
            lead_of_largest: None,
            clients: None,
            clerk: None,
            lengths: Vec::new(),
            consolidated: 0.0,
            changed_share: None,
            new: rng.random_range(0.1..0.3) * renewals / 260.0,
            growth: 0.0,
            one_off: 0.0,
            more_expensive: 0.5,
            unfunded: Vec::new(),
            product_weights: std::array::from_fn(|_| rng.random::<f64>().powi(3)),
            divisions: 1,
            card: 0.0,
            rise_day: rng.random_range(0..YEAR),
            deposit: rng.random_range(45.0..120.0),
            migration: None,
        };
        traits.draw_tuned(rng);
        traits
    }

    /// Draws the traits of the other kinds.
    fn draw_tuned(&mut self, rng: &mut ChaCha8Rng) {
        let renewals = self.renewals;
        match self.kind {
            AccountKind::RenewalsDeclining => {
                self.share = rng.random_range(0.45..0.75);
                self.new = rng.random_range(0.0..0.03) * renewals / 260.0;
            }
            AccountKind::EverySecondNew => {
                self.new = renewals / 260.0;
                self.one_off = rng.random_range(0.6..0.9);
            }
            AccountKind::YoungerThanAYear => {
                self.begins = -rng.random_range(84..=330);
                self.migration = rng.random_bool(0.6).then(|| rng.random_range(14..=56));
            }
            AccountKind::SharedByDivisions => self.divisions = rng.random_range(3..=6),
            AccountKind::PartlyPaidByCard => self.card = rng.random_range(0.2..0.6),
            _ => {
                self.draw_once_held_out(rng);
                self.draw_held_out(rng);
            }
        }
    }

    /// Draws the traits of the kinds that were held out at first.
    fn draw_once_held_out(&mut self, rng: &mut ChaCha8Rng) {
        match self.kind {
            AccountKind::RenewalsByAutomation => {
                self.share = rng.random_range(0.9..0.99);
                self.late = 0.0;
                self.new = rng.random_range(0.0..0.04) * self.renewals / 260.0;
                for _ in 0..rng.random_range(0..=4) {
                    let first = -rng.random_range(20..=730);
                    self.unfunded.push(first..=first + rng.random_range(2..=12));
                }
            }
            AccountKind::RenewalsInOneMonth => {
                self.lead = rng.random_range(14.0..45.0);
                self.new = rng.random_range(0.02..0.1) * self.renewals / 260.0;
            }
            AccountKind::GrowingByRenewals => {
                self.new = rng.random_range(0.4..1.2) * self.renewals / 260.0;
                self.growth = rng.random_range(0.02..0.04);
            }
            AccountKind::ProductChange => self.more_expensive = rng.random_range(0.2..0.8),
            AccountKind::ChangingShare => {
                let (high, low) = (rng.random_range(0.9..0.97), rng.random_range(0.5..0.7));
                let day = -rng.random_range(30..=330);
                let falls = rng.random_bool(0.5);
                self.share = if falls { high } else { low };
                self.changed_share = Some((day, if falls { low } else { high }));
                // Before that day, new orders replace those that are not renewed, and slightly more.
                self.new = (1.0 - self.share + rng.random_range(0.0..0.1)) * self.renewals / self.share / 260.0;
            }
            AccountKind::RenewalsAndBatches => {
                self.renewals = rng.random_range(90.0..300.0);
                self.new = rng.random_range(0.0..0.05) * self.renewals / 260.0;
                self.one_off = rng.random_range(0.6..0.9);
            }
            _ => {}
        }
    }

    /// Draws the traits of the kinds that are held out.
    fn draw_held_out(&mut self, rng: &mut ChaCha8Rng) {
        // New orders replace those that are not renewed, and slightly more.
        let makes_up = |lost: f64, renewals: f64, more: f64| (lost + more) * renewals / 260.0;
        match self.kind {
            AccountKind::RenewalsForClients => {
                let clients = std::array::from_fn(|_| AgencyClient {
                    share: rng.random_range(0.5..0.98),
                    lead: rng.random_range(2.0..75.0),
                    pays_by_card: rng.random_bool(0.25),
                });
                let bought = self.product_weights.iter().sum::<f64>();
                let renewed =
                    clients.iter().zip(self.product_weights).map(|(client, weight)| client.share * weight).sum::<f64>();
                self.share = renewed / bought;
                self.spread = rng.random_range(0.1..0.4);
                self.new = makes_up(1.0 - self.share, self.renewals, rng.random_range(0.0..0.05));
                self.clients = Some(clients);
            }
            AccountKind::RenewalsAtMonthEnd => {
                self.clerk = Some(MonthEndClerk::new(self.begins, rng));
                self.lasts_from_renewal = true;
            }
            AccountKind::OrdersOf90To199Days => {
                self.lengths = vec![90, 100, 199];
                self.lengths.remove(rng.random_range(0..3));
                self.share = rng.random_range(0.93..0.99);
                self.lead = rng.random_range(3.0..20.0);
                self.new = makes_up(1.0 - self.share, self.renewals, rng.random_range(0.0..0.02));
            }
            AccountKind::WildcardsReplaceOrders => {
                self.consolidated = rng.random_range(0.03..0.09);
                self.product_weights[WILDCARD..].iter_mut().for_each(|weight| *weight *= 0.2);
                let lost = 1.0 - self.share + 3.5 * self.consolidated;
                self.new = makes_up(lost, self.renewals, 0.0);
            }
            AccountKind::LargeOrdersRenewedEarly => {
                self.lead = rng.random_range(2.0..12.0);
                self.lead_of_largest = Some(rng.random_range(50.0..80.0));
                self.spread = rng.random_range(0.1..0.4);
            }
            AccountKind::RenewalsAfterTheEnd => {
                self.late = rng.random_range(0.35..0.75);
                self.latest = rng.random_range(10..=25);
                self.lasts_from_renewal = true;
                self.lead = rng.random_range(1.0..12.0);
            }
            _ => {}
        }
    }

    /// Draws the size of an order, as a multiple of a usual one.
    pub fn size(&self, is_new: bool, rng: &mut ChaCha8Rng) -> i64 {
        if self.lead_of_largest.is_none() {
            return 1;
        }
        let rare = 1.0 - rng.random::<f64>();
        i64::try_from(truncated(rare.powf(-0.9).min(LARGEST[usize::from(is_new)]))).unwrap()
    }

    /// Returns the probability that an order with this end is renewed. Large orders are nearly always renewed.
    pub fn share_of(&self, ends: i64, product: usize, size: i64) -> f64 {
        let changed = self.changed_share.filter(|(day, _)| ends >= *day).map(|(_, share)| share);
        let share = self.clients.as_ref().map_or(changed.unwrap_or(self.share), |clients| clients[product].share);
        if size == 1 { share } else { 1.0 - (1.0 - share) / as_float(size).sqrt() }
    }

    /// Returns the mean lead in days.
    pub fn lead_of(&self, product: usize, size: i64) -> f64 {
        let lead = self.clients.as_ref().map_or(self.lead, |clients| clients[product].lead);
        let of_largest = self.lead_of_largest.unwrap_or(lead);
        lead + (of_largest - lead) * as_float(size).ln() / LARGEST[0].ln()
    }

    /// Returns the probability that a site is paid by card.
    pub fn card_of(&self, product: usize) -> f64 {
        self.clients.as_ref().map_or(self.card, |clients| f64::from(clients[product].pays_by_card))
    }

    /// Returns the end of a renewal placed on this day.
    pub fn renewal_ends(&self, ends: i64, day: i64, term: OrderTerm) -> i64 {
        match term {
            OrderTerm::Days(days) => day + days,
            OrderTerm::Years(_) if self.lasts_from_renewal => ends.max(day) + term.days(),
            OrderTerm::Years(_) => ends + term.days(),
        }
    }

    /// Returns the day on which an order with this end is renewed: automatically, or by hand once there are funds.
    pub fn automatic_renewal(&self, ends: i64) -> i64 {
        let day = ends - AUTO_RENEWAL_DAYS;
        self.unfunded.iter().find(|days| days.contains(&day)).map_or(day, |days| working(days.end() + 1))
    }

    /// Returns the price level, relative to the first year's list price.
    pub fn price_level(&self, day: i64, rises: &[f64]) -> f64 {
        if self.kind != AccountKind::RenewalsWithPriceRises {
            return 1.0;
        }
        let passed = (day - self.begins + self.rise_day).div_euclid(YEAR);
        rises.iter().take(usize::try_from(passed).unwrap_or_default()).product()
    }

    /// Returns the mean number of new orders on a working day.
    pub fn new_orders(&self, day: i64) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let (passed, weeks) = ((day - self.begins) as f64, day as f64 / 7.0);
        match (self.kind, self.migration) {
            (AccountKind::YoungerThanAYear, None) => self.renewals / 260.0 * (0.1 + passed / 240.0).min(1.0),
            _ => self.new * (1.0 + self.growth).powf(weeks),
        }
    }
}

fn as_float(size: i64) -> f64 {
    f64::from(i32::try_from(size).unwrap())
}
