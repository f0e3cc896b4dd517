//! When to ask again: pauses that a server asked for, and a budget that keeps retries from multiplying in an outage.
//!
//! It sends nothing, and knows requests only by their failures.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{ReadError, ReadErrorKind};

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
    pause: Option<(Instant, ReadError)>,
    retries: u32,
    refilled: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        let memory = Memory { pause: None, retries: BUDGET, refilled: Instant::now() };
        Self { memory: Mutex::new(memory) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // No code that holds the lock can panic half-way through a change.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the server wants no request for so long, and what calls are told meanwhile.
    pub(super) fn pause(&self, length: Duration, told: ReadError) {
        let until = Instant::now() + length;
        let mut memory = self.memory();
        if memory.pause.as_ref().is_none_or(|(current, _)| *current < until) {
            memory.pause = Some((until, told));
        }
    }

    /// How long the pause still lasts, and what to say of it; `None` if there is none.
    pub(super) fn paused(&self) -> Option<(Duration, ReadError)> {
        let memory = self.memory();
        let (until, told) = memory.pause.as_ref()?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (left, told.clone()))
    }

    /// A request succeeded: the server is well, so one more retry may be spent.
    pub(super) fn succeeded(&self) {
        let mut memory = self.memory();
        memory.retries = (memory.retries + 1).min(BUDGET);
    }

    /// The pause before retry number `made + 1` after such a failure; `None` if there is none to be made.
    pub(super) fn retry(&self, kind: ReadErrorKind, made: usize) -> Option<Duration> {
        let allowed = match kind {
            ReadErrorKind::Connect | ReadErrorKind::Server | ReadErrorKind::RateLimited => BACKOFF.len(),
            // It has cost a whole timeout already.
            ReadErrorKind::Timeout => 1,
            ReadErrorKind::Nonsense | ReadErrorKind::Refused => 0,
        };
        let pause = BACKOFF.get(made).filter(|_| made < allowed)?;
        self.spend().then(|| pause.mul_f64(rand::random_range(0.8..1.2)))
    }

    fn spend(&self) -> bool {
        let mut memory = self.memory();
        let now = Instant::now();
        while memory.retries < BUDGET && now.duration_since(memory.refilled) >= REFILL {
            memory.retries += 1;
            memory.refilled += REFILL;
        }
        if memory.retries == BUDGET {
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

    #[tokio::test(start_paused = true)]
    async fn retries_run_out_and_come_back_with_success_or_time() {
        let patience = Patience::new();
        let retry = || patience.retry(ReadErrorKind::Server, 0).is_some();
        assert_eq!((0..1000).filter(|_| retry()).count(), 10);
        patience.succeeded();
        assert_eq!((0..1000).filter(|_| retry()).count(), 1);
        tokio::time::advance(REFILL * 3).await;
        assert_eq!((0..1000).filter(|_| retry()).count(), 3);
        tokio::time::advance(REFILL * 300).await;
        assert_eq!((0..1000).filter(|_| retry()).count(), 10);
    }

    #[tokio::test]
    async fn only_what_can_heal_is_retried() {
        let tries = |kind| (0..5).take_while(|made| Patience::new().retry(kind, *made).is_some()).count();
        assert_eq!(tries(ReadErrorKind::Connect), 2);
        assert_eq!(tries(ReadErrorKind::Timeout), 1);
        assert_eq!(tries(ReadErrorKind::Refused), 0);
        assert_eq!(tries(ReadErrorKind::Nonsense), 0);
    }
}
