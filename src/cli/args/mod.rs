//! Command-line arguments, and the texts of `--help`.

mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::domain::rule::Severity;
use crate::util::logging::LogFormat;

/// Warns people before their DigiCert CertCentral funds run out.
#[derive(Debug, Parser)]
#[command(name = "lowtide", version, about, after_help = EXIT_CODES, arg_required_else_help = false)]
pub struct Cli {
    /// Configuration file [default: ./alerts.yaml, then /etc/lowtide/alerts.yaml]
    #[arg(short, long, global = true, env = "LOWTIDE_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Format of log lines, which go to standard error
    #[arg(long, global = true, env = "LOWTIDE_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Log level: error, warn, info, debug or trace, or a filter in the syntax of `RUST_LOG`
    #[arg(long, global = true, env = "LOWTIDE_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Command to run, with its arguments
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failed while running, 64 bad usage, 78 bad configuration.\n\
    `check` instead: 0 ok, 1 warning, 2 critical, 3 unknown.\n\
    A command that ends because of SIGINT or SIGTERM: 130 or 143. `run`, `sandbox` and `demo` shut down in order and exit with 0.";

/// A command and its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the monitoring service until SIGTERM or SIGINT
    Run,
    /// Read every account now and print the level of each rule; sends and stores nothing
    ///
    /// Compares the present reading with the thresholds alone. Uses the exit codes of monitoring plugins: 0 ok, 1 warning,
    /// 2 critical, 3 unknown.
    Check {
        /// Format of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: CheckOutputFormat,
    },
    /// Print every problem of the configuration
    Validate {
        /// Also read each account once
        #[arg(long)]
        online: bool,
        /// Format of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Send a marked test message through each notifier
    TestNotify {
        /// Notifiers to test [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Format of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Print what a notification will look like; sends and stores nothing
    ///
    /// Shows the account's present figures if they can be read, otherwise sample figures, with a note. The message is rendered
    /// by the same code that `run` uses: the JSON and text for Slack; the subject, text and HTML of an email; the JSON of other
    /// requests.
    Preview(PreviewArgs),
    /// Replay the current rules over the account's ledger: what would have been sent, and when
    ///
    /// Evaluates each past cycle with the same code as `run`, on the figures that the ledger gives for that time. Reads the
    /// balance, the ledger and the orders once; sends and stores nothing. The output lists the assumptions, such as the figures
    /// for which CertCentral keeps no history.
    Backtest(BacktestArgs),
    /// Show pending and firing alerts, silences and pending notifications; if the service runs, also its last readings
    Status {
        /// Format of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Silence alerts for a while, list silences, or end one
    ///
    /// Silences mute notifications; rules are still evaluated. A silence ends by itself, and an alert that still fires then is
    /// notified. With the default level, warning, critical alerts still get through.
    ///
    /// If the service runs, it makes the change; the command reaches it through the Unix socket beside the state file. If not,
    /// the command locks the state and changes the file itself. It also works while the configuration file has a mistake,
    /// because the running service uses the previous configuration. Run it as the user of the service or as root. To silence
    /// alerts from the configuration, use `silences:`.
    Silence {
        /// Change or query of silences
        #[command(subcommand)]
        action: SilenceAction,
    },
    /// Simulate CertCentral on loopback, to point a configuration at
    ///
    /// Answers finance/balance, finance/balance-history, container, user/me and order/certificate for the account that a
    /// scenario describes. Its API key is `sandbox-api-key`. Runs until Ctrl-C.
    Sandbox {
        /// Listening address, loopback only
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8099", value_parser = values::loopback)]
        listen: SocketAddr,
        /// Scenario and seed of the simulation
        #[command(flatten)]
        simulation: SimulationArgs,
        /// Simulated seconds per second, such as 60x
        #[arg(long, value_name = "Nx", default_value = "60x", value_parser = values::speed, allow_negative_numbers = true)]
        speed: u32,
        /// Part of the scenario that has already happened at the start, such as 16d, so that there is a past to replay
        #[arg(long, value_name = "DURATION", default_value = "0", value_parser = values::passed, allow_hyphen_values = true)]
        passed: Duration,
    },
    /// Run the whole service against the sandbox, with simulated Slack and email: no account, no key, no network
    Demo {
        /// Scenario and seed of the simulation
        #[command(flatten)]
        simulation: SimulationArgs,
        /// Simulated seconds per second, such as 10000x [default: as fast as --seconds requires]
        #[arg(long, value_name = "Nx", value_parser = values::speed, allow_negative_numbers = true)]
        speed: Option<u32>,
        /// Length of the run in seconds; with --speed, the latest end of the run [default: 60]
        #[arg(long, value_name = "N", value_parser = values::seconds, allow_negative_numbers = true)]
        seconds: Option<u32>,
    },
    /// Health check (exits 0 if healthy)
    ///
    /// Exits with 0 while the cycles of the running service are on time, otherwise with 1.
    Health,
    /// Write a commented starter alerts.yaml; refuses to overwrite
    Init,
    /// Print the JSON Schema of alerts.yaml, for editors
    Schema,
    /// Print completions for a shell
    Completions {
        /// Shell to complete in
        shell: clap_complete::Shell,
    },
}

/// A subcommand of `lowtide silence`.
#[derive(Debug, Subcommand)]
pub enum SilenceAction {
    /// Silence an account, one of its divisions, or one rule
    Add {
        /// Scope, end and reason
        #[command(flatten)]
        terms: SilenceTerms,
        /// Format of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// List silences, those added by command and those in the configuration
    List {
        /// Format of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// End a silence now; active alerts notify at the next check
    Remove {
        /// Id of the silence, from `lowtide silence list`
        id: String,
    },
}

/// Scope, end and reason of a new silence.
#[derive(Debug, clap::Args)]
pub struct SilenceTerms {
    /// Name of the account to silence
    #[arg(long, value_name = "NAME")]
    pub account: String,
    /// Silence only this division [default: the whole account]
    #[arg(long, value_name = "ID", value_parser = values::division, allow_negative_numbers = true)]
    pub division: Option<u64>,
    /// Silence only this rule, or `unreadable` [default: all]
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Length, such as 90m, 4h, 3d or 1w; either this or --until is required
    #[arg(long = "for", value_name = "DURATION", value_parser = values::length, conflicts_with = "until", allow_hyphen_values = true)]
    pub length: Option<Duration>,
    /// End: 2026-12-01T09:00 in the configured time zone, or with an offset: 2026-12-01T09:00+01:00
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Reason, shown in messages and by `lowtide status`
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub reason: Option<String>,
    /// Highest level that is silenced
    #[arg(long, value_enum, default_value_t)]
    pub level: SilenceLevel,
}

/// The highest level that a silence covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SilenceLevel {
    /// Warnings only; critical alerts still get through
    #[default]
    Warning,
    /// Warnings and critical alerts
    Critical,
}

impl SilenceLevel {
    /// Returns `true` if the silence covers both levels.
    pub fn includes_critical(self) -> bool {
        self == Self::Critical
    }
}

impl From<SilenceLevel> for Severity {
    fn from(level: SilenceLevel) -> Self {
        match level {
            SilenceLevel::Warning => Severity::Warning,
            SilenceLevel::Critical => Severity::Critical,
        }
    }
}

/// Arguments of `lowtide backtest`.
#[derive(Debug, clap::Args)]
pub struct BacktestArgs {
    /// Number of days to replay, 1 to 365; fewer if the ledger does not reach back that far
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = values::days, allow_negative_numbers = true)]
    pub days: u16,
    /// Replay only this account [default: all]
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Replay only this division [default: all divisions in the configuration]
    #[arg(long, value_name = "ID", value_parser = values::division, allow_negative_numbers = true)]
    pub division: Option<u64>,
    /// Replay only this rule; can be repeated [default: all]
    #[arg(long, value_name = "NAME")]
    pub rule: Vec<String>,
    /// Also propose thresholds from the account's own history, and show how the current ones performed
    #[arg(long)]
    pub suggest: bool,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: BacktestOutputFormat,
}

/// Output format of `backtest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum BacktestOutputFormat {
    /// Aligned tables for people
    #[default]
    Text,
    /// Stable JSON for scripts
    Json,
    /// One self-contained page with a chart
    Html,
}

/// Arguments of `lowtide preview`.
#[derive(Debug, clap::Args)]
pub struct PreviewArgs {
    /// Rule that the notification is about, or `unreadable` [default: the first rule in the file]
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Event that the notification is about
    #[arg(long, value_enum, default_value_t)]
    pub event: PreviewEvent,
    /// Notifier to render for; can be repeated [default: all that would be notified]
    #[arg(long, value_name = "NAME")]
    pub notifier: Vec<String>,
    /// Account to show [default: the first that the rule watches]
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Division to show [default: the first that the rule watches]
    #[arg(long, value_name = "ID")]
    pub division: Option<u64>,
    /// Level to show [default: the one that fits the event and the figures]
    #[arg(long, value_enum)]
    pub level: Option<PreviewLevel>,
    /// Show the message with the silence that it breaks, that has ended, or that is still active
    #[arg(long)]
    pub silenced: bool,
    /// Read nothing and use sample figures, which breach the level
    #[arg(long)]
    pub sample: bool,
    /// Write the HTML of the email to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// The event of a previewed notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PreviewEvent {
    /// A threshold was crossed
    #[default]
    Raised,
    /// A warning became critical
    Escalated,
    /// A critical alert improved to warning
    Eased,
    /// An alert still fires
    Reminder,
    /// An alert is over
    Resolved,
    /// The balance cannot be read
    Unreadable,
    /// The balance can be read again
    Readable,
    /// A division is no longer in the account's list
    Unwatched,
    /// A notifier has failed for an hour
    NotifierFailing,
    /// A failing notifier works again
    NotifierRecovered,
    /// A report with the figures of every account
    Report,
    /// The message of `test-notify`
    Test,
    /// Many alerts in one message: ten in full, one line for each of the others
    Several,
}

/// The level of a previewed notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PreviewLevel {
    /// Level that calls for planning
    Warning,
    /// Level that calls for action now
    Critical,
}

/// Arguments of the simulation in `sandbox` and `demo`.
#[derive(Debug, clap::Args)]
pub struct SimulationArgs {
    /// Scenario: steady, drain, renewal-wave, unpaid-invoices, unlimited, divisions, shared-funds, outage, flapping, plans, or
    /// the path of a custom scenario
    #[arg(long, value_name = "NAME|FILE", default_value = "drain")]
    pub scenario: String,
    /// Seed of the random choices; the same seed gives the same run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::seed, allow_negative_numbers = true)]
    pub seed: u64,
}

/// Output format of commands that print data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// Aligned tables for people
    #[default]
    Text,
    /// Stable JSON for scripts
    Json,
}

/// Output format of `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CheckOutputFormat {
    /// Aligned tables for people
    #[default]
    Text,
    /// Stable JSON for scripts
    Json,
    /// One line with performance data, for monitoring plugins
    Plugin,
}
