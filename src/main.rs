//! The binary: passes the arguments to [`lowtide::cli`] and its exit code to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    lowtide::cli::main(std::env::args_os())
}
