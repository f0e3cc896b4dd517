//! How the demo tells its story: a live line a division, and each message as its reader would see it.
//!
//! On a terminal the live lines stay at the bottom and are written over; elsewhere a line comes when a level changes and
//! once a simulated day, so that a pipe gets a story and no film.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::Pace;
use crate::cli::count;
use crate::cli::out::{put, say};
use crate::control::{AlertReport, Counts, Report};
use crate::cycle::LastReading;
use crate::domain::money::{Money, parse_amount};
use crate::domain::rule::{Severity, UNREADABLE};
use crate::domain::{Division, Name, Time};
use crate::sandbox::draw::{self, Style};
use crate::sandbox::mail_sink::Mail;
use crate::sandbox::scenario::Scenario;
use crate::sandbox::slack_sink::SlackMessage;
use crate::sandbox::world::{Entry, World};
use crate::text::clean;

/// The widest that anything is drawn.
const WIDEST: usize = 100;
/// The narrowest terminal on which live lines fit.
const NARROWEST: usize = 60;
/// The longest bar, and the longest name beside it.
const LONGEST: usize = 20;
/// What a live line has beside its name and its bar: time, funds, level and the gaps between.
const REST: usize = 16 + 2 + 2 + 14 + 2 + 2 + 10;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What there is to tell at the end.
pub(super) struct Told {
    pub(super) counts: Counts,
    pub(super) passed: chrono::TimeDelta,
    pub(super) messages: usize,
    pub(super) mails: usize,
}

/// The terminal or the pipe.
pub(super) struct Screen {
    style: Style,
    /// The live lines can be written over.
    film: bool,
    /// The live lines as they stand on the terminal.
    live: Vec<String>,
    lines: BTreeMap<(Name, Division), Line>,
}

/// One division as it was last shown.
struct Line {
    level: Level,
    shown: Option<Time>,
    /// The most that it ever had: a whole bar.
    most: Decimal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warning,
    Critical,
    Unreadable,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
            Level::Unreadable => "UNREADABLE",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Level::Ok => "32",
            Level::Warning => "33",
            Level::Critical => "31",
            Level::Unreadable => "35",
        }
    }
}

