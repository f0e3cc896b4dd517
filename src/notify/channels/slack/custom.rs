//! Slack messages with the notifier's own template. If it fails, the built-in text is used, with a note about the failure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::blocks;
use crate::domain::rule::Severity;
use crate::notify::message::template::{TemplatePart, Templates, failure_note, without_controls};
use crate::notify::message::view;
use crate::notify::{Message, MessageContext};

/// Maximum length of the text below the first line, escapes included.
const MAX_BODY_UNITS: usize = 10_000;
/// Maximum length of one section.
const MAX_SECTION_UNITS: usize = 2_900;
/// Maximum length of the first line.
const MAX_LINE_UNITS: usize = 1_000;

/// Renders the body for Slack. Also returns the error if the template failed.
pub(crate) fn payload(
    message: &Message,
    context: &MessageContext,
    mention: &BTreeMap<Severity, String>,
    templates: &Templates,
) -> (Value, Option<String>) {
    let custom =
        if templates.apply_to(message) { templates.render(TemplatePart::Slack, message, context) } else { None };
    match custom {
        None => (blocks::payload(message, context, mention), None),
        Some(Ok(text)) => (templated_payload(message, context, mention, &text), None),
        Some(Err(error)) => {
            let failure = format!("{}: {error}", TemplatePart::Slack.name());
            let mut body = blocks::payload(message, context, mention);
            let notice =
                blocks::slack_text(&failure_note(std::slice::from_ref(&failure)).unwrap_or_default(), MAX_LINE_UNITS);
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
    let text = without_controls(text);
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
