//! `lowtide check`: reads every account now and prints each rule's level. Stateless: no `for`, no `clear_at`, no silences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::args::CheckOutput;
use super::status::division;
use super::{Context, Exit, print_json};
use crate::alerting::evaluate::{Blind, evaluate};
use crate::app;
use crate::cli::output::table::table;
use crate::cli::output::threshold::Threshold;
use crate::cli::output::{grumble, put, say};
use crate::domain::balance::Reading;
use crate::domain::rule::{Bound, Rule, Severity, Side};
use crate::domain::seconds::in_words;
use crate::domain::{Division, Name};
use crate::polling::forecasts::For;
use crate::polling::poller;
use crate::polling::poller::{Harvest, Read, Watch};
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::clean;

/// The worst of several results: critical, then unknown, then warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Worst {
    /// No threshold is breached.
    Ok,
    /// A warning threshold is.
    Warning,
    /// Something could not be read or understood.
    Unknown,
    /// A critical threshold is breached.
    Critical,
}

impl Worst {
    /// The exit code that monitoring plugins have agreed on.
    pub fn code(self) -> u8 {
        match self {
            Worst::Ok => 0,
            Worst::Warning => 1,
            Worst::Critical => 2,
            Worst::Unknown => 3,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Worst::Ok => "OK",
            Worst::Warning => "WARNING",
            Worst::Critical => "CRITICAL",
            Worst::Unknown => "UNKNOWN",
        }
    }

    fn lower(self) -> &'static str {
        match self {
            Worst::Ok => "ok",
            Worst::Warning => "warning",
            Worst::Critical => "critical",
            Worst::Unknown => "unknown",
        }
    }
}

/// One rule on one division.
#[derive(Debug, Serialize)]
struct Row {
    account: Name,
    division: Division,
    division_name: Option<String>,
    rule: Option<Name>,
    metric: Option<&'static str>,
    level: Worst,
    /// Exact, without separators; `null` where it is unlimited, unknown or a duration.
    amount: Option<String>,
    currency: Option<String>,
    unlimited: bool,
    /// A duration, in seconds.
    seconds: Option<u64>,
    warning: Option<Threshold>,
    critical: Option<Threshold>,
    /// Why it, or one of its levels, is unknown.
    reason: Option<String>,
    /// What the reason is about.
    #[serde(skip)]
    problem: Problem,
    #[serde(skip)]
    shown: String,
    #[serde(skip)]
    ranges: [String; 2],
}

/// Why a result has a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Problem {
    Unreadable,
    NotYetKnown,
    /// One level cannot be compared with the amount; the other was.
    OneLevel,
}

impl Problem {
    fn words(self) -> &'static str {
        match self {
            Problem::Unreadable => "unreadable",
            Problem::NotYetKnown => "not yet known",
            Problem::OneLevel => "one level cannot be compared",
        }
    }
}

#[derive(Serialize)]
struct Outcome<'a> {
    level: Worst,
    results: &'a [Row],
    notes: &'a [String],
}

pub(super) async fn run(context: &Context, output: CheckOutput) -> Exit {
    let Ok(config) = context.load_or_report() else {
        return unknown(output, "the configuration is wrong, see standard error");
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let watches = match app::watches(&config, &context.redactor, &clock) {
        Ok(watches) => watches,
        Err(error) => {
            grumble!("lowtide: {error:#}");
            return unknown(output, "the configuration cannot be used, see standard error");
        }
    };
    let clock = &clock;
    let reads = watches.into_iter().map(|watch: Arc<Watch>| async move {
        let harvest = poller::read_once(&watch, clock, For::Rules).await;
        (watch, harvest)
    });
    let harvests = futures_util::future::join_all(reads).await;
    let rows: Vec<Row> = harvests.iter().flat_map(|(watch, harvest)| rows(watch, harvest)).collect();
    let notes: Vec<String> = harvests.iter().flat_map(|(watch, harvest)| notes(&watch.account, harvest)).collect();
    let worst = rows.iter().map(|row| row.level).max().unwrap_or(Worst::Unknown);
    match output {
        CheckOutput::Text => put(&text(&rows, &notes, context.colour)),
        CheckOutput::Json => print_json(&Outcome { level: worst, results: &rows, notes: &notes }),
        CheckOutput::Plugin => say!("{}", plugin(worst, &rows)),
    }
    Exit::Check(worst)
}

fn unknown(output: CheckOutput, why: &str) -> Exit {
    match output {
        CheckOutput::Plugin => say!("LOWTIDE UNKNOWN - {why}"),
        CheckOutput::Json => print_json(&serde_json::json!({ "level": "unknown", "results": [], "notes": [why] })),
        CheckOutput::Text => {}
    }
    Exit::Check(Worst::Unknown)
}

fn rows(watch: &Watch, harvest: &Harvest) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    if let Some(why) = &harvest.listing_failure {
        rows.push(unreadable(&watch.account, None, None, None, why.reason.clone()));
    }
    for read in &harvest.reads {
        let rules = watch.rules.iter().filter(|rule| rule.watches(&watch.account, read.division));
        match &read.balance {
            Err(why) => {
                rows.push(unreadable(&watch.account, read.division, read.name.clone(), None, why.reason.clone()));
            }
            Ok(_) => {
                rows.extend(rules.map(|rule| judge(&watch.account, read, rule, &read.reading(rule))));
            }
        }
    }
    rows
}

