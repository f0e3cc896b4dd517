//! Accounts in which one person renews everything at the end of each month.

use std::ops::RangeInclusive;

use chrono::{Datelike as _, NaiveDate};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::super::{AFTER, days, now};
use super::calendar::{YEAR, is_working};

/// A person who renews orders at the end of each month, or on the first day after a holiday.
pub struct MonthEndClerk {
    /// Working days between the day of the renewals and the last one of the month.
    before: usize,
    /// Days ahead within which an order must end to be renewed.
    reach: i64,
    /// Holidays, at about the same time each year.
    holidays: Vec<RangeInclusive<i64>>,
}

impl MonthEndClerk {
    pub fn new(begins: i64, rng: &mut ChaCha8Rng) -> Self {
        let (before, reach, usual) = (rng.random_range(0..=4), rng.random_range(35..=55), rng.random_range(0..YEAR));
        let mut holidays = Vec::new();
        for year in (begins - YEAR..i64::try_from(AFTER).unwrap() + YEAR).step_by(365) {
            let first = year + usual + rng.random_range(-7..=7);
            holidays.push(first..=first + rng.random_range(13..=22));
        }
        Self { before, reach, holidays }
    }

    /// Returns the day on which an order with this end is renewed.
    pub fn renewal_day(&self, ends: i64) -> i64 {
        let opens = date(ends - self.reach);
        let month = opens.year() * 12 + opens.month0().cast_signed();
        // Holidays can postpone a month's renewals until the month after the next.
        let mut days = (month - 2..=month + 3).map(|month| self.day_of(month));
        days.find(|day| day + self.reach >= ends).unwrap()
    }

    /// Returns the day of a month's renewals. Months are counted from year 0.
    fn day_of(&self, month: i32) -> i64 {
        let next = month + 1;
        let first = NaiveDate::from_ymd_opt(next.div_euclid(12), next.rem_euclid(12).unsigned_abs() + 1, 1).unwrap();
        let end = (first - now().date_naive()).num_days();
        let usual = (1..).map(|back| end - back).filter(|day| is_working(*day)).nth(self.before).unwrap();
        (usual..usual + YEAR).find(|day| is_working(*day) && !self.is_away(*day)).unwrap()
    }

    fn is_away(&self, day: i64) -> bool {
        let date = date(day);
        let turn_of_the_year = date.month() == 12 && date.day() >= 22 || date.month() == 1 && date.day() <= 4;
        turn_of_the_year || self.holidays.iter().any(|days| days.contains(&day))
    }
}

fn date(day: i64) -> NaiveDate {
    now().date_naive() + days(day)
}
