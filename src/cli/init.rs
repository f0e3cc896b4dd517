//! `lowtide init`: writes a commented starter configuration. Never overwrites.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Exit;
use crate::cli::output::{print_error, print_line};

/// The documentation of every key, and the starter file.
const EXAMPLE: &str = include_str!("../../alerts.example.yaml");

/// Where the example has its schema, and where a file that stands alone can have it: beside itself.
const SCHEMA: (&str, &str) = ("$schema=docs/alerts.schema.json", "$schema=alerts.schema.json");

/// Writes to `path`, or to `./alerts.yaml`. The file may come to hold secrets, so only its owner can read it.
pub(super) fn command(path: Option<&Path>) -> Exit {
    let path = path.unwrap_or(Path::new("alerts.yaml"));
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created.and_then(|mut file| file.write_all(EXAMPLE.replacen(SCHEMA.0, SCHEMA.1, 1).as_bytes())) {
        Ok(()) => {
            print_line!("wrote {}: edit it, then try `lowtide validate --online`", path.display());
            print_line!(
                "an editor that knows JSON Schema helps with it: `lowtide schema > alerts.schema.json` beside it"
            );
            Exit::Success
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            print_error!(
                "lowtide: {} exists already and is left as it is: name another file with --config",
                path.display()
            );
            Exit::Failure
        }
        Err(error) => {
            print_error!("lowtide: {} cannot be written: {error}", path.display());
            Exit::Failure
        }
    }
}
