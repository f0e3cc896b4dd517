//! Parsers of single values: they return a value of the domain's type, or what is wrong with the text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use chrono_tz::Tz;
use lettre::message::Mailbox;
use url::{Host, Url};

use super::catalog;
use super::keys::ValueKind;
use super::model::Quota;
use super::problem::{ValueError, ValueMessage, one_of};
use crate::domain::Time;
use crate::domain::money::{AmountError, Currency, MAX_DECIMALS, UnknownCurrency, parse_amount};
use crate::domain::rule::{Metric, Severity, ThresholdAmount};
use crate::domain::schedule::{DurationError, parse_duration, parse_moment};
use crate::notify::channels::email::address;
use crate::util::text::nearest;

/// Parses a text on one line that is not empty.
pub(super) fn line(text: &str) -> Result<String, ValueError> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(ValueError::new("is not a text on one line", "a text on one line, not empty"));
    }
    Ok(text.to_owned())
}

/// Parses a text that may have several lines.
pub(super) fn lines(text: &str) -> Result<String, ValueError> {
    let control = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.trim().is_empty() || text.chars().any(control) {
        let expected = "a text, not empty and without control characters";
        return Err(ValueError::new("is not a text without control characters", expected));
    }
    Ok(text.trim_end().to_owned())
}

/// Returns a parser of one of several words. `predicate` describes any other text, such as "is not a region".
pub(super) fn choice<'c, T: Copy>(
    predicate: &'static str,
    choices: &'c [(&'c str, T)],
) -> impl Fn(&str) -> Result<T, ValueError> + 'c {
    move |text| {
        let words = || choices.iter().map(|(word, _)| *word);
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| ValueError::new(predicate, one_of(words())).suggesting(nearest(text, words())))
    }
}

pub(super) fn level(text: &str) -> Result<Severity, ValueError> {
    choice("is not a level", &[("warning", Severity::Warning), ("critical", Severity::Critical)])(text)
}

/// Parses the name of a metric.
pub(super) fn metric(text: &str) -> Result<Metric, ValueError> {
    choice("is not a metric", &Metric::ALL.map(|(metric, name)| (name, metric)))(text)
}

/// Lists the values of a type that is a choice, for messages.
pub(super) fn choices(value: ValueKind) -> String {
    one_of(catalog::choices(value))
}

/// Parses `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, ValueError> {
    choice("is neither true nor false", &[("true", true), ("false", false)])(text)
}

/// Parses a duration, which may be 0.
pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    parse_duration(text).map_err(|error| match error {
        DurationError::NotADuration => {
            ValueError::new("is not a duration", "a duration such as 90s, 30m, 4h, 2d or 1w")
        }
        DurationError::TooLong => ValueError::new("is too long", "a duration of at most 520w"),
    })
}

/// Parses a duration above 0.
pub(super) fn pause(text: &str) -> Result<Duration, ValueError> {
    match duration(text) {
        Ok(zero) if zero.is_zero() => {
            Err(ValueError::new("is too short", "a duration above 0, such as 90s, 30m, 4h, 2d or 1w"))
        }
        result => result,
    }
}

/// Parses a duration above 0, or `never` (`None`).
pub(super) fn pause_or_never(text: &str) -> Result<Option<Duration>, ValueError> {
    if text == "never" {
        return Ok(None);
    }
    let or_never = |error: ValueError| ValueError { expected: format!("{}, or never", error.expected), ..error };
    pause(text).map(Some).map_err(or_never)
}

/// Parses an amount with or without a currency: `2000`, `1999.95`, `2000 USD`.
pub(super) fn amount(text: &str) -> Result<ThresholdAmount, ValueError> {
    let (figure, code) = match text.split_once(' ') {
        Some((figure, code)) => (figure, Some(code.trim_start())),
        None => (text, None),
    };
    let mut value = parse_amount(figure).map_err(|error| match error {
        AmountError::NotANumber => ValueError::new("is not an amount", "an amount such as 2000, 1999.95 or 2000 USD"),
        AmountError::TooLong => {
            ValueError::new("is too long", "an amount of at most 18 digits before the point and 8 after it")
        }
    })?;
    // Trailing zeros are kept, so that people find the figure as they wrote it.
    let decimals = figure.split_once('.').map_or(0, |(_, decimals)| decimals.len()).min(MAX_DECIMALS);
    value.rescale(u32::try_from(decimals).unwrap_or_default());
    let currency = code.map(|code| {
        // Digits belong to the amount: `2 000`.
        if code.chars().any(|c| c.is_ascii_digit() || c.is_whitespace()) {
            return Err(ValueError::new("is not an amount", "an amount and its currency code, such as 2000 USD"));
        }
        currency(code).map_err(|error| ValueError {
            expected: format!("an amount and {}", error.expected),
            message: ValueMessage::Predicate("has an unknown currency"),
            ..error
        })
    });
    Ok(ThresholdAmount { value, currency: currency.transpose()? })
}

/// Parses the code of a currency that an account can have.
pub(super) fn currency(text: &str) -> Result<Currency, ValueError> {
    let expected = "the ISO 4217 code of a currency, such as USD";
    Currency::parse_known(text).map_err(|error| match error {
        UnknownCurrency::NoSuchCode => {
            ValueError::new("is not a currency", expected).suggesting(nearest(text, Currency::known_codes()))
        }
        UnknownCurrency::NotMoney { .. } => ValueError::new("is not a currency", format!("{expected} ({error})")),
    })
}

/// Description of a point in time.
pub(super) const MOMENT: &str =
    "a time such as 2026-12-01T09:00 (in `timezone`), or with an offset, 2026-12-01T09:00+01:00";

