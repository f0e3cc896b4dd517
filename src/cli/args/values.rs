//! Parsers of argument values. Their errors complete clap's sentence "invalid value … for …".

use std::net::SocketAddr;
use std::time::Duration;

use crate::domain::schedule::parse_duration;

/// Parses an unsigned number that is written in digits alone.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

pub(super) fn length(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text).map_err(|error| error.to_string())?;
    if length.is_zero() { Err("a silence of length 0 ends at once".to_owned()) } else { Ok(length) }
}

pub(super) fn passed(text: &str) -> Result<Duration, String> {
    let passed = parse_duration(text).map_err(|error| error.to_string())?;
    let year = Duration::from_secs(366 * 24 * 3600);
    if passed <= year { Ok(passed) } else { Err("must be at most 366d".to_owned()) }
}

pub(super) fn division(text: &str) -> Result<u64, String> {
    digits(text).filter(|id| *id > 0).ok_or_else(|| "must be the number of a division (its container id)".to_owned())
}

pub(super) fn reason(text: &str) -> Result<String, String> {
    crate::config::silence_reason(text)
}

pub(super) fn days(text: &str) -> Result<u16, String> {
    let days = digits(text).filter(|days| (1..=365).contains(days));
    days.ok_or_else(|| "must be a whole number from 1 to 365".to_owned())
}

/// Parses `60x` or `60`.
pub(super) fn speed(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix(['x', 'X']).unwrap_or(text);
    let speed = digits(number).filter(|speed| (1..=1_000_000).contains(speed));
    speed.ok_or_else(|| "must be a whole number from 1 to 1000000, such as 60x".to_owned())
}

pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let seconds = digits(text).filter(|seconds| (1..=86_400).contains(seconds));
    seconds.ok_or_else(|| "must be a whole number from 1 to 86400".to_owned())
}

pub(super) fn seed(text: &str) -> Result<u64, String> {
    digits(text).ok_or_else(|| format!("must be a whole number from 0 to {}", u64::MAX))
}

pub(super) fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8099".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("must be a loopback address, such as 127.0.0.1:8099".to_owned())
    }
}
