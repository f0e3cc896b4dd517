//! Replays the cycles of an account at every step at which something can change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{
    BacktestFund, BacktestInput, BacktestResult, Episode, EpisodeEvent, PastBalances, RuleBacktest, SkipReason,
};
use crate::alerting::evaluate::{NotEvaluated, evaluate};
use crate::alerting::policy::{AccountPolicy, DivisionScope};
use crate::alerting::process::process;
use crate::alerting::readings::{AccountReadings, DivisionReading};
use crate::alerting::state::State;
use crate::backtest::past_forecasts::PastForecasts;
use crate::domain::alert::{Alert, LevelState, TransitionKind};
use crate::domain::event::EventSubject;
use crate::domain::rule::{Metric, Rule, Severity, UnreadablePolicy};
use crate::domain::{Division, Name, Time};

/// Replays the cycles of an account. `progress` is called with the time of each step.
///
/// Steps at which nothing can change are skipped. Readings change only with the ledger or a new forecast; alerts also change
/// at the end of a `for` and when a reminder is due.
pub fn replay(input: &BacktestInput<'_>, progress: &mut dyn FnMut(Time)) -> BacktestResult {
    replay_steps(input, ReplaySteps::Changes, progress)
}

/// Replays every single step of the schedule. Slow; tests compare [`replay`] with it.
pub fn replay_every_step(input: &BacktestInput<'_>) -> BacktestResult {
    replay_steps(input, ReplaySteps::All, &mut |_| {})
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReplaySteps {
    Changes,
    All,
}

fn replay_steps(input: &BacktestInput<'_>, steps: ReplaySteps, progress: &mut dyn FnMut(Time)) -> BacktestResult {
    let pasts: Vec<PastBalances> = input.funds.iter().map(PastBalances::of).collect();
    let (mut replay, skipped) = Replay::new(input, &pasts);
    let mut changes = replay.changes();
    changes.reverse(); // the next one last
    let mut step = Some(input.from);
    while let Some(now) = step.filter(|now| *now <= input.to) {
        progress(now);
        replay.run_cycle(now);
        let next = match steps {
            ReplaySteps::All => input.schedule.next_after(now),
            ReplaySteps::Changes => replay.next_change(now, &mut changes),
        };
        step = next.filter(|next| *next > now);
    }
    replay.finish(skipped)
}

/// A replay in progress.
struct Replay<'a> {
    input: &'a BacktestInput<'a>,
    pasts: &'a [PastBalances],
    forecasts: Vec<Option<PastForecasts<'a>>>,
    policy: AccountPolicy,
    state: State,
    episodes: BTreeMap<(Division, Name), Vec<Episode>>,
    /// Rules that had too little history at every step so far.
    not_yet_known: SkipReasons,
    result: BacktestResult,
}

type SkipReasons = BTreeMap<(Division, Name), SkipReason>;

impl<'a> Replay<'a> {
    fn new(input: &'a BacktestInput<'a>, pasts: &'a [PastBalances]) -> (Self, SkipReasons) {
        let (mut skipped, mut not_yet_known) = (SkipReasons::new(), SkipReasons::new());
        let mut forecasts = Vec::new();
        for (fund, past) in input.funds.iter().zip(pasts) {
            let watching = input.rules.iter().filter(|rule| rule.watches(input.account, fund.division));
            let (mut rules, mut not_replayed) = (watching.clone().collect::<Vec<_>>(), Vec::new());
            let mut forecasts_of_fund = PastForecasts::new(fund, past, input, rules.clone());
            rules.retain(|rule| {
                let reason = skip_reason(rule, fund, past, forecasts_of_fund.as_mut(), input.to);
                let key = (fund.division, rule.name.clone());
                match reason {
                    None => return true,
                    // There may have been enough history at an earlier step.
                    Some(reason @ SkipReason::NotYetKnown(_)) => {
                        not_yet_known.insert(key, reason);
                        return true;
                    }
                    Some(reason) => not_replayed.push((key, reason)),
                }
                false
            });
            if !not_replayed.is_empty() {
                forecasts_of_fund = PastForecasts::new(fund, past, input, rules);
            }
            skipped.extend(not_replayed);
            forecasts.push(forecasts_of_fund);
        }
        let replay = Self {
            input,
            pasts,
            forecasts,
            policy: account_policy(input, &skipped),
            state: State::default(),
            episodes: BTreeMap::new(),
            not_yet_known,
            result: BacktestResult::default(),
        };
        (replay, skipped)
    }

