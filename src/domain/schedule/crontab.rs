//! Crontabs: the meaning of their five or six fields, and their times when a zone's clock changes. Both follow Vixie cron, which
//! Debian, Red Hat and the BSDs use.

use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::{ScheduleError, parse_duration};
use crate::domain::{Time, local};

/// A crontab in a time zone.
#[derive(Debug, Clone)]
pub(super) struct Crontab {
    cron: Box<Cron>,
    zone: Tz,
    any_minute: bool,
    any_hour: bool,
}

impl Crontab {
    /// Parses five fields, or six with seconds first.
    pub(super) fn parse(text: &str, zone: Tz) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (Some([minute, hour, day, _, weekday]), 5 | 6) = (fields.last_chunk(), fields.len()) else {
            return Err(ScheduleError::NotASchedule);
        };
        let kinds = &FIELDS[FIELDS.len() - fields.len()..];
        for (index, kind) in kinds.iter().enumerate() {
            kind.check(&fields, index).map_err(ScheduleError::NotACrontab)?;
        }
        // Either the day of the month or the weekday must match. If one of the fields begins with `*`, both must match.
        let both_days = is_any(day) || is_any(weekday);
        let cron = parser(both_days).parse(text);
        let cron = cron.map_err(|_| ScheduleError::NotACrontab(format!("`{}` cannot be read", visible(text))))?;
        Ok(Self { cron: Box::new(cron), zone, any_minute: is_any(minute), any_hour: is_any(hour) })
    }

    /// Returns the first time strictly after `after`.
    ///
    /// With `*` in the minute or the hour, a crontab has times in both runs of an hour that occurs twice. A crontab that names
    /// hours has each of its local times once a day: at its first occurrence or, if the clock skips it, right after the gap.
    pub(super) fn next_after(&self, after: Time) -> Option<Time> {
        let shown = if self.any_minute || self.any_hour { self.next_shown(after) } else { None };
        let named = if self.any_hour { None } else { self.next_named(after) };
        shown.into_iter().chain(named).min()
    }

    /// Returns the next moment at which the zone's clock shows one of the times.
    fn next_shown(&self, after: Time) -> Option<Time> {
        let next = self.cron.find_next_occurrence(&after.with_timezone(&self.zone), false).ok()?.to_utc();
        (next > after).then_some(next)
    }

    /// Returns the next local time, each of which counts once a day.
    fn next_named(&self, after: Time) -> Option<Time> {
        // The search ignores clock changes. A later local time is never an earlier moment.
        let mut named = after.with_timezone(&self.zone).naive_local().and_utc();
        loop {
            named = self.cron.find_next_occurrence(&named, false).ok()?;
            let at = local::first(self.zone, named.naive_utc());
            if at > after {
                return Some(at);
            }
        }
    }
}

fn parser(both_days: bool) -> CronParser {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).dom_and_dow(both_days).build()
}

/// Returns true for `*` and `?`, also with a step.
fn is_any(field: &str) -> bool {
    field.starts_with(['*', '?'])
}

/// One field of a crontab.
struct CrontabField {
    name: &'static str,
    range: &'static str,
    /// Number of different values.
    values: u64,
    /// Unit of the same length in `every`.
    unit: Option<char>,
    /// Names of its values.
    words: &'static [&'static str],
    /// Other letters that are valid.
    letters: &'static str,
}

/// Fields of a crontab with seconds.
const FIELDS: [CrontabField; 6] = [
    CrontabField { name: "second", range: "0 to 59", values: 60, unit: Some('s'), words: &[], letters: "" },
    CrontabField { name: "minute", range: "0 to 59", values: 60, unit: Some('m'), words: &[], letters: "" },
    CrontabField { name: "hour", range: "0 to 23", values: 24, unit: Some('h'), words: &[], letters: "" },
    CrontabField {
        name: "day of the month",
        range: "1 to 31, or L for the last",
        values: 31,
        unit: Some('d'),
        words: &[],
        letters: "LW",
    },
    CrontabField {
        name: "month",
        range: "1 to 12, or JAN to DEC",
        values: 12,
        unit: None,
        words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
        letters: "",
    },
    CrontabField {
        name: "day of the week",
        range: "0 to 7, or SUN to SAT",
        values: 7,
        unit: None,
        words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        letters: "L",
    },
];

impl CrontabField {
    /// Returns an error if the field at `index` is invalid.
    fn check(&self, fields: &[&str], index: usize) -> Result<(), String> {
        let (field, name) = (fields[index], self.name);
        if let Some(step) = steps(field).find(|step| !(1..=self.values).contains(step)) {
            let hint = self.suggest_interval(step, &fields[index + 1..]);
            return Err(format!("`{}` is no {name}: a step is from 1 to {}{hint}", visible(field), self.values));
        }
        let alone: Vec<&str> = (0..fields.len()).map(|at| if at == index { field } else { "*" }).collect();
        if self.has_foreign_letters(field) || parser(false).parse(&alone.join(" ")).is_err() {
            let range = self.range;
            return Err(format!("`{}` is no {name} ({range}; *, lists, ranges and steps of them)", visible(field)));
        }
        Ok(())
    }

    /// Suggests `every` instead of a step that is too large, if the larger fields are all `*`.
    fn suggest_interval(&self, step: u64, larger: &[&str]) -> String {
        let every = self.unit.map(|unit| format!("{step}{unit}")).filter(|every| {
            larger.iter().all(|field| matches!(*field, "*" | "?"))
                && parse_duration(every).is_ok_and(|pause| !pause.is_zero())
        });
        every.map_or_else(String::new, |every| format!("; write \"every {every}\""))
    }

    /// Returns true if the field has names of another field. The parser accepts them anywhere.
    fn has_foreign_letters(&self, field: &str) -> bool {
        let field = field.to_uppercase();
        let rest = self.words.iter().fold(field, |rest, word| rest.replace(word, ""));
        rest.chars().any(|c| c.is_alphabetic() && !self.letters.contains(c))
    }
}

/// Returns the steps in a field.
fn steps(field: &str) -> impl Iterator<Item = u64> {
    field.split(',').filter_map(|part| part.rsplit_once('/')?.1.parse().ok())
}

/// Escapes control characters, for error texts.
fn visible(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}
