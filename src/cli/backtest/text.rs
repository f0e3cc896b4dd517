//! The backtest report as text for a terminal, and the texts and tables that the page shares with it.

use std::time::Duration;

use anstyle::Style;
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::report::{
    BacktestAccountReport, BacktestAlertReport, BacktestDepletion, BacktestEventReport, BacktestFundReport,
    BacktestReport, BacktestRuleReport, FundAmount, NotifierTotals, PurchaseTotal, ThresholdSuggestion,
};
use crate::cli::count;
use crate::cli::output::style::{BOLD, GREEN, RED, YELLOW, paint};
use crate::cli::output::table::Table;
use crate::cli::status::division_label;
use crate::domain::Time;
use crate::domain::alert::TransitionKind;
use crate::domain::money::{Currency, Money, figure};
use crate::domain::rule::Severity;
use crate::domain::seconds::format_compact;
use crate::util::text::clean;

/// Formats the whole report.
pub(super) fn text(report: &BacktestReport, zone: Tz, colour: bool) -> String {
    let mut text = String::new();
    for account in &report.accounts {
        text.push_str(&heading(&account_heading(account, zone), colour));
        account.failures.iter().for_each(|reason| text.push_str(&format!("failed: {}\n", clean(reason))));
        account.notes.iter().for_each(|note| text.push_str(&format!("note: {}\n", clean(note))));
        for fund in &account.funds {
            text.push_str(&fund_text(account, fund, zone, colour));
        }
        text.push('\n');
    }
    if report.accounts.iter().any(|account| account.from.is_some()) {
        text.push_str(&heading("Messages", colour));
        text.push_str(&messages(report).text());
        text.push_str(&format!("\n{}", heading("Assumptions", colour)));
        report.assumptions.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    }
    text
}

fn fund_text(account: &BacktestAccountReport, fund: &BacktestFundReport, zone: Tz, colour: bool) -> String {
    let mut text = String::new();
    if account.funds.len() > 1 || fund.division.is_some() {
        text.push_str(&format!("\n{}", heading(&fund_name(fund), colour)));
    }
    text.push_str(&format!("{}\n{}\n", available(fund), clean(&purchases(fund))));
    for rule in &fund.rules {
        text.push_str(&format!("\n{}", heading(&rule_name(rule), colour)));
        match &rule.skipped {
            Some(reason) => text.push_str(&format!("  not replayed: {}\n", clean(reason))),
            None if rule.alerts.is_empty() => text.push_str("  would not have fired\n"),
            None => text.push_str(&events_text(&events(rule, fund, zone), colour)),
        }
    }
    if !fund.unlimited {
        text.push_str(&format!("\n{}\n", ran_out_summary(fund)));
        if !fund.ran_out.is_empty() {
            text.push_str(&ran_out(fund, zone).text());
        }
    }
    if let Some(suggestion) = &fund.suggestion {
        text.push_str(&format!("\n{}", heading("Proposed thresholds", colour)));
        text.push_str(&format!("{}\n", proposal(suggestion, fund)));
        text.push_str(&indented(&yaml(suggestion)));
        if !suggestion.comparisons.is_empty() {
            text.push_str(&comparisons(suggestion, fund).text());
        }
    }
    text
}

fn heading(line: &str, colour: bool) -> String {
    paint(&clean(line), BOLD, colour) + "\n"
}

/// Formats a table of events, each line in the colour of its level.
fn events_text(table: &Table, colour: bool) -> String {
    let styles = std::iter::once(None).chain(table.rows.iter().map(|row| row_style(row)));
    let mut text = String::new();
    for (line, style) in table.text().lines().zip(styles) {
        let painted = style.map_or_else(|| line.to_owned(), |style| paint(line, style, colour));
        text.push_str(&format!("  {painted}\n"));
    }
    text
}

fn row_style(row: &[String]) -> Option<Style> {
    match row_class(row) {
        "resolved" => Some(GREEN),
        "critical" => Some(RED),
        "warning" => Some(YELLOW),
        _ => None,
    }
}

/// Returns the class of a row for the page: `resolved`, `critical`, `warning`, or an empty string.
pub(super) fn row_class(row: &[String]) -> &'static str {
    let has = |word: &str| row.iter().any(|cell| cell == word);
    match row.first().map(String::as_str) {
        Some("resolved") => "resolved",
        _ if has("critical") => "critical",
        _ if has("warning") => "warning",
        _ => "",
    }
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

