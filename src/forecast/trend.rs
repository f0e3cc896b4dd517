//! Trend of regular spend: a set of hypotheses, each scored by how well it would have predicted every week of the
//! ledger from the weeks before it.
//!
//! All figures here are ratios, never amounts: roots of each week's spend as a share of the mean week's. They are
//! floating point, but only `+ − × ÷ √` are used, which give the same result on every machine.

use std::rc::Rc;

use rust_decimal::prelude::ToPrimitive as _;

use super::ratio::share;
use crate::forecast::regimes::{ChangePoints, Regimes, change_points};
use crate::forecast::seasonality::{Seasonality, seasonalities};
use crate::forecast::spend_history::{Minor, SpendHistory};

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
/// Variance of a change of the level, in units of a week's noise variance.
const CHANGE_VARIANCE: f64 = 9.0;
/// Hypotheses with a weight below this share of the best one's are dropped.
const MIN_RELATIVE_WEIGHT: f64 = 0.002;
/// Weeks after which the same days of the year and of the week recur.
const YEAR_WEEKS: i64 = 52;
/// Variance of the first week's level, of which nothing is known.
const INITIAL_LEVEL_VARIANCE: f64 = 1000.0;
/// Degrees of freedom that fitting a hypothesis uses up, for the estimate of the noise.
const FITTED_WEEKS: usize = 2;
/// Smallest sum of squares, to avoid a division by 0 if no week deviates.
const MIN_SQUARED_SUM: f64 = 1e-8;
/// Smallest root by which a week is scaled.
const MIN_ROOT: f64 = 0.1;
/// Largest leverage of a week on its own smoothed level.
const MAX_LEVERAGE: f64 = 0.6;
/// Largest ratio of roots; a week is scaled by at most its square.
const MAX_ROOT_RATIO: f64 = 4.0;

/// Typical range of the cumulative deviations of independent weeks, in standard deviations of the sum.
const EXPECTED_RANGE: f64 = 1.25;
/// Range of weeks that compensate for one another, in ledgers of this length.
const MIN_RANGE: f64 = 0.35;
/// Ranges below the first are even, those above the second are not. Of independent weeks, one ledger in forty has a
/// range below the first.
const EVEN_RANGE: f64 = 0.75;
const UNEVEN_RANGE: f64 = 0.95;

/// Behaviour of the level's slope.
#[derive(Clone, Copy)]
struct SlopeDynamics {
    /// Prior probability of this behaviour.
    prior: f64,
    /// Standard deviation of slopes, in units of a week's noise.
    deviation: f64,
    /// Share of a slope that is left a week later; the rest is drawn anew.
    persistence: f64,
}

/// A fitted trend from which futures are drawn. Levels are roots of shares of the mean week.
pub(super) struct TrendModel {
    /// Posterior weight, not normalised.
    pub(super) weight: f64,
    /// Level at the end of the ledger.
    pub(super) level: f64,
    /// Standard deviation of the level.
    pub(super) level_deviation: f64,
    /// Standard deviation of the level's weekly step.
    pub(super) level_step: f64,
    /// Weekly growth of the level at the end of the ledger.
    pub(super) slope: f64,
    /// Change of the slope if the level is one standard deviation higher.
    pub(super) slope_per_level: f64,
    /// Standard deviation of the slope that remains besides.
    pub(super) slope_deviation: f64,
    /// Share of the slope that is left a week later.
    pub(super) slope_persistence: f64,
    /// Standard deviation of the slope's weekly change.
    pub(super) slope_step: f64,
    /// Regimes that alternate; the slope is the difference of the other one.
    pub(super) regimes: Option<Regimes>,
    /// Residual and root of each past week.
    pub(super) past_weeks: Vec<(f64, f64)>,
    /// Seasonal factors of the weeks.
    pub(super) seasonality: Rc<Seasonality>,
}

