//! Writing to the terminal or pipe without ever panicking: a reader who left early is no failure, a full disk is one.

pub(crate) mod diagnostics;
pub(crate) mod table;
pub(crate) mod threshold;

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Something could not be written to standard output.
static STDOUT_FAILED: AtomicBool = AtomicBool::new(false);

/// Writes text to standard output as it is.
pub(super) fn write_stdout(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let Err(error) = written else { return };
    if error.kind() != ErrorKind::BrokenPipe && !STDOUT_FAILED.swap(true, Ordering::Relaxed) {
        write_stderr(&format!("lowtide: standard output cannot be written: {error}\n"));
    }
}

/// Whether something could not be written to standard output.
pub(super) fn stdout_failed() -> bool {
    STDOUT_FAILED.load(Ordering::Relaxed)
}

/// Writes text to standard error, the way the log goes.
pub(super) fn write_stderr(text: &str) {
    crate::util::logging::write(text);
}

/// A line on standard output.
macro_rules! print_line {
    ($($arg:tt)*) => { $crate::cli::output::write_stdout(&(format!($($arg)*) + "\n")) };
}

/// A line on standard error.
macro_rules! print_error {
    ($($arg:tt)*) => { $crate::cli::output::write_stderr(&(format!($($arg)*) + "\n")) };
}

pub(super) use {print_error, print_line};
