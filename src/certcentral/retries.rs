//! Retries of requests: pauses that a server asked for, and a budget that keeps retries from multiplying in an outage.
//!
//! This module sends nothing, and sees only the failures of requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{ReadError, ReadErrorKind};
use crate::domain::Time;

/// Pauses before the first and the second retry, before jitter.
const BACKOFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];
/// Longest pause that a call waits for. During a longer one, calls fail at once.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5);
/// Number of retries in a row before a request succeeds or time passes.
const MAX_RETRIES: u32 = 10;
/// Time after which one more retry is allowed, so that later cycles of a long outage have retries again.
const REFILL_INTERVAL: Duration = Duration::from_secs(60);

/// Retries and pauses of one client, kept between its calls.
#[derive(Debug)]
pub(super) struct RetryBudget {
    state: Mutex<RetryState>,
}

#[derive(Debug)]
struct RetryState {
    pause: Option<ServerPause>,
    retries: u32,
    refilled: Time,
}

/// A pause without requests, and the error of calls during it.
#[derive(Debug)]
struct ServerPause {
    from: Time,
    until: Time,
    error: ReadError,
}

impl RetryBudget {
    pub(super) fn new(now: Time) -> Self {
        let state = RetryState { pause: None, retries: MAX_RETRIES, refilled: now };
        Self { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, RetryState> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a pause of this length, unless a longer one is in progress. Calls fail with `error` meanwhile.
    pub(super) fn pause(&self, now: Time, length: Duration, error: ReadError) {
        let until = now + length;
        let mut state = self.state();
        let current = state.pause.as_ref().filter(|current| current.from <= now);
        if current.is_none_or(|current| current.until < until) {
            state.pause = Some(ServerPause { from: now, until, error });
        }
    }

    /// Returns the rest of the pause in progress, and its error. A clock that is set back to before the pause began
    /// ends it, so that no pause lasts longer than the server asked for.
    pub(super) fn paused(&self, now: Time) -> Option<(Duration, ReadError)> {
        let state = self.state();
        let pause = state.pause.as_ref().filter(|pause| pause.from <= now)?;
        let left = (pause.until - now).to_std().ok().filter(|left| !left.is_zero())?;
        Some((left, pause.error.clone()))
    }

    /// Refunds one retry after a successful request.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        state.retries = (state.retries + 1).min(MAX_RETRIES);
    }

    /// Returns the delay before the next retry after a failure of this kind and `made` retries; `None` if there is no
    /// retry.
    pub(super) fn retry(&self, now: Time, kind: ReadErrorKind, made: usize) -> Option<Duration> {
        let allowed = match kind {
            ReadErrorKind::Connect | ReadErrorKind::Server | ReadErrorKind::RateLimited => BACKOFF.len(),
            // Each attempt takes the whole timeout.
            ReadErrorKind::Timeout => 1,
            ReadErrorKind::InvalidResponse | ReadErrorKind::Refused => 0,
        };
        let delay = BACKOFF.get(made).filter(|_| made < allowed)?;
        self.take_retry(now).then(|| delay.mul_f64(rand::random_range(0.8..1.2)))
    }

    fn take_retry(&self, now: Time) -> bool {
        let mut state = self.state();
        let passed = |since: Time| (now - since).to_std().unwrap_or_default();
        while state.retries < MAX_RETRIES && passed(state.refilled) >= REFILL_INTERVAL {
            state.retries += 1;
            state.refilled += REFILL_INTERVAL;
        }
        if state.retries == MAX_RETRIES || state.refilled > now {
            state.refilled = now;
        }
        let allowed = state.retries > 0;
        state.retries = state.retries.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn retries_run_out_and_return_with_success_or_time() {
        let retry_budget = RetryBudget::new(at(0));
        let retries =
            |now| (0..1000).filter(|_| retry_budget.retry(at(now), ReadErrorKind::Server, 0).is_some()).count();
        assert_eq!(retries(0), 10);
        retry_budget.succeeded();
        assert_eq!(retries(0), 1);
        assert_eq!(retries(180), 3);
        assert_eq!(retries(20_000), 10);
        // Retries return after a clock is set back, too.
        assert_eq!(retries(-5000), 0);
        assert_eq!(retries(-5000 + 120), 2);
    }

    #[test]
    fn only_transient_failures_are_retried() {
        let tries =
            |kind| (0..5).take_while(|made| RetryBudget::new(at(0)).retry(at(0), kind, *made).is_some()).count();
        assert_eq!(tries(ReadErrorKind::Connect), 2);
        assert_eq!(tries(ReadErrorKind::Timeout), 1);
        assert_eq!(tries(ReadErrorKind::Refused), 0);
        assert_eq!(tries(ReadErrorKind::InvalidResponse), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_pause_longer() {
        let retry_budget = RetryBudget::new(at(0));
        let error = ReadError { kind: ReadErrorKind::RateLimited, reason: "later".to_owned() };
        retry_budget.pause(at(0), Duration::from_secs(60), error);
        let left = |now| retry_budget.paused(at(now)).map(|(left, _)| left.as_secs());
        assert_eq!((left(0), left(59), left(60), left(-1)), (Some(60), Some(1), None, None));
        // A pause that begins after that counts, although it ends earlier than the former one.
        let error = ReadError { kind: ReadErrorKind::RateLimited, reason: "later".to_owned() };
        retry_budget.pause(at(-5000), Duration::from_secs(60), error);
        assert_eq!(retry_budget.paused(at(-5000)).map(|(left, _)| left.as_secs()), Some(60));
    }
}
