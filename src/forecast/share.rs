//! A share of which only some cases are known, such as that of orders that are renewed, or paid from the balance.
//!
//! A beta distribution on a grid, made with `+ − × ÷` alone, which give the same result everywhere.

use rust_decimal::prelude::ToPrimitive as _;

/// Places of the grid.
const PLACES: usize = 128;
/// Probability, before any case is seen, that a share changed among them.
const CHANGED: f64 = 0.2;
/// Parameters of the beta distribution of a share of which nothing is known.
const EVEN: [f64; 2] = [1.0; 2];

/// An order whose share is learnt: whether it was renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// True if it is a renewal itself: such orders have a share of their own.
    pub(super) is_renewal: bool,
    pub(super) hit: bool,
}

/// The distribution of a share.
#[derive(Debug, Clone)]
pub(super) struct Share {
    /// Probability that the share is not above each place of the grid.
    up_to: [f64; PLACES],
    mean: f64,
}

impl Share {
    /// So many cases of one kind and of the other, on top of a prior: the two parameters of a beta distribution, at least 1.
    /// More cases than `most` make the share no more certain.
    pub(super) fn new((hits, misses): (usize, usize), prior: (u32, u32), most: u32) -> Self {
        let (hits, misses) = (count(hits), count(misses));
        let scale = (f64::from(most) / (hits + misses).max(1.0)).min(1.0);
        let whole = |cases: f64| (cases * scale).round().to_u32().unwrap_or(0);
        let mut curve = Curve::new(prior);
        (0..whole(hits)).for_each(|_| curve.add(true));
        (0..whole(misses)).for_each(|_| curve.add(false));
        Self::of(&curve.weights)
    }

    /// The share at the end of these cases, oldest first, of which one kind counts. It may have changed before any of them, with the
    /// probabilities that `changed` gives. No more than the newest `most` make it more certain.
    pub(super) fn at_the_end(
        cases: &[Case],
        counts: impl Fn(&Case) -> bool,
        changed: &[f64],
        prior: (u32, u32),
        most: u32,
    ) -> Self {
        let mut curve = Curve::new(prior);
        let mut mixed = [0.0; PLACES];
        let mut left = most;
        for (case, belief) in cases.iter().zip(changed).rev() {
            if left > 0 && counts(case) {
                curve.add(case.hit);
                left -= 1;
            }
            for (mixed, weight) in mixed.iter_mut().zip(&curve.weights) {
                *mixed += belief * weight;
            }
        }
        if cases.is_empty() { Self::of(&curve.weights) } else { Self::of(&mixed) }
    }

    fn of(weights: &[f64; PLACES]) -> Self {
        let all: f64 = weights.iter().sum();
        let mut so_far = 0.0;
        let up_to = weights.map(|weight| {
            so_far += weight / all;
            so_far
        });
        let mean = weights.iter().enumerate().map(|(place, weight)| middle(place) * weight / all).sum();
        Self { up_to, mean }
    }

    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    /// One of the shares that it may be, chosen by two numbers from 0 to 1.
    pub(super) fn drawn(&self, place: f64, within: f64) -> f64 {
        let place = self.up_to.partition_point(|up_to| *up_to <= place).min(PLACES - 1);
        (count(place) + within) / count(PLACES)
    }
}

/// A distribution on the grid, of which the sum is kept at 1.
struct Curve {
    weights: [f64; PLACES],
}

impl Curve {
    fn new(prior: (u32, u32)) -> Self {
        let mut curve = Self { weights: [1.0; PLACES] };
        (1..prior.0).for_each(|_| curve.add(true));
        (1..prior.1).for_each(|_| curve.add(false));
        curve
    }

    fn add(&mut self, hit: bool) {
        let mut all = 0.0;
        for (place, weight) in self.weights.iter_mut().enumerate() {
            *weight *= if hit { middle(place) } else { 1.0 - middle(place) };
            all += *weight;
        }
        for weight in &mut self.weights {
            *weight /= all;
        }
    }
}

