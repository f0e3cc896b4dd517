//! Schedules as people write them, and the computation of their next time. Pure, apart from the time zone tables.

mod crontab;

use std::time::Duration;

use chrono_tz::Tz;

use self::crontab::Crontab;
use crate::domain::{Time, local};

/// A schedule: a crontab in a time zone, or a fixed interval.
#[derive(Debug, Clone)]
pub struct Schedule {
    kind: ScheduleKind,
    text: String,
}

#[derive(Debug, Clone)]
enum ScheduleKind {
    Cron(Crontab),
    Every(Duration),
}

/// Reason why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither a crontab nor `every` with a duration.
    #[error("not a schedule: a crontab of 5 fields (\"*/15 * * * *\"), of 6 with seconds first, or \"every 15m\"")]
    NotASchedule,
    /// A crontab with an invalid field, described by the text.
    #[error("not a crontab: {0}")]
    NotACrontab(String),
    /// `every` with an invalid duration.
    #[error("{0}")]
    NotADuration(#[from] DurationError),
    /// A crontab that no time matches.
    #[error("this crontab never matches")]
    Never,
}

/// Reason why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number with a unit.
    #[error("not a duration: a whole number and a unit, such as 90s, 30m, 4h, 2d or 1w")]
    NotADuration,
    /// Longer than ten years.
    #[error("longer than 520w")]
    TooLong,
}

/// The longest accepted duration: ten years. It prevents overflow in sums of times.
const MAX_DURATION_SECONDS: u64 = 520 * 7 * 24 * 3600;

/// Parses `90s`, `30m`, `4h`, `2d`, `1w`, or a bare `0`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        Some(b'd') => 24 * 3600,
        Some(b'w') => 7 * 24 * 3600,
        _ => return Err(DurationError::NotADuration),
    };
    let number = &text[..text.len() - 1];
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DurationError::NotADuration);
    }
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|s| *s <= MAX_DURATION_SECONDS);
    seconds.map(Duration::from_secs).ok_or(DurationError::TooLong)
}

/// Formats of a local time, without offset.
const MOMENT_FORMATS: [&str; 2] = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"];

/// Parses `2026-12-01T09:00` in `timezone`, or with an offset: `2026-12-01T09:00Z`, `2026-12-01T09:00+01:00`. Seconds are
/// optional. A local time that occurs twice, when clocks go back, means the first. One that is skipped means the moment after
/// the gap.
pub fn parse_moment(text: &str, timezone: Tz) -> Option<Time> {
    let text = text.to_ascii_uppercase();
    let (date, time) = text.split_once(['T', ' '])?;
    let text = format!("{date}T{time}");
    let with_offset = |form: &&str| chrono::DateTime::parse_from_str(&text, &format!("{form}%#z")).ok();
    let without = |form: &&str| chrono::NaiveDateTime::parse_from_str(&text, form).ok();
    if let Some(at) = MOMENT_FORMATS.iter().find_map(with_offset) {
        return Some(at.to_utc());
    }
    MOMENT_FORMATS.iter().find_map(without).map(|shown| local::first(timezone, shown))
}

impl Schedule {
    /// Parses a crontab of 5 fields, of 6 with seconds first, or `every 15m`. Crontabs are in `timezone`.
    pub fn parse(text: &str, timezone: Tz) -> Result<Self, ScheduleError> {
        let trimmed = text.trim();
        let kind = if let Some(("every", pause)) = trimmed.split_once(char::is_whitespace) {
            let pause = parse_duration(pause.trim())?;
            if pause.is_zero() {
                return Err(DurationError::NotADuration.into());
            }
            ScheduleKind::Every(pause)
        } else {
            ScheduleKind::Cron(Crontab::parse(trimmed, timezone)?)
        };
        let schedule = Self { kind, text: trimmed.to_owned() };
        // The search covers the rarest crontab, a leap day, which may be eight years away.
        schedule.next_after(Time::UNIX_EPOCH).map(|_| schedule).ok_or(ScheduleError::Never)
    }

    /// Returns the first time strictly after `after`, for a run that starts there. `None` if there is no further time.
    pub fn next_after(&self, after: Time) -> Option<Time> {
        self.next_of_run(after, after)
    }

