//! Error kinds and error messages of responses that are not 2xx.
//!
//! This module sends nothing and decides no retry.

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, LOCATION};
use url::Url;

use super::text::clean;
use super::{ReadError, ReadErrorKind, wire};
use crate::util::secret::Redactor;

/// Longest part of a server's text in an error message.
const MAX_TEXT_CHARS: usize = 200;

/// Hint for an API key that the server does not accept.
const WRONG_KEY: &str = "the API key is wrong or was revoked: check the account's API key";

/// The requested resource, for error messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct ApiEndpoint<'a> {
    /// Path below the base URL, such as `/finance/balance`.
    pub(super) path: &'a str,
    /// True if the request names a division.
    pub(super) division: bool,
    /// True if a refusal needs no action; its message then has no hint.
    pub(super) optional: bool,
}

/// Returns the kind of error of a status that is not 2xx.
pub(super) fn kind(status: StatusCode) -> ReadErrorKind {
    match status.as_u16() {
        429 => ReadErrorKind::RateLimited,
        408 | 425 | 500.. => ReadErrorKind::Server,
        // A 1xx as the final response, such as a switch to a protocol that was not requested.
        ..300 => ReadErrorKind::InvalidResponse,
        _ => ReadErrorKind::Refused,
    }
}

/// Returns the error for a response that is not 2xx.
pub(super) fn refusal(
    endpoint: ApiEndpoint<'_>,
    status: StatusCode,
    url: &Url,
    headers: &HeaderMap,
    body: &[u8],
    redactor: &Redactor,
) -> ReadError {
    let message = if status.is_redirection() {
        redirected(url, headers, redactor)
    } else {
        server_message(headers, body, redactor)
    };
    let message = if message.is_empty() { message } else { format!(": {message}") };
    let hint = hint(endpoint, status, body).map_or_else(String::new, |hint| format!(": {hint}"));
    ReadError {
        kind: kind(status),
        reason: format!("GET {} answered {}{message}{hint}", endpoint.path, status_text(status)),
    }
}

/// Returns a status as text: `403 Forbidden`, or the number alone if it has no name.
pub(super) fn status_text(status: StatusCode) -> String {
    status
        .canonical_reason()
        .map_or_else(|| status.as_str().to_owned(), |reason| format!("{} {reason}", status.as_str()))
}

/// Describes a redirect by its host alone, since the rest of the address may hold a secret.
fn redirected(url: &Url, headers: &HeaderMap, redactor: &Redactor) -> String {
    let target = header(headers, &LOCATION).and_then(|location| url.join(location).ok());
    match target.as_ref().and_then(Url::host_str) {
        Some(host) => format!("redirected to host {}, not followed", clean(redactor, host, MAX_TEXT_CHARS)),
        None => "redirected, but not to any host".to_owned(),
    }
}

fn server_message(headers: &HeaderMap, body: &[u8], redactor: &Redactor) -> String {
    if let Some(errors) = wire::errors(body, redactor) {
        return clean(redactor, &errors, MAX_TEXT_CHARS);
    }
    if media_type(headers, redactor).contains("html") || body.trim_ascii_start().starts_with(b"<") {
        return "an HTML page".to_owned();
    }
    clean(redactor, &String::from_utf8_lossy(body), MAX_TEXT_CHARS)
}

/// Returns the media type that the server declares, without parameters.
pub(super) fn media_type(headers: &HeaderMap, redactor: &Redactor) -> String {
    let declared =
        header(headers, &CONTENT_TYPE).and_then(|value| value.split(';').next()).unwrap_or("no content type");
    clean(redactor, declared, 60)
}

fn hint(endpoint: ApiEndpoint<'_>, status: StatusCode, body: &[u8]) -> Option<&'static str> {
    if endpoint.optional && kind(status) == ReadErrorKind::Refused {
        return None;
    }
    Some(match status.as_u16() {
        300..=399 => "check base_url (the API key was not sent there)",
        400 if endpoint.path == "/container" || endpoint.path.starts_with("/order/") => return None,
        404 if endpoint.path.starts_with("/order/certificate/") => return None,
        400 if !endpoint.division => "an account with more than one division needs `divisions:` in its configuration",
        400 => "check the container id",
        401 => WRONG_KEY,
        // An insufficient role has the same status, but another code.
        403 if wire::has_code(body, "access_denied_invalid_key") => WRONG_KEY,
        403 => {
            "give the API key's user a role that sees finances (Administrator, Manager, Finance manager), \
             and check whether the account restricts API access by source address"
        }
        404 if endpoint.division => "check the container id and base_url",
        404 => "check base_url",
        407 => "the proxy requires credentials",
        429 => "too many requests with this API key; does another program use it too?",
        503 => "CertCentral may be under maintenance (usually two hours, on the first weekend of a month)",
        _ => return None,
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