/// Formats the account, the replayed period and the schedule.
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
    division_label(fund.division, fund.division_name.as_deref())
}

pub(super) fn available(fund: &BacktestFundReport) -> String {
    match &fund.available {
        Some(money) => format!("available now: {money}"),
        None if fund.unlimited => "funds are unlimited: a rule on available funds never fires".to_owned(),
        None => "available funds cannot be computed".to_owned(),
    }
}

/// Formats the purchases of the past year by kind, without the kinds that did not occur.
pub(super) fn purchases(fund: &BacktestFundReport) -> String {
    let purchases = &fund.purchases;
    if let Some(reason) = &purchases.reason {
        return format!("Purchases of the past year: cannot be classified, because {reason}");
    }
    let total = |sum: Option<&PurchaseTotal>, noun: &str| {
        let sum = sum.filter(|sum| sum.count > 0)?;
        Some((count(sum.count, noun), money(sum.amount.amount, fund)))
    };
    let kinds =
        [(&purchases.renewals, "renewal"), (&purchases.new_orders, "new order"), (&purchases.other, "other purchase")];
    let kinds = kinds.into_iter().filter_map(|(sum, noun)| total(sum.as_ref(), noun));
    let kinds: Vec<String> = kinds.map(|(number, price)| format!("{number} for {price}")).collect();
    let kinds = if kinds.is_empty() { "none from the balance".to_owned() } else { kinds.join(", ") };
    let refunded = purchases.refunded.filter(|refunded| *refunded > 0).map(|refunded| format!("{refunded} refunded"));
    let elsewhere = total(purchases.paid_elsewhere.as_ref(), "order");
    let elsewhere = elsewhere.map(|(number, price)| format!("{number} paid by card or invoice ({price})"));
    let parts: Vec<String> = std::iter::once(kinds).chain(refunded).chain(elsewhere).collect();
    format!("Purchases of the past year: {}", parts.join("; "))
}

pub(super) fn rule_name(rule: &BacktestRuleReport) -> String {
    let levels = [("warning", rule.warning), ("critical", rule.critical)];
    let levels = levels.into_iter().filter_map(|(name, at)| Some(format!(", {name} {}", at?)));
    format!("{}: {}{}", rule.rule, rule.metric, levels.collect::<String>())
}

/// Returns all events of a rule as a table, with consecutive reminders in one row.
pub(super) fn events(rule: &BacktestRuleReport, fund: &BacktestFundReport, zone: Tz) -> Table {
    let mut rows = Vec::new();
    for alert in &rule.alerts {
        let are_reminders = |a: &BacktestEventReport, b: &BacktestEventReport| {
            [a, b].iter().all(|event| event.is(TransitionKind::Reminder))
        };
        for repeated in alert.events.chunk_by(are_reminders) {
            rows.extend(repeated.first().map(|event| event_row(event, repeated.len(), alert, fund, zone)));
        }
        if alert.resolved.is_none() {
            let lasted = format!("{} so far", duration_text(alert.lasted_seconds));
            rows.push(vec!["still fires".to_owned(), String::new(), String::new(), String::new(), lasted]);
        }
    }
    Table::new("EVENT|LEVEL|WHEN|VALUE|LASTED", &[3], rows)
}

