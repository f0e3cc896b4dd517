//! Days around the end of an order within which it can be renewed, and arithmetic on days.
//!
//! The limits differ because the evidence does: a matching name is strong evidence of a renewal, a matching price is
//! weak.

use chrono::{Days, NaiveDate};

/// Days before the end of an order from which on it can be renewed. The documented limit is 90; two more allow for
/// other time zones.
pub(super) const MAX_DAYS_BEFORE_END: i64 = 92;
/// Days after its end up to which an order can still be renewed.
pub(super) const MAX_DAYS_LATE: i32 = 30;
/// Days after its end up to which a renewal is recognised by its price alone. Prices repeat, so that a wider window
/// would match unrelated purchases.
pub(super) const MAX_DAYS_LATE_BY_PRICE: i64 = 7;
/// Days after its end for which an order may still be renewed, even if this account has renewed none late so far.
pub(super) const MIN_DAYS_LATE: i32 = 7;
/// Longest lead of the model, in days. It exceeds `MAX_DAYS_BEFORE_END`, since leads are compared after subtracting
/// the effect of the order's size, which can make them longer.
pub(super) const MAX_LEAD_DAYS: i32 = 100;

/// Returns the days from one day to another.
pub(super) fn days_between(from: NaiveDate, to: NaiveDate) -> i32 {
    i32::try_from((to - from).num_days()).unwrap_or(i32::MAX)
}

/// Returns the day `days` days before another.
pub(super) fn days_before(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days)).unwrap_or(NaiveDate::MIN)
}

/// Returns the day `days` days after another.
pub(super) fn days_after(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_add_days(Days::new(days)).unwrap_or(NaiveDate::MAX)
}
