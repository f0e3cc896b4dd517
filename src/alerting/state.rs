//! State that outlives the process: alerts that are not ok, the delivery queue, silences, failing notifiers and last reports.
//!
//! Pure operations on a value. [`crate::state`] saves it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::alerting::queue::{DeliveryQueue, Handover, NewEvent};
use crate::domain::alert::{Alert, AlertKey, LevelState, TransitionKind};
use crate::domain::event::EventSubject;
use crate::domain::money::Currency;
use crate::domain::report::LastReport;
use crate::domain::silence::{Silence, Suppressed};
use crate::domain::{Division, Name, Time};

/// Content of the state document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Alerts that are not ok.
    #[serde(default, with = "as_list", skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<AlertKey, AlertRecord>,
    /// Events that have not been delivered.
    #[serde(default, skip_serializing_if = "DeliveryQueue::is_empty")]
    pub queue: DeliveryQueue,
    /// Silences that were added by command, by id. Those in the configuration are not part of the state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub silences: BTreeMap<u32, Silence>,
    /// Notifiers whose last attempt failed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failing_notifiers: BTreeMap<Name, NotifierFailure>,
    /// Last page of each report, which the next one is compared with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reports: BTreeMap<Name, LastReport>,
}

/// An alert that is not ok, with what a message needs when the balance can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AlertRecord {
    /// State of the alert's levels.
    #[serde(flatten)]
    pub alert: Alert,
    /// Name of the division as last listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub division_name: Option<String>,
    /// Reason why an account or division is unreadable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For the alert `unreadable`: rules that could not be evaluated when the balance itself was read last; empty if the
    /// balance was not read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unevaluated_rules: Vec<Name>,
    /// Currency of the last reading. Amounts in another currency are not compared with thresholds that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Set while the alert fires and a silence keeps people from being notified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<Suppressed>,
}

/// Failure of a notifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifierFailure {
    /// First failure after its last success.
    pub since: Time,
    /// Last failure, for people.
    pub error: String,
    /// Set once the other notifiers have been notified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reported: bool,
}

impl State {
    /// Returns everyone who was notified of the present alert with this key, or has events of it pending.
    pub fn notified_or_pending(&self, key: &AlertKey) -> BTreeSet<Name> {
        let mut names = self.queue.pending_notifiers(key);
        names.extend(self.notified_of(key));
        names
    }

    /// Returns everyone who was notified of the present alert with this key.
    pub fn notified_of(&self, key: &AlertKey) -> impl Iterator<Item = Name> {
        self.alerts.get(key).into_iter().flat_map(|record| record.alert.notified.keys().cloned())
    }

    /// Marks events as delivered by a notifier. They stay pending for `deferred` recipients, if there are any.
    pub fn mark_delivered(
        &mut self,
        notifier: &Name,
        ids: &BTreeSet<String>,
        message_id: Option<&str>,
        deferred: &[String],
    ) {
        self.record_notified(notifier, ids, message_id);
        self.queue.mark_delivered(notifier, ids, message_id, deferred);
    }

    /// Records with the alerts of these events that a notifier has reached somebody.
    pub fn record_notified(&mut self, notifier: &Name, ids: &BTreeSet<String>, message_id: Option<&str>) {
        for queued in self.queue.iter().filter(|queued| ids.contains(&queued.event.id)) {
            let event = &queued.event;
            let Some(record) = event.alert().and_then(|key| self.alerts.get_mut(key)) else { continue };
            let is_of_present_alert = record.alert.since().is_some_and(|since| event.at >= since);
            if is_of_present_alert && record.alert.firing().is_some() && event.kind() != Some(TransitionKind::Resolved)
            {
                record.alert.notified.entry(notifier.clone()).or_insert_with(|| message_id.map(str::to_owned));
            }
        }
    }

    /// Queues for `fallback` what `notifier` could not deliver, except events that the fallback was asked to deliver before.
    /// `ids` selects events; `None` selects all. Returns the number of events.
    pub fn hand_over(
        &mut self,
        notifier: &Name,
        fallback: &Name,
        error: &str,
        ids: Option<&BTreeSet<String>>,
    ) -> usize {
        let alerts = &self.alerts;
        self.queue.hand_over(Handover { notifier, fallback, error, ids }, |key, name| first_message(alerts, key, name))
    }

