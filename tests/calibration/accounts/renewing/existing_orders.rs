//! Orders that exist when the simulation of an account begins.

use rand::RngExt as _;

use super::super::{AFTER, AccountKind, truncated};
use super::calendar::{YEAR, working};
use super::term::OrderTerm;
use super::{AccountEvent, RenewingAccount};

/// Days within which the orders of an account that renews in one month end.
const MONTH: i64 = 28;

impl RenewingAccount {
    /// Places the existing orders, each of which is a renewal.
    pub(super) fn place_existing_orders(&mut self) {
        let begins = self.traits.begins;
        if self.traits.kind == AccountKind::RenewalsAndBatches {
            self.plan_batches();
        }
        match (self.traits.kind, self.traits.migration) {
            (AccountKind::YoungerThanAYear, Some(weeks)) => {
                for _ in 0..truncated(self.traits.renewals / self.traits.share) {
                    let day = working(begins + self.rng.random_range(0..=weeks)).max(begins);
                    self.events.entry(day).or_default().push(AccountEvent::Move);
                }
            }
            (AccountKind::YoungerThanAYear, None) => {}
            (AccountKind::RenewalsInWaves, _) => self.place_waves(),
            (AccountKind::OrdersOf90To199Days, _) => self.place_orders_by_days(),
            (AccountKind::MultiYearMixed, _) => {
                for years in 1..=3 {
                    for _ in
                        0..truncated(self.traits.renewals / self.traits.share / 3.0) * usize::try_from(years).unwrap()
                    {
                        let end = begins + self.rng.random_range(0..YEAR * years);
                        self.place_older_order(end, OrderTerm::Years(years));
                    }
                }
            }
            (AccountKind::RenewalsInOneMonth, _) => self.place_orders_of_one_month(),
            _ => {
                // A declining account was larger before.
                let declines = self.traits.kind == AccountKind::RenewalsDeclining;
                let years = if declines { -f64::from(i32::try_from(begins).unwrap()) / 365.0 } else { 1.0 };
                for _ in 0..truncated(self.traits.renewals / self.traits.share.powf(years)) {
                    let end = begins + self.rng.random_range(0..YEAR);
                    self.place_older_order(end, OrderTerm::Years(1));
                }
            }
        }
    }

    /// Places orders that end in four to eight waves.
    fn place_waves(&mut self) {
        let begins = self.traits.begins;
        for _ in 0..self.rng.random_range(4..=8) {
            let wave = begins + self.rng.random_range(0..YEAR);
            for _ in 0..self.rng.random_range(10..=40) {
                let end = wave + self.rng.random_range(0..10);
                self.place_older_order(end, OrderTerm::Years(1));
            }
        }
        #[allow(clippy::cast_precision_loss)]
        let renewals = self.orders.len() as f64;
        self.traits.new *= renewals / self.traits.renewals;
    }

    /// Places orders that were bought by days.
    fn place_orders_by_days(&mut self) {
        let begins = self.traits.begins;
        #[allow(clippy::cast_precision_loss)]
        let days = self.traits.lengths.iter().sum::<i64>() as f64 / self.traits.lengths.len() as f64;
        for _ in 0..truncated(self.traits.renewals / self.traits.share * days / 365.0) {
            let term = self.term();
            let end = begins + self.rng.random_range(0..term.days());
            self.place_older_order(end, term);
        }
    }

    /// Places orders of which most end in the same month.
    fn place_orders_of_one_month(&mut self) {
        let begins = self.traits.begins;
        let (month, within) = (self.rng.random_range(0..YEAR), self.rng.random_range(0.7..0.9));
        for _ in 0..truncated(self.traits.renewals / self.traits.share) {
            let in_month = self.rng.random::<f64>() < within;
            let (first, days) = if in_month { (month, MONTH) } else { (0, YEAR) };
            let end = begins + first + self.rng.random_range(0..days);
            self.place_older_order(end, OrderTerm::Years(1));
        }
    }

    /// Schedules batches of new orders, about as many orders as there are renewals.
    fn plan_batches(&mut self) {
        let sizes = 5..=20;
        #[allow(clippy::cast_precision_loss)]
        let usual = (sizes.start() + sizes.end()) as f64 / 2.0;
        #[allow(clippy::cast_precision_loss)]
        let apart = YEAR as f64 * usual / self.traits.renewals;
        let (mut day, end) = (self.traits.begins, i64::try_from(AFTER).unwrap());
        while day < end {
            let size = self.rng.random_range(sizes.clone());
            day += i64::try_from(truncated(apart * self.rng.random_range(0.5..1.5))).unwrap().max(1);
            self.events.entry(working(day)).or_default().push(AccountEvent::Batch(size));
        }
    }

    fn place_older_order(&mut self, end: i64, term: OrderTerm) {
        let product = self.product();
        let site = self.site(product, term, false);
        self.place(site, end - term.days(), end);
    }
}
