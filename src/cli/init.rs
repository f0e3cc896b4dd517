//! `lowtide init`: writes a commented starter configuration, and never overwrites a file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Exit;
use crate::cli::output::{print_error, print_line};

/// The starter file, which documents every key.
const EXAMPLE: &str = include_str!("../../alerts.example.yaml");

/// Reference to the schema: in the repository's example, and in a file that has the schema beside it.
const SCHEMA: (&str, &str) = ("$schema=docs/alerts.schema.json", "$schema=alerts.schema.json");

/// Writes to `path`, or to `./alerts.yaml`. Only the owner can read the file, because secrets may be added to it.
pub(super) fn command(path: Option<&Path>) -> Exit {
    let path = path.unwrap_or(Path::new("alerts.yaml"));
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created.and_then(|mut file| file.write_all(EXAMPLE.replacen(SCHEMA.0, SCHEMA.1, 1).as_bytes())) {
        Ok(()) => {
            print_line!("wrote {}: edit it, then run `lowtide validate --online`", path.display());
            print_line!(
                "for help from editors that support JSON Schema, run `lowtide schema > alerts.schema.json` in its folder"
            );
            Exit::Success
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            print_error!(
                "lowtide: {} already exists and was not changed: name another file with --config",
                path.display()
            );
            Exit::Failure
        }
        Err(error) => {
            print_error!("lowtide: cannot write {}: {error}", path.display());
            Exit::Failure
        }
    }
}
