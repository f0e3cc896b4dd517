//! End of alerts that nothing evaluates any more: their rule, account or division left the configuration, or the division is
//! gone from a good listing.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::alerting::log_entry::AlertLogEntry;
use crate::alerting::queue::NewEvent;
use crate::alerting::state::{AlertRecord, State};
use crate::domain::alert::AlertKey;
use crate::domain::event::EventSubject;
use crate::domain::rule::UNREADABLE;
use crate::domain::{Division, Name, Time};
use crate::polling::poller::{AccountPolicy, DivisionScope};

/// Ends, without a message, every alert whose rule, account or division left the configuration. Incidents of these alerts are
/// resolved. Returns the alerts.
pub fn end_unconfigured_alerts(state: &mut State, policies: &[&AccountPolicy], now: Time) -> Vec<AlertKey> {
    let gone: Vec<AlertKey> = state.alerts.keys().filter(|key| !is_configured(key, policies)).cloned().collect();
    let incident_notifiers = policies.first().map(|policy| Arc::clone(&policy.incident_notifiers)).unwrap_or_default();
    for key in &gone {
        end_alert(state, key, &incident_notifiers, now);
    }
    gone
}

fn is_configured(key: &AlertKey, policies: &[&AccountPolicy]) -> bool {
    let Some(policy) = policies.iter().find(|policy| policy.account == key.account) else { return false };
    let unreadable = *key.rule == *UNREADABLE;
    let in_scope = match (&policy.scope, key.division) {
        (DivisionScope::Undivided, division) => division.is_none(),
        (DivisionScope::Listed(ids), Some(id)) => ids.contains(&id),
        (DivisionScope::All(exclude), Some(id)) => !exclude.contains(&id),
        (DivisionScope::Listed(_), None) => false,
        (DivisionScope::All(_), None) => unreadable,
    };
    let rule = policy.rules.iter().find(|rule| rule.name == key.rule);
    in_scope && (unreadable || rule.is_some_and(|rule| rule.watches(&key.account, key.division)))
}

/// Ends the alerts of divisions that are not among the `active` ones of a good listing. Those who were notified get one notice
/// for each division. Returns a line for the log for each division.
pub(crate) fn end_removed_divisions(
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
    let Some(AlertKey { account, division, .. }) = keys.first() else { return };
    let (mut recipients, mut rules, mut division_name) = (BTreeSet::new(), Vec::new(), None);
    for key in keys {
        let Some((record, notified)) = end_alert(state, key, incident_notifiers, queued_at) else { continue };
        recipients.extend(notified);
        division_name = division_name.or(record.division_name);
        if record.alert.firing().is_some() {
            rules.push(key.rule.clone());
        }
    }
    let (account, division): (Name, Division) = (account.clone(), *division);
    let subject = EventSubject::Unwatched { account, division, division_name, rules };
    state.queue.enqueue(NewEvent::notice(subject, queued_at, recipients));
}

/// Removes an alert. Notifiers that keep incidents resolve theirs. Returns the alert, and the other notifiers that were notified
/// of it.
fn end_alert(
    state: &mut State,
    key: &AlertKey,
    incident_notifiers: &BTreeSet<Name>,
    queued_at: Time,
) -> Option<(AlertRecord, BTreeSet<Name>)> {
    let notified = state.notified_or_pending(key);
    let record = state.alerts.remove(key)?;
    // Pending events are still delivered, but must not open an incident as a fallback: nothing would resolve it.
    state.queue.exclude(key, incident_notifiers);
    if let Some(level) = record.alert.firing() {
        let subject = EventSubject::AlertEnded { key: key.clone(), level };
        state.queue.enqueue(NewEvent::notice(subject, queued_at, &notified & incident_notifiers));
    }
    Some((record, &notified - incident_notifiers))
}
