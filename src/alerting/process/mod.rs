//! Steps from the readings of one account to queued events: evaluate, transition, suppress, enqueue.
//!
//! The only place where a reading becomes an event. No I/O, no clock, no logging: lines for the log are returned as
//! [`AlertLogEntry`].

mod unreadable;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::alerting::ended::end_removed_divisions;
use crate::alerting::evaluate::{Evaluation, NotEvaluated, evaluate_in};
use crate::alerting::log_entry::AlertLogEntry;
use crate::alerting::queue::NewEvent;
use crate::alerting::state::{AlertRecord, State};
use crate::alerting::suppress::{SuppressionInput, suppress};
use crate::alerting::transition::transition;
use crate::domain::alert::{AlertKey, AlertStatus, Transition, TransitionKind};
use crate::domain::balance::{Balance, MetricValue, Reading, Unreadable};
use crate::domain::event::{EvaluatedThreshold, EventSubject, ThresholdEvent};
use crate::domain::money::Currency;
use crate::domain::rule::{Level, Rule, Severity, UNREADABLE};
use crate::domain::silence::{Silence, SilenceSummary};
use crate::domain::{Division, Name, Time};
use crate::polling::poller::{AccountPolicy, AccountReadings, CycleTime, DivisionReading, DivisionScope};

/// Result of processing the readings of one account.
pub struct ProcessedReadings {
    /// Lines for the log, in the order of the readings.
    pub log_entries: Vec<AlertLogEntry>,
    /// Set if the state changed.
    pub changed: bool,
    /// Set if everything that the rules look at was read and evaluated.
    pub complete: bool,
}

/// Applies the readings of one account to the state: evaluates every rule, changes alerts, and queues at most one event for
/// each alert.
pub fn process(
    state: &mut State,
    policy: &AccountPolicy,
    readings: &AccountReadings,
    time: impl Into<CycleTime>,
) -> ProcessedReadings {
    let CycleTime { planned: now, read_at: queued_at } = time.into();
    let changed = state.drop_ended_silences(now);
    let (unreadable, complete) = (UNREADABLE.into(), readings.listing_failure.is_none());
    let log_entries = Vec::new();
    let mut processor = ReadingsProcessor { state, policy, now, queued_at, log_entries, changed, complete, unreadable };
    if let Some(active) = &readings.active {
        let log_entries = end_removed_divisions(processor.state, policy, active, queued_at);
        processor.changed |= !log_entries.is_empty();
        processor.log_entries.extend(log_entries);
    }
    if matches!(policy.scope, DivisionScope::All(_)) {
        processor.process_listing(readings);
    }
    for division_reading in &readings.divisions {
        processor.process_reading(division_reading);
    }
    ProcessedReadings { log_entries: processor.log_entries, changed: processor.changed, complete: processor.complete }
}

/// State and results while the readings of one account are processed.
struct ReadingsProcessor<'a> {
    state: &'a mut State,
    policy: &'a AccountPolicy,
    /// Time at which alerts are evaluated.
    now: Time,
    /// Time of new events.
    queued_at: Time,
    log_entries: Vec<AlertLogEntry>,
    changed: bool,
    complete: bool,
    /// Shared name of the alert `unreadable`.
    unreadable: Name,
}

/// Details of a reading that are saved with an alert.
#[derive(Default)]
struct AlertContext<'a> {
    division_name: Option<&'a str>,
    /// Reason why the balance is unreadable.
    reason: Option<String>,
    /// Rules that cannot be evaluated although the balance was read.
    unevaluated_rules: Vec<Name>,
    /// Currency of the reading.
    currency: Option<Currency>,
}

/// Problems that keep rules of one division from being evaluated.
#[derive(Default)]
struct EvaluationProblems {
    failures: Vec<Unreadable>,
    /// Rules of which one level or both cannot be evaluated.
    unevaluated_rules: BTreeSet<Name>,
    /// Rules among them whose alerts do not change.
    unchanged_rules: BTreeSet<Name>,
    /// Set if something is being read for the first time: it is not known whether it is readable.
    not_yet_read: bool,
}

/// Notification about a change of one alert.
struct AlertNotification {
    /// Change, as those who are notified see it.
    transition: Transition,
    recipients: BTreeSet<Name>,
    /// Notifiers that must not deliver it, not even as a fallback.
    excluded: BTreeSet<Name>,
    /// Message-ID of the alert's first message, by notifier.
    threads: BTreeMap<Name, Option<String>>,
    silence: Option<SilenceSummary>,
}

