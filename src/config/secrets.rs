//! Secrets in the configuration, and what decides how they may travel.

use std::path::Path;
use std::time::Duration;

use super::cursor::{Cursor, Section, ValueError};
use super::files::ConfigFileError;
use super::problem::quoted;
use super::{ConnectionOptions, files, values};
use crate::util::secret::{Secret, looks_random};

/// The secret under `key`, or in the file that `file_key` names. Whatever is found is remembered for the redactor, and
/// `check` says what is wrong with it without quoting it.
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

/// The secret that stands here, whatever its key is called.
pub(super) fn value(cursor: &Cursor<'_>, check: impl Fn(&str) -> Result<(), ValueError>) -> Option<Secret> {
    let secret = checked(inline(cursor)?, cursor, check)?;
    // `Bearer …`, `Basic …`: what stands behind the scheme is a secret by itself.
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
            let found = error.found.unwrap_or_else(|| "a value that is not shown".to_owned());
            cursor.refuse(found, error.expected);
            None
        }
    }
}

fn inline(cursor: &Cursor<'_>) -> Option<String> {
    let (text, from_environment) = cursor.expanded("a secret")?;
    if text.trim().is_empty() {
        cursor.refuse("an empty value", "a secret");
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
    let held = read.as_ref().unwrap_or_else(|error| &error.found);
    cursor.ctx.sources.borrow_mut().note(&path, held.as_bytes());
    read.map_err(|error| refuse_file(cursor, &path, error)).ok()
}

/// Names the file; as the source does where that has variables, one of which may hold the secret by mistake.
fn refuse_file(cursor: &Cursor<'_>, path: &Path, error: ConfigFileError) {
    let name = if cursor.is_interpolated() { cursor.shown() } else { quoted(&path.display().to_string()) };
    cursor.refuse(format!("{} ({name})", error.found), error.expected);
}

/// An API key travels in a header.
pub(super) fn header_value(text: &str) -> Result<(), ValueError> {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.trim() == text {
        return Ok(());
    }
    Err("an API key of printable ASCII characters, without spaces around it".into())
}

/// `allow_insecure`; default false.
pub(super) fn allow_insecure(section: &Section<'_>) -> bool {
    section.read("allow_insecure", values::boolean).unwrap_or(false)
}

/// `timeout` and `ca_file`.
pub(super) fn connection(section: &Section<'_>) -> ConnectionOptions {
    let timeout = section.read("timeout", values::pause).unwrap_or(Duration::from_secs(10));
    ConnectionOptions { timeout, ca_pem: ca_pem(section) }
}

fn ca_pem(section: &Section<'_>) -> Option<Vec<u8>> {
    let cursor = section.get("ca_file")?;
    let path = cursor.ctx.folder.join(cursor.read(values::line)?);
    let read = files::certificates(&path);
    let held = read.as_ref().map_or_else(|error| error.found.as_bytes(), Vec::as_slice);
    cursor.ctx.sources.borrow_mut().note(&path, held);
    read.map_err(|error| refuse_file(&cursor, &path, error)).ok()
}
