//! The alert `unreadable` of a division, or of an account whose divisions cannot be listed.

use std::sync::Arc;
use std::time::Duration;

use super::{AlertContext, ReadingsProcessor};
use crate::alerting::evaluate::{Evaluation, LevelCondition, LevelEvaluation};
use crate::alerting::state::AlertRecord;
use crate::domain::Division;
use crate::domain::alert::AlertKey;
use crate::domain::balance::{Persistence, Unreadable};
use crate::domain::event::{EventSubject, UnreadableEvent};
use crate::domain::rule::{Severity, UNREADABLE};
use crate::polling::poller::AccountReadings;

impl ReadingsProcessor<'_> {
    /// Processes the alert about divisions that cannot be listed.
    pub(super) fn process_listing(&mut self, readings: &AccountReadings) {
        let failure = readings.listing_failure.as_ref();
        let context = AlertContext { reason: failure.map(|why| why.reason.clone()), ..AlertContext::default() };
        let nothing_read = readings.divisions.is_empty();
        let account = self.policy.account.clone();
        self.process_unreadable(None, context, failure, |key| nothing_read && key.account == account);
    }

    /// Processes the alert `unreadable` of a division or, for `None`, of the account. `is_unchanged` selects the alerts that do
    /// not change meanwhile.
    pub(super) fn process_unreadable(
        &mut self,
        division: Division,
        context: AlertContext,
        failure: Option<&Unreadable>,
        is_unchanged: impl Fn(&AlertKey) -> bool,
    ) {
        let policy = Arc::clone(&self.policy.unreadable);
        let condition = if failure.is_some() { LevelCondition::Breached } else { LevelCondition::Clear };
        let at_once = failure.is_some_and(|why| why.persistence == Persistence::Permanent);
        let hold = if at_once { Duration::ZERO } else { policy.after };
        let evaluation = Evaluation::single(policy.level, LevelEvaluation { condition, hold });
        let key = self.key(division, &self.unreadable);
        self.change_level(&key, policy.level);
        let (division_name, reason) = (context.division_name.map(str::to_owned), context.reason.clone());
        // `resolved` names the rules that could not be evaluated at any time.
        let before = || self.state.alerts.get(&key).map(|before| before.unevaluated_rules.clone());
        let unevaluated_rules =
            if failure.is_some() { context.unevaluated_rules.clone() } else { before().unwrap_or_default() };
        let (remind, notify) = (|_| policy.remind_every, |_| policy.notify.as_slice());
        let Some(notification) = self.apply_evaluation(&key, context, &evaluation, remind, notify) else { return };
        let transition = notification.transition;
        let unchanged = self
            .alerts_of(division)
            .filter(|(key, _)| failure.is_some() && *key.rule != *UNREADABLE && is_unchanged(key));
        let firing_alerts = unchanged.filter_map(|(key, record)| Some((key.clone(), record.alert.firing()?))).collect();
        let subject = EventSubject::Unreadable(UnreadableEvent {
            division_name,
            kind: transition.kind,
            level: transition.level,
            since: transition.since,
            reason,
            persistence: failure.map(|why| why.persistence),
            firing_alerts,
            unevaluated_rules,
            next_reminder: self.next_reminder(transition, policy.remind_every),
            key,
        });
        self.enqueue(subject, notification);
    }

    /// Moves an alert to the level that `unreadable.level` was changed to. This is not an event.
    fn change_level(&mut self, key: &AlertKey, level: Severity) {
        let Some(record) = self.state.alerts.get_mut(key) else { return };
        let alert = &mut record.alert;
        let (from, to) = match level {
            Severity::Warning => (&mut alert.critical, &mut alert.warning),
            Severity::Critical => (&mut alert.warning, &mut alert.critical),
        };
        if let Some(level_state) = from.take() {
            self.changed = true;
            to.get_or_insert(level_state);
        }
    }

    /// Returns the alerts of a division, or of the whole account for `None`.
    fn alerts_of(&self, division: Division) -> impl Iterator<Item = (&AlertKey, &AlertRecord)> {
        let account = self.policy.account.clone();
        let first = AlertKey { account: account.clone(), division, rule: "".into() };
        let is_of = move |key: &AlertKey| key.account == account && (division.is_none() || key.division == division);
        self.state.alerts.range(first..).take_while(move |(key, _)| is_of(key))
    }
}

/// Merges several failures into one, which is permanent if any is, and contains every different reason.
pub(super) fn merge_failures(failures: Vec<Unreadable>) -> Option<Unreadable> {
    let persistences = failures.iter().map(|failure| failure.persistence);
    let persistence = persistences.max_by_key(|persistence| *persistence == Persistence::Permanent)?;
    let mut reasons: Vec<String> = Vec::new();
    for failure in failures {
        if !reasons.contains(&failure.reason) {
            reasons.push(failure.reason);
        }
    }
    Some(Unreadable { persistence, reason: reasons.join("; ") })
}