/// Parses a point in time.
pub(super) fn moment(text: &str, timezone: Tz) -> Result<Time, ValueError> {
    parse_moment(text, timezone).ok_or_else(|| ValueError::new("is not a time", MOMENT))
}

/// Maximum length of a reason, which messages show and the control socket transports.
const MAX_REASON_CHARS: usize = 300;

/// Parses the reason of a silence.
pub(super) fn reason(text: &str) -> Result<String, ValueError> {
    let reason = line(text).ok().filter(|text| text.chars().count() <= MAX_REASON_CHARS);
    let expected = format!("a text on one line, of 1 to {MAX_REASON_CHARS} characters");
    reason.ok_or_else(|| ValueError::new("is not a text on one line", expected))
}

/// Parses the container id of a division.
pub(super) fn division(text: &str) -> Result<u64, ValueError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = digits.then(|| text.parse().ok()).flatten().filter(|id| *id > 0);
    id.ok_or_else(|| ValueError::new("is not a division", "the number of a division (its container id)"))
}

/// Parses a request quota such as `100/5s`.
pub(super) fn quota(text: &str) -> Result<Quota, ValueError> {
    let parts = text.split_once('/').and_then(|(requests, window)| {
        let digits = !requests.is_empty() && requests.bytes().all(|b| b.is_ascii_digit());
        let requests: usize = requests.parse().ok().filter(|n| digits && *n > 0)?;
        let window = parse_duration(window).ok().filter(|window| !window.is_zero())?;
        Some(Quota { requests, window })
    });
    let expected = "a number of requests and a duration, both above 0, such as 100/5s";
    parts.ok_or_else(|| ValueError::new("is not a rate limit", expected))
}

pub(super) fn port(text: &str) -> Result<u16, ValueError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or_else(|| ValueError::new("is not a port number", "a port number from 1 to 65535"))
}

/// Parses the name or address of a server, without a port.
pub(super) fn host(text: &str) -> Result<String, ValueError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let valid = |name: &String| name.parse::<IpAddr>().is_ok() || Host::parse(name).is_ok();
    if let Some(name) = address::host(bare).filter(valid) {
        return Ok(name);
    }
    let expected = "a host name such as smtp.example.com, without a port (use the key `port`)";
    let error = ValueError::new("is not a host name", expected);
    // It may contain a password.
    Err(if text.contains('@') { error.hiding("a host with a user name") } else { error })
}

/// Parses the name in EHLO: a host name, or an address literal (RFC 5321, 4.1.3).
pub(super) fn hello(text: &str) -> Result<String, ValueError> {
    let valid = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => match address.strip_prefix("IPv6:") {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => address.parse::<Ipv4Addr>().is_ok(),
        },
        None => is_host_name(text),
    };
    let expected = "the full name of this host, such as alerts.example.com, or its address in brackets and quotes, such as \"[192.0.2.1]\" or \"[IPv6:2001:db8::1]\"";
    if valid { Ok(text.to_owned()) } else { Err(ValueError::new("is not a host name", expected)) }
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

/// Returns `true` if the host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Parses an http or https address.
pub(super) fn web(text: &str) -> Result<Url, ValueError> {
    let invalid = || ValueError::new("is not an https address", "an address that begins with https://");
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(invalid());
    }
    // An address with an `@` may contain a password.
    let hidden = "an address that cannot be read";
    let url = Url::parse(text).map_err(|_| if text.contains('@') { invalid().hiding(hidden) } else { invalid() })?;
    if !url.username().is_empty() || url.password().is_some() {
        let error = ValueError::new("contains a user name or password", "an address without them");
        return Err(error.hiding("an address with a user name or password in it"));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(invalid());
    }
    Ok(url)
}

/// Parses an address that secrets are sent to: https, or http to this machine or if it is allowed.
pub(super) fn secure_web(text: &str, allow_insecure: bool) -> Result<Url, ValueError> {
    let url = web(text)?;
    if url.scheme() == "http" && !allow_insecure && !url.host_str().is_some_and(is_loopback) {
        let expected =
            "an address that begins with https:// (http:// is for loopback only, or with `allow_insecure: true`)";
        return Err(ValueError::new("is not encrypted", expected));
    }
    Ok(url)
}

/// Parses the address of an API and removes trailing slashes.
pub(super) fn base(text: &str, allow_insecure: bool) -> Result<Url, ValueError> {
    let mut url = secure_web(text, allow_insecure)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(ValueError::new("has a query or fragment", "an address without ? and #"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Parses an email address with or without a name.
pub(super) fn mailbox(text: &str) -> Result<Mailbox, ValueError> {
    let expected = "an email address such as pki@example.com or \"PKI team <pki@example.com>\"";
    let invalid = || ValueError::new("is not an email address", expected);
    if text.chars().any(char::is_control) {
        return Err(invalid());
    }
    let mailbox: Mailbox = text.parse().map_err(|_| invalid())?;
    if address::ascii_domain(&mailbox.email).is_none() {
        let expected = "an email address whose domain has an ASCII form (IDNA rejects this one)";
        return Err(ValueError::new("has an invalid domain", expected));
    }
    Ok(mailbox)
}

/// Parses an IANA time zone.
pub(super) fn timezone(text: &str) -> Result<Tz, ValueError> {
    let known = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    let invalid = || ValueError::new("is not a time zone", "an IANA time zone such as Europe/Amsterdam");
    text.parse().map_err(|_| invalid().suggesting(nearest(text, known())))
}
