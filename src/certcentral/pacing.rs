//! The pace at which the divisions of an account are read under a rate limit. Pure arithmetic.
//!
//! The messages of a cycle go out at its end. A few divisions are therefore read at once. Many are spread evenly, over at most
//! half of the time to the next cycle and at most twice as slowly as the limit allows. The rest of the quota is left to other
//! users of the API key.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::Name;

/// The largest number of requests in any time window of this length.
pub type RequestRate = (usize, Duration);

/// Requests that an account's cycles make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLoad {
    /// Number of requests in one cycle.
    pub requests: usize,
    /// Time from one cycle to the next.
    pub period: Duration,
}

/// Returns the number of requests that accounts with these loads make together in `period`.
pub fn total_requests(loads: impl IntoIterator<Item = RequestLoad>, period: Duration) -> usize {
    let requests_in_period = |load: RequestLoad| {
        let requests = u128::try_from(load.requests).unwrap_or(u128::MAX);
        let made = requests.saturating_mul(period.as_millis()).div_ceil(load.period.as_millis().max(1));
        usize::try_from(made).unwrap_or(usize::MAX)
    };
    loads.into_iter().map(requests_in_period).fold(0, usize::saturating_add)
}

/// Divisor of the smallest quota: accounts that together need at most this fraction are read at once.
const BURST_DIVISOR: usize = 4;

/// Returns the time that this number of requests takes at the fastest pace that all limits allow continuously.
pub fn required_duration(requests: usize, limits: impl IntoIterator<Item = RequestRate>) -> Duration {
    let count = u32::try_from(requests).unwrap_or(u32::MAX);
    let duration =
        |(most, length): RequestRate| length.saturating_mul(count) / u32::try_from(most.max(1)).unwrap_or(u32::MAX);
    limits.into_iter().map(duration).max().unwrap_or_default()
}

/// Returns the pause from one request to the next in a cycle of `requests`, if the accounts that share the API key have these
/// `loads` and the next cycle begins after `period`. Zero means no pause: the rate limiter alone delays requests.
///
/// Each account takes its share of the time that all accounts need together. A small account reads as if all accounts took
/// turns, so that it never waits for a large one to end.
pub fn pause(
    requests: usize,
    loads: impl IntoIterator<Item = RequestLoad> + Clone,
    limits: impl IntoIterator<Item = RequestRate> + Clone,
    period: Duration,
) -> Duration {
    let smallest = limits.clone().into_iter().map(|(most, _)| most).min().unwrap_or(usize::MAX);
    let all = total_requests(loads.clone(), period);
    if all.saturating_mul(BURST_DIVISOR) <= smallest {
        return Duration::ZERO;
    }
    let least = required_duration(all, limits);
    let span = (least * 2).min(period / 2).max(least);
    let part = |count: usize| u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    let active_accounts = loads.into_iter().filter(|load| load.requests > 0).count();
    let in_turns = (span / part(all)).saturating_mul(part(active_accounts));
    (span / part(requests)).min(in_turns)
}

/// Formats a duration for people: `6m`, `1m 30s`, `1h 5m`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Returns why accounts with these loads cannot keep a schedule of this period, for people. `None` if they can.
pub fn explain_overload(
    loads: &BTreeMap<Name, RequestLoad>,
    period: Duration,
    limits: &[RequestRate],
) -> Option<String> {
    let needs = required_duration(total_requests(loads.values().copied(), period), limits.iter().copied());
    (needs > period).then(|| {
        let (readings, needs, period) = (describe_requests(loads, period, limits), format_duration(needs), format_duration(period));
        format!("{readings} need {needs}, but the schedule comes every {period}; until that changes, divisions are read in turn")
    })
}

