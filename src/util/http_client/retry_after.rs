//! The pause that a response asks for in its `Retry-After` header.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

use crate::domain::Time;

/// Returns the pause that a response asks for, at most `longest`; `None` if it asks for none, or in an unknown form.
///
/// `Retry-After` is a number of seconds or a date. A date is compared with the response's own `Date`, so that a wrong
/// clock on this machine makes no wrong pause; without one, with `now`. A date in the past asks for a pause of zero.
pub fn retry_after(headers: &HeaderMap, now: Time, longest: Duration) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // A number too large for 64 bits is a long pause all the same.
        return Some(value.parse().map_or(longest, Duration::from_secs).min(longest));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let server_now = date(headers, &DATE).unwrap_or_else(|| now.into());
    Some(until.duration_since(server_now).unwrap_or_default().min(longest))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn pause(retry_after_value: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after_value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers, "2026-11-23T12:00:00Z".parse().unwrap(), HOUR)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_up_to_the_longest_pause() {
        let secs = |s| Some(Duration::from_secs(s));
        assert_eq!(pause("7", None), secs(7));
        assert_eq!(pause(" 0 ", None), secs(0));
        assert_eq!(pause("99999999999999999999999", None), secs(3600));
        assert_eq!(pause("Mon, 23 Nov 2026 12:00:30 GMT", None), secs(30));
        assert_eq!(pause("Monday, 23-Nov-26 12:00:30 GMT", None), secs(30), "the form of RFC 850");
        assert_eq!(pause("Mon Nov 23 12:00:30 2026", None), secs(30), "the form of asctime");
        assert_eq!(pause("Mon, 23 Nov 2026 11:00:30 GMT", Some("Mon, 23 Nov 2026 11:00:00 GMT")), secs(30));
        assert_eq!(pause("Mon, 23 Nov 2026 12:00:30 GMT", Some("yesterday")), secs(30));
        assert_eq!(pause("Mon, 23 Nov 2026 11:00:30 GMT", None), secs(0));
        assert_eq!(pause("Mon, 23 Nov 2099 11:00:30 GMT", None), Some(HOUR));
    }

    #[test]
    fn a_retry_after_of_another_form_asks_for_no_pause() {
        for value in ["", "-5", "+5", "1.5", "soon", "Mon, 23 Nov 2026 12:00:30 +0100"] {
            assert_eq!(pause(value, None), None, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Time::UNIX_EPOCH, HOUR), None);
    }
}