    /// Returns the times at which a reading may change: ledger entries and forecasts, in order.
    fn changes(&self) -> Vec<Time> {
        let (from, to) = (self.input.from, self.input.to);
        let entries = self.pasts.iter().flat_map(|past| past.changes(from, to));
        let read_times = self.forecasts.iter().flatten().flat_map(PastForecasts::read_times);
        let all: BTreeSet<Time> = entries.chain(read_times).copied().collect();
        all.into_iter().collect()
    }

    /// Returns the times at which an alert may change without a new reading.
    fn due_times(&self) -> impl Iterator<Item = Time> {
        self.state.alerts.iter().flat_map(|(key, record)| {
            let rule = self.policy.rules.iter().find(|rule| rule.name == key.rule);
            rule.into_iter().flat_map(|rule| due_times(&record.alert, rule))
        })
    }

    /// Returns the first step after `now` at which something may change. `changes` holds the later changes of readings, the
    /// next one last.
    fn next_change(&self, now: Time, changes: &mut Vec<Time>) -> Option<Time> {
        while changes.last().is_some_and(|at| *at <= now) {
            changes.pop();
        }
        // Alerts that were due by now have changed, or wait for a reading that can be evaluated, which takes a change.
        let soonest = self.due_times().filter(|at| *at > now).chain(changes.last().copied()).min()?;
        match self.input.schedule.first_from(self.input.from, soonest) {
            Some(at) if at > now => Some(at),
            _ => self.input.schedule.next_after(now),
        }
    }

    fn run_cycle(&mut self, now: Time) {
        let funds = self.input.funds.iter().zip(self.pasts).zip(&mut self.forecasts);
        let division_reading =
            |((fund, past), past_forecasts): ((&BacktestFund, &PastBalances), &mut Option<PastForecasts<'_>>)| {
                DivisionReading {
                    division: fund.division,
                    name: fund.name.clone(),
                    balance: Ok(past.balance(now)),
                    forecast: past_forecasts.as_mut().and_then(|forecasts| forecasts.at(now)),
                }
            };
        let readings =
            AccountReadings { divisions: funds.map(division_reading).collect(), listing_failure: None, active: None };
        let (rules, divisions) = (&self.policy.rules, &readings.divisions);
        self.not_yet_known.retain(|(division, name), _| {
            let rule = rules.iter().find(|rule| rule.name == *name);
            let reading = divisions.iter().find(|reading| reading.division == *division);
            rule.zip(reading).is_none_or(|(rule, reading)| evaluate(rule, &reading.reading(rule)).is_err())
        });
        process(&mut self.state, &self.policy, &readings, now);
        self.deliver_pending();
    }

    /// Delivers everything that is pending: one message for each notifier.
    fn deliver_pending(&mut self) {
        let mut delivered: BTreeMap<Name, BTreeSet<String>> = BTreeMap::new();
        for queued in &self.state.queue {
            for name in queued.pending.keys() {
                delivered.entry(name.clone()).or_default().insert(queued.event.id.clone());
            }
            let EventSubject::Threshold(event) = &queued.event.subject else { continue };
            let episodes = self.episodes.entry((event.key.division, event.key.rule.clone())).or_default();
            if event.kind == TransitionKind::Raised || episodes.is_empty() {
                episodes.push(Episode::default());
            }
            let event = EpisodeEvent {
                at: queued.event.at,
                kind: event.kind,
                level: event.level,
                since: event.since,
                value: event.value,
                threshold: event.threshold,
                notified: queued.event.audience.clone(),
            };
            if let Some(episode) = episodes.last_mut() {
                episode.events.push(event);
            }
        }
        for (name, ids) in delivered {
            let count = self.result.notified.entry(name.clone()).or_default();
            count.messages += 1;
            count.events += u64::try_from(ids.len()).unwrap_or(u64::MAX);
            self.state.mark_delivered(&name, &ids, None, &[]);
        }
        // Notices that no notifier gets are not kept for the next step.
        self.state.queue.clear();
    }

