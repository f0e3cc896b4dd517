//! Delivery queue: events that notifiers have not delivered yet, oldest first.

mod fallback;
mod limit;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::domain::alert::{AlertKey, TransitionKind};
use crate::domain::event::{Event, EventSubject};
use crate::domain::silence::SilenceSummary;
use crate::domain::{Name, Time};

pub(crate) use fallback::Handover;
pub use limit::MAX_QUEUED_PER_ALERT;

/// Events to deliver, oldest first, each with the notifiers that have not delivered it yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryQueue {
    events: Vec<QueuedEvent>,
    /// Threads that may have events in the queue: never fewer than there are, possibly more. Without it, queueing many events
    /// would take quadratic time.
    #[serde(skip)]
    threads: OnceLock<HashSet<EventThread>>,
}

impl PartialEq for DeliveryQueue {
    fn eq(&self, other: &Self) -> bool {
        self.events == other.events
    }
}

impl Eq for DeliveryQueue {}

/// One event and the notifiers that have not delivered it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedEvent {
    /// The event; shared with the messages that contain it.
    pub event: Arc<Event>,
    /// Deliveries by notifier; never empty. Boxed, because a node of the map has room for eleven.
    pub pending: BTreeMap<Name, Box<PendingDelivery>>,
}

/// Delivery of one event by one notifier.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PendingDelivery {
    /// Set if the notifier is the fallback of another: that notifier's name and failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place_of: Option<(Name, String)>,
    /// Message-ID of the first message about this alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Recipients that have not received it; `None` for all of the notifier's recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_recipients: Option<Vec<String>>,
    /// Number of events of the same alert, right before this one, that were dropped to keep the queue bounded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u32,
    /// Start of the first attempt that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Time>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// An event to queue, the argument of [`DeliveryQueue::enqueue`].
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Content of the event.
    pub subject: EventSubject,
    /// Time at which it is queued.
    pub at: Time,
    /// Planned time of the cycle that evaluated its alert, if it has an alert.
    pub evaluated_at: Option<Time>,
    /// Notifiers that are to deliver it. If there are none, nothing is queued.
    pub recipients: BTreeSet<Name>,
    /// Message-ID of the alert's first message, by notifier.
    pub threads: BTreeMap<Name, Option<String>>,
    /// Silence about the alert.
    pub silence: Option<SilenceSummary>,
    /// Notifiers that must not deliver it, not even as a fallback.
    pub excluded: BTreeSet<Name>,
}

impl NewEvent {
    /// Creates an event that continues no message and shows no silence.
    pub fn notice(subject: EventSubject, at: Time, recipients: BTreeSet<Name>) -> Self {
        let (threads, excluded) = (BTreeMap::new(), BTreeSet::new());
        Self { subject, at, evaluated_at: None, recipients, threads, silence: None, excluded }
    }
}

impl DeliveryQueue {
    /// Returns the queued events, oldest first.
    pub fn events(&self) -> &[QueuedEvent] {
        &self.events
    }

