//! Two habits that the pace keeps in turn, each for some weeks: when it changed between them, and how soon it may again.
//!
//! A set of changes is only offered here; how far it is believed is `pace.rs`'s to say. As there, only ratios are floating
//! point, made with `+ − × ÷ √` alone.

use super::ratio::count;
use crate::forecast::sampling::{SeededRng, WEEKS};

/// How believable it is, before the ledger is read, that the pace changed once, twice, …
const CHANGE_COUNT_PRIORS: [f64; 8] = [0.3, 0.06, 0.05, 0.04, 0.02, 0.02, 0.01, 0.01];
/// Changes are so many weeks apart at least, but for a single one.
const MIN_REGIME_WEEKS: usize = 2;
/// So many of the likeliest sets of as many changes are offered at most …
const MAX_CANDIDATES: usize = 24;
/// … and so many of those are looked at for two changes more.
const MAX_EXTENDED: usize = 3;
/// Sets less believable than this share of the best one are not offered.
const MIN_RELATIVE_WEIGHT: f64 = 0.002;
/// How likely a habit that was never given up is to be, a week after it was taken up; the chance falls with the square
/// of the weeks.
const REVERSAL_RATE: f64 = 1.0;
/// Where the ledger shows no end of a habit, it counts as kept for so many times the weeks of the ledger.
const UNENDED_FACTOR: f64 = 1.5;
/// More endings than this make a habit's length no surer.
const MAX_COUNTED_ENDS: u32 = 4;
/// How much more often than usual a habit is given up that has been kept for long.
const OVERDUE_FACTOR: f64 = 3.0;
/// How likely it is that changes of the past year come again at the same time of the next.
const YEARLY_PROBABILITY: f64 = 0.5;

/// Weeks before which the pace may have changed from one habit to the other.
pub(super) struct ChangePoints {
    pub(super) weeks: Vec<usize>,
    /// How believable that is before the ledger is read.
    pub(super) prior: f64,
}

/// Each single week, and of more weeks the likeliest, where habits are levels apart by a deviation of this variance, in
/// that of a week's chance.
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
        let of = |many: usize| found.iter().filter(move |(_, set)| set.len() == many).take(MAX_CANDIDATES).cloned();
        extended = of(more).take(MAX_EXTENDED).map(|(_, set)| set).collect();
        candidates.extend(of(more).chain(of(more - 1).filter(|(_, set)| set.len() > 1)));
    }
    let prior = |set: &[usize]| CHANGE_COUNT_PRIORS[set.len() - 1] / combinations(weeks - 1, set.len());
    let weights: Vec<f64> = candidates.iter().map(|(likelihood, set)| likelihood * prior(set)).collect();
    let least = weights.iter().copied().fold(likelihood.without_change(), f64::max) * MIN_RELATIVE_WEIGHT;
    let believed = candidates.into_iter().zip(weights).filter(|(_, weight)| *weight > least);
    let many = believed.map(|((_, set), _)| ChangePoints { prior: prior(&set), weeks: set });
    (1..weeks).map(single).chain(many).collect()
}

/// How well two levels, taken in turn, tell the roots: up to a factor that is the same for all sets of changes.
struct ChangeLikelihood {
    apart: f64,
    /// Sum of the roots before each week, and after the last.
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

    /// This set with one change more, or two: the likeliest.
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

    /// Where so many weeks were spent in the other habit, and so much in them.
    fn of(&self, in_other: f64, spent: f64) -> f64 {
        let weeks = self.weeks();
        let (in_own, own_spent) = (count(weeks) - in_other, self.before[weeks] - spent);
        let (own, other) = (own_spent / in_own, spent / in_other);
        let spread = 1.0 / in_own + 1.0 / in_other + self.apart;
        let squares = self.squares - own_spent * own - spent * other + (own - other) * (own - other) / spread;
        self.power(squares) / (in_own * in_other * spread).sqrt()
    }

    /// Of one level throughout.
    fn without_change(&self) -> f64 {
        let (weeks, sum) = (count(self.weeks()), self.before[self.weeks()]);
        self.power(self.squares - sum * sum / weeks) / weeks.sqrt()
    }

    /// What so small a sum of squares makes of a likelihood.
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

/// What each and those before it add up to, beginning with 0.
fn sums(of: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sum = 0.0;
    let added = of.map(|it| {
        sum += it;
        sum
    });
    [0.0].into_iter().chain(added).collect()
}

/// In how many ways so many can be chosen of all.
fn combinations(all: usize, chosen: usize) -> f64 {
    (0..chosen).fold(1.0, |ways, place| ways * count(all.saturating_sub(place)) / count(place + 1))
}

/// Two habits, as the past shows them.
pub(super) struct Regimes {
    /// Weeks since the last change.
    weeks_since_change: f64,
    /// The habit that is kept now …
    current: RegimeDuration,
    /// … and the other.
    other: RegimeDuration,
    /// The weeks before which it changes if the year comes again; empty if that cannot be said.
    yearly_changes: Vec<usize>,
}

/// How long and how often a habit was kept.
#[derive(Clone, Copy, Default)]
struct RegimeDuration {
    weeks: f64,
    /// How often it was given up.
    ended_count: u32,
}

impl Regimes {
    /// Those of so many weeks, changed before each of these. The weeks may be those of the year that ends now.
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
        Self { weeks_since_change: weeks_since_change, current: current, other, yearly_changes: yearly_changes }
    }

    /// Draws a future of them: the weeks before which the pace changes.
    pub(super) fn draw_changes(&self, chance: &mut SeededRng) -> Vec<usize> {
        if !self.yearly_changes.is_empty() && chance.share() < YEARLY_PROBABILITY {
            return self.yearly_changes.clone();
        }
        let all = (self.current.weeks + self.other.weeks) * UNENDED_FACTOR;
        let mut rate = |duration: RegimeDuration| {
            let squares: f64 =
                (0..=2 * duration.ended_count.min(MAX_COUNTED_ENDS)).map(|_| chance.normal()).map(|it| it * it).sum();
            squares / 2.0 / if duration.ended_count > 0 { duration.weeks } else { all }
        };
        let (mut current, mut other) = (rate(self.current), rate(self.other));
        let (mut weeks_since_change, mut reversal_rate) =
            (self.weeks_since_change, if self.current.ended_count > 0 { 0.0 } else { REVERSAL_RATE });
        let mut changes = Vec::new();
        for week in 0..WEEKS {
            let turns = weeks_since_change * current;
            let overdue = OVERDUE_FACTOR * turns * turns / (0.25 + turns * turns);
            if chance.share() < current * overdue + reversal_rate / (weeks_since_change * weeks_since_change) {
                changes.push(week);
                std::mem::swap(&mut current, &mut other);
                (weeks_since_change, reversal_rate) = (0.0, 0.0);
            }
            weeks_since_change += 1.0;
        }
        changes
    }
}
