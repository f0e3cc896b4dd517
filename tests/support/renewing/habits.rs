//! What makes an account of each kind its own.

use std::ops::RangeInclusive;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::super::Kind;
use super::calendar::{YEAR, working};

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
/// The account begins so long ago: two years before its ledger does, so that its habits have settled.
const BEGINNING: i64 = -1130;
/// Automatic renewals are placed so many days before the end.
const AUTOMATIC: i64 = 30;

/// What makes an account of a kind its own.
pub struct Habits {
    pub kind: Kind,
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
    pub tastes: [f64; PRODUCTS.len()],
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

impl Habits {
    pub fn new(kind: Kind, chance: &mut ChaCha8Rng) -> Self {
        let renewals = 20.0 * 20.0_f64.powf(chance.random());
        let mut habits = Self {
            kind,
            begins: BEGINNING,
            renewals,
            share: chance.random_range(0.8..0.97),
            lead: chance.random_range(3.0..60.0),
            spread: chance.random_range(0.15..0.6),
            late: chance.random_range(0.0..0.08),
            changed_share: None,
            new: chance.random_range(0.1..0.3) * renewals / 260.0,
            growth: 0.0,
            one_off: 0.0,
            dearer: 0.5,
            unfunded: Vec::new(),
            tastes: std::array::from_fn(|_| chance.random::<f64>().powi(3)),
            divisions: 1,
            card: 0.0,
            rise_day: chance.random_range(0..YEAR),
            deposit: chance.random_range(45.0..120.0),
            migration: None,
        };
        match kind {
            Kind::RenewalsDeclining => {
                habits.share = chance.random_range(0.45..0.75);
                habits.new = chance.random_range(0.0..0.03) * renewals / 260.0;
            }
            Kind::EverySecondNew => {
                habits.new = renewals / 260.0;
                habits.one_off = chance.random_range(0.6..0.9);
            }
            Kind::YoungerThanAYear => {
                habits.begins = -chance.random_range(84..=330);
                habits.migration = chance.random_bool(0.6).then(|| chance.random_range(14..=56));
            }
            Kind::SharedByDivisions => habits.divisions = chance.random_range(3..=6),
            Kind::PartlyPaidByCard => habits.card = chance.random_range(0.2..0.6),
            _ => habits.draw_held_out(chance),
        }
        habits
    }

    /// Draws the habits of the kinds that are held out.
    fn draw_held_out(&mut self, chance: &mut ChaCha8Rng) {
        match self.kind {
            Kind::RenewalsByAutomation => {
                self.share = chance.random_range(0.9..0.99);
                self.late = 0.0;
                self.new = chance.random_range(0.0..0.04) * self.renewals / 260.0;
                for _ in 0..chance.random_range(0..=4) {
                    let first = -chance.random_range(20..=730);
                    self.unfunded.push(first..=first + chance.random_range(2..=12));
                }
            }
            Kind::RenewalsInOneMonth => {
                self.lead = chance.random_range(14.0..45.0);
                self.new = chance.random_range(0.02..0.1) * self.renewals / 260.0;
            }
            Kind::GrowingByRenewals => {
                self.new = chance.random_range(0.4..1.2) * self.renewals / 260.0;
                self.growth = chance.random_range(0.02..0.04);
            }
            Kind::ProductChange => self.dearer = chance.random_range(0.2..0.8),
            Kind::ChangingShare => {
                let (high, low) = (chance.random_range(0.9..0.97), chance.random_range(0.5..0.7));
                let day = -chance.random_range(30..=330);
                let falls = chance.random_bool(0.5);
                self.share = if falls { high } else { low };
                self.changed_share = Some((day, if falls { low } else { high }));
                // Until that day, new orders make up for what is not renewed, and for a little more.
                self.new = (1.0 - self.share + chance.random_range(0.0..0.1)) * self.renewals / self.share / 260.0;
            }
            Kind::RenewalsAndBatches => {
                self.renewals = chance.random_range(90.0..300.0);
                self.new = chance.random_range(0.0..0.05) * self.renewals / 260.0;
                self.one_off = chance.random_range(0.6..0.9);
            }
            _ => {}
        }
    }

    /// The chance that an order with this end is renewed.
    pub fn share_of(&self, ends: i64) -> f64 {
        self.changed_share.filter(|(day, _)| ends >= *day).map_or(self.share, |(_, share)| share)
    }

    /// The day on which an order with this end is renewed automatically, or by hand, once there were funds.
    pub fn automatic_renewal(&self, ends: i64) -> i64 {
        let day = ends - AUTOMATIC;
        self.unfunded.iter().find(|days| days.contains(&day)).map_or(day, |days| working(days.end() + 1))
    }

    /// Of the first year's list price.
    pub fn price_level(&self, day: i64, rises: &[f64]) -> f64 {
        if self.kind != Kind::RenewalsWithPriceRises {
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
            (Kind::YoungerThanAYear, None) => self.renewals / 260.0 * (0.1 + passed / 240.0).min(1.0),
            _ => self.new * (1.0 + self.growth).powf(weeks),
        }
    }
}
