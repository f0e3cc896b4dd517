//! Choice of the part of a notifier's queue that is tried next, and the pauses after failures.
//!
//! A queue is divided into lanes. Order matters within a lane, and a lane that fails holds up no other. Each lane has its
//! own growing pauses. A failure may concern one lane or the whole notifier, and the status code does not tell which: some
//! servers answer 503 to one event that they cannot process, others 500 while their database is down. So the lanes decide:
//!
//! - After the failure of a lane, the next lane is tried at once, one of those with the fewest failures. Lanes that keep
//!   timing out thus leave every second attempt to the others. If [`LANES_UNTIL_NOTIFIER_FAILS`] different lanes fail
//!   without a success in between, the notifier itself is failing: it pauses as a whole, longer with each further lane that
//!   fails.
//! - A success ends that. Lanes that failed before it are independent failures: later failures pause only them.
//! - A pause that the server asks for (`Retry-After`) applies to the whole notifier.
//!
//! A server that is down is thus tried three times, and then as rarely as with one pending event. An alert that is rejected
//! costs the others nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::retry_delay;
use crate::alerting::queue::EventThread;
use crate::domain::Name;
use crate::domain::alert::AlertKey;
use crate::domain::event::{Event, EventSubject};
use crate::util::clock::Clock;

/// Number of different lanes that have to fail in a row before the notifier counts as failing.
const LANES_UNTIL_NOTIFIER_FAILS: usize = 3;

/// A part of the queue that is delivered in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum DeliveryLane {
    /// Events that are sent together as one message.
    Combined,
    /// Events of one alert, or notices of one kind, sent one at a time.
    Single(EventThread),
    /// Notices that end the same alerts because their division is gone.
    EndedAlerts(Vec<AlertKey>),
    /// Events pending for one recipient that is retried alone.
    RetriedRecipient(String),
}

impl DeliveryLane {
    /// Returns the lane of an event that is pending for all recipients. A report never shares a message.
    pub(super) fn of(event: &Event, one_by_one: bool) -> Self {
        let single = one_by_one || event.report().is_some();
        match &event.subject {
            _ if !single => Self::Combined,
            EventSubject::Unwatched { .. } => Self::EndedAlerts(alerts_of(event)),
            _ => Self::Single(EventThread::of(&event.subject)),
        }
    }

    /// Returns the alerts of an event, if their order has to be kept between lanes.
    pub(super) fn alerts(&self, event: &Event) -> Vec<AlertKey> {
        if *self == Self::Combined { Vec::new() } else { alerts_of(event) }
    }

    /// Returns the maximum number of events in one message.
    pub(super) fn max_events_per_message(&self) -> usize {
        if *self == Self::Combined { usize::MAX } else { 1 }
    }
}

/// A lane with pending events.
#[derive(Debug)]
pub(super) struct LaneCandidate {
    pub(super) lane: DeliveryLane,
    /// True if a pending event is about level critical.
    pub(super) critical: bool,
    /// Position of the oldest event in the queue.
    pub(super) place: usize,
}

/// Returns the alerts that an event is about: its own, or those that end because their division is gone.
fn alerts_of(event: &Event) -> Vec<AlertKey> {
    match (&event.subject, event.alert()) {
        (_, Some(key)) => vec![key.clone()],
        (EventSubject::Unwatched { account, division, rules, .. }, None) => {
            let key = |rule: &Name| AlertKey { account: account.clone(), division: *division, rule: rule.clone() };
            rules.iter().map(key).collect()
        }
        _ => Vec::new(),
    }
}

type PauseTimer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Failure of a lane.
#[derive(Default)]
struct LaneFailure {
    attempts: u32,
    error: String,
    pause: Option<PauseTimer>,
    /// True if another lane succeeded since the failure: only this lane fails, not the notifier.
    is_independent: bool,
}

/// Failures of one notifier's lanes. Kept in memory only: after a restart each lane is tried at once. A reload keeps them.
pub(super) struct LaneBackoff {
    clock: Arc<dyn Clock>,
    failures: BTreeMap<DeliveryLane, LaneFailure>,
    /// Lanes that failed since the last success, without those that fail independently.
    recent_failures: BTreeSet<DeliveryLane>,
    /// Pause of the whole notifier.
    pause: Option<PauseTimer>,
    /// True if the last attempt failed.
    last_failed: bool,
}

