//! Seeded random numbers, and draws with them.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::share::ShareDistribution;

/// Seed of the random numbers, so that the same history gives the same forecast.
const SEED: u64 = 0x10_37_1d_e0;
/// Mean number of weeks drawn in one run.
const MEAN_RUN_WEEKS: usize = 6;

/// Random numbers from a fixed seed.
pub(super) struct SeededRng(ChaCha8Rng);

impl SeededRng {
    pub(super) fn new() -> Self {
        Self(ChaCha8Rng::seed_from_u64(SEED))
    }

    /// Draws a number below `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        usize::try_from((u64::from(self.0.next_u32()) * count) >> 32).unwrap_or(0)
    }

    /// Draws one of these items. No number is drawn for a single item.
    pub(super) fn any<'a, T>(&mut self, items: &'a [T], none: &'a T) -> &'a T {
        match items {
            [] => none,
            [only] => only,
            items => &items[self.below(items.len())],
        }
    }

    /// Draws one of these past weeks; one of all weeks if the list is empty.
    pub(super) fn week(&mut self, items: &[usize], weeks: usize) -> usize {
        if items.is_empty() { self.below(weeks) } else { items[self.below(items.len())] }
    }

    /// Draws the next past week: mostly the one that followed, so that weeks come in runs, else one of these. With a
    /// cycle, runs are twice as long and do not continue from the last week to the first.
    pub(super) fn next_week(&mut self, week: usize, items: &[usize], weeks: usize) -> usize {
        let (run, last) =
            if items.is_empty() { (MEAN_RUN_WEEKS, false) } else { (2 * MEAN_RUN_WEEKS, week + 1 == weeks) };
        if self.below(run) > 0 && !last { (week + 1) % weeks } else { self.week(items, weeks) }
    }

    /// Draws from a nearly normal distribution with mean 0 and variance 1: the sum of four uniform numbers.
    pub(super) fn normal(&mut self) -> f64 {
        let bytes = self.0.next_u64().to_le_bytes();
        let sum: u32 = bytes.chunks_exact(2).map(|two| u32::from(u16::from_le_bytes([two[0], two[1]]))).sum();
        (f64::from(sum) / 65_536.0 - 2.0) * 1.732_050_8
    }

    /// Draws a number from 0 up to but not including 1.
    pub(super) fn uniform(&mut self) -> f64 {
        f64::from(self.0.next_u32()) / 4_294_967_296.0
    }

    /// Draws one of these options by weight; `all` is the sum of the weights.
    pub(super) fn weighted_choice<'a, T>(
        &mut self,
        options: &'a [T],
        all: f64,
        weight: impl Fn(&T) -> f64,
    ) -> Option<&'a T> {
        let mut left = all * self.uniform();
        let chosen = options.iter().find(|option| {
            left -= weight(option);
            left < 0.0
        });
        chosen.or(options.last())
    }

    /// Draws a share from its distribution.
    pub(super) fn draw_share(&mut self, share: &ShareDistribution) -> f64 {
        let (place, within) = (self.uniform(), self.uniform());
        share.sample(place, within)
    }
}
