//! What an answer other than a good one means: its kind, one sentence for people, and the pause that it asks for.
//!
//! It sends nothing and decides no retry.

use std::time::Duration;

use chrono::DateTime;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use url::Url;

use super::text::clean;
use super::{ReadError, ReadErrorKind, wire};
use crate::domain::Time;
use crate::util::secret::Redactor;

/// The longest piece of a server's text that is shown.
const MAX_TEXT_CHARS: usize = 200;
/// The longest pause that a server can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// What to say of a key that the server does not know.
const WRONG_KEY: &str = "the API key is wrong or was revoked: check the account's API key";

/// What was asked, for the sentences.
#[derive(Debug, Clone, Copy)]
pub(super) struct ApiEndpoint<'a> {
    /// `/finance/balance`.
    pub(super) path: &'a str,
    /// Whether a container id went with it.
    pub(super) division: bool,
    /// Whether nobody has to act where it is refused: then the reason comes without advice.
    pub(super) optional: bool,
}

/// The kind of an answer that is not 2xx.
pub(super) fn kind(status: StatusCode) -> ReadErrorKind {
    match status.as_u16() {
        429 => ReadErrorKind::RateLimited,
        408 | 425 | 500.. => ReadErrorKind::Server,
        // Switching to a protocol that nobody asked for is no refusal, only nonsense.
        ..300 => ReadErrorKind::InvalidResponse,
        _ => ReadErrorKind::Refused,
    }
}

/// An answer that is not 2xx, as an error.
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

/// `403 Forbidden`; an unknown status is its number alone.
pub(super) fn status_text(status: StatusCode) -> String {
    status
        .canonical_reason()
        .map_or_else(|| status.as_str().to_owned(), |reason| format!("{} {reason}", status.as_str()))
}

/// The host alone: the rest of the address could hold anything.
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

/// The body's type as the server declares it, without parameters.
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
        // The same status as for a role that is too small, but nobody's role is the reason.
        403 if wire::has_code(body, "access_denied_invalid_key") => WRONG_KEY,
        403 => {
            "give the API key's user a role that sees finances (Administrator, Manager, Finance manager), \
             and check whether the account restricts API access by source address"
        }
        404 if endpoint.division => "check the container id and base_url",
        404 => "check base_url",
        407 => "the proxy wants credentials",
        429 => "too many requests with this API key; does another program use it too?",
        503 => "CertCentral may be under maintenance (usually two hours, on the first weekend of a month)",
        _ => return None,
    })
}

/// The pause that an answer asks for, from `Retry-After`: seconds, or a date. A date is compared with the server's own
/// clock where it tells it, so that a wrong clock here makes no wrong pause.
pub(super) fn pause(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let value = header(headers, &RETRY_AFTER)?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse().map_or(MAX_PAUSE, Duration::from_secs).min(MAX_PAUSE));
    }
    let date = |text: &str| DateTime::parse_from_rfc2822(text.trim()).ok().map(|date| date.to_utc());
    let server_now = header(headers, &DATE).and_then(date).unwrap_or(now);
    let wait = date(value)?.signed_duration_since(server_now);
    Some(wait.to_std().unwrap_or_default().min(MAX_PAUSE))
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed_pause(retry_after: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        pause(&headers, "2026-11-23T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_an_hour() {
        let secs = |s| Some(Duration::from_secs(s));
        assert_eq!(parsed_pause("7", None), secs(7));
        assert_eq!(parsed_pause("99999999999999999999999", None), secs(3600));
        assert_eq!(parsed_pause("Mon, 23 Nov 2026 12:00:30 GMT", None), secs(30));
        assert_eq!(parsed_pause("Mon, 23 Nov 2026 11:00:30 GMT", Some("Mon, 23 Nov 2026 11:00:00 GMT")), secs(30));
        assert_eq!(parsed_pause("Mon, 23 Nov 2026 11:00:30 GMT", None), secs(0));
        assert_eq!(parsed_pause("Mon, 23 Nov 2099 11:00:30 GMT", None).unwrap(), MAX_PAUSE);
        for nonsense in ["", "-5", "1.5", "soon"] {
            assert_eq!(parsed_pause(nonsense, None), None, "{nonsense}");
        }
    }
}
