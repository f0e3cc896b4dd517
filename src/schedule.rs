//! When: schedules as people write them, and the one function that computes the next time. Pure but for the zone tables.

use std::time::Duration;

use chrono_tz::Tz;

use crate::domain::{Time, local};

/// A schedule: a crontab line in a zone, or a fixed pause.
#[derive(Debug, Clone)]
pub struct Schedule {
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone)]
enum Kind {
    Cron(Box<croner::Cron>, Tz),
    Every(Duration),
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither form.
    #[error("not a schedule: a crontab of 5 fields (\"*/15 * * * *\"), of 6 with seconds first, or \"every 15m\"")]
    NotASchedule,
    /// A crontab of which a field is none; which one.
    #[error("not a crontab: {0}")]
    NotACrontab(String),
    /// `every` with a duration that cannot be.
    #[error("{0}")]
    NotADuration(#[from] DurationError),
    /// A crontab that never comes.
    #[error("this crontab never comes")]
    Never,
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number with a unit.
    #[error("not a duration: a whole number and a unit, such as 90s, 30m, 4h, 2d or 1w")]
    NotADuration,
    /// Longer than anything that makes sense.
    #[error("longer than 520w")]
    TooLong,
}

/// Longest duration that is accepted: ten years. It keeps every sum of times far from overflow.
const LONGEST: u64 = 520 * 7 * 24 * 3600;

/// Reads `90s`, `30m`, `4h`, `2d`, `1w`, or a bare `0`.
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
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|s| *s <= LONGEST);
    seconds.map(Duration::from_secs).ok_or(DurationError::TooLong)
}

/// Reads `2026-12-01T09:00` in `timezone`, or RFC 3339. A time that is shown twice, when clocks are put back, is the first.
pub fn parse_moment(text: &str, timezone: Tz) -> Option<Time> {
    if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc());
    }
    let forms = ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"];
    let local = forms.iter().find_map(|form| chrono::NaiveDateTime::parse_from_str(text, form).ok())?;
    Some(local::first(timezone, local))
}

impl Schedule {
    /// Reads a 5-field crontab, a 6-field one with seconds first, or `every 15m`; crontabs are in `timezone`.
    pub fn parse(text: &str, timezone: Tz) -> Result<Self, ScheduleError> {
        let trimmed = text.trim();
        let kind = if let Some(rest) = trimmed.strip_prefix("every ") {
            let pause = parse_duration(rest.trim())?;
            if pause.is_zero() {
                return Err(DurationError::NotADuration.into());
            }
            Kind::Every(pause)
        } else {
            Kind::Cron(Box::new(parse_crontab(trimmed)?), timezone)
        };
        let schedule = Self { kind, text: trimmed.to_owned() };
        // A leap day is the rarest thing a crontab can name: eight years without a time is never.
        schedule.next_after(Time::UNIX_EPOCH).map(|_| schedule).ok_or(ScheduleError::Never)
    }

    /// The first time strictly after `after`. The scheduler arms exactly this; `None` only if there is none ever again.
    pub fn next_after(&self, after: Time) -> Option<Time> {
        match &self.kind {
            Kind::Every(pause) => after.checked_add_signed(chrono::Duration::from_std(*pause).ok()?),
            Kind::Cron(cron, timezone) => {
                let local = after.with_timezone(timezone);
                let next = cron.find_next_occurrence(&local, false).ok()?.to_utc();
                (next > after).then_some(next)
            }
        }
    }

    /// The shortest pause between two of its times, as far as the next hundred tell.
    pub fn shortest_pause(&self, after: Time) -> Option<Duration> {
        if let Kind::Every(pause) = self.kind {
            return Some(pause);
        }
        let times: Vec<Time> =
            std::iter::successors(self.next_after(after), |at| self.next_after(*at)).take(100).collect();
        times.windows(2).filter_map(|pair| (pair[1] - pair[0]).to_std().ok()).min()
    }

