//! Renders a message with the notifier's own templates. If a template fails, the built-in text is used, with a note about
//! the failure.
//!
//! Test messages and reports always use the built-in text: a test must be recognisable, and a template is written for
//! alerts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{cut, flat, view};
use crate::domain::rule::Severity;
use crate::notify::channels::email::html;
use crate::notify::channels::email::rendering;
use crate::notify::channels::email::rendering::{MAX_SUBJECT_CHARS, RenderedEmail};
use crate::notify::channels::slack::blocks;
use crate::notify::message::template::{TemplatePart, Templates};
use crate::notify::{Message, MessageContent, MessageContext};

/// Maximum length of the text below the first line of a Slack message, escapes included.
const MAX_BODY_UNITS: usize = 10_000;
/// Maximum length of one section.
const MAX_SECTION_UNITS: usize = 2_900;
/// Maximum length of the first line.
const MAX_LINE_UNITS: usize = 1_000;

fn uses_templates(message: &Message, templates: &Templates) -> bool {
    let alerts =
        matches!(&message.content, MessageContent::Events(items) if items.iter().all(|it| it.event.report().is_none()));
    alerts && !templates.is_empty()
}

fn note(failures: &[String]) -> Option<String> {
    let all = failures.join("; ");
    (!failures.is_empty()).then(|| format!("A template of this notifier failed, so the built-in text is used: {all}"))
}

/// Renders an email. Also returns the templates that failed, each with its error.
pub(crate) fn email(
    message: &Message,
    context: &MessageContext,
    templates: &Templates,
) -> (RenderedEmail, Vec<String>) {
    if !uses_templates(message, templates) {
        return (rendering::email(message, context), Vec::new());
    }
    let mut failures = Vec::new();
    let mut custom = |part: TemplatePart| match templates.render(part, message, context)? {
        Ok(text) => Some(text),
        Err(error) => {
            failures.push(format!("{}: {error}", part.name()));
            None
        }
    };
    let (subject, text, page) = (custom(TemplatePart::Subject), custom(TemplatePart::Text), custom(TemplatePart::Html));
    let note = note(&failures);
    let built_in = rendering::email_with_note(message, context, note.as_deref());
    let line =
        |before: &str, after: &str| note.as_ref().map(|note| format!("{before}{note}{after}")).unwrap_or_default();
    let mut mail = RenderedEmail {
        pictures: built_in.pictures,
        subject: subject.map_or(built_in.subject, |subject| cut(&flat(&subject), MAX_SUBJECT_CHARS)),
        text: text.map_or(built_in.text, |text| format!("{}\n{}", visible(&text), line("\n", "\n"))),
        html: page.map_or(built_in.html, |page| {
            let page = visible(&page);
            let page = if page.to_ascii_lowercase().contains("<html") {
                page
            } else {
                html::frame(&view(message, context).title, &page)
            };
            let note = note.as_deref().map(html::escaped).map(|note| format!("<p>{note}</p>\n"));
            page + &note.unwrap_or_default()
        }),
    };
    // The email carries only the charts that a custom page refers to.
    mail.pictures.retain(|picture| mail.html.contains(&picture.source()));
    (mail, failures)
}

/// Renders the body for Slack. Also returns the error if the template failed.
pub(crate) fn payload(
    message: &Message,
    context: &MessageContext,
    mention: &BTreeMap<Severity, String>,
    templates: &Templates,
) -> (Value, Option<String>) {
    let custom =
        if uses_templates(message, templates) { templates.render(TemplatePart::Slack, message, context) } else { None };
    match custom {
        None => (blocks::payload(message, context, mention), None),
        Some(Ok(text)) => (templated_payload(message, context, mention, &text), None),
        Some(Err(error)) => {
            let failure = format!("{}: {error}", TemplatePart::Slack.name());
            let mut body = blocks::payload(message, context, mention);
            let notice = blocks::slack_text(&note(std::slice::from_ref(&failure)).unwrap_or_default(), MAX_LINE_UNITS);
            let blocks =
                json!([{ "type": "context", "elements": [{ "type": "mrkdwn", "text": notice, "verbatim": true }] }]);
            if let Some(attachments) = body["attachments"].as_array_mut() {
                attachments.push(json!({ "fallback": notice, "blocks": blocks }));
            }
            (body, Some(failure))
        }
    }
}

/// Builds the body from a rendered template. The first line becomes the text of the message, which a phone shows. The other
/// lines become an attachment with a bar in the level's colour.
fn templated_payload(
    message: &Message,
    context: &MessageContext,
    mention: &BTreeMap<Severity, String>,
    text: &str,
) -> Value {
    let view = view(message, context);
    let text = visible(text);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let sections: Vec<Value> =
        sections(rest.trim_matches('\n')).iter().map(|text| blocks::section(text, false)).collect();
    let attachments = if sections.is_empty() {
        json!([])
    } else {
        json!([{ "color": view.status.colour(), "fallback": blocks::slack_text(&view.title, 150), "blocks": sections }])
    };
    let first = format!("{}{}", blocks::mentions(&view, mention), shortened(first.trim(), MAX_LINE_UNITS));
    json!({ "text": first, "unfurl_links": false, "unfurl_media": false, "attachments": attachments })
}

/// Splits the text into sections of whole lines within Slack's limits. Longer text is shortened.
fn sections(text: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    let mut length = 0;
    for line in text.lines() {
        let line = shortened(line, MAX_SECTION_UNITS - 10);
        length += blocks::units(&line) + 1;
        if length > MAX_BODY_UNITS {
            sections.push("…".to_owned());
            break;
        }
        match sections.last_mut() {
            Some(last) if blocks::units(last) + blocks::units(&line) < MAX_SECTION_UNITS => {
                last.push('\n');
                last.push_str(&line);
            }
            _ => sections.push(line),
        }
    }
    sections.retain(|section| !section.trim().is_empty());
    sections
}

/// Shortens a line to at most `longest` units, without cutting through an escape or `<…>`.
fn shortened(line: &str, longest: usize) -> String {
    if blocks::units(line) <= longest {
        return line.to_owned();
    }
    let mut units = 0;
    let mut short: String = line
        .chars()
        .take_while(|c| {
            units += c.len_utf16();
            units < longest
        })
        .collect();
    let open = short.rfind('<').filter(|at| !short[*at..].contains('>'));
    let escape = short.rfind('&').filter(|at| !short[*at..].contains(';'));
    if let Some(at) = [open, escape].into_iter().flatten().min() {
        short.truncate(at);
    }
    short.push('…');
    short
}

/// Returns the text of a template without control characters.
fn visible(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}
