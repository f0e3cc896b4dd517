//! Runs the cycles of an account: the first at start, the others by the schedule, never two at a time, until shutdown.
//!
//! Each wait ends by whichever of two timers fires first. A one-shot job of the cron scheduler follows the wall clock, so that
//! a suspended machine reads as soon as it wakes. A sleep of the same length follows elapsed time, so that a clock that is set
//! back never silences an account. Both wait for the time that [`Schedule::next_after`] returns. For short waits the sleep
//! alone is enough. The cron scheduler checks the clock twice a second until the process ends, so it is started only when the
//! first long wait needs it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OnceCell};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::domain::schedule::Schedule;
use crate::domain::{Name, Time};
use crate::util::clock::Clock;
use crate::util::shutdown::StagedShutdown;

/// Times of an account's cycles, for `health` and `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CycleTiming {
    /// Begin of the last cycle, running or not.
    pub began: Time,
    /// End of the last cycle that has ended.
    pub ended: Option<Time>,
    /// Time of the next cycle; `None` if there is none.
    pub due: Option<Time>,
}

/// The cron scheduler, with whether to start it.
#[derive(Clone)]
pub struct CronJobs {
    scheduler: JobScheduler,
    /// Set once the scheduler runs. `None`: the caller starts it, or does not.
    running: Option<Arc<OnceCell<()>>>,
}

impl CronJobs {
    /// Returns a cron scheduler that starts with the first wait that needs it.
    pub async fn on_demand() -> Result<Self, JobSchedulerError> {
        Ok(Self { scheduler: JobScheduler::new().await?, running: Some(Arc::default()) })
    }

    async fn start(&self) -> Result<(), JobSchedulerError> {
        let Some(running) = &self.running else { return Ok(()) };
        running.get_or_try_init(|| self.scheduler.start()).await.copied()
    }
}

/// Wraps a cron scheduler that the caller starts, or does not.
impl From<JobScheduler> for CronJobs {
    fn from(scheduler: JobScheduler) -> Self {
        Self { scheduler, running: None }
    }
}

/// Waits up to this length use a sleep alone. A machine that was suspended meanwhile reads late by at most this.
const SHORT_WAIT: Duration = Duration::from_secs(60);

/// Delay up to which `health` does not consider a cycle late.
const GRACE_PERIOD: Duration = Duration::from_secs(60);

impl CycleTiming {
    /// Returns true if a cycle ended within two periods before `now`, at least within two minutes.
    pub fn ready(&self, now: Time) -> bool {
        let period = (self.due.unwrap_or(self.began) - self.began).to_std().unwrap_or_default();
        self.ended.is_some_and(|ended| (now - ended).to_std().unwrap_or_default() <= 2 * period.max(GRACE_PERIOD))
    }

    /// Returns true if a cycle is running and its last read, at `last`, was at most a period ago, at least at most a minute.
    pub fn is_progressing(&self, last: Time, now: Time) -> bool {
        let runs = self.ended.is_none_or(|ended| ended < self.began);
        let period = (self.due.unwrap_or(self.began) - self.began).to_std().unwrap_or_default();
        runs && last >= self.began && (now - last).to_std().is_ok_and(|ago| ago <= period.max(GRACE_PERIOD))
    }

    /// Returns true unless the next cycle is overdue at `now` by more than a period and more than a minute.
    pub fn on_time(&self, now: Time) -> bool {
        let due = self.due.unwrap_or(self.began);
        let period = (due - self.began).to_std().unwrap_or_default();
        (now - due).to_std().is_ok_and(|late| late > period.max(GRACE_PERIOD)).eq(&false)
    }
}

