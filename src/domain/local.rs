//! Conversion of local times to UTC, including nights on which clocks change.
//!
//! A local time that occurs twice corresponds to two times; the caller chooses. A local time that is skipped corresponds to the
//! time at which the clock continues.

use chrono::{Duration, NaiveDateTime, TimeZone, Timelike};
use chrono_tz::Tz;

use super::Time;

/// Longest gap of any zone's clock, in minutes, with a margin: a whole day, when the date line was moved.
const LONGEST_GAP: i64 = 26 * 60;

/// Returns the first time at which the clock in `zone` shows `local`.
pub fn first(zone: Tz, local: NaiveDateTime) -> Time {
    first_and_last(zone, local).0
}

/// Returns the last time at which the clock in `zone` shows `local`.
pub fn last(zone: Tz, local: NaiveDateTime) -> Time {
    first_and_last(zone, local).1
}

fn first_and_last(zone: Tz, local: NaiveDateTime) -> (Time, Time) {
    let times_of = |local: NaiveDateTime| {
        let at = zone.from_local_datetime(&local);
        Some((at.earliest()?.to_utc(), at.latest()?.to_utc()))
    };
    // Clocks change on whole minutes: the clock continues at the first minute that exists.
    let minute = || local.with_second(0)?.with_nanosecond(0);
    let later = |skipped| times_of(minute()?.checked_add_signed(Duration::minutes(skipped))?);
    let times = times_of(local).or_else(|| (1..=LONGEST_GAP).find_map(later));
    // Beyond the range of the calendar: read as UTC.
    times.unwrap_or((local.and_utc(), local.and_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn shown(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    #[test]
    fn repeated_local_times_are_two_times_and_skipped_ones_one() {
        let berlin = Tz::Europe__Berlin;
        assert_eq!(first(berlin, shown("2026-11-23T09:15:00")), at("2026-11-23T08:15:00Z"));
        assert_eq!(first(berlin, shown("2026-10-25T02:30:00")), at("2026-10-25T00:30:00Z"));
        assert_eq!(last(berlin, shown("2026-10-25T02:30:00")), at("2026-10-25T01:30:00Z"));
        for skipped in ["2026-03-29T02:00:00", "2026-03-29T02:30:30", "2026-03-29T02:59:59"] {
            assert_eq!(first(berlin, shown(skipped)), at("2026-03-29T01:00:00Z"), "{skipped}");
            assert_eq!(last(berlin, shown(skipped)), at("2026-03-29T01:00:00Z"), "{skipped}");
        }
        // Samoa had no 30 December 2011.
        assert_eq!(first(Tz::Pacific__Apia, shown("2011-12-30T00:00:00")), at("2011-12-30T10:00:00Z"));
    }
}
