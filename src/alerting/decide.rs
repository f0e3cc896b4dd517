//! First step of processing: evaluates the readings and decides how each alert changes, without changing the state.
//!
//! Rules on the balance are decided first ([`BalanceDecisions`]), because they tell which forecasts the messages of this cycle
//! need. Rules on a forecast follow when the readings have their forecasts ([`Decisions`]).

use std::collections::BTreeSet;
use std::time::Duration;

use super::evaluate::{Evaluation, LevelCondition, LevelEvaluation, NotEvaluated, evaluate_in};
use super::policy::{AccountPolicy, DivisionScope};
use super::readings::{AccountReadings, DivisionReading};
use super::state::State;
use super::transition::transition;
use crate::domain::alert::{Alert, AlertKey, AlertStatus, Transition, TransitionKind};
use crate::domain::balance::{Persistence, Reading, Unreadable};
use crate::domain::money::Currency;
use crate::domain::rule::{Rule, Severity, UNREADABLE, UnreadablePolicy};
use crate::domain::{Division, Name, Time};
use crate::forecast::shows_forecast;

/// The decided change of one alert.
pub(super) struct AlertDecision {
    pub(super) key: AlertKey,
    /// The alert after the reading. Its `notified` is that of the state at commit.
    pub(super) alert: Alert,
    /// The transition, whether or not a silence suppresses its message.
    pub(super) transition: Option<Transition>,
}

/// The decision on one rule's alert.
pub(super) struct RuleDecision {
    /// Index of the rule in the policy.
    pub(super) rule: usize,
    pub(super) reading: Reading,
    pub(super) evaluation: Evaluation,
    pub(super) decision: AlertDecision,
    /// The currency to store with the alert.
    pub(super) currency: Option<Currency>,
    /// The last message about the alert was suppressed, so the next one may follow without a transition.
    was_suppressed: bool,
}

/// The alerts that an unreadable balance leaves unchanged.
pub(super) enum UnchangedAlerts {
    /// All alerts of the account, because no division was read.
    Account,
    /// All alerts of the division.
    Division,
    /// The alerts of these rules of the division.
    Rules(BTreeSet<Name>),
}

impl UnchangedAlerts {
    /// Returns true for an alert of the account that stays unchanged while `division` is unreadable.
    pub(super) fn contains(&self, division: Division, key: &AlertKey) -> bool {
        match self {
            UnchangedAlerts::Account => true,
            UnchangedAlerts::Division => key.division == division,
            UnchangedAlerts::Rules(rules) => key.division == division && rules.contains(&key.rule),
        }
    }
}

/// The decision on the alert about an unreadable account or division.
pub(super) struct UnreadableDecision {
    pub(super) decision: AlertDecision,
    /// The name of the division, if known.
    pub(super) division_name: Option<String>,
    /// `None` if everything was read.
    pub(super) failure: Option<Unreadable>,
    /// Rules that could not be evaluated although the balance was read.
    pub(super) unevaluated_rules: Vec<Name>,
    pub(super) unchanged: UnchangedAlerts,
}

/// All decisions on one division.
#[derive(Default)]
pub(super) struct DivisionDecisions {
    /// In the order of the rules. Rules whose alert was ok and stays ok are left out.
    pub(super) rules: Vec<RuleDecision>,
    pub(super) unreadable: Option<UnreadableDecision>,
    problems: EvaluationProblems,
}

/// Reasons why rules of one division could not be evaluated.
#[derive(Default)]
struct EvaluationProblems {
    /// With the index of the rule.
    failures: Vec<(usize, Unreadable)>,
    /// Rules of which at least one level could not be evaluated.
    unevaluated_rules: BTreeSet<Name>,
    /// The unevaluated rules whose alerts stay unchanged.
    unchanged_rules: BTreeSet<Name>,
    /// Some history is being read for the first time, so nothing can be said to be readable again.
    not_yet_read: bool,
}

/// The decisions of the rules that need no forecast.
pub struct BalanceDecisions(Decisions);

/// The decisions on one cycle's readings, ready to be committed.
pub struct Decisions {
    /// The time as of which the readings were evaluated.
    pub(super) now: Time,
    /// The decision on the alert about the account, if its divisions are listed.
    pub(super) unreadable_account: Option<UnreadableDecision>,
    /// One entry for each reading, in their order.
    pub(super) divisions: Vec<DivisionDecisions>,
    /// True if everything that the rules watch could be read and evaluated.
    pub(super) complete: bool,
}

