//! (state, harvest, now) → (state, news): the pure middle of a cycle, and the one place where a reading becomes an event.
//!
//! No I/O, no clock, no logging: what happened comes back as [`AlertLogEntry`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::alerting::evaluate::{Evaluation, LevelCondition, LevelEvaluation, NotEvaluated, evaluate_in};
use crate::alerting::state::{AlertRecord, NewEvent, PendingIndex, State};
use crate::domain::alert::{AlertKey, AlertStatus, Transition, TransitionKind, transition};
use crate::domain::balance::{Balance, Persistence, Reading, Unreadable};
use crate::domain::event::{EvaluatedThreshold, EventSubject, MetricValue, ThresholdEvent, UnreadableEvent};
use crate::domain::money::Currency;
use crate::domain::rule::{Rule, Severity, UNREADABLE};
use crate::domain::silence::{Silence, SilenceSummary, suppress};
use crate::domain::{Division, Name, Time};
use crate::polling::poller::{AccountPolicy, AccountReadings, CycleTime, DivisionReading, DivisionScope};

/// One line of news for the log.
pub struct AlertLogEntry {
    /// The event's name.
    pub kind: &'static str,
    /// `rule/account/division`.
    pub alert: String,
    /// Whether it is about a balance that cannot be read.
    pub of_unreadable: bool,
    /// The level, or `-`.
    pub level: String,
    /// A sentence.
    pub text: &'static str,
}

impl AlertLogEntry {
    /// The name that the event is counted under: that an account is unreadable is another thing than that it is low.
    pub fn counted_as(&self) -> String {
        if self.of_unreadable { format!("unreadable_{}", self.kind) } else { self.kind.to_owned() }
    }
}

/// What settling did.
pub struct ProcessedReadings {
    /// The events.
    pub log_entries: Vec<AlertLogEntry>,
    /// Whether the state changed.
    pub changed: bool,
    /// Whether everything that the rules look at could be read and evaluated.
    pub complete: bool,
}

/// Applies a harvest to the state: judges every rule, moves every alert, owes every event. At most one event an alert.
pub fn process(
    state: &mut State,
    policy: &AccountPolicy,
    readings: &AccountReadings,
    time: impl Into<CycleTime>,
) -> ProcessedReadings {
    let CycleTime { planned: now, read_at: queued_at } = time.into();
    let changed = state.drop_ended_silences(now);
    let (unreadable, complete) = (UNREADABLE.into(), readings.listing_failure.is_none());
    let mut processor = ReadingsProcessor {
        state,
        policy,
        now,
        queued_at,
        log_entries: Vec::new(),
        changed,
        complete,
        unreadable,
        pending_index: None,
    };
    if let Some(active) = &readings.active {
        processor.end_removed_divisions(active);
    }
    if matches!(policy.scope, DivisionScope::All(_)) {
        let nothing_read = readings.divisions.is_empty();
        let context = AlertContext {
            reason: readings.listing_failure.as_ref().map(|why| why.reason.clone()),
            ..AlertContext::default()
        };
        processor.process_unreadable(None, context, readings.listing_failure.as_ref(), |key| {
            nothing_read && key.account == policy.account
        });
    }
    for division_reading in &readings.divisions {
        processor.process_reading(division_reading);
    }
    ProcessedReadings { log_entries: processor.log_entries, changed: processor.changed, complete: processor.complete }
}

/// The state on the table while one harvest is settled.
struct ReadingsProcessor<'a> {
    state: &'a mut State,
    policy: &'a AccountPolicy,
    /// What alerts are judged by.
    now: Time,
    /// What events are stamped with.
    queued_at: Time,
    log_entries: Vec<AlertLogEntry>,
    changed: bool,
    complete: bool,
    /// The name of the unreadable alert, to share.
    unreadable: Name,
    /// What is owed, once anything is.
    pending_index: Option<PendingIndex>,
}

/// What is remembered of an alert beside its life.
#[derive(Default)]
struct AlertContext<'a> {
    /// The division's name.
    name: Option<&'a str>,
    /// Why it is unreadable.
    reason: Option<String>,
    /// The rules that cannot be judged though the balance was read.
    unevaluated_rules: Vec<Name>,
    /// The currency of the reading.
    currency: Option<Currency>,
}

/// What keeps the rules of one division from being evaluated.
#[derive(Default)]
struct EvaluationProblems {
    failures: Vec<Unreadable>,
    /// Rules of which a level, or all, cannot be evaluated.
    unevaluated_rules: BTreeSet<Name>,
    /// Those of them whose alerts stand still.
    unchanged_rules: BTreeSet<Name>,
    /// Something is being read for the first time: whether it can be is not known, so nothing is readable *again*.
    not_yet_read: bool,
}

