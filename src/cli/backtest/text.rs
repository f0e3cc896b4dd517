//! The report for a person at a terminal, and the words that the page shares with it.

use std::time::Duration;

use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::report::{
    BacktestAccountReport, BacktestAlertReport, BacktestDepletion, BacktestEventReport, BacktestFundReport,
    BacktestReport, BacktestRuleReport, FundAmount, PurchaseTotal, ThresholdSuggestion,
};
use crate::cli::count;
use crate::cli::output::table::table;
use crate::domain::Time;
use crate::domain::alert::TransitionKind;
use crate::domain::money::{Currency, Money, figure};
use crate::domain::rule::Severity;
use crate::domain::seconds::format_compact;
use crate::util::text::clean;

/// A table: its head, and its rows.
pub(super) type TableRows = Vec<Vec<String>>;

/// The whole report.
pub(super) fn text(report: &BacktestReport, zone: Tz, colour: bool) -> String {
    let mut text = String::new();
    for account in &report.accounts {
        text.push_str(&head(&account_heading(account, zone), colour));
        account.failures.iter().for_each(|why| text.push_str(&format!("failed: {}\n", clean(why))));
        account.notes.iter().for_each(|note| text.push_str(&format!("note: {}\n", clean(note))));
        for fund in &account.funds {
            put_fund(&mut text, account, fund, zone, colour);
        }
        text.push('\n');
    }
    if report.accounts.iter().any(|account| account.from.is_some()) {
        text.push_str(&head("Messages", colour));
        text.push_str(&table(&messages(report), &[1, 2]));
        text.push_str(&format!("\n{}", head("What this takes for granted", colour)));
        report.assumptions.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    }
    text
}

fn put_fund(text: &mut String, account: &BacktestAccountReport, fund: &BacktestFundReport, zone: Tz, colour: bool) {
    if account.funds.len() > 1 || fund.division.is_some() {
        text.push_str(&format!("\n{}", head(&fund_name(fund), colour)));
    }
    text.push_str(&format!("{}\n{}\n", available(fund), clean(&purchases(fund))));
    for rule in &fund.rules {
        text.push_str(&format!("\n{}\n", head(&rule_name(rule), colour).trim_end()));
        match &rule.skipped {
            Some(why) => text.push_str(&format!("  not rehearsed: {}\n", clean(why))),
            None if rule.alerts.is_empty() => text.push_str("  would not have fired\n"),
            None => text.push_str(&coloured(&table(&events(rule, fund, zone), &[3]), colour)),
        }
    }
    if !fund.unlimited {
        text.push_str(&format!("\n{}\n", ran_out_summary(fund)));
        if !fund.ran_out.is_empty() {
            text.push_str(&table(&ran_out(fund, zone), &[1]));
        }
    }
    if let Some(suggestion) = &fund.suggestion {
        text.push_str(&format!("\n{}", head("Proposed thresholds", colour)));
        text.push_str(&format!("{}\n", proposal(suggestion, fund)));
        text.push_str(&indented(&yaml(suggestion)));
        if !suggestion.comparisons.is_empty() {
            text.push_str(&table(&comparison_rows(suggestion, fund), &[2, 3, 4, 5, 6]));
        }
    }
}

fn head(line: &str, colour: bool) -> String {
    let line = clean(line);
    if colour { format!("\u{1b}[1m{line}\u{1b}[0m\n") } else { format!("{line}\n") }
}

