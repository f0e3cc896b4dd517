//! When to ask again: pauses that a server asked for, and a budget that keeps retries from multiplying in an outage.
//!
//! It sends nothing, and knows requests only by their failures.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{ReadError, ReadErrorKind};
use crate::domain::Time;

/// Pauses before the first and the second retry, before jitter.
const BACKOFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];
/// The longest pause that a call waits for; a longer one makes calls fail at once until it is over.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5);
/// Retries that may be made in a row before something succeeds or time passes.
const MAX_RETRIES: u32 = 10;
/// One more retry every so often, so that a later cycle of a long outage has some again.
const REFILL_INTERVAL: Duration = Duration::from_secs(60);

/// What one client remembers between its calls.
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

/// No request from `from` to `until`.
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

    /// Remembers that the server wants no request for so long, and what calls are told meanwhile.
    pub(super) fn pause(&self, now: Time, length: Duration, error: ReadError) {
        let until = now + length;
        let mut state = self.state();
        let current = state.pause.as_ref().filter(|current| current.from <= now);
        if current.is_none_or(|current| current.until < until) {
            state.pause = Some(ServerPause { from: now, until, error });
        }
    }

    /// How long the pause still lasts, and what to say of it; `None` if there is none. A clock that is set back to before
    /// its beginning ends it: it must not become longer than it was asked for.
    pub(super) fn paused(&self, now: Time) -> Option<(Duration, ReadError)> {
        let state = self.state();
        let pause = state.pause.as_ref().filter(|pause| pause.from <= now)?;
        let left = (pause.until - now).to_std().ok().filter(|left| !left.is_zero())?;
        Some((left, pause.error.clone()))
    }

    /// A request succeeded: the server is well, so one more retry may be spent.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        state.retries = (state.retries + 1).min(MAX_RETRIES);
    }

    /// The pause before retry number `made + 1` after such a failure; `None` if there is none to be made.
    pub(super) fn retry(&self, now: Time, kind: ReadErrorKind, made: usize) -> Option<Duration> {
        let allowed = match kind {
            ReadErrorKind::Connect | ReadErrorKind::Server | ReadErrorKind::RateLimited => BACKOFF.len(),
            // It has cost a whole timeout already.
            ReadErrorKind::Timeout => 1,
            ReadErrorKind::InvalidResponse | ReadErrorKind::Refused => 0,
        };
        let pause = BACKOFF.get(made).filter(|_| made < allowed)?;
        self.spend(now).then(|| pause.mul_f64(rand::random_range(0.8..1.2)))
    }

    fn spend(&self, now: Time) -> bool {
        let mut state = self.state();
        let passed = |since: Time| (now - since).to_std().unwrap_or_default();
        while state.retries < MAX_RETRIES && passed(state.refilled) >= REFILL_INTERVAL {
            state.retries += 1;
            state.refilled += REFILL_INTERVAL;
        }
        if state.retries == MAX_RETRIES || state.refilled > now {
            state.refilled = now;
        }
        let may = state.retries > 0;
        state.retries = state.retries.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn retries_run_out_and_come_back_with_success_or_time() {
        let retry_budget = RetryBudget::new(at(0));
        let retries =
            |now| (0..1000).filter(|_| retry_budget.retry(at(now), ReadErrorKind::Server, 0).is_some()).count();
        assert_eq!(retries(0), 10);
        retry_budget.succeeded();
        assert_eq!(retries(0), 1);
        assert_eq!(retries(180), 3);
        assert_eq!(retries(20_000), 10);
        // A clock that is set back does not keep them from coming back.
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
        // What is asked for after that counts, though it ends earlier than the one that is over.
        let error = ReadError { kind: ReadErrorKind::RateLimited, reason: "later".to_owned() };
        retry_budget.pause(at(-5000), Duration::from_secs(60), error);
        assert_eq!(retry_budget.paused(at(-5000)).map(|(left, _)| left.as_secs()), Some(60));
    }
}
