//! `lowtide check`: reads every account now and prints the level of each rule.
//!
//! The command is stateless: it ignores `for`, `clear_at` and silences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anstyle::Style;
use serde::Serialize;

use super::args::CheckOutputFormat;
use super::status::division_label;
use super::{CommandContext, Exit, print_json};
use crate::alerting::evaluate::{NotEvaluated, evaluate};
use crate::alerting::policy::AccountPolicy;
use crate::alerting::readings::{AccountReadings, DivisionReading};
use crate::app;
use crate::cli::output::style::{BOLD, GREEN, RED, YELLOW, paint};
use crate::cli::output::table::Table;
use crate::cli::output::threshold::RuleThreshold;
use crate::cli::output::{print_error, print_line, write_stdout};
use crate::domain::balance::Reading;
use crate::domain::rule::{Rule, Severity, ThresholdSide, ThresholdValue};
use crate::domain::seconds::format_compact;
use crate::domain::{Division, Name};
use crate::polling::figures;
use crate::polling::forecasts::ForecastPurpose;
use crate::polling::poller::Poller;
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::clean;

/// Level of a result, in the order in which the worst of several is found: critical, then unknown, then warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckLevel {
    /// No threshold is breached.
    Ok,
    /// A warning threshold is breached.
    Warning,
    /// A reading or a comparison is missing.
    Unknown,
    /// A critical threshold is breached.
    Critical,
}

impl CheckLevel {
    /// Returns the exit code that monitoring plugins use.
    pub fn code(self) -> u8 {
        match self {
            CheckLevel::Ok => 0,
            CheckLevel::Warning => 1,
            CheckLevel::Critical => 2,
            CheckLevel::Unknown => 3,
        }
    }

    fn upper(self) -> &'static str {
        match self {
            CheckLevel::Ok => "OK",
            CheckLevel::Warning => "WARNING",
            CheckLevel::Critical => "CRITICAL",
            CheckLevel::Unknown => "UNKNOWN",
        }
    }

    fn style(self) -> Style {
        match self {
            CheckLevel::Ok => GREEN,
            CheckLevel::Warning | CheckLevel::Unknown => YELLOW,
            CheckLevel::Critical => RED,
        }
    }

    fn lower(self) -> &'static str {
        match self {
            CheckLevel::Ok => "ok",
            CheckLevel::Warning => "warning",
            CheckLevel::Critical => "critical",
            CheckLevel::Unknown => "unknown",
        }
    }
}

/// Result of one rule on one division.
#[derive(Debug, Serialize)]
struct CheckResult {
    account: Name,
    division: Division,
    division_name: Option<String>,
    rule: Option<Name>,
    metric: Option<&'static str>,
    level: CheckLevel,
    /// Exact amount without separators; `null` if the value is unlimited, unknown or a duration.
    amount: Option<String>,
    currency: Option<String>,
    unlimited: bool,
    /// Duration in seconds, for runways.
    seconds: Option<u64>,
    warning: Option<RuleThreshold>,
    critical: Option<RuleThreshold>,
    /// Reason why the result, or one of its levels, is unknown.
    reason: Option<String>,
    /// Kind of the reason, for text output.
    #[serde(skip)]
    reason_kind: ReasonKind,
    #[serde(skip)]
    shown: String,
    #[serde(skip)]
    ranges: [String; 2],
}

/// Kind of a result's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ReasonKind {
    Unreadable,
    NotYetKnown,
    /// One level cannot be compared with the amount; the other one was.
    OneLevel,
}

impl ReasonKind {
    fn label(self) -> &'static str {
        match self {
            ReasonKind::Unreadable => "unreadable",
            ReasonKind::NotYetKnown => "not yet known",
            ReasonKind::OneLevel => "one level cannot be compared",
        }
    }
}

#[derive(Serialize)]
struct CheckReport<'a> {
    level: CheckLevel,
    results: &'a [CheckResult],
    notes: &'a [String],
}

