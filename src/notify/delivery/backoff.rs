//! Which part of a notifier's queue is tried next, and the pauses after failures.
//!
//! A queue is divided into lanes: order matters within a lane, and a lane that fails holds up no other. Each has growing
//! pauses of its own. What fails is either the lane or the notifier, and no status code tells which: some servers answer 503
//! to one event that they cannot digest, others 500 while their database is down. So the lanes decide:
//!
//! - After a lane's failure the next lane is tried at once, one that has failed least: lanes that run into time-outs again
//!   and again leave the others every second try. Where [`LANES_UNTIL_NOTIFIER_FAILS`] different lanes fail and nothing succeeds
//!   between them, the notifier itself is failing: it pauses as a whole, longer with each further lane that fails.
//! - A success ends that. Lanes that failed until then fail by themselves: their later failures pause them alone.
//! - A pause that the server asks for (`Retry-After`) is one of the notifier as a whole.
//!
//! So a server that is down is asked three times, and then as rarely as if one event were pending; and one alert that is
//! refused costs the others nothing.

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

/// So many different lanes that fail in a row mean that the notifier fails.
const LANES_UNTIL_NOTIFIER_FAILS: usize = 3;

/// A part of a queue that is delivered in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum DeliveryLane {
    /// Everything that goes out as one message.
    Combined,
    /// One alert, or notices of one kind: one event at a time.
    Single(EventThread),
    /// Notices that end the same alerts, those of a division that is gone.
    EndedAlerts(Vec<AlertKey>),
    /// What a recipient that is retried alone is still to receive.
    RetriedRecipient(String),
}

impl DeliveryLane {
    /// The lane of an event that is still to reach everyone. A report is a page of its own: it shares a message with
    /// nothing.
    pub(super) fn of(event: &Event, one_by_one: bool) -> Self {
        let single = one_by_one || event.report().is_some();
        match &event.subject {
            _ if !single => Self::Combined,
            EventSubject::Unwatched { .. } => Self::EndedAlerts(alerts_of(event)),
            _ => Self::Single(EventThread::of(&event.subject)),
        }
    }

    /// The alerts that one of its events is about, as far as their order has to be kept between lanes.
    pub(super) fn alerts(&self, event: &Event) -> Vec<AlertKey> {
        if *self == Self::Combined { Vec::new() } else { alerts_of(event) }
    }

    /// So many of its events share a message.
    pub(super) fn max_events_per_message(&self) -> usize {
        if *self == Self::Combined { usize::MAX } else { 1 }
    }
}

/// A lane with something pending.
#[derive(Debug)]
pub(super) struct LaneCandidate {
    pub(super) lane: DeliveryLane,
    /// Something in it is about critical.
    pub(super) critical: bool,
    /// Place of its oldest event in the queue.
    pub(super) place: usize,
}

/// The alerts that an event is about: its own, or those that end because their division is gone.
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

/// What is known of a lane that failed.
#[derive(Default)]
struct LaneFailure {
    attempts: u32,
    error: String,
    pause: Option<PauseTimer>,
    /// Something else was delivered meanwhile: it fails by itself.
    is_independent: bool,
}

/// The lanes of one notifier that failed, in memory only: after a restart each is tried at once. A reload keeps them.
pub(super) struct LaneBackoff {
    clock: Arc<dyn Clock>,
    failures: BTreeMap<DeliveryLane, LaneFailure>,
    /// Lanes that failed since the last success, but for those that fail by themselves.
    recent_failures: BTreeSet<DeliveryLane>,
    /// Nothing is sent before it is over.
    pause: Option<PauseTimer>,
    /// The last try failed.
    last_failed: bool,
}

impl LaneBackoff {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, failures: BTreeMap::new(), recent_failures: BTreeSet::new(), pause: None, last_failed: false }
    }

    /// Whether the notifier itself is failing, and not only some lanes.
    pub(super) fn notifier_is_failing(&self) -> bool {
        self.recent_failures.len() >= LANES_UNTIL_NOTIFIER_FAILS
    }

    /// Whether every lane was delivered when it was last tried.
    pub(super) fn has_no_failures(&self) -> bool {
        self.failures.is_empty() && self.recent_failures.is_empty()
    }

    /// Whether a lane may be tried now.
    pub(super) fn is_ready(&self, lane: &DeliveryLane) -> bool {
        self.pause.is_none() && self.failures.get(lane).is_none_or(|it| it.pause.is_none())
    }

    /// How often a lane failed in a row.
    pub(super) fn attempts(&self, lane: &DeliveryLane) -> u32 {
        self.failures.get(lane).map_or(0, |it| it.attempts)
    }

    /// The last error of a lane.
    pub(super) fn error(&self, lane: &DeliveryLane) -> Option<&str> {
        self.failures.get(lane).map(|it| it.error.as_str())
    }

    /// The lane to try now: the most severe, then the one whose oldest event has waited longest. After a failure, one that has
    /// failed least; and while the notifier itself fails, from both ends of that order in turn: if all that is critical is
    /// refused, a warning shows that the rest passes.
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

    /// Notes that lanes were delivered. What paused meanwhile because the notifier failed need not wait any longer.
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

    /// Forgets a lane that has nothing pending.
    pub(super) fn forget(&mut self, lane: &DeliveryLane) {
        self.failures.remove(lane);
        self.recent_failures.remove(lane);
    }

    /// Forgets the lanes that have nothing pending.
    pub(super) fn retain(&mut self, pending: impl Fn(&DeliveryLane) -> bool) {
        self.failures.retain(|lane, _| pending(lane));
        self.recent_failures.retain(|lane| pending(lane));
    }

    /// Notes a failure of one message: of one lane, or of several recipients that are retried alone. `retry_after` is the pause
    /// that the server asks for. Returns how often it has failed.
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

    /// Ends a lane's own pause: there is something new in it.
    pub(super) fn end_pause(&mut self, lane: &DeliveryLane) {
        if let Some(failure) = self.failures.get_mut(lane) {
            failure.pause = None;
        }
    }

    /// Begins to count failures anew. Pauses stay: a server may have asked for them.
    pub(super) fn reset_failure_counts(&mut self) {
        self.failures.values_mut().for_each(|failure| failure.attempts = 0);
        self.recent_failures.clear();
    }

    /// Ends the pauses that are over. A pause begins when it is first looked at.
    pub(super) async fn end_expired_pauses(&mut self) {
        poll_fn(|context| {
            self.poll_pauses(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Waits until a pause is over.
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