impl Screen {
    pub(super) fn new(colour: bool) -> Self {
        let film = std::io::stdout().is_terminal();
        let width =
            if film { terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0)) } else { WIDEST };
        Self {
            style: Style { colour, width: width.clamp(NARROWEST, WIDEST) },
            film,
            live: Vec::new(),
            lines: BTreeMap::new(),
        }
    }

    pub(super) fn open(&self, scenario: &Scenario, seed: u64, pace: &Pace, folder: &Path) {
        let days = pace.length.as_secs() / DAY.as_secs();
        let seconds = pace.real(pace.length).as_secs_f64().ceil();
        say!("{}", self.paint("1", &clean(&scenario.about)));
        say!(
            "Scenario {}, seed {seed}: {} in about {seconds} seconds. CertCentral, Slack and the mail server are simulated",
            clean(&scenario.name),
            count(usize::try_from(days).unwrap_or_default(), "day"),
        );
        say!("on loopback; the service between them is the real one. Ctrl-C ends the demo.");
        say!("");
        say!("  configuration  {}", folder.join("alerts.yaml").display());
        say!("  e-mails        {}", folder.join("mail").display());
        say!("");
    }

    /// How things stand after a cycle.
    pub(super) fn status(&mut self, now: Time, report: &Report) {
        let mut fresh = Vec::new();
        let mut live = Vec::new();
        for reading in &report.readings {
            let key = (reading.account.clone(), reading.division);
            let level = level(reading, &report.alerts);
            let funds = reading.metrics.get("available_funds").map_or("", String::as_str);
            let amount = amount(funds);
            let line = self.lines.entry(key).or_insert(Line { level, shown: None, most: Decimal::ONE });
            line.most = line.most.max(amount.unwrap_or_default());
            let due = line.shown.is_none_or(|shown| (now - shown).to_std().is_ok_and(|age| age >= DAY));
            let share = amount.and_then(|amount| amount.max(Decimal::ZERO).checked_div(line.most));
            let text = draw_line(now, reading, funds, share, level, self.style);
            if due || level != line.level {
                (line.shown, line.level) = (Some(now), level);
                fresh.push(text.clone());
            }
            live.push(text);
        }
        if self.film {
            self.erase();
            put(&lines(&live, ""));
            self.live = live;
        } else {
            put(&lines(&fresh, ""));
        }
    }

    /// Something happened in the simulated world.
    pub(super) fn narrate(&mut self, now: Time, what: &str) {
        let line = format!("{}  · {what}", stamp(now));
        self.above(&format!("{}\n", self.paint("2", &line)));
    }

    pub(super) fn slack(&mut self, now: Time, message: &SlackMessage) {
        let drawn = draw::slack(message, self.inset());
        self.above(&format!(
            "\n  {} Slack\n{}\n",
            stamp(now),
            lines(&drawn.trim_end().lines().collect::<Vec<_>>(), "  ")
        ));
    }

    pub(super) fn mail(&mut self, now: Time, mail: &Mail, file: &Path) {
        let to: Vec<String> = mail.to.iter().map(|to| clean(to)).collect();
        let subject = self.paint("1", &clean(&mail.subject));
        self.above(&format!("  {} E-mail to {}\n  {subject}\n  {}\n\n", stamp(now), to.join(", "), file.display()));
    }

    /// The summary, and what to try next.
    pub(super) fn close(&mut self, told: &Told, folder: &Path) {
        let Told { counts, passed, messages, mails } = told;
        let events = |names: &[&str]| names.iter().filter_map(|name| counts.events.get(*name)).sum::<u64>();
        say!("");
        say!("{}", self.paint("1", &format!("Told: {} of simulated time.", span(*passed))));
        say!("  readings   {} good, {} failed", counts.readings, counts.unreadable);
        say!(
            "  events     {} raised, {} escalated, {} eased, {} reminders, {} resolved; unreadable: {} raised, {} resolved",
            events(&["raised"]),
            events(&["escalated"]),
            events(&["eased"]),
            events(&["reminder", "unreadable_reminder"]),
            events(&["resolved"]),
            events(&["unreadable_raised"]),
            events(&["unreadable_resolved"]),
        );
        say!("  messages   {messages} in Slack, {mails} by e-mail");
        say!("");
        say!("Look at the e-mails in a browser, and at what Slack was sent:");
        say!("  {}", folder.join("mail").display());
        say!("  {}", folder.join("slack").display());
        say!("Then try:");
        say!(
            "  lowtide demo --scenario outage      every way in which CertCentral can fail; also divisions, flapping, …"
        );
        say!("  lowtide sandbox                     the simulated CertCentral alone, to point a configuration at");
        say!("  lowtide init                        a commented alerts.yaml to begin with");
    }

    /// Prints text above the live lines.
    fn above(&mut self, text: &str) {
        self.erase();
        put(text);
        put(&lines(&self.live, ""));
    }

    /// Takes the live lines off the terminal.
    fn erase(&mut self) {
        if self.film && !self.live.is_empty() {
            put(&format!("\u{1b}[{}A\r\u{1b}[J", self.live.len()));
        }
    }

    fn inset(&self) -> Style {
        Style { width: self.style.width.saturating_sub(2), ..self.style }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.style.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A line of the ledger in words.
pub(super) fn entry(world: &World, entry: &Entry) -> String {
    let name = world.divisions().find(|(id, _)| *id == entry.division).map_or("", |(_, name)| name);
    let currency = world.sheet(entry.division).map(|sheet| sheet.currency);
    let amount = currency.map_or_else(String::new, |currency| Money::new(entry.change.abs(), currency).to_string());
    let what = match entry.kind {
        "Expired Deposit" => "the unused rest of a deposit expires:",
        "Invoice Payment" => "an overdue invoice is taken from the balance:",
        _ => "a deposit arrives:",
    };
    format!("{}: {what} {amount}", clean(name))
}

/// How bad it is: what the alerts of this division say, or that it cannot be read just now.
fn level(reading: &LastReading, alerts: &[AlertReport]) -> Level {
    if reading.metrics.values().all(|text| text.starts_with(UNREADABLE)) {
        return Level::Unreadable;
    }
    let its = |alert: &&AlertReport| {
        alert.account == reading.account && alert.division == reading.division && alert.status == "firing"
    };
    let level = |alert: &AlertReport| match alert.level {
        Severity::Warning => Level::Warning,
        Severity::Critical => Level::Critical,
    };
    let threshold = alerts.iter().filter(its).filter(|alert| alert.rule.as_ref() != UNREADABLE);
    threshold.map(level).max().unwrap_or(Level::Ok)
}

/// The amount of `USD 1,431.00`.
fn amount(shown: &str) -> Option<Decimal> {
    let (_, figure) = shown.split_once(' ')?;
    parse_amount(&figure.replace(',', "").replace('\u{2212}', "-")).ok()
}

/// One division on one line of the terminal; `share` of the bar is full, and without one there is nothing to measure.
fn draw_line(
    now: Time,
    reading: &LastReading,
    funds: &str,
    share: Option<Decimal>,
    level: Level,
    style: Style,
) -> String {
    let room = style.width.saturating_sub(REST + 1);
    let bar = (room / 2).min(LONGEST);
    let longest = (room - bar).min(LONGEST);
    let name = reading.division_name.as_deref().map_or_else(|| reading.account.to_string(), clean);
    let name: String = name.chars().take(longest).collect();
    let full = share.and_then(|share| (share * Decimal::from(bar)).ceil().to_usize()).map(|cells| cells.min(bar));
    let bar = match (level, full) {
        (Level::Unreadable, _) => "?".repeat(bar),
        (_, None) => "∞".repeat(bar),
        (_, Some(cells)) => "█".repeat(cells) + &"░".repeat(bar - cells),
    };
    let funds = if level == Level::Unreadable { "not readable" } else { funds };
    let end = format!("{bar}  {}", level.word());
    let end = if style.colour { format!("\u{1b}[{}m{end}\u{1b}[0m", level.colour()) } else { end };
    format!("{}  {name:<longest$}  {funds:>14}  {end}", stamp(now))
}

fn stamp(now: Time) -> String {
    now.format("%a %d %b %H:%M").to_string()
}

fn span(passed: chrono::TimeDelta) -> String {
    let (days, hours) = (passed.num_days(), passed.num_hours() % 24);
    let days = count(usize::try_from(days).unwrap_or_default(), "day");
    if hours == 0 { days } else { format!("{days} and {}", count(usize::try_from(hours).unwrap_or_default(), "hour")) }
}

/// Each on a line of its own, behind `indent`.
fn lines(lines: &[impl AsRef<str>], indent: &str) -> String {
    lines.iter().fold(String::new(), |text, line| text + indent + line.as_ref() + "\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn a_live_line_fits_every_terminal_that_has_one_whatever_it_says() {
        let now = "2026-11-25T22:00:00Z".parse().unwrap();
        let reading = LastReading {
            account: "acme".into(),
            division: Some(1),
            division_name: Some("A department with a very long \u{1b}[2Jname".to_owned()),
            at: now,
            metrics: BTreeMap::new(),
        };
        for width in NARROWEST..=WIDEST {
            for (share, level) in
                [(Some(Decimal::ONE), Level::Critical), (None, Level::Ok), (Some(Decimal::TWO), Level::Unreadable)]
            {
                let style = Style { colour: false, width };
                let line = draw_line(now, &reading, "USD 123,456.00", share, level, style);
                assert!(line.width() < width && !line.contains('\u{1b}'), "{width}: {line}");
            }
        }
    }

    #[test]
    fn amounts_and_spans_are_read_and_written_as_people_do() {
        assert_eq!(amount("USD −1,569.00"), Some(Decimal::from(-1569)));
        assert_eq!(amount("unlimited"), None);
        assert_eq!(span(chrono::TimeDelta::hours(49)), "2 days and 1 hour");
        assert_eq!(span(chrono::TimeDelta::hours(24)), "1 day");
    }
}
