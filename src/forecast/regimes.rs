//! Two habits that the pace keeps in turn, each for some weeks: when it changed between them, and how soon it may again.
//!
//! A set of changes is only offered here; how far it is believed is `pace.rs`'s to say. As there, only ratios are floating
//! point, made with `+ − × ÷ √` alone.

use super::ratio::count;
use crate::forecast::sampling::{Chance, WEEKS};

/// How believable it is, before the ledger is read, that the pace changed once, twice, …
const CHANGED: [f64; 8] = [0.3, 0.06, 0.05, 0.04, 0.02, 0.02, 0.01, 0.01];
/// Changes are so many weeks apart at least, but for a single one.
const LEAST_STAY: usize = 2;
/// So many of the likeliest sets of as many changes are offered at most …
const OFFERED: usize = 24;
/// … and so many of those are looked at for two changes more.
const GROWN: usize = 3;
/// Sets less believable than this share of the best one are not offered.
const UNOFFERED: f64 = 0.002;
/// How likely a habit that was never given up is to be, a week after it was taken up; the chance falls with the square
/// of the weeks.
const BACK: f64 = 1.0;
/// Where the ledger shows no end of a habit, it counts as kept for so many times the weeks of the ledger.
const NEVER_ENDED: f64 = 1.5;
/// More endings than this make a habit's length no surer.
const MOST_ENDED: u32 = 4;
/// How much more often than usual a habit is given up that has been kept for long.
const OVERDUE: f64 = 3.0;
/// How likely it is that changes of the past year come again at the same time of the next.
const YEARLY: f64 = 0.5;

/// Weeks before which the pace may have changed from one habit to the other.
pub(super) struct Changes {
    pub(super) weeks: Vec<usize>,
    /// How believable that is before the ledger is read.
    pub(super) belief: f64,
}

/// Each single week, and of more weeks the likeliest, where habits are levels apart by a deviation of this variance, in
/// that of a week's chance.
pub(super) fn changes(roots: &[f64], apart: f64) -> Vec<Changes> {
    let weeks = roots.len();
    let single = |week| Changes { weeks: vec![week], belief: CHANGED[0] / count(weeks - 1) };
    let likelihood = Likelihood::new(roots, apart);
    let mut offered: Vec<(f64, Vec<usize>)> = Vec::new();
    let mut grown = vec![Vec::new()];
    while let Some(more) = grown.first().map(|set: &Vec<usize>| set.len() + 2).filter(|more| *more <= CHANGED.len()) {
        let mut found: Vec<(f64, Vec<usize>)> = grown.iter().flat_map(|set| likelihood.grow(set)).collect();
        found.sort_by(|(one, first), (other, second)| other.total_cmp(one).then_with(|| first.cmp(second)));
        found.dedup();
        let of = |many: usize| found.iter().filter(move |(_, set)| set.len() == many).take(OFFERED).cloned();
        grown = of(more).take(GROWN).map(|(_, set)| set).collect();
        offered.extend(of(more).chain(of(more - 1).filter(|(_, set)| set.len() > 1)));
    }
    let belief = |set: &[usize]| CHANGED[set.len() - 1] / choices(weeks - 1, set.len());
    let weights: Vec<f64> = offered.iter().map(|(likelihood, set)| likelihood * belief(set)).collect();
    let least = weights.iter().copied().fold(likelihood.steady(), f64::max) * UNOFFERED;
    let believed = offered.into_iter().zip(weights).filter(|(_, weight)| *weight > least);
    let many = believed.map(|((_, set), _)| Changes { belief: belief(&set), weeks: set });
    (1..weeks).map(single).chain(many).collect()
}

/// How well two levels, taken in turn, tell the roots: up to a factor that is the same for all sets of changes.
struct Likelihood {
    apart: f64,
    /// Sum of the roots before each week, and after the last.
    before: Vec<f64>,
    squares: f64,
}

impl Likelihood {
    fn new(roots: &[f64], apart: f64) -> Self {
        Self { apart, before: sums(roots.iter().copied()), squares: roots.iter().map(|root| root * root).sum() }
    }

    fn weeks(&self) -> usize {
        self.before.len() - 1
    }

