//! `lowtide validate`: every problem of the configuration at once, and with `--online` one read of each account.

use std::sync::Arc;

use serde::Serialize;

use super::args::Output;
use super::out::{grumble, say};
use super::{Context, Exit, count, print_json};
use crate::app;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Problem};
use crate::cycle::{self, For, Harvest, Watch};
use crate::domain::balance::Reading;
use crate::domain::evaluate::{Blind, evaluate};
use crate::pace;
use crate::schedule::Schedule;
use crate::text::clean;

#[derive(Serialize)]
struct Outcome {
    valid: bool,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// `null` unless it was asked for, and the configuration is valid.
    online: Option<Vec<AccountRead>>,
}

/// What came of reading one account.
#[derive(Serialize)]
struct AccountRead {
    account: String,
    read: usize,
    failures: Vec<String>,
    suggestions: Vec<String>,
}

pub(super) async fn run(context: &Context, online: bool, output: Output) -> Exit {
    let loaded = config::load(&context.file, &context.environment);
    loaded.secrets.iter().for_each(|secret| context.redactor.learn(secret));
    let (config, problems) = match loaded.config {
        Ok(config) => (Some(config), Vec::new()),
        Err(problems) => (None, problems.0),
    };
    let mut outcome = Outcome { valid: config.is_some(), problems, warnings: loaded.warnings.0, online: None };
    if let Some(config) = config.filter(|_| online) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        match app::watches(&config, &context.redactor, &clock) {
            Ok(watches) => {
                let reads = watches.into_iter().map(|watch| {
                    let schedule = config.accounts.get(&watch.account).map(|account| account.schedule.clone());
                    read(watch, schedule, &clock)
                });
                outcome.online = Some(futures_util::future::join_all(reads).await);
            }
            Err(error) => {
                grumble!("lowtide: {error:#}");
                return Exit::Failure;
            }
        }
    }
    match output {
        Output::Json => print_json(&outcome),
        Output::Text => print_text(context, &outcome),
    }
    let failed = outcome.online.iter().flatten().any(|it| !it.failures.is_empty());
    match (outcome.valid, failed) {
        (false, _) => Exit::Config,
        (true, true) => Exit::Failure,
        (true, false) => Exit::Success,
    }
}

fn print_text(context: &Context, outcome: &Outcome) {
    for problem in &outcome.problems {
        say!("{problem}");
    }
    for warning in &outcome.warnings {
        say!("warning: {warning}");
    }
    for it in outcome.online.iter().flatten() {
        let what =
            if it.failures.is_empty() { format!("{} good", count(it.read, "reading")) } else { "FAILED".to_owned() };
        say!("{}: {what}", clean(&it.account));
        it.failures.iter().for_each(|failure| say!("  {}", clean(failure)));
        it.suggestions.iter().for_each(|suggestion| say!("  suggestion: {}", clean(suggestion)));
    }
    let file = context.file.display();
    if outcome.valid {
        say!("{file}: valid");
    } else {
        say!("{file}: {}", count(outcome.problems.len(), "problem"));
    }
}

async fn read(watch: Arc<Watch>, schedule: Option<Schedule>, clock: &Arc<dyn Clock>) -> AccountRead {
    let harvest = cycle::read_once(&watch, clock, For::Rules).await;
    let mut suggestions = suggestions(&watch, &harvest);
    suggestions.extend(schedule.and_then(|schedule| too_short(&watch, harvest.reads.len(), &schedule)));
    AccountRead {
        account: watch.account.to_string(),
        read: harvest.reads.iter().filter(|read| read.balance.is_ok()).count(),
        failures: failures(&watch, &harvest),
        suggestions,
    }
}

/// Of an account whose divisions only its listing knows, whether they can all be read between two times of the schedule.
fn too_short(watch: &Watch, divisions: usize, schedule: &Schedule) -> Option<String> {
    let limits = watch.source.limits().iter().map(|window| (window.requests, window.length));
    let needs = pace::needed(divisions, limits.clone());
    let period = schedule.shortest_pause(SystemClock.now()).filter(|period| needs > *period)?;
    let listed = matches!(watch.scope, cycle::Scope::All(_));
    listed.then(|| {
        format!(
            "a slower schedule: {divisions} readings at {} need {}, but the schedule comes every {}; they are read in turn, without end",
            pace::deciding(divisions, limits),
            pace::shown(needs),
            pace::shown(period)
        )
    })
}

/// What could not be read, and what a rule cannot judge; each reason once.
fn failures(watch: &Watch, harvest: &Harvest) -> Vec<String> {
    let mut failures: Vec<String> = harvest.listing_failure.iter().map(|why| why.reason.clone()).collect();
    for read in &harvest.reads {
        match &read.balance {
            Err(why) => failures.push(why.reason.clone()),
            Ok(_) => {
                let rules = watch.rules.iter().filter(|rule| rule.watches(&watch.account, read.division));
                let readings = rules.map(|rule| evaluate(rule, &read.reading(rule)));
                failures.extend(readings.filter_map(|verdict| match verdict {
                    Err(Blind::Unreadable(why)) => Some(why.reason),
                    Err(Blind::NotYetRead(why)) => Some(why),
                    Ok(verdict) => verdict.problem.map(|why| why.reason),
                    Err(Blind::NotYetKnown(_)) => None,
                }));
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    failures.retain(|failure| seen.insert(failure.clone()));
    failures
}

fn suggestions(watch: &Watch, harvest: &Harvest) -> Vec<String> {
    let mut suggestions = Vec::new();
    if let Some(twins) = cycle::shared_fund(&harvest.reads) {
        suggestions.push(format!("{} {}; for example `divisions: [{}]`", twins.len(), cycle::SHARED_FUND, twins[0]));
    }
    let listed: std::collections::BTreeSet<u64> = harvest.reads.iter().filter_map(|read| read.division).collect();
    for rule in watch.rules.iter() {
        let asked = rule
            .divisions
            .iter()
            .flatten()
            .filter(|_| rule.accounts.as_ref().is_some_and(|all| all.len() == 1 && all.contains(&watch.account)));
        for id in asked.filter(|id| !listed.contains(id)) {
            suggestions.push(format!("rule {} watches division {id}, which this account does not list", rule.name));
        }
    }
    suggestions.extend(harvest.reads.iter().filter_map(|read| {
        let balance = read.balance.as_ref().ok()?;
        let unlimited = balance.reading(crate::domain::rule::Metric::AvailableFunds) == Reading::Unlimited;
        balance.note().filter(|_| !unlimited).map(|note| note.to_string())
    }));
    suggestions
}
