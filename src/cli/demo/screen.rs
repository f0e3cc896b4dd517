//! Output of the demo: one live line per division, and each message as its recipient would see it.
//!
//! On a terminal, the live lines stay at the bottom and are redrawn. A pipe gets no live lines, only one line at each change of
//! level and one per simulated day.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anstyle::Style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rust_decimal::Decimal;

use super::line::{DemoStatus, amount, demo_status, draw_line, duration_text, stamp};
use crate::cli::count;
use crate::cli::demo::timing::{DemoSpeed, DemoTiming};
use crate::cli::output::style::{BOLD, DIMMED, paint};
use crate::cli::output::{print_line, write_stdout};
use crate::domain::{Division, Name, Time};
use crate::sandbox::draw::{self, DrawStyle};
use crate::sandbox::mail_sink::ReceivedMail;
use crate::sandbox::scenario::Scenario;
use crate::sandbox::slack_sink::SlackMessage;
use crate::status::control::{ServiceCounters, ServiceStatus};
use crate::util::text::clean;

/// Highest width of the output, in columns.
pub(super) const WIDEST: usize = 100;
/// Width of the narrowest terminal on which live lines fit, in columns.
pub(super) const NARROWEST: usize = 60;
/// Lowest amount that a full bar stands for; the demo's rules warn at two fifths of it.
const FULL_BAR: Decimal = Decimal::from_parts(5000, 0, 0, false, 0);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Highest rate at which live lines are redrawn.
const MAX_REDRAWS_PER_SECOND: u8 = 60;

/// Figures of the summary at the end.
pub(super) struct DemoSummary<'a> {
    pub(super) counts: &'a ServiceCounters,
    pub(super) passed: Duration,
    pub(super) messages: usize,
    pub(super) mails: usize,
    pub(super) scenario: &'a Scenario,
}

/// The output of the demo, on a terminal or a pipe.
pub(super) struct DemoScreen {
    style: DrawStyle,
    /// Highest number of live lines; 0 where they cannot be redrawn.
    live_capacity: usize,
    /// Draws the live lines at the bottom of the terminal.
    live: MultiProgress,
    /// One bar per live line, whose message is the line.
    bars: Vec<ProgressBar>,
    lines: BTreeMap<(Name, Division), DemoLine>,
    /// Set if the last printed line is empty.
    gap: bool,
}

/// A division as it was last shown.
struct DemoLine {
    status: DemoStatus,
    shown: Option<Time>,
    /// Highest amount so far, which fills the bar.
    most: Decimal,
}

impl DemoScreen {
    /// Creates the output. On a terminal that supports it, live lines are redrawn, as many as fit.
    pub(super) fn new(colour: bool, may_redraw: bool) -> Self {
        let size = terminal_size::terminal_size().filter(|_| std::io::stdout().is_terminal());
        let (width, height) = size.map_or((WIDEST, 0), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        let live_capacity = if may_redraw && width >= NARROWEST { height.saturating_sub(2) } else { 0 };
        Self {
            style: DrawStyle { colour, width: width.clamp(NARROWEST, WIDEST) },
            live_capacity,
            live: MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(MAX_REDRAWS_PER_SECOND)),
            bars: Vec::new(),
            lines: BTreeMap::new(),
            gap: true,
        }
    }

    /// Prints the scenario and the folder of the run.
    pub(super) fn open(&self, scenario: &Scenario, seed: u64, timing: &DemoTiming, folder: &Path) {
        if !scenario.about.is_empty() {
            print_line!("{}", self.paint(BOLD, &clean(&scenario.about)));
        }
        let (name, length) = (clean(&scenario.name), duration_text(timing.length));
        let seconds = |time: Duration| count(usize::try_from(time.as_secs()).unwrap_or_default(), "second");
        match timing.speed {
            DemoSpeed::Within(time) => {
                print_line!("Scenario {name}, seed {seed}: {length} in about {}.", seconds(time));
            }
            DemoSpeed::Multiple(speed) => {
                let most = timing.limit.map_or_else(String::new, |limit| format!(", for at most {}", seconds(limit)));
                print_line!("Scenario {name}, seed {seed}: {length} at {speed} times real speed{most}.");
            }
        }
        print_line!("The service is real; CertCentral, Slack and the mail server are simulated");
        print_line!("on loopback. Ctrl-C ends the demo.");
        print_line!("");
        print_line!("  configuration  {}", folder.join("alerts.yaml").display());
        print_line!("  emails         {}", folder.join("mail").display());
        print_line!("");
    }