    /// Iterates over the queued events, oldest first.
    pub fn iter(&self) -> std::slice::Iter<'_, QueuedEvent> {
        self.events.iter()
    }

    /// Returns the number of queued events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns `true` if nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Drops every event, whether it was delivered or not.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Queues an event, unless it has no recipients.
    pub fn enqueue(&mut self, new: NewEvent) {
        let NewEvent { subject, at, evaluated_at, recipients, mut threads, silence, excluded } = new;
        if recipients.is_empty() {
            return;
        }
        let (thread, evaluated_at) = (EventThread::of(&subject), evaluated_at.filter(|evaluated| *evaluated != at));
        let continues = self.may_contain(&thread);
        let id = if continues { self.unused_id(&subject, at) } else { first_id(&subject, at) };
        let audience = &recipients | &excluded;
        let event = Arc::new(Event { id, at, evaluated_at, subject, silence, audience });
        let mut new_delivery = |name: &Name| {
            let thread = threads.remove(name).flatten();
            (name.clone(), Box::new(PendingDelivery { thread, ..PendingDelivery::default() }))
        };
        let pending = recipients.iter().map(&mut new_delivery).collect();
        self.events.push(QueuedEvent { event, pending });
        if continues {
            self.limit_thread(&recipients, &thread);
        } else if let Some(threads) = self.threads.get_mut() {
            threads.insert(thread);
        }
    }

    /// Returns what is pending for a notifier, oldest first.
    pub fn pending_for<'a>(&'a self, notifier: &'a str) -> impl Iterator<Item = (&'a Arc<Event>, &'a PendingDelivery)> {
        self.events
            .iter()
            .filter_map(move |queued| queued.pending.get(notifier).map(|delivery| (&queued.event, &**delivery)))
    }

    /// Returns the notifiers that have pending events of the present alert with this key, later than any `resolved`.
    pub(crate) fn pending_notifiers(&self, key: &AlertKey) -> BTreeSet<Name> {
        let mut names = BTreeSet::new();
        let thread = EventThread::Alert(key.clone());
        if !self.may_contain(&thread) {
            return names;
        }
        for queued in self.events.iter().filter(|queued| thread.contains(&queued.event)) {
            if queued.event.kind() == Some(TransitionKind::Resolved) {
                names.clear();
            } else {
                names.extend(queued.pending.keys().cloned());
            }
        }
        names
    }

    /// Keeps the pending events of an alert from being handed over to these notifiers.
    pub(crate) fn exclude(&mut self, key: &AlertKey, notifiers: &BTreeSet<Name>) {
        let thread = EventThread::Alert(key.clone());
        for queued in self.events.iter_mut().filter(|queued| thread.contains(&queued.event)) {
            Arc::make_mut(&mut queued.event).audience.extend(notifiers.iter().cloned());
        }
    }

    /// Marks events as delivered by a notifier. They stay pending for `deferred` recipients, if there are any. Later events of
    /// the same alerts continue the thread of this message.
    pub(crate) fn mark_delivered(
        &mut self,
        notifier: &str,
        ids: &BTreeSet<String>,
        message_id: Option<&str>,
        deferred: &[String],
    ) {
        let delivered = self.events.iter().filter(|queued| ids.contains(&queued.event.id));
        let threads: HashSet<EventThread> = delivered.map(|queued| EventThread::of(&queued.event.subject)).collect();
        for queued in self.events.iter_mut().filter(|queued| !ids.contains(&queued.event.id)) {
            let Some(delivery) = queued.pending.get_mut(notifier).filter(|delivery| delivery.thread.is_none()) else {
                continue;
            };
            if threads.contains(&EventThread::of(&queued.event.subject)) {
                delivery.thread = message_id.map(str::to_owned);
            }
        }
        self.keep_pending_for(notifier, ids, deferred);
    }

    /// Marks events as permanently rejected by a notifier. They stay pending for recipients that were not attempted.
    pub fn mark_refused(&mut self, notifier: &str, ids: &BTreeSet<String>, not_attempted: &[String]) {
        self.keep_pending_for(notifier, ids, not_attempted);
    }

    /// Leaves these events pending for some recipients of a notifier only, or for none.
    fn keep_pending_for(&mut self, notifier: &str, ids: &BTreeSet<String>, recipients: &[String]) {
        for queued in self.events.iter_mut().filter(|queued| ids.contains(&queued.event.id)) {
            if recipients.is_empty() {
                queued.pending.remove(notifier);
            } else if let Some(delivery) = queued.pending.get_mut(notifier) {
                delivery.remaining_recipients = Some(recipients.to_vec());
                delivery.failing_since = None;
            }
        }
        self.drop_delivered();
    }

    /// Marks events as done for recipients that were retried separately, whether they received or permanently rejected them.
    pub fn mark_recipients_done(&mut self, notifier: &str, ids: &BTreeSet<String>, recipients: &[String]) {
        for queued in self.events.iter_mut().filter(|queued| ids.contains(&queued.event.id)) {
            let delivery = queued.pending.get_mut(notifier);
            let Some(remaining) = delivery.and_then(|delivery| delivery.remaining_recipients.as_mut()) else {
                continue;
            };
            remaining.retain(|recipient| !recipients.contains(recipient));
            if remaining.is_empty() {
                queued.pending.remove(notifier);
            }
        }
        self.drop_delivered();
    }

    /// Records that an attempt to deliver these events, begun at `since`, failed. Returns `true` if this changed anything.
    pub fn mark_failing(&mut self, notifier: &str, ids: &BTreeSet<String>, since: Time) -> bool {
        let mut changed = false;
        for queued in self.events.iter_mut().filter(|queued| ids.contains(&queued.event.id)) {
            let Some(delivery) = queued.pending.get_mut(notifier) else { continue };
            let first = delivery.failing_since.map_or(since, |before| before.min(since));
            changed |= delivery.failing_since.replace(first) != Some(first);
        }
        changed
    }

    /// Returns the start of the oldest failure among what is pending for a notifier.
    pub fn oldest_failure(&self, notifier: &str) -> Option<Time> {
        self.pending_for(notifier).filter_map(|(_, delivery)| delivery.failing_since).min()
    }

    /// Returns the start of every failure among what is pending for a notifier, to be changed.
    pub(crate) fn failures_mut<'a>(&'a mut self, notifier: &'a str) -> impl Iterator<Item = &'a mut Time> {
        self.events.iter_mut().filter_map(|queued| queued.pending.get_mut(notifier)?.failing_since.as_mut())
    }

    /// Drops what is pending for notifiers that are no longer configured. Returns the number of events by notifier.
    pub(crate) fn drop_unconfigured_notifiers(&mut self, configured: impl Fn(&str) -> bool) -> BTreeMap<Name, usize> {
        let mut dropped = BTreeMap::new();
        for queued in &mut self.events {
            queued.pending.retain(|name, _| {
                let keep = configured(name);
                if !keep {
                    *dropped.entry(name.clone()).or_insert(0) += 1;
                }
                keep
            });
        }
        self.drop_delivered();
        dropped
    }

    fn drop_delivered(&mut self) {
        self.events.retain(|queued| !queued.pending.is_empty());
        if self.events.is_empty() {
            self.threads.take();
        }
    }

    /// Returns `false` if nothing of this thread is queued; `true` if something may be.
    fn may_contain(&self, thread: &EventThread) -> bool {
        let threads = || self.events.iter().map(|queued| EventThread::of(&queued.event.subject)).collect();
        self.threads.get_or_init(threads).contains(thread)
    }

    fn unused_id(&self, subject: &EventSubject, at: Time) -> String {
        let first = first_id(subject, at);
        let mut id = first.clone();
        for n in 2.. {
            if self.events.iter().all(|queued| queued.event.id != id) {
                break;
            }
            id = format!("{first}.{n}");
        }
        id
    }
}

impl<'a> IntoIterator for &'a DeliveryQueue {
    type Item = &'a QueuedEvent;
    type IntoIter = std::slice::Iter<'a, QueuedEvent>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn first_id(subject: &EventSubject, at: Time) -> String {
    format!("{}@{}", subject.identity(), at.timestamp_micros())
}

/// Alert that an event belongs to, or the notices of one kind about one thing. Events of a thread are delivered in order.
// The same distinction as `EventSubject::identity`, without making a text of every event: thousands may be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventThread {
    /// Alert that the event belongs to.
    Alert(AlertKey),
    /// Identity of a notice.
    Notice(String),
}

impl EventThread {
    /// Returns the thread of an event.
    pub fn of(subject: &EventSubject) -> Self {
        subject.alert().map_or_else(|| Self::Notice(subject.identity()), |key| Self::Alert(key.clone()))
    }

    fn contains(&self, event: &Event) -> bool {
        match (self, event.alert()) {
            // Divisions first: the number is what differs most often, and is cheap to compare.
            (Self::Alert(mine), Some(key)) => mine.division == key.division && mine == key,
            (Self::Notice(mine), None) => *mine == event.subject.identity(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
