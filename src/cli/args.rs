//! The arguments, and what `--help` says about them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::domain::rule::Severity;
use crate::polling::schedule::parse_duration;
use crate::util::logging::LogFormat;

/// Warns people before their DigiCert CertCentral funds run out.
#[derive(Debug, Parser)]
#[command(name = "lowtide", version, about, after_help = EXIT_CODES, arg_required_else_help = false)]
pub struct Cli {
    /// Configuration file; default ./alerts.yaml, then /etc/lowtide/alerts.yaml
    #[arg(short, long, global = true, env = "LOWTIDE_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// How log lines look; they go to standard error
    #[arg(long, global = true, env = "LOWTIDE_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// error, warn, info, debug or trace, or a filter such as `RUST_LOG` takes
    #[arg(long, global = true, env = "LOWTIDE_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failed while running, 64 bad usage, 78 bad configuration.\n\
    `check` instead: 0 ok, 1 warning, 2 critical, 3 unknown.\n\
    A command that SIGINT or SIGTERM ends: 130 or 143; `run`, `sandbox` and `demo` stop in order, with 0.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The service: reads, judges, remembers and tells, until SIGTERM or SIGINT
    Run,
    /// Read every account now and print each rule's level; sends nothing, stores nothing
    ///
    /// Judges the present reading by the thresholds alone. Exit codes as monitoring plugins have them: 0 ok, 1 warning,
    /// 2 critical, 3 unknown.
    Check {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: CheckOutputFormat,
    },
    /// Print every problem of the configuration at once
    Validate {
        /// Also read each account once
        #[arg(long)]
        online: bool,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Send a clearly marked test message through each notifier, or the named ones
    TestNotify {
        /// Names of notifiers; none: all
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Print what a notification will look like; sends nothing, stores nothing
    ///
    /// With the account's reading, if it can be read, else with a documented sample, which is said. It is rendered by the
    /// very functions that `run` uses: Slack's JSON and text, a mail's subject, text and HTML, the JSON of other requests.
    Preview(PreviewArgs),
    /// Replay today's rules over the account's ledger: what would have been sent, and when
    ///
    /// Each cycle of those days is judged as `run` judges it, by the same functions, with what the ledger says was there. It
    /// reads the balance, the ledger and the orders once; it sends nothing and stores nothing. What it takes as it is today,
    /// because CertCentral keeps no history of it, it says.
    Backtest(BacktestArgs),
    /// Show alerts pending and firing and notifications owed; from a running service also its last readings
    Status {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Hush what is known already for a while, list what is hushed, or end a silence
    ///
    /// A silence stops messages, not judging: alerts go on to be judged and remembered. It ends by itself, and an alert that
    /// fires then is told. One made at level warning is broken by whatever becomes critical.
    ///
    /// While the service runs, it makes the change, asked through the Unix socket beside its state file. While it does not,
    /// this command takes the state's lock, changes the file and lets go. A configuration file with a mistake keeps nobody from
    /// asking a running service, which uses the one before. It has to run as the user of the service, or as
    /// root. `silences:` in the configuration does the same for as long as the file says.
    Silence {
        /// What to do
        #[command(subcommand)]
        action: SilenceAction,
    },
    /// Simulate a CertCentral on loopback, to point a configuration at
    ///
    /// Answers finance/balance, finance/balance-history, container, user/me and order/certificate for an account whose
    /// life a scenario describes. Its API key is `sandbox-api-key`. Runs until Ctrl-C.
    Sandbox {
        /// Where it listens; on loopback only
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8099", value_parser = loopback)]
        listen: SocketAddr,
        /// What is simulated
        #[command(flatten)]
        simulation: SimulationArgs,
        /// How much faster than time it lives, such as 60x
        #[arg(long, value_name = "Nx", default_value = "60x", value_parser = speed, allow_negative_numbers = true)]
        speed: u32,
        /// How much of its story is over already, such as 16d, so that there is something to look back on
        #[arg(long, value_name = "DURATION", default_value = "0", value_parser = passed, allow_hyphen_values = true)]
        passed: Duration,
    },
    /// The whole service against the sandbox, with Slack and mail simulated too: no account, no key, no network
    Demo {
        /// What is simulated
        #[command(flatten)]
        simulation: SimulationArgs,
        /// How much faster than time it lives, such as 10000x; default: so fast that the story fits into --seconds
        #[arg(long, value_name = "Nx", value_parser = speed, allow_negative_numbers = true)]
        speed: Option<u32>,
        /// How long the story takes; with --speed, how long it may take; default 60
        #[arg(long, value_name = "N", value_parser = seconds, allow_negative_numbers = true)]
        seconds: Option<u32>,
    },
    /// For supervisors: exit 0 while the running service's cycles are on time, else 1
    Health,
    /// Write a commented starter alerts.yaml; refuses to overwrite
    Init,
    /// Print the JSON Schema of alerts.yaml, for editors
    Schema,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What `lowtide silence` does.
#[derive(Debug, Subcommand)]
pub enum SilenceAction {
    /// Hush an account, one of its divisions, or one rule
    Add {
        /// What, and how long
        #[command(flatten)]
        terms: SilenceTerms,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Show what is silenced, by command and in the configuration
    List {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// End a silence now; what still fires is told at the next reading
    Remove {
        /// Its id, as `list` shows it
        id: String,
    },
}

/// What is silenced, and how long.
#[derive(Debug, clap::Args)]
pub struct SilenceTerms {
    /// The account
    #[arg(long, value_name = "NAME")]
    pub account: String,
    /// Only this division; default: all of the account
    #[arg(long, value_name = "ID", value_parser = division, allow_negative_numbers = true)]
    pub division: Option<u64>,
    /// Only this rule, or `unreadable`; default: all of them
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// How long, such as 90m, 4h, 3d or 1w; this or --until is needed
    #[arg(long = "for", value_name = "DURATION", value_parser = length, conflicts_with = "until", allow_hyphen_values = true)]
    pub length: Option<Duration>,
    /// Until when: 2026-12-01T09:00 in the configured time zone, or with an offset: 2026-12-01T09:00+01:00
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Why; messages and `status` show it
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
    /// The most severe level that is hushed: an alert that becomes worse is told
    #[arg(long, value_enum, default_value_t)]
    pub level: SilenceLevel,
}

/// How far a silence reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SilenceLevel {
    /// Warnings; what becomes critical is told
    #[default]
    Warning,
    /// Everything
    Critical,
}

impl SilenceLevel {
    /// Whether nothing is told.
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

fn length(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text).map_err(|error| error.to_string())?;
    if length.is_zero() { Err("a silence that ends at once is none".to_owned()) } else { Ok(length) }
}

fn passed(text: &str) -> Result<Duration, String> {
    let passed = parse_duration(text).map_err(|error| error.to_string())?;
    let year = Duration::from_secs(366 * 24 * 3600);
    if passed <= year { Ok(passed) } else { Err("at most 366d".to_owned()) }
}

fn division(text: &str) -> Result<u64, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let id = text.parse().ok().filter(|id| digits && *id > 0);
    id.ok_or_else(|| "the number of a division (its container id)".to_owned())
}

fn reason(text: &str) -> Result<String, String> {
    crate::config::silence_reason(text)
}

/// What is rehearsed.
#[derive(Debug, clap::Args)]
pub struct BacktestArgs {
    /// How many days back; fewer where the ledger does not reach so far
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = days, allow_negative_numbers = true)]
    pub days: u16,
    /// Only this account; default all
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Only this division; default all that are read
    #[arg(long, value_name = "ID", value_parser = division, allow_negative_numbers = true)]
    pub division: Option<u64>,
    /// Only this rule, or these; default all
    #[arg(long, value_name = "NAME")]
    pub rule: Vec<String>,
    /// Also propose thresholds from the account's own history, and say what the present ones were worth
    #[arg(long)]
    pub suggest: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: BacktestOutputFormat,
}

/// How `backtest` prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum BacktestOutputFormat {
    /// Aligned for a person
    #[default]
    Text,
    /// Stable for a script
    Json,
    /// One self-contained page with a chart
    Html,
}

fn days(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let days = text.parse().ok().filter(|days| digits && (1..=365).contains(days));
    days.ok_or_else(|| "a whole number from 1 to 365".to_owned())
}

/// Which notification is shown.
#[derive(Debug, clap::Args)]
pub struct PreviewArgs {
    /// What it is about; default the first rule of the file
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// What happened
    #[arg(long, value_enum, default_value_t)]
    pub event: PreviewEvent,
    /// On which notifier; default all that would be told
    #[arg(long, value_name = "NAME")]
    pub notifier: Vec<String>,
    /// Of which account; default the first that the rule watches
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Of which division; default the first that the rule watches
    #[arg(long, value_name = "ID")]
    pub division: Option<u64>,
    /// At which level; default the one that the event and the figures suggest
    #[arg(long, value_enum)]
    pub level: Option<PreviewLevel>,
    /// As it is told when a silence breaks, is over, or is still on at the end
    #[arg(long)]
    pub silenced: bool,
    /// Read nothing: use the sample's figures, which breach the level
    #[arg(long)]
    pub sample: bool,
    /// Write the mail's HTML to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// What a previewed notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PreviewEvent {
    /// A threshold has been crossed
    #[default]
    Raised,
    /// It was a warning and is critical now
    Escalated,
    /// It was critical and is a warning now
    Eased,
    /// Nothing has changed enough since the last message
    Reminder,
    /// It is over
    Resolved,
    /// The balance cannot be read
    Unreadable,
    /// It can be read again
    Readable,
    /// A division is gone from the account's list
    Unwatched,
    /// A notifier has failed for an hour
    NotifierFailing,
    /// It works again
    NotifierRecovered,
    /// A report comes, with the figures of every account
    Report,
    /// What `test-notify` sends
    Test,
    /// Many alerts in one message: ten in full, the rest in a line each
    Several,
}

/// At which level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PreviewLevel {
    /// Somebody should plan for it
    Warning,
    /// Somebody should act now
    Critical,
}

