//! Reads the files of a configuration: the YAML file, secrets and certificates.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::pem::{self, PemError};
use super::problem::printable;

/// Maximum size of a configuration, in bytes.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// Maximum size of a file with a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// Maximum size of a file with certificates, in bytes.
const MAX_BUNDLE_BYTES: u64 = 8 * 1024 * 1024;

/// Returns the path of the configuration: the given one, otherwise the first of `./alerts.yaml` and
/// `/etc/lowtide/alerts.yaml` that exists, otherwise `./alerts.yaml`.
pub fn find(explicit: Option<&Path>) -> PathBuf {
    let here = Path::new("alerts.yaml");
    let system = Path::new("/etc/lowtide/alerts.yaml");
    let default = if !here.exists() && system.exists() { system } else { here };
    explicit.unwrap_or(default).to_owned()
}

/// Reason why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConfigFileError {
    pub(super) found: String,
    pub(super) expected: String,
    pub(super) place: Option<(usize, usize)>,
}

fn file_error(found: impl Into<String>, expected: impl Into<String>) -> ConfigFileError {
    ConfigFileError { found: found.into(), expected: expected.into(), place: None }
}

/// Returns the text of a YAML file, without a byte order mark, and its permission bits.
pub(super) fn yaml(path: &Path, expected: &str) -> Result<(String, Option<u32>), ConfigFileError> {
    let (bytes, mode) =
        read(path, MAX_CONFIG_BYTES, "a file of at most 1 MiB").map_err(|error| with_expectation(error, expected))?;
    let text = text(bytes)?;
    let is_forbidden = |c: char| (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) || c == '\u{feff}';
    if let Some((at, c)) = text.char_indices().find(|(_, c)| is_forbidden(*c)) {
        let found = format!("the control character U+{:04X}", u32::from(c));
        return Err(ConfigFileError { found, expected: "text".to_owned(), place: Some(place_after(&text[..at])) });
    }
    Ok((text, mode))
}

/// Decodes the text of a file and removes the byte order mark.
fn text(bytes: Vec<u8>) -> Result<String, ConfigFileError> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(file_error("text in UTF-16", "text in UTF-8"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        let place = place_after(&String::from_utf8_lossy(&error.as_bytes()[..at]));
        ConfigFileError {
            place: Some(place),
            ..file_error(format!("the byte 0x{byte:02X}, which is not UTF-8"), "text in UTF-8")
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Returns the line and column that follow this text.
fn place_after(text: &str) -> (usize, usize) {
    let last = text.rsplit('\n').next().unwrap_or_default();
    (text.matches('\n').count() + 1, last.chars().count() + 1)
}

/// Returns the secret in a file, without the line breaks at its end.
pub(super) fn secret(path: &Path) -> Result<String, ConfigFileError> {
    let limit = "a file of at most 64 KiB with the secret and nothing else";
    let (bytes, _) = read(path, MAX_SECRET_BYTES, limit)
        .map_err(|error| with_expectation(error, "a readable file with the secret"))?;
    let text = text(bytes)?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.trim().is_empty() {
        return Err(file_error("an empty file", "a file with the secret"));
    }
    if text.contains(['\n', '\r']) {
        return Err(file_error(format!("a file with {} lines", text.lines().count()), "the secret alone, on one line"));
    }
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        let found = format!("a file with the control character U+{:04X}", u32::from(c));
        return Err(file_error(found, "the secret alone, as text in UTF-8"));
    }
    Ok(text.to_owned())
}

/// Returns the certificates of a file in PEM form. A client can trust each of them.
pub(super) fn certificates(path: &Path) -> Result<Vec<u8>, ConfigFileError> {
    let (bytes, _) = read(path, MAX_BUNDLE_BYTES, "a file of at most 8 MiB")
        .map_err(|error| with_expectation(error, EXPECTED_PEM))?;
    if is_der(&bytes) {
        let expected = "a PEM file: openssl x509 -inform der -in … -out ca.pem";
        return Err(file_error("a certificate in DER form", expected));
    }
    pem::certificates(&text(bytes)?).map_err(|error| match error {
        PemError::Empty => file_error("an empty file", EXPECTED_PEM),
        PemError::NoCertificate(None) => file_error("no certificate", EXPECTED_PEM),
        PemError::NoCertificate(Some(label)) => {
            file_error(format!("`BEGIN {}` and no certificate", printable(&label)), EXPECTED_PEM)
        }
        broken @ PemError::Broken { .. } => file_error(broken.to_string(), "only valid certificates"),
    })
}

/// Description of a valid `ca_file`.
const EXPECTED_PEM: &str = "a readable PEM file with at least one certificate";

/// Returns `true` if the bytes begin like a binary certificate: with an ASN.1 sequence whose length takes two bytes.
fn is_der(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x30\x82")
}

/// Adds the expectation to an error that has none.
fn with_expectation(mut error: ConfigFileError, expected: &str) -> ConfigFileError {
    if error.expected.is_empty() {
        expected.clone_into(&mut error.expected);
    }
    error
}

/// Reads a file up to a size limit, and its permission bits. Errors of the operating system have no expectation yet.
fn read(path: &Path, limit: u64, too_large: &str) -> Result<(Vec<u8>, Option<u32>), ConfigFileError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => file_error("no such file", ""),
        std::io::ErrorKind::IsADirectory => file_error("a folder", ""),
        kind => file_error(format!("a file that cannot be read ({kind})"), ""),
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(file_error("a folder", ""));
    }
    if metadata.len() > limit {
        return Err(file_error("a larger file", too_large));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(file_error("a larger file", too_large));
    }
    Ok((bytes, mode(&metadata)))
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps)] // other systems have none
fn mode(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode(_: &std::fs::Metadata) -> Option<u32> {
    None
}
