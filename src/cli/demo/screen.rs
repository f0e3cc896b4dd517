//! How the demo tells its story: a live line a division, and each message as its reader would see it.
//!
//! On a terminal the live lines stay at the bottom and are written over; elsewhere a line comes when a level changes and
//! once a simulated day, so that a pipe gets a story and no film.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use rust_decimal::Decimal;

use super::line::{Standing, amount, draw_line, span, stamp, standing};
use crate::cli::count;
use crate::cli::demo::timing::{Pace, Tempo};
use crate::cli::output::{put, say};
use crate::domain::{Division, Name, Time};
use crate::sandbox::draw::{self, Style};
use crate::sandbox::mail_sink::Mail;
use crate::sandbox::scenario::Scenario;
use crate::sandbox::slack_sink::SlackMessage;
use crate::status::control::{Counts, Report};
use crate::util::text::clean;

/// The widest that anything is drawn.
pub(super) const WIDEST: usize = 100;
/// The narrowest terminal on which live lines fit.
pub(super) const NARROWEST: usize = 60;
/// A whole bar is at least so much: the demo's rules warn at two fifths of it.
const WHOLE: Decimal = Decimal::from_parts(5000, 0, 0, false, 0);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What there is to tell at the end.
pub(super) struct Told<'a> {
    pub(super) counts: &'a Counts,
    pub(super) passed: Duration,
    pub(super) messages: usize,
    pub(super) mails: usize,
    pub(super) scenario: &'a Scenario,
}

/// The terminal or the pipe.
pub(super) struct Screen {
    style: Style,
    /// So many live lines can be written over; 0: none.
    film: usize,
    /// The live lines as they stand on the terminal.
    live: Vec<String>,
    lines: BTreeMap<(Name, Division), Line>,
    /// The last line that was printed is empty.
    gap: bool,
}

/// One division as it was last shown.
struct Line {
    standing: Standing,
    shown: Option<Time>,
    /// The most that it ever had.
    most: Decimal,
}

impl Screen {
    /// On a terminal that can go back, lines are written over, as many as there is room for.
    pub(super) fn new(colour: bool, may_film: bool) -> Self {
        let size = terminal_size::terminal_size().filter(|_| std::io::stdout().is_terminal());
        let (width, height) = size.map_or((WIDEST, 0), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        // A line that wraps could not be written over.
        let film = if may_film && width >= NARROWEST { height.saturating_sub(2) } else { 0 };
        let style = Style { colour, width: width.clamp(NARROWEST, WIDEST) };
        Self { style, film, live: Vec::new(), lines: BTreeMap::new(), gap: true }
    }

    pub(super) fn open(&self, scenario: &Scenario, seed: u64, pace: &Pace, folder: &Path) {
        if !scenario.about.is_empty() {
            say!("{}", self.paint("1", &clean(&scenario.about)));
        }
        let (name, length) = (clean(&scenario.name), span(pace.length));
        let seconds = |time: Duration| count(usize::try_from(time.as_secs()).unwrap_or_default(), "second");
        match pace.tempo {
            Tempo::Within(time) => say!("Scenario {name}, seed {seed}: {length} in about {}.", seconds(time)),
            Tempo::Speed(speed) => {
                let most = pace.limit.map_or_else(String::new, |limit| format!(", for at most {}", seconds(limit)));
                say!("Scenario {name}, seed {seed}: {length}, {speed} times as fast as time{most}.");
            }
        }
        say!("CertCentral, Slack and the mail server are simulated on loopback;");
        say!("the service between them is the real one. Ctrl-C ends the demo.");
        say!("");
        say!("  configuration  {}", folder.join("alerts.yaml").display());
        say!("  e-mails        {}", folder.join("mail").display());
        say!("");
    }

    /// How things stand after a cycle. A change of level stays on the terminal; so does a line a day where lines cannot be
    /// written over.
    pub(super) fn status(&mut self, now: Time, report: &Report) {
        let film = (1..=self.film).contains(&report.readings.len());
        let (mut fresh, mut live) = (Vec::new(), Vec::new());
        for reading in &report.readings {
            let key = (reading.account.clone(), reading.division);
            let standing = standing(reading, &report.alerts);
            let funds = reading.metrics.get("available_funds").map_or("", String::as_str);
            let amount = amount(funds);
            let line = self.lines.entry(key).or_insert(Line { standing: standing.clone(), shown: None, most: WHOLE });
            line.most = line.most.max(amount.unwrap_or_default());
            let share = amount.and_then(|amount| amount.max(Decimal::ZERO).checked_div(line.most));
            let text = draw_line(now, reading, funds, share, &standing, self.style);
            let due = line.shown.is_none_or(|shown| (now - shown).to_std().is_ok_and(|age| age >= DAY));
            if standing != line.standing || (due && !film) {
                (line.shown, line.standing) = (Some(now), standing);
                fresh.push(text.clone());
            }
            live.push(text);
        }
        self.erase();
        if !fresh.is_empty() {
            put(&lines(&fresh));
            self.gap = false;
        }
        self.live = if film { live } else { Vec::new() };
        put(&lines(&self.live));
    }

    /// Something happened in the simulated world.
    pub(super) fn narrate(&mut self, now: Time, what: &str) {
        let line = format!("{}  · {what}", stamp(now));
        let line = self.paint("2", &line);
        self.above(&[line]);
        self.gap = false;
    }

    pub(super) fn slack(&mut self, now: Time, message: &SlackMessage) {
        let drawn = draw::slack(message, Style { width: self.style.width.saturating_sub(2), ..self.style });
        let head = format!("{} Slack", stamp(now));
        self.message(std::iter::once(head.as_str()).chain(drawn.trim_end().lines()));
    }

    pub(super) fn mail(&mut self, now: Time, mail: &Mail, file: &Path) {
        let to: Vec<String> = mail.to.iter().map(|to| clean(to)).collect();
        let head = format!("{} E-mail to {}", stamp(now), to.join(", "));
        let (subject, file) = (self.paint("1", &clean(&mail.subject)), file.display().to_string());
        self.message([head.as_str(), subject.as_str(), file.as_str()]);
    }

    /// A block of its own, with an empty line before and behind.
    fn message<'l>(&mut self, text: impl IntoIterator<Item = &'l str>) {
        let mut block: Vec<String> = if self.gap { Vec::new() } else { vec![String::new()] };
        block.extend(text.into_iter().map(|line| format!("  {line}").trim_end().to_owned()));
        block.push(String::new());
        self.above(&block);
        self.gap = true;
    }