/// Runs `cycle` at once and then by `schedule`, until `shutdown` begins.
pub async fn run<F: Future<Output = ()>>(
    account: Name,
    schedule: Schedule,
    jobs: impl Into<CronJobs>,
    clock: Arc<dyn Clock>,
    shutdown: StagedShutdown,
    mut cycle: impl FnMut(Time) -> F,
    mut record_timing: impl FnMut(CycleTiming),
) {
    let jobs = jobs.into();
    let mut ended = None;
    let mut planned = clock.now();
    loop {
        let began = planned_or_now(planned, clock.now());
        let due = schedule.next_after(began);
        record_timing(CycleTiming { began, ended, due });
        tokio::select! {
            () = cycle(began) => {}
            () = shutdown.abandoned() => return,
        }
        let now = clock.now();
        ended = Some(now);
        // If the clock was set back, the next time is computed from the present.
        let went_back = (began - now).to_std().is_ok_and(|back| back >= GRACE_PERIOD);
        let next = if went_back { schedule.next_after(now) } else { due };
        let Some(next) = next else {
            tracing::error!(%account, schedule = schedule.text(), "schedule never comes again: no further cycle");
            return;
        };
        // All times that passed while the cycle ran are made up for by one cycle, now.
        planned = next.max(now);
        record_timing(CycleTiming { began, ended, due: Some(planned) });
        tokio::select! {
            biased;
            () = shutdown.begun() => return,
            () = wait_until(planned, &jobs, &clock) => {}
        }
    }
}

/// Returns the planned time if the cycle begins within a minute of it, else the present, because the clock jumped.
///
/// With exact planned times, a reminder after 24 h is not delayed by a period because a millisecond is missing, and a clock
/// that is slewed back slightly causes no second cycle for the same time.
fn planned_or_now(planned: Time, now: Time) -> Time {
    if (now - planned).abs().to_std().is_ok_and(|off| off < GRACE_PERIOD) { planned } else { now }
}

/// Waits until `due` by the wall clock or by elapsed time, whichever comes first.
async fn wait_until(due: Time, jobs: &CronJobs, clock: &Arc<dyn Clock>) {
    let length = (due - clock.now()).to_std().unwrap_or_default();
    if length <= SHORT_WAIT {
        return clock.sleep(length).await;
    }
    let fired = Arc::new(Notify::new());
    let signal = Arc::clone(&fired);
    // The cron scheduler counts whole seconds and may fire up to one second early. The rest is slept.
    let armed = Job::new_one_shot_async(length + Duration::from_secs(1), move |_, _| {
        let signal = Arc::clone(&signal);
        Box::pin(async move { signal.notify_one() })
    });
    let job = match (armed, jobs.start().await) {
        (Ok(job), Ok(())) => jobs.scheduler.add(job).await,
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    if let Err(error) = &job {
        tracing::warn!(%error, "cron job cannot be armed: waiting by elapsed time alone");
    }
    tokio::select! {
        () = fired.notified() => {
            let rest = (due - clock.now()).to_std().unwrap_or_default();
            clock.sleep(rest.min(Duration::from_secs(2))).await;
        }
        () = clock.sleep(length) => {}
    }
    if let Ok(id) = job {
        let _ = jobs.scheduler.remove(&id).await; // already gone if it fired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_cycle_keeps_to_the_planned_time_unless_the_clock_jumped() {
        assert_eq!(planned_or_now(at(900), at(900) + chrono::Duration::milliseconds(3)), at(900));
        assert_eq!(planned_or_now(at(900), at(900) - chrono::Duration::milliseconds(2)), at(900));
        assert_eq!(planned_or_now(at(900), at(4500)), at(4500));
        assert_eq!(planned_or_now(at(900), at(0)), at(0));
    }

    #[test]
    fn cycles_are_on_time_until_a_whole_period_is_missed() {
        let timing = CycleTiming { began: at(0), ended: Some(at(1)), due: Some(at(900)) };
        assert!(timing.on_time(at(900)));
        assert!(timing.on_time(at(1800)));
        assert!(!timing.on_time(at(1801)));
        assert!(timing.ready(at(1801)) && !timing.ready(at(1802)));
        assert!(!CycleTiming { ended: None, ..timing }.ready(at(1)));
        let quick = CycleTiming { began: at(0), ended: None, due: Some(at(1)) };
        assert!(quick.on_time(at(61)));
        assert!(!quick.on_time(at(62)));
    }
}
