//! The command line: one file per command, and their common parts: arguments, exit codes, loading of the configuration.

mod args;
mod backtest;
mod check;
mod demo;
mod init;
mod output;
mod preview;
mod run;
mod sandbox;
mod signals;
mod silence;
mod status;
mod test_notify;
mod validate;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use args::{Cli, Command, OutputFormat};

use self::output::style::is_colour_allowed;
use self::output::{print_error, print_line};
use self::signals::stop_signal;
use crate::config::{self, Config, ConfigProblems, Environment, Loaded};
use crate::util::logging;
use crate::util::secret::Redactor;

/// Result of a command, which becomes its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Exit code 0: the command did what it should.
    Success,
    /// Exit code 1: something failed while running.
    Failure,
    /// Exit code 64: the command line is wrong.
    Usage,
    /// Exit code 78: the configuration is wrong.
    Config,
    /// Exit code of `check`: the worst level found, as monitoring plugins number them.
    Check(check::CheckLevel),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 64,
            Exit::Config => 78,
            Exit::Check(worst) => worst.code(),
        })
    }
}

/// Inputs common to all commands.
pub(crate) struct CommandContext {
    /// Path of the configuration file.
    pub(crate) file: PathBuf,
    /// Environment variables as of the start.
    pub(crate) environment: Environment,
    /// Redactor of secrets; it learns them when the configuration is loaded.
    pub(crate) redactor: Redactor,
    /// Permission to colour standard output.
    pub(crate) colour: bool,
    /// Set for `run`, the long-running service.
    pub(crate) service: bool,
}

impl CommandContext {
    /// Loads the configuration, or prints every problem to standard error. Only the service logs the warnings; for other
    /// commands, `validate` shows them.
    pub(crate) fn load_or_report(&self) -> Result<Config, Exit> {
        self.report(self.load())
    }

    /// Loads the configuration, valid or not.
    pub(crate) fn load(&self) -> Loaded {
        let loaded = config::load(&self.file, &self.environment);
        loaded.secrets.iter().for_each(|secret| self.redactor.learn(secret));
        loaded
    }

    /// Returns the loaded configuration, or prints its problems.
    pub(crate) fn report(&self, loaded: Loaded) -> Result<Config, Exit> {
        for warning in &loaded.warnings {
            if self.service {
                tracing::warn!("{warning}");
            }
        }
        loaded.config.map_err(|problems| {
            report_problems(&self.file, &problems);
            Exit::Config
        })
    }
}

/// Prints every problem to standard error.
fn report_problems(file: &Path, problems: &ConfigProblems) {
    let colour = is_colour_allowed(&std::io::stderr());
    for problem in problems {
        print_error!("{}\n", output::diagnostics::render(problem, colour));
    }
    print_error!("{}: {}", file.display(), count(problems.len(), "error"));
}

/// Formats a number with its noun: `1 problem`, `2 problems`.
pub(crate) fn count(n: usize, what: &str) -> String {
    crate::util::text::counted(n, what)
}

/// Parses the arguments, runs the command and returns its exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let exit = match Cli::try_parse_from(&args) {
        Ok(cli) => start(cli),
        Err(error) => {
            let _ = error.print(); // fails only if the terminal is gone
            usage_exit(&error, &args)
        }
    };
    logging::flush();
    exit.into()
}

/// Returns the exit for arguments that do not parse: success for `--help` and `--version`, unknown for `check`.
fn usage_exit(error: &clap::Error, args: &[OsString]) -> Exit {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    if matches!(error.kind(), DisplayHelp | DisplayVersion) {
        return Exit::Success;
    }
    if command(args) == Some("check") { Exit::Check(check::CheckLevel::Unknown) } else { Exit::Usage }
}

/// Finds the command in arguments that do not parse: the first that is neither an option nor an option's value.
fn command(args: &[OsString]) -> Option<&str> {
    let mut rest = args.iter().skip(1).map(|arg| arg.to_str().unwrap_or_default());
    while let Some(arg) = rest.next() {
        match arg {
            "-c" | "--config" | "--log-format" | "--log-level" => drop(rest.next()),
            option if option.starts_with('-') => {}
            command => return Some(command),
        }
    }
    None
}

fn start(cli: Cli) -> Exit {
    let environment = Environment::new(std::env::vars_os());
    let redactor = Redactor::default();
    let default_level = match cli.command {
        Command::Run => "info",
        // The demo simulates failures on purpose and shows them on standard output.
        Command::Demo { .. } => "off",
        _ => "warn",
    };
    let service = matches!(cli.command, Command::Run);
    if service {
        logging::queue_lines();
    }
    let colour_log = is_colour_allowed(&std::io::stderr());
    let started = logging::start(cli.log_format, cli.log_level.as_deref(), default_level, &redactor, colour_log);
    if let Err(error) = started {
        print_error!("lowtide: {error}");
        return if matches!(cli.command, Command::Check { .. }) {
            Exit::Check(check::CheckLevel::Unknown)
        } else {
            Exit::Usage
        };
    }
    let colour = is_colour_allowed(&std::io::stdout());
    let context = CommandContext { file: config::find(cli.config.as_deref()), environment, redactor, colour, service };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error!("lowtide: cannot start: {error}");
            return Exit::Failure;
        }
    };
    let stops_in_order = matches!(cli.command, Command::Run | Command::Sandbox { .. } | Command::Demo { .. });
    if !stops_in_order && let Err(error) = signals::exit_on_signal() {
        tracing::warn!(%error, "cannot listen for signals");
    }
    let exit = runtime.block_on(dispatch(cli, &context));
    // A DNS lookup that hangs in its own thread must not keep the process alive.
    runtime.shutdown_background();
    exit_after_output(exit)
}

/// Turns success into failure if the output could not be written.
fn exit_after_output(exit: Exit) -> Exit {
    match exit {
        _ if !output::stdout_failed() => exit,
        Exit::Success => Exit::Failure,
        Exit::Check(_) => Exit::Check(check::CheckLevel::Unknown),
        other => other,
    }
}

async fn dispatch(cli: Cli, context: &CommandContext) -> Exit {
    match cli.command {
        Command::Run => run::run(context).await,
        Command::Check { output } => check::run(context, output).await,
        Command::Validate { online, output } => validate::run(context, online, output).await,
        Command::TestNotify { names, output } => test_notify::run(context, &names, output).await,
        Command::Preview(options) => preview::run(context, &options).await,
        Command::Backtest(options) => backtest::run(context, &options).await,
        Command::Status { output } => status::status(context, output).await,
        Command::Health => status::health(context).await,
        Command::Silence { action } => silence::run(context, action).await,
        Command::Sandbox { listen, simulation, speed, passed } => {
            sandbox::run(listen, &simulation, speed, passed).await
        }
        Command::Demo { simulation, speed, seconds } => demo::run(context, &simulation, speed, seconds).await,
        Command::Init => init::command(cli.config.as_deref()),
        Command::Schema => {
            print_json(&config::schema());
            Exit::Success
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lowtide", &mut script);
            output::write_stdout(&String::from_utf8_lossy(&script));
            Exit::Success
        }
    }
}

/// Prints a value as JSON to standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(json) => print_line!("{json}"),
        Err(error) => tracing::error!(%error, "cannot write the result as JSON"),
    }
}