    fn finish(mut self, mut skipped: SkipReasons) -> BacktestResult {
        skipped.append(&mut self.not_yet_known);
        for fund in self.input.funds {
            let rules = self.input.rules.iter().filter(|rule| rule.watches(self.input.account, fund.division));
            for rule in rules {
                let key = (fund.division, rule.name.clone());
                let episodes = match skipped.remove(&key) {
                    Some(reason) => Err(reason),
                    None => Ok(self.episodes.remove(&key).unwrap_or_default()),
                };
                self.result.rule_backtests.push(RuleBacktest {
                    rule: rule.name.clone(),
                    division: fund.division,
                    episodes,
                });
            }
        }
        self.result
    }
}

/// Returns the times at which an alert may change without a new reading: the end of a `for`, and its reminder.
fn due_times(alert: &Alert, rule: &Rule) -> Vec<Time> {
    let after = |at: Time, pause: Duration| {
        chrono::Duration::from_std(pause).ok().and_then(|pause| at.checked_add_signed(pause))
    };
    let level_due = |severity, state: Option<LevelState>| {
        let state = state.filter(|state| !state.firing)?;
        after(state.since, rule.level(severity)?.hold)
    };
    let reminder = || after(alert.last_event?, rule.level(alert.firing()?)?.remind_every?);
    [level_due(Severity::Warning, alert.warning), level_due(Severity::Critical, alert.critical), reminder()]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns why a rule cannot be backtested on a fund, as far as its present reading shows.
fn skip_reason(
    rule: &Rule,
    fund: &BacktestFund,
    past: &PastBalances,
    past_forecasts: Option<&mut PastForecasts<'_>>,
    to: Time,
) -> Option<SkipReason> {
    match rule.metric {
        Metric::UnpaidInvoices => return Some(SkipReason::NoHistory("unpaid invoices")),
        Metric::UsedCredit => return Some(SkipReason::NoHistory("the credit that other divisions use")),
        _ => {}
    }
    let reading_of_division = DivisionReading {
        division: fund.division,
        name: None,
        balance: Ok(past.balance(to)),
        forecast: past_forecasts.and_then(|forecasts| forecasts.at(to)),
    };
    let reading = reading_of_division.reading(rule);
    match evaluate(rule, &reading) {
        Err(NotEvaluated::Unreadable(reason)) => Some(SkipReason::Unreadable(reason.reason)),
        Err(NotEvaluated::NotYetRead(reason)) => Some(SkipReason::Unreadable(reason)),
        Err(NotEvaluated::NotYetKnown(reason)) => Some(SkipReason::NotYetKnown(reason)),
        Ok(_) => None,
    }
}

/// Returns the policy for these funds, with the rules that can be backtested.
fn account_policy(input: &BacktestInput<'_>, skipped: &SkipReasons) -> AccountPolicy {
    let listed: Vec<u64> = input.funds.iter().filter_map(|fund| fund.division).collect();
    let is_evaluated = |rule: &Rule, division: Division| {
        rule.watches(input.account, division) && !skipped.contains_key(&(division, rule.name.clone()))
    };
    // A rule that cannot be backtested on one fund may work on another.
    let limit_to_funds = |rule: &Rule| {
        let mut evaluated =
            input.funds.iter().map(|fund| fund.division).filter(|division| is_evaluated(rule, *division)).peekable();
        evaluated.peek()?;
        let divisions: BTreeSet<u64> = evaluated.flatten().collect();
        let mut rule = rule.clone();
        rule.divisions = if divisions.is_empty() { rule.divisions } else { Some(divisions) };
        Some(rule)
    };
    let rules: Vec<Rule> = input.rules.iter().filter_map(limit_to_funds).collect();
    AccountPolicy {
        account: input.account.clone(),
        scope: if listed.is_empty() { DivisionScope::Undivided } else { DivisionScope::Listed(listed) },
        rules: rules.into(),
        unreadable: Arc::new(UnreadablePolicy {
            after: Duration::MAX,
            level: Severity::Warning,
            remind_every: None,
            notify: Vec::new(),
        }),
        silences: Arc::new([]),
        incident_notifiers: Arc::new(input.incident_notifiers.clone()),
    }
}