    /// The first time at or after `at`, of a run of this schedule that was started at `start`.
    pub fn first_from(&self, start: Time, at: Time) -> Option<Time> {
        match &self.kind {
            Kind::Every(pause) => {
                let (pause, passed) = (pause.as_micros().max(1), (at - start).to_std().map_or(0, |it| it.as_micros()));
                let whole = i64::try_from(passed.div_ceil(pause).checked_mul(pause)?).ok()?;
                start.checked_add_signed(chrono::Duration::microseconds(whole))
            }
            // Crontabs name whole seconds.
            Kind::Cron(..) => {
                let whole = at.timestamp() + i64::from(at.timestamp_subsec_nanos() > 0);
                self.next_after(Time::from_timestamp(whole.checked_sub(1)?, 0)?)
            }
        }
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn parse_crontab(text: &str) -> Result<croner::Cron, ScheduleError> {
    use croner::parser::{CronParser, Seconds, Year};
    let fields = text.split_whitespace().count();
    if fields != 5 && fields != 6 {
        return Err(ScheduleError::NotASchedule);
    }
    let read = |text: &str| {
        CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build().parse(text).map_err(drop)
    };
    read(text).map_err(|()| ScheduleError::NotACrontab(wrong_field(text, |field| read(field).is_ok())))
}

/// What each field of a crontab with seconds may hold.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, or L for the last"),
    ("month", "1 to 12, or JAN to DEC"),
    ("day of the week", "0 to 7, or SUN to SAT"),
];

/// The first field that is none by itself, in words of our own.
fn wrong_field(text: &str, is_crontab: impl Fn(&str) -> bool) -> String {
    let given: Vec<&str> = text.split_whitespace().collect();
    let names = &FIELDS[FIELDS.len() - given.len().min(FIELDS.len())..];
    let alone = |place: usize| {
        let field = |at: usize| if at == place { given[at] } else { "*" };
        (0..given.len()).map(field).collect::<Vec<_>>().join(" ")
    };
    match given.iter().zip(names).enumerate().find(|(place, _)| !is_crontab(&alone(*place))) {
        Some((_, (field, (name, range)))) => {
            format!("`{}` is no {name} ({range}; *, lists, ranges and steps of them)", visible(field))
        }
        None => format!("`{}` cannot be read", visible(text)),
    }
}

/// What was given, whatever that is.
fn visible(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Datelike, Timelike};

    fn at(text: &str) -> Time {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn nine_in_berlin_is_nine_in_berlin_on_both_sides_of_both_changes() {
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
    fn a_time_in_the_hour_that_is_skipped_or_repeated_comes_once_a_day() {
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

    #[test]
    fn crontabs_have_five_fields_or_six_with_seconds_first_and_every_is_a_pause() {
        let next = |text: &str| Schedule::parse(text, Tz::UTC).unwrap().next_after(at("2026-11-23T09:07:30Z")).unwrap();
        assert_eq!(next("*/15 * * * *"), at("2026-11-23T09:15:00Z"));
        assert_eq!(next("*/10 * * * * *"), at("2026-11-23T09:07:40Z"));
        assert_eq!(next("every 15m"), at("2026-11-23T09:22:30Z"));
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
    fn a_crontab_that_is_none_is_told_by_the_field_that_is_wrong() {
        let why = |text: &str| Schedule::parse(text, Tz::UTC).unwrap_err().to_string();
        let days = "is no day of the week (0 to 7, or SUN to SAT; *, lists, ranges and steps of them)";
        assert_eq!(why("0 9 * * FUN"), format!("not a crontab: `FUN` {days}"));
        assert!(why("61 * * * *").starts_with("not a crontab: `61` is no minute (0 to 59"), "{}", why("61 * * * *"));
        assert!(why("61 * * * * *").starts_with("not a crontab: `61` is no second (0 to 59"));
        assert!(why("0 0 32 * *").contains("`32` is no day of the month"));
        assert!(why("0 9 * * MON-\u{7}").contains("`MON-\\u{7}` is no day of the week"));
    }

    #[test]
    fn the_shortest_pause_is_the_one_that_a_cycle_has_to_fit_into() {
        let pause = |text| Schedule::parse(text, Tz::UTC).unwrap().shortest_pause(at("2026-11-23T09:07:30Z"));
        assert_eq!(pause("every 15m"), Some(Duration::from_secs(900)));
        assert_eq!(pause("*/10 * * * *"), Some(Duration::from_secs(600)));
        assert_eq!(pause("0,5 9 * * *"), Some(Duration::from_secs(300)));
    }

    #[test]
    fn the_first_time_from_a_moment_on_is_the_moment_itself_where_the_schedule_has_it() {
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
    fn moments_are_in_the_zone_or_carry_their_own_offset() {
        let berlin = chrono_tz::Europe::Berlin;
        for (text, moment) in [
            ("2026-12-01T09:00", "2026-12-01T08:00:00Z"),
            ("2026-12-01 09:00:30", "2026-12-01T08:00:30Z"),
            ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
            ("2026-12-01T09:00:00-05:00", "2026-12-01T14:00:00Z"),
            ("2026-10-25T02:30", "2026-10-25T00:30:00Z"),
            ("2026-03-29T02:30", "2026-03-29T01:00:00Z"),
        ] {
            assert_eq!(parse_moment(text, berlin), Some(at(moment)), "{text}");
        }
        for text in ["", "tomorrow", "2026-12-01", "2026-13-01T09:00", "09:00", "2026-12-01T9", "2026-12-01T09:00 CET"]
        {
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
