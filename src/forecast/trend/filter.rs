//! A Kalman filter that scores a hypothesis against the past weeks.

use super::estimate::TrendEstimate;
use super::hypotheses::TrendHypothesis;

/// Smallest sum of squares, to avoid a division by 0 if no week deviates.
const MIN_SQUARED_SUM: f64 = 1e-8;
/// Largest leverage of a week on its own smoothed level.
const MAX_LEVERAGE: f64 = 0.6;
/// Degrees of freedom that fitting a hypothesis uses up, for the estimate of the noise.
const FITTED_WEEKS: usize = 2;

/// Fit of a hypothesis: how well it predicted each week from earlier ones.
pub(super) struct ModelFit {
    /// Variance of each week's prediction error, without the first week.
    error_variances: Vec<f64>,
    /// Sum of the squared prediction errors, each divided by its variance.
    squared_errors: f64,
}

impl ModelFit {
    pub(super) fn new(roots: &[f64], shares: &[f64], hypothesis: &TrendHypothesis) -> Self {
        let mut fit = Self { error_variances: Vec::with_capacity(roots.len()), squared_errors: MIN_SQUARED_SUM };
        filter(roots, shares, hypothesis, |week, error, variance, _| {
            if week > 0 {
                fit.error_variances.push(variance);
                fit.squared_errors += error * error / variance;
            }
        });
        fit
    }

    /// Returns the likelihood ratio to the reference, with the noise variance integrated out.
    pub(super) fn likelihood(&self, reference: &Self) -> f64 {
        let better = (reference.squared_errors / self.squared_errors).sqrt();
        let variances = self.error_variances.iter().zip(&reference.error_variances);
        variances.fold(1.0, |so_far, (own, other)| so_far * (other / own).sqrt() * better)
    }

    /// Returns the standard deviation of a week's noise.
    pub(super) fn noise(&self) -> f64 {
        let free = self.error_variances.len().saturating_sub(FITTED_WEEKS).max(1);
        (self.squared_errors / f64::from(u32::try_from(free).unwrap_or(1))).sqrt()
    }
}

/// Estimates before and after each week.
pub(super) type FilterRun = Vec<(TrendEstimate, TrendEstimate)>;

/// Runs a Kalman filter of level and slope, with noise of variance 1, over the weeks. Reports the prediction error of
/// each week, its variance, and the estimates before and after the week.
fn filter(
    roots: &[f64],
    shares: &[f64],
    hypothesis: &TrendHypothesis,
    mut report: impl FnMut(usize, f64, f64, (TrendEstimate, TrendEstimate)),
) {
    let mut estimate = hypothesis.initial_estimate();
    for (week, (root, share)) in roots.iter().zip(shares).enumerate() {
        if week > 0 {
            estimate = hypothesis.predict(week, estimate);
        }
        let before = estimate;
        let (error, variance) = (root - estimate.level * share, estimate.level_variance * share * share + 1.0);
        estimate = estimate.updated(error, *share);
        report(week, error, variance, (before, estimate));
    }
}

pub(super) fn filter_run(roots: &[f64], shares: &[f64], hypothesis: &TrendHypothesis) -> FilterRun {
    let mut run = Vec::with_capacity(roots.len());
    filter(roots, shares, hypothesis, |_, _, _, known| run.push(known));
    run
}

/// Returns the residual and root of each week. The residual is the distance from the level that the other weeks
/// suggest, widened by the leverage of the week on that level.
pub(super) fn residuals(forward: &FilterRun, backward: &FilterRun, roots: &[f64], shares: &[f64]) -> Vec<(f64, f64)> {
    let levels = forward.iter().zip(backward.iter().rev()).map(|((_, past), (future, _))| {
        let all = past.level_variance + future.level_variance;
        let level = (past.level * future.level_variance + future.level * past.level_variance) / all;
        (level, past.level_variance * future.level_variance / all)
    });
    let weeks = levels.zip(roots.iter().zip(shares));
    weeks
        .map(|((level, variance), (root, share))| {
            let leverage = (variance * share * share).min(MAX_LEVERAGE);
            ((root - level * share) / (1.0 - leverage).sqrt(), *root)
        })
        .collect()
}
