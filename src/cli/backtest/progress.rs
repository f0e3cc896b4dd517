//! Progress of a backtest: one line on standard error, drawn only on a terminal.

use std::time::Duration;

use chrono_tz::Tz;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::count;
use crate::domain::Time;
use crate::util::text::clean;

/// Pause between two frames of the spinner.
const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// The progress line of one account; it disappears when dropped.
pub(super) struct ProgressLine {
    bar: ProgressBar,
    account: String,
    timezone: Tz,
}

impl ProgressLine {
    pub(super) fn new(account: &str, timezone: Tz) -> Self {
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(TICK_INTERVAL);
        Self { bar, account: clean(account), timezone }
    }

    /// Shows the current step.
    pub(super) fn show(&self, step: &str) {
        self.bar.set_message(format!("{}: {step} …", self.account));
    }

    /// Shows how many ledgers and lines have been read.
    pub(super) fn show_read(&self, ledgers: usize, lines: usize) {
        let (ledgers, lines) = (count(ledgers, "ledger"), count(lines, "line"));
        self.show(&format!("reading ledgers: {ledgers} so far, with {lines}"));
    }

    /// Shows the day that the replay has reached.
    pub(super) fn show_replay(&self, at: Time) {
        self.show(&format!("replaying {}", at.with_timezone(&self.timezone).format("%-d %B %Y")));
    }
}