fn unreadable(account: &Name, division: Division, name: Option<String>, rule: Option<&Rule>, reason: String) -> Row {
    Row {
        account: account.clone(),
        division,
        division_name: name,
        rule: rule.map(|rule| rule.name.clone()),
        metric: rule.map(|rule| rule.metric.name()),
        level: Worst::Unknown,
        amount: None,
        currency: None,
        unlimited: false,
        seconds: None,
        warning: rule.and_then(|rule| Threshold::of(rule, Severity::Warning)),
        critical: rule.and_then(|rule| Threshold::of(rule, Severity::Critical)),
        problem: Problem::Unreadable,
        shown: "unreadable".to_owned(),
        reason: Some(reason),
        ranges: Default::default(),
    }
}

fn judge(account: &Name, read: &Read, rule: &Rule, reading: &Reading) -> Row {
    let mut row = unreadable(account, read.division, read.name.clone(), Some(rule), String::new());
    match evaluate(rule, reading) {
        Err(Blind::Unreadable(why)) => row.reason = Some(why.reason),
        Err(Blind::NotYetRead(why)) => row.reason = Some(why),
        Err(Blind::NotYetKnown(why)) => {
            (row.level, row.problem) = (Worst::Ok, Problem::NotYetKnown);
            Problem::NotYetKnown.words().clone_into(&mut row.shown);
            row.reason = Some(why);
            row.ranges = [range(rule, Severity::Warning), range(rule, Severity::Critical)];
        }
        Ok(verdict) => {
            // A level that could not be evaluated may be breached, too.
            row.level = match (verdict.breached(), &verdict.problem) {
                (Some(Severity::Critical), _) => Worst::Critical,
                (_, Some(_)) => Worst::Unknown,
                (Some(Severity::Warning), None) => Worst::Warning,
                (None, None) => Worst::Ok,
            };
            let range = |severity| if verdict.is_evaluated(severity) { range(rule, severity) } else { String::new() };
            row.ranges = [range(Severity::Warning), range(Severity::Critical)];
            (row.problem, row.reason) = (Problem::OneLevel, verdict.problem.map(|why| why.reason));
        }
    }
    match reading {
        Reading::Amount(money) => {
            row.amount = Some(money.plain());
            row.currency = Some(money.currency.to_string());
            row.shown = money.to_string();
        }
        Reading::Unlimited => {
            row.unlimited = true;
            "unlimited".clone_into(&mut row.shown);
        }
        Reading::Time(lasts) => {
            row.seconds = Some(lasts.as_secs());
            row.shown = in_words(*lasts);
        }
        Reading::NotYetKnown(_) | Reading::NotYetRead(_) | Reading::Unreadable(_) => {}
    }
    row
}

/// A figure without unit or separators; durations are in seconds.
fn plain(bound: Bound) -> String {
    match bound {
        Bound::Money(amount) => amount.value.to_string(),
        Bound::Time { lasts } => lasts.as_secs().to_string(),
    }
}

/// The range that does not alert, as plugins write it: `500:` alerts below 500, `~:1000` above 1000.
fn range(rule: &Rule, severity: Severity) -> String {
    rule.level(severity).map_or_else(String::new, |level| match level.side() {
        Side::Below => format!("{}:", plain(level.threshold())),
        Side::Above => format!("~:{}", plain(level.threshold())),
    })
}

