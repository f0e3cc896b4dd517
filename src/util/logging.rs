//! The log: text for people or JSON for machines, on stderr, with every known secret struck out of every line.
//!
//! A service queues its lines for a thread of its own and drops what does not fit: a stderr that nobody drains must not
//! stop it. A command writes at once and loses nothing.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

use crate::util::secret::Redactor;
use crate::util::text::is_hidden;

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
const MUTED_TARGET: &str = "tokio_cron_scheduler";

/// Number of lines that wait for a stderr that is not drained.
const QUEUE_LINES: usize = 4096;
/// Longest wait for the queue at the end of the process; what is left then is lost.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The queue of a service; empty in any other process.
static QUEUE: OnceLock<NonBlocking> = OnceLock::new();
/// Keeps the queue's thread; taken by [`flush`].
static WORKER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Queues everything that goes to stderr from now on.
pub fn queue_lines() {
    queue_lines_for(io::stderr());
}

fn queue_lines_for(writer: impl Write + Send + 'static) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE_LINES).thread_name("log");
    let (queue, worker) = builder.finish(writer);
    if QUEUE.set(queue).is_ok() {
        *WORKER.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
    }
}

/// Number of lines lost because the queue was full.
pub fn dropped_lines() -> usize {
    QUEUE.get().map_or(0, |queue| queue.error_counter().dropped_lines())
}

/// Writes what is queued, for two seconds at most. The last thing a process does with its log.
pub fn flush() {
    let Some(worker) = WORKER.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let (done, flushed) = mpsc::channel();
    // Dropping the worker waits for it, and complains on stdout where it waited in vain: somebody may have to wait for that too.
    let flushing = std::thread::Builder::new().spawn(move || {
        drop(worker);
        let _ = done.send(()); // nobody waits any more
    });
    if flushing.is_ok() {
        let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Writes to stderr, or queues it where the log is queued. Nobody is left to tell when that fails.
pub fn write(text: &str) {
    let _ = match QUEUE.get() {
        Some(queue) => queue.clone().write_all(text.as_bytes()),
        None => io::stderr().lock().write_all(text.as_bytes()),
    };
}

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
    let parse = |filter: &str| mute_target(filter).parse::<Targets>();
    let filter = match level {
        Some(level) => parse(level)
            .map_err(|error| anyhow::anyhow!("--log-level {level}: {error}; use error, warn, info, debug or trace"))?,
        None => from_environment().and_then(|filter| parse(&filter).ok()).map_or_else(|| parse(default), Ok)?,
    };
    let writer = RedactingWriter { redactor: redactor.clone() };
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
fn mute_target(filter: &str) -> String {
    if filter.contains(MUTED_TARGET) { filter.to_owned() } else { format!("{filter},{MUTED_TARGET}=off") }
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
            write(&redactor.redact(&format!("internal error, please report it: {panic}\n")));
        }
    }));
}

/// Writes what is left of a line when the secrets are struck out.
struct RedactingWriter {
    redactor: Redactor,
}

/// One log event; written as a whole when it is complete.
struct LogLine {
    redactor: Redactor,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for RedactingWriter {
    type Writer = LogLine;
    fn make_writer(&'a self) -> LogLine {
        LogLine { redactor: self.redactor.clone(), bytes: Vec::new() }
    }
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let redacted = self.redactor.redact(&String::from_utf8_lossy(&self.bytes));
        // Control characters are the line's own: its end, and its colours.
        let unseen = |c: char| is_hidden(c) && !c.is_control();
        let shown: String = redacted.chars().map(|c| if unseen(c) { '\u{fffd}' } else { c }).collect();
        write(&shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_reader_that_hangs_costs_lines_that_are_counted_and_no_time() {
        struct HangingWriter(mpsc::Receiver<()>);
        impl Write for HangingWriter {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, held) = mpsc::channel();
        let begun = Instant::now();
        queue_lines_for(HangingWriter(held));
        for line in 0..QUEUE_LINES + 10 {
            write(&format!("{line}\n"));
        }
        // One line may be with the writer already.
        assert!((9..=10).contains(&dropped_lines()), "{}", dropped_lines());
        flush();
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        drop(release);
    }
}
