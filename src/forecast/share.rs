//! A share of which only some cases are known, such as that of orders that are renewed, or paid from the balance.
//!
//! A beta distribution on a grid, made with `+ − × ÷` alone, which give the same result everywhere.

use rust_decimal::prelude::ToPrimitive as _;

/// Places of the grid.
const PLACES: usize = 128;

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
        let whole = |cases: f64, prior: u32| (cases * scale).round() + f64::from(prior.saturating_sub(1));
        let (hits, misses) = (whole(hits, prior.0), whole(misses, prior.1));
        let mut weights = [1.0; PLACES];
        let mut step = |share: fn(f64) -> f64| {
            let mut all = 0.0;
            for (place, weight) in weights.iter_mut().enumerate() {
                *weight *= share(middle(place));
                all += *weight;
            }
            // Kept near 1, so that no likelihood becomes too small for a number.
            for weight in &mut weights {
                *weight /= all;
            }
        };
        (0..hits.to_u32().unwrap_or(0)).for_each(|_| step(|share| share));
        (0..misses.to_u32().unwrap_or(0)).for_each(|_| step(|share| 1.0 - share));
        let all: f64 = weights.iter().sum();
        let mut so_far = 0.0;
        let up_to = weights.map(|weight| {
            so_far += weight / all;
            so_far
        });
        let mean = weights.iter().enumerate().map(|(place, weight)| middle(place) * weight / all).sum();
        Self { up_to, mean }
    }

    /// Its mean.
    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    /// One of the shares that it may be, chosen by two numbers from 0 to 1.
    pub(super) fn drawn(&self, place: f64, within: f64) -> f64 {
        let place = self.up_to.partition_point(|up_to| *up_to <= place).min(PLACES - 1);
        (count(place) + within) / count(PLACES)
    }
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
}
