//! Times as a clock on the wall shows them → moments, on nights too when that clock is changed.
//!
//! A time that the clock shows twice is two moments: callers say which they mean. A time that it skips is the moment at
//! which it goes on. Pure but for the zone tables; no present is read here.

use chrono::{Duration, NaiveDateTime, TimeZone, Timelike};
use chrono_tz::Tz;

use super::Time;

/// Longest that a zone's clock ever skipped: a whole day, where the date line was moved.
const LONGEST_GAP: i64 = 26 * 60;

/// The first moment at which the clock in `zone` shows `local`.
pub fn first(zone: Tz, local: NaiveDateTime) -> Time {
    moments(zone, local).0
}

/// The last moment at which the clock in `zone` shows `local`.
pub fn last(zone: Tz, local: NaiveDateTime) -> Time {
    moments(zone, local).1
}

fn moments(zone: Tz, local: NaiveDateTime) -> (Time, Time) {
    let moments = |local: NaiveDateTime| {
        let at = zone.from_local_datetime(&local);
        Some((at.earliest()?.to_utc(), at.latest()?.to_utc()))
    };
    // Clocks are changed on whole minutes: the first minute that is shown again is where the clock goes on.
    let minute = || local.with_second(0)?.with_nanosecond(0);
    let later = |skipped| moments(minute()?.checked_add_signed(Duration::minutes(skipped))?);
    let shown = moments(local).or_else(|| (1..=LONGEST_GAP).find_map(later));
    // Beyond the calendar: taken as it stands.
    shown.unwrap_or((local.and_utc(), local.and_utc()))
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
    fn repeated_local_times_are_two_moments_and_skipped_ones_one() {
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
