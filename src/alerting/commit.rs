//! Second step of processing: stores decided alerts in the state and enqueues their events, except suppressed ones.
//!
//! Only the cycles of an account change the levels of its alerts. Between a decision and its commit, deliveries may add to
//! `notified` and commands may change silences; both are taken from the state at commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::decide::{AlertDecision, Decisions, RuleDecision, UnreadableDecision, at_level};
use super::end_alerts::end_removed_divisions;
use super::log_entry::AlertLogEntry;
use super::policy::AccountPolicy;
use super::queue::NewEvent;
use super::readings::{AccountReadings, DivisionReading};
use super::state::{AlertRecord, State};
use super::suppress::{SuppressionInput, suppress};
use crate::domain::alert::{AlertKey, AlertStatus, Transition, TransitionKind};
use crate::domain::balance::{Balance, MetricValue, Reading};
use crate::domain::event::{EvaluatedThreshold, EventSubject, ThresholdEvent, UnreadableEvent};
use crate::domain::money::Currency;
use crate::domain::rule::{Rule, Severity, UNREADABLE};
use crate::domain::silence::{Silence, SilenceSummary};
use crate::domain::{Division, Name, Time};

/// Result of processing the readings of one account.
pub struct ProcessedReadings {
    /// Events that happened, suppressed ones included.
    pub log_entries: Vec<AlertLogEntry>,
    /// True if the state changed and must be saved.
    pub changed: bool,
    /// True if everything that the rules watch could be read and evaluated.
    pub complete: bool,
}

/// Commits the decisions on these readings. Events carry the time `queued_at`. At most one event for each alert.
pub fn commit(
    state: &mut State,
    policy: &AccountPolicy,
    readings: &AccountReadings,
    decisions: Decisions,
    queued_at: Time,
) -> ProcessedReadings {
    let Decisions { now, unreadable_account, divisions, complete } = decisions;
    let changed = state.drop_ended_silences(now);
    let mut commit = Commit { state, policy, now, queued_at, log_entries: Vec::new(), changed };
    if let Some(active) = &readings.active {
        let log_entries = end_removed_divisions(commit.state, policy, active, queued_at);
        commit.changed |= !log_entries.is_empty();
        commit.log_entries.extend(log_entries);
    }
    if let Some(unreadable) = unreadable_account {
        commit.commit_unreadable(unreadable);
    }
    for (division, reading) in divisions.into_iter().zip(&readings.divisions) {
        for rule_decision in division.rules {
            commit.commit_rule(rule_decision, reading);
        }
        if let Some(unreadable) = division.unreadable {
            commit.commit_unreadable(unreadable);
        }
    }
    ProcessedReadings { log_entries: commit.log_entries, changed: commit.changed, complete }
}

/// A commit in progress.
struct Commit<'a> {
    state: &'a mut State,
    policy: &'a AccountPolicy,
    /// The time as of which the readings were evaluated.
    now: Time,
    /// The time that events carry.
    queued_at: Time,
    log_entries: Vec<AlertLogEntry>,
    changed: bool,
}

/// Fields of an alert's record that the reading sets.
#[derive(Default)]
struct RecordFields {
    division_name: Option<String>,
    reason: Option<String>,
    unevaluated_rules: Vec<Name>,
    currency: Option<Currency>,
}

/// The message about one alert: its transition as people see it, and its recipients.
struct AlertNotification {
    transition: Transition,
    recipients: BTreeSet<Name>,
    /// Notifiers that must not get the event, not even as a fallback.
    excluded: BTreeSet<Name>,
    /// Threads of the notifiers that were notified before.
    threads: BTreeMap<Name, Option<String>>,
    /// The silence that the message mentions.
    silence: Option<SilenceSummary>,
}