impl ReadingsProcessor<'_> {
    fn key(&self, division: Division, rule: &Name) -> AlertKey {
        AlertKey { account: self.policy.account.clone(), division, rule: rule.clone() }
    }

    fn process_reading(&mut self, division_reading: &DivisionReading) {
        let mut problems = EvaluationProblems::default();
        let rules = Arc::clone(&self.policy.rules);
        match &division_reading.balance {
            Err(why) => problems.failures.push(why.clone()),
            Ok(balance) => {
                for rule in rules.iter().filter(|rule| rule.watches(&self.policy.account, division_reading.division)) {
                    self.evaluate_rule(rule, division_reading, balance, &mut problems);
                }
            }
        }
        let EvaluationProblems { failures, unevaluated_rules, unchanged_rules, not_yet_read } = problems;
        let failure = unreadable::merge_failures(failures);
        self.complete &= failure.is_none();
        if failure.is_none() && not_yet_read {
            return;
        }
        if self.policy.scope == DivisionScope::Undivided || division_reading.division.is_some() {
            let context = AlertContext {
                division_name: division_reading.name.as_deref(),
                reason: failure.as_ref().map(|why| why.reason.clone()),
                unevaluated_rules: unevaluated_rules.into_iter().collect(),
                currency: None,
            };
            let (account, balance_failed) = (self.policy.account.clone(), division_reading.balance.is_err());
            let is_unchanged = |key: &AlertKey| {
                key.account == account
                    && key.division == division_reading.division
                    && (balance_failed || unchanged_rules.contains(&key.rule))
            };
            self.process_unreadable(division_reading.division, context, failure.as_ref(), is_unchanged);
        }
    }

    /// Evaluates one rule, processes the result, and records what kept a level from being evaluated.
    fn evaluate_rule(
        &mut self,
        rule: &Rule,
        division_reading: &DivisionReading,
        balance: &Balance,
        problems: &mut EvaluationProblems,
    ) {
        let reading = division_reading.reading(rule);
        let (problem, is_unchanged) = match evaluate_in(rule, &reading, self.alert_currency(rule, division_reading)) {
            Ok(evaluation) => {
                self.process_rule(rule, division_reading, balance, &reading, &evaluation);
                let is_unchanged =
                    evaluation.problem.is_some() && self.fires_unevaluated(rule, division_reading, &evaluation);
                (evaluation.problem.map(|why| *why), is_unchanged)
            }
            Err(NotEvaluated::Unreadable(why)) => (Some(why), true),
            Err(NotEvaluated::NotYetKnown(_)) => (None, false),
            Err(NotEvaluated::NotYetRead(_)) => {
                problems.not_yet_read = true;
                (None, false)
            }
        };
        let Some(why) = problem else { return };
        problems.failures.push(why);
        problems.unevaluated_rules.insert(rule.name.clone());
        if is_unchanged {
            problems.unchanged_rules.insert(rule.name.clone());
        }
    }

    /// Returns `true` if the level that the rule's alert fires at could not be evaluated.
    fn fires_unevaluated(&self, rule: &Rule, division_reading: &DivisionReading, evaluation: &Evaluation) -> bool {
        let record = self.state.alerts.get(&self.key(division_reading.division, &rule.name));
        record.and_then(|record| record.alert.firing()).is_some_and(|level| !evaluation.is_evaluated(level))
    }

    /// Returns the currency of the amounts that the rule's alert fires on; `None` if it does not fire.
    fn alert_currency(&self, rule: &Rule, division_reading: &DivisionReading) -> Option<Currency> {
        let record = self.state.alerts.get(&self.key(division_reading.division, &rule.name))?;
        record.currency.filter(|_| record.alert.firing().is_some())
    }

    fn process_rule(
        &mut self,
        rule: &Rule,
        division_reading: &DivisionReading,
        balance: &Balance,
        reading: &Reading,
        evaluation: &Evaluation,
    ) {
        let remind = |severity| rule.level(severity).and_then(|level| level.remind_every);
        let key = self.key(division_reading.division, &rule.name);
        let (value, currency) = value_of(reading);
        // A level that was not evaluated still fires on the amount of an earlier reading.
        let before = evaluation.problem.as_ref().and_then(|_| self.alert_currency(rule, division_reading));
        let context = AlertContext {
            division_name: division_reading.name.as_deref(),
            currency: before.or(currency),
            ..AlertContext::default()
        };
        let notify = |severity| rule.level(severity).map(|level| level.notify.as_slice()).unwrap_or_default();
        let Some(notification) = self.apply_evaluation(&key, context, evaluation, remind, notify) else { return };
        let transition = notification.transition;
        let forecast = division_reading.forecast.as_ref().filter(|_| transition.kind != TransitionKind::Resolved);
        let subject = EventSubject::Threshold(ThresholdEvent {
            division_name: division_reading.name.clone(),
            kind: transition.kind,
            level: transition.level,
            since: transition.since,
            metric: rule.metric,
            within: rule.within(),
            value,
            threshold: shown_level(rule, evaluation, transition).map(|level| EvaluatedThreshold {
                side: level.side(),
                // If both have a currency, it is the same one.
                bound: level.threshold().with_default_currency(currency.or(level.currency())),
            }),
            breakdown: balance.breakdown(),
            next_reminder: self.next_reminder(transition, remind(transition.level)),
            forecast: forecast.and_then(|forecast| forecast.summary(rule)).map(Box::new),
            chart: forecast.and_then(|forecast| forecast.chart(rule)).map(Arc::new),
            key,
        });
        self.enqueue(subject, notification);
    }

    /// Changes one alert by an evaluation and saves it. Returns the notification to queue, unless nothing happened or a silence
    /// suppresses it.
    fn apply_evaluation<'n>(
        &mut self,
        key: &AlertKey,
        context: AlertContext,
        evaluation: &Evaluation,
        remind: impl Fn(Severity) -> Option<Duration>,
        notify: impl Fn(Severity) -> &'n [Name],
    ) -> Option<AlertNotification> {
        let before = self.state.alerts.get(key).cloned().unwrap_or_default();
        let (mut alert, transition) = transition(&before.alert, evaluation, remind, self.now);
        let suppression = suppress(&SuppressionInput {
            suppressed: before.suppressed.as_ref(),
            before: &before.alert,
            after: &alert,
            transition,
            silences: &self.silences(key),
            now: self.now,
        });
        if suppression.notified.is_some() && alert.firing().is_some() {
            alert.last_event = Some(self.now);
        }
        if let Some(log_entry) = AlertLogEntry::of_alert(key, transition, suppression.notified) {
            self.log_entries.push(log_entry);
            self.changed = true;
        }
        let notification = suppression.notified.map(|transition| {
            let (recipients, excluded) = self.recipients(key, transition, &notify);
            let (threads, silence) = (before.alert.notified.clone(), suppression.silence);
            AlertNotification { transition, recipients, excluded, threads, silence }
        });
        if alert.status() == AlertStatus::Ok {
            self.changed |= self.state.alerts.remove(key).is_some();
            return notification;
        }
        let unevaluated_rules = Some(context.unevaluated_rules).filter(|rules| !rules.is_empty());
        let after = AlertRecord {
            alert,
            division_name: context.division_name.map(str::to_owned).or_else(|| before.division_name.clone()),
            reason: context.reason,
            unevaluated_rules: unevaluated_rules.unwrap_or_else(|| before.unevaluated_rules.clone()),
            currency: context.currency.or(before.currency),
            suppressed: suppression.suppressed,
        };
        if after != before {
            self.changed = true;
            self.state.alerts.insert(key.clone(), after);
        }
        notification
    }

    /// Returns the silences in force that match this alert.
    fn silences(&self, key: &AlertKey) -> Vec<&Silence> {
        let all = self.state.silences.values().chain(self.policy.silences.iter());
        all.filter(|silence| silence.matches(key) && silence.in_force(self.now)).collect()
    }

    /// Returns the recipients of an event, and the notifiers that must not deliver it.
    ///
    /// An event goes to the notifiers of its level, `resolved` to those who were notified before, and `eased` to both: it may be
    /// the first event that warning's notifiers receive. Notifiers that keep incidents receive `eased` only if they also get
    /// warnings: it would open a new incident if somebody has closed the old one.
    fn recipients<'n>(
        &self,
        key: &AlertKey,
        transition: Transition,
        notify: impl Fn(Severity) -> &'n [Name],
    ) -> (BTreeSet<Name>, BTreeSet<Name>) {
        let of_level: BTreeSet<Name> = notify(transition.level).iter().cloned().collect();
        match transition.kind {
            TransitionKind::Raised | TransitionKind::Escalated | TransitionKind::Reminder => {
                (of_level, BTreeSet::new())
            }
            TransitionKind::Resolved => (self.state.notified_or_pending(key), BTreeSet::new()),
            TransitionKind::Eased => {
                let excluded = &*self.policy.incident_notifiers - &of_level;
                (&(&self.state.notified_or_pending(key) | &of_level) - &excluded, excluded)
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

/// Returns the value of a reading that could be evaluated, and the currency of an amount.
fn value_of(reading: &Reading) -> (MetricValue, Option<Currency>) {
    match reading {
        Reading::Amount(money) => (MetricValue::Amount(*money), Some(money.currency)),
        Reading::Time(duration) => (MetricValue::Time(*duration), None),
        Reading::Unlimited | Reading::NotYetKnown(_) | Reading::NotYetRead(_) | Reading::Unreadable(_) => {
            (MetricValue::Unlimited, None)
        }
    }
}

/// Returns the level whose threshold the message shows: the one that the event is about. `resolved` ends both levels, so it shows
/// warning's threshold, which the reader wants the value to be above.
fn shown_level<'r>(rule: &'r Rule, evaluation: &Evaluation, transition: Transition) -> Option<&'r Level> {
    let evaluated = |severity| rule.level(severity).filter(|_| evaluation.is_evaluated(severity));
    let warning = evaluated(Severity::Warning).filter(|_| transition.kind == TransitionKind::Resolved);
    warning.or_else(|| evaluated(transition.level))
}
