//! Random choices of the simulation, all from seeded generators.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use super::DAY;

/// Length of a working day, which begins at the hour of the scenario's start.
const WORKING_DAY_SECONDS: u64 = 9 * 3600;

/// Creates the generator of one stream of random numbers.
pub(super) fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

/// Returns `per_week` moments of a week; a fraction is the probability of one more.
pub(super) fn moments_of_week(per_week: Decimal, random: &mut ChaCha8Rng) -> Vec<Duration> {
    let (whole, fraction) = (per_week.to_u32().unwrap_or_default(), per_week.fract());
    let one_more = !fraction.is_zero() && Decimal::new(random.random_range(0..100), 2) < fraction;
    (0..whole + u32::from(one_more)).map(|_| in_working_hours(random)).collect()
}

/// Returns a moment in working hours, counted from the start of the week.
fn in_working_hours(random: &mut ChaCha8Rng) -> Duration {
    let (day, second) = (random.random_range(0..5), random.random_range(0..WORKING_DAY_SECONDS));
    DAY * day + Duration::from_secs(second)
}

/// Returns a distinct id for each number, in no apparent order.
pub(super) fn scrambled_id(number: u64) -> u64 {
    // 48271 is a primitive root of this prime, so every residue occurs once.
    10_000_000 + (number + 1) * 48_271 % 2_147_483_647
}
