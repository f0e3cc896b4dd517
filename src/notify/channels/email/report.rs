//! A report in mail: one table of two columns, so that it reads on a phone as it does on a desk.

use std::fmt::Write as _;

use crate::domain::report::ReportRowRank;
use crate::notify::channels::email::html::{escaped, paragraph};
use crate::notify::message::report::{
    MAX_SILENCES, ReportLine, ReportView, colour, limited_silences, rank_counts, rank_name,
};

/// Rows that a mail shows; the rest is counted.
const MAX_ROWS: usize = 1000;
const MUTED_STYLE: &str = "font-size:13px;line-height:1.4;color:#5f6368;";

/// The page's body below its title.
pub(crate) fn body(view: &ReportView) -> String {
    let mut out = String::new();
    paragraph(&mut out, MUTED_STYLE, "quiet", &view.summary);
    out.push_str(
        "<table class=\"card\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" \
         style=\"background:#ffffff;margin:0 0 12px;border-collapse:collapse;\">\n\
         <tr class=\"quiet\" style=\"font-size:12px;color:#5f6368;text-align:left;\">\
         <th style=\"padding:10px 8px 6px 12px;font-weight:600;\">Account or division</th>\
         <th style=\"padding:10px 14px 6px 8px;font-weight:600;text-align:right;\">Available funds</th></tr>\n",
    );
    let (shown, rest) = view.rows.split_at(view.rows.len().min(MAX_ROWS));
    for line in shown {
        row(&mut out, line);
    }
    out.push_str("</table>\n");
    if !rest.is_empty() {
        let more = format!("and {} more: {}", rest.len(), rank_counts(rest.iter().map(|line| line.rank)));
        paragraph(&mut out, "font-size:14px;", "", &more);
    }
    for note in limited_silences(view, MAX_SILENCES).iter().chain(&view.notes) {
        paragraph(&mut out, "font-size:14px;line-height:1.45;", "", note);
    }
    if let Some(footer) = &view.footer {
        paragraph(&mut out, MUTED_STYLE, "quiet", footer);
    }
    out
}

fn row(out: &mut String, line: &ReportLine) {
    let small = |text: &str| format!("<div class=\"quiet\" style=\"{MUTED_STYLE}\">{}</div>", escaped(text));
    let figure =
        |text: &str| format!("<div class=\"quiet\" style=\"{MUTED_STYLE}white-space:nowrap;\">{}</div>", escaped(text));
    let remarks: String = line.remarks.iter().map(|remark| small(remark)).collect();
    let change = line.change.as_deref().map(figure).unwrap_or_default();
    let unpaid = line.unpaid.as_ref().map(|unpaid| figure(&format!("unpaid {unpaid}"))).unwrap_or_default();
    // The time of a stale figure goes below it, on lines of its own, so that the column stays narrow.
    let stale = line.last_read.as_ref().map(|at| figure("stale, last read") + &figure(at)).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<tr><td class=\"row\" style=\"padding:10px 8px 10px 10px;border-top:1px solid #dadce0;border-left:4px solid {};vertical-align:top;\
         word-break:break-word;\"><div style=\"font-size:14px;line-height:1.4;font-weight:600;\">{}{}</div>{remarks}</td>\
         <td class=\"row\" style=\"padding:10px 14px 10px 8px;border-top:1px solid #dadce0;text-align:right;vertical-align:top;\">\
         <div style=\"font-size:14px;line-height:1.4;white-space:nowrap;\">{}</div>{change}{stale}{unpaid}</td></tr>",
        colour(line.rank),
        escaped(&line.fund),
        pill(line.rank),
        escaped(&line.funds),
    );
}

/// The rank in a word of its colour; what is ok says nothing.
fn pill(rank: ReportRowRank) -> String {
    if rank == ReportRowRank::Ok {
        return String::new();
    }
    let ink = if rank == ReportRowRank::Warning { "#202124" } else { "#ffffff" };
    format!(
        " <span style=\"display:inline-block;padding:0 8px;border-radius:9px;background:{};color:{ink};font-size:12px;\
         font-weight:600;white-space:nowrap;\">{}</span>",
        colour(rank),
        rank_name(rank)
    )
}
