//! Simulated clocks: one that runs faster than real time, and one that a driver moves.
//!
//! Both start at a given time instead of the system's, and neither ever goes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Activity;
use crate::domain::Time;
use crate::util::clock::Clock;

/// Time without activity after which all tasks are assumed to wait for the clock.
const QUIET_PERIOD: Duration = Duration::from_millis(3);

/// A clock that runs at a multiple of real time.
#[derive(Debug)]
pub struct FastClock {
    start: Time,
    began: Instant,
    speed: u32,
}

impl FastClock {
    /// Creates a clock that shows `start` now and runs at `speed` times real speed.
    pub fn new(start: Time, speed: u32) -> Self {
        Self { start, began: Instant::now(), speed: speed.max(1) }
    }
}

#[async_trait]
impl Clock for FastClock {
    fn now(&self) -> Time {
        let passed = chrono::TimeDelta::from_std(self.began.elapsed().saturating_mul(self.speed));
        passed.ok().and_then(|passed| self.start.checked_add_signed(passed)).unwrap_or(Time::MAX_UTC)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration / self.speed).await;
    }
}

/// A clock that stands still until its driver moves it to the next time that a task waits for. Events therefore happen at the
/// same simulated times on any machine.
#[derive(Debug)]
pub struct SteppedClock {
    state: Mutex<SteppedClockState>,
    changed: Notify,
}

/// Wake-up channels by time; the number distinguishes tasks that wait for the same time.
type Sleepers = BTreeMap<(Time, u64), oneshot::Sender<()>>;

#[derive(Debug)]
struct SteppedClockState {
    now: Time,
    waiting: Sleepers,
    /// Background tasks without work.
    idle: Sleepers,
    /// Number of background tasks with work.
    background: usize,
    /// Last number given to a waiting task.
    numbers: u64,
    /// Number of running requests and connections.
    busy: usize,
    last_change: Instant,
}

impl SteppedClockState {
    /// Removes tasks that no longer wait.
    fn remove_cancelled(&mut self) {
        self.waiting.retain(|_, wake| !wake.is_closed());
        self.idle.retain(|_, wake| !wake.is_closed());
    }

    /// Removes and returns the tasks that wait for `now` or an earlier time.
    fn due(now: Time, waiting: &mut Sleepers) -> Sleepers {
        let later = waiting.split_off(&(now, u64::MAX));
        std::mem::replace(waiting, later)
    }
}

