//! Estimate of a level and its slope, carried from week to week.

/// Variance of a change of the level, in units of a week's noise variance.
pub(super) const CHANGE_VARIANCE: f64 = 9.0;

/// Behaviour of the level's slope.
#[derive(Clone, Copy)]
pub(super) struct SlopeDynamics {
    /// Prior probability of this behaviour.
    pub(super) prior: f64,
    /// Standard deviation of slopes, in units of a week's noise.
    pub(super) deviation: f64,
    /// Share of a slope that is left a week later; the rest is drawn anew.
    pub(super) persistence: f64,
}

impl SlopeDynamics {
    /// Returns the variance of the part of the slope that is drawn anew each week.
    pub(super) fn innovation_variance(self) -> f64 {
        self.deviation * self.deviation * (1.0 - self.persistence * self.persistence)
    }
}

/// Estimate of level and slope: means, variances and covariance.
#[derive(Clone, Copy)]
pub(super) struct TrendEstimate {
    pub(super) level: f64,
    pub(super) slope: f64,
    pub(super) level_variance: f64,
    pub(super) covariance: f64,
    pub(super) slope_variance: f64,
}

impl TrendEstimate {
    pub(super) fn week_later(self, step_variance: f64, slope: SlopeDynamics) -> Self {
        Self {
            level: self.level + self.slope,
            slope: self.slope * slope.persistence,
            level_variance: self.level_variance + 2.0 * self.covariance + self.slope_variance + step_variance,
            covariance: (self.covariance + self.slope_variance) * slope.persistence,
            slope_variance: self.slope_variance * slope.persistence * slope.persistence + slope.innovation_variance(),
        }
    }

    /// Returns the estimate after a change of which this share is lost each week.
    pub(super) fn after_change(self, lost: f64) -> Self {
        Self {
            level_variance: self.level_variance + CHANGE_VARIANCE,
            covariance: self.covariance - lost * CHANGE_VARIANCE,
            slope_variance: self.slope_variance + lost * lost * CHANGE_VARIANCE,
            ..self
        }
    }

    pub(super) fn updated(self, error: f64, share: f64) -> Self {
        let variance = self.level_variance * share * share + 1.0;
        let (to_level, to_slope) = (self.level_variance * share / variance, self.covariance * share / variance);
        Self {
            level: self.level + to_level * error,
            slope: self.slope + to_slope * error,
            level_variance: self.level_variance * (1.0 - to_level * share),
            covariance: self.covariance * (1.0 - to_level * share),
            slope_variance: self.slope_variance - to_slope * self.covariance * share,
        }
    }
}
