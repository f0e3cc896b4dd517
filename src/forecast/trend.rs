//! How the pace of spending moves: a set of stories, each scored by how well it would have foretold every week of the
//! ledger from the weeks before it.
//!
//! Only ratios are computed here, never amounts: each week's spend as a share of the mean week's. They are floating
//! point, but made with `+ − × ÷ √` alone, which give the same result everywhere.

use std::rc::Rc;

use rust_decimal::prelude::ToPrimitive as _;

use super::ratio::share;
use crate::forecast::regimes::{Changes, Habits, changes};
use crate::forecast::seasonality::{Rhythm, rhythms};
use crate::forecast::spend_history::{History, Minor};

/// How restless the level is: the variance of its weekly step, as a share of the variance of a week's chance, and
/// how believable that is before the ledger is read.
const WANDERS: [(f64, f64); 5] = [(0.0, 0.3), (0.004, 0.2), (0.015, 0.2), (0.05, 0.15), (0.2, 0.15)];
/// The level has no slope.
const STRAIGHT: Turn = Turn { belief: 0.21, spread: 0.0, kept: 1.0 };
/// Whether the level has a slope, and how that turns.
const TURNS: [Turn; 4] = [
    STRAIGHT,
    Turn { belief: 0.2, spread: 0.07, kept: 1.0 },
    Turn { belief: 0.15, spread: 0.07, kept: 0.95 },
    Turn { belief: 0.3, spread: 0.2, kept: 0.95 },
];
/// How believable it is that the pace changed once and has been fading back since, by how much of the change is left a
/// week later.
const FADING: [(f64, f64); 2] = [(0.76, 0.03), (0.88, 0.03)];
/// A change that is fading came at most so many weeks ago.
const FADING_WEEKS: usize = 20;
/// Goes from one habit to the other: the slope is how much more the other one has.
const TO_THE_OTHER: Turn = Turn { belief: 0.0, spread: 0.0, kept: -1.0 };
/// How far the pace changes: a variance, as a share of that of a week's chance.
const CHANGE: f64 = 9.0;
/// Stories less believable than this share of the best one are not told.
const UNTOLD: f64 = 0.002;
/// Weeks after which the same days of the year, and of the week, come again.
const YEAR_WEEKS: i64 = 52;
/// Nothing is known of the first week's level.
const UNKNOWN: f64 = 1000.0;
/// So many weeks' worth of the ledger went into choosing a story, and tell nothing of the size of chance.
const LEARNT: usize = 2;
/// Where no week ever surprises, chance is very small, not 0: nothing may be divided by it.
const LEAST_SUM: f64 = 1e-8;
/// What lies below it is not blown up further.
const LEAST_ROOT: f64 = 0.1;
/// A level that moves more than this share of the way to its own week tells nothing of that week's chance.
const MOST_PULLED: f64 = 0.6;
/// No week is scaled by more than the square of this.
const MOST_RATIO: f64 = 4.0;

/// How far the sum of weeks that know nothing of each other usually ranges from its mean, in deviations of that sum.
const USUAL_RANGE: f64 = 1.25;
/// The same of weeks that make up for each other, in so few weeks as a ledger has.
const LEAST_RANGE: f64 = 0.35;
/// A ledger that ranges less than this is even; one that ranges more than that is not. Of those that are not, one in forty ranges less
/// than the first.
const EVEN: f64 = 0.75;
const UNEVEN: f64 = 0.95;

/// How the slope of the level behaves.
#[derive(Clone, Copy)]
struct Turn {
    /// How believable that is before the ledger is read.
    belief: f64,
    /// How steep slopes are: a standard deviation, in those of a week's chance.
    spread: f64,
    /// How much of a slope is left a week later; the rest is drawn anew.
    kept: f64,
}

/// One way in which the pace may have moved, and will. Levels are roots of shares of the mean week.
pub(super) struct Story {
    /// How believable it is, among all of them.
    pub(super) weight: f64,
    /// The level at the end of the ledger.
    pub(super) level: f64,
    /// How unsure that is: a standard deviation.
    pub(super) unsure: f64,
    /// How far the level steps in a week: a standard deviation.
    pub(super) step: f64,
    /// How much it grows in a week, at the end of the ledger.
    pub(super) slope: f64,
    /// How much steeper it is if the level is one deviation higher.
    pub(super) tied: f64,
    /// How unsure the slope is beside that: a standard deviation.
    pub(super) slope_unsure: f64,
    /// How much of the slope is left a week later.
    pub(super) kept: f64,
    /// How far it turns in a week: a standard deviation.
    pub(super) turn: f64,
    /// Two habits that it keeps in turn; the slope is how much more the other one has.
    pub(super) habits: Option<Habits>,
    /// How far each past week lay from its level, and the root of what it spent.
    pub(super) past: Vec<(f64, f64)>,
    /// What each week to come has of the level.
    pub(super) rhythm: Rc<Rhythm>,
}