    /// This set with one change more, or two: the likeliest.
    fn grow(&self, set: &[usize]) -> Vec<(f64, Vec<usize>)> {
        let weeks = self.weeks();
        let other = |week: usize| set.partition_point(|change| *change <= week) % 2 == 1;
        let sign = |week: usize| if other(week) { -1.0 } else { 1.0 };
        let own = sums((0..weeks).map(|week| if other(week) { 1.0 } else { 0.0 }));
        let spent =
            sums((0..weeks).map(|week| if other(week) { self.before[week + 1] - self.before[week] } else { 0.0 }));
        let turned = sums((0..weeks).map(sign));
        let turned_spent = sums((0..weeks).map(|week| sign(week) * (self.before[week + 1] - self.before[week])));
        let free = |week: usize| set.iter().all(|change| change.abs_diff(week) >= LEAST_STAY);
        let mut found: [Vec<(f64, usize, usize)>; 2] = Default::default();
        for from in (1..weeks).filter(|week| free(*week)) {
            for to in (from + LEAST_STAY..weeks).filter(|week| free(*week)).chain([weeks]) {
                let in_other = own[weeks] + turned[to] - turned[from];
                let spent = spent[weeks] + turned_spent[to] - turned_spent[from];
                found[usize::from(to == weeks)].push((self.of(in_other, spent), from, to));
            }
        }
        let likeliest = |mut found: Vec<(f64, usize, usize)>| {
            if found.len() > OFFERED {
                found.select_nth_unstable_by(OFFERED, |one, other| other.0.total_cmp(&one.0));
            }
            found.truncate(OFFERED);
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
    fn steady(&self) -> f64 {
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
fn choices(all: usize, chosen: usize) -> f64 {
    (0..chosen).fold(1.0, |ways, place| ways * count(all.saturating_sub(place)) / count(place + 1))
}

/// Two habits, as the past shows them.
pub(super) struct Habits {
    /// Weeks since the last change.
    lasted: f64,
    /// The habit that is kept now …
    present: Stays,
    /// … and the other.
    other: Stays,
    /// The weeks before which it changes if the year comes again; empty if that cannot be said.
    year: Vec<usize>,
}

/// How long and how often a habit was kept.
#[derive(Clone, Copy, Default)]
struct Stays {
    weeks: f64,
    /// How often it was given up.
    ended: u32,
}

impl Habits {
    /// Those of so many weeks, changed before each of these. The weeks may be those of the year that ends now.
    pub(super) fn new(weeks: usize, changes: &[usize], are_a_year: bool) -> Self {
        let (mut present, mut other) = (Stays::default(), Stays::default());
        let mut begin = 0;
        for change in changes {
            present.weeks += count(change - begin);
            present.ended += 1;
            std::mem::swap(&mut present, &mut other);
            begin = *change;
        }
        let lasted = count(weeks - begin);
        present.weeks += lasted;
        let year = if are_a_year && changes.len().is_multiple_of(2) { changes.to_vec() } else { Vec::new() };
        Self { lasted, present, other, year }
    }

    /// Draws a future of them: the weeks before which the pace changes.
    pub(super) fn future(&self, chance: &mut Chance) -> Vec<usize> {
        if !self.year.is_empty() && chance.share() < YEARLY {
            return self.year.clone();
        }
        let all = (self.present.weeks + self.other.weeks) * NEVER_ENDED;
        let mut rate = |stays: Stays| {
            let squares: f64 = (0..=2 * stays.ended.min(MOST_ENDED)).map(|_| chance.normal()).map(|it| it * it).sum();
            squares / 2.0 / if stays.ended > 0 { stays.weeks } else { all }
        };
        let (mut present, mut other) = (rate(self.present), rate(self.other));
        let (mut lasted, mut back) = (self.lasted, if self.present.ended > 0 { 0.0 } else { BACK });
        let mut changes = Vec::new();
        for week in 0..WEEKS {
            let turns = lasted * present;
            let overdue = OVERDUE * turns * turns / (0.25 + turns * turns);
            if chance.share() < present * overdue + back / (lasted * lasted) {
                changes.push(week);
                std::mem::swap(&mut present, &mut other);
                (lasted, back) = (0.0, 0.0);
            }
            lasted += 1.0;
        }
        changes
    }
}
