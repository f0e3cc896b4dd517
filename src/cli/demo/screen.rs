//! How the demo tells its story: a live line a division, and each message as its reader would see it.
//!
//! On a terminal the live lines stay at the bottom and are written over; elsewhere a line comes when a level changes and
//! once a simulated day, so that a pipe gets a story and no film.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use rust_decimal::Decimal;

use super::line::{DemoStatus, amount, demo_status, draw_line, duration_text, stamp};
use crate::cli::count;
use crate::cli::demo::timing::{DemoSpeed, DemoTiming};
use crate::cli::output::{print_line, write_stdout};
use crate::domain::{Division, Name, Time};
use crate::sandbox::draw::{self, DrawStyle};
use crate::sandbox::mail_sink::ReceivedMail;
use crate::sandbox::scenario::Scenario;
use crate::sandbox::slack_sink::SlackMessage;
use crate::status::control::{ServiceCounters, ServiceStatus};
use crate::util::text::clean;

/// The widest that anything is drawn.
pub(super) const WIDEST: usize = 100;
/// The narrowest terminal on which live lines fit.
pub(super) const NARROWEST: usize = 60;
/// A whole bar is at least so much: the demo's rules warn at two fifths of it.
const FULL_BAR: Decimal = Decimal::from_parts(5000, 0, 0, false, 0);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What there is to tell at the end.
pub(super) struct DemoSummary<'a> {
    pub(super) counts: &'a ServiceCounters,
    pub(super) passed: Duration,
    pub(super) messages: usize,
    pub(super) mails: usize,
    pub(super) scenario: &'a Scenario,
}

/// The terminal or the pipe.
pub(super) struct DemoScreen {
    style: DrawStyle,
    /// So many live lines can be written over; 0: none.
    live_capacity: usize,
    /// The live lines as they stand on the terminal.
    live: Vec<String>,
    lines: BTreeMap<(Name, Division), DemoLine>,
    /// The last line that was printed is empty.
    gap: bool,
}

/// One division as it was last shown.
struct DemoLine {
    status: DemoStatus,
    shown: Option<Time>,
    /// The most that it ever had.
    most: Decimal,
}

