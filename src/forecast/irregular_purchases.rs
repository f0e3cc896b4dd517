//! When lumps come: how often, and how regularly, as far as the gaps between those of the past tell.
//!
//! A gap is told as a number of stages, each of which ends on a day with the same likelihood: one stage makes a gap of
//! any length, many make gaps that are all alike. Only likelihoods are floating point here, made with `+ − × ÷` alone.

use super::ratio::count;
use crate::forecast::spend_history::{Minor, WeekSpend};

/// How many stages a gap may have, and how believable that is before the ledger is read.
const STAGE_PRIORS: [(i32, f64); 4] = [(1, 0.3), (4, 0.2), (16, 0.25), (64, 0.25)];
/// The mean gap may be so many tenths of the one that the past would be shared by.
const MEAN_TENTHS: [i64; 9] = [4, 5, 7, 9, 12, 16, 21, 28, 37];
/// No gap is longer, in days.
const MAX_GAP_DAYS: usize = 800;
/// Ways that are less believable than this share of the best are not told.
const MIN_RELATIVE_WEIGHT: f64 = 0.002;

/// How lumps come.
pub(super) struct IrregularPurchases {
    /// What each cost.
    pub(super) prices: Vec<Minor>,
    /// Days since the last one.
    pub(super) days_since_last: usize,
    /// How long gaps are, by the ways in which they may come.
    pub(super) gap_models: Vec<GapModel>,
    /// How believable all of them are together.
    pub(super) total_weight: f64,
}

/// One way in which they may come.
pub(super) struct GapModel {
    /// How believable it is, among all of them.
    pub(super) weight: f64,
    /// How likely it is that a gap is longer than so many days.
    pub(super) longer: Vec<f64>,
}

impl IrregularPurchases {
    /// None if there were none.
    pub(super) fn read(weeks: &[WeekSpend]) -> Option<Self> {
        let days: Vec<Minor> = weeks.iter().flatten().copied().collect();
        let purchase_days: Vec<usize> =
            days.iter().enumerate().filter_map(|(day, it)| (*it > 0).then_some(day)).collect();
        let (first, last) = (*purchase_days.first()?, *purchase_days.last()?);
        let days_since_last = days.len() - 1 - last;
        let gaps: Vec<usize> = purchase_days.windows(2).map(|two| two[1] - two[0]).collect();
        let candidates = STAGE_PRIORS
            .iter()
            .flat_map(|(stages, prior)| MEAN_TENTHS.iter().map(move |mean| (*stages, *prior, *mean)));
        let mut gap_models: Vec<GapModel> = candidates
            .filter_map(|(stages, prior, tenths)| {
                let mean = count(days.len()) / count(purchase_days.len()) * count(usize::try_from(tenths).ok()?) / 10.0;
                GapModel::new(stages, mean, prior, (first, &gaps, days_since_last))
            })
            .collect();
        // Each gap makes likelihoods smaller: only what is left beside the best counts.
        let best = gap_models.iter().map(|way| way.weight).fold(0.0, f64::max);
        gap_models.retain(|way| way.weight > best * MIN_RELATIVE_WEIGHT);
        Some(Self {
            prices: purchase_days.iter().map(|day| days[*day]).collect(),
            days_since_last,
            total_weight: gap_models.iter().map(|way| way.weight).sum(),
            gap_models,
        })
    }
}

impl GapModel {
    fn new(stages: i32, mean: f64, prior: f64, (first, gaps, since): (usize, &[usize], usize)) -> Option<Self> {
        let chance = f64::from(stages) / mean;
        if chance >= 0.97 {
            return None;
        }
        let stages = usize::try_from(stages).ok()?;
        let mut ends = vec![0.0; MAX_GAP_DAYS + 1];
        let mut likely = (0..stages).fold(1.0, |so_far, _| so_far * chance);
        for (day, end) in ends.iter_mut().enumerate().skip(stages) {
            *end = likely;
            likely *= count(day) / count(day + 1 - stages) * (1.0 - chance);
        }
        let mut left = 1.0;
        let longer: Vec<f64> = ends
            .iter()
            .map(|end| {
                left = f64::max(left - end, 0.0);
                left
            })
            .collect();
        let at = |of: &[f64], day: usize| of.get(day).copied().unwrap_or(0.0);
        let begins = at(&longer, first) / mean;
        let scale = gaps.iter().fold(1.0, |so_far, gap| so_far * at(&ends, *gap) * mean_gap(gaps));
        Some(Self { weight: prior * begins * scale * at(&longer, since).max(1e-12), longer })
    }

    /// How long a gap is that has already lasted so long: the day by which this share of such gaps has ended.
    pub(super) fn gap_end(&self, since: usize, share: f64) -> usize {
        let left = self.longer.get(since).copied().unwrap_or(0.0) * (1.0 - share);
        self.longer.partition_point(|longer| *longer > left).max(since + 1)
    }
}

/// Keeps the product of likelihoods within what a number can hold.
fn mean_gap(gaps: &[usize]) -> f64 {
    count(gaps.iter().sum()) / count(gaps.len().max(1))
}