/// Returns the fitted trends of this history, with their weights; empty if nothing was spent.
pub(super) fn trend_models(history: &SpendHistory) -> Vec<TrendModel> {
    let totals: Vec<Minor> = history.base.iter().map(|week| week.iter().sum()).collect();
    let weeks = Minor::try_from(totals.len()).unwrap_or(Minor::MAX).max(1);
    let mean = totals.iter().sum::<Minor>() / weeks;
    if mean == 0 {
        return Vec::new();
    }
    let roots: Vec<f64> = totals.iter().map(|total| share(*total, mean).sqrt()).collect();
    let seasonalities: Vec<Rc<Seasonality>> =
        seasonalities(&roots, &history.begins, history.today).into_iter().map(Rc::new).collect();
    let hypotheses = trend_hypotheses(&roots);
    let first = history.today - chrono::Duration::days(7 * YEAR_WEEKS);
    let are_a_year = weeks == YEAR_WEEKS && history.begins.first() == Some(&first);
    let candidates =
        seasonalities.iter().flat_map(|seasonality| hypotheses.iter().map(move |hypothesis| (seasonality, hypothesis)));
    let candidates: Vec<(&Rc<Seasonality>, &TrendHypothesis, ModelFit)> = candidates
        .map(|(seasonality, hypothesis)| {
            (seasonality, hypothesis, ModelFit::new(&roots, &seasonality.predicted, hypothesis))
        })
        .collect();
    let Some((.., reference)) = candidates.first() else { return Vec::new() };
    let weigh = |(seasonality, hypothesis, it): &(&Rc<Seasonality>, &TrendHypothesis, ModelFit)| {
        seasonality.prior * hypothesis.prior * it.likelihood(reference)
    };
    let weights: Vec<f64> = candidates.iter().map(weigh).collect();
    let least = weights.iter().copied().fold(0.0, f64::max) * MIN_RELATIVE_WEIGHT;
    let believed = candidates.iter().zip(weights).filter(|(_, weight)| *weight >= least);
    believed
        .map(|((seasonality, hypothesis, it), weight)| {
            it.trend_model(weight, hypothesis, seasonality, (&roots, are_a_year))
        })
        .collect()
}

