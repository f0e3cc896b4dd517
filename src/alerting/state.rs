//! What is remembered between cycles: alerts that are not ok, what is owed to whom, and which notifiers are in trouble.
//!
//! Pure operations on a value; saving it is the store's business, and so nothing here can be half done.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::alert::{Alert, AlertKey, LevelState, TransitionKind};
use crate::domain::event::{Event, EventSubject};
use crate::domain::money::Currency;
use crate::domain::report::LastReport;
use crate::domain::silence::{Silence, SilenceSummary, Suppressed};
use crate::domain::{Division, Name, Time};

/// Of one alert's events, so many are kept for a notifier that cannot be reached; those between are counted.
pub const MAX_QUEUED_PER_ALERT: usize = 10;

/// Everything that outlives the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Alerts that are not ok.
    #[serde(default, with = "as_list", skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<AlertKey, AlertRecord>,
    /// Events that somebody is still to be told, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<QueuedEvent>,
    /// Silences that were made by command, by their ids; those in the configuration stay there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub silences: BTreeMap<u32, Silence>,
    /// Notifiers whose last attempt failed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failing_notifiers: BTreeMap<Name, NotifierFailure>,
    /// The last page of each report: what the next one is compared with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reports: BTreeMap<Name, LastReport>,
}

/// An alert that is not ok, with what a message about it needs when it can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AlertRecord {
    /// Its life so far.
    #[serde(flatten)]
    pub alert: Alert,
    /// The division's name as last listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub division_name: Option<String>,
    /// Why an account or division is unreadable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of what is unreadable: the rules that could not be judged when the balance itself was read last; empty: it was not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unevaluated_rules: Vec<Name>,
    /// The currency of its last reading: amounts in another one say nothing about thresholds that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Set while it fires and a silence keeps people from hearing so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<Suppressed>,
}

/// An event to queue.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// What happened.
    pub subject: EventSubject,
    /// When it is queued.
    pub at: Time,
    /// The time that its alert was judged by, if it has one.
    pub evaluated_at: Option<Time>,
    /// Whom it is for; if empty, nothing is queued.
    pub recipients: &'a BTreeSet<Name>,
    /// The alert's threads so far, by notifier.
    pub threads: &'a BTreeMap<Name, Option<String>>,
    /// The silence about it.
    pub silence: Option<SilenceSummary>,
    /// Notifiers that must not get it, not even in place of another that fails.
    pub excluded: BTreeSet<Name>,
}

/// One event and who is still to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedEvent {
    /// The event; shared with the messages that are made of it.
    pub event: Arc<Event>,
    /// The notifiers that have not delivered it yet; never empty. Boxed, because a map has room for eleven.
    pub pending: BTreeMap<Name, Box<PendingDelivery>>,
}

/// What one notifier owes of one event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PendingDelivery {
    /// Set when this notifier tells it in place of another: that one's name and failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place_of: Option<(Name, String)>,
    /// Message-ID of the first message about this alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Recipients that are still to be reached; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_recipients: Option<Vec<String>>,
    /// Events of the same alert, right before this one, that were dropped to stay bounded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u32,
    /// Begin of the first of the tries that failed; `None`: none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Time>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde wants
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A notifier that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifierFailure {
    /// Its first failure since it last worked.
    pub since: Time,
    /// Its last failure, for people.
    pub error: String,
    /// The other notifiers have been told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reported: bool,
}

impl State {
    /// Owes an event to `recipients`. `notified` names the alert's threads so far. Owes nothing if there is nobody to tell.
    pub fn enqueue_one(
        &mut self,
        subject: EventSubject,
        at: Time,
        recipients: &BTreeSet<Name>,
        notified: &BTreeMap<Name, Option<String>>,
    ) {
        if recipients.is_empty() {
            return;
        }
        let (threads, excluded) = (notified, BTreeSet::new());
        let new = NewEvent { subject, at, evaluated_at: None, recipients, threads, silence: None, excluded };
        self.enqueue(new, &mut PendingIndex::of(self));
    }

