//! A notifier that keeps failing: its fallback is asked, and in the end everybody else hears of it.
//!
//! Nothing is sent here: what is handed over or reported is owed, and its worker delivers it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::Worker;
use crate::alerting::state::{State, Trouble};
use crate::domain::alert::AlertKey;
use crate::domain::event::{Event, Subject};
use crate::domain::{Name, Time};
use crate::notify::delivery::backoff::Lane;

/// After so much failure the fallback is asked.
pub const FALLBACK_AFTER: Duration = Duration::from_secs(300);
/// After so much failure the other notifiers are told.
pub const REPORT_AFTER: Duration = Duration::from_secs(3600);
/// A planned time may be so far ahead of a clock that was not set but slewed.
const SLEWED: chrono::Duration = chrono::Duration::minutes(1);

/// What the fallback is to be asked for.
struct Handover {
    /// Events that are due now, with the last error.
    due: BTreeSet<String>,
    error: String,
    /// How long until the next is due.
    next: Option<Duration>,
}

impl Worker {
    /// After five minutes of failure the fallback is asked; after an hour everybody else hears of it.
    pub(super) async fn escalate(&mut self) {
        let now = self.clock.now();
        let Some(trouble) = self.trouble(now).await else { return };
        if let Some(fallback) = self.desk.fallback.clone() {
            self.hand_over(&fallback, &trouble, now).await;
        }
        let age = (now - trouble.since).to_std().unwrap_or_default();
        if age >= REPORT_AFTER && !trouble.reported {
            self.report(&trouble.error, trouble.since, now).await;
        }
    }

    async fn hand_over(&mut self, fallback: &Name, trouble: &Trouble, now: Time) {
        let Handover { due, error, .. } = self.handover(fallback, trouble, now);
        if due.is_empty() {
            return;
        }
        let name = self.name.clone();
        let hand = |state: &mut State| {
            let handed = state.hand_over(&name, fallback, &error, Some(&due));
            (handed, handed > 0)
        };
        let handed = self.book.change(hand).await;
        if handed > 0 {
            tracing::warn!(notifier = %self.name, %fallback, events = handed, "notifier keeps failing: its fallback is asked");
        }
    }

    /// The fallback gets what has failed for five minutes, and with it everything that waits behind it. Where the notifier
    /// itself has failed for so long, it also gets what has failed once, or has waited so long.
    fn handover(&self, fallback: &Name, trouble: &Trouble, now: Time) -> Handover {
        let age = |since: Time| (now - since).to_std().unwrap_or_default();
        let mut handover = Handover { due: BTreeSet::new(), error: trouble.error.clone(), next: None };
        self.book.read(|state| {
            let pending = || state.owed_to(&self.name).filter(|(_, owing)| owing.only.is_none());
            let mut failing: BTreeMap<Lane, Duration> = BTreeMap::new();
            for (event, since) in pending().filter_map(|(event, owing)| Some((event, owing.failing_since?))) {
                let lane = self.lane_of(event);
                if self.lanes.tries(&lane) > 0 {
                    let longest = failing.entry(lane).or_default();
                    *longest = (*longest).max(age(since));
                }
            }
            if failing.is_empty() && !self.lanes.all_fail() {
                return;
            }
            let whole = self.lanes.all_fail().then(|| age(trouble.since));
            let mut older: HashMap<AlertKey, Duration> = HashMap::new();
            for (event, owing) in pending() {
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
                let has_failed = own.is_some() && owing.failing_since.is_some();
                let with_the_rest = whole.map(|whole| if has_failed { whole } else { whole.min(waited(event, now)) });
                let Some(longest) = own.max(with_the_rest) else { continue };
                let left = FALLBACK_AFTER.saturating_sub(longest);
                if !left.is_zero() {
                    handover.next = Some(handover.next.map_or(left, |next| next.min(left)));
                    continue;
                }
                handover.due.insert(event.id.clone());
                if let Some(error) = self.lanes.error(&lane).filter(|error| !error.is_empty()) {
                    error.clone_into(&mut handover.error);
                }
            }
        });
        handover
    }

    /// Its failure, if it fails. One that began in the future (the clock went back) counts from now.
    async fn trouble(&mut self, now: Time) -> Option<Trouble> {
        let (trouble, oldest) =
            self.book.read(|state| (state.notifiers.get(&self.name).cloned(), state.oldest_failure(&self.name)));
        let trouble = trouble?;
        if trouble.since <= now && oldest.is_none_or(|oldest| oldest <= now) {
            return Some(trouble);
        }
        let from_now = |state: &mut State| {
            let changed = state.count_failures_from(&self.name, now, |since| since > now);
            (state.notifiers.get(&self.name).cloned(), changed)
        };
        self.book.change(from_now).await
    }

    async fn report(&mut self, error: &str, since: Time, now: Time) {
        let (name, others) = (self.name.clone(), self.others());
        self.book
            .change(|state| {
                let subject = Subject::NotifierFailing { notifier: name.clone(), since, error: error.to_owned() };
                state.owe(subject, now, &others, &BTreeMap::new());
                if let Some(trouble) = state.notifiers.get_mut(&name) {
                    trouble.reported = true;
                }
                ((), true)
            })
            .await;
        tracing::error!(notifier = %self.name, %since, error, "notifier has failed for an hour: reported through all others");
    }

    /// How long until something is due here: a hand-over, or the report of an hour's failure.
    pub(super) fn escalation_due(&self) -> Option<Duration> {
        let now = self.clock.now();
        let trouble = self.book.read(|state| state.notifiers.get(&self.name).cloned())?;
        let fallback = self.desk.fallback.as_ref();
        let handing = fallback.and_then(|fallback| self.handover(fallback, &trouble, now).next);
        let age = (now - trouble.since).to_std().unwrap_or_default();
        let reporting = Some(REPORT_AFTER.saturating_sub(age)).filter(|_| !trouble.reported);
        let due = [handing, reporting].into_iter().flatten().filter(|due| !due.is_zero()).min()?;
        Some(due.max(Duration::from_millis(100)))
    }
}

/// How long an event has waited. One from the future was queued before the clock went back, and so before anything that
/// counts from then.
fn waited(event: &Event, now: Time) -> Duration {
    match (now - event.at).to_std() {
        Ok(age) => age,
        Err(_) if event.at - now > SLEWED => Duration::MAX,
        Err(_) => Duration::ZERO,
    }
}
