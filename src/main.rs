//! The program: hands the arguments to the command line and its result to the system. Nothing else belongs here.

use std::process::ExitCode;

fn main() -> ExitCode {
    lowtide::cli::main(std::env::args_os())
}