    /// Queues an event that continues no message, for whoever queues many in a row.
    pub fn enqueue_notice(
        &mut self,
        subject: EventSubject,
        at: Time,
        recipients: &BTreeSet<Name>,
        index: &mut PendingIndex,
    ) {
        let (threads, excluded) = (&BTreeMap::new(), BTreeSet::new());
        self.enqueue(NewEvent { subject, at, evaluated_at: None, recipients, threads, silence: None, excluded }, index);
    }

    /// Queues an event, unless it has no recipients. `index` is of what is queued so far, for whoever queues many in a row.
    pub fn enqueue(&mut self, new: NewEvent<'_>, index: &mut PendingIndex) {
        let NewEvent { subject, at, evaluated_at, recipients, threads, silence, excluded } = new;
        if recipients.is_empty() {
            return;
        }
        let audience = recipients | &excluded;
        let evaluated_at = evaluated_at.filter(|evaluated| *evaluated != at);
        let event = Event { id: index.fresh_id(&subject, at), at, evaluated_at, subject, silence, audience };
        let thread = EventThread::of(&event);
        let may_have_more = index.insert(&event);
        let new_delivery = |name: &Name| {
            Box::new(PendingDelivery { thread: threads.get(name).cloned().flatten(), ..PendingDelivery::default() })
        };
        let pending = recipients.iter().map(|name| (name.clone(), new_delivery(name))).collect();
        self.queue.push(QueuedEvent { event: Arc::new(event), pending });
        if may_have_more {
            self.keep_bounded(recipients, &thread);
        }
    }

    /// Everyone who was told of the alert that lives now, or is about to be.
    pub fn notified_or_pending(&self, key: &AlertKey) -> BTreeSet<Name> {
        let mut names = BTreeSet::new();
        let of_alert =
            |queued: &&QueuedEvent| queued.event.alert().is_some_and(|it| it.division == key.division && it == key);
        for queued in self.queue.iter().filter(of_alert) {
            if queued.event.kind() == Some(TransitionKind::Resolved) {
                names.clear();
            } else {
                names.extend(queued.pending.keys().cloned());
            }
        }
        names.extend(self.notified_of(key));
        names
    }

    /// Everyone who was told of the alert that lives now.
    pub fn notified_of(&self, key: &AlertKey) -> impl Iterator<Item = Name> {
        self.alerts.get(key).into_iter().flat_map(|it| it.alert.notified.keys().cloned())
    }

