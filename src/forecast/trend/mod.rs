//! Trend of regular spend: a set of hypotheses, each scored by how well it would have predicted every week of the
//! ledger from the weeks before it.
//!
//! All figures here are ratios, never amounts: roots of each week's spend as a share of the mean week's. They are
//! floating point, but only `+ − × ÷ √` are used, which give the same result on every machine.

mod estimate;
mod filter;
mod hypotheses;
mod unevenness;

use std::rc::Rc;

use rust_decimal::prelude::ToPrimitive as _;

use self::estimate::TrendEstimate;
use self::filter::{ModelFit, filter_run, residuals};
use self::hypotheses::{TrendChange, TrendHypothesis, trend_hypotheses};
use self::unevenness::unevenness;
use crate::forecast::minor::Minor;
use crate::forecast::ratio::share;
use crate::forecast::regimes::Regimes;
use crate::forecast::seasonality::{Seasonality, seasonalities};
use crate::forecast::spend_history::SpendHistory;

/// Hypotheses with a weight below this share of the best one's are dropped.
const MIN_RELATIVE_WEIGHT: f64 = 0.002;
/// Weeks after which the same days of the year and of the week recur.
const YEAR_WEEKS: i64 = 52;
/// Smallest root by which a week is scaled.
const MIN_ROOT: f64 = 0.1;
/// Largest ratio of roots; a week is scaled by at most its square.
const MAX_ROOT_RATIO: f64 = 4.0;

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

impl TrendModel {
    fn new(
        weight: f64,
        fit: &ModelFit,
        hypothesis: &TrendHypothesis,
        seasonality: &Rc<Seasonality>,
        (roots, are_a_year): (&[f64], bool),
    ) -> Self {
        let forward = filter_run(roots, &seasonality.past_weeks, hypothesis);
        let turned = |values: &[f64]| -> Vec<f64> { values.iter().rev().copied().collect() };
        let backward = filter_run(&turned(roots), &turned(&seasonality.past_weeks), &hypothesis.reversed(roots.len()));
        let nothing =
            TrendEstimate { level: 1.0, slope: 0.0, level_variance: 0.0, covariance: 0.0, slope_variance: 0.0 };
        let estimate = forward.last().map_or(nothing, |(_, after)| *after);
        let level_deviation = estimate.level_variance.max(1e-9).sqrt();
        let slope_per_level = estimate.covariance / level_deviation;
        let noise = fit.noise() * unevenness(roots);
        Self {
            weight,
            level: estimate.level,
            level_deviation: level_deviation * noise,
            level_step: hypothesis.step_variance.sqrt() * noise,
            slope: estimate.slope,
            slope_per_level: slope_per_level * noise,
            slope_deviation: (estimate.slope_variance - slope_per_level * slope_per_level).max(0.0).sqrt() * noise,
            slope_persistence: hypothesis.slope.persistence,
            slope_step: hypothesis.slope.innovation_variance().sqrt() * noise,
            regimes: match &hypothesis.change {
                TrendChange::Regimes(weeks) => Some(Regimes::new(roots.len(), weeks, are_a_year)),
                _ => None,
            },
            past_weeks: residuals(&forward, &backward, roots, &seasonality.past_weeks),
            seasonality: Rc::clone(seasonality),
        }
    }
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
    let weigh = |(seasonality, hypothesis, fit): &(&Rc<Seasonality>, &TrendHypothesis, ModelFit)| {
        seasonality.prior * hypothesis.prior * fit.likelihood(reference)
    };
    let weights: Vec<f64> = candidates.iter().map(weigh).collect();
    let least = weights.iter().copied().fold(0.0, f64::max) * MIN_RELATIVE_WEIGHT;
    let likely = candidates.iter().zip(weights).filter(|(_, weight)| *weight >= least);
    likely
        .map(|((seasonality, hypothesis, fit), weight)| {
            TrendModel::new(weight, fit, hypothesis, seasonality, (&roots, are_a_year))
        })
        .collect()
}

/// Returns the ratio, in 65,536ths, by which the amounts of a past week are scaled in a future.
pub(super) fn scale(model: &TrendModel, level: f64, ahead: usize, week: usize) -> i64 {
    let level = level * model.seasonality.future_weeks.get(ahead).copied().unwrap_or(1.0);
    let (residual, root) = model.past_weeks.get(week).copied().unwrap_or((0.0, 1.0));
    let ratio = ((level + residual).max(0.0) / root.max(MIN_ROOT)).min(MAX_ROOT_RATIO);
    (ratio * ratio * 65_536.0).round().to_i64().unwrap_or(0)
}