/// What somebody is told of one alert.
struct AlertNotification {
    /// What happened, as those who are told see it.
    transition: Transition,
    /// Who is told.
    recipients: BTreeSet<Name>,
    /// Who must not be told, not even in place of another.
    excluded: BTreeSet<Name>,
    /// The threads of those who were told before.
    threads: BTreeMap<Name, Option<String>>,
    /// The silence that the message shows.
    silence: Option<SilenceSummary>,
}

impl ReadingsProcessor<'_> {
    fn key(&self, division: Division, rule: &Name) -> AlertKey {
        AlertKey { account: self.policy.account.clone(), division, rule: rule.clone() }
    }

    /// The alerts of a division, or (`None`) of the whole account, without a look at all the others.
    fn alerts_below(&self, division: Division) -> impl Iterator<Item = (&AlertKey, &AlertRecord)> {
        let account = self.policy.account.clone();
        let first = AlertKey { account: account.clone(), division, rule: "".into() };
        let below = move |key: &AlertKey| key.account == account && (division.is_none() || key.division == division);
        self.state.alerts.range(first..).take_while(move |(key, _)| below(key))
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
        let balance_failed = division_reading.balance.is_err();
        let account = self.policy.account.clone();
        let is_unchanged = |key: &AlertKey| {
            key.account == account
                && key.division == division_reading.division
                && (balance_failed || unchanged_rules.contains(&key.rule))
        };
        let failure = merge_failures(failures);
        self.complete &= failure.is_none();
        if failure.is_none() && not_yet_read {
            return;
        }
        if self.policy.scope == DivisionScope::Undivided || division_reading.division.is_some() {
            let context = AlertContext {
                name: division_reading.name.as_deref(),
                reason: failure.as_ref().map(|why| why.reason.clone()),
                unevaluated_rules: unevaluated_rules.into_iter().collect(),
                currency: None,
            };
            self.process_unreadable(division_reading.division, context, failure.as_ref(), is_unchanged);
        }
    }

    /// Settles what one rule makes of a balance, and notes what keeps it from that.
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

    /// Whether the level that a rule's alert fires at is one that could not be evaluated.
    fn fires_unevaluated(&self, rule: &Rule, division_reading: &DivisionReading, evaluation: &Evaluation) -> bool {
        let record = self.state.alerts.get(&self.key(division_reading.division, &rule.name));
        record.and_then(|record| record.alert.firing()).is_some_and(|level| !evaluation.is_evaluated(level))
    }

    /// The currency of the amounts that a rule's alert fires on, while it does.
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
        let (value, currency) = match reading {
            Reading::Amount(money) => (MetricValue::Amount(*money), Some(money.currency)),
            Reading::Time(lasts) => (MetricValue::Time(*lasts), None),
            Reading::Unlimited | Reading::NotYetKnown(_) | Reading::NotYetRead(_) | Reading::Unreadable(_) => {
                (MetricValue::Unlimited, None)
            }
        };
        // A level that was not evaluated fires on the amount of before.
        let before = evaluation.problem.as_ref().and_then(|_| self.alert_currency(rule, division_reading));
        let context = AlertContext {
            name: division_reading.name.as_deref(),
            currency: before.or(currency),
            ..AlertContext::default()
        };
        let notify = |severity| rule.level(severity).map(|level| level.notify.as_slice()).unwrap_or_default();
        let Some(notification) = self.apply_evaluation(&key, context, evaluation, remind, notify) else { return };
        let transition = notification.transition;
        // What is over is over for both levels: the milder threshold is the one that the reader wants to be back above.
        let evaluated = |severity| rule.level(severity).filter(|_| evaluation.is_evaluated(severity));
        let milder = evaluated(Severity::Warning).filter(|_| transition.kind == TransitionKind::Resolved);
        let goes_on = transition.kind != TransitionKind::Resolved;
        let evaluated_level = milder.or_else(|| evaluated(transition.level));
        let subject = EventSubject::Threshold(ThresholdEvent {
            division_name: division_reading.name.clone(),
            kind: transition.kind,
            level: transition.level,
            since: transition.since,
            metric: rule.metric,
            within: rule.within(),
            value,
            threshold: evaluated_level.map(|level| EvaluatedThreshold {
                side: level.side(),
                // The level's own currency is that of the reading, or there is none in the reading.
                bound: level.threshold().with_default_currency(currency.or(level.currency())),
            }),
            breakdown: balance.breakdown(),
            next_reminder: self.next_reminder(transition, remind(transition.level)),
            forecast: division_reading
                .forecast
                .as_ref()
                .filter(|_| goes_on)
                .and_then(|it| it.summary(rule))
                .map(Box::new),
            chart: division_reading.forecast.as_ref().filter(|_| goes_on).and_then(|it| it.chart(rule)).map(Arc::new),
            key,
        });
        self.enqueue(subject, notification);
    }

    /// The alert of its own about what cannot be read. `is_unchanged` tells which alerts it keeps from moving.
    fn process_unreadable(
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
        let (name, reason) = (context.name, context.reason.clone());
        // It is about such rules once it ever was: what ends it speaks for both.
        let before = || self.state.alerts.get(&key).map(|before| before.unevaluated_rules.clone());
        let unevaluated_rules =
            if failure.is_some() { context.unevaluated_rules.clone() } else { before().unwrap_or_default() };
        let (remind, notify) = (|_| policy.remind_every, |_| policy.notify.as_slice());
        let Some(notification) = self.apply_evaluation(&key, context, &evaluation, remind, notify) else { return };
        let transition = notification.transition;
        let unchanged_alerts = self
            .alerts_below(division)
            .filter(|(key, _)| failure.is_some() && *key.rule != *UNREADABLE && is_unchanged(key));
        let firing_alerts =
            unchanged_alerts.filter_map(|(key, record)| Some((key.clone(), record.alert.firing()?))).collect();
        let subject = EventSubject::Unreadable(UnreadableEvent {
            division_name: name.map(str::to_owned),
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

    /// `unreadable.level` was edited while the alert lives: it goes on at the new level, which is no news.
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

    /// Moves one alert, whatever silences there are, and remembers it. Returns what somebody is told of it.
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
        let silences = self.silences(key);
        let suppression = suppress(before.suppressed.as_ref(), &before.alert, &alert, transition, &silences, self.now);
        if suppression.notified.is_some() && self.pending_index.is_none() {
            self.pending_index = Some(PendingIndex::of(self.state));
        }
        let notification = suppression.notified.map(|transition| {
            let (recipients, excluded) = self.recipients(key, transition, &notify);
            AlertNotification {
                transition,
                recipients,
                excluded,
                threads: before.alert.notified.clone(),
                silence: suppression.silence,
            }
        });
        self.log_transition(key, transition, notification.as_ref().map(|notification| notification.transition));
        if notification.is_some() && alert.firing().is_some() {
            alert.last_event = Some(self.now);
        }
        if alert.status() == AlertStatus::Ok {
            self.changed |= self.state.alerts.remove(key).is_some();
        } else {
            let division_name = context.name.map(str::to_owned).or_else(|| before.division_name.clone());
            let currency = context.currency.or(before.currency);
            let unevaluated_rules = if context.unevaluated_rules.is_empty() {
                before.unevaluated_rules.clone()
            } else {
                context.unevaluated_rules
            };
            let (reason, suppressed) = (context.reason, suppression.suppressed);
            let after = AlertRecord { alert, division_name, reason, unevaluated_rules, currency, suppressed };
            if after != before {
                self.changed = true;
                self.state.alerts.insert(key.clone(), after);
            }
        }
        notification
    }

    /// The silences in force that are about this alert.
    fn silences(&self, key: &AlertKey) -> Vec<&Silence> {
        let all = self.state.silences.values().chain(self.policy.silences.iter());
        all.filter(|silence| silence.matches(key) && silence.in_force(self.now)).collect()
    }

    /// The notifiers of the level, or those that were notified before; of an easing both, since it may be the first that
    /// warning's notifiers hear of the alert. And those that it is kept from: an easing would open an incident anew, and page
    /// again, where somebody has closed it.
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

    /// Where nothing of an alert is owed, nobody need look for it.
    fn notified_or_pending(&self, key: &AlertKey) -> BTreeSet<Name> {
        let may_be_pending = self.pending_index.as_ref().is_none_or(|pending_index| pending_index.may_be_pending(key));
        if may_be_pending { self.state.notified_or_pending(key) } else { self.state.notified_of(key).collect() }
    }

    /// A line for the log: what happened to the alert, and whether people hear of it.
    fn log_transition(&mut self, key: &AlertKey, transition: Option<Transition>, notified: Option<Transition>) {
        let Some(line) = transition.or(notified) else { return };
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
        let (kind, level) = (line.kind.name(), line.level.to_string());
        self.log_entries.push(AlertLogEntry {
            kind,
            alert: alert_label(key),
            of_unreadable: *key.rule == *UNREADABLE,
            level,
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

    /// A division that is gone from a good listing ends its alerts, with one notice to those who were told.
    fn end_removed_divisions(&mut self, active: &BTreeSet<u64>) {
        let account = self.policy.account.clone();
        let gone = |key: &AlertKey| key.account == account && key.division.is_some_and(|id| !active.contains(&id));
        let keys: Vec<AlertKey> = self.state.alerts.keys().filter(|key| gone(key)).cloned().collect();
        let divisions: BTreeSet<Division> = keys.iter().map(|key| key.division).collect();
        for division in divisions {
            let (mut recipients, mut rules, mut division_name) = (BTreeSet::new(), Vec::new(), None);
            for key in keys.iter().filter(|key| key.division == division) {
                let incidents = &self.policy.incident_notifiers;
                let pending_index = self.pending_index.get_or_insert_with(|| PendingIndex::of(self.state));
                let ended = end_alert(self.state, pending_index, key, incidents, self.queued_at);
                let Some((record, notified)) = ended else { continue };
                recipients.extend(notified);
                self.changed = true;
                division_name = division_name.or(record.division_name);
                if record.alert.firing().is_some() {
                    rules.push(key.rule.clone());
                }
            }
            let alert = alert_label(&AlertKey { account: account.clone(), division, rule: "*".into() });
            let text = "division is gone from CertCentral's list: no longer watched";
            self.log_entries.push(AlertLogEntry {
                kind: "unwatched",
                alert,
                of_unreadable: false,
                level: "-".to_owned(),
                text,
            });
            let subject = EventSubject::Unwatched { account: account.clone(), division, division_name, rules };
            let pending_index = self.pending_index.get_or_insert_with(|| PendingIndex::of(self.state));
            self.state.enqueue_notice(subject, self.queued_at, &recipients, pending_index);
        }
    }
}

/// Removes an alert that nothing evaluates any more. Notifiers that keep incidents are told to resolve theirs. Returns what
/// was known of it, and the others that were notified.
fn end_alert(
    state: &mut State,
    pending_index: &mut PendingIndex,
    key: &AlertKey,
    incident_notifiers: &BTreeSet<Name>,
    queued_at: Time,
) -> Option<(AlertRecord, BTreeSet<Name>)> {
    let notified = state.notified_or_pending(key);
    let record = state.alerts.remove(key)?;
    // What is pending for others still goes out, but must not open an incident in their place: nothing would resolve it.
    for queued in state.queue.iter_mut().filter(|queued| queued.event.alert() == Some(key)) {
        Arc::make_mut(&mut queued.event).audience.extend(incident_notifiers.iter().cloned());
    }
    if let Some(level) = record.alert.firing() {
        let subject = EventSubject::AlertEnded { key: key.clone(), level };
        state.enqueue_notice(subject, queued_at, &(&notified & incident_notifiers), pending_index);
    }
    Some((record, &notified - incident_notifiers))
}

/// Several failures are one: what needs action decides, and every different reason is told.
fn merge_failures(failures: Vec<Unreadable>) -> Option<Unreadable> {
    let outlook = failures.iter().map(|it| it.persistence).max_by_key(|it| *it == Persistence::Permanent)?;
    let mut reasons: Vec<String> = Vec::new();
    for failure in failures {
        if !reasons.contains(&failure.reason) {
            reasons.push(failure.reason);
        }
    }
    Some(Unreadable { persistence: outlook, reason: reasons.join("; ") })
}

/// `rule/account/division`, for logs.
pub fn alert_label(key: &AlertKey) -> String {
    match key.division {
        Some(id) => format!("{}/{}/{id}", key.rule, key.account),
        None => format!("{}/{}", key.rule, key.account),
    }
}

/// Ends, without a message, every alert whose rule, account or division left the configuration. Returns them. Incidents that
/// were opened for them are resolved.
pub fn end_unconfigured_alerts(state: &mut State, policies: &[&AccountPolicy], now: Time) -> Vec<AlertKey> {
    let configured = |key: &AlertKey| {
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
    };
    let gone: Vec<AlertKey> = state.alerts.keys().filter(|key| !configured(key)).cloned().collect();
    let incident_notifiers = policies.first().map(|policy| Arc::clone(&policy.incident_notifiers)).unwrap_or_default();
    let mut pending_index = PendingIndex::of(state);
    for key in &gone {
        end_alert(state, &mut pending_index, key, &incident_notifiers, now);
    }
    gone
}
