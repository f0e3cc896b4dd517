//! Simulated clocks: one that runs faster than the system's, and one that a driver moves from appointment to appointment.
//!
//! Neither reads the system's date: they begin where they are told to. Both keep the order of things; neither goes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Activity;
use crate::domain::Time;
use crate::util::clock::Clock;

/// Nothing stirs for so long: everybody waits for the clock.
const QUIET_PERIOD: Duration = Duration::from_millis(3);

/// Runs at a multiple of real time.
#[derive(Debug)]
pub struct FastClock {
    start: Time,
    began: Instant,
    speed: u32,
}

impl FastClock {
    /// A clock that shows `start` now and runs `speed` times as fast as time.
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

/// Stands still while anybody works, and is moved to the next time that anybody waits for. So the same things happen at
/// the same simulated times, however fast the machine is.
#[derive(Debug)]
pub struct SteppedClock {
    state: Mutex<SteppedClockState>,
    changed: Notify,
}

type Sleepers = BTreeMap<(Time, u64), oneshot::Sender<()>>;

#[derive(Debug)]
struct SteppedClockState {
    now: Time,
    /// Who waits until when; the number keeps those of one time apart.
    waiting: Sleepers,
    /// Tasks in the background that have nothing to do until then.
    idle: Sleepers,
    /// Tasks in the background that have.
    background: usize,
    numbers: u64,
    /// Conversations that go on.
    busy: usize,
    last_change: Instant,
}

impl SteppedClockState {
    /// Who has given up waits for nothing.
    fn remove_cancelled(&mut self) {
        self.waiting.retain(|_, wake| !wake.is_closed());
        self.idle.retain(|_, wake| !wake.is_closed());
    }

    /// Everybody who waits until now or before.
    fn due(now: Time, waiting: &mut Sleepers) -> Sleepers {
        let later = waiting.split_off(&(now, u64::MAX));
        std::mem::replace(waiting, later)
    }
}

impl SteppedClock {
    /// A clock that shows `start` until it is moved.
    pub fn new(start: Time) -> Arc<Self> {
        let inner = SteppedClockState {
            now: start,
            waiting: Sleepers::new(),
            idle: Sleepers::new(),
            background: 0,
            numbers: 0,
            busy: 0,
            last_change: Instant::now(),
        };
        Arc::new(Self { state: Mutex::new(inner), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, SteppedClockState> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut SteppedClockState)) {
        let mut inner = self.state();
        change(&mut inner);
        inner.last_change = Instant::now();
        drop(inner);
        self.changed.notify_one();
    }

    /// Waits until at least so many wait for the clock, and everybody in the background who does not doze; no conversation
    /// goes on, and nobody has stirred for a moment.
    pub async fn wait_until_quiet(&self, at_least: usize) {
        loop {
            let left = {
                let mut inner = self.state();
                inner.remove_cancelled();
                let at_rest = inner.busy == 0 && inner.waiting.len() >= at_least + inner.background;
                at_rest.then(|| QUIET_PERIOD.saturating_sub(inner.last_change.elapsed()))
            };
            match left {
                Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
                None => self.changed.notified().await,
            }
        }
    }

    /// How long nobody has stirred.
    pub fn quiet_time(&self) -> Duration {
        self.state().last_change.elapsed()
    }

    /// The next time that anybody waits for.
    pub fn next(&self) -> Option<Time> {
        let mut inner = self.state();
        inner.remove_cancelled();
        [&inner.waiting, &inner.idle].into_iter().filter_map(|all| all.keys().next()).map(|(at, _)| *at).min()
    }

    /// Moves the clock to `at` and wakes whoever waits until then; a time in the past moves nothing.
    pub fn advance(&self, at: Time) {
        self.update(|inner| {
            inner.now = inner.now.max(at);
            for (_, wake) in SteppedClockState::due(inner.now, &mut inner.waiting) {
                let _ = wake.send(()); // may have given up
            }
            // Counted before it has noticed, so that nobody moves the clock on in between; who gave up counts itself.
            for (_, wake) in SteppedClockState::due(inner.now, &mut inner.idle) {
                inner.background += usize::from(wake.send(()).is_ok());
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
        self.update(|inner| {
            inner.numbers += 1;
            inner.waiting.insert((inner.now + duration, inner.numbers), wake);
        });
        let _ = woken.await; // a clock that is gone wakes everybody
    }

    async fn sleep_idle(&self, duration: Duration) {
        let (wake, woken) = oneshot::channel();
        self.update(|inner| {
            inner.numbers += 1;
            inner.background = inner.background.saturating_sub(1);
            inner.idle.insert((inner.now + duration, inner.numbers), wake);
        });
        let mut idle_wait = IdleWait { clock: self, woken };
        let _ = (&mut idle_wait.woken).await;
    }

    fn set_background_active(&self, works: bool) {
        self.update(|inner| {
            inner.background = if works { inner.background + 1 } else { inner.background.saturating_sub(1) };
        });
    }
}

/// A doze. Whoever gives it up before the clock ended it has something to do, and counts again.
struct IdleWait<'a> {
    clock: &'a SteppedClock,
    woken: oneshot::Receiver<()>,
}

impl Drop for IdleWait<'_> {
    fn drop(&mut self) {
        self.woken.close();
        // What was sent was counted by whoever sent it.
        if !self.woken.is_terminated() && self.woken.try_recv().is_err() {
            self.clock.set_background_active(true);
        }
    }
}

impl Activity for SteppedClock {
    fn begin(&self) {
        self.update(|inner| inner.busy += 1);
    }

    fn end(&self) {
        self.update(|inner| inner.busy = inner.busy.saturating_sub(1));
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
    async fn a_fast_clock_runs_so_many_times_as_fast() {
        let clock = FastClock::new(start(), 3600);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), start() + Duration::from_secs(7200));
        clock.sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now() - start(), chrono::Duration::hours(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stepped_clock_wakes_everybody_in_turn_at_exactly_their_times() {
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
    async fn conversations_keep_it_busy_and_cancelled_sleepers_do_not() {
        let clock = SteppedClock::new(start());
        clock.begin();
        assert!(tokio::time::timeout(Duration::from_secs(60), clock.wait_until_quiet(0)).await.is_err());
        clock.end();
        clock.wait_until_quiet(0).await;
        assert!(tokio::time::timeout(QUIET_PERIOD, clock.sleep(Duration::from_secs(9))).await.is_err());
        assert_eq!(clock.next(), None);
    }
}