fn event_row(
    event: &BacktestEventReport,
    repeats: usize,
    alert: &BacktestAlertReport,
    fund: &BacktestFundReport,
    zone: Tz,
) -> Vec<String> {
    let name = match repeats {
        1 => event.event.to_owned(),
        repeats => format!("{repeats} reminders"),
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

pub(super) fn messages(report: &BacktestReport) -> Table {
    let row = |NotifierTotals { notifier, messages, events }: &NotifierTotals| {
        vec![notifier.to_string(), messages.to_string(), events.to_string()]
    };
    Table::new("NOTIFIER|MESSAGES|EVENTS", &[1, 2], report.messages.iter().map(row).collect())
}

/// Says in one sentence how often funds ran out.
pub(super) fn ran_out_summary(fund: &BacktestFundReport) -> String {
    let limit = match fund.typical_order.amount {
        price if price > Decimal::ZERO => format!(" (less left than a typical order of {})", money(price, fund)),
        _ => String::new(),
    };
    match fund.ran_out.len() {
        0 => format!("Funds never ran out{limit}."),
        1 => format!("Funds ran out once{limit}:"),
        n => format!("Funds ran out {n} times{limit}:"),
    }
}

pub(super) fn ran_out(fund: &BacktestFundReport, zone: Tz) -> Table {
    let row = |period: &BacktestDepletion| {
        let until = period.until.map_or_else(|| "now".to_owned(), |until| stamp(until, zone));
        vec![stamp(period.from, zone), money(period.lowest.amount, fund), until, first_warning(period, zone)]
    };
    Table::new("RAN OUT|LOWEST|UNTIL|FIRST WARNING", &[1], fund.ran_out.iter().map(row).collect())
}

/// Says how long before funds ran out the first alert came.
fn first_warning(period: &BacktestDepletion, zone: Tz) -> String {
    let Some(first) = period.warnings.first() else { return "no warning".to_owned() };
    let (when, rule) = (stamp(first.at, zone), &first.rule);
    match first.seconds_before {
        before if before >= 0 => format!("{} before, by {rule} ({when})", duration_text(before)),
        after => format!("{} after, by {rule} ({when})", duration_text(-after)),
    }
}

/// Explains the proposed thresholds, or why nothing is proposed.
pub(super) fn proposal(suggestion: &ThresholdSuggestion, fund: &BacktestFundReport) -> String {
    if let Some(reason) = &suggestion.reason {
        return format!("Nothing is proposed: {reason}.");
    }
    let amount = |sum: Option<FundAmount>| money(sum.map_or(Decimal::ZERO, |sum| sum.amount), fund);
    format!(
        "In 95 % of all windows of 14 days, at most {} was spent; in 95 % of those of 5 days (three working days and a weekend), \
         at most {} ({} days of history). Added to that are two typical orders, the one that crosses the threshold and the one \
         that can no longer be paid; the sum is rounded up:",
        amount(suggestion.spent_in_14_days),
        amount(suggestion.spent_in_5_days),
        suggestion.days.unwrap_or_default()
    )
}

/// Formats the proposed thresholds for alerts.yaml.
pub(super) fn yaml(suggestion: &ThresholdSuggestion) -> String {
    match suggestion.warning.zip(suggestion.critical) {
        Some((warning, critical)) => {
            let (warning, critical) = (warning.amount, critical.amount);
            format!("warning:  {{ below: {warning} }}\ncritical: {{ below: {critical} }}\n")
        }
        None => String::new(),
    }
}

pub(super) fn comparisons(suggestion: &ThresholdSuggestion, fund: &BacktestFundReport) -> Table {
    let rows = suggestion.comparisons.iter().map(|threshold| {
        vec![
            threshold.rule.to_string(),
            format!("{}, {} days", threshold.level, threshold.notice_days),
            money(threshold.below.amount, fund),
            count(threshold.fell_below, "time"),
            threshold.in_time.to_string(),
            threshold.too_late.to_string(),
            threshold.not_yet_known.to_string(),
            threshold.shortest_seconds.map_or_else(|| "-".to_owned(), duration_text),
        ]
    });
    let head = "RULE|LEVEL|BELOW|FELL BELOW|IN TIME|TOO LATE|TOO EARLY TO SAY|SHORTEST NOTICE";
    Table::new(head, &[2, 3, 4, 5, 6], rows.collect())
}

/// Formats an amount in the fund's currency.
pub(super) fn money(amount: Decimal, fund: &BacktestFundReport) -> String {
    match fund.currency.as_deref().and_then(|code| Currency::parse(code).ok()) {
        Some(currency) => Money::new(amount, currency).to_string(),
        None => figure(amount, 2),
    }
}

pub(super) fn stamp(at: Time, zone: Tz) -> String {
    at.with_timezone(&zone).format("%a %-d %b %Y, %H:%M").to_string()
}

/// Formats a duration such as `12 d 4 h`.
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

/// Returns the CSS class of a level.
pub(super) fn level_class(level: Severity) -> &'static str {
    match level {
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// Escapes markup and makes hidden characters visible.
pub(super) fn escaped(text: &str) -> String {
    crate::util::text::escape_html(&crate::util::text::clean(text))
}
