//! Ends alerts that nothing evaluates any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::policy::AccountPolicy;
use super::state::{AlertRecord, PendingIndex, State};
use crate::domain::alert::AlertKey;
use crate::domain::event::EventSubject;
use crate::domain::{Name, Time};

/// Removes an alert that nothing evaluates any more. Incident notifiers get an event that resolves their incident. Returns
/// the record and the other notifiers that were notified.
pub(super) fn end_alert(
    state: &mut State,
    pending_index: &mut PendingIndex,
    key: &AlertKey,
    incident_notifiers: &BTreeSet<Name>,
    queued_at: Time,
) -> Option<(AlertRecord, BTreeSet<Name>)> {
    let notified = state.notified_or_pending(key);
    let record = state.alerts.remove(key)?;
    // Events that are pending for other notifiers still go out. As fallbacks, incident notifiers must not get them: nothing
    // would resolve the incident.
    for queued in state.queue.iter_mut().filter(|queued| queued.event.alert() == Some(key)) {
        Arc::make_mut(&mut queued.event).audience.extend(incident_notifiers.iter().cloned());
    }
    if let Some(level) = record.alert.firing() {
        let subject = EventSubject::AlertEnded { key: key.clone(), level };
        state.enqueue_notice(subject, queued_at, &(&notified & incident_notifiers), pending_index);
    }
    Some((record, &notified - incident_notifiers))
}

/// Ends all alerts whose rule, account or division left the configuration, without a message to people. Returns their keys.
pub fn end_unconfigured_alerts(state: &mut State, policies: &[&AccountPolicy], now: Time) -> Vec<AlertKey> {
    let is_configured =
        |key: &AlertKey| policies.iter().any(|policy| policy.account == key.account && policy.covers(key));
    let ended: Vec<AlertKey> = state.alerts.keys().filter(|key| !is_configured(key)).cloned().collect();
    let incident_notifiers = policies.first().map(|policy| Arc::clone(&policy.incident_notifiers)).unwrap_or_default();
    let mut pending_index = PendingIndex::of(state);
    for key in &ended {
        end_alert(state, &mut pending_index, key, &incident_notifiers, now);
    }
    ended
}
