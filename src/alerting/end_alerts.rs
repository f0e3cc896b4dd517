//! Ends alerts that nothing evaluates any more: their rule, account or division left the configuration, or the division is gone
//! from a good listing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::log_entry::AlertLogEntry;
use super::policy::AccountPolicy;
use super::queue::NewEvent;
use super::state::{AlertRecord, State};
use crate::domain::alert::AlertKey;
use crate::domain::event::EventSubject;
use crate::domain::{Name, Time};

/// Ends all alerts whose rule, account or division left the configuration, without a message to people. Returns their keys.
pub fn end_unconfigured_alerts(state: &mut State, policies: &[&AccountPolicy], now: Time) -> Vec<AlertKey> {
    let is_configured =
        |key: &AlertKey| policies.iter().any(|policy| policy.account == key.account && policy.covers(key));
    let ended: Vec<AlertKey> = state.alerts.keys().filter(|key| !is_configured(key)).cloned().collect();
    let incident_notifiers = policies.first().map(|policy| Arc::clone(&policy.incident_notifiers)).unwrap_or_default();
    for key in &ended {
        end_alert(state, key, &incident_notifiers, now);
    }
    ended
}

/// Ends the alerts of divisions that are not among the `active` ones of a good listing, with one notice for each division to
/// those notified. Returns a line for the log for each division.
pub(super) fn end_removed_divisions(
    state: &mut State,
    policy: &AccountPolicy,
    active: &BTreeSet<u64>,
    queued_at: Time,
) -> Vec<AlertLogEntry> {
    let is_gone =
        |key: &&AlertKey| key.account == policy.account && key.division.is_some_and(|id| !active.contains(&id));
    let keys: Vec<AlertKey> = state.alerts.keys().filter(is_gone).cloned().collect();
    let mut log_entries = Vec::new();
    // Keys are ordered by account and division.
    for of_division in keys.chunk_by(|one, other| one.division == other.division) {
        end_division(state, of_division, &policy.incident_notifiers, queued_at);
        log_entries.extend(of_division.first().map(AlertLogEntry::of_removed_division));
    }
    log_entries
}

/// Ends the alerts of one division.
fn end_division(state: &mut State, keys: &[AlertKey], incident_notifiers: &BTreeSet<Name>, queued_at: Time) {
    let Some(AlertKey { account, division, .. }) = keys.first().cloned() else { return };
    let (mut recipients, mut rules, mut division_name) = (BTreeSet::new(), Vec::new(), None);
    for key in keys {
        let Some((record, notified)) = end_alert(state, key, incident_notifiers, queued_at) else { continue };
        recipients.extend(notified);
        division_name = division_name.or(record.division_name);
        if record.alert.firing().is_some() {
            rules.push(key.rule.clone());
        }
    }
    let subject = EventSubject::Unwatched { account, division, division_name, rules };
    state.queue.enqueue(NewEvent::notice(subject, queued_at, recipients));
}

/// Removes an alert that nothing evaluates any more. Incident notifiers get an event that resolves their incident. Returns
/// the record and the other notifiers that were notified.
fn end_alert(
    state: &mut State,
    key: &AlertKey,
    incident_notifiers: &BTreeSet<Name>,
    queued_at: Time,
) -> Option<(AlertRecord, BTreeSet<Name>)> {
    let notified = state.notified_or_pending(key);
    let record = state.alerts.remove(key)?;
    // Events that are pending for other notifiers still go out. As fallbacks, incident notifiers must not get them: nothing
    // would resolve the incident.
    state.queue.exclude(key, incident_notifiers);
    if let Some(level) = record.alert.firing() {
        let subject = EventSubject::AlertEnded { key: key.clone(), level };
        state.queue.enqueue(NewEvent::notice(subject, queued_at, &notified & incident_notifiers));
    }
    Some((record, &notified - incident_notifiers))
}