    /// Follows a configuration in which notifiers have other fallbacks: what is pending for a fallback is also queued for the
    /// present fallback of the notifier that it stands in for. Returns the number of events.
    pub fn hand_over_to_new_fallbacks(&mut self, fallback_of: impl Fn(&str) -> Option<Name>) -> usize {
        let alerts = &self.alerts;
        self.queue.hand_over_to_new_fallbacks(fallback_of, |key, name| first_message(alerts, key, name))
    }

    /// Records a failed attempt that began at `now`.
    pub fn record_failure(&mut self, notifier: &Name, error: &str, now: Time) -> &mut NotifierFailure {
        let first = || NotifierFailure { since: now, error: String::new(), reported: false };
        let failure = self.failing_notifiers.entry(notifier.clone()).or_insert_with(first);
        failure.since = failure.since.min(now);
        error.clone_into(&mut failure.error);
        failure
    }

    /// Lets failures of a notifier and of its events begin at `now`, if `restart` returns `true` for their beginning. Failures
    /// that were reported keep theirs, unless it lies in the future. Returns `true` if there were any.
    pub fn count_failures_from(&mut self, notifier: &str, now: Time, restart: impl Fn(Time) -> bool) -> bool {
        let failure =
            self.failing_notifiers.get_mut(notifier).filter(|failure| !failure.reported || failure.since > now);
        let all = failure.map(|failure| &mut failure.since).into_iter().chain(self.queue.failures_mut(notifier));
        let mut changed = false;
        for since in all.filter(|since| restart(**since)) {
            *since = now;
            changed = true;
        }
        changed
    }

    /// Drops everything about notifiers that are no longer configured. Returns the number of pending events by notifier.
    pub fn drop_unconfigured_notifiers(&mut self, configured: impl Fn(&str) -> bool) -> BTreeMap<Name, usize> {
        self.failing_notifiers.retain(|name, _| configured(name));
        for record in self.alerts.values_mut() {
            record.alert.notified.retain(|name, _| configured(name));
        }
        self.queue.drop_unconfigured_notifiers(configured)
    }

    /// Queues an event about each failing notifier that is no longer configured, for notifiers that keep incidents: no recovery
    /// will be reported.
    pub fn end_removed_notifiers(
        &mut self,
        configured: impl Fn(&str) -> bool,
        incident_notifiers: &BTreeSet<Name>,
        now: Time,
    ) {
        for (name, _) in self.failing_notifiers.iter().filter(|(name, failure)| failure.reported && !configured(name)) {
            let subject = EventSubject::NotifierRemoved { notifier: name.clone() };
            self.queue.enqueue(NewEvent::notice(subject, now, incident_notifiers.clone()));
        }
    }

    /// Adds a silence. Returns its id, which no other silence of the state has.
    pub fn add_silence(&mut self, silence: Silence) -> u32 {
        let id = self.silences.last_key_value().map_or(1, |(id, _)| id.saturating_add(1));
        self.silences.insert(id, silence);
        id
    }

    /// Drops silences that have ended. Returns `true` if there were any.
    pub fn drop_ended_silences(&mut self, now: Time) -> bool {
        let before = self.silences.len();
        self.silences.retain(|_, silence| !silence.ended(now));
        self.silences.len() != before
    }
}

/// Returns the Message-ID of the first message about an alert that a notifier sent.
fn first_message(alerts: &BTreeMap<AlertKey, AlertRecord>, key: &AlertKey, notifier: &Name) -> Option<String> {
    alerts.get(key)?.alert.notified.get(notifier).cloned()?
}

/// Saves alerts as a list: an object of JSON cannot have a record as key.
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

    /// Mirror of [`SavedAlertRef`] without `flatten`, which would read every value through a copy and take three times as long.
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
        fn from(saved: SavedAlert) -> Self {
            let SavedAlert { account, division, rule, warning, critical, last_event, notified, .. } = saved;
            let SavedAlert { division_name, reason, unevaluated_rules, currency, suppressed, .. } = saved;
            let alert = Alert { warning, critical, last_event, notified };
            let record = AlertRecord { alert, division_name, reason, unevaluated_rules, currency, suppressed };
            (AlertKey { account, division, rule }, record)
        }
    }

    pub(crate) fn serialize<S: Serializer>(alerts: &BTreeMap<AlertKey, AlertRecord>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(alerts.iter().map(|(key, record)| SavedAlertRef { key, record }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<AlertKey, AlertRecord>, D::Error> {
        Ok(Vec::<SavedAlert>::deserialize(from)?.into_iter().map(Into::into).collect())
    }
}
