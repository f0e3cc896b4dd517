//! Two regimes of spend that alternate: when spend changed between them, and how soon it may change again.
//!
//! This module only proposes sets of change points; `trend.rs` weighs them. As there, only ratios are floating point,
//! and only `+ − × ÷ √` are used.

use super::horizon::WEEKS;
use super::random::SeededRng;
use super::ratio::count;

/// Prior probability that the regime changed once, twice, …
const CHANGE_COUNT_PRIORS: [f64; 8] = [0.3, 0.06, 0.05, 0.04, 0.02, 0.02, 0.01, 0.01];
/// Weeks between two changes, at least. A single change may be in any week.
const MIN_REGIME_WEEKS: usize = 2;
/// Number of the most likely sets of one size that are proposed, at most …
const MAX_CANDIDATES: usize = 24;
/// … and of those that are extended by two more changes.
const MAX_EXTENDED: usize = 3;
/// Sets with a weight below this share of the best one's are dropped.
const MIN_RELATIVE_WEIGHT: f64 = 0.002;
/// Probability that a regime that has never ended before ends one week after its beginning. It falls with the square
/// of the weeks.
const REVERSAL_RATE: f64 = 1.0;
/// Assumed length of a regime whose end is not in the ledger, as a multiple of the ledger's weeks.
const UNENDED_FACTOR: f64 = 1.5;
/// Number of endings beyond which the length of a regime becomes no more certain.
const MAX_COUNTED_ENDS: u32 = 4;
/// Factor by which a regime that has lasted long ends more often than usual.
const OVERDUE_FACTOR: f64 = 3.0;
/// Probability that the changes of the past year recur at the same time of the next year.
const YEARLY_PROBABILITY: f64 = 0.5;

/// Weeks before which the regime may have changed.
pub(super) struct ChangePoints {
    pub(super) weeks: Vec<usize>,
    /// Prior probability of these changes.
    pub(super) prior: f64,
}

/// Returns every single week, and the most likely sets of several weeks. `apart` is the variance of the difference
/// between the two levels, in units of a week's noise variance.
pub(super) fn change_points(roots: &[f64], apart: f64) -> Vec<ChangePoints> {
    let weeks = roots.len();
    let single = |week| ChangePoints { weeks: vec![week], prior: CHANGE_COUNT_PRIORS[0] / count(weeks - 1) };
    let likelihood = ChangeLikelihood::new(roots, apart);
    let mut candidates: Vec<(f64, Vec<usize>)> = Vec::new();
    let mut extended = vec![Vec::new()];
    while let Some(more) =
        extended.first().map(|set: &Vec<usize>| set.len() + 2).filter(|more| *more <= CHANGE_COUNT_PRIORS.len())
    {
        let mut found: Vec<(f64, Vec<usize>)> = extended.iter().flat_map(|set| likelihood.extended(set)).collect();
        found.sort_by(|(one, first), (other, second)| other.total_cmp(one).then_with(|| first.cmp(second)));
        found.dedup();
        let of_size =
            |size: usize| found.iter().filter(move |(_, set)| set.len() == size).take(MAX_CANDIDATES).cloned();
        extended = of_size(more).take(MAX_EXTENDED).map(|(_, set)| set).collect();
        candidates.extend(of_size(more).chain(of_size(more - 1).filter(|(_, set)| set.len() > 1)));
    }
    let prior = |set: &[usize]| CHANGE_COUNT_PRIORS[set.len() - 1] / combinations(weeks - 1, set.len());
    let weights: Vec<f64> = candidates.iter().map(|(likelihood, set)| likelihood * prior(set)).collect();
    let least = weights.iter().copied().fold(likelihood.without_change(), f64::max) * MIN_RELATIVE_WEIGHT;
    let likely = candidates.into_iter().zip(weights).filter(|(_, weight)| *weight > least);
    let several = likely.map(|((_, set), _)| ChangePoints { prior: prior(&set), weeks: set });
    (1..weeks).map(single).chain(several).collect()
}

/// Likelihoods of two alternating levels, up to a factor that is the same for all sets of changes.
struct ChangeLikelihood {
    apart: f64,
    /// Sum of the roots before each week, and after the last one.
    before: Vec<f64>,
    squares: f64,
}

impl ChangeLikelihood {
    fn new(roots: &[f64], apart: f64) -> Self {
        Self { apart, before: sums(roots.iter().copied()), squares: roots.iter().map(|root| root * root).sum() }
    }

    fn weeks(&self) -> usize {
        self.before.len() - 1
    }

    /// Returns the most likely extensions of this set by one change or two.
    fn extended(&self, set: &[usize]) -> Vec<(f64, Vec<usize>)> {
        let weeks = self.weeks();
        let other = |week: usize| set.partition_point(|change| *change <= week) % 2 == 1;
        let sign = |week: usize| if other(week) { -1.0 } else { 1.0 };
        let own = sums((0..weeks).map(|week| if other(week) { 1.0 } else { 0.0 }));
        let spent =
            sums((0..weeks).map(|week| if other(week) { self.before[week + 1] - self.before[week] } else { 0.0 }));
        let turned = sums((0..weeks).map(sign));
        let turned_spent = sums((0..weeks).map(|week| sign(week) * (self.before[week + 1] - self.before[week])));
        let free = |week: usize| set.iter().all(|change| change.abs_diff(week) >= MIN_REGIME_WEEKS);
        let mut found: [Vec<(f64, usize, usize)>; 2] = Default::default();
        for from in (1..weeks).filter(|week| free(*week)) {
            for to in (from + MIN_REGIME_WEEKS..weeks).filter(|week| free(*week)).chain([weeks]) {
                let in_other = own[weeks] + turned[to] - turned[from];
                let spent = spent[weeks] + turned_spent[to] - turned_spent[from];
                found[usize::from(to == weeks)].push((self.of(in_other, spent), from, to));
            }
        }
        let likeliest = |mut found: Vec<(f64, usize, usize)>| {
            if found.len() > MAX_CANDIDATES {
                found.select_nth_unstable_by(MAX_CANDIDATES, |one, other| other.0.total_cmp(&one.0));
            }
            found.truncate(MAX_CANDIDATES);
            found
        };
        let grown = |(likelihood, from, to)| {
            let mut grown: Vec<usize> = set.iter().copied().chain([from, to]).filter(|week| *week < weeks).collect();
            grown.sort_unstable();
            (likelihood, grown)
        };
        found.into_iter().flat_map(likeliest).map(grown).collect()
    }

