//! How the pace of spending moves: a set of stories, each scored by how well it would have foretold every week of the ledger
//! from the weeks before it.
//!
//! Only ratios are computed here, never amounts: each week's spend as a share of the mean week's. They are floating point,
//! but made with `+ − × ÷ √` alone, which give the same result everywhere.

use super::history::{Minor, Week};

/// How restless the pace is: the variance of its weekly step as a share of the variance of a week's chance.
const WANDERS: [f64; 5] = [0.0, 0.005, 0.02, 0.08, 0.3];
/// How much it grows a week, as a share of the root of the mean week (so 0.01 is about 2 % of the pace), and how believable
/// that is before the ledger is read.
const SLOPES: [(f64, f64); 7] =
    [(0.0, 0.4), (0.004, 0.1), (-0.004, 0.1), (0.008, 0.1), (-0.008, 0.1), (0.016, 0.1), (-0.016, 0.1)];
/// Nothing is known of the first week's level.
const UNKNOWN: f64 = 1000.0;
/// The least level a past week is taken to have had; what lay below it would be blown up beyond belief.
const LEAST_LEVEL: f64 = 0.3;

/// One way in which the pace may have moved, and will. Levels are roots of shares of the mean week.
pub(super) struct Story {
    /// How believable it is, among all of them.
    pub(super) weight: f64,
    /// The level at the end of the ledger.
    pub(super) level: f64,
    /// How unsure that is: a standard deviation.
    pub(super) unsure: f64,
    /// How far the level steps in a week: a standard deviation.
    pub(super) step: f64,
    /// How much it grows in a week.
    pub(super) slope: f64,
    /// The level that each past week had.
    pub(super) past: Vec<f64>,
}

/// All stories of these weeks; none if nothing was spent.
pub(super) fn stories(body: &[Week]) -> Vec<Story> {
    let totals: Vec<Minor> = body.iter().map(|week| week.iter().sum()).collect();
    let weeks = Minor::try_from(totals.len()).unwrap_or(Minor::MAX).max(1);
    let mean = totals.iter().sum::<Minor>() / weeks;
    if mean == 0 {
        return Vec::new();
    }
    let roots: Vec<f64> = totals.iter().map(|total| share(*total, mean).sqrt()).collect();
    let told = WANDERS.iter().flat_map(|wander| SLOPES.iter().map(|(slope, belief)| (*wander, *slope, *belief)));
    let filtered: Vec<(f64, Filtered)> =
        told.map(|(wander, slope, belief)| (belief, Filtered::new(&roots, wander, slope))).collect();
    let Some(reference) = filtered.first().map(|(_, first)| first.clone()) else { return Vec::new() };
    filtered.into_iter().map(|(belief, it)| it.story(belief, &reference)).collect()
}

/// A ratio of two amounts, to 16 binary places.
fn share(part: Minor, whole: Minor) -> f64 {
    let ratio = i128::from(part) * 65_536 / i128::from(whole.max(1));
    f64::from(i32::try_from(ratio).unwrap_or(i32::MAX)) / 65_536.0
}

/// A ratio as a whole number of 65 536ths, to scale an amount with.
pub(super) fn scale(story: &Story, level: f64, week: usize) -> i64 {
    let then = story.past.get(week).copied().unwrap_or(1.0).max(LEAST_LEVEL);
    let ratio = (level.max(0.0) / then).min(4.0);
    #[allow(clippy::cast_possible_truncation)]
    let scaled = (ratio * ratio * 65_536.0) as i64;
    scaled
}

/// A Kalman filter of a level with chance of variance 1, run over the weeks.
#[derive(Clone)]
struct Filtered {
    wander: f64,
    slope: f64,
    /// Before and after each week: mean and variance.
    before: Vec<(f64, f64)>,
    after: Vec<(f64, f64)>,
    /// Variance of each week's surprise, the first left out.
    surprises: Vec<f64>,
    /// Of the squares of the surprises, each over its variance.
    sum: f64,
}

impl Filtered {
    fn new(roots: &[f64], wander: f64, slope: f64) -> Self {
        let mut it = Self { wander, slope, before: Vec::new(), after: Vec::new(), surprises: Vec::new(), sum: 0.0001 };
        let (mut mean, mut variance) = (1.0, UNKNOWN);
        for (week, root) in roots.iter().enumerate() {
            if week > 0 {
                mean += slope;
                variance += wander;
            }
            it.before.push((mean, variance));
            let (surprise, spread) = (root - mean, variance + 1.0);
            if week > 0 {
                it.surprises.push(spread);
                it.sum += surprise * surprise / spread;
            }
            let gain = variance / spread;
            mean += gain * surprise;
            variance *= 1.0 - gain;
            it.after.push((mean, variance));
        }
        it
    }

    /// How much better it foretold the weeks than the reference did: the ratio of their likelihoods, whatever the variance.
    fn likelihood(&self, reference: &Self) -> f64 {
        let better = (reference.sum / self.sum).sqrt();
        let spreads = self.surprises.iter().zip(&reference.surprises);
        spreads.fold(1.0, |so_far, (own, other)| so_far * (other / own).sqrt() * better)
    }

    fn story(self, belief: f64, reference: &Self) -> Story {
        let weight = belief * self.likelihood(reference);
        let count = f64::from(u32::try_from(self.surprises.len().max(1)).unwrap_or(1));
        let chance = (self.sum / count).sqrt();
        let (level, variance) = self.after.last().copied().unwrap_or((1.0, 0.0));
        let step = self.wander.sqrt() * chance;
        Story { weight, level, unsure: variance.sqrt() * chance, step, slope: self.slope, past: self.smoothed() }
    }

    /// The level of each week as the weeks before and after it tell.
    fn smoothed(&self) -> Vec<f64> {
        let mut levels: Vec<f64> = self.after.iter().map(|(mean, _)| *mean).collect();
        for week in (1..levels.len()).rev() {
            let ((_, own), (foretold, spread)) = (self.after[week - 1], self.before[week]);
            levels[week - 1] += own / spread * (levels[week] - foretold);
        }
        levels
    }
}
