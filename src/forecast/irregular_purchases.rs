//! When lumps come: how often, and how regularly, as far as the gaps between those of the past tell.
//!
//! A gap is told as a number of stages, each of which ends on a day with the same likelihood: one stage makes a gap of
//! any length, many make gaps that are all alike. Only likelihoods are floating point here, made with `+ − × ÷` alone.

use super::ratio::count;
use crate::forecast::spend_history::{Minor, Week};

/// How many stages a gap may have, and how believable that is before the ledger is read.
const STAGES: [(i32, f64); 4] = [(1, 0.3), (4, 0.2), (16, 0.25), (64, 0.25)];
/// The mean gap may be so many tenths of the one that the past would be shared by.
const MEANS: [i64; 9] = [4, 5, 7, 9, 12, 16, 21, 28, 37];
/// No gap is longer, in days.
const LONGEST: usize = 800;
/// Ways that are less believable than this share of the best are not told.
const UNTOLD: f64 = 0.002;

/// How lumps come.
pub(super) struct Lumps {
    /// What each cost.
    pub(super) prices: Vec<Minor>,
    /// Days since the last one.
    pub(super) since: usize,
    /// How long gaps are, by the ways in which they may come.
    pub(super) ways: Vec<Gaps>,
    /// How believable all of them are together.
    pub(super) all: f64,
}

/// One way in which they may come.
pub(super) struct Gaps {
    /// How believable it is, among all of them.
    pub(super) weight: f64,
    /// How likely it is that a gap is longer than so many days.
    pub(super) longer: Vec<f64>,
}

impl Lumps {
    /// None if there were none.
    pub(super) fn read(weeks: &[Week]) -> Option<Self> {
        let days: Vec<Minor> = weeks.iter().flatten().copied().collect();
        let came: Vec<usize> = days.iter().enumerate().filter_map(|(day, it)| (*it > 0).then_some(day)).collect();
        let (first, last) = (*came.first()?, *came.last()?);
        let since = days.len() - 1 - last;
        let gaps: Vec<usize> = came.windows(2).map(|two| two[1] - two[0]).collect();
        let told = STAGES.iter().flat_map(|(stages, belief)| MEANS.iter().map(move |mean| (*stages, *belief, *mean)));
        let mut ways: Vec<Gaps> = told
            .filter_map(|(stages, belief, tenths)| {
                let mean = count(days.len()) / count(came.len()) * count(usize::try_from(tenths).ok()?) / 10.0;
                Gaps::new(stages, mean, belief, (first, &gaps, since))
            })
            .collect();
        // Each gap makes likelihoods smaller: only what is left beside the best counts.
        let best = ways.iter().map(|way| way.weight).fold(0.0, f64::max);
        ways.retain(|way| way.weight > best * UNTOLD);
        Some(Self {
            prices: came.iter().map(|day| days[*day]).collect(),
            since,
            all: ways.iter().map(|way| way.weight).sum(),
            ways,
        })
    }
}

impl Gaps {
    fn new(stages: i32, mean: f64, belief: f64, (first, gaps, since): (usize, &[usize], usize)) -> Option<Self> {
        let chance = f64::from(stages) / mean;
        if chance >= 0.97 {
            return None;
        }
        let stages = usize::try_from(stages).ok()?;
        let mut ends = vec![0.0; LONGEST + 1];
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
        Some(Self { weight: belief * begins * scale * at(&longer, since).max(1e-12), longer })
    }

    /// How long a gap is that has already lasted so long: the day by which this share of such gaps has ended.
    pub(super) fn ends(&self, since: usize, share: f64) -> usize {
        let left = self.longer.get(since).copied().unwrap_or(0.0) * (1.0 - share);
        self.longer.partition_point(|longer| *longer > left).max(since + 1)
    }
}

/// Keeps the product of likelihoods within what a number can hold.
fn mean_gap(gaps: &[usize]) -> f64 {
    count(gaps.iter().sum()) / count(gaps.len().max(1))
}
