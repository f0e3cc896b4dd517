//! What makes an account of each kind its own.

use std::ops::RangeInclusive;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::super::{AccountKind, truncated};
use super::calendar::{YEAR, working};
use super::clerk::MonthEndClerk;
use super::term::OrderTerm;

/// Products and their list prices for a year.
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
/// Place of the product for all names of a zone; those before it are for single names.
pub const WILDCARD: usize = 5;
/// The largest order costs as much as so many usual ones, and the largest of those that are new.
const LARGEST: [f64; 2] = [60.0, 4.0];
/// The account begins so long ago: two years before its ledger does, so that its habits have settled.
const BEGINS_DAY: i64 = -1130;
/// Automatic renewals are placed so many days before the end.
const AUTO_RENEWAL_DAYS: i64 = 30;

/// What makes an account of a kind its own.
pub struct AccountTraits {
    pub kind: AccountKind,
    /// Its first day.
    pub begins: i64,
    /// Renewals a year, about.
    pub renewals: f64,
    /// The chance that an order is renewed.
    pub share: f64,
    /// The chance for orders that end on this day or later, where it differs.
    pub changed_share: Option<(i64, f64)>,
    /// How many days before the end, on average, and the deviation from it as a share.
    pub lead: f64,
    pub spread: f64,
    /// The chance that a renewal comes after the end.
    pub late: f64,
    /// How many days after the end it comes at most.
    pub latest: i64,
    /// A renewal after the end lasts from its own day on, not from that end.
    pub lasts_from_renewal: bool,
    /// How long before the end the largest orders are renewed, where sizes differ.
    pub lead_of_largest: Option<f64>,
    /// By product, where each is bought for another client.
    pub clients: Option<[AgencyClient; PRODUCTS.len()]>,
    /// Who renews, where it is one person.
    pub clerk: Option<MonthEndClerk>,
    /// Days that orders are bought for, where it is not years.
    pub lengths: Vec<i64>,
    /// The chance that a wildcard takes the place of an order that would be renewed, and of others.
    pub consolidated: f64,
    /// New orders a working day, on average.
    pub new: f64,
    /// By how much new orders rise each week, as a share; the average above is today's.
    pub growth: f64,
    /// The chance that a new site is given up when its order ends.
    pub one_off: f64,
    /// The chance that a renewal for another product is for a dearer one.
    pub dearer: f64,
    /// Days of the past on which funds did not suffice for automatic renewals.
    pub unfunded: Vec<RangeInclusive<i64>>,
    /// How much each product is bought.
    pub product_weights: [f64; PRODUCTS.len()],
    pub divisions: u64,
    /// The share of the sites that are paid by card.
    pub card: f64,
    /// The day of a year on which the list prices rise.
    pub rise_day: i64,
    /// Deposits are about so many days' worth.
    pub deposit: f64,
    /// A young account moved its sites here in so many days; else it grows from nothing.
    pub migration: Option<i64>,
}

/// For whom an agency buys one of the products.
pub struct AgencyClient {
    share: f64,
    lead: f64,
    pays_by_card: bool,
}