fn notes(account: &Name, harvest: &Harvest) -> Vec<String> {
    let place = |read: &Read| match read.division {
        Some(_) => format!("{account} · {}", division(read.division, read.name.as_deref())),
        None => account.to_string(),
    };
    let noted = |read: &Read| Some(format!("{}: {}", place(read), read.balance.as_ref().ok()?.note()?));
    let mut notes: Vec<String> = harvest.reads.iter().filter_map(noted).collect();
    if let Some(twins) = poller::shared_fund(&harvest.reads) {
        notes.push(format!("{account}: {} {}", twins.len(), poller::SHARED_FUND));
    }
    notes
}

fn text(rows: &[Row], notes: &[String], colour: bool) -> String {
    let mut cells: Vec<Vec<String>> =
        vec!["LEVEL|ACCOUNT|DIVISION|RULE|VALUE|WARNING|CRITICAL".split('|').map(str::to_owned).collect()];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let threshold = |threshold: Option<Threshold>| or_dash(threshold.map(|it| it.to_string()));
    cells.extend(rows.iter().map(|row| {
        vec![
            row.level.lower().to_owned(),
            row.account.to_string(),
            division(row.division, row.division_name.as_deref()),
            or_dash(row.rule.as_ref().map(ToString::to_string)),
            row.shown.clone(),
            threshold(row.warning),
            threshold(row.critical),
        ]
    }));
    let mut text = table(&cells, &[4]);
    if colour {
        text = text.lines().map(|line| paint(line) + "\n").collect();
    }
    let mut reasons: BTreeMap<(Problem, &str), (BTreeSet<&str>, usize)> = BTreeMap::new();
    for row in rows {
        if let Some(reason) = &row.reason {
            let (accounts, times) = reasons.entry((row.problem, reason)).or_default();
            accounts.insert(&row.account);
            *times += 1;
        }
    }
    for ((problem, reason), (accounts, times)) in reasons {
        let times = if times > 1 { format!(" ({times} times)") } else { String::new() };
        let accounts = accounts.into_iter().collect::<Vec<_>>().join(", ");
        text.push_str(&format!("{}: {}: {}{times}\n", problem.words(), clean(&accounts), clean(reason)));
    }
    for note in notes {
        text.push_str(&format!("note: {}\n", clean(note)));
    }
    text
}

fn paint(line: &str) -> String {
    let code = match line.split(' ').next() {
        Some("critical") => "31",
        Some("warning" | "unknown") => "33",
        Some("ok") => "32",
        _ => "1",
    };
    format!("\u{1b}[{code}m{line}\u{1b}[0m")
}

/// `LOWTIDE WARNING - text | 'label'=value;warning;critical`, on one line.
fn plugin(worst: Worst, rows: &[Row]) -> String {
    let place = |row: &Row| match (&row.division_name, row.division) {
        (Some(name), _) => format!("{} {name}", row.account),
        (None, Some(id)) => format!("{} division {id}", row.account),
        (None, None) => row.account.to_string(),
    };
    let mut bad: Vec<&Row> = rows.iter().filter(|row| row.level > Worst::Ok).collect();
    bad.sort_by_key(|row| std::cmp::Reverse(row.level));
    let value = |row: &Row| format!("{} {}: {}", place(row), row.rule.as_deref().unwrap_or_default(), row.shown);
    let told = |row: &&Row| match &row.reason {
        Some(reason) if row.problem == Problem::OneLevel => format!("{} ({reason})", value(row)),
        Some(reason) => format!("{}: {reason}", place(row)),
        None => value(row),
    };
    let text = if bad.is_empty() {
        format!("{} ok", super::count(rows.len(), "result"))
    } else {
        bad.iter().map(told).collect::<Vec<_>>().join(", ")
    };
    let text = clean(&text).replace('|', "/");
    let figures: Vec<String> = rows.iter().filter_map(figure).collect();
    let data = if figures.is_empty() { String::new() } else { format!(" | {}", figures.join(" ")) };
    format!("LOWTIDE {} - {text}{data}", worst.word())
}

fn figure(row: &Row) -> Option<String> {
    let rule = row.rule.as_deref()?;
    let label = match row.division {
        Some(id) => format!("{}/{id}/{rule}", row.account),
        None => format!("{}/{rule}", row.account),
    };
    let label = clean(&label).replace(['=', '|'], "_").replace('\'', "''");
    let value = row.amount.clone().or_else(|| row.seconds.map(|seconds| format!("{seconds}s")));
    let value = value.unwrap_or_else(|| "U".to_owned());
    Some(format!("'{label}'={value};{};{}", row.ranges[0], row.ranges[1]))
}