    /// Returns the likelihood if this number of weeks was in the other regime, with this sum of roots.
    fn of(&self, in_other: f64, spent: f64) -> f64 {
        let weeks = self.weeks();
        let (in_own, own_spent) = (count(weeks) - in_other, self.before[weeks] - spent);
        let (own, other) = (own_spent / in_own, spent / in_other);
        let spread = 1.0 / in_own + 1.0 / in_other + self.apart;
        let squares = self.squares - own_spent * own - spent * other + (own - other) * (own - other) / spread;
        self.power(squares) / (in_own * in_other * spread).sqrt()
    }

    /// Returns the likelihood of one level throughout.
    fn without_change(&self) -> f64 {
        let (weeks, sum) = (count(self.weeks()), self.before[self.weeks()]);
        self.power(self.squares - sum * sum / weeks) / weeks.sqrt()
    }

    /// Returns the likelihood factor for a residual sum of squares.
    fn power(&self, squares: f64) -> f64 {
        let (mut power, mut ratio, mut left) = (1.0, (self.squares / squares.max(1e-6)).sqrt(), self.weeks() - 1);
        while left > 0 {
            if left % 2 == 1 {
                power *= ratio;
            }
            ratio *= ratio;
            left /= 2;
        }
        power
    }
}

/// Returns the running sums, beginning with 0.
fn sums(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sum = 0.0;
    let added = values.map(|value| {
        sum += value;
        sum
    });
    [0.0].into_iter().chain(added).collect()
}

/// Returns the binomial coefficient.
fn combinations(all: usize, chosen: usize) -> f64 {
    (0..chosen).fold(1.0, |ways, index| ways * count(all.saturating_sub(index)) / count(index + 1))
}

/// The two regimes of a past.
pub(super) struct Regimes {
    /// Weeks since the last change.
    weeks_since_change: f64,
    /// The present regime …
    current: RegimeDuration,
    /// … and the other one.
    other: RegimeDuration,
    /// Weeks before which the regime changes if last year repeats; empty if the weeks are not exactly one year.
    yearly_changes: Vec<usize>,
}

/// Total weeks and number of endings of a regime.
#[derive(Clone, Copy, Default)]
struct RegimeDuration {
    weeks: f64,
    /// Number of times that the regime ended.
    ended_count: u32,
}

impl Regimes {
    /// Measures the regimes of this number of weeks, changed before each of these. `are_a_year` is true if the weeks
    /// are exactly the year up to now.
    pub(super) fn new(weeks: usize, changes: &[usize], are_a_year: bool) -> Self {
        let (mut current, mut other) = (RegimeDuration::default(), RegimeDuration::default());
        let mut begin = 0;
        for change in changes {
            current.weeks += count(change - begin);
            current.ended_count += 1;
            std::mem::swap(&mut current, &mut other);
            begin = *change;
        }
        let weeks_since_change = count(weeks - begin);
        current.weeks += weeks_since_change;
        let yearly_changes = if are_a_year && changes.len().is_multiple_of(2) { changes.to_vec() } else { Vec::new() };
        Self { weeks_since_change, current, other, yearly_changes }
    }

    /// Draws the weeks of a future before which the regime changes.
    pub(super) fn draw_changes(&self, rng: &mut SeededRng) -> Vec<usize> {
        if !self.yearly_changes.is_empty() && rng.uniform() < YEARLY_PROBABILITY {
            return self.yearly_changes.clone();
        }
        let all = (self.current.weeks + self.other.weeks) * UNENDED_FACTOR;
        let mut rate = |duration: RegimeDuration| {
            let squares: f64 = (0..=2 * duration.ended_count.min(MAX_COUNTED_ENDS))
                .map(|_| rng.normal())
                .map(|draw| draw * draw)
                .sum();
            squares / 2.0 / if duration.ended_count > 0 { duration.weeks } else { all }
        };
        let (mut current, mut other) = (rate(self.current), rate(self.other));
        let (mut weeks_since_change, mut reversal_rate) =
            (self.weeks_since_change, if self.current.ended_count > 0 { 0.0 } else { REVERSAL_RATE });
        let mut changes = Vec::new();
        for week in 0..WEEKS {
            let turns = weeks_since_change * current;
            let overdue = OVERDUE_FACTOR * turns * turns / (0.25 + turns * turns);
            if rng.uniform() < current * overdue + reversal_rate / (weeks_since_change * weeks_since_change) {
                changes.push(week);
                std::mem::swap(&mut current, &mut other);
                (weeks_since_change, reversal_rate) = (0.0, 0.0);
            }
            weeks_since_change += 1.0;
        }
        changes
    }
}
