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
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Retries that may be made in a row before something succeeds or time passes.
const BUDGET: u32 = 10;
/// One more retry every so often, so that a later cycle of a long outage has some again.
const REFILL: Duration = Duration::from_secs(60);

/// What one client remembers between its calls.
#[derive(Debug)]
pub(super) struct Patience {
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    pause: Option<Pause>,
    retries: u32,
    refilled: Time,
}

/// No request from `from` to `until`.
#[derive(Debug)]
struct Pause {
    from: Time,
    until: Time,
    told: ReadError,
}

impl Patience {
    pub(super) fn new(now: Time) -> Self {
        let memory = Memory { pause: None, retries: BUDGET, refilled: now };
        Self { memory: Mutex::new(memory) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // No code that holds the lock can panic half-way through a change.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the server wants no request for so long, and what calls are told meanwhile.
    pub(super) fn pause(&self, now: Time, length: Duration, told: ReadError) {
        let until = now + length;
        let mut memory = self.memory();
        let current = memory.pause.as_ref().filter(|current| current.from <= now);
        if current.is_none_or(|current| current.until < until) {
            memory.pause = Some(Pause { from: now, until, told });
        }
    }

    /// How long the pause still lasts, and what to say of it; `None` if there is none. A clock that is set back to before
    /// its beginning ends it: it must not become longer than it was asked for.
    pub(super) fn paused(&self, now: Time) -> Option<(Duration, ReadError)> {
        let memory = self.memory();
        let pause = memory.pause.as_ref().filter(|pause| pause.from <= now)?;
        let left = (pause.until - now).to_std().ok().filter(|left| !left.is_zero())?;
        Some((left, pause.told.clone()))
    }

    /// A request succeeded: the server is well, so one more retry may be spent.
    pub(super) fn succeeded(&self) {
        let mut memory = self.memory();
        memory.retries = (memory.retries + 1).min(BUDGET);
    }

    /// The pause before retry number `made + 1` after such a failure; `None` if there is none to be made.
    pub(super) fn retry(&self, now: Time, kind: ReadErrorKind, made: usize) -> Option<Duration> {
        let allowed = match kind {
            ReadErrorKind::Connect | ReadErrorKind::Server | ReadErrorKind::RateLimited => BACKOFF.len(),
            // It has cost a whole timeout already.
            ReadErrorKind::Timeout => 1,
            ReadErrorKind::Nonsense | ReadErrorKind::Refused => 0,
        };
        let pause = BACKOFF.get(made).filter(|_| made < allowed)?;
        self.spend(now).then(|| pause.mul_f64(rand::random_range(0.8..1.2)))
    }

    fn spend(&self, now: Time) -> bool {
        let mut memory = self.memory();
        let passed = |since: Time| (now - since).to_std().unwrap_or_default();
        while memory.retries < BUDGET && passed(memory.refilled) >= REFILL {
            memory.retries += 1;
            memory.refilled += REFILL;
        }
        if memory.retries == BUDGET || memory.refilled > now {
            memory.refilled = now;
        }
        let may = memory.retries > 0;
        memory.retries = memory.retries.saturating_sub(1);
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
        let patience = Patience::new(at(0));
        let retries = |now| (0..1000).filter(|_| patience.retry(at(now), ReadErrorKind::Server, 0).is_some()).count();
        assert_eq!(retries(0), 10);
        patience.succeeded();
        assert_eq!(retries(0), 1);
        assert_eq!(retries(180), 3);
        assert_eq!(retries(20_000), 10);
        // A clock that is set back does not keep them from coming back.
        assert_eq!(retries(-5000), 0);
        assert_eq!(retries(-5000 + 120), 2);
    }

    #[test]
    fn only_what_can_heal_is_retried() {
        let tries = |kind| (0..5).take_while(|made| Patience::new(at(0)).retry(at(0), kind, *made).is_some()).count();
        assert_eq!(tries(ReadErrorKind::Connect), 2);
        assert_eq!(tries(ReadErrorKind::Timeout), 1);
        assert_eq!(tries(ReadErrorKind::Refused), 0);
        assert_eq!(tries(ReadErrorKind::Nonsense), 0);
    }

    #[test]
    fn a_pause_lasts_as_long_as_was_asked_and_a_clock_that_is_set_back_makes_it_no_longer() {
        let patience = Patience::new(at(0));
        let told = ReadError { kind: ReadErrorKind::RateLimited, reason: "later".to_owned() };
        patience.pause(at(0), Duration::from_secs(60), told);
        let left = |now| patience.paused(at(now)).map(|(left, _)| left.as_secs());
        assert_eq!((left(0), left(59), left(60), left(-1)), (Some(60), Some(1), None, None));
        // What is asked for after that counts, though it ends earlier than the one that is over.
        let told = ReadError { kind: ReadErrorKind::RateLimited, reason: "later".to_owned() };
        patience.pause(at(-5000), Duration::from_secs(60), told);
        assert_eq!(patience.paused(at(-5000)).map(|(left, _)| left.as_secs()), Some(60));
    }
}