impl Commit<'_> {
    fn commit_rule(&mut self, rule_decision: RuleDecision, reading: &DivisionReading) {
        let policy = self.policy;
        let Some(rule) = policy.rules.get(rule_decision.rule) else { return };
        let fields = RecordFields {
            division_name: reading.name.clone(),
            currency: rule_decision.currency,
            ..RecordFields::default()
        };
        let notify = |severity| rule.level(severity).map(|level| level.notify.as_slice()).unwrap_or_default();
        let before = self.state.alerts.get(&rule_decision.decision.key).cloned().unwrap_or_default();
        let Some(notification) = self.commit_alert(&rule_decision.decision, before, fields, notify) else { return };
        let every = rule.level(notification.transition.level).and_then(|level| level.remind_every);
        let next_reminder = self.next_reminder(notification.transition, every);
        let event = threshold_event(rule, rule_decision, reading, notification.transition, next_reminder);
        self.enqueue(EventSubject::Threshold(event), notification);
    }

    fn commit_unreadable(&mut self, unreadable: UnreadableDecision) {
        let UnreadableDecision { decision, division_name, failure, unevaluated_rules, unchanged } = unreadable;
        let policy = self.policy;
        let settings = &policy.unreadable;
        let stored = self.state.alerts.get(&decision.key).cloned().unwrap_or_default();
        let before = AlertRecord { alert: at_level(stored.alert, settings.level), ..stored };
        let reason = failure.as_ref().map(|why| why.reason.clone());
        let fields = RecordFields {
            division_name: division_name.clone(),
            reason: reason.clone(),
            unevaluated_rules: unevaluated_rules.clone(),
            currency: None,
        };
        // The resolved message names the rules that the raised message named.
        let unevaluated_rules = if failure.is_some() { unevaluated_rules } else { before.unevaluated_rules.clone() };
        let notify = |_| settings.notify.as_slice();
        let Some(notification) = self.commit_alert(&decision, before, fields, notify) else { return };
        let transition = notification.transition;
        let firing_alerts = if failure.is_some() {
            let division = decision.key.division;
            let unchanged_alerts = self
                .alerts_of(division)
                .filter(|(key, _)| *key.rule != *UNREADABLE && unchanged.contains(division, key));
            unchanged_alerts.filter_map(|(key, record)| Some((key.clone(), record.alert.firing()?))).collect()
        } else {
            Vec::new()
        };
        let event = UnreadableEvent {
            division_name,
            kind: transition.kind,
            level: transition.level,
            since: transition.since,
            reason,
            persistence: failure.map(|why| why.persistence),
            firing_alerts,
            unevaluated_rules,
            next_reminder: self.next_reminder(transition, settings.remind_every),
            key: decision.key,
        };
        self.enqueue(EventSubject::Unreadable(event), notification);
    }

    /// Stores an alert as decided. Returns the message about it, unless nothing happened or a silence suppresses it.
    fn commit_alert<'n>(
        &mut self,
        decision: &AlertDecision,
        before: AlertRecord,
        fields: RecordFields,
        notify: impl Fn(Severity) -> &'n [Name],
    ) -> Option<AlertNotification> {
        let AlertDecision { key, transition, .. } = decision;
        let mut alert = decision.alert.clone();
        if transition.is_none_or(|transition| transition.kind != TransitionKind::Resolved) {
            alert.notified.clone_from(&before.alert.notified);
        }
        let silences = self.silences(key);
        let suppression = suppress(&SuppressionInput {
            suppressed: before.suppressed.as_ref(),
            before: &before.alert,
            after: &alert,
            transition: *transition,
            silences: &silences,
            now: self.now,
        });
        let notification = suppression.notified.map(|transition| {
            let (recipients, excluded) = self.recipients(key, transition, &notify);
            let threads = before.alert.notified.clone();
            AlertNotification { transition, recipients, excluded, threads, silence: suppression.silence }
        });
        if let Some(log_entry) = AlertLogEntry::of_alert(key, *transition, suppression.notified) {
            self.log_entries.push(log_entry);
            self.changed = true;
        }
        if notification.is_some() && alert.firing().is_some() {
            alert.last_event = Some(self.now);
        }
        let unevaluated_rules =
            if fields.unevaluated_rules.is_empty() { before.unevaluated_rules } else { fields.unevaluated_rules };
        self.store(
            key,
            AlertRecord {
                alert,
                division_name: fields.division_name.or(before.division_name),
                reason: fields.reason,
                unevaluated_rules,
                currency: fields.currency.or(before.currency),
                suppressed: suppression.suppressed,
            },
        );
        notification
    }

    /// Stores a record, or removes it if its alert is ok.
    fn store(&mut self, key: &AlertKey, record: AlertRecord) {
        if record.alert.status() == AlertStatus::Ok {
            self.changed |= self.state.alerts.remove(key).is_some();
        } else if self.state.alerts.get(key) != Some(&record) {
            self.changed = true;
            self.state.alerts.insert(key.clone(), record);
        }
    }

    /// Returns the alerts of a division; `None` returns those of the whole account.
    fn alerts_of(&self, division: Division) -> impl Iterator<Item = (&AlertKey, &AlertRecord)> {
        let account = self.policy.account.clone();
        let first = AlertKey { account: account.clone(), division, rule: "".into() };
        let is_below = move |key: &AlertKey| key.account == account && (division.is_none() || key.division == division);
        self.state.alerts.range(first..).take_while(move |(key, _)| is_below(key))
    }

    /// Returns the silences in force that match an alert.
    fn silences(&self, key: &AlertKey) -> Vec<&Silence> {
        let all = self.state.silences.values().chain(self.policy.silences.iter());
        all.filter(|silence| silence.matches(key) && silence.in_force(self.now)).collect()
    }

    /// Returns the recipients of a transition and the notifiers that must not get it.
    ///
    /// `eased` goes to everyone who was notified and to warning's notifiers, because they may not have had a message about
    /// the alert yet. It is kept from incident notifiers without warnings, where it would open a new incident if somebody
    /// had closed the old one.
    fn recipients<'n>(
        &self,
        key: &AlertKey,
        transition: Transition,
        notify: impl Fn(Severity) -> &'n [Name],
    ) -> (BTreeSet<Name>, BTreeSet<Name>) {
        let of_the_level: BTreeSet<Name> = notify(transition.level).iter().cloned().collect();
        match transition.kind {
            TransitionKind::Raised | TransitionKind::Escalated | TransitionKind::Reminder => {
                (of_the_level, BTreeSet::new())
            }
            TransitionKind::Resolved => (self.state.notified_or_pending(key), BTreeSet::new()),
            TransitionKind::Eased => {
                let excluded = &*self.policy.incident_notifiers - &of_the_level;
                (&(&self.state.notified_or_pending(key) | &of_the_level) - &excluded, excluded)
            }
        }
    }

    fn next_reminder(&self, transition: Transition, every: Option<Duration>) -> Option<Time> {
        let every = every.filter(|_| transition.kind != TransitionKind::Resolved)?;
        self.now.checked_add_signed(chrono::Duration::from_std(every).ok()?)
    }

    fn enqueue(&mut self, subject: EventSubject, notification: AlertNotification) {
        let AlertNotification { recipients, excluded, threads, silence, .. } = notification;
        let (at, evaluated_at) = (self.queued_at, Some(self.now));
        self.state.queue.enqueue(NewEvent { subject, at, evaluated_at, recipients, threads, silence, excluded });
    }
}

