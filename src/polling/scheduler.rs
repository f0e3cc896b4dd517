//! When cycles run: at start, then by the schedule, never two of one account at a time, until told to stop.
//!
//! Each wait is armed twice. A one-shot job of the cron scheduler fires by the wall clock, so that a suspended machine
//! reads as soon as it wakes; a plain sleep of the same length fires by elapsed time, so that a clock that is set back
//! never silences an account. Whichever comes first wins; both wait for the time that [`Schedule::set_period`] computed.
//! Of a short wait there is not much to oversleep: the sleep alone does, and the cron scheduler, which looks at the clock
//! twice a second for as long as the process lives, is not even started.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OnceCell};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::domain::{Name, Time};
use crate::polling::schedule::Schedule;
use crate::util::clock::Clock;
use crate::util::shutdown::StagedShutdown;

/// When an account's cycles run and ran, for `health` and `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CycleTiming {
    /// When the cycle that last began did so; at start, when waiting for it began.
    pub began: Time,
    /// When the last cycle ended.
    pub ended: Option<Time>,
    /// When the next one is due.
    pub due: Option<Time>,
}

/// The cron scheduler that waits are armed with.
#[derive(Clone)]
pub struct CronJobs {
    scheduler: JobScheduler,
    /// Set once it runs; `None`: it is left as it is.
    running: Option<Arc<OnceCell<()>>>,
}

impl CronJobs {
    /// One that begins to run with the first wait that needs it.
    pub async fn on_demand() -> Result<Self, JobSchedulerError> {
        Ok(Self { scheduler: JobScheduler::new().await?, running: Some(Arc::default()) })
    }

    async fn start(&self) -> Result<(), JobSchedulerError> {
        let Some(running) = &self.running else { return Ok(()) };
        running.get_or_try_init(|| self.scheduler.start()).await.copied()
    }
}

/// As it is: whoever made it runs it, or does not.
impl From<JobScheduler> for CronJobs {
    fn from(scheduler: JobScheduler) -> Self {
        Self { scheduler, running: None }
    }
}

/// Waits up to so long are slept: a machine that was suspended meanwhile reads that much late at most.
const SHORT_WAIT: Duration = Duration::from_secs(60);

/// How late a cycle may be before `health` calls it late.
const GRACE_PERIOD: Duration = Duration::from_secs(60);

impl CycleTiming {
    /// Whether a cycle has ended within twice the period before `now`, or within two minutes where that is longer.
    pub fn ready(&self, now: Time) -> bool {
        let period = (self.due.unwrap_or(self.began) - self.began).to_std().unwrap_or_default();
        self.ended.is_some_and(|ended| (now - ended).to_std().unwrap_or_default() <= 2 * period.max(GRACE_PERIOD))
    }

    /// Whether a cycle runs that still made progress at `last`, no longer ago than a period, and at least a minute.
    pub fn is_progressing(&self, last: Time, now: Time) -> bool {
        let runs = self.ended.is_none_or(|ended| ended < self.began);
        let period = (self.due.unwrap_or(self.began) - self.began).to_std().unwrap_or_default();
        runs && last >= self.began && (now - last).to_std().is_ok_and(|ago| ago <= period.max(GRACE_PERIOD))
    }

    /// Whether the cycles are on time at `now`: the next one is overdue by no more than a period, and at least a minute.
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
        // A clock that went back counts from where it is now.
        let went_back = (began - now).to_std().is_ok_and(|back| back >= GRACE_PERIOD);
        let next = if went_back { schedule.next_after(now) } else { due };
        let Some(next) = next else {
            tracing::error!(%account, schedule = schedule.text(), "schedule never comes again: no further cycle");
            return;
        };
        // Times that passed while the cycle ran, one or many, make one cycle: now.
        planned = next.max(now);
        record_timing(CycleTiming { began, ended, due: Some(planned) });
        tokio::select! {
            biased;
            () = shutdown.begun() => return,
            () = wait_until(planned, &jobs, &clock) => {}
        }
    }
}

/// The planned time, if it was kept to within a minute: so a reminder of 24 h comes on the schedule's own beat and not a
/// period later for want of a millisecond, and a clock that is slewed back a little makes no second cycle of one time.
/// After a jump of the clock the present counts.
fn planned_or_now(planned: Time, now: Time) -> Time {
    if (now - planned).abs().to_std().is_ok_and(|off| off < GRACE_PERIOD) { planned } else { now }
}

/// Waits until `due`, by the wall clock or by elapsed time, whichever says so first.
async fn wait_until(due: Time, jobs: &CronJobs, clock: &Arc<dyn Clock>) {
    let length = (due - clock.now()).to_std().unwrap_or_default();
    if length <= SHORT_WAIT {
        return clock.sleep(length).await;
    }
    let fired = Arc::new(Notify::new());
    let signal = Arc::clone(&fired);
    // The scheduler counts in whole seconds and may ring up to one too early; what is left then is slept.
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
        let _ = jobs.scheduler.remove(&id).await; // gone already if it rang
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
