//! Handling of a notifier that keeps failing: events are handed over to its fallback, and the failure is reported through
//! the other notifiers.
//!
//! Nothing is sent here: events are queued, and the worker of the other notifier delivers them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::DeliveryWorker;
use crate::alerting::queue::NewEvent;
use crate::alerting::state::{NotifierFailure, State};
use crate::domain::alert::AlertKey;
use crate::domain::event::{Event, EventSubject};
use crate::domain::{Name, Time};
use crate::notify::delivery::backoff::DeliveryLane;

/// Time of failure after which the fallback takes over.
pub const FALLBACK_AFTER: Duration = Duration::from_secs(300);
/// Time of failure after which it is reported through the other notifiers.
pub const REPORT_AFTER: Duration = Duration::from_secs(3600);
/// Largest lead of a planned time over a clock that was slewed and not set.
const CLOCK_SLEW_TOLERANCE: chrono::Duration = chrono::Duration::minutes(1);

/// Events to hand over to the fallback.
struct FallbackHandover {
    /// Ids of events that are due now.
    due: BTreeSet<String>,
    error: String,
    /// Time until the next event is due.
    next: Option<Duration>,
}

impl DeliveryWorker {
    /// Hands over to the fallback after five minutes of failure, and reports the failure after an hour.
    pub(super) async fn handle_failure(&mut self) {
        let now = self.clock.now();
        let Some(failure) = self.current_failure(now).await else { return };
        if let Some(fallback) = self.route.fallback.clone() {
            self.hand_over(&fallback, &failure, now).await;
        }
        let age = (now - failure.since).to_std().unwrap_or_default();
        if age >= REPORT_AFTER && !failure.reported {
            self.report_failure(&failure.error, failure.since, now).await;
        }
    }

    async fn hand_over(&mut self, fallback: &Name, failure: &NotifierFailure, now: Time) {
        let FallbackHandover { due, error, .. } = self.due_handover(fallback, failure, now);
        if due.is_empty() {
            return;
        }
        let name = self.name.clone();
        let hand_over_events = |state: &mut State| {
            let handed = state.hand_over(&name, fallback, &error, Some(&due));
            (handed, handed > 0)
        };
        let handed = self.store.change(hand_over_events).await;
        if handed > 0 {
            tracing::warn!(notifier = %self.name, %fallback, events = handed, "notifier keeps failing, handing over to its fallback");
        }
    }

    /// Returns the events to hand over: those that have failed for five minutes, and everything that waits behind them. If
    /// the notifier itself has failed for that long, also events that have failed once or have waited that long.
    fn due_handover(&self, fallback: &Name, failure: &NotifierFailure, now: Time) -> FallbackHandover {
        let age = |since: Time| (now - since).to_std().unwrap_or_default();
        let mut handover = FallbackHandover { due: BTreeSet::new(), error: failure.error.clone(), next: None };
        self.store.read(|state| {
            let pending =
                || state.queue.pending_for(&self.name).filter(|(_, delivery)| delivery.remaining_recipients.is_none());
            let mut failing: BTreeMap<DeliveryLane, Duration> = BTreeMap::new();
            for (event, since) in pending().filter_map(|(event, delivery)| Some((event, delivery.failing_since?))) {
                let lane = self.lane_of(event);
                if self.backoff.attempts(&lane) > 0 {
                    let longest = failing.entry(lane).or_default();
                    *longest = (*longest).max(age(since));
                }
            }
            if failing.is_empty() && !self.backoff.notifier_is_failing() {
                return;
            }
            let whole = self.backoff.notifier_is_failing().then(|| age(failure.since));
            let mut older: HashMap<AlertKey, Duration> = HashMap::new();
            for (event, delivery) in pending() {
                let lane = self.lane_of(event);
                let alerts = lane.alerts(event);
                let waits_for = alerts.iter().filter_map(|alert| older.get(alert)).max().copied();
                let own = failing.get(&lane).copied().max(waits_for);
                if let Some(longest) = own {
                    failing.insert(lane.clone(), longest);
                    older.extend(alerts.into_iter().map(|alert| (alert, longest)));
                }
                if !event.may_be_handed_to(fallback) {
                    continue;
                }
                let has_failed = own.is_some() && delivery.failing_since.is_some();
                let with_the_rest = whole.map(|whole| if has_failed { whole } else { whole.min(waited(event, now)) });
                let Some(longest) = own.max(with_the_rest) else { continue };
                let left = FALLBACK_AFTER.saturating_sub(longest);
                if !left.is_zero() {
                    handover.next = Some(handover.next.map_or(left, |next| next.min(left)));
                    continue;
                }
                handover.due.insert(event.id.clone());
                if let Some(error) = self.backoff.error(&lane).filter(|error| !error.is_empty()) {
                    error.clone_into(&mut handover.error);
                }
            }
        });
        handover
    }

    /// Returns the current failure of the notifier. A failure that began in the future, because the clock went back, counts
    /// from now.
    async fn current_failure(&mut self, now: Time) -> Option<NotifierFailure> {
        let (failure, oldest) = self
            .store
            .read(|state| (state.failing_notifiers.get(&self.name).cloned(), state.queue.oldest_failure(&self.name)));
        let failure = failure?;
        if failure.since <= now && oldest.is_none_or(|oldest| oldest <= now) {
            return Some(failure);
        }
        let from_now = |state: &mut State| {
            let changed = state.count_failures_from(&self.name, now, |since| since > now);
            (state.failing_notifiers.get(&self.name).cloned(), changed)
        };
        self.store.change(from_now).await
    }

    async fn report_failure(&mut self, error: &str, since: Time, now: Time) {
        let (name, other_notifiers) = (self.name.clone(), self.other_notifiers());
        self.store
            .change(|state| {
                let subject = EventSubject::NotifierFailing { notifier: name.clone(), since, error: error.to_owned() };
                state.queue.enqueue(NewEvent::notice(subject, now, other_notifiers));
                if let Some(failure) = state.failing_notifiers.get_mut(&name) {
                    failure.reported = true;
                }
                ((), true)
            })
            .await;
        tracing::error!(notifier = %self.name, %since, error, "notifier has failed for an hour, reporting through all others");
    }

    /// Returns the time until the next step: a hand-over, or the report after an hour.
    pub(super) fn next_failure_step(&self) -> Option<Duration> {
        let now = self.clock.now();
        let failure = self.store.read(|state| state.failing_notifiers.get(&self.name).cloned())?;
        let fallback = self.route.fallback.as_ref();
        let handing = fallback.and_then(|fallback| self.due_handover(fallback, &failure, now).next);
        let age = (now - failure.since).to_std().unwrap_or_default();
        let reporting = Some(REPORT_AFTER.saturating_sub(age)).filter(|_| !failure.reported);
        let due = [handing, reporting].into_iter().flatten().filter(|due| !due.is_zero()).min()?;
        Some(due.max(Duration::from_millis(100)))
    }
}

/// Returns how long an event has waited. One from the future was queued before the clock went back, and so before anything
/// that counts from then.
fn waited(event: &Event, now: Time) -> Duration {
    match (now - event.at).to_std() {
        Ok(age) => age,
        Err(_) if event.at - now > CLOCK_SLEW_TOLERANCE => Duration::MAX,
        Err(_) => Duration::ZERO,
    }
}