    /// Returns the first time strictly after `after`, for a run that started at `start`. The times of `every` are whole
    /// intervals after its start; those of a crontab do not depend on it.
    pub fn next_of_run(&self, start: Time, after: Time) -> Option<Time> {
        match &self.kind {
            ScheduleKind::Every(_) if after < start => Some(start),
            ScheduleKind::Every(pause) => {
                let (pause, passed) = (pause.as_micros().max(1), (after - start).to_std().ok()?.as_micros());
                let whole = i64::try_from((passed / pause + 1).checked_mul(pause)?).ok()?;
                start.checked_add_signed(chrono::Duration::microseconds(whole))
            }
            ScheduleKind::Cron(crontab) => crontab.next_after(after),
        }
    }

    /// Returns the shortest interval among the next hundred times.
    pub fn shortest_pause(&self, after: Time) -> Option<Duration> {
        if let ScheduleKind::Every(pause) = self.kind {
            return Some(pause);
        }
        let times: Vec<Time> =
            std::iter::successors(self.next_after(after), |at| self.next_after(*at)).take(100).collect();
        times.windows(2).filter_map(|pair| (pair[1] - pair[0]).to_std().ok()).min()
    }

    /// Returns the first time at or after `at`, for a run that started at `start`.
    pub fn first_from(&self, start: Time, at: Time) -> Option<Time> {
        self.next_of_run(start, at.checked_sub_signed(chrono::Duration::nanoseconds(1))?)
    }

    /// Returns the schedule as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Datelike, Timelike};