impl LaneBackoff {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, failures: BTreeMap::new(), recent_failures: BTreeSet::new(), pause: None, last_failed: false }
    }

    /// Returns true if the notifier itself is failing, and not only some lanes.
    pub(super) fn notifier_is_failing(&self) -> bool {
        self.recent_failures.len() >= LANES_UNTIL_NOTIFIER_FAILS
    }

    /// Returns true if the last attempt of every lane succeeded.
    pub(super) fn has_no_failures(&self) -> bool {
        self.failures.is_empty() && self.recent_failures.is_empty()
    }

    /// Returns true if a lane may be tried now.
    pub(super) fn is_ready(&self, lane: &DeliveryLane) -> bool {
        self.pause.is_none() && self.failures.get(lane).is_none_or(|it| it.pause.is_none())
    }

    /// Returns the number of failures of a lane in a row.
    pub(super) fn attempts(&self, lane: &DeliveryLane) -> u32 {
        self.failures.get(lane).map_or(0, |it| it.attempts)
    }

    /// Returns the last error of a lane.
    pub(super) fn error(&self, lane: &DeliveryLane) -> Option<&str> {
        self.failures.get(lane).map(|it| it.error.as_str())
    }

    /// Returns the lane to try now: the most severe one, then the one whose oldest event has waited longest. After a
    /// failure, one of those with the fewest failures. While the notifier itself fails, lanes are taken from both ends of
    /// that order in turn: if all critical events are rejected, a warning shows that others are accepted.
    pub(super) fn next_lane(&self, candidates: impl Iterator<Item = LaneCandidate>) -> Option<DeliveryLane> {
        let order = |it: &LaneCandidate| (!it.critical, it.place);
        let mut ready: Vec<LaneCandidate> = candidates.filter(|it| self.is_ready(&it.lane)).collect();
        if self.last_failed {
            let least = ready.iter().map(|it| self.attempts(&it.lane)).min()?;
            ready.retain(|it| self.attempts(&it.lane) == least);
        }
        let from_the_end = self.notifier_is_failing() && !self.recent_failures.len().is_multiple_of(2);
        let chosen =
            if from_the_end { ready.into_iter().max_by_key(order) } else { ready.into_iter().min_by_key(order) };
        chosen.map(|it| it.lane)
    }

    /// Records a success of these lanes. Lanes that paused only because the notifier failed need not wait any longer.
    pub(super) fn succeeded(&mut self, lanes: &[DeliveryLane]) {
        let recovered =
            self.notifier_is_failing() || lanes.iter().any(|lane| matches!(lane, DeliveryLane::RetriedRecipient(_)));
        for lane in lanes {
            self.forget(lane);
        }
        for (lane, failure) in &mut self.failures {
            if matches!(lane, DeliveryLane::RetriedRecipient(_)) {
                continue;
            }
            let at_the_same_time = !std::mem::replace(&mut failure.is_independent, true);
            if recovered && at_the_same_time {
                failure.pause = None;
            }
        }
        self.recent_failures.clear();
        self.last_failed = false;
    }

    /// Forgets the failures of a lane with nothing pending.
    pub(super) fn forget(&mut self, lane: &DeliveryLane) {
        self.failures.remove(lane);
        self.recent_failures.remove(lane);
    }

    /// Forgets the failures of all lanes with nothing pending.
    pub(super) fn retain(&mut self, pending: impl Fn(&DeliveryLane) -> bool) {
        self.failures.retain(|lane, _| pending(lane));
        self.recent_failures.retain(|lane| pending(lane));
    }

    /// Records the failure of one message: of one lane, or of several recipients that are retried alone. `retry_after` is
    /// the pause that the server asks for. Returns the number of failures in a row.
    pub(super) fn failed(&mut self, lanes: &[DeliveryLane], error: &str, retry_after: Option<Duration>) -> u32 {
        let attempts = lanes.iter().map(|lane| self.attempts(lane)).max().unwrap_or_default().saturating_add(1);
        let length = retry_delay(attempts, retry_after, jitter());
        for lane in lanes {
            let pause = self.sleep(length);
            let failure = self.failures.entry(lane.clone()).or_default();
            failure.attempts = attempts;
            error.clone_into(&mut failure.error);
            failure.pause = Some(pause);
            if !failure.is_independent && !matches!(lane, DeliveryLane::RetriedRecipient(_)) {
                self.recent_failures.insert(lane.clone());
            }
        }
        let more = self.recent_failures.len().checked_sub(LANES_UNTIL_NOTIFIER_FAILS);
        let more = more.and_then(|more| u32::try_from(more).ok()).map(|more| more.saturating_add(1));
        let more = more.or_else(|| retry_after.map(|_| 1));
        self.pause = more.map(|more| self.sleep(retry_delay(more, retry_after, jitter())));
        self.last_failed = true;
        attempts
    }

    /// Ends the pause of a lane, because it has a new event.
    pub(super) fn end_pause(&mut self, lane: &DeliveryLane) {
        if let Some(failure) = self.failures.get_mut(lane) {
            failure.pause = None;
        }
    }

    /// Restarts the count of failures. Pauses continue, because a server may have asked for them.
    pub(super) fn reset_failure_counts(&mut self) {
        self.failures.values_mut().for_each(|failure| failure.attempts = 0);
        self.recent_failures.clear();
    }

    /// Removes the pauses that are over. A pause starts when it is first polled.
    pub(super) async fn end_expired_pauses(&mut self) {
        poll_fn(|context| {
            self.poll_pauses(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Waits until one of the pauses is over.
    pub(super) async fn pause_ended(&mut self) {
        poll_fn(|context| if self.poll_pauses(context) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn poll_pauses(&mut self, context: &mut Context<'_>) -> bool {
        let own = self.failures.values_mut().map(|failure| &mut failure.pause);
        let mut over = false;
        for pause in own.chain([&mut self.pause]) {
            if pause.as_mut().is_some_and(|pause| pause.as_mut().poll(context).is_ready()) {
                *pause = None;
                over = true;
            }
        }
        over
    }

    fn sleep(&self, length: Duration) -> PauseTimer {
        let clock = Arc::clone(&self.clock);
        Box::pin(async move { clock.sleep(length).await })
    }
}

fn jitter() -> f64 {
    rand::random_range(0.75..1.25)
}