    /// What a notifier owes, oldest first.
    pub fn pending_for<'a>(&'a self, notifier: &'a str) -> impl Iterator<Item = (&'a Arc<Event>, &'a PendingDelivery)> {
        self.queue
            .iter()
            .filter_map(move |queued| queued.pending.get(notifier).map(|delivery| (&queued.event, &**delivery)))
    }

    /// Marks events as delivered. `deferred` recipients, if any, stay owed alone.
    pub fn mark_delivered(
        &mut self,
        notifier: &Name,
        ids: &BTreeSet<String>,
        message_id: Option<&str>,
        deferred: &[String],
    ) {
        self.record_notified(notifier, ids, message_id);
        let sent = self.queue.iter().filter(|queued| ids.contains(&queued.event.id));
        let identities: BTreeSet<String> = sent.map(|queued| queued.event.subject.identity()).collect();
        for queued in self.queue.iter_mut().filter(|queued| !ids.contains(&queued.event.id)) {
            let Some(delivery) = queued.pending.get_mut(notifier).filter(|delivery| delivery.thread.is_none()) else {
                continue;
            };
            if identities.contains(&queued.event.subject.identity()) {
                delivery.thread = message_id.map(str::to_owned);
            }
        }
        self.keep_pending_for(notifier, ids, deferred);
    }

    /// Notes that somebody has received these events through a notifier.
    pub fn record_notified(&mut self, notifier: &Name, ids: &BTreeSet<String>, message_id: Option<&str>) {
        for queued in self.queue.iter().filter(|queued| ids.contains(&queued.event.id)) {
            let event = &queued.event;
            let Some(record) = event.alert().and_then(|key| self.alerts.get_mut(key)) else { continue };
            let is_of_current_alert = record.alert.since().is_some_and(|since| event.at >= since);
            if is_of_current_alert && record.alert.firing().is_some() && event.kind() != Some(TransitionKind::Resolved)
            {
                record.alert.notified.entry(notifier.clone()).or_insert_with(|| message_id.map(str::to_owned));
            }
        }
    }

    /// Leaves these events pending for some recipients only, or for nobody.
    fn keep_pending_for(&mut self, notifier: &str, ids: &BTreeSet<String>, recipients: &[String]) {
        for queued in self.queue.iter_mut().filter(|queued| ids.contains(&queued.event.id)) {
            if recipients.is_empty() {
                queued.pending.remove(notifier);
            } else if let Some(delivery) = queued.pending.get_mut(notifier) {
                delivery.remaining_recipients = Some(recipients.to_vec());
                delivery.failing_since = None;
            }
        }
        self.drop_delivered();
    }

    /// Marks events as settled for recipients that were retried alone, whether these took them or refused them for good.
    pub fn mark_recipients_done(&mut self, notifier: &str, ids: &BTreeSet<String>, recipients: &[String]) {
        for queued in self.queue.iter_mut().filter(|queued| ids.contains(&queued.event.id)) {
            let Some(remaining) =
                queued.pending.get_mut(notifier).and_then(|delivery| delivery.remaining_recipients.as_mut())
            else {
                continue;
            };
            remaining.retain(|recipient| !recipients.contains(recipient));
            if remaining.is_empty() {
                queued.pending.remove(notifier);
            }
        }
        self.drop_delivered();
    }

    /// Marks events as refused for good by a notifier. They stay pending for recipients that they were not offered to.
    pub fn mark_refused(&mut self, notifier: &str, ids: &BTreeSet<String>, not_attempted: &[String]) {
        self.keep_pending_for(notifier, ids, not_attempted);
    }

    /// Queues for `fallback` what `notifier` could not deliver, but for what that one was asked to tell before. Returns how
    /// many events.
    pub fn hand_over(
        &mut self,
        notifier: &Name,
        fallback: &Name,
        error: &str,
        ids: Option<&BTreeSet<String>>,
    ) -> usize {
        let is_selected = |event: &Event| ids.is_none_or(|ids| ids.contains(&event.id));
        let mut handovers = Vec::new();
        for (i, queued) in self.queue.iter().enumerate().filter(|(_, queued)| is_selected(&queued.event)) {
            // A lone recipient that is refused for the moment has neighbours who were reached: nobody needs telling instead.
            if let Some(delivery) =
                queued.pending.get(notifier).filter(|delivery| delivery.remaining_recipients.is_none())
            {
                handovers.push((i, fallback.clone(), (notifier.clone(), error.to_owned()), delivery.omitted));
            }
        }
        self.enqueue_handovers(handovers)
    }

    /// Follows a configuration in which notifiers have other fallbacks: what waits for one that is asked in place of a
    /// notifier is queued for the fallback that this notifier has now. Returns how many events.
    pub fn hand_over_to_new_fallbacks(&mut self, fallback_of: impl Fn(&str) -> Option<Name>) -> usize {
        let mut handovers = Vec::new();
        for (i, queued) in self.queue.iter().enumerate() {
            for delivery in queued.pending.values().filter(|delivery| delivery.remaining_recipients.is_none()) {
                let Some(in_place_of) = &delivery.in_place_of else { continue };
                handovers.extend(
                    fallback_of(&in_place_of.0).map(|fallback| (i, fallback, in_place_of.clone(), delivery.omitted)),
                );
            }
        }
        self.enqueue_handovers(handovers)
    }

    /// Queues events, by their places, for fallbacks that were not asked to tell them before: each is asked once, whatever
    /// became of it.
    fn enqueue_handovers(&mut self, handovers: Vec<(usize, Name, (Name, String), u32)>) -> usize {
        let mut threads = BTreeSet::new();
        let mut queued = 0;
        for (i, fallback, in_place_of, omitted) in handovers {
            let queued_event = &mut self.queue[i];
            if !queued_event.event.may_be_handed_to(&fallback) {
                continue;
            }
            Arc::make_mut(&mut queued_event.event).audience.insert(fallback.clone());
            let alert = queued_event.event.alert().and_then(|key| self.alerts.get(key));
            let thread = alert.and_then(|record| record.alert.notified.get(&fallback).cloned()?);
            let delivery =
                PendingDelivery { in_place_of: Some(in_place_of), omitted, thread, ..PendingDelivery::default() };
            queued_event.pending.insert(fallback.clone(), Box::new(delivery));
            threads.insert((EventThread::of(&queued_event.event), fallback));
            queued += 1;
        }
        for (thread, fallback) in threads {
            self.keep_bounded([&fallback], &thread);
        }
        queued
    }

    /// Notes that a try to deliver these events, begun at `since`, failed. Returns whether that is new of any.
    pub fn mark_failing(&mut self, notifier: &str, ids: &BTreeSet<String>, since: Time) -> bool {
        let mut new = false;
        for queued in self.queue.iter_mut().filter(|queued| ids.contains(&queued.event.id)) {
            let Some(delivery) = queued.pending.get_mut(notifier) else { continue };
            let first = delivery.failing_since.map_or(since, |before| before.min(since));
            new |= delivery.failing_since.replace(first) != Some(first);
        }
        new
    }

    /// Counts failures of a notifier and of its events from `now`, those for which `stale` holds. Returns whether there
    /// were any.
    pub fn count_failures_from(&mut self, notifier: &str, now: Time, stale: impl Fn(Time) -> bool) -> bool {
        let failure =
            self.failing_notifiers.get_mut(notifier).filter(|failure| !failure.reported || failure.since > now);
        let events =
            self.queue.iter_mut().filter_map(|queued| queued.pending.get_mut(notifier)?.failing_since.as_mut());
        let mut any = false;
        for since in failure.map(|failure| &mut failure.since).into_iter().chain(events).filter(|since| stale(**since))
        {
            *since = now;
            any = true;
        }
        any
    }

    /// Begin of the oldest failure among what is pending for a notifier.
    pub fn oldest_failure(&self, notifier: &str) -> Option<Time> {
        self.pending_for(notifier).filter_map(|(_, delivery)| delivery.failing_since).min()
    }

    /// Notes a failed attempt.
    pub fn record_failure(&mut self, notifier: &Name, error: &str, now: Time) -> &mut NotifierFailure {
        let fresh = || NotifierFailure { since: now, error: String::new(), reported: false };
        let failure = self.failing_notifiers.entry(notifier.clone()).or_insert_with(fresh);
        failure.since = failure.since.min(now);
        error.clone_into(&mut failure.error);
        failure
    }

    /// Drops what is owed to, and known of, notifiers that are no longer configured. Returns how much by notifier.
    pub fn drop_unconfigured_notifiers(&mut self, configured: impl Fn(&str) -> bool) -> BTreeMap<Name, usize> {
        let mut dropped = BTreeMap::new();
        for queued in &mut self.queue {
            queued.pending.retain(|name, _| {
                let keep = configured(name);
                if !keep {
                    *dropped.entry(name.clone()).or_insert(0) += 1;
                }
                keep
            });
        }
        self.failing_notifiers.retain(|name, _| configured(name));
        for record in self.alerts.values_mut() {
            record.alert.notified.retain(|name, _| configured(name));
        }
        self.drop_delivered();
        dropped
    }

    /// Tells notifiers that keep incidents of the failing ones that are no longer configured: nobody will say that they work
    /// again.
    pub fn end_removed_notifiers(
        &mut self,
        configured: impl Fn(&str) -> bool,
        incident_notifiers: &BTreeSet<Name>,
        now: Time,
    ) {
        let removed = self.failing_notifiers.iter().filter(|(name, failure)| failure.reported && !configured(name));
        let removed: Vec<Name> = removed.map(|(name, _)| name.clone()).collect();
        for notifier in removed {
            self.enqueue_one(EventSubject::NotifierRemoved { notifier }, now, incident_notifiers, &BTreeMap::new());
        }
    }

    /// Adds a silence. Returns its id, which none of those that are kept has.
    pub fn add_silence(&mut self, silence: Silence) -> u32 {
        let id = self.silences.last_key_value().map_or(1, |(id, _)| id.saturating_add(1));
        self.silences.insert(id, silence);
        id
    }

    /// Drops silences whose time has passed. Returns whether there were any.
    pub fn drop_ended_silences(&mut self, now: Time) -> bool {
        let before = self.silences.len();
        self.silences.retain(|_, silence| !silence.ended(now));
        self.silences.len() != before
    }

    fn drop_delivered(&mut self) {
        self.queue.retain(|queued| !queued.pending.is_empty());
    }

    /// For each of these notifiers and one alert (or report): drops reminders and pages that something newer follows, and
    /// all but the oldest and the newest.
    fn keep_bounded<'a>(&mut self, notifiers: impl IntoIterator<Item = &'a Name>, thread: &EventThread) {
        let of_thread: Vec<usize> = (0..self.queue.len()).filter(|i| thread.contains(&self.queue[*i].event)).collect();
        let mut dropped = false;
        for notifier in notifiers {
            let mine = |i: &usize| self.queue[*i].pending.contains_key(notifier);
            let mut places: Vec<usize> = of_thread.iter().copied().filter(mine).collect();
            let Some(newest) = places.last().copied() else { continue };
            let before = places.len();
            let mut failing_since = None;
            places.retain(|i| {
                let event = &self.queue[*i].event;
                let passing = event.kind() == Some(TransitionKind::Reminder) || event.report().is_some();
                let stale = *i != newest && passing;
                if stale {
                    let gone = self.queue[*i].pending.remove(notifier).and_then(|delivery| delivery.failing_since);
                    failing_since = failing_since.into_iter().chain(gone).min();
                }
                !stale
            });
            // What replaces an event that could not be sent has failed as long.
            if let Some(delivery) = self.queue[newest].pending.get_mut(notifier).filter(|_| failing_since.is_some()) {
                delivery.failing_since = failing_since;
            }
            if places.len() > MAX_QUEUED_PER_ALERT {
                let surplus = places.len() - MAX_QUEUED_PER_ALERT;
                let mut omitted = u32::try_from(surplus).unwrap_or(u32::MAX);
                for i in places.drain(1..=surplus) {
                    let its_own = self.queue[i].pending.remove(notifier).map_or(0, |delivery| delivery.omitted);
                    omitted = omitted.saturating_add(its_own);
                }
                if let Some(delivery) = self.queue[places[1]].pending.get_mut(notifier) {
                    delivery.omitted = delivery.omitted.saturating_add(omitted);
                }
            }
            dropped |= places.len() < before;
        }
        if dropped {
            self.drop_delivered();
        }
    }
}

