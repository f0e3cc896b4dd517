//! Rendering of an email's HTML, from the `.html.j2` templates in this folder: tables and inline styles, one column for
//! phones, nothing loaded from elsewhere.
//!
//! The environment escapes every value of a template, exactly once.

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, Output, State, UndefinedBehavior, Value, context};

use crate::domain::report::ReportRowRank;
use crate::notify::message::report::{
    MAX_SILENCES, ReportLine, ReportView, colour, limited_silences, rank_counts, rank_name,
};
use crate::notify::message::{MAX_BRIEF_HEADLINES, MessageEntry, MessageView, flat};
use crate::util::text::escape_html;

/// Maximum number of rows of a report. The others are counted.
const MAX_ROWS: usize = 1000;

const TEMPLATES: [(&str, &str); 3] = [
    ("page.html", include_str!("page.html.j2")),
    ("alerts.html", include_str!("alerts.html.j2")),
    ("report.html", include_str!("report.html.j2")),
];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    if let Ok(syntax) =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()
    {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(format_value);
    environment.add_filter("text", |text: &str| Value::from_safe_string(paragraph(text)));
    for (name, source) in TEMPLATES {
        // A template with an error is missing here, which every test of this module shows.
        let _ = environment.add_template(name, source);
    }
    environment
});

/// Returns the whole HTML page of a message.
pub(crate) fn page(view: &MessageView, signature: &str) -> Result<String, Error> {
    let body = match &view.report {
        Some(report) => report_body(&view.title, report, signature)?,
        None => alerts_body(view, signature)?,
    };
    frame(&view.title, &body)
}

/// Puts a body of HTML into the page, in our font and at a readable width.
pub(crate) fn frame(title: &str, body: &str) -> Result<String, Error> {
    render("page.html", context! { title, body })
}

fn render(name: &str, variables: Value) -> Result<String, Error> {
    ENVIRONMENT.get_template(name)?.render(variables)
}

fn alerts_body(view: &MessageView, signature: &str) -> Result<String, Error> {
    let mut brief: Vec<String> = view.brief.iter().take(MAX_BRIEF_HEADLINES).cloned().collect();
    let more = view.brief.len() - brief.len();
    brief.extend((more > 0).then(|| format!("and {more} more")));
    let variables = context! {
        title => (view.entries.len() != 1).then_some(view.title.as_str()),
        entries => view.entries.iter().map(entry).collect::<Vec<_>>(),
        brief,
        signature,
    };
    render("alerts.html", variables)
}

fn entry(entry: &MessageEntry) -> Value {
    let link = |link: &crate::notify::message::MessageLink| {
        context! { label => link.label, url => flat(&link.url), primary => link.primary }
    };
    context! {
        colour => entry.status.colour(),
        headline => entry.headline.as_str(),
        to_do => entry.to_do.as_deref(),
        details => entry.details.clone(),
        picture => entry.picture.as_ref().map(|it| context! {
            source => it.source(), alternative => it.alternative.as_str(),
        }),
        history => entry.history.clone(),
        description => entry.description.as_deref().map(str::trim),
        links => entry.links.iter().map(link).collect::<Vec<_>>(),
        footer => entry.footer.as_deref(),
    }
}

fn report_body(title: &str, report: &ReportView, signature: &str) -> Result<String, Error> {
    let (shown, rest) = report.rows.split_at(report.rows.len().min(MAX_ROWS));
    let more = || format!("and {} more: {}", rest.len(), rank_counts(rest.iter().map(|line| line.rank)));
    let variables = context! {
        title,
        summary => report.summary.as_str(),
        rows => shown.iter().map(report_row).collect::<Vec<_>>(),
        more => (!rest.is_empty()).then(more),
        notes => [limited_silences(report, MAX_SILENCES), report.notes.clone()].concat(),
        footer => report.footer.as_deref(),
        signature,
    };
    render("report.html", variables)
}

fn report_row(line: &ReportLine) -> Value {
    let ink = if line.rank == ReportRowRank::Warning { "#202124" } else { "#ffffff" };
    let pill = (line.rank != ReportRowRank::Ok).then(|| context! { rank => rank_name(line.rank), ink });
    let stale = line.last_read.iter().flat_map(|at| ["stale, last read".to_owned(), at.clone()]);
    let unpaid = line.unpaid.iter().map(|unpaid| format!("unpaid {unpaid}"));
    context! {
        colour => colour(line.rank),
        fund => line.fund.as_str(),
        pill,
        remarks => line.remarks.clone(),
        funds => line.funds.as_str(),
        figures => line.change.iter().cloned().chain(stale).chain(unpaid).collect::<Vec<_>>(),
    }
}

fn format_value(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    let text = value.to_string();
    out.write_str(&if value.is_safe() { text } else { escaped(&text) }).map_err(Error::from)
}

/// Returns the content of a paragraph as HTML, with its line breaks.
fn paragraph(text: &str) -> String {
    escaped(&with_unbroken_amounts(text)).replace('\n', "<br>")
}

/// Replaces the space of `USD 1,000.00` by a non-breaking one: on a phone, a currency alone at the end of a line is hard to
/// read.
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

/// Returns true if the text ends with a word of three capitals and a space.
fn ends_with_a_currency(text: &str) -> bool {
    let mut back = text.chars().rev();
    back.next() == Some(' ')
        && back.by_ref().take(3).filter(char::is_ascii_uppercase).count() == 3
        && back.next().is_none_or(|before| !before.is_alphanumeric())
}

/// Escapes text for use between tags and inside a quoted attribute. Control characters other than line breaks become spaces.
pub(crate) fn escaped(text: &str) -> String {
    let printable: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    escape_html(&printable)
}
