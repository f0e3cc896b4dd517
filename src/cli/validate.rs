//! `lowtide validate`: prints every problem of the configuration and, with `--online`, reads each account once.

use std::sync::Arc;

use serde::Serialize;

use super::args::OutputFormat;
use super::{CommandContext, Exit, count, print_json};
use crate::alerting::evaluate::{NotEvaluated, evaluate};
use crate::alerting::policy::{AccountPolicy, DivisionScope};
use crate::alerting::readings::AccountReadings;
use crate::app;
use crate::certcentral::pacing;
use crate::certcentral::pacing::RequestLoad;
use crate::cli::output::{diagnostics, print_error, print_line};
use crate::config::{self, Config, ConfigProblem};
use crate::domain::Time;
use crate::domain::balance::Reading;
use crate::polling::forecasts::ForecastPurpose;
use crate::polling::poller::Poller;
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
        match app::build_pollers(&config, &context.redactor, &clock) {
            Ok(pollers) => {
                let reads = pollers.iter().map(|poller| poller.read_once(ForecastPurpose::Rules));
                let all_readings = futures_util::future::join_all(reads).await;
                let reads: Vec<_> = pollers.iter().zip(&all_readings).map(|(poller, it)| (&**poller, it)).collect();
                let mut online: Vec<OnlineResult> =
                    reads.iter().map(|(poller, readings)| online_result(&poller.policy, readings)).collect();
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
    for problem in outcome.problems.iter().chain(&outcome.warnings) {
        print_line!("{}\n", diagnostics::render(problem, context.colour));
    }
    for OnlineResult { account, good_readings, failures, suggestions } in outcome.online.iter().flatten() {
        let result = if failures.is_empty() { count(*good_readings, "good reading") } else { "FAILED".to_owned() };
        print_line!("{}: {result}", clean(account));
        for failure in failures {
            print_line!("  {}", clean(failure));
        }
        for suggestion in suggestions {
            print_line!("  suggestion: {}", clean(suggestion));
        }
    }
    let file = context.file.display();
    let warnings = match outcome.warnings.len() {
        0 => String::new(),
        warnings => format!(", {}", count(warnings, "warning")),
    };
    if outcome.valid {
        print_line!("{file}: valid{warnings}");
    } else {
        print_line!("{file}: {}{warnings}", count(outcome.problems.len(), "error"));
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
fn schedule_suggestions(reads: &[(&Poller, &AccountReadings)], config: &Config, now: Time) -> Vec<Option<String>> {
    let period = |policy: &AccountPolicy| config.accounts.get(&policy.account)?.schedule.shortest_pause(now);
    for (Poller { policy, source, .. }, readings) in reads {
        if let Some((limiter, period)) = source.limiter().zip(period(policy)) {
            limiter.record_load(&policy.account, RequestLoad { requests: readings.divisions.len(), period });
        }
    }
    let suggestion = |(Poller { policy, source, .. }, readings): &(&Poller, &AccountReadings)| {
        let listed = matches!(policy.scope, DivisionScope::All(_));
        let (limiter, period) = source.limiter().zip(period(policy)).filter(|_| listed)?;
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
