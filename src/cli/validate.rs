//! `lowtide validate`: every problem of the configuration at once, and with `--online` one read of each account.

use std::sync::Arc;

use serde::Serialize;

use super::args::Output;
use super::{Context, Exit, count, print_json};
use crate::alerting::evaluate::{Blind, evaluate};
use crate::app;
use crate::cli::output::{grumble, say};
use crate::config::{self, Config, Problem};
use crate::domain::Time;
use crate::domain::balance::Reading;
use crate::polling::forecasts::For;
use crate::polling::pacing;
use crate::polling::pacing::Load;
use crate::polling::poller;
use crate::polling::poller::{Harvest, Watch};
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::clean;

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
                let reads = watches.iter().map(|watch| poller::read_once(watch, &clock, For::Rules));
                let harvests = futures_util::future::join_all(reads).await;
                let reads: Vec<_> = watches.iter().zip(&harvests).map(|(watch, it)| (&**watch, it)).collect();
                let mut online: Vec<AccountRead> = reads.iter().map(|(watch, harvest)| read(watch, harvest)).collect();
                for (read, suggestion) in online.iter_mut().zip(too_short(&reads, &config, clock.now())) {
                    read.suggestions.extend(suggestion);
                }
                outcome.online = Some(online);
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

fn read(watch: &Watch, harvest: &Harvest) -> AccountRead {
    AccountRead {
        account: watch.account.to_string(),
        read: harvest.reads.iter().filter(|read| read.balance.is_ok()).count(),
        failures: failures(watch, harvest),
        suggestions: suggestions(watch, harvest),
    }
}

/// For each account whose divisions only its listing knows, whether they can all be read between two times of its schedule,
/// beside those of the other accounts with its API key. Of several with one key, the first is told.
fn too_short(reads: &[(&Watch, &Harvest)], config: &Config, now: Time) -> Vec<Option<String>> {
    let period = |watch: &Watch| config.accounts.get(&watch.account)?.schedule.shortest_pause(now);
    for (watch, harvest) in reads {
        if let Some((limiter, period)) = watch.source.limiter().zip(period(watch)) {
            limiter.note(&watch.account, Load { requests: harvest.reads.len(), period });
        }
    }
    let one = |(watch, harvest): &(&Watch, &Harvest)| {
        let listed = matches!(watch.scope, poller::Scope::All(_));
        let (limiter, period) = watch.source.limiter().zip(period(watch)).filter(|_| listed)?;
        let (limits, own) = (limiter.limits(), Load { requests: harvest.reads.len(), period });
        let loads = limiter.note(&watch.account, own);
        let why = pacing::too_short(&loads, period, &limits).filter(|_| limiter.tell_too_short())?;
        Some(format!("a slower schedule: {why}"))
    };
    reads.iter().map(one).collect()
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
