//! The log: text for people or JSON for machines, on stderr, with every known secret struck out of every line.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

use crate::secret::Redactor;
use crate::text::is_hidden;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A library whose lines are none of a reader's business: at its end it calls errors what are none, and what it fails at is
/// told by whoever asked it. A filter of one's own can name it.
const QUIET: &str = "tokio_cron_scheduler";

/// Starts the log. `level` is a level or a filter as `RUST_LOG` takes it; `default` applies where neither is given.
pub fn start(
    format: LogFormat,
    level: Option<&str>,
    default: &str,
    redactor: &Redactor,
    colour: bool,
) -> anyhow::Result<()> {
    let plain = level.filter(|level| level.bytes().all(|b| b.is_ascii_alphanumeric()));
    if let Some(word) = plain
        && word.parse::<LevelFilter>().is_err()
    {
        // A filter takes any word as the name of a module, and then says nothing at all.
        anyhow::bail!("--log-level {word}: no such level; use error, warn, info, debug or trace");
    }
    let parse = |filter: &str| quietened(filter).parse::<Targets>();
    let filter = match level {
        Some(level) => parse(level)
            .map_err(|error| anyhow::anyhow!("--log-level {level}: {error}; use error, warn, info, debug or trace"))?,
        None => from_environment().and_then(|filter| parse(&filter).ok()).map_or_else(|| parse(default), Ok)?,
    };
    let writer = Struck { redactor: redactor.clone() };
    let builder = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(writer);
    let started = match format {
        LogFormat::Text => {
            let text = builder.with_ansi(colour && io::stderr().is_terminal()).with_target(false);
            text.finish().with(filter).try_init()
        }
        LogFormat::Json => {
            let json = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
            json.finish().with(filter).try_init()
        }
    };
    report_panics(redactor.clone());
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

/// The filter without the lines of the library that is not to be heard, unless the filter names it.
fn quietened(filter: &str) -> String {
    if filter.contains(QUIET) { filter.to_owned() } else { format!("{filter},{QUIET}=off") }
}

/// The filter in `RUST_LOG`, if there is one.
fn from_environment() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty())
}

/// Panics go through the log, which strikes out secrets, or past a filter that lets no error through: never unseen.
fn report_panics(redactor: Redactor) {
    std::panic::set_hook(Box::new(move |panic| {
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!("internal error, please report it: {panic}");
        } else {
            let text = redactor.strike(&format!("internal error, please report it: {panic}\n"));
            let _ = io::stderr().lock().write_all(text.as_bytes()); // nobody is left to tell
        }
    }));
}

/// Writes to stderr what is left when the secrets are struck out.
struct Struck {
    redactor: Redactor,
}

/// One log event; written as a whole when it is complete.
struct Line {
    redactor: Redactor,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Struck {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line { redactor: self.redactor.clone(), bytes: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let struck = self.redactor.strike(&String::from_utf8_lossy(&self.bytes));
        // Control characters are the line's own: its end, and its colours.
        let unseen = |c: char| is_hidden(c) && !c.is_control();
        let shown: String = struck.chars().map(|c| if unseen(c) { '\u{fffd}' } else { c }).collect();
        // Nobody is left to tell when stderr itself is gone.
        let _ = io::stderr().lock().write_all(shown.as_bytes());
    }
}
