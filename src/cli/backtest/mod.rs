//! `lowtide backtest`: replays the current rules over the accounts' ledgers. Reads once; sends and stores nothing.

mod chart;
mod html;
mod progress;
mod report;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::progress::ProgressLine;
use self::report::{BacktestAccountReport, BacktestReport};
use super::args::{BacktestArgs, BacktestOutputFormat};
use super::preview::is_known;
use super::{CommandContext, Exit, print_json};
use crate::alerting::policy::AccountPolicy;
use crate::alerting::readings::{AccountReadings, DivisionReading};
use crate::app;
use crate::backtest::{BacktestFund, BacktestInput, replay};
use crate::cli::output::{print_error, write_stdout};
use crate::config::{Account, Config};
use crate::domain::history::{AccountHistory, HistoryGap};
use crate::domain::rule::Rule;
use crate::domain::{Division, Time};
use crate::forecast::Spending;
use crate::polling::figures::shared_fund;
use crate::polling::poller::Poller;
use crate::util::clock::{Clock, SystemClock};

pub(super) async fn run(context: &CommandContext, args: &BacktestArgs) -> Exit {
    let config = match context.load_or_report() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Err(exit) = check_names(&config, args) {
        return exit;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let pollers = match app::build_pollers(&config, &context.redactor, &clock) {
        Ok(pollers) => pollers,
        Err(error) => {
            print_error!("lowtide: {error:#}");
            return Exit::Failure;
        }
    };
    let rules: Vec<Rule> = config.rules.iter().filter(|rule| is_selected_rule(args, rule)).cloned().collect();
    let mut report = BacktestReport::new(&config, args);
    for poller in pollers.iter().filter(|poller| is_selected(args, &config, &poller.policy)) {
        let policy = &poller.policy;
        let Some(account) = config.accounts.get(&policy.account) else { continue };
        let progress = ProgressLine::new(&policy.account, config.timezone);
        report.accounts.push(backtest_account(poller, account, &rules, args, &progress).await);
    }
    if let Err(exit) = check_division(&mut report, args) {
        return exit;
    }
    report.count_messages(&config);
    match args.output {
        BacktestOutputFormat::Text => write_stdout(&text::text(&report, config.timezone, context.colour)),
        BacktestOutputFormat::Json => print_json(&report),
        BacktestOutputFormat::Html => write_stdout(&html::page(&report, config.timezone)),
    }
    let failures: Vec<String> = report.failures().collect();
    for failure in &failures {
        print_error!("lowtide: {failure}");
    }
    if failures.is_empty() { Exit::Success } else { Exit::Failure }
}

/// Reports every name that the configuration does not define; any of them is bad usage.
fn check_names(config: &Config, args: &BacktestArgs) -> Result<(), Exit> {
    let rules: Vec<&str> = config.rules.iter().map(|rule| rule.name.as_ref()).collect();
    let accounts: Vec<&str> = config.accounts.keys().map(AsRef::as_ref).collect();
    let mut valid = args.account.as_deref().is_none_or(|name| is_known("account", name, &accounts));
    for name in &args.rule {
        valid &= is_known("rule", name, &rules);
    }
    if let Some(id) = args.division.filter(|_| valid) {
        let selected = config.accounts.iter().filter(|(name, _)| is_selected_account(args, name));
        let is_configured = selected.into_iter().any(|(_, account)| account.divisions.can_have(id));
        if !is_configured {
            let which = args.account.as_deref().map_or("no account", |_| "this account does not");
            let verb = if args.account.is_some() { "read" } else { "reads" };
            print_error!("lowtide: {which} {verb} division {id}: see `divisions` in the configuration");
            valid = false;
        }
    }
    if valid { Ok(()) } else { Err(Exit::Usage) }
}

/// Removes accounts that lack the selected division; if all of them do, that is bad usage.
fn check_division(report: &mut BacktestReport, args: &BacktestArgs) -> Result<(), Exit> {
    let Some(id) = args.division else { return Ok(()) };
    if report.accounts.iter().all(|account| account.lacks_division) {
        let names: Vec<String> =
            report.accounts.iter().map(|report| crate::util::text::clean(&report.account)).collect();
        print_error!("lowtide: CertCentral lists no active division {id} of {}", names.join(", "));
        return Err(Exit::Usage);
    }
    report.accounts.retain(|account| !account.lacks_division);
    Ok(())
}

fn is_selected_rule(args: &BacktestArgs, rule: &Rule) -> bool {
    args.rule.is_empty() || args.rule.iter().any(|name| **name == *rule.name)
}

fn is_selected_account(args: &BacktestArgs, name: &str) -> bool {
    args.account.as_deref().is_none_or(|selected| selected == name)
}

fn is_selected(args: &BacktestArgs, config: &Config, policy: &AccountPolicy) -> bool {
    let has = |id: u64| config.accounts.get(&policy.account).is_some_and(|account| account.divisions.can_have(id));
    is_selected_account(args, &policy.account) && args.division.is_none_or(has)
}

async fn backtest_account(
    poller: &Poller,
    account: &Account,
    rules: &[Rule],
    args: &BacktestArgs,
    progress: &ProgressLine,
) -> BacktestAccountReport {
    progress.show("reading the balance");
    let mut show_progress = |ledgers: usize, lines: usize| progress.show_read(ledgers, lines);
    let (readings, mut histories) = poller.read_history(args.division, &mut show_progress).await;
    let Poller { policy, clock, .. } = poller;
    let mut report = BacktestAccountReport::new(policy.account.clone(), account.schedule.text().to_owned());
    report.failures.extend(readings.listing_failure.as_ref().map(|failure| failure.reason.clone()));
    let funds = readable_funds(&readings, &mut histories, &mut report);
    if args.division.is_some() && readings.divisions.is_empty() && report.failures.is_empty() {
        report.lacks_division = true;
    }
    // Without a forecast rule, orders are needed only to classify the purchases; their lack is no failure then.
    if rules.iter().any(|rule| rule.metric.needs_history()) {
        let problems: BTreeSet<String> = funds.iter().filter_map(|fund| orders_problem(&fund.history)).collect();
        report.failures.extend(problems);
    }
    let spending = account.not_spend.as_ref().map_or_else(Spending::default, Spending::without);
    let lines =
        || funds.iter().filter_map(|fund| fund.history.ledger.as_ref().ok()).flat_map(|ledger| ledger.entries());
    // If CertCentral's clock is ahead, the ledger has lines of the future, which the balance includes.
    let now = lines().map(|entry| entry.at).max().map_or_else(|| clock.now(), |last: Time| last.max(clock.now()));
    let Some(first) = lines().map(|entry| entry.at).min() else {
        if !funds.is_empty() {
            report.fail_without_history();
        }
        return report;
    };
    let from = first.max(now - chrono::Duration::days(i64::from(args.days)));
    let input = BacktestInput {
        account: &policy.account,
        funds: &funds,
        rules,
        schedule: &account.schedule,
        spending: &spending,
        incident_notifiers: &policy.incident_notifiers,
        from,
        to: now,
    };
    let result = replay(&input, &mut |at| progress.show_replay(at));
    report.add_result(&input, result, first, args, shared_fund(&readings.divisions));
    report
}

/// Returns the funds that can be replayed, and adds the failures of the others to the report.
fn readable_funds(
    readings: &AccountReadings,
    histories: &mut BTreeMap<Division, AccountHistory>,
    report: &mut BacktestAccountReport,
) -> Vec<BacktestFund> {
    let mut funds = Vec::new();
    for read in &readings.divisions {
        let history = histories.remove(&read.division).unwrap_or_else(AccountHistory::unread);
        match (&read.balance, ledger_problem(&history, read)) {
            (Err(failure), _) => report.fail(read, &failure.reason),
            (Ok(_), Some(reason)) => report.fail(read, &reason),
            (Ok(balance), None) => {
                let (division, name) = (read.division, read.name.clone());
                funds.push(BacktestFund { division, name, balance: balance.clone(), history });
            }
        }
    }
    funds
}

/// Returns why the ledger is missing, or why it cannot be the past of this balance.
fn ledger_problem(history: &AccountHistory, read: &DivisionReading) -> Option<String> {
    let currency = read.balance.as_ref().ok().and_then(|balance| balance.currency.clone().ok());
    match &history.ledger {
        Ok(ledger) => {
            let of_entries = ledger.entries().iter().filter_map(|entry| entry.currency);
            let (other, currency) = of_entries.zip(std::iter::repeat(currency?)).find(|(other, own)| other != own)?;
            Some(format!(
                "the ledger has amounts in {other}, but the balance is in {currency}, so past funds cannot be computed"
            ))
        }
        Err(HistoryGap::NotYetRead) => Some("the ledger could not be read within half an hour".to_owned()),
        Err(HistoryGap::Unreadable(why)) => Some(format!("the ledger cannot be read: {}", why.reason)),
    }
}

/// Returns why the orders are missing.
fn orders_problem(history: &AccountHistory) -> Option<String> {
    match &history.orders {
        Ok(_) => None,
        Err(HistoryGap::NotYetRead) => Some("the orders could not be read within half an hour".to_owned()),
        Err(HistoryGap::Unreadable(why)) => Some(format!("the orders cannot be read: {}", why.reason)),
    }
}

/// Number of messages and events that each notifier would have been sent.
type NotifierCounts = BTreeMap<crate::domain::Name, crate::backtest::NotificationCount>;