pub(super) async fn run(context: &CommandContext, output: CheckOutputFormat) -> Exit {
    let Ok(config) = context.load_or_report() else {
        return unknown(output, "the configuration is invalid, see standard error");
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let pollers = match app::build_pollers(&config, &context.redactor, &clock) {
        Ok(pollers) => pollers,
        Err(error) => {
            print_error!("lowtide: {error:#}");
            return unknown(output, "the configuration cannot be used, see standard error");
        }
    };
    let reads = pollers.into_iter().map(|poller: Arc<Poller>| async move {
        let readings = poller.read_once(ForecastPurpose::Rules).await;
        (poller, readings)
    });
    let all_readings = futures_util::future::join_all(reads).await;
    let rows: Vec<CheckResult> =
        all_readings.iter().flat_map(|(poller, readings)| rows(&poller.policy, readings)).collect();
    let notes: Vec<String> =
        all_readings.iter().flat_map(|(poller, readings)| notes(&poller.policy.account, readings)).collect();
    let worst = rows.iter().map(|row| row.level).max().unwrap_or(CheckLevel::Unknown);
    match output {
        CheckOutputFormat::Text => write_stdout(&text(&rows, &notes, context.colour)),
        CheckOutputFormat::Json => print_json(&CheckReport { level: worst, results: &rows, notes: &notes }),
        CheckOutputFormat::Plugin => print_line!("{}", plugin(worst, &rows)),
    }
    Exit::Check(worst)
}

fn unknown(output: CheckOutputFormat, why: &str) -> Exit {
    match output {
        CheckOutputFormat::Plugin => print_line!("LOWTIDE UNKNOWN - {why}"),
        CheckOutputFormat::Json => {
            print_json(&serde_json::json!({ "level": "unknown", "results": [], "notes": [why] }));
        }
        CheckOutputFormat::Text => {}
    }
    Exit::Check(CheckLevel::Unknown)
}

fn rows(policy: &AccountPolicy, readings: &AccountReadings) -> Vec<CheckResult> {
    let mut rows: Vec<CheckResult> = Vec::new();
    if let Some(why) = &readings.listing_failure {
        rows.push(unreadable(&policy.account, None, None, None, why.reason.clone()));
    }
    for read in &readings.divisions {
        let rules = policy.rules.iter().filter(|rule| rule.watches(&policy.account, read.division));
        match &read.balance {
            Err(why) => {
                rows.push(unreadable(&policy.account, read.division, read.name.clone(), None, why.reason.clone()));
            }
            Ok(_) => {
                rows.extend(rules.map(|rule| evaluate_rule(&policy.account, read, rule, &read.reading(rule))));
            }
        }
    }
    rows
}

fn unreadable(
    account: &Name,
    division: Division,
    name: Option<String>,
    rule: Option<&Rule>,
    reason: String,
) -> CheckResult {
    CheckResult {
        account: account.clone(),
        division,
        division_name: name,
        rule: rule.map(|rule| rule.name.clone()),
        metric: rule.map(|rule| rule.metric.name()),
        level: CheckLevel::Unknown,
        amount: None,
        currency: None,
        unlimited: false,
        seconds: None,
        warning: rule.and_then(|rule| RuleThreshold::of(rule, Severity::Warning)),
        critical: rule.and_then(|rule| RuleThreshold::of(rule, Severity::Critical)),
        reason_kind: ReasonKind::Unreadable,
        shown: "unreadable".to_owned(),
        reason: Some(reason),
        ranges: Default::default(),
    }
}

fn evaluate_rule(account: &Name, read: &DivisionReading, rule: &Rule, reading: &Reading) -> CheckResult {
    let mut row = unreadable(account, read.division, read.name.clone(), Some(rule), String::new());
    match evaluate(rule, reading) {
        Err(NotEvaluated::Unreadable(why)) => row.reason = Some(why.reason),
        Err(NotEvaluated::NotYetRead(why)) => row.reason = Some(why),
        Err(NotEvaluated::NotYetKnown(why)) => {
            (row.level, row.reason_kind) = (CheckLevel::Ok, ReasonKind::NotYetKnown);
            ReasonKind::NotYetKnown.label().clone_into(&mut row.shown);
            row.reason = Some(why);
            row.ranges = [range(rule, Severity::Warning), range(rule, Severity::Critical)];
        }
        Ok(verdict) => {
            // A level that could not be evaluated may be breached as well.
            row.level = match (verdict.breached(), &verdict.problem) {
                (Some(Severity::Critical), _) => CheckLevel::Critical,
                (_, Some(_)) => CheckLevel::Unknown,
                (Some(Severity::Warning), None) => CheckLevel::Warning,
                (None, None) => CheckLevel::Ok,
            };
            let range = |severity| if verdict.is_evaluated(severity) { range(rule, severity) } else { String::new() };
            row.ranges = [range(Severity::Warning), range(Severity::Critical)];
            (row.reason_kind, row.reason) = (ReasonKind::OneLevel, verdict.problem.map(|why| why.reason));
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
            row.shown = format_compact(*lasts);
        }
        Reading::NotYetKnown(_) | Reading::NotYetRead(_) | Reading::Unreadable(_) => {}
    }
    row
}

/// Formats a figure without unit or separators; durations are in seconds.
fn plain(bound: ThresholdValue) -> String {
    match bound {
        ThresholdValue::Money(amount) => amount.value.to_string(),
        ThresholdValue::Time { lasts } => lasts.as_secs().to_string(),
    }
}

/// Formats the range that does not alert in the syntax of plugins: `500:` alerts below 500, `~:1000` above 1000.
fn range(rule: &Rule, severity: Severity) -> String {
    rule.level(severity).map_or_else(String::new, |level| match level.side() {
        ThresholdSide::Below => format!("{}:", plain(level.threshold())),
        ThresholdSide::Above => format!("~:{}", plain(level.threshold())),
    })
}

fn notes(account: &Name, readings: &AccountReadings) -> Vec<String> {
    let label = |read: &DivisionReading| match read.division {
        Some(_) => format!("{account} · {}", division_label(read.division, read.name.as_deref())),
        None => account.to_string(),
    };
    let noted = |read: &DivisionReading| Some(format!("{}: {}", label(read), read.balance.as_ref().ok()?.anomaly()?));
    let mut notes: Vec<String> = readings.divisions.iter().filter_map(noted).collect();
    if let Some(sharing) = figures::shared_fund(&readings.divisions) {
        notes.push(format!("{account}: {} {}", sharing.len(), figures::SHARED_FUND_NOTE));
    }
    notes
}

fn text(rows: &[CheckResult], notes: &[String], colour: bool) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let threshold = |threshold: Option<RuleThreshold>| or_dash(threshold.map(|threshold| threshold.to_string()));
    let cells = |row: &CheckResult| {
        vec![
            row.level.lower().to_owned(),
            row.account.to_string(),
            division_label(row.division, row.division_name.as_deref()),
            or_dash(row.rule.as_ref().map(ToString::to_string)),
            row.shown.clone(),
            threshold(row.warning),
            threshold(row.critical),
        ]
    };
    let head = "LEVEL|ACCOUNT|DIVISION|RULE|VALUE|WARNING|CRITICAL";
    let table = Table::new(head, &[4], rows.iter().map(cells).collect());
    let styles = std::iter::once(BOLD).chain(rows.iter().map(|row| row.level.style()));
    let lines = table.text();
    let mut text: String = lines.lines().zip(styles).map(|(line, style)| paint(line, style, colour) + "\n").collect();
    let mut reasons: BTreeMap<(ReasonKind, &str), (BTreeSet<&str>, usize)> = BTreeMap::new();
    for row in rows {
        if let Some(reason) = &row.reason {
            let (accounts, times) = reasons.entry((row.reason_kind, reason)).or_default();
            accounts.insert(&row.account);
            *times += 1;
        }
    }
    for ((problem, reason), (accounts, times)) in reasons {
        let times = if times > 1 { format!(" ({times} times)") } else { String::new() };
        let accounts = accounts.into_iter().collect::<Vec<_>>().join(", ");
        text.push_str(&format!("{}: {}: {}{times}\n", problem.label(), clean(&accounts), clean(reason)));
    }
    for note in notes {
        text.push_str(&format!("note: {}\n", clean(note)));
    }
    text
}