/// What is owed, for whoever owes many events in a row: to look through all of it for each would take quadratic time. It may
/// know of more than is still owed, and never of less, as long as everything is owed through it.
#[derive(Debug)]
pub struct PendingIndex {
    ids: HashSet<String>,
    alerts: HashSet<AlertKey>,
}

impl PendingIndex {
    /// Of what is owed now.
    pub fn of(state: &State) -> Self {
        let events = || state.queue.iter().map(|queued| &*queued.event);
        Self {
            ids: events().map(|event| event.id.clone()).collect(),
            alerts: events().filter_map(Event::alert).cloned().collect(),
        }
    }

    /// Whether something of this alert may be owed.
    pub fn may_be_pending(&self, key: &AlertKey) -> bool {
        self.alerts.contains(key)
    }

    /// Adds an event. Returns whether something that it continues may be owed.
    fn insert(&mut self, event: &Event) -> bool {
        self.ids.insert(event.id.clone());
        event.alert().is_none_or(|key| !self.alerts.insert(key.clone()))
    }

    fn fresh_id(&self, subject: &EventSubject, at: Time) -> String {
        let stem = format!("{}@{}", subject.identity(), at.timestamp_micros());
        let mut id = stem.clone();
        for n in 2.. {
            if !self.ids.contains(&id) {
                break;
            }
            id = format!("{stem}.{n}");
        }
        id
    }
}

