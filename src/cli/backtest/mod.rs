//! `lowtide backtest`: replays today's rules over the accounts' ledgers. Reads once; sends nothing, stores nothing.

mod chart;
mod html;
mod progress;
mod report;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::progress::Progress;
use self::report::{AccountReport, Report};
use super::args::{Backtest as Options, BacktestOutput};
use super::preview::is_known;
use super::{Context, Exit, print_json};
use crate::app;
use crate::backtest::{Fund, Script, replay};
use crate::cli::output::{grumble, put};
use crate::config::{Account, Config};
use crate::domain::Time;
use crate::domain::history::{Books, Gap};
use crate::domain::rule::Rule;
use crate::forecast::Spending;
use crate::polling::poller;
use crate::polling::poller::{Read, Watch};
use crate::util::clock::{Clock, SystemClock};

pub(super) async fn run(context: &Context, options: &Options) -> Exit {
    let config = match context.load_or_report() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Err(exit) = names_exist(&config, options) {
        return exit;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let watches = match app::watches(&config, &context.redactor, &clock) {
        Ok(watches) => watches,
        Err(error) => {
            grumble!("lowtide: {error:#}");
            return Exit::Failure;
        }
    };
    let rules: Vec<Rule> = config.rules.iter().filter(|rule| is_asked(options, rule)).cloned().collect();
    let mut report = Report::new(&config, options);
    for watch in watches.iter().filter(|watch| is_watched(options, &config, watch)) {
        let Some(account) = config.accounts.get(&watch.account) else { continue };
        let mut progress = Progress::new(&watch.account, config.timezone);
        report.accounts.push(rehearse(watch, account, &rules, options, &clock, &mut progress).await);
        progress.clear();
    }
    if let Err(exit) = division_exists(&mut report, options) {
        return exit;
    }
    report.sum_up(&config);
    match options.output {
        BacktestOutput::Text => put(&text::text(&report, config.timezone, context.colour)),
        BacktestOutput::Json => print_json(&report),
        BacktestOutput::Html => put(&html::page(&report, config.timezone)),
    }
    let failures: Vec<String> = report.failures().collect();
    for failure in &failures {
        grumble!("lowtide: {failure}");
    }
    if failures.is_empty() { Exit::Success } else { Exit::Failure }
}

/// Every name that nothing defines is bad usage, and all of them are told at once.
fn names_exist(config: &Config, options: &Options) -> Result<(), Exit> {
    let rules: Vec<&str> = config.rules.iter().map(|rule| rule.name.as_ref()).collect();
    let accounts: Vec<&str> = config.accounts.keys().map(AsRef::as_ref).collect();
    let mut good = options.account.as_deref().is_none_or(|name| is_known("account", name, &accounts));
    for name in &options.rule {
        good &= is_known("rule", name, &rules);
    }
    if let Some(id) = options.division.filter(|_| good) {
        let asked = config.accounts.iter().filter(|(name, _)| is_asked_account(options, name));
        let some = asked.into_iter().any(|(_, account)| account.divisions.can_have(id));
        if !some {
            let which = options.account.as_deref().map_or("no account", |_| "this account does not");
            let verb = if options.account.is_some() { "read" } else { "reads" };
            grumble!("lowtide: {which} {verb} division {id}: see `divisions` in the configuration");
            good = false;
        }
    }
    if good { Ok(()) } else { Err(Exit::Usage) }
}

/// A division that no account has is bad usage; accounts without it have nothing to tell where another has it.
fn division_exists(report: &mut Report, options: &Options) -> Result<(), Exit> {
    let Some(id) = options.division else { return Ok(()) };
    if report.accounts.iter().all(|account| account.lacks_division) {
        let names: Vec<String> = report.accounts.iter().map(|it| crate::util::text::clean(&it.account)).collect();
        grumble!("lowtide: CertCentral lists no active division {id} of {}", names.join(", "));
        return Err(Exit::Usage);
    }
    report.accounts.retain(|account| !account.lacks_division);
    Ok(())
}

fn is_asked(options: &Options, rule: &Rule) -> bool {
    options.rule.is_empty() || options.rule.iter().any(|name| **name == *rule.name)
}

fn is_asked_account(options: &Options, name: &str) -> bool {
    options.account.as_deref().is_none_or(|asked| asked == name)
}

fn is_watched(options: &Options, config: &Config, watch: &Watch) -> bool {
    let has = |id: u64| config.accounts.get(&watch.account).is_some_and(|account| account.divisions.can_have(id));
    is_asked_account(options, &watch.account) && options.division.is_none_or(has)
}

async fn rehearse(
    watch: &Watch,
    account: &Account,
    rules: &[Rule],
    options: &Options,
    clock: &Arc<dyn Clock>,
    progress: &mut Progress,
) -> AccountReport {
    progress.say("reading the balance");
    let mut told = |ledgers: usize, lines: usize| progress.read(ledgers, lines);
    let (harvest, mut books) = poller::read_books(watch, options.division, clock, &mut told).await;
    let mut report = AccountReport::new(watch.account.clone(), account.schedule.text().to_owned());
    report.failures.extend(harvest.listing_failure.map(|why| why.reason));
    let mut funds: Vec<Fund> = Vec::new();
    for read in &harvest.reads {
        let books = books.remove(&read.division).unwrap_or_else(Books::unread);
        match (&read.balance, ledger_problem(&books, read)) {
            (Err(why), _) => report.fail(read, &why.reason),
            (Ok(_), Some(why)) => report.fail(read, &why),
            (Ok(balance), None) => {
                let (division, name) = (read.division, read.name.clone());
                funds.push(Fund { division, name, balance: balance.clone(), books });
            }
        }
    }
    if options.division.is_some() && harvest.reads.is_empty() && report.failures.is_empty() {
        report.lacks_division = true;
    }
    // Without such a rule, only the purchases cannot be told apart.
    if rules.iter().any(|rule| rule.metric.looks_ahead()) {
        let why: BTreeSet<String> = funds.iter().filter_map(|fund| orders_problem(&fund.books)).collect();
        report.failures.extend(why);
    }
    let spending = account.not_spend.as_ref().map_or_else(Spending::default, Spending::without);
    let lines = || funds.iter().filter_map(|fund| fund.books.ledger.as_ref().ok()).flat_map(|ledger| ledger.entries());
    // A server whose clock is ahead has lines of the future: the balance knows them.
    let now = lines().map(|entry| entry.at).max().map_or_else(|| clock.now(), |last: Time| last.max(clock.now()));
    let Some(first) = lines().map(|entry| entry.at).min() else {
        if !funds.is_empty() {
            report.nothing();
        }
        return report;
    };
    let from = first.max(now - chrono::Duration::days(i64::from(options.days)));
    let script = Script {
        account: &watch.account,
        funds: &funds,
        rules,
        schedule: &account.schedule,
        spending: &spending,
        incident_notifiers: &watch.incident_notifiers,
        from,
        to: now,
    };
    let rehearsed = replay(&script, &mut |at| progress.replay(at));
    report.tell(&script, rehearsed, first, options, poller::shared_fund(&harvest.reads));
    report
}

/// Why a ledger is not at hand, or no past of this balance.
fn ledger_problem(books: &Books, read: &Read) -> Option<String> {
    let currency = read.balance.as_ref().ok().and_then(|balance| balance.currency.clone().ok());
    match &books.ledger {
        Ok(ledger) => {
            let other = ledger.entries().iter().find_map(|entry| entry.currency.filter(|it| Some(*it) != currency));
            let (other, currency) = other.zip(currency)?;
            Some(format!(
                "the ledger has amounts in {other}, but the balance is in {currency}: they do not add up to a past"
            ))
        }
        Err(Gap::NotYetRead) => Some("the ledger could not be read within half an hour".to_owned()),
        Err(Gap::Unreadable(why)) => Some(format!("the ledger cannot be read: {}", why.reason)),
    }
}

/// Why the orders are not at hand.
fn orders_problem(books: &Books) -> Option<String> {
    match &books.orders {
        Ok(_) => None,
        Err(Gap::NotYetRead) => Some("the orders could not be read within half an hour".to_owned()),
        Err(Gap::Unreadable(why)) => Some(format!("the orders cannot be read: {}", why.reason)),
    }
}

/// What each notifier would have been sent, of all accounts.
type Mail = BTreeMap<crate::domain::Name, crate::backtest::Told>;