    fn at(text: &str) -> Time {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn a_local_time_is_kept_across_both_clock_changes() {
        let berlin = chrono_tz::Europe::Berlin;
        let schedule = Schedule::parse("0 9 * * *", berlin).unwrap();
        for start in ["2026-03-26T12:00:00Z", "2026-10-22T12:00:00Z"] {
            let mut now = at(start);
            for _ in 0..7 {
                let next = schedule.next_after(now).unwrap();
                let local = next.with_timezone(&berlin);
                assert_eq!((local.hour(), local.minute(), local.second()), (9, 0, 0), "{local}");
                assert_eq!(local.date_naive(), now.with_timezone(&berlin).date_naive().succ_opt().unwrap());
                now = next;
            }
        }
        let before = schedule.next_after(at("2026-03-28T00:00:00Z")).unwrap();
        let after = schedule.next_after(at("2026-03-29T00:00:00Z")).unwrap();
        assert_eq!((before, after), (at("2026-03-28T08:00:00Z"), at("2026-03-29T07:00:00Z")));
    }

    #[test]
    fn a_time_in_a_skipped_or_repeated_hour_occurs_once_a_day() {
        let berlin = chrono_tz::Europe::Berlin;
        let schedule = Schedule::parse("30 2 * * *", berlin).unwrap();
        for start in ["2026-03-27T12:00:00Z", "2026-10-23T12:00:00Z"] {
            let mut now = at(start);
            let mut days = std::collections::BTreeSet::new();
            for _ in 0..4 {
                now = schedule.next_after(now).unwrap();
                assert!(days.insert(now.with_timezone(&berlin).day()), "twice on one day: {now}");
            }
        }
    }

    /// Returns the next times of a crontab in Berlin, in local time.
    fn in_berlin(text: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(text, chrono_tz::Europe::Berlin).unwrap();
        let times = std::iter::successors(schedule.next_after(at(from)), |at| schedule.next_after(*at));
        let shown = |at: Time| at.with_timezone(&chrono_tz::Europe::Berlin).format("%d %H:%M %z").to_string();
        times.take(count).map(shown).collect()
    }

    #[test]
    fn named_hours_occur_once_each_on_days_when_clocks_change() {
        let (spring, autumn) = ("2026-03-28T12:30:00Z", "2026-10-24T11:30:00Z");
        assert_eq!(
            in_berlin("0 2,14 * * *", spring, 4),
            ["28 14:00 +0100", "29 03:00 +0200", "29 14:00 +0200", "30 02:00 +0200"]
        );
        assert_eq!(
            in_berlin("0 2,14 * * *", autumn, 4),
            ["24 14:00 +0200", "25 02:00 +0200", "25 14:00 +0100", "26 02:00 +0100"]
        );
        // All times in the skipped hour are one moment.
        assert_eq!(in_berlin("0,30 2 * * *", spring, 2), ["29 03:00 +0200", "30 02:00 +0200"]);
        assert_eq!(in_berlin("0,30 2 * * *", autumn, 3), ["25 02:00 +0200", "25 02:30 +0200", "26 02:00 +0100"]);
        assert_eq!(in_berlin("0 1-4 * * *", spring, 4)[1..], ["29 03:00 +0200", "29 04:00 +0200", "30 01:00 +0200"]);
        // In Santiago midnight is skipped: 6 September 2026 begins at one o'clock.
        let daily = Schedule::parse("0 0 * * *", chrono_tz::America::Santiago).unwrap();
        assert_eq!(daily.next_after(at("2026-09-06T03:00:00Z")), Some(at("2026-09-06T04:00:00Z")));
    }

    #[test]
    fn open_fields_keep_even_intervals_when_clocks_change() {
        for start in ["2026-03-28T22:00:00Z", "2026-10-24T22:00:00Z"] {
            for (text, minutes) in
                [("*/15 * * * *", 15), ("0 * * * *", 60), ("7,37 * * * *", 30), ("*/20 0-6 * * *", 20)]
            {
                let schedule = Schedule::parse(text, chrono_tz::Europe::Berlin).unwrap();
                let first = schedule.next_after(at(start)).unwrap();
                let times: Vec<Time> =
                    std::iter::successors(Some(first), |at| schedule.next_after(*at)).take(8).collect();
                let even = |two: &[Time]| two[1] - two[0] == chrono::Duration::minutes(minutes);
                assert!(times.windows(2).all(even), "{text}: {times:?}");
            }
        }
        // The whole hour is skipped.
        assert_eq!(in_berlin("*/15 2 * * *", "2026-03-28T12:00:00Z", 2), ["29 03:00 +0200", "30 02:00 +0200"]);
    }

    #[test]
    fn a_day_and_a_weekday_are_combined_as_in_cron() {
        let days = |text: &str| -> Vec<u32> {
            let schedule = Schedule::parse(text, Tz::UTC).unwrap();
            let first = schedule.next_after(at("2026-11-01T00:00:00Z"));
            let times = std::iter::successors(first, |at| schedule.next_after(*at));
            times.take_while(|at| at.month() == 11).map(|at| at.day()).collect()
        };
        // November 2026: Mondays are the 2nd, 9th, 16th, 23rd and 30th.
        assert_eq!(days("30 2 */2 * 1"), [9, 23], "both, since one begins with *");
        assert_eq!(days("30 2 15,16 * */7"), [15], "both: a Sunday");
        assert_eq!(days("30 2 1,15 * 1"), [1, 2, 9, 15, 16, 23, 30], "either");
        assert_eq!(days("30 2 1-31/14 * 1"), [1, 2, 9, 15, 16, 23, 29, 30], "either");
        assert_eq!(days("30 2 * * 1"), [2, 9, 16, 23, 30]);
        assert_eq!(days("30 2 15 * *"), [15]);
        assert_eq!(days("30 2 15 * ?"), [15]);
    }

    #[test]
    fn a_step_larger_than_its_field_is_refused_with_a_suggestion() {
        let why = |text: &str| Schedule::parse(text, Tz::UTC).unwrap_err().to_string();
        for (text, expected) in [
            ("*/90 * * * *", "`*/90` is no minute: a step is from 1 to 60; write \"every 90m\""),
            ("5/90 * * * *", "`5/90` is no minute: a step is from 1 to 60; write \"every 90m\""),
            ("0-59/90 * * * *", "`0-59/90` is no minute: a step is from 1 to 60; write \"every 90m\""),
            ("0,*/61 * * * *", "`0,*/61` is no minute: a step is from 1 to 60; write \"every 61m\""),
            ("*/90 9 * * *", "`*/90` is no minute: a step is from 1 to 60"),
            ("*/90 * * * * *", "`*/90` is no second: a step is from 1 to 60; write \"every 90s\""),
            ("0 */36 * * *", "`*/36` is no hour: a step is from 1 to 24; write \"every 36h\""),
            ("0 */36 * * 1", "`*/36` is no hour: a step is from 1 to 24"),
            ("0 9 */45 * *", "`*/45` is no day of the month: a step is from 1 to 31; write \"every 45d\""),
            ("0 9 1 */18 *", "`*/18` is no month: a step is from 1 to 12"),
            ("0 9 * * */14", "`*/14` is no day of the week: a step is from 1 to 7"),
            ("*/0 * * * *", "`*/0` is no minute: a step is from 1 to 60"),
            ("*/99999999999999 * * * *", "`*/99999999999999` is no minute: a step is from 1 to 60"),
        ] {
            assert_eq!(why(text), format!("not a crontab: {expected}"));
        }
        for text in ["*/60 * * * *", "0 */24 * * *", "0 9 */31 * *", "0 9 1 */12 *", "0 9 * * */7"] {
            assert!(Schedule::parse(text, Tz::UTC).is_ok(), "{text}");
        }
    }

    #[test]
    fn words_of_one_field_are_refused_in_another() {
        let why = |text: &str| Schedule::parse(text, Tz::UTC).unwrap_err().to_string();
        assert!(why("0 9 MON * *").contains("`MON` is no day of the month"));
        assert!(why("0 9 * MON *").contains("`MON` is no month"));
        assert!(why("JAN 9 * * *").contains("`JAN` is no minute"));
        for text in
            ["0 9 * jan-mar,DEC mon-Fri", "0 9 L * *", "0 9 15W * *", "0 9 LW * *", "0 9 * * 5L", "0 9 * * FRI#2"]
        {
            assert!(Schedule::parse(text, Tz::UTC).is_ok(), "{text}");
        }
    }

    #[test]
    fn every_keeps_to_the_start_of_its_run() {
        let every = Schedule::parse("every 25h", Tz::UTC).unwrap();
        let start = at("2026-11-01T09:00:00Z");
        let next = |after: &str| every.next_of_run(start, at(after)).unwrap();
        assert_eq!(next("2026-11-01T09:00:00Z"), at("2026-11-02T10:00:00Z"));
        assert_eq!(next("2026-11-02T09:59:59.999Z"), at("2026-11-02T10:00:00Z"));
        assert_eq!(next("2026-11-02T10:00:00Z"), at("2026-11-03T11:00:00Z"));
        assert_eq!(next("2026-11-09T12:00:00Z"), at("2026-11-09T17:00:00Z"));
        assert_eq!(next("2026-10-31T09:00:00Z"), start);
    }

    #[test]
    fn schedules_are_crontabs_of_five_or_six_fields_or_intervals() {
        let next = |text: &str| Schedule::parse(text, Tz::UTC).unwrap().next_after(at("2026-11-23T09:07:30Z")).unwrap();
        assert_eq!(next("*/15 * * * *"), at("2026-11-23T09:15:00Z"));
        assert_eq!(next("*/10 * * * * *"), at("2026-11-23T09:07:40Z"));
        assert_eq!(next("every 15m"), at("2026-11-23T09:22:30Z"));
        assert_eq!(next("every\t 15m"), at("2026-11-23T09:22:30Z"));
        assert_eq!(next("0 9 * * Mon"), at("2026-11-30T09:00:00Z"));
        for text in [
            "",
            "hourly",
            "* * * *",
            "61 * * * *",
            "every",
            "every 0s",
            "every 15",
            "every -1m",
            "0 0 30 2 *",
            "0 0 0 1 1 * 2027",
        ] {
            assert!(Schedule::parse(text, Tz::UTC).is_err(), "{text:?}");
        }
    }

    #[test]
    fn invalid_crontab_error_names_the_wrong_field() {
        let why = |text: &str| Schedule::parse(text, Tz::UTC).unwrap_err().to_string();
        let days = "is no day of the week (0 to 7, or SUN to SAT; *, lists, ranges and steps of them)";
        assert_eq!(why("0 9 * * FUN"), format!("not a crontab: `FUN` {days}"));
        assert!(why("61 * * * *").starts_with("not a crontab: `61` is no minute (0 to 59"), "{}", why("61 * * * *"));
        assert!(why("61 * * * * *").starts_with("not a crontab: `61` is no second (0 to 59"));
        assert!(why("0 0 32 * *").contains("`32` is no day of the month"));
        assert!(why("0 9 * * MON-\u{7}").contains("`MON-\\u{7}` is no day of the week"));
    }

    #[test]
    fn the_shortest_pause_is_found_among_uneven_times() {
        let pause = |text| Schedule::parse(text, Tz::UTC).unwrap().shortest_pause(at("2026-11-23T09:07:30Z"));
        assert_eq!(pause("every 15m"), Some(Duration::from_secs(900)));
        assert_eq!(pause("*/10 * * * *"), Some(Duration::from_secs(600)));
        assert_eq!(pause("0,5 9 * * *"), Some(Duration::from_secs(300)));
    }

    #[test]
    fn first_from_includes_the_moment_itself() {
        let start = at("2026-11-23T09:07:30Z");
        let first = |text: &str, from: &str| {
            let schedule = Schedule::parse(text, Tz::UTC).unwrap();
            schedule.first_from(start, at(from)).unwrap()
        };
        assert_eq!(first("*/15 * * * *", "2026-11-23T09:15:00Z"), at("2026-11-23T09:15:00Z"));
        assert_eq!(first("*/15 * * * *", "2026-11-23T09:15:00.001Z"), at("2026-11-23T09:30:00Z"));
        assert_eq!(first("*/15 * * * *", "2026-11-23T09:14:59.999Z"), at("2026-11-23T09:15:00Z"));
        assert_eq!(first("every 15m", "2026-11-23T09:07:30Z"), start);
        assert_eq!(first("every 15m", "2026-11-23T09:22:30Z"), at("2026-11-23T09:22:30Z"));
        assert_eq!(first("every 15m", "2026-11-23T09:22:30.5Z"), at("2026-11-23T09:37:30Z"));
    }

    #[test]
    fn moments_are_in_the_time_zone_or_have_their_own_offset() {
        let berlin = chrono_tz::Europe::Berlin;
        for (text, moment) in [
            ("2026-12-01T09:00", "2026-12-01T08:00:00Z"),
            ("2026-12-01 09:00:30", "2026-12-01T08:00:30Z"),
            ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
            ("2026-12-01T09:00:00-05:00", "2026-12-01T14:00:00Z"),
            ("2026-12-01T09:00+01:00", "2026-12-01T08:00:00Z"),
            ("2026-12-01T09:00Z", "2026-12-01T09:00:00Z"),
            ("2026-12-01 09:00 +01:00", "2026-12-01T08:00:00Z"),
            ("2026-12-01T09:00+0530", "2026-12-01T03:30:00Z"),
            ("2026-12-01t09:00:30.5z", "2026-12-01T09:00:30.5Z"),
            ("2026-12-01T09:00:30", "2026-12-01T08:00:30Z"),
            ("2026-10-25T02:30", "2026-10-25T00:30:00Z"),
            ("2026-03-29T02:30", "2026-03-29T01:00:00Z"),
        ] {
            assert_eq!(parse_moment(text, berlin), Some(at(moment)), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "2026-12-01",
            "2026-13-01T09:00",
            "09:00",
            "2026-12-01T9",
            "2026-12-01T09:00 CET",
            "2026-12-01T09:00UTC",
            "2026-12-0109:00",
            "2026-12-01T09:00+",
            "2026-12-01T09:00+25:00",
            "2026-12-01T09:00 ",
        ] {
            assert_eq!(parse_moment(text, berlin), None, "{text}");
        }
    }

    #[test]
    fn what_the_parser_quotes_is_shown_without_control_characters() {
        let error = Schedule::parse("\u{1b}[2J\u{11} * * * *", Tz::UTC).unwrap_err().to_string();
        assert!(error.contains(r"\u{1b}") && !error.chars().any(char::is_control), "{error:?}");
    }

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        let seconds = |text: &str| parse_duration(text).map(|d| d.as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("4h"), Ok(14400));
        assert_eq!(seconds("2d"), Ok(172_800));
        assert_eq!(seconds("1w"), Ok(604_800));
        for text in ["", "s", "5", "-5m", "1.5h", "5 m", "5M", "１m", "5ms", "h5"] {
            assert_eq!(seconds(text), Err(DurationError::NotADuration), "{text:?}");
        }
        assert_eq!(seconds("99999999999999999999w"), Err(DurationError::TooLong));
        assert_eq!(seconds("9999w"), Err(DurationError::TooLong));
    }
}