/// What the sandbox simulates.
#[derive(Debug, clap::Args)]
pub struct SimulationArgs {
    /// steady, drain, renewal-wave, unpaid-invoices, unlimited, divisions, shared-funds, outage, flapping, plans, or a file of your own
    #[arg(long, value_name = "NAME|FILE", default_value = "drain")]
    pub scenario: String,
    /// The same seed makes the same story
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seed, allow_negative_numbers = true)]
    pub seed: u64,
}

/// `60x`, or `60`.
fn speed(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix(['x', 'X']).unwrap_or(text);
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let speed = number.parse().ok().filter(|speed| digits && (1..=1_000_000).contains(speed));
    speed.ok_or_else(|| "a whole number from 1 to 1000000, such as 60x".to_owned())
}

fn seconds(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let seconds = text.parse().ok().filter(|seconds| digits && (1..=86_400).contains(seconds));
    seconds.ok_or_else(|| "a whole number from 1 to 86400".to_owned())
}

fn seed(text: &str) -> Result<u64, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| format!("a whole number from 0 to {}", u64::MAX))
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "an IP address and a port, such as 127.0.0.1:8099".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("an address of loopback, such as 127.0.0.1:8099".to_owned())
    }
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// Aligned for a person
    #[default]
    Text,
    /// Stable for a script
    Json,
}

/// How `check` prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CheckOutputFormat {
    /// Aligned for a person
    #[default]
    Text,
    /// Stable for a script
    Json,
    /// The monitoring-plugin line with performance data
    Plugin,
}