/// All stories of the weeks of this history; none if nothing was spent.
pub(super) fn stories(history: &History) -> Vec<Story> {
    let totals: Vec<Minor> = history.body.iter().map(|week| week.iter().sum()).collect();
    let weeks = Minor::try_from(totals.len()).unwrap_or(Minor::MAX).max(1);
    let mean = totals.iter().sum::<Minor>() / weeks;
    if mean == 0 {
        return Vec::new();
    }
    let roots: Vec<f64> = totals.iter().map(|total| share(*total, mean).sqrt()).collect();
    let rhythms: Vec<Rc<Rhythm>> = rhythms(&roots, &history.begins, history.today).into_iter().map(Rc::new).collect();
    let paths = paths(&roots);
    let first = history.today - chrono::Duration::days(7 * YEAR_WEEKS);
    let are_a_year = weeks == YEAR_WEEKS && history.begins.first() == Some(&first);
    let told = rhythms.iter().flat_map(|rhythm| paths.iter().map(move |path| (rhythm, path)));
    let told: Vec<(&Rc<Rhythm>, &Path, Foretold)> =
        told.map(|(rhythm, path)| (rhythm, path, Foretold::new(&roots, &rhythm.foretold, path))).collect();
    let Some((.., reference)) = told.first() else { return Vec::new() };
    let weigh =
        |(rhythm, path, it): &(&Rc<Rhythm>, &Path, Foretold)| rhythm.belief * path.belief * it.likelihood(reference);
    let weights: Vec<f64> = told.iter().map(weigh).collect();
    let least = weights.iter().copied().fold(0.0, f64::max) * UNTOLD;
    let believed = told.iter().zip(weights).filter(|(_, weight)| *weight >= least);
    believed.map(|((rhythm, path, it), weight)| it.story(weight, path, rhythm, (&roots, are_a_year))).collect()
}

/// Every way in which the level may have moved.
fn paths(roots: &[f64]) -> Vec<Path> {
    let weeks = roots.len();
    let restless = WANDERS.iter().flat_map(|(wander, belief)| {
        TURNS.iter().map(move |turn| Path {
            belief: belief * turn.belief,
            wander: *wander,
            turn: *turn,
            change: Change::None,
        })
    });
    let straight = |belief, turn, change| Path { belief, wander: 0.0, turn, change };
    let habits = changes(roots, CHANGE).into_iter();
    let habits = habits.map(|Changes { weeks, belief }| straight(belief, STRAIGHT, Change::Habits(weeks)));
    let first = weeks.saturating_sub(FADING_WEEKS).max(1);
    let fading = FADING.iter().flat_map(|(kept, belief)| {
        let each = belief / f64::from(u32::try_from(weeks - first).unwrap_or(1));
        let turn = Turn { kept: *kept, ..STRAIGHT };
        (first..weeks).map(move |week| straight(each, turn, Change::Fading(week)))
    });
    restless.chain(habits).chain(fading).collect()
}

/// A ratio as a whole number of 65 536ths, to scale an amount with.
pub(super) fn scale(story: &Story, level: f64, ahead: usize, week: usize) -> i64 {
    let level = level * story.rhythm.ahead.get(ahead).copied().unwrap_or(1.0);
    let (chance, root) = story.past.get(week).copied().unwrap_or((0.0, 1.0));
    let ratio = ((level + chance).max(0.0) / root.max(LEAST_ROOT)).min(MOST_RATIO);
    (ratio * ratio * 65_536.0).round().to_i64().unwrap_or(0)
}

/// What is known of level and slope: their means, variances, and what ties them.
#[derive(Clone, Copy)]
struct Known {
    level: f64,
    slope: f64,
    of_level: f64,
    of_both: f64,
    of_slope: f64,
}