/// Returns the event about a rule's alert, with the forecast of the fund unless the alert is over.
fn threshold_event(
    rule: &Rule,
    rule_decision: RuleDecision,
    reading: &DivisionReading,
    transition: Transition,
    next_reminder: Option<Time>,
) -> ThresholdEvent {
    let RuleDecision { reading: rule_reading, evaluation, decision, .. } = rule_decision;
    let (value, currency) = match rule_reading {
        Reading::Amount(money) => (MetricValue::Amount(money), Some(money.currency)),
        Reading::Time(lasts) => (MetricValue::Time(lasts), None),
        Reading::Unlimited | Reading::NotYetKnown(_) | Reading::NotYetRead(_) | Reading::Unreadable(_) => {
            (MetricValue::Unlimited, None)
        }
    };
    let is_over = transition.kind == TransitionKind::Resolved;
    let evaluated = |severity| rule.level(severity).filter(|_| evaluation.is_evaluated(severity));
    // Both levels are over: readers want to be above the milder threshold.
    let milder = evaluated(Severity::Warning).filter(|_| is_over);
    let level = milder.or_else(|| evaluated(transition.level));
    let forecast = reading.forecast.as_ref().filter(|_| !is_over);
    ThresholdEvent {
        division_name: reading.name.clone(),
        kind: transition.kind,
        level: transition.level,
        since: transition.since,
        metric: rule.metric,
        within: rule.within(),
        value,
        threshold: level.map(|level| EvaluatedThreshold {
            side: level.side(),
            // If the level names a currency, the reading has the same one or none.
            bound: level.threshold().with_default_currency(currency.or(level.currency())),
        }),
        breakdown: reading.balance.as_ref().ok().and_then(Balance::breakdown),
        next_reminder,
        forecast: forecast.and_then(|forecast| forecast.summary(rule)).map(Box::new),
        chart: forecast.and_then(|forecast| forecast.chart(rule)).map(Arc::new),
        key: decision.key,
    }
}
