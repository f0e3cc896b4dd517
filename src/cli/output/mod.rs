//! Output to the terminal or a pipe. Nothing here panics: a reader that closed the pipe is no failure, a full disk is one.

pub(crate) mod diagnostics;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod threshold;

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when a write to standard output failed.
static STDOUT_FAILED: AtomicBool = AtomicBool::new(false);

/// Writes text to standard output unchanged.
pub(super) fn write_stdout(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let Err(error) = written else { return };
    if error.kind() != ErrorKind::BrokenPipe && !STDOUT_FAILED.swap(true, Ordering::Relaxed) {
        write_stderr(&format!("lowtide: standard output cannot be written: {error}\n"));
    }
}

/// Returns `true` if a write to standard output failed.
pub(super) fn stdout_failed() -> bool {
    STDOUT_FAILED.load(Ordering::Relaxed)
}

/// Writes text to standard error through the log's writer, so that lines never mix.
pub(super) fn write_stderr(text: &str) {
    crate::util::logging::write(text);
}

/// Prints a line to standard output.
macro_rules! print_line {
    ($($arg:tt)*) => { $crate::cli::output::write_stdout(&(format!($($arg)*) + "\n")) };
}

/// Prints a line to standard error.
macro_rules! print_error {
    ($($arg:tt)*) => { $crate::cli::output::write_stderr(&(format!($($arg)*) + "\n")) };
}

pub(super) use {print_error, print_line};