/// What an event continues: an alert, or the notices of one kind about the same thing. Within it, order matters.
// The same as `EventSubject::identity`, but without a text to be made of every event that is compared: thousands may be owed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventThread {
    /// The alert that it belongs to.
    Alert(AlertKey),
    /// What a notice is about.
    Notice(String),
}

impl EventThread {
    /// What `event` continues.
    pub fn of(event: &Event) -> Self {
        event.alert().map_or_else(|| Self::Notice(event.subject.identity()), |key| Self::Alert(key.clone()))
    }

    fn contains(&self, event: &Event) -> bool {
        match (self, event.alert()) {
            (Self::Alert(mine), Some(key)) => mine.division == key.division && mine == key,
            (Self::Notice(mine), None) => *mine == event.subject.identity(),
            _ => false,
        }
    }
}

/// JSON has no keys that are records: alerts are saved as a list.
mod as_list {
    use super::{Alert, AlertKey, AlertRecord, BTreeMap, Currency, Division, LevelState, Name, Suppressed, Time};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct SavedAlertRef<'a> {
        #[serde(flatten)]
        key: &'a AlertKey,
        #[serde(flatten)]
        record: &'a AlertRecord,
    }

    /// The same as it is read, field by field: what is flattened is read by way of a copy of every value, which takes thrice
    /// the time.
    #[derive(Deserialize)]
    struct SavedAlert {
        account: Name,
        #[serde(default)]
        division: Division,
        rule: Name,
        #[serde(default)]
        warning: Option<LevelState>,
        #[serde(default)]
        critical: Option<LevelState>,
        #[serde(default)]
        last_event: Option<Time>,
        #[serde(default)]
        notified: BTreeMap<Name, Option<String>>,
        #[serde(default)]
        division_name: Option<String>,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        unevaluated_rules: Vec<Name>,
        #[serde(default)]
        currency: Option<Currency>,
        #[serde(default)]
        suppressed: Option<Suppressed>,
    }

    impl From<SavedAlert> for (AlertKey, AlertRecord) {
        fn from(it: SavedAlert) -> Self {
            let key = AlertKey { account: it.account, division: it.division, rule: it.rule };
            let alert =
                Alert { warning: it.warning, critical: it.critical, last_event: it.last_event, notified: it.notified };
            let SavedAlert { division_name, reason, unevaluated_rules, currency, suppressed, .. } = it;
            (key, AlertRecord { alert, division_name, reason, unevaluated_rules, currency, suppressed })
        }
    }

    pub(crate) fn serialize<S: Serializer>(alerts: &BTreeMap<AlertKey, AlertRecord>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(alerts.iter().map(|(key, record)| SavedAlertRef { key, record }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<AlertKey, AlertRecord>, D::Error> {
        Ok(Vec::<SavedAlert>::deserialize(from)?.into_iter().map(Into::into).collect())
    }
}
