//! Distributions of a share, such as the share of orders that are renewed or paid from the balance, of which only
//! some cases are known.
//!
//! A beta distribution on a grid. Only `+ − × ÷` are used, which give the same result on every machine.

use rust_decimal::prelude::ToPrimitive as _;

/// Number of grid cells.
const GRID_CELLS: usize = 128;
/// Prior probability that a share changed within the cases.
const CHANGE_PRIOR: f64 = 0.2;
/// Parameters of a uniform beta distribution.
const UNIFORM_PRIOR: [f64; 2] = [1.0; 2];

/// An ended order, and whether it was renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct RenewalOutcome {
    /// True if the order is itself a renewal. Such orders have a share of their own.
    pub(super) is_renewal: bool,
    pub(super) renewed: bool,
}

/// Distribution of a share.
#[derive(Debug, Clone)]
pub(super) struct ShareDistribution {
    /// Probability that the share is not above the end of each cell.
    cumulative: [f64; GRID_CELLS],
    mean: f64,
}

impl ShareDistribution {
    /// Returns the distribution after these cases and a prior: the two parameters of a beta distribution, at least 1.
    /// More than `most` cases make the share no more certain.
    pub(super) fn new((hits, misses): (usize, usize), prior: (u32, u32), most: u32) -> Self {
        let (hits, misses) = (as_float(hits), as_float(misses));
        let scale = (f64::from(most) / (hits + misses).max(1.0)).min(1.0);
        let whole = |cases: f64| (cases * scale).round().to_u32().unwrap_or(0);
        let mut curve = GridDistribution::new(prior);
        (0..whole(hits)).for_each(|_| curve.add(true));
        (0..whole(misses)).for_each(|_| curve.add(false));
        Self::from_weights(&curve.weights)
    }

    /// Returns the distribution at the end of these cases, oldest first, using those that `counts` selects. The share
    /// may have changed before any case, with the probabilities of [`change_probabilities`]. Only the newest `most`
    /// cases make it more certain.
    pub(super) fn after_changes(
        cases: &[RenewalOutcome],
        counts: impl Fn(&RenewalOutcome) -> bool,
        changed: &[f64],
        prior: (u32, u32),
        most: u32,
    ) -> Self {
        let mut curve = GridDistribution::new(prior);
        let mut mixed = [0.0; GRID_CELLS];
        let mut left = most;
        for (case, probability) in cases.iter().zip(changed).rev() {
            if left > 0 && counts(case) {
                curve.add(case.renewed);
                left -= 1;
            }
            for (mixed, weight) in mixed.iter_mut().zip(&curve.weights) {
                *mixed += probability * weight;
            }
        }
        if cases.is_empty() { Self::from_weights(&curve.weights) } else { Self::from_weights(&mixed) }
    }

    fn from_weights(weights: &[f64; GRID_CELLS]) -> Self {
        let all: f64 = weights.iter().sum();
        let mut so_far = 0.0;
        let cumulative = weights.map(|weight| {
            so_far += weight / all;
            so_far
        });
        let mean = weights.iter().enumerate().map(|(cell, weight)| cell_middle(cell) * weight / all).sum();
        Self { cumulative, mean }
    }

    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    /// Returns a share of the distribution, selected by two numbers from 0 to 1: its cell, and its position in the
    /// cell.
    pub(super) fn sample(&self, cell: f64, within: f64) -> f64 {
        let cell = self.cumulative.partition_point(|up_to| *up_to <= cell).min(GRID_CELLS - 1);
        (as_float(cell) + within) / as_float(GRID_CELLS)
    }
}

/// A distribution on the grid, normalised to 1.
struct GridDistribution {
    weights: [f64; GRID_CELLS],
}

impl GridDistribution {
    fn new(prior: (u32, u32)) -> Self {
        let mut curve = Self { weights: [1.0; GRID_CELLS] };
        (1..prior.0).for_each(|_| curve.add(true));
        (1..prior.1).for_each(|_| curve.add(false));
        curve
    }

    fn add(&mut self, hit: bool) {
        let mut all = 0.0;
        for (cell, weight) in self.weights.iter_mut().enumerate() {
            *weight *= if hit { cell_middle(cell) } else { 1.0 - cell_middle(cell) };
            all += *weight;
        }
        for weight in &mut self.weights {
            *weight /= all;
        }
    }
}