    /// The summary, and what to try next.
    pub(super) fn close(&mut self, told: &Told, folder: &Path) {
        let Told { counts, passed, messages, mails, scenario } = told;
        let early =
            if *passed + DAY < scenario.length { format!(" of {}", span(scenario.length)) } else { String::new() };
        let events = |name: &str| counts.events.get(name).copied().unwrap_or_default();
        if !self.gap || !self.live.is_empty() {
            say!("");
        }
        say!("{}", self.paint("1", &format!("Told: {}{early} of simulated time.", span(*passed))));
        say!("  readings    good {}, failed {}", counts.readings, counts.unreadable);
        say!(
            "  events      raised {}, escalated {}, eased {}, reminders {}, resolved {}",
            events("raised"),
            events("escalated"),
            events("eased"),
            events("reminder"),
            events("resolved"),
        );
        say!(
            "  unreadable  raised {}, reminders {}, resolved {}",
            events("unreadable_raised"),
            events("unreadable_reminder"),
            events("unreadable_resolved"),
        );
        say!("  messages    in Slack {messages}, by e-mail {mails}");
        say!("");
        let other = if scenario.name == "outage" { "divisions" } else { "outage" };
        if *mails > 0 {
            say!("Look at the e-mails in a browser:  {}", folder.join("mail").display());
        }
        if *messages > 0 {
            say!("What Slack was sent:               {}", folder.join("slack").display());
        }
        say!("The folder stays until you delete it.");
        say!("");
        say!("Then try:");
        say!("  lowtide demo --scenario {other:<11} another story");
        say!("  lowtide sandbox                     the simulated CertCentral alone,");
        say!("                                      to point a configuration at");
        say!("  lowtide init                        a commented alerts.yaml to begin with");
    }

    /// Prints lines above the live ones.
    fn above(&mut self, text: &[String]) {
        self.erase();
        put(&lines(text));
        put(&lines(&self.live));
    }

    /// Takes the live lines off the terminal.
    fn erase(&mut self) {
        if !self.live.is_empty() {
            put(&format!("\u{1b}[{}A\r\u{1b}[J", self.live.len()));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.style.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Each on a line of its own.
fn lines(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}
