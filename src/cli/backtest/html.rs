//! The backtest report as one self-contained page without scripts, for wide and narrow screens, light and dark.
//!
//! All text that is not markup of this file or of [`super::chart`] passes through [`escaped`].

use chrono_tz::Tz;

use super::report::{BacktestAccountReport, BacktestFundReport, BacktestReport};
use super::text::escaped;
use super::{chart, text};
use crate::cli::output::table::Table;

/// Styles of the page and of the chart in it.
const STYLE: &str = include_str!("page.css");

/// Renders the whole page.
pub(super) fn page(report: &BacktestReport, zone: Tz) -> String {
    let mut body = String::from("<h1>Backtest of the rules</h1>\n");
    body.push_str(&quiet_line("What your rules would have sent."));
    report.accounts.iter().for_each(|account| body.push_str(&account_part(account, zone)));
    if report.accounts.iter().any(|account| account.from.is_some()) {
        body.push_str(&format!("<section><h2>Messages</h2>{}</section>\n", table(&text::messages(report))));
        let items: Vec<String> = report.assumptions.iter().map(|line| escaped(line)).collect();
        let items = items.join("</li><li>");
        body.push_str(&format!("<section><h2>Assumptions</h2><ul class=\"quiet\"><li>{items}</li></ul></section>\n"));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Backtest of the rules</title>\n\
         <style>{STYLE}</style></head>\n<body><main>\n{body}</main></body></html>\n"
    )
}

fn account_part(account: &BacktestAccountReport, zone: Tz) -> String {
    let mut part = format!("<h1>{}</h1>\n", escaped(&account.account));
    if account.from.is_some() {
        let heading = text::account_heading(account, zone);
        let rest = heading.split_once(": ").map_or(heading.as_str(), |(_, rest)| rest);
        part.push_str(&quiet_line(rest));
    }
    account.failures.iter().chain(&account.notes).for_each(|note| part.push_str(&note_line(note)));
    account.funds.iter().for_each(|fund| part.push_str(&fund_part(account, fund, zone)));
    part
}

fn fund_part(account: &BacktestAccountReport, fund: &BacktestFundReport, zone: Tz) -> String {
    let name = if fund.division.is_some() { text::fund_name(fund) } else { "Available funds".to_owned() };
    let about = [text::available(fund), text::purchases(fund)].map(|line| quiet_line(&line)).concat();
    let mut part = format!("<section><h2>{}</h2>\n{about}", escaped(&name));
    if let Some((from, to)) = account.from.zip(account.to) {
        part.push_str(&format!("<div class=\"wide\">{}</div>\n", chart::svg(fund, from, to, zone)));
    }
    for rule in &fund.rules {
        part.push_str(&format!("<h3>{}</h3>\n", escaped(&text::rule_name(rule))));
        part.push_str(&match &rule.skipped {
            Some(reason) => quiet_line(&format!("not replayed: {reason}")),
            None if rule.alerts.is_empty() => quiet_line("would not have fired"),
            None => table(&text::events(rule, fund, zone)),
        });
    }
    if !fund.unlimited {
        part.push_str("<h3>When funds ran out</h3>\n");
        part.push_str(&quiet_line(&text::ran_out_summary(fund)));
        if !fund.ran_out.is_empty() {
            part.push_str(&table(&text::ran_out(fund, zone)));
        }
    }
    if let Some(suggestion) = &fund.suggestion {
        part.push_str(&format!("<h3>Proposed thresholds</h3>\n{}", quiet_line(&text::proposal(suggestion, fund))));
        if suggestion.reason.is_none() {
            let lines: String = text::yaml(suggestion).lines().map(|line| escaped(line) + "\n").collect();
            part.push_str(&format!("<pre>{lines}</pre>\n"));
        }
        if !suggestion.comparisons.is_empty() {
            part.push_str(&table(&text::comparisons(suggestion, fund)));
        }
    }
    part + "</section>\n"
}

fn quiet_line(line: &str) -> String {
    format!("<p class=\"quiet\">{}</p>\n", escaped(line))
}

fn note_line(line: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escaped(line))
}

fn table(table: &Table) -> String {
    let cell = |tag: &str, column: usize, text: &str| {
        let number = if table.right.contains(&column) { " class=\"number\"" } else { "" };
        format!("<{tag}{number}>{}</{tag}>", escaped(text))
    };
    let head = table.head.iter().enumerate().map(|(column, text)| cell("th", column, &sentence_case(text)));
    let row = |row: &Vec<String>| {
        let cells: String = row.iter().enumerate().map(|(column, text)| cell("td", column, text)).collect();
        format!("<tr class=\"{}\">{cells}</tr>\n", text::row_class(row))
    };
    let (head, rows) = (head.collect::<String>(), table.rows.iter().map(row).collect::<String>());
    format!("<div class=\"wide\"><table>\n<tr>{head}</tr>\n{rows}</table></div>\n")
}

/// Turns a head such as `FIRST WARNING` into `First warning`.
fn sentence_case(head: &str) -> String {
    let lower = head.to_lowercase();
    let mut letters = lower.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
