//! The log: text or JSON on stderr, with every known secret redacted.
//!
//! A service queues its lines for a separate thread and drops lines that do not fit, so that an undrained stderr cannot stop it. A
//! command writes at once and drops nothing.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

use crate::util::secret::Redactor;
use crate::util::text::is_hidden;

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Plain text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Log target that is muted by default. This library logs errors at shutdown that are none, and its callers report its failures.
/// A filter that names it turns it on.
const MUTED_TARGET: &str = "tokio_cron_scheduler";

/// Capacity of the queue, in lines.
const QUEUE_LINES: usize = 4096;
/// Longest wait for the queue at the end of the process. Lines left after that are lost.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Queue of a service; empty in any other process.
static QUEUE: OnceLock<NonBlocking> = OnceLock::new();
/// Guard of the thread that writes the queue; taken by [`flush`].
static WORKER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Queues all lines for stderr from now on.
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

/// Returns the number of lines dropped because the queue was full.
pub fn dropped_lines() -> usize {
    QUEUE.get().map_or(0, |queue| queue.error_counter().dropped_lines())
}

/// Writes the queued lines, for `FLUSH_TIMEOUT` at most. Nothing can be logged after that.
pub fn flush() {
    let Some(worker) = WORKER.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let (done, flushed) = mpsc::channel();
    // Dropping the guard waits for the thread and, if that times out, prints to stdout, which may block as well.
    let flushing = std::thread::Builder::new().spawn(move || {
        drop(worker);
        let _ = done.send(()); // fails if the wait has timed out
    });
    if flushing.is_ok() {
        let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Writes to stderr, or to the queue in a service. Errors are ignored: there is nowhere left to report them.
pub fn write(text: &str) {
    let _ = match QUEUE.get() {
        Some(queue) => queue.clone().write_all(text.as_bytes()),
        None => io::stderr().lock().write_all(text.as_bytes()),
    };
}

/// Starts the log. `level` is a level or a filter in the syntax of `RUST_LOG`. `default` applies if neither is given.
pub fn start(
    format: LogFormat,
    level: Option<&str>,
    default: &str,
    redactor: &Redactor,
    colour: bool,
) -> anyhow::Result<()> {
    let plain = level.filter(|level| level.bytes().all(|b| b.is_ascii_alphanumeric()));
    if let Some(level) = plain
        && level.parse::<LevelFilter>().is_err()
    {
        // `Targets` would take any word as a module name and then log nothing.
        anyhow::bail!("--log-level {level}: no such level; use error, warn, info, debug or trace");
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

/// Adds a directive to the filter that mutes [`MUTED_TARGET`], unless the filter names it.
fn mute_target(filter: &str) -> String {
    if filter.contains(MUTED_TARGET) { filter.to_owned() } else { format!("{filter},{MUTED_TARGET}=off") }
}

/// Returns the filter in `RUST_LOG`, if it is set.
fn from_environment() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty())
}

/// Logs panics, which redacts secrets. If the filter lets no errors through, writes them directly.
fn report_panics(redactor: Redactor) {
    std::panic::set_hook(Box::new(move |panic| {
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!("internal error, please report it: {panic}");
        } else {
            write(&redactor.redact(&format!("internal error, please report it: {panic}\n")));
        }
    }));
}

/// Makes a [`LogLine`] for each log event.
struct RedactingWriter {
    redactor: Redactor,
}

/// One log event. Redacted and written as a whole when dropped.
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
        // Control characters come from the formatter: line end and colours.
        let replaced = |c: char| is_hidden(c) && !c.is_control();
        let shown: String = redacted.chars().map(|c| if replaced(c) { '\u{fffd}' } else { c }).collect();
        write(&shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn blocked_stderr_drops_and_counts_lines_without_delay() {
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
        // The writer may hold one line already.
        assert!((9..=10).contains(&dropped_lines()), "{}", dropped_lines());
        flush();
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        drop(release);
    }
}