impl BalanceDecisions {
    /// Decides on the rules that evaluate the balance alone, as of `now`.
    pub fn new(state: &State, policy: &AccountPolicy, readings: &AccountReadings, now: Time) -> Self {
        let divisions = readings.divisions.iter().map(|_| DivisionDecisions::default()).collect();
        let mut decisions = Decisions { now, unreadable_account: None, divisions, complete: true };
        decisions.evaluate_rules(state, policy, readings, |rule| !rule.metric.needs_history());
        Self(decisions)
    }

    /// Returns true if a message that shows a forecast may follow from the reading at this index.
    pub fn may_notify(&self, policy: &AccountPolicy, index: usize) -> bool {
        let division = self.0.divisions.get(index);
        division.into_iter().flat_map(|division| &division.rules).any(|rule_decision| {
            let transition = rule_decision.decision.transition;
            let is_news = transition.is_some_and(|transition| transition.kind != TransitionKind::Resolved);
            (is_news || rule_decision.was_suppressed)
                && policy.rules.get(rule_decision.rule).is_some_and(shows_forecast)
        })
    }

    /// Adds the decisions of the rules that evaluate a forecast, and those on unreadable balances.
    pub fn with_forecasts(self, state: &State, policy: &AccountPolicy, readings: &AccountReadings) -> Decisions {
        let Self(mut decisions) = self;
        decisions.evaluate_rules(state, policy, readings, |rule| rule.metric.needs_history());
        decisions.decide_unreadable_account(state, policy, readings);
        let (now, rule) = (decisions.now, Name::from(UNREADABLE));
        for (division, reading) in decisions.divisions.iter_mut().zip(&readings.divisions) {
            division.rules.sort_by_key(|rule_decision| rule_decision.rule);
            decisions.complete &= division.decide_unreadable(state, policy, reading, rule.clone(), now);
        }
        decisions
    }
}

impl Decisions {
    fn evaluate_rules(
        &mut self,
        state: &State,
        policy: &AccountPolicy,
        readings: &AccountReadings,
        is_due: impl Fn(&Rule) -> bool,
    ) {
        let due: Vec<(usize, &Rule)> = policy.rules.iter().enumerate().filter(|(_, rule)| is_due(rule)).collect();
        for (division, reading) in self.divisions.iter_mut().zip(&readings.divisions) {
            if reading.balance.is_err() {
                continue;
            }
            for (index, rule) in due.iter().filter(|(_, rule)| rule.watches(&policy.account, reading.division)) {
                division.evaluate_rule(state, policy, (*index, rule), reading, self.now);
            }
        }
    }

    /// Decides on the alert about an account whose divisions could not be listed.
    fn decide_unreadable_account(&mut self, state: &State, policy: &AccountPolicy, readings: &AccountReadings) {
        self.complete &= readings.listing_failure.is_none();
        if !matches!(policy.scope, DivisionScope::All(_)) {
            return;
        }
        let key = AlertKey { account: policy.account.clone(), division: None, rule: UNREADABLE.into() };
        let decision = decide_unreadable(state, policy, key, readings.listing_failure.as_ref(), self.now);
        let nothing_read = readings.divisions.is_empty();
        self.unreadable_account = decision.map(|decision| UnreadableDecision {
            decision,
            division_name: None,
            failure: readings.listing_failure.clone(),
            unevaluated_rules: Vec::new(),
            unchanged: if nothing_read { UnchangedAlerts::Account } else { UnchangedAlerts::Rules(BTreeSet::new()) },
        });
    }
}

impl DivisionDecisions {
    /// Decides on the alert of one rule, or notes why the rule cannot be evaluated.
    fn evaluate_rule(
        &mut self,
        state: &State,
        policy: &AccountPolicy,
        (index, rule): (usize, &Rule),
        division_reading: &DivisionReading,
        now: Time,
    ) {
        let reading = division_reading.reading(rule);
        let key =
            AlertKey { account: policy.account.clone(), division: division_reading.division, rule: rule.name.clone() };
        let record = state.alerts.get(&key);
        // The currency of the amounts that the alert fires on, while it does.
        let alert_currency = record.filter(|record| record.alert.firing().is_some()).and_then(|record| record.currency);
        let evaluation = match evaluate_in(rule, &reading, alert_currency) {
            Ok(evaluation) => evaluation,
            Err(NotEvaluated::Unreadable(why)) => return self.problems.add(index, rule, why, true),
            Err(NotEvaluated::NotYetKnown(_)) => return,
            Err(NotEvaluated::NotYetRead(_)) => {
                self.problems.not_yet_read = true;
                return;
            }
        };
        let ok = Alert::default();
        let before = record.map_or(&ok, |record| &record.alert);
        let remind_every = |severity| rule.level(severity).and_then(|level| level.remind_every);
        let (alert, transition) = transition(before, &evaluation, remind_every, now);
        if let Some(why) = &evaluation.problem {
            let is_unchanged = alert.firing().is_some_and(|level| !evaluation.is_evaluated(level));
            self.problems.add(index, rule, (**why).clone(), is_unchanged);
        }
        if record.is_none() && alert.status() == AlertStatus::Ok {
            return;
        }
        // A level that could not be evaluated still fires on the amount of an earlier reading.
        let earlier_currency = alert_currency.filter(|_| evaluation.problem.is_some());
        self.rules.push(RuleDecision {
            rule: index,
            currency: earlier_currency.or(reading_currency(&reading)),
            reading,
            evaluation,
            decision: AlertDecision { key, alert, transition },
            was_suppressed: record.is_some_and(|record| record.suppressed.is_some()),
        });
    }

