//! Writing to the terminal or pipe without ever panicking: a reader who left early is no failure, a full disk is one.

pub(crate) mod table;
pub(crate) mod threshold;

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Something could not be written to standard output.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Writes text to standard output as it is.
pub(super) fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let Err(error) = written else { return };
    if error.kind() != ErrorKind::BrokenPipe && !FAILED.swap(true, Ordering::Relaxed) {
        complain(&format!("lowtide: standard output cannot be written: {error}\n"));
    }
}

/// Whether something could not be written to standard output.
pub(super) fn failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Writes text to standard error, the way the log goes.
pub(super) fn complain(text: &str) {
    crate::util::logging::write(text);
}

/// A line on standard output.
macro_rules! say {
    ($($arg:tt)*) => { $crate::cli::output::put(&(format!($($arg)*) + "\n")) };
}

/// A line on standard error.
macro_rules! grumble {
    ($($arg:tt)*) => { $crate::cli::output::complain(&(format!($($arg)*) + "\n")) };
}

pub(super) use {grumble, say};
