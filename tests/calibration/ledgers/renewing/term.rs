//! How long orders last.

use super::calendar::YEAR;

/// What an order of one, two and three years costs, in hundredths of a year's price.
const YEARS_PRICE_PERCENT: [i64; 3] = [100, 185, 260];
/// A day of an order that was bought by days, in hundredths of a day of one that was bought for a year.
const DAY_PRICE_PERCENT: i64 = 125;

/// What an order is bought for.
#[derive(Clone, Copy)]
pub enum OrderTerm {
    /// One to three; a renewal adds them to what is left.
    Years(i64),
    /// A renewal begins anew.
    Days(i64),
}

impl OrderTerm {
    pub fn days(self) -> i64 {
        match self {
            Self::Years(years) => years * YEAR,
            Self::Days(days) => days,
        }
    }

    /// What the API calls its years.
    pub fn years(self) -> i64 {
        match self {
            Self::Years(years) => years,
            Self::Days(_) => 0,
        }
    }

    /// What it costs where a year costs so much.
    pub fn price(self, year: i64) -> i64 {
        match self {
            Self::Years(years) => year * YEARS_PRICE_PERCENT[usize::try_from(years - 1).unwrap()] / 100,
            Self::Days(days) => year * days * DAY_PRICE_PERCENT / YEAR / 10_000 * 100,
        }
    }
}