impl DemoScreen {
    /// On a terminal that can go back, lines are written over, as many as there is room for.
    pub(super) fn new(colour: bool, may_redraw: bool) -> Self {
        let size = terminal_size::terminal_size().filter(|_| std::io::stdout().is_terminal());
        let (width, height) = size.map_or((WIDEST, 0), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        // A line that wraps could not be written over.
        let live_capacity = if may_redraw && width >= NARROWEST { height.saturating_sub(2) } else { 0 };
        let style = DrawStyle { colour, width: width.clamp(NARROWEST, WIDEST) };
        Self { style, live_capacity: live_capacity, live: Vec::new(), lines: BTreeMap::new(), gap: true }
    }

    pub(super) fn open(&self, scenario: &Scenario, seed: u64, timing: &DemoTiming, folder: &Path) {
        if !scenario.about.is_empty() {
            print_line!("{}", self.paint("1", &clean(&scenario.about)));
        }
        let (name, length) = (clean(&scenario.name), duration_text(timing.length));
        let seconds = |time: Duration| count(usize::try_from(time.as_secs()).unwrap_or_default(), "second");
        match timing.speed {
            DemoSpeed::Within(time) => {
                print_line!("Scenario {name}, seed {seed}: {length} in about {}.", seconds(time))
            }
            DemoSpeed::Multiple(speed) => {
                let most = timing.limit.map_or_else(String::new, |limit| format!(", for at most {}", seconds(limit)));
                print_line!("Scenario {name}, seed {seed}: {length}, {speed} times as fast as time{most}.");
            }
        }
        print_line!("CertCentral, Slack and the mail server are simulated on loopback;");
        print_line!("the service between them is the real one. Ctrl-C ends the demo.");
        print_line!("");
        print_line!("  configuration  {}", folder.join("alerts.yaml").display());
        print_line!("  e-mails        {}", folder.join("mail").display());
        print_line!("");
    }

    /// How things stand after a cycle. A change of level stays on the terminal; so does a line a day where lines cannot be
    /// written over.
    pub(super) fn status(&mut self, now: Time, report: &ServiceStatus) {
        let redraws = (1..=self.live_capacity).contains(&report.readings.len());
        let (mut fresh, mut live) = (Vec::new(), Vec::new());
        for reading in &report.readings {
            let key = (reading.account.clone(), reading.division);
            let status = demo_status(reading, &report.alerts);
            let funds = reading.metrics.get("available_funds").map_or("", String::as_str);
            let amount = amount(funds);
            let line =
                self.lines.entry(key).or_insert(DemoLine { status: status.clone(), shown: None, most: FULL_BAR });
            line.most = line.most.max(amount.unwrap_or_default());
            let share = amount.and_then(|amount| amount.max(Decimal::ZERO).checked_div(line.most));
            let text = draw_line(now, reading, funds, share, &status, self.style);
            let due = line.shown.is_none_or(|shown| (now - shown).to_std().is_ok_and(|age| age >= DAY));
            if status != line.status || (due && !redraws) {
                (line.shown, line.status) = (Some(now), status);
                fresh.push(text.clone());
            }
            live.push(text);
        }
        self.erase_live();
        if !fresh.is_empty() {
            write_stdout(&lines(&fresh));
            self.gap = false;
        }
        self.live = if redraws { live } else { Vec::new() };
        write_stdout(&lines(&self.live));
    }

    /// Something happened in the simulated world.
    pub(super) fn show_world_event(&mut self, now: Time, what: &str) {
        let line = format!("{}  · {what}", stamp(now));
        let line = self.paint("2", &line);
        self.print_above(&[line]);
        self.gap = false;
    }

    pub(super) fn slack(&mut self, now: Time, message: &SlackMessage) {
        let drawn = draw::slack(message, DrawStyle { width: self.style.width.saturating_sub(2), ..self.style });
        let head = format!("{} Slack", stamp(now));
        self.message(std::iter::once(head.as_str()).chain(drawn.trim_end().lines()));
    }

    pub(super) fn mail(&mut self, now: Time, mail: &ReceivedMail, file: &Path) {
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
        self.print_above(&block);
        self.gap = true;
    }

    /// The summary, and what to try next.
    pub(super) fn close(&mut self, summary: &DemoSummary, folder: &Path) {
        let DemoSummary { counts, passed, messages, mails, scenario } = summary;
        let early = if *passed + DAY < scenario.length {
            format!(" of {}", duration_text(scenario.length))
        } else {
            String::new()
        };
        let events = |name: &str| counts.events.get(name).copied().unwrap_or_default();
        if !self.gap || !self.live.is_empty() {
            print_line!("");
        }
        print_line!("{}", self.paint("1", &format!("Told: {}{early} of simulated time.", duration_text(*passed))));
        print_line!("  readings    good {}, failed {}", counts.readings, counts.unreadable);
        print_line!(
            "  events      raised {}, escalated {}, eased {}, reminders {}, resolved {}",
            events("raised"),
            events("escalated"),
            events("eased"),
            events("reminder"),
            events("resolved"),
        );
        print_line!(
            "  unreadable  raised {}, reminders {}, resolved {}",
            events("unreadable_raised"),
            events("unreadable_reminder"),
            events("unreadable_resolved"),
        );
        print_line!("  messages    in Slack {messages}, by e-mail {mails}");
        print_line!("");
        let other = if scenario.name == "outage" { "divisions" } else { "outage" };
        if *mails > 0 {
            print_line!("Look at the e-mails in a browser:  {}", folder.join("mail").display());
        }
        if *messages > 0 {
            print_line!("What Slack was sent:               {}", folder.join("slack").display());
        }
        print_line!("The folder stays until you delete it.");
        print_line!("");
        print_line!("Then try:");
        print_line!("  lowtide demo --scenario {other:<11} another story");
        print_line!("  lowtide sandbox                     the simulated CertCentral alone,");
        print_line!("                                      to point a configuration at");
        print_line!("  lowtide init                        a commented alerts.yaml to begin with");
    }

    /// Prints lines above the live ones.
    fn print_above(&mut self, text: &[String]) {
        self.erase_live();
        write_stdout(&lines(text));
        write_stdout(&lines(&self.live));
    }

    /// Takes the live lines off the terminal.
    fn erase_live(&mut self) {
        if !self.live.is_empty() {
            write_stdout(&format!("\u{1b}[{}A\r\u{1b}[J", self.live.len()));
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