    /// Shows the status after a cycle. Each change of level is printed; where lines cannot be redrawn, so is one line per
    /// simulated day.
    pub(super) fn status(&mut self, now: Time, report: &ServiceStatus) {
        let redraws = (1..=self.live_capacity).contains(&report.readings.len());
        let (mut changed, mut live) = (Vec::new(), Vec::new());
        for reading in &report.readings {
            let status = demo_status(reading, &report.alerts);
            let funds = reading.metrics.get("available_funds").map_or("", String::as_str);
            let amount = amount(funds);
            let key = (reading.account.clone(), reading.division);
            let line =
                self.lines.entry(key).or_insert(DemoLine { status: status.clone(), shown: None, most: FULL_BAR });
            line.most = line.most.max(amount.unwrap_or_default());
            let share = amount.and_then(|amount| amount.max(Decimal::ZERO).checked_div(line.most));
            let text = draw_line(now, reading, funds, share, &status, self.style);
            let due = line.shown.is_none_or(|shown| (now - shown).to_std().is_ok_and(|age| age >= DAY));
            if status != line.status || (due && !redraws) {
                (line.shown, line.status) = (Some(now), status);
                changed.push(text.clone());
            }
            live.push(text);
        }
        if !changed.is_empty() {
            self.print(&changed);
            self.gap = false;
        }
        self.redraw(if redraws { live } else { Vec::new() });
    }

    /// Replaces the live lines.
    fn redraw(&mut self, lines: Vec<String>) {
        while self.bars.len() > lines.len() {
            self.bars.pop().iter().for_each(ProgressBar::finish_and_clear);
        }
        while self.bars.len() < lines.len() {
            self.bars.push(self.live.add(ProgressBar::no_length().with_style(live_style())));
        }
        self.bars.iter().zip(lines).for_each(|(bar, line)| bar.set_message(line));
    }

    /// Prints an event of the simulated account.
    pub(super) fn show_world_event(&mut self, now: Time, what: &str) {
        let line = format!("{}  · {what}", stamp(now));
        let line = self.paint(DIMMED, &line);
        self.print(&[line]);
        self.gap = false;
    }

    /// Prints a Slack message as Slack shows it.
    pub(super) fn slack(&mut self, now: Time, message: &SlackMessage) {
        let drawn = draw::slack(message, DrawStyle { width: self.style.width.saturating_sub(2), ..self.style });
        let head = format!("{} Slack", stamp(now));
        self.message(std::iter::once(head.as_str()).chain(drawn.trim_end().lines()));
    }

    /// Prints the recipients and the subject of an email, and the file to open.
    pub(super) fn mail(&mut self, now: Time, mail: &ReceivedMail, file: &Path) {
        let to: Vec<String> = mail.to.iter().map(|to| clean(to)).collect();
        let head = format!("{} Email to {}", stamp(now), to.join(", "));
        let (subject, file) = (self.paint(BOLD, &clean(&mail.subject)), file.display().to_string());
        self.message([head.as_str(), subject.as_str(), file.as_str()]);
    }

    /// Prints a block of lines with an empty line before and after it.
    fn message<'l>(&mut self, text: impl IntoIterator<Item = &'l str>) {
        let mut block: Vec<String> = if self.gap { Vec::new() } else { vec![String::new()] };
        block.extend(text.into_iter().map(|line| format!("  {line}").trim_end().to_owned()));
        block.push(String::new());
        self.print(&block);
        self.gap = true;
    }

    /// Prints the summary and what to try next.
    pub(super) fn close(&mut self, summary: &DemoSummary, folder: &Path) {
        self.end_live();
        if !self.gap {
            print_line!("");
        }
        self.print_figures(summary);
        let DemoSummary { messages, mails, scenario, .. } = summary;
        print_line!("");
        if *mails > 0 {
            print_line!("Open the emails in a browser:  {}", folder.join("mail").display());
        }
        if *messages > 0 {
            print_line!("Requests to Slack:             {}", folder.join("slack").display());
        }
        print_line!("The folder stays until you delete it.");
        print_line!("");
        let other = if scenario.name == "outage" { "divisions" } else { "outage" };
        print_line!("Next, try:");
        print_line!("  lowtide demo --scenario {other:<11} another scenario");
        print_line!("  lowtide sandbox                     only the simulated CertCentral,");
        print_line!("                                      to point a configuration at");
        print_line!("  lowtide init                        a commented alerts.yaml to start from");
    }

    fn print_figures(&self, summary: &DemoSummary) {
        let DemoSummary { counts, passed, messages, mails, scenario } = summary;
        let early = if *passed + DAY < scenario.length {
            format!(" of {}", duration_text(scenario.length))
        } else {
            String::new()
        };
        let events = |name: &str| counts.events.get(name).copied().unwrap_or_default();
        print_line!("{}", self.paint(BOLD, &format!("Played: {}{early} of simulated time.", duration_text(*passed))));
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
        print_line!("  messages    in Slack {messages}, by email {mails}");
    }

    /// Prints lines, above the live ones if there are any.
    fn print(&self, text: &[String]) {
        if self.bars.is_empty() {
            write_stdout(&lines(text));
        } else {
            // Fails only if the terminal is gone.
            let _ = self.live.println(lines(text));
        }
    }

    /// Turns the live lines into ordinary output.
    fn end_live(&mut self) {
        let last: Vec<String> = self.bars.iter().map(ProgressBar::message).collect();
        self.redraw(Vec::new());
        write_stdout(&lines(&last));
        self.gap &= last.is_empty();
    }

    fn paint(&self, style: Style, text: &str) -> String {
        paint(text, style, self.style.colour)
    }
}

/// Returns the style of a live line, which is its message alone.
fn live_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Joins lines, each with a line break at its end.
fn lines(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}
