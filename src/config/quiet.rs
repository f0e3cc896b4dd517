//! `set_quiet_hours` of a notifier: when its messages are held until somebody is at work again.

use chrono::{NaiveTime, Weekday};
use chrono_tz::Tz;

use super::cursor::{Cursor, Section, ValueError};
use super::keys::QUIET_HOURS;
use super::values;
use crate::domain::quiet_hours::{QuietHours, QuietHoursError};

/// Reads quiet hours; `None` after reporting what is wrong with them.
pub(super) fn quiet_hours(cursor: &Cursor<'_>, timezone: Tz) -> Option<QuietHours> {
    let section = cursor.section(QUIET_HOURS)?;
    let hours = hours(&section);
    let days = match section.get("days") {
        Some(cursor) => cursor.distinct("a list of days such as [Sat, Sun]", weekday),
        None => Some(Vec::new()),
    };
    let except = match section.get("except") {
        Some(cursor) => cursor.read(values::choice(&[("critical", true)])),
        None => Some(false),
    };
    let (hours, days, except) = (hours.ok()?, days?, except?);
    let error = match QuietHours::new(timezone, hours, days, except) {
        Ok(quiet) => return Some(quiet),
        Err(error) => error,
    };
    let (key, expected) = match error {
        QuietHoursError::Never => ("", "`from` and `to`, such as \"19:00\" and \"07:30\", or `days`, or all of them"),
        QuietHoursError::NoLength => ("to", "another time than `from` (for whole days there is `days`)"),
        QuietHoursError::Always => ("days", "at most six days"),
    };
    section.get(key).unwrap_or_else(|| cursor.clone()).refuse(error.to_string(), expected);
    None
}

/// Both or neither; `Err` after reporting what is wrong with them.
fn hours(section: &Section<'_>) -> Result<Option<(NaiveTime, NaiveTime)>, ()> {
    let read = |key: &str| section.get(key).map(|cursor| cursor.read(time));
    match (read("from"), read("to")) {
        (None, None) => return Ok(None),
        (Some(_), None) => section.missing("to", "when they end, such as \"07:30\", beside `from`"),
        (None, Some(_)) => section.missing("from", "when they begin, such as \"19:00\", beside `to`"),
        (Some(from), Some(to)) => return from.zip(to).map(Some).ok_or(()),
    }
    Err(())
}

fn time(text: &str) -> Result<NaiveTime, ValueError> {
    let time = NaiveTime::parse_from_str(text, "%H:%M").ok().filter(|_| text.len() == 5);
    time.ok_or_else(|| "a time of day such as \"19:00\" or \"07:30\"".into())
}

fn weekday(text: &str) -> Result<Weekday, ValueError> {
    text.parse().map_err(|_| "Mon, Tue, Wed, Thu, Fri, Sat or Sun".into())
}
