//! A report in Slack: one attachment a rank, in its colour, the worst first; what does not fit is counted.

use serde_json::{Value, json};

use crate::notify::channels::slack::blocks::{section, slack_text, units};
use crate::notify::message::report::{ReportLine, ReportView, colour, limited_silences, rank_counts};

/// All rows together, in characters after escaping; the rest of the message is little.
const MAX_ROWS_UNITS: usize = 9_000;
/// One section.
const MAX_SECTION_UNITS: usize = 2_800;
/// One line of a row.
const MAX_LINE_UNITS: usize = 300;
/// Silences that are shown; the rest is counted. Together they fit into one text of Slack's, of 3000 characters.
const MAX_SILENCES: usize = 8;
/// Notes that are shown, for the same reason.
const MAX_NOTES: usize = 8;
/// Sections of all attachments together; Slack takes 50 blocks.
const MAX_SECTIONS: usize = 40;

/// The attachments below the title.
pub(crate) fn attachments(view: &ReportView) -> Vec<Value> {
    let mut attachments = vec![plain_section(&view.summary)];
    let (shown, rest) = view.rows.split_at(fitting_rows(&view.rows));
    for of_a_rank in shown.chunk_by(|a, b| a.rank == b.rank) {
        let texts = sections(of_a_rank);
        let blocks: Vec<Value> = texts.iter().map(|text| section(text, true)).collect();
        let fallback = rank_counts(of_a_rank.iter().map(|line| line.rank));
        attachments.push(json!({ "color": colour(of_a_rank[0].rank), "fallback": fallback, "blocks": blocks }));
    }
    let silences: Vec<String> =
        limited_silences(view, MAX_SILENCES).iter().map(|silence| slack_text(silence, MAX_LINE_UNITS)).collect();
    if !silences.is_empty() {
        attachments.push(plain_section(&silences.join("\n")));
    }
    let mut last: Vec<String> = Vec::new();
    if !rest.is_empty() {
        last.push(format!("and {} more: {}", rest.len(), rank_counts(rest.iter().map(|line| line.rank))));
    }
    last.extend(view.notes.iter().take(MAX_NOTES).map(|note| slack_text(note, MAX_LINE_UNITS)));
    last.extend(view.footer.iter().map(|footer| slack_text(footer, MAX_LINE_UNITS)));
    if !last.is_empty() {
        attachments.push(plain_section(&last.join("\n")));
    }
    attachments
}

fn plain_section(text: &str) -> Value {
    let element = json!({ "type": "mrkdwn", "text": text, "verbatim": true });
    json!({ "fallback": text, "blocks": [{ "type": "context", "elements": [element] }] })
}

/// How many rows fit, in whatever sections they end up.
fn fitting_rows(rows: &[ReportLine]) -> usize {
    let mut length = 0;
    let mut blocks = 0;
    let fits = |line: &&ReportLine| {
        let text = units(&row(line)) + 1;
        blocks += text / MAX_SECTION_UNITS + 1;
        length += text;
        length <= MAX_ROWS_UNITS
    };
    let by_length = rows.iter().take_while(fits).count();
    // Every rank begins a section of its own, and a section is left when a row does not fit into it any more.
    let mut most = by_length;
    while most > 0
        && rows[..most].chunk_by(|a, b| a.rank == b.rank).map(|it| sections(it).len()).sum::<usize>() > MAX_SECTIONS
    {
        most -= 1;
    }
    most
}

fn sections(rows: &[ReportLine]) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for line in rows {
        let text = row(line);
        match sections.last_mut() {
            Some(last) if units(last) + units(&text) < MAX_SECTION_UNITS => {
                last.push('\n');
                last.push_str(&text);
            }
            _ => sections.push(text),
        }
    }
    sections
}

/// A row: where and how much, and below it what fires.
fn row(line: &ReportLine) -> String {
    let change = line.change.as_ref().map(|change| format!(" ({change})")).unwrap_or_default();
    let unpaid = line.unpaid.as_ref().map(|unpaid| format!(" · {unpaid} of unpaid invoices")).unwrap_or_default();
    let figures = slack_text(&format!("{}{change}{unpaid}", line.funds), MAX_LINE_UNITS);
    let mut text = format!("*{}*: {figures}", slack_text(&line.fund, MAX_LINE_UNITS));
    for remark in line.remarks.iter().take(5) {
        text.push_str("\n        ");
        text.push_str(&slack_text(remark, MAX_LINE_UNITS));
    }
    text
}