/// One way in which the level may have moved.
struct Path {
    belief: f64,
    wander: f64,
    turn: Turn,
    change: Change,
}

/// When the pace changed.
enum Change {
    None,
    /// Between two habits, before each of these weeks.
    Habits(Vec<usize>),
    /// Before this week, and it has been fading back since.
    Fading(usize),
}

impl Path {
    /// What is known before the first week.
    fn at_first(&self) -> Known {
        let of_slope = match self.change {
            Change::Habits(_) => CHANGE,
            _ => self.turn.spread * self.turn.spread,
        };
        Known { level: 1.0, slope: 0.0, of_level: UNKNOWN, of_both: 0.0, of_slope }
    }

    /// What is known before this week, from what was known after the week before.
    fn move_on(&self, week: usize, known: Known) -> Known {
        match &self.change {
            Change::None => known.a_week_later(self.wander, self.turn),
            Change::Habits(weeks) if weeks.contains(&week) => known.a_week_later(0.0, TO_THE_OTHER),
            Change::Habits(_) => known,
            Change::Fading(first) => {
                let known = known.a_week_later(self.wander, self.turn);
                if *first == week { known.having_changed(1.0 - self.turn.kept) } else { known }
            }
        }
    }

    /// Told from the end to the beginning. There a fade runs the wrong way, which only the chances of its weeks depend on.
    fn back(&self, weeks: usize) -> Self {
        let change = match &self.change {
            Change::None => Change::None,
            Change::Habits(changes) => Change::Habits(changes.iter().rev().map(|week| weeks - week).collect()),
            Change::Fading(week) => Change::Fading(weeks - week),
        };
        Self { change, ..*self }
    }
}

/// How well a story foretold each week from those before it.
struct Foretold {
    /// Variance of each week's surprise, the first left out.
    spreads: Vec<f64>,
    /// Of the squares of the surprises, each over its variance.
    sum: f64,
}

/// What is known before each week, and after it.
type Course = Vec<(Known, Known)>;

/// A Kalman filter of level and slope with chance of variance 1, run over the weeks: tells of each how far it
/// surprised, the variance of that, and what was known before and after.
fn filter(roots: &[f64], shares: &[f64], path: &Path, mut tell: impl FnMut(usize, f64, f64, (Known, Known))) {
    let mut known = path.at_first();
    for (week, (root, share)) in roots.iter().zip(shares).enumerate() {
        if week > 0 {
            known = path.move_on(week, known);
        }
        let before = known;
        let (surprise, spread) = (root - known.level * share, known.of_level * share * share + 1.0);
        known = known.having_seen(surprise, *share);
        tell(week, surprise, spread, (before, known));
    }
}

fn course(roots: &[f64], shares: &[f64], path: &Path) -> Course {
    let mut course = Vec::with_capacity(roots.len());
    filter(roots, shares, path, |_, _, _, known| course.push(known));
    course
}

impl Foretold {
    fn new(roots: &[f64], shares: &[f64], path: &Path) -> Self {
        let mut it = Self { spreads: Vec::with_capacity(roots.len()), sum: LEAST_SUM };
        filter(roots, shares, path, |week, surprise, spread, _| {
            if week > 0 {
                it.spreads.push(spread);
                it.sum += surprise * surprise / spread;
            }
        });
        it
    }

    /// How much better it foretold the weeks than the reference did: the ratio of their likelihoods, whatever the
    /// variance.
    fn likelihood(&self, reference: &Self) -> f64 {
        let better = (reference.sum / self.sum).sqrt();
        let spreads = self.spreads.iter().zip(&reference.spreads);
        spreads.fold(1.0, |so_far, (own, other)| so_far * (other / own).sqrt() * better)
    }