impl SteppedClock {
    /// Creates a clock that shows `start` until it is moved.
    pub fn new(start: Time) -> Arc<Self> {
        let state = SteppedClockState {
            now: start,
            waiting: Sleepers::new(),
            idle: Sleepers::new(),
            background: 0,
            numbers: 0,
            busy: 0,
            last_change: Instant::now(),
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, SteppedClockState> {
        // No code that holds the lock can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut SteppedClockState)) {
        let mut state = self.state();
        change(&mut state);
        state.last_change = Instant::now();
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until at least this many tasks and all background tasks with work wait for the clock, no request or connection is
    /// running, and nothing has changed for a moment.
    pub async fn wait_until_quiet(&self, at_least: usize) {
        loop {
            let left = {
                let mut state = self.state();
                state.remove_cancelled();
                let at_rest = state.busy == 0 && state.waiting.len() >= at_least + state.background;
                at_rest.then(|| QUIET_PERIOD.saturating_sub(state.last_change.elapsed()))
            };
            match left {
                Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
                None => self.changed.notified().await,
            }
        }
    }

    /// Returns the real time since the last activity.
    pub fn quiet_time(&self) -> Duration {
        self.state().last_change.elapsed()
    }

    /// Returns the next time that a task waits for.
    pub fn next(&self) -> Option<Time> {
        let mut state = self.state();
        state.remove_cancelled();
        [&state.waiting, &state.idle].into_iter().filter_map(|all| all.keys().next()).map(|(at, _)| *at).min()
    }

    /// Moves the clock to `at` and wakes the tasks that wait for that time; ignores a time in the past.
    pub fn advance(&self, at: Time) {
        self.update(|state| {
            state.now = state.now.max(at);
            for (_, wake) in SteppedClockState::due(state.now, &mut state.waiting) {
                let _ = wake.send(()); // fails if the task no longer waits
            }
            // Counted before the task runs, so that the clock is not moved in between. A task that no longer waits counts itself.
            for (_, wake) in SteppedClockState::due(state.now, &mut state.idle) {
                state.background += usize::from(wake.send(()).is_ok());
            }
        });
    }
}

#[async_trait]
impl Clock for SteppedClock {
    fn now(&self) -> Time {
        self.state().now
    }

    async fn sleep(&self, duration: Duration) {
        let (wake, woken) = oneshot::channel();
        self.update(|state| {
            state.numbers += 1;
            state.waiting.insert((state.now + duration, state.numbers), wake);
        });
        let _ = woken.await; // an error means that the clock was dropped, which wakes everyone
    }

    async fn sleep_idle(&self, duration: Duration) {
        let (wake, woken) = oneshot::channel();
        self.update(|state| {
            state.numbers += 1;
            state.background = state.background.saturating_sub(1);
            state.idle.insert((state.now + duration, state.numbers), wake);
        });
        let mut idle_wait = IdleWait { clock: self, woken };
        let _ = (&mut idle_wait.woken).await;
    }

    fn set_background_active(&self, active: bool) {
        self.update(|state| {
            state.background = if active { state.background + 1 } else { state.background.saturating_sub(1) };
        });
    }
}

/// A background task's wait without work. A task that stops waiting before the clock wakes it has work and counts again.
struct IdleWait<'a> {
    clock: &'a SteppedClock,
    woken: oneshot::Receiver<()>,
}

impl Drop for IdleWait<'_> {
    fn drop(&mut self) {
        self.woken.close();
        // If the clock has woken the task, it has counted it too.
        if !self.woken.is_terminated() && self.woken.try_recv().is_err() {
            self.clock.set_background_active(true);
        }
    }
}

impl Activity for SteppedClock {
    fn begin(&self) {
        self.update(|state| state.busy += 1);
    }

    fn end(&self) {
        self.update(|state| state.busy = state.busy.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn start() -> Time {
        "2026-11-02T08:00:00Z".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_clock_runs_at_a_multiple_of_real_speed() {
        let clock = FastClock::new(start(), 3600);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), start() + Duration::from_secs(7200));
        clock.sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now() - start(), chrono::Duration::hours(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stepped_clock_wakes_each_task_in_turn_at_its_time() {
        let clock = SteppedClock::new(start());
        let woken = Arc::new(AtomicUsize::new(0));
        for hours in [2, 1, 2] {
            let (clock, woken) = (Arc::clone(&clock), Arc::clone(&woken));
            tokio::spawn(async move {
                clock.sleep(Duration::from_secs(3600 * hours)).await;
                assert_eq!(clock.now(), start() + Duration::from_secs(3600 * hours));
                woken.fetch_add(1, Ordering::Relaxed);
            });
        }
        clock.wait_until_quiet(3).await;
        for (at, total) in [(1, 1), (2, 3)] {
            let next = clock.next().unwrap();
            assert_eq!(next, start() + Duration::from_secs(3600 * at));
            clock.advance(next);
            clock.wait_until_quiet(0).await;
            assert_eq!(woken.load(Ordering::Relaxed), total);
        }
        assert_eq!(clock.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn activities_hold_a_stepped_clock_and_cancelled_waits_do_not() {
        let clock = SteppedClock::new(start());
        clock.begin();
        assert!(tokio::time::timeout(Duration::from_secs(60), clock.wait_until_quiet(0)).await.is_err());
        clock.end();
        clock.wait_until_quiet(0).await;
        assert!(tokio::time::timeout(QUIET_PERIOD, clock.sleep(Duration::from_secs(9))).await.is_err());
        assert_eq!(clock.next(), None);
    }
}
