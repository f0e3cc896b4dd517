//! One line on a terminal that tells what goes on, written over and over; nothing where standard error is no terminal.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use chrono_tz::Tz;

use crate::cli::count;
use crate::cli::output::complain;
use crate::domain::Time;
use crate::util::text::clean;

/// The pause between two looks of the line.
const PAUSE: Duration = Duration::from_millis(100);
/// To the start of the line, and everything on it away.
const AWAY: &str = "\r\u{1b}[2K";

pub(super) struct Progress {
    account: String,
    timezone: Tz,
    terminal: bool,
    said: Option<Instant>,
}

impl Progress {
    pub(super) fn new(account: &str, timezone: Tz) -> Self {
        Self { account: clean(account), timezone, terminal: std::io::stderr().is_terminal(), said: None }
    }

    pub(super) fn say(&mut self, what: &str) {
        if self.terminal {
            complain(&format!("{AWAY}{}: {what} …", self.account));
            self.said = Some(Instant::now());
        }
    }

    /// How much of the books was read.
    pub(super) fn read(&mut self, ledgers: usize, lines: usize) {
        let (ledgers, lines) = (count(ledgers, "ledger"), count(lines, "line"));
        self.say(&format!("reading the books: {ledgers} so far, of {lines}"));
    }

    /// How far the replay has come.
    pub(super) fn replay(&mut self, at: Time) {
        if self.said.is_none_or(|said| said.elapsed() >= PAUSE) {
            let day = at.with_timezone(&self.timezone).format("%-d %B %Y").to_string();
            self.say(&format!("replaying {day}"));
        }
    }

    pub(super) fn clear(&mut self) {
        if self.terminal && self.said.take().is_some() {
            complain(AWAY);
        }
    }
}