    fn story(&self, weight: f64, path: &Path, rhythm: &Rc<Rhythm>, (roots, are_a_year): (&[f64], bool)) -> Story {
        let free = self.spreads.len().saturating_sub(LEARNT).max(1);
        let chance = (self.sum / f64::from(u32::try_from(free).unwrap_or(1))).sqrt();
        let forth = course(roots, &rhythm.past, path);
        let turned = |it: &[f64]| -> Vec<f64> { it.iter().rev().copied().collect() };
        let back = course(&turned(roots), &turned(&rhythm.past), &path.back(roots.len()));
        let nothing = Known { level: 1.0, slope: 0.0, of_level: 0.0, of_both: 0.0, of_slope: 0.0 };
        let known = forth.last().map_or(nothing, |(_, after)| *after);
        let unsure = known.of_level.max(1e-9).sqrt();
        let tied = known.of_both / unsure;
        let lasting = chance * unevenness(roots);
        Story {
            weight,
            level: known.level,
            unsure: unsure * lasting,
            step: path.wander.sqrt() * lasting,
            slope: known.slope,
            tied: tied * lasting,
            slope_unsure: (known.of_slope - tied * tied).max(0.0).sqrt() * lasting,
            kept: path.turn.kept,
            turn: path.turn.renewed().sqrt() * lasting,
            habits: match &path.change {
                Change::Habits(weeks) => Some(Habits::new(roots.len(), weeks, are_a_year)),
                _ => None,
            },
            past: chances(&forth, &back, roots, &rhythm.past),
            rhythm: Rc::clone(rhythm),
        }
    }
}

/// How uneven the sums of several weeks are beside those of weeks that know nothing of each other: below 1 where what one week has
/// more than usual, the next has less, as of somebody who buys the same each week, though not on the same day.
fn unevenness(roots: &[f64]) -> f64 {
    let weeks = f64::from(u32::try_from(roots.len()).unwrap_or(1).max(2));
    let mean = roots.iter().sum::<f64>() / weeks;
    let (mut sum, mut squares, mut least, mut most) = (0.0, 0.0, 0.0_f64, 0.0_f64);
    for root in roots {
        let apart = root - mean;
        (sum, squares) = (sum + apart, squares + apart * apart);
        (least, most) = (least.min(sum), most.max(sum));
    }
    let range = (most - least) / (squares * weeks / (weeks - 1.0)).sqrt().max(LEAST_ROOT);
    let even = |range: f64| (range - LEAST_RANGE).max(0.0) / (USUAL_RANGE - LEAST_RANGE);
    let between = (range - EVEN).max(0.0) / (UNEVEN - EVEN);
    (even(range.min(EVEN)) + (1.0 - even(EVEN)) * between).min(1.0)
}

/// How far each week lay from the level that the weeks up to it, and those after it, tell together; widened by as much
/// as that level has moved towards the week itself.
fn chances(forth: &Course, back: &Course, roots: &[f64], shares: &[f64]) -> Vec<(f64, f64)> {
    let levels = forth.iter().zip(back.iter().rev()).map(|((_, past), (future, _))| {
        let all = past.of_level + future.of_level;
        let level = (past.level * future.of_level + future.level * past.of_level) / all;
        (level, past.of_level * future.of_level / all)
    });
    let told = levels.zip(roots.iter().zip(shares));
    told.map(|((level, unsure), (root, share))| {
        let pulled = (unsure * share * share).min(MOST_PULLED);
        ((root - level * share) / (1.0 - pulled).sqrt(), *root)
    })
    .collect()
}

impl Turn {
    /// Variance of what is drawn anew of the slope each week.
    fn renewed(self) -> f64 {
        self.spread * self.spread * (1.0 - self.kept * self.kept)
    }
}

impl Known {
    fn a_week_later(self, wander: f64, turn: Turn) -> Self {
        Self {
            level: self.level + self.slope,
            slope: self.slope * turn.kept,
            of_level: self.of_level + 2.0 * self.of_both + self.of_slope + wander,
            of_both: (self.of_both + self.of_slope) * turn.kept,
            of_slope: self.of_slope * turn.kept * turn.kept + turn.renewed(),
        }
    }

    /// After a change of which this share is lost each week.
    fn having_changed(self, lost: f64) -> Self {
        Self {
            of_level: self.of_level + CHANGE,
            of_both: self.of_both - lost * CHANGE,
            of_slope: self.of_slope + lost * lost * CHANGE,
            ..self
        }
    }

    fn having_seen(self, surprise: f64, share: f64) -> Self {
        let spread = self.of_level * share * share + 1.0;
        let (to_level, to_slope) = (self.of_level * share / spread, self.of_both * share / spread);
        Self {
            level: self.level + to_level * surprise,
            slope: self.slope + to_slope * surprise,
            of_level: self.of_level * (1.0 - to_level * share),
            of_both: self.of_both * (1.0 - to_level * share),
            of_slope: self.of_slope - to_slope * self.of_both * share,
        }
    }
}