impl AccountTraits {
    pub fn new(kind: AccountKind, chance: &mut ChaCha8Rng) -> Self {
        let renewals = 20.0 * 20.0_f64.powf(chance.random());
        let mut traits = Self {
            kind,
            begins: BEGINS_DAY,
            renewals,
            share: chance.random_range(0.8..0.97),
            lead: chance.random_range(3.0..60.0),
            spread: chance.random_range(0.15..0.6),
            late: chance.random_range(0.0..0.08),
            latest: 5,
            lasts_from_renewal: false,
            lead_of_largest: None,
            clients: None,
            clerk: None,
            lengths: Vec::new(),
            consolidated: 0.0,
            changed_share: None,
            new: chance.random_range(0.1..0.3) * renewals / 260.0,
            growth: 0.0,
            one_off: 0.0,
            dearer: 0.5,
            unfunded: Vec::new(),
            product_weights: std::array::from_fn(|_| chance.random::<f64>().powi(3)),
            divisions: 1,
            card: 0.0,
            rise_day: chance.random_range(0..YEAR),
            deposit: chance.random_range(45.0..120.0),
            migration: None,
        };
        match kind {
            AccountKind::RenewalsDeclining => {
                traits.share = chance.random_range(0.45..0.75);
                traits.new = chance.random_range(0.0..0.03) * renewals / 260.0;
            }
            AccountKind::EverySecondNew => {
                traits.new = renewals / 260.0;
                traits.one_off = chance.random_range(0.6..0.9);
            }
            AccountKind::YoungerThanAYear => {
                traits.begins = -chance.random_range(84..=330);
                traits.migration = chance.random_bool(0.6).then(|| chance.random_range(14..=56));
            }
            AccountKind::SharedByDivisions => traits.divisions = chance.random_range(3..=6),
            AccountKind::PartlyPaidByCard => traits.card = chance.random_range(0.2..0.6),
            _ => {
                traits.draw_once_held_out(chance);
                traits.draw_held_out(chance);
            }
        }
        traits
    }

    /// Draws the habits of the kinds that were held out at first.
    fn draw_once_held_out(&mut self, chance: &mut ChaCha8Rng) {
        match self.kind {
            AccountKind::RenewalsByAutomation => {
                self.share = chance.random_range(0.9..0.99);
                self.late = 0.0;
                self.new = chance.random_range(0.0..0.04) * self.renewals / 260.0;
                for _ in 0..chance.random_range(0..=4) {
                    let first = -chance.random_range(20..=730);
                    self.unfunded.push(first..=first + chance.random_range(2..=12));
                }
            }
            AccountKind::RenewalsInOneMonth => {
                self.lead = chance.random_range(14.0..45.0);
                self.new = chance.random_range(0.02..0.1) * self.renewals / 260.0;
            }
            AccountKind::GrowingByRenewals => {
                self.new = chance.random_range(0.4..1.2) * self.renewals / 260.0;
                self.growth = chance.random_range(0.02..0.04);
            }
            AccountKind::ProductChange => self.dearer = chance.random_range(0.2..0.8),
            AccountKind::ChangingShare => {
                let (high, low) = (chance.random_range(0.9..0.97), chance.random_range(0.5..0.7));
                let day = -chance.random_range(30..=330);
                let falls = chance.random_bool(0.5);
                self.share = if falls { high } else { low };
                self.changed_share = Some((day, if falls { low } else { high }));
                // Until that day, new orders make up for what is not renewed, and for a little more.
                self.new = (1.0 - self.share + chance.random_range(0.0..0.1)) * self.renewals / self.share / 260.0;
            }
            AccountKind::RenewalsAndBatches => {
                self.renewals = chance.random_range(90.0..300.0);
                self.new = chance.random_range(0.0..0.05) * self.renewals / 260.0;
                self.one_off = chance.random_range(0.6..0.9);
            }
            _ => {}
        }
    }

