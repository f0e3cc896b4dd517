//! Quiet hours: times at which a notifier holds its messages.
//!
//! Hours are local times, including nights on which clocks change. If a local time occurs twice, quiet hours begin at its first
//! and end at its last occurrence. If it is skipped, they begin or end when the clock continues.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate, NaiveTime, Weekday};
use chrono_tz::Tz;

use super::{Time, local};

/// Maximum number of adjoining quiet periods, more than the nights and days of a week. Quiet hours end after that many.
const MAX_CONSECUTIVE_PERIODS: usize = 32;

/// Quiet hours of a notifier. The constructor ensures that some hour of the week is not quiet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuietHours {
    zone: Tz,
    hours: Option<(NaiveTime, NaiveTime)>,
    days: BTreeSet<u8>,
    except_critical: bool,
}

/// Error for quiet hours that are impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuietHoursError {
    /// Neither hours nor days were given.
    #[error("neither hours nor days")]
    Never,
    /// The hours begin and end at the same local time.
    #[error("hours that end when they begin")]
    NoLength,
    /// No message would ever be sent.
    #[error("every day of the week, so that no message would ever be sent")]
    Always,
}

impl QuietHours {
    /// Creates quiet hours: daily from one time to another (over midnight if the second is earlier), and all day on some days.
    pub fn new(
        zone: Tz,
        hours: Option<(NaiveTime, NaiveTime)>,
        days: impl IntoIterator<Item = Weekday>,
        except_critical: bool,
    ) -> Result<Self, QuietHoursError> {
        let days: BTreeSet<u8> = days.into_iter().map(weekday_number).collect();
        match hours {
            Some((from, to)) if from == to => Err(QuietHoursError::NoLength),
            None if days.is_empty() => Err(QuietHoursError::Never),
            _ if days.len() == 7 => Err(QuietHoursError::Always),
            _ => Ok(Self { zone, hours, days, except_critical }),
        }
    }

    /// Returns the end of the quiet hours at `now`; `None` outside quiet hours.
    pub fn until(&self, now: Time) -> Option<Time> {
        let mut end = None;
        // Adjoining periods count as one: a night, a weekend, and the night after it.
        for _ in 0..MAX_CONSECUTIVE_PERIODS {
            let Some(later) = self.end_of_period(end.unwrap_or(now)) else { break };
            end = Some(later);
        }
        end
    }

    /// Returns the time until which pending events are held at `now`; `None` if they may be sent. If critical is excepted, they may
    /// be sent as soon as one of them is about critical: its beginning, a reminder or its end.
    pub fn quiet_until(&self, now: Time, about_critical: bool) -> Option<Time> {
        self.until(now).filter(|_| !(self.except_critical && about_critical))
    }

    /// Returns the latest end of the hours and days that contain `at`.
    fn end_of_period(&self, at: Time) -> Option<Time> {
        let today = at.with_timezone(&self.zone).date_naive();
        // Yesterday's hours may reach into today. So may yesterday itself, if the clock was set back at midnight.
        let dates = [today.pred_opt(), Some(today), today.succ_opt()].into_iter().flatten();
        let spans = dates.flat_map(|date| [self.hours_from(date), self.day(date)]).flatten();
        spans.filter(|(start, end)| *start <= at && at < *end).map(|(_, end)| end).max()
    }

    fn hours_from(&self, date: NaiveDate) -> Option<(Time, Time)> {
        let (from, to) = self.hours?;
        let last = if from < to { date } else { date.succ_opt()? };
        Some((local::first(self.zone, date.and_time(from)), local::last(self.zone, last.and_time(to))))
    }

    fn day(&self, date: NaiveDate) -> Option<(Time, Time)> {
        let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN);
        self.days.contains(&weekday_number(date.weekday())).then_some(())?;
        Some((local::first(self.zone, midnight(date)), local::last(self.zone, midnight(date.succ_opt()?))))
    }
}

