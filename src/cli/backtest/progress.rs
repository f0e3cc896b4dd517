//! One line on a terminal that tells what goes on, written over and over; nothing where standard error is no terminal.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use chrono_tz::Tz;

use crate::cli::count;
use crate::cli::output::write_stderr;
use crate::domain::Time;
use crate::util::text::clean;

/// The pause between two looks of the line.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// To the start of the line, and everything on it away.
const CLEAR_LINE: &str = "\r\u{1b}[2K";

pub(super) struct ProgressLine {
    account: String,
    timezone: Tz,
    terminal: bool,
    shown_at: Option<Instant>,
}

impl ProgressLine {
    pub(super) fn new(account: &str, timezone: Tz) -> Self {
        Self { account: clean(account), timezone, terminal: std::io::stderr().is_terminal(), shown_at: None }
    }

    pub(super) fn show(&mut self, what: &str) {
        if self.terminal {
            write_stderr(&format!("{CLEAR_LINE}{}: {what} …", self.account));
            self.shown_at = Some(Instant::now());
        }
    }

    /// How much of the books was read.
    pub(super) fn show_read(&mut self, ledgers: usize, lines: usize) {
        let (ledgers, lines) = (count(ledgers, "ledger"), count(lines, "line"));
        self.show(&format!("reading the books: {ledgers} so far, of {lines}"));
    }

    /// How far the replay has come.
    pub(super) fn show_replay(&mut self, at: Time) {
        if self.shown_at.is_none_or(|said| said.elapsed() >= REDRAW_INTERVAL) {
            let day = at.with_timezone(&self.timezone).format("%-d %B %Y").to_string();
            self.show(&format!("replaying {day}"));
        }
    }

    pub(super) fn clear(&mut self) {
        if self.terminal && self.shown_at.take().is_some() {
            write_stderr(CLEAR_LINE);
        }
    }
}
