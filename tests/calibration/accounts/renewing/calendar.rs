//! Days, counted from the present one, which is 0.

use lowtide::domain::Time;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::super::{days, now};

pub const YEAR: i64 = 365;

/// Reports whether a day is a working day. The present day is a Tuesday.
pub fn is_working(day: i64) -> bool {
    (day + 1).rem_euclid(7) < 5
}

/// Returns the nearest working day.
pub fn working(day: i64) -> i64 {
    match (day + 1).rem_euclid(7) {
        5 => day - 1,
        6 => day + 1,
        _ => day,
    }
}

/// Returns the first Tuesday from this day on.
pub fn tuesday(day: i64) -> i64 {
    day + (-day).rem_euclid(7)
}

/// Draws a time within the working hours. Days begin at 06:00.
pub fn moment(day: i64, rng: &mut ChaCha8Rng) -> Time {
    now() + days(day) + chrono::Duration::seconds(rng.random_range(2 * 3600..11 * 3600))
}