/// Returns every hypothesis to fit.
fn trend_hypotheses(roots: &[f64]) -> Vec<TrendHypothesis> {
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

/// Returns the ratio, in 65,536ths, by which the amounts of a past week are scaled in a future.
pub(super) fn scale(model: &TrendModel, level: f64, ahead: usize, week: usize) -> i64 {
    let level = level * model.seasonality.future_weeks.get(ahead).copied().unwrap_or(1.0);
    let (chance, root) = model.past_weeks.get(week).copied().unwrap_or((0.0, 1.0));
    let ratio = ((level + chance).max(0.0) / root.max(MIN_ROOT)).min(MAX_ROOT_RATIO);
    (ratio * ratio * 65_536.0).round().to_i64().unwrap_or(0)
}

/// Estimate of level and slope: means, variances and covariance.
#[derive(Clone, Copy)]
struct TrendEstimate {
    level: f64,
    slope: f64,
    level_variance: f64,
    covariance: f64,
    slope_variance: f64,
}

/// Hypothesis about how the level has moved.
struct TrendHypothesis {
    prior: f64,
    step_variance: f64,
    slope: SlopeDynamics,
    change: TrendChange,
}

/// Change of the level besides steps and slope.
enum TrendChange {
    None,
    /// Changes between two regimes before each of these weeks.
    Regimes(Vec<usize>),
    /// A change before this week that has been fading since.
    Fading(usize),
}

impl TrendHypothesis {
    /// Returns the estimate before the first week.
    fn initial_estimate(&self) -> TrendEstimate {
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
    fn predict(&self, week: usize, estimate: TrendEstimate) -> TrendEstimate {
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
    fn reversed(&self, weeks: usize) -> Self {
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

/// Fit of a hypothesis: how well it predicted each week from earlier ones.
struct ModelFit {
    /// Variance of each week's prediction error, without the first week.
    surprise_variances: Vec<f64>,
    /// Sum of the squared prediction errors, each divided by its variance.
    squared_surprises: f64,
}

/// Estimates before and after each week.
type FilterRun = Vec<(TrendEstimate, TrendEstimate)>;

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
        let (surprise, spread) = (root - estimate.level * share, estimate.level_variance * share * share + 1.0);
        estimate = estimate.updated(surprise, *share);
        report(week, surprise, spread, (before, estimate));
    }
}

fn filter_run(roots: &[f64], shares: &[f64], hypothesis: &TrendHypothesis) -> FilterRun {
    let mut run = Vec::with_capacity(roots.len());
    filter(roots, shares, hypothesis, |_, _, _, known| run.push(known));
    run
}

impl ModelFit {
    fn new(roots: &[f64], shares: &[f64], hypothesis: &TrendHypothesis) -> Self {
        let mut it = Self { surprise_variances: Vec::with_capacity(roots.len()), squared_surprises: MIN_SQUARED_SUM };
        filter(roots, shares, hypothesis, |week, surprise, spread, _| {
            if week > 0 {
                it.surprise_variances.push(spread);
                it.squared_surprises += surprise * surprise / spread;
            }
        });
        it
    }

    /// Returns the likelihood ratio to the reference, with the noise variance integrated out.
    fn likelihood(&self, reference: &Self) -> f64 {
        let better = (reference.squared_surprises / self.squared_surprises).sqrt();
        let spreads = self.surprise_variances.iter().zip(&reference.surprise_variances);
        spreads.fold(1.0, |so_far, (own, other)| so_far * (other / own).sqrt() * better)
    }

    fn trend_model(
        &self,
        weight: f64,
        hypothesis: &TrendHypothesis,
        seasonality: &Rc<Seasonality>,
        (roots, are_a_year): (&[f64], bool),
    ) -> TrendModel {
        let free = self.surprise_variances.len().saturating_sub(FITTED_WEEKS).max(1);
        let chance = (self.squared_surprises / f64::from(u32::try_from(free).unwrap_or(1))).sqrt();
        let forward = filter_run(roots, &seasonality.past_weeks, hypothesis);
        let turned = |it: &[f64]| -> Vec<f64> { it.iter().rev().copied().collect() };
        let backward = filter_run(&turned(roots), &turned(&seasonality.past_weeks), &hypothesis.reversed(roots.len()));
        let nothing =
            TrendEstimate { level: 1.0, slope: 0.0, level_variance: 0.0, covariance: 0.0, slope_variance: 0.0 };
        let estimate = forward.last().map_or(nothing, |(_, after)| *after);
        let level_deviation = estimate.level_variance.max(1e-9).sqrt();
        let slope_per_level = estimate.covariance / level_deviation;
        let persistent_chance = chance * unevenness(roots);
        TrendModel {
            weight,
            level: estimate.level,
            level_deviation: level_deviation * persistent_chance,
            level_step: hypothesis.step_variance.sqrt() * persistent_chance,
            slope: estimate.slope,
            slope_per_level: slope_per_level * persistent_chance,
            slope_deviation: (estimate.slope_variance - slope_per_level * slope_per_level).max(0.0).sqrt()
                * persistent_chance,
            slope_persistence: hypothesis.slope.persistence,
            slope_step: hypothesis.slope.innovation_variance().sqrt() * persistent_chance,
            regimes: match &hypothesis.change {
                TrendChange::Regimes(weeks) => Some(Regimes::new(roots.len(), weeks, are_a_year)),
                _ => None,
            },
            past_weeks: residuals(&forward, &backward, roots, &seasonality.past_weeks),
            seasonality: Rc::clone(seasonality),
        }
    }
}

/// Returns how uneven the sums of several weeks are compared with those of independent weeks: below 1 if weeks
/// compensate for one another, as in an account that buys the same amount each week on changing days.
fn unevenness(roots: &[f64]) -> f64 {
    let weeks = f64::from(u32::try_from(roots.len()).unwrap_or(1).max(2));
    let mean = roots.iter().sum::<f64>() / weeks;
    let (mut sum, mut squares, mut least, mut most) = (0.0, 0.0, 0.0_f64, 0.0_f64);
    for root in roots {
        let apart = root - mean;
        (sum, squares) = (sum + apart, squares + apart * apart);
        (least, most) = (least.min(sum), most.max(sum));
    }
    let range = (most - least) / (squares * weeks / (weeks - 1.0)).sqrt().max(MIN_ROOT);
    let even = |range: f64| (range - MIN_RANGE).max(0.0) / (EXPECTED_RANGE - MIN_RANGE);
    let between = (range - EVEN_RANGE).max(0.0) / (UNEVEN_RANGE - EVEN_RANGE);
    (even(range.min(EVEN_RANGE)) + (1.0 - even(EVEN_RANGE)) * between).min(1.0)
}

/// Returns the residual and root of each week. The residual is the distance from the level that the other weeks
/// suggest, widened by the leverage of the week on that level.
fn residuals(forward: &FilterRun, backward: &FilterRun, roots: &[f64], shares: &[f64]) -> Vec<(f64, f64)> {
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

impl SlopeDynamics {
    /// Returns the variance of the part of the slope that is drawn anew each week.
    fn innovation_variance(self) -> f64 {
        self.deviation * self.deviation * (1.0 - self.persistence * self.persistence)
    }
}

impl TrendEstimate {
    fn week_later(self, step_variance: f64, slope: SlopeDynamics) -> Self {
        Self {
            level: self.level + self.slope,
            slope: self.slope * slope.persistence,
            level_variance: self.level_variance + 2.0 * self.covariance + self.slope_variance + step_variance,
            covariance: (self.covariance + self.slope_variance) * slope.persistence,
            slope_variance: self.slope_variance * slope.persistence * slope.persistence + slope.innovation_variance(),
        }
    }

    /// Returns the estimate after a change of which this share is lost each week.
    fn after_change(self, lost: f64) -> Self {
        Self {
            level_variance: self.level_variance + CHANGE_VARIANCE,
            covariance: self.covariance - lost * CHANGE_VARIANCE,
            slope_variance: self.slope_variance + lost * lost * CHANGE_VARIANCE,
            ..self
        }
    }

    fn updated(self, surprise: f64, share: f64) -> Self {
        let spread = self.level_variance * share * share + 1.0;
        let (to_level, to_slope) = (self.level_variance * share / spread, self.covariance * share / spread);
        Self {
            level: self.level + to_level * surprise,
            slope: self.slope + to_slope * surprise,
            level_variance: self.level_variance * (1.0 - to_level * share),
            covariance: self.covariance * (1.0 - to_level * share),
            slope_variance: self.slope_variance - to_slope * self.covariance * share,
        }
    }
}
