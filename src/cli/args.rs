//! The arguments, and what `--help` says about them.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::logging::LogFormat;

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
    `check` instead: 0 ok, 1 warning, 2 critical, 3 unknown.";

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
        output: CheckOutput,
    },
    /// Print every problem of the configuration at once
    Validate {
        /// Also read each account once
        #[arg(long)]
        online: bool,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Send a clearly marked test message through each notifier, or the named ones
    TestNotify {
        /// Names of notifiers; none: all
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show alerts pending and firing and notifications owed; from a running service also its last readings
    Status {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// For supervisors: exit 0 while the running service's cycles are on time, else 1
    Health,
    /// Write a commented starter alerts.yaml; refuses to overwrite
    Init,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// Aligned for a person
    #[default]
    Text,
    /// Stable for a script
    Json,
}

/// How `check` prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CheckOutput {
    /// Aligned for a person
    #[default]
    Text,
    /// Stable for a script
    Json,
    /// The monitoring-plugin line with performance data
    Plugin,
}
