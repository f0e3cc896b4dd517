//! A share of which only some cases are known, such as that of orders that are renewed, or paid from the balance.
//!
//! A beta distribution on a grid, made with `+ − × ÷` alone, which give the same result everywhere.

use rust_decimal::prelude::ToPrimitive as _;

/// Places of the grid.
const GRID_CELLS: usize = 128;
/// Probability, before any case is seen, that a share changed among them.
const CHANGE_PRIOR: f64 = 0.2;
/// Parameters of the beta distribution of a share of which nothing is known.
const UNIFORM_PRIOR: [f64; 2] = [1.0; 2];

/// An order whose share is learnt: whether it was renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct RenewalOutcome {
    /// True if it is a renewal itself: such orders have a share of their own.
    pub(super) is_renewal: bool,
    pub(super) renewed: bool,
}

/// The distribution of a share.
#[derive(Debug, Clone)]
pub(super) struct ShareDistribution {
    /// Probability that the share is not above each place of the grid.
    cumulative: [f64; GRID_CELLS],
    mean: f64,
}

impl ShareDistribution {
    /// So many cases of one kind and of the other, on top of a prior: the two parameters of a beta distribution, at least 1.
    /// More cases than `most` make the share no more certain.
    pub(super) fn new((hits, misses): (usize, usize), prior: (u32, u32), most: u32) -> Self {
        let (hits, misses) = (as_float(hits), as_float(misses));
        let scale = (f64::from(most) / (hits + misses).max(1.0)).min(1.0);
        let whole = |cases: f64| (cases * scale).round().to_u32().unwrap_or(0);
        let mut curve = GridDistribution::new(prior);
        (0..whole(hits)).for_each(|_| curve.add(true));
        (0..whole(misses)).for_each(|_| curve.add(false));
        Self::from_weights(&curve.weights)
    }

    /// The share at the end of these cases, oldest first, of which one kind counts. It may have changed before any of them, with the
    /// probabilities that `change_probabilities` gives. No more than the newest `most` make it more certain.
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
        for (case, belief) in cases.iter().zip(changed).rev() {
            if left > 0 && counts(case) {
                curve.add(case.renewed);
                left -= 1;
            }
            for (mixed, weight) in mixed.iter_mut().zip(&curve.weights) {
                *mixed += belief * weight;
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
        let mean = weights.iter().enumerate().map(|(place, weight)| cell_middle(place) * weight / all).sum();
        Self { cumulative, mean }
    }

    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    /// One of the shares that it may be, chosen by two numbers from 0 to 1.
    pub(super) fn sample(&self, place: f64, within: f64) -> f64 {
        let place = self.cumulative.partition_point(|up_to| *up_to <= place).min(GRID_CELLS - 1);
        (as_float(place) + within) / as_float(GRID_CELLS)
    }
}

/// A distribution on the grid, of which the sum is kept at 1.
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
        for (place, weight) in self.weights.iter_mut().enumerate() {
            *weight *= if hit { cell_middle(place) } else { 1.0 - cell_middle(place) };
            all += *weight;
        }
        for weight in &mut self.weights {
            *weight /= all;
        }
    }
}

/// Probabilities that the shares of both kinds of cases changed for good before each of these cases, oldest first; at the place of the
/// first case, that they never did.
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
    let belief = |place: usize| match place {
        0 => (1.0 - CHANGE_PRIOR) * after[cases.len()],
        place => each * before[place] * after[cases.len() - place],
    };
    let beliefs: Vec<f64> = (0..cases.len()).map(belief).collect();
    let all: f64 = beliefs.iter().sum();
    beliefs.into_iter().map(|belief| belief / all).collect()
}

fn cell_middle(place: usize) -> f64 {
    (as_float(place) + 0.5) / as_float(GRID_CELLS)
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
        let all: Vec<f64> = (0..=10).map(|place| share.sample(f64::from(place) / 10.0, 0.5)).collect();
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