/// Describes the requests in `period` for people: `1200 readings at 1000 requests in 3m`, with the accounts if there are several.
fn describe_requests(loads: &BTreeMap<Name, RequestLoad>, period: Duration, limits: &[RequestRate]) -> String {
    let accounts: Vec<&str> = loads.iter().filter(|(_, load)| load.requests > 0).map(|(name, _)| &**name).collect();
    let all = total_requests(loads.values().copied(), period);
    let limit = describe_slowest_limit(all, limits.iter().copied());
    match accounts.len() {
        0 | 1 => format!("{all} readings at {limit}"),
        2..=5 => format!("{all} readings of {} with the same API key at {limit}", accounts.join(", ")),
        many => format!("{all} readings of {many} accounts with the same API key at {limit}"),
    }
}

/// Describes the slowest of the limits for people: `1000 requests in 3m`.
fn describe_slowest_limit(requests: usize, limits: impl IntoIterator<Item = RequestRate>) -> String {
    let slowest = limits.into_iter().max_by_key(|limit| required_duration(requests, [*limit]));
    slowest.map_or_else(String::new, |(most, length)| format!("{most} requests in {}", format_duration(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: [RequestRate; 2] = [(100, Duration::from_secs(5)), (1000, Duration::from_secs(180))];

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn load(requests: usize, period: u64) -> RequestLoad {
        RequestLoad { requests, period: seconds(period) }
    }

    #[test]
    fn the_slower_limit_decides_how_long_many_requests_take() {
        assert_eq!(required_duration(1000, DEFAULT), seconds(180));
        assert_eq!(required_duration(2000, DEFAULT), seconds(360));
        assert_eq!(required_duration(2000, [(10, seconds(1)), (1000, seconds(60))]), seconds(200));
        assert_eq!(required_duration(2000, []), Duration::ZERO);
        assert_eq!(describe_slowest_limit(2000, DEFAULT), "1000 requests in 3m");
    }

    #[test]
    fn few_requests_run_at_once_and_many_are_spread_over_half_a_period() {
        let span = |requests: usize, period| {
            let pause = pause(requests, [load(requests, period)], DEFAULT, seconds(period));
            pause * u32::try_from(requests).unwrap()
        };
        assert_eq!(span(1, 900), Duration::ZERO);
        assert_eq!(span(25, 900), Duration::ZERO);
        assert_eq!(span(1000, 900), seconds(360));
        assert_eq!(span(2000, 900), seconds(450));
        // Reads take more than half of the period only if the limit requires it.
        assert_eq!(span(4000, 900), seconds(720));
        assert_eq!(span(10_000, 900), seconds(1800));
        // With a rare schedule, reads are not spread over hours.
        assert_eq!(span(1000, 24 * 3600), seconds(360));
        assert_eq!(pause(10_000, [load(10_000, 900)], [], seconds(900)), Duration::ZERO);
    }

    #[test]
    fn accounts_of_one_key_count_together_by_their_own_periods() {
        assert_eq!(total_requests([load(600, 900), load(600, 900)], seconds(900)), 1200);
        assert_eq!(total_requests([load(600, 900), load(10, 60), load(1, 3600)], seconds(900)), 751);
        assert_eq!(total_requests([load(5, 900)], seconds(900)), 5);
        // Each of these accounts alone could be read at once, but not all together.
        let all = [load(20, 900); 6];
        assert_eq!(pause(20, [load(20, 900)], DEFAULT, seconds(900)), Duration::ZERO);
        assert_eq!(pause(20, all, DEFAULT, seconds(900)) * 20, seconds(43) + Duration::from_millis(200));
    }

    #[test]
    fn a_small_account_beside_a_large_one_is_not_slowed_to_its_pace() {
        let all = [load(1000, 900), load(2, 900), load(0, 900)];
        assert!(pause(2, all, DEFAULT, seconds(900)) < seconds(1));
        let large = pause(1000, all, DEFAULT, seconds(900)) * 1000;
        assert!(large > seconds(355) && large < seconds(365), "{large:?}");
    }

    #[test]
    fn durations_are_written_in_hours_minutes_and_seconds() {
        for (n, text) in [(0, "0s"), (5, "5s"), (90, "1m 30s"), (180, "3m"), (3900, "1h 5m"), (86_400, "24h")] {
            assert_eq!(format_duration(seconds(n)), text);
        }
        assert_eq!(format_duration(Duration::from_millis(1)), "1s");
    }
}
