//! A notifier that keeps failing: its fallback is asked, and in the end everybody else hears of it.
//!
//! Nothing is sent here: what is handed over or reported is owed, and its worker delivers it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::DeliveryWorker;
use crate::alerting::queue::NewEvent;
use crate::alerting::state::{NotifierFailure, State};
use crate::domain::alert::AlertKey;
use crate::domain::event::{Event, EventSubject};
use crate::domain::{Name, Time};
use crate::notify::delivery::backoff::DeliveryLane;

/// After so much failure the fallback is asked.
pub const FALLBACK_AFTER: Duration = Duration::from_secs(300);
/// After so much failure the other notifiers are told.
pub const REPORT_AFTER: Duration = Duration::from_secs(3600);
/// A planned time may be so far ahead of a clock that was not set but slewed.
const CLOCK_SLEW_TOLERANCE: chrono::Duration = chrono::Duration::minutes(1);

/// What the fallback is to be asked for.
struct FallbackHandover {
    /// Events that are due now, with the last error.
    due: BTreeSet<String>,
    error: String,
    /// How long until the next is due.
    next: Option<Duration>,
}

impl DeliveryWorker {
    /// After five minutes of failure the fallback is asked; after an hour everybody else hears of it.
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
            tracing::warn!(notifier = %self.name, %fallback, events = handed, "notifier keeps failing: its fallback is asked");
        }
    }

    /// The fallback gets what has failed for five minutes, and with it everything that waits behind it. Where the notifier
    /// itself has failed for so long, it also gets what has failed once, or has waited so long.
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

    /// Its failure, if it fails. One that began in the future (the clock went back) counts from now.
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
        tracing::error!(notifier = %self.name, %since, error, "notifier has failed for an hour: reported through all others");
    }

    /// How long until something is due here: a hand-over, or the report of an hour's failure.
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

/// How long an event has waited. One from the future was queued before the clock went back, and so before anything that
/// counts from then.
fn waited(event: &Event, now: Time) -> Duration {
    match (now - event.at).to_std() {
        Ok(age) => age,
        Err(_) if event.at - now > CLOCK_SLEW_TOLERANCE => Duration::MAX,
        Err(_) => Duration::ZERO,
    }
}
