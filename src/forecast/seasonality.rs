//! Rhythms longer than a week: how much more or less is spent in each part of a cycle, such as a month or a quarter.
//!
//! A rhythm is only offered here; how far it is believed is `pace.rs`'s to say, by what it would have foretold.

use chrono::{Datelike as _, NaiveDate};
use rust_decimal::prelude::ToPrimitive as _;

use crate::forecast::sampling::WEEKS;

/// Every cycle that is offered, and how believable each is before the ledger is read.
const CYCLES: [(Cycle, f64); 6] = [
    (Cycle::Days(14), 0.06),
    (Cycle::Days(28), 0.04),
    (Cycle::Days(30), 0.06),
    (Cycle::Month, 0.12),
    (Cycle::Days(91), 0.04),
    (Cycle::Quarter, 0.08),
];
/// How believable it is that there is none of them.
const NONE: f64 = 0.6;
/// A cycle is offered once the ledger holds it so many times.
const LEAST_TURNS: i64 = 2;
/// Weeks whose places in the cycle are less than this apart, in days, are alike.
const ALIKE: i64 = 6;
/// As if so many weeks more had shown that nothing is special here.
const DOUBT: f64 = 0.5;
/// The roots of the most and of the least that a week's place alone makes of its share.
const MOST: f64 = 4.0;
const LEAST: f64 = 0.2;
/// Weeks at least so much alike may stand for each other in a future.
const SAME: f64 = 0.3;

#[derive(Clone, Copy)]
enum Cycle {
    /// So many days, whatever the date.
    Days(i64),
    /// Counted from the end of each calendar month …
    Month,
    /// … and of each calendar quarter.
    Quarter,
}

impl Cycle {
    fn length(self) -> i64 {
        match self {
            Self::Days(days) => days,
            Self::Month => 30,
            Self::Quarter => 91,
        }
    }

    /// How many days are left of it.
    fn left(self, day: NaiveDate) -> i64 {
        let months = match self {
            Self::Days(days) => return i64::from(day.num_days_from_ce()).rem_euclid(days),
            Self::Month => 1,
            Self::Quarter => 3,
        };
        let last = (day.month0() / months + 1) * months;
        let (year, month) = if last < 12 { (day.year(), last) } else { (day.year() + 1, 0) };
        let next = NaiveDate::from_ymd_opt(year, month + 1, 1).unwrap_or(NaiveDate::MAX);
        (next - day).num_days().min(self.length())
    }

    /// How alike two places are: 1 if they are the same, 0 if they are not alike at all.
    fn alike(self, one: i64, other: i64) -> f64 {
        let apart = (one - other).abs();
        let apart = apart.min(self.length() - apart).min(ALIKE);
        count(ALIKE - apart) / count(ALIKE)
    }
}

/// What a cycle, or none, says of each week: the root of its share of a usual week.
pub(super) struct Rhythm {
    pub(super) belief: f64,
    /// Of each past week, as the weeks before it tell.
    pub(super) foretold: Vec<f64>,
    /// Of each past week, as the others tell.
    pub(super) past: Vec<f64>,
    /// Of each week to come.
    pub(super) ahead: Vec<f64>,
    /// For each week to come, the past weeks in the same place; empty if all are.
    pub(super) same: Vec<Vec<usize>>,
}

/// No rhythm at all, and each whose cycle has come often enough in these weeks, each of which began on one of these
/// days; the first week to come begins on `today`.
pub(super) fn rhythms(roots: &[f64], begins: &[NaiveDate], today: NaiveDate) -> Vec<Rhythm> {
    let flat = |weeks: usize| vec![1.0; weeks];
    let none = Rhythm {
        belief: NONE,
        foretold: flat(roots.len()),
        past: flat(roots.len()),
        ahead: flat(WEEKS),
        same: vec![Vec::new(); WEEKS],
    };
    let days = 7 * i64::try_from(roots.len()).unwrap_or(0);
    let offered = CYCLES.iter().filter(|(cycle, _)| cycle.length() * LEAST_TURNS <= days);
    let told = offered.map(|(cycle, belief)| Rhythm::new(*cycle, *belief, roots, (begins, today)));
    [none].into_iter().chain(told).collect()
}

impl Rhythm {
    fn new(cycle: Cycle, belief: f64, roots: &[f64], (begins, today): (&[NaiveDate], NaiveDate)) -> Self {
        let past: Vec<i64> = begins.iter().map(|day| cycle.left(*day)).collect();
        let coming = |week: i64| cycle.left(today + chrono::Duration::days(7 * week));
        let ahead: Vec<i64> = (0..).take(WEEKS).map(coming).collect();
        let ratios = ratios(cycle, roots);
        let learnt = |place: i64, from: &[usize]| {
            let (mut sum, mut all) = (DOUBT, DOUBT);
            for week in from {
                let alike = cycle.alike(place, past[*week]);
                sum += alike * ratios[*week];
                all += alike;
            }
            (sum / all).clamp(LEAST, MOST)
        };
        let every: Vec<usize> = (0..roots.len()).collect();
        let others = |week: usize| -> Vec<usize> { every.iter().copied().filter(|it| *it != week).collect() };
        let same = |place: i64| -> Vec<usize> {
            every.iter().copied().filter(|week| cycle.alike(place, past[*week]) > SAME).collect()
        };
        Self {
            belief,
            foretold: every.iter().map(|week| learnt(past[*week], &every[..*week])).collect(),
            past: every.iter().map(|week| learnt(past[*week], &others(*week))).collect(),
            ahead: ahead.iter().map(|place| learnt(*place, &every)).collect(),
            same: ahead.iter().map(|place| same(*place)).collect(),
        }
    }
}

/// Each week's root as a share of the mean of those around it, a whole cycle in all.
fn ratios(cycle: Cycle, roots: &[f64]) -> Vec<f64> {
    let around = usize::try_from(cycle.length() / 14).unwrap_or(1).max(1);
    let ratio = |(week, root): (usize, &f64)| {
        let (from, to) = (week.saturating_sub(around), (week + around + 1).min(roots.len()));
        let mean = roots[from..to].iter().sum::<f64>() / (to - from).to_f64().unwrap_or(1.0);
        root / mean.max(0.1)
    };
    roots.iter().enumerate().map(ratio).collect()
}

fn count(days: i64) -> f64 {
    days.to_f64().unwrap_or(0.0)
}
