//! Days, counted from the present one, which is 0.

use lowtide::domain::Time;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::super::{days, now};

pub const YEAR: i64 = 365;

/// Whether people work on this day; today is a Tuesday.
pub fn is_working(day: i64) -> bool {
    (day + 1).rem_euclid(7) < 5
}

/// The working day that is nearest.
pub fn working(day: i64) -> i64 {
    match (day + 1).rem_euclid(7) {
        5 => day - 1,
        6 => day + 1,
        _ => day,
    }
}

/// This day or the next one that is a Tuesday, like today.
pub fn tuesday(day: i64) -> i64 {
    day + (-day).rem_euclid(7)
}

/// Some time of the working hours; a day begins at 06:00.
pub fn moment(day: i64, chance: &mut ChaCha8Rng) -> Time {
    now() + days(day) + chrono::Duration::seconds(chance.random_range(2 * 3600..11 * 3600))
}