/// Returns for each case the probability that the shares of both kinds of orders changed for good just before it,
/// oldest first. The first value is the probability that they never changed.
pub(super) fn change_probabilities(cases: &[RenewalOutcome]) -> Vec<f64> {
    let likelihoods = |cases: &mut dyn Iterator<Item = &RenewalOutcome>| -> Vec<f64> {
        let (mut known, mut likelihood) = ([UNIFORM_PRIOR; 2], 1.0);
        let mut after = vec![1.0];
        for case in cases {
            let [misses, hits] = known[usize::from(case.is_renewal)];
            likelihood *= if case.renewed { hits } else { misses } / (hits + misses);
            known[usize::from(case.is_renewal)][usize::from(case.renewed)] += 1.0;
            after.push(likelihood);
        }
        after
    };
    let (before, after) = (likelihoods(&mut cases.iter()), likelihoods(&mut cases.iter().rev()));
    let each = CHANGE_PRIOR / as_float(cases.len().saturating_sub(1).max(1));
    let probability = |cell: usize| match cell {
        0 => (1.0 - CHANGE_PRIOR) * after[cases.len()],
        cell => each * before[cell] * after[cases.len() - cell],
    };
    let probabilities: Vec<f64> = (0..cases.len()).map(probability).collect();
    let all: f64 = probabilities.iter().sum();
    probabilities.into_iter().map(|probability| probability / all).collect()
}

fn cell_middle(cell: usize) -> f64 {
    (as_float(cell) + 0.5) / as_float(GRID_CELLS)
}

fn as_float(cases: usize) -> f64 {
    cases.to_f64().unwrap_or(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(hits: usize, misses: usize) -> ShareDistribution {
        ShareDistribution::new((hits, misses), (1, 1), 100)
    }

    #[test]
    fn more_cases_make_a_share_more_certain() {
        let width = |share: &ShareDistribution| share.sample(0.95, 0.5) - share.sample(0.05, 0.5);
        let (few, many) = (share(9, 1), share(90, 10));
        assert!((few.mean() - 10.0 / 12.0).abs() < 0.01 && (many.mean() - 91.0 / 102.0).abs() < 0.01);
        assert!(width(&few) > 2.0 * width(&many));
        let more = share(9_000_000_000, 1_000_000_000);
        assert!((width(&more) - width(&many)).abs() < 0.02 && (more.mean() - many.mean()).abs() < 0.01);
    }

    #[test]
    fn without_cases_the_share_is_the_prior() {
        let share = ShareDistribution::new((0, 0), (6, 1), 100);
        assert!((share.mean() - 6.0 / 7.0).abs() < 0.01);
        assert!(share.sample(0.0, 0.0) < share.sample(1.0, 1.0) && share.sample(1.0, 1.0) <= 1.0);
        let all: Vec<f64> = (0..=10).map(|cell| share.sample(f64::from(cell) / 10.0, 0.5)).collect();
        assert!(all.is_sorted());
    }

    fn cases(hits: &[(usize, bool)]) -> Vec<RenewalOutcome> {
        hits.iter().flat_map(|(many, hit)| vec![RenewalOutcome { is_renewal: true, renewed: *hit }; *many]).collect()
    }

    #[test]
    fn a_change_is_found_between_the_cases_around_it() {
        let changed = change_probabilities(&cases(&[(30, true), (12, false)]));
        let around: f64 = changed[28..=32].iter().sum();
        assert!(around > 0.95 && (changed.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{around}");
    }

    #[test]
    fn a_changed_mixture_is_not_a_changed_share() {
        let of = |is_renewal, renewed| vec![RenewalOutcome { is_renewal, renewed }; 20];
        let steady =
            change_probabilities(&[of(true, true), of(false, false), of(true, true), of(false, false)].concat());
        assert!(steady[0] > 0.8, "{}", steady[0]);
    }

    #[test]
    fn the_latest_share_counts_only_cases_since_its_change() {
        let at_the_end = |cases: &[RenewalOutcome]| {
            ShareDistribution::after_changes(cases, |_| true, &change_probabilities(cases), (1, 1), 100)
        };
        let steady = at_the_end(&cases(&[(9, true), (1, false)].repeat(6)));
        assert!((steady.mean() - 0.9).abs() < 0.05, "{}", steady.mean());
        let fell = at_the_end(&cases(&[(50, true), (25, false)]));
        assert!(fell.mean() < 0.1, "{}", fell.mean());
        let none = at_the_end(&[]);
        assert!((none.mean() - 0.5).abs() < 0.01);
        let capped = ShareDistribution::after_changes(
            &cases(&[(90, true)]),
            |_| true,
            &change_probabilities(&cases(&[(90, true)])),
            (1, 1),
            8,
        );
        assert!((0.85..0.95).contains(&capped.mean()), "{}", capped.mean());
    }
}
