//! Hypotheses about how the level of spend has moved.

use super::estimate::{CHANGE_VARIANCE, SlopeDynamics, TrendEstimate};
use crate::forecast::regimes::{ChangePoints, change_points};

/// Variances of the weekly step of the level, in units of a week's noise variance, with their prior probabilities.
const LEVEL_STEP_VARIANCES: [(f64, f64); 5] = [(0.0, 0.3), (0.004, 0.2), (0.015, 0.2), (0.05, 0.15), (0.2, 0.15)];
/// A level without a slope.
const NO_SLOPE: SlopeDynamics = SlopeDynamics { prior: 0.21, deviation: 0.0, persistence: 1.0 };
/// Behaviours of the slope to try.
const SLOPES: [SlopeDynamics; 4] = [
    NO_SLOPE,
    SlopeDynamics { prior: 0.2, deviation: 0.07, persistence: 1.0 },
    SlopeDynamics { prior: 0.15, deviation: 0.07, persistence: 0.95 },
    SlopeDynamics { prior: 0.3, deviation: 0.2, persistence: 0.95 },
];
/// Fading changes to try: the share of the change that is left after a week, with its prior probability.
const FADING_PRIORS: [(f64, f64); 2] = [(0.76, 0.03), (0.88, 0.03)];
/// Weeks since a fading change, at most.
const MAX_FADING_WEEKS: usize = 20;
/// Switch to the other regime: the slope is the difference between the regimes, and changes its sign.
const REGIME_SWITCH: SlopeDynamics = SlopeDynamics { prior: 0.0, deviation: 0.0, persistence: -1.0 };
/// Variance of the first week's level, of which nothing is known.
const INITIAL_LEVEL_VARIANCE: f64 = 1000.0;

/// Hypothesis about how the level has moved.
pub(super) struct TrendHypothesis {
    pub(super) prior: f64,
    pub(super) step_variance: f64,
    pub(super) slope: SlopeDynamics,
    pub(super) change: TrendChange,
}

/// Change of the level besides steps and slope.
pub(super) enum TrendChange {
    None,
    /// Changes between two regimes before each of these weeks.
    Regimes(Vec<usize>),
    /// A change before this week that has been fading since.
    Fading(usize),
}

/// Returns every hypothesis to fit.
pub(super) fn trend_hypotheses(roots: &[f64]) -> Vec<TrendHypothesis> {
    let weeks = roots.len();
    let restless = LEVEL_STEP_VARIANCES.iter().flat_map(|(step_variance, prior)| {
        SLOPES.iter().map(move |slope| TrendHypothesis {
            prior: prior * slope.prior,
            step_variance: *step_variance,
            slope: *slope,
            change: TrendChange::None,
        })
    });
    let straight = |prior, slope, change| TrendHypothesis { prior, step_variance: 0.0, slope, change };
    let regimes = change_points(roots, CHANGE_VARIANCE).into_iter();
    let regimes = regimes.map(|ChangePoints { weeks, prior }| straight(prior, NO_SLOPE, TrendChange::Regimes(weeks)));
    let first = weeks.saturating_sub(MAX_FADING_WEEKS).max(1);
    let fading = FADING_PRIORS.iter().flat_map(|(persistence, prior)| {
        let each = prior / f64::from(u32::try_from(weeks - first).unwrap_or(1));
        let slope = SlopeDynamics { persistence: *persistence, ..NO_SLOPE };
        (first..weeks).map(move |week| straight(each, slope, TrendChange::Fading(week)))
    });
    restless.chain(regimes).chain(fading).collect()
}

impl TrendHypothesis {
    /// Returns the estimate before the first week.
    pub(super) fn initial_estimate(&self) -> TrendEstimate {
        let of_slope = match self.change {
            TrendChange::Regimes(_) => CHANGE_VARIANCE,
            _ => self.slope.deviation * self.slope.deviation,
        };
        TrendEstimate {
            level: 1.0,
            slope: 0.0,
            level_variance: INITIAL_LEVEL_VARIANCE,
            covariance: 0.0,
            slope_variance: of_slope,
        }
    }

    /// Returns the estimate before this week, given the one after the week before.
    pub(super) fn predict(&self, week: usize, estimate: TrendEstimate) -> TrendEstimate {
        match &self.change {
            TrendChange::None => estimate.week_later(self.step_variance, self.slope),
            TrendChange::Regimes(weeks) if weeks.contains(&week) => estimate.week_later(0.0, REGIME_SWITCH),
            TrendChange::Regimes(_) => estimate,
            TrendChange::Fading(first) => {
                let estimate = estimate.week_later(self.step_variance, self.slope);
                if *first == week { estimate.after_change(1.0 - self.slope.persistence) } else { estimate }
            }
        }
    }

    /// Returns the hypothesis for the weeks in reverse order. A fade then runs in the wrong direction, which affects
    /// only the residuals of its weeks.
    pub(super) fn reversed(&self, weeks: usize) -> Self {
        let change = match &self.change {
            TrendChange::None => TrendChange::None,
            TrendChange::Regimes(changes) => {
                TrendChange::Regimes(changes.iter().rev().map(|week| weeks - week).collect())
            }
            TrendChange::Fading(week) => TrendChange::Fading(weeks - week),
        };
        Self { change, ..*self }
    }
}
