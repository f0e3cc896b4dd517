//! Single values: text → the type that the domain wants, or what would have been right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use lettre::message::Mailbox;
use url::{Host, Url};

use super::cursor::ValueError;
use super::problem::one_of;
use crate::config::Quota;
use crate::domain::money::{AmountError, Currency, MAX_DECIMALS, UnknownCurrency, parse_amount};
use crate::domain::rule::ThresholdAmount;
use crate::notify::channels::email::address;
use crate::polling::schedule::{DurationError, parse_duration, parse_moment};
use crate::util::text::nearest;

/// A text on one line, not empty.
pub(super) fn line(text: &str) -> Result<String, ValueError> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err("a text on one line, not empty".into());
    }
    Ok(text.to_owned())
}

/// A text that may have several lines.
pub(super) fn lines(text: &str) -> Result<String, ValueError> {
    let control = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.trim().is_empty() || text.chars().any(control) {
        return Err("a text, not empty and without control characters".into());
    }
    Ok(text.trim_end().to_owned())
}

/// One of some words.
pub(super) fn choice<'c, T: Copy>(choices: &'c [(&'c str, T)]) -> impl Fn(&str) -> Result<T, ValueError> + 'c {
    move |text| {
        let words = || choices.iter().map(|(word, _)| *word);
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| ValueError { found: None, expected: one_of(words()), suggestion: nearest(text, words()) })
    }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, ValueError> {
    choice(&[("true", true), ("false", false)])(text)
}

/// A duration, 0 included.
pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    parse_duration(text).map_err(|error| match error {
        DurationError::NotADuration => "a duration such as 90s, 30m, 4h, 2d or 1w".into(),
        DurationError::TooLong => "a duration of at most 520w".into(),
    })
}

/// A duration above 0.
pub(super) fn pause(text: &str) -> Result<Duration, ValueError> {
    match duration(text) {
        Ok(zero) if zero.is_zero() => Err("a duration above 0, such as 90s, 30m, 4h, 2d or 1w".into()),
        result => result,
    }
}

/// A duration above 0, or `never`.
pub(super) fn pause_or_never(text: &str) -> Result<Option<Duration>, ValueError> {
    if text == "never" {
        return Ok(None);
    }
    pause(text).map(Some).map_err(|error| format!("{}, or never", error.expected).into())
}

/// `2000`, `1999.95`, `2000 USD`.
pub(super) fn amount(text: &str) -> Result<ThresholdAmount, ValueError> {
    let (figure, code) = match text.split_once(' ') {
        Some((figure, code)) => (figure, Some(code.trim_start())),
        None => (text, None),
    };
    let mut value = parse_amount(figure).map_err(|error| match error {
        AmountError::NotANumber => ValueError::from("an amount such as 2000, 1999.95 or 2000 USD"),
        AmountError::TooLong => ValueError::from("an amount of at most 18 digits before the point and 8 after it"),
    })?;
    // The zeros that were written say nothing, but people find their own figure again.
    let decimals = figure.split_once('.').map_or(0, |(_, decimals)| decimals.len()).min(MAX_DECIMALS);
    value.rescale(u32::try_from(decimals).unwrap_or_default());
    let currency = code.map(|code| {
        // What has digits is the rest of an amount: `2 000`.
        if code.chars().any(|c| c.is_ascii_digit() || c.is_whitespace()) {
            return Err(ValueError::from("an amount and its currency code, such as 2000 USD"));
        }
        currency(code).map_err(|error| ValueError { expected: format!("an amount and {}", error.expected), ..error })
    });
    Ok(ThresholdAmount { value, currency: currency.transpose()? })
}

/// The code of a currency that an account can be kept in.
pub(super) fn currency(text: &str) -> Result<Currency, ValueError> {
    let expected = "the ISO 4217 code of a currency, such as USD";
    Currency::parse_known(text).map_err(|error| match error {
        UnknownCurrency::NoSuchCode => {
            ValueError { suggestion: nearest(text, Currency::known_codes()), ..ValueError::from(expected) }
        }
        UnknownCurrency::NotMoney { .. } => ValueError::from(format!("{expected} ({error})")),
    })
}

/// How a point in time is written.
pub(super) const MOMENT: &str =
    "a time such as 2026-12-01T09:00 (in `timezone`), or with an offset, 2026-12-01T09:00+01:00";

/// A point in time.
pub(super) fn moment(text: &str, timezone: chrono_tz::Tz) -> Result<crate::domain::Time, ValueError> {
    parse_moment(text, timezone).ok_or_else(|| MOMENT.into())
}

/// Longest reason: it is shown in messages, and handed through a socket that takes so much.
const MAX_REASON_CHARS: usize = 300;

/// Why something is silenced.
pub(super) fn reason(text: &str) -> Result<String, ValueError> {
    let reason = line(text).ok().filter(|text| text.chars().count() <= MAX_REASON_CHARS);
    reason.ok_or_else(|| format!("a text on one line, of 1 to {MAX_REASON_CHARS} characters").into())
}

/// The id of a division.
pub(super) fn division(text: &str) -> Result<u64, ValueError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = digits.then(|| text.parse().ok()).flatten().filter(|id| *id > 0);
    id.ok_or_else(|| "the number of a division (its container id)".into())
}

