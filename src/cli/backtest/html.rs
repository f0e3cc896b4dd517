//! The report as one page that needs nothing else: no script, no font, no picture from anywhere. For wide and narrow screens,
//! light and dark.
//!
//! Everything that is not markup of this file or of [`super::chart`] goes through [`escaped`].

use chrono_tz::Tz;

use super::report::{BacktestAccountReport, BacktestFundReport, BacktestReport};
use super::{chart, text};

const STYLE: &str = "
:root { color-scheme: light dark; --page:#f4f5f6; --card:#fff; --ink:#202428; --quiet:#5d656d; --line:#dde1e5;
  --funds:#1f6feb; --warning:#b26a00; --critical:#c5221f; --good:#1a7f37; }
@media (prefers-color-scheme: dark) { :root { --page:#16181b; --card:#212429; --ink:#e6e9ec; --quiet:#a3abb3;
  --line:#3a4047; --funds:#6cb0ff; --warning:#f0b04f; --critical:#ff7b72; --good:#5fc77a; } }
* { box-sizing: border-box; }
body { margin:0; padding:16px; background:var(--page); color:var(--ink);
  font:15px/1.5 -apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif; }
main { max-width:1000px; margin:0 auto; }
h1 { font-size:22px; margin:8px 0 4px; } h2 { font-size:18px; margin:0 0 8px; } h3 { font-size:15px; margin:20px 0 6px; }
section { background:var(--card); border:1px solid var(--line); border-radius:8px; padding:16px; margin:16px 0; }
p { margin:6px 0; } .quiet { color:var(--quiet); } .note { border-left:4px solid var(--warning); padding-left:10px; }
.wide { overflow-x:auto; -webkit-overflow-scrolling:touch; }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; }
th,td { text-align:left; padding:5px 14px 5px 0; border-bottom:1px solid var(--line); white-space:nowrap; vertical-align:top; }
th { color:var(--quiet); font-weight:600; font-size:13px; } td.number,th.number { text-align:right; }
tr.warning td:first-child { color:var(--warning); } tr.critical td:first-child { color:var(--critical); }
tr.resolved td:first-child { color:var(--good); } tr td:first-child { font-weight:600; }
pre { background:var(--page); padding:10px; border-radius:6px; overflow-x:auto; }
ul { padding-left:20px; margin:6px 0; } svg { display:block; width:100%; min-width:640px; height:auto; }
svg text { fill:var(--quiet); font-size:12px; } svg .grid { stroke:var(--line); } svg .funds { stroke:var(--funds); fill:none; stroke-width:2; }
svg .warning { stroke:var(--warning); fill:var(--warning); } svg .critical { stroke:var(--critical); fill:var(--critical); }
svg .good { stroke:var(--good); fill:var(--good); } svg line.warning,svg line.critical { stroke-dasharray:6 4; }
svg text.warning,svg text.critical,svg rect { stroke:none; } svg .dry { fill:var(--critical); opacity:.12; } svg .idle { fill:var(--line); }
svg circle { stroke:var(--card); stroke-width:1.5; }
@media (max-width:640px) { body { padding:8px; } section { padding:12px; } th,td { white-space:normal; padding-right:10px; font-size:13px; }
  td.number { white-space:nowrap; } }
";

/// The whole page.
pub(super) fn page(report: &BacktestReport, zone: Tz) -> String {
    let mut body = String::from("<h1>Rehearsal of the rules</h1>\n");
    body.push_str(&quiet_line("What today’s rules would have told over the past, as the ledger has it."));
    report.accounts.iter().for_each(|account| body.push_str(&account_part(account, zone)));
    if report.accounts.iter().any(|account| account.from.is_some()) {
        body.push_str(&format!("<section><h2>Messages</h2>{}</section>\n", table(&text::messages(report), &[1, 2])));
        let items: Vec<String> = report.assumptions.iter().map(|line| escaped(line)).collect();
        let items = items.join("</li><li>");
        body.push_str(&format!(
            "<section><h2>What this takes for granted</h2><ul class=\"quiet\"><li>{items}</li></ul></section>\n"
        ));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Rehearsal of the rules</title>\n\
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
            Some(why) => quiet_line(&format!("not rehearsed: {why}")),
            None if rule.alerts.is_empty() => quiet_line("would not have fired"),
            None => table(&text::events(rule, fund, zone), &[3]),
        });
    }
    if !fund.unlimited {
        part.push_str("<h3>When funds ran out</h3>\n");
        part.push_str(&quiet_line(&text::ran_out_summary(fund)));
        if !fund.ran_out.is_empty() {
            part.push_str(&table(&text::ran_out(fund, zone), &[1]));
        }
    }
    if let Some(suggestion) = &fund.suggestion {
        part.push_str(&format!("<h3>Proposed thresholds</h3>\n{}", quiet_line(&text::proposal(suggestion, fund))));
        if suggestion.reason.is_none() {
            let lines: String = text::yaml(suggestion).lines().map(|line| escaped(line) + "\n").collect();
            part.push_str(&format!("<pre>{lines}</pre>\n"));
        }
        if !suggestion.comparisons.is_empty() {
            part.push_str(&table(&text::comparison_rows(suggestion, fund), &[2, 3, 4, 5, 6]));
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

fn table(rows: &text::TableRows, right: &[usize]) -> String {
    let line = |(place, row): (usize, &Vec<String>)| {
        let tag = if place == 0 { "th" } else { "td" };
        let class = match row.first().map(String::as_str) {
            Some("resolved") => "resolved",
            _ if row.iter().any(|cell| cell == "critical") => "critical",
            _ if row.iter().any(|cell| cell == "warning") => "warning",
            _ => "",
        };
        let cell = |(column, cell): (usize, &String)| {
            let number = if right.contains(&column) { " class=\"number\"" } else { "" };
            let cell = if place == 0 { sentence_case(cell) } else { cell.clone() };
            format!("<{tag}{number}>{}</{tag}>", escaped(&cell))
        };
        format!("<tr class=\"{class}\">{}</tr>\n", row.iter().enumerate().map(cell).collect::<String>())
    };
    format!("<div class=\"wide\"><table>\n{}</table></div>\n", rows.iter().enumerate().map(line).collect::<String>())
}

/// `FIRST TOLD` is how a terminal shows a head; a page has other means.
fn sentence_case(head: &str) -> String {
    let lower = head.to_lowercase();
    let mut letters = lower.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Text from outside: no markup, and no hidden characters.
pub(super) fn escaped(text: &str) -> String {
    crate::util::text::escape_html(&crate::util::text::clean(text))
}
