//! Secrets in the configuration, and the options of the connections that carry them.

use std::path::Path;
use std::time::Duration;

use super::cursor::{Cursor, NOT_SHOWN};
use super::files::{self, ConfigFileError};
use super::model::ConnectionOptions;
use super::problem::{ValueError, quoted};
use super::section::Section;
use super::values;
use crate::util::secret::{Secret, looks_random};

/// Reads the secret under `key`, or in the file that `file_key` names. Every secret is recorded for redaction, and `check`
/// says what is wrong with it without quoting it.
pub(super) fn secret(
    section: &Section<'_>,
    key: &str,
    file_key: &str,
    required: bool,
    check: impl Fn(&str) -> Result<(), ValueError>,
) -> Option<Secret> {
    let (direct, file) = (section.get(key), section.get(file_key));
    if direct.is_none() && file.is_none() && required {
        section.missing(key, &format!("`{key}` or `{file_key}`"));
    }
    let from_file = file.and_then(|cursor| Some((content(&cursor)?, cursor)));
    let text = match direct {
        Some(cursor) => inline(&cursor).map(|text| (text, cursor)),
        None => from_file,
    };
    let (text, cursor) = text?;
    checked(text, &cursor, check)
}

/// Reads a value that is a secret, whatever its key is called.
pub(super) fn value(cursor: &Cursor<'_>, check: impl Fn(&str) -> Result<(), ValueError>) -> Option<Secret> {
    let secret = checked(inline(cursor)?, cursor, check)?;
    // `Bearer …`, `Basic …`: the part after the scheme is a secret by itself.
    if let Some((_, bare)) = secret.expose().split_once(' ')
        && !bare.contains(' ')
        && looks_random(bare)
    {
        cursor.ctx.secrets.borrow_mut().push(Secret::new(bare));
    }
    Some(secret)
}

fn checked(text: String, cursor: &Cursor<'_>, check: impl Fn(&str) -> Result<(), ValueError>) -> Option<Secret> {
    let secret = Secret::new(text);
    cursor.ctx.secrets.borrow_mut().push(secret.clone());
    match check(secret.expose()) {
        Ok(()) => Some(secret),
        Err(error) => {
            let found = error.found.clone().unwrap_or_else(|| NOT_SHOWN.to_owned());
            cursor.report(error.suggesting(None).hiding(found));
            None
        }
    }
}

fn inline(cursor: &Cursor<'_>) -> Option<String> {
    let (text, from_environment) = cursor.expanded("a secret")?;
    if text.trim().is_empty() {
        cursor.refuse(format!("{} is empty", cursor.name()), "an empty value", "a secret");
        return None;
    }
    if !from_environment {
        cursor.ctx.literal_secret.set(true);
    }
    Some(text)
}

fn content(cursor: &Cursor<'_>) -> Option<String> {
    let path = cursor.ctx.folder.join(cursor.read(values::line)?);
    let read = files::secret(&path);
    let content = read.as_ref().unwrap_or_else(|error| &error.found);
    cursor.ctx.sources.borrow_mut().note(&path, content.as_bytes());
    read.map_err(|error| refuse_file(cursor, &path, error)).ok()
}

/// Reports why a file cannot be used. A path with variables is named as the source writes it, since one of them may hold the
/// secret itself by mistake.
fn refuse_file(cursor: &Cursor<'_>, path: &Path, error: ConfigFileError) {
    let name = if cursor.is_interpolated() { cursor.shown() } else { quoted(&path.display().to_string()) };
    let message = format!("cannot use {name}: {}", error.found);
    cursor.refuse(message, format!("{} ({name})", error.found), error.expected);
}

/// Accepts an API key that can be sent in a header.
pub(super) fn api_key(text: &str) -> Result<(), ValueError> {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.trim() == text {
        return Ok(());
    }
    let expected = "an API key of printable ASCII characters, without spaces around it";
    Err(ValueError::new("is not an API key", expected))
}

pub(super) fn allow_insecure(section: &Section<'_>) -> bool {
    section.read("allow_insecure", values::boolean).unwrap_or(false)
}

/// Reads `timeout` and `ca_file`.
pub(super) fn connection(section: &Section<'_>) -> ConnectionOptions {
    let timeout = section.read_or_default("timeout", values::pause).unwrap_or(Duration::from_secs(10));
    ConnectionOptions { timeout, ca_pem: ca_pem(section) }
}

fn ca_pem(section: &Section<'_>) -> Option<Vec<u8>> {
    let cursor = section.get("ca_file")?;
    let path = cursor.ctx.folder.join(cursor.read(values::line)?);
    let read = files::certificates(&path);
    let content = read.as_ref().map_or_else(|error| error.found.as_bytes(), Vec::as_slice);
    cursor.ctx.sources.borrow_mut().note(&path, content);
    read.map_err(|error| refuse_file(&cursor, &path, error)).ok()
}