/// Formats the plugin line: `LOWTIDE WARNING - text | 'label'=value;warning;critical`.
fn plugin(worst: CheckLevel, rows: &[CheckResult]) -> String {
    let fund = |row: &CheckResult| match (&row.division_name, row.division) {
        (Some(name), _) => format!("{} {name}", row.account),
        (None, Some(id)) => format!("{} division {id}", row.account),
        (None, None) => row.account.to_string(),
    };
    let mut bad: Vec<&CheckResult> = rows.iter().filter(|row| row.level > CheckLevel::Ok).collect();
    bad.sort_by_key(|row| std::cmp::Reverse(row.level));
    let value = |row: &CheckResult| format!("{} {}: {}", fund(row), row.rule.as_deref().unwrap_or_default(), row.shown);
    let describe = |row: &&CheckResult| match &row.reason {
        Some(reason) if row.reason_kind == ReasonKind::OneLevel => format!("{} ({reason})", value(row)),
        Some(reason) => format!("{}: {reason}", fund(row)),
        None => value(row),
    };
    let text = if bad.is_empty() {
        format!("{} ok", super::count(rows.len(), "result"))
    } else {
        bad.iter().map(describe).collect::<Vec<_>>().join(", ")
    };
    let text = clean(&text).replace('|', "/");
    let figures: Vec<String> = rows.iter().filter_map(figure).collect();
    let data = if figures.is_empty() { String::new() } else { format!(" | {}", figures.join(" ")) };
    format!("LOWTIDE {} - {text}{data}", worst.upper())
}

fn figure(row: &CheckResult) -> Option<String> {
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
