//! Gaps between irregular purchases: their length and regularity, learnt from the past gaps.
//!
//! A gap is modelled as a number of stages. Each stage ends on any day with the same probability. One stage gives
//! gaps of any length; many stages give gaps of nearly equal length. Only probabilities are floating point here, and
//! only `+ − × ÷` are used, which give the same result on every machine.

use super::minor::Minor;
use super::ratio::count;
use crate::forecast::spend_history::WeekSpend;

/// Numbers of stages to try, with their prior probabilities.
const STAGE_PRIORS: [(i32, f64); 4] = [(1, 0.3), (4, 0.2), (16, 0.25), (64, 0.25)];
/// Mean gaps to try, in tenths of the mean gap of the past.
const MEAN_TENTHS: [i64; 9] = [4, 5, 7, 9, 12, 16, 21, 28, 37];
/// Longest gap, in days.
const MAX_GAP_DAYS: usize = 800;
/// Models with a weight below this share of the best model's are dropped.
const MIN_RELATIVE_WEIGHT: f64 = 0.002;

/// Irregular purchases of the past, and models of the gaps between them.
pub(super) struct IrregularPurchases {
    /// Cost of each past purchase.
    pub(super) prices: Vec<Minor>,
    /// Days since the last purchase.
    pub(super) days_since_last: usize,
    /// Models of the gaps, with their weights.
    pub(super) gap_models: Vec<GapModel>,
    /// Sum of the models' weights.
    pub(super) total_weight: f64,
}

/// Distribution of the gaps for one number of stages and one mean.
pub(super) struct GapModel {
    /// Posterior weight, not normalised.
    pub(super) weight: f64,
    /// Probability that a gap is longer than the index, in days.
    pub(super) longer: Vec<f64>,
}

impl IrregularPurchases {
    /// Returns `None` if there were no irregular purchases.
    pub(super) fn read(weeks: &[WeekSpend]) -> Option<Self> {
        let days: Vec<Minor> = weeks.iter().flatten().copied().collect();
        let purchase_days: Vec<usize> =
            days.iter().enumerate().filter_map(|(day, spend)| (*spend > 0).then_some(day)).collect();
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
        // Likelihoods shrink with every gap, so only their size relative to the best one matters.
        let best = gap_models.iter().map(|model| model.weight).fold(0.0, f64::max);
        gap_models.retain(|model| model.weight > best * MIN_RELATIVE_WEIGHT);
        Some(Self {
            prices: purchase_days.iter().map(|day| days[*day]).collect(),
            days_since_last,
            total_weight: gap_models.iter().map(|model| model.weight).sum(),
            gap_models,
        })
    }
}

impl GapModel {
    fn new(stages: i32, mean: f64, prior: f64, (first, gaps, since): (usize, &[usize], usize)) -> Option<Self> {
        let end_probability = f64::from(stages) / mean;
        if end_probability >= 0.97 {
            return None;
        }
        let stages = usize::try_from(stages).ok()?;
        let mut ends = vec![0.0; MAX_GAP_DAYS + 1];
        let mut likelihood = (0..stages).fold(1.0, |so_far, _| so_far * end_probability);
        for (day, end) in ends.iter_mut().enumerate().skip(stages) {
            *end = likelihood;
            likelihood *= count(day) / count(day + 1 - stages) * (1.0 - end_probability);
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

    /// Returns the length in days of a gap that has lasted `since` days already, at this quantile.
    pub(super) fn gap_end(&self, since: usize, share: f64) -> usize {
        let left = self.longer.get(since).copied().unwrap_or(0.0) * (1.0 - share);
        self.longer.partition_point(|longer| *longer > left).max(since + 1)
    }
}

/// Returns the mean gap: a factor that keeps the product of likelihoods within the range of `f64`.
fn mean_gap(gaps: &[usize]) -> f64 {
    count(gaps.iter().sum()) / count(gaps.len().max(1))
}