/// Probabilities that the shares of both kinds of cases changed for good before each of these cases, oldest first; at the place of the
/// first case, that they never did.
pub(super) fn changed(cases: &[Case]) -> Vec<f64> {
    let likelihoods = |cases: &mut dyn Iterator<Item = &Case>| -> Vec<f64> {
        let (mut known, mut likelihood) = ([EVEN; 2], 1.0);
        let mut after = vec![1.0];
        for case in cases {
            let [misses, hits] = known[usize::from(case.is_renewal)];
            likelihood *= if case.hit { hits } else { misses } / (hits + misses);
            known[usize::from(case.is_renewal)][usize::from(case.hit)] += 1.0;
            after.push(likelihood);
        }
        after
    };
    let (before, after) = (likelihoods(&mut cases.iter()), likelihoods(&mut cases.iter().rev()));
    let each = CHANGED / count(cases.len().saturating_sub(1).max(1));
    let belief = |place: usize| match place {
        0 => (1.0 - CHANGED) * after[cases.len()],
        place => each * before[place] * after[cases.len() - place],
    };
    let beliefs: Vec<f64> = (0..cases.len()).map(belief).collect();
    let all: f64 = beliefs.iter().sum();
    beliefs.into_iter().map(|belief| belief / all).collect()
}

fn middle(place: usize) -> f64 {
    (count(place) + 0.5) / count(PLACES)
}

fn count(cases: usize) -> f64 {
    cases.to_f64().unwrap_or(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(hits: usize, misses: usize) -> Share {
        Share::new((hits, misses), (1, 1), 100)
    }

    #[test]
    fn a_share_is_as_certain_as_the_cases_that_are_known() {
        let width = |share: &Share| share.drawn(0.95, 0.5) - share.drawn(0.05, 0.5);
        let (few, many) = (share(9, 1), share(90, 10));
        assert!((few.mean() - 10.0 / 12.0).abs() < 0.01 && (many.mean() - 91.0 / 102.0).abs() < 0.01);
        assert!(width(&few) > 2.0 * width(&many));
        let more = share(9_000_000_000, 1_000_000_000);
        assert!((width(&more) - width(&many)).abs() < 0.02 && (more.mean() - many.mean()).abs() < 0.01);
    }

    #[test]
    fn without_cases_the_prior_says_all() {
        let share = Share::new((0, 0), (6, 1), 100);
        assert!((share.mean() - 6.0 / 7.0).abs() < 0.01);
        assert!(share.drawn(0.0, 0.0) < share.drawn(1.0, 1.0) && share.drawn(1.0, 1.0) <= 1.0);
        let all: Vec<f64> = (0..=10).map(|place| share.drawn(f64::from(place) / 10.0, 0.5)).collect();
        assert!(all.is_sorted());
    }

    fn cases(hits: &[(usize, bool)]) -> Vec<Case> {
        hits.iter().flat_map(|(many, hit)| vec![Case { is_renewal: true, hit: *hit }; *many]).collect()
    }

    #[test]
    fn a_change_is_told_by_the_cases_before_and_after_it() {
        let changed = changed(&cases(&[(30, true), (12, false)]));
        let around: f64 = changed[28..=32].iter().sum();
        assert!(around > 0.95 && (changed.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{around}");
    }

    #[test]
    fn a_change_of_the_mixture_is_none_of_the_shares() {
        let of = |is_renewal, hit| vec![Case { is_renewal, hit }; 20];
        let steady = changed(&[of(true, true), of(false, false), of(true, true), of(false, false)].concat());
        assert!(steady[0] > 0.8, "{}", steady[0]);
    }

    #[test]
    fn a_share_at_the_end_is_that_since_its_change_and_no_surer_than_so_many_cases() {
        let at_the_end = |cases: &[Case]| Share::at_the_end(cases, |_| true, &changed(cases), (1, 1), 100);
        let steady = at_the_end(&cases(&[(9, true), (1, false)].repeat(6)));
        assert!((steady.mean() - 0.9).abs() < 0.05, "{}", steady.mean());
        let fell = at_the_end(&cases(&[(50, true), (25, false)]));
        assert!(fell.mean() < 0.1, "{}", fell.mean());
        let none = at_the_end(&[]);
        assert!((none.mean() - 0.5).abs() < 0.01);
        let capped = Share::at_the_end(&cases(&[(90, true)]), |_| true, &changed(&cases(&[(90, true)])), (1, 1), 8);
        assert!((0.85..0.95).contains(&capped.mean()), "{}", capped.mean());
    }
}
