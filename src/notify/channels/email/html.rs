//! View → HTML for mail readers: tables and inline styles, one column for phones, nothing loaded from anywhere.
//!
//! Everything that is not markup of this file goes through [`escaped`].

use std::fmt::Write as _;

use crate::notify::message::MAX_BRIEF_HEADLINES;
use crate::notify::message::{ChartPicture, MessageEntry, MessageLink, MessageView, flat};

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">
<style>
:root { color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  .page { background: #17191c !important; color: #e8eaed !important; }
  .card { background: #24272b !important; }
  .quiet { color: #a9afb6 !important; }
  .row { border-top-color: #3c4043 !important; }
}
</style>
"#;
const FONT: &str = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;";
const TABLE: &str = r#"<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0""#;

/// The whole page.
pub(crate) fn page(view: &MessageView, signature: &str) -> String {
    let mut body = String::new();
    if view.entries.len() != 1 || view.report.is_some() {
        paragraph(&mut body, "font-size:18px;font-weight:600;", "", &view.title);
    }
    match &view.report {
        Some(report) => body.push_str(&crate::notify::channels::email::report::body(report)),
        None => view.entries.iter().for_each(|entry| card(&mut body, entry)),
    }
    for line in view.brief.iter().take(MAX_BRIEF_HEADLINES) {
        paragraph(&mut body, "font-size:14px;", "", line);
    }
    let more = view.brief.len().saturating_sub(MAX_BRIEF_HEADLINES);
    if more > 0 {
        paragraph(&mut body, "font-size:14px;", "", &format!("and {more} more"));
    }
    paragraph(&mut body, "font-size:12px;color:#5f6368;", "quiet", signature);
    frame(&view.title, &body)
}

/// A body in the middle of a page, in our font and no wider than can be read.
pub(crate) fn frame(title: &str, body: &str) -> String {
    format!(
        "{HEAD}<title>{}</title></head>\n<body class=\"page\" style=\"margin:0;padding:0;background:#f1f3f4;color:#202124;\">\n\
         {TABLE}><tr><td align=\"center\" style=\"padding:16px 8px;\">\n\
         {TABLE} style=\"max-width:600px;{FONT}\"><tr><td align=\"left\">\n{body}</td></tr></table>\n\
         </td></tr></table>\n</body></html>\n",
        escaped(title)
    )
}

fn card(out: &mut String, entry: &MessageEntry) {
    let mut inner = String::new();
    paragraph(&mut inner, "font-size:17px;line-height:1.35;font-weight:600;", "", &entry.headline);
    if let Some(to_do) = &entry.to_do {
        paragraph(&mut inner, "font-size:16px;line-height:1.4;font-weight:700;", "", to_do);
    }
    for line in &entry.details {
        paragraph(&mut inner, "font-size:14px;line-height:1.45;", "", line);
    }
    if let Some(picture) = &entry.picture {
        inner.push_str(&image(picture));
    }
    for line in &entry.history {
        paragraph(&mut inner, "font-size:13px;line-height:1.4;color:#5f6368;", "quiet", line);
    }
    if let Some(description) = &entry.description {
        paragraph(&mut inner, "font-size:14px;line-height:1.45;", "", description.trim());
    }
    for link in &entry.links {
        inner.push_str(&anchor(link));
    }
    if let Some(footer) = &entry.footer {
        paragraph(&mut inner, "font-size:12px;color:#5f6368;", "quiet", footer);
    }
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "{TABLE} class=\"card\" style=\"background:#ffffff;margin:0 0 12px;border-left:6px solid {};\">\
         <tr><td style=\"padding:12px 16px;\">\n{inner}</td></tr></table>\n",
        entry.status.colour()
    );
}

pub(crate) fn paragraph(out: &mut String, style: &str, class: &str, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let text = escaped(&with_unbroken_amounts(text)).replace('\n', "<br>");
    let _ = writeln!(out, "<p{class} style=\"margin:0 0 8px;word-break:break-word;{style}\">{text}</p>");
}

/// `USD 1,000.00` with a space at which no line breaks: on a phone, a currency alone at a line's end is hard to read.
fn with_unbroken_amounts(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if (c.is_ascii_digit() || c == '\u{2212}') && ends_with_a_currency(&out) {
            out.pop();
            out.push('\u{a0}');
        }
        out.push(c);
    }
    out
}

/// Whether the text ends with three capitals, a word of their own, and a space.
fn ends_with_a_currency(text: &str) -> bool {
    let mut back = text.chars().rev();
    back.next() == Some(' ')
        && back.by_ref().take(3).filter(char::is_ascii_uppercase).count() == 3
        && back.next().is_none_or(|before| !before.is_alphanumeric())
}

/// As wide as its place, on paper of its own in dark mode too. Where pictures are blocked its words stand there.
fn image(picture: &ChartPicture) -> String {
    let (source, alternative) = (escaped(&picture.source()), escaped(&picture.alternative));
    format!(
        "<p style=\"margin:4px 0 12px;\"><img src=\"{source}\" alt=\"{alternative}\" width=\"560\" \
         style=\"display:block;width:100%;max-width:560px;height:auto;border:0;border-radius:6px;\
         font-size:13px;line-height:1.4;\"></p>\n"
    )
}

fn anchor(link: &MessageLink) -> String {
    let style = if link.primary {
        "display:inline-block;padding:10px 18px;border-radius:6px;background:#1a56c4;color:#ffffff;\
         font-size:14px;font-weight:600;text-decoration:none;"
    } else {
        "font-size:14px;color:#4285f4;"
    };
    let url = escaped(&flat(&link.url));
    format!("<p style=\"margin:4px 0 10px;\"><a href=\"{url}\" style=\"{style}\">{}</a></p>\n", link.label)
}

/// Safe between tags and inside a quoted attribute.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
