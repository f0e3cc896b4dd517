//! Rendering of a report for Slack: one attachment for each rank, in its colour, the most severe first. Rows that do not fit
//! are counted.

use serde_json::{Value, json};

use crate::notify::channels::slack::blocks::{section, slack_text, units};
use crate::notify::message::report::{ReportLine, ReportView, colour, limited_silences, rank_counts};

/// Maximum length of all rows together, after escaping. The rest of the message is short.
const MAX_ROWS_UNITS: usize = 9_000;
/// Maximum length of one section.
const MAX_SECTION_UNITS: usize = 2_800;
/// Maximum length of one line of a row.
const MAX_LINE_UNITS: usize = 300;
/// Maximum number of silences, so that they fit into one text of 3000 characters. The others are counted.
const MAX_SILENCES: usize = 8;
/// Maximum number of notes, for the same reason.
const MAX_NOTES: usize = 8;
/// Maximum number of sections in all attachments; Slack accepts 50 blocks.
const MAX_SECTIONS: usize = 40;

/// Returns the attachments below the title.
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

/// Returns the number of rows that fit.
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
    // Each rank starts a new section, and so does a row that does not fit into the last one.
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

/// Returns a row: the fund and its figures, with the remarks below.
fn row(line: &ReportLine) -> String {
    let change = line.change.as_ref().map(|change| format!(" ({change})")).unwrap_or_default();
    let unpaid = line.unpaid.as_ref().map(|unpaid| format!(" · {unpaid} of unpaid invoices")).unwrap_or_default();
    let figures = slack_text(&format!("{}{change}{unpaid}", line.funds_text()), MAX_LINE_UNITS);
    let mut text = format!("*{}*: {figures}", slack_text(&line.fund, MAX_LINE_UNITS));
    for remark in line.remarks.iter().take(5) {
        text.push_str("\n        ");
        text.push_str(&slack_text(remark, MAX_LINE_UNITS));
    }
    text
}
