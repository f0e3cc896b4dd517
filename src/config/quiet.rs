//! Decodes `quiet_hours` of a notifier.

use chrono::{NaiveTime, Weekday};
use chrono_tz::Tz;

use super::catalog::QUIET_HOURS;
use super::cursor::Cursor;
use super::problem::ValueError;
use super::section::Section;
use super::values;
use crate::domain::quiet_hours::{QuietHours, QuietHoursError};

/// Reads quiet hours. Returns `None` after reporting what is wrong with them.
pub(super) fn quiet_hours(cursor: &Cursor<'_>, timezone: Tz) -> Option<QuietHours> {
    let section = cursor.section(QUIET_HOURS)?;
    let hours = hours(&section);
    let days = match section.get("days") {
        Some(cursor) => cursor.distinct("a list of days such as [Sat, Sun]", weekday),
        None => Some(Vec::new()),
    };
    let except = match section.get("except") {
        Some(cursor) => cursor.read(values::choice("is not a level that can be excepted", &[("critical", true)])),
        None => Some(false),
    };
    let (hours, days, except) = (hours.ok()?, days?, except?);
    let error = match QuietHours::new(timezone, hours, days, except) {
        Ok(quiet) => return Some(quiet),
        Err(error) => error,
    };
    let (key, message, expected) = match error {
        QuietHoursError::Never => {
            let expected = "`from` and `to`, such as \"19:00\" and \"07:30\", or `days`, or all of them";
            ("", "`quiet_hours` is empty", expected)
        }
        QuietHoursError::NoLength => {
            ("to", "the quiet hours end when they begin", "another time than `from` (for whole days, use `days`)")
        }
        QuietHoursError::Always => {
            ("days", "the quiet hours never end, so no message would be sent", "at most six days")
        }
    };
    if !["from", "to", "days"].into_iter().any(|key| section.has_misspelt(key)) {
        section.get(key).unwrap_or_else(|| cursor.clone()).refuse(message, error.to_string(), expected);
    }
    None
}

/// Reads `from` and `to`, of which either both or neither are there. Returns `Err` after reporting a problem.
fn hours(section: &Section<'_>) -> Result<Option<(NaiveTime, NaiveTime)>, ()> {
    let read = |key: &str| section.get(key).map(|cursor| cursor.read(time));
    match (read("from"), read("to")) {
        (None, None) => return Ok(None),
        (Some(_), None) => section.missing("to", "the end of the quiet hours, such as \"07:30\", beside `from`"),
        (None, Some(_)) => section.missing("from", "the start of the quiet hours, such as \"19:00\", beside `to`"),
        (Some(from), Some(to)) => return from.zip(to).map(Some).ok_or(()),
    }
    Err(())
}

fn time(text: &str) -> Result<NaiveTime, ValueError> {
    let time = NaiveTime::parse_from_str(text, "%H:%M").ok().filter(|_| text.len() == 5);
    time.ok_or_else(|| ValueError::new("is not a time of day", "a time of day such as \"19:00\" or \"07:30\""))
}

fn weekday(text: &str) -> Result<Weekday, ValueError> {
    text.parse().map_err(|_| ValueError::new("is not a day of the week", "Mon, Tue, Wed, Thu, Fri, Sat or Sun"))
}