    /// Decides on the alert about an unreadable division. Returns true if everything was read and evaluated.
    fn decide_unreadable(
        &mut self,
        state: &State,
        policy: &AccountPolicy,
        reading: &DivisionReading,
        unreadable: Name,
        now: Time,
    ) -> bool {
        let EvaluationProblems { mut failures, unevaluated_rules, unchanged_rules, not_yet_read } =
            std::mem::take(&mut self.problems);
        failures.sort_by_key(|(rule, _)| *rule);
        let unread = reading.balance.as_ref().err().cloned();
        let unchanged =
            if unread.is_some() { UnchangedAlerts::Division } else { UnchangedAlerts::Rules(unchanged_rules) };
        let failure = merge_failures(unread.into_iter().chain(failures.into_iter().map(|(_, why)| why)).collect());
        let is_complete = failure.is_none();
        let has_own_alert = policy.scope == DivisionScope::Undivided || reading.division.is_some();
        if !has_own_alert || (is_complete && not_yet_read) {
            return is_complete;
        }
        let key = AlertKey { account: policy.account.clone(), division: reading.division, rule: unreadable };
        let decision = decide_unreadable(state, policy, key, failure.as_ref(), now);
        self.unreadable = decision.map(|decision| UnreadableDecision {
            decision,
            division_name: reading.name.clone(),
            failure,
            unevaluated_rules: unevaluated_rules.into_iter().collect(),
            unchanged,
        });
        is_complete
    }
}

impl EvaluationProblems {
    fn add(&mut self, index: usize, rule: &Rule, why: Unreadable, is_unchanged: bool) {
        self.failures.push((index, why));
        self.unevaluated_rules.insert(rule.name.clone());
        if is_unchanged {
            self.unchanged_rules.insert(rule.name.clone());
        }
    }
}

fn reading_currency(reading: &Reading) -> Option<Currency> {
    match reading {
        Reading::Amount(money) => Some(money.currency),
        _ => None,
    }
}

/// Decides on the alert about an unreadable account or division. `None` if it was readable and still is.
fn decide_unreadable(
    state: &State,
    policy: &AccountPolicy,
    key: AlertKey,
    failure: Option<&Unreadable>,
    now: Time,
) -> Option<AlertDecision> {
    let settings: &UnreadablePolicy = &policy.unreadable;
    let record = state.alerts.get(&key);
    if failure.is_none() && record.is_none() {
        return None;
    }
    let condition = if failure.is_some() { LevelCondition::Breached } else { LevelCondition::Clear };
    let is_permanent = failure.is_some_and(|why| why.persistence == Persistence::Permanent);
    let hold = if is_permanent { Duration::ZERO } else { settings.after };
    let evaluation = Evaluation::single(settings.level, LevelEvaluation { condition, hold });
    let before = record.map(|record| at_level(record.alert.clone(), settings.level)).unwrap_or_default();
    let (alert, transition) = transition(&before, &evaluation, |_| settings.remind_every, now);
    Some(AlertDecision { key, alert, transition })
}

/// Moves an unreadable alert to the level that is configured now. An edited `unreadable.level` causes no event.
pub(super) fn at_level(mut alert: Alert, level: Severity) -> Alert {
    let (from, to) = match level {
        Severity::Warning => (&mut alert.critical, &mut alert.warning),
        Severity::Critical => (&mut alert.warning, &mut alert.critical),
    };
    if let Some(level_state) = from.take() {
        to.get_or_insert(level_state);
    }
    alert
}

/// Joins several failures into one: permanent if any is, with each distinct reason once.
fn merge_failures(failures: Vec<Unreadable>) -> Option<Unreadable> {
    let persistence = failures.iter().map(|why| why.persistence).max_by_key(|it| *it == Persistence::Permanent)?;
    let mut reasons: Vec<String> = Vec::new();
    for failure in failures {
        if !reasons.contains(&failure.reason) {
            reasons.push(failure.reason);
        }
    }
    Some(Unreadable { persistence, reason: reasons.join("; ") })
}
