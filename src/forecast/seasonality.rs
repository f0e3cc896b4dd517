//! Seasonality: cycles longer than a week, such as a month or a quarter, and how much more or less is spent in each
//! part of one.
//!
//! This module only proposes cycles; `trend.rs` weighs them by how well they would have predicted the past.

use chrono::{Datelike as _, NaiveDate};
use rust_decimal::prelude::ToPrimitive as _;

use super::horizon::WEEKS;

/// Cycles to propose, with their prior probabilities.
const CYCLE_PRIORS: [(SpendCycle, f64); 6] = [
    (SpendCycle::Days(14), 0.06),
    (SpendCycle::Days(28), 0.04),
    (SpendCycle::Days(30), 0.06),
    (SpendCycle::Month, 0.12),
    (SpendCycle::Days(91), 0.04),
    (SpendCycle::Quarter, 0.08),
];
/// Prior probability that there is no cycle.
const NO_CYCLE_PRIOR: f64 = 0.6;
/// Number of whole cycles that the ledger must cover.
const MIN_CYCLES: i64 = 2;
/// Days from which on two positions in a cycle are not similar at all.
const SIMILAR_DAYS: i64 = 6;
/// Weight of the assumption that a position is like the mean, in weeks.
const PRIOR_WEEKS: f64 = 0.5;
/// Largest and smallest factor that the position of a week can give its root.
const MAX_ROOT_RATIO: f64 = 4.0;
const MIN_ROOT_RATIO: f64 = 0.2;
/// Similarity from which on a past week can stand for a future week.
const MIN_SIMILARITY: f64 = 0.3;

#[derive(Clone, Copy)]
enum SpendCycle {
    /// A fixed number of days, whatever the date.
    Days(i64),
    /// A calendar month, counted from its end.
    Month,
    /// A calendar quarter, counted from its end.
    Quarter,
}

impl SpendCycle {
    fn length(self) -> i64 {
        match self {
            Self::Days(days) => days,
            Self::Month => 30,
            Self::Quarter => 91,
        }
    }

    /// Returns the days left in the cycle.
    fn days_left(self, day: NaiveDate) -> i64 {
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

    /// Returns the similarity of two positions, from 0 to 1 for the same position.
    fn similarity(self, one: i64, other: i64) -> f64 {
        let apart = (one - other).abs();
        let apart = apart.min(self.length() - apart).min(SIMILAR_DAYS);
        as_float(SIMILAR_DAYS - apart) / as_float(SIMILAR_DAYS)
    }
}

/// Factors of each week's root under one cycle, or none.
pub(super) struct Seasonality {
    pub(super) prior: f64,
    /// Factor of each past week, estimated from earlier weeks only.
    pub(super) predicted: Vec<f64>,
    /// Factor of each past week, estimated from all other weeks.
    pub(super) past_weeks: Vec<f64>,
    /// Factor of each future week.
    pub(super) future_weeks: Vec<f64>,
    /// Past weeks at a similar position, for each future week; an empty list stands for all weeks.
    pub(super) similar_weeks: Vec<Vec<usize>>,
}

/// Returns the seasonality without a cycle, and one for each cycle that these weeks cover often enough. `begins` are
/// the days on which the past weeks began; the first future week begins on `today`.
pub(super) fn seasonalities(roots: &[f64], begins: &[NaiveDate], today: NaiveDate) -> Vec<Seasonality> {
    let flat = |weeks: usize| vec![1.0; weeks];
    let none = Seasonality {
        prior: NO_CYCLE_PRIOR,
        predicted: flat(roots.len()),
        past_weeks: flat(roots.len()),
        future_weeks: flat(WEEKS),
        similar_weeks: vec![Vec::new(); WEEKS],
    };
    let days = 7 * i64::try_from(roots.len()).unwrap_or(0);
    let offered = CYCLE_PRIORS.iter().filter(|(cycle, _)| cycle.length() * MIN_CYCLES <= days);
    let seasonalities = offered.map(|(cycle, prior)| Seasonality::new(*cycle, *prior, roots, (begins, today)));
    [none].into_iter().chain(seasonalities).collect()
}

impl Seasonality {
    fn new(cycle: SpendCycle, prior: f64, roots: &[f64], (begins, today): (&[NaiveDate], NaiveDate)) -> Self {
        let past: Vec<i64> = begins.iter().map(|day| cycle.days_left(*day)).collect();
        let coming = |week: i64| cycle.days_left(today + chrono::Duration::days(7 * week));
        let future_weeks: Vec<i64> = (0..).take(WEEKS).map(coming).collect();
        let ratios = ratios(cycle, roots);
        let estimate = |position: i64, from: &[usize]| {
            let (mut sum, mut all) = (PRIOR_WEEKS, PRIOR_WEEKS);
            for week in from {
                let similarity = cycle.similarity(position, past[*week]);
                sum += similarity * ratios[*week];
                all += similarity;
            }
            (sum / all).clamp(MIN_ROOT_RATIO, MAX_ROOT_RATIO)
        };
        let every: Vec<usize> = (0..roots.len()).collect();
        let others = |week: usize| -> Vec<usize> { every.iter().copied().filter(|other| *other != week).collect() };
        let same = |position: i64| -> Vec<usize> {
            every.iter().copied().filter(|week| cycle.similarity(position, past[*week]) > MIN_SIMILARITY).collect()
        };
        Self {
            prior,
            predicted: every.iter().map(|week| estimate(past[*week], &every[..*week])).collect(),
            past_weeks: every.iter().map(|week| estimate(past[*week], &others(*week))).collect(),
            future_weeks: future_weeks.iter().map(|position| estimate(*position, &every)).collect(),
            similar_weeks: future_weeks.iter().map(|position| same(*position)).collect(),
        }
    }
}

/// Returns each week's root as a share of the mean root within half a cycle around it.
fn ratios(cycle: SpendCycle, roots: &[f64]) -> Vec<f64> {
    let around = usize::try_from(cycle.length() / 14).unwrap_or(1).max(1);
    let ratio = |(week, root): (usize, &f64)| {
        let (from, to) = (week.saturating_sub(around), (week + around + 1).min(roots.len()));
        let mean = roots[from..to].iter().sum::<f64>() / (to - from).to_f64().unwrap_or(1.0);
        root / mean.max(0.1)
    };
    roots.iter().enumerate().map(ratio).collect()
}

fn as_float(days: i64) -> f64 {
    days.to_f64().unwrap_or(0.0)
}