fn coloured(table: &str, colour: bool) -> String {
    let paint = |line: &str| {
        let mut words = line.split_whitespace();
        let code = match (words.next(), words.next()) {
            (Some("resolved"), _) => "32",
            (_, Some("critical")) => "31",
            (_, Some("warning")) => "33",
            _ => return format!("  {line}\n"),
        };
        if colour { format!("  \u{1b}[{code}m{line}\u{1b}[0m\n") } else { format!("  {line}\n") }
    };
    table.lines().map(paint).collect()
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

/// Whose rehearsal it is, and of when.
pub(super) fn account_heading(account: &BacktestAccountReport, zone: Tz) -> String {
    match account.from.zip(account.to) {
        None => account.account.to_string(),
        Some((from, to)) => format!(
            "{}: {} to {}, schedule \"{}\", times in {}",
            account.account,
            stamp(from, zone),
            stamp(to, zone),
            account.schedule,
            zone.name()
        ),
    }
}

pub(super) fn fund_name(fund: &BacktestFundReport) -> String {
    crate::cli::status::division_label(fund.division, fund.division_name.as_deref())
}

pub(super) fn available(fund: &BacktestFundReport) -> String {
    match &fund.available {
        Some(money) => format!("available now: {money}"),
        None if fund.unlimited => "funds are unlimited: a rule on available funds never fires".to_owned(),
        None => "available funds cannot be computed".to_owned(),
    }
}

/// How much of the past year's purchases was what. Kinds that there were none of are left out.
pub(super) fn purchases(fund: &BacktestFundReport) -> String {
    let found = &fund.purchases;
    if let Some(why) = &found.reason {
        return format!("Purchases of the past year: could not be told apart, because {why}");
    }
    let some = |sum: Option<&PurchaseTotal>, what: &str| {
        let sum = sum.filter(|sum| sum.count > 0)?;
        Some((count(sum.count, what), money(sum.amount.amount, fund)))
    };
    let kinds = [(&found.renewals, "renewal"), (&found.new_orders, "new order"), (&found.other, "other purchase")];
    let kinds = kinds.into_iter().filter_map(|(sum, what)| some(sum.as_ref(), what));
    let kinds: Vec<String> = kinds.map(|(number, price)| format!("{number} for {price}")).collect();
    let kinds = if kinds.is_empty() { "none from the balance".to_owned() } else { kinds.join(", ") };
    let refunded = found.refunded.filter(|refunded| *refunded > 0).map(|refunded| format!("{refunded} refunded"));
    let elsewhere = some(found.paid_elsewhere.as_ref(), "order");
    let elsewhere = elsewhere.map(|(number, price)| format!("{number} paid by card or invoice ({price})"));
    let parts: Vec<String> = std::iter::once(kinds).chain(refunded).chain(elsewhere).collect();
    format!("Purchases of the past year: {}", parts.join("; "))
}

pub(super) fn rule_name(rule: &BacktestRuleReport) -> String {
    let levels = [("warning", rule.warning), ("critical", rule.critical)];
    let levels = levels.into_iter().filter_map(|(name, at)| Some(format!(", {name} {}", at?)));
    format!("{}: {}{}", rule.rule, rule.metric, levels.collect::<String>())
}

/// Every event of a rule; reminders in a row are one line.
pub(super) fn events(rule: &BacktestRuleReport, fund: &BacktestFundReport, zone: Tz) -> TableRows {
    let mut rows: TableRows = vec!["EVENT|LEVEL|WHEN|VALUE|LASTED".split('|').map(str::to_owned).collect()];
    for alert in &rule.alerts {
        let mut left = alert.events.as_slice();
        while let Some(event) = left.first() {
            let repeats = left
                .iter()
                .take_while(|it| event.is(TransitionKind::Reminder) && it.is(TransitionKind::Reminder))
                .count()
                .max(1);
            rows.push(row(event, repeats, alert, fund, zone));
            left = &left[repeats..];
        }
        if alert.resolved.is_none() {
            let still = format!("{} so far", duration_text(alert.lasted_seconds));
            rows.push(vec!["still fires".to_owned(), String::new(), String::new(), String::new(), still]);
        }
    }
    rows
}

fn row(
    event: &BacktestEventReport,
    repeats: usize,
    alert: &BacktestAlertReport,
    fund: &BacktestFundReport,
    zone: Tz,
) -> Vec<String> {
    let name = match (event.event, repeats) {
        (name, 1) => name.to_owned(),
        (_, same) => format!("{same} reminders"),
    };
    let lasted = match alert.began_before {
        _ if event.is(TransitionKind::Resolved) => duration_text(alert.lasted_seconds),
        true if event.is(TransitionKind::Raised) => "began before".to_owned(),
        _ => String::new(),
    };
    let when = if repeats > 1 { format!("from {}", stamp(event.at, zone)) } else { stamp(event.at, zone) };
    vec![name, event.level.to_string(), when, value(event, fund), lasted]
}

fn value(event: &BacktestEventReport, fund: &BacktestFundReport) -> String {
    match (event.amount, event.seconds) {
        (Some(sum), _) => money(sum.amount, fund),
        (None, Some(seconds)) => format_compact(Duration::from_secs(seconds)),
        (None, None) => "unlimited".to_owned(),
    }
}

pub(super) fn messages(report: &BacktestReport) -> TableRows {
    let mut rows: TableRows = vec!["NOTIFIER|MESSAGES|EVENTS".split('|').map(str::to_owned).collect()];
    let row = |it: &super::report::NotifierTotals| {
        vec![it.notifier.to_string(), it.messages.to_string(), it.events.to_string()]
    };
    rows.extend(report.messages.iter().map(row));
    rows
}

/// One sentence about the times when funds ran out.
pub(super) fn ran_out_summary(fund: &BacktestFundReport) -> String {
    let usual = match fund.usual_purchase.amount {
        usual if usual > Decimal::ZERO => format!(" (less left than a usual purchase of {})", money(usual, fund)),
        _ => String::new(),
    };
    match fund.ran_out.len() {
        0 => format!("Funds never ran out{usual}."),
        1 => format!("Funds ran out once{usual}:"),
        n => format!("Funds ran out {n} times{usual}:"),
    }
}

pub(super) fn ran_out(fund: &BacktestFundReport, zone: Tz) -> TableRows {
    let mut rows: TableRows = vec!["RAN OUT|LOWEST|UNTIL|FIRST TOLD".split('|').map(str::to_owned).collect()];
    rows.extend(fund.ran_out.iter().map(|it| {
        let until = it.until.map_or_else(|| "now".to_owned(), |until| stamp(until, zone));
        vec![stamp(it.from, zone), money(it.lowest.amount, fund), until, first_warning(it, zone)]
    }));
    rows
}

/// How long before it the first event came.
fn first_warning(ran_out: &BacktestDepletion, zone: Tz) -> String {
    let Some(first) = ran_out.warnings.first() else { return "nobody was told".to_owned() };
    let (when, rule) = (stamp(first.at, zone), &first.rule);
    match first.seconds_before {
        before if before >= 0 => format!("{} before, by {rule} ({when})", duration_text(before)),
        after => format!("{} after, by {rule} ({when})", duration_text(-after)),
    }
}

/// What is proposed, and why so much.
pub(super) fn proposal(suggestion: &ThresholdSuggestion, fund: &BacktestFundReport) -> String {
    if let Some(why) = &suggestion.reason {
        return format!("Nothing is proposed: {why}.");
    }
    let of = |sum: Option<FundAmount>| money(sum.map_or(Decimal::ZERO, |sum| sum.amount), fund);
    format!(
        "In 95 of 100 windows of 14 days at most {} was spent, of 5 days (three working days and a weekend) {}, in {} days of \
         history; with two usual purchases on top (the one that \
         crosses the threshold, and the one that can no longer be paid) and rounded up:",
        of(suggestion.spent_in_14_days),
        of(suggestion.spent_in_5_days),
        suggestion.days.unwrap_or_default()
    )
}

/// The thresholds as alerts.yaml has them.
pub(super) fn yaml(suggestion: &ThresholdSuggestion) -> String {
    match suggestion.warning.zip(suggestion.critical) {
        Some((warning, critical)) => {
            let (warning, critical) = (warning.amount, critical.amount);
            format!("warning:  {{ below: {warning} }}\ncritical: {{ below: {critical} }}\n")
        }
        None => String::new(),
    }
}

pub(super) fn comparison_rows(suggestion: &ThresholdSuggestion, fund: &BacktestFundReport) -> TableRows {
    let mut rows: TableRows = vec![
        "RULE|LEVEL|BELOW|FELL BELOW|IN TIME|TOO LATE|TOO EARLY TO SAY|SHORTEST NOTICE"
            .split('|')
            .map(str::to_owned)
            .collect(),
    ];
    rows.extend(suggestion.comparisons.iter().map(|it| {
        vec![
            it.rule.to_string(),
            format!("{}, {} days", it.level, it.notice_days),
            money(it.below.amount, fund),
            count(it.fell_below, "time"),
            it.in_time.to_string(),
            it.too_late.to_string(),
            it.not_yet_known.to_string(),
            it.shortest_seconds.map_or_else(|| "-".to_owned(), duration_text),
        ]
    }));
    rows
}

pub(super) fn money(amount: Decimal, fund: &BacktestFundReport) -> String {
    match fund.currency.as_deref().and_then(|code| Currency::parse(code).ok()) {
        Some(currency) => Money::new(amount, currency).to_string(),
        None => figure(amount, 2),
    }
}

pub(super) fn stamp(at: Time, zone: Tz) -> String {
    at.with_timezone(&zone).format("%a %-d %b %Y, %H:%M").to_string()
}

/// `12 d 4 h`.
pub(super) fn duration_text(seconds: i64) -> String {
    let minutes = seconds / 60;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0) => "less than a minute".to_owned(),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// The class of a level, for the page.
pub(super) fn level_class(level: Severity) -> &'static str {
    match level {
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}