    /// Draws the habits of the kinds that are held out.
    fn draw_held_out(&mut self, chance: &mut ChaCha8Rng) {
        // New orders make up for those that are not renewed, or for a little more.
        let makes_up = |lost: f64, renewals: f64, more: f64| (lost + more) * renewals / 260.0;
        match self.kind {
            AccountKind::RenewalsForClients => {
                let clients = std::array::from_fn(|_| AgencyClient {
                    share: chance.random_range(0.5..0.98),
                    lead: chance.random_range(2.0..75.0),
                    pays_by_card: chance.random_bool(0.25),
                });
                let bought = self.product_weights.iter().sum::<f64>();
                let renewed =
                    clients.iter().zip(self.product_weights).map(|(client, taste)| client.share * taste).sum::<f64>();
                self.share = renewed / bought;
                self.spread = chance.random_range(0.1..0.4);
                self.new = makes_up(1.0 - self.share, self.renewals, chance.random_range(0.0..0.05));
                self.clients = Some(clients);
            }
            AccountKind::RenewalsAtMonthEnd => {
                self.clerk = Some(MonthEndClerk::new(self.begins, chance));
                self.lasts_from_renewal = true;
            }
            AccountKind::OrdersOf90To199Days => {
                self.lengths = vec![90, 100, 199];
                self.lengths.remove(chance.random_range(0..3));
                self.share = chance.random_range(0.93..0.99);
                self.lead = chance.random_range(3.0..20.0);
                self.new = makes_up(1.0 - self.share, self.renewals, chance.random_range(0.0..0.02));
            }
            AccountKind::WildcardsReplaceOrders => {
                self.consolidated = chance.random_range(0.03..0.09);
                self.product_weights[WILDCARD..].iter_mut().for_each(|taste| *taste *= 0.2);
                let lost = 1.0 - self.share + 3.5 * self.consolidated;
                self.new = makes_up(lost, self.renewals, 0.0);
            }
            AccountKind::LargeOrdersRenewedEarly => {
                self.lead = chance.random_range(2.0..12.0);
                self.lead_of_largest = Some(chance.random_range(50.0..80.0));
                self.spread = chance.random_range(0.1..0.4);
            }
            AccountKind::RenewalsAfterTheEnd => {
                self.late = chance.random_range(0.35..0.75);
                self.latest = chance.random_range(10..=25);
                self.lasts_from_renewal = true;
                self.lead = chance.random_range(1.0..12.0);
            }
            _ => {}
        }
    }

    /// How many usual orders one for a new site or an older one is worth.
    pub fn size(&self, is_new: bool, chance: &mut ChaCha8Rng) -> i64 {
        if self.lead_of_largest.is_none() {
            return 1;
        }
        let rare = 1.0 - chance.random::<f64>();
        i64::try_from(truncated(rare.powf(-0.9).min(LARGEST[usize::from(is_new)]))).unwrap()
    }

    /// The chance that an order with this end is renewed. Large ones seldom are not.
    pub fn share_of(&self, ends: i64, product: usize, size: i64) -> f64 {
        let changed = self.changed_share.filter(|(day, _)| ends >= *day).map(|(_, share)| share);
        let share = self.clients.as_ref().map_or(changed.unwrap_or(self.share), |clients| clients[product].share);
        if size == 1 { share } else { 1.0 - (1.0 - share) / as_float(size).sqrt() }
    }

    /// How many days before the end, on average.
    pub fn lead_of(&self, product: usize, size: i64) -> f64 {
        let lead = self.clients.as_ref().map_or(self.lead, |clients| clients[product].lead);
        let of_largest = self.lead_of_largest.unwrap_or(lead);
        lead + (of_largest - lead) * as_float(size).ln() / LARGEST[0].ln()
    }

    /// The chance that a site is paid by card.
    pub fn card_of(&self, product: usize) -> f64 {
        self.clients.as_ref().map_or(self.card, |clients| f64::from(clients[product].pays_by_card))
    }

    /// The end of a renewal that is placed on this day.
    pub fn renewal_ends(&self, ends: i64, day: i64, term: OrderTerm) -> i64 {
        match term {
            OrderTerm::Days(days) => day + days,
            OrderTerm::Years(_) if self.lasts_from_renewal => ends.max(day) + term.days(),
            OrderTerm::Years(_) => ends + term.days(),
        }
    }

    /// The day on which an order with this end is renewed automatically, or by hand, once there were funds.
    pub fn automatic_renewal(&self, ends: i64) -> i64 {
        let day = ends - AUTO_RENEWAL_DAYS;
        self.unfunded.iter().find(|days| days.contains(&day)).map_or(day, |days| working(days.end() + 1))
    }

    /// Of the first year's list price.
    pub fn price_level(&self, day: i64, rises: &[f64]) -> f64 {
        if self.kind != AccountKind::RenewalsWithPriceRises {
            return 1.0;
        }
        let passed = (day - self.begins + self.rise_day).div_euclid(YEAR);
        rises.iter().take(usize::try_from(passed).unwrap_or_default()).product()
    }

    /// New orders on a working day, on average.
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
