//! Crontabs: what five or six fields mean, and which moments they name while a zone's clock is changed. Both as in cron
//! (Vixie's, which Debian, Red Hat and the BSDs have).

use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::{ScheduleError, parse_duration};
use crate::domain::{Time, local};

/// A crontab in a zone.
#[derive(Debug, Clone)]
pub(super) struct Crontab {
    cron: Box<Cron>,
    zone: Tz,
    any_minute: bool,
    any_hour: bool,
}

impl Crontab {
    /// Reads five fields, or six with seconds first.
    pub(super) fn parse(text: &str, zone: Tz) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (Some([minute, hour, day, _, weekday]), 5 | 6) = (fields.last_chunk(), fields.len()) else {
            return Err(ScheduleError::NotASchedule);
        };
        let kinds = &FIELDS[FIELDS.len() - fields.len()..];
        for (place, kind) in kinds.iter().enumerate() {
            kind.check(&fields, place).map_err(ScheduleError::NotACrontab)?;
        }
        // Of a day of the month and a weekday one is enough, unless one of the two fields begins with `*`.
        let both_days = is_any(day) || is_any(weekday);
        let cron = parser(both_days).parse(text);
        let cron = cron.map_err(|_| ScheduleError::NotACrontab(format!("`{}` cannot be read", visible(text))))?;
        Ok(Self { cron: Box::new(cron), zone, any_minute: is_any(minute), any_hour: is_any(hour) })
    }

    /// The first time strictly after `after`.
    ///
    /// With `*` in the minute or the hour, a crontab follows the clock through an hour that is shown twice. One that names
    /// hours comes at each of its local times, every day: at the first moment that shows it or, where the clock skips it,
    /// when the clock goes on.
    pub(super) fn next_after(&self, after: Time) -> Option<Time> {
        let shown = if self.any_minute || self.any_hour { self.next_shown(after) } else { None };
        let named = if self.any_hour { None } else { self.next_named(after) };
        shown.into_iter().chain(named).min()
    }

    /// The next moment at which the zone's clock shows one of the times.
    fn next_shown(&self, after: Time) -> Option<Time> {
        let next = self.cron.find_next_occurrence(&after.with_timezone(&self.zone), false).ok()?.to_utc();
        (next > after).then_some(next)
    }

    /// The next of the local times, each of them taken once.
    fn next_named(&self, after: Time) -> Option<Time> {
        // Local times are searched as if the zone's clock were never changed; later ones are never earlier moments.
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

/// Whether a field is open, in cron's sense: `*`, also with a step.
fn is_any(field: &str) -> bool {
    field.starts_with(['*', '?'])
}

/// One field of a crontab.
struct CrontabField {
    name: &'static str,
    range: &'static str,
    /// How many different values it has.
    values: u64,
    /// The unit that `every` has for it.
    unit: Option<char>,
    /// Words for its values.
    words: &'static [&'static str],
    /// Further letters that it may hold.
    letters: &'static str,
}

/// The fields of a crontab with seconds.
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
    /// What is wrong with the field at `place`, in words of our own.
    fn check(&self, fields: &[&str], place: usize) -> Result<(), String> {
        let (field, name) = (fields[place], self.name);
        if let Some(step) = steps(field).find(|step| !(1..=self.values).contains(step)) {
            let hint = self.suggest_interval(step, &fields[place + 1..]);
            return Err(format!("`{}` is no {name}: a step is from 1 to {}{hint}", visible(field), self.values));
        }
        let alone: Vec<&str> = (0..fields.len()).map(|at| if at == place { field } else { "*" }).collect();
        if self.has_foreign_letters(field) || parser(false).parse(&alone.join(" ")).is_err() {
            let range = self.range;
            return Err(format!("`{}` is no {name} ({range}; *, lists, ranges and steps of them)", visible(field)));
        }
        Ok(())
    }

    /// The period that was meant by a step too large, where the larger fields leave everything open.
    fn suggest_interval(&self, step: u64, larger: &[&str]) -> String {
        let every = self.unit.map(|unit| format!("{step}{unit}")).filter(|every| {
            larger.iter().all(|field| matches!(*field, "*" | "?"))
                && parse_duration(every).is_ok_and(|pause| !pause.is_zero())
        });
        every.map_or_else(String::new, |every| format!("; write \"every {every}\""))
    }

    /// Whether it holds words of another field: the parser takes them for numbers, wherever they are.
    fn has_foreign_letters(&self, field: &str) -> bool {
        let field = field.to_uppercase();
        let rest = self.words.iter().fold(field, |rest, word| rest.replace(word, ""));
        rest.chars().any(|c| c.is_alphabetic() && !self.letters.contains(c))
    }
}

/// The steps in a field.
fn steps(field: &str) -> impl Iterator<Item = u64> {
    field.split(',').filter_map(|part| part.rsplit_once('/')?.1.parse().ok())
}

/// What was given, whatever that is.
fn visible(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}
