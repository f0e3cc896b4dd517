//! `lowtide validate`: prints every problem of the configuration and, with `--online`, reads each account once.

use std::sync::Arc;

use serde::Serialize;

use super::args::OutputFormat;
use super::{CommandContext, Exit, count, print_json};
use crate::alerting::evaluate::{NotEvaluated, evaluate};
use crate::app;
use crate::cli::output::{print_error, print_line};
use crate::config::{self, Config, ConfigProblem};
use crate::domain::Time;
use crate::domain::balance::Reading;
use crate::polling::forecasts::ForecastPurpose;
use crate::polling::pacing;
use crate::polling::pacing::RequestLoad;
use crate::polling::poller;
use crate::polling::poller::{AccountPolicy, AccountReadings};
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::clean;

#[derive(Serialize)]
struct ValidationReport {
    valid: bool,
    problems: Vec<ConfigProblem>,
    warnings: Vec<ConfigProblem>,
    /// Result of `--online`; `null` without that option or if the configuration is invalid.
    online: Option<Vec<OnlineResult>>,
}

/// Result of reading one account.
#[derive(Serialize)]
struct OnlineResult {
    account: String,
    good_readings: usize,
    failures: Vec<String>,
    suggestions: Vec<String>,
}

pub(super) async fn run(context: &CommandContext, online: bool, output: OutputFormat) -> Exit {
    let loaded = config::load(&context.file, &context.environment);
    loaded.secrets.iter().for_each(|secret| context.redactor.learn(secret));
    let (config, problems) = match loaded.config {
        Ok(config) => (Some(config), Vec::new()),
        Err(problems) => (None, problems.0),
    };
    let mut outcome = ValidationReport { valid: config.is_some(), problems, warnings: loaded.warnings.0, online: None };
    if let Some(config) = config.filter(|_| online) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        match app::build_policies(&config, &context.redactor, &clock) {
            Ok(policies) => {
                let reads = policies.iter().map(|policy| poller::read_once(policy, &clock, ForecastPurpose::Rules));
                let all_readings = futures_util::future::join_all(reads).await;
                let reads: Vec<_> = policies.iter().zip(&all_readings).map(|(policy, it)| (&**policy, it)).collect();
                let mut online: Vec<OnlineResult> =
                    reads.iter().map(|(policy, readings)| online_result(policy, readings)).collect();
                for (read, suggestion) in online.iter_mut().zip(schedule_suggestions(&reads, &config, clock.now())) {
                    read.suggestions.extend(suggestion);
                }
                outcome.online = Some(online);
            }
            Err(error) => {
                print_error!("lowtide: {error:#}");
                return Exit::Failure;
            }
        }
    }
    match output {
        OutputFormat::Json => print_json(&outcome),
        OutputFormat::Text => print_text(context, &outcome),
    }
    let failed = outcome.online.iter().flatten().any(|account| !account.failures.is_empty());
    match (outcome.valid, failed) {
        (false, _) => Exit::Config,
        (true, true) => Exit::Failure,
        (true, false) => Exit::Success,
    }
}

fn print_text(context: &CommandContext, outcome: &ValidationReport) {
    for problem in &outcome.problems {
        print_line!("{problem}");
    }
    for warning in &outcome.warnings {
        print_line!("warning: {warning}");
    }
    for OnlineResult { account, good_readings, failures, suggestions } in outcome.online.iter().flatten() {
        let result = if failures.is_empty() { count(*good_readings, "good reading") } else { "FAILED".to_owned() };
        print_line!("{}: {result}", clean(account));
        failures.iter().for_each(|failure| print_line!("  {}", clean(failure)));
        suggestions.iter().for_each(|suggestion| print_line!("  suggestion: {}", clean(suggestion)));
    }
    let file = context.file.display();
    if outcome.valid {
        print_line!("{file}: valid");
    } else {
        print_line!("{file}: {}", count(outcome.problems.len(), "problem"));
    }
}

fn online_result(policy: &AccountPolicy, readings: &AccountReadings) -> OnlineResult {
    OnlineResult {
        account: policy.account.to_string(),
        good_readings: readings.divisions.iter().filter(|read| read.balance.is_ok()).count(),
        failures: failures(policy, readings),
        suggestions: suggestions(policy, readings),
    }
}

/// Suggests a slower schedule for each account with `divisions: all` whose divisions, together with those of the other
/// accounts with its API key, cannot all be read within one period. Of several accounts with one key, the first gets the
/// suggestion.
fn schedule_suggestions(
    reads: &[(&AccountPolicy, &AccountReadings)],
    config: &Config,
    now: Time,
) -> Vec<Option<String>> {
    let period = |policy: &AccountPolicy| config.accounts.get(&policy.account)?.schedule.shortest_pause(now);
    for (policy, readings) in reads {
        if let Some((limiter, period)) = policy.source.limiter().zip(period(policy)) {
            limiter.record_load(&policy.account, RequestLoad { requests: readings.divisions.len(), period });
        }
    }
    let suggestion = |(policy, readings): &(&AccountPolicy, &AccountReadings)| {
        let listed = matches!(policy.scope, poller::DivisionScope::All(_));
        let (limiter, period) = policy.source.limiter().zip(period(policy)).filter(|_| listed)?;
        let (limits, own) = (limiter.limits(), RequestLoad { requests: readings.divisions.len(), period });
        let loads = limiter.record_load(&policy.account, own);
        let why = pacing::explain_overload(&loads, period, &limits).filter(|_| limiter.should_warn_too_short())?;
        Some(format!("a slower schedule: {why}"))
    };
    reads.iter().map(suggestion).collect()
}

/// Lists why balances could not be read or rules could not be evaluated, each reason once.
fn failures(policy: &AccountPolicy, readings: &AccountReadings) -> Vec<String> {
    let mut failures: Vec<String> = readings.listing_failure.iter().map(|why| why.reason.clone()).collect();
    for read in &readings.divisions {
        match &read.balance {
            Err(why) => failures.push(why.reason.clone()),
            Ok(_) => {
                let rules = policy.rules.iter().filter(|rule| rule.watches(&policy.account, read.division));
                let verdicts = rules.map(|rule| evaluate(rule, &read.reading(rule)));
                failures.extend(verdicts.filter_map(|verdict| match verdict {
                    Err(NotEvaluated::Unreadable(why)) => Some(why.reason),
                    Err(NotEvaluated::NotYetRead(why)) => Some(why),
                    Ok(verdict) => verdict.problem.map(|why| why.reason),
                    Err(NotEvaluated::NotYetKnown(_)) => None,
                }));
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    failures.retain(|failure| seen.insert(failure.clone()));
    failures
}

fn suggestions(policy: &AccountPolicy, readings: &AccountReadings) -> Vec<String> {
    let mut suggestions = Vec::new();
    let listed: std::collections::BTreeSet<u64> = readings.divisions.iter().filter_map(|read| read.division).collect();
    for rule in policy.rules.iter() {
        let watched = rule
            .divisions
            .iter()
            .flatten()
            .filter(|_| rule.accounts.as_ref().is_some_and(|all| all.len() == 1 && all.contains(&policy.account)));
        for id in watched.filter(|id| !listed.contains(id)) {
            suggestions.push(format!("rule {} watches division {id}, which this account does not list", rule.name));
        }
    }
    suggestions.extend(readings.divisions.iter().filter_map(|read| {
        let balance = read.balance.as_ref().ok()?;
        let unlimited = balance.reading(crate::domain::rule::Metric::AvailableFunds) == Reading::Unlimited;
        balance.anomaly().filter(|_| !unlimited).map(|note| note.to_string())
    }));
    suggestions
}