/// Returns a number to sort weekdays by, which have no order of their own.
fn weekday_number(day: Weekday) -> u8 {
    u8::try_from(day.num_days_from_monday()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Duration, Offset, TimeZone, Timelike};
    use proptest::prelude::*;

    fn at(text: &str) -> Time {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[allow(clippy::unnecessary_wraps)] // the shape that the constructor wants
    fn hours(from: &str, to: &str) -> Option<(NaiveTime, NaiveTime)> {
        Some((from.parse().unwrap(), to.parse().unwrap()))
    }

    fn table(quiet: &QuietHours, rows: &[(&str, Option<&str>)]) {
        for (now, until) in rows {
            assert_eq!(quiet.until(at(now)), until.map(at), "{now}");
        }
    }

    const BERLIN: Tz = Tz::Europe__Berlin;

    #[test]
    fn a_night_and_a_weekend_are_one_quiet_period() {
        let quiet = QuietHours::new(BERLIN, hours("19:00:00", "07:30:00"), [Weekday::Sat, Weekday::Sun], true).unwrap();
        // 23 November 2026 is a Monday.
        table(
            &quiet,
            &[
                ("2026-11-23T09:15:00+01:00", None),
                ("2026-11-23T18:59:59+01:00", None),
                ("2026-11-23T19:00:00+01:00", Some("2026-11-24T07:30:00+01:00")),
                ("2026-11-24T07:29:59+01:00", Some("2026-11-24T07:30:00+01:00")),
                ("2026-11-24T07:30:00+01:00", None),
                ("2026-11-27T19:00:00+01:00", Some("2026-11-30T07:30:00+01:00")),
                ("2026-11-29T12:00:00+01:00", Some("2026-11-30T07:30:00+01:00")),
            ],
        );
    }

    #[test]
    fn hours_within_a_day_and_days_alone() {
        let lunch = QuietHours::new(BERLIN, hours("12:00:00", "13:00:00"), [], false).unwrap();
        table(
            &lunch,
            &[
                ("2026-11-23T11:59:59+01:00", None),
                ("2026-11-23T12:00:00+01:00", Some("2026-11-23T13:00:00+01:00")),
                ("2026-11-23T13:00:00+01:00", None),
            ],
        );
        let sunday = QuietHours::new(BERLIN, None, [Weekday::Sun], false).unwrap();
        table(
            &sunday,
            &[
                ("2026-11-28T23:59:59+01:00", None),
                ("2026-11-29T00:00:00+01:00", Some("2026-11-30T00:00:00+01:00")),
                ("2026-11-30T00:00:00+01:00", None),
            ],
        );
    }

    #[test]
    fn quiet_follows_the_local_clock_when_clocks_change() {
        let night = QuietHours::new(BERLIN, hours("19:00:00", "07:30:00"), [], false).unwrap();
        table(
            &night,
            &[
                ("2026-03-28T19:00:00+01:00", Some("2026-03-29T07:30:00+02:00")),
                ("2026-10-24T19:00:00+02:00", Some("2026-10-25T07:30:00+01:00")),
            ],
        );
        // To a time that is skipped, and to one that comes twice.
        let short = QuietHours::new(BERLIN, hours("01:00:00", "02:30:00"), [], false).unwrap();
        table(
            &short,
            &[
                ("2026-03-29T01:59:59+01:00", Some("2026-03-29T03:00:00+02:00")),
                ("2026-03-29T03:00:00+02:00", None),
                ("2026-10-25T02:29:00+02:00", Some("2026-10-25T02:30:00+01:00")),
                ("2026-10-25T02:45:00+02:00", Some("2026-10-25T02:30:00+01:00")),
                ("2026-10-25T02:30:00+01:00", None),
            ],
        );
        // From a time that is skipped, and from one that comes twice.
        let late = QuietHours::new(BERLIN, hours("02:30:00", "05:00:00"), [], false).unwrap();
        table(
            &late,
            &[
                ("2026-03-29T01:59:59+01:00", None),
                ("2026-03-29T03:00:00+02:00", Some("2026-03-29T05:00:00+02:00")),
                ("2026-10-25T02:30:00+02:00", Some("2026-10-25T05:00:00+01:00")),
                ("2026-10-25T02:00:00+01:00", Some("2026-10-25T05:00:00+01:00")),
            ],
        );
        // Both within the hour that is skipped: no such quiet that day.
        let gone = QuietHours::new(BERLIN, hours("02:10:00", "02:50:00"), [], false).unwrap();
        table(
            &gone,
            &[("2026-03-29T03:00:00+02:00", None), ("2026-03-30T02:10:00+02:00", Some("2026-03-30T02:50:00+02:00"))],
        );
        // Where midnight itself is skipped.
        let sunday = QuietHours::new(Tz::America__Santiago, None, [Weekday::Sun], false).unwrap();
        table(
            &sunday,
            &[("2026-09-05T23:59:59-04:00", None), ("2026-09-06T01:00:00-03:00", Some("2026-09-07T00:00:00-03:00"))],
        );
    }

    #[test]
    fn quiet_hours_that_never_begin_or_never_end_are_refused() {
        use Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
        let new = |hours, days: &[Weekday]| QuietHours::new(BERLIN, hours, days.iter().copied(), false).unwrap_err();
        assert_eq!(new(None, &[]), QuietHoursError::Never);
        assert_eq!(new(hours("07:00:00", "07:00:00"), &[]), QuietHoursError::NoLength);
        assert_eq!(new(hours("07:00:00", "08:00:00"), &[Mon, Tue, Wed, Thu, Fri, Sat, Sun]), QuietHoursError::Always);
    }

    const ZONES: [Tz; 6] = [
        Tz::Europe__Berlin,
        Tz::America__New_York,
        Tz::America__Santiago,
        Tz::Australia__Lord_Howe,
        Tz::Asia__Beirut,
        Tz::UTC,
    ];

    prop_compose! {
        fn any_quiet()(zone in 0usize..6, from in 0u32..1440, length in 1u32..1440, has_hours in any::<bool>(), days in 0u8..127) -> QuietHours {
            let time = |minute: u32| NaiveTime::from_hms_opt(minute / 60 % 24, minute % 60, 0).unwrap();
            let hours = (has_hours || days == 0).then(|| (time(from), time(from + length)));
            let days = (0..7u8).filter(|day| days & (1 << day) > 0).map(|day| Weekday::try_from(day).unwrap());
            QuietHours::new(ZONES[zone], hours, days, false).unwrap()
        }
    }

    proptest! {
        #[test]
        fn quiet_lasts_exactly_until_its_end(quiet in any_quiet(), minutes in 0i64..600_000, share in 0.0f64..1.0) {
            let now = at("2026-01-01T00:00:00Z") + Duration::minutes(minutes);
            if let Some(until) = quiet.until(now) {
                prop_assert!(until > now && until - now < Duration::days(8), "{until}");
                prop_assert_eq!(quiet.until(until), None, "it has ended at its end");
                #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
                let within = now + Duration::seconds(((until - now).num_seconds() as f64 * share) as i64);
                prop_assert_eq!(quiet.until(within.min(until - Duration::seconds(1))), Some(until), "one quiet period has one end");
            }
        }

        #[test]
        fn without_clock_changes_quiet_follows_local_time(quiet in any_quiet(), minutes in 0i64..600_000) {
            let now = at("2026-01-01T00:00:00Z") + Duration::minutes(minutes);
            let offset = |at: Time| quiet.zone.offset_from_utc_datetime(&at.naive_utc()).fix();
            let calm = (-26..=26).all(|hours| offset(now) == offset(now + Duration::hours(hours)));
            let shown = now.with_timezone(&quiet.zone);
            let time = NaiveTime::from_hms_opt(shown.hour(), shown.minute(), 0).unwrap();
            let in_hours = quiet.hours.is_some_and(|(from, to)| {
                if from < to { from <= time && time < to } else { time >= from || time < to }
            });
            if calm {
                let quiet_now = in_hours || quiet.days.contains(&weekday_number(shown.weekday()));
                prop_assert_eq!(quiet.until(now).is_some(), quiet_now);
            }
        }
    }
}
