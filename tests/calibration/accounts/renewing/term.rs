//! Terms and prices of orders.

use super::calendar::YEAR;

/// Prices of one, two and three years, in percent of a year's price.
const YEARS_PRICE_PERCENT: [i64; 3] = [100, 185, 260];
/// Price of a day in an order bought by days, in percent of a day in an order for a year.
const DAY_PRICE_PERCENT: i64 = 125;

/// Term of an order.
#[derive(Clone, Copy)]
pub enum OrderTerm {
    /// One to three years; a renewal adds them to the rest of the term.
    Years(i64),
    /// A number of days, counted from the purchase.
    Days(i64),
}

impl OrderTerm {
    pub fn days(self) -> i64 {
        match self {
            Self::Years(years) => years * YEAR,
            Self::Days(days) => days,
        }
    }

    /// Returns the term in years as the API reports it; 0 for terms in days.
    pub fn years(self) -> i64 {
        match self {
            Self::Years(years) => years,
            Self::Days(_) => 0,
        }
    }

    /// Returns the price of the term, given the price of a year.
    pub fn price(self, year: i64) -> i64 {
        match self {
            Self::Years(years) => year * YEARS_PRICE_PERCENT[usize::try_from(years - 1).unwrap()] / 100,
            Self::Days(days) => year * days * DAY_PRICE_PERCENT / YEAR / 10_000 * 100,
        }
    }
}
