//! Days on which an account places its renewals: certain weekdays, or one working day of each month.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike as _, NaiveDate};

use super::horizon::DAYS;
use super::purchase::Renewal;
use super::random::SeededRng;
use super::ratio::count;

/// Number of renewals needed to recognise a pattern in their days.
const MIN_RENEWALS: usize = 14;
/// A weekday is avoided if its share of the renewals is below this part of an even share.
const AVOIDED_SHARE: f64 = 0.5;
/// A working day of the month is the renewal day if at least this share of the renewals is placed on it …
const USUAL_DAY_SHARE: f64 = 0.6;
/// … in at least this number of months.
const MIN_MONTHS: usize = 3;
/// Working days looked at, counted from the beginning and from the end of a month.
const MAX_WORKING_DAY: i32 = 8;
/// Offsets of the days near a planned day, nearest first.
const NEAREST_OFFSETS: [isize; 7] = [0, -1, 1, -2, 2, -3, 3];

/// Days on which an account places renewals.
#[derive(Debug, Clone)]
pub(super) enum RenewalCalendar {
    /// Probability, for each of the next seven days and every seventh day after it, that a renewal planned for that
    /// day is placed then and not on a day near it.
    Weekdays([f64; 7]),
    /// Index of the renewal day nearest to each future day.
    Months(Vec<usize>),
}

impl RenewalCalendar {
    pub(super) fn read(renewals: &[Renewal], today: NaiveDate) -> Self {
        if renewals.len() < MIN_RENEWALS {
            return Self::Weekdays([1.0; 7]);
        }
        let mut days: BTreeMap<NaiveDate, usize> = BTreeMap::new();
        for renewal in renewals {
            *days.entry(renewal.on).or_default() += 1;
        }
        let min_renewals = count(renewals.len()) * USUAL_DAY_SHARE;
        let is_usual_rank = |rank: &i32| {
            let ranked = || days.iter().filter(|(day, _)| is_working_day_number(**day, *rank));
            let months: BTreeSet<_> = ranked().map(|(day, _)| (day.year(), day.month())).collect();
            count(ranked().map(|(_, made)| made).sum()) >= min_renewals && months.len() >= MIN_MONTHS
        };
        match (-MAX_WORKING_DAY..=MAX_WORKING_DAY).filter(|rank| *rank != 0).find(is_usual_rank) {
            Some(rank) => Self::months(rank, today),
            None => Self::weekdays(&days, today),
        }
    }

    fn weekdays(days: &BTreeMap<NaiveDate, usize>, today: NaiveDate) -> Self {
        let mut made = [0; 7];
        for (day, renewals) in days {
            made[usize::try_from((*day - today).num_days().rem_euclid(7)).unwrap_or(0)] += renewals;
        }
        let usual = count(made.iter().sum()) * AVOIDED_SHARE / 7.0;
        Self::Weekdays(made.map(|made| (count(made) / usual).min(1.0)))
    }

    fn months(rank: i32, today: NaiveDate) -> Self {
        let ahead = (0..).zip(today.iter_days()).take(DAYS + 31);
        let made: Vec<usize> =
            ahead.filter(|(_, day)| is_working_day_number(*day, rank)).map(|(ahead, _)| ahead).collect();
        let nearest = |day: usize| made.iter().copied().min_by_key(|made| made.abs_diff(day)).unwrap_or(day);
        Self::Months((0..DAYS).map(nearest).collect())
    }

    /// Returns the day on which a renewal is placed that is planned `day` days from now.
    pub(super) fn nearest_renewal_day(&self, day: usize, rng: &mut SeededRng) -> usize {
        match self {
            Self::Months(nearest) => nearest.get(day).copied().unwrap_or(day),
            Self::Weekdays(weekdays) => {
                let mut near = NEAREST_OFFSETS.into_iter().filter_map(|days| day.checked_add_signed(days));
                let mut is_made = |day: &usize| {
                    let made = weekdays[day % 7];
                    made >= 1.0 || made > 0.0 && rng.uniform() < made
                };
                near.find(|day| is_made(day)).unwrap_or(day)
            }
        }
    }
}

/// Reports whether a day is the working day of its month with this number, counted from the beginning, or from the
/// end if negative.
fn is_working_day_number(day: NaiveDate, rank: i32) -> bool {
    let is_working = |day: &NaiveDate| day.weekday().num_days_from_monday() < 5;
    let same_month = |other: &NaiveDate| other.month() == day.month();
    let counted = if rank > 0 {
        day.iter_days().rev().take_while(same_month).filter(is_working).count()
    } else {
        day.iter_days().take_while(same_month).filter(is_working).count()
    };
    is_working(&day) && usize::try_from(rank.abs()) == Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).unwrap()
    }

    fn renewal(on: NaiveDate) -> Renewal {
        Renewal { renewed: 0, by: None, purchase: None, on, lead: 20 }
    }

    #[test]
    fn working_days_of_a_month_are_counted_from_both_ends() {
        assert!(
            is_working_day_number(day(2026, 11, 30), -1)
                && is_working_day_number(day(2026, 11, 27), -2)
                && is_working_day_number(day(2026, 11, 2), 1)
        );
        assert!(
            !is_working_day_number(day(2026, 11, 29), -1) && !is_working_day_number(day(2026, 11, 1), 1),
            "a weekend"
        );
        assert!(is_working_day_number(day(2026, 10, 30), -1), "the month ends on a Saturday");
    }

    #[test]
    fn month_end_renewals_stay_at_month_end() {
        let ends = [(8, 31), (9, 30), (10, 30)].map(|(month, of)| day(2026, month, of));
        let renewals: Vec<Renewal> = ends.iter().flat_map(|end| vec![renewal(*end); 6]).collect();
        let RenewalCalendar::Months(nearest) = RenewalCalendar::read(&renewals, day(2026, 11, 24)) else {
            panic!("no monthly calendar")
        };
        assert_eq!((nearest[0], nearest[18], nearest[25]), (6, 6, 37), "30 November and 31 December");
        let one_month = vec![renewal(ends[0]); 18];
        assert!(matches!(RenewalCalendar::read(&one_month, day(2026, 11, 24)), RenewalCalendar::Weekdays(_)));
        assert!(matches!(
            RenewalCalendar::read(&renewals[..13], day(2026, 11, 24)),
            RenewalCalendar::Weekdays([1.0, ..])
        ));
    }
}