/// `100/5s`.
pub(super) fn quota(text: &str) -> Result<Quota, ValueError> {
    let parts = text.split_once('/').and_then(|(requests, window)| {
        let digits = !requests.is_empty() && requests.bytes().all(|b| b.is_ascii_digit());
        let requests: usize = requests.parse().ok().filter(|n| digits && *n > 0)?;
        let window = parse_duration(window).ok().filter(|window| !window.is_zero())?;
        Some(Quota { requests, window })
    });
    parts.ok_or_else(|| "a number of requests and a duration, both above 0, such as 100/5s".into())
}

/// A port.
pub(super) fn port(text: &str) -> Result<u16, ValueError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or_else(|| "a port number from 1 to 65535".into())
}

/// The name or address of a server, without a port.
pub(super) fn host(text: &str) -> Result<String, ValueError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let valid = |name: &String| name.parse::<IpAddr>().is_ok() || Host::parse(name).is_ok();
    if let Some(name) = address::host(bare).filter(valid) {
        return Ok(name);
    }
    let found = text.contains('@').then(|| "a host with a user name".to_owned());
    Err(ValueError {
        found,
        ..ValueError::from("a host name such as smtp.example.com, without a port (there is `port`)")
    })
}

/// The name in EHLO: a host name, or an address literal (RFC 5321, 4.1.3).
pub(super) fn hello(text: &str) -> Result<String, ValueError> {
    let valid = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => match address.strip_prefix("IPv6:") {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => address.parse::<Ipv4Addr>().is_ok(),
        },
        None => is_host_name(text),
    };
    let expected = "the full name of this host, such as alerts.example.com, or its address in brackets and quotes, such as \"[192.0.2.1]\" or \"[IPv6:2001:db8::1]\"";
    if valid { Ok(text.to_owned()) } else { Err(expected.into()) }
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label) && text.parse::<Ipv4Addr>().is_err()
}

/// Whether this host is the machine itself.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An http(s) address.
pub(super) fn web(text: &str) -> Result<Url, ValueError> {
    let expected = || ValueError::from("an address that begins with https://");
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(expected());
    }
    let url = Url::parse(text).map_err(|_| {
        let found = text.contains('@').then(|| "an address that cannot be read".to_owned());
        ValueError { found, ..expected() }
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        let found = Some("an address with a user name or password in it".to_owned());
        return Err(ValueError { found, ..ValueError::from("an address without them") });
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(expected());
    }
    Ok(url)
}

/// An address that secrets are sent to: https, or http where that is harmless or wanted.
pub(super) fn secure_web(text: &str, allow_insecure: bool) -> Result<Url, ValueError> {
    let url = web(text)?;
    if url.scheme() == "http" && !allow_insecure && !url.host_str().is_some_and(is_loopback) {
        return Err(
            "an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)"
                .into(),
        );
    }
    Ok(url)
}

/// Where the API is, without a slash at the end.
pub(super) fn base(text: &str, allow_insecure: bool) -> Result<Url, ValueError> {
    let mut url = secure_web(text, allow_insecure)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("an address without ? and #".into());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// A mail address, with or without a name.
pub(super) fn mailbox(text: &str) -> Result<Mailbox, ValueError> {
    let expected = || ValueError::from("a mail address such as pki@example.com or \"PKI team <pki@example.com>\"");
    if text.chars().any(char::is_control) {
        return Err(expected());
    }
    let mailbox: Mailbox = text.parse().map_err(|_| expected())?;
    if address::ascii_domain(&mailbox.email).is_none() {
        return Err("a mail address with a domain that exists in ASCII too (IDNA refuses this one)".into());
    }
    Ok(mailbox)
}

/// A time zone.
pub(super) fn timezone(text: &str) -> Result<chrono_tz::Tz, ValueError> {
    text.parse().map_err(|_| ValueError {
        found: None,
        expected: "an IANA time zone such as Europe/Amsterdam".to_owned(),
        suggestion: nearest(text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())),
    })
}
