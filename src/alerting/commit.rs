//! Second step of processing: stores decided alerts in the state and enqueues their events, except suppressed ones.
//!
//! Only the cycles of an account change the levels of its alerts. Between a decision and its commit, deliveries may add to
//! `notified` and commands may change silences; both are taken from the state at commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::decide::{AlertDecision, Decisions, RuleDecision, UnreadableDecision, at_level};
use super::end_alerts::end_alert;
use super::policy::AccountPolicy;
use super::process::{AlertLogEntry, ProcessedReadings, alert_label};
use super::readings::{AccountReadings, DivisionReading};
use super::state::{AlertRecord, NewEvent, PendingIndex, State};
use crate::domain::alert::{AlertKey, AlertStatus, Transition, TransitionKind};
use crate::domain::balance::{Balance, Reading};
use crate::domain::event::{EvaluatedThreshold, EventSubject, MetricValue, ThresholdEvent, UnreadableEvent};
use crate::domain::money::Currency;
use crate::domain::rule::{Rule, Severity, UNREADABLE};
use crate::domain::silence::{Silence, SilenceSummary, suppress};
use crate::domain::{Division, Name, Time};

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
    let mut commit = Commit { state, policy, now, queued_at, log_entries: Vec::new(), changed, pending_index: None };
    if let Some(active) = &readings.active {
        commit.end_removed_divisions(active);
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
    /// Index of the queue; built with the first event.
    pending_index: Option<PendingIndex>,
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
        let suppression = suppress(before.suppressed.as_ref(), &before.alert, &alert, *transition, &silences, self.now);
        if suppression.notified.is_some() && self.pending_index.is_none() {
            self.pending_index = Some(PendingIndex::of(self.state));
        }
        let notification = suppression.notified.map(|transition| {
            let (recipients, excluded) = self.recipients(key, transition, &notify);
            let threads = before.alert.notified.clone();
            AlertNotification { transition, recipients, excluded, threads, silence: suppression.silence }
        });
        self.log_transition(key, *transition, notification.as_ref().map(|notification| notification.transition));
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
            TransitionKind::Resolved => (self.notified_or_pending(key), BTreeSet::new()),
            TransitionKind::Eased => {
                let excluded = &*self.policy.incident_notifiers - &of_the_level;
                (&(&self.notified_or_pending(key) | &of_the_level) - &excluded, excluded)
            }
        }
    }

    /// Returns everyone who was notified of an alert or is about to be. Searches the queue only if the index has the alert.
    fn notified_or_pending(&self, key: &AlertKey) -> BTreeSet<Name> {
        let may_be_pending = self.pending_index.as_ref().is_none_or(|index| index.may_be_pending(key));
        if may_be_pending { self.state.notified_or_pending(key) } else { self.state.notified_of(key).collect() }
    }

    fn log_transition(&mut self, key: &AlertKey, transition: Option<Transition>, notified: Option<Transition>) {
        let Some(logged) = transition.or(notified) else { return };
        let text = match (transition.map(|transition| transition.kind), notified.is_some()) {
            (None, _) => "silence is over: alert still fires",
            (Some(TransitionKind::Raised), true) => "alert raised",
            (Some(TransitionKind::Escalated), true) => "alert escalated",
            (Some(TransitionKind::Eased), true) => "alert eased",
            (Some(TransitionKind::Reminder), true) => "alert still fires",
            (Some(TransitionKind::Resolved), _) => "alert resolved",
            (Some(TransitionKind::Raised), false) => "alert raised, but silenced: not notified",
            (Some(TransitionKind::Escalated), false) => "alert escalated, but silenced: not notified",
            (Some(TransitionKind::Eased), false) => "alert eased, but silenced: not notified",
            (Some(TransitionKind::Reminder), false) => "alert still fires, but silenced: not notified",
        };
        self.log_entries.push(AlertLogEntry {
            kind: logged.kind.name(),
            alert: alert_label(key),
            of_unreadable: *key.rule == *UNREADABLE,
            level: logged.level.to_string(),
            text,
        });
        self.changed = true;
    }

    fn next_reminder(&self, transition: Transition, every: Option<Duration>) -> Option<Time> {
        let every = every.filter(|_| transition.kind != TransitionKind::Resolved)?;
        self.now.checked_add_signed(chrono::Duration::from_std(every).ok()?)
    }

    fn enqueue(&mut self, subject: EventSubject, notification: AlertNotification) {
        let AlertNotification { recipients, excluded, threads, silence, .. } = notification;
        let pending_index = self.pending_index.get_or_insert_with(|| PendingIndex::of(self.state));
        let (recipients, threads) = (&recipients, &threads);
        let (at, evaluated_at) = (self.queued_at, Some(self.now));
        self.state
            .enqueue(NewEvent { subject, at, evaluated_at, recipients, threads, silence, excluded }, pending_index);
    }

    /// Ends the alerts of divisions that are gone from a good listing, with one notice for each division to those notified.
    fn end_removed_divisions(&mut self, active: &BTreeSet<u64>) {
        let account = self.policy.account.clone();
        let gone = |key: &AlertKey| key.account == account && key.division.is_some_and(|id| !active.contains(&id));
        let mut keys_by_division: BTreeMap<Division, Vec<AlertKey>> = BTreeMap::new();
        for key in self.state.alerts.keys().filter(|key| gone(key)) {
            keys_by_division.entry(key.division).or_default().push(key.clone());
        }
        for (division, keys) in keys_by_division {
            self.end_removed_division(division, &keys);
        }
    }

    fn end_removed_division(&mut self, division: Division, keys: &[AlertKey]) {
        let (mut recipients, mut rules, mut division_name) = (BTreeSet::new(), Vec::new(), None);
        for key in keys {
            let incidents = &self.policy.incident_notifiers;
            let pending_index = self.pending_index.get_or_insert_with(|| PendingIndex::of(self.state));
            let Some((record, notified)) = end_alert(self.state, pending_index, key, incidents, self.queued_at) else {
                continue;
            };
            recipients.extend(notified);
            self.changed = true;
            division_name = division_name.or(record.division_name);
            if record.alert.firing().is_some() {
                rules.push(key.rule.clone());
            }
        }
        let account = self.policy.account.clone();
        self.log_entries.push(AlertLogEntry {
            kind: "unwatched",
            alert: alert_label(&AlertKey { account: account.clone(), division, rule: "*".into() }),
            of_unreadable: false,
            level: "-".to_owned(),
            text: "division is gone from CertCentral's list: no longer watched",
        });
        let subject = EventSubject::Unwatched { account, division, division_name, rules };
        let pending_index = self.pending_index.get_or_insert_with(|| PendingIndex::of(self.state));
        self.state.enqueue_notice(subject, self.queued_at, &recipients, pending_index);
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
